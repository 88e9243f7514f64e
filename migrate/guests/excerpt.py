"""The few places of a disk that say what is on it, as a sparse file, for sfdisk and blkid to look at in a sandbox.

A partition table, and what libblkid knows things by, lie at the beginning or the end: some MiB are read where the disk has hundreds of GiB.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from migrate.guests.disks import EXTENDED, SECTOR
from migrate.guests.sandbox import give, sandboxed
from migrate.run import NO_LIMITS, Limits, Output, Run

HEAD = 2 << 20
"""btrfs has its superblock at 64 KiB, ZFS four labels of 256 KiB, vfat its name behind two tables of some hundred KiB."""
TAIL = 256 << 10
"""md (0.9 and 1.0), mainboards' RAIDs and ZFS write at the end, GPT its second table."""
MOST_RECORDS = 256

SHOWN = "/excerpt"

Read = Callable[[int, int], bytes]
"""Reads a disk or a volume: offset and size in bytes."""


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A sparse file that holds what was shown of a disk or a volume. `path` is where `tool` sees it."""

    run: Run
    folder: Path
    read: Read
    size: int

    @property
    def path(self) -> str:
        return f"{SHOWN}/disk"

    def show(self, start: int, size: int) -> None:
        """What lies at the beginning and at the end of a place can be seen."""
        with (self.folder / "disk").open("r+b") as file:
            for offset, count in ((start, min(HEAD, size)), (start + max(0, size - TAIL), min(TAIL, size))):
                count = min(count, self.size - offset)
                if count > 0:
                    file.seek(offset)
                    file.write(self.read(offset, count))

    def show_boot_records(self) -> None:
        """The chain of extended boot records, which lie anywhere, can be seen. One that leads nowhere ends it."""
        offset, base = 0, 0
        for _ in range(MOST_RECORDS):
            record = self.read(offset, SECTOR)
            if len(record) < SECTOR or record[510:] != b"\x55\xaa":
                return
            entries = [struct.unpack_from("<4xB3xI", record, at) for at in range(446, 510, 16)]
            first = next((start for kind, start in entries if f"{kind:x}" in EXTENDED and start), None)
            if first is None:
                return
            offset = (base + first) * SECTOR
            base = base or first
            if offset + SECTOR > self.size:
                return
            self.show(offset, SECTOR)

    def tool(
        self,
        argv: Sequence[str | Path],
        *,
        limits: Limits = NO_LIMITS,
        timeout: float | None = 120,
        ok: Sequence[int] = (0,),
    ) -> Output:
        """Run a program of the host that sees this file and nothing else."""
        return self.run.tool(sandboxed(argv, folder=(self.folder, SHOWN)), limits=limits, timeout=timeout, ok=ok)


@contextmanager
def excerpt(run: Run, read: Read, size: int) -> Iterator[Excerpt]:
    """Open an excerpt that shows nothing yet but the beginning and the end of the whole."""
    with TemporaryDirectory(prefix="excerpt-", dir=run.work) as name:
        folder = Path(name)
        with (folder / "disk").open("wb") as file:
            file.truncate(size)
        give(folder / "disk")
        give(folder)
        opened = Excerpt(run, folder, read, size)
        opened.show(0, size)
        yield opened
