"""Which file system a name means."""

import pytest

from migrate.guest import Filesystem, Layout
from migrate.source import Firmware
from remediations.device_names import Numbered, absent, filesystem, numbered, stable, stays_behind

BOOT = Filesystem("/dev/sda1", "vfat", 1, "7A1B-22C3", "EFI", "0a-01", 0, 1, 1, "/boot/efi")
ROOT = Filesystem("/dev/vg-a/lv-root", "ext4", 1, "aaaa0000-0000-4000-8000-000000000001", mountpoint="/")
DATA = Filesystem("/dev/sdb1", "xfs", 1, "bbbb0000-0000-4000-8000-000000000001", "dados", None, 1, 1, 1)
WHOLE = Filesystem("/dev/sdc", "ext4", 1, None, None, None, 2, None, 0)
LAYOUT = Layout((BOOT, ROOT, DATA, WHOLE), ROOT.device, Firmware.UEFI, 10, "gpt")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("/dev/sda1", BOOT),
        ("/dev/hda1", BOOT),
        ("/dev/xvda1", BOOT),
        ("/dev/vdb1", DATA),
        ("/dev/nvme1n1p1", DATA),
        ("/dev/nvme2n1", WHOLE),
        ("/dev/sdc", WHOLE),
        ("UUID=7a1b-22c3", BOOT),
        ('UUID="7A1B-22C3"', BOOT),
        ("LABEL=dados", DATA),
        ("PARTUUID=0A-01", BOOT),
        ("/dev/disk/by-uuid/bbbb0000-0000-4000-8000-000000000001", DATA),
        ("/dev/disk/by-label/EFI", BOOT),
        ("/dev/vg-a/lv-root", ROOT),
        ("/dev/mapper/vg--a-lv--root", ROOT),
        ("/dev/mapper/vg-a-lv-root", None),
        ("/dev/sda2", None),
        ("/dev/sdd1", None),
        ("LABEL=DADOS", None),
        ("tmpfs", None),
        ("/dev/sda1/x", None),
    ],
)
def test_a_name_means_one_file_system_or_none(name: str, meant: Filesystem | None) -> None:
    assert filesystem(LAYOUT, name) == meant


def test_kernel_names_are_counted() -> None:
    assert numbered("/dev/sdb12") == Numbered(1, 12)
    assert numbered("/dev/nvme3n1p2") == Numbered(3, 2)
    assert numbered("/dev/sr0") is None
    assert numbered("/dev/sdaa1") is None


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("/dev/sde1", True),
        ("UUID=dead", True),
        ("/dev/other/data", True),
        ("/dev/mapper/other-data", True),
        ("/dev/disk/by-id/scsi-36000c29", True),
        ("/dev/disk/by-uuid/7A1B-22C3", False),
        ("/dev/mapper/luks-aaaa", False),
        ("/dev/mapper/mpatha-part1", False),
        ("/dev/md/0", False),
        ("/dev/md127", False),
        ("tmpfs", False),
        ("proc", False),
        ("/swapfile", False),
        ("nas:/x", False),
    ],
)
def test_what_is_absent_is_known_only_for_names_that_can_be_looked_up(name: str, gone: bool) -> None:
    assert absent(LAYOUT, name) is gone


def test_behind_a_lock_nothing_is_called_absent() -> None:
    locked = Layout(
        (Filesystem("/dev/sda2", "crypto_LUKS", 1, disk=0, partition=2), ROOT), ROOT.device, Firmware.BIOS, 1, "dos"
    )
    assert not absent(locked, "UUID=dead")
    assert not absent(locked, "/dev/vg-b/home")
    assert absent(locked, "/dev/sdb1")


def test_only_the_boot_disk_comes_along() -> None:
    assert stays_behind(LAYOUT, "LABEL=dados")
    assert not stays_behind(LAYOUT, "LABEL=EFI")
    assert not stays_behind(LAYOUT, "/dev/mapper/vg--a-lv--root")


def test_a_partition_uuid_serves_where_there_is_no_other() -> None:
    assert stable(DATA) == "UUID=bbbb0000-0000-4000-8000-000000000001"
    assert stable(Filesystem("/dev/sda2", "jfs", 1, partuuid="0a-02")) == "PARTUUID=0a-02"
    assert stable(WHOLE) is None
