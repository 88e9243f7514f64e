"""What else in /etc names the old network: addresses, cards and MACs in files that we do not rewrite."""

import hashlib
import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass

from migrate import hidden
from migrate.draft import Draft
from migrate.guest import File, Kind
from remediations.network import dns
from remediations.network.model import Form, Interface, family_of, mac_of, plain
from remediations.network.software import Software, software_of

LARGEST = 256 * 1024
"""Bytes. Larger files in /etc are databases and bundles, not what somebody writes an address into."""

MOST_READ = 6000
MOST_IN_FOLDER = 1500
MOST_BYTES = 64 << 20
"""A look ends after so much. It is not ended by a clock: two previews of one guest must say the same."""

MOST_FILES = 40
MOST_LINES = 3

_COPIES = re.compile(r".*(~|\.(bak|orig|old|save|swp|magalu-migrate|dpkg-\w+|ucf-\w+|rpm(new|save|orig)))$")
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
        *("netctl", "mactab", "iftab"),
    )
)
"""Folders where nobody names an address. Each file that need not be read saves some milliseconds in the appliance."""

_COMMON = frozenset({"eth0"})
"""Names that the new card may well get again."""

_TOKEN = re.compile(r"[0-9A-Fa-f:.-]*[0-9A-Fa-f][.:-][0-9A-Fa-f:.-]*(?:/[\d.]{1,15})?")
_NAME = re.compile(r"(?<![\w.:-])([A-Za-z][\w.-]{1,14})(?![\w-]|\.\w)")
_SYSCTL = re.compile(r"\bconf\.([\w-]+)\.")
"""net.ipv4.conf.ens192.rp_filter: sysctl(8)."""
_CONTEXT = re.compile(
    r"(interfaces?|iface|dev|device|nic|[io]?ifname|name|zone|bridge|parent|-[io])\W+$", re.IGNORECASE
)
"""What stands before a card's name; asked for where the name could be any word ("lan", "uplink")."""


@dataclass(frozen=True, slots=True)
class Old:
    """What to look for, in one form each: addresses as ipaddress writes them, networks with their prefix, MACs with colons."""

    addresses: frozenset[str] = frozenset()
    networks: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    macs: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.addresses or self.networks or self.names or self.macs)


def old_of(interfaces: tuple[Interface, ...]) -> Old:
    """Return what the new machine does not have of these; what stays on it is none of that."""
    going = [each for each in interfaces if not each.stays]
    staying = {each.name for each in interfaces if each.stays}
    own = {address for each in going for address in each.addresses}
    servers = {address for each in going for address in each.dns if dns.of_the_old_network(address)}
    addresses = {plain(address) for each in going for address in (*each.addresses, *each.gateways)} | servers
    return Old(
        frozenset(_address(word) for word in addresses if family_of(word) and not _everybodys(word)),
        frozenset(filter(None, (_network(word) for word in own if "/" in word))),
        frozenset(
            name
            for each in going
            for name in each.name.split()
            if each.form is not Form.WHOLE
            and name not in _COMMON | staying
            and re.fullmatch(r"[A-Za-z][\w.-]{2,14}", name)
        ),
        frozenset(mac for each in going for mac in each.macs),
    )


def lines_with(text: str, old: Old) -> Iterator[tuple[int, tuple[str, ...], str]]:
    """Yield (line number, what was found, line) of each line that is no comment and has something old, standing for itself, in it."""
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith(("#", ";", "//", "<!--")):
            continue
        if found := tuple(dict.fromkeys(_found(line, old))):
            yield number, found, stripped


def _found(line: str, old: Old) -> Iterator[str]:
    if old.names:
        for word in _NAME.finditer(line):
            name = word[1].rstrip(".-")
            if name in old.names and (re.search(r"\d", name) or _CONTEXT.search(line[: word.start()])):
                yield name
        yield from (name for name in _SYSCTL.findall(line) if name in old.names)
    for match in _TOKEN.finditer(line):
        before, after = line[: match.start()][-1:], line[match.end() :][:1]
        if before.isalnum() or before == "_" or after.isalnum() or after == "_":
            continue
        for form in _forms(match[0]):
            if form in old.addresses or form in old.macs or form in old.networks:
                yield form
                break


def _forms(token: str) -> Iterator[str]:
    """Yield what a word of digits may mean: an address, one with a port behind it, a network, a MAC."""
    word, slash, prefix = token.strip(".-").partition("/")
    for each in (word, word.rstrip(":"), word.rpartition(":")[0] if word.count(":") == 1 else ""):
        if family_of(each):
            if slash:
                yield _network(f"{each}/{prefix}")
            yield _address(each)
            return
    for range_end in word.split("-"):  # 10.0.0.1-10.0.0.9
        if "." in range_end and family_of(range_end):
            yield _address(range_end)
    yield from mac_of(word)
    if word.count(".") == 2:  # as switches write one
        yield from mac_of(word.replace(".", ""))


def _address(word: str) -> str:
    return str(ipaddress.ip_address(word.partition("%")[0]))


def _network(word: str) -> str:
    """The network of an address, "" where that is one machine, or all."""
    try:
        found = ipaddress.ip_network(word, strict=False)
    except ValueError:
        return ""
    return str(found) if 0 < found.prefixlen < found.max_prefixlen else ""


def _everybodys(word: str) -> bool:
    ip = ipaddress.ip_address(word.partition("%")[0])
    return ip.is_loopback or ip.is_unspecified or ip.is_multicast


# The draft


def tell(draft: Draft, interfaces: tuple[Interface, ...]) -> None:
    """Every file in /etc that still names the old network is told once, by the software that it belongs to, with its first lines."""
    old = old_of(interfaces)
    told: dict[Software, list[tuple[str, str]]] = {}
    count = 0
    for path, text in _texts(draft) if old else ():
        found = list(lines_with(text, old))
        if not found or _is_packages_own(draft, path, text):
            continue
        count += 1
        if count > MOST_FILES:
            draft.find(
                "NET-007", f"more than {MOST_FILES} files in /etc name the old network; the others are not listed"
            )
            break
        shown = "; ".join(f"line {number}: {_quoted(path, line)}" for number, _, line in found[:MOST_LINES])
        rest = f"; and {len(found) - MOST_LINES} more lines" if len(found) > MOST_LINES else ""
        named = ", ".join(dict.fromkeys(word for _, words, _ in found for word in words))
        told.setdefault(software_of(path), []).append((f"{path} names {named}", f"{shown}{rest}"))
    for software, files in sorted(told.items(), key=lambda item: (not item[0].name, item[0].name.casefold())):
        whose = f"{software.name}: " if software.name else ""
        for said, lines in files:
            draft.find(
                "NET-007", f"{whose}{said}, which the new machine does not have: {lines}", remedy=software.remedy
            )


def _texts(draft: Draft) -> Iterator[tuple[str, str]]:
    bytes_read = 0
    for number, path in enumerate(_files(draft, "/etc")):
        if number >= MOST_READ or bytes_read > MOST_BYTES:
            draft.find("NET-007", f"/etc holds more than is searched for the old network: the look ended before {path}")
            return
        file = draft.load(path)
        if isinstance(file, File) and len(file.content) <= LARGEST and b"\0" not in file.content[:4096]:
            bytes_read += len(file.content)
            yield path, file.text


def _files(draft: Draft, folder: str) -> Iterator[str]:
    names = draft.names(folder)
    if len(names) > MOST_IN_FOLDER:
        draft.find(
            "NET-007",
            f"{folder} holds {len(names):,} files, and is not searched for the old network",
            remedy="Search it in the source VM, if somebody may have written an address into it.",
        )
        return
    for name in names:
        path = f"{folder}/{name}"
        if path in _SKIPPED or _COPIES.match(name) or _LINKS.match(path):
            continue
        match draft.kind(path):
            case Kind.FOLDER:
                yield from _files(draft, path)
            case Kind.FILE:
                yield path


def _is_packages_own(draft: Draft, path: str, text: str) -> bool:
    """Whether the file is as dpkg unpacked it, so that nobody has written the old network into it.

    dpkg keeps the MD5 of configuration files as they came: dpkg-query(1), Conffiles. rpm's are not at hand here.
    """
    digest = hashlib.md5(text.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()
    return any(f" {path} {digest}" in package.record for package in draft.packages.values() if path in package.record)


def _quoted(path: str, line: str) -> str:
    """Return a line for the report without the secrets that its file's language makes of it: "10.0.0.5 : PSK …" is one in ipsec.secrets."""
    return hidden.HIDDEN if hidden.is_secret(path) else hidden.lines(path, [line])[0][:120]
