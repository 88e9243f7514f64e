"""Which kernel GRUB starts when nobody touches a key.

Sources: GRUB manual, "default", "saved_entry", "menuentry"; The Boot Loader Specification, "Sorting"; blscfg in Fedora's GRUB.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from migrate.draft import Draft
from remediations.kernels import version_key

TITLE = re.compile(r"""^\s*(menuentry|submenu)\s+(?:'([^']*)'|"([^"]*)"|(\S+))(.*)\{\s*$""")
IDENTITY = re.compile(r"""(?:--id[= ]|\$menuentry_id_option\s+)['"]?([^'"\s]+)""")
LINUX = re.compile(r"^\s*linux(?:16|efi)?\s+(\S+)")
DEFAULT = re.compile(r"""^\s*set\s+default="?([^"\s]*)"?\s*$""")
VERSION = re.compile(r"/vmlinu[xz]-([^/\s]+)$")


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the menu; `path` is its number in each menu down to it, `linux` the kernel that it loads."""

    path: tuple[int, ...]
    names: tuple[tuple[str, ...], ...]
    linux: str | None

    def is_named(self, wanted: tuple[str, ...]) -> bool:
        """Whether each step, a number, a title or an id, leads here."""
        steps = zip(wanted, self.path, self.names, strict=False)
        return len(wanted) == len(self.path) and all(
            step == str(number) or step in names for step, number, names in steps
        )


def default_kernel(draft: Draft) -> str | None:
    """Return the version of the kernel that is started by default; None where it cannot be told."""
    for folder in ("/boot/grub", "/boot/grub2"):
        text = draft.read(f"{folder}/grub.cfg")
        if text is None:
            continue
        saved = _saved_entry(draft.read(f"{folder}/grubenv") or "")
        if re.search(r"^\s*blscfg\b", text, re.MULTILINE):
            return _version(_default_of_entries(draft, saved))
        found = tuple(entries(text))
        chosen = next((entry for entry in found if entry.is_named(_wanted(text, saved))), None)
        return _version(chosen.linux if chosen else next((entry.linux for entry in found), None))
    return None


def entries(text: str) -> Iterator[Entry]:
    """Yield the entries of a grub.cfg in order, those in submenus too."""
    counts = [0]
    menus: list[tuple[int, tuple[str, ...]]] = []
    inside: list[tuple[str, ...]] = []
    linux: str | None = None
    for line in text.splitlines():
        title = TITLE.match(line)
        if title is not None:
            names = (title[2] or title[3] or title[4] or "", *IDENTITY.findall(title[5]))
            if title[1] == "submenu":
                menus.append((counts[-1], names))
                counts.append(0)
            else:
                inside, linux = [names], None
        elif inside and (match := LINUX.match(line)):
            linux = linux or match[1]
        elif line.strip() == "}" and inside:
            path = (*(number for number, _ in menus), counts[-1])
            yield Entry(path, (*(names for _, names in menus), *inside), linux)
            counts[-1] += 1
            inside = []
        elif line.rstrip() == "}" and menus:
            menus.pop()
            counts.pop()
            counts[-1] += 1


def _wanted(text: str, saved: str) -> tuple[str, ...]:
    """`set default=` is there several times: for a one-time choice, and for all other boots, which is the last."""
    words = [match[1] for match in map(DEFAULT.match, text.splitlines()) if match]
    last = next((word for word in reversed(words) if word != "${next_entry}"), "0")
    if last == "${saved_entry}":
        last = saved or "0"
    return tuple(last.split(">"))


def _default_of_entries(draft: Draft, saved: str) -> str | None:
    found = {}
    for path in draft.glob("/boot/loader/entries/*.conf"):
        linux = re.search(r"^linux\s+(\S+)", draft.read(path) or "", re.MULTILINE)
        found[path.rpartition("/")[2].removesuffix(".conf")] = linux[1] if linux else None
    if saved in found:
        return found[saved]
    newest = max(found, key=version_key, default=None)
    return found[newest] if newest is not None else None


def _saved_entry(environment: str) -> str:
    match = re.search(r"^saved_entry=(.*)$", environment, re.MULTILINE)
    return match[1].strip() if match else ""


def _version(image: str | None) -> str | None:
    match = VERSION.search(image or "")
    return match[1] if match else None
