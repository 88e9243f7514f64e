"""How foreign text, numbers, sizes and times are written."""

import re

# What cannot be seen, or moves what is seen: controls and terminal escapes, marks of direction, letters without width, line separators,
# tags, and bytes that are no UTF-8 (PEP 383). Sources: Unicode TR 9, TR 36; CVE-2021-42574.
CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)


def shown(text: str) -> str:
    """Return foreign text fit for a terminal or a page: what cannot be seen is made visible, as "\\x1b" or "\\u202e"."""
    return CONTROL.sub(lambda match: escaped(match.group()), text)


def one_line(text: str) -> str:
    """Return foreign text, a name or a path, fit to stand within a line: line ends and tabs are made visible, too."""
    return re.sub("[\t\n]", lambda match: escaped(match.group()), shown(text))


def escaped(char: str) -> str:
    """Return how a character that cannot be seen is written."""
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00  # the byte that it stands for
    if code > 0xFFFF:
        return f"\\U{code:08x}"
    return f"\\u{code:04x}" if code > 0xFF else f"\\x{code:02x}"


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
