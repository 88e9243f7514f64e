"""A guest that is spread over btrfs subvolumes, logical volumes, xfs, vfat and a second disk is mounted as its fstab says."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrate.guest import File, Kind, Link
from migrate.guests.appliance import Appliance, mount_guest, open_appliance
from migrate.guests.appliance_guest import ApplianceGuest
from migrate.run import Run
from migrate.source import Firmware
from tests.guest_disks import sh

pytestmark = pytest.mark.slow

MIB = 2048  # sectors
FSTAB = """\
LABEL=pool / btrfs defaults,subvol=@ 0 0
LABEL=pool /home btrfs defaults,subvol=@home 0 0
LABEL=BOOT /boot/efi vfat umask=0077 0 1
/dev/mapper/vg0-usr /usr ext4 defaults 0 2
LABEL=var /var xfs defaults 0 0
LABEL=data /srv/data ext4 defaults,nofail 0 2
LABEL=media /media/stick ext4 noauto 0 0
UUID=99999999-0000-4000-8000-000000000009 /gone ext4 nofail 0 0
LABEL=swapped none swap sw 0 0
"""


@pytest.fixture(scope="module")
def spread() -> Iterator[tuple[Run, Appliance]]:
    with tempfile.TemporaryDirectory(prefix="mm-") as name:
        run = Run(Path(name))
        disks = [run.work / "one.qcow2", run.work / "two.qcow2"]
        for disk, size in zip(disks, ("1200M", "64M"), strict=True):
            sh("qemu-img", "create", "-q", "-f", "qcow2", disk, size)
        with open_appliance(run, disks, kvm=False) as appliance:
            _make(appliance)
            yield run, appliance


def _make(appliance: Appliance) -> None:
    call = appliance.call
    call.part_init("/dev/sda", "gpt")
    at = MIB
    for size in (64, 256, 400, 128, 32):
        call.part_add("/dev/sda", "p", at, at + size * MIB - 1)
        at += size * MIB
    call.part_set_gpt_type("/dev/sda", 1, "C12A7328-F81F-11D2-BA4B-00A0C93EC93B")
    call.mkfs("vfat", "/dev/sda1", label="BOOT")
    call.mkfs("btrfs", "/dev/sda2", label="pool")
    call.mkfs("xfs", "/dev/sda3", label="var")
    call.pvcreate("/dev/sda4")
    call.vgcreate("vg0", ["/dev/sda4"])
    call.lvcreate("usr", "vg0", 100)
    call.mkfs("ext4", "/dev/vg0/usr")
    call.mkswap("/dev/sda5", label="swapped")
    call.mkfs("ext4", "/dev/sdb", label="data")
    call.mount("/dev/sda2", "/")
    for subvolume in ("/@", "/@home"):
        call.btrfs_subvolume_create(subvolume)
    for folder in ("etc", "home", "usr", "var", "srv/data", "boot/efi", "media/stick"):
        call.mkdir_p(f"/@/{folder}")
    call.write("/@/etc/fstab", FSTAB.encode())
    call.ln_s("../usr/lib/os-release", "/@/etc/os-release")
    call.btrfs_subvolume_snapshot("/@", "/snapshot-of-yesterday", ro=True)
    call.umount_all()
    call.mount("/dev/vg0/usr", "/")
    call.mkdir_p("/lib")
    call.write("/lib/os-release", b"ID=opensuse\nID_LIKE=suse\n")
    call.umount_all()


@pytest.fixture(scope="module")
def guest(spread: tuple[Run, Appliance]) -> ApplianceGuest:
    run, appliance = spread
    return ApplianceGuest(run, appliance.call, mount_guest(run, appliance.call, None))


def test_everything_that_fstab_mounts_by_itself_is_mounted(guest: ApplianceGuest) -> None:
    # What lies on a second disk is a data disk's: it is told, and nothing of it is mounted.
    assert set(guest.mountpoints) == {"/", "/home", "/boot/efi", "/usr", "/var"}
    assert (guest.os.id, guest.os.family) == ("opensuse", "suse")


def test_the_layout_says_what_is_where(guest: ApplianceGuest) -> None:
    told = {fs.device: (fs.type, fs.mountpoint, fs.disk, fs.partition) for fs in guest.layout.filesystems}
    assert told == {
        "/dev/sda1": ("vfat", "/boot/efi", 0, 1),
        "/dev/sda2": ("btrfs", "/", 0, 2),
        "/dev/sda3": ("xfs", "/var", 0, 3),
        "/dev/sda4": ("LVM2_member", None, 0, 4),
        "/dev/sda5": ("swap", "swap", 0, 5),
        "/dev/sdb": ("ext4", "/srv/data", 1, None),
        "/dev/vg0/usr": ("ext4", "/usr", None, None),
    }
    assert (guest.layout.firmware, guest.layout.table, guest.layout.root) == (Firmware.UEFI, "gpt", "/dev/sda2")
    assert (guest.layout.root_filesystem.free or 0) > 100 << 20


def test_each_file_goes_where_it_belongs(guest: ApplianceGuest, spread: tuple[Run, Appliance]) -> None:
    call = spread[1].call
    for path in ("/etc/one", "/home/two", "/usr/lib/three", "/var/four", "/boot/efi/six"):
        guest.store(path, File(path.encode(), 0o755))
        assert guest.kind(path) is Kind.FILE
    assert guest.load("/etc/os-release") == Link("../usr/lib/os-release")
    guest.trim()
    call.umount_all()
    for device, options, inside in (
        ("/dev/sda2", "subvol=@home", "/two"),
        ("/dev/vg0/usr", "rw", "/lib/three"),
        ("/dev/sda3", "rw", "/four"),
        ("/dev/sda1", "rw", "/six"),
    ):
        call.mount_options(options, device, "/")
        assert call.is_file(inside), (device, inside)
        call.umount("/")
