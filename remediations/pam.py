"""Files of PAM, as text: modules are taken out without changing what the jumps of the others skip.

A jump counts modules: where one that it skips goes, it skips one too many, and then the last module that says yes. pam-auth-update writes
"[success=2 default=ignore] pam_unix.so" before a vendor's module: without the module, and with the 2, nobody logs in.
Sources: pam.conf(5), "control" ("N … jump over the next N modules", of which 0 would be the same as ok); pam-auth-update(8).
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_MODULE = re.compile(r"\s*-?(?P<type>auth|account|password|session)\s+(?P<control>\[[^\]]*\]|\S+)", re.IGNORECASE)
_JUMP = re.compile(r"(?P<key>\w+)=(?P<count>\d+)")


@dataclass(frozen=True, slots=True)
class _Line:
    """A line with those that continue it."""

    text: str
    goes: bool = False

    @property
    def type(self) -> str:
        """The kind of stack that it is a module of, "" where it is none."""
        found = _MODULE.match(self.text)
        return found["type"].lower() if found else ""


def without(text: str, unwanted: Callable[[str], bool]) -> str:
    """Return the text without the lines that are unwanted, and with jumps that lead to where they led before.

    `unwanted` is asked about each line, one that is continued as one without the backslashes.
    """
    lines = [_Line(raw, unwanted(_joined(raw))) for raw in _logical(text)]
    if not any(line.goes for line in lines):
        return text
    kept = (_with_shorter_jumps(line, lines[number + 1 :]) for number, line in enumerate(lines) if not line.goes)
    return "".join(kept)


def _logical(text: str) -> Sequence[str]:
    lines: list[str] = []
    open_end = False
    for raw in text.splitlines(keepends=True):
        if open_end:
            lines[-1] += raw
        else:
            lines.append(raw)
        open_end = raw.rstrip("\r\n").endswith("\\")
    return lines


def _joined(raw: str) -> str:
    return re.sub(r"\\\r?\n", " ", raw).rstrip("\r\n")


def _with_shorter_jumps(line: _Line, following: Sequence[_Line]) -> str:
    found = _MODULE.match(line.text)
    if found is None or not found["control"].startswith("["):
        return line.text
    stack = [other for other in following if other.type == line.type]

    def shorter(jump: re.Match[str]) -> str:
        count = int(jump["count"])
        left = count - sum(other.goes for other in stack[:count])
        return f"{jump['key']}={left or 'ok'}" if left != count else jump[0]

    start, end = found.span("control")
    return line.text[:start] + _JUMP.sub(shorter, found["control"]) + line.text[end:]
