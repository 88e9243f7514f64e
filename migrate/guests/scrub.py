"""What is removed from a guest's disk is not to be found in its image: it is overwritten first.

fstrim(8) gives up what no file uses, but an overlay only lets whole clusters of 64 KiB go: what lay between files that stay is still there, and
whoever reads the image's free blocks reads it. Seen: private keys of Azure's agent, in four free blocks of one cluster.
A file system that never writes in place (btrfs, and xfs where files share blocks) keeps what it had until those blocks are used again.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice

from migrate.errors import GuestError
from migrate.guests.appliance import Calls
from migrate.guests.paths import parent

WHOLE = 1 << 20
"""Files of at most so many bytes are overwritten whole. Of larger ones the clusters in the middle are given up by fstrim."""
EDGE = 128 << 10
REGULAR = 0o100000
FOLDER = 0o040000
KIND = 0o170000
MOST_NAMES = 1000
"""As many names go into one question."""
MOST_FILES = 5000
"""As many files of one call are overwritten, a few milliseconds each; a folder with more is passed by, for it leaves whole clusters free."""


def scrub(call: Calls, paths: Sequence[str]) -> None:
    """The regular files at these paths, and in these folders, hold zeros on the disk. One that has another name is left as it is.

    A file that cannot be overwritten is passed by: it is to be removed all the same.
    """
    written = False
    for path, size in islice(_files(call, paths), MOST_FILES):
        for offset, length in spans(size):
            with suppress(GuestError):
                call.pwrite(path, bytes(length), offset)
                written = True
    if written:  # what is not on the disk yet is given up with its file
        call.sync()


def spans(size: int) -> tuple[tuple[int, int], ...]:
    """Return which parts of a file are overwritten: offset and length, in bytes."""
    if size <= 0:
        return ()
    return ((0, size),) if size <= WHOLE else ((0, EDGE), (size - EDGE, EDGE))


def _files(call: Calls, paths: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Yield regular files that have one name only, with their sizes in bytes."""
    by_folder: dict[str, list[str]] = {}
    for path in paths:
        by_folder.setdefault(parent(path), []).append(path.rpartition("/")[2])
    todo = list(by_folder.items())
    while todo:
        folder, names = todo.pop()
        for path, status in _status(call, folder, names):
            if status["st_mode"] & KIND == FOLDER:
                with suppress(GuestError):  # a name in it that is not UTF-8
                    names_in = call.ls(path)
                    todo += [(path, names_in)] if len(names_in) <= MOST_FILES else []
            elif status["st_mode"] & KIND == REGULAR and status["st_nlink"] == 1:
                yield path, status["st_size"]


def _status(call: Calls, folder: str, names: Sequence[str]) -> Iterator[tuple[str, dict[str, int]]]:
    for start in range(0, len(names), MOST_NAMES):
        some = names[start : start + MOST_NAMES]
        with suppress(GuestError):
            for name, status in zip(some, call.lstatnslist(folder, some), strict=True):
                if status["st_ino"] >= 0:  # -1: there is none of that name
                    yield f"{folder.rstrip('/')}/{name}", status
