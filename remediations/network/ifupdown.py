"""ifupdown: /etc/network/interfaces and what it sources.

Sources: interfaces(5); ifupdown 0.8.20, NEWS.Debian (patterns); tried with ifupdown 0.8.41 in a network namespace: with `iface
ens3 inet dhcp` from cloud-init and our pattern, `ifup -a` brings ens3 up once, says nothing and ends with 0.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from migrate.draft import Draft
from remediations import systemd
from remediations.network.cards import OWN, PATTERNS, Card, Form, interface, merged, virtual

MAIN = "/etc/network/interfaces"
OURS = f"/etc/network/interfaces.d/zz-{OWN}"
SETTLE = f"/etc/systemd/system/networking.service.d/{OWN}.conf"

DHCP = f"""\
# Written by magalu-migrate. Whatever card appears asks for DHCP. The pattern leads to a name of its own, so that a card that
# cloud-init has described in this folder already is not configured twice.
auto {" ".join(f"/{pattern}=magalu" for pattern in PATTERNS)}
iface magalu inet dhcp
"""
DHCP_ETH0 = """\
# Written by magalu-migrate.
auto eth0
iface eth0 inet dhcp
"""
WAIT = """\
# Written by magalu-migrate. A pattern in /etc/network/interfaces matches only the cards that the kernel knows by then.
[Service]
ExecStartPre=-/bin/udevadm settle --timeout=30
"""

_STARTS = re.compile(r"(iface|mapping|auto|allow-\S+|no-auto-down|no-scripts|rename|template|source|source-directory)$")


@dataclass(frozen=True, slots=True)
class Stanza:
    """Lines that belong together: a stanza with the comments right above it, or what is between two stanzas."""

    raw: str
    words: tuple[str, ...] = ()
    options: tuple[tuple[str, str], ...] = ()

    @property
    def kind(self) -> str:
        return self.words[0] if self.words else ""

    @property
    def name(self) -> str:
        return self.words[1] if len(self.words) > 1 else ""

    def values(self, *names: str) -> tuple[str, ...]:
        """Return what an option says, under any of its names; a bond's may be written with "-" or "_"."""
        return tuple(value for key, value in self.options if key.replace("_", "-") in names)


def stanzas(text: str) -> tuple[Stanza, ...]:
    """Return the file in order, whole."""
    found: list[Stanza] = []
    pending = ""
    raw = ""
    for line in text.splitlines(keepends=True):
        raw += line
        if raw.rstrip("\n").endswith("\\") and not raw.lstrip().startswith("#"):
            continue
        words = raw.replace("\\\n", " ").split()
        piece, raw = raw, ""
        if words and _STARTS.match(words[0]):
            found.append(Stanza(pending + piece, tuple(words)))
            pending = ""
        elif not words:
            found.append(Stanza(pending + piece))
            pending = ""
        elif words[0].startswith("#"):
            pending += piece
        else:
            _add_option(found, pending + piece, words)
            pending = ""
    rest = pending + raw
    return (*found, Stanza(rest)) if rest else tuple(found)


def _add_option(found: list[Stanza], raw: str, words: list[str]) -> None:
    """Add a line to the stanza that is open; empty lines do not close one."""
    at = next((i for i in reversed(range(len(found))) if found[i].words), None)
    if at is None:
        found.append(Stanza(raw))
        return
    between = "".join(stanza.raw for stanza in found[at + 1 :])
    old = found[at]
    option = (words[0], " ".join(words[1:]))
    found[at:] = [Stanza(old.raw + between + raw, old.words, (*old.options, option))]


def stays(stanza: Stanza) -> bool:
    """Whether an iface stanza has nothing to do with a card: the loopback, a bridge without ports, devices that software makes."""
    if stanza.name == "lo" or "loopback" in stanza.words:
        return True
    if stanza.values("vlan-raw-device", "bond-slaves", "bond-master", "slaves"):
        return False
    ports = stanza.values("bridge-ports")
    if ports:
        return all(port in ("none", "regex") or virtual(port) for value in ports for port in value.split())
    return virtual(stanza.name) or "tunnel" in stanza.words


def without_cards(text: str) -> str:
    """Return the file without any stanza of a card, or of what is built on cards, and without their names in `auto` and its like."""
    found = stanzas(text)
    kept = {stanza.name for stanza in found if stanza.kind == "iface" and stays(stanza)} | {"lo"}
    pieces: list[str] = []
    for stanza in found:
        match stanza.kind:
            case "iface" if not stays(stanza):
                continue
            case "mapping" | "rename":
                continue
            case "auto" | "no-auto-down" | "no-scripts":
                pieces.append(_named(stanza, kept))
            case kind if kind.startswith("allow-"):
                pieces.append(_named(stanza, kept))
            case _:
                pieces.append(stanza.raw)
    if "".join(pieces) == text:
        return text
    return re.sub(r"\n{3,}", "\n\n", "".join(pieces)).strip("\n") + "\n"


def _named(stanza: Stanza, kept: set[str]) -> str:
    names = [name for name in stanza.words[1:] if name in kept]
    if len(names) == len(stanza.words) - 1:
        return stanza.raw
    return f"{stanza.kind} {' '.join(names)}\n" if names else ""


def sourcing(text: str) -> str:
    """Return the file so that it sources /etc/network/interfaces.d/*, whatever the files there are called."""
    pieces: list[str] = []
    sources = False
    for stanza in stanzas(text):
        if stanza.kind == "source" and PurePosixPath(stanza.name).parent.name == "interfaces.d":
            whole = PurePosixPath(stanza.name).name == "*"
            if not whole and not stanza.name.endswith("*.cfg"):
                pieces.append(stanza.raw)
                continue
            if not sources:
                pieces.append(stanza.raw if whole else "source /etc/network/interfaces.d/*\n")
            sources = True
        elif stanza.kind == "source-directory" and PurePosixPath(stanza.name).name == "interfaces.d":
            sources = True
            pieces.append(stanza.raw)
        else:
            pieces.append(stanza.raw)
    return "".join(pieces) if sources else "source /etc/network/interfaces.d/*\n\n" + "".join(pieces)


def cards_in(text: str, path: str) -> Iterator[Card]:
    """Yield what the stanzas that do not stay say."""
    for stanza in stanzas(text):
        if stanza.kind == "iface" and len(stanza.words) > 2 and not stays(stanza):
            yield _card(stanza, path)


def _card(stanza: Stanza, path: str) -> Card:
    masks = (*stanza.values("netmask"), "")
    bond = stanza.values("bond-slaves", "slaves")
    raw = stanza.values("vlan-raw-device")
    ports = stanza.values("bridge-ports")
    name = stanza.name.partition(":")[0]
    parts = tuple(word for value in (*bond, *raw, *ports) for word in value.split() if word != "none")
    form = Form.BOND if bond else Form.VLAN if raw or "." in name else Form.BRIDGE if ports else Form.CARD
    commands = stanza.values("up", "post-up", "pre-up", "down", "pre-down", "post-down")
    macs = [word for value in stanza.values("hwaddress") for word in value.split() if word.count(":") == 5]
    return Card(
        name,
        path,
        form,
        stanza.words[-1] in ("dhcp", "auto"),
        tuple(interface(address, masks[0]) for address in stanza.values("address")),
        stanza.values("gateway"),
        tuple(word for value in stanza.values("dns-nameservers", "dns-nameserver") for word in value.split()),
        tuple(word for value in stanza.values("dns-search", "dns-domain") for word in value.split()),
        mac=macs[0].lower() if macs else "",
        parts=parts or ((name.rpartition(".")[0],) if form is Form.VLAN and "." in name else ()),
        more=(*(f"mtu {mtu}" for mtu in stanza.values("mtu")), *(f"command: {command}" for command in commands)),
    )


# The draft


def files(draft: Draft) -> tuple[str, ...]:
    """Return the main file and all that it sources, ours left out."""
    known: dict[str, None] = {}
    todo = [MAIN]
    while todo:
        path = todo.pop(0)
        text = draft.read(path)
        if path in known or text is None:
            continue
        known[path] = None
        for stanza in stanzas(text):
            todo.extend(_sourced(draft, stanza))
    known.pop(OURS, None)
    return tuple(known)


def _sourced(draft: Draft, stanza: Stanza) -> Iterable[str]:
    pattern = stanza.name if stanza.name.startswith("/") else f"/etc/network/{stanza.name}"
    if stanza.kind == "source" and pattern.startswith("/etc/"):
        return draft.glob(pattern)
    if stanza.kind == "source-directory" and pattern.startswith("/etc/"):
        return (path for path in draft.glob(f"{pattern}/*") if re.fullmatch(r"[\w-]+", PurePosixPath(path).name))
    return ()


def present(draft: Draft) -> bool:
    """Whether ifupdown is installed, has its file, and brings cards up at boot."""
    if draft.read(MAIN) is None or not any(draft.exists(path) for path in ("/sbin/ifup", "/usr/sbin/ifup")):
        return False
    unit = "networking.service"
    return systemd.enabled(draft, unit) if systemd.unit_file(draft, unit) else not systemd.masked(draft, unit)


def names(draft: Draft) -> frozenset[str]:
    """The names of all that is set up, the loopback and ours left out."""
    found = (stanza for path in files(draft) for stanza in stanzas(draft.read(path) or ""))
    return frozenset(stanza.name for stanza in found if stanza.kind == "iface") - {"lo"}


def cards(draft: Draft) -> tuple[Card, ...]:
    return merged(tuple(card for path in files(draft) for card in cards_in(draft.read(path) or "", path)))


def forget(draft: Draft) -> None:
    """No file sets up a card any more; one that has nothing else to say goes."""
    why = "sets cards up by name with what was right in the source's network"
    for path in files(draft):
        text = without_cards(draft.read(path) or "")
        if path != MAIN and not any(stanza.words for stanza in stanzas(text)):
            draft.remove(path, why=why)
        else:
            draft.write(path, text, why=why)


def by_dhcp(draft: Draft) -> None:
    """Whatever card appears asks for DHCP, once, also where cloud-init describes it too."""
    if "ifupdown2" in draft.packages:
        draft.find(
            "NET-012",
            "ifupdown2 has no pattern for a card of any name, so cloud-init alone sets up the network at the first boot",
            remedy="Install ifupdown in its place, or see that cloud-init works in the source VM.",
        )
        return
    draft.edit(
        MAIN, sourcing, why="has to read the files in /etc/network/interfaces.d, where cloud-init describes the cards"
    )
    if not _is_debians(draft):
        draft.write(
            OURS, DHCP_ETH0, why="makes the new card, eth0 because nothing renames cards on this guest, ask for DHCP"
        )
        return
    draft.write(OURS, DHCP, why="makes whatever card appears ask for DHCP, as Magalu Cloud demands")
    draft.write(SETTLE, WAIT, why="lets udev finish first: a pattern matches only cards that are there by then")


def _is_debians(draft: Draft) -> bool:
    """Patterns came with ifupdown 0.8.20; BusyBox's ifup and older ones know none, and their systems call the first card eth0."""
    package = draft.packages.get("ifupdown")
    if package is None:
        return draft.os.family == "debian"
    number = tuple(int(part) for part in re.findall(r"\d+", package.version.rpartition(":")[2])[:3])
    return number >= (0, 8, 20)
