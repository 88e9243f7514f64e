"""Files that chattr(1) has made immutable or append-only: which they are, without asking the guest's kernel.

People protect resolv.conf, sudoers and udev's rules so; a write to them fails where the guest's own kernel is asked, and in the appliance too.
Source: chattr(1), a and i; Linux, Documentation/filesystems/ext4/inodes.rst, i_flags.
"""

import re
from collections.abc import Collection, Iterable, Iterator

from migrate.errors import ToolFailed
from migrate.guests.cell import READING, Cell
from migrate.guests.paths import parent

IMMUTABLE = 0x10
APPEND_ONLY = 0x20

_SPEAKABLE = re.compile(r'/[^"\x00-\x1f\x7f\ud800-\udfff]*')
_LETTERS = re.compile(r"[-A-Za-z]{10,}")
_FLAGS = re.compile(r"\bFlags: 0x([0-9a-f]+)")


def is_speakable(path: str) -> bool:
    """Whether debugfs can be told of a path: its commands are lines, and a path stands between quotation marks."""
    return _SPEAKABLE.fullmatch(path) is not None


def in_ext(cell: Cell, image: str, paths: Collection[str]) -> frozenset[str]:
    """Return those of the paths in an ext2, ext3 or ext4 that are so; `image` names it as debugfs(8) wants it. Paths that it does not have are not.

    FUSE does not hand the question to fuse2fs, so debugfs reads the inodes: 10 ms for a hundred.
    """
    asked = [path for path in paths if is_speakable(path)]
    commands = "".join(f'stat "{path}"\n' for path in asked)
    try:
        said = cell.tool(["debugfs", "-f", "-", image], stdin=commands.encode(), limits=READING, timeout=120).text
    except ToolFailed:
        return frozenset()  # it is told beforehand at most; what is changed is freed in any case
    answers = re.split(r"(?m)^debugfs: +stat .*$", said)[1:]
    flags = ((path, _FLAGS.search(answer)) for path, answer in zip(asked, answers, strict=False))
    return frozenset(path for path, found in flags if found and int(found[1], 16) & (IMMUTABLE | APPEND_ONLY))


def in_lsattr(said: str) -> frozenset[str]:
    """Return the paths that are so by what `lsattr -d` says: a column of letters and dashes, and the path."""
    lines = (line.split(maxsplit=1) for line in said.splitlines())
    return frozenset(
        line[1] for line in lines if len(line) == 2 and _LETTERS.fullmatch(line[0]) and set("ia") & set(line[0])
    )


def with_folders(paths: Iterable[str]) -> Iterator[str]:
    """Yield the paths, each after the folder that it is in: in an immutable folder nothing is made and nothing goes. chattr(1)."""
    seen = set()
    for path in paths:
        for each in (parent(path), path):
            if each not in seen:
                seen.add(each)
                yield each
