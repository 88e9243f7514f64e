"""What is built anew with the guest's own programs, in both rooms: its initramfs, its boot loader's menu, its SELinux labels."""

from collections.abc import Sequence

from migrate.errors import GuestError
from migrate.guest import File, Kind, Rebuild
from migrate.guests.paths import resolved
from migrate.guests.programs import ENVIRONMENT, Programs


def rebuild(room: Programs, what: Rebuild) -> None:
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
            # Labels depend on the policy as it is loaded: the guest sets them itself at its next start. Source: selinux(8), /.autorelabel.
            room.store("/.autorelabel", File(b""))


def _execute_first(room: Programs, what: str, *choices: Sequence[str]) -> None:
    for argv in choices:
        if room.kind(resolved(room, argv[0])) is Kind.FILE:
            room.execute(argv, env=ENVIRONMENT)
            return
    raise GuestError(f"the guest has no program that builds {what}: none of {', '.join(argv[0] for argv in choices)}")
