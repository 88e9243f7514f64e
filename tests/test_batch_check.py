"""`batch check`: which VMs of a batch can go, why others cannot, and what it will take; nothing is started and nothing is made."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import pytest

from adapters.files import FileSource
from fixtures.emulators.aws import REGION, Account
from fixtures.emulators.azure import SUBSCRIPTION, Cloud
from migrate.address import parse
from migrate.batch.check import BatchCheck, Checked
from migrate.batch.check_screen import MOST_ROWS, lines
from migrate.batch.file import BatchFile, Entry
from migrate.batch.forecast import NOTHING, Bar, Basis, Forecast, altogether, basis, forecast
from migrate.batch.model import Limits, PlannedVm
from migrate.batch.selectors import Seen, matching
from migrate.blocks import Disk as NbdDisk
from migrate.errors import Place, Reason
from migrate.job import Jobs
from migrate.lines import WIDTH
from migrate.outcome import Imported, Sent
from migrate.run import Run
from migrate.source import Disk, Vm
from migrate.stream import needed
from migrate.wiring.request import VmRequest
from migrate.wiring.sources import SourceOptions, live_source
from tests import file_samples as samples
from tests import vsphere
from tests.cloud import Notebook
from tests.program import Answer, asked

GIB = 1 << 30
_PIECE = random.Random(5).randbytes(20_000) + bytes(12_768)  # noqa: S311
CONTENT = samples.disk_bytes(1 << 20) + _PIECE * 200 + bytes(24 << 20)
"""A disk of which a quarter is in use, by what packs about as well as a system does."""


def written(folder: Path, *entries: str, head: str = "defaults: {sandbox: true}") -> Path:
    path = folder / "wave.yaml"
    path.write_text(f"name: wave\n{head}\nvms:\n" + "".join(f"  - {entry}\n" for entry in entries))
    return path


def checked(path: Path, *words: str) -> Answer:
    return asked("batch", "check", path, "--work", path.parent / "work", *words)


# What it says


def test_all_can_go_is_exit_code_0_and_nothing_is_made(tmp_path: Path) -> None:
    samples.raw(tmp_path)
    said = checked(written(tmp_path, "source: '*.raw'"), "--output", "json")
    assert (said.code, said.json["status"], said.json["counts"]["can go"]) == (0, "can go", 1)
    assert {path.name for path in tmp_path.iterdir()} == {"disk.raw", "wave.yaml"}


def test_a_refused_vm_is_exit_code_3_with_every_reason_and_stops_no_other(tmp_path: Path) -> None:
    samples.raw(tmp_path)
    (tmp_path / "broken.vmdk").write_bytes(b"x" * 4096)
    samples.converted(tmp_path, "qcow2", "a.qcow2")
    (tmp_path / "two").mkdir()
    for name in ("a.raw", "b.raw"):
        samples.raw(tmp_path / "two", name=name)
    (tmp_path / "two/vm.ovf").write_text(samples.ovf_text("a.raw", "b.raw"))
    path = written(
        tmp_path, "source: disk.raw", "source: broken.vmdk", "source: two", "{source: a.qcow2, waive: [NET-012]}"
    )
    said = checked(path, "--output", "json")
    assert said.code == 3
    answers = {vm["id"]: (vm["answer"], [reason["code"] for reason in vm["reasons"]]) for vm in said.json["vms"]}
    assert answers == {
        "disk": ("can go", []),
        "broken": ("refused", ["SRC-004"]),
        "two": ("refused", ["SRC-100"]),
        "a": ("can go", []),
    }
    screen = checked(path).out
    assert "wave · 4 VMs of 1 source · 2 can go, 2 refused" in screen
    assert "can go, waives NET-012" in screen
    assert "broken cannot be moved, for 1 reason" in screen


def test_data_disks_that_are_left_behind_refuse_nothing(tmp_path: Path) -> None:
    for name in ("a.raw", "b.raw"):
        samples.raw(tmp_path, name=name)
    (tmp_path / "vm.ovf").write_text(samples.ovf_text("a.raw", "b.raw"))
    assert checked(written(tmp_path, "{source: vm.ovf, data-disks: skip}")).code == 0


def test_a_source_that_cannot_be_asked_is_exit_code_1_and_stops_no_other(tmp_path: Path) -> None:
    samples.raw(tmp_path)
    said = checked(written(tmp_path, "source: disk.raw", "source: azure://nobody/rg1"), "--output", "json")
    assert (said.code, said.json["counts"]["can go"], said.json["failures"][0]["line"]) == (1, 1, 5)


def test_missing_credentials_of_the_target_are_told_and_refuse_no_vm(tmp_path: Path) -> None:
    samples.raw(tmp_path)
    said = checked(written(tmp_path, "source: disk.raw", head="limits: {overall: 1}"), "--output", "json")
    assert said.code == 0
    assert "MGC_API_KEY" in str(said.json["targets"])


# The screen


def many(count: int, refused: int) -> BatchCheck:
    """A check of so many VMs in ten entries, of which some are refused for one reason."""
    reason = Reason("VSP-003", "disk 1 is independent", "Change its mode.")
    entries = [
        Entry(Place(at + 3, 13), Place(at + 3, 13), f"vmware://vc1/DC0/f{at}/*", VmRequest(address="x"))
        for at in range(10)
    ]
    vms = []
    for at in range(count):
        name = f"a-rather-long-name-of-a-virtual-machine-{at:03}"
        entry = entries[at * len(entries) // count]
        vm = Vm(name, "VMware", (Disk("sda", 40 * GIB, "vmdk"),))
        seen = Seen(entry, at, f"vmware://vc1/DC0/{name}", name, vm)
        planned = PlannedVm(id=name, request=VmRequest(address=seen.address), source="vmware://vc1", target="sandbox")
        known = forecast(vm, planned.request, Basis())
        vms.append(Checked(planned, seen, (reason,) if at < refused else (), known))
    file = BatchFile("wave.yaml", "wave", Limits(), tuple(entries))
    whole = altogether((("vmware://vc1", vm.forecast) for vm in vms if vm.forecast), file.limits)
    return BatchCheck(file, tuple(vms), whole, Basis(), (), ())


def test_five_hundred_vms_are_a_screenful(tmp_path: Path) -> None:
    shown = [line.text for line in lines(many(500, 60))]
    assert len(shown) <= 40
    assert max(map(len, shown)) <= WIDTH
    assert shown[0] == "wave · 500 VMs of 1 source · 440 can go, 60 refused"
    assert any("DC0/f1/* (line 4): 50 VMs" in line and "40 can go, 10 refused" in line for line in shown)
    assert "60 VMs: a-rather-long-name-of-a-virtual-machine-000" in "\n".join(shown)
    assert "and 52 more" in "\n".join(shown)


def test_each_vm_has_its_row_where_they_are_few_or_where_all_are_asked_for() -> None:
    few, all_of_many = (
        [line.text for line in lines(many(MOST_ROWS, 0))],
        [line.text for line in lines(many(500, 60), everything=True)],
    )
    assert sum("a-rather-long" in line for line in few) == MOST_ROWS
    assert sum(line.startswith("a-rather-long") for line in all_of_many) == 500


# The forecast


@pytest.mark.parametrize(
    "made",
    [
        lambda folder: samples.raw(folder, CONTENT),
        lambda folder: samples.converted(folder, "qcow2", "a.qcow2", "-c", content=CONTENT),
        lambda folder: samples.converted(folder, "vhdx", "a.vhdx", content=CONTENT),
        lambda folder: samples.vmware_stream(folder, content=CONTENT),
    ],
    ids=["raw", "packed qcow2", "vhdx", "stream-optimized vmdk"],
)
def test_what_a_file_holds_lies_within_the_bar(tmp_path: Path, run: Run, made: Callable[[Path], Path]) -> None:
    path = made(tmp_path)
    found = forecast(samples.described(run, path), VmRequest(address=str(path)), Basis())
    source = FileSource(run, path)
    (ref,) = source.vms()
    with source.frozen(source.freeze(source.describe(ref), "x")) as disks, disks[0].nbd() as uri, NbdDisk(uri) as disk:
        assert found.read.low <= needed(disk) <= found.read.high <= len(CONTENT)


def test_a_forecast_is_in_order_and_a_slow_line_makes_it_longer() -> None:
    vm = Vm("a", "VMware", (Disk("sda", 40 * GIB, "vmdk"), Disk("sdb", GIB, "vmdk")))
    free, slow = (forecast(vm, VmRequest(address="vmware://a/b", bandwidth=rate), Basis()) for rate in (None, 10**6))
    assert free.disk == 41 * GIB
    for bar in (free.read, free.image, free.seconds, slow.seconds):
        assert 0 < bar.low < bar.expected < bar.high
    assert free.read.high == 40 * GIB
    assert slow.seconds.expected > free.image.expected / 10**6 > free.seconds.expected


def test_limits_stretch_the_whole() -> None:
    hour = Forecast(GIB, Bar(1, 1, 1), Bar(1, 1, 1), Bar(3600, 3600, 3600))
    ten = [("vc1", hour)] * 8 + [("vc2", hour)] * 2

    def hours(**limits: int) -> float:
        return altogether(ten, Limits(**limits)).seconds.expected / 3600

    assert hours(per_worker=1) == 10
    assert hours(per_worker=5) == 2
    assert hours(per_worker=5, per_source=2) == 4
    assert hours(per_worker=20) == 1
    assert hours(per_worker=20, overall=2) == 5
    assert altogether([], Limits()) == Forecast(0, NOTHING, NOTHING, NOTHING)


def test_finished_jobs_say_more_than_assumptions(tmp_path: Path) -> None:
    for at, read in enumerate((10, 20, 30), 1):
        job = Jobs(tmp_path).find(f"vm{at}", {"address": str(at)})
        job.count_read(read * GIB)
        sent = Sent(bucket="b", key="k", bytes=read * GIB // 2, mark="m", virtual_bytes=100 * GIB, disk_sha256="0")
        job.finish("transfer", sent)
        assert basis(tmp_path).jobs == 0
        job.finish("import", Imported(id="i", name="n", status="active", object_kept=False))
    found = basis(tmp_path)
    assert (found.jobs, found.used.expected, found.packed.expected) == (3, 0.2, 0.5)
    assert "3 finished jobs" in found.words


# Live sources


def each(listed: Iterator[Vm]) -> set[str | None]:
    return {vm.address for vm in listed}


@pytest.mark.slow
def test_one_listing_gives_what_the_source_itself_would_give_for_each_address(
    tmp_path: Path, run: Run, azure_cloud: Cloud, aws_account: Account
) -> None:
    disk = samples.raw(tmp_path)
    with disk.open("r+b") as file:
        file.truncate(GIB)
    for name in ("batch-web1", "batch-db"):
        azure_cloud.add_vm(name, disk)
    instance = aws_account.instance("batch-web1", disk)
    aws_account.instance("batch-db", disk)
    with vsphere.server() as vc:
        options = {
            "vmware": (vc.ca, vc.environ),
            "azure": (azure_cloud.ca, azure_cloud.variables),
            "aws": (None, aws_account.variables),
        }
        for whole, addresses in {
            f"vmware://{vc.host}": ("DC0_H0_VM0", "DC0/DC0_H0_VM1", "DC0/vm/DC0_H0_VM1", "DC0", "DC0/*RP0*", "*VM0", "nope", "DC0/vm"),
            f"azure://{SUBSCRIPTION}": ("", "RG1/batch-*", "rg1/BATCH-DB", "*/batch-web[12]"),
            f"aws://{REGION}": ("batch-*", instance, "nope"),
        }.items():  # fmt: skip
            ca, variables = options[whole.partition(":")[0]]
            every = f"{whole}/*" if whole.startswith("aws") else whole
            with patch.dict("os.environ", variables):
                with live_source(run, every, Notebook(), SourceOptions(ca)) as live:
                    listed = tuple(live.list())
                for address in (f"{whole}/{path}".rstrip("/") for path in addresses):
                    with live_source(run, address, Notebook(), SourceOptions(ca)) as own:
                        wanted = each(own.list())
                    assert each(iter(matching(listed, parse(address)))) == wanted, address


@pytest.mark.slow
def test_live_vms_are_described_over_one_connection_a_source_and_nothing_is_left_there(tmp_path: Path) -> None:
    with vsphere.server() as vc:
        entries = (
            f"{{source: 'vmware://{vc.host}/DC0/DC0_H0_*', ca: {vc.ca}}}",
            f"{{source: 'vmware://{vc.host}/DC0_C0_RP0_VM0', ca: {vc.ca}}}",
        )
        path = written(tmp_path, *entries)
        said = asked("batch", "check", path, "--work", tmp_path / "work", "--output", "json", env=dict(vc.environ))
        assert said.code == 0, said.err
        assert [vm["id"] for vm in said.json["vms"]] == ["DC0_H0_VM0", "DC0_H0_VM1", "DC0_C0_RP0_VM0"]
        nope = written(tmp_path, *entries, f"{{source: 'vmware://{vc.host}/DC0/nope', ca: {vc.ca}}}")
        wrong = asked("batch", "check", nope, "--output", "json", env=dict(vc.environ))
        assert (wrong.code, [(one["line"], one["column"]) for one in wrong.json["mistakes"]]) == (2, [(6, 14)])
        state = vc.state()
        assert (state.sessions, state.snapshots) == (0, ())
