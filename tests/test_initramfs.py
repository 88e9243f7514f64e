"""Reading an initramfs: against archives that the real cpio and compressors wrote, broken ones, and the machine's own."""

import bz2
import gzip
import lzma
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import lz4.block
import lz4.frame
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

import migrate.initramfs
from migrate.errors import GuestError
from migrate.initramfs import (
    builtin_modules,
    cpio,
    missing_modules,
    module_dependencies,
    module_name,
    modules_inside,
    names_inside,
)

VIRTIO = {"usr/lib/modules/6.1/kernel/drivers/block/virtio_blk.ko": b"\x7fELF", "init": b"#!/bin/sh\n"}
MICROCODE = {"kernel/x86/microcode/GenuineIntel.bin": bytes(range(256)) * 7}


def _lz4_legacy(data: bytes) -> bytes:
    step = 8 << 20
    blocks = [lz4.block.compress(data[at : at + step], store_size=False) for at in range(0, len(data), step)]
    return bytes.fromhex("02214c18") + b"".join(struct.pack("<I", len(block)) + block for block in blocks)


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "xz": lambda data: lzma.compress(data, check=lzma.CHECK_CRC32),
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    "bzip2": bz2.compress,
    "zstd": lambda data: zstandard.ZstdCompressor(level=3).compress(data),
    "zstd, streamed": lambda data: (c := zstandard.ZstdCompressor().compressobj()).compress(data) + c.flush(),
    "lz4 frame": lz4.frame.compress,
    "lz4 legacy": _lz4_legacy,
}


@pytest.mark.parametrize("compress", COMPRESSORS.values(), ids=COMPRESSORS)
def test_names_are_read_behind_microcode_and_through_every_compressor_that_linux_knows(
    compress: Callable[[bytes], bytes],
) -> None:
    initrd = cpio(MICROCODE) + bytes(512) + compress(cpio(VIRTIO)) + bytes(3)
    assert names_inside(initrd) == set(MICROCODE) | set(VIRTIO)
    assert modules_inside(initrd) == {"virtio_blk"}


@given(
    st.lists(
        st.tuples(
            st.dictionaries(
                st.text("abc/-_.é", min_size=1).filter(lambda n: n.strip("./")), st.binary(max_size=300), max_size=5
            ),
            st.sampled_from(sorted(COMPRESSORS)),
            st.integers(0, 9),
        ),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=60, deadline=None)
def test_any_row_of_archives_gives_all_their_names(row: list[tuple[dict[str, bytes], str, int]]) -> None:
    initrd = b"".join(COMPRESSORS[how](cpio(files)) + bytes(zeros) for files, how, zeros in row)
    assert {name.lstrip("/") for files, _, _ in row for name in map(_shown, files)} == names_inside(initrd)


def _shown(name: str) -> str:
    return name.removeprefix(".") if name.startswith("./") else name


@given(st.binary(max_size=400), st.integers(0, 2000))
@settings(max_examples=150, deadline=None)
def test_broken_bytes_end_in_a_GuestError_or_an_answer(noise: bytes, cut: int) -> None:
    for initrd in (noise, gzip.compress(cpio(VIRTIO))[:cut] + noise, cpio(VIRTIO)[:cut] + noise):
        try:
            names_inside(initrd)
        except GuestError:
            continue


def test_the_real_cpio_writes_what_we_read(tmp_path: Path) -> None:
    (tmp_path / "lib/modules/6.1/kernel").mkdir(parents=True)
    (tmp_path / "lib/modules/6.1/kernel/virtio-net.ko.zst").write_bytes(b"x" * 1001)
    (tmp_path / "sbin").symlink_to("usr/sbin")
    names = b"".join(str(path.relative_to(tmp_path)).encode() + b"\0" for path in sorted(tmp_path.rglob("*")))
    archive = subprocess.run(
        ["cpio", "--quiet", "-0", "-o", "-H", "newc"], cwd=tmp_path, input=names, capture_output=True, check=True
    )
    assert {"sbin", "lib/modules/6.1/kernel/virtio-net.ko.zst"} < names_inside(archive.stdout)
    assert modules_inside(archive.stdout) == {"virtio_net"}


def test_the_real_cpio_reads_what_we_write(tmp_path: Path) -> None:
    listed = subprocess.run(["cpio", "--quiet", "-t"], input=cpio(VIRTIO), capture_output=True, check=True)
    assert set(listed.stdout.decode().split()) == set(VIRTIO)


def test_a_bomb_is_refused_before_it_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate.initramfs, "MOST_BYTES", 1 << 20)
    for name, compress in COMPRESSORS.items():
        if name != "plain":
            with pytest.raises(GuestError, match="unpacks to more than"):
                names_inside(compress(cpio({"zeros": bytes(3 << 20)})))


def test_what_is_no_archive_at_all_is_named() -> None:
    with pytest.raises(GuestError, match="no initramfs: it begins with 7f 45 4c 46"):
        names_inside(b"\x7fELF\x02\x01")


def test_a_boot_configuration_behind_the_archives_is_left_alone() -> None:
    assert names_inside(gzip.compress(cpio(VIRTIO)) + b"kernel.loglevel=7\0#BOOTCONFIG\n") == set(VIRTIO)


def test_modules_have_one_name_however_they_are_written() -> None:
    for path in (
        "virtio_blk",
        "virtio-blk.ko",
        "kernel/drivers/block/virtio_blk.ko.xz",
        "/lib/modules/6.1/virtio-blk.ko.zst",
    ):
        assert module_name(path) == "virtio_blk"


def test_a_module_that_the_kernel_holds_is_not_missing() -> None:
    builtin = builtin_modules("kernel/drivers/virtio/virtio.ko\nkernel/drivers/virtio/virtio-pci.ko\n")
    wanted = frozenset({"virtio_pci", "virtio_blk", "virtio_net"})
    assert missing_modules(wanted, inside=frozenset({"virtio_blk"}), builtin=builtin) == {"virtio_net"}


def test_the_modules_that_a_module_needs_are_read_from_modules_dep() -> None:
    text = "kernel/net/virtio_net.ko: kernel/net/net-failover.ko kernel/net/failover.ko\nkernel/block/virtio_blk.ko:\n"
    assert module_dependencies(text) == {"virtio_net": {"net_failover", "failover"}, "virtio_blk": frozenset()}


@pytest.mark.slow
def test_a_real_initramfs_reads_as_lsinitramfs_reads_it() -> None:
    initrd = max(Path("/boot").glob("initrd.img-*"))
    listed = subprocess.run(["lsinitramfs", initrd], capture_output=True, text=True, check=True).stdout
    assert names_inside(initrd.read_bytes()) == set(filter(None, listed.split("\n")))
