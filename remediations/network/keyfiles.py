"""NetworkManager's own connection profiles: keyfiles in /etc/NetworkManager/system-connections, and in its folder in /usr/lib.

Sources: nm-settings-keyfile(5) (a file must be root's and 0600; a link UUID.nmmeta to /dev/null in /etc hides a profile of a package's),
nm-settings(5) ("autoconnect-priority", "multi-connect", "dhcp-client-id": by MAC where nothing is said); NetworkManager, src/libnm-core-impl/
nm-keyfile-utils.c, nm_keyfile_utils_ignore_filename; read with `nmcli --offline` 1.42, and NetworkManager itself asked by it for an
address in a network namespace.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from migrate.draft import Draft
from remediations import ini, systemd
from remediations.network.model import (
    OWN,
    UNSPECIFIED,
    WHY_DHCP,
    WHY_FORGET,
    Form,
    Interface,
    Method,
    Route,
    bond_mode,
    interface,
    mac_of,
    merged,
    network,
    without_defaults,
)

FOLDER = "/etc/NetworkManager/system-connections"
OF_PACKAGES = "/usr/lib/NetworkManager/system-connections"
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

_FORMS = {
    "bond": Form.BOND,
    "team": Form.TEAM,
    "vlan": Form.VLAN,
    "bridge": Form.BRIDGE,
    "ovs-bridge": Form.BRIDGE,
    "wifi": Form.WIFI,
    "802-11-wireless": Form.WIFI,
    "wireguard": Form.WIREGUARD,
    "ip-tunnel": Form.TUNNEL,
    "tun": Form.TUNNEL,
    "vxlan": Form.TUNNEL,
    "vpn": Form.TUNNEL,
}
_WIRED = ("ethernet", "802-3-ethernet")
_ON_CARDS = (*_WIRED, "bond", "team", "vlan", "macvlan", "ovs-bridge", "ovs-port", "ovs-interface", "vrf")
_PLAIN = frozenset(
    {
        "method",
        "addr-gen-mode",
        "ip6-privacy",
        "may-fail",
        "dhcp-client-id",
        "dhcp-timeout",
        "dhcp-hostname",
        "dhcp-duid",
    }
)
"""What a profile for any card may say of its addresses and still be as good as ours."""
_COPIES = re.compile(r"\..*|.*(~|\.(swp|swpx|tmp|pem|cer|crt|der|rpmnew|rpmsave|rpmorig|dpkg-\w+|nmmeta))$")

Values = Mapping[tuple[str, str], str]


def values(text: str) -> Values:
    """Return what each key says, the escapes of GLib's key files undone, and old names of sections as new ones."""
    return {(_SECTIONS.get(section, section), key): _unescaped(value) for section, key, value in ini.settings(text)}


_SECTIONS = {"802-3-ethernet": "ethernet", "802-11-wireless": "wifi"}


def _unescaped(value: str) -> str:
    known = {"s": " ", "n": "\n", "t": "\t", "r": "\r", "\\": "\\", ";": ";"}
    return re.sub(r"\\(.)", lambda found: known.get(found[1], found[0]), value)


def any_by_dhcp(found: Values) -> bool:
    """Whether a profile is for any wired card and asks for DHCP, and for IPv6 too, with nothing of the old network in it."""
    tied = any(
        section in ("ethernet", "match", "802-1x", "pppoe", "dcb", "sriov", "proxy", "tc") for section, _ in found
    )
    ours = {"id", "uuid", "type", "autoconnect", "autoconnect-priority", "multi-connect", "timestamp", "permissions"}
    more = any(section == "connection" and key not in ours for section, key in found)
    set_by_hand = any(section in ("ipv4", "ipv6") and key not in _PLAIN for section, key in found)
    return (
        found.get(("connection", "type")) in _WIRED
        and not (tied or more or set_by_hand)
        and found.get(("connection", "autoconnect"), "true") == "true"
        and not found.get(("connection", "permissions"))
        and found.get(("ipv4", "method"), "auto") == "auto"
        and found.get(("ipv6", "method"), "auto") in ("auto", "dhcp")
    )


def stays(found: Values, masters: frozenset[str]) -> bool:
    """Whether a profile has nothing to do with a card. `masters` are what the others are ports of, by their names and UUIDs."""
    kind = found.get(("connection", "type"), "")
    if kind in _ON_CARDS or _master(found):
        return False
    return kind != "bridge" or not _identities(found) & masters


def interface_in(text: str, path: str) -> Interface | None:
    """Return what a profile says; None where it is none."""
    found = values(text)
    kind = found.get(("connection", "type"), "")
    if not kind:
        return None
    name = found.get(("connection", "interface-name")) or found.get((kind, "interface-name")) or ""
    wired = {key: value for (section, key), value in found.items() if section in ("ethernet", "wifi")}
    addresses = tuple(map(_address, _numbered(found, "address")))
    parent = found.get(("vlan", "parent")) or found.get(("macvlan", "parent")) or ""
    by_gateways = [value for (section, key), value in found.items() if key == "gateway" and section in ("ipv4", "ipv6")]
    gateways, routes = without_defaults(
        (
            *(Route("default", via) for via in (*by_gateways, *(via for _, via in addresses)) if via),
            *map(_route, _numbered(found, "route")),
        )
    )
    options = dict(pair.partition("=")[::2] for pair in found.get(("bond", "options"), "").split(","))
    macs = (wired.get("mac-address", ""), wired.get("cloned-mac-address", ""))
    return Interface(
        name or found.get(("connection", "id"), "") or PurePosixPath(path).stem,
        (path,),
        _FORMS.get(kind, Form.CARD if kind in _WIRED else Form.OTHER),
        *_methods(found),
        addresses=tuple(address for address, _ in addresses),
        gateways=gateways,
        dns=_listed(found, "dns"),
        search=_listed(found, "dns-search"),
        routes=routes,
        rules=tuple(_numbered(found, "routing-rule")),
        macs=tuple(dict.fromkeys(mac for text in macs for mac in mac_of(text))),
        mtu=wired.get("mtu", ""),
        mode=bond_mode(found.get(("bond", "mode")) or options.get("mode", "")) if kind == "bond" else "",
        tag=found.get(("vlan", "id"), "") if kind == "vlan" else "",
        parts=(parent,) if parent else (),
        within=_master(found),
        more=tuple(filter(None, _remarks(found))),
    )


def _methods(found: Values) -> tuple[Method, Method]:
    ipv4 = Method.DHCP if found.get(("ipv4", "method")) == "auto" else Method.UNSAID
    said = found.get(("ipv6", "method"), "")
    ipv6 = {"ignore": Method.OFF, "disabled": Method.OFF, "dhcp": Method.DHCP, "auto": Method.ROUTERS}
    return ipv4, ipv6.get(said, Method.UNSAID)


def _remarks(found: Values) -> Iterator[str]:
    if found.get(("connection", "autoconnect"), "true") != "true":
        yield "not started by itself"
    if zone := found.get(("connection", "zone")):
        yield f"firewalld zone: {zone}"
    if any(section == "802-1x" for section, _ in found):
        yield "802.1X"


def _master(found: Values) -> str:
    return found.get(("connection", "master")) or found.get(("connection", "controller")) or ""


def _identities(found: Values) -> frozenset[str]:
    said = (found.get(("connection", key)) for key in ("interface-name", "uuid", "id"))
    return frozenset(filter(None, (*said, found.get(("bridge", "interface-name")))))


def _numbered(found: Values, stem: str) -> list[str]:
    """ "address1", "addresses2", "route1", "routing-rule1" …; options of a route are none."""
    return [
        value
        for (section, key), value in found.items()
        if section in ("ipv4", "ipv6") and re.fullmatch(rf"{stem}(es|s)?\d*", key) and value
    ]


def _address(value: str) -> tuple[str, str]:
    """Return the address and the gateway of "10.0.0.4/24,10.0.0.1", or of the older "10.0.0.4;24;10.0.0.1;"."""
    if ";" in value.rstrip(";"):
        address, prefix, gateway, *_ = (*value.split(";"), "", "")
        return interface(address, prefix), "" if gateway in UNSPECIFIED else gateway
    address, _, gateway = value.rstrip(";").partition(",")
    return interface(address), gateway


def _listed(found: Values, key: str) -> tuple[str, ...]:
    lists = (found.get((section, key), "") for section in ("ipv4", "ipv6"))
    return tuple(word.strip() for text in lists for word in text.replace(",", ";").split(";") if word.strip())


def _route(value: str) -> Route:
    """ "172.16.0.0/12,10.0.0.254,100", or the older "172.16.0.0;12;10.0.0.254;100;"."""
    if ";" in value.rstrip(";"):
        to, prefix, via, metric, *_ = (*value.split(";"), "", "", "")
        to = f"{to}/{prefix}"
    else:
        to, via, metric, *_ = (*value.rstrip(";").split(","), "", "")
    return Route(network(to), "" if via in UNSPECIFIED else via, f"metric {metric}" if metric not in ("", "0") else "")


# The draft


def files(draft: Draft) -> tuple[str, ...]:
    """Return the profiles, ours and what NetworkManager takes for copies left out; of a package's, those that are not hidden."""
    found = [
        path for path in draft.glob(f"{FOLDER}/*") if path != OURS and not _COPIES.fullmatch(PurePosixPath(path).name)
    ]
    own = {PurePosixPath(path).name for path in found}
    packaged = (path for path in draft.glob(f"{OF_PACKAGES}/*.nmconnection") if PurePosixPath(path).name not in own)
    uuids = {path: values(draft.read(path) or "").get(("connection", "uuid"), "") for path in packaged}
    shown = [path for path, uuid in uuids.items() if not _hidden(draft, uuid)]
    return tuple(path for path in (*found, *shown) if draft.read(path) is not None)


def _hidden(draft: Draft, uuid: str) -> bool:
    return bool(uuid) and draft.load(f"{FOLDER}/{uuid}.nmmeta") is not None


def present(draft: Draft) -> bool:
    return systemd.enabled(draft, UNIT)


def interfaces(draft: Draft) -> tuple[Interface, ...]:
    """Return what the profiles say; those that ask for DHCP on any card are none of a certain one."""
    called = {
        identity: found.get(("connection", "interface-name"), identity)
        for found in (values(draft.read(path) or "") for path in files(draft))
        for identity in _identities(found)
    }
    masters = _masters(draft)
    told = []
    for path in files(draft):
        text = draft.read(path) or ""
        each = interface_in(text, path)
        if each is None or any_by_dhcp(values(text)):
            continue
        told.append(
            replace(
                each,
                within=called.get(each.within, each.within),
                parts=tuple(called.get(part, part) for part in each.parts),
                more=(*each.more, *_ignored(draft, path)),
                stays=stays(values(text), masters),
            )
        )
    return merged(told)


def _ignored(draft: Draft, path: str) -> tuple[str, ...]:
    file = draft.file(path)
    if file is None or not path.startswith("/etc/") or (file.mode & 0o077 == 0 and file.uid == 0):
        return ()
    whose = "" if file.uid == 0 else f" and belongs to user {file.uid}"
    return (f"NetworkManager ignored the file, which is {file.mode:04o}{whose}",)


def _masters(draft: Draft) -> frozenset[str]:
    return frozenset(filter(None, (_master(values(draft.read(path) or "")) for path in files(draft))))


def forget(draft: Draft, *, live: bool) -> None:
    """No profile is for a certain card any more, or for what is built on one. Where something else brings up cards, none is for any."""
    masters = _masters(draft)
    for path in files(draft):
        found = values(draft.read(path) or "")
        if any_by_dhcp(found):
            if not live:
                _remove(draft, path, found, "asks for an address too, on the card that something else brings up")
        elif found.get(("connection", "type")) and not stays(found, masters):
            _remove(draft, path, found, WHY_FORGET)
    if not live:
        draft.remove(OURS, why="asks for an address too, on the card that something else brings up")


def _remove(draft: Draft, path: str, found: Values, why: str) -> None:
    uuid = found.get(("connection", "uuid"), "")
    if path.startswith("/etc/"):
        draft.remove(path, why=why)
    elif re.fullmatch(r"[0-9A-Fa-f-]{36}", uuid):
        draft.link(f"{FOLDER}/{uuid}.nmmeta", "/dev/null", why=why)


def by_dhcp(draft: Draft, called: frozenset[str]) -> None:
    """NetworkManager is enabled, and asks for DHCP on whichever card appears."""
    draft.write(OURS, DHCP, why=WHY_DHCP, mode=0o600)
    if not systemd.enabled(draft, UNIT):
        systemd.enable(draft, UNIT, why="is what brings up a card whose name is not known before")
