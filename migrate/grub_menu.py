"""The entries of GRUB's menus as text: a grub.cfg of GRUB 2, a menu.lst of old GRUB.

Sources: GRUB manual, "default", "menuentry", "submenu", "load_env"; GRUB Legacy manual, "Menu Configuration".
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

TITLE = re.compile(r"""^\s*(menuentry|submenu)\s+(?:'([^']*)'|"([^"]*)"|(\S+))(.*)\{\s*$""")
IDENTITY = re.compile(r"""(?:--id[= ]|\$menuentry_id_option\s+)['"]?([^'"\s]+)""")
LINUX = re.compile(r"^\s*linux(?:16|efi)?\s+(\S+)")
INITRD = re.compile(r"^\s*initrd(?:16|efi)?\s+(.+?)\s*$")
DEFAULT = re.compile(r"""^\s*set\s+default="?([^"\s]*)"?\s*$""")
SET = re.compile(r"""^\s*set\s+(\w+)="?([^"\s]*)"?\s*$""", re.MULTILINE)
LOADED = re.compile(r"^\s*load_env\s+(?:-f|--file)\s+(\S+)\s*$", re.MULTILINE)
VARIABLE = re.compile(r"\$\{?(\w+)\}?")
ASSIGNED = re.compile(r"^(\w+)=(.*)$", re.MULTILINE)

OLD_TITLE = re.compile(r"^\s*title\s+(.*?)\s*$")
OLD_LINUX = re.compile(r"^\s*(?:kernel|module)\s+(?:--\S+\s+)*(\S*/?(?:vmlinu|bzImage|linux)\S*)")
OLD_INITRD = re.compile(r"^\s*(?:initrd|module)\s+(\S*/?init\S*)")
OLD_DEFAULT = re.compile(r"^\s*default[\s=]+(\S+)\s*$", re.MULTILINE)
OLD_FALLBACK = re.compile(r"^\s*fallback[\s=]+(\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class MenuEntry:
    """An entry of the menu; `path` is its number in each menu down to it, `linux` and `initrds` what it loads, as GRUB names them."""

    path: tuple[int, ...]
    names: tuple[tuple[str, ...], ...]
    linux: str | None
    initrds: tuple[str, ...] = ()

    def is_named(self, wanted: tuple[str, ...]) -> bool:
        """Whether each step, a number, a title or an id, leads here."""
        steps = zip(wanted, self.path, self.names, strict=False)
        return len(wanted) == len(self.path) and all(
            step == str(number) or step in names for step, number, names in steps
        )


def entries(text: str, variables: Mapping[str, str] | None = None) -> Iterator[MenuEntry]:
    """Yield the entries of a grub.cfg in order, those in submenus too. What files that it loads say is given as `variables`."""
    known = dict(variables or {})
    counts = [0]
    menus: list[tuple[int, tuple[str, ...]]] = []
    inside: list[tuple[str, ...]] = []
    linux: str | None = None
    initrds: tuple[str, ...] = ()
    for line in text.splitlines():
        title = TITLE.match(line)
        if title is not None:
            names = (title[2] or title[3] or title[4] or "", *IDENTITY.findall(title[5]))
            if title[1] == "submenu":
                menus.append((counts[-1], names))
                counts.append(0)
            else:
                inside, linux, initrds = [names], None, ()
        elif inside and (match := LINUX.match(line)):
            linux = linux or expanded(match[1], known)
        elif inside and (match := INITRD.match(line)):
            initrds += tuple(expanded(word, known) for word in match[1].split())
        elif line.strip() == "}" and inside:
            path = (*(number for number, _ in menus), counts[-1])
            yield MenuEntry(path, (*(names for _, names in menus), *inside), linux, initrds)
            counts[-1] += 1
            inside = []
        elif line.rstrip() == "}" and menus:
            menus.pop()
            counts.pop()
            counts[-1] += 1
        elif match := SET.match(line):
            known[match[1]] = match[2]


def wanted(text: str, saved: str) -> tuple[str, ...]:
    """Return the steps to the default entry. `set default=` is there several times: for a one-time choice, and for all other boots, which is the last."""
    words = [match[1] for match in map(DEFAULT.match, text.splitlines()) if match]
    last = next((word for word in reversed(words) if word != "${next_entry}"), "0")
    if last == "${saved_entry}":
        last = saved or "0"
    return tuple(last.split(">"))


def loaded_files(text: str) -> tuple[str, ...]:
    """Return the files whose variables a grub.cfg reads, beside its own environment."""
    return tuple(LOADED.findall(text))


def environment(text: str) -> dict[str, str]:
    """Return the variables of an environment block (grubenv)."""
    return {name: value.strip() for name, value in ASSIGNED.findall(text)}


def expanded(word: str, variables: Mapping[str, str]) -> str:
    """Return a word with the variables that are known put in."""
    return VARIABLE.sub(lambda match: variables.get(match[1], match[0]), word)


def old_entries(text: str) -> tuple[MenuEntry, ...]:
    """Return the entries of a menu.lst or grub.conf; of one that starts Xen, the kernel that Xen starts."""
    starts = [number for number, line in enumerate(text.splitlines()) if OLD_TITLE.match(line)]
    found = []
    for number, (start, end) in enumerate(pairwise((*starts, len(text.splitlines())))):
        title, *lines = text.splitlines()[start:end]
        linux = next((match[1] for match in map(OLD_LINUX.match, lines) if match), None)
        initrds = tuple(match[1] for match in map(OLD_INITRD.match, lines) if match)
        name = OLD_TITLE.match(title)
        found.append(MenuEntry((number,), ((name[1] if name else "",),), linux, initrds))
    return tuple(found)


def old_default(text: str, saved: str) -> tuple[int, ...]:
    """Return the numbers of the entries that a menu.lst starts by itself: its default, and those it falls back to."""
    default = OLD_DEFAULT.search(text)
    word = saved.split("\n")[0].strip() or "0" if default and default[1] == "saved" else default[1] if default else "0"
    return tuple(int(each) for each in (word, *OLD_FALLBACK.findall(text)) if each.isdecimal())
