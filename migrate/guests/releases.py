"""Who a guest says it is: os-release(5), and what came before it, as on CentOS 6, SLES 11, Debian 6 and Ubuntu 10.04.

Sources: os-release(5); lsb_release(1), /etc/lsb-release; the release files that each distribution's own package brings.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

OS_RELEASE = ("/etc/os-release", "/usr/lib/os-release")
ORACLE = "/etc/oracle-release"
RED_HAT = "/etc/redhat-release"
SUSE = "/etc/SuSE-release"
LSB = "/etc/lsb-release"
DEBIAN = "/etc/debian_version"
RELEASE_FILES = (*OS_RELEASE, ORACLE, RED_HAT, SUSE, LSB, DEBIAN)

RED_HATS = {
    "CentOS": ("centos", ("rhel", "fedora")),
    "Red Hat": ("rhel", ("fedora",)),
    "Oracle": ("ol", ("rhel", "fedora")),
    "Enterprise Linux": ("ol", ("rhel", "fedora")),
    "Scientific": ("scientific", ("rhel", "fedora")),
    "Fedora": ("fedora", ()),
}


@dataclass(frozen=True, slots=True)
class Release:
    """The fields of os-release(5) that matter here."""

    id: str
    id_like: tuple[str, ...] = ()
    version_id: str = ""
    codename: str = ""
    pretty: str = ""


def release(read: Callable[[str], str | None]) -> Release | None:
    """Return who the guest is by the first release file that it has; None where it has none. `read` gives a file's text."""
    for path in RELEASE_FILES:
        text = read(path)
        if text is not None:
            return _release(path, text)
    return None


def _release(path: str, text: str) -> Release:
    values = assignments(text)
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    if path in OS_RELEASE:
        return Release(
            values.get("ID", "linux"),
            tuple(values.get("ID_LIKE", "").split()),
            values.get("VERSION_ID", ""),
            values.get("VERSION_CODENAME", "") or values.get("UBUNTU_CODENAME", ""),
            values.get("PRETTY_NAME", ""),
        )
    if path in (ORACLE, RED_HAT):
        name, like = next((found for word, found in RED_HATS.items() if line.startswith(word)), ("linux", ("rhel",)))
        version = re.search(r"release (\d+(?:\.\d+)*)", line)
        return Release(name, like, version[1] if version else "", pretty=line)
    if path == SUSE:
        numbers = dict(re.findall(r"^(VERSION|PATCHLEVEL)\s*=\s*([\d.]+)", text, re.MULTILINE))
        version_id = ".".join(filter(None, (numbers.get("VERSION"), numbers.get("PATCHLEVEL"))))
        return Release("opensuse" if "openSUSE" in line else "sles", ("suse",), version_id, pretty=line)
    if path == LSB:
        words = {key: values.get(f"DISTRIB_{key}", "") for key in ("ID", "RELEASE", "CODENAME", "DESCRIPTION")}
        like = ("debian",) if words["ID"] in ("Ubuntu", "LinuxMint") else ()
        return Release(words["ID"].lower() or "linux", like, words["RELEASE"], words["CODENAME"], words["DESCRIPTION"])
    return Release("debian", (), line, pretty=f"Debian GNU/Linux {line}")


def assignments(text: str) -> dict[str, str]:
    """Return the assignments of a file in the form of os-release(5), quotes taken off."""
    found = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and not name.startswith("#"):
            found[name] = value[1:-1] if value[:1] in ("'", '"') and value[-1:] == value[:1] else value
    return found
