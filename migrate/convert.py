"""From a source's disk to a qcow2 that Magalu takes: an overlay that holds the repairs, then one compressed image of the merged disk."""

import json
import os
import re
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from migrate.block_map import BlockMap
from migrate.blocks import Disk
from migrate.errors import MigrateError, ToolFailed
from migrate.qcow2 import Compression, Qcow2Writer, packer
from migrate.run import Limits, Progress, Run
from migrate.stream import chunks, needed

PERCENT = re.compile(rb"\((\d+\.\d+)/100%\)")
CHECK_LIMITS = Limits(address_space=4 << 30, cpu_seconds=3600)
SYNC_EVERY = 16 << 20
"""Bytes: less often, and the last sync takes longer."""
COROUTINES = 16
"""The most that qemu-img takes with -m; with -W, writing out of order, it is 20 % faster than the default (measured)."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A finished qcow2: bytes of the file, and bytes of the disk in it. `blocks` is what was read, where our own stream read it."""

    path: Path
    bytes: int
    virtual_bytes: int
    blocks: BlockMap | None = None


def make_overlay(run: Run, overlay: Path, uri: str) -> None:
    """An empty qcow2 takes what is written; what is not, is read from the disk behind the URI, which is never written."""
    overlay.unlink(missing_ok=True)
    run.tool(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", uri, overlay])


class Engine(Enum):
    """What converts: our own stream, or qemu-img, the reference."""

    STREAM = "stream"
    QEMU_IMG = "qemu-img"


def move_overlay(run: Run, overlay: Path, uri: str) -> None:
    """What the overlay does not hold is read from this URI: the same disk as before, served elsewhere."""
    run.tool(["qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", uri, overlay])


def convert(
    run: Run,
    uri: str,
    image: Path,
    stage: str,
    *,
    engine: Engine = Engine.STREAM,
    compression: Compression = Compression.ZLIB,
    still: Callable[[], None] = lambda: None,
) -> ImageFile:
    """The disk behind an NBD endpoint is one compressed qcow2 (compat 1.1, no backing file), found sound by `qemu-img check`.

    The image appears at its path only when it is whole and `still` has not raised; a stopped conversion leaves nothing there.
    """
    draft = image.with_name(image.name + ".part")
    try:
        match engine:
            case Engine.STREAM:
                blocks: BlockMap | None = _stream(run, uri, draft, stage, compression)
            case Engine.QEMU_IMG:
                blocks = None
                _by_qemu_img(run, uri, draft, stage, compression)
        check(run, draft)
        still()
        draft.replace(image)
    except OSError as error:
        raise MigrateError(
            f"{image} cannot be written: {error.strerror}", hint="Free space there, or name another folder with --work."
        ) from error
    finally:
        draft.unlink(missing_ok=True)
    return ImageFile(image, image.stat().st_size, blocks.disk_bytes if blocks else image_size(run, image), blocks)


def _stream(run: Run, uri: str, draft: Path, stage: str, compression: Compression) -> BlockMap:
    with Disk(uri) as disk, draft.open("wb") as file, _Synced(file) as image:
        total, done = needed(disk), 0
        writer = Qcow2Writer(image.append, disk.size, compression)
        sha256: dict[int, bytes] = {}
        for chunk in chunks(run, disk, packer(compression)):
            sha256[chunk.number] = chunk.sha256
            for number, cluster in chunk.clusters:
                writer.add(number, cluster)
            done += chunk.read
            run.tell(Progress(stage, done, total, "B"))
        head = writer.finish()
        file.seek(0)
        file.write(head)
        image.sync()
        return BlockMap(disk.size, sha256)


class _Synced:
    """A file that is on its way to the disk while it grows: one sync at the end of a large one takes a twelfth of the whole (measured)."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._unsynced = 0
        self._pool = ThreadPoolExecutor(1, "sync")
        self._syncing: Future[None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()

    def append(self, content: bytes) -> None:
        self._file.write(content)
        self._unsynced += len(content)
        if self._unsynced >= SYNC_EVERY and (self._syncing is None or self._syncing.done()):
            self._settle()
            self._unsynced = 0
            self._syncing = self._pool.submit(os.fdatasync, self._file.fileno())

    def sync(self) -> None:
        """What was written is on the disk. Raise OSError where it, or a sync before it, failed: Linux tells a failed write once only."""
        self._file.flush()
        self._settle()
        os.fsync(self._file.fileno())

    def _settle(self) -> None:
        if self._syncing is not None:
            self._syncing.result()


def _by_qemu_img(run: Run, uri: str, draft: Path, stage: str, compression: Compression) -> None:
    """Source of the options: docs.magalu.cloud, tutorial with libvirt (compat=1.1,lazy_refcounts=off)."""
    with Disk(uri) as disk:
        total = disk.size
    log = run.work / "convert.log"
    log.unlink(missing_ok=True)
    kind = "zstd" if compression is Compression.ZSTD else "zlib"
    argv = ["qemu-img", "convert", "-p", "-f", "raw", "-O", "qcow2", "-c", "-m", str(COROUTINES), "-W"]
    argv += ["-o", f"compat=1.1,compression_type={kind},lazy_refcounts=off", uri, str(draft)]
    with run.daemon(argv, ready=lambda: True, log=log) as child:
        while child.poll() is None:
            run.check()
            run.stop.wait(0.2)
            run.tell(Progress(stage, total * _fraction(log), total, "B"))
    if child.returncode != 0:
        raise ToolFailed("qemu-img convert", child.returncode, _said(log))


def check(run: Run, image: Path) -> None:
    """Raise MigrateError unless the qcow2's tables are sound."""
    try:
        run.tool(["qemu-img", "check", "-q", "-f", "qcow2", image], limits=CHECK_LIMITS)
    except ToolFailed as error:
        raise MigrateError(
            f"{image.name}: qemu-img check says that the image is not sound: {error.stderr.strip()}",
            hint="Run the same command again; if it stays so, the work folder's disk is suspect.",
        ) from error


def image_size(run: Run, image: Path) -> int:
    """Return the bytes of the disk in a qcow2 of ours."""
    said = run.tool(["qemu-img", "info", "--output", "json", "-f", "qcow2", image], limits=CHECK_LIMITS)
    return int(json.loads(said.stdout)["virtual-size"])


def _fraction(log: Path) -> float:
    """The last percentage that qemu-img wrote, as a fraction."""
    found = PERCENT.findall(log.read_bytes()[-4096:])
    return float(found[-1]) / 100 if found else 0.0


def _said(log: Path) -> str:
    return PERCENT.sub(b"", log.read_bytes()[-4096:]).decode(errors="replace").strip()
