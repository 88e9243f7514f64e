"""The network: DHCP on whatever card appears, whichever of Linux's many ways of configuring cards the guest uses."""

from collections.abc import Callable
from dataclasses import dataclass

from migrate.draft import Draft
from migrate.effects import Severity
from migrate.remediation import Settings, remediation
from remediations import systemd
from remediations.network import dns, ifcfg, ifupdown, keyfiles, netplan, networkd, traces
from remediations.network.cards import Card, Form, plain


@dataclass(frozen=True, slots=True)
class Renderer:
    """A program that sets up cards. `forget` makes its files say nothing of any card, `by_dhcp` makes it ask for DHCP on all."""

    name: str
    cards: Callable[[Draft], tuple[Card, ...]]
    forget: Callable[[Draft], None]
    by_dhcp: Callable[[Draft], None]


NETPLAN = Renderer("netplan", netplan.cards, netplan.forget, netplan.by_dhcp)
NETWORKD = Renderer("systemd-networkd", networkd.cards, networkd.forget, networkd.by_dhcp)
KEYFILES = Renderer("NetworkManager", keyfiles.cards, keyfiles.forget, keyfiles.by_dhcp)
IFCFG = Renderer("network.service", ifcfg.cards, ifcfg.forget, ifcfg.by_dhcp)
IFUPDOWN = Renderer("ifupdown", ifupdown.cards, ifupdown.forget, ifupdown.by_dhcp)
RENDERERS = (NETPLAN, NETWORKD, KEYFILES, IFCFG, IFUPDOWN)


def live(draft: Draft) -> Renderer | None:
    """Return the renderer that brings up cards on this guest, by what is enabled and not by its distribution.

    NetworkManager comes before ifupdown and network.service: it takes any card that they do not name, so that both would ask
    for DHCP on the same card. What ours writes is found again by a second call.
    """
    if netplan.present(draft):
        return KEYFILES if netplan.renderer(draft) == "NetworkManager" else NETPLAN
    if keyfiles.present(draft):
        return KEYFILES
    by_networkd = networkd.present(draft)
    if by_networkd and (networkd.cards(draft) or draft.exists(networkd.OURS)):
        return NETWORKD
    if ifcfg.legacy(draft):
        return IFCFG
    if ifupdown.present(draft):
        return IFUPDOWN
    if by_networkd:
        return NETWORKD
    return _installed(draft)


def _installed(draft: Draft) -> Renderer | None:
    """What nothing starts yet, but could be started."""
    if draft.exists("/usr/sbin/netplan"):
        return NETPLAN
    if systemd.unit_file(draft, keyfiles.UNIT):
        return KEYFILES
    if systemd.unit_file(draft, networkd.UNIT) and not systemd.enabled(draft, "wicked.service"):
        return NETWORKD
    return None


OTHERS = ("wicked.service", "dhcpcd.service", "connman.service")
"""Renderers whose files we do not know how to write. cloud-init knows wicked's."""


def lacks_resolver(draft: Draft) -> bool:
    """Whether this guest would get an address and resolve no names: systemd-networkd leaves name servers to systemd-resolved."""
    return live(draft) in (NETPLAN, NETWORKD) and dns.nobody_writes_it(draft)


@remediation(
    "network-by-dhcp",
    "Ask for an address by DHCP on whatever network card appears",
    sources=(
        "Magalu Cloud, custom images: DHCP is mandatory; with a static address the VM stays unreachable for ever",
        "interfaces(5); netplan(5); systemd.network(5); nm-settings-keyfile(5); initscripts, sysconfig.txt",
        "libguestfs/virt-v2v#99, kubev2v/forklift#1354: a renamed card ends a static configuration",
    ),
)
def network_by_dhcp(draft: Draft, settings: Settings) -> None:
    """Fixed addresses, routes and name servers of the source's network go, and whatever card appears asks for DHCP.

    The program that really brings up cards on the guest is found by what is enabled, and gets one configuration that matches any
    wired card; files of all the others stop naming cards. Loopback, IPv6 autoconfiguration and devices that need no card (bridges
    without ports, tunnels, dummies) stay. Bonds, VLANs and bridges over cards are given up, and told. The old settings are kept in the
    report, and files elsewhere in /etc that name an old address, card or MAC are listed. Works for ifupdown, netplan,
    systemd-networkd, NetworkManager and network.service; anything else is left to cloud-init, and told.
    """
    cards = tuple(card for renderer in RENDERERS for card in renderer.cards(draft))
    chosen = live(draft)
    if chosen is None:
        _tell_unknown(draft)
        return
    for renderer in RENDERERS:
        renderer.forget(draft)
    chosen.by_dhcp(draft)
    _leave_to(draft, chosen)
    dns.by_dhcp(draft, networkd=chosen in (NETPLAN, NETWORKD))
    for card in cards:
        draft.keep("network before", str(card))
    _tell_lost(draft, cards)
    traces.tell(draft, cards)


def _leave_to(draft: Draft, chosen: Renderer) -> None:
    """Only the chosen renderer takes the card that cloud-init describes.

    cloud-init writes for ifupdown wherever it finds it (cloudinit/net/renderers.py, DEFAULT_PRIORITY), and then two programs
    would ask for DHCP on one card. NetworkManager steps back from what /etc/network/interfaces names, systemd-networkd does not.
    """
    if chosen in (NETPLAN, NETWORKD) and ifupdown.present(draft) and not ifupdown.names(draft):
        why = f"asks for an address too, on the card that {chosen.name} brings up: cloud-init describes it to ifupdown"
        systemd.disable(draft, "networking.service", why=why)


def _tell_unknown(draft: Draft) -> None:
    other = next((unit for unit in OTHERS if systemd.enabled(draft, unit)), None)
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
        "network.service or ifupdown",
        remedy="Install and enable one of them in the source VM.",
        severity=Severity.ERROR,
    )


def _tell_lost(draft: Draft, cards: tuple[Card, ...]) -> None:
    codes = {
        Form.BOND: ("NET-003", "Each card asks for its own address; a cloud's card needs no bond."),
        Form.TEAM: ("NET-003", "Each card asks for its own address; a cloud's card needs no team."),
        Form.VLAN: ("NET-004", "Give the instance a network interface in a VPC of its own for it."),
        Form.BRIDGE: ("NET-005", "Containers or virtual machines behind it need address translation instead."),
        Form.OTHER: ("NET-005", "Nothing takes its place."),
    }
    plain_cards = []
    for card in cards:
        if card.form in codes:
            code, remedy = codes[card.form]
            draft.find(code, f"given up: {card}", remedy=remedy)
            continue
        plain_cards.append(card.name)
        if card.within:
            continue
        families = [":" in plain(address) for address in card.addresses]
        if card.routes or card.more or len(set(families)) < len(families):
            draft.find(
                "NET-002",
                f"given up, and DHCP gives nothing like it: {card}",
                remedy="Set up what is still needed in the VPC, or in the instance.",
            )
    if len(set(plain_cards)) > 1:
        draft.find(
            "NET-006",
            f"the VM had {len(set(plain_cards))} network cards ({', '.join(dict.fromkeys(plain_cards))}); every card that the "
            "instance has will ask for DHCP",
            remedy="Give the instance as many network interfaces as it needs.",
            severity=Severity.NOTE,
        )
