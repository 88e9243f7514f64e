"""The guest's serial console: what it printed, made fit to be read and shown.

All of it is foreign text: escape sequences would reprogram the reader's terminal, and there may be any amount of it.
"""

import re
from dataclasses import dataclass
from pathlib import Path

FLOOD = 16 << 20
"""More bytes than a boot ever prints; a guest that does is ended before it fills the disk."""
WINDOW = 16 << 10
HEAD, TAIL = 40 << 10, 120 << 10

# ECMA-48: CSI sequences, OSC/DCS/PM/APC strings with their terminator, other two- and three-byte escapes.
ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]{0,4096}(?:\x07|\x1b\\)|\x1b[ -/]*[0-~]?")
CURSOR_MOVE = re.compile(r"\x1b\[\d+;0?1H")
"""Firmware begins a line by moving the cursor to its first column."""
CUT_ESCAPE = re.compile(r"…\[[\d;]*m")
"""systemd shortens names with their colours in them, and cuts the first byte of the escape off."""
BLANK_LINES = re.compile(r"\n{3,}")
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


def plain(content: bytes) -> str:
    """Return foreign bytes as text with lines and tabs, without anything that acts on a terminal."""
    text = content.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
    text = CONTROLS.sub("", ESCAPES.sub("", CURSOR_MOVE.sub("\n", text)))
    return BLANK_LINES.sub("\n\n", CUT_ESCAPE.sub("…", text))


@dataclass(slots=True)
class Console:
    """`size` bytes were printed so far; `changed_at` is when the last `read` that found more was, on the caller's clock."""

    path: Path
    size: int = 0
    changed_at: float = 0.0

    def read(self, now: float) -> bool:
        """Look whether the guest printed more; return whether it did."""
        size = self.path.stat().st_size if self.path.exists() else 0
        if size == self.size:
            return False
        self.size, self.changed_at = size, now
        return True

    def last(self, count: int = WINDOW) -> str:
        """Return the end of what was printed, at most `count` bytes of it."""
        return plain(self._bytes(max(0, self.size - count), count))

    def text(self) -> str:
        """Return what was printed; of a very long text the beginning and the end."""
        if self.size <= HEAD + TAIL:
            return plain(self._bytes(0, self.size))
        left_out = self.size - HEAD - TAIL
        return f"{plain(self._bytes(0, HEAD))}\n[… {left_out} bytes left out …]\n{self.last(TAIL)}"

    def _bytes(self, start: int, count: int) -> bytes:
        if not self.path.exists():
            return b""
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(count)
