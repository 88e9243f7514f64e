"""Files of shell assignments, as text: /etc/sysconfig, /etc/default, ifcfg. What is not changed stays as it was written.

Such a file is sourced by a shell, or read by NetworkManager as a shell would read it. Sources: sh(1), "Simple Commands";
nm-settings-ifcfg-rh(5), "File Format".
"""

import re
import shlex
from collections.abc import Callable, Iterator, Mapping

_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)

MOST_LINES = 50
"""A value that is longer is a quote that somebody forgot to close."""


def assignments(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield (raw lines, name, value) in order, whole; the name is "" for what assigns nothing. A quoted value may hold line ends."""
    raw = ""
    for line in text.splitlines(keepends=True):
        if raw.count("\n") >= MOST_LINES:
            yield raw, "", ""
            raw = ""
        raw += line
        found = _ASSIGNMENT.fullmatch(raw)
        if found is None:
            yield raw, "", ""
            raw = ""
            continue
        try:
            words = shlex.split(found[2], comments=True)
        except ValueError:  # a quote is still open
            continue
        yield raw, found[1], words[0] if words else ""
        raw = ""
    if raw:  # a quote that is never closed: nobody can tell what it means
        yield raw, "", ""


def variables(text: str) -> Mapping[str, str]:
    """Return what each name is at the end. Several may be assigned on one line."""
    found: dict[str, str] = {}
    for raw, name, value in assignments(text):
        if name:
            found |= dict(_on_one_line(raw)) or {name: value}
    return found


def _on_one_line(raw: str) -> Iterator[tuple[str, str]]:
    """Yield all that `A=1 B=2; C=3` assigns; nothing where a command follows, which alone gets what is before it."""
    lexer = shlex.shlex(raw, posix=True, punctuation_chars=";")
    lexer.whitespace_split = True
    words = [word for word in lexer if word.strip(";") and word != "export"]
    found = [word.partition("=") for word in words]
    if all(equals and name.isidentifier() for name, equals, _ in found):
        yield from ((name, value) for name, _, value in found)


def without(text: str, unwanted: Callable[[str, str], bool]) -> str:
    """Return the text without the assignments that are unwanted by their name and value."""
    return "".join(raw for raw, name, value in assignments(text) if not (name and unwanted(name, value)))


def assigned(text: str, name: str, value: str) -> str:
    """Return the text where the name has this value: each assignment of it is changed, and one is added where there is none."""
    if variables(text).get(name) == value:
        return text
    pieces = [f"{name}={shlex.quote(value)}\n" if found == name else raw for raw, found, _ in assignments(text)]
    if name not in variables(text):
        pieces.append(f"{name}={shlex.quote(value)}\n")
    return "".join(pieces)
