"""What the kernel's command line says about the old network, and what keeps the machine from coming up as a server.

Sources: dracut.cmdline(7), "ip="; Linux, nfsroot.rst, "ip="; initramfs-tools(7), "ip="; systemd(1), "systemd.unit=" and the words of old
init ("single", "emergency"); systemd-debug-generator(8), "systemd.mask=".
"""

import re
from collections.abc import Iterator

from migrate.draft import Draft
from migrate.remediation import Settings, remediation
from remediations import kernel_arguments

STOPS = re.compile(
    r"systemd\.unit=(?:rescue|emergency)(?:\.target)?|single|S|s|1|-s|-b|emergency|rescue|init=/(?:usr/)?bin/\w*sh"
)
MASKS = re.compile(
    r"systemd\.mask=(?:sshd?|cloud-(?:init|config|final)[\w-]*|NetworkManager|systemd-networkd|networking|network|wicked)"
    r"(?:\.\w+)?"
)

_ADDRESS = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.])|\[[0-9A-Fa-f:]+\]")
_CARD = re.compile(r"[A-Za-z][\w.-]*")
_WAYS = frozenset(
    {"none", "off", "dhcp", "on", "any", "dhcp6", "auto6", "either6", "link6", "link-local", "ibft", "both"}
)


@remediation(
    "forget-boot-address",
    "Not set up the old network before the root is mounted",
    sources=(
        "dracut.cmdline(7), ip=; Linux, nfsroot.rst; initramfs-tools(7)",
        "systemd(1); systemd-debug-generator(8)",
    ),
)
def forget_boot_address(draft: Draft, settings: Settings) -> None:
    """An initramfs that is told an address or a card by `ip=` waits for the old network, or keeps the old address: the argument goes.

    Arguments that make the machine stop at a shell, or start without its SSH server, cloud-init or network, are somebody's will: they are told.
    Ones of recovery entries, which do not start by themselves, are not.
    """
    kernel_arguments.rewrite(
        draft,
        lambda words: tuple(word for word in words if not of_the_old_network(word)),
        why="sets up the old network's address or card before the root is mounted",
    )
    for word, path in dict(_each_entry_has(draft, STOPS)).items():
        draft.find(
            "BOOT-013",
            f"{path}: {word} makes the machine stop before anybody can log in.",
            remedy="Take it out of the kernel's command line in the source VM.",
        )
    for word, path in dict(_each_entry_has(draft, MASKS)).items():
        draft.find(
            "BOOT-014",
            f"{path}: {word} keeps the machine from starting what it is reached by.",
            remedy="Take it out of the kernel's command line in the source VM.",
        )


def of_the_old_network(word: str) -> bool:
    """Whether an argument is an ip= with an address, or with a card other than the kernel's own first, eth0."""
    name, _, value = word.replace('"', "").replace("'", "").partition("=")
    if name != "ip":
        return False
    if _ADDRESS.search(value):
        return True
    parts = value.split(":")
    device_first = len(parts) == 2 or (len(parts) > 2 and parts[1] in _WAYS)
    card = parts[0] if device_first else parts[5] if len(parts) > 5 else ""
    return bool(_CARD.fullmatch(card)) and card != "eth0"


def _each_entry_has(draft: Draft, pattern: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    """Yield (argument, path) of what the first entry of a menu has, where none of the menu's is without such a word."""
    menus: dict[str, list[list[str]]] = {}
    for path, words in kernel_arguments.command_lines(draft):
        bare = [word.replace('"', "").replace("'", "") for word in words]
        menus.setdefault(path, []).append([word for word in bare if pattern.fullmatch(word)])
    for path, found in menus.items():
        if all(found):
            yield from ((word, path) for word in found[0])
