"""What was done in the overlay room is on the disk afterwards, all of it, and nothing of the room's own."""

import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrate.guest import DropPartition, Entry, File, Folder, Kind, Link, MakeSwapFile
from migrate.guests.appliance import Appliance, mount_guest, open_appliance
from migrate.guests.appliance_guest import ApplianceGuest
from migrate.guests.carry import carry
from migrate.guests.room import MERGED, RoomGuest
from migrate.guests.room_opening import open_room
from migrate.run import Run
from tests.guest_disks import MIB, ROOT_UUID, put, served, sh

pytestmark = pytest.mark.slow

LOWER: dict[str, Entry] = {
    "/etc/os-release": File(b"ID=debian\nVERSION_ID=12\n"),
    "/etc/fstab": File(
        b"/dev/sda1 / ext4 defaults 0 1\nLABEL=boot /boot ext2 defaults 0 2\nLABEL=SWAP none swap sw 0 0\n"
    ),
    "/etc/kept": File(b"kept", 0o640, 5, 6),
    "/etc/gone": File(b"gone"),
    "/etc/changed": File(b"old", 0o600, 1, 2),
    "/etc/touched": File(b"same", 0o644),
    "/etc/labelled": File(b"x"),
    "/usr/bin/ping": File(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\x3e\x00", 0o755),
    "/srv/folder/with/much": File(b"in it"),
    "/srv/file": File(b"a file"),
    "/srv/emptied/one": File(b"1"),
    "/srv/renewed/old": File(b"old"),
    "/srv/link": Link("file"),
    "/boot/grub/grub.cfg": File(b"menu"),
    "/var/tmp": Folder(0o1777),
}
BOOT: dict[str, Entry] = {"/vmlinuz": File(b"kernel"), "/initrd": File(b"old"), "/grub/grub.cfg": File(b"menu")}

# Run by the host's shell on the merged tree, as the cell's root.
WORK = r"""
set -e
cd /room/merged
rm etc/gone
printf new > etc/changed; chown 7:8 etc/changed; chmod 4711 etc/changed
chmod 600 etc/touched
rm -r srv/folder; printf 'now a file' > srv/folder
rm srv/file; mkdir srv/file; printf 1 > srv/file/inside; chmod 2770 srv/file; chown 0:9 srv/file
rm -r srv/emptied; mkdir srv/emptied
rm -r srv/renewed; mkdir srv/renewed; printf new > srv/renewed/new
ln -sfn other srv/link
printf linked > srv/hard1; ln srv/hard1 srv/hard2
mkfifo srv/fifo
setfattr -n user.note -v hello srv/hard1
setfattr -n user.dir -v there srv/renewed
setcap cap_net_raw+ep usr/bin/ping
touch srv/acl; setfacl -m u:42:rw srv/acl
mkdir srv/aclfolder; setfacl -d -m g:43:rx srv/aclfolder
printf 'new initrd' > boot/initrd; rm boot/vmlinuz; printf x > boot/vmlinuz-2
printf odd > "srv/$(printf 'n\351w')"
truncate -s 3M srv/sparse
touch -d '2001-02-03 04:05:06' etc/touched
"""


@pytest.fixture(scope="module")
def carried() -> Iterator[tuple[Appliance, ApplianceGuest, Path, Path]]:
    """A guest changed in the room, carried: the appliance, and a tar of what the room showed, and of what is on the disk."""
    with tempfile.TemporaryDirectory(prefix="mm-") as name:
        run = Run(Path(name))
        disk = _disk(run.work)
        overlay = run.work / "overlay.qcow2"
        with served(run, disk, "raw") as uri:
            sh("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", uri, overlay)
            with open_appliance(run, [overlay], kvm=False) as appliance, open_room(run, uri, None) as room:
                room.cell.tool(["sh", "-c", WORK])
                wanted = run.work / "wanted.tar"
                wanted.write_bytes(room.cell.tool([*PACK, "--directory", MERGED, "."]).stdout)
                _change_layout(room)
                guest = ApplianceGuest(run, appliance.call, mount_guest(run, appliance.call, None))
                carry(room, guest, appliance.call)
                found = run.work / "found.tar"
                appliance.call.tar_out("/", str(found), xattrs=True, acls=True, numericowner=True)
                yield appliance, guest, wanted, found


PACK = ["tar", "--create", "--numeric-owner", "--acls", "--xattrs", "--xattrs-include=*"]


def _change_layout(room: RoomGuest) -> None:
    room.change_layout(DropPartition(0, 5))
    room.change_layout(MakeSwapFile("/swapfile", 2 * MIB))


def _disk(folder: Path) -> Path:
    """An MBR disk as Debian's installer makes it: root, /boot, and the swap space in an extended partition."""
    disk = folder / "disk.raw"
    with disk.open("wb") as file:
        file.truncate(64 * MIB)
    table = (
        "label: dos\nstart=2048,size=32MiB\nstart=67584,size=8MiB\nstart=83968,type=5\nstart=86016,size=8MiB,type=82\n"
    )
    sh("sfdisk", "--quiet", disk, given=table)
    put(folder / "root", LOWER)
    (folder / "root/boot/grub/grub.cfg").unlink()
    put(folder / "boot", BOOT)
    sh("setfattr", "-n", "user.label", "-v", "before", folder / "root/etc/labelled")
    sh("mke2fs", "-q", "-F", "-t", "ext4", "-U", ROOT_UUID, "-d", folder / "root", "-E", f"offset={MIB}", disk, "32M")
    sh("mke2fs", "-q", "-F", "-t", "ext2", "-L", "boot", "-d", folder / "boot", "-E", f"offset={33 * MIB}", disk, "8M")
    with (folder / "swap").open("wb") as swap:
        swap.truncate(8 * MIB)
    sh("mkswap", "-q", "-L", "SWAP", folder / "swap")
    sh("dd", f"if={folder / 'swap'}", f"of={disk}", "bs=1M", "seek=42", "conv=notrunc", "status=none")
    return disk


def _members(archive: Path) -> dict[str, tuple[object, ...]]:
    """Everything that a tar says of each path, but the size of folders and the times of those that were only passed through."""
    found: dict[str, tuple[object, ...]] = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            name = member.name.rstrip("/")
            if member.islnk():
                found[name] = found[member.linkname]
                continue
            content = tar.extractfile(member) if member.isreg() else None
            data = content.read() if content else member.linkname
            attributes = sorted(
                item
                for item in member.pax_headers.items()
                if item[0].startswith("SCHILY.") and "selinux" not in item[0]
            )
            mtime = None if member.isdir() else int(member.mtime)
            found[name] = (member.type, oct(member.mode), member.uid, member.gid, mtime, data, attributes)
    return found


def test_the_disk_is_what_the_room_showed(carried: tuple[Appliance, ApplianceGuest, Path, Path]) -> None:
    _, _, wanted, found = carried
    room, disk = _members(wanted), _members(found)
    # The swap file is made after the room was looked at; the root folder of each file system belongs to mke2fs.
    disk.pop("./swapfile")
    for both in (room, disk):
        for name in (".", "./boot", "./lost+found", "./boot/lost+found"):
            both.pop(name, None)
    assert disk == room


def test_hard_links_are_still_one_file(carried: tuple[Appliance, ApplianceGuest, Path, Path]) -> None:
    call = carried[0].call
    assert call.lstatns("/srv/hard1")["st_ino"] == call.lstatns("/srv/hard2")["st_ino"]


def test_attributes_capabilities_and_acls_arrive(carried: tuple[Appliance, ApplianceGuest, Path, Path]) -> None:
    call = carried[0].call
    assert call.getxattr("/srv/hard1", "user.note") == b"hello"
    assert call.getxattr("/etc/labelled", "user.label") == b"before"
    assert call.cap_get_file("/usr/bin/ping") == "cap_net_raw=ep"
    assert "user:42:rw" in call.acl_get_file("/srv/acl", "access")
    assert "group:43:r-x" in call.acl_get_file("/srv/aclfolder", "default")


def test_nothing_of_the_overlay_arrives(carried: tuple[Appliance, ApplianceGuest, Path, Path]) -> None:
    with tarfile.open(carried[3]) as tar:
        for member in tar:
            assert not any("overlay" in key for key in member.pax_headers), member.name
            assert not member.ischr(), member.name


def test_the_layout_is_changed_when_it_is_carried(carried: tuple[Appliance, ApplianceGuest, Path, Path]) -> None:
    appliance, guest, *_ = carried
    # The extended partition, empty now, would stand in the way of growth as its content did.
    assert [part["part_num"] for part in appliance.call.part_list("/dev/sda")] == [1, 2]
    assert [fs.type for fs in guest.layout.filesystems] == ["ext4", "ext2"]
    assert guest.kind("/swapfile") is Kind.FILE
    assert appliance.call.vfs_type("/dev/sda1") == "ext4"
    assert oct(appliance.call.lstatns("/swapfile")["st_mode"]) == "0o100600"
    assert appliance.call.pread("/swapfile", 10, 4086) == b"SWAPSPACE2"
