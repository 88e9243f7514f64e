"""`batch plan`: the previews of a batch in one folder, its index in a real browser, and the plans that a later run is held to."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from fixtures.machines import built, debian12_cloud
from migrate.batch.model import Batch, PlannedVm
from migrate.batch.plan_file import PlanFile, ReasonSaid, VmPlan, approved, asked, check_held, read_plan
from migrate.batch.plan_page import html
from migrate.errors import UsageError
from migrate.wiring.request import VmRequest
from tests.preview_guests import EVIL
from tests.program import Answer
from tests.program import asked as told

MADE = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
DIGEST = "7f3a91c4" * 8


def planned(id_: str, **words: object) -> PlannedVm:
    request = VmRequest.model_validate({"address": f"/srv/{id_}.ova", **words})
    return PlannedVm(id=id_, request=request, source="files", target="sandbox")


def can_go(vm: PlannedVm) -> VmPlan:
    return VmPlan(
        id=vm.id,
        name=vm.id,
        address=vm.request.address,
        asked=asked(vm),
        status="can go",
        made=MADE,
        page=f"vms/{vm.id}.html",
        preview=f"vms/{vm.id}.json",
        plan=DIGEST[:8],
        digest=DIGEST,
        system="Debian GNU/Linux 12 (bookworm)",
        disk_bytes=40 << 30,
        read_bytes=11 << 30,
        changes=31,
        warnings=2,
    )


def refused(id_: str, *reasons: ReasonSaid) -> VmPlan:
    return VmPlan(id=id_, name=id_, address=f"/srv/{id_}.ova", asked="0", status="refused", made=MADE, reasons=reasons)


def failed(id_: str, error: str) -> VmPlan:
    return VmPlan(id=id_, name=id_, address=f"/srv/{id_}.ova", asked="0", status="failed", made=MADE, error=error)


def plan_file(*vms: VmPlan, expected: int | None = None) -> PlanFile:
    return PlanFile(batch="wave-2", version="0.1.0", made=MADE, expected=expected or len(vms), vms=vms)


# What a run is held to


def test_a_batch_is_held_to_the_plans_that_were_made_for_it(tmp_path: Path) -> None:
    batch = Batch(name="wave-2", vms=(planned("a"), planned("b", skip=("strip-macs",))))
    plan_file(*map(can_go, batch.vms)).write(tmp_path)
    held = approved(batch, tmp_path)
    assert [vm.request.approve for vm in held.vms] == [DIGEST, DIGEST]
    assert [asked(vm) for vm in held.vms] == [asked(vm) for vm in batch.vms]
    check_held(held, held.vms)
    with pytest.raises(UsageError, match="2 VMs of wave-2 are in the database already"):
        check_held(held, batch.vms)


def test_a_vm_without_a_plan_for_just_this_wish_is_not_approved(tmp_path: Path) -> None:
    before = (planned("a"), planned("b"), planned("c"))
    plan_file(can_go(before[0]), can_go(before[1]), refused("c", ReasonSaid(code="SRC-004", text="x"))).write(tmp_path)
    now = Batch(name="wave-2", vms=(planned("a"), planned("b", skip=("strip-macs",)), planned("c"), planned("d")))
    with pytest.raises(
        UsageError, match=r"no plan for 3 VMs .*: b \(asked for otherwise now\), c \(refused\), d \(not in it\)"
    ):
        approved(now, tmp_path / "plan.json")


@pytest.mark.parametrize("other", [{"name": "x"}, {"region": "br-ne1"}, {"prove": False}, {"bandwidth": 1}])
def test_what_does_not_touch_the_guest_needs_no_new_preview(other: dict[str, object]) -> None:
    assert asked(planned("a", **other)) == asked(planned("a"))


@pytest.mark.parametrize("other", [{"skip": ["strip-macs"]}, {"waive": ["NET-012"]}, {"address": "/srv/b.ova"}])
def test_what_touches_the_guest_needs_a_new_preview(other: dict[str, object]) -> None:
    assert asked(planned("a", **other)) != asked(planned("a"))


@pytest.mark.parametrize(
    "page", ["javascript:alert(1)", "../../etc/passwd", "/etc/passwd", "vms/../x.html", "vms/.html"]
)
def test_a_plan_that_leads_elsewhere_is_none(tmp_path: Path, page: str) -> None:
    plan_file(can_go(planned("a"))).write(tmp_path)
    path = tmp_path / "plan.json"
    path.write_text(path.read_text().replace("vms/a.html", page))
    with pytest.raises(UsageError, match="is no plan of a batch"):
        read_plan(path)


# The previews


@pytest.fixture(scope="module")
def wave(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Answer]:
    """A batch of a real guest, a disk that is none, and one that holds no system: planned once."""
    folder = tmp_path_factory.mktemp("wave")
    (folder / "broken.vmdk").write_bytes(b"x" * 4096)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", folder / "empty.qcow2", "1G"], check=True)
    (folder / "wave.yaml").write_text(
        f"name: wave-2\nvms:\n  - source: {built(debian12_cloud.NAME, format='qcow2')}\n    name: erp01\n"
        "  - source: broken.vmdk\n  - source: empty.qcow2\n"
    )
    return folder, plan(folder)


def plan(folder: Path, *words: str) -> Answer:
    into, work = folder / "previews", folder / "work"
    return told("batch", "plan", folder / "wave.yaml", "--into", into, "--work", work, "--output", "json", *words)


@pytest.mark.slow
def test_each_vm_has_its_preview_and_one_that_is_refused_stops_no_other(wave: tuple[Path, Answer]) -> None:
    folder, answer = wave
    assert answer.code == 3
    said = {vm["id"]: vm for vm in answer.json["vms"]}
    assert {id_: vm["status"] for id_, vm in said.items()} == {
        "debian12-cloud": "can go",
        "broken": "refused",
        "empty": "refused",
    }
    assert [reason["code"] for reason in said["broken"]["reasons"]] == ["SRC-004"]
    assert json.loads((folder / "previews/plan.json").read_text()) == answer.json
    one = said["debian12-cloud"]
    preview = json.loads((folder / "previews" / one["preview"]).read_text())
    assert (preview["changes"]["digest"], preview["changes"]["plan"]) == (one["digest"], one["plan"])
    page = (folder / "previews" / one["page"]).read_text()
    assert f"plan {one['plan']}" in page
    assert {path.name for path in folder.iterdir()} <= {"broken.vmdk", "empty.qcow2", "wave.yaml", "previews", "work"}


@pytest.mark.slow
def test_a_second_run_goes_on_where_the_first_ended(wave: tuple[Path, Answer]) -> None:
    folder, first = wave
    one, *others = first.json["vms"]
    path = folder / "previews/plan.json"
    path.write_text(json.dumps({**first.json, "vms": [one, others[0]]}))  # as a kill leaves it
    second = plan(folder)
    assert second.code == 3
    assert second.json["vms"][:2] == [one, others[0]]
    assert second.json["vms"][2]["made"] > others[1]["made"]


@pytest.mark.slow
def test_the_folder_of_another_batch_is_not_written_to(wave: tuple[Path, Answer]) -> None:
    folder, _ = wave
    other = folder / "work" / "other.yaml"
    other.parent.mkdir(exist_ok=True)
    other.write_text("name: another\nvms: [{source: ../empty.qcow2}]\n")
    answer = told("batch", "plan", other, "--into", folder / "previews", "--output", "json")
    assert (answer.code, "holds the plan of the batch wave-2" in answer.json["error"]) == (2, True)


# The index


@contextmanager
def opened(browser: Browser, folder: Path, file: PlanFile, width: int = 1280) -> Iterator[Page]:
    """Open the index from a file; it asks for nothing, and the browser has nothing to complain of."""
    path = folder / "index.html"
    path.write_text(html(file), "utf-8")
    wrong: list[str] = []
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: None if request.url == path.as_uri() else wrong.append(request.url))
    page.goto(path.as_uri())
    yield page
    assert wrong == []
    page.close()


REASON = ReasonSaid(code="VSP-003", text="disk 1 is independent", remedy="Change its mode.")


def hundred() -> PlanFile:
    going = [can_go(planned(f"web{at:03}")) for at in range(90)]
    stopped = [refused(f"db{at}", REASON) for at in range(8)]
    return plan_file(*going, *stopped, failed("gw1", "cannot reach esx01"), expected=100)


@pytest.mark.slow
def test_the_index_shows_what_can_go_and_finds_a_vm(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, tmp_path, hundred()) as page:
        answer = page.locator(".answer").inner_text()
        assert answer == "90 of 100 VMs can go, 8 refused, 1 could not be looked at, 1 not looked at yet."
        assert page.locator("#stopped .findings > li").count() == 2  # eight for one reason, and one
        rows = page.locator(".vms tbody tr:visible")
        assert rows.count() == 99
        assert page.locator("#vm-web007 a").get_attribute("href") == "vms/web007.html"
        page.get_by_label("can go").uncheck()
        assert rows.count() == 9
        page.get_by_label("Find").fill("vsp-003 db7")
        assert rows.locator("th").all_inner_texts() == ["db7"]
        page.get_by_label("Find").fill("nowhere")
        assert page.locator(".none").is_visible()


@pytest.mark.slow
def test_the_index_fits_a_phone_and_paper_where_nothing_is_filtered(browser: Browser, tmp_path: Path) -> None:
    with opened(browser, tmp_path, hundred(), width=400) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        page.get_by_label("can go").uncheck()
        page.pdf(path=tmp_path / "index.pdf", prefer_css_page_size=True, format="A4")
    words = ("pdftotext", "-layout", str(tmp_path / "index.pdf"), "-")
    text = subprocess.run(words, capture_output=True, check=True, text=True).stdout
    for wanted in ("web000", "web089", "7f3a91c4", "VSP-003", "Change its mode.", "Approved by"):
        assert wanted in text
    assert text.count("wave-2") >= text.count("\f")


@pytest.mark.slow
def test_what_a_source_plants_does_nothing_in_the_index(browser: Browser, tmp_path: Path) -> None:
    planted = [
        can_go(planned("a")).model_copy(update={"id": evil, "name": evil, "system": evil, "page": None})
        for evil in EVIL
    ]
    stopped = [refused(evil, ReasonSaid(code=evil, text=evil, remedy=evil)) for evil in EVIL]
    with opened(browser, tmp_path, plan_file(*planted, *stopped, failed("b", "".join(EVIL)))) as page:
        assert page.evaluate("Object.keys(document.body.dataset)") == []
        assert page.locator("#evil, img, svg, iframe, a[href^=javascript]").count() == 0
        assert not set(page.locator("body").inner_text()) & set("\x1b\x07\x9b\u202e\u2066\u200b\ufeff\u2028")
