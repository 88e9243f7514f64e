"""What the builders of an initramfs would put into one, imitated as far as their configuration decides it: for guests in memory.

Sources: initramfs.conf(5), initramfs-tools(7); dracut.conf(5); mkinitrd(8) of SUSE and of RHEL 5; mkinitfs(1) and its features.d; mkinitcpio(8),
its hooks block and autodetect.
"""

import re
from collections.abc import Iterator

from migrate.guest import File, Kind
from migrate.guests.paths import Files
from migrate.initramfs_builder import Builder
from migrate.initramfs_builder import Kind as BuilderKind
from migrate.kernels import Kernel

SCSI = frozenset({"sd_mod", "mptspi", "vmw_pvscsi", "hv_storvsc"})
"""What Alpine's feature "scsi" holds, of the modules that our guests have."""


def asked_for(files: Files, build: Builder, command: list[str], kernel: Kernel, held: frozenset[str]) -> frozenset[str]:
    """Return the modules that the builder is asked for, by its configuration and its command; what they need comes along.

    `held` are those in the initramfs that the machine has started with: what a builder finds in use.
    """
    have = frozenset(kernel.modules)
    match build.kind:
        case BuilderKind.INITRAMFS_TOOLS:
            named = _initramfs_tools(files)
            return have & (have if named is None else named | held)
        case BuilderKind.DRACUT:
            text = _joined(files, "/etc/dracut.conf", "/etc/dracut.conf.d")
            omitted = _words(text, r"omit_drivers\+?=\"([^\"]*)\"")
            everything = "--no-hostonly" in command or not re.search(r"hostonly=\"?yes", text)
            added = _words(text, r"(?:add|force)_drivers\+=\"([^\"]*)\"")
            return have & ((have if everything else added | held) - omitted)
        case BuilderKind.SUSE_MKINITRD:
            return have & _words(_joined(files, "/etc/sysconfig/kernel"), r"(?m)^INITRD_MODULES=[\"']([^\"']*)[\"']")
        case BuilderKind.RED_HAT_MKINITRD:
            aliases = _words(_joined(files, "/etc/modprobe.conf"), r"(?m)^alias\s+scsi_hostadapter\w*\s+(\S+)")
            return have & (
                aliases | {word.partition("=")[2] for word in command if word.startswith(("--preload", "--with"))}
            )
        case BuilderKind.MKINITFS:
            features = _words(_joined(files, "/etc/mkinitfs/mkinitfs.conf"), r"(?m)^features=[\"']([^\"']*)[\"']")
            families = {name for name in have if any(name.startswith(feature) for feature in features)}
            return have & (families | (SCSI if "scsi" in features else frozenset()))
        case BuilderKind.MKINITCPIO:
            text = _joined(files, "/etc/mkinitcpio.conf")
            hooks = _words(text, r"(?m)^HOOKS=[(\"']([^)\"']*)[)\"']")
            listed = _words(text, r"(?m)^MODULES=[(\"']([^)\"']*)[)\"']")
            found = held if "autodetect" in hooks and "-S" not in command else have
            return have & (listed | (found if "block" in hooks else frozenset()))


def _initramfs_tools(files: Files) -> frozenset[str] | None:
    """Return the modules that are named; None where most are taken."""
    text = _joined(files, "/etc/initramfs-tools/initramfs.conf", "/etc/initramfs-tools/conf.d")
    if re.findall(r"^MODULES=(\w+)", f"MODULES=most\n{text}", re.MULTILINE)[-1] == "most":
        return None
    lists = _joined(files, "/etc/initramfs-tools/modules", "/usr/share/initramfs-tools/modules.d")
    lines = (line.split() for line in lists.splitlines() if not line.lstrip().startswith("#"))
    return frozenset(words[0].replace("-", "_") for words in lines if words)


def _words(text: str, pattern: str) -> frozenset[str]:
    return frozenset(word for found in re.findall(pattern, text) for word in found.split())


def _joined(files: Files, *paths: str) -> str:
    return "\n".join(text for path in paths for text in _texts(files, path))


def _texts(files: Files, path: str) -> Iterator[str]:
    match files.kind(path):
        case Kind.FILE:
            entry = files.load(path)
            yield entry.text if isinstance(entry, File) else ""
        case Kind.FOLDER:
            for name in files.names(path):
                yield from _texts(files, f"{path}/{name}")
