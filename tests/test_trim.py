"""What no file uses is neither read nor sent: on each kind of file system, in swap space, in volume groups, between partitions."""

import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from migrate.blocks import Disk
from migrate.guests.appliance import Appliance, mount_guest
from migrate.guests.appliance_guest import ApplianceGuest
from migrate.guests.rooms import finish
from migrate.guests.trim import SWAP_MAGIC
from migrate.nbd import served
from migrate.run import Run
from migrate.stream import needed
from tests.guest_disks import sh

pytestmark = pytest.mark.slow

MIB = 1 << 20
BLOCK = 4096
SECTORS = 2048
"""Of a MiB."""
FSTAB = """\
LABEL=root / ext4 defaults 0 1
LABEL=ESP /boot/efi vfat umask=0077 0 1
LABEL=var /var xfs defaults 0 0
LABEL=pool /home btrfs defaults,subvol=@home 0 0
/dev/vg0/srv /srv ext4 defaults 0 2
LABEL=swap1 none swap sw 0 0
/dev/vg0/swap none swap sw 0 0
/swap.img none swap sw 0 0
"""
PARTITIONS = {"ESP": 64, "root": 128, "deleted": 16, "var": 320, "swap1": 16, "pool": 160, "vg0": 128}
SWAP_UUID = "11111111-2222-4333-8444-555555555555"
NOISE = random.Random(1).randbytes(12 * MIB)  # noqa: S311
KEPT = {
    place: random.Random(place).randbytes(4 * MIB)  # noqa: S311
    for place in ("/", "/boot/efi", "/var", "/home", "/srv")
}


@dataclass(frozen=True, slots=True)
class Trimmed:
    """Bytes to be read before and after, bytes that file systems use, and the disk as it is then."""

    before: int
    after: int
    used: int
    disk: Path


@pytest.fixture(scope="module")
def trimmed() -> Iterator[Trimmed]:
    """One disk that was full of noise everywhere; most of it was deleted."""
    with tempfile.TemporaryDirectory(prefix="mm-") as name:
        run = Run(Path(name))
        disk = run.work / "disk.qcow2"
        sh("qemu-img", "create", "-q", "-f", "qcow2", disk, f"{sum(PARTITIONS.values()) + 48}M")
        appliance = Appliance(run, [disk], kvm=False)
        try:
            appliance.start()
            appliance.wait()
            _make(appliance, run.work)
            appliance.call.sync()
            before = disk.stat().st_blocks * 512  # its qemu holds the lock
            guest = ApplianceGuest(run, appliance.call, mount_guest(run, appliance.call, None))
            used = sum(_used(appliance, place) for place in KEPT) - len(NOISE)  # the swap file's
            finish(run, guest, appliance)
        finally:
            appliance.end()
        after = _needed(run, disk)
        sh("qemu-img", "convert", "-f", "qcow2", "-O", "raw", disk, run.work / "disk.raw")
        yield Trimmed(before, after, used, run.work / "disk.raw")


def _make(appliance: Appliance, work: Path) -> None:
    call = appliance.call
    (work / "noise").write_bytes(NOISE)
    noise = str(work / "noise")
    call.part_init("/dev/sda", "gpt")
    for size, at in zip(PARTITIONS.values(), _starts(), strict=True):
        call.part_add("/dev/sda", "p", at * SECTORS, (at + size) * SECTORS - 1)
    for number in (3, 5):
        call.upload(noise, f"/dev/sda{number}")
    call.part_del("/dev/sda", 3)
    call.mkfs("vfat", "/dev/sda1", label="ESP")
    call.mkfs("ext4", "/dev/sda2", label="root", blocksize=BLOCK)
    call.mkfs("xfs", "/dev/sda4", label="var")
    call.mkswap("/dev/sda5", label="swap1", uuid=SWAP_UUID)
    call.mkfs("btrfs", "/dev/sda6", label="pool")
    call.pvcreate("/dev/sda7")
    call.vgcreate("vg0", ["/dev/sda7"])
    for volume, size in (("srv", 48), ("swap", 16), ("deleted", 16)):
        call.lvcreate(volume, "vg0", size)
    for volume in ("swap", "deleted"):
        call.upload(noise, f"/dev/vg0/{volume}")
    call.lvremove("/dev/vg0/deleted")
    call.mkswap("/dev/vg0/swap", label="swap2")
    call.mkfs("ext4", "/dev/vg0/srv", blocksize=BLOCK)
    call.mount("/dev/sda6", "/")
    call.btrfs_subvolume_create("/@home")
    call.umount_all()
    call.mount("/dev/sda2", "/")
    for folder in ("etc", "boot/efi", "var", "home", "srv"):
        call.mkdir_p(f"/{folder}")
    call.write("/etc/fstab", FSTAB.encode())
    call.write("/etc/os-release", b"ID=debian\n")
    for path in (
        "/usr/bin/env",
        "/usr/bin/fallocate",
        "/lib64/ld-linux-x86-64.so.2",
        "/lib/x86_64-linux-gnu/libc.so.6",
    ):
        call.mkdir_p(str(Path(path).parent))
        call.upload(path, path)
        call.chmod(0o755, path)
    for device, options, place in (
        ("/dev/sda1", "rw", "/boot/efi"),
        ("/dev/sda4", "rw", "/var"),
        ("/dev/sda6", "subvol=@home", "/home"),
        ("/dev/vg0/srv", "rw", "/srv"),
    ):
        call.mount_options(options, device, place)
    for place, content in KEPT.items():
        call.upload(noise, f"{place}/deleted")
        call.sync()
        (work / "kept").write_bytes(content)
        call.upload(str(work / "kept"), f"{place}/kept")
        call.rm(f"{place}/deleted")
    call.upload(noise, "/swap.img")
    call.mkswap_file("/swap.img")
    call.umount_all()


def _starts() -> Iterator[int]:
    at = 1
    for size in PARTITIONS.values():
        yield at
        at += size


def _blocks(content: bytes) -> set[bytes]:
    return {content[at : at + BLOCK] for at in range(0, len(content), BLOCK)}


def _needed(run: Run, disk: Path) -> int:
    with served(run, disk) as uri, Disk(uri) as opened:
        return needed(opened)


def _used(appliance: Appliance, place: str) -> int:
    said = appliance.call.statvfs(place)
    return int((said["blocks"] - said["bfree"]) * said["frsize"])


def test_what_is_to_be_read_is_what_file_systems_use(trimmed: Trimmed) -> None:
    assert trimmed.before > 3 * trimmed.after
    assert trimmed.after <= 1.05 * trimmed.used
    content = trimmed.disk.read_bytes()
    left = _blocks(NOISE) & _blocks(content)
    assert len(left) * BLOCK <= MIB // 2, "pieces of what was deleted, where a cluster holds something else, too"


def test_what_is_used_is_still_there(trimmed: Trimmed) -> None:
    content = trimmed.disk.read_bytes()
    there = _blocks(content)
    for place, kept in KEPT.items():
        assert _blocks(kept) <= there, place
    for (name, size), start in zip(PARTITIONS.items(), _starts(), strict=True):
        (trimmed.disk.parent / name).write_bytes(content[start * MIB : (start + size) * MIB])
    sh("e2fsck", "-f", "-n", trimmed.disk.parent / "root")
    sh("xfs_repair", "-n", trimmed.disk.parent / "var")
    sh("btrfs", "check", trimmed.disk.parent / "pool")
    sh("fsck.vfat", "-n", trimmed.disk.parent / "ESP")
    assert SWAP_UUID in sh("blkid", "--probe", trimmed.disk.parent / "swap1")
    assert content.count(SWAP_MAGIC) == 3
