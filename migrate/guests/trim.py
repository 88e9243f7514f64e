"""What no file uses reads as zeros afterwards: it is neither fetched from the source nor sent.

Free blocks of mounted file systems, what lies in swap space, free room of volume groups, room between and behind partitions. What could mean
something to somebody stays: what lies before the first partition (GRUB's core), the end of the disk (GPT's second table, RAID labels),
partitions whose content nobody knows, and swap space that holds a hibernated system.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from migrate.blocks import Span
from migrate.errors import GuestError
from migrate.guest import Layout
from migrate.guests.appliance import Calls
from migrate.guests.disks import fstab_lines
from migrate.run import Run
from migrate.space import holding

PAGE = 4096
"""What mkswap(8) writes is in the first page: signature, UUID, label, bad pages. It is the page of x86-64, our only kind of guest."""
SWAP_MAGIC = b"SWAPSPACE2"
"""At the end of that page; a hibernated system has put another one there. Source: Linux, include/linux/swap.h and kernel/power/swap.c."""
PREALLOCATES = frozenset({"ext4", "xfs"})
"""File systems whose swap files may hold blocks that were never written. Source: swapon(8), "Files with holes"."""
SCRATCH = "magalu-migrate-free"
END = 4 << 20
"""At the end of a disk: GPT's second table takes 33 sectors, mdadm's oldest label 128 KiB, firmware RAID's up to 1 MiB."""

Execute = Callable[[Sequence[str]], str]
"""Runs a program of the guest; raises GuestError where it fails."""


def trim(call: Calls, mountpoints: Sequence[str]) -> None:
    """Clusters that no file uses read as zeros. A file system that cannot be trimmed is only larger."""
    for mountpoint in mountpoints:
        with suppress(GuestError):
            call.fstrim(mountpoint)


def give_up(
    call: Calls, layout: Layout, mountpoints: Sequence[str], execute: Execute, empty: Collection[str] = ()
) -> None:
    """The same, and what lies in swap space and in free room of volume groups. Names, UUIDs, labels and sizes stay.

    `empty` are swap files that are known to hold nothing: to ask takes two seconds under emulation.
    """
    emptied = [
        path for path in _swap_files(call, layout) if path not in empty and _emptied(path, call.filesize(path), execute)
    ]
    trim(call, mountpoints)
    for path in emptied:
        _reserve(path, call.filesize(path), execute)  # a swap file with holes is refused: swapon(8)
    for fs in layout.filesystems:
        if fs.type == "swap" and fs.on_boot_disk and (head := _swap_head(bytes(call.pread_device(fs.device, PAGE, 0)))):
            call.blkdiscard(fs.device)
            call.pwrite_device(fs.device, head, 0)
    _empty_groups(call)


def gaps(call: Calls, device: str) -> tuple[Span, ...]:
    """Return the room of a partitioned disk that is in no partition: between them, and behind the last one."""
    try:
        parts = sorted((part["part_start"], part["part_end"] + 1) for part in call.part_list(device))
    except GuestError:
        return ()  # no partition table
    found, at = [], parts[0][1] if parts else 0
    for start, end in [*parts[1:], (call.blockdev_getsize64(device) - END, 0)] if parts else ():
        # A logical partition lies in the extended one, and what its table says stands between them.
        if start > at:
            found.append(Span(at, start - at))
        at = max(at, end)
    return tuple(found)


def discard(run: Run, overlay: Path, spans: Sequence[Span]) -> None:
    """The spans of the overlay's disk read as zeros, but for what of them does not fill a cluster."""
    commands = [word for span in spans for word in ("-c", f"discard {span.offset} {span.length}")]
    if commands:
        run.tool(["qemu-io", "-f", "qcow2", "-d", "unmap", *commands, overlay])


def _swap_head(page: bytes) -> bytes | None:
    return page if page.endswith(SWAP_MAGIC) else None


def _swap_files(call: Calls, layout: Layout) -> Iterator[str]:
    """Yield the swap files of fstab(5) that can be emptied; one that is reached through a link is not."""
    fstab = bytes(call.pread("/etc/fstab", 1 << 20, 0)).decode("utf-8", "surrogateescape")
    for line in fstab_lines(fstab):
        fs = holding(layout, line.spec)
        if line.type != "swap" or fs is None or fs.type not in PREALLOCATES:
            continue
        with suppress(GuestError):
            is_plain = call.realpath(line.spec) == line.spec and call.is_file(line.spec)
            if is_plain and _swap_head(bytes(call.pread(line.spec, PAGE, 0))):
                yield line.spec


def _emptied(path: str, size: int, execute: Execute) -> bool:
    """Give up the pages of a swap file. Return whether it was done: the guest may have no fallocate(1) that can."""
    with suppress(GuestError):
        _reserve(path, size, execute)  # where this cannot be done, nothing is punched
        execute(["fallocate", "--punch-hole", "--offset", str(PAGE), "--length", str(size - PAGE), path])
        return True
    return False


def _reserve(path: str, size: int, execute: Execute) -> None:
    execute(["fallocate", "--offset", str(PAGE), "--length", str(size - PAGE), path])


def _empty_groups(call: Calls) -> None:
    """LVM itself says what is free: a volume is made of it, and goes again."""
    with suppress(GuestError):  # no LVM
        for group in [group["vg_name"] for group in call.vgs_full() if group["vg_free_count"] > 0]:
            with suppress(GuestError):  # a group that is not whole, or locked
                call.lvcreate_free(SCRATCH, group, 100)
                try:
                    call.blkdiscard(f"/dev/{group}/{SCRATCH}")
                finally:
                    call.lvremove(f"/dev/{group}/{SCRATCH}")
