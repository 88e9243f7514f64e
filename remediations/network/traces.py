"""What else in /etc names the old network: addresses, cards and MACs in files that we do not rewrite."""

import re
from collections.abc import Iterator

from migrate.draft import Draft
from migrate.guest import File, Kind
from remediations.network.cards import Card, plain

LARGEST = 256 * 1024
"""Bytes. Larger files in /etc are databases and bundles, not what somebody writes an address into."""

MOST_FILES = 40
MOST_LINES = 3

_COPIES = re.compile(r".*(~|\.(bak|orig|old|save|swp|dpkg-\w+|ucf-\w+|rpm(new|save|orig)))$")
_LINKS = re.compile(r"/etc/systemd/network/[^/]*\.link$")
"""The remediation strip-macs takes care of these, and of udev's rules."""

_SKIPPED = frozenset(
    f"/etc/{name}"
    for name in (
        *(
            "X11",
            "alternatives",
            "apparmor.d",
            "bash_completion.d",
            "dbus-1",
            "fonts",
            "grub.d",
            "initramfs-tools",
            "lvm",
        ),
        *(
            "pam.d",
            "pki/ca-trust/extracted",
            "polkit-1",
            "selinux",
            "skel",
            "ssl/certs",
            "terminfo",
            "udev",
            "vim",
            "xdg",
        ),
    )
)
"""Folders where nobody names an address. Each file that need not be read saves some milliseconds in the appliance."""

_COMMON = frozenset({"eth0"})
"""Names that the new card may well get again."""


def words_of(cards: tuple[Card, ...]) -> frozenset[str]:
    """Return what to look for: addresses without their prefix lengths, names that will not come back, MACs."""
    addresses = {plain(address) for card in cards for address in (*card.addresses, *card.gateways)}
    names = {card.name for card in cards if card.name not in _COMMON and re.fullmatch(r"[\w.-]{3,15}", card.name)}
    return frozenset(word for word in (*addresses, *names, *(card.mac for card in cards)) if word)


def lines_with(text: str, words: frozenset[str]) -> Iterator[tuple[int, str, str]]:
    """Yield (line number, word, line) of each line that is no comment and has one of the words, standing for itself, in it."""
    if not words:
        return
    either = "|".join(re.escape(w) + ("(?!:)" if ":" in w else "") for w in sorted(words, key=len, reverse=True))
    pattern = re.compile(rf"(?<![\w.:-])({either})(?![\w-]|\.\w)", re.IGNORECASE)
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped and not stripped.startswith(("#", ";", "//")) and (found := pattern.search(line)):
            yield number, found[1], stripped


def tell(draft: Draft, cards: tuple[Card, ...]) -> None:
    """Every file in /etc that still names the old network is told once, with its first lines."""
    words = words_of(cards)
    told = 0
    for path in _files(draft, "/etc") if words else ():
        file = draft.load(path)
        if not isinstance(file, File) or len(file.content) > LARGEST or b"\0" in file.content[:4096]:
            continue
        found = list(lines_with(file.text, words))
        if not found:
            continue
        told += 1
        if told > MOST_FILES:
            draft.find(
                "NET-007", f"more than {MOST_FILES} files in /etc name the old network; the others are not listed"
            )
            return
        shown = "; ".join(f"line {number}: {line[:120]}" for number, _, line in found[:MOST_LINES])
        rest = f"; and {len(found) - MOST_LINES} more lines" if len(found) > MOST_LINES else ""
        named = ", ".join(dict.fromkeys(word for _, word, _ in found))
        draft.find("NET-007", f"{path} names {named}, which the new machine does not have: {shown}{rest}")


def _files(draft: Draft, folder: str) -> Iterator[str]:
    for name in draft.names(folder):
        path = f"{folder}/{name}"
        if path in _SKIPPED or _COPIES.match(name) or _LINKS.match(path):
            continue
        match draft.kind(path):
            case Kind.FOLDER:
                yield from _files(draft, path)
            case Kind.FILE:
                yield path
