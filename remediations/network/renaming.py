"""Rules that would give a new card a name under which nothing sets it up: .link files and udev's rules of the operator's.

What names a card by its MAC is the remediation strip-macs's; what names one by its slot or driver matches no card of the new machine's.
Sources: systemd.link(5) ("Name=" counts where no NamePolicy= does), udev(7) ("NAME", a rule goes on behind a backslash).
"""

import fnmatch
import re

from migrate.draft import Draft
from remediations import ini
from remediations.network.model import PATTERNS

LIKELY = ("eth0", "ens3", "enp1s0")
"""What the new card may be called before such a rule is asked."""

_OF_HARDWARE = frozenset(
    {"MACAddress", "PermanentMACAddress", "Path", "Property", "Firmware", "Host", "Virtualization"}
)


def renames_new(text: str) -> str:
    """Return the name that a .link file gives to the new card, "" where it gives none, or one under which the card is set up."""
    found = {(section, key): value for section, key, value in ini.settings(text, continued=True)}
    name = found.get(("Link", "Name"), "")
    matched = {key for section, key in found if section == "Match"}
    if not name or not matched or matched & _OF_HARDWARE or _is_set_up(name):
        return ""
    drivers = found.get(("Match", "Driver"), "*").split()
    names = found.get(("Match", "OriginalName"), "*").split()
    types = found.get(("Match", "Type"), "ether").split()
    hits = (
        any(fnmatch.fnmatchcase("virtio_net", driver) for driver in drivers) and "ether" in types and _may_be_new(names)
    )
    return name if hits else ""


def rules_that_rename(text: str) -> tuple[str, ...]:
    """Return udev's rules, each in one line, that give the new card a name under which nothing sets it up."""
    rules = (line.strip() for line in text.replace("\\\n", " ").splitlines())
    return tuple(rule for rule in rules if not rule.startswith("#") and _renames(rule))


def _renames(rule: str) -> bool:
    name = re.search(r'(?:^|[\s,])NAME:?="([^"]+)"', rule)
    keys = dict(re.findall(r'([A-Z]+(?:\{[^}]*\})?)=="([^"]*)"', rule))
    if name is None or keys.get("SUBSYSTEM") != "net" or _is_set_up(name[1]) or "%" in name[1] or "$" in name[1]:
        return False
    drivers = [keys[key] for key in ("DRIVERS", "ENV{ID_NET_DRIVER}") if key in keys]
    others = set(keys) - {
        "SUBSYSTEM",
        "ACTION",
        "KERNEL",
        "ATTR{type}",
        "ATTR{dev_id}",
        "DRIVERS",
        "ENV{ID_NET_DRIVER}",
    }
    fits = all(fnmatch.fnmatchcase("virtio_net", driver) for driver in drivers)
    return fits and not others and _may_be_new(keys.get("KERNEL", "*").split("|"))


def _may_be_new(patterns: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for name in LIKELY for pattern in patterns)


def _is_set_up(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in PATTERNS)


def forget(draft: Draft) -> None:
    """Nothing gives the new card a name under which it is not set up."""
    for path in draft.glob("/etc/systemd/network/*.link"):
        if name := renames_new(draft.read(path) or ""):
            draft.remove(path, why=f"calls the new card {name}, and what sets it up knows it by the usual names")
    for path in draft.glob("/etc/udev/rules.d/*.rules"):
        if rules_that_rename(draft.read(path) or ""):
            draft.edit(path, without_renames, why="calls the new card something else than what sets it up knows it by")


def without_renames(text: str) -> str:
    """Return udev's rules without those."""
    pieces: list[str] = []
    raw = ""
    for line in text.splitlines(keepends=True):
        raw += line
        if raw.rstrip("\n").endswith("\\") and not raw.lstrip().startswith("#"):
            continue
        if not rules_that_rename(raw):
            pieces.append(raw)
        raw = ""
    return "".join((*pieces, raw))
