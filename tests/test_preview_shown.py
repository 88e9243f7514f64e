"""However a preview is shown, nothing of a hostile guest reaches its reader as a command, no secret is in it, and long ones stay readable."""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from migrate import preview as previews
from migrate.effects import Edit, Finding, Severity
from migrate.guest import File
from migrate.preview import Preview, Screen
from tests.preview_guests import EVIL, SECRET, SECRETS, hostile, large, ordinary, rehearsed, secret, step

STEPS = tuple(map(step, ("packages", "files", "disk", "sweep", "repos", "long")))


def screen(preview: Preview, wanted: Screen | None = None) -> list[str]:
    return [line.text for line in previews.lines(preview, STEPS, wanted)]


def page(preview: Preview) -> str:
    return previews.html(preview, STEPS, command="magalu-migrate vm /srv/erp01.ova")


def values(preview: Preview) -> str:
    return json.dumps(previews.to_json(preview))


class Seen(HTMLParser):
    """What a browser would make of a page: elements, attributes, text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.inside: dict[str, str] = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] in ("style", "script") and self.tags[-1] not in self.inside:
            self.inside[self.tags[-1]] = data
        else:
            self.text += data


# A hostile guest


def test_a_page_s_elements_are_ours_alone() -> None:
    seen = Seen(page(hostile()))
    assert not {"img", "iframe", "svg", "object", "embed", "form", "base", "link"} & set(seen.tags)
    assert (seen.tags.count("script"), seen.tags.count("style"), seen.tags.count("h1")) == (1, 1, 1)
    assert not [
        name for name, _ in seen.attributes if name.startswith("on") or name in ("style", "src", "srcset", "action")
    ]
    links = [value or "" for name, value in seen.attributes if name == "href"]
    assert links and all(re.fullmatch(r"#[a-z-]+", link) for link in links)
    assert seen.attributes.count(("id", "evil")) == 0


def test_a_page_allows_only_its_own_script_and_style() -> None:
    text = page(ordinary())
    seen = Seen(text)
    policy = next(
        value or "" for name, value in seen.attributes if name == "content" and "default-src" in (value or "")
    )
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    for tag in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(seen.inside[tag].encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert text.index("Content-Security-Policy") < text.index("<style"), "the policy holds from its place on"


@pytest.mark.parametrize(
    "shown", [page, values, lambda preview: "\n".join(screen(preview))], ids=["page", "json", "screen"]
)
def test_what_cannot_be_seen_is_written_out(shown: Callable[[Preview], str]) -> None:
    text = shown(hostile())
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u2028\u202e\u2066\ufeff\ud800-\udfff]", text)
    assert "\\u202e" in text or "\\\\u202e" in text
    text.encode()


def test_a_guest_cannot_forge_a_line_of_the_screen() -> None:
    assert not [line for line in screen(hostile()) if "\n" in line or line.startswith("forged")]


def test_templates_in_the_guest_are_text() -> None:
    assert "{{ 7*7 }}" in Seen(page(hostile())).text


def test_all_that_is_planted_can_be_read() -> None:
    text = Seen(page(hostile())).text
    for evil in EVIL[:6]:
        assert evil in text


# Secrets


@pytest.mark.parametrize(
    "shown",
    [page, values, lambda preview: "\n".join(screen(preview, Screen(fold=False)))],
    ids=["page", "json", "screen"],
)
def test_no_secret_is_shown(shown: Callable[[Preview], str]) -> None:
    text = shown(secret())
    assert SECRET not in text and SECRET[::-1] not in text
    for path, content in SECRETS:
        assert path in text, "that a secret changes is told"
        for form in (content, content.replace(SECRET, SECRET[::-1])):
            assert hashlib.sha256(form.encode()).hexdigest()[:12] not in text


def test_the_json_tells_neither_content_nor_size_of_a_secret_file() -> None:
    effects = json.loads(values(secret()))["changes"]["effects"]
    whole = [effect for effect in effects if effect["path"] == "/etc/shadow"]
    assert [effect["secret"] for effect in whole] == [True, True, True]
    assert [effect["after"]["bytes"] for effect in whole] == [None, None, None]
    assert [effect["before"]["bytes"] for effect in whole[1:]] == [None, None]
    assert {line for effect in whole for line in effect["diff"]} == {"mode 0600", "(not shown: it holds secrets)"}


def test_the_plan_covers_what_is_not_shown() -> None:
    changes = secret().changes
    first, *rest = changes.effects
    assert isinstance(first, Edit)
    other = replace(changes, effects=(replace(first, after=File(b"root:else\n", 0o600)), *rest))
    assert previews.changes_json(other)["effects"] == previews.changes_json(changes)["effects"]
    assert previews.changes_json(other)["plan"] != previews.changes_json(changes)["plan"]


# Rehearsed


def test_what_a_rehearsal_found_is_on_the_screen_on_the_page_and_in_the_json() -> None:
    text = screen(rehearsed())
    at = text.index("Rehearsed: drift: 10 of 11 changes came out as said, and 1 thing did not")
    assert text[at + 1 : at + 4] == [
        "  drift    /etc/planted\\x1b[2J is new, and nothing that was said explains it",
        "  beside   files of packages that were installed: 2 paths of 1 package",
        "  beside   caches of what is installed: 1 path",
    ]
    seen = Seen(page(rehearsed())).text
    assert "drift: 10 of 11 changes came out as said, and 1 thing did not" in seen
    assert "/etc/planted\\x1b[2J is new, and nothing that was said explains it" in seen
    told = json.loads(values(rehearsed()))["rehearsal"]
    assert (told["held"], told["said"], told["kept"]) == (False, 11, 10)
    assert [drift["path"] for drift in told["drift"]] == ["/etc/planted\\x1b[2J"]
    assert [(each["count"], each["paths"]) for each in told["explained"]] == [(2, []), (1, ["/etc/ld.so.cache"])]


# Refused


def test_what_forbids_the_move_comes_before_what_would_be_done() -> None:
    error = Finding("disk", "DISK-008", Severity.ERROR, "the root is on another disk")
    refused = replace(ordinary(), changes=replace(ordinary().changes, findings=(error,)))
    for text in ("\n".join(screen(refused)), Seen(page(refused)).text):
        assert 0 < text.index("the root is on another disk") < text.index("/etc/hosts")
    assert "Approved by" not in page(refused)


# Long ones


def test_hundreds_of_changes_fit_a_few_screens() -> None:
    text = screen(large())
    assert len(text) < 150
    assert "  … 295 more removed for the same reason: 1 in /opt/agent/lib, 1 in /opt/agent/lib/006" not in "\n".join(
        text
    )
    assert any("295 more removed for the same reason" in line and "--diff sweep" in line for line in text)
    assert any("more lines  (--diff long shows them)" in line for line in text)
    assert max(map(len, text)) < 260


def test_everything_is_there_when_it_is_asked_for() -> None:
    text = "\n".join(screen(large(), Screen(fold=False)))
    assert all(f"/opt/agent/lib/{n:03}/file" in text for n in range(300))
    assert all(f"+new {n}\n" in text for n in range(900))
    assert "#" * 5000 in text
    assert "…" not in text


def test_the_diffs_of_one_remediation_can_be_asked_for() -> None:
    text = screen(large(), Screen(fold=False, only=("long",)))
    assert text[0].startswith("erp01 · ")
    assert "long: do what long does" in text
    assert not any(line.startswith(("sweep", "repos", "It can go")) for line in text)
    assert text[-1].startswith("plan ")


def test_a_page_of_a_huge_diff_stays_small_and_says_what_it_leaves_out() -> None:
    text = page(large(removals=2000, lines=50_000))
    assert len(text) < 1_500_000
    assert "100,000" not in text
    assert "99601 more lines left out of this page; the JSON has them all." in text
    assert "1500 more are left out of this page; the JSON has them all." in text


def test_the_json_leaves_nothing_out() -> None:
    effects = json.loads(values(large()))["changes"]["effects"]
    assert len(effects) == 332
    assert len(effects[330]["diff"]) == 1 + 2 * 900
