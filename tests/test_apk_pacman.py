"""Alpine's and Arch's package databases, as text: neither apk nor pacman is among Debian's packages."""

import pytest

from migrate.errors import PackagesUnavailable
from migrate.guest import File, Folder, Link, Packaging
from migrate.guests import apk, pacman
from migrate.guests.memory import MemoryGuest
from migrate.guests.system import packaging_of, read_installed
from migrate.run import Run

INSTALLED = """\
C:Q1gGK8FQ3QJQ7mCBfW4gQ=
P:musl
V:1.2.4-r2
A:x86_64
p:so:libc.musl-x86_64.so.1=1
F:lib
R:ld-musl-x86_64.so.1
a:0:0:755

P:busybox
V:1.36.1-r5
A:x86_64
D:so:libc.musl-x86_64.so.1
p:/bin/sh cmd:sh=1.36.1-r5
F:bin
R:busybox

P:open-vm-tools
V:12.3.0-r0
A:x86_64
D:libdnet fuse3>=3.10 so:libc.musl-x86_64.so.1 !open-vm-tools-old
p:cmd:vmtoolsd=12.3.0-r0
F:etc/vmware-tools
R:tools.conf
Z:Q1xyz
F:usr/bin
R:vmtoolsd

P:open-vm-tools-openrc
V:12.3.0-r0
A:noarch
i:openrc open-vm-tools=12.3.0-r0
F:etc/init.d
R:open-vm-tools

P:openrc
V:0.48-r0
A:x86_64
D:/bin/sh

P:libdnet
V:1.17.0-r0
A:x86_64

P:fuse3
V:3.16.1-r0
A:x86_64

P:vm-monitor
V:1-r0
A:noarch
D:cmd:vmtoolsd
"""
WORLD = "busybox\nopenrc\nopen-vm-tools\nfuse3\nvm-monitor\n"


class Texts(MemoryGuest):
    def texts(self, path: str, suffix: str) -> dict[str, str]:
        return {}


def alpine(world: str = WORLD) -> Texts:
    return Texts(
        {
            "/etc/os-release": File(b"ID=alpine\n"),
            "/lib/apk/db/installed": File(INSTALLED.encode()),
            "/etc/apk/world": File(world.encode()),
        }
    )


def test_alpine_s_packages_and_their_files_are_read(run: Run) -> None:
    guest = alpine()
    found = read_installed(guest, run, "amd64")
    assert packaging_of(guest) is Packaging.APK
    assert found.packages["open-vm-tools"].version == "12.3.0-r0"
    assert found.packages["open-vm-tools-openrc"].arch == "all"
    assert found.files_of("open-vm-tools") == {"/etc/vmware-tools/tools.conf", "/usr/bin/vmtoolsd"}


def removal(run: Run, *names: str, world: str = WORLD) -> list[str]:
    guest = alpine(world)
    packages = read_installed(guest, run, "amd64").packages
    return [package.name for package in apk.World(guest).plan(packages, remove=names).remove]


def test_with_a_package_goes_what_needs_it_and_what_only_it_needed(run: Run) -> None:
    """apk knows no other way: fuse3 stays because it was asked for, libdnet was not."""
    assert removal(run, "open-vm-tools") == ["libdnet", "open-vm-tools", "open-vm-tools-openrc", "vm-monitor"]
    assert removal(run, "vm-monitor") == ["vm-monitor"]
    assert removal(run, "nowhere") == []


@pytest.mark.parametrize("package", ["musl", "busybox", "openrc"])
def test_alpine_itself_is_not_removed(run: Run, package: str) -> None:
    with pytest.raises(PackagesUnavailable, match=rf"removing {package} would take .*{package}.* along"):
        removal(run, package)


def test_that_nothing_can_be_installed_on_alpine_is_said_with_what_to_do(run: Run) -> None:
    guest = alpine()
    packages = read_installed(guest, run, "amd64").packages
    with pytest.raises(PackagesUnavailable, match=r"cloud-init cannot be installed from here.*`apk add cloud-init`"):
        apk.World(guest).plan(packages, install=["cloud-init", "busybox"])
    assert apk.World(guest).plan(packages, install=["busybox"]).remove == ()


def test_arch_s_packages_and_their_files_are_read(run: Run) -> None:
    described = "%NAME%\nopen-vm-tools\n\n%VERSION%\n6:12.3.5-1\n\n%ARCH%\nx86_64\n\n%DEPENDS%\nlibdnet\n"
    listed = "%FILES%\nusr/\nusr/bin/\nusr/bin/vmtoolsd\n\n%BACKUP%\netc/vmware-tools/tools.conf\tabc\n"
    guest = Texts(
        {
            "/var/lib/pacman/local/open-vm-tools-6:12.3.5-1/desc": File(described.encode()),
            "/var/lib/pacman/local/open-vm-tools-6:12.3.5-1/files": File(listed.encode()),
            "/var/lib/pacman/local/ALPM_DB_VERSION": File(b"9\n"),
            "/var/lib/pacman/local/broken-1/desc": File(b"%NAME%\n"),
            "/bin": Link("usr/bin"),
            "/usr/bin": Folder(),
        }
    )
    found = read_installed(guest, run, "amd64")
    assert packaging_of(guest) is Packaging.PACMAN
    assert {name: (each.version, each.arch) for name, each in found.packages.items()} == {
        "open-vm-tools": ("6:12.3.5-1", "amd64")
    }
    assert found.files_of("open-vm-tools") == {"/usr/bin/vmtoolsd"}
    assert pacman.sections("") == {}


def test_a_guest_without_a_package_database_has_no_packages(run: Run) -> None:
    guest = Texts({"/etc/os-release": File(b"ID=buildroot\n")})
    assert packaging_of(guest) is Packaging.NONE
    assert read_installed(guest, run, "amd64").packages == {}


def test_the_database_counts_and_not_the_id(run: Run) -> None:
    status = b"Package: bash\nStatus: install ok installed\nVersion: 5\nArchitecture: amd64\n"
    guest = Texts({"/etc/os-release": File(b"ID=rhel\n"), "/var/lib/dpkg/status": File(status)})
    assert packaging_of(guest) is Packaging.DPKG
    assert list(read_installed(guest, run, "amd64").packages) == ["bash"]
