"""vSphere as a source, against the simulator: what is listed, frozen, read and left behind."""

import logging
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyVmomi import vim

from adapters.vmware.source import VmwareSource
from fixtures.emulators.vcsim import PASSWORD, Vcsim
from migrate.blocks import Disk
from migrate.errors import NotMigratable, SourceError, UsageError
from migrate.ledger import Made
from migrate.run import Run
from tests import file_samples as samples
from tests.cloud import Notebook, Told
from tests.program import asked
from tests.vsphere import VM, opened, read, server, token

pytestmark = pytest.mark.slow

CONTENT = samples.disk_bytes()
SECOND = CONTENT[: 1 << 20]


@pytest.fixture
def vc() -> Iterator[Vcsim]:
    with server() as started:
        yield started


# What is there


def test_500_vms_are_listed_in_three_seconds_with_one_question_in_pages(run: Run) -> None:
    with server(machines=250) as vc, opened(run, vc, "") as source:
        begun = time.monotonic()
        found = tuple(source.list())
        took = time.monotonic() - begun
        calls = vc.state().calls
    assert len(found) == 500
    assert calls["RetrievePropertiesEx"] == 1 and calls["ContinueRetrievePropertiesEx"] == 2
    assert sum(calls.values()) < 12
    assert took < 3


def test_a_vm_is_described_with_what_the_report_and_the_image_need(run: Run, vc: Vcsim) -> None:
    vc.give(VM, [CONTENT, SECOND])
    with opened(run, vc) as source:
        (vm,) = source.list()
        (ref,) = source.vms()
        assert source.describe(ref) == vm
    assert (vm.name, vm.origin, vm.power, vm.vcpus) == (VM, "VMware", "poweredOn", 1)
    assert [(disk.name, disk.size) for disk in vm.disks] == [
        ("Hard disk 1", len(CONTENT)),
        ("Hard disk 2", len(SECOND)),
    ]
    assert vm.address == ref.address == f"vmware://{vc.host}/DC0/vm/{VM}"
    assert [nic.mac for nic in vm.nics if nic.mac] and vm.memory_bytes


def test_an_address_that_names_nothing_is_told(run: Run, vc: Vcsim) -> None:
    with opened(run, vc, "DC0/vm/nobody") as source, pytest.raises(UsageError, match="there is no such VM"):
        next(source.vms())


def test_missing_privileges_are_all_named_before_anything_is_made(run: Run, vc: Vcsim) -> None:
    vc.give(VM, [CONTENT])
    vc.deny("VirtualMachine.State.RemoveSnapshot", "VApp.Export", "Datastore.Browse")
    with opened(run, vc) as source, pytest.raises(NotMigratable) as refused:
        token(source)
    (reason,) = refused.value.reasons
    assert reason.code == "VSP-010"
    assert reason.details == ("VirtualMachine.State.RemoveSnapshot", "VApp.Export", "Datastore.Browse")
    assert vc.state().snapshots == ()


def test_one_way_to_read_is_enough(run: Run, vc: Vcsim) -> None:
    vc.give(VM, [CONTENT])
    vc.deny("Datastore.FileManagement")
    run.listener = told = Told()
    with opened(run, vc) as source:
        taken = token(source)
        assert read(source, taken) == [CONTENT]
        source.release(taken)
    assert "Datastore.FileManagement is missing" in told.text and "export lease" in told.text


def test_an_esxi_alone_is_read_as_a_vcenter_is(run: Run) -> None:
    with server(esx=True) as vc:
        vc.give("ha-host_VM0", [CONTENT], tracked=True)
        for transport in ("datastore", "nfc"):
            with opened(run, vc, "ha-host_VM0", transport=transport) as source:
                taken = token(source)
                assert '"datacenter": "ha-datacenter"' in taken
                assert read(source, taken) == [CONTENT]
                source.release(taken)
        assert vc.state().snapshots == ()


# What is made, and goes


def test_a_snapshot_is_made_once_and_goes_with_what_it_is_written_down_as(run: Run, vc: Vcsim) -> None:
    vc.give(VM, [CONTENT])
    notes = Notebook()
    with opened(run, vc, ledger=notes) as source, opened(run, vc, ledger=notes) as again:
        taken = token(source)
        assert taken == token(source) == token(again)
        assert vc.state().snapshots == (f"{VM}/magalu-migrate web-20261123",)
        assert notes.lines[0][:2] == ("will make", "vmware/snapshot")
        again.release(taken)
        source.release(taken)
    assert vc.state().snapshots == () and vc.state().calls["RemoveSnapshot_Task"] == 1
    assert notes.lines[-2][:2] == ("gone", "vmware/snapshot")
    assert vc.state().sessions == 0


def test_nothing_is_done_to_a_vm_but_its_snapshot(run: Run, vc: Vcsim) -> None:
    vc.give(VM, [CONTENT])
    with opened(run, vc) as source:
        taken = token(source)
        read(source, taken)
        source.release(taken)
    asked_for = {name for name in vc.state().calls if name.endswith(("_Task", "VM", "Guest"))}
    assert asked_for == {"CreateSnapshot_Task", "RemoveSnapshot_Task"}


def test_file_systems_come_to_rest_where_the_tools_run_and_else_it_is_told(run: Run, vc: Vcsim) -> None:
    vc.give(VM, [CONTENT])
    vc.tools(VM, "guestToolsRunning")
    for fails in (False, True):
        run.listener = told = Told()
        vc.quiesce_fails(fails)
        with opened(run, vc) as source:
            taken = token(source)
            assert quiesced(source) is not fails
            source.release(taken)
        assert ("could not be brought to rest" in told.text) is fails


def quiesced(source: VmwareSource) -> bool:
    session = source._opened()
    vm = next(iter(source._known.values()))
    tree = vim.VirtualMachine(vm.ref, session.stub).snapshot.rootSnapshotList
    return bool(tree[0].quiesced)


def test_a_token_whose_snapshot_somebody_removed_is_refused(run: Run, vc: Vcsim) -> None:
    vc.give(VM, [CONTENT])
    with opened(run, vc) as source:
        taken = token(source)
        source.release(taken)
        with pytest.raises(SourceError, match="is gone"), source.frozen(taken):
            pass


def test_only_what_bears_our_mark_is_taken_back(run: Run, vc: Vcsim) -> None:
    vc.give(VM, [CONTENT])
    with opened(run, vc) as source:
        taken = token(source, "mine")
        session = source._opened()
        (one,) = source._known.values()
        vm = vim.VirtualMachine(one.ref, session.stub)
        session.wait("make", vm.CreateSnapshot_Task("before the update", "theirs", False, False), 60)
        names = {"host": vc.host, "vm": one.ref, "instance": one.instance}
        wrong = [
            Made("vmware/snapshot", names | {"name": name}) for name in ("before the update", "magalu-migrate web")
        ]
        assert list(source.undo(wrong)) == []
        assert len(vc.state().snapshots) == 2
        assert list(source.undo([Made("vmware/snapshot", names | {"name": "magalu-migrate mine"})])) == []
        assert vc.state().snapshots == (f"{VM}/before the update",)
        source.release(taken)
    assert vc.state().snapshots == (f"{VM}/before the update",)


# What is read


@pytest.mark.parametrize("transport", ["datastore", "nfc"])
def test_every_way_gives_the_same_bytes(run: Run, vc: Vcsim, transport: str) -> None:
    vc.give(VM, [CONTENT, SECOND])
    with opened(run, vc, transport=transport) as source:
        taken = token(source)
        assert read(source, taken) == [CONTENT, SECOND]
        source.release(taken)
    state = vc.state()
    assert (state.leases, state.sessions, list(run.work.iterdir())) == (0, 0, [])


def test_a_look_at_100_gib_reads_what_it_looks_at(run: Run, vc: Vcsim, tmp_path: Path) -> None:
    """Counted at the server. 1 GiB of the disk is written, and a hundred places of it are looked at."""
    disk = tmp_path / "big.raw"
    with disk.open("wb") as file:
        file.truncate(100 << 30)
        for place in range(64):
            file.seek(place * (1600 << 20))
            file.write(os.urandom(64 << 10))
    vc.give(VM, [disk])
    with opened(run, vc, transport="datastore") as source:
        taken = token(source)
        with source.frozen(taken) as (opened_disk,), opened_disk.nbd() as uri, Disk(uri) as client:
            for place in range(100):
                assert len(client.read(place << 30, 4096)) == 4096
        source.release(taken)
    assert vc.state().bytes < 20 << 20


def test_what_was_never_written_is_not_read_where_blocks_are_tracked(run: Run, vc: Vcsim) -> None:
    content = bytes(32 << 20) + CONTENT + bytes(32 << 20)
    vc.give(VM, [content], tracked=True)
    with opened(run, vc, transport="datastore") as source:
        taken = token(source)
        assert read(source, taken) == [content]
        source.release(taken)
    assert vc.state().bytes < 6 << 20


def test_areas_are_asked_for_in_parts(run: Run, vc: Vcsim) -> None:
    content = bytearray(2100 * (128 << 10))
    content[:: 128 << 10] = b"x" * 2100
    vc.give(VM, [bytes(content)], tracked=True)
    with opened(run, vc, transport="datastore") as source:
        taken = token(source)
        with source.frozen(taken) as (disk,):
            found = [extent for extent in disk.extents() if not extent.zero]
        source.release(taken)
    assert [extent.offset for extent in found] == [number * (128 << 10) for number in range(2100)]
    assert vc.state().calls["QueryChangedDiskAreas"] == 2


def test_a_vm_with_older_snapshots_is_exported(run: Run, vc: Vcsim) -> None:
    vc.give(VM, [CONTENT])
    with opened(run, vc) as source:
        taken = token(source).replace('"is_delta": false', '"is_delta": true')  # the simulator makes no deltas
        assert read(source, taken) == [CONTENT]
        source.release(taken)
    with opened(run, vc, transport="datastore") as source:
        taken = token(source).replace('"is_delta": false', '"is_delta": true')
        with pytest.raises(UsageError, match="chain of snapshots"):
            read(source, taken)
        source.release(taken)


def test_the_vddk_is_asked_for_where_it_is_missing(run: Run, vc: Vcsim) -> None:
    vc.give(VM, [CONTENT])
    for libdir, words in ((None, "--vddk-libdir"), (run.work, "nbdkit-vddk-plugin")):
        with opened(run, vc, transport="vddk", vddk_libdir=libdir) as source:
            taken = token(source)
            with pytest.raises(UsageError) as refused:
                read(source, taken)
            source.release(taken)
        assert words in str(refused.value)


# The program


def test_the_program_lists_converts_and_leaves_nothing(run: Run, vc: Vcsim, tmp_path: Path) -> None:
    vc.give(VM, [CONTENT], tracked=True)
    address, image, work = f"vmware://{vc.host}/DC0/{VM}", tmp_path / "web.qcow2", tmp_path / "work"
    found = asked("list", f"vmware://{vc.host}/DC0/*", "--ca", vc.ca, "--output", "json", env=vc.environ)
    assert len(found.json["vms"]) == 4
    done = asked("convert", address, image, "--ca", vc.ca, "--work", work, "--output", "json", env=vc.environ)
    assert done.code == 0, done.err
    assert samples.all_disks(run, image) == [CONTENT]
    state = vc.state()
    assert (state.snapshots, state.leases, state.sessions) == ((), 0, 0)
    assert list((work / "jobs").iterdir()) == []


def test_no_secret_is_in_what_is_said_written_or_logged(
    run: Run, vc: Vcsim, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vc.give(VM, [CONTENT])
    caplog.set_level(logging.DEBUG)
    run.listener, notes = (told := Told()), Notebook()
    for transport in ("datastore", "nfc"):
        with opened(run, vc, ledger=notes, transport=transport) as source:
            taken = token(source)
            with source.frozen(taken) as (disk,), disk.nbd() as uri:
                cookie = source._opened().cookie.partition("=")[2].strip('"')
                seen = command_lines()
                samples.served(uri)
            source.release(taken)
            everything = "\n".join((told.text, repr(notes.lines), taken, caplog.text, seen, repr(source._opened())))
        assert len(cookie) > 30
        assert PASSWORD not in everything and cookie not in everything and "nfcexport" not in everything


def command_lines() -> str:
    lines = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                lines.append((entry / "cmdline").read_bytes().decode("utf-8", "replace"))
            except OSError:
                continue
    return "\n".join(lines)


def test_what_is_fetched_is_for_its_owner_alone(run: Run, vc: Vcsim) -> None:
    vc.give(VM, [CONTENT])
    with opened(run, vc, transport="nfc") as source:
        taken = token(source)
        with source.frozen(taken) as (disk,), disk.nbd():
            (folder,) = (path for path in run.work.iterdir() if path.name.startswith("vmware-"))
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        source.release(taken)
