"""NBD plumbing between a source and its reader: serving an image of ours, and counting what is really read."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

from migrate.blocks import answers
from migrate.errors import MigrateError
from migrate.run import Run

UNITS = {"bytes": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
READ_LINE = re.compile(r"^read: \d+ ops, [\d.]+ s, ([\d.]+) (\w+),", re.MULTILINE)


@contextmanager
def served(run: Run, image: Path, form: str = "qcow2") -> Iterator[str]:
    """Serve a disk image read-only, with its extents; yield the URI. The image must be ours, or looked at before: it may name other files."""
    with tempfile.TemporaryDirectory(prefix="nbd-", dir=run.work) as folder:
        path = Path(folder) / "disk.sock"
        argv = ["qemu-nbd", "--read-only", "--persistent", "--shared=64", f"--format={form}", f"--socket={path}"]
        with run.daemon([*argv, image], ready=lambda: answers(socket_uri(path)), log=Path(folder) / "qemu-nbd.log"):
            yield socket_uri(path)


class Counted:
    """The disk behind a counter. `bytes_read` is known after the block that opened it was left; two digits behind the point."""

    def __init__(self, uri: str, keep: Path) -> None:
        self.uri = uri
        self.bytes_read = 0
        self._keep = keep

    @contextmanager
    def kept(self) -> Iterator[None]:
        """What is read in the block lies on this machine until the disk is closed: whoever reads it again asks the source no more."""
        self._keep.touch()
        try:
            yield
        finally:
            self._keep.unlink(missing_ok=True)


@contextmanager
def counted(run: Run, uri: str, notes: Path | None = None) -> Iterator[Counted]:
    """Serve the disk of an nbd+unix URI on another socket and count what is read through it.

    `notes` is a folder for the count of a run that is killed; `counts_left` finds it there.
    Source: nbdkit-nbd-plugin(1), nbdkit-stats-filter(1), nbdkit-cache-filter(1), nbdkit 1.32.
    """
    with tempfile.TemporaryDirectory(prefix="counted-", dir=run.work) as folder:
        path = Path(folder, "disk.sock")
        stats = (notes or Path(folder)) / f"{Path(folder).name}.reads"
        keep = Path(folder, "keep")
        served = Counted(socket_uri(path), keep)
        argv: list[str | Path] = ["nbdkit", "--foreground", "--readonly", "--unix", path]
        # What was kept is not asked of the counter below. Where nothing is kept, the cache costs nothing (measured).
        argv += ["--filter=cache", "--filter=stats", "nbd", f"uri={uri}", "shared=true"]
        argv += [f"statsfile={stats}", "cache=unsafe", f"cache-on-read={keep}"]
        try:
            log = Path(folder, "log")
            with run.daemon(argv, ready=lambda: answers(served.uri), log=log, last_words=notes is not None):
                yield served
        finally:
            served.bytes_read = _count_in(stats)
            stats.unlink(missing_ok=True)


def counts_left(notes: Path) -> int:
    """Return how many bytes runs have read that were killed, and forget them. Nothing may be counted there meanwhile."""
    found = list(notes.glob("*.reads"))
    count = sum(_count_in(stats) for stats in found)
    for stats in found:
        stats.unlink()
    return count


def _count_in(stats: Path) -> int:
    found = READ_LINE.search(stats.read_text()) if stats.exists() else None
    return round(float(found[1]) * UNITS[found[2]]) if found else 0


def socket_uri(path: Path) -> str:
    """Return the URI of an NBD export on a unix socket. Source: the NBD URI specification."""
    return f"nbd+unix:///?socket={quote(str(path))}"


def socket_path(uri: str) -> Path:
    """Return the socket of an nbd+unix URI."""
    parts = urlsplit(uri)
    sockets = parse_qs(parts.query).get("socket", [])
    if parts.scheme != "nbd+unix" or len(sockets) != 1:
        raise MigrateError(f"not an NBD URI of a unix socket: {uri}")
    return Path(sockets[0])
