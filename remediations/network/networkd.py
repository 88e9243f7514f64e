"""systemd-networkd: *.network and *.netdev in /etc/systemd/network.

Sources: systemd.network(5) (the first file that matches, by name, is the one that counts), systemd.netdev(5).
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from migrate.draft import Draft
from remediations import ini, systemd
from remediations.network.cards import OWN, PATTERNS, Card, Form, merged, virtual

FOLDER = "/etc/systemd/network"
OURS = f"{FOLDER}/90-{OWN}.network"
UNIT = "systemd-networkd.service"

DHCP = f"""\
# Written by magalu-migrate. Whatever card appears asks for DHCP.
[Match]
Name={" ".join(PATTERNS)}

[Network]
DHCP=yes
"""

_FORMS = {"bond": Form.BOND, "team": Form.TEAM, "vlan": Form.VLAN, "bridge": Form.BRIDGE}
_ON_CARDS = frozenset({"bond", "team", "vlan", "macvlan", "macvtap", "ipvlan", "ipvtap"})
_NAMING_KEYS = frozenset({"Bond", "Bridge", "VLAN", "MACVLAN", "MACVTAP", "IPVLAN", "IPVTAP"})

Values = Mapping[tuple[str, str], tuple[str, ...]]


def values(text: str) -> Values:
    """Return what each key of each section says, in order."""
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for section, key, value in ini.settings(text, continued=True):
        found[section, key] = (*found.get((section, key), ()), value) if value else ()
    return found


def netdev(text: str) -> tuple[str, str]:
    """Return the name and the kind of the device that a .netdev file makes."""
    found = values(text)
    return (*found.get(("NetDev", "Name"), ()), "")[0], (*found.get(("NetDev", "Kind"), ()), "")[0].lower()


def names(text: str) -> tuple[str, ...]:
    """Return the names and patterns that a .network file matches."""
    return tuple(word for value in values(text).get(("Match", "Name"), ()) for word in value.split())


def stays(text: str, devices: frozenset[str]) -> bool:
    """Whether a .network file has nothing to do with one certain card.

    It is for `devices` that stay or for what software makes, or it already matches any card and asks for DHCP.
    """
    found = values(text)
    matched = names(text)
    if not matched:
        types = {word for value in found.get(("Match", "Type"), ()) for word in value.split()}
        return bool(types) and "ether" not in types
    if all(name in devices or virtual(name) for name in matched):
        return True
    asks = (*found.get(("Network", "DHCP"), ()), "no")[0].lower() in ("yes", "true", "1", "on", "ipv4", "both", "v4")
    bound = {key for section, key in found if section == "Match"} - {"Name", "Type", "Kind", "Virtualization"}
    plain = not any(key in ("Address", "Gateway", *_NAMING_KEYS) for _, key in found)
    return asks and plain and not bound and all("*" in name for name in matched)


def card_in(text: str, path: str) -> Card:
    """Return what a .network file says."""
    found = values(text)

    def words(section: str, key: str) -> tuple[str, ...]:
        return tuple(word for value in found.get((section, key), ()) for word in value.split())

    destinations = words("Route", "Destination")
    vias = words("Route", "Gateway")
    routed = len(destinations) == len(vias)
    macs = (*words("Match", "MACAddress"), *words("Match", "PermanentMACAddress"), *words("Link", "MACAddress"))
    return Card(
        " ".join(names(text)) or PurePosixPath(path).stem,
        path,
        dynamic=(*found.get(("Network", "DHCP"), ()), "no")[0].lower() not in ("no", "false", "0", "off", "none"),
        addresses=(*words("Network", "Address"), *words("Address", "Address")),
        gateways=(*words("Network", "Gateway"), *(() if routed and destinations else vias)),
        dns=words("Network", "DNS"),
        search=words("Network", "Domains"),
        routes=tuple(f"{to} via {via}" for to, via in zip(destinations, vias, strict=True)) if routed else destinations,
        mac=(*macs, "")[0].lower(),
        more=(
            *(f"mtu {mtu}" for mtu in words("Link", "MTUBytes")),
            *(f"{key} {word}" for key in sorted(_NAMING_KEYS) for word in words("Network", key)),
        ),
    )


# The draft


def files(draft: Draft, kind: str) -> tuple[str, ...]:
    """Return the operator's files of a kind ("network"), ours and masks left out."""
    return tuple(path for path in draft.glob(f"{FOLDER}/*.{kind}") if path != OURS and draft.read(path))


def present(draft: Draft) -> bool:
    return systemd.enabled(draft, UNIT)


def cards(draft: Draft) -> tuple[Card, ...]:
    staying = _staying(draft)
    forms = {name: form for name, form in _devices(draft).items() if name not in staying}
    found = [
        card_in(text, path) for path in files(draft, "network") if not stays(text := draft.read(path) or "", staying)
    ]
    known = {card.name for card in found}
    bare = [Card(name, FOLDER, form) for name, form in forms.items() if name not in known]
    formed = [replace(card, form=forms.get(card.name, card.form), parts=_ports(draft, card.name)) for card in found]
    return merged((*formed, *bare))


def forget(draft: Draft) -> None:
    """No file is for a certain card any more."""
    why = "sets a card up by name or MAC with what was right in the source's network"
    staying = _staying(draft)
    for path in files(draft, "network"):
        if not stays(draft.read(path) or "", staying):
            draft.remove(path, why=why)
            draft.remove(f"{path}.d", why=why)
    for path in files(draft, "netdev"):
        if netdev(draft.read(path) or "")[0] not in staying:
            draft.remove(path, why="is built on cards that will not be there")
            draft.remove(f"{path}.d", why="is built on cards that will not be there")


def by_dhcp(draft: Draft) -> None:
    """systemd-networkd is enabled, and whatever card appears asks for DHCP; what cloud-init writes for a card comes first."""
    draft.write(OURS, DHCP, why="makes whatever card appears ask for DHCP, as Magalu Cloud demands")
    if not systemd.enabled(draft, UNIT):
        systemd.enable(draft, UNIT, why="is what brings up the network card")


def _devices(draft: Draft) -> dict[str, Form]:
    found = (netdev(draft.read(path) or "") for path in files(draft, "netdev"))
    return {name: _FORMS.get(kind, Form.OTHER) for name, kind in found if name}


def _staying(draft: Draft) -> frozenset[str]:
    """The devices of .netdev files that need no card."""
    kinds = dict(netdev(draft.read(path) or "") for path in files(draft, "netdev"))
    return frozenset(name for name, kind in kinds.items() if name and kind not in _ON_CARDS and not _ports(draft, name))


def _ports(draft: Draft, device: str) -> tuple[str, ...]:
    """Return the names of the cards that .network files put into a bond or bridge, or under a VLAN."""
    return tuple(
        name
        for path in files(draft, "network")
        if any(device in values(draft.read(path) or "").get(("Network", key), ()) for key in _NAMING_KEYS)
        for name in names(draft.read(path) or "")
        if not virtual(name)
    )
