"""From a disk to a qcow2: the same bytes, a sound file, and no traces of a stopped run."""

import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from adapters.files import FileSource
from migrate.blocks import Disk
from migrate.convert import convert, make_overlay
from migrate.errors import MigrateError, Stopped
from migrate.nbd import counted, socket_path, socket_uri
from migrate.nbd import served as served_overlay
from migrate.run import Progress, Run

MIB = 1 << 20


@contextmanager
def served(run: Run, raw: Path) -> Iterator[str]:
    socket = run.work / "raw.sock"
    argv: list[str | Path] = [
        "qemu-nbd",
        "--read-only",
        "--format=raw",
        "--persistent",
        "--shared=4",
        f"--socket={socket}",
        raw,
    ]
    with run.daemon(argv, ready=socket.exists):
        yield socket_uri(socket)


@pytest.fixture
def raw(run: Run) -> Path:
    """16 MiB, of which three are not zero; its size is no multiple of a cluster."""
    path = run.work / "disk.raw"
    with path.open("wb") as file:
        file.truncate(16 * MIB + 512)
        for offset in (0, 5 * MIB, 15 * MIB):
            file.seek(offset)
            file.write(os.urandom(MIB))
    return path


def test_an_overlay_becomes_a_sound_image_with_the_same_bytes(run: Run, raw: Path) -> None:
    seen: list[Progress] = []
    run.listener = lambda event: seen.append(event) if isinstance(event, Progress) else None
    overlay, image = run.work / "overlay.qcow2", run.work / "image.qcow2"
    with served(run, raw) as uri, counted(run, uri) as disk:
        make_overlay(run, overlay, disk.uri)
        run.tool(["qemu-io", "-f", "qcow2", "-c", "write -P 7 1M 64k", overlay])
        with served_overlay(run, overlay) as merged:
            made = convert(run, merged, image, "convert")
    assert made.virtual_bytes == 16 * MIB + 512
    assert made.bytes == image.stat().st_size
    expected = bytearray(raw.read_bytes())
    expected[MIB : MIB + 65536] = b"\7" * 65536
    back = run.work / "back.raw"
    run.tool(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", image, back])
    assert back.read_bytes() == expected
    info = json.loads(run.tool(["qemu-img", "info", "--output=json", "-f", "qcow2", image]).stdout)
    assert info["format-specific"]["data"]["compat"] == "1.1"
    assert info["format-specific"]["data"]["compression-type"] == "zlib"
    assert "backing-filename" not in info
    assert seen and all(0 <= event.done <= (event.total or 0) for event in seen)


def test_a_machine_of_many_cores_does_not_wait_for_more_connections_than_the_source_takes(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waited for ever from eight cores on: a reader per connection, and a server that took sixteen."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)))
    disk = run.work / "disk.raw"
    disk.write_bytes(os.urandom(4096) * (160 * MIB // 4096))
    source = FileSource(run, disk, "raw")
    token = source.freeze(source.describe(next(source.vms())), "name")
    with (
        ThreadPoolExecutor(1) as pool,  # outermost: where the server ends first, whoever waits for it fails
        source.frozen(token) as (opened,),
        opened.nbd() as uri,
    ):
        made = pool.submit(convert, run, uri, run.work / "image.qcow2", "convert").result(timeout=120)
    assert made.virtual_bytes == 160 * MIB


def test_what_cannot_be_brought_to_the_disk_is_told_though_later_syncs_succeed(
    run: Run, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux tells a failed write once, to whoever syncs next: here that is the thread beside the conversion."""
    monkeypatch.setattr("migrate.convert.SYNC_EVERY", MIB)
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: os.close(os.open("/dev/full/none", os.O_RDONLY)))
    with served(run, raw) as uri, pytest.raises(MigrateError, match=r"image\.qcow2 cannot be written"):
        convert(run, uri, run.work / "image.qcow2", "convert")
    assert not list(run.work.glob("image.qcow2*"))


def test_what_is_read_from_the_source_is_counted(run: Run, raw: Path) -> None:
    with served(run, raw) as uri, counted(run, uri) as disk:
        run.tool(["qemu-img", "convert", "-f", "raw", "-O", "raw", disk.uri, run.work / "copy.raw"])
    assert 3 * MIB <= disk.bytes_read <= 4 * MIB


def test_what_is_kept_is_read_of_the_source_once(run: Run, raw: Path) -> None:
    with served(run, raw) as uri, counted(run, uri) as disk, Disk(disk.uri) as opened:
        with disk.kept():
            first = opened.read(5 * MIB, MIB)
        assert opened.read(5 * MIB, MIB) == first
        for _ in range(2):
            opened.read(0, MIB)
    assert disk.bytes_read == 3 * MIB, "what was read later is not kept"


def test_a_stopped_conversion_leaves_nothing(run: Run, raw: Path) -> None:
    with raw.open("r+b") as file:
        for offset in range(0, 512 * MIB, MIB):
            file.seek(offset)
            file.write(os.urandom(MIB))
    overlay, image = run.work / "overlay.qcow2", run.work / "image.qcow2"
    with served(run, raw) as uri:
        make_overlay(run, overlay, uri)
        threading.Timer(0.5, run.stop.set).start()
        with served_overlay(run, overlay) as merged, pytest.raises(Stopped):
            convert(run, merged, image, "convert")
        run.stop.clear()
    assert list(run.work.glob("image.qcow2*")) == []


def test_only_uris_of_unix_sockets_are_taken() -> None:
    assert socket_path(socket_uri(Path("/run/x.sock"))) == Path("/run/x.sock")
    with pytest.raises(MigrateError):
        socket_path("nbd://example.org/")
