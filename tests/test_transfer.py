"""A disk flows into an object: whole, once, and after a crash only what is missing."""

import hashlib
import json
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from adapters.magalu import magalu_target, region
from adapters.magalu.target import MagaluTarget, Settings
from adapters.magalu.uploads import MIN_PART
from adapters.sandbox import Sandbox
from migrate import journal
from migrate.block_map import CHUNK, BlockMap
from migrate.block_map import read as read_map
from migrate.blocks import Disk
from migrate.convert import convert
from migrate.errors import MigrateError, Stopped, TargetBusy
from migrate.estimate import estimate
from migrate.nbd import counted, served
from migrate.qcow2 import Compression, packer
from migrate.run import Run
from migrate.transfer import Place, Transferred, transfer
from migrate.verify import verify
from tests.cloud import Notebook, box_credentials, observed, s3

BUCKET = "transfers-of-the-tests"
MIB = 1 << 20


@pytest.fixture
def disk(run: Run) -> Path:
    """96 MiB with holes, of which some 32 MiB do not compress: six parts and a piece."""
    path = run.work / "disk.raw"
    noise = random.Random(1)  # noqa: S311
    with path.open("wb") as file:
        for place in range(0, 80, 2):
            file.seek(place * MIB + 12345 * (place % 3))
            file.write(noise.randbytes(MIB) if place % 10 else b"text " * 200_000)
        file.truncate(96 * MIB + 512)
    return path


@contextmanager
def target(run: Run, box: Sandbox, url: str | None = None, **more: int) -> Iterator[MagaluTarget]:
    where = region("br-se1", api_url=box.api_url, s3_url=url or box.s3_url)
    settings = Settings(bucket=BUCKET, part_bytes=MIN_PART, **more)  # type: ignore[arg-type]
    with magalu_target(run, where, box_credentials(box), Notebook(), settings) as opened:
        yield opened


def sent(run: Run, box: Sandbox, disk: Path, place: Place, *, url: str | None = None) -> Transferred:
    with served(run, disk, "raw") as uri, target(run, box, url) as opened:
        return transfer(run, uri, opened, place, "transfer")


def stored(box: Sandbox, key: str) -> bytes:
    return s3(box).get_object(Bucket=BUCKET, Key=key)["Body"].read()


def same(disk: Path, image: Path) -> None:
    subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", image], check=True)
    subprocess.run(["qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2", disk, image], check=True)


@pytest.mark.slow
def test_the_object_is_the_disk_and_the_kept_file_is_the_object(run: Run, box: Sandbox, disk: Path) -> None:
    kept = run.work / "kept.qcow2"
    made = sent(run, box, disk, Place("whole.qcow2", run.work, kept))
    assert kept.read_bytes() == stored(box, "whole.qcow2")
    assert made.stored.bytes == kept.stat().st_size
    same(disk, kept)
    content = disk.read_bytes()
    for number in range(made.blocks.chunks):
        piece = content[number * CHUNK : (number + 1) * CHUNK]
        assert made.blocks.of(number) == hashlib.sha256(piece).digest()


@pytest.mark.slow
def test_the_object_is_read_back_and_every_piece_that_differs_is_named(run: Run, box: Sandbox, disk: Path) -> None:
    made = sent(run, box, disk, Place("verified.qcow2", run.work, run.work / "kept.qcow2"))
    with target(run, box) as opened:
        verify(run, lambda offset, length: opened.read(made.stored, offset, length), made.blocks, "verify")
    spoilt = bytearray((run.work / "kept.qcow2").read_bytes())
    spoilt[20 * MIB] ^= 1
    with pytest.raises(MigrateError, match=r"1 of 25 pieces of 4 MiB differ, at offset \d+"):
        verify(run, lambda offset, length: bytes(spoilt[offset : offset + length]), made.blocks, "verify")
    with pytest.raises(MigrateError, match="no qcow2 of ours"):
        verify(run, lambda offset, length: bytes(length), made.blocks, "verify")


@pytest.mark.parametrize("compression", Compression)
def test_each_compression_is_read_back(run: Run, disk: Path, compression: Compression) -> None:
    image = run.work / "image.qcow2"
    with served(run, disk, "raw") as uri:
        made = convert(run, uri, image, "convert", compression=compression)
    assert made.blocks is not None
    content = image.read_bytes()
    verify(run, lambda offset, length: content[offset : offset + length], made.blocks, "verify")


@pytest.mark.slow
def test_the_part_with_the_header_is_sent_last(run: Run, box: Sandbox, disk: Path) -> None:
    with observed(box.s3_url) as seen:
        sent(run, box, disk, Place("order.qcow2", run.work), url=seen.url)
    assert sorted(seen.parts) == list(range(1, len(seen.parts) + 1))
    assert seen.parts[-1] == 1


@pytest.mark.slow
@pytest.mark.parametrize("stopped_at", [2, 4, 6])
def test_a_stop_then_a_second_run_sends_and_reads_only_what_is_missing(
    run: Run, box: Sandbox, disk: Path, stopped_at: int
) -> None:
    key = f"stopped-at-{stopped_at}.qcow2"
    place = Place(key, run.work, run.work / "kept.qcow2")
    with observed(box.s3_url) as seen:
        seen.stop_at, seen.stop = stopped_at, run.stop.set
        with pytest.raises(Stopped):
            sent(run, box, disk, place, url=seen.url)
        run.stop.clear()
        seen.stop_at = None
        seen.forget()
        with served(run, disk, "raw") as uri, counted(run, uri) as disk_read, target(run, box, seen.url) as opened:
            made = transfer(run, disk_read.uri, opened, place, "transfer")
    # Two were on their way when it stopped; what arrived before is not sent again. The first one waits here until the end.
    assert {number for number in seen.parts if 1 < number < stopped_at - 1} == set()
    assert seen.parts[-1] == 1
    arrived = max(0, stopped_at - 3) * MIN_PART
    assert disk_read.bytes_read <= 41 * MIB - arrived + 32 * MIB, "at most one settled run of the disk is read again"
    assert place.keep is not None
    assert place.keep.read_bytes() == stored(box, key)
    same(disk, place.keep)
    assert made.blocks.digest == sent(run, box, disk, Place("again.qcow2", run.work)).blocks.digest


@pytest.mark.slow
def test_a_run_that_ended_after_the_object_was_complete_sends_nothing_again(run: Run, box: Sandbox, disk: Path) -> None:
    place = Place("complete.qcow2", run.work)
    first = sent(run, box, disk, place)
    with observed(box.s3_url) as seen:
        second = sent(run, box, disk, place, url=seen.url)
        assert seen.parts == []
    assert second == first


@pytest.mark.slow
def test_another_disk_under_the_same_key_begins_anew(run: Run, box: Sandbox, disk: Path) -> None:
    place = Place("other.qcow2", run.work)
    with observed(box.s3_url) as seen, pytest.raises(Stopped):
        seen.stop_at, seen.stop = 4, run.stop.set
        sent(run, box, disk, place, url=seen.url)
    run.stop.clear()
    with disk.open("ab") as file:
        file.truncate(100 * MIB)
    sent(run, box, disk, place)
    image = run.work / "back.qcow2"
    image.write_bytes(stored(box, "other.qcow2"))
    same(disk, image)


@pytest.mark.slow
def test_a_journal_that_a_crash_tore_is_believed_up_to_the_tear(run: Run, box: Sandbox, disk: Path) -> None:
    place = Place("torn.qcow2", run.work)
    with observed(box.s3_url) as seen, pytest.raises(Stopped):
        seen.stop_at, seen.stop = 5, run.stop.set
        sent(run, box, disk, place, url=seen.url)
    run.stop.clear()
    with place.journal.open("r+b") as file:
        file.truncate(place.journal.stat().st_size - 40)
    sent(run, box, disk, place)
    image = run.work / "back.qcow2"
    image.write_bytes(stored(box, "torn.qcow2"))
    same(disk, image)


@pytest.mark.slow
def test_an_image_that_grows_past_the_limit_is_given_up_and_nothing_is_left(run: Run, box: Sandbox, disk: Path) -> None:
    place = Place("large.qcow2", run.work)
    with served(run, disk, "raw") as uri, target(run, box, file_limit=20 * MIB) as opened:
        with pytest.raises(MigrateError, match="the target takes 20 MiB"):
            transfer(run, uri, opened, place, "transfer")
        assert opened.stored("large.qcow2", "any") is None
    begun = s3(box).list_multipart_uploads(Bucket=BUCKET, Prefix="large").get("Uploads", [])
    assert begun == []
    assert not place.journal.exists()
    assert not place.first_part.exists()


@pytest.mark.slow
def test_storage_that_is_gone_half_way_is_a_plain_error_and_the_next_run_goes_on(
    run: Run, box: Sandbox, disk: Path
) -> None:
    place = Place("gone.qcow2", run.work)
    with observed(box.s3_url) as seen:
        seen.dead_after = 22 * MIB
        with pytest.raises(TargetBusy, match="run the same command again"):
            sent(run, box, disk, place, url=seen.url)
    with observed(box.s3_url) as seen:
        sent(run, box, disk, place, url=seen.url)
        assert 2 not in seen.parts
    image = run.work / "back.qcow2"
    image.write_bytes(stored(box, "gone.qcow2"))
    same(disk, image)


def test_the_estimate_holds_the_truth_within_its_bar(run: Run, disk: Path) -> None:
    with served(run, disk, "raw") as uri:
        with Disk(uri) as opened:
            told = estimate(run, opened, packer(Compression.ZLIB))
        made = convert(run, uri, run.work / "image.qcow2", "convert")
    assert told.low <= made.bytes <= told.high
    assert abs(made.bytes - told.expected) < 0.1 * made.bytes


def test_a_block_map_reads_back_as_it_was_written(tmp_path: Path) -> None:
    blocks = BlockMap(3 * CHUNK + 7, {0: hashlib.sha256(b"a").digest(), 3: hashlib.sha256(b"b").digest()})
    blocks.write(tmp_path / "blocks")
    assert read_map(tmp_path / "blocks") == blocks
    assert blocks.of(1) == hashlib.sha256(bytes(CHUNK)).digest()
    for spoilt in ("", "{}", json.dumps({"version": 9}), (tmp_path / "blocks").read_text() + "x y\n"):
        (tmp_path / "bad").write_text(spoilt)
        with pytest.raises(MigrateError, match="cannot be read as a block map"):
            read_map(tmp_path / "bad")


def test_a_journal_with_a_line_that_was_cut_off_in_the_middle_is_believed_up_to_there(tmp_path: Path) -> None:
    """A full disk cuts a line off, and once there is room again others follow on it."""
    path = tmp_path / "journal"
    head = journal.Head(
        upload="u", mark="m", key="k", part_bytes=MIN_PART, disk_bytes=MIB, compression=Compression.ZLIB
    )
    journal.begin(path, journal.Past(head, (), {2: "a" * 32}, {3: "b" * 32})).close()
    with path.open("a") as file:
        file.write("c 4 00112p 5 cc\np 6 dd\n")
    assert journal.read(path) == journal.Past(head, (), {2: "a" * 32}, {3: "b" * 32})


def test_what_is_no_journal_is_none(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    assert journal.read(path) is None
    for text in ("", "x\n", "{}\n", '{"upload": 1}\n'):
        path.write_text(text)
        assert journal.read(path) is None
