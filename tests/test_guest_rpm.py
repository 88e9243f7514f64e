"""An RPM guest's package database, made by the real rpm and read on a copy, in each format that there is."""

import struct
import subprocess
import zlib
from pathlib import Path

import pytest

from fixtures.machines.rpm import StandIn, built
from migrate.errors import GuestError
from migrate.guest import File, Link, Packaging
from migrate.guests import rpm, rpm_ndb
from migrate.guests.files import FolderFiles
from migrate.guests.rpmdb import name_of, record
from migrate.guests.system import System
from migrate.guests.tree import TreeGuest
from migrate.run import Run
from tests.guest_disks import sh

INSTALLED = {
    "open-vm-tools": StandIn(
        version="0:12.2.5-3",
        files=("/usr/bin/vmtoolsd", "/etc/vmware-tools/"),
        config={"/etc/vmware-tools/tools.conf": "x"},
    ),
    "chrony": StandIn(version="2:4.3-1", arch="noarch", files=("/usr/sbin/chronyd",)),
}
RPM = ("rpm", "--nodeps", "--ignorearch", "--noscripts", "--nosignature")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return sorted(built(tmp_path_factory.mktemp("rpm"), INSTALLED, ".el9").values())


def database(root: Path, packages: list[Path], path: str = "/var/lib/rpm") -> FolderFiles:
    (root / "etc").mkdir(parents=True, exist_ok=True)
    sh(*RPM, "--root", root, "--define", f"_dbpath {path}", "--define", "_db_backend sqlite", "-i", *packages)
    files = FolderFiles(root)
    files.store("/etc/os-release", File(b'ID="almalinux"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.3"\n'))
    return files


@pytest.fixture(params=["/var/lib/rpm", "/usr/lib/sysimage/rpm"])
def guest(request: pytest.FixtureRequest, tmp_path: Path, packages: list[Path]) -> TreeGuest:
    files = database(tmp_path / "root", packages, request.param)
    if request.param != "/var/lib/rpm":
        (tmp_path / "root/var/lib").mkdir(parents=True, exist_ok=True)
        files.store("/var/lib/rpm", Link("../../usr/lib/sysimage/rpm"))
    return TreeGuest(tmp_path / "root", Run(tmp_path))


def told(guest: TreeGuest) -> dict[str, tuple[str, str]]:
    return {name: (package.version, package.arch) for name, package in guest.packages.items()}


EXPECTED = {"chrony": ("2:4.3-1.el9", "all"), "open-vm-tools": ("12.2.5-3.el9", "amd64")}


def test_the_packages_of_an_rpm_guest_are_read(guest: TreeGuest) -> None:
    assert told(guest) == EXPECTED
    assert guest.os.packaging is Packaging.RPM


def test_their_files_are_read_without_the_folders_that_hold_them(guest: TreeGuest) -> None:
    assert guest.files_of("open-vm-tools") == {"/etc/vmware-tools/tools.conf", "/usr/bin/vmtoolsd"}


def test_nothing_of_the_guest_is_written(guest: TreeGuest, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in sorted((tmp_path / "root").rglob("*")) if path.is_file()}
    assert guest.packages
    assert {path: path.read_bytes() for path in sorted((tmp_path / "root").rglob("*")) if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


def test_a_database_that_is_rubbish_is_an_error_that_says_so(guest: TreeGuest, tmp_path: Path) -> None:
    for path in (tmp_path / "root").rglob("rpmdb.sqlite"):
        path.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    with pytest.raises(GuestError, match="RPM database cannot be read"):
        TreeGuest(tmp_path / "root", Run(tmp_path)).packages  # noqa: B018


# The other formats. Debian's rpm writes neither: the headers in them are its own, what is around them is made here after their sources.


def headers(root: Path) -> list[bytes]:
    """The headers of an sqlite database as the other formats keep them: without their magic."""
    listing = subprocess.run(
        ["rpmdb", "--root", root, "--define", "_dbpath /var/lib/rpm", "--exportdb"], check=True, capture_output=True
    ).stdout
    found = []
    while listing:
        entries, size = struct.unpack_from(">II", listing, 8)
        end = 16 + 16 * entries + size
        found.append(listing[8:end])
        listing = listing[end:]
    return found


def ndb(blobs: list[bytes]) -> bytes:
    """Source: rpm, lib/backend/ndb/rpmpkg.c. One slot is free, as after a removal."""
    slots, content = [b"Slot" + bytes(12)], b""
    for number, blob in enumerate(blobs, 1):
        head = struct.pack("<4sIII", b"BlbS", number, 0, len(blob))
        padded = head + blob + bytes(-(len(head) + len(blob) + 12) % 16)
        tail = struct.pack("<II4s", zlib.adler32(padded), len(blob), b"BlbE")
        slots.append(struct.pack("<4sIII", b"Slot", number, (4096 + len(content)) // 16, len(padded + tail) // 16))
        content += padded + tail
    page = struct.pack("<4sIIII", b"RpmP", 0, 1, 1, len(blobs) + 1).ljust(32, b"\0") + b"".join(slots)
    return page + (b"Slot" + bytes(12)) * ((4096 - len(page)) // 16) + content


@pytest.fixture
def blobs(tmp_path: Path, packages: list[Path]) -> list[bytes]:
    database(tmp_path / "sqlite", packages)
    return headers(tmp_path / "sqlite")


def other(tmp_path: Path, folder: str, name: str, content: bytes) -> TreeGuest:
    (tmp_path / "root" / folder).mkdir(parents=True)
    (tmp_path / "root" / folder / name).write_bytes(content)
    (tmp_path / "root/etc").mkdir()
    (tmp_path / "root/etc/os-release").write_text("ID=sles\nID_LIKE=suse\n")
    return TreeGuest(tmp_path / "root", Run(tmp_path))


def removed(guest: TreeGuest, folder: Path) -> list[str]:
    """The resolver reads it as well."""
    run = Run(folder)
    change = rpm.Repositories(run, guest, System(guest, run)).plan(guest.packages, remove=["chrony"])
    return [package.name for package in change.remove]


def test_an_ndb_database_is_read(tmp_path: Path, blobs: list[bytes]) -> None:
    guest = other(tmp_path, "usr/lib/sysimage/rpm", "Packages.db", ndb(blobs))
    assert told(guest) == EXPECTED
    assert removed(guest, tmp_path) == ["chrony"]
    assert guest.files_of("chrony") == {"/usr/sbin/chronyd"}


def test_a_berkeley_database_is_read(tmp_path: Path, blobs: list[bytes]) -> None:
    """Written by Berkeley DB itself. Source: rpm 4.16, lib/backend/db3.c: a hash of numbers, 0 for the highest of them."""
    records = [struct.pack("<I", len(blobs)), *blobs]
    lines = "".join(f" {struct.pack('<I', key).hex()}\n {value.hex()}\n" for key, value in enumerate(records))
    sh(
        "db5.3_load",
        tmp_path / "Packages",
        given=f"VERSION=3\nformat=bytevalue\ntype=hash\ndb_pagesize=4096\nHEADER=END\n{lines}DATA=END\n",
    )
    guest = other(tmp_path, "var/lib/rpm", "Packages", (tmp_path / "Packages").read_bytes())
    assert told(guest) == EXPECTED
    assert removed(guest, tmp_path) == ["chrony"]


@pytest.mark.parametrize("at", [0, 33, 4096, 4300], ids=["magic", "slot", "blob", "content"])
def test_a_damaged_ndb_database_is_an_error_that_says_so(tmp_path: Path, blobs: list[bytes], at: int) -> None:
    content = bytearray(ndb(blobs))
    content[at] ^= 0xFF
    with pytest.raises(GuestError, match="RPM database"):
        rpm_ndb.header_list(bytes(content))
    with pytest.raises(GuestError, match="RPM database"):
        rpm_ndb.header_list(ndb(blobs)[: at + 20])


# Several of one name


def test_of_several_kernels_the_name_stands_for_the_newest_and_the_others_are_called_in_full(tmp_path: Path) -> None:
    for number, version in enumerate(("5.14.0-70", "5.14.0-362")):
        (tmp_path / str(number)).mkdir()
        kernel = StandIn(version=version, files=(f"/boot/vmlinuz-{version}",))
        made = built(tmp_path / str(number), {"kernel-core": kernel}, ".el9")
        database(tmp_path / "root", [made["kernel-core"]])
        # INSTALLTIME counts seconds, and the order of both is what is asked here.
        sh("sleep", "1.1") if number == 0 else None
    guest = TreeGuest(tmp_path / "root", Run(tmp_path))
    assert told(guest) == {
        "kernel-core": ("5.14.0-362.el9", "amd64"),
        "kernel-core-5.14.0-70.el9.x86_64": ("5.14.0-70.el9", "amd64"),
    }
    older = guest.packages["kernel-core-5.14.0-70.el9.x86_64"]
    assert (name_of(older), record(older).nevra) == ("kernel-core", "kernel-core-5.14.0-70.el9.x86_64")
    assert guest.files_of("kernel-core") == {"/boot/vmlinuz-5.14.0-362"}
    assert guest.files_of(older.name) == {"/boot/vmlinuz-5.14.0-70"}
