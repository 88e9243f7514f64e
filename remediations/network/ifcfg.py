"""ifcfg: /etc/sysconfig/network-scripts, read by network.service and, on Red Hat's systems before 10, by NetworkManager.

Sources: sysconfig.txt of initscripts ("ifcfg-<interface-name>", "route-<interface-name>"), nm-settings-ifcfg-rh(5). Both leave
out names of editors' and rpm's copies. network.service ends with an error where a device that is ONBOOT=yes is not there.
"""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from migrate.draft import Draft
from remediations import shell_variables, systemd
from remediations.network.cards import Card, Form, interface, merged, virtual

FOLDER = "/etc/sysconfig/network-scripts"
ETH0 = f"{FOLDER}/ifcfg-eth0"
GLOBAL = "/etc/sysconfig/network"

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


def stays(name: str, text: str) -> bool:
    """Whether an ifcfg file has nothing to do with a card; `name` is what its own name says after "ifcfg-"."""
    found = shell_variables.variables(text)
    device = found.get("DEVICE", name)
    if found.get("TYPE", "").lower() in ("wireless", "infiniband", "ib", "ipip", "gre", "sit", "vpn", "dummy"):
        return True
    return virtual(device) and not any(key in found for key in ("MASTER", "SLAVE", "BRIDGE", "VLAN", "PHYSDEV"))


def card_in(name: str, text: str, routes: str, path: str) -> Card:
    """Return what an ifcfg file and the route files beside it say."""
    found = shell_variables.variables(text)
    device = (found.get("DEVICE") or name).partition(":")[0]
    kind = (found.get("TYPE") or found.get("DEVICETYPE") or "").lower()
    form = (
        Form.BOND if kind == "bond" or "BONDING_OPTS" in found
        else Form.TEAM if kind == "team" or "TEAM_CONFIG" in found
        else Form.BRIDGE if kind == "bridge"
        else Form.VLAN if found.get("VLAN", "").lower() == "yes" or kind == "vlan" or re.search(r"\.\d+$", device)
        else Form.CARD
    )  # fmt: skip
    addresses = [
        interface(value, found.get(f"PREFIX{number}") or found.get(f"NETMASK{number}") or "")
        for number, value in _numbered(found, "IPADDR")
    ]
    more = [value for key in ("IPV6ADDR", "IPV6ADDR_SECONDARIES") for value in found.get(key, "").split()]
    part = found.get("MASTER") or found.get("TEAM_MASTER") or found.get("BRIDGE") or ""
    return Card(
        device,
        path,
        form,
        found.get("BOOTPROTO", "").lower() in ("dhcp", "bootp"),
        (*addresses, *more),
        tuple(value for key in ("GATEWAY", "GATEWAY0", "IPV6_DEFAULTGW") if (value := found.get(key))),
        tuple(value for _, value in _numbered(found, "DNS")),
        tuple(found.get("DOMAIN", "").split()),
        tuple(line for line in map(str.strip, routes.splitlines()) if line and not line.startswith("#")),
        (found.get("HWADDR") or found.get("MACADDR") or "").lower(),
        tuple(filter(None, (found.get("PHYSDEV") or (device.rpartition(".")[0] if form is Form.VLAN else ""),))),
        (f"mtu {found['MTU']}",) if found.get("MTU") else (),
        part,
    )


def _numbered(found: Mapping[str, str], stem: str) -> list[tuple[str, str]]:
    """Return (number, value) of "IPADDR", "IPADDR0", "IPADDR1" … in the file's order."""
    matched = ((re.fullmatch(rf"{stem}(\d*)", key), value) for key, value in found.items())
    return [(match[1], value) for match, value in matched if match and value]


# The draft


def files(draft: Draft) -> tuple[tuple[str, str], ...]:
    """Return (name, path) of each ifcfg file that is really read, ours left out."""
    found = ((PurePosixPath(path).name.removeprefix("ifcfg-"), path) for path in draft.glob(f"{FOLDER}/ifcfg-*"))
    return tuple((name, path) for name, path in found if not _COPIES.fullmatch(name) and draft.read(path) != DHCP_ETH0)


def legacy(draft: Draft) -> bool:
    """Whether network.service, and not NetworkManager, reads the files: it is a script of SysV's on every such system."""
    started = draft.glob("/etc/rc[2-5].d/S[0-9][0-9]network") or draft.glob("/etc/rc.d/rc[2-5].d/S[0-9][0-9]network")
    return bool(started) or systemd.enabled(draft, "network.service")


def cards(draft: Draft) -> tuple[Card, ...]:
    found = []
    for name, path in files(draft):
        text = draft.read(path) or ""
        if not stays(name, text):
            routes = "\n".join(
                draft.read(f"{FOLDER}/{kind}-{name}") or "" for kind in ("route", "route6", "rule", "rule6")
            )
            found.append(card_in(name, text, routes, path))
    return merged(tuple(found))


def forget(draft: Draft) -> None:
    """No file is for a card any more, and no gateway is set for the whole guest."""
    why = "sets a card up by name or MAC with what was right in the source's network"
    for name, path in files(draft):
        if not stays(name, draft.read(path) or ""):
            for kind in ("ifcfg", "route", "route6", "rule", "rule6"):
                draft.remove(f"{FOLDER}/{kind}-{name}", why=why)
    draft.edit(GLOBAL, without_gateway, why="sends everything to a router of the source's network")


def without_gateway(text: str) -> str:
    return shell_variables.without(text, lambda name, value: name in _ROUTERS)


def by_dhcp(draft: Draft) -> None:
    """The card that is called eth0 asks for DHCP, where the new card is called so; elsewhere it is left to cloud-init.

    A file for a card that does not appear would make network.service fail.
    """
    if names_are_the_kernels(draft):
        draft.write(ETH0, DHCP_ETH0, why="makes the new card ask for DHCP, as Magalu Cloud demands")
        return
    draft.find(
        "NET-012",
        "network.service needs the name of the new card, which nobody knows before it appears; so cloud-init alone sets up "
        "the network at the first boot",
        remedy="Install NetworkManager in the source VM, or add net.ifnames=0 to its kernel command line.",
    )


def names_are_the_kernels(draft: Draft) -> bool:
    """Whether the kernel's command line keeps udev from renaming cards. Source: systemd.net-naming-scheme(7)."""
    paths = ("/etc/default/grub", "/etc/kernel/cmdline", "/boot/grub2/grub.cfg", "/boot/grub/grub.cfg")
    files = (*paths, "/boot/grub/grub.conf", "/boot/grub2/grubenv", *draft.glob("/boot/loader/entries/*.conf"))
    texts = (draft.read(path) or "" for path in files)
    lines = (line for text in texts for line in text.splitlines() if not line.lstrip().startswith("#"))
    return any(re.search(r"(^|[\s\"'=])net\.ifnames=0($|[\s\"'])", line) for line in lines)
