"""The dashboard as those who watch meet it, in a real browser; and as those who may not, by requests."""

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from migrate.batch import control
from migrate.batch.dashboard import serve
from migrate.batch.events import Teller
from migrate.batch.facts import VmState
from migrate.batch.model import Batch, Limits, PlannedVm
from migrate.batch.store import Store, open_store
from migrate.batch.store_claims import Claim, claim, keep_outcome, settle
from migrate.batch.store_facts import facts
from migrate.run import Note, Progress, StageBegan
from migrate.wiring.request import VmRequest
from tests.batch_facts import outcome
from tests.preview_guests import hostile, ordinary

pytestmark = pytest.mark.slow


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(None, tmp_path) as opened:
        yield opened


def submit(store: Store, count: int, name: str = "wave-2") -> None:
    vms = tuple(
        PlannedVm(
            id=f"erp{number:02d}",
            request=VmRequest(address=f"vmware://vc.example/DC0/erp{number:02d}"),
            source="vc.example",
            target="sandbox",
        )
        for number in range(count)
    )
    store.submit(Batch(name=name, vms=vms, limits=Limits(per_worker=count)))


def begin(store: Store) -> tuple[Claim, Teller]:
    """A worker takes the next VM and tells how its transfer goes."""
    held = claim(store, "host:0")
    assert held is not None
    teller = Teller(store, lambda claim, event: None)
    told = teller.listener(held)
    told(StageBegan("transfer"))
    told(Progress("transfer", 400.0, 1000.0))
    told(Note("part 18 sent"))
    teller.flush()
    return held, teller


@contextmanager
def watched(browser: Browser, url: str) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    told: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.goto(url)
    yield page
    assert told == []
    page.close()


def test_it_shows_by_itself_what_has_changed_and_keeps_what_the_reader_chose(browser: Browser, store: Store) -> None:
    submit(store, 3)
    with serve(store) as url, watched(browser, url) as page:
        page.get_by_role("link", name="wave-2").click()
        row = page.locator("#row-erp00")
        expect(row).to_contain_text("waiting")
        page.keyboard.press("/")
        page.keyboard.type("erp00")
        expect(page.locator(".vms tbody tr:visible")).to_have_count(1)
        held, _ = begin(store)
        expect(row).to_contain_text("running", timeout=10_000)
        expect(row).to_contain_text("40 %")
        expect(page.locator("#timeline text.lane")).to_have_count(1)
        keep_outcome(store, held, outcome("erp00", ordinary()))
        settle(store, held, VmState.DONE, "active")
        expect(row).to_contain_text("done", timeout=10_000)
        expect(row).to_contain_text("300 MiB")
        expect(page.locator(".vms tbody tr:visible")).to_have_count(1)
        assert page.locator("#filter").input_value() == "erp00"


def test_it_is_read_by_keys_alone(browser: Browser, store: Store) -> None:
    submit(store, 3)
    held, _ = begin(store)
    keep_outcome(store, held, outcome("erp00", ordinary()))
    settle(store, held, VmState.DONE, "active")
    with serve(store) as url, watched(browser, f"{url}batch/wave-2") as page:
        page.keyboard.press("j")
        page.keyboard.press("j")
        page.keyboard.press("k")
        page.keyboard.press("Enter")
        expect(page.locator("h1")).to_have_text("erp00")
        expect(page.locator("#live-detail")).to_contain_text("ab" * 32)
        expect(page.locator(".log")).to_contain_text("part 18 sent")
        page.keyboard.press("Escape")
        expect(page.locator("h1")).to_have_text("wave-2")


def test_control_is_there_only_where_it_was_allowed(browser: Browser, store: Store) -> None:
    submit(store, 2)
    with serve(store) as url, watched(browser, f"{url}batch/wave-2") as page:
        assert page.locator("[data-do]").count() == 0
        assert ask(url, "batch/wave-2/do/cancel", {"vms": []})[0] == 403
    assert {vm.state for vm in facts(store, "wave-2").vms} == {VmState.WAITING}
    with serve(store, allow_control=True) as url, watched(browser, f"{url}batch/wave-2/vm/erp01") as page:
        page.get_by_role("button", name="Pause").click()
        expect(page.locator(".said")).to_have_text("1 VM told to pause")
        assert {vm.id: vm.state for vm in facts(store, "wave-2").vms}["erp01"] is VmState.PAUSED
        page.once("dialog", lambda dialog: dialog.accept())
        page.get_by_role("button", name="Cancel").click()
        expect(page.locator("#live-detail")).to_contain_text("cancelled", timeout=10_000)


def test_a_hostile_guest_runs_nothing_where_it_is_watched(browser: Browser, store: Store) -> None:
    submit(store, 1)
    held, teller = begin(store)
    teller.listener(held)(Note("<img src=x onerror=document.body.dataset.evil=1>\x1b[2J"))
    teller.flush()
    keep_outcome(store, held, outcome("erp00", hostile()))
    settle(store, held, VmState.DONE, "<script>document.body.dataset.evil=2</script>")
    with serve(store) as url:
        for where in ("batch/wave-2", "batch/wave-2/vm/erp00"):
            with watched(browser, url + where) as page:
                page.wait_for_timeout(2500)  # one more answer was put in
                assert page.evaluate("document.body.dataset.evil") is None
                assert page.locator("main img, main iframe, main script, #evil").count() == 0


def test_five_hundred_vms_are_watched_without_a_wait(store: Store) -> None:
    submit(store, 500)
    control.pause(store, "wave-2", ["erp00"])
    with serve(store) as url:
        status, parts = ask(url, "batch/wave-2/now")
    assert status == 200
    assert parts["rows"].count('data-state="waiting"') == 499


def test_who_has_not_the_token_or_comes_by_another_name_is_turned_away(store: Store) -> None:
    submit(store, 1)
    with serve(store, allow_control=True) as url:
        port = urlsplit(url).port
        assert ask(url, "batch/wave-2/now")[0] == 200
        assert ask(f"http://127.0.0.1:{port}/", "batch/wave-2/now")[0] == 403
        assert ask(f"http://127.0.0.1:{port}/{'x' * 32}/", "batch/wave-2/now")[0] == 403
        assert ask(url, "batch/wave-2/now", host=f"evil.example:{port}")[0] == 403
        assert ask(url, "batch/wave-2/do/pause", {"vms": []}, kind="text/plain")[0] == 415
        assert ask(url, "batch/wave-2/do/pause", ["vms"])[0] == 400
        assert ask(url, "batch/wave-2/do/burn", {"vms": []})[0] == 404
        assert ask(url, "batch/wave-9")[0] == 404
        assert ask(url, "../../etc/passwd")[0] in (403, 404)
    assert facts(store, "wave-2").vms[0].state is VmState.WAITING


def ask(
    url: str, where: str, body: object = None, *, host: str | None = None, kind: str = "application/json"
) -> tuple[int, dict[str, str]]:
    """Ask once; GET without a body. Return the status, and what JSON it says."""
    to = urlsplit(url)
    connection = http.client.HTTPConnection(to.hostname or "", to.port, timeout=20)
    headers = {"Host": host or to.netloc, "Content-Type": kind}
    connection.request(
        "GET" if body is None else "POST", to.path + where, None if body is None else json.dumps(body), headers
    )
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, json.loads(content) if answer.headers["Content-Type"] == "application/json" else {}
