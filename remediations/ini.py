"""Files of sections and keys, as text: systemd's units, NetworkManager's keyfiles. What is not cut out stays as it was written.

Sources: systemd.syntax(7); the Desktop Entry specification, "Basic format of the file", which GLib's key files follow.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

Unwanted = Callable[[str, str, str], bool]
"""Whether a key is to go, by its section, name and value."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A key with all of its lines as they are written; `key` is "" for a section's head, a comment or an empty line."""

    raw: str
    section: str = ""
    key: str = ""
    value: str = ""


def entries(text: str, *, continued: bool = False) -> Iterator[Entry]:
    """Yield the file in order, whole. With `continued`, a backslash at its end joins a line with the next, as in systemd's files."""
    section = ""
    raw = value = ""
    for line in text.splitlines(keepends=True):
        raw += line
        stripped = line.strip()
        if stripped.startswith(("#", ";")):
            if not value:
                yield Entry(raw, section)
                raw = ""
            continue
        if continued and stripped.endswith("\\"):
            value += stripped[:-1] + " "
            continue
        whole, value = value + stripped, ""
        if whole.startswith("[") and whole.endswith("]"):
            section = whole[1:-1]
            yield Entry(raw, section)
        else:
            key, equals, right = whole.partition("=")
            yield Entry(raw, section, key.strip(), right.strip()) if equals else Entry(raw, section)
        raw = ""
    if raw:
        yield Entry(raw, section)


def settings(text: str, *, continued: bool = False) -> Iterator[tuple[str, str, str]]:
    """Yield (section, key, value) in order."""
    return ((entry.section, entry.key, entry.value) for entry in entries(text, continued=continued) if entry.key)


def without(text: str, unwanted: Unwanted, *, continued: bool = False) -> str:
    """Return the text without the unwanted keys. Sections stay, even empty ones."""
    kept = (
        entry.raw
        for entry in entries(text, continued=continued)
        if not (entry.key and unwanted(entry.section, entry.key, entry.value))
    )
    return "".join(kept)
