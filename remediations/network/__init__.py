"""The network: DHCP on whatever card appears, whichever of Linux's many ways of configuring cards the guest uses."""

from collections.abc import Iterator

from migrate.draft import Draft
from migrate.effects import Severity
from migrate.remediation import Settings, remediation
from remediations import systemd
from remediations.network import dns, ifupdown, ipv6, keyfiles, netplan, networkmanager, proxies, renaming, traces
from remediations.network.live import DHCPCD, IFUPDOWN, KEYFILES, NETPLAN, NETWORKD, RENDERERS, Renderer, live
from remediations.network.model import Form, Interface, Method, family_of

__all__ = ["IFUPDOWN", "lacks_resolver", "live", "network_by_dhcp"]

FACT = "network before"

OTHERS = {
    "connman": ("/etc/systemd/system/*.wants/connman.service", "/etc/runlevels/*/connman"),
    "netifrc": ("/etc/runlevels/*/net.[!l]*",),
    "netctl": ("/etc/systemd/system/*.wants/netctl*.service",),
}
"""Renderers whose files we do not know how to write, and the links that start them."""


def lacks_resolver(draft: Draft) -> bool:
    """Whether this guest would get an address and resolve no names: systemd-networkd leaves name servers to systemd-resolved."""
    return live(draft) in (NETPLAN, NETWORKD) and dns.nobody_writes_it(draft)


@remediation(
    "network-by-dhcp",
    "Ask for an address by DHCP on whatever network card appears",
    sources=(
        "Magalu Cloud, custom images: DHCP is mandatory; with a static address the VM stays unreachable for ever",
        "interfaces(5); netplan(5); systemd.network(5); nm-settings-keyfile(5); initscripts, sysconfig.txt; ifcfg(5) of wicked; dhcpcd.conf(5)",
        "libguestfs/virt-v2v#99, kubev2v/forklift#1354: a renamed card ends a static configuration",
        "systemd-networkd-wait-online.service(8): without --any the boot waits two minutes for each card that gets no address",
    ),
)
def network_by_dhcp(draft: Draft, settings: Settings) -> None:
    """Fixed addresses, routes and name servers of the source's network go, and whatever card appears asks for DHCP.

    The program that really brings up cards on the guest is found by what is enabled and configured, and gets one configuration that
    matches any wired card; files of all the others stop naming cards. IPv6 is taken as routers and DHCPv6 give it. Loopback and devices that
    need no card (bridges without ports, tunnels, Wi-Fi, dummies) stay. Bonds, VLANs and bridges over cards are given up, and told. The old
    settings are kept in the report as a sheet, a line for each interface, and files elsewhere in /etc that name an old address, card or
    MAC are listed. Works for ifupdown, netplan, systemd-networkd, NetworkManager, network.service, wicked and dhcpcd. Where
    a card's name must be known, the kernel is told to name cards itself (net.ifnames=0). Anything else is left to cloud-init, and told.
    """
    found = tuple(interface for renderer in RENDERERS for interface in renderer.interfaces(draft))
    found = (*found, *dns.interfaces(draft))
    chosen = live(draft)
    if chosen is None:
        _tell_unknown(draft)
        return
    for renderer in RENDERERS:
        renderer.forget(draft, live=renderer is chosen)
    chosen.by_dhcp(draft, frozenset(interface.name for interface in found))
    _leave_to(draft, chosen)
    if chosen not in (KEYFILES, DHCPCD):  # these take a card by any name
        renaming.forget(draft)
    dns.by_dhcp(draft, chosen.writer)
    for interface in found:
        draft.keep(FACT, str(interface), interface.to_json())
    _tell_lost(draft, found)
    _tell_ipv6(draft, found)
    ipv6.tell(draft)
    proxies.tell(draft)
    traces.tell(draft, found)


def _leave_to(draft: Draft, chosen: Renderer) -> None:
    """Only the chosen renderer takes the card that cloud-init describes.

    cloud-init writes for ifupdown wherever it finds it (cloudinit/net/renderers.py, DEFAULT_PRIORITY), and then two programs
    would ask for DHCP on one card. NetworkManager steps back from what /etc/network/interfaces names, systemd-networkd does not.
    Where NetworkManager is chosen it takes cards, and elsewhere it makes no profiles of its own.
    """
    if chosen in (NETPLAN, NETWORKD) and ifupdown.present(draft) and not ifupdown.names(draft):
        why = f"asks for an address too, on the card that {chosen.name} brings up: cloud-init describes it to ifupdown"
        systemd.disable(draft, "networking.service", why=why)
    if chosen is KEYFILES:
        networkmanager.take_cards(draft, by_netplan=netplan.present(draft))
    elif chosen is not IFUPDOWN and keyfiles.present(draft):
        networkmanager.leave_cards(draft)


def _tell_unknown(draft: Draft) -> None:
    other = next((name for name, links in OTHERS.items() if any(draft.glob(link) for link in links)), None)
    if other:
        draft.find(
            "NET-010",
            f"the network is set up by {other}, whose files we leave as they are; cloud-init may set it up at the first boot",
            remedy="Set all cards to DHCP in the source VM, or use NetworkManager or systemd-networkd there.",
        )
        return
    draft.find(
        "NET-001",
        "nothing that we know brings up a network card on this guest: no netplan, NetworkManager, systemd-networkd, "
        "network.service, wicked, ifupdown or dhcpcd",
        remedy="Install and enable one of them in the source VM.",
        severity=Severity.ERROR,
    )


_LOST = {
    Form.BOND: ("NET-003", "Each card asks for its own address; a cloud's card needs no bond."),
    Form.TEAM: ("NET-003", "Each card asks for its own address; a cloud's card needs no team."),
    Form.VLAN: ("NET-004", "Give the instance a network interface in a VPC of its own for it."),
    Form.BRIDGE: ("NET-005", "Containers or virtual machines behind it need address translation instead."),
    Form.OTHER: ("NET-005", "Nothing takes its place."),
    Form.TUNNEL: ("NET-005", "It was built on a card by its name: set it up anew in the instance."),
}


def _tell_lost(draft: Draft, found: tuple[Interface, ...]) -> None:
    cards = []
    for each in found:
        if each.stays:
            _tell_staying(draft, each)
            continue
        if each.form in _LOST:
            code, remedy = _LOST[each.form]
            draft.find(code, f"given up: {each}", remedy=remedy)
            continue
        if each.form is not Form.WHOLE and "*" not in each.name:
            cards.append(each.name)
        families = [family_of(address) for address in each.addresses]
        commands = any(more.startswith("command") for more in each.more)
        if not each.within and (each.routes or each.rules or commands or len(set(families)) < len(families)):
            draft.find(
                "NET-002",
                f"given up, and DHCP gives nothing like it: {each}",
                remedy="Set up what is still needed in the VPC, or in the instance.",
            )
    names = tuple(dict.fromkeys(cards))
    if len(names) > 1:
        draft.find(
            "NET-006",
            f"the VM had {len(names)} network cards ({', '.join(names)}); every card that the instance has will ask for DHCP",
            remedy="Give the instance as many network interfaces as it needs: three at most.",
            severity=Severity.NOTE,
        )


def _tell_staying(draft: Draft, each: Interface) -> None:
    """What must be known of other machines to go on: tunnels, whose other end knows the old address, and Wi-Fi, which no instance has."""
    said = {
        Form.WIREGUARD: "its peers find this machine by its new public address only",
        Form.TUNNEL: "its other end must be told the new address",
        Form.WIFI: "an instance has no such card",
    }.get(each.form)
    if said:
        draft.find(
            "NET-014",
            f"left as it is, and {said}: {each}",
            remedy="See that it still makes sense in the instance.",
            severity=Severity.NOTE,
        )


def _tell_ipv6(draft: Draft, found: tuple[Interface, ...]) -> None:
    off = tuple(_off(found))
    if off:
        draft.find(
            "NET-009",
            f"IPv6 was switched off for {', '.join(dict.fromkeys(off))}; every card takes it now as the network gives it",
            remedy="An instance's IPv6 address is public: see that its security group lets in only what it is to.",
            severity=Severity.NOTE,
        )


def _off(found: tuple[Interface, ...]) -> Iterator[str]:
    return (each.name for each in found if each.ipv6 is Method.OFF and not each.stays)
