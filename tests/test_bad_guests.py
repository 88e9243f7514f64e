"""Guests that are broken, odd or hostile: what is said of them is plain, and nothing is repaired by halves."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures.guests import guest
from fixtures.machines.rpm import StandIn, built
from migrate.draft import MOST_COUNTED, Draft
from migrate.effects import Edit, Removal, Severity
from migrate.errors import PackageDatabaseBroken
from migrate.guest import File, Filesystem, Kind
from migrate.guests import dpkg, extfs, refusals
from migrate.guests.disks import Partition, Table
from migrate.guests.files import FolderFiles
from migrate.guests.immutable import in_lsattr, with_folders
from migrate.guests.memory import MemoryGuest, from_yaml
from migrate.guests.tree import TreeGuest
from migrate.look import examined
from migrate.preview import Preview
from migrate.remediate import preview, remediate
from migrate.remediation import Settings
from migrate.run import Run
from migrate.source import Disk, Vm
from migrate.space import holding
from remediations import BUILTIN
from remediations.check_guest import check_guest
from tests.guest_disks import put, sh
from tests.remediation_guests import codes, done

VM = Vm("erp01", "file", (Disk("erp01.vmdk", 10 << 30, "vmdk"),))
MIB = 1 << 20


def looked_at(run: Run, name: str, settings: Settings | None = None) -> Preview:
    return examined(run, VM, guest(name), BUILTIN, settings or Settings())


def told(found: Preview, code: str) -> list[str]:
    return [finding.text for finding in found.changes.findings if finding.code == code]


# What it is


def test_a_guest_for_another_processor_is_refused(run: Run) -> None:
    found = looked_at(run, "ubuntu2404-aws-graviton")
    assert not found.can_go
    assert told(found, "GUEST-003") == [
        "Ubuntu 24.04.1 LTS is made for arm64 processors; Magalu Cloud's are x86-64 (amd64)."
    ]


def test_a_32_bit_guest_is_refused_and_may_be_tried_all_the_same(run: Run) -> None:
    old = from_yaml("os: {id: debian, arch: i386, pretty: Debian 11}")
    assert codes(done(old, check_guest)) == ["GUEST-012"]
    found = examined(run, VM, old, (check_guest,), Settings(waive=frozenset({"GUEST-012"})))
    assert found.can_go
    assert found.changes.findings[0].waived


# Files that are broken


def test_broken_configurations_are_told_line_by_line_and_stop_no_repair(run: Run) -> None:
    found = looked_at(run, "debian12-vmware-broken-configs")
    assert found.can_go
    assert [text.split(",")[0] for text in told(found, "GUEST-016")] == [
        "/etc/fstab:2 has 2 columns",
        "/etc/fstab begins with a byte order mark",
        "/etc/ssh/sshd_config:1 gives Port no value",
        "/etc/ssh/sshd_config:2 has a quotation mark too few",
        "/etc/ssh/sshd_config:4 begins with no keyword",
        "/etc/default/grub has a quotation mark too few",
    ]
    assert len(told(found, "CLOUD-001")) == 2
    assert told(found, "GUEST-014") == [
        "packages were left half done: mysql-server (half-configured), libc6 (unpacked). What is installed now may finish them, or fail "
        "with them."
    ]
    assert told(found, "GUEST-015") == ["packages are held at their version: nginx"]


def test_a_line_of_fstab_may_end_in_a_comment_and_is_told_by_its_number_in_the_file() -> None:
    """findmnt and systemd-fstab-generator 252 read no more than six columns, and take the first line as it is meant."""
    table = "# data\n\n/dev/sdb1 /srv ext4 defaults 0 2 # disk of the archive\n/dev/sdc1 /half\n"
    odd = from_yaml("files: {}")
    odd.store("/etc/fstab", File(table.encode()))
    assert [finding.text.split(",")[0] for finding in done(odd, check_guest).findings] == ["/etc/fstab:4 has 2 columns"]


def test_what_is_odd_in_a_file_survives_an_edit_of_another_line(run: Run) -> None:
    after = guest("debian12-vmware-broken-configs")
    before = after.load("/etc/fstab")
    remediate(run, after, BUILTIN, Settings(), "remediate")
    entry = after.load("/etc/fstab")
    assert isinstance(before, File) and isinstance(entry, File)
    assert entry.content == before.content  # the byte order mark, CRLF, Latin-1 and the line that is none
    hosts = after.load("/etc/hosts")
    assert isinstance(hosts, File) and hosts.content.endswith(b"192.168" + bytes(8))


def test_a_line_of_a_megabyte_and_a_file_of_zeros_take_no_time(run: Run) -> None:
    long = "a" * MIB
    odd = from_yaml("packages: {cloud-init: {}, openssh-server: {}}\nfiles: {/usr/lib/systemd/systemd: ''}")
    for path in (
        "/etc/fstab",
        "/etc/hosts",
        "/etc/default/grub",
        "/etc/ssh/sshd_config",
        "/etc/network/interfaces",
        "/etc/motd",
    ):
        odd.store("/etc/ssh", odd.load("/etc"))
        odd.store("/etc/default", odd.load("/etc"))
        odd.store("/etc/network", odd.load("/etc"))
        odd.store(path, File(f"{long}\n{long} {long}\n".encode()))
    odd.store("/etc/zeros", File(bytes(8 * MIB)))
    began = time.process_time()
    preview(run, odd, BUILTIN, Settings())
    assert time.process_time() - began < 20


# Paths that are something else


def test_what_cannot_be_made_is_an_error_each_and_nothing_is_made(run: Run) -> None:
    bad = guest("debian12-vmware-wrong-kinds")
    before = dict(bad.tree)
    found = examined(run, VM, bad, BUILTIN, Settings())
    assert not found.can_go
    assert told(found, "GUEST-018") == [
        "clear-foreign-datasources cannot be made: /etc/systemd/system leads through a circle of links",
        "configure-cloud-init cannot be made: /etc/cloud/cloud.cfg.d is a file, where a folder was expected",
        "reset-machine-id cannot be made: /etc/machine-id is a device, socket or pipe; it is left alone",
    ]
    assert dict(bad.tree) == before


def test_links_above_the_root_stay_in_the_guest() -> None:
    draft = Draft(guest("debian12-vmware-wrong-kinds"))
    assert draft.real("/var/spool/x") == "/srv/spool/x"
    draft.write("/var/spool/x", "y", why="x")
    assert [effect.path for effect in draft.changes.effects if isinstance(effect, Edit)] == [
        "/srv",
        "/srv/spool",
        "/srv/spool/x",
    ]
    draft.remove("/etc/resolv.conf", why="x")  # a circle of its own
    assert draft.kind("/etc/resolv.conf") is Kind.MISSING


def test_immutable_files_are_changed_and_told(run: Run) -> None:
    found = looked_at(run, "debian12-vmware-immutable")
    assert told(found, "GUEST-017") == [
        "changed although they were made immutable (chattr +i or +a): /etc/fstab, /etc/udev/rules.d/70-persistent-net.rules"
    ]


def test_lsattr_is_read() -> None:
    said = "----i---------e------- /etc/a\n--------------e------- /etc/b\n-----a--------e------- /etc/c d\nlsattr: no\n"
    assert in_lsattr(said) == {"/etc/a", "/etc/c d"}
    assert list(with_folders(["/a/b/c", "/a/b/d"])) == ["/a/b", "/a/b/c", "/a/b/d"]


# Room


FULL = """
layout:
  filesystems:
    - {{device: /dev/sda1, type: ext4, size: 512MiB, uuid: b, mountpoint: /boot, free: 100MiB}}
    - {{device: /dev/sda2, type: ext4, size: 10GiB, uuid: r, mountpoint: /, free: {free}}}
packages: {{cloud-init: {{}}, openssh-server: {{}}, ifupdown: {{}}}}
files:
  /etc/fstab: "UUID=r / ext4 defaults 0 1\\n"
"""


@pytest.mark.parametrize(("free", "fits"), [(0, False), (MIB, False), (64 * MIB, True)])
def test_a_guest_without_room_is_refused_before_anything_is_written(run: Run, free: int, fits: bool) -> None:
    found = examined(run, VM, from_yaml(FULL.format(free=free)), BUILTIN, Settings())
    short = [finding for finding in found.changes.findings if finding.code == "GUEST-011"]
    assert bool(short) is not fits
    if short:
        assert short[0].severity is Severity.ERROR
        assert short[0].text.startswith("/ (/dev/sda2) has ")
        assert not found.can_go


def test_a_path_is_held_by_the_deepest_mount() -> None:
    layout = from_yaml(FULL.format(free=0)).layout
    held = [holding(layout, path) for path in ("/boot/grub/grub.cfg", "/bootloader", "/boot", "/")]
    assert [fs.mountpoint for fs in held if fs] == ["/boot", "/", "/boot", "/"]


# Much of it


def test_a_hundred_thousand_files_take_seconds_and_one_effect(run: Run) -> None:
    many = MemoryGuest({f"/var/lib/agent/spool/{number:06}": File(b"") for number in range(100_000)})
    began = time.process_time()
    draft = Draft(many)
    draft.remove("/var/lib/agent", why="x")
    assert draft.changes.effects == (Removal("", "x", "/var/lib/agent", Kind.FOLDER, MOST_COUNTED),)
    assert time.process_time() - began < 10


def test_a_log_of_a_hundred_gigabytes_that_goes_is_not_read(run: Run, tmp_path: Path) -> None:
    put(tmp_path / "tree", {"/etc/os-release": File(b"ID=debian\n"), "/var/log/huge.log": File(b"")})
    with (tmp_path / "tree/var/log/huge.log").open("wb") as file:
        file.truncate(100 << 30)
    sparse = TreeGuest(tmp_path / "tree", run)
    draft = Draft(sparse)
    assert draft.read("/var/log/huge.log") is None
    draft.remove("/var/log/huge.log", why="x")
    sparse.remove("/var/log/huge.log")
    assert sparse.kind("/var/log/huge.log") is Kind.MISSING


# The package database

STATUS = "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.36\n\n"


@pytest.mark.parametrize(
    ("status", "complaint"),
    [
        (STATUS, None),
        (STATUS + "Package: vim\nStatus: install ok installed\nVersi", "it is cut off in line 8"),
        (STATUS + "Package: vim\nStatus: install ok installed\n\n", "the paragraph at line 6 has no Version"),
        ("Status: install ok installed\nVersion: 1\n\n", "the paragraph at line 1 has no Package"),
        (STATUS + "\0\0\0\0", "NUL bytes at line 6"),
        ("", "it is empty, and INFO tells of packages"),
    ],
)
def test_a_broken_package_database_is_an_error_of_its_own(
    run: Run, tmp_path: Path, status: str, complaint: str | None
) -> None:
    assert dpkg.complaint(status, 1) == complaint
    files = {"/etc/os-release": b"ID=debian\n", dpkg.STATUS: status.encode(), f"{dpkg.INFO}/libc6.list": b"/.\n"}
    put(tmp_path / "tree", {path: File(content) for path, content in files.items()})
    broken = TreeGuest(tmp_path / "tree", run)
    if complaint is None:
        assert list(broken.packages) == ["libc6"]
        return
    with pytest.raises(PackageDatabaseBroken, match="is broken"):
        _ = broken.packages
    findings = preview(run, broken, BUILTIN, Settings()).findings
    (only,) = [finding for finding in findings if finding.code == "GUEST-013"]
    assert complaint in only.text
    assert "status-old" in (only.remedy or "")


@pytest.fixture(scope="module")
def rpm_database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A database of some megabyte, as the real rpm makes it."""
    folder = tmp_path_factory.mktemp("rpm")
    files = tuple(f"/usr/share/a-folder-with-a-long-name/file-{number}" for number in range(500))
    wanted = {f"package-{number}": StandIn(version="1-1", files=files) for number in range(8)}
    (folder / "packages").mkdir()
    argv: list[str | Path] = [
        "rpm",
        "--nodeps",
        "--ignorearch",
        "--noscripts",
        "--nosignature",
        "--replacefiles",
        "--root",
        folder / "root",
    ]
    packages = sorted(built(folder / "packages", wanted, ".el9").values())
    sh(*argv, "--define", "_dbpath /var/lib/rpm", "--define", "_db_backend sqlite", "-i", *packages)
    database = folder / "root/var/lib/rpm/rpmdb.sqlite"
    sh("rpm", "--root", folder / "root", "--define", "_db_backend sqlite", "--rebuilddb")
    return database.read_bytes()


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[: len(whole) // 4] + bytes(len(whole) // 2) + whole[len(whole) * 3 // 4 :],
        lambda whole: b"",
        lambda whole: b"no database" * 1000,
    ],
    ids=["cut off", "zeros within", "empty", "something else"],
)
def test_a_broken_rpm_database_is_never_half_read(
    run: Run, tmp_path: Path, rpm_database: bytes, damage: Callable[[bytes], bytes]
) -> None:
    files = {"/etc/os-release": b"ID=rocky\nID_LIKE=rhel\n", "/var/lib/rpm/rpmdb.sqlite": rpm_database}
    put(tmp_path / "tree", {path: File(content) for path, content in files.items()})
    assert len(TreeGuest(tmp_path / "tree", run).packages) == 8
    FolderFiles(tmp_path / "tree").store("/var/lib/rpm/rpmdb.sqlite", File(damage(rpm_database)))
    with pytest.raises(PackageDatabaseBroken, match="the guest's RPM database"):
        _ = TreeGuest(tmp_path / "tree", run).packages


# Words about disks


def _found(*filesystems: Filesystem, types: tuple[str, ...] = (), **more: object) -> refusals.Found:
    partitions = tuple(
        Partition(0, number, number << 20, 1 << 30, type_, None) for number, type_ in enumerate(types, 1)
    )
    table = Table(0, 20 << 30, "gpt" if types else "none", partitions, False)
    return refusals.Found([table], filesystems, lambda device, offset, count: bytes(count), **more)  # type: ignore[arg-type]


def _fs(device: str, type_: str, label: str | None = None) -> Filesystem:
    return Filesystem(device, type_, 1 << 30, None, label)


LINUX_DATA = "0fc63daf-8483-4772-8e79-3d69d8477de4"
MSR = "e3c9e316-0b5c-4db8-817d-f92df00215ae"
BASIC_DATA = "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (_found(_fs("/dev/sda", "ntfs")), ["GUEST-002"]),
        (_found(_fs("/dev/sda3", "BitLocker"), types=(MSR, BASIC_DATA, BASIC_DATA)), ["GUEST-002"]),
        (_found(_fs("/dev/sda1", "ext4"), _fs("/dev/sda2", "ntfs"), types=(LINUX_DATA, BASIC_DATA)), ["GUEST-004"]),
        (_found(_fs("/dev/sda1", "zfs_member")), ["GUEST-007"]),
        (_found(_fs("/dev/sda1", "crypto_LUKS"), _fs("/dev/sda2", "bcachefs")), ["GUEST-001", "GUEST-007"]),
        (_found(_fs("/dev/sda1", "ext4"), kernels_root="UUID=f00"), ["GUEST-008"]),
        (_found(_fs("/dev/sda1", "xfs"), failures={"/dev/sda1": "it does not mount: needs cleaning"}), ["GUEST-010"]),
        (_found(types=(LINUX_DATA, "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5")), ["GUEST-009"]),
        (_found(), ["GUEST-004"]),
    ],
)
def test_each_reason_that_a_disk_gives_is_said(found: refusals.Found, said: list[str]) -> None:
    refusal = refusals.no_root(found)
    assert [reason.code for reason in refusal.reasons] == said
    assert refusal.reasons[0].details[0] == "seen on the disk:"
    assert refusal.reasons[0].details[1].startswith("disk 1: 20 GiB")


def test_a_partition_a_line_says_what_was_seen() -> None:
    found = _found(
        _fs("/dev/sda1", "vfat", "EFI"),
        _fs("/dev/vg0/\x1b[31mroot", "crypto_LUKS"),
        types=("c12a7328-f81f-11d2-ba4b-00a0c93ec93b", LINUX_DATA),
    )
    assert refusals.seen(found) == (
        "disk 1: 20 GiB, GPT",
        '  /dev/sda1          1 GiB  vfat "EFI" (EFI system partition)',
        "  /dev/sda2          1 GiB  nothing that is known",
        "  /dev/vg0/\\x1b[31mroot     1 GiB  LUKS-encrypted",
    )


@pytest.mark.parametrize(
    ("text", "root"),
    [
        ("menuentry x {\n\tlinux /vmlinuz-6.1 root=UUID=12-34 ro quiet\n}\n", "UUID=12-34"),
        ("options root=/dev/mapper/rl-root ro\n", "/dev/mapper/rl-root"),
        ("kernel /vmlinuz ro root=LABEL=/\n", "LABEL=/"),
        ("set root='hd0,msdos1'\nsearch --set=root abc\n", None),
        ("# linux root=none\n", None),
        ("linux " + "a" * 100_000 + "\n", None),
    ],
)
def test_the_root_that_a_boot_loader_names(text: str, root: str | None) -> None:
    assert refusals.root_argument([text]) == root


def test_a_superblock_says_what_state_it_is_in() -> None:
    block = bytearray(256)
    assert extfs.state(bytes(block)) == extfs.State()
    block[0x38:0x3A] = b"\x53\xef"
    block[0x3A] = 1
    assert not extfs.state(bytes(block)).wants_check
    block[0x3A] = 3
    assert extfs.state(bytes(block)) == extfs.State(has_errors=True)
    block[0x60] = 4
    assert extfs.state(bytes(block)) == extfs.State(True, True)
    block[0x65] = 0x10
    assert extfs.state(bytes(block)).read_only
