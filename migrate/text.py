"""Texts about changes: unified diffs, and how sizes and times are written."""

import difflib
import re

from migrate.guest import Entry, File, Folder, Link

# What a preview never shows: password hashes and private keys.
SECRET_PATHS = re.compile(
    r"^/etc/(g?shadow-?|ssl/private/|ssh/ssh_host_.*_key$|krb5\.keytab)|/(id_[a-z0-9]+|.*\.(key|pem|p12|pfx))$"
)
SECRET_CONTENT = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----|\$(?:1|2[aby]|5|6|y)\$[./A-Za-z0-9]{2,}")
SECRET_VALUE = re.compile(
    r"(?i)^(\s*[+-]?\s*[\w.-]*(?:password|passwd|psk|secret|token)[\w.-]*\s*[:=]\s*)\S.*$", re.MULTILINE
)

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def shown(text: str) -> str:
    """Return foreign text fit for a terminal or a page: control characters, terminal escapes and direction marks made visible."""
    return CONTROL.sub(lambda match: f"\\x{ord(match.group()):02x}", text.encode("utf-8", "replace").decode())


def size(count: float) -> str:
    """Return a byte count in binary units, three significant digits: "11.2 GiB"."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.3g} {unit}"
        count /= 1024
    raise AssertionError("unreachable")


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: "1 change", "2 changes", "3 entries"."""
    if number != 1:
        noun = f"{noun[:-1]}ies" if re.search("[^aeiou]y$", noun) else f"{noun}s"
    return f"{number} {noun}"


def clock(seconds: float) -> str:
    """Return a duration as "1:31" or "1:02:03"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def took(seconds: float) -> str:
    """Return a duration in words: "41 s", "6 min 12 s", "1 h 2 min"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def diff(path: str, before: Entry | None, after: Entry) -> list[str]:
    """Return what changes at a path as the lines of a unified diff, without file headers; in words where lines cannot show it."""
    match before, after:
        case _, Link(target=target):
            return [f"-> {shown(target)}"]
        case _, Folder(mode=mode):
            return [f"folder, mode {mode:04o}"]
        case ((File() | Link() | Folder() | None), File()):
            old = before if isinstance(before, File) else None
            return _mode_lines(old, after) + _content_lines(path, old, after)
    raise AssertionError("unreachable")


def _mode_lines(before: File | None, after: File) -> list[str]:
    if before is None:
        return [f"mode {after.mode:04o}"] if after.mode != 0o644 else []
    return [f"mode {before.mode:04o} -> {after.mode:04o}"] if before.mode != after.mode else []


def _content_lines(path: str, before: File | None, after: File) -> list[str]:
    old, new = (before.content if before else b""), after.content
    if old == new:
        return []
    if SECRET_PATHS.search(path) or any(SECRET_CONTENT.search(text.decode("latin-1")) for text in (old, new)):
        return ["(not shown: it holds secrets)"]
    if b"\0" in old or b"\0" in new:
        return [f"binary, {size(len(old))} -> {size(len(new))}" if before else f"binary, {size(len(new))}"]
    lines = difflib.unified_diff(_lines(before), _lines(after), lineterm="", n=2)
    return [SECRET_VALUE.sub(r"\1(not shown)", shown(line)) for line in list(lines)[2:]]


def _lines(file: File | None) -> list[str]:
    return [] if file is None else file.text.split("\n")[: -1 if file.text.endswith("\n") else None]
