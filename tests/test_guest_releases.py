"""Who a guest says it is, before os-release(5) too."""

import pytest

from migrate.guest import Kind
from migrate.guests.disks import is_root
from migrate.guests.releases import Release, release


@pytest.mark.parametrize(
    ("path", "text", "found"),
    [
        (
            "/etc/os-release",
            '# x\nID=ol\nID_LIKE="fedora"\nVERSION_ID=\'8.9\'\nPRETTY_NAME="Oracle Linux Server 8.9"\n',
            Release("ol", ("fedora",), "8.9", "", "Oracle Linux Server 8.9"),
        ),
        (
            "/etc/redhat-release",
            "CentOS release 6.10 (Final)\n",
            Release("centos", ("rhel", "fedora"), "6.10", "", "CentOS release 6.10 (Final)"),
        ),
        (
            "/etc/redhat-release",
            "Red Hat Enterprise Linux Server release 5.11 (Tikanga)\n",
            Release("rhel", ("fedora",), "5.11", "", "Red Hat Enterprise Linux Server release 5.11 (Tikanga)"),
        ),
        (
            "/etc/SuSE-release",
            "SUSE Linux Enterprise Server 11 (x86_64)\nVERSION = 11\nPATCHLEVEL = 4\n",
            Release("sles", ("suse",), "11.4", "", "SUSE Linux Enterprise Server 11 (x86_64)"),
        ),
        (
            "/etc/lsb-release",
            'DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE=10.04\nDISTRIB_CODENAME=lucid\nDISTRIB_DESCRIPTION="Ubuntu 10.04.4 LTS"\n',
            Release("ubuntu", ("debian",), "10.04", "lucid", "Ubuntu 10.04.4 LTS"),
        ),
        ("/etc/debian_version", "6.0.10\n", Release("debian", (), "6.0.10", "", "Debian GNU/Linux 6.0.10")),
        ("/etc/redhat-release", "Somebody's Linux\n", Release("linux", ("rhel",), "", "", "Somebody's Linux")),
    ],
)
def test_each_distributions_own_release_file_is_read(path: str, text: str, found: Release) -> None:
    assert release(lambda asked: text if asked == path else None) == found


def test_oracle_is_not_taken_for_red_hat_which_it_says_too() -> None:
    both = {
        "/etc/redhat-release": "Red Hat Enterprise Linux Server release 6.10 (Santiago)\n",
        "/etc/oracle-release": "Oracle Linux Server release 6.10\n",
    }
    found = release(both.get)
    assert found is not None and (found.id, found.version_id) == ("ol", "6.10")


def test_a_guest_without_any_is_not_known() -> None:
    assert release(lambda path: None) is None


def test_a_file_system_with_an_old_release_file_is_a_root() -> None:
    there = {"/etc/redhat-release": Kind.FILE, "/etc/fstab": Kind.FILE}
    assert is_root(lambda path: there.get(path, Kind.MISSING))
    assert not is_root(lambda path: {"/etc/fstab": Kind.FILE}.get(path, Kind.MISSING))
