"""Opening a guest in whichever room: the rule, and that nothing outlives us."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fixtures.machines import built
from migrate.errors import GuestError, Stopped
from migrate.guest import DropPartition, Entry, File, Folder, Guest, Kind, MakeSwapFile
from migrate.guests.appliance_guest import ApplianceGuest
from migrate.guests.dissect_room import DissectGuest
from migrate.guests.room import RoomGuest
from migrate.guests.rooms import Choice, Rooms
from migrate.run import Event, Note, Run
from tests.guest_disks import START, ext4_disk, overlay_of, put, served, sh

pytestmark = pytest.mark.slow

GUEST: dict[str, Entry] = {
    "/etc/os-release": File(b"ID=debian\nVERSION_ID=12\n"),
    "/etc/fstab": File(b"LABEL=root / ext4 defaults 0 1\n"),
    "/boot": Folder(),
}


OVERLAY = Rooms(kvm=False, choice=Choice.OVERLAY)


@pytest.fixture
def disk(run: Run) -> Path:
    put(run.work / "tree", GUEST)
    return ext4_disk(run.work / "disk.raw", run.work / "tree")


def test_without_dissect_the_overlay_room_is_taken_and_with_kvm_the_appliance(
    run: Run, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "dissect", None)
    with served(run, disk, "raw") as uri:
        with Rooms(kvm=False).look(run, uri, None) as guest:
            assert isinstance(guest, RoomGuest)
        with Rooms(kvm=False, choice=Choice.APPLIANCE).look(run, uri, None) as guest:
            assert isinstance(guest, ApplianceGuest)
            looked = guest.layout
        with Rooms(kvm=True, choice=Choice.OVERLAY).look(run, uri, None) as guest:
            assert isinstance(guest, RoomGuest)
            # Both see the same disk; what is free differs by what ext4 keeps for itself.
            assert [
                (fs.device, fs.type, fs.uuid, fs.start, fs.size, fs.partuuid, fs.mountpoint)
                for fs in looked.filesystems
            ] == [
                (fs.device, fs.type, fs.uuid, fs.start, fs.size, fs.partuuid, fs.mountpoint)
                for fs in guest.layout.filesystems
            ]
            assert (looked.root, looked.firmware, looked.table, looked.disk_size) == (
                guest.layout.root,
                guest.layout.firmware,
                guest.layout.table,
                guest.layout.disk_size,
            )


def test_every_room_sees_the_same_layout_and_nobody_asks_for_kvm_where_dissect_looks(run: Run, disk: Path) -> None:
    def nobody() -> bool:
        raise AssertionError("whether KVM works was asked")

    with served(run, disk, "raw") as uri:
        with Rooms(kvm=nobody).look(run, uri, None) as guest:
            assert isinstance(guest, DissectGuest)
            looked = guest.layout
        with Rooms(kvm=False, choice=Choice.OVERLAY).look(run, uri, None) as guest:
            assert guest.layout == looked


def test_what_dissect_does_not_read_is_looked_at_in_another_room_and_a_note_says_why(run: Run, disk: Path) -> None:
    sh("debugfs", "-w", "-R", "ssv state 2", f"{disk}?offset={START}")
    notes: list[Event] = []
    run.listener = notes.append
    with served(run, disk, "raw") as uri:
        with Rooms(kvm=False).look(run, uri, None) as guest:
            assert isinstance(guest, RoomGuest)
        assert [note.text for note in notes if isinstance(note, Note)] == [
            "The guest is not looked at by Dissect: /dev/sda1 is marked as damaged, and only fsck can say whether it can be mended."
        ]
        with (
            pytest.raises(GuestError, match="Dissect cannot be used: /dev/sda1 is marked as damaged"),
            Rooms(kvm=False, choice=Choice.DISSECT).look(run, uri, None),
        ):
            pass


def test_a_stop_ends_a_program_of_the_guest_at_once(run: Run, disk: Path) -> None:
    with served(run, disk, "raw") as uri, pytest.raises(Stopped), OVERLAY.look(run, uri, None) as guest:
        assert isinstance(guest, RoomGuest)
        threading.Timer(0.5, run.stop.set).start()
        began = time.monotonic()
        guest.cell.tool(["sleep", "60"])
    assert time.monotonic() - began < 8


def test_both_rooms_leave_the_same_debian_behind(run: Run) -> None:
    """A package purged, a file put, a partition dropped and a swap file made: by the guest's own programs, on a real guest."""
    machine = built("debian12-vmware", format="qcow2")
    left = {}
    for choice in (Choice.OVERLAY, Choice.APPLIANCE):
        with served(run, machine, "qcow2") as uri:
            overlay = overlay_of(run.work / f"{choice.value}.qcow2", uri)
            with Rooms(kvm=False, choice=choice).repair(run, uri, overlay, None) as repair:
                _repair(repair.guest)
                repair.finish()
            with Rooms(kvm=False).look(run, uri, None) as guest:
                assert "open-vm-tools" in guest.packages, "the source is only read"
            with served(run, overlay, "qcow2") as repaired, Rooms(kvm=False).look(run, repaired, None) as guest:
                left[choice] = _everything(guest)
    assert left[Choice.OVERLAY] == left[Choice.APPLIANCE]
    kinds = dict(left[Choice.OVERLAY])
    assert "/usr/bin/vmtoolsd" not in kinds and "/usr/sbin/policy-rc.d" not in kinds
    assert (kinds["/etc/motd"], kinds["/etc/motd:"]) == ((Kind.FILE, 0o600, 1, 2), b"welcome\n")
    assert kinds["/swapfile"] == (Kind.FILE, 0o600, 0, 0)


def _repair(guest: Guest) -> None:
    guest.change_packages(guest.plan_packages(remove=("open-vm-tools",)))
    guest.store("/etc/motd", File(b"welcome\n", 0o600, 1, 2))
    swap = next(fs for fs in guest.layout.filesystems if fs.type == "swap")
    assert swap.disk is not None and swap.partition is not None
    guest.change_layout(DropPartition(swap.disk, swap.partition))
    guest.change_layout(MakeSwapFile("/swapfile", 16 << 20))
    assert "open-vm-tools" not in guest.packages
    assert swap.device not in {fs.device for fs in guest.layout.filesystems}


def _everything(guest: Guest) -> list[tuple[str, object]]:
    """All paths with kind, mode and owner, and the content of what is small; logs and caches of dpkg hold the time of day."""
    found: list[tuple[str, object]] = []
    todo = ["/"]
    while todo:
        folder = todo.pop()
        for name in guest.names(folder):
            path = f"{folder.rstrip('/')}/{name}"
            kind = guest.kind(path)
            match (
                guest.load(path)
                if kind in (Kind.FILE, Kind.FOLDER, Kind.LINK) and not path.startswith("/usr/lib/")
                else None
            ):
                case File(content, mode, uid, gid):
                    timely = path.startswith(("/var/log/", "/var/cache/", "/var/lib/systemd/", "/etc/.pwd"))
                    found.append((path, (kind, mode, uid, gid)))
                    if not timely and len(content) < 1 << 16:
                        found.append((f"{path}:", content))
                case entry:
                    found.append((path, (kind, entry)))
            if kind is Kind.FOLDER:
                todo.append(path)
    return found


KILLED = """
import sys, time
from pathlib import Path
from migrate.guests.rooms import Rooms
from migrate.run import Event, Note, Run
work, uri, overlay = sys.argv[1:]
with Rooms(kvm=False).repair(Run(Path(work)), uri, Path(overlay), None) as repair:
    print("open", flush=True)
    repair.guest.cell.tool(["sleep", "600"])
"""


def test_a_killed_run_leaves_no_process_and_no_mount(run: Run, disk: Path) -> None:
    mounts = Path("/proc/self/mountinfo").read_text()
    with served(run, disk, "raw") as uri:
        overlay = overlay_of(run.work / "overlay.qcow2", uri)
        argv: list[str | Path] = [sys.executable, "-c", KILLED, run.work, uri, overlay]
        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None and child.stdout.readline() == "open\n"
            time.sleep(1)
            family = _descendants(child.pid)
            assert len(family) > 8, "qemu, the cell, its FUSE programs, the agent"
            child.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + 10
        while (left := [pid for pid in family if _is_alive(pid)]) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert left == [], [sh("ps", "-o", "pid=,args=", "-p", str(pid)) for pid in left]
    assert Path("/proc/self/mountinfo").read_text() == mounts


def _descendants(pid: int) -> set[int]:
    found: set[int] = set()
    todo = [pid]
    while todo:
        for path in Path(f"/proc/{todo.pop()}/task").glob("*/children"):
            children = {int(word) for word in path.read_text().split()} - found
            found |= children
            todo += children
    return found


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False
