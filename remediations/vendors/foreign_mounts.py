"""Disks that a cloud lends to a machine while it runs, and folders of its host: they do not come along, and neither does what is on them.

Sources: fstab(5); systemd.mount(5): what is in fstab and does not appear ends the boot in an emergency shell, unless it says nofail.
"""

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from migrate.draft import Draft
from migrate.effects import Severity
from remediations.fstab import FSTAB, NEEDED, WHO, Mount
from remediations.mount_table import Row, rewritten, rows
from remediations.vendors.catalogue import Mounts, Vendor


@dataclass(frozen=True, slots=True)
class Claim:
    """A line of fstab with the vendors whose it may be: cloud-init writes the same one in two clouds."""

    mount: Mount
    vendors: tuple[Vendor, ...]
    whys: tuple[str, ...]

    @property
    def names(self) -> str:
        return " or ".join(vendor.name for vendor in self.vendors)

    @property
    def why(self) -> str:
        return self.whys[0] if len(self.vendors) == 1 else f"mounts what {self.names} only lends"


def forget(draft: Draft, vendors: Sequence[Vendor]) -> None:
    """No line of fstab mounts what only a vendor's machines have, or needs a file on it. The lines become comments that say who and why."""
    for claim in claims(draft, vendors):
        _tell(draft, claim)
        _give_up(draft, frozenset({claim.mount.row.line}), claim.why)
        needing = needing_files_on(draft.read(FSTAB) or "", claim.mount)
        lines = frozenset(mount.row.line for mount in needing)
        _give_up(draft, lines, f"needs what was on {claim.mount.file}, which does not come along")


def claims(draft: Draft, vendors: Sequence[Vendor]) -> tuple[Claim, ...]:
    """Return the lines of fstab that are vendors'. What the system cannot do without never is, nor is a file that comes along."""
    found = []
    for mount in map(Mount, rows(draft.read(FSTAB) or "")):
        groups = [(vendor, group) for vendor in vendors for group in vendor.fstab if _is_meant(mount, group)]
        if groups and mount.file not in NEEDED and not _comes_along(draft, mount):
            of = tuple({vendor.code: vendor for vendor, _ in groups}.values())
            found.append(Claim(mount, of, tuple(group.why for _, group in groups)))
    return tuple(found)


def needing_files_on(text: str, gone: Mount) -> tuple[Mount, ...]:
    """Return the lines whose device is a file or folder on a mount that is given up: swap files, bind mounts, images."""
    if not gone.file.startswith("/"):
        return ()
    left = [mount for mount in map(Mount, rows(text)) if mount.row != gone.row]
    places = [mount.file for mount in left]
    files = (mount for mount in left if mount.file not in NEEDED and mount.spec.startswith("/"))
    return tuple(mount for mount in files if _is_on(mount.spec, gone.file, places))


def _comes_along(draft: Draft, mount: Mount) -> bool:
    """Whether a line names a file that is on the guest's own disk, as a swap file below /mnt is where nothing is mounted there."""
    return not mount.spec.startswith("/dev/") and mount.spec.startswith("/") and draft.exists(mount.spec)


def _is_meant(mount: Mount, group: Mounts) -> bool:
    given = (
        (group.devices, (mount.spec,)),
        (group.mountpoints, (mount.file,)),
        (group.types, (mount.type,)),
        (group.options, mount.options),
    )
    return all(
        any(fnmatch.fnmatchcase(word, pattern) for word in words for pattern in patterns)
        for patterns, words in given
        if patterns
    )


def _is_on(path: str, mountpoint: str, others: Sequence[str]) -> bool:
    """Whether a path is below a mount point, and not below one that is nearer to it."""
    pure = PurePosixPath(path)
    nearer = (other for other in others if other.startswith(mountpoint.rstrip("/") + "/"))
    return (
        pure.is_relative_to(mountpoint)
        and pure != PurePosixPath(mountpoint)
        and not any(map(pure.is_relative_to, nearer))
    )


def _give_up(draft: Draft, lines: frozenset[str], why: str) -> None:
    note = Row(f"{WHO} switched off, because it {why}")
    draft.edit(
        FSTAB,
        lambda text: rewritten(text, lambda row: (note, Row(f"#{row.line}")) if row.line in lines else (row,)),
        why=why,
    )


def _tell(draft: Draft, claim: Claim) -> None:
    mount = claim.mount
    place = "swap space" if mount.type == "swap" else f"mounted on {mount.file}"
    draft.find(
        f"{claim.vendors[0].code}-007",
        f"{mount.spec}, {place}, is {claim.names}'s and does not come along, nor does what was on it.",
        remedy="Give the instance a volume for it, or swap space, where that is still needed.",
        severity=Severity.NOTE,
    )
