"""An RPM guest's package database, made by the real rpm and read on a copy."""

from pathlib import Path

import pytest

from migrate.errors import GuestError, PackagesUnavailable
from migrate.guest import File, Link
from migrate.guests.files import FolderFiles
from migrate.guests.packages import Packages
from migrate.guests.system import System
from migrate.guests.tree import TreeGuest
from migrate.run import Run
from tests.guest_disks import sh

SPEC = """\
Name: {name}
Version: {version}
Release: 1.el9
Epoch: {epoch}
Summary: a stand-in
License: none
BuildArch: {arch}
%description
A stand-in.
%install
mkdir -p %{{buildroot}}/etc/{name} %{{buildroot}}/usr/lib/{name}
echo x > %{{buildroot}}/etc/{name}/{name}.conf
echo x > %{{buildroot}}/usr/lib/{name}/file
%files
%dir /etc/{name}
%config /etc/{name}/{name}.conf
/usr/lib/{name}
"""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("rpm")
    for name, version, epoch, arch in (("open-vm-tools", "12.2.5", 0, "x86_64"), ("chrony", "4.3", 2, "noarch")):
        spec = folder / f"{name}.spec"
        spec.write_text(SPEC.format(name=name, version=version, epoch=epoch, arch=arch))
        sh("rpmbuild", "-bb", "--quiet", "--define", f"_topdir {folder}", "--target", arch, spec)
    return sorted(folder.glob("RPMS/*/*.rpm"))


@pytest.fixture(params=["/var/lib/rpm", "/usr/lib/sysimage/rpm"])
def guest(request: pytest.FixtureRequest, tmp_path: Path, packages: list[Path]) -> TreeGuest:
    root = tmp_path / "root"
    root.mkdir()
    database = ["--define", f"_dbpath {request.param}", "--define", "_db_backend sqlite"]
    sh("rpm", "--root", root, *database, "--nodeps", "--ignorearch", "--noscripts", "-i", *packages)
    files = FolderFiles(root)
    files.store(
        "/etc/os-release",
        File(b'ID="almalinux"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.3"\nPRETTY_NAME="AlmaLinux 9.3"\n'),
    )
    if request.param != "/var/lib/rpm":
        (root / "var/lib").mkdir(parents=True, exist_ok=True)
        files.store("/var/lib/rpm", Link("../../usr/lib/sysimage/rpm"))
    return TreeGuest(root, Run(tmp_path))


def test_the_packages_of_an_rpm_guest_are_read(guest: TreeGuest) -> None:
    told = {name: (package.version, package.arch) for name, package in guest.packages.items()}
    assert told == {"chrony": ("2:4.3-1.el9", "all"), "open-vm-tools": ("0:12.2.5-1.el9", "amd64")}


def test_their_files_are_read_without_the_folders_that_hold_them(guest: TreeGuest) -> None:
    assert guest.files_of("open-vm-tools") == {"/etc/open-vm-tools/open-vm-tools.conf", "/usr/lib/open-vm-tools/file"}


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


def test_what_cannot_be_installed_by_now_is_said_with_what_to_do(guest: TreeGuest, tmp_path: Path) -> None:
    run = Run(tmp_path)
    packages = Packages(run, guest, System(guest, run))
    assert packages.plan(("chrony",), ("never-there",), None).install == ()
    with pytest.raises(
        PackagesUnavailable, match=r"AlmaLinux 9\.3 cannot be changed.*install cloud-init; remove open-vm-tools"
    ):
        packages.plan(("cloud-init",), ("open-vm-tools",), None)
