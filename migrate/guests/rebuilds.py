"""What is built anew with the guest's own programs, in both rooms: its initramfs, its boot loader's menu, its SELinux labels."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from migrate.errors import GuestError
from migrate.guest import File, Guest, Kind, Rebuild
from migrate.guests.labels import Unlabelled, contexts
from migrate.guests.paths import resolved
from migrate.guests.programs import ENVIRONMENT
from migrate.run import Note, Run


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
            _execute_first(
                room,
                "its initramfs",
                ["/usr/sbin/update-initramfs", "-u", "-k", "all"],
                ["/usr/bin/dracut", "--force", "--regenerate-all"],
                ["/usr/sbin/dracut", "--force", "--regenerate-all"],
                ["/sbin/mkinitrd"],
            )
        case Rebuild.BOOTLOADER:
            _execute_first(
                room,
                "its boot menu",
                ["/usr/sbin/grub2-mkconfig", "--output=/boot/grub2/grub.cfg"],
                ["/usr/sbin/grub-mkconfig", "--output=/boot/grub/grub.cfg"],
            )
        case Rebuild.SELINUX_LABELS:
            _label(run, room)


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


def _execute_first(room: Room, what: str, *choices: Sequence[str]) -> None:
    for argv in choices:
        if room.kind(resolved(room, argv[0])) is Kind.FILE:
            room.execute(argv, env=ENVIRONMENT)
            return
    raise GuestError(f"the guest has no program that builds {what}: none of {', '.join(argv[0] for argv in choices)}")
