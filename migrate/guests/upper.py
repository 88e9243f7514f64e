"""What an overlay's upper folder says: what is new or changed, and what is gone. Source: Linux, Documentation/filesystems/overlayfs.rst."""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

OPAQUE = "user.overlay.opaque"


@dataclass(frozen=True, slots=True)
class Difference:
    """Paths below the folder ("/etc/fstab"), each before what lies in it.

    `gone` must be removed first; then `put` is put; `sockets` are for the carrier to make, because tar leaves them out. A folder that was
    only passed through, with its mode and owner as before, is in none of them.
    """

    put: tuple[str, ...]
    gone: tuple[str, ...]
    sockets: tuple[str, ...]


def difference(upper: Path, lower: Path) -> Difference:
    """Compare an upper folder with what it lies over."""
    put: list[str] = []
    gone: list[str] = []
    sockets: list[str] = []
    for path, entry in _walk(upper, ""):
        status = entry.lstat()
        mode = status.st_mode
        below = _status(lower, path)
        if _is_whiteout(entry):
            gone.append(path)
            continue
        if below is not None and (stat.S_IFMT(below.st_mode) != stat.S_IFMT(mode) or _is_opaque(entry, mode)):
            gone.append(path)
        elif below is not None and stat.S_ISDIR(mode) and _owned(below) == _owned(status):
            continue
        (sockets if stat.S_ISSOCK(mode) else put).append(path)
    return Difference(tuple(put), tuple(gone), tuple(sockets))


def _walk(folder: Path, path: str) -> Iterator[tuple[str, Path]]:
    with os.scandir(folder) as found:
        names = sorted(os.fsencode(entry.name).decode("utf-8", "surrogateescape") for entry in found)
    for name in names:
        inner = folder / name
        yield f"{path}/{name}", inner
        if stat.S_ISDIR(inner.lstat().st_mode):
            yield from _walk(inner, f"{path}/{name}")


def _owned(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_mode, status.st_uid, status.st_gid


def _status(lower: Path, path: str) -> os.stat_result | None:
    """What the lower folder has there; None where nothing, or where a folder above was something else."""
    with suppress(FileNotFoundError, NotADirectoryError):
        at = lower
        for part in path.split("/")[1:-1]:
            at = at / part
            if not stat.S_ISDIR(at.lstat().st_mode):
                return None
        return (lower / path.lstrip("/")).lstat()
    return None


def _is_whiteout(entry: Path) -> bool:
    status = entry.lstat()
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _is_opaque(entry: Path, mode: int) -> bool:
    if not stat.S_ISDIR(mode):
        return False
    with suppress(OSError):
        return os.getxattr(entry, OPAQUE, follow_symlinks=False) == b"y"
    return False
