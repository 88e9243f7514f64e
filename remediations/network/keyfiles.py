"""NetworkManager's own connection profiles: keyfiles in /etc/NetworkManager/system-connections.

Sources: nm-settings-keyfile(5) (a file must be root's and 0600), nm-settings(5) ("autoconnect-priority", "multi-connect"),
NetworkManager.conf(5) ("dns", "plugins": the keyfile plugin is always there); read with `nmcli --offline` 1.42.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from migrate.draft import Draft
from remediations import ini, systemd
from remediations.network.cards import OWN, Card, Form, interface, merged

FOLDER = "/etc/NetworkManager/system-connections"
OURS = f"{FOLDER}/{OWN}.nmconnection"
UNIT = "NetworkManager.service"

DHCP = """\
# Written by magalu-migrate. Whatever card appears asks for DHCP, unless another profile wants it: those have a higher priority.
[connection]
id=magalu-migrate
uuid=6ecb1d3a-4b52-5a0c-9c8e-7d1f2f6b8a11
type=ethernet
autoconnect-priority=-100
multi-connect=3

[ipv4]
method=auto

[ipv6]
method=auto
"""

_FORMS = {"bond": Form.BOND, "team": Form.TEAM, "vlan": Form.VLAN, "bridge": Form.BRIDGE}
_WIRED = ("ethernet", "802-3-ethernet")

Values = Mapping[tuple[str, str], str]


def values(text: str) -> Values:
    return {(section, key): value for section, key, value in ini.settings(text)}


def card_in(text: str, path: str) -> Card | None:
    """Return what a profile of a card, or of what is built on cards, says; None for any other, and for DHCP on any card."""
    found = values(text)
    kind = found.get(("connection", "type"), "")
    port = found.get(("connection", "master")) or found.get(("connection", "controller"))
    if kind not in (*_WIRED, *_FORMS, "macvlan"):
        return None
    name = found.get(("connection", "interface-name"), "")
    wired = {key: value for (section, key), value in found.items() if section in _WIRED}
    mac = wired.get("mac-address") or wired.get("cloned-mac-address") or ""
    addresses = _numbered(found, "address")
    if kind in _WIRED and not (name or wired.get("mac-address") or port or addresses or _match(found)):
        return None
    parent = found.get(("vlan", "parent")) or found.get(("macvlan", "parent")) or ""
    gateways = [value for (section, key), value in found.items() if key == "gateway" and section in ("ipv4", "ipv6")]
    more = [value.partition(",")[2] for value in addresses if "," in value]
    return Card(
        name or found.get(("connection", "id"), "") or PurePosixPath(path).stem,
        path,
        _FORMS.get(kind, Form.OTHER if kind == "macvlan" else Form.CARD),
        found.get(("ipv4", "method")) == "auto",
        tuple(interface(value.partition(",")[0]) for value in addresses),
        tuple(gateway for gateway in (*gateways, *more) if gateway),
        _listed(found, "dns"),
        _listed(found, "dns-search"),
        tuple(_route(value) for value in _numbered(found, "route")),
        mac.lower() if mac.count(":") == 5 else "",
        (parent,) if parent else (),
        (f"mtu {wired['mtu']}",) if "mtu" in wired else (),
        port or "",
    )


def _match(found: Values) -> bool:
    return any(section == "match" for section, _ in found)


def _numbered(found: Values, stem: str) -> list[str]:
    """ "address1", "addresses2", "route1" …"""
    return [
        value
        for (section, key), value in found.items()
        if section in ("ipv4", "ipv6") and key.rstrip("0123456789") in (stem, f"{stem}es", f"{stem}s") and value
    ]


def _listed(found: Values, key: str) -> tuple[str, ...]:
    lists = (found.get((section, key), "") for section in ("ipv4", "ipv6"))
    return tuple(word for text in lists for word in text.replace(",", ";").split(";") if word)


def _route(value: str) -> str:
    destination, _, via = value.partition(",")
    return f"{destination} via {via.partition(',')[0]}" if via else destination


# The draft


def files(draft: Draft) -> tuple[str, ...]:
    return tuple(path for path in draft.glob(f"{FOLDER}/*") if path != OURS and draft.read(path) is not None)


def present(draft: Draft) -> bool:
    return systemd.enabled(draft, UNIT)


def cards(draft: Draft) -> tuple[Card, ...]:
    """Return what the profiles say; a card that is part of a bond or bridge is told by that one."""
    found = [(path, card_in(draft.read(path) or "", path)) for path in files(draft)]
    lone = _lone(draft)
    parts: dict[str, list[str]] = {}
    for path, card in found:
        for key in ("master", "controller"):
            master = values(draft.read(path) or "").get(("connection", key))
            if master and card:
                parts.setdefault(master, []).append(card.name)
    return merged(
        tuple(
            replace(card, parts=card.parts or tuple(parts.get(card.name, ())))
            for path, card in found
            if card and path not in lone
        )
    )


def forget(draft: Draft) -> None:
    """No profile is for a certain card any more, or for what is built on one."""
    lone = _lone(draft)
    for path in files(draft):
        if path not in lone and card_in(draft.read(path) or "", path):
            draft.remove(path, why="sets a card up by name or MAC with what was right in the source's network")


def by_dhcp(draft: Draft) -> None:
    """NetworkManager is enabled, asks for DHCP on whatever card appears, and writes the name servers that it gets."""
    draft.write(OURS, DHCP, why="makes whatever card appears ask for DHCP, as Magalu Cloud demands", mode=0o600)
    if not systemd.enabled(draft, UNIT):
        systemd.enable(draft, UNIT, why="is what brings up a card whose name is not known before")
    for path in ("/etc/NetworkManager/NetworkManager.conf", *draft.glob("/etc/NetworkManager/conf.d/*.conf")):
        text = draft.read(path)
        if text is None:
            continue
        draft.edit(path, with_dns, why="keeps NetworkManager from telling the guest the name servers that DHCP gives")
        for section, key, value in ini.settings(text):
            if (section, key) == ("keyfile", "unmanaged-devices") and _leaves_cards(value):
                draft.find(
                    "NET-011",
                    f"{path} tells NetworkManager to leave cards alone: unmanaged-devices={value}",
                    remedy="Remove what matches wired cards, or nothing brings up the new one.",
                )


def with_dns(text: str) -> str:
    """Return a NetworkManager.conf that does not forbid it to write name servers."""
    return ini.without(text, lambda section, key, value: (section, key, value) == ("main", "dns", "none"))


def _leaves_cards(value: str) -> bool:
    """Whether a device list may match a new wired card. Source: NetworkManager.conf(5), "Device List Format"."""
    specs = [spec.strip() for spec in value.replace(",", ";").split(";")]
    if any(spec in ("except:type:ethernet", "except:interface-name:e*", "except:interface-name:en*") for spec in specs):
        return False
    return any(
        spec in ("*", "type:ethernet") or spec.startswith(("interface-name:e", "driver:virtio")) for spec in specs
    )


def _lone(draft: Draft) -> frozenset[str]:
    """The bridges that no profile is a part of: they need no card."""
    texts = {path: values(draft.read(path) or "") for path in files(draft)}
    masters = {found.get(("connection", key)) for found in texts.values() for key in ("master", "controller")}
    return frozenset(
        path
        for path, found in texts.items()
        if found.get(("connection", "type")) == "bridge"
        and not {found.get(("connection", key)) for key in ("interface-name", "uuid", "id")} & (masters - {None})
    )
