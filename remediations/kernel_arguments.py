"""The kernel's command line, wherever a boot loader keeps it: read and changed argument by argument.

grub.cfg is edited where it is and not made anew: grub-mkconfig asks for the disk under the root file system, which a chroot on a copy of it
does not have, and in an appliance it writes that machine's device names. /etc/default/grub gets the same edit, so that the guest's
next update-grub says the same.

Sources: GRUB manual, "Simple configuration", "Shell-like scripting", "The GRUB environment block"; The Boot Loader Specification;
kernel-install(8) for /etc/kernel/cmdline; Debian's grub-mkconfig for /etc/default/grub.d.
"""

import fnmatch
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

from migrate.draft import Draft

Arguments = tuple[str, ...]
"""Arguments as they are written, quotes included."""
Change = Callable[[Arguments], Arguments]

MENUS = ("/boot/grub/grub.cfg", "/boot/grub2/grub.cfg", "/boot/efi/EFI/*/grub.cfg", "/efi/EFI/*/grub.cfg")
ENTRIES = ("/boot/loader/entries/*.conf", "/boot/efi/loader/entries/*.conf", "/efi/loader/entries/*.conf")
ENVIRONMENTS = ("/boot/grub/grubenv", "/boot/grub2/grubenv", "/boot/efi/EFI/*/grubenv")
KERNEL_INSTALL = "/etc/kernel/cmdline"
DEFAULTS = ("/etc/default/grub", "/etc/default/grub.d/*.cfg")

ARGUMENT = re.compile(r"""(?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"|'[^']*')+""")
MENU_LINE = re.compile(r"^(\s*linux(?:16|efi)?\s+)(\S+)(\s.*)?$")
KERNEL_IMAGE = re.compile(r"/(vmlinu[xz]|kernel|bzImage|Image|linux)[^/]*$")
MENU_VARIABLE = re.compile(r'^(\s*set\s+(?:default_)?kernelopts=")([^"]*)(".*)$')
ENTRY_LINE = re.compile(r"^(options\s+)(.*)$")
ENVIRONMENT_LINE = re.compile(r"^(kernelopts=)(.*)$")
ENVIRONMENT_SIZE = 1024
ASSIGNMENT = re.compile(
    r"""^(?P<head>\s*(?:export\s+)?(?P<name>GRUB_\w+)=)"""
    r"""(?:"(?P<double>(?:[^"\\]|\\.)*)"|'(?P<single>[^']*)'|(?P<bare>[^\s"'\\#;&|<>()$`]*))(?P<tail>\s*(?:\#.*)?)$"""
)
COMMAND_LINE = re.compile(r"GRUB_CMDLINE_LINUX\w*")


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


def defaults(text: str, change: Change) -> str:
    """Return an /etc/default/grub whose GRUB_CMDLINE_LINUX and its kin hold these arguments."""

    def line_changed(line: str) -> str:
        found = assignment(line)
        if found is None or not COMMAND_LINE.fullmatch(found.name):
            return line
        value = changed(found.value, change)
        return line if value == found.value else found.with_value(value)

    return _each_line(text, line_changed)


def rewrite(draft: Draft, change: Change, *, why: str) -> None:
    """Every command line, and every setting that one is made from, is what `change` makes of it."""
    for path in _found(draft, MENUS):
        draft.edit(path, lambda text: menu(text, change), why=why)
    for path in _found(draft, ENTRIES):
        draft.edit(path, lambda text: entry(text, change), why=why)
    for path in _found(draft, ENVIRONMENTS):
        draft.edit(path, lambda text: environment(text, change), why=why)
    for path in _found(draft, DEFAULTS):
        draft.edit(path, lambda text: defaults(text, change), why=why)
    draft.edit(KERNEL_INSTALL, lambda text: changed(text.strip("\n"), change) + "\n" * text.endswith("\n"), why=why)


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

    def appended(arguments: Arguments) -> Arguments:
        if any(word in ("$kernelopts", "${kernelopts}") for word in arguments):  # grubenv holds them
            return arguments
        return arguments + lacking(arguments)

    for path in _found(draft, MENUS):
        draft.edit(path, lambda text: menu(text, appended), why=why)
    for path in _found(draft, ENTRIES):
        draft.edit(path, lambda text: entry(text, appended), why=why)
    for path in _found(draft, ENVIRONMENTS):
        draft.edit(path, lambda text: environment(text, appended), why=why)
    draft.edit(KERNEL_INSTALL, lambda text: changed(text.strip("\n"), appended) + "\n" * text.endswith("\n"), why=why)
    _add_to_defaults(draft, lacking, why)


def command_lines(draft: Draft) -> Iterator[tuple[str, Arguments]]:
    """Yield each command line that an entry hands to Linux, with the path of its file."""
    seen: list[Arguments] = []

    def noted(arguments: Arguments) -> Arguments:
        seen.append(arguments)
        return arguments

    for patterns, reader in ((MENUS, menu), (ENTRIES, entry), (ENVIRONMENTS, environment)):
        for path in _found(draft, patterns):
            reader(draft.read(path) or "", noted)
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
    match = MENU_LINE.match(line)
    if match is None or not KERNEL_IMAGE.search(match[2]):  # memtest86+ is loaded as a Linux, and is none
        return line
    arguments = match[3] or ""
    space = "".join(takewhile(str.isspace, arguments))
    after = changed(arguments[len(space) :], change)
    return match[1] + match[2] + (space or " " * bool(after)) + after
