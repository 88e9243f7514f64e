"""What the boot loaders of a guest start: GRUB 2, entries of the Boot Loader Specification, old GRUB, syslinux.

Paths in menus are those of the file system that the loader reads (a /boot of its own, an EFI system partition, a btrfs subvolume); here they
are the guest's.

Sources: GRUB manual, "saved_entry"; The Boot Loader Specification, "Sorting"; blscfg in Fedora's GRUB; loader.conf(5); syslinux's doc/syslinux.txt.
"""

import fnmatch
import re
from collections.abc import Iterator
from dataclasses import dataclass

from migrate import grub_menu
from migrate.draft import Draft

MENUS = ("/boot/grub/grub.cfg", "/boot/grub2/grub.cfg", "/boot/efi/EFI/*/grub.cfg", "/efi/EFI/*/grub.cfg")
ENVIRONMENTS = ("/boot/grub/grubenv", "/boot/grub2/grubenv", "/boot/efi/EFI/*/grubenv", "/efi/EFI/*/grubenv")
OLD_MENUS = ("/boot/grub/grub.conf", "/boot/grub/menu.lst", "/boot/efi/EFI/redhat/grub.conf")
"""menu.lst is a link to grub.conf on Red Hat's systems."""
LOADERS = ("/boot/loader", "/boot/efi/loader", "/efi/loader")
SYSLINUX = ("/boot/extlinux.conf", "/boot/extlinux/extlinux.conf", "/boot/syslinux/syslinux.cfg")

FILE_SYSTEMS = ("", "/boot", "/boot/efi", "/efi")
"""Where what a loader reads is mounted."""
MICROCODE = re.compile(r"(^|/)[^/]*ucode[^/]*$")


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that a loader can start. `linux` and `initrds` are paths in the guest; None, and left out, where nothing is there.

    `starts` says whether it is started without anybody's choice. `version` is what the entry itself says.
    """

    linux: str | None
    initrds: tuple[str, ...]
    starts: bool
    version: str = ""


def entries(draft: Draft) -> tuple[Entry, ...]:
    """Return the entries of every loader that has left a menu, those of GRUB 2 first."""
    return (*_of_grub(draft), *_of_loader_entries(draft), *_of_old_grub(draft), *_of_syslinux(draft))


def defaults(draft: Draft) -> frozenset[str]:
    """Return the images that are started without anybody's choice, one for a single boot included. Empty where that cannot be told.

    Each loader's default counts: which of them the firmware starts is not in the guest's files.
    """
    return frozenset(each.linux for each in entries(draft) if each.starts and each.linux is not None)


def saved_entries(draft: Draft) -> tuple[str, ...]:
    """Return what GRUB remembers: the entry for one boot only, then the one for all."""
    found: dict[str, str] = {}
    for pattern in ENVIRONMENTS:
        for path in draft.glob(pattern):
            found |= grub_menu.environment(draft.read(path) or "")
    return tuple(filter(None, (found.get("next_entry"), found.get("saved_entry"))))


def version_key(version: str) -> tuple[tuple[int, str], ...]:
    """Order versions by their numbers: 6.1.0-9 comes before 6.1.0-21."""
    words = "".join(char if char.isdigit() else f" {char} " for char in version).split()
    return tuple((int(word), "") if word.isdigit() else (-1, word) for word in words)


def _of_grub(draft: Draft) -> Iterator[Entry]:
    saved = saved_entries(draft)
    for pattern in MENUS:
        for path in draft.glob(pattern):
            text = draft.read(path) or ""
            found = tuple(grub_menu.entries(text, _loaded(draft, text)))
            choices = {grub_menu.wanted(text, word) for word in saved or ("",)}
            chosen = [each for each in found if any(each.is_named(choice) for choice in choices)] or found[:1]
            for each in found:
                yield _entry(draft, each.linux, each.initrds, starts=each in chosen)


def _loaded(draft: Draft, text: str) -> dict[str, str]:
    """Photon names its kernel in a file of variables beside grub.cfg."""
    known: dict[str, str] = {}
    for name in grub_menu.loaded_files(text):
        path = _in_guest(draft, name)
        known |= grub_menu.environment(draft.read(path) or "") if path else {}
    return known


def _of_loader_entries(draft: Draft) -> Iterator[Entry]:
    """Newest first, as GRUB's blscfg and systemd-boot sort them."""
    for folder in LOADERS:
        texts = {
            path.rpartition("/")[2].removesuffix(".conf"): draft.read(path) or ""
            for path in draft.glob(f"{folder}/entries/*.conf")
        }
        found = [(name, _Fields.of(texts[name])) for name in sorted(texts, key=version_key, reverse=True)]
        chosen = _chosen(draft, folder, found)
        for name, fields in found:
            yield _entry(draft, fields.linux, fields.initrds, starts=name in chosen, version=fields.version)


@dataclass(frozen=True, slots=True)
class _Fields:
    """What an entry of the Boot Loader Specification says."""

    linux: str | None
    initrds: tuple[str, ...]
    version: str
    title: str

    @classmethod
    def of(cls, text: str) -> "_Fields":
        fields = dict(re.findall(r"^(linux|version|title)[ \t]+(\S.*?)\s*$", text, re.MULTILINE))
        initrds = re.findall(r"^initrd[ \t]+(\S.*?)\s*$", text, re.MULTILINE)
        words = tuple(word for each in initrds for word in each.split())
        return cls(fields.get("linux"), words, fields.get("version", ""), fields.get("title", ""))


def _chosen(draft: Draft, folder: str, found: list[tuple[str, _Fields]]) -> list[str]:
    """What GRUB remembers, an id, a title or a number; or what loader.conf's pattern matches; else the first."""
    wanted = saved_entries(draft)
    chosen = [name for name, fields in found if name in wanted or fields.title in wanted]
    chosen += [found[int(word)][0] for word in wanted if word.isdecimal() and int(word) < len(found)]
    pattern = re.search(r"^default[ \t]+(\S+)", draft.read(f"{folder}/loader.conf") or "", re.MULTILINE)
    if pattern is not None:
        chosen += [name for name, _ in found if pattern[1] == name or fnmatch.fnmatchcase(f"{name}.conf", pattern[1])][
            :1
        ]
    return chosen or [name for name, _ in found[:1]]


def _of_old_grub(draft: Draft) -> Iterator[Entry]:
    seen = set()
    for path in OLD_MENUS:
        text = draft.read(path) or ""
        if text in seen:
            continue
        seen.add(text)
        found = grub_menu.old_entries(text)
        starting = grub_menu.old_default(text, draft.read("/boot/grub/default") or "")
        for each in found:
            yield _entry(draft, each.linux, each.initrds, starts=each.path[0] in starting)


def _of_syslinux(draft: Draft) -> Iterator[Entry]:
    for path in SYSLINUX:
        text = draft.read(path) or ""
        default = re.search(r"^\s*(?:default|ontimeout)\s+(\S+)", text, re.MULTILINE | re.IGNORECASE)
        blocks = re.split(r"^\s*label\s+", text, flags=re.MULTILINE | re.IGNORECASE)[1:]
        labels = [block.split("\n", 1)[0].strip() for block in blocks]
        marked = [
            label
            for label, block in zip(labels, blocks, strict=True)
            if re.search(r"(?im)^\s*menu\s+default\s*$", block)
        ]
        chosen = marked or [label for label in labels if default is not None and label == default[1]] or labels[:1]
        for label, block in zip(labels, blocks, strict=True):
            linux = re.search(r"(?im)^\s*(?:linux|kernel)\s+(\S+)", block)
            initrd = re.search(r"(?im)^\s*initrd\s+(\S+)|\sinitrd=(\S+)", block)
            names = (initrd[1] or initrd[2]).split(",") if initrd else ()
            yield _entry(
                draft,
                _beside(path, linux[1]) if linux else None,
                tuple(_beside(path, name) for name in names),
                starts=label in chosen,
            )


def _beside(path: str, name: str) -> str:
    return name if name.startswith("/") else f"{path.rpartition('/')[0]}/{name}"


def _entry(draft: Draft, linux: str | None, initrds: tuple[str, ...], *, starts: bool, version: str = "") -> Entry:
    named = (name for name in initrds if not MICROCODE.search(name) and "$" not in name)
    found = tuple(path for path in (_in_guest(draft, name) for name in named) if path is not None)
    return Entry(None if linux is None else _in_guest(draft, linux), found, starts, version)


def _in_guest(draft: Draft, name: str) -> str | None:
    """Return where a loader's path is in the guest: "(hd0,1)/@/boot/vmlinuz" may be /boot/vmlinuz."""
    name = re.sub(r"^\([^)]*\)", "", name)
    parts = name.strip("/").split("/")
    for skipped in range(len(parts)):
        inner = "/".join(parts[skipped:])
        for above in FILE_SYSTEMS:
            if draft.exists(path := f"{above}/{inner}"):
                return draft.real(path, last=True)
    return None
