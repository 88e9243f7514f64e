"""What stands in the way of writing to the guest: too little room, and files that nobody may change. A write that fails half-way
leaves a guest half repaired, so both are known before.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

from migrate.effects import Edit, Effect, Finding, LayoutEdit, PackageEdit, Removal, Severity
from migrate.guest import Entry, File, Filesystem, Guest, Layout, MakeSwapFile
from migrate.text import size

BLOCK = 4096
MOST_NAMED = 8
SPARE = 1 << 20
"""What a file system needs beside the files themselves: folders' blocks, extents, its journal's reserve."""


def shortages(layout: Layout, effects: Iterable[Effect]) -> Iterator[Finding]:
    """Yield an error for each file system that cannot take what would be written; one whose free space is not known is taken to be able.

    What goes counts for nothing: how much it frees is not known before. A new initramfs is not counted here: what it needs is known to
    those who build it.
    """
    wanted: Counter[str] = Counter()
    for effect in effects:
        for path, count in _writes(effect):
            if (fs := holding(layout, path)) is not None:
                wanted[fs.device] += count
    for fs in layout.filesystems:
        need = wanted[fs.device]
        if fs.free is not None and need > 0 and need + SPARE > fs.free:
            yield Finding(
                "",
                "GUEST-011",
                Severity.ERROR,
                f"{fs.mountpoint} ({fs.device}) has {size(fs.free)} free, and {size(need + SPARE)} are to be written there.",
                f"Free {size(need + SPARE - fs.free)} on {fs.mountpoint} in the source VM (old kernels, caches, logs).",
            )


def immutable(guest: Guest, effects: Iterable[Effect]) -> Iterator[Finding]:
    """Yield a note of the files that are changed although chattr(1) has made them immutable."""
    changed = [
        effect.path for effect in effects if isinstance(effect, Removal) or (isinstance(effect, Edit) and effect.before)
    ]
    found = sorted(guest.immutable(tuple(dict.fromkeys(changed)))) if changed else []
    if found:
        named = ", ".join(found[:MOST_NAMED]) + (
            f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
        )
        yield Finding(
            "",
            "GUEST-017",
            Severity.NOTE,
            f"changed although they were made immutable (chattr +i or +a): {named}",
            "What stays is immutable again afterwards.",
        )


def holding(layout: Layout, path: str) -> Filesystem | None:
    """Return the file system that a path is on; what a data disk holds is not mounted in an image."""
    own = (fs for fs in layout.filesystems if fs.on_boot_disk)
    mounted = [fs for fs in own if fs.mountpoint and fs.mountpoint.startswith("/")]
    above = [fs for fs in mounted if path == fs.mountpoint or path.startswith(f"{(fs.mountpoint or '').rstrip('/')}/")]
    return max(above, key=lambda fs: len(fs.mountpoint or ""), default=None)


def _writes(effect: Effect) -> Iterator[tuple[str, int]]:
    match effect:
        case Edit(path=path, before=before, after=after):
            yield path, _blocks(after) - (_blocks(before) if before is not None else 0)
        case PackageEdit(change=change):
            yield "/usr", change.installed_bytes
            yield "/var/tmp", change.download_bytes  # noqa: S108  (in the guest, while they are installed)
        case LayoutEdit(change=MakeSwapFile(path=path, size=count)):
            yield path, count


def _blocks(entry: Entry) -> int:
    return -(-len(entry.content) // BLOCK) * BLOCK if isinstance(entry, File) else BLOCK
