"""The kernel's own names of cards (eth0, eth1 …), for renderers that must know a card's name before it appears.

Sources: systemd.net-naming-scheme(7), "net.ifnames="; systemd.link(5); udev(7): a rules file in /etc hides the one of the same name.
"""

import re

from migrate.draft import Draft
from migrate.effects import Severity
from migrate.errors import GuestError
from migrate.guest import Link
from remediations import kernel_arguments, systemd

ARGUMENT = "net.ifnames=0"
FIRST = "eth0"

_RULES = ("80-net-setup-link.rules", "80-net-name-slot.rules")
_MASKS = (*(f"/etc/udev/rules.d/{name}" for name in _RULES), "/etc/systemd/network/99-default.link")
_PLACES = (
    *("/etc/default/grub", "/etc/kernel/cmdline", "/boot/grub2/grub.cfg", "/boot/grub/grub.cfg", "/boot/grub2/grubenv"),
    *("/boot/grub/grub.conf", "/boot/grub/menu.lst", "/boot/extlinux.conf", "/etc/update-extlinux.conf"),
)


def hold(draft: Draft) -> bool:
    """Whether the kernel's names stay: nothing renames cards on this guest, or udev is told not to."""
    if not systemd.runs(draft):
        renames = any(
            draft.exists(f"{folder}/udev/rules.d/{name}") for folder in ("/lib", "/usr/lib") for name in _RULES
        )
        if not renames:
            return True
    return any(_masks(draft, path) for path in _MASKS) or _on_command_line(draft)


def keep(draft: Draft, who: str, *, seen: bool = False) -> bool:
    """The first card is called eth0. Return whether that is so, and tell what it costs; `who` needs it.

    `seen` tells that the guest called a card eth0 already: where no command line of a kernel is found to say more on, that will do.
    """
    if hold(draft):
        return True
    why = f"lets udev rename cards, and {who} must know a card's name before it appears"
    kernel_arguments.drop_arguments(draft, ("net.ifnames=[!0]*",), why)
    kernel_arguments.add(draft, lambda words: () if ARGUMENT in words else (ARGUMENT,), why=why)
    if _on_command_line(draft):
        draft.find(
            "NET-016",
            f"{who} must know a card's name before it appears; so the kernel names cards by {ARGUMENT}, and the first is {FIRST}",
            remedy="Where the instance has several cards, see which is which.",
            severity=Severity.NOTE,
        )
        return True
    if not seen:
        draft.find(
            "NET-012",
            f"{who} needs the name of the new card, which nobody knows before it appears; so cloud-init alone sets up "
            "the network at the first boot",
            remedy=f"Install NetworkManager in the source VM, or add {ARGUMENT} to its kernel command line.",
        )
    return seen


def _masks(draft: Draft, path: str) -> bool:
    try:
        entry = draft.load(path)
    except GuestError:  # a device or a pipe
        return False
    if isinstance(entry, Link):
        return entry.target == "/dev/null"
    return draft.read(path) == ""


def _on_command_line(draft: Draft) -> bool:
    paths = (*_PLACES, *draft.glob("/etc/default/grub.d/*.cfg"), *draft.glob("/boot/loader/entries/*.conf"))
    lines = (
        line for path in paths for line in (draft.read(path) or "").splitlines() if not line.lstrip().startswith("#")
    )
    return any(re.search(r"(^|[\s\"'=])net\.ifnames=0($|[\s\"'])", line) for line in lines)
