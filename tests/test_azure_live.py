"""Azure's adapter against a subscription on this machine: lists, refusals, what is read, and what happens when Azure has a bad day."""

import dataclasses
import json
import random
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

import pytest

from adapters.azure import azure_source
from adapters.azure.refusals import Code
from adapters.sandbox import Sandbox
from fixtures.emulators.azure import Cloud, vhd_footer
from migrate.address import parse
from migrate.blocks import Disk as NbdDisk
from migrate.errors import NotMigratable, SourceBusy, SourceError, Stopped
from migrate.run import Run
from migrate.source import Disk, Extent, Firmware, Nic, Vm
from tests import file_samples as samples
from tests.azure_journeys import QUICK, address, source, token
from tests.cloud import Notebook, Told
from tests.guest_disks import ext4_disk
from tests.program import asked, environment

pytestmark = pytest.mark.slow
MIB = 1 << 20


@pytest.fixture
def told(run: Run) -> Told:
    heard = Told()
    run.listener = heard
    return heard


@pytest.fixture(autouse=True)
def no_faults_are_left(azure_cloud: Cloud) -> None:
    azure_cloud.faults.denied.clear()
    azure_cloud.faults.answers.clear()
    azure_cloud.faults.short = azure_cloud.faults.cut = 0


def reasons(cloud: Cloud, run: Run, where: str) -> list[str]:
    with source(cloud, run, where) as opened, pytest.raises(NotMigratable) as refused:
        opened.describe(next(opened.vms()))
    return [reason.code for reason in refused.value.reasons]


def test_a_vm_is_described_with_all_that_azure_tells(azure_cloud: Cloud, run: Run) -> None:
    azure_cloud.add_vm(
        "described", 30 << 30, 8 << 30, 16 << 30, sku="Standard_D4s_v5", power="deallocated", group="RG-Two"
    )
    with source(azure_cloud, run, address("Described", "rg-two")) as opened:
        (ref,) = opened.vms()
        vm = opened.describe(ref)
    assert vm == Vm(
        name="described",
        origin="Azure",
        disks=(
            Disk("described-os", 30 << 30, "raw"),
            Disk("described-data1", 8 << 30, "raw"),
            Disk("described-data2", 16 << 30, "raw"),
        ),
        firmware=Firmware.UEFI,
        vcpus=4,
        memory_bytes=16 << 30,
        nics=(Nic("described-nic", vm.nics[0].mac),),
        os_hint="Linux",
        address=address("described", "RG-Two"),
        power="deallocated",
        tags=(("team", "web"),),
    )
    assert vm.nics[0].mac is not None and vm.nics[0].mac.startswith("00:0d:3a:")


def test_generation_1_is_bios_and_a_disk_is_described_by_its_own_address(azure_cloud: Cloud, run: Run) -> None:
    azure_cloud.declare_disk("old-style", 4 << 30, hyperVGeneration="V1")
    with source(azure_cloud, run, address("disks/old-style")) as opened:
        (ref,) = opened.vms()
        vm = opened.describe(ref)
        assert list(opened.list()) == [vm]
    assert (vm.name, vm.firmware, vm.disks) == ("old-style", Firmware.BIOS, (Disk("old-style", 4 << 30, "raw"),))


def test_hundreds_of_vms_are_listed_in_seconds_by_few_requests(azure_cloud: Cloud, run: Run) -> None:
    for number in range(300):
        azure_cloud.add_vm(f"many-{number:03}", 30 << 30, group="many", power="running" if number % 2 else "stopped")
    azure_cloud.asked.clear()
    with source(azure_cloud, run, address("many-*", "m*")) as opened:
        began = time.monotonic()
        vms = list(opened.list())
        seconds = time.monotonic() - began
        assert len(list(opened.vms())) == 300
    assert [vm.name for vm in vms] == [f"many-{number:03}" for number in range(300)]
    assert {vm.power for vm in vms} == {"running", "stopped"}
    assert all(vm.disks[0].size == 30 << 30 and vm.vcpus == 2 and vm.nics[0].mac for vm in vms)
    assert len(azure_cloud.asked) < 60  # pages of 50 in five lists, and once more for vms()
    assert seconds < 10  # 1.5 s where nothing else runs


def test_a_glob_lists_what_matches_and_no_more(azure_cloud: Cloud, run: Run) -> None:
    for group, name in (("glob-a", "web-1"), ("glob-a", "db-1"), ("glob-b", "web-2")):
        azure_cloud.add_vm(name, 1 << 30, group=group)
    with source(azure_cloud, run, address("web-*", "glob-?".replace("?", "*"))) as opened:
        assert [vm.name for vm in opened.list()] == ["web-1", "web-2"]
    with source(azure_cloud, run, address("*", "glob-a")) as opened:
        assert [ref.name for ref in opened.vms()] == ["web-1", "db-1"]


def test_the_commands_list_and_convert_read_azure(azure_cloud: Cloud, run: Run, tmp_path: Path) -> None:
    disk = samples.raw(tmp_path)
    azure_cloud.add_vm("by-command", disk, group="commands")
    before = azure_cloud.state
    env = azure_cloud.variables | {"MAGALU_MIGRATE_WORK": str(tmp_path / "work")}
    shown = asked("list", address("*", "commands"), "--ca", azure_cloud.ca, env=env)
    assert shown.code == 0 and "by-command" in shown.out, shown
    image = tmp_path / "image.qcow2"
    done = asked("convert", address("by-command", "commands"), image, "--ca", azure_cloud.ca, env=env)
    assert done.code == 0, done
    samples.qemu_img("compare", "-f", "raw", "-F", "qcow2", disk, image)
    assert azure_cloud.state == before
    assert list((tmp_path / "work" / "jobs").iterdir()) == []


def test_every_reason_against_a_vm_and_its_disks_is_told_at_once(azure_cloud: Cloud, run: Run) -> None:
    id_ = azure_cloud.add_vm("refused", 1 << 30, 1 << 30, securityProfile={"securityType": "TrustedLaunch"})
    azure_cloud.change(id_, storageProfile={"osDisk": {"osType": "Windows", "diffDiskSettings": {"option": "Local"}}})
    group = id_.rpartition("/virtualMachines/")[0]
    azure_cloud.change(f"{group}/disks/refused-os", encryptionSettingsCollection={"enabled": True})
    azure_cloud.change(
        f"{group}/disks/refused-data1", networkAccessPolicy="DenyAll", creationData={"logicalSectorSize": 4096}
    )
    assert reasons(azure_cloud, run, address("refused")) == [
        Code.WINDOWS,
        Code.EPHEMERAL,
        Code.TRUSTED_LAUNCH,
        Code.DISK_ENCRYPTION,
        Code.PRIVATE,
        Code.SECTORS,
    ]


def test_trusted_launch_alone_forbids_the_move_as_long_as_it_is_not_waived(
    azure_cloud: Cloud, run: Run, box: Sandbox, tmp_path: Path
) -> None:
    """Its disks are read like any others; what its virtual TPM holds is Azure's, and stays there."""
    disk = ext4_disk(tmp_path / "disk.raw", tmp_path, mib=8)
    azure_cloud.add_vm("trusted", disk, securityProfile={"securityType": "TrustedLaunch"})
    azure_cloud.declare_disk("trusted-alone", 1 << 30, securityProfile={"securityType": "TrustedLaunch"})
    for where in (address("trusted"), address("disks/trusted-alone")):
        with source(azure_cloud, run, where) as opened:
            vm = opened.describe(next(opened.vms()))
        assert [(doubt.code, "--waive AZR-005" in (doubt.remedy or "")) for doubt in vm.doubts] == [("AZR-005", True)]
    before = azure_cloud.state
    words = ("vm", address("trusted"), "--ca", azure_cloud.ca, "--work", tmp_path / "work")
    env = environment(box) | azure_cloud.variables
    azure_cloud.asked.clear()
    refused = asked(*words, env=env)
    assert refused.code == 3 and "AZR-005" in refused.err, refused
    assert not any("/snapshots/" in one for one in azure_cloud.asked)
    waived = asked(*words, "--waive", "AZR-005", env=env)
    assert waived.code == 3 and "AZR-005" not in waived.err and "GUEST-004" in waived.err, waived
    assert azure_cloud.state == before
    image = tmp_path / "image.qcow2"
    converted = asked("convert", *words[1:4], image, *words[4:], env=env)
    assert converted.code == 0 and "AZR-005" in converted.err, converted


def test_a_customers_key_is_no_hindrance_as_long_as_it_can_be_used(azure_cloud: Cloud, run: Run) -> None:
    keys = azure_cloud.add("rg1", "Microsoft.Compute/diskEncryptionSets", "keys", provisioningState="Succeeded")
    encryption = {"type": "EncryptionAtRestWithCustomerKey", "diskEncryptionSetId": keys}
    azure_cloud.declare_disk("sealed", 1 << 30, encryption=encryption)
    where = address("disks/sealed")
    with source(azure_cloud, run, where) as opened:
        assert opened.describe(next(opened.vms())).name == "sealed"
    azure_cloud.change(keys, autoKeyRotationError={"code": "KeyVaultNotFound", "message": "the vault is gone"})
    assert reasons(azure_cloud, run, where) == [Code.KEY]
    azure_cloud.faults.denied.add("Microsoft.Compute/diskEncryptionSets/read")
    assert reasons(azure_cloud, run, where) == [Code.KEY]


def test_a_right_that_is_missing_is_named_with_its_scope(azure_cloud: Cloud, run: Run, told: Told) -> None:
    azure_cloud.add_vm("rights", 1 << 30)
    book = Notebook()
    before = azure_cloud.state
    azure_cloud.faults.denied.add("Microsoft.Compute/disks/read")
    assert reasons(azure_cloud, run, address("rights")) == [Code.RIGHT]
    for right in ("Microsoft.Compute/snapshots/write", "Microsoft.Compute/disks/beginGetAccess/action"):
        azure_cloud.faults.denied = {right}
        with source(azure_cloud, run, address("rights"), book) as opened, pytest.raises(SourceError) as refused:
            token(opened)
        assert f"the right {right} is missing on /subscriptions/" in str(refused.value)
        assert azure_cloud.state == before
        assert book.lines[-1][:2] == ("gone", "azure/snapshot")
    azure_cloud.faults.denied = {"Microsoft.Network/*", "Microsoft.Compute/skus/read"}
    with source(azure_cloud, run, address("rights")) as opened:
        vm = opened.describe(next(opened.vms()))
    assert (vm.vcpus, vm.nics) == (None, (Nic("rights-nic", None),))
    assert "the right Microsoft.Network/networkInterfaces/read is missing" in told.text


def test_the_role_that_is_recommended_holds_each_right_that_is_made_use_of(
    azure_cloud: Cloud, run: Run, tmp_path: Path
) -> None:
    role = json.loads(files("adapters.azure").joinpath("role.json").read_text())
    keys = azure_cloud.add("rg1", "Microsoft.Compute/diskEncryptionSets", "role-keys", provisioningState="Succeeded")
    azure_cloud.add_vm("modest", samples.raw(tmp_path), group="modest")
    disk = next(id_ for id_ in azure_cloud.resources if id_.endswith("/disks/modest-os"))
    azure_cloud.change(disk, encryption={"diskEncryptionSetId": keys})
    azure_cloud.actions.clear()
    with source(azure_cloud, run, address("*", "modest"), Notebook()) as opened:
        list(opened.list())
        frozen = token(opened)
        with opened.frozen(frozen) as (boot,):
            list(boot.extents())
        opened.release(frozen)
    used = {action.lower() for action in azure_cloud.actions}
    granted = {action.lower() for action in role["Actions"]}
    assert used <= granted
    assert granted - used == {  # what Azure checks without being asked by us
        "microsoft.compute/disks/begingetaccess/action",
        "microsoft.compute/locations/diskoperations/read",
        "microsoft.compute/virtualmachines/instanceview/read",
    }


def test_what_is_not_there_is_told_so(azure_cloud: Cloud, run: Run) -> None:
    with source(azure_cloud, run, address("nobody")) as opened, pytest.raises(SourceError, match="no such thing"):
        opened.describe(next(opened.vms()))


def test_wrong_credentials_are_told_and_asked_once(azure_cloud: Cloud, run: Run) -> None:
    azure_cloud.asked.clear()
    with (
        azure_cloud.environment(AZURE_CLIENT_SECRET="planted-wrong-secret"),
        azure_source(run, parse(address("x")), Notebook(), azure_cloud.ca, pace=QUICK) as opened,
        pytest.raises(SourceError, match="signing in to Azure failed") as refused,
    ):
        opened.describe(next(opened.vms()))
    assert "planted-wrong-secret" not in str(refused.value)
    assert "AADSTS7000215" in str(refused.value)
    assert len([one for one in azure_cloud.asked if one.endswith("/token")]) <= 2


def test_a_certificate_that_nobody_signed_is_not_trusted(azure_cloud: Cloud, run: Run) -> None:
    with (
        azure_cloud.environment(),
        azure_source(run, parse(address("x")), Notebook(), None, pace=QUICK) as opened,
        pytest.raises(SourceError) as refused,
    ):
        opened.describe(next(opened.vms()))
    assert "certificate" in str(refused.value).lower()
    assert not any("virtualMachines" in one for one in azure_cloud.asked[-1:])


def test_what_is_written_after_the_freeze_is_not_seen(azure_cloud: Cloud, run: Run, tmp_path: Path) -> None:
    disk = samples.raw(tmp_path)
    azure_cloud.add_vm("written", disk)
    with source(azure_cloud, run, address("written"), Notebook()) as opened:
        frozen = token(opened)
        azure_cloud.store.blob("written-os.vhd").upload_page(b"\xff" * 512, offset=0, length=512)
        with opened.frozen(frozen) as (boot,), boot.nbd() as uri:
            assert samples.served(uri) == disk.read_bytes()
        opened.release(frozen)


def test_a_look_at_a_large_disk_reads_only_what_it_looks_at(azure_cloud: Cloud, run: Run, tmp_path: Path) -> None:
    disk = tmp_path / "large.raw"
    with disk.open("wb") as file:
        file.truncate(100 << 30)
        for at in (0, 5 << 30, 99 << 30):
            file.seek(at)
            file.write(random.Random(at).randbytes(2 * MIB))  # noqa: S311
    azure_cloud.add_vm("large", disk)
    with source(azure_cloud, run, address("large"), Notebook()) as opened:
        frozen = token(opened)
        with opened.frozen(frozen) as (boot,):
            assert [(e.offset, e.length) for e in _joined(boot.extents())] == [
                (at, 2 * MIB) for at in (0, 5 << 30, 99 << 30)
            ]
            azure_cloud.blob_bytes = 0
            with boot.nbd() as uri, NbdDisk(uri) as nbd:
                assert nbd.read(5 << 30, MIB) == random.Random(5 << 30).randbytes(2 * MIB)[:MIB]  # noqa: S311
                assert nbd.read(50 << 30, MIB) == bytes(MIB)
        opened.release(frozen)
    assert azure_cloud.blob_bytes <= 2 * MIB


def _joined(extents: Iterable[Extent]) -> list[Extent]:
    found: list[Extent] = []
    for extent in extents:
        if not extent.zero and found and found[-1].offset + found[-1].length == extent.offset:
            found[-1] = dataclasses.replace(found[-1], length=found[-1].length + extent.length)
        elif not extent.zero:
            found.append(extent)
    return found


def test_throttling_errors_and_broken_lines_cost_time_and_nothing_else(
    azure_cloud: Cloud, run: Run, told: Told, tmp_path: Path
) -> None:
    disk = samples.raw(tmp_path)
    azure_cloud.add_vm("bad-day", disk)
    faults = azure_cloud.faults
    faults.answer("GET */virtualMachines/bad-day", 429, Retry_After="0")
    faults.answer("PUT */snapshots/*", 503)
    faults.answer("POST */beginGetAccess", 500)
    faults.answer("GET /operations/*", 429, Retry_After="0")
    faults.answer("HEAD *.vhd", 503)
    faults.answer("GET *.vhd", 503)
    faults.short, faults.cut = 1, 1
    faults.answer("DELETE */snapshots/*", 429, Retry_After="0")
    before = azure_cloud.snapshots
    with source(azure_cloud, run, address("bad-day"), Notebook()) as opened:
        frozen = token(opened)
        with opened.frozen(frozen) as (boot,), boot.nbd() as uri:
            assert samples.served(uri) == disk.read_bytes()
        opened.release(frozen)
    assert azure_cloud.snapshots == before and azure_cloud.active_grants == ()
    assert (faults.answers, faults.short, faults.cut) == ([], 0, 0)
    assert "Azure answered 429; trying again" in told.text and "Azure broke off" in told.text


def test_a_request_has_one_budget(azure_cloud: Cloud, run: Run) -> None:
    azure_cloud.add_vm("hopeless", 1 << 30)
    azure_cloud.faults.answer("GET */virtualMachines/hopeless", 503, times=100)
    azure_cloud.asked.clear()
    with source(azure_cloud, run, address("hopeless")) as opened, pytest.raises(SourceBusy, match="Azure answered 503"):
        opened.describe(next(opened.vms()))
    assert len([one for one in azure_cloud.asked if one.endswith("/hopeless")]) == QUICK.attempts


def test_a_stop_ends_a_pause_that_azure_asked_for(azure_cloud: Cloud, run: Run) -> None:
    azure_cloud.add_vm("paused", 1 << 30)
    azure_cloud.faults.answer("GET */virtualMachines/paused", 429, times=9, Retry_After="3600")
    slow = dataclasses.replace(QUICK, longest_retry_after=60.0)
    with (
        azure_cloud.environment(),
        azure_source(run, parse(address("paused")), Notebook(), azure_cloud.ca, pace=slow) as opened,
        ThreadPoolExecutor(1) as pool,
    ):
        waiting = pool.submit(opened.describe, next(opened.vms()))
        time.sleep(0.5)
        began = time.monotonic()
        run.stop.set()
        with pytest.raises(Stopped):
            waiting.result()
    assert time.monotonic() - began < 5


def test_access_that_ends_while_reading_is_granted_again_and_told(
    azure_cloud: Cloud, run: Run, told: Told, tmp_path: Path
) -> None:
    disk = samples.raw(tmp_path, samples.disk_bytes(24 * MIB))
    azure_cloud.add_vm("expiring", disk)
    with source(azure_cloud, run, address("expiring"), Notebook()) as opened:
        frozen = token(opened)
        with opened.frozen(frozen) as (boot,), boot.nbd() as uri, NbdDisk(uri) as nbd:
            first = nbd.read(0, 8 * MIB)
            granted = azure_cloud.granted
            azure_cloud.expire_grants()
            assert first + nbd.read(8 * MIB, 16 * MIB) == disk.read_bytes()
            assert azure_cloud.granted == granted + 1
            assert len(azure_cloud.active_grants) == 1
        assert not azure_cloud.active_grants
        opened.release(frozen)
    assert told.text.count("has ended; it is granted again") == 1


def test_access_is_renewed_before_it_ends(
    azure_cloud: Cloud, run: Run, told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.azure.access.GRANTED_S", 301)  # 300 s before its end it counts as ending
    disk = samples.raw(tmp_path)
    azure_cloud.add_vm("renewed", disk)
    with source(azure_cloud, run, address("renewed"), Notebook()) as opened:
        frozen = token(opened)
        with opened.frozen(frozen) as (boot,), boot.nbd() as uri:
            time.sleep(1.1)
            assert samples.served(uri) == disk.read_bytes()
        opened.release(frozen)
    assert "ends soon; it is granted again" in told.text
    assert azure_cloud.active_grants == ()


def test_access_that_is_never_of_use_is_given_up(azure_cloud: Cloud, run: Run, tmp_path: Path) -> None:
    azure_cloud.add_vm("forbidden", samples.raw(tmp_path))
    azure_cloud.faults.answer("HEAD *.vhd", 403, times=100)
    with source(azure_cloud, run, address("forbidden"), Notebook()) as opened:
        frozen = token(opened)
        with opened.frozen(frozen) as (boot,), pytest.raises(SourceError, match="403"):
            list(boot.extents())
        assert azure_cloud.active_grants == ()
        opened.release(frozen)


@pytest.mark.parametrize(
    ("footer", "said"),
    [(bytes(511) + b"\1", "no VHD footer"), (vhd_footer(2 * MIB), "VHD footer tells of 2097152 bytes")],
)
def test_a_download_that_is_not_the_disk_is_refused(
    azure_cloud: Cloud, run: Run, tmp_path: Path, footer: bytes, said: str
) -> None:
    name = f"odd-{footer[0]}"
    azure_cloud.add_disk(name, samples.raw(tmp_path, bytes(MIB)), footer=footer)
    with source(azure_cloud, run, address(f"disks/{name}"), Notebook()) as opened:
        frozen = token(opened)
        with opened.frozen(frozen) as (disk,), pytest.raises(SourceError, match=said), disk.nbd():
            pass
        assert azure_cloud.active_grants == ()
        opened.release(frozen)


def test_a_snapshot_that_was_deleted_or_made_anew_is_noticed(azure_cloud: Cloud, run: Run, tmp_path: Path) -> None:
    azure_cloud.add_vm("replaced", samples.raw(tmp_path))
    with source(azure_cloud, run, address("replaced"), Notebook()) as opened:
        frozen = token(opened)
        opened.release(frozen)
        with pytest.raises(SourceError, match="not there any more"), opened.frozen(frozen):
            pass
        again = token(opened)
        assert again != frozen
        with pytest.raises(SourceError, match="not there any more"), opened.frozen(frozen):
            pass
        opened.release(again)


def test_what_is_slow_is_waited_for_until_the_run_is_stopped(azure_cloud: Cloud, run: Run, tmp_path: Path) -> None:
    azure_cloud.add_vm("slow", samples.raw(tmp_path))
    before = azure_cloud.state
    with source(azure_cloud, run, address("slow"), Notebook()) as opened, ThreadPoolExecutor(1) as pool:
        azure_cloud.faults.slow = 3.0
        try:
            freezing = pool.submit(token, opened)
            time.sleep(1.0)
            run.stop.set()
            with pytest.raises(Stopped):
                freezing.result()
        finally:
            azure_cloud.faults.slow = 0.0
    assert azure_cloud.state == before
