"""Real disks that hold no guest, several, or a broken one: in the room and in the appliance."""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from migrate.errors import GuestError, NotMigratable, Reason
from migrate.guest import File, Folder, Kind, Link
from migrate.guests.appliance import Calls, mount_guest, open_appliance
from migrate.guests.appliance_guest import ApplianceGuest
from migrate.guests.carry import carry
from migrate.guests.large_folders import LARGE
from migrate.guests.room import RoomGuest
from migrate.guests.room_opening import open_room
from migrate.run import Run
from tests.guest_disks import FOLDERS, MIB, START, ext4_disk, overlay_of, programs_of_host, put, served, sh

pytestmark = pytest.mark.slow

FSTAB = "UUID=3c0f2f5e-0000-4000-8000-00000000000a / ext4 defaults 0 1\n"
LINUX = {
    "/etc/os-release": File(b'ID=debian\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n'),
    "/etc/fstab": File(FSTAB.encode()),
    "/etc/hosts": File(b"127.0.0.1 localhost\n"),
    "/etc/udev/rules.d/70-persistent-net.rules": File(b"old\n"),
    "/etc/protected/inside": File(b"x"),
}


@pytest.fixture
def root(run: Run) -> Path:
    put(run.work / "tree", LINUX | FOLDERS)
    return ext4_disk(run.work / "disk.raw", run.work / "tree")


def refused(run: Run, disk: Path) -> tuple[Reason, ...]:
    with served(run, disk, "raw") as uri, pytest.raises(NotMigratable) as refusal, open_room(run, uri, None):
        pass
    return refusal.value.reasons


def parted(disk: Path, script: str, mib: int) -> Path:
    with disk.open("wb") as file:
        file.truncate(mib * MIB)
    sh("sfdisk", "-q", disk, given=script)
    return disk


def put_at(disk: Path, offset: int, content: Path) -> None:
    sh("dd", f"if={content}", f"of={disk}", f"seek={offset}", "oflag=seek_bytes", "conv=notrunc,sparse", "status=none")


# What no guest is on


def test_windows_is_called_windows(run: Run) -> None:
    basic = "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7"
    script = f"label: gpt\nsize=4MiB,type=E3C9E316-0B5C-4DB8-817D-F92DF00215AE\nsize=16MiB,type={basic}\n"
    disk = parted(run.work / "win.raw", script, 24)
    volume = run.work / "c.raw"
    with volume.open("wb") as file:
        file.truncate(16 * MIB)
    sh("mkntfs", "-F", "-q", "-f", "-p", "10240", "-s", "512", "-L", "System", volume)
    put_at(disk, 5 * MIB, volume)
    (reason,) = refused(run, disk)
    assert reason.code == "GUEST-002"
    assert reason.text == "this is Windows: /dev/sda1 is Microsoft reserved, /dev/sda2 is NTFS"
    assert reason.details[1:] == (
        "disk 1: 24 MiB, GPT",
        "  /dev/sda1          4 MiB  nothing that is known (Microsoft reserved)",
        '  /dev/sda2         16 MiB  ntfs "System"',
    )


def test_a_key_that_is_sealed_to_the_source_is_told_from_a_passphrase(run: Run) -> None:
    disk = run.work / "luks.raw"
    with disk.open("wb") as file:
        file.truncate(24 * MIB)
    key = run.work / "key"
    key.write_bytes(b"pass")
    cheap = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"]
    sh("cryptsetup", "luksFormat", "-q", "--type", "luks2", *cheap, disk, key)
    assert [reason.code for reason in refused(run, disk)] == ["GUEST-001"]
    token = json.dumps({"type": "clevis", "keyslots": ["0"], "jwe": {}})
    sh("cryptsetup", "token", "import", "--json-file", "-", disk, given=token)
    (reason,) = refused(run, disk)
    assert (reason.code, "(clevis)" in reason.text) == ("GUEST-009", True)


def test_a_boot_disk_whose_root_is_elsewhere_says_which_root_it_starts(run: Run) -> None:
    config = b"menuentry x {\n  linux /vmlinuz root=UUID=99999999-0000-4000-8000-000000000009 ro\n}\n"
    put(run.work / "tree", {"/grub/grub.cfg": File(config), "/vmlinuz": File(b"MZ")})
    (reason,) = refused(run, ext4_disk(run.work / "boot.raw", run.work / "tree", mib=16))
    assert (reason.code, reason.text.endswith("root=UUID=99999999-0000-4000-8000-000000000009")) == ("GUEST-008", True)


def test_what_libblkid_calls_zfs_is_called_zfs(run: Run) -> None:
    disk = parted(run.work / "zfs.raw", "label: gpt\nsize=64MiB\n", 66)
    with disk.open("r+b") as file:  # uberblocks, as blkid looks for them: libblkid, zfs.c
        for label in (0, 256 << 10, (64 << 20) - (512 << 10), (64 << 20) - (256 << 10)):
            for number in range(16):
                file.seek(MIB + label + (128 << 10) + (number << 10))
                file.write((0x00BAB10C).to_bytes(8, "little") + (5000).to_bytes(8, "little"))
    (reason,) = refused(run, disk)
    assert (reason.code, "ZFS" in reason.text) == ("GUEST-007", True)


# Damage


def test_a_file_system_that_was_marked_as_damaged_is_checked_and_read(run: Run, root: Path) -> None:
    sh("debugfs", "-w", "-R", "ssv state 2", f"{root}?offset={START}")
    before = root.read_bytes()
    with served(run, root, "raw") as uri, open_room(run, uri, None) as guest:
        assert guest.kind("/etc/fstab") is Kind.FILE
    assert root.read_bytes() == before


def test_damage_that_fsck_does_not_mend_by_itself_is_refused_with_its_words(run: Run, root: Path) -> None:
    sh("debugfs", "-w", "-R", "ssv state 2", f"{root}?offset={START}")
    sh("debugfs", "-w", "-R", "sif <2> mode 0100644", f"{root}?offset={START}")  # the root folder is a file now
    (reason,) = refused(run, root)
    assert reason.code == "GUEST-010"
    assert "fsck does not mend it by itself" in reason.text
    assert "is not a directory" in reason.text


def test_a_file_system_that_is_marked_as_read_only_is_refused(run: Run, root: Path) -> None:
    sh("tune2fs", "-O", "read-only", f"{root}?offset={START}")
    (reason,) = refused(run, root)
    assert reason.code == "GUEST-010"
    assert "it is ext4, and it is marked as read-only" in reason.text


# Odd files


def immutable(disk: Path, *paths: str) -> None:
    for path in paths:
        said = sh("debugfs", "-R", f"stat {path}", f"{disk}?offset={START}")
        flags = int(said.split("Flags: ")[1].split()[0], 16) | 0x10
        sh("debugfs", "-w", "-R", f"sif {path} flags {flags:#x}", f"{disk}?offset={START}")


RULES = "/etc/udev/rules.d/70-persistent-net.rules"
IN_ROOM = ("/etc/hosts", RULES, "/etc/protected", "/etc/protected/inside")
IN_APPLIANCE = tuple(f"/srv{path}" for path in IN_ROOM)
"""The same once more: an edited file, a removed one, a folder in which one is removed and one is made."""


Freed = tuple[frozenset[str], ApplianceGuest, Calls, list[object]]


@pytest.fixture(scope="module")
def freed() -> Iterator[Freed]:
    """A guest with immutable files that were changed in the room and carried, and others that were changed in the appliance."""
    with tempfile.TemporaryDirectory(prefix="mm-") as name:
        run = Run(Path(name))
        put(run.work / "tree", LINUX | FOLDERS | {f"/srv{path}": entry for path, entry in LINUX.items()})
        many = run.work / "tree" / "var" / "many"
        (many / "folder").mkdir(parents=True)
        (many / "link").symlink_to("folder")
        for number in range(LARGE + 500):
            (many / f"{number:05}.json").touch()
        Path(os.fsdecode(os.fsencode(many) + b"/caf\xe9")).touch()
        shutil.copytree(many, run.work / "tree" / "srv" / "gone", symlinks=True)
        disk = ext4_disk(run.work / "disk.raw", run.work / "tree")
        immutable(disk, *IN_ROOM, *IN_APPLIANCE)
        with served(run, disk, "raw") as uri:
            overlay = overlay_of(run.work / "overlay.qcow2", uri)
            with open_appliance(run, [overlay], kvm=False) as appliance:
                mounted = mount_guest(run, appliance.call, None)
                with open_room(run, uri, None) as room:
                    told = room.immutable((*IN_ROOM, "/etc/fstab", "/none", '/odd"name'))
                    _change(room, "")
                    large = _large(room)
                    carry(room, ApplianceGuest(run, appliance.call, mounted), appliance.call)
                _change(ApplianceGuest(run, appliance.call, mounted), "/srv")
                yield told, ApplianceGuest(run, appliance.call, mounted), appliance.call, large


MERGED = {f"/{name}": Link(f"usr/{name}") for name in ("lib", "lib64")}


@pytest.mark.slow
def test_an_immutable_file_in_a_folder_that_goes_is_overwritten_as_any_other(run: Run) -> None:
    """It can be neither overwritten nor removed at first; it lies between files that stay, in no free cluster of the overlay."""
    secret = b"segredo-imutavel"
    files = {f"/opt/{number:02}/stays": File(b"x" * 3000) for number in range(40)}
    put(run.work / "tree", LINUX | FOLDERS | files | MERGED | {"/opt/20/agent/key": File(secret)})
    programs_of_host(run.work / "tree", "env", "chattr")
    disk = ext4_disk(run.work / "disk.raw", run.work / "tree")
    immutable(disk, "/opt/20/agent/key")
    with served(run, disk, "raw") as uri:
        overlay = overlay_of(run.work / "overlay.qcow2", uri)
        with open_appliance(run, [overlay], kvm=False) as appliance:
            guest = ApplianceGuest(run, appliance.call, mount_guest(run, appliance.call, None))
            with open_room(run, uri, None) as room:
                room.remove("/opt/20/agent")
                carry(room, guest, appliance.call)
            assert guest.kind("/opt/20/agent") is Kind.MISSING
            guest.trim()
        sh("qemu-img", "convert", "-f", "qcow2", "-O", "raw", overlay, run.work / "flat.raw")
    assert secret in disk.read_bytes()
    assert secret not in (run.work / "flat.raw").read_bytes()


def _large(room: RoomGuest) -> list[object]:
    """What is seen of a large folder before, while some of it changes, and after it went."""
    seen: list[object] = [len(room.names("/var/many"))]
    seen.append([room.kind(f"/var/many/{name}") for name in ("00007.json", "folder", "link", "caf\udce9", "none")])
    room.remove("/var/many/00007.json")
    room.store("/var/many/link", File(b"new"))
    names = room.names("/var/many")
    seen += [len(names), [room.kind(f"/var/many/{name}") for name in ("00007.json", "link")]]
    room.remove("/var/many")
    seen += [room.given_up, room.kind("/var/many"), room.names("/var/many"), "many" in room.names("/var")]
    room.store("/var/many", Folder())
    room.store("/var/many/again", File(b"x"))
    seen += [room.given_up, room.names("/var/many")]
    room.remove("/srv/gone")
    return seen


def test_a_folder_of_many_files_is_seen_and_goes_as_a_small_one_does(freed: Freed) -> None:
    file, missing = Kind.FILE, Kind.MISSING
    assert freed[3] == [
        *[LARGE + 503, [file, Kind.FOLDER, Kind.LINK, file, missing]],
        *[LARGE + 502, [missing, file]],
        *[("/var/many",), missing, (), False],
        *[(), ("again",)],
    ]
    assert freed[1].names("/var/many") == ("again",)
    assert freed[1].kind("/srv/gone") is Kind.MISSING


def _change(guest: RoomGuest | ApplianceGuest, at: str) -> None:
    guest.store(f"{at}/etc/hosts", File(b"127.0.0.1 localhost new\n"))
    guest.remove(at + RULES)
    guest.remove(f"{at}/etc/protected/inside")
    guest.store(f"{at}/etc/protected/new", File(b"new"))


def test_immutable_files_are_known(freed: Freed) -> None:
    assert freed[0] == set(IN_ROOM)


@pytest.mark.parametrize("at", ["", "/srv"], ids=["carried from the room", "in the appliance"])
def test_immutable_files_that_stay_are_immutable_again_and_others_are_not(freed: Freed, at: str) -> None:
    _, guest, call, _ = freed
    assert {path: guest.kind(at + path) for path in (*IN_ROOM, "/etc/protected/new")} == {
        "/etc/hosts": Kind.FILE,
        RULES: Kind.MISSING,
        "/etc/protected": Kind.FOLDER,
        "/etc/protected/inside": Kind.MISSING,
        "/etc/protected/new": Kind.FILE,
    }
    attributes = {path: call.get_e2attrs(at + path) for path in ("/etc/hosts", "/etc/protected", "/etc/protected/new")}
    assert {path: "i" in letters for path, letters in attributes.items()} == {
        "/etc/hosts": True,
        "/etc/protected": True,
        "/etc/protected/new": False,
    }


# What only the appliance reads


@dataclass(frozen=True, slots=True)
class Seen:
    several: tuple[Reason, ...]
    dirty: bytes
    snapshot: tuple[Reason, ...]
    nothing: tuple[Reason, ...]


@pytest.fixture(scope="module")
def seen() -> Iterator[Seen]:
    """One disk with two systems, a half volume group and a damaged xfs; then the same without the systems."""
    with tempfile.TemporaryDirectory(prefix="mm-") as name:
        run = Run(Path(name))
        disks = [run.work / "one.qcow2", run.work / "two.qcow2"]
        for disk in disks:
            sh("qemu-img", "create", "-q", "-f", "qcow2", disk, "1300M")
        try:
            with open_appliance(run, disks, kvm=False) as appliance:
                _make(appliance.call)
                raise GuestError("the power goes")  # nothing is unmounted: the log of the xfs is dirty
        except GuestError as error:
            assert "the power goes" in error.message
        with open_appliance(run, disks[:1], kvm=False) as appliance:
            call = appliance.call
            several = _reasons(lambda: mount_guest(run, call, None))
            mounted = mount_guest(run, call, None, wanted="/dev/sda1")
            dirty = ApplianceGuest(run, call, mounted).load("/etc/written-last")
            call.umount_all()
            snapshot = _reasons(lambda: mount_guest(run, call, None, wanted="LABEL=snap"))
            call.umount_all()
            for device in ("/dev/sda1", "/dev/sda2"):
                call.wipefs(device)
            nothing = _reasons(lambda: mount_guest(run, call, None))
            assert isinstance(dirty, File)
            yield Seen(several, dirty.content, snapshot, nothing)


def _reasons(act: Callable[[], object]) -> tuple[Reason, ...]:
    with pytest.raises(NotMigratable) as refusal:
        act()
    return refusal.value.reasons


def _make(call: Calls) -> None:
    call.part_init("/dev/sda", "gpt")
    at = 2048
    for mib in (330, 200, 200, 330):
        call.part_add("/dev/sda", "p", at, at + mib * 2048 - 1)
        at += mib * 2048
    call.mkfs("xfs", "/dev/sda1", label="dirty")
    call.mkfs("btrfs", "/dev/sda2", label="snap")
    call.mkfs("xfs", "/dev/sda4", label="damaged")
    call.pwrite_device("/dev/sda4", bytes(4096), 512)  # AGF, AGI and AGFL of the first group
    for device in ("/dev/sda3", "/dev/sdb"):
        call.pvcreate(device)
    call.vgcreate("vg0", ["/dev/sda3", "/dev/sdb"])
    call.lvcreate("root", "vg0", 600)
    call.mkfs("ext4", "/dev/vg0/root")
    call.mount("/dev/sda2", "/")
    call.btrfs_subvolume_create("/@")
    _write_system(call, "/@", "openSUSE MicroOS")
    call.btrfs_subvolume_snapshot("/@", "/snap1", ro=True)
    call.btrfs_subvolume_delete("/@")
    number = next(each["btrfssubvolume_id"] for each in call.btrfs_subvolume_list("/"))
    call.btrfs_subvolume_set_default(number, "/")
    call.umount_all()
    call.mount("/dev/sda1", "/")
    _write_system(call, "", "Rocky Linux 9.3")
    call.sync()
    call.write("/etc/written-last", b"last")
    call.sync()  # it is in the log; where it belongs it is not yet


def _write_system(call: Calls, at: str, name: str) -> None:
    call.mkdir_p(f"{at}/etc")
    call.write(f"{at}/etc/os-release", f'ID=x\nPRETTY_NAME="{name}"\n'.encode())
    call.write(f"{at}/etc/fstab", b"LABEL=dirty / xfs defaults 0 0\n")


def test_two_systems_are_named(seen: Seen) -> None:
    (reason,) = seen.several
    assert reason.code == "GUEST-005"
    assert [line.split(maxsplit=2)[1:] for line in reason.details] == [
        ["/dev/sda1", "Rocky Linux 9.3"],
        ["/dev/sda2", "openSUSE MicroOS"],
    ]


def test_the_dirty_log_of_an_xfs_is_replayed(seen: Seen) -> None:
    assert seen.dirty == b"last"


def test_a_root_that_is_a_read_only_snapshot_is_refused(seen: Seen) -> None:
    (reason,) = seen.snapshot
    assert reason.code == "GUEST-010"
    assert "read-only snapshot" in reason.text


def test_a_half_volume_group_and_a_damaged_xfs_are_both_said(seen: Seen) -> None:
    half, damaged = seen.nothing
    assert half.code == "GUEST-006"
    # Which letter a disk had last is the kernel's choice of that day.
    assert re.match('of the volume group "vg0" 1 of 2 disks are not here: /dev/sd[a-z] of 1.27 GiB', half.text)
    assert damaged.code == "GUEST-010"
    assert damaged.text.startswith("/dev/sda4 cannot be changed: it is xfs, and it does not mount: ")
    assert half.details[:2] == ("seen on the disk:", "disk 1: 1.27 GiB, GPT")
