"""wicked: /etc/sysconfig/network/ifcfg-* of SLES 12 and 15 and of openSUSE Leap, with ifroute-*, routes and config.

Sources: ifcfg(5), ifcfg-bonding(5), ifcfg-bridge(5), ifcfg-vlan(5), routes(5) of wicked and sysconfig; netconfig(8). Not tried with wicked
itself, which no distribution of ours packages: written from its manual pages.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from migrate.draft import Draft
from migrate.guest import Kind
from remediations import shell_variables, systemd
from remediations.network import kernel_names
from remediations.network.model import (
    WHY_DHCP,
    WHY_FORGET,
    Form,
    Interface,
    Method,
    Route,
    bond_mode,
    form_of,
    interface,
    is_no,
    is_yes,
    mac_of,
    merged,
    network,
    virtual,
    without_defaults,
    words,
)

FOLDER = "/etc/sysconfig/network"
ROUTES = f"{FOLDER}/routes"
CONFIG = f"{FOLDER}/config"
DHCP = f"{FOLDER}/dhcp"
UNIT = "wicked.service"

FIRST = """\
# Written by magalu-migrate. DHCP means both families; a router says whether IPv6 addresses come from it or by DHCPv6.
STARTMODE='auto'
BOOTPROTO='dhcp'
"""
FURTHER = """\
# Written by magalu-migrate. Set up when such a card appears; the boot does not wait for it.
STARTMODE='hotplug'
BOOTPROTO='dhcp'
"""
OURS = {
    f"{FOLDER}/ifcfg-eth0": FIRST,
    f"{FOLDER}/ifcfg-eth1": FURTHER,
    f"{FOLDER}/ifcfg-eth2": FURTHER,
}
"""An instance of Magalu Cloud has three cards at most."""

KINDS = ("ifcfg", "ifroute", "ifrule", "ifsysctl")

_COPIES = re.compile(r".*(~|\.(bak|old|orig|rpmsave|rpmnew|rpmorig|scpmbackup|swp|template|sample))$|template$")
_PORTS = re.compile(r"(BONDING_SLAVE|BONDING_PORT|TEAM_PORT_DEVICE)_?\d+")


def stays(name: str, text: str) -> bool:
    """Whether an ifcfg file has nothing to do with a card: Wi-Fi, tunnels, bridges without ports, what software makes."""
    found = shell_variables.variables(text)
    form = _form(name, found)
    if form in (Form.WIFI, Form.TUNNEL, Form.WIREGUARD):
        return True
    if form is Form.BRIDGE:
        return all(virtual(port) for port in words(found, "BRIDGE_PORTS"))
    return virtual(name) and form is not Form.VLAN


def interface_in(name: str, text: str, routes: str, path: str) -> Interface:
    """Return what an ifcfg file and the ifroute file beside it say; `name` is what its own name says after "ifcfg-"."""
    found = shell_variables.variables(text)
    form = _form(name, found)
    gateways, others = without_defaults(route for route, _ in _routes(routes))
    ports = tuple(value for key, value in found.items() if _PORTS.fullmatch(key) and value)
    options = dict(pair.partition("=")[::2] for pair in words(found, "BONDING_MODULE_OPTS"))
    parent = found.get("ETHERDEVICE") or (name.rpartition(".")[0] if "." in name else "")
    tag = found.get("VLAN_ID") or (re.findall(r"(?:\.|^vlan)0*(\d+)$", name) or [""])[0]
    return Interface(
        name,
        (path,),
        form,
        *_methods(found),
        addresses=tuple(_addresses(found)),
        gateways=gateways,
        routes=others,
        macs=tuple(dict.fromkeys((*mac_of(found.get("LLADDR", "")), *mac_of(re.sub(r"^(eth-)?id-", "", name))))),
        mtu=found.get("MTU", ""),
        mode=bond_mode(options.get("mode", "")) if form is Form.BOND else "",
        tag=tag if form is Form.VLAN else "",
        parts=(*ports, *words(found, "BRIDGE_PORTS"), *((parent,) if form is Form.VLAN and parent else ())),
        more=tuple(
            f"{said}: {value}"
            for key, said in (("ZONE", "firewalld zone"), ("PRE_UP_SCRIPT", "command"), ("POST_UP_SCRIPT", "command"))
            if (value := found.get(key))
        ),
        stays=stays(name, text),
    )


def _form(name: str, found: Mapping[str, str]) -> Form:
    if is_yes(found.get("BONDING_MASTER", "")):
        return Form.BOND
    if any(key.startswith("TEAM_") for key in found):
        return Form.TEAM
    if is_yes(found.get("BRIDGE", "")):
        return Form.BRIDGE
    if "ETHERDEVICE" in found or is_yes(found.get("VLAN", "")) or re.search(r"^vlan\d+$|\.\d+$", name):
        return Form.VLAN
    if is_yes(found.get("WIRELESS", "")) or any(key.startswith("WIRELESS_ESSID") for key in found):
        return Form.WIFI
    if any(key.startswith("WIREGUARD") for key in found):
        return Form.WIREGUARD
    if "TUNNEL" in found:
        return Form.TUNNEL
    if "MACVLAN_DEVICE" in found or "MACVTAP_DEVICE" in found or "OVS_BRIDGE" in found:
        return Form.OTHER
    return form_of(name) if virtual(name) else Form.CARD


def _methods(found: Mapping[str, str]) -> tuple[Method, Method]:
    """BOOTPROTO is a list of protocols joined by "+": "dhcp4+auto6"."""
    asked = frozenset(found.get("BOOTPROTO", "").lower().split("+"))
    ipv4 = Method.DHCP if asked & {"dhcp", "dhcp4", "dhcp+autoip", "ibft"} else Method.UNSAID
    ipv6 = Method.DHCP if asked & {"dhcp", "dhcp6"} else Method.ROUTERS if "auto6" in asked else Method.UNSAID
    return ipv4, ipv6


def _addresses(found: Mapping[str, str]) -> Iterator[str]:
    """IPADDR, IPADDR_0, IPADDR1, IPADDR_backup …, each with PREFIXLEN or NETMASK of the same suffix."""
    for key, value in found.items():
        if key.startswith("IPADDR") and value and not key.startswith("IPADDR_BROADCAST"):
            suffix = key.removeprefix("IPADDR")
            yield interface(value, found.get(f"PREFIXLEN{suffix}") or found.get(f"NETMASK{suffix}") or "")


def _routes(text: str) -> Iterator[tuple[Route, str]]:
    """Yield (route, interface) of "destination gateway netmask interface type options …"; "-" stands for nothing."""
    for line in text.splitlines():
        columns = [("" if word == "-" else word) for word in line.partition("#")[0].split()]
        if not columns:
            continue
        to, via, mask, device = (*columns, "", "", "", "")[:4]
        yield Route(network(to, mask), via, " ".join(filter(None, columns[4:]))), device


# The draft


def files(draft: Draft) -> tuple[tuple[str, str], ...]:
    """Return (name, path) of each ifcfg file that is really read, ours and the loopback's left out."""
    found = ((PurePosixPath(path).name.removeprefix("ifcfg-"), path) for path in draft.glob(f"{FOLDER}/ifcfg-*"))
    return tuple(
        (name, path)
        for name, path in found
        if name != "lo" and not _COPIES.fullmatch(name) and draft.read(path) not in (OURS.get(path), None)
    )


def present(draft: Draft) -> bool:
    """Whether it is started at boot, or its forerunner, the script `network` of SLES 11, which reads the same files."""
    script = draft.kind(FOLDER) is Kind.FOLDER and bool(draft.glob("/etc/init.d/rc[2-5].d/S[0-9][0-9]network"))
    return systemd.enabled(draft, UNIT) or script


def interfaces(draft: Draft) -> tuple[Interface, ...]:
    found = []
    for name, path in files(draft):
        beside = f"{FOLDER}/ifroute-{name}"
        each = interface_in(name, draft.read(path) or "", draft.read(beside) or "", path)
        found.append(replace(each, paths=(path, beside)) if draft.exists(beside) else each)
    return _with_masters(merged((*found, *_whole(draft))))


def _with_masters(found: tuple[Interface, ...]) -> tuple[Interface, ...]:
    """Here a bond names its ports, and not the other way round."""
    above = {
        port: each.name for each in found if each.form in (Form.BOND, Form.TEAM, Form.BRIDGE) for port in each.parts
    }
    return tuple(replace(each, within=each.within or above.get(each.name, "")) for each in found)


def _whole(draft: Draft) -> Iterator[Interface]:
    """`routes` and `config` are for all cards; a route that names one is that one's."""
    everything = tuple(_routes(draft.read(ROUTES) or ""))
    for device in dict.fromkeys(device for _, device in everything):
        gateways, routes = without_defaults(route for route, name in everything if name == device)
        form = Form.CARD if device else Form.WHOLE
        stays = bool(device) and virtual(device)
        yield Interface(device or "all cards", (ROUTES,), form, gateways=gateways, routes=routes, stays=stays)
    found = shell_variables.variables(draft.read(CONFIG) or "")
    dns, search = words(found, "NETCONFIG_DNS_STATIC_SERVERS"), words(found, "NETCONFIG_DNS_STATIC_SEARCHLIST")
    if dns or search:
        yield Interface("all cards", (CONFIG,), Form.WHOLE, dns=dns, search=search)


def forget(draft: Draft, *, live: bool) -> None:
    """No file is for a card any more, and no route is set for the whole guest but those of what stays."""
    staying = frozenset(name for name, path in files(draft) if stays(name, draft.read(path) or ""))
    for name, path in files(draft):
        rewritten = live and path in OURS
        for kind in () if name in staying else KINDS[1:] if rewritten else KINDS:
            draft.remove(f"{FOLDER}/{kind}-{name}", why=WHY_FORGET)
    draft.edit(
        ROUTES, lambda text: without_routes(text, staying), why="sends everything to a router of the source's network"
    )
    if not live:
        for path, text in OURS.items():
            if draft.read(path) == text:
                draft.remove(path, why="asks for an address too, on the card that something else brings up")


def without_routes(text: str, staying: frozenset[str]) -> str:
    """Return a routes file with only those of interfaces that stay."""
    kept = []
    for line in text.splitlines(keepends=True):
        columns = line.partition("#")[0].split()
        if not columns or (len(columns) > 3 and columns[3] in staying):
            kept.append(line)
    return "".join(kept)


def by_dhcp(draft: Draft, called: frozenset[str]) -> None:
    """wicked is enabled, and the first three cards, as the kernel names them, ask for DHCP; only the first is waited for."""
    kernel_names.keep(draft, "wicked", seen="eth0" in called or any(draft.exists(path) for path in OURS))
    for path, text in OURS.items():
        draft.write(path, text, why=WHY_DHCP)
    draft.edit(DHCP, with_route, why="keeps the router that DHCP gives from being used")
    if not present(draft):
        systemd.enable(draft, UNIT, why="is what brings up the network card")


def with_route(text: str) -> str:
    """Return an /etc/sysconfig/network/dhcp that takes the router from DHCP, and needs no one card for it."""
    found = shell_variables.variables(text)
    if is_no(found.get("DHCLIENT_SET_DEFAULT_ROUTE", "")):
        text = shell_variables.assigned(text, "DHCLIENT_SET_DEFAULT_ROUTE", "yes")
    if found.get("DHCLIENT_PRIMARY_DEVICE"):
        text = shell_variables.assigned(text, "DHCLIENT_PRIMARY_DEVICE", "")
    return text
