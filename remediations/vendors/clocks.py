"""Whom the guest asks for the time: public servers, and no clock that only one cloud has.

chronyd ends at once where a reference clock's device is missing; a server that never answers leaves the clock alone, and it drifts.
Sources: chrony.conf(5) (server, pool, peer, refclock, confdir, sourcedir, include); ntp.conf(5); timesyncd.conf(5): without NTP= the servers
that it was built with are asked.
"""

import fnmatch
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from migrate.draft import Draft
from migrate.effects import Severity
from migrate.guest import Os
from remediations import ini
from remediations.vendors.catalogue import Time, Vendor

ASKING = frozenset({"server", "pool", "peer"})
LOCAL = "127.127."
"""ntpd's names of clocks in the machine itself. Source: ntp.conf(5), "Reference Clock Support"."""
POOLS = {"amzn": "amazon", "sles": "opensuse", "sles_sap": "opensuse"}
ZONES = frozenset({"debian", "centos", "rhel", "fedora", "rocky", "almalinux", "amazon", "opensuse", "arch", "gentoo"})
"""Distributions that have servers of their own in the pool: ntppool.org, "vendor zones"."""
WHY = "asks for the time where only the old cloud answers"


@dataclass(frozen=True, slots=True)
class Service:
    """A program that sets the clock. `files` are all that it reads; `line` is how it is told of a public server."""

    name: str
    files: tuple[str, ...]
    line: str


CHRONY = Service(
    "chrony",
    (
        "/etc/chrony.conf",
        "/etc/chrony/chrony.conf",
        "/etc/chrony.d/*",
        "/etc/chrony/conf.d/*.conf",
        "/etc/chrony/sources.d/*.sources",
    ),
    "pool {} iburst",
)
NTPD = Service(
    "ntpd",
    ("/etc/ntp.conf", "/etc/ntp.d/*.conf", "/etc/ntpsec/ntp.conf", "/etc/ntpsec/ntp.d/*.conf"),
    "server {} iburst",
)
TIMESYNCD = ("/etc/systemd/timesyncd.conf", "/etc/systemd/timesyncd.conf.d/*.conf")


def ask_public_servers(draft: Draft, vendors: Sequence[Vendor]) -> None:
    """No program asks a clock of a vendor's; one that has no other server asks the distribution's."""
    for service in (CHRONY, NTPD):
        asked = paths(draft, service, vendors)
        missing = bool(asked) and not any(map(sources, _without(draft, service, vendors)))
        line = service.line.format(pool(draft.os)) if missing else ""
        for path in asked:
            here = line if path == asked[0] else ""
            draft.edit(path, _asking(here, vendors), why=WHY + ", and nothing else is asked" * bool(here))
        if missing:
            draft.find(
                "TIME-001",
                f"{service.name} had no other source of time than the old cloud's; it asks {line.split()[1]} instead.",
                remedy="Let UDP port 123 out in the security group, or name servers of your own.",
                severity=Severity.NOTE,
            )
    for path in _files(draft, TIMESYNCD):
        draft.edit(path, lambda text: without_servers(text, vendors), why=WHY)


def paths(draft: Draft, service: Service, vendors: Sequence[Vendor]) -> tuple[str, ...]:
    """Return a program's files that name a clock of a vendor's."""
    return tuple(
        path for path in _files(draft, service.files) if without_clocks(text := draft.read(path) or "", vendors) != text
    )


def asking(draft: Draft, vendor: Vendor) -> tuple[str, ...]:
    """Return all files that name a clock of the vendor's."""
    told = (
        path for path in _files(draft, TIMESYNCD) if without_servers(text := draft.read(path) or "", (vendor,)) != text
    )
    return (*paths(draft, CHRONY, (vendor,)), *paths(draft, NTPD, (vendor,)), *told)


def without_clocks(text: str, vendors: Sequence[Vendor]) -> str:
    """Return a chrony.conf or ntp.conf without lines that name a vendor's server or device."""
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if not any(_is_of(line.split(), vendor.time) for vendor in vendors))


def without_servers(text: str, vendors: Sequence[Vendor]) -> str:
    """Return a timesyncd.conf without a vendor's servers; a setting that names no other goes."""
    parts = []
    for entry in ini.entries(text, continued=True):
        words = entry.value.split() if entry.key in ("NTP", "FallbackNTP") else []
        kept = [word for word in words if not any(_is_host(word, vendor.time) for vendor in vendors)]
        if kept == words:
            parts.append(entry.raw)
        elif kept:
            parts.append(f"{entry.key}={' '.join(kept)}\n")
    return "".join(parts)


def sources(text: str) -> tuple[str, ...]:
    """Return what a chrony.conf or ntp.conf asks for the time."""
    lines = [line.split() for line in text.splitlines()]
    return tuple(
        words[1]
        for words in lines
        if len(words) > 1 and words[0].lower() in {*ASKING, "refclock"} and not words[1].startswith(LOCAL)
    )


def pool(os: Os) -> str:
    """Return the public server of a guest's distribution."""
    if os.id == "ubuntu":
        return "ntp.ubuntu.com"
    zone = POOLS.get(os.id, "opensuse" if os.family == "suse" else os.id)
    if zone in ZONES:
        return f"2.{zone}.pool.ntp.org"
    return "2.debian.pool.ntp.org" if os.family == "debian" else "2.pool.ntp.org"


def _files(draft: Draft, patterns: Sequence[str]) -> tuple[str, ...]:
    return tuple(path for pattern in patterns for path in draft.glob(pattern) if draft.file(path) is not None)


def _is_of(words: Sequence[str], time: Time) -> bool:
    match [word.lower() for word in words]:
        case [directive, host, *_] if directive in ASKING:
            return _is_host(host, time)
        case ["refclock", _, device, *_]:
            return any(fnmatch.fnmatchcase(device.partition(":")[0], pattern) for pattern in time.devices)
    return False


def _is_host(word: str, time: Time) -> bool:
    return any(fnmatch.fnmatchcase(word.lower(), pattern) for pattern in time.hosts)


def _without(draft: Draft, service: Service, vendors: Sequence[Vendor]) -> tuple[str, ...]:
    """Return what a program's files will say."""
    return tuple(without_clocks(draft.read(path) or "", vendors) for path in _files(draft, service.files))


def _asking(line: str, vendors: Sequence[Vendor]) -> Callable[[str], str]:
    """Return what makes of a file one without the vendors' clocks, and with a line more."""

    def changed(text: str) -> str:
        kept = without_clocks(text, vendors)
        return kept + "\n" * bool(line and kept and not kept.endswith("\n")) + f"{line}\n" * bool(line)

    return changed
