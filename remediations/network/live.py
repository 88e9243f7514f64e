"""Which program brings up a guest's cards: by what is enabled, configured and installed, not by its distribution."""

from collections.abc import Callable
from dataclasses import dataclass

from migrate.draft import Draft
from remediations import systemd
from remediations.network import dhcpcd, ifcfg, ifupdown, keyfiles, netctl, netplan, networkd, networkmanager, wicked
from remediations.network.dns import Writer
from remediations.network.model import Interface


@dataclass(frozen=True, slots=True)
class Renderer:
    """A program that sets up cards. `forget` makes its files say nothing of a certain card, and of none at all where it is not `live`;
    `by_dhcp` makes it ask for DHCP on all, and is told what the interfaces were called.
    """

    name: str
    interfaces: Callable[[Draft], tuple[Interface, ...]]
    forget: Callable[..., None]
    by_dhcp: Callable[[Draft, frozenset[str]], None]
    writer: Writer = Writer.CLIENT


NETPLAN = Renderer("netplan", netplan.interfaces, netplan.forget, netplan.by_dhcp, Writer.RESOLVED)
NETWORKD = Renderer("systemd-networkd", networkd.interfaces, networkd.forget, networkd.by_dhcp, Writer.RESOLVED)
KEYFILES = Renderer("NetworkManager", keyfiles.interfaces, keyfiles.forget, keyfiles.by_dhcp, Writer.NETWORKMANAGER)
IFCFG = Renderer("network.service", ifcfg.interfaces, ifcfg.forget, ifcfg.by_dhcp)
WICKED = Renderer("wicked", wicked.interfaces, wicked.forget, wicked.by_dhcp, Writer.NETCONFIG)
IFUPDOWN = Renderer("ifupdown", ifupdown.interfaces, ifupdown.forget, ifupdown.by_dhcp)
DHCPCD = Renderer("dhcpcd", dhcpcd.interfaces, dhcpcd.forget, dhcpcd.by_dhcp)
NETCTL = Renderer("netctl", netctl.interfaces, netctl.forget, lambda draft, called: None)
"""Read for the sheet and switched off, never chosen."""

RENDERERS = (NETPLAN, NETWORKD, KEYFILES, IFCFG, WICKED, IFUPDOWN, DHCPCD, NETCTL)


def live(draft: Draft) -> Renderer | None:
    """Return the renderer that brings up cards on this guest; None where nothing that we know does.

    NetworkManager comes before ifupdown and network.service: it takes any card that they do not name, so that both would ask
    for DHCP on the same card. What ours writes is found again by a second call.
    """
    if netplan.present(draft):
        return KEYFILES if netplan.by_networkmanager(draft) else NETPLAN
    by_networkd = networkd.present(draft) and networkd.configured(draft)
    if keyfiles.present(draft):
        return NETWORKD if by_networkd and not _networkmanager_rules(draft) else KEYFILES
    if by_networkd:
        return NETWORKD
    if wicked.present(draft):
        return WICKED
    if ifcfg.legacy(draft):
        return IFCFG
    if ifupdown.present(draft):
        return IFUPDOWN
    if dhcpcd.present(draft):
        return DHCPCD
    if networkd.present(draft):
        return NETWORKD
    return _installed(draft)


def _networkmanager_rules(draft: Draft) -> bool:
    """Whether NetworkManager, enabled beside a systemd-networkd that has files for cards, is the one that has the cards."""
    if draft.exists(keyfiles.OURS):
        return True
    profiles = any(not each.stays for renderer in (KEYFILES, IFCFG) for each in renderer.interfaces(draft))
    return profiles and networkmanager.takes_cards(draft)


def _installed(draft: Draft) -> Renderer | None:
    """What nothing starts yet, but could be started."""
    if netplan.installed(draft):
        return NETPLAN
    for unit, renderer in (
        (keyfiles.UNIT, KEYFILES),
        (wicked.UNIT, WICKED),
        (networkd.UNIT, NETWORKD),
        (dhcpcd.UNIT, DHCPCD),
    ):
        if systemd.unit_file(draft, unit) and not systemd.enabled(draft, "connman.service"):
            return renderer
    return None
