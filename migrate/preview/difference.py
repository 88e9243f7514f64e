"""What changes at a path: mode, owner, target in words, a text as a unified diff, anything else by its size. Secrets are hidden."""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from migrate import hidden
from migrate.guest import Entry, File, Folder, Link
from migrate.text import one_line, shown, size

CONTEXT = 2
MOST_LINES = 2000
"""Of a text that differs in more lines than this, the old lines and then the new ones are shown: matching them takes minutes."""

NO_END = "\\ No newline at end of file"  # as diff(1) writes it
SECRET = "(not shown: it holds secrets)"  # noqa: S105  (says that there is one)


@dataclass(frozen=True, slots=True)
class Difference:
    """`notes` are about what is no text; `lines` those of a unified diff without its file headers. Both are fit to be shown.

    `secret` where neither the content nor its size may be told.
    """

    notes: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    secret: bool = False

    @property
    def text(self) -> tuple[str, ...]:
        return self.notes + self.lines


def difference(path: str, before: Entry | None, after: Entry) -> Difference:
    """Return what changes at a path. The path decides what of the content may be shown."""
    notes = tuple(_replaced(before, after)) + tuple(_attributes(before, after))
    match after:
        case Link(target=target):
            return Difference((*notes, f"-> {one_line(target)}"))
        case Folder():
            return Difference(notes)
        case File(content=new):
            old = before.content if isinstance(before, File) else b""
            if hidden.is_secret(path, old) or hidden.is_secret(path, new):
                return Difference((*notes, SECRET), secret=True)
            if isinstance(before, File) and old == new:
                return Difference(notes)
            if b"\0" in old or b"\0" in new:
                return Difference((*notes, _binary(before, new)))
            if not new and not isinstance(before, File):
                return Difference((*notes, "empty"))
            return Difference(notes, tuple(_unified(path, before if isinstance(before, File) else None, after)))


def is_secret(path: str, entry: Entry | None) -> bool:
    """Whether nothing of what is at a path may be told."""
    return isinstance(entry, File) and hidden.is_secret(path, entry.content)


def _replaced(before: Entry | None, after: Entry) -> Iterator[str]:
    match before, after:
        case Link(target=target), File() | Folder():
            yield f"replaces a link -> {one_line(target)}"
        case File(), Link() | Folder():
            yield "replaces a file"
        case Folder(), File() | Link():
            yield "replaces an empty folder"
        case Link(target=target), Link():
            yield f"was -> {one_line(target)}"


def _attributes(before: Entry | None, after: Entry) -> Iterator[str]:
    """Of what is new, only a mode and owner that somebody may wonder at."""
    match before, after:
        case (File() as old, File() as new) | (Folder() as old, Folder() as new):
            yield from _changed(old, new)
        case _, Folder():
            yield f"folder, mode {after.mode:04o}"
            yield from _owner(after)
        case _, File():
            if after.mode != 0o644:
                yield f"mode {after.mode:04o}"
            yield from _owner(after)


def _changed(before: File | Folder, after: File | Folder) -> Iterator[str]:
    if before.mode != after.mode:
        yield f"mode {before.mode:04o} -> {after.mode:04o}"
    if (before.uid, before.gid) != (after.uid, after.gid):
        yield f"owner {before.uid}:{before.gid} -> {after.uid}:{after.gid}"


def _owner(entry: File | Folder) -> Iterator[str]:
    if (entry.uid, entry.gid) != (0, 0):
        yield f"owner {entry.uid}:{entry.gid}"


def _binary(before: Entry | None, new: bytes) -> str:
    return (
        f"binary, {size(len(before.content))} -> {size(len(new))}"
        if isinstance(before, File)
        else f"binary, {size(len(new))}"
    )


def _unified(path: str, before: File | None, after: File) -> Iterator[str]:
    """Yield hunks. Lines are compared as they are, and shown without their secrets: a password that changes is seen to change."""
    old, new = _lines(before), _lines(after)
    shown_old, shown_new = (_fit(path, lines) for lines in (old, new))
    for group in _groups(old, new):
        yield f"@@ -{_range(group[0][1], group[-1][2])} +{_range(group[0][3], group[-1][4])} @@"
        for tag, old_from, old_to, new_from, new_to in group:
            if tag == "equal":
                yield from (f" {line}" for line in shown_old[old_from:old_to])
                continue
            yield from (f"-{line}" for line in shown_old[old_from:old_to])
            yield from (f"+{line}" for line in shown_new[new_from:new_to])


def _lines(file: File | None) -> list[str]:
    """That the last line has no end is a difference, too."""
    if file is None or not file.content:
        return []
    lines = file.text.split("\n")
    return [*lines, NO_END] if lines[-1] else lines[:-1]


def _fit(path: str, lines: Sequence[str]) -> list[str]:
    return [shown(line) for line in hidden.lines(path, lines)]


Opcode = tuple[str, int, int, int, int]


def _groups(old: Sequence[str], new: Sequence[str]) -> Iterator[list[Opcode]]:
    """Yield hunks as difflib does. What both have in common at their ends is not searched, so that a line in a long file is found at once."""
    head = _common(old, new)
    tail = _common(old[head:][::-1], new[head:][::-1])
    old_end, new_end = len(old) - tail, len(new) - tail
    first = max(0, head - CONTEXT)
    last = min(tail, CONTEXT)
    if max(old_end - head, new_end - head) > MOST_LINES:
        codes: list[Opcode] = [("equal", first, head, first, head)] if first < head else []
        codes.append(("replace", head, old_end, head, new_end))
        if last:
            codes.append(("equal", old_end, old_end + last, new_end, new_end + last))
        yield codes
        return
    matcher = difflib.SequenceMatcher(None, old[first : old_end + last], new[first : new_end + last])
    for group in matcher.get_grouped_opcodes(CONTEXT):
        yield [(tag, a + first, b + first, c + first, d + first) for tag, a, b, c, d in group]


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    count = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        count += 1
    return count


def _range(first: int, last: int) -> str:
    """Source: diff(1), unified format: a range of one line has no length, an empty one names the line before it."""
    length = last - first
    if length == 1:
        return str(first + 1)
    return f"{first + 1 if length else first},{length}"
