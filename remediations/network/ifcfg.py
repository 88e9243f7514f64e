"""ifcfg of Red Hat's systems: /etc/sysconfig/network-scripts, read by network.service and, before EL 10, by NetworkManager.

Sources: sysconfig.txt of initscripts ("ifcfg-<interface-name>", "route-<interface-name>", "rule-<interface-name>"), its ifup-aliases
(ifcfg-eth0-range0) and network-functions; nm-settings-ifcfg-rh(5). Both leave out names of editors' and rpm's copies. network.service ends
with an error where a device that is ONBOOT=yes is not there.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from migrate.draft import Draft
from migrate.guest import Kind
from remediations import shell_variables, systemd
from remediations.network import commands, kernel_names
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

FOLDER = "/etc/sysconfig/network-scripts"
ETH0 = f"{FOLDER}/ifcfg-eth0"
GLOBAL = "/etc/sysconfig/network"
KINDS = ("ifcfg", "route", "route6", "rule", "rule6", "keys")

DHCP_ETH0 = """\
# Written by magalu-migrate.
DEVICE=eth0
TYPE=Ethernet
BOOTPROTO=dhcp
ONBOOT=yes
PEERDNS=yes
IPV6INIT=yes
IPV6_AUTOCONF=yes
"""

_COPIES = re.compile(r".*(\.bak|\.orig|\.rej|\.old|\.rpmnew|\.rpmorig|\.rpmsave|\.augnew|\.augtmp|~|,v)$")
_ROUTERS = frozenset({"GATEWAY", "GATEWAYDEV", "IPV6_DEFAULTGW", "IPV6_DEFAULTDEV"})
_WIRELESS = ("wireless", "wi-fi")
_OTHERS = ("infiniband", "ib", "ipip", "gre", "sit", "vpn", "dummy", "wireguard", "isdn", "xdsl", "modem", "ppp")
_ON_CARDS = ("MASTER", "SLAVE", "BRIDGE", "VLAN", "PHYSDEV", "TEAM_MASTER", "OVS_BRIDGE", "BONDING_OPTS")

Found = Mapping[str, str]


def stays(name: str, text: str) -> bool:
    """Whether an ifcfg file has nothing to do with a card; `name` is what its own name says after "ifcfg-"."""
    found = shell_variables.variables(text)
    device = found.get("DEVICE") or name
    if _kind(found) in (*_WIRELESS, *_OTHERS) or "ESSID" in found:
        return True
    return virtual(device) and not any(key in found for key in _ON_CARDS)


def interface_in(name: str, text: str, routes: str, path: str, rules: str = "") -> Interface:
    """Return what an ifcfg file and the route and rule files beside it say."""
    found = shell_variables.variables(text)
    device = _device(name, found)
    form = _form(device, found)
    addresses = [
        interface(value, found.get(f"PREFIX{number}") or found.get(f"NETMASK{number}") or _bare(found, number))
        for number, value in _numbered(found, "IPADDR")
    ]
    more = [interface(value) for key in ("IPV6ADDR", "IPV6ADDR_SECONDARIES") for value in words(found, key)]
    by_gateways = (
        *(Route("default", value) for _, value in _numbered(found, "GATEWAY")),
        *(Route("default", value) for key in ("IPV6_DEFAULTGW",) if (value := found.get(key))),
    )
    gateways, others = without_defaults((*by_gateways, *_routes(routes)))
    tag = found.get("VLAN_ID") or (re.findall(r"(?:\.|^vlan)0*(\d+)$", device) or [""])[0]
    options = dict(pair.partition("=")[::2] for pair in words(found, "BONDING_OPTS"))
    return Interface(
        device,
        (path,),
        form,
        *_methods(found),
        addresses=(*addresses, *more, *_range(found)),
        gateways=gateways,
        dns=tuple(value for _, value in _numbered(found, "DNS")),
        search=words(found, "DOMAIN"),
        routes=others,
        rules=tuple(line for line in map(str.strip, rules.splitlines()) if line and not line.startswith("#")),
        macs=tuple(dict.fromkeys(mac for key in ("HWADDR", "MACADDR") for mac in mac_of(found.get(key, "")))),
        mtu=found.get("MTU", ""),
        mode=bond_mode(options.get("mode", "")) if form is Form.BOND else "",
        tag=tag if form is Form.VLAN else "",
        parts=tuple(filter(None, (found.get("PHYSDEV") or (device.rpartition(".")[0] if form is Form.VLAN else ""),))),
        within=next((value for key in _MASTERS if (value := found.get(key))), ""),
        more=tuple(filter(None, ("not started at boot" if is_no(found.get("ONBOOT", "yes")) else "",))),
        stays=stays(name, text),
    )


_MASTERS = ("MASTER", "TEAM_MASTER", "BRIDGE", "OVS_BRIDGE", "BONDING_MASTER_UUID", "MASTER_UUID")


def _kind(found: Found) -> str:
    return (found.get("TYPE") or found.get("DEVICETYPE") or "").lower()


def _device(name: str, found: Found) -> str:
    """An alias belongs to its card: ifcfg-eth0:1, ifcfg-eth0-range0."""
    device = (found.get("DEVICE") or found.get("NAME") or name).partition(":")[0]
    return re.sub(r"-range\d+$", "", device)


def _form(device: str, found: Found) -> Form:
    kind = _kind(found)
    if kind == "bond" or "BONDING_OPTS" in found or is_yes(found.get("BONDING_MASTER", "")):
        return Form.BOND
    if kind == "team" or "TEAM_CONFIG" in found:
        return Form.TEAM
    if kind in ("bridge", "ovsbridge"):
        return Form.BRIDGE
    if is_yes(found.get("VLAN", "")) or kind == "vlan" or re.search(r"\.\d+$", device):
        return Form.VLAN
    if kind in _WIRELESS or "ESSID" in found:
        return Form.WIFI
    if kind in ("ipip", "gre", "sit", "vpn"):
        return Form.TUNNEL
    return form_of(device) if virtual(device) or kind in _OTHERS else Form.CARD


def _methods(found: Found) -> tuple[Method, Method]:
    ipv4 = Method.DHCP if found.get("BOOTPROTO", "").lower() in ("dhcp", "bootp") else Method.UNSAID
    off = is_no(found.get("IPV6INIT", "")) or is_yes(found.get("IPV6_DISABLED", ""))
    ipv6 = (
        Method.OFF if off
        else Method.DHCP if is_yes(found.get("DHCPV6C", ""))
        else Method.ROUTERS if is_yes(found.get("IPV6_AUTOCONF", ""))
        else Method.UNSAID
    )  # fmt: skip
    return ipv4, ipv6


def _bare(found: Found, number: str) -> str:
    """The first address's mask may be written without its number."""
    return (found.get("PREFIX") or found.get("NETMASK") or "") if number == "0" else (
        (found.get("PREFIX0") or found.get("NETMASK0") or "") if number == "" else ""
    )  # fmt: skip


def _range(found: Found) -> Iterator[str]:
    first, last = found.get("IPADDR_START"), found.get("IPADDR_END")
    if first and last:
        yield f"{first} to {last}"


def _routes(text: str) -> Iterator[Route]:
    """Both forms of a route file: what follows `ip route add`, and numbered variables. Each line that the first word tells is of the first."""
    found = shell_variables.variables(text)
    for number, to in _numbered(found, "ADDRESS"):
        metric = f"metric {found[f'METRIC{number}']}" if f"METRIC{number}" in found else ""
        yield Route(network(to, found.get(f"NETMASK{number}", "")), found.get(f"GATEWAY{number}", ""), metric)
    for line in map(str.strip, text.splitlines()):
        if line and not line.startswith("#") and not re.match(r"\w+=", line):
            yield commands.route_of(line.split())


def _numbered(found: Found, stem: str) -> list[tuple[str, str]]:
    """Return (number, value) of "IPADDR", "IPADDR0", "IPADDR1" … in the file's order."""
    matched = ((re.fullmatch(rf"{stem}(\d*)", key), value) for key, value in found.items())
    return [(match[1], value) for match, value in matched if match and value]


# The draft


def files(draft: Draft) -> tuple[tuple[str, str], ...]:
    """Return (name, path) of each ifcfg file that is really read, ours and the loopback's left out."""
    found = ((PurePosixPath(path).name.removeprefix("ifcfg-"), path) for path in draft.glob(f"{FOLDER}/ifcfg-*"))
    return tuple(
        (name, path)
        for name, path in found
        if name != "lo" and not _COPIES.fullmatch(name) and draft.read(path) not in (DHCP_ETH0, None)
    )


def legacy(draft: Draft) -> bool:
    """Whether network.service of initscripts, and not NetworkManager or wicked under that name, reads the files.

    On SUSE's systems before 12, whose script has the same name, /etc/sysconfig/network is a folder.
    """
    if draft.kind(GLOBAL) is Kind.FOLDER:
        return False
    started = draft.glob("/etc/rc[2-5].d/S[0-9][0-9]network") or draft.glob("/etc/rc.d/rc[2-5].d/S[0-9][0-9]network")
    if started:
        return True
    unit = "network.service"
    return systemd.unit_name(draft, unit) == unit and systemd.enabled(draft, unit)


def interfaces(draft: Draft) -> tuple[Interface, ...]:
    found = []
    for name, path in files(draft):
        routes, rules = (
            "\n".join(draft.read(f"{FOLDER}/{kind}-{name}") or "" for kind in (stem, f"{stem}6"))
            for stem in ("route", "rule")
        )
        each = interface_in(name, draft.read(path) or "", routes, path, rules)
        beside = tuple(f"{FOLDER}/{kind}-{name}" for kind in KINDS[1:5] if draft.exists(f"{FOLDER}/{kind}-{name}"))
        found.append(replace(each, paths=(*each.paths, *beside)))
    return merged((*found, *_whole(draft)))


def _whole(draft: Draft) -> Iterator[Interface]:
    found = shell_variables.variables(draft.read(GLOBAL) or "")
    gateways = tuple(value for key in ("GATEWAY", "IPV6_DEFAULTGW") if (value := found.get(key)))
    off = Method.OFF if is_no(found.get("NETWORKING_IPV6", "")) else Method.UNSAID
    if gateways or off is Method.OFF:
        yield Interface("all cards", (GLOBAL,), Form.WHOLE, ipv6=off, gateways=gateways)


def forget(draft: Draft, *, live: bool) -> None:
    """No file is for a card any more, and nothing is set for the whole guest."""
    for name, path in files(draft):
        rewritten = live and path == ETH0
        for kind in () if stays(name, draft.read(path) or "") else KINDS[1:] if rewritten else KINDS:
            draft.remove(f"{FOLDER}/{kind}-{name}", why=WHY_FORGET)
    draft.edit(GLOBAL, for_any_card, why="sends everything to a router of the source's network, or switches IPv6 off")
    if not live and draft.read(ETH0) == DHCP_ETH0:
        draft.remove(ETH0, why="asks for an address too, on the card that something else brings up")


def for_any_card(text: str) -> str:
    """Return an /etc/sysconfig/network without routers, and without IPv6 switched off."""

    def unwanted(name: str, value: str) -> bool:
        return name in _ROUTERS or (name in ("NETWORKING_IPV6", "IPV6INIT", "IPV6_AUTOCONF") and is_no(value))

    return shell_variables.without(text, unwanted)


def by_dhcp(draft: Draft, called: frozenset[str]) -> None:
    """The card that is called eth0 asks for DHCP; the kernel names the first card so.

    A file for a card that does not appear would make network.service fail: so there is none for a second one.
    """
    if kernel_names.keep(draft, "network.service", seen="eth0" in called or draft.exists(ETH0)):
        draft.write(ETH0, DHCP_ETH0, why=WHY_DHCP)
    else:
        draft.remove(ETH0, why=WHY_FORGET)
