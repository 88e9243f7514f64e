"""Whether there is room for a new initramfs: in /boot, and where its builder works.

The factors are estimates on the safe side, not measurements: a host-only initramfs grows to that of every machine, and builders unpack it below
/var/tmp, where it takes several times as much.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from migrate.draft import Draft
from migrate.guest import Filesystem
from migrate.initramfs_builder import Builder, Kind
from migrate.text import size
from remediations import initramfs_settings

SPARE = 1 << 20
UNPACKED = 4
WORK = "/var/tmp"  # noqa: S108  (the guest's)

IN_PLACE = frozenset({Kind.DRACUT, Kind.SUSE_MKINITRD, Kind.RED_HAT_MKINITRD})
"""These write over the old image; the others put the new one beside it first."""


@dataclass(frozen=True, slots=True)
class Shortage:
    """A file system with too little room; `needed` and `free` in bytes."""

    mountpoint: str
    needed: int
    free: int
    what: str

    @property
    def text(self) -> str:
        return f"{self.what} needs about {size(self.needed)} on {self.mountpoint}, and {size(self.free)} are free."


def shortages(draft: Draft, build: Builder, images: Mapping[str, int]) -> tuple[Shortage, ...]:
    """Return where images of these paths and present sizes cannot be built anew, on the safe side. Unknown room is taken for enough."""
    needs: dict[Filesystem, int] = {}
    grown: dict[Filesystem, int] = {}
    for path, old in images.items():
        fs = _filesystem(draft, path)
        new = expected(draft, build, old)
        at_once = new - old if build.kind in IN_PLACE else new
        needs[fs] = max(needs.get(fs, 0), grown.get(fs, 0) + at_once)
        grown[fs] = grown.get(fs, 0) + new - old
    found = [_short(fs, need + SPARE, "A new initramfs") for fs, need in needs.items()]
    largest = max((expected(draft, build, old) for old in images.values()), default=0)
    work = _filesystem(draft, WORK)
    found.append(_short(work, largest * UNPACKED + needs.get(work, 0), "Building a new initramfs"))
    return tuple(each for each in found if each is not None)


def expected(draft: Draft, build: Builder, old: int) -> int:
    """Return how large an image will be that is built for every machine, in bytes."""
    factor = 1.1
    if build.kind is Kind.INITRAMFS_TOOLS and initramfs_settings.initramfs_tools_modules(draft) == "dep":
        factor = 4
    elif (build.kind is Kind.DRACUT and initramfs_settings.is_hostonly(draft)) or (
        build.kind is Kind.MKINITCPIO
        and re.search(r"^\s*HOOKS=.*\bautodetect\b", draft.read("/etc/mkinitcpio.conf") or "", re.M)
    ):
        factor = 3
    return int(old * factor)


def _short(fs: Filesystem, needed: int, what: str) -> Shortage | None:
    if fs.free is None or fs.free >= needed:
        return None
    return Shortage(fs.mountpoint or "/", needed, fs.free, what)


def _filesystem(draft: Draft, path: str) -> Filesystem:
    """The one whose mount point is nearest above the path."""
    real = draft.real(path, last=True) or path
    above = [
        fs
        for fs in draft.layout.filesystems
        if fs.on_boot_disk
        and fs.mountpoint
        and fs.mountpoint.startswith("/")
        and f"{real}/".startswith(f"{fs.mountpoint.rstrip('/')}/")
    ]
    return max(above, key=lambda fs: len(fs.mountpoint or ""), default=draft.layout.root_filesystem)
