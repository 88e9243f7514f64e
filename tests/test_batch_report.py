"""The report of a batch as its readers meet it: in a real browser from a file, as CSV, as JUnit XML, as JSON."""

import csv as comma
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from defusedxml.ElementTree import fromstring
from playwright.sync_api import Browser, Page

from migrate.batch.facts import BatchFacts, VmState
from migrate.batch.model import Batch, PlannedVm
from migrate.batch.report import csv, html, junit, to_json
from migrate.batch.store import open_store
from migrate.wiring.request import VmRequest
from tests.batch_facts import hostile_batch, many, night
from tests.program import asked


def test_csv_has_a_line_for_each_vm_and_none_can_become_a_formula() -> None:
    rows = list(comma.DictReader(csv(night()).splitlines()))
    assert [row["id"] for row in rows] == [vm.id for vm in night().vms]
    assert rows[0]["image_id"] == "id-of-erp00"
    assert rows[0]["seconds"] == "862"
    assert "NET-007" in rows[0]["left_to_do"]
    for row in comma.reader(csv(hostile_batch()).splitlines()):
        assert not any(cell.startswith(("=", "+", "-", "@")) for cell in row)
    assert len(list(comma.reader(csv(hostile_batch()).splitlines()))) == 3


def test_junit_counts_refused_vms_as_failures_and_failed_ones_as_errors() -> None:
    suite = fromstring(junit(night()))
    states = [vm.state for vm in night().vms]
    assert suite.get("tests") == str(len(states))
    assert suite.get("failures") == str(states.count(VmState.REFUSED)) == str(len(suite.findall("testcase/failure")))
    assert suite.get("errors") == str(states.count(VmState.FAILED)) == str(len(suite.findall("testcase/error")))
    assert suite.get("skipped") == str(len(suite.findall("testcase/skipped")))
    assert "409 name exists" in (suite.findtext("testcase/error") or "")
    assert fromstring(junit(hostile_batch())).get("tests") == "2"


def test_json_holds_every_fact_and_what_is_left_to_do() -> None:
    said = json.loads(json.dumps(to_json(night())))
    assert [vm["state"] for vm in said["vms"]] == [vm.state.value for vm in night().vms]
    assert said["vms"][0]["outcome"]["qcow2"]["disk_sha256"] == "ab" * 32
    refused = next(vm for vm in said["vms"] if vm["state"] == "refused")
    assert [text.split(":")[0] for text in refused["left_to_do"][1:]] == ["SRC-100", "GUEST-003"]
    assert json.dumps(to_json(hostile_batch()))


@contextmanager
def opened(browser: Browser, folder: Path, facts: BatchFacts, width: int = 1280) -> Iterator[Page]:
    """Open the report from a file; nothing was told on its console, and nothing requested, by the end of the block."""
    file = folder / "report.html"
    file.write_text(html(facts), "utf-8")
    page = browser.new_page(viewport={"width": width, "height": 900})
    told: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("request", lambda asked: told.append(asked.url) if not asked.url.startswith("file:") else None)
    page.goto(file.as_uri())
    yield page
    assert told == []
    page.close()


def rows(page: Page) -> list[str]:
    return page.locator(".vms tbody tr:visible th").all_inner_texts()


@pytest.mark.slow
def test_the_table_is_filtered_by_words_and_states_and_sorted_by_its_heads(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, tmp_path, night()) as page:
        assert len(rows(page)) == 13
        page.keyboard.press("/")
        page.keyboard.type("erp0 vc.example")
        assert rows(page) == [f"erp0{number}" for number in range(10)]
        page.get_by_label("done", exact=True).uncheck()
        assert rows(page) == ["erp05", "erp06", "erp07", "erp09"]
        page.get_by_label("done", exact=True).check()
        page.locator("#filter").fill("")
        page.get_by_role("button", name="took").click()
        page.get_by_role("button", name="took").click()
        assert page.locator('[aria-sort="descending"]').count() == 1
        assert rows(page)[0] in {f"erp0{number}" for number in (0, 1, 2, 3, 4, 8)}


@pytest.mark.slow
def test_a_link_opens_all_that_is_known_of_a_vm(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, tmp_path, night()) as page:
        assert not page.locator("#vm-erp00 .facts").first.is_visible()
        page.locator('.vms a[href="#vm-erp00"]').click()
        shown = page.locator("#vm-erp00").inner_text()
        for words in ("ab" * 32, "id-of-erp00", "it asked for an address", "network before", "NET-007", "transfer"):
            assert words in shown
        page.locator("#vm-erp00 .changes > summary").click()
        assert page.locator("#vm-erp00 .diff .a").count() > 0


@pytest.mark.slow
def test_charts_have_a_lane_for_each_vm_that_has_begun(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, tmp_path, night()) as page:
        begun = [vm for vm in night().vms if vm.stages]
        assert page.locator("#timeline text.lane").count() == len(begun)
        assert page.locator("#timeline rect").count() == sum(len(vm.stages) for vm in begun)
        assert "on average" in page.locator("#throughput p").inner_text()


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 400])
def test_five_hundred_vms_fit_the_screen_and_nothing_stands_beside_it(
    browser: Browser, tmp_path: Path, width: int
) -> None:
    with opened(browser, tmp_path, many(500), width) as page:
        assert len(rows(page)) == 500
        assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


@pytest.mark.slow
def test_a_hostile_guest_changes_nothing_of_the_report(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, tmp_path, hostile_batch()) as page:
        page.get_by_role("button", name="Open all").click()
        assert page.evaluate("document.body.dataset.evil") is None
        assert page.locator("#evil, img, iframe, main script").count() == 0
        assert page.locator("svg [onload]").count() == 0


@pytest.mark.slow
def test_on_paper_a_small_batch_is_unfolded_and_a_large_one_is_a_table(browser: Browser, tmp_path: Path) -> None:
    for facts, unfolded in ((night(), True), (many(60), False)):
        with opened(browser, tmp_path, facts) as page:
            page.emulate_media(media="print")
            page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
            assert page.locator("details.vm .facts").first.is_visible() is unfolded
            assert not page.locator("#filter").is_visible()
            assert page.pdf().startswith(b"%PDF")


def test_batch_report_writes_all_four_files(tmp_path: Path) -> None:
    vm = PlannedVm(id="erp01", request=VmRequest(address="erp01.ova"), source="files", target="sandbox")
    with open_store(None, tmp_path / "work") as store:
        store.submit(Batch(name="wave-2", vms=(vm,)))
    answer = asked("batch", "report", "--into", tmp_path / "out", "--work", tmp_path / "work")
    assert answer.code == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "report.csv",
        "report.html",
        "report.json",
        "report.xml",
    ]
    assert json.loads((tmp_path / "out" / "report.json").read_text())["vms"][0]["id"] == "erp01"


def test_a_report_of_a_batch_that_there_is_not_is_wrong_usage(tmp_path: Path) -> None:
    answer = asked("batch", "report", "wave-9", "--into", tmp_path / "out", "--work", tmp_path)
    assert answer.code == 2
    assert "there is no batch wave-9" in answer.err
    assert not (tmp_path / "out").exists()
