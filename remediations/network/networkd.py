"""systemd-networkd: *.network and *.netdev, with their drop-ins, in /etc/systemd/network and in the folders of packages.

Sources: systemd.network(5) (the first file that matches, by name, is the one that counts; a file in /etc hides the one of the same name
in /usr/lib; drop-ins of all folders are read by name), systemd.netdev(5), systemd-networkd-wait-online.service(8).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from migrate.draft import Draft
from migrate.guest import Kind
from remediations import ini, systemd
from remediations.network.model import (
    OWN,
    PATTERNS,
    WHY_DHCP,
    WHY_FORGET,
    Form,
    Interface,
    Method,
    Route,
    form_of,
    interface,
    is_no,
    is_yes,
    mac_of,
    merged,
    network,
    virtual,
    without_defaults,
)

FOLDER = "/etc/systemd/network"
FOLDERS = (FOLDER, "/usr/local/lib/systemd/network", "/usr/lib/systemd/network", "/lib/systemd/network")
"""The first one's file hides those of the same name. /run is empty on a disk."""
OURS = f"{FOLDER}/90-{OWN}.network"
UNIT = "systemd-networkd.service"
WAIT = "systemd-networkd-wait-online.service"
WAIT_DROP_IN = f"/etc/systemd/system/{WAIT}.d/zz-{OWN}.conf"

_TEXT = """\
# Written by magalu-migrate. Whatever card appears asks for DHCP, and takes what routers say for IPv6.
[Match]
Name={patterns}

[Network]
DHCP=yes
IPv6AcceptRA=yes

[{section}]
ClientIdentifier=mac
"""
DHCP = _TEXT.format(patterns=" ".join(PATTERNS), section="DHCPv4")
DHCP_OLD = _TEXT.format(patterns=" ".join(PATTERNS), section="DHCP")
"""Before version 243 the section was called so. Source: systemd, NEWS, changes with 243."""

_FORMS = {
    "bond": Form.BOND,
    "team": Form.TEAM,
    "vlan": Form.VLAN,
    "bridge": Form.BRIDGE,
    "wireguard": Form.WIREGUARD,
    **dict.fromkeys(
        ("gre", "gretap", "ip6gre", "ipip", "ip6tnl", "sit", "vti", "vxlan", "geneve", "tun", "tap"), Form.TUNNEL
    ),
}
_ON_CARDS = frozenset({"bond", "team", "vlan", "macvlan", "macvtap", "ipvlan", "ipvtap"})
_PORT_KEYS = ("Bond", "Bridge", "BatmanAdvanced", "VRF")
"""This .network file's interface is a part of those."""
_ABOVE_KEYS = ("VLAN", "MACVLAN", "MACVTAP", "IPVLAN", "IPVTAP")
"""Those are made on top of this .network file's interface."""
_NAMING_KEYS = frozenset({*_PORT_KEYS, *_ABOVE_KEYS})
_ANY_CARD = frozenset({"Name", "Type", "Kind", "Virtualization"})
_BY_CARD = frozenset({"MACAddress", "PermanentMACAddress", "Path", "Driver", "OriginalName", "Property"})

_MADE_BY = (("tun",), ("veth",))
"""Drivers of devices that programs make."""

Values = Mapping[tuple[str, str], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Section:
    """One section with its settings in order; a section of the same name may be there several times."""

    name: str
    settings: tuple[tuple[str, str], ...]

    def words(self, *keys: str) -> tuple[str, ...]:
        """Return what keys say, word by word; an empty value forgets the former ones."""
        found: tuple[str, ...] = ()
        for key, value in self.settings:
            if key in keys:
                found = (*found, *value.replace('"', "").split()) if value else ()
        return found

    def last(self, key: str) -> str:
        return next((value for name, value in reversed(self.settings) if name == key), "")


def sections(text: str) -> tuple[Section, ...]:
    found: list[Section] = []
    for entry in ini.entries(text, continued=True):
        if entry.key and found:
            found[-1] = replace(found[-1], settings=(*found[-1].settings, (entry.key, entry.value)))
        elif not entry.key and entry.raw.strip().startswith("["):
            found.append(Section(entry.section, ()))
    return tuple(found)


def values(text: str) -> Values:
    """Return what each key of each section says, in order; sections of one name together."""
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for section, key, value in ini.settings(text, continued=True):
        found[section, key] = (*found.get((section, key), ()), value) if value else ()
    return found


def netdev(text: str) -> tuple[str, str]:
    """Return the name and the kind of the device that a .netdev file makes."""
    found = values(text)
    return _last(found, "NetDev", "Name"), _last(found, "NetDev", "Kind").lower()


def _last(found: Values, section: str, key: str) -> str:
    return (found.get((section, key)) or ("",))[-1]


def names(text: str) -> tuple[str, ...]:
    """Return the names and patterns that a .network file matches, those that it leaves out not among them."""
    listed = [word for value in values(text).get(("Match", "Name"), ()) for word in value.split()]
    return tuple(word for word in listed if not word.startswith("!"))


def any_by_dhcp(text: str) -> bool:
    """Whether a .network file matches any card and asks for DHCP, IPv6 not switched off."""
    found = values(text)
    matched = names(text)
    bound = {key for section, key in found if section == "Match"} - _ANY_CARD
    types = {word for value in found.get(("Match", "Type"), ()) for word in value.split()}
    wide = all("*" in name for name in matched) if matched else "ether" in types
    plain = not any(key in ("Address", "Gateway", "DNS", *_NAMING_KEYS) for _, key in found)
    return wide and plain and not bound and _methods(found)[0] is Method.DHCP and _methods(found)[1] is not Method.OFF


def stays(text: str, devices: frozenset[str]) -> bool:
    """Whether a .network file has nothing to do with a card: it is for `devices` that stay or for what software makes."""
    found = values(text)
    matched = names(text)
    if "container" in found.get(("Match", "Virtualization"), ()):  # for a guest in which this is no machine
        return True
    types = {word for value in found.get(("Match", "Type"), ()) for word in value.split()}
    kinds = {word for value in found.get(("Match", "Kind"), ()) for word in value.split()}
    if matched:
        # systemd's own files for tunnels and virtual machines: a type or driver that no card has.
        made = (bool(types) and "ether" not in types) or found.get(("Match", "Driver")) in _MADE_BY
        return made or all(name in devices or virtual(name) for name in matched)
    if any(key in _BY_CARD for section, key in found if section == "Match"):
        return False
    return bool(types | kinds) and "ether" not in types and "!*" not in kinds


def interface_in(text: str, path: str) -> Interface:
    """Return what a .network file says, its drop-ins behind it."""
    found = values(text)
    all_sections = sections(text)

    def all_words(name: str, *keys: str) -> tuple[str, ...]:
        return tuple(word for each in all_sections if each.name == name for word in each.words(*keys))

    gateways, routes = without_defaults(
        (
            *(Route("default", word) for word in all_words("Network", "Gateway") if not word.startswith("_")),
            *(_route(each) for each in all_sections if each.name == "Route"),
        )
    )
    macs = (*all_words("Match", "MACAddress", "PermanentMACAddress"), *all_words("Link", "MACAddress"))
    off = is_no(_last(found, "Link", "RequiredForOnline") or "yes")
    return Interface(
        " ".join(names(text)) or PurePosixPath(path).stem,
        (path,),
        Form.CARD,
        *_methods(found),
        addresses=tuple(
            interface(word) for word in (*all_words("Network", "Address"), *all_words("Address", "Address"))
        ),
        gateways=gateways,
        dns=all_words("Network", "DNS"),
        search=all_words("Network", "Domains"),
        routes=routes,
        rules=tuple(
            " ".join(f"{key}={value}" for key, value in each.settings)
            for each in all_sections
            if each.name == "RoutingPolicyRule"
        ),
        macs=tuple(dict.fromkeys(mac for word in macs for mac in mac_of(word))),
        mtu=_last(found, "Link", "MTUBytes"),
        within=(*all_words("Network", *_PORT_KEYS), "")[0],
        more=(
            *(f"{key} {word}" for key in _ABOVE_KEYS for word in all_words("Network", key)),
            *(("the boot does not wait for it",) if off else ()),
        ),
    )


def _route(section: Section) -> Route:
    to = section.last("Destination")
    via = section.last("Gateway")
    more = " ".join(
        f"{word} {value}"
        for key, word in (("Metric", "metric"), ("Table", "table"), ("Source", "from"), ("Type", "type"))
        if (value := section.last(key))
    )
    return Route(network(to) if to else "default", "" if via.startswith("_") else via, more)


def _methods(found: Values) -> tuple[Method, Method]:
    asked = _last(found, "Network", "DHCP").lower()
    ipv4 = Method.DHCP if is_yes(asked) or asked in ("ipv4", "both", "v4") else Method.UNSAID
    by_dhcp = is_yes(asked) or asked in ("ipv6", "both", "v6")
    accept = _last(found, "Network", "IPv6AcceptRA") or _last(found, "Network", "IPv6AcceptRouterAdvertisements")
    local = _last(found, "Network", "LinkLocalAddressing").lower()
    if (accept and is_no(accept)) or (local and (is_no(local) or local in ("ipv4", "ipv4-fallback"))):
        fixed = any(
            ":" in value for key in (("Network", "Address"), ("Address", "Address")) for value in found.get(key, ())
        )
        return ipv4, Method.UNSAID if fixed else Method.OFF
    return ipv4, Method.DHCP if by_dhcp else Method.ROUTERS if is_yes(accept) else Method.UNSAID


# The draft


def files(draft: Draft, kind: str) -> tuple[str, ...]:
    """Return the files of a kind ("network") that count, by their names; ours, masks and hidden ones left out."""
    found: dict[str, str] = {}
    for folder in reversed(FOLDERS):
        found |= {PurePosixPath(path).name: path for path in draft.glob(f"{folder}/*.{kind}")}
    return tuple(found[name] for name in sorted(found) if found[name] != OURS and draft.read(found[name]))


def text_of(draft: Draft, path: str) -> str:
    """Return what a file says with its drop-ins behind it."""
    name = PurePosixPath(path).name
    drop_ins: dict[str, str] = {}
    for folder in reversed(FOLDERS):
        drop_ins |= {PurePosixPath(inner).name: inner for inner in draft.glob(f"{folder}/{name}.d/*.conf")}
    return "\n".join(draft.read(each) or "" for each in (path, *(drop_ins[inner] for inner in sorted(drop_ins))))


def present(draft: Draft) -> bool:
    return systemd.enabled(draft, UNIT)


def configured(draft: Draft) -> bool:
    """Whether there are files for cards, ours among them."""
    if draft.exists(OURS):
        return True
    return any(not each.stays for each in interfaces(draft)) or any(
        any_by_dhcp(text_of(draft, path)) for path in files(draft, "network")
    )


def interfaces(draft: Draft) -> tuple[Interface, ...]:
    """Return what the files say; those that ask for DHCP on any card are none of a certain one."""
    staying = _staying(draft)
    devices = _devices(draft)
    found = []
    for path in files(draft, "network"):
        text = text_of(draft, path)
        packages = not path.startswith("/etc/")
        if any_by_dhcp(text) or (packages and stays(text, staying)):
            continue
        each = replace(interface_in(text, path), stays=stays(text, staying))
        for name in names(text) or (each.name,):
            known = devices.get(name)
            form = known.form if known else form_of(name) if virtual(name) else Form.CARD
            found.append(replace(each, name=name, form=form))
    left = (
        replace(
            interface_in(_drop_ins(draft, folder), folder), name=re.sub(r".*/(10-netplan-)?|\.network\.d$", "", folder)
        )
        for folder in _orphans(draft)
    )
    return merged((*found, *left, *(replace(each, stays=name in staying) for name, each in devices.items())))


def _devices(draft: Draft) -> dict[str, Interface]:
    """What .netdev files make, by name, each with the cards that .network files put into it or below it."""
    found = {}
    for path in files(draft, "netdev"):
        text = text_of(draft, path)
        name, kind = netdev(text)
        said = values(text)
        if name:
            found[name] = Interface(
                name,
                (path,),
                _FORMS.get(kind, Form.OTHER),
                macs=mac_of(_last(said, "NetDev", "MACAddress")),
                mtu=_last(said, "NetDev", "MTUBytes"),
                mode=_last(said, "Bond", "Mode") if kind == "bond" else "",
                tag=_last(said, "VLAN", "Id") if kind == "vlan" else "",
                parts=_ports(draft, name),
            )
    return found


def forget(draft: Draft, *, live: bool) -> None:
    """No file is for a certain card any more; one of a package's is hidden. Where something else brings up cards, none is for any."""
    staying = _staying(draft)
    for path in files(draft, "network"):
        text = text_of(draft, path)
        if any_by_dhcp(text):
            if not live:
                _remove(draft, path, "asks for an address too, on the card that something else brings up")
        elif not stays(text, staying):
            _remove(draft, path, WHY_FORGET)
    for path in files(draft, "netdev"):
        if netdev(text_of(draft, path))[0] not in staying:
            _remove(draft, path, "is built on cards that will not be there")
    for folder in _orphans(draft):
        draft.remove(
            folder, why="waits for a file of that name, and sets a card up with what was right in the source's network"
        )
    if not live:
        draft.remove(OURS, why="asks for an address too, on the card that something else brings up")


def _orphans(draft: Draft) -> tuple[str, ...]:
    """The folders of drop-ins with addresses for a file that is not there: one that netplan makes, 10-netplan-eth0.network."""
    folders = (f"{FOLDER}/{name}" for name in draft.names(FOLDER) if name.endswith(".network.d"))
    return tuple(
        folder
        for folder in folders
        if not any(draft.exists(f"{each}/{PurePosixPath(folder).stem}") for each in FOLDERS)
        and any(
            key in ("Address", "Gateway", "DNS", "DHCP", "MACAddress") for _, key in values(_drop_ins(draft, folder))
        )
    )


def _drop_ins(draft: Draft, folder: str) -> str:
    return "\n".join(draft.read(path) or "" for path in draft.glob(f"{folder}/*.conf"))


def _remove(draft: Draft, path: str, why: str) -> None:
    """A file of a package's stays where it is, under a link that hides it."""
    name = PurePosixPath(path).name
    if any(draft.kind(f"{folder}/{name}") is not Kind.MISSING for folder in FOLDERS[1:]):
        draft.link(f"{FOLDER}/{name}", "/dev/null", why=why)
    else:
        draft.remove(path, why=why)
    draft.remove(f"{FOLDER}/{name}.d", why=why)


def by_dhcp(draft: Draft, called: frozenset[str]) -> None:
    """systemd-networkd is enabled, and whatever card appears asks for DHCP; what cloud-init writes for a card comes first."""
    draft.write(OURS, DHCP_OLD if _version(draft) < 243 else DHCP, why=WHY_DHCP)
    if not systemd.enabled(draft, UNIT):
        systemd.enable(draft, UNIT, why="is what brings up the network card")
    wait_for_any(draft)


def wait_for_any(draft: Draft) -> None:
    """The boot goes on once one card has an address: it waits two minutes where one of several has none.

    Source: systemd-networkd-wait-online.service(8), "--any" (since 242).
    """
    for path in draft.glob("/etc/systemd/system/*.wants/systemd-networkd-wait-online@*.service"):
        draft.remove(path, why="waits for a card by a name that the new one may not have")
    unit = systemd.unit_file(draft, WAIT)
    if unit is None or _version(draft) < 242:
        return
    program = re.search(r"^ExecStart=(\S+)", draft.read(unit) or "", re.MULTILINE)
    if program:
        text = f"# Written by magalu-migrate.\n[Service]\nExecStart=\nExecStart={program[1]} --any\n"
        draft.write(
            WAIT_DROP_IN, text, why="lets the boot go on once one card has an address, and not wait for all of them"
        )


def _version(draft: Draft) -> int:
    """systemd's; a recent one where it is not known."""
    package = draft.packages.get("systemd")
    found = re.match(r"(?:\d+:)?(\d+)", package.version) if package else None
    return int(found[1]) if found and int(found[1]) > 100 else 999


def _staying(draft: Draft) -> frozenset[str]:
    """The devices of .netdev files that need no card."""
    kinds = dict(netdev(text_of(draft, path)) for path in files(draft, "netdev"))
    return frozenset(name for name, kind in kinds.items() if name and kind not in _ON_CARDS and not _ports(draft, name))


def _ports(draft: Draft, device: str) -> tuple[str, ...]:
    """Return the names of the cards that .network files put into a bond or bridge, or under a VLAN."""
    texts = (text_of(draft, path) for path in files(draft, "network"))
    return tuple(
        name
        for text in texts
        if any(device in value.split() for key in _NAMING_KEYS for value in values(text).get(("Network", key), ()))
        for name in names(text)
        if not virtual(name)
    )
