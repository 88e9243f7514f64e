"""dhcpcd as a service of its own, on Arch, Alpine and older Raspberry Pi OS: it asks for an address on every card, but where /etc/dhcpcd.conf
says otherwise.

Sources: dhcpcd.conf(5) ("interface", "static", "denyinterfaces", "noipv6", "fallback", "profile"); tried with dhcpcd 9.4 in a network
namespace.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from migrate.draft import Draft
from remediations import systemd
from remediations.network.model import (
    WHY_FORGET,
    Form,
    Interface,
    Method,
    Route,
    form_of,
    interface,
    merged,
    network,
    virtual,
    without_defaults,
)

CONFIG = "/etc/dhcpcd.conf"
UNIT = "dhcpcd.service"

_NO_IPV6 = frozenset({"noipv6", "noipv6rs", "ipv4only"})


@dataclass(frozen=True, slots=True)
class Line:
    """A line, and the block that it is in: "interface ens192", "profile x", "ssid y", or "" before the first."""

    raw: str
    block: str = ""
    words: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The interface that the block is for; "" where it is for none."""
        return self.block.removeprefix("interface ") if self.block.startswith("interface ") else ""


def lines(text: str) -> Iterator[Line]:
    block = ""
    for raw in text.splitlines(keepends=True):
        words = tuple(raw.split("#")[0].split())
        if words and words[0] in ("interface", "profile", "ssid") and len(words) > 1:
            block = f"{words[0]} {words[1]}"
        yield Line(raw, block, words)


def for_any_card(text: str) -> str:
    """Return a dhcpcd.conf without blocks of cards, and without what keeps it from asking on any card, for IPv6 too."""
    return "".join(line.raw for line in lines(text) if not _goes(line))


def _goes(line: Line) -> bool:
    if not line.words:  # comments stay; an empty line ends no block
        return False
    if line.block.startswith("profile ") or (line.name and not virtual(line.name)):
        return True
    match line.words:
        case ("denyinterfaces" | "allowinterfaces", *patterns):
            listed = [name for pattern in patterns for name in pattern.split(",")]
            return line.words[0] == "allowinterfaces" or any(_may_be_new(name) for name in listed)
        case (word, *_) if word in _NO_IPV6:
            return not line.name
        case ("static" | "inform" | "fallback", *_):
            return not line.name
    return False


def _may_be_new(pattern: str) -> bool:
    return not virtual(pattern) and re.match(r"(\*|e)", pattern) is not None


def interfaces_in(text: str, path: str = CONFIG) -> tuple[Interface, ...]:
    """Return what the blocks of interfaces say, and in one of its own what is said for all."""
    found: list[Interface] = []
    for line in lines(text):
        name = line.name or "all cards"
        if line.block.startswith(("profile", "ssid")):
            continue
        form = Form.WHOLE if not line.name else form_of(name) if virtual(name) else Form.CARD
        each = Interface(name, (path,), form, stays=bool(line.name) and virtual(name))
        match line.words:
            case ("static", setting):
                found.append(_with(each, *setting.partition("=")[::2]))
            case ("static", setting, *more):
                key, _, value = setting.partition("=")
                found.append(_with(each, key, " ".join((value, *more))))
            case ("inform", address, *_):
                found.append(replace(each, addresses=(interface(address),)))
            case (word, *_) if word in _NO_IPV6:
                found.append(replace(each, ipv6=Method.OFF))
            case ("interface", _, *_):
                found.append(each)
    return merged(found)


def _with(each: Interface, key: str, value: str) -> Interface:
    words = value.split()
    match key:
        case "ip_address" | "ip6_address":
            return replace(each, addresses=tuple(map(interface, words)))
        case "routers":
            return replace(each, gateways=tuple(words))
        case "domain_name_servers":
            return replace(each, dns=tuple(words))
        case "domain_name" | "domain_search":
            return replace(each, search=tuple(words))
        case "routes" | "static_routes" | "classless_static_routes":
            pairs = zip(words[::2], words[1::2], strict=False)
            gateways, routes = without_defaults(Route(network(to), via) for to, via in pairs)
            return replace(each, gateways=gateways, routes=routes)
        case "interface_mtu":
            return replace(each, mtu=value)
    return each


# The draft


def present(draft: Draft) -> bool:
    """Whether it is started at boot: by systemd, or by OpenRC."""
    return systemd.enabled(draft, UNIT) or bool(draft.glob("/etc/runlevels/*/dhcpcd"))


def interfaces(draft: Draft) -> tuple[Interface, ...]:
    return interfaces_in(draft.read(CONFIG) or "")


def forget(draft: Draft, *, live: bool) -> None:
    """No block is for a card any more."""
    draft.edit(CONFIG, for_any_card, why=WHY_FORGET)


def by_dhcp(draft: Draft, called: frozenset[str]) -> None:
    """It asks on whatever card appears by itself. An instance of it for one card by its name would wait for that."""
    for path in draft.glob("/etc/systemd/system/*.wants/dhcpcd@*.service"):
        draft.remove(path, why="asks for an address on a card by a name that the new one may not have")
    if not present(draft):
        systemd.enable(draft, UNIT, why="is what brings up the network card")
