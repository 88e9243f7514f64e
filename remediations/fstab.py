"""What the guest mounts: by names that hold on every machine, and without waiting for what did not come along."""

from collections.abc import Callable
from dataclasses import dataclass

from migrate.draft import Draft
from migrate.effects import Severity
from migrate.guest import Filesystem, Layout, Rebuild
from migrate.remediation import Settings, remediation
from remediations import kernel_arguments
from remediations.device_names import REMOVABLE, filesystem, numbered, stable, stays_behind
from remediations.mount_table import Row, rewritten, rows

FSTAB = "/etc/fstab"
CRYPTTAB = "/etc/crypttab"
RESUME = "/etc/initramfs-tools/conf.d/resume"
WHO = "# magalu-migrate:"
PATIENCE = "nofail,x-systemd.device-timeout=10s"
NETWORK_TYPES = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "glusterfs", "fuse.sshfs", "vboxsf", "vmhgfs", "efs", "lustre"}
)
NEEDED = frozenset({"/", "/usr", "/boot", "/var"})
EXT = frozenset({"ext2", "ext3", "ext4"})
FAT = frozenset({"vfat", "msdos", "fat"})


@dataclass(frozen=True, slots=True)
class Mount:
    """A row of fstab in the words of fstab(5)."""

    row: Row

    @property
    def spec(self) -> str:
        return self.row.column(0)

    @property
    def file(self) -> str:
        return self.row.column(1)

    @property
    def type(self) -> str:
        return self.row.column(2)

    @property
    def options(self) -> tuple[str, ...]:
        return tuple(self.row.column(3).split(","))


@remediation(
    "mount-by-uuid",
    "Mount root, swap and the other partitions by their UUIDs",
    sources=(
        "block-storage examples of Magalu's API: the root disk is /dev/vda; ubicloud#5429: names flip",
        "fstab(5), crypttab(5); initramfs-tools(7), resume=",
        "vjailbreak#2007: lines that were comments stay comments",
    ),
)
def mount_by_uuid(draft: Draft, settings: Settings) -> None:
    """Names such as /dev/sda2 come from the old disk controller; on virtio the same disk is /dev/vda.

    fstab, crypttab, the resume device and the kernel's root= name their partitions by UUID afterwards. Labels, UUIDs, logical volumes,
    network and memory file systems, swap files and comments stay as they are. A line that does not fit what is on the disk is told
    and left alone.
    """
    layout = draft.layout
    for row in rows(draft.read(FSTAB) or ""):
        _tell_misfit(draft, layout, Mount(row))
    why = "names disks after a controller that the new machine does not have"
    draft.edit(FSTAB, lambda text: rewritten(text, lambda row: (_by_uuid(layout, Mount(row)),)), why=why)
    draft.edit(CRYPTTAB, lambda text: rewritten(text, lambda row: (_crypt_by_uuid(layout, row),)), why=why)
    draft.edit("/etc/default/grub", _grub_by_uuid, why="makes update-grub write root=/dev/… instead of a UUID")
    kernel_arguments.rewrite(
        draft,
        lambda words: tuple(_argument_by_uuid(layout, word) for word in words),
        why="makes the kernel look for a disk by the name that the old controller gave it",
    )
    _tell_unknown_roots(draft, layout)
    before = draft.read(RESUME)
    draft.edit(RESUME, lambda text: _resume_by_uuid(layout, text), why=why)
    if draft.read(RESUME) != before:
        draft.rebuild(Rebuild.INITRAMFS, why="holds a copy of the resume device's name")


@remediation(
    "forget-missing-devices",
    "Not wait at boot for disks and drives that did not come along",
    sources=(
        "harvester#6466",
        "systemd.mount(5), nofail and x-systemd.device-timeout=; systemd-fstab-generator(8)",
    ),
)
def forget_missing_devices(draft: Draft, settings: Settings) -> None:
    """A device that never appears keeps systemd waiting 90 s and then ends the boot in an emergency shell, which nobody can reach.

    Lines of fstab for CD and floppy drives become comments. Lines of fstab and crypttab for what is not on the boot disk get
    `nofail,x-systemd.device-timeout=10s`, so that it is used again once its disk is attached. Each change says in the file who made it and
    why.
    """
    layout = draft.layout
    crypt = {f"/dev/mapper/{row.column(0)}": row.column(1) for row in rows(draft.read(CRYPTTAB) or "")}

    def missing(mount: Mount) -> bool:
        return stays_behind(layout, crypt.get(mount.spec, mount.spec))

    for mount in map(Mount, rows(draft.read(FSTAB) or "")):
        if missing(mount):
            _tell_missing(draft, mount)
        elif mount.type in NETWORK_TYPES:
            draft.find(
                "DISK-003",
                f"{FSTAB} mounts {mount.spec} ({mount.type}) on {mount.file}; its server must be reachable from Magalu's network.",
                severity=Severity.NOTE,
            )
    why = "names a device that the new machine does not have, and the boot would wait for it"
    draft.edit(FSTAB, lambda text: rewritten(text, lambda row: _patient(Mount(row), missing)), why=why)
    draft.edit(CRYPTTAB, lambda text: rewritten(text, lambda row: _patient_crypt(row, layout)), why=why)


def _by_uuid(layout: Layout, mount: Mount) -> Row:
    fs = _meant(layout, mount)
    name = stable(fs) if fs is not None and _fits(fs, mount.type) else None
    return mount.row if name is None else mount.row.with_column(0, name)


def _meant(layout: Layout, mount: Mount) -> Filesystem | None:
    """The file system of a name that will not hold. The name is the evidence, but for the root, and where it tells nothing here."""
    by_number = numbered(mount.spec) is not None
    by_wiring = mount.spec.startswith(
        ("/dev/disk/by-id/", "/dev/disk/by-path/", "/dev/disk/azure/", "/dev/disk/cloud/")
    )
    if mount.file == "/" and (by_number or by_wiring):
        return layout.root_filesystem
    if by_wiring and mount.file.startswith("/"):
        return next((fs for fs in layout.filesystems if fs.mountpoint == mount.file), None)
    return filesystem(layout, mount.spec) if by_number else None


def _fits(fs: Filesystem, type: str) -> bool:
    kin = next((group for group in (EXT, FAT) if fs.type in group), frozenset({fs.type}))
    return type in kin or (type == "auto" and fs.type != "swap")


def _tell_misfit(draft: Draft, layout: Layout, mount: Mount) -> None:
    fs = _meant(layout, mount)
    if fs is None:
        return
    if not _fits(fs, mount.type):
        draft.find(
            "DISK-001",
            f"{FSTAB} mounts {mount.spec} on {mount.file} as {mount.type}, but {fs.device} holds {fs.type}; the line is left as it is.",
            remedy="Name the partition by its UUID in the source VM.",
        )
    elif stable(fs) is None:
        draft.find(
            "DISK-001",
            f"{FSTAB} mounts {mount.spec} on {mount.file}, and {fs.device} has no UUID; the line is left as it is.",
            remedy=f"Give it one in the source VM (tune2fs -U random {mount.spec}).",
        )


def _crypt_by_uuid(layout: Layout, row: Row) -> Row:
    if numbered(row.column(1)) is None:
        return row
    fs = filesystem(layout, row.column(1))
    name = stable(fs) if fs is not None else None
    return row if name is None else row.with_column(1, name)


def _grub_by_uuid(text: str) -> str:
    """Sources: GRUB manual, GRUB_DISABLE_LINUX_UUID and GRUB_DISABLE_UUID."""
    for name in ("GRUB_DISABLE_LINUX_UUID", "GRUB_DISABLE_UUID"):
        text = kernel_arguments.switched_off(text, name)
    return text


def _argument_by_uuid(layout: Layout, word: str) -> str:
    key, _, value = word.partition("=")
    if key not in ("root", "resume") or numbered(value) is None:
        return word
    fs = filesystem(layout, value)
    name = stable(fs) if fs is not None else None
    return word if name is None else f"{key}={name}"


def _tell_unknown_roots(draft: Draft, layout: Layout) -> None:
    for path, words in kernel_arguments.command_lines(draft):
        for word in words:
            name = word.removeprefix("root=")
            if word.startswith("root=") and numbered(name) is not None and filesystem(layout, name) is None:
                draft.find(
                    "DISK-001",
                    f"{path} starts a kernel with {word}, and no file system here is called so.",
                    remedy="Name the root by its UUID in the source VM.",
                )


def _resume_by_uuid(layout: Layout, text: str) -> str:
    def line_by_uuid(line: str) -> str:
        key, equals, value = line.partition("=")
        if key.strip() != "RESUME" or not equals or numbered(value.strip()) is None:
            return line
        fs = filesystem(layout, value.strip())
        name = stable(fs) if fs is not None else None
        return line if name is None else f"{key}={name}"

    return "\n".join(map(line_by_uuid, text.split("\n")))


def _patient(mount: Mount, missing: Callable[[Mount], bool]) -> tuple[Row, ...]:
    if REMOVABLE.fullmatch(mount.spec):
        return Row(f"{WHO} the new machine has no such drive"), Row(f"#{mount.row.line}")
    if not missing(mount) or mount.file == "/" or "noauto" in mount.options or not mount.type:
        return (mount.row,)  # a line without a type is none: options would be taken for it
    return _with_patience(mount.row)


def _patient_crypt(row: Row, layout: Layout) -> tuple[Row, ...]:
    """Sources: crypttab(5), nofail and x-systemd.device-timeout=."""
    if len(row.columns) < 3 or not stays_behind(layout, row.column(1)) or "noauto" in row.column(3).split(","):
        return (row,)
    return _with_patience(row)


def _with_patience(row: Row) -> tuple[Row, ...]:
    """Options are the fourth column of both tables, and may be left out."""
    note = Row(f"{WHO} this disk did not come along; without it the boot goes on after 10 s")
    if len(row.columns) < 4:
        return note, Row(f"{row.line.rstrip()} {PATIENCE}")
    if "nofail" in row.column(3).split(","):
        return (row,)
    return note, row.with_column(3, f"{row.column(3)},{PATIENCE}")


def _tell_missing(draft: Draft, mount: Mount) -> None:
    place = "swap space" if mount.type == "swap" else mount.file
    fs = filesystem(draft.layout, mount.spec)
    if fs is not None and mount.file not in NEEDED:
        _tell_data_disk(draft, mount, fs, place)
        return
    needed = mount.file in NEEDED
    where = "on none of the disks here" if fs is None else f"on another disk ({fs.device}) than the boot disk"
    draft.find(
        "DISK-002" if not needed else "DISK-010" if fs is None else "DISK-008",
        f"{FSTAB} mounts {mount.spec} on {place}; it is {where}, and an image holds the boot disk only. "
        + ("The guest cannot do without it." if needed else "The boot goes on without it."),
        remedy=f"Move {mount.file} to the boot disk in the source VM."
        if needed
        else "Copy its data to a volume of Magalu Cloud and put that one's UUID there.",
        severity=Severity.ERROR if needed and fs is not None else Severity.WARNING,
    )


def _tell_data_disk(draft: Draft, mount: Mount, fs: Filesystem, place: str) -> None:
    """What is mounted again by itself once a volume holds the same bytes: a copy of a disk has the disk's UUIDs."""
    numbers = fs.disks or (fs.disk or 0,)
    disks = " and ".join(f"disk {number + 1}" for number in numbers)
    volumes = f"a volume that holds {disks} is" if len(numbers) == 1 else f"volumes that hold {disks} are"
    name = stable(fs)
    draft.find(
        "DISK-002",
        f"{FSTAB} mounts {mount.spec} on {place}; it is {fs.device} ({fs.type}) on {disks}, and an image holds the boot disk only. "
        "The boot goes on without it." + (f" It is used again as soon as {volumes} attached: {name}." if name else ""),
        remedy="`vm --data-disks upload` sends that disk, too, and says how it becomes a volume.",
    )
    if f"{mount.file}/".startswith(("/home/", "/root/")):
        draft.find(
            "DISK-011",
            f"{mount.file} is on {disks}: until a volume with it is attached, users have new and empty homes. Once it is, the keys in it count, and "
            "not those that the instance was made with.",
            remedy=f"See that a key that you have is in the homes on {fs.device}, or put it there before the volume is mounted.",
        )
