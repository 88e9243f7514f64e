"""The page of a preview as its readers meet it: in a real browser, opened from a file, on a screen, a phone and on paper."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from migrate import preview as previews
from migrate.preview import Preview
from tests.preview_guests import EVIL, SECRET, hostile, large, ordinary, rehearsed, secret, step

pytestmark = pytest.mark.slow

STEPS = tuple(map(step, ("packages", "files", "disk", "sweep", "repos", "long")))
WIDE, PHONE = (1280, 900), (400, 800)


@dataclass(slots=True)
class Opened:
    """An open page; `told` holds the errors and warnings of its console, `asked` the addresses that it requested beyond itself."""

    page: Page
    told: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def count(self, what: str) -> int:
        return self.page.locator(what).count()

    def seen(self, what: str) -> int:
        """How many of these a reader sees."""
        return self.page.locator(f"{what}:visible").count()


@contextmanager
def opened(
    browser: Browser,
    folder: Path,
    preview: Preview,
    size: tuple[int, int] = WIDE,
    scheme: str = "light",
    *,
    script: bool = True,
) -> Iterator[Opened]:
    """Open the page of a preview from a file; nothing may have gone wrong by the end of the block."""
    file = folder / "preview.html"
    file.write_text(previews.html(preview, STEPS, command="magalu-migrate vm /srv/erp01.ova --approve 0"), "utf-8")
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if scheme == "dark" else "light",
        java_script_enabled=script,
    )
    page = context.new_page()
    found = Opened(page)
    page.on("console", lambda message: found.told.append(message.text))
    page.on("pageerror", lambda error: found.told.append(str(error)))
    page.on("request", lambda request: None if request.url == file.as_uri() else found.asked.append(request.url))
    page.goto(file.as_uri())
    yield found
    assert found.told == []
    assert found.asked == []
    assert page.url.partition("#")[0] == file.as_uri()
    context.close()


@pytest.mark.parametrize(
    "preview", [ordinary(), large(), secret(), rehearsed()], ids=["ordinary", "large", "secret", "rehearsed"]
)
def test_it_opens_without_a_complaint_and_asks_for_nothing(browser: Browser, tmp_path: Path, preview: Preview) -> None:
    with opened(browser, tmp_path, preview) as view:
        assert view.page.title() == f"erp01: plan {preview.changes.plan}"
        assert view.seen("h1") == 1


def test_diffs_fold_and_unfold(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, tmp_path, ordinary()) as view:
        assert (view.count(".diff"), view.seen(".diff pre")) == (2, 0)
        view.page.locator(".diff > summary").first.click()
        assert view.seen(".diff pre") == 1
        view.page.get_by_role("button", name="Open all").click()
        assert view.seen(".diff pre") == 2
        view.page.get_by_role("button", name="Close the diffs").click()
        assert (view.seen(".diff pre"), view.seen(".group") > 0) == (0, True)
        view.page.get_by_role("button", name="Close all").click()
        assert view.seen(".group") == 0


def test_findings_are_filtered_by_severity(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, tmp_path, ordinary()) as view:
        assert view.seen(".findings > li") == 3
        view.page.get_by_label("note").uncheck()
        assert view.page.locator(".findings > li:visible strong").all_inner_texts() == ["WARNING", "WAIVED"]
        view.page.get_by_label("warning").uncheck()
        view.page.get_by_label("waived").uncheck()
        assert (view.seen(".findings > li"), view.seen(".none")) == (0, 1)


def test_the_keyboard_is_enough(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, tmp_path, ordinary()) as view:
        focus = "document.activeElement.textContent.trim()"
        view.page.keyboard.press("Tab")
        assert view.page.evaluate(focus) == "Skip to the changes"
        view.page.keyboard.press("Enter")
        for _ in range(12):
            view.page.keyboard.press("Tab")
            if view.page.evaluate("document.activeElement.parentElement.className") == "diff":
                break
        view.page.keyboard.press("Enter")
        assert view.seen(".diff pre") == 1


def test_a_finding_leads_to_what_is_done_about_it(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, tmp_path, ordinary()) as view:
        view.page.get_by_role("button", name="Close all").click()
        view.page.locator(".findings a").first.click()
        view.page.wait_for_function("document.querySelector('#r-files').open")


def test_without_script_everything_is_there(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, tmp_path, ordinary(), script=False) as view:
        assert view.seen(".tools") == 0
        assert view.seen(".findings > li") == 3
        view.page.locator(".diff > summary").first.click()
        assert view.seen(".diff pre") == 1


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("preview", [ordinary(), large(60, 60), hostile()], ids=["ordinary", "large", "hostile"])
def test_nothing_stands_out_to_the_side(
    browser: Browser, tmp_path: Path, preview: Preview, size: tuple[int, int]
) -> None:
    with opened(browser, tmp_path, preview, size) as view:
        view.page.get_by_role("button", name="Open all").click()
        assert view.page.evaluate("document.documentElement.scrollWidth") <= size[0]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_from_what_is_behind_them(browser: Browser, tmp_path: Path, scheme: str) -> None:
    """A contrast of 4.5 is what WCAG 2.2 asks for, 1.4.3."""
    with opened(browser, tmp_path, rehearsed(), scheme=scheme) as view:
        view.page.get_by_role("button", name="Open all").click()
        assert view.page.evaluate(FAINT) == []


FAINT = """() => {
  const part = (value) => { value /= 255; return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4; };
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  const behind = (one) => {
    for (; one; one = one.parentElement) {
      const found = parse(getComputedStyle(one).backgroundColor);
      if (found.length < 4 || found[3] === 1) return found;
    }
    return [255, 255, 255];
  };
  const faint = [];
  for (const one of document.querySelectorAll("body *")) {
    const text = Array.from(one.childNodes).some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!text || !one.checkVisibility() || ["SCRIPT", "STYLE"].includes(one.tagName)) continue;
    const [a, b] = [light(parse(getComputedStyle(one).color)), light(behind(one))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) faint.push(`${one.className || one.tagName} ${contrast.toFixed(2)}: ${one.textContent.slice(0, 40)}`);
  }
  return faint;
}"""


def printed(view: Opened, folder: Path) -> tuple[str, int]:
    """What stands on paper, and on how many sheets."""
    file = folder / "preview.pdf"
    view.page.pdf(path=file, prefer_css_page_size=True, format="A4")
    text = subprocess.run(["pdftotext", "-layout", file, "-"], capture_output=True, check=True, text=True).stdout
    return text, text.count("\f")


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
def test_on_paper_every_fold_is_open_and_every_sheet_names_the_plan(
    browser: Browser, tmp_path: Path, script: bool
) -> None:
    preview = ordinary()
    with opened(browser, tmp_path, preview, script=script) as view:
        if script:
            view.page.get_by_role("button", name="Close all").click()
            view.page.get_by_label("warning").uncheck()
        text, sheets = printed(view, tmp_path)
        for planted in ("-127.0.0.1 old", "+127.0.0.1 new", "+a=1", "What files is about.", "NET-007", "Approved by"):
            assert planted in text
        assert "Open all" not in text
        assert sheets > 1
        assert text.count(f"plan {preview.changes.plan}") == sheets
        if script:
            assert (view.seen(".group"), view.page.get_by_label("warning").is_checked()) == (0, False)


# A guest that attacks its reader


@pytest.mark.parametrize("script", [True, False], ids=["script", "no script"])
def test_what_a_guest_plants_does_nothing(browser: Browser, tmp_path: Path, script: bool) -> None:
    with opened(browser, tmp_path, hostile(), script=script) as view:
        if script:
            view.page.get_by_role("button", name="Open all").click()
            view.page.wait_for_timeout(300)
            assert view.page.evaluate("Object.keys(document.body.dataset)") == []
        assert view.count("#evil, img, svg, iframe, a[href^=javascript]") == 0
        assert (view.count("h1"), view.seen("main")) == (1, 1)
        shown = view.page.locator("body").inner_text()
        assert all(evil in shown for evil in EVIL[:4])
        assert not set(shown) & set("\x1b\x07\x9b\u202e\u2066\u200b\ufeff\u2028")


def test_a_script_that_came_through_would_not_run(browser: Browser, tmp_path: Path) -> None:
    """The second wall: what if the first had a hole."""
    with socket.create_server(("127.0.0.1", 0)) as server, browser.new_context() as context:
        hole = (
            "<script>document.body.dataset.evil=1</script><style>main{display:none}</style>"
            f'<p onclick="document.body.dataset.evil=2">x</p><img src="http://127.0.0.1:{server.getsockname()[1]}/">'
        )
        file = tmp_path / "holed.html"
        text = previews.html(ordinary(), STEPS)
        file.write_text(text.replace('<h2 id="h-summary">', f'{hole}<h2 id="h-summary">'), "utf-8")
        page = context.new_page()
        page.goto(file.as_uri(), wait_until="load")
        page.locator("p[onclick]").click()
        assert page.evaluate("document.body.dataset.evil ?? 'nothing'") == "nothing"
        assert page.locator("main").is_visible()
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_no_secret_is_on_the_page(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, tmp_path, secret()) as view:
        view.page.get_by_role("button", name="Open all").click()
        assert SECRET not in view.page.content()
        assert view.page.get_by_text("(not shown: it holds secrets)").count() > 10
