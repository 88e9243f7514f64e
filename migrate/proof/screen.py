"""The guest's VGA screen, read as text: the only words of a guest whose kernel does not know of the serial console.

In text mode the card's memory is the text: two bytes a cell, character and colour, 80 cells a row. Linux's vgacon scrolls by moving the start
of the picture through the whole window, so the window holds some 200 rows, the oldest of them not always first.
Source: Linux, drivers/video/console/vgacon.c; IBM VGA, mode 3.
"""

from migrate.proof.console import plain

WINDOW_START, WINDOW_BYTES = 0xB8000, 0x8000
COLUMNS = 80
READABLE = 0.8
"""The share of printable characters among the filled cells, below which the window holds no text: in graphics mode it may hold anything."""


def text(memory: bytes) -> str | None:
    """Return the rows that are not empty, None where the window holds no text."""
    cells = memory[::2].replace(b"\0", b" ")
    filled = cells.replace(b" ", b"")
    if not filled or sum(0x20 < cell < 0x7F for cell in filled) < READABLE * len(filled):
        return None
    rows = (cells[start : start + COLUMNS] for start in range(0, len(cells), COLUMNS))
    lines = (plain(row.decode("cp437").encode()).rstrip() for row in rows)
    return "\n".join(line for line in lines if line)
