"""Which of the file systems that can be read is the guest's root, and how its fstab puts the others together.

Both rooms without an appliance choose so. Where something that they do not read may matter, `Unsuitable` says what, and another room is used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from migrate.errors import GuestError
from migrate.guest import File, Filesystem, Kind, Layout
from migrate.guests.cell import Unsuitable
from migrate.guests.disks import Table, assembled, find_filesystem, fstab_lines, is_root
from migrate.guests.paths import Files
from migrate.guests.refusals import (
    BOOT_CONFIGS,
    ENTRY_FOLDERS,
    OTHER_ROOTS,
    OTHER_SYSTEMS,
    Found,
    no_root,
    not_a_root,
    root_argument,
    several_roots,
)
from migrate.guests.system import os_of
from migrate.source import Firmware

NEEDED = frozenset({"boot", "efi", "etc", "home", "opt", "root", "usr", "var"})
"""Folders at the top whose content repairs look at; what is mounted elsewhere (data) is left alone."""


def is_needed(mountpoint: str) -> bool:
    """Whether repairs look at what is mounted there."""
    return mountpoint == "/" or mountpoint.split("/")[1] in NEEDED


def chosen_root(files: Mapping[str, Files], found: Found, wanted: str | None) -> Filesystem:
    """Return the root; `files` are those of each device that is read here. `wanted` names it where there are several.

    Raise NotMigratable where there is none, or more than one; Unsuitable where it may be on something that is not read here.
    """
    roots = [fs for fs in found.filesystems if fs.device in files and is_root(files[fs.device].kind)]
    boot = found.on_boot_disk.filesystems
    others = [fs for fs in boot if fs.type in OTHER_ROOTS and fs.device not in files]
    volumes_read = any(fs.disk is None for fs in boot)
    others = [fs for fs in others if not (volumes_read and fs.type == "LVM2_member")]
    if wanted is not None:
        named = find_filesystem(found.filesystems, wanted)
        if named in roots:
            return named
        if not others:
            raise not_a_root(wanted, {fs.device: _name(files[fs.device]) for fs in roots})
    elif len(roots) > 1:
        raise several_roots({fs.device: _name(files[fs.device]) for fs in roots})
    elif roots and not _unexplained(files[roots[0].device], others, found.filesystems):
        return roots[0]
    if others:
        raise Unsuitable("its root file system is on " + " or ".join(f"{fs.device} ({fs.type})" for fs in others))
    raise no_root(replace(found, kernels_root=_kernels_root(files, found.filesystems)))


def layout_of(
    files: Mapping[str, Files],
    table: Table,
    filesystems: Sequence[Filesystem],
    root: Filesystem,
    hint: Firmware | None,
) -> Layout:
    """Return the layout as the root's fstab has it. Raise Unsuitable where fstab mounts what was not found, and repairs look there."""
    fstab = fstab_of(files[root.device])
    layout = assembled([table], filesystems, root.device, fstab, hint)
    for line in fstab_lines(fstab):
        here = line.spec.startswith("/dev/") or "=" in line.spec
        wanted = here and line.mountpoint.startswith("/") and line.mountpoint.split("/")[1] in NEEDED
        if wanted and "noauto" not in line.options and find_filesystem(layout.filesystems, line.spec) is None:
            # On a volume of several pieces, perhaps; whatever it is, the appliance has it, and what lies below must not be taken for it.
            raise Unsuitable(f"{line.mountpoint} of the guest is on {line.spec}, which is not read here")
    return layout


def fstab_of(files: Files) -> str:
    entry = files.load("/etc/fstab")
    return entry.text if isinstance(entry, File) else ""


def _unexplained(root: Files, others: Sequence[Filesystem], filesystems: Sequence[Filesystem]) -> bool:
    """Whether there is what may hold a second system: a file system that the root's fstab does not mount and that is not read here."""
    lines = fstab_lines(fstab_of(root))
    mounted = {fs.device for line in lines if (fs := find_filesystem(filesystems, line.spec)) is not None}
    return any(fs.type in OTHER_SYSTEMS and fs.device not in mounted for fs in others)


def _name(files: Files) -> str:
    try:
        found = os_of(files)
    except GuestError:
        return "a Linux system"
    return found.pretty or found.id


def _kernels_root(devices: Mapping[str, Files], filesystems: Sequence[Filesystem]) -> str | None:
    """Return the root that a boot loader here names and that is not here."""
    texts = []
    for files in devices.values():
        entries = [f"{folder}/{name}" for folder in ENTRY_FOLDERS for name in files.names(folder)]
        for path in (*(f"/{config}" for config in BOOT_CONFIGS), *entries):
            if files.kind(path) is Kind.FILE and isinstance(entry := files.load(path), File):
                texts.append(entry.text)
    named = root_argument(texts)
    fs = None if named is None else find_filesystem(filesystems, named)
    return named if fs is None or not fs.on_boot_disk else None
