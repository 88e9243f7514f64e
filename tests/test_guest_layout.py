"""What is on a disk: names in fstab, the firmware, the root; on real disks read in the overlay room."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from migrate.errors import GuestError, NotMigratable, UsageError
from migrate.guest import Entry, File, Filesystem, Folder, Kind, Link
from migrate.guests.appliance import open_appliance
from migrate.guests.cell import Unsuitable
from migrate.guests.disks import (
    Partition,
    Table,
    device_names,
    disk_device,
    find_filesystem,
    firmware_of,
    fstab_lines,
    table_of,
    with_mountpoints,
)
from migrate.guests.grub_probe import grub_probe
from migrate.guests.memory import plain_layout
from migrate.guests.room_opening import open_room
from migrate.guests.rooms import Choice, Rooms, trouble
from migrate.run import Note, Run
from migrate.source import Firmware
from tests.guest_disks import MIB, START, ext4_disk, put, served, sh

ROOT = Filesystem("/dev/sda2", "ext4", 9, "ab-CD", "my root", "0a0b-02", 0, 2, 1)
SWAP = Filesystem("/dev/sda5", "swap", 9, "ee-ff", None, "0a0b-05", 0, 5, 1)
VOLUME = Filesystem("/dev/my-vg/root", "xfs", 9, "11-22")
ALL = (ROOT, SWAP, VOLUME)


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ("UUID=ab-cd", ROOT),
        ('UUID="AB-CD"', ROOT),
        ("LABEL=my root", ROOT),
        ("LABEL=My Root", None),
        ("PARTUUID=0A0B-02", ROOT),
        ("/dev/disk/by-uuid/ee-ff", SWAP),
        ("/dev/sda2", ROOT),
        ("/dev/vda2", ROOT),
        ("/dev/xvda2", ROOT),
        ("/dev/nvme0n1p5", SWAP),
        ("/dev/mapper/my--vg-root", VOLUME),
        ("/dev/my-vg/root", VOLUME),
        ("/dev/sdb2", None),
        ("server:/export", None),
        ("UUID=none", None),
    ],
)
def test_an_fstab_name_finds_its_file_system_whatever_controller_the_disk_had(
    spec: str, found: Filesystem | None
) -> None:
    assert find_filesystem(ALL, spec) is found


def test_fstab_is_read_with_its_escapes_and_comments() -> None:
    text = "# a comment\n\nLABEL=my\\040root / ext4 errors=remount-ro,noatime 0 1\n/dev/sda5 none swap\nshort line\n"
    lines = [(line.spec, line.mountpoint, line.type, line.options) for line in fstab_lines(text)]
    assert lines == [
        ("LABEL=my root", "/", "ext4", ("errors=remount-ro", "noatime")),
        ("/dev/sda5", "none", "swap", ()),
    ]


def test_mount_points_are_those_of_fstab_and_the_root_is_the_root() -> None:
    fstab = fstab_lines(
        "/dev/vg/other / xfs defaults\nUUID=ee-ff none swap sw\n/dev/my-vg/root /var xfs noauto\n/dev/my-vg/root /srv xfs\n"
    )
    found = {fs.device: fs.mountpoint for fs in with_mountpoints(ALL, "/dev/sda2", fstab)}
    assert found == {"/dev/sda2": "/", "/dev/sda5": "swap", "/dev/my-vg/root": "/srv"}


def test_disks_are_named_in_the_appliances_order() -> None:
    assert [disk_device(number) for number in (0, 25, 26, 27, 702)] == [
        "/dev/sda",
        "/dev/sdz",
        "/dev/sdaa",
        "/dev/sdab",
        "/dev/sdaaa",
    ]
    assert "/dev/nvme1n1p3" in device_names(Filesystem("/dev/sdb3", "ext4", 1, disk=1, partition=3))


ESP = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
BIOS_BOOT = "21686148-6449-6e6f-744e-656564454649"


@pytest.mark.parametrize(
    ("types", "boot_code", "hint", "firmware"),
    [
        (["83"], True, None, Firmware.BIOS),
        ([ESP], False, None, Firmware.UEFI),
        ([ESP], True, None, Firmware.UEFI),  # a protective MBR may hold anything
        (["ef", "83"], False, None, Firmware.UEFI),
        ([BIOS_BOOT, ESP], True, None, Firmware.BIOS),  # made for both, as Debian's cloud images are
        ([BIOS_BOOT, ESP], False, None, Firmware.UEFI),
        ([BIOS_BOOT, ESP], True, Firmware.UEFI, Firmware.UEFI),
        (["83"], True, Firmware.UEFI, Firmware.UEFI),
    ],
)
def test_the_firmware_follows_from_the_partitions_and_what_the_hypervisor_says_wins(
    types: list[str], boot_code: bool, hint: Firmware | None, firmware: Firmware
) -> None:
    partitions = tuple(Partition(0, number, number, 1, kind, None) for number, kind in enumerate(types, 1))
    assert firmware_of([Table(0, 9, "gpt", partitions, boot_code)], hint) is firmware


@pytest.mark.parametrize("label", ["dos", "gpt"])
def test_a_table_is_read_as_the_real_sfdisk_writes_it(tmp_path: Path, label: str) -> None:
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(32 * MIB)
    sh("sfdisk", "-q", disk, given=f"label: {label}\nstart=2048,size=8MiB\nstart=20480,size=4MiB\n")
    table = table_of(json.loads(sh("sfdisk", "--json", disk)), 0, 32 * MIB, False)
    assert table.kind == label
    assert [(part.device, part.start, part.size) for part in table.partitions] == [
        ("/dev/sda1", MIB, 8 * MIB),
        ("/dev/sda2", 10 * MIB, 4 * MIB),
    ]
    assert (
        table.partitions[0].partuuid == sh("blkid", "-p", "-O", "0", "-s", "X", disk).strip()
        or table.partitions[0].partuuid
    )


def test_the_stand_in_for_grub_probe_answers_as_the_real_disk_would(tmp_path: Path) -> None:
    script = tmp_path / "grub-probe"
    script.write_text(grub_probe(plain_layout(Firmware.UEFI)))
    asked = {
        "--target=device /": "/dev/sda2",
        "--target=fs_uuid --device /dev/sda2": "3c0f2f5e-0000-4000-8000-00000000000a",
        "--target=fs /boot/grub": "ext2",
        "-t partmap /": "gpt",
        "--target=compatibility_hint --device /dev/sda2": "hd0,gpt2",
        "--target=hints_string --device /dev/sda2": "",
        "--device-map=/boot/grub/device.map --target=drive /boot": "(hd0,gpt2)",
    }
    assert {words: sh("sh", script, *words.split()).strip() for words in asked} == asked


GUEST: dict[str, Entry] = {
    "/etc/os-release": Link("../usr/lib/os-release"),
    "/usr/lib/os-release": File(b"ID=debian\nVERSION_ID=12\n"),
    "/etc/fstab": File(b"UUID=3c0f2f5e-0000-4000-8000-00000000000a / ext4 defaults 0 1\n"),
    "/etc/journaled": File(b"old" + bytes(4093)),
    "/boot": Folder(),
}


@pytest.fixture
def disk(run: Run) -> Path:
    put(run.work / "tree", GUEST)
    return ext4_disk(run.work / "disk.raw", run.work / "tree")


@pytest.mark.slow
def test_the_room_works_on_this_host(run: Run) -> None:
    assert trouble(run) is None


@pytest.mark.slow
def test_a_journal_that_was_not_replayed_is_replayed_for_the_room_and_not_on_the_source(run: Run, disk: Path) -> None:
    before = disk.read_bytes()
    place = f"{disk}?offset={START}"
    block = sh("debugfs", "-R", "blocks /etc/journaled", place).split()[0]
    (run.work / "new").write_bytes(b"new" + bytes(4093))
    sh("debugfs", "-w", "-f", "-", place, given=f"jo\njw -b {block} {run.work / 'new'}\njc\n")
    dirty = disk.read_bytes()
    assert dirty != before
    with served(run, disk, "raw") as uri, open_room(run, uri, None) as guest:
        entry = guest.load("/etc/journaled")
        assert isinstance(entry, File) and entry.content[:3] == b"new"
    assert disk.read_bytes() == dirty


@pytest.mark.slow
def test_of_two_systems_on_a_disk_one_must_be_named(run: Run) -> None:
    put(run.work / "tree", GUEST)
    disk = run.work / "two.raw"
    with disk.open("wb") as file:
        file.truncate(66 * MIB)
    sh("sfdisk", "-q", disk, given="label: gpt\nstart=2048,size=30MiB\nstart=63488,size=30MiB\n")
    for offset, label in ((MIB, "one"), (31 * MIB, "two")):
        sh(
            "mke2fs",
            "-q",
            "-F",
            "-t",
            "ext4",
            "-L",
            label,
            "-d",
            run.work / "tree",
            "-E",
            f"offset={offset}",
            disk,
            "30M",
        )
    with served(run, disk, "raw") as uri:
        with pytest.raises(NotMigratable) as refused, open_room(run, uri, None):
            pass
        (reason,) = refused.value.reasons
        assert reason.code == "GUEST-005"
        assert [line.split(maxsplit=2)[1] for line in reason.details] == ["/dev/sda1", "/dev/sda2"]
        for root in ("/dev/sda2", "LABEL=two"):
            with open_room(run, uri, None, root=root) as chosen:
                assert chosen.layout.root == "/dev/sda2"
        with (
            pytest.raises(UsageError, match="--root /dev/sda3: there is no root"),
            open_room(run, uri, None, root="/dev/sda3"),
        ):
            pass


def _empty(path: Path) -> None:
    pass


def _swap(path: Path) -> None:
    sh("mkswap", "-q", path)


def _luks(path: Path) -> None:
    """The magic and version of LUKS1, and a UUID: as much as blkid wants."""
    with path.open("r+b") as file:
        file.write(b"LUKS\xba\xbe" + struct.pack(">H", 1) + b"aes".ljust(32, b"\0") + b"xts-plain64".ljust(32, b"\0"))
        file.seek(168)
        file.write(b"11111111-2222-3333-4444-555555555555")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_empty, ("GUEST-004", "disk 1: 16 MiB, no partition table")),
        (_swap, ("GUEST-004", "  /dev/sda          16 MiB  swap")),
        (_luks, ("GUEST-001", "  /dev/sda          16 MiB  LUKS-encrypted")),
    ],
    ids=["empty", "swap", "luks"],
)
def test_a_disk_without_a_system_is_refused_with_what_was_seen(
    run: Run, make: Callable[[Path], None], said: tuple[str, str]
) -> None:
    disk = run.work / "disk.raw"
    with disk.open("wb") as file:
        file.truncate(16 * MIB)
    make(disk)
    with served(run, disk, "raw") as uri, pytest.raises(NotMigratable) as refused, open_room(run, uri, None):
        pass
    (reason,) = refused.value.reasons
    assert (reason.code, reason.details[-1]) == said


@pytest.mark.slow
def test_a_guest_that_the_room_cannot_read_is_said_to_be_so(run: Run) -> None:
    disk = run.work / "xfs.raw"
    with disk.open("wb") as file:
        file.truncate(320 * MIB)
    sh("mkfs.xfs", "-q", disk)
    with served(run, disk, "raw") as uri:
        with pytest.raises(Unsuitable, match="/dev/sda \\(xfs\\)"), open_room(run, uri, None):
            pass
        with (
            pytest.raises(GuestError, match=r"the overlay room cannot be used: .*xfs"),
            Rooms(kvm=False, choice=Choice.OVERLAY).look(run, uri, None),
        ):
            pass


@pytest.mark.slow
def test_an_ext4_of_a_kind_that_fuse2fs_does_not_know_is_left_to_the_appliance(run: Run, disk: Path) -> None:
    sh("debugfs", "-w", "-R", "feature FEATURE_I30", f"{disk}?offset={START}")
    with (
        served(run, disk, "raw") as uri,
        pytest.raises(Unsuitable, match="/dev/sda1 cannot be read by fuse2fs"),
        open_room(run, uri, None),
    ):
        pass


@pytest.mark.slow
def test_a_look_leaves_the_disk_and_the_host_as_they_were(run: Run, disk: Path) -> None:
    before = disk.read_bytes()
    mounts = Path("/proc/self/mountinfo").read_text()
    with served(run, disk, "raw") as uri, Rooms(kvm=False).look(run, uri, None) as guest:
        guest.store("/etc/new", File(b"x"))
        assert guest.kind("/etc/new") is Kind.FILE
    assert disk.read_bytes() == before
    assert Path("/proc/self/mountinfo").read_text() == mounts


@pytest.mark.slow
def test_a_disk_that_is_one_file_system_without_a_table_is_read(run: Run) -> None:
    put(run.work / "tree", GUEST)
    disk = run.work / "bare.raw"
    sh("mke2fs", "-q", "-F", "-t", "ext4", "-d", run.work / "tree", disk, "32M")
    notes: list[object] = []
    run.listener = notes.append
    with served(run, disk, "raw") as uri, Rooms(kvm=False).look(run, uri, None) as guest:
        assert (guest.layout.table, guest.layout.root_filesystem.mountpoint) == ("none", "/")
    assert not [note for note in notes if isinstance(note, Note)]


LVM_FSTAB = (
    "/dev/mapper/my--vg-root / ext4 defaults 0 1\nLABEL=boot /boot ext4 defaults 0 2\n/dev/my-vg/swap none swap sw 0 0\n"
    "UUID=99999999-0000-4000-8000-000000000001 /srv ext4 defaults 0 2\n"
)


@pytest.mark.slow
def test_a_root_on_a_logical_volume_is_read_without_device_mapper(run: Run) -> None:
    tree = GUEST | {"/etc/fstab": File(LVM_FSTAB.encode())}
    disk = _lvm_disk(run, tree)
    with served(run, disk, "qcow2") as uri, open_room(run, uri, None) as guest:
        found = {fs.device: (fs.type, fs.mountpoint, fs.disk) for fs in guest.layout.filesystems}
        assert found == {
            "/dev/sda1": ("ext4", "/boot", 0),
            "/dev/sda2": ("LVM2_member", None, 0),
            "/dev/my-vg/root": ("ext4", "/", None),
            "/dev/my-vg/swap": ("swap", "swap", None),
        }
        assert guest.load("/etc/journaled") == tree["/etc/journaled"]
        assert [layer.mountpoint for layer in guest.layers] == ["/", "/boot"]


def _lvm_disk(run: Run, tree: dict[str, Entry]) -> Path:
    """A disk with /boot and a volume group, made by LVM itself"""
    put(run.work / "tree", tree)
    sh("tar", "-C", run.work / "tree", "--numeric-owner", "-cf", run.work / "tree.tar", ".")
    disk = run.work / "lvm.qcow2"
    sh("qemu-img", "create", "-q", "-f", "qcow2", disk, "192M")
    with open_appliance(run, [disk], kvm=False) as appliance:
        call = appliance.call
        call.part_init("/dev/sda", "gpt")
        call.part_add("/dev/sda", "p", 2048, 2048 + 32 * 2048 - 1)
        call.part_add("/dev/sda", "p", 34 * 2048, 190 * 2048 - 1)
        call.mkfs("ext4", "/dev/sda1", label="boot")
        call.pvcreate("/dev/sda2")
        call.vgcreate("my-vg", ["/dev/sda2"])
        call.lvcreate("root", "my-vg", 64)
        call.lvcreate("swap", "my-vg", 32)
        call.mkfs("ext4", "/dev/my-vg/root")
        call.mkswap("/dev/my-vg/swap")
        call.mount("/dev/my-vg/root", "/")
        call.tar_in(str(run.work / "tree.tar"), "/")
        call.umount_all()
    return disk
