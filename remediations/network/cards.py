"""How a network card of the source was set up: what every renderer can say about its own files, and what is told about it."""

import ipaddress
import re
from dataclasses import dataclass, replace
from enum import Enum

OWN = "magalu-migrate"
"""The name of the configuration that we write, wherever one is needed."""

PATTERNS = ("en*", "eth*")
"""The names that a wired card can get: systemd.net-naming-scheme(7), and the kernel's own."""

_VIRTUAL = re.compile(
    r"(lo|docker|br-|veth|virbr|vnet|tun|tap|wg|ppp|wl|ww|cni|cali|flannel|vxlan|lxc|lxd|dummy|ifb|zt|tailscale"
    r"|v[eb]-|vz-|sit|gre|ip6tnl|he-ipv6|podman|kube|nerdctl)[-\w.*]*"
)


class Form(Enum):
    CARD = "card"
    BOND = "bond"
    TEAM = "team"
    VLAN = "VLAN"
    BRIDGE = "bridge"
    OTHER = "device"


@dataclass(frozen=True, slots=True)
class Card:
    """One card, or what was built on cards (`parts`). Addresses have their prefix length; routes and `more` are in words.

    `within` names the bond, team or bridge that the card is a part of.
    """

    name: str
    path: str
    form: Form = Form.CARD
    dynamic: bool = False
    addresses: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    mac: str = ""
    parts: tuple[str, ...] = ()
    more: tuple[str, ...] = ()
    within: str = ""

    def __str__(self) -> str:
        over = f" over {', '.join(self.parts)}" if self.parts else ""
        head = self.name if self.form is Form.CARD else f"{self.name} ({self.form.value}{over})"
        words = [
            " ".join((*(("DHCP",) if self.dynamic else ()), *self.addresses)),
            *(f"gateway {gateway}" for gateway in self.gateways),
            f"DNS {' '.join(self.dns)}" if self.dns else "",
            f"search {' '.join(self.search)}" if self.search else "",
            *(f"route {route}" for route in self.routes),
            f"MAC {self.mac}" if self.mac else "",
            *self.more,
            f"part of {self.within}" if self.within else "",
        ]
        return f"{head}: {', '.join(filter(None, words)) or 'no address'} ({self.path})"


def virtual(name: str) -> bool:
    """Whether a name, or a pattern of names, belongs to devices that software makes and that are no card."""
    return _VIRTUAL.fullmatch(name) is not None


def merged(cards: tuple[Card, ...]) -> tuple[Card, ...]:
    """Return one card for each name: a renderer often has IPv4, IPv6 and further addresses apart."""
    known: dict[str, Card] = {}
    for card in cards:
        old = known.get(card.name)
        known[card.name] = card if old is None else _both(old, card)
    return tuple(known.values())


def interface(address: str, netmask: str = "") -> str:
    """Return an address with its prefix length ("192.0.2.7/24"), whatever form its mask has; as it is where it is none."""
    text = address if "/" in address or not netmask else f"{address}/{netmask}"
    try:
        return str(ipaddress.ip_interface(text)) if "/" in text else str(ipaddress.ip_address(text))
    except ValueError:
        return text


def plain(address: str) -> str:
    """Return an address without its prefix length."""
    return address.partition("/")[0]


def _both(old: Card, new: Card) -> Card:
    def union(left: tuple[str, ...], right: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*left, *right)))

    return replace(
        old,
        form=old.form if old.form is not Form.CARD else new.form,
        dynamic=old.dynamic or new.dynamic,
        addresses=union(old.addresses, new.addresses),
        gateways=union(old.gateways, new.gateways),
        dns=union(old.dns, new.dns),
        search=union(old.search, new.search),
        routes=union(old.routes, new.routes),
        mac=old.mac or new.mac,
        parts=union(old.parts, new.parts),
        more=union(old.more, new.more),
        within=old.within or new.within,
    )
