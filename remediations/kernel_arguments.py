"""The kernel's command line, wherever a boot loader keeps it: read and changed argument by argument.

GRUB 2 and its settings, entries of the Boot Loader Specification (GRUB's and systemd-boot's), grubenv, old GRUB, syslinux, and what
distributions make menus from. EFI's wrapper configurations hold no command line, and stay as they are.

grub.cfg is edited where it is and not made anew: grub-mkconfig asks for the disk under the root file system, which a chroot on a copy of it
does not have, and in an appliance it writes that machine's device names. /etc/default/grub gets the same edit, so that the guest's
next update-grub says the same.

Sources: GRUB manual, "Simple configuration", "Shell-like scripting", "The GRUB environment block"; The Boot Loader Specification;
kernel-install(8) for /etc/kernel/cmdline; Debian's grub-mkconfig for /etc/default/grub.d; GRUB Legacy manual, and Debian's update-grub for
"# kopt="; syslinux's doc/syslinux.txt; Alpine's update-extlinux.conf; YaST's /etc/sysconfig/bootloader; Photon's photon.cfg.
"""

import fnmatch
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from migrate.boot_menu import ENVIRONMENTS, LOADERS, MENUS, OLD_MENUS, SYSLINUX
from migrate.draft import Draft

Arguments = tuple[str, ...]
"""Arguments as they are written, quotes included."""
Change = Callable[[Arguments], Arguments]

ENTRIES = tuple(f"{folder}/entries/*.conf" for folder in LOADERS)
KERNEL_INSTALL = "/etc/kernel/cmdline"
DEFAULTS = ("/etc/default/grub", "/etc/default/grub.d/*.cfg")
VARIABLES = ("/boot/*.cfg",)
"""What a grub.cfg loads variables from, on Photon."""
EXTLINUX_SETTINGS = "/etc/update-extlinux.conf"
YAST_SETTINGS = "/etc/sysconfig/bootloader"

ARGUMENT = re.compile(r"""(?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"|'[^']*')+""")
MENU_LINE = re.compile(r"^(\s*linux(?:16|efi)?\s+)(\S+)(\s.*)?$")
OLD_LINE = re.compile(r"^(\s*(?:kernel|module)\s+(?:--\S+\s+)*)(\S+)(\s.*)?$")
OLD_SETTING = re.compile(r"^(#\s?(?:kopt|xenkopt|defoptions|altoptions)\w*=)(.*)$")
"""Debian's update-grub reads them from comments."""
KERNEL_IMAGE = re.compile(r"/(\$\{?\w*)?(vmlinu[xz]|kernel|bzImage|Image|linux)[^/]*$")
APPEND_LINE = re.compile(r"^(\s*append\s+)(?!-)(.*)$", re.IGNORECASE)
VARIABLE_LINE = re.compile(r"^((?:photon|systemd)_cmdline=)(.*)$")
MENU_VARIABLE = re.compile(r'^(\s*set\s+(?:default_)?kernelopts=")([^"]*)(".*)$')
MENU_ROOT = re.compile(r"^(\s*set\s+rootpartition=)([\w/=.-]+)$")
ENTRY_LINE = re.compile(r"^(options\s+)(.*)$")
ENVIRONMENT_LINE = re.compile(r"^(kernelopts=)(.*)$")
ENVIRONMENT_SIZE = 1024
ASSIGNMENT = re.compile(
    r"""^(?P<head>\s*(?:export\s+)?(?P<name>[A-Za-z_]\w*)=)"""
    r"""(?:"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>[^']*)'|(?P<bare>[^\s"'\\#;&|<>()$`]*))(?P<tail>\s*(?:\#.*)?)$"""
)
COMMAND_LINE = re.compile(r"GRUB_CMDLINE_LINUX\w*")
EXTLINUX_LINE = re.compile(r"default_kernel_opts")
YAST_LINE = re.compile(r"(DEFAULT|FAILSAFE)_APPEND")


@dataclass(frozen=True, slots=True)
class Assignment:
    """`NAME=value` in a file that a shell reads; `value` without its `quote`, not expanded."""

    head: str
    name: str
    quote: str
    value: str
    tail: str

    def with_value(self, value: str) -> str:
        """Return the line with another value, in double quotes where it had none."""
        quote = self.quote or '"'
        return f"{self.head}{quote}{value}{quote}{self.tail}"


def assignment(line: str) -> Assignment | None:
    """Return the assignment that a line of /etc/default/grub is; None where it is anything else, or more."""
    match = ASSIGNMENT.match(line)
    if match is None:
        return None
    forms = (('"', match["double"]), ("'", match["single"]), ("", match["bare"]))
    quote, value = next((quote, value) for quote, value in forms if value is not None)
    return Assignment(match["head"], match["name"], quote, value, match["tail"])


def split(text: str) -> Arguments | None:
    """Return the arguments, as they are written; None where a quote stays open or the line goes on."""
    if ARGUMENT.sub("", text).strip():
        return None
    return tuple(ARGUMENT.findall(text))


def changed(text: str, change: Change) -> str:
    """Return the arguments as `change` makes them; the very same text where they stay as they are."""
    before = split(text)
    if before is None:
        return text
    after = change(before)
    return text if after == before else " ".join(after)


def menu(text: str, change: Change) -> str:
    """Return a grub.cfg whose entries hand these arguments to Linux."""
    return _each_line(text, lambda line: _menu_line(line, change))


def menu_root(text: str, change: Change) -> str:
    """Return a grub.cfg whose variable for the root, which Photon keeps, is what the argument root= becomes."""

    def line_changed(line: str) -> str:
        found = MENU_ROOT.match(line)
        return line if found is None else found[1] + changed(f"root={found[2]}", change).removeprefix("root=")

    return _each_line(text, line_changed)


def entry(text: str, change: Change) -> str:
    """Return an entry of the Boot Loader Specification with these arguments."""
    return _each_line(text, lambda line: _in_line(ENTRY_LINE, line, change))


def environment(text: str, change: Change) -> str:
    """Return a grubenv with these arguments. It is 1,024 bytes long, whatever it holds; where that is too short, it stays as it is."""
    new = _each_line(text, lambda line: _in_line(ENVIRONMENT_LINE, line, change))
    if new == text:
        return text
    padded = new.rstrip("#").ljust(ENVIRONMENT_SIZE, "#")
    return padded if len(padded.encode("utf-8", "surrogateescape")) == ENVIRONMENT_SIZE else text


def variables(text: str, change: Change) -> str:
    """Return a file of variables that a grub.cfg loads, with these arguments."""
    return _each_line(text, lambda line: _in_line(VARIABLE_LINE, line, change))


def old_menu(text: str, change: Change) -> str:
    """Return a menu.lst whose entries hand these arguments to Linux, and whose comments make update-grub write them again."""

    def line_changed(line: str) -> str:
        return _in_line(OLD_SETTING, line, change) if line.startswith("#") else _kernel_line(OLD_LINE, line, change)

    return _each_line(text, line_changed)


def syslinux(text: str, change: Change) -> str:
    """Return an extlinux.conf whose entries hand these arguments to Linux."""
    return _each_line(text, lambda line: _in_line(APPEND_LINE, line, change))


def defaults(text: str, change: Change, names: re.Pattern[str] = COMMAND_LINE) -> str:
    """Return an /etc/default/grub, or another file of settings, whose settings of these names hold these arguments."""

    def line_changed(line: str) -> str:
        found = assignment(line)
        if found is None or not names.fullmatch(found.name):
            return line
        value = changed(found.value, change)
        return line if value == found.value else found.with_value(value)

    return _each_line(text, line_changed)


def extlinux_root(text: str, change: Change) -> str:
    """Return an update-extlinux.conf whose root=, which it keeps by itself, is what the argument becomes."""
    return _each_line(text, lambda line: changed(line, change) if re.fullmatch(r"root=\S+", line) else line)


FILES: tuple[tuple[tuple[str, ...], Callable[[str, Change], str]], ...] = (
    (MENUS, menu),
    (ENTRIES, entry),
    (ENVIRONMENTS, environment),
    (VARIABLES, variables),
    (OLD_MENUS, old_menu),
    (SYSLINUX, syslinux),
)
"""Where command lines are."""

SETTINGS: tuple[tuple[tuple[str, ...], Callable[[str, Change], str]], ...] = (
    ((KERNEL_INSTALL,), lambda text, change: changed(text.strip("\n"), change) + "\n" * text.endswith("\n")),
    ((EXTLINUX_SETTINGS,), lambda text, change: defaults(text, change, EXTLINUX_LINE)),
    ((YAST_SETTINGS,), lambda text, change: defaults(text, change, YAST_LINE)),
)
"""What the next command lines are made from, each file by itself."""


def rewrite(draft: Draft, change: Change, *, why: str) -> None:
    """Every command line, and every setting that one is made from, is what `change` makes of it."""
    for patterns, edit in (
        *FILES,
        (DEFAULTS, defaults),
        *SETTINGS,
        (MENUS, menu_root),
        ((EXTLINUX_SETTINGS,), extlinux_root),
    ):
        for path in _found(draft, patterns):
            draft.edit(path, lambda text, edit=edit: edit(text, change), why=why)  # type: ignore[misc]


def drop_arguments(draft: Draft, patterns: Sequence[str], why: str) -> None:
    """No command line, and no setting that one is made from, holds an argument that matches a pattern of fnmatch(3) ("rootdelay=*").

    A pattern is the whole argument, quotes around it or its value aside. `why` completes "because it …".
    """
    rewrite(draft, lambda words: tuple(word for word in words if not is_one_of(word, patterns)), why=why)


def is_one_of(word: str, patterns: Sequence[str]) -> bool:
    """Whether an argument matches one of the patterns; quotes are the boot loader's and are not looked at."""
    bare = word.replace('"', "").replace("'", "")
    return any(fnmatch.fnmatchcase(bare, pattern) for pattern in patterns)


def add(draft: Draft, lacking: Callable[[Arguments], Arguments], *, why: str) -> None:
    """Every command line ends in what `lacking` says it lacks.

    Of GRUB's settings it is asked about all that a normal entry is made from, and GRUB_CMDLINE_LINUX gets what is lacking.
    """
    loaded = {
        name: split(value) or ()
        for path in _found(draft, VARIABLES)
        for name, value in re.findall(r"^(\w+)=(.*)$", draft.read(path) or "", re.MULTILINE)
    }

    def appended(arguments: Arguments) -> Arguments:
        if any(word in ("$kernelopts", "${kernelopts}") for word in arguments):  # grubenv holds them
            return arguments
        return arguments + lacking(_expanded(arguments, loaded))

    for patterns, edit in (*FILES, *SETTINGS):
        # What a menu loads is a part of its lines, and is looked at there.
        for path in _found(draft, patterns) if patterns is not VARIABLES else ():
            draft.edit(path, lambda text, edit=edit: edit(text, appended), why=why)  # type: ignore[misc]
    _add_to_defaults(draft, lacking, why)


def command_lines(draft: Draft) -> Iterator[tuple[str, Arguments]]:
    """Yield each command line that an entry hands to Linux, with the path of its file."""
    seen: list[Arguments] = []

    def noted(arguments: Arguments) -> Arguments:
        seen.append(arguments)
        return arguments

    for patterns, edit in FILES:
        for path in _found(draft, patterns):
            edit(draft.read(path) or "", noted)
            yield from ((path, arguments) for arguments in seen)
            seen.clear()


def switched_off(text: str, name: str) -> str:
    """Return an /etc/default/grub in which a setting that is there is false; one that is not there is not added."""

    def line_off(line: str) -> str:
        found = assignment(line)
        on = found is not None and found.name == name and found.value == "true"
        return f"{found.head}false{found.tail}" if found is not None and on else line

    return _each_line(text, line_off)


def _add_to_defaults(draft: Draft, lacking: Callable[[Arguments], Arguments], why: str) -> None:
    values: dict[str, Arguments] = {}
    place: str | None = None
    for path in _found(draft, DEFAULTS):
        for found in filter(None, map(assignment, (draft.read(path) or "").splitlines())):
            values[found.name] = _expanded(split(found.value) or (), values)
            place = path if found.name == "GRUB_CMDLINE_LINUX" else place
    missing = lacking(values.get("GRUB_CMDLINE_LINUX", ()) + values.get("GRUB_CMDLINE_LINUX_DEFAULT", ()))
    if not missing or not draft.exists(DEFAULTS[0]):
        return
    if place is None:
        draft.edit(DEFAULTS[0], lambda text: _with_line(text, missing), why=why)
    else:
        draft.edit(place, lambda text: _appended_to_last(text, missing), why=why)


def _with_line(text: str, missing: Arguments) -> str:
    """Set what is not set yet; what a shell makes of a line that is more than an assignment is kept."""
    kept = ("$GRUB_CMDLINE_LINUX",) if "GRUB_CMDLINE_LINUX=" in text else ()
    separator = "" if not text or text.endswith("\n") else "\n"
    return f'{text}{separator}GRUB_CMDLINE_LINUX="{" ".join((*kept, *missing))}"\n'


def _appended_to_last(text: str, missing: Arguments) -> str:
    lines = text.split("\n")
    for number in reversed(range(len(lines))):
        found = assignment(lines[number])
        if found is not None and found.name == "GRUB_CMDLINE_LINUX":
            lines[number] = found.with_value(" ".join(filter(None, (found.value.strip(), *missing))))
            break
    return "\n".join(lines)


def _expanded(arguments: Arguments, values: dict[str, Arguments]) -> Arguments:
    """A setting may lean on what it was before: GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX quiet"."""
    found: list[str] = []
    for word in arguments:
        name = re.fullmatch(r"\$\{?(\w+)\}?", word)
        found.extend(values.get(name[1], ()) if name else (word,))
    return tuple(found)


def _found(draft: Draft, patterns: tuple[str, ...]) -> Iterator[str]:
    """Yield files in the order of the patterns; each once, though a link may lead to it too."""
    for pattern in patterns:
        for path in draft.glob(pattern):
            if draft.file(path) is not None:
                yield path


def _each_line(text: str, change: Callable[[str], str]) -> str:
    return "\n".join(change(line) for line in text.split("\n"))


def _in_line(pattern: re.Pattern[str], line: str, change: Change) -> str:
    match = pattern.match(line)
    return line if match is None else match[1] + changed(match[2], change) + "".join(match.groups()[2:])


def _menu_line(line: str, change: Change) -> str:
    variable = MENU_VARIABLE.match(line)
    if variable is not None:
        return variable[1] + changed(variable[2], change) + variable[3]
    return _kernel_line(MENU_LINE, line, change)


def _kernel_line(pattern: re.Pattern[str], line: str, change: Change) -> str:
    match = pattern.match(line)
    if match is None or not KERNEL_IMAGE.search(match[2]):  # memtest86+ is loaded as a Linux, and is none
        return line
    arguments = match[3] or ""
    space = "".join(takewhile(str.isspace, arguments))
    after = changed(arguments[len(space) :], change)
    return match[1] + match[2] + (space or " " * bool(after)) + after
