"""The qcow2 that we write, read by QEMU: sound, and the same disk, whatever is on it."""

import json
import os
import random
import subprocess
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from migrate.blocks import Disk
from migrate.convert import Engine, convert
from migrate.errors import MigrateError
from migrate.nbd import served
from migrate.qcow2 import CLUSTER, Compression, Packed, Qcow2Writer, packer
from migrate.run import Run
from migrate.stream import chunks

PROGRAM = Path("/usr/bin/qemu-img").read_bytes()
"""Bytes that compress as those of a real disk do."""

every_compression = pytest.mark.parametrize("compression", Compression)


def cluster(kind: str, seed: int) -> bytes:
    match kind:
        case "random":
            return random.Random(seed).randbytes(CLUSTER)  # noqa: S311
        case "program":
            at = seed * 4099 % (len(PROGRAM) - CLUSTER)
            return PROGRAM[at : at + CLUSTER]
        case "uniform":
            return bytes([seed % 255 + 1]) * CLUSTER
        case _:
            return (b"nearly " * CLUSTER)[: CLUSTER // 2] + random.Random(seed).randbytes(CLUSTER // 2)  # noqa: S311


def write(path: Path, disk_bytes: int, clusters: Iterator[tuple[int, bytes]], compression: Compression) -> None:
    with path.open("wb") as file:
        writer = Qcow2Writer(lambda content: (file.write(content), None)[1], disk_bytes, compression)
        pack = packer(compression)
        for number, content in clusters:
            writer.add(number, pack(content))
        head = writer.finish()
        assert writer.length == file.tell()
        file.seek(0)
        file.write(head)


def read_back(raw: Path, image: Path) -> None:
    """QEMU finds no error, and the same bytes."""
    subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", image], check=True)
    subprocess.run(["qemu-img", "compare", "-q", "-f", "raw", "-F", "qcow2", raw, image], check=True)


@every_compression
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kinds=st.lists(st.sampled_from(["hole", "random", "program", "uniform", "half"]), max_size=60),
    short=st.integers(0, CLUSTER // 512 - 1),
)
def test_any_disk_is_read_back_by_qemu(
    tmp_path: Path, compression: Compression, kinds: Sequence[str], short: int
) -> None:
    """`short`: by how many sectors the disk ends before its last cluster does."""
    raw, image = tmp_path / "disk.raw", tmp_path / "disk.qcow2"
    disk_bytes = max(512, len(kinds) * CLUSTER - short * 512)
    held = [(number, cluster(kind, number)) for number, kind in enumerate(kinds) if kind != "hole"]
    if held and held[-1][0] == len(kinds) - 1 and short:
        held[-1] = held[-1][0], held[-1][1][: CLUSTER - short * 512].ljust(CLUSTER, b"\0")
    with raw.open("wb") as file:
        for number, content in held:
            file.seek(number * CLUSTER)
            file.write(content)
        file.truncate(disk_bytes)
    write(image, disk_bytes, iter(held), compression)
    read_back(raw, image)


def test_stock_qemu_needs_no_feature_for_zlib(tmp_path: Path) -> None:
    image = tmp_path / "disk.qcow2"
    write(image, 1 << 30, iter([(0, cluster("program", 1))]), Compression.ZLIB)
    about = json.loads(
        subprocess.run(
            ["qemu-img", "info", "--output=json", "-f", "qcow2", image], check=True, capture_output=True
        ).stdout
    )
    details = about["format-specific"]["data"]
    assert about["virtual-size"] == 1 << 30
    assert (details["compat"], details["compression-type"], details["refcount-bits"]) == ("1.1", "zlib", 16)
    assert "backing-filename" not in about
    assert image.read_bytes()[72:96] == bytes(24), "no feature bit is set"


def test_incompressible_clusters_are_stored_plain_and_cost_no_space_beyond_themselves(tmp_path: Path) -> None:
    """Every second cluster is random: had each begun at a border of its own, a third of the file would be empty."""
    kinds = ["random", "program"] * 200
    held = [(number, cluster(kind, number)) for number, kind in enumerate(kinds)]
    packed = [packer(Compression.ZLIB)(content) for _, content in held]
    image = tmp_path / "disk.qcow2"
    write(image, len(kinds) * CLUSTER, iter(held), Compression.ZLIB)
    assert [one.compressed for one in packed] == [False, True] * 200
    assert image.stat().st_size < 1.05 * sum(len(one.content) for one in packed) + 5 * CLUSTER


def test_the_same_disk_gives_the_same_bytes_with_any_number_of_threads(run: Run) -> None:
    raw = run.work / "disk.raw"
    with raw.open("wb") as file:
        for number in range(200):
            file.seek(number * 3 * CLUSTER)
            file.write(cluster("program" if number % 3 else "random", number))
    made = []
    with served(run, raw, "raw") as uri:
        for threads in (1, 7):
            with Disk(uri) as disk:
                parts: list[bytes] = []
                writer = Qcow2Writer(parts.append, disk.size)
                for chunk in chunks(run, disk, packer(Compression.ZLIB), threads=threads):
                    for number, packed in chunk.clusters:
                        writer.add(number, packed)
                made.append((writer.finish(), b"".join(parts)))
    assert made[0] == made[1]


@pytest.mark.parametrize("form", ["raw", "qcow2", "vmdk", "vpc", "vhdx"])
def test_every_format_converts_to_what_qemu_img_makes_of_it(run: Run, form: str) -> None:
    raw, disk = run.work / "disk.raw", run.work / "disk"
    with raw.open("wb") as file:
        for place, kind in enumerate(["program", "random", "uniform", "half"] * 8):
            file.seek(place * 5 * CLUSTER + 4096 * place)
            file.write(cluster(kind, place))
        file.truncate(64 << 20)
    option = ["-o", "force_size=on"] if form == "vpc" else []
    run.tool(["qemu-img", "convert", "-f", "raw", "-O", form, *option, raw, disk])
    with served(run, disk, form) as uri:
        for engine in Engine:
            convert(run, uri, run.work / f"{engine.value}.qcow2", "convert", engine=engine)
    run.tool(
        ["qemu-img", "compare", "-f", "qcow2", "-F", "qcow2", run.work / "stream.qcow2", run.work / "qemu-img.qcow2"]
    )
    read_back(raw, run.work / "stream.qcow2")


def test_a_sparse_disk_of_a_tebibyte_takes_no_time_and_little_space(run: Run) -> None:
    raw, image = run.work / "disk.raw", run.work / "image.qcow2"
    with raw.open("wb") as file:
        file.truncate((1 << 40) + 512)
        for place in (0, 1 << 39, 1 << 40):
            file.seek(place)
            file.write(b"here" * 128)
    with served(run, raw, "raw") as uri:
        made = convert(run, uri, image, "convert")
    assert made.virtual_bytes == (1 << 40) + 512
    assert made.bytes < 1 << 20
    with served(run, image) as uri, Disk(uri) as disk:
        for place in (0, 1 << 39, 1 << 40):
            assert disk.read(place, 512) == b"here" * 128
    assert made.blocks is not None
    assert len(made.blocks.sha256) == 3


def test_more_refcounts_than_one_block_holds(tmp_path: Path) -> None:
    """Beyond 2 GiB of file there are two refcount blocks: 40,000 plain clusters, of which the file is sparse here."""
    raw, image = tmp_path / "disk.raw", tmp_path / "disk.qcow2"
    marker = b"plain".ljust(CLUSTER, b".")
    with image.open("wb") as file:

        def append(content: bytes) -> None:
            if content.strip(b"\0"):
                file.write(content)
            else:
                file.seek(len(content), os.SEEK_CUR)

        writer = Qcow2Writer(append, 40_000 * CLUSTER)
        for number in range(40_000):
            writer.add(number, Packed(marker if number % 1000 == 7 else bytes(CLUSTER), False))
        head = writer.finish()
        file.truncate(writer.length)
        file.seek(0)
        file.write(head)
    with raw.open("wb") as file:
        for number in range(7, 40_000, 1000):
            file.seek(number * CLUSTER)
            file.write(marker)
        file.truncate(40_000 * CLUSTER)
    read_back(raw, image)


def test_clusters_out_of_order_or_beyond_the_disk_are_refused() -> None:
    writer = Qcow2Writer(lambda content: None, 4 * CLUSTER)
    add = partial(writer.add, cluster=Packed(b"x", True))
    add(2)
    for number in (2, 1, 4):
        with pytest.raises(ValueError, match=f"cluster {number}"):
            add(number)


def test_a_server_that_goes_away_is_a_plain_error(run: Run) -> None:
    raw = run.work / "disk.raw"
    raw.write_bytes(cluster("program", 1) * 64)
    with served(run, raw, "raw") as uri:
        disk = Disk(uri)
        assert disk.read(0, 16) == PROGRAM[4099:4115]
    with pytest.raises(MigrateError, match="the disk cannot be read"):
        disk.read(0, 16)
