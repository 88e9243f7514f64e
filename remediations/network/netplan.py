"""netplan: /etc/netplan/*.yaml, from which it writes configuration for systemd-networkd or NetworkManager at each boot.

Sources: netplan(5) (YAML configuration, "match", "renderer"); tried with `netplan generate` 0.106: both backends get DHCP for
the patterns, and a definition that cloud-init adds in 50-cloud-init.yaml comes first by its file's name.
"""

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from migrate.draft import Draft
from remediations import yaml_text
from remediations.network.cards import OWN, PATTERNS, Card, Form, merged

OURS = f"/etc/netplan/90-{OWN}.yaml"

_FORMS = {
    "ethernets": Form.CARD,
    "bonds": Form.BOND,
    "bridges": Form.BRIDGE,
    "vlans": Form.VLAN,
    "vrfs": Form.OTHER,
}
"""Kinds of definitions that are cards or may be built on cards. Others (wifis, tunnels, dummy-devices …) stay."""


def _dhcp() -> str:
    ids = ((f"zz-magalu-{pattern.rstrip('*')}", pattern) for pattern in PATTERNS)
    definitions = "".join(
        f'    {name}:\n      match: {{name: "{pattern}"}}\n      dhcp4: true\n      dhcp6: true\n'
        for name, pattern in ids
    )
    return f"# Written by magalu-migrate. Whatever card appears asks for DHCP.\nnetwork:\n  version: 2\n  ethernets:\n{definitions}"


DHCP = _dhcp()


def definitions(text: str) -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    """Return what a file defines, by kind and by name. Raise yaml_text.Unreadable."""
    network = yaml_text.mapping(text).get("network") or {}
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for kind, named in network.items() if isinstance(network, dict) else ():
        if isinstance(named, dict):
            found[kind] = {str(name): value if isinstance(value, dict) else {} for name, value in named.items()}
    return found


def standing(text: str) -> frozenset[str]:
    """Return the names of the definitions that need no card, and of those that already match any card and ask for DHCP."""
    found = definitions(text)
    kept = {name for kind, named in found.items() if kind not in _FORMS for name in named}
    parts = {
        name: _parts(value)
        for kind in ("bonds", "bridges", "vlans", "vrfs")
        for name, value in found.get(kind, {}).items()
    }
    bridges = {name for name in found.get("bridges", {}) if not parts[name]}
    grown = kept | bridges
    while grown != kept:
        kept = grown
        grown = kept | {name for name, below in parts.items() if below and set(below) <= kept}
    return frozenset(kept | {name for name, value in found.get("ethernets", {}).items() if _any_by_dhcp(value)})


def without_cards(text: str) -> str:
    """Return the file without what is a card or built on one; comments beside the rest stay. Raise yaml_text.Unreadable."""
    kept = standing(text)
    found = definitions(text)
    gone = any(name not in kept for kind in ("bonds", "bridges") for name in found.get(kind, {}))

    def unwanted(path: tuple[str, ...], value: Any) -> bool:
        match path:
            case ("network", "openvswitch"):
                return gone
            case ("network", kind, name):
                return kind in _FORMS and name not in kept
        return False

    return yaml_text.without(text, unwanted)


def says_something(text: str) -> bool:
    """Whether a file has more in it than its version: definitions, or a renderer."""
    network = yaml_text.mapping(text).get("network") or {}
    return any(key != "version" for key in network) if isinstance(network, dict) else True


def cards_in(text: str, path: str) -> Iterator[Card]:
    """Yield what the definitions that do not stay say. Raise yaml_text.Unreadable."""
    kept = standing(text)
    for kind, named in definitions(text).items():
        for name, value in named.items():
            if kind in _FORMS and name not in kept:
                yield _card(name, value, _FORMS[kind], path)


def _card(name: str, value: Mapping[str, Any], form: Form, path: str) -> Card:
    servers = _mapping(value.get("nameservers"))
    match = _mapping(value.get("match"))
    routes = [_mapping(route) for route in _list(value.get("routes"))]
    default = [route for route in routes if route.get("to") in ("default", "0.0.0.0/0", "::/0")]
    gateways = (value.get("gateway4"), value.get("gateway6"), *(route.get("via") for route in default))
    addresses = (next(iter(a)) if isinstance(a, dict) and a else a for a in _list(value.get("addresses")))
    return Card(
        str(value.get("set-name") or name),
        path,
        form,
        bool(value.get("dhcp4") or value.get("dhcp6")),
        tuple(str(address) for address in addresses),
        tuple(str(gateway) for gateway in gateways if gateway),
        tuple(str(server) for server in _list(servers.get("addresses"))),
        tuple(str(domain) for domain in _list(servers.get("search"))),
        tuple(f"{route.get('to')} via {route.get('via')}" for route in routes if route not in default),
        str(match.get("macaddress") or value.get("macaddress") or "").lower(),
        _parts(value),
        (
            *((f"mtu {value['mtu']}",) if "mtu" in value else ()),
            *(f"rule {dict(_mapping(rule))}" for rule in _list(value.get("routing-policy"))),
        ),
    )


def _parts(value: Mapping[str, Any]) -> tuple[str, ...]:
    link = value.get("link")
    return tuple(str(part) for part in (*_list(value.get("interfaces")), *((link,) if link else ())))


def _any_by_dhcp(value: Mapping[str, Any]) -> bool:
    match = _mapping(value.get("match"))
    name = str(match.get("name", ""))
    return "*" in name and set(match) == {"name"} and bool(value.get("dhcp4")) and not value.get("addresses")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


# The draft


def files(draft: Draft) -> tuple[str, ...]:
    """Return the operator's files, ours left out, in the order in which they are read: by their names."""
    return tuple(path for path in draft.glob("/etc/netplan/*.yaml") if path != OURS)


def present(draft: Draft) -> bool:
    """Whether netplan is installed and has something to say."""
    return draft.exists("/usr/sbin/netplan") and bool(draft.glob("/etc/netplan/*.yaml"))


def renderer(draft: Draft) -> str:
    """Return the backend that the files ask for, "networkd" where they do not: the last file's word holds."""
    found: dict[str, str] = {}
    for folder in ("/lib/netplan", "/usr/lib/netplan", "/etc/netplan"):
        for path in draft.glob(f"{folder}/*.yaml"):
            found[PurePosixPath(path).name] = path
    asked = "networkd"
    for name in sorted(found):
        try:
            network = yaml_text.mapping(draft.read(found[name]) or "").get("network")
        except yaml_text.Unreadable:
            continue
        asked = str(_mapping(network).get("renderer", asked))
    return asked


def cards(draft: Draft) -> tuple[Card, ...]:
    found: list[Card] = []
    for path in files(draft):
        try:
            found.extend(cards_in(draft.read(path) or "", path))
        except yaml_text.Unreadable as error:
            draft.find("NET-013", f"{path} cannot be read as YAML, and is left as it is: {error}")
    return merged(tuple(found))


def forget(draft: Draft) -> None:
    """No file defines a card any more; one that has nothing else to say goes."""
    why = "sets cards up by name or MAC with what was right in the source's network"
    for path in files(draft):
        text = draft.read(path) or ""
        try:
            rest = without_cards(text)
        except yaml_text.Unreadable:
            continue
        if rest != text and not says_something(rest):
            draft.remove(path, why=why)
        else:
            draft.write(path, rest, why=why)


def by_dhcp(draft: Draft) -> None:
    """Whatever card appears asks for DHCP; what cloud-init writes for a card comes first."""
    draft.write(OURS, DHCP, why="makes whatever card appears ask for DHCP, as Magalu Cloud demands", mode=0o600)
