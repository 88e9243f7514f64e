"""The libguestfs appliance: a small VM of ours that holds the guest's disks, and the guest on them.

It starts once per migration (14 s under emulation) and is never asked to inspect: what must be known is read by us. Every call below takes
some milliseconds; those that start a program in the appliance take 0.2 s under emulation, so files are read with pread and download.
"""

import os
import re
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import guestfs

from migrate.errors import GuestError, MigrateError, Stopped
from migrate.guest import Filesystem, Layout
from migrate.guests import extfs
from migrate.guests.beside import NOTHING, Beside, refuse_elsewhere
from migrate.guests.disks import (
    EXT,
    EXTENDED,
    NOT_MOUNTED,
    Partition,
    Table,
    assembled,
    filesystem,
    find_filesystem,
    fstab_lines,
)
from migrate.guests.refusals import (
    BOOT_CONFIGS,
    ENTRY_FOLDERS,
    OTHER_SYSTEMS,
    Found,
    Read,
    no_root,
    not_a_root,
    root_argument,
    several_roots,
    snapshot_root,
    unwritable,
)
from migrate.guests.releases import RELEASE_FILES, assignments
from migrate.run import Note, Run
from migrate.source import Firmware
from migrate.text import size

MEMORY_MIB = 1536
"""Enough for an initramfs builder that keeps its work in memory."""

SMALL = 2 << 20
"""What fits into one message of libguestfs (4 MB) with room to spare; larger files go through a temporary file."""


LEAST_FREE = 16 << 20
"""Where the disk is full, QEMU stops the appliance and waits for room, for ever. Source: qemu(1), -drive werror=enospc."""


class NotUtf8(GuestError):
    """A name or a link's target that libguestfs cannot hand over."""


class Appliance:
    """A launched appliance. `call` is the libguestfs handle; what it raises is translated."""

    def __init__(self, run: Run, disks: Sequence[Path], *, kvm: bool) -> None:
        self._run = run
        self.disks = tuple(disks)
        self._said: list[str] = []
        self._handle = _handle(disks, kvm, self._said)
        self._failure: BaseException | None = None
        self._full: Path | None = None
        self._closed = threading.Event()
        self._launching = threading.Thread(target=self._launch, name="appliance-launch", daemon=True)
        self._watching = threading.Thread(target=self._watch, name="appliance-watch", daemon=True)

    def start(self) -> None:
        """Begin to launch; other work can go on meanwhile."""
        self._run.check()
        self._watching.start()
        self._launching.start()

    def wait(self) -> None:
        """The appliance is up. Raise GuestError where it does not come up, Stopped where the user stops the run."""
        while self._launching.is_alive():
            self._launching.join(0.1)
            self._run.check()
        if self._failure is not None:
            self._run.check()
            self._check_room()
            said = " / ".join(self._said[-3:]) or str(self._failure)
            raise GuestError(
                f"the libguestfs appliance did not start: {said}",
                hint="`magalu-migrate doctor` tries it and says more.",
            ) from self._failure

    def close(self) -> None:
        """Everything is written and the appliance is gone. Raise GuestError where the last writes failed."""
        try:
            self.wait()
            self.call.shutdown()
        finally:
            self.end()

    def end(self) -> None:
        """The appliance is gone, whatever it was doing; what it wrote is not to be trusted. A second call does nothing."""
        if self._closed.is_set():
            return
        self._closed.set()
        while self._launching.is_alive():  # its qemu may be there only in a moment
            self._kill()
            self._launching.join(0.1)
        self._handle.close()
        if self._watching.ident is not None:
            self._watching.join()

    @property
    def call(self) -> "Calls":
        return Calls(self._handle, self._run, self._check_room)

    def _launch(self) -> None:
        try:
            self._handle.launch()
        except RuntimeError as error:
            self._failure = error

    def _watch(self) -> None:
        """libguestfs waits where nobody can interrupt it; ending its qemu does."""
        while not self._closed.wait(0.1):
            if self._full is None:
                self._full = next((disk.parent for disk in self.disks if _free(disk.parent) < LEAST_FREE), None)
            if self._run.stop.is_set() or self._full is not None:
                self._kill()

    def _check_room(self) -> None:
        """Raise MigrateError where it was ended because what it writes has no place any more."""
        if self._full is not None:
            raise MigrateError(
                f"{self._full} is full: the repairs grow there, and {size(_free(self._full))} are free, less than the {size(LEAST_FREE)} "
                "that are always left",
                hint="Free some GiB there, or name another folder with --work, and run the same command again. Nothing of the repair counts.",
            )

    def _kill(self) -> None:
        for pid in _children():
            with suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes()
                if any(os.fsencode(disk) in words for disk in self.disks) and b"guestfs" in words:
                    os.kill(pid, signal.SIGKILL)


class Calls:
    """libguestfs's own functions (guestfs(3)) under their own names; a failure is a GuestError that says which one, or Stopped."""

    def __init__(self, handle: guestfs.GuestFS, run: Run, check_room: Callable[[], None]) -> None:
        self._handle = handle
        self._run = run
        self._check_room = check_room

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = getattr(self._handle, name)

        def call(*arguments: Any, **options: Any) -> Any:
            self._run.check()
            try:
                return function(*arguments, **options)
            except RuntimeError as error:
                if self._run.stop.is_set():
                    raise Stopped from error
                self._check_room()
                raise GuestError(f"the guest's disk in the appliance: {error}") from error
            except (UnicodeEncodeError, UnicodeDecodeError) as error:
                raise NotUtf8(
                    "a name in the guest is not UTF-8, and libguestfs's Python binding cannot speak of it"
                ) from error

        return call


@contextmanager
def open_appliance(run: Run, disks: Sequence[Path], *, kvm: bool) -> Iterator[Appliance]:
    """Launch an appliance on qcow2 overlays and wait for it. Leaving without an error closes it, with one just ends it."""
    appliance = Appliance(run, disks, kvm=kvm)
    try:
        appliance.start()
        appliance.wait()
        yield appliance
        appliance.close()
    except BaseException:
        appliance.end()
        raise


def _handle(disks: Sequence[Path], kvm: bool, said: list[str]) -> guestfs.GuestFS:
    handle = guestfs.GuestFS(python_return_dict=True, close_on_exit=False)
    try:
        handle.set_event_callback(lambda event, _, text, *rest: _hear(said, text), guestfs.EVENT_LIBRARY)
        # Never through libvirt: its daemon would outlive us. guestfs(3), "BACKEND".
        handle.set_backend("direct")
        if not kvm:
            handle.set_backend_setting("force_tcg", "1")
        handle.set_network(False)
        handle.set_memsize(MEMORY_MIB)
        handle.set_smp(min(4, len(os.sched_getaffinity(0))))
        for disk in disks:
            # The format is ours and said, never guessed from the guest's bytes. Unsafe: a crash throws the overlay away anyhow.
            handle.add_drive_opts(str(disk), format="qcow2", cachemode="unsafe", discard="enable", readonly=False)
    except RuntimeError as error:
        handle.close()
        raise MigrateError(f"libguestfs cannot be used: {error}") from error
    return handle


def _hear(said: list[str], text: Any) -> None:
    said.append(str(text).strip())
    del said[:-20]


def _free(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def _children() -> Iterator[int]:
    for thread in Path("/proc/self/task").iterdir():
        with suppress(OSError):
            yield from map(int, (thread / "children").read_text().split())


@dataclass(slots=True)
class Mounted:
    """A guest whose file systems are mounted in the appliance as its fstab says."""

    layout: Layout
    mountpoints: tuple[str, ...]


def mount_guest(
    run: Run,
    call: Calls,
    hint: Firmware | None,
    known: Layout | None = None,
    wanted: str | None = None,
    beside: Beside = NOTHING,
) -> Mounted:
    """Find the root file system and mount it, writable, and what its fstab adds. A dirty journal is replayed: the overlay is ours.

    What the overlay room found out before is `known`, and not asked again: that takes 4 s under emulation. `wanted` names the root, as
    fstab(5) would, where there are several; `beside` is what the data disks hold, none of which is mounted. Raise NotMigratable where there is no
    root, or where it, /boot, /usr, /var or the EFI system partition cannot be changed.
    """
    tables = [] if known else [_table(call, device, number) for number, device in enumerate(call.list_devices())]
    filesystems = known.filesystems if known else beside.with_boot_disk(filesystems_of(call, tables))
    failures = _check(call, [fs for fs in filesystems if fs.on_boot_disk])
    root, options = (
        (known.root_filesystem, "rw")
        if known
        else _root(call, Found([*tables, *beside.tables], filesystems, _reader(call), failures), wanted)
    )
    if root.device in failures:
        raise unwritable(root.device, "/", failures[root.device])
    try:
        call.mount_options(options, root.device, "/")
    except GuestError as error:
        raise unwritable(root.device, "/", plain(error)) from error
    _refuse_snapshot(call, root, options)
    fstab = _text(call, "/etc/fstab")
    mounted = Mounted(known or assembled(tables, filesystems, root.device, fstab, hint), ("/",))
    refuse_elsewhere(mounted.layout)
    for line in sorted(fstab_lines(fstab), key=lambda line: line.mountpoint):
        fs = find_filesystem(filesystems, line.spec)
        skip = {"bind", "noauto"} & set(line.options) or line.type == "swap" or line.mountpoint in ("/", "none")
        if fs is None or skip or fs.type in NOT_MOUNTED or not line.mountpoint.startswith("/") or not fs.on_boot_disk:
            continue
        subvolume = [option for option in line.options if option.startswith(("subvol=", "subvolid="))]
        try:
            if not call.is_dir(line.mountpoint):
                call.mkdir_p(line.mountpoint)
            if fs.device in failures:
                raise GuestError(failures[fs.device])
            call.mount_options(",".join(["rw", *subvolume]), fs.device, line.mountpoint)
        except GuestError as error:
            if line.mountpoint in ("/boot", "/usr", "/var", "/boot/efi", "/efi"):
                raise unwritable(fs.device, line.mountpoint, failures.get(fs.device, plain(error))) from error
            run.tell(Note(f"{line.mountpoint} of the guest is left as it is: {error.message}", "warning"))
            continue
        mounted.mountpoints += (line.mountpoint,)
    return mounted


def _check(call: Calls, filesystems: Sequence[Filesystem]) -> dict[str, str]:
    """Check what the kernel marked as damaged, and mend what mends by itself; return what is left to say, by device."""
    failures = {}
    for fs in filesystems:
        if fs.type not in EXT:
            continue
        state = extfs.state(bytes(call.pread_device(fs.device, 256, extfs.SUPERBLOCK)))
        if state.read_only:
            failures[fs.device] = extfs.READ_ONLY
        elif state.has_errors:
            try:
                call.e2fsck(fs.device, correct=True)
            except GuestError as error:
                failures[fs.device] = f"it is damaged, and fsck does not mend it by itself: {plain(error)}"
    return failures


def _reader(call: Calls) -> Read:
    return lambda device, offset, count: bytes(call.pread_device(device, count, offset))


def plain(error: GuestError) -> str:
    """Return what the appliance said, without its own words around it."""
    said = error.message.removeprefix("the guest's disk in the appliance: ")
    return " ".join(re.sub(r"^\w+: ", "", said).split())[-300:]


def _root(call: Calls, found: Found, wanted: str | None) -> tuple[Filesystem, str]:
    """Return the root and the options that mount it."""
    failures = dict(found.failures)
    roots: list[tuple[Filesystem, str]] = []
    names: dict[str, str] = {}
    configs: list[str] = []
    for fs in found.on_boot_disk.filesystems:
        if fs.type in NOT_MOUNTED or fs.type not in EXT | OTHER_SYSTEMS or fs.device in failures:
            continue
        for options in _choices(call, fs):
            try:
                call.mount_options(options, fs.device, "/")
            except GuestError as error:
                failures.setdefault(fs.device, f"it does not mount: {plain(error)}")
                continue
            try:
                if call.is_file("/etc/fstab") and _has_release(call):
                    roots.append((fs, options))
                    names[fs.device] = _name(call)
                    break
                configs += _boot_configs(call)
            finally:
                call.umount("/")
    if wanted is not None:
        named = find_filesystem(found.filesystems, wanted)
        if (chosen := next((root for root in roots if root[0] == named), None)) is None:
            raise not_a_root(wanted, names)
        return chosen
    if len(roots) > 1:
        raise several_roots(names)
    if not roots:
        kernels = root_argument(configs)
        meant = None if kernels is None else find_filesystem(found.filesystems, kernels)
        raise no_root(replace(found, failures=failures, kernels_root=None if meant and meant.on_boot_disk else kernels))
    return roots[0]


def _choices(call: Calls, fs: Filesystem) -> list[str]:
    """Return the options that may mount the root on a file system: btrfs keeps it in a subvolume."""
    choices = ["rw"]
    if fs.type == "btrfs":
        with suppress(GuestError):
            call.mount(fs.device, "/")
            paths = [volume["btrfssubvolume_path"] for volume in call.btrfs_subvolume_list("/")]
            call.umount("/")
            # Its snapshots look like roots too; the default subvolume and the usual names come first. mkfs.btrfs(8), snapper(8).
            choices += [f"rw,subvol={path}" for path in ("@", "root", "@rootfs", "@/root") if path in paths]
    return choices


def _name(call: Calls) -> str:
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        with suppress(GuestError):
            values = assignments(bytes(call.pread(path, 1 << 16, 0)).decode("utf-8", "replace"))
            return values.get("PRETTY_NAME") or values.get("ID") or "a Linux system"
    return "a Linux system"


def _boot_configs(call: Calls) -> list[str]:
    """Return the texts of the boot loader's configuration on what is mounted."""
    paths = [f"/{config}" for config in BOOT_CONFIGS]
    for folder in ENTRY_FOLDERS:
        with suppress(GuestError):
            paths += [f"{folder}/{name}" for name in call.ls(folder)] if call.is_dir(folder) else []
    texts = []
    for path in paths:
        with suppress(GuestError):
            if call.is_file(path):
                texts.append(_text(call, path))
    return texts


def _refuse_snapshot(call: Calls, root: Filesystem, options: str) -> None:
    """Raise NotMigratable for a btrfs root that takes no writes: mounting it says nothing. Source: btrfs-property(8), "ro"."""
    if root.type == "btrfs":
        shown = call.btrfs_subvolume_show("/")
        if "readonly" in str(shown.get("Flags", "")):
            raise snapshot_root(root.device, str(shown.get("Name", "")) or options)


def _has_release(call: Calls) -> bool:
    """/etc/os-release is a link into /usr, which may be a file system of its own that is not mounted yet."""
    return any(call.is_file(path) or call.is_symlink(path) for path in RELEASE_FILES)


def _table(call: Calls, device: str, number: int) -> Table:
    size = call.blockdev_getsize64(device)
    boots = any(call.pread_device(device, 440, 0))
    kind = {"gpt": "gpt", "dos": "dos"}.get(call.blkid(device).get("PTTYPE", ""), "none")
    names = [name for name in call.list_partitions() if call.part_to_dev(name) == device] if kind != "none" else []
    return Table(number, size, kind, tuple(_partition(call.blkid(name), number) for name in names), boots)


def _partition(said: Mapping[str, str], disk: int) -> Partition:
    """Read what blkid says of a partition; its offsets are in sectors of 512 bytes. Source: libblkid, "PART_ENTRY_OFFSET"."""
    start, size = (int(said[f"PART_ENTRY_{what}"]) * 512 for what in ("OFFSET", "SIZE"))
    kind = said.get("PART_ENTRY_TYPE", "").lower().removeprefix("0x")
    return Partition(disk, int(said["PART_ENTRY_NUMBER"]), start, size, kind, said.get("PART_ENTRY_UUID"))


def filesystems_of(call: Calls, tables: Sequence[Table]) -> Iterator[Filesystem]:
    for table in tables:
        if not table.partitions:
            device = call.list_devices()[table.disk]
            if "TYPE" in (said := call.blkid(device)):
                yield filesystem(said, device, table.size, table.disk, None, 0, None)
        for part in table.partitions:
            if part.type in EXTENDED and table.kind == "dos":
                continue
            if "TYPE" in (said := call.blkid(part.device)):
                yield filesystem(said, part.device, part.size, part.disk, part.number, part.start, part.partuuid)
    for device in [*call.lvs(), *call.list_md_devices()]:
        # LVM does not activate a volume that lies on a disk that is not here: there is a name and nothing behind it.
        with suppress(GuestError):
            if "TYPE" in (said := call.blkid(device)):
                yield filesystem(said, device, call.blockdev_getsize64(device), None, None, None, None)


def _text(call: Calls, path: str) -> str:
    return bytes(call.pread(path, SMALL, 0)).decode("utf-8", "surrogateescape")


@contextmanager
def temporary_file(run: Run, content: bytes = b"") -> Iterator[Path]:
    """A file of the host that holds a content while the block lasts."""
    number, name = tempfile.mkstemp(dir=run.work)
    path = Path(name)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content)
        yield path
    finally:
        path.unlink(missing_ok=True)
