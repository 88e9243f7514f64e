"""The root file system fills whatever disk the instance gets, as Magalu Cloud requires: nothing may lie behind its partition."""

from migrate.draft import Draft
from migrate.effects import Severity
from migrate.guest import DropPartition, Filesystem, Layout, MakeSwapFile, Rebuild
from migrate.remediation import Settings, remediation
from migrate.text import size
from remediations import kernel_arguments, lvm
from remediations.device_names import filesystem, names_volume
from remediations.fstab import FSTAB, RESUME, WHO
from remediations.mount_table import Row, rewritten, rows

GROWABLE = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs"})
"""What cloud-init's resizefs grows, of what guests have their root on. Source: cloud-init, cc_resizefs.py."""

HOLDS_SWAP_FILES = frozenset({"ext2", "ext3", "ext4", "xfs"})
"""On btrfs a swap file must not be copied on write, which takes more than mkswap. Source: btrfs(5), "SWAPFILE SUPPORT"."""

MIB = 1 << 20
SPARE = 512 * MIB
"""Left free on the root until it has grown, for the boot to write into."""


@remediation(
    "let-the-root-grow",
    "Let the root file system grow to the size of its new disk",
    sources=(
        "docs.magalu.cloud, import of custom images: growing at the first boot is required",
        "growpart(1): a partition grows up to the next one; cloud-init, cc_growpart.py",
        "seen on a real guest: a swap partition behind the root kept it from growing",
        "initramfs-tools(7), resume=; initramfs.conf(5), RESUME",
    ),
)
def let_the_root_grow(draft: Draft, settings: Settings) -> None:
    """cloud-init grows a partition only up to the next one, so a swap partition behind the root becomes a swap file of the same size.

    The swap file takes the partition's place in fstab, and nothing resumes from it. What cannot be mended here (another partition behind
    the root, a logical partition, an encrypted volume) is told with what helps. A root on LVM is left to grow-root-volume.
    """
    layout = draft.layout
    root = layout.root_filesystem
    behind = tuple(
        fs
        for fs in layout.filesystems
        if fs.disk == root.disk is not None and (fs.start or 0) > (root.start or 0) and fs.partition is not None
    )
    if lvm.grows(draft):
        return
    obstacle = _obstacle(layout, root, behind)
    if obstacle is not None:
        code, text, remedy = obstacle
        draft.find(code, text, remedy=remedy)
    elif behind:
        _replace_swap(draft, layout, root, behind)


def _obstacle(layout: Layout, root: Filesystem, behind: tuple[Filesystem, ...]) -> tuple[str, str, str] | None:
    """Return code, text and remedy of what keeps the root from growing and is not mended here."""
    if root.disk is None:
        return (
            "DISK-006",
            f"The root is on {root.device}, which is no partition and does not grow by itself: it keeps its {size(root.size)}.",
            f"On the new machine: {_volume_commands(root)}",
        )
    if layout.table == "dos" and root.partition is not None and root.partition > 4:
        return (
            "DISK-006",
            f"The root is on {root.device}, a logical partition, which cannot outgrow its extended partition.",
            "On the new machine, grow both: parted /dev/vda resizepart NUMBER 100%, first the extended one; then resize the file system.",
        )
    if data := [fs for fs in behind if fs.type != "swap"]:
        names = " and ".join(f"{fs.device} ({fs.type}, {fs.mountpoint or 'not mounted'})" for fs in data)
        return (
            "DISK-006",
            f"{names} {'lies' if len(data) == 1 else 'lie'} behind the root, which therefore keeps its {size(root.size)}.",
            "Put it on a disk of its own, or attach a volume for what must grow.",
        )
    if root.type not in GROWABLE:
        return ("DISK-006", f"The root is {root.type}, which cloud-init does not grow.", "Grow it by hand.")
    if behind and root.type not in HOLDS_SWAP_FILES:
        return (
            "DISK-006",
            f"A swap partition lies behind the root, which is {root.type} and takes no plain swap file; the root keeps its {size(root.size)}.",
            "Remove the swap partition and its line in /etc/fstab from the source VM.",
        )
    return None


def _volume_commands(root: Filesystem) -> str:
    if not names_volume(root.device):
        return "grow what lies below it, then the file system."
    return f"growpart /dev/vda NUMBER && pvresize /dev/vdaNUMBER && lvextend -r -l +100%FREE {root.device}"


def _replace_swap(draft: Draft, layout: Layout, root: Filesystem, swaps: tuple[Filesystem, ...]) -> None:
    used = tuple(fs for fs in swaps if _is_used(draft, layout, fs))
    wanted = sum(fs.size for fs in used)
    given = wanted if root.free is None else min(wanted, (root.free - SPARE) // MIB * MIB)
    path = _free_name(draft) if given >= 16 * MIB else None
    why = "lies behind the root and keeps it from growing"
    if path is not None:
        draft.change_layout(MakeSwapFile(path, given), why=f"takes the place of a swap partition that {why}")
    for fs in swaps:
        if fs.disk is not None and fs.partition is not None:
            draft.change_layout(DropPartition(fs.disk, fs.partition), why=why)
    draft.edit(
        FSTAB,
        lambda text: _swapped(text, layout, swaps, path),
        why="names a swap partition that is a file now" if path else "names a swap partition that is gone",
    )
    kernel_arguments.rewrite(
        draft,
        lambda words: tuple(word for word in words if not _resumes(layout, swaps, word)),
        why="makes the kernel wait for a swap partition that is gone",
    )
    _resume_from_nothing(draft)
    draft.rebuild(Rebuild.INITRAMFS, why="waits for the swap partition that is gone")
    _tell(draft, swaps, wanted, given if path else 0)


def _is_used(draft: Draft, layout: Layout, fs: Filesystem) -> bool:
    return any(
        row.column(2) == "swap" and filesystem(layout, row.column(0)) == fs for row in rows(draft.read(FSTAB) or "")
    )


def _free_name(draft: Draft) -> str:
    return next(
        path for path in ("/swapfile", *(f"/swapfile{number}" for number in range(1, 100))) if not draft.exists(path)
    )


def _swapped(text: str, layout: Layout, swaps: tuple[Filesystem, ...], path: str | None) -> str:
    """The first line of a partition that goes names the file; further ones become comments."""
    left = [path] if path else []

    def row_swapped(row: Row) -> tuple[Row, ...]:
        if filesystem(layout, row.column(0)) not in swaps:
            return (row,)
        if left:
            return (row.with_column(0, left.pop()),)
        return Row(f"{WHO} this swap partition lay behind the root and is gone"), Row(f"#{row.line}")

    return rewritten(text, row_swapped)


def _resumes(layout: Layout, swaps: tuple[Filesystem, ...], word: str) -> bool:
    return word.startswith("resume=") and filesystem(layout, word.removeprefix("resume=")) in swaps


def _resume_from_nothing(draft: Draft) -> None:
    """Say so even where nothing was said: initramfs-tools then looks for a swap partition by itself, on the machine that builds."""
    if not {"initramfs-tools", "initramfs-tools-core"} & set(draft.packages):
        return
    text = draft.read(RESUME) or ""
    kept = [line for line in text.splitlines() if not line.strip().startswith("RESUME=")]
    draft.write(
        RESUME, "\n".join([*kept, "RESUME=none", ""]), why="makes each boot wait for a swap partition to resume from"
    )


def _tell(draft: Draft, swaps: tuple[Filesystem, ...], wanted: int, given: int) -> None:
    names = " and ".join(fs.device for fs in swaps)
    lies = f"swap partition {names} lies" if len(swaps) == 1 else f"swap partitions {names} lie"
    if given == wanted > 0:
        text = f"{lies} behind the root; it becomes a {size(given)} swap file so that the root can grow."
        draft.find("DISK-004", text, severity=Severity.NOTE)
    elif not wanted:
        draft.find(
            "DISK-004",
            f"{lies} behind the root and is not in {FSTAB}; it goes, so that the root can grow.",
            severity=Severity.NOTE,
        )
    else:
        room = f"a swap file of only {size(given)} fits" if given else "no swap file fits"
        draft.find(
            "DISK-007",
            f"{lies} behind the root and goes, so that the root can grow; {room} before that.",
            remedy=f"After the first boot: {'swapoff /swapfile && ' if given else ''}fallocate -l {wanted // MIB}M /swapfile && chmod 600 /swapfile && mkswap /swapfile && swapon /swapfile",
        )
