"""What is built anew with the guest's own programs, in both rooms: its initramfs, its boot loader's menu, its SELinux labels."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from migrate.draft import Draft
from migrate.errors import GuestError
from migrate.guest import File, Guest, Kind, Rebuild
from migrate.guests.labels import Unlabelled, contexts
from migrate.guests.paths import resolved
from migrate.guests.programs import ENVIRONMENT
from migrate.initramfs_builder import DEPMOD, DRIVERS, builder, is_old_dracut
from migrate.kernels import Kernel, inside, kernels, missing, required
from migrate.run import Note, Run

OS_PROBER = "/etc/grub.d/30_os-prober"
"""It would put what else it finds on disks into the guest's menu: the appliance's own, for one."""


class Room(Guest, Protocol):
    """A guest whose programs can be run, and whose files can be labelled."""

    def execute(self, argv: Sequence[str], *, env: Mapping[str, str]) -> str:
        """Run a program of the guest and return what it writes. Raise GuestError with its last words where it fails."""

    def unlabelled(self) -> tuple[Unlabelled, ...]:
        """Return what was written since the guest was opened and has no SELinux label."""

    def label(self, labels: Mapping[str, str]) -> None:
        """The files have these SELinux labels."""


def rebuild(run: Run, room: Room, what: Rebuild) -> None:
    """It is built anew. Raise GuestError where the guest has no program for it, or the program fails."""
    match what:
        case Rebuild.INITRAMFS:
            _build_initramfs(run, room)
        case Rebuild.BOOTLOADER:
            with _not_executable(room, OS_PROBER):
                _execute_first(
                    room,
                    "its boot menu",
                    ["/usr/sbin/grub2-mkconfig", "--output=/boot/grub2/grub.cfg"],
                    ["/usr/sbin/grub-mkconfig", "--output=/boot/grub/grub.cfg"],
                )
        case Rebuild.SELINUX_LABELS:
            _label(run, room)


def _build_initramfs(run: Run, room: Room) -> None:
    """Each kernel that must come up has an initramfs of its own builder, and what it needs to find its root is in it."""
    draft = Draft(room)
    found = kernels(draft)
    build = builder(draft)
    for kernel in required(draft, found):
        if kernel.initramfs is None:
            continue
        if build is None:
            _look_again(room, kernel)
            run.tell(Note(f"{kernel.initramfs} stays as it is: the guest has nothing that builds one.", "warning"))
            continue
        if not kernel.listed:
            _execute_first(room, "its list of modules", *([program, kernel.version] for program in DEPMOD))
        drivers = tuple(driver for driver in DRIVERS if driver in kernel.modules)
        argv = build.command(kernel.version, kernel.initramfs, kernel.image, drivers, old=is_old_dracut(draft))
        room.execute(argv, env=ENVIRONMENT)
        _look_again(room, kernel)


def _look_again(room: Room, kernel: Kernel) -> None:
    """A builder may end well and leave a driver out: where its configuration omits it, or a hook failed."""
    contents = inside(Draft(room), kernel)
    lacking = missing(kernel, contents)
    if lacking and isinstance(contents, str):
        raise GuestError(f"the kernel {kernel.version} was given a new initramfs, and {contents}")
    if lacking:
        raise GuestError(
            f"{kernel.initramfs} was built anew and still has no {', '.join(sorted(lacking))}: the kernel {kernel.version} would not find its root",
            hint="Look in the source VM for what keeps it out (omit_drivers, blacklists, hooks that fail), and try again.",
        )


def _label(run: Run, room: Room) -> None:
    """What has no label gets the policy's; where that cannot be done, the guest labels all its files at its first start. Source: selinux(8)."""
    try:
        room.label(contexts(run, room, room.unlabelled()))
    except GuestError as error:
        room.store("/.autorelabel", File(b""))
        run.tell(
            Note(
                f"SELinux labels could not be set on the disk: {error.message}. The guest labels all its files at its first start, "
                "which takes some minutes and one restart more.",
                "warning",
            )
        )


@contextmanager
def _not_executable(room: Room, path: str) -> Iterator[None]:
    """A script is passed over while the block lasts: grub-mkconfig takes those that can be executed."""
    at = resolved(room, path)
    entry = room.load(at) if room.kind(at) is Kind.FILE else None
    if not isinstance(entry, File):
        yield
        return
    room.store(at, replace(entry, mode=entry.mode & ~0o111))
    try:
        yield
    finally:
        room.store(at, entry)


def _execute_first(room: Room, what: str, *choices: Sequence[str]) -> None:
    for argv in choices:
        if room.kind(resolved(room, argv[0])) is Kind.FILE:
            room.execute(argv, env=ENVIRONMENT)
            return
    raise GuestError(f"the guest has no program that builds {what}: none of {', '.join(argv[0] for argv in choices)}")
