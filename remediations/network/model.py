"""One model of a guest's network: what the files of any renderer say of an interface, and the sheet from which it can be built again."""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from pydantic import JsonValue

OWN = "magalu-migrate"
"""The name of the configuration that we write, wherever one is needed."""

PATTERNS = ("en*", "eth*")
"""The names that a wired card can get: systemd.net-naming-scheme(7), and the kernel's own."""

WHY_FORGET = "sets a card up by name or MAC with what was right in the source's network"
WHY_DHCP = "makes whatever card appears ask for DHCP, as Magalu Cloud demands"

UNSPECIFIED = frozenset({"0.0.0.0", "::"})  # noqa: S104  (no address to bind to: what stands for none)

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
    WIFI = "Wi-Fi"
    WIREGUARD = "WireGuard"
    TUNNEL = "tunnel"
    OTHER = "device"
    WHOLE = "whole guest"
    """No interface: name servers and routers that are set for all of them."""


class Method(Enum):
    """How an interface gets the addresses of one family."""

    UNSAID = ""
    STATIC = "static"
    DHCP = "dhcp"
    ROUTERS = "router advertisements"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Route:
    """`to` is a network, "default" of another table than the main one too; `more` is the rest in words ("metric 100")."""

    to: str
    via: str = ""
    more: str = ""

    @property
    def is_default(self) -> bool:
        """Whether it is the main table's way to everywhere else."""
        return self.to in _EVERYWHERE and bool(self.via) and "table" not in self.more

    def __str__(self) -> str:
        return " ".join(filter(None, (self.to, self.via and f"via {self.via}", self.more)))


_EVERYWHERE = frozenset({"default", "0.0.0.0/0", "::/0", "0.0.0.0/0.0.0.0"})


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface of the guest: a card, what was built on cards, or what software makes.

    `name` is what the guest calls it, a pattern, or what its profile is called where that names none. `addresses` have their prefix
    length. `parts` are the ports of a bond, team or bridge, or what a VLAN is on; `within` is what this is a port of; `mode` is a bond's or
    team's, `tag` a VLAN's id. `rules` and `more` (commands, remarks) are in words. `stays` where it needs no card, and is left as it is.
    """

    name: str
    paths: tuple[str, ...]
    form: Form = Form.CARD
    ipv4: Method = Method.UNSAID
    ipv6: Method = Method.UNSAID
    addresses: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()
    rules: tuple[str, ...] = ()
    macs: tuple[str, ...] = ()
    mtu: str = ""
    mode: str = ""
    tag: str = ""
    parts: tuple[str, ...] = ()
    within: str = ""
    more: tuple[str, ...] = ()
    stays: bool = False

    @property
    def dynamic(self) -> bool:
        return Method.DHCP in (self.ipv4, self.ipv6)

    def method(self, family: int) -> Method:
        """Return how IPv4 or IPv6 addresses come: what is said, or what the addresses tell."""
        said = self.ipv4 if family == 4 else self.ipv6
        fixed = any(family_of(address) == family for address in self.addresses)
        return Method.STATIC if said is Method.UNSAID and fixed else said

    def __str__(self) -> str:
        """The sheet's line: everything that is known, and where from."""
        words = [
            " ".join(filter(None, (self._asked(), *self.addresses))),
            "IPv6 off" if self.ipv6 is Method.OFF else "",
            *(f"gateway {gateway}" for gateway in self.gateways),
            f"DNS {' '.join(self.dns)}" if self.dns else "",
            f"search {' '.join(self.search)}" if self.search else "",
            *(f"route {route}" for route in self.routes),
            *(f"rule {rule}" for rule in self.rules),
            *(f"MAC {mac}" for mac in self.macs),
            f"mtu {self.mtu}" if self.mtu else "",
            *self.more,
            f"part of {self.within}" if self.within else "",
            "stays as it is" if self.stays else "",
        ]
        return f"{self._head()}: {', '.join(filter(None, words)) or 'no address'} ({self._files()})"

    def _files(self) -> str:
        more = f" and {len(self.paths) - 2} more" if len(self.paths) > 2 else ""
        return f"{', '.join(self.paths[:2])}{more}"

    def _head(self) -> str:
        if self.form in (Form.CARD, Form.WHOLE):
            return self.name
        kind = " ".join(filter(None, (self.form.value, self.tag, self.mode)))
        return f"{self.name} ({kind}{' over ' + ', '.join(self.parts) if self.parts else ''})"

    def _asked(self) -> str:
        if self.ipv4 is Method.DHCP:
            return "DHCP"
        return "DHCPv6" if self.ipv6 is Method.DHCP else ""

    def to_json(self) -> JsonValue:
        """Return the same for programs; what is empty is left out."""
        found: dict[str, JsonValue] = {
            "name": self.name,
            "kind": self.form.value,
            "files": list(self.paths),
            "ipv4": self.method(4).value,
            "ipv6": self.method(6).value,
            "addresses": list(self.addresses),
            "gateways": list(self.gateways),
            "dns": list(self.dns),
            "search": list(self.search),
            "routes": [_route_json(route) for route in self.routes],
            "rules": list(self.rules),
            "macs": list(self.macs),
            "mtu": int(self.mtu) if self.mtu.isdigit() else self.mtu,
            "part_of": self.within,
            "remarks": list(self.more),
            "stays": self.stays,
        }
        if self.form in (Form.BOND, Form.TEAM):
            found["bond"] = {"mode": self.mode, "ports": list(self.parts)}
        elif self.form is Form.VLAN:
            found["vlan"] = {"id": int(self.tag) if self.tag.isdigit() else self.tag, "parent": " ".join(self.parts)}
        elif self.parts:
            found["bridge" if self.form is Form.BRIDGE else "over"] = {"ports": list(self.parts)}
        return {key: value for key, value in found.items() if value not in ("", [], False)}


def virtual(name: str) -> bool:
    """Whether a name, or a pattern of names, belongs to devices that software makes and that are no card."""
    return _VIRTUAL.fullmatch(name) is not None


def form_of(name: str) -> Form:
    """Return what a device of such a name is, where its files do not say."""
    for start, form in (("wg", Form.WIREGUARD), ("wl", Form.WIFI), ("tun", Form.TUNNEL), ("tap", Form.TUNNEL)):
        if name.startswith(start):
            return form
    return Form.TUNNEL if re.match(r"(sit|gre|ip6tnl|he-ipv6|vxlan|ppp)", name) else Form.OTHER


def with_ports(interfaces: Iterable[Interface]) -> tuple[Interface, ...]:
    """Return the interfaces so that a bond, team or bridge knows the ports that only say themselves what they are part of."""
    found = tuple(interfaces)
    ports: dict[str, dict[str, None]] = {}
    for each in found:
        if each.within:
            ports.setdefault(each.within, {})[each.name] = None
    return tuple(replace(each, parts=union(each.parts, tuple(ports.get(each.name, ())))) for each in found)


def merged(interfaces: Iterable[Interface]) -> tuple[Interface, ...]:
    """Return one interface for each name: a renderer often has IPv4, IPv6 and further addresses apart."""
    known: dict[str, Interface] = {}
    for each in interfaces:
        old = known.get(each.name)
        known[each.name] = each if old is None else _both(old, each)
    return with_ports(known.values())


def without_defaults(routes: Iterable[Route]) -> tuple[tuple[str, ...], tuple[Route, ...]]:
    """Return the gateways that routes to everywhere make, and the other routes."""
    found = tuple(routes)
    gateways = tuple(dict.fromkeys(route.via for route in found if route.is_default))
    return gateways, tuple(route for route in found if not route.is_default)


def interface(address: str, netmask: str = "") -> str:
    """Return an address with its prefix length ("192.0.2.7/24"), whatever form its mask has; as it is where it is none."""
    text = address if "/" in address or not netmask else f"{address}/{netmask}"
    try:
        return str(ipaddress.ip_interface(text)) if "/" in text else str(ipaddress.ip_address(text))
    except ValueError:
        return text


def network(address: str, netmask: str = "") -> str:
    """Return a network in its shortest words ("10.0.0.0/8", "default"), whatever form its mask has; as it is where it is none."""
    text = address if "/" in address or not netmask else f"{address}/{netmask}"
    if text in _EVERYWHERE:
        return "default"
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        return text


def plain(address: str) -> str:
    """Return an address without its prefix length."""
    return address.partition("/")[0]


def family_of(address: str) -> int:
    """Return 4 or 6; 0 where it is no address."""
    try:
        return ipaddress.ip_address(plain(address).partition("%")[0]).version
    except ValueError:
        return 0


def mac_of(text: str) -> tuple[str, ...]:
    """Return a MAC address in its usual form; () for words that are none ("random", "preserve")."""
    found = re.fullmatch(r"[0-9A-Fa-f]{2}(?:[:-]?[0-9A-Fa-f]{2}){5}", text.strip())
    digits = re.sub(r"[:-]", "", text.strip()).lower() if found else ""
    return (":".join(digits[at : at + 2] for at in range(0, 12, 2)),) if found else ()


def bond_mode(text: str) -> str:
    """Return a bond's mode by its name; the kernel takes its number too. Source: Linux, Documentation/networking/bonding.rst, "mode"."""
    return _BOND_MODES[int(text)] if re.fullmatch("[0-6]", text) else text


_BOND_MODES = ("balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb")


def is_yes(text: str) -> bool:
    """Whether a setting is on: the words of systemd.syntax(7), netplan(5) and of ifcfg files."""
    return text.strip().lower() in ("yes", "true", "1", "on", "y", "t")


def is_no(text: str) -> bool:
    return text.strip().lower() in ("no", "false", "0", "off", "n", "f")


def union(left: tuple[str, ...], right: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*left, *right)))


def _route_json(route: Route) -> JsonValue:
    words = {"to": route.to, "via": route.via, "options": route.more}
    return {key: value for key, value in words.items() if value}


def _both(old: Interface, new: Interface) -> Interface:
    return replace(
        old,
        paths=union(old.paths, new.paths),
        form=old.form if old.form is not Form.CARD else new.form,
        ipv4=old.ipv4 if old.ipv4 is not Method.UNSAID else new.ipv4,
        ipv6=old.ipv6 if old.ipv6 is not Method.UNSAID else new.ipv6,
        addresses=union(old.addresses, new.addresses),
        gateways=union(old.gateways, new.gateways),
        dns=union(old.dns, new.dns),
        search=union(old.search, new.search),
        routes=tuple(dict.fromkeys((*old.routes, *new.routes))),
        rules=union(old.rules, new.rules),
        macs=union(old.macs, new.macs),
        mtu=old.mtu or new.mtu,
        mode=old.mode or new.mode,
        tag=old.tag or new.tag,
        parts=union(old.parts, new.parts),
        within=old.within or new.within,
        more=union(old.more, new.more),
        stays=old.stays and new.stays,
    )


def words(found: Mapping[str, str], key: str) -> tuple[str, ...]:
    """Return what a setting says, word by word."""
    return tuple(re.split(r"[\s,;]+", found.get(key, "").strip())) if found.get(key, "").strip() else ()
