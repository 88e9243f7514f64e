"""Each renderer's files, read into the one model: what they say is found however it is written, and nothing makes a reader fall over."""

import ipaddress
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from migrate.draft import Draft
from migrate.guests.memory import from_yaml
from remediations import yaml_text
from remediations.network import (
    commands,
    dhcpcd,
    dns,
    ifcfg,
    ifupdown,
    ipv6,
    keyfiles,
    netctl,
    netplan,
    networkd,
    networkmanager,
    renaming,
    wicked,
)
from remediations.network.model import Form, Interface, Method, Route, bond_mode, interface, mac_of, merged, network

# What is asked of all renderers: a card with fixed addresses, written as its administrators may write it, comes out as it went in.


@dataclass(frozen=True)
class Wanted:
    addresses: tuple[str, ...]
    gateway: str
    dns: tuple[str, ...]
    to: str
    mtu: int
    quote: str
    spaces: str


V4 = st.ip_addresses(v=4, network="10.0.0.0/8").map(str)
V6 = st.ip_addresses(v=6, network="2001:db8::/32").map(str)
FIXED = st.one_of(
    st.builds("{}/{}".format, V4, st.integers(8, 30)), st.builds("{}/{}".format, V6, st.sampled_from([48, 64, 127]))
)
WANTED = st.builds(
    Wanted,
    st.lists(FIXED, min_size=1, max_size=4, unique=True).map(tuple),
    V4,
    st.lists(V4, max_size=3, unique=True).map(tuple),
    st.ip_addresses(v=4, network="172.16.0.0/12").map(lambda ip: f"{ip}/32"),
    st.integers(576, 9000),
    st.sampled_from(["", "'", '"']),
    st.sampled_from(["", " ", "\t"]),
)


def as_ifupdown(card: Wanted) -> Interface:
    text = "auto lo ens192\niface lo inet loopback\n"
    for number, address in enumerate(card.addresses):
        family = "inet6" if ":" in address else "inet"
        text += f"\n# {number}\niface ens192{f':{number}' if number else ''} {family} static\n{card.spaces} address {address}\n"
        if not number:
            text += f" gateway {card.gateway}\n mtu {card.mtu}\n dns-nameservers {' '.join(card.dns)}\n"
            text += f" up ip route add {card.to} \\\n  via {card.gateway} dev $IFACE\n"
    return merged(ifupdown.interfaces_in(text, "/x"))[0]


def as_netplan(card: Wanted) -> Interface:
    said: dict[str, Any] = {
        "addresses": list(card.addresses),
        "mtu": card.mtu,
        "nameservers": {"addresses": list(card.dns)},
        "routes": [{"to": "default", "via": card.gateway}, {"to": card.to, "via": card.gateway}],
    }
    text = yaml.safe_dump(
        {"network": {"version": 2, "ethernets": {"ens192": said}}}, default_flow_style=bool(card.quote)
    )
    return next(netplan.interfaces_in(netplan.definitions(netplan.network_in(text)), {"ens192": ("/x",)}))


def as_networkd(card: Wanted) -> Interface:
    s = card.spaces
    text = f"[Match]\nName{s}={s}ens192\n[Network]\nGateway={card.gateway}\nDNS={' '.join(card.dns)}\n[Link]\nMTUBytes={card.mtu}\n"
    text += "".join(f"[Address]\nAddress={address}\n" for address in card.addresses)
    return networkd.interface_in(text + f"[Route]\nDestination={card.to}\nGateway={card.gateway}\n", "/x")


def as_keyfile(card: Wanted) -> Interface:
    numbered = [f"address{number}={address}" for number, address in enumerate(card.addresses, 1)]
    text = (
        f"[connection]\nid=a\ntype=ethernet\ninterface-name=ens192\n[ethernet]\nmtu={card.mtu}\n[ipv4]\nmethod=manual\n"
    )
    text += f"gateway={card.gateway}\ndns={''.join(f'{each};' for each in card.dns)}\nroute1={card.to},{card.gateway}\n"
    text += "".join(f"{line}\n" for line in numbered)
    found = keyfiles.interface_in(text, "/x")
    assert found
    return found


def as_ifcfg(card: Wanted) -> Interface:
    def line(key: str, value: object) -> str:
        return f"{card.spaces}{key}={card.quote}{value}{card.quote}\n"

    four = [address.split("/") for address in card.addresses if ":" not in address]
    six = " ".join(address for address in card.addresses if ":" in address)
    text = line("DEVICE", "ens192") + line("GATEWAY", card.gateway) + line("MTU", card.mtu)
    for number, (address, prefix) in enumerate(four):
        text += line(f"IPADDR{number}", address) + line(
            f"NETMASK{number}", ipaddress.ip_network(f"0.0.0.0/{prefix}").netmask
        )
    text += f'IPV6ADDR_SECONDARIES="{six}"   # more\n'
    text += "".join(line(f"DNS{number}", each) for number, each in enumerate(card.dns, 1))
    return ifcfg.interface_in("ens192", text, f"{card.to} via {card.gateway}\n", "/x")


def as_wicked(card: Wanted) -> Interface:
    text = f"STARTMODE=auto\nMTU={card.quote}{card.mtu}{card.quote}\n"
    text += "".join(
        f"IPADDR_{number}={card.quote}{address}{card.quote}\n" for number, address in enumerate(card.addresses)
    )
    found = wicked.interface_in("ens192", text, f"default {card.gateway} - -\n{card.to} {card.gateway} -\n", "/x")
    return Interface(found.name, found.paths, addresses=found.addresses, gateways=found.gateways, dns=card.dns, routes=found.routes, mtu=found.mtu)  # fmt: skip


def as_dhcpcd(card: Wanted) -> Interface:
    six = [address for address in card.addresses if ":" in address]
    text = "interface ens192\n" + "".join(f"static ip_address={each}\n" for each in card.addresses if each not in six)
    text += "".join(f"static ip6_address={each}\n" for each in six)
    text += f"static routers={card.gateway}\nstatic domain_name_servers={' '.join(card.dns)}\n"
    text += f"static routes={card.to} {card.gateway}\nstatic interface_mtu={card.mtu}\n"
    return next(each for each in dhcpcd.interfaces_in(text) if each.name == "ens192")


def as_netctl(card: Wanted) -> Interface:
    def array(values: tuple[str, ...]) -> str:
        return "(" + "\n ".join(map(shlex.quote, values)) + ")"

    text = f"Interface=ens192\nConnection=ethernet\nAddress={array(card.addresses)}\nGateway='{card.gateway}'\nDNS={array(card.dns)}\n"
    found = netctl.interface_in(text + f"Routes=('{card.to} via {card.gateway}')\n", "/x")
    assert found
    return Interface(found.name, found.paths, addresses=found.addresses, gateways=found.gateways, dns=found.dns, routes=found.routes, mtu=str(card.mtu))  # fmt: skip


@pytest.mark.parametrize(
    "read", [as_ifupdown, as_netplan, as_networkd, as_keyfile, as_ifcfg, as_wicked, as_dhcpcd, as_netctl]
)
@settings(max_examples=40)
@given(card=WANTED)
def test_what_an_administrator_wrote_is_what_the_sheet_says(read: Callable[[Wanted], Interface], card: Wanted) -> None:
    found = read(card)
    assert found.name == "ens192"
    assert sorted(found.addresses) == sorted(interface(address) for address in card.addresses)
    assert found.gateways == (card.gateway,)
    assert found.dns == card.dns
    assert found.routes == (Route(network(card.to), card.gateway),)
    assert found.mtu == str(card.mtu)
    assert not found.stays and found.form is Form.CARD


# What we write, we read as DHCP on any card; so a second look leaves it alone.


def test_what_we_write_is_read_as_dhcp_on_any_card() -> None:
    assert networkd.any_by_dhcp(networkd.DHCP)
    assert networkd.any_by_dhcp(networkd.DHCP_OLD)
    assert keyfiles.any_by_dhcp(keyfiles.values(keyfiles.DHCP))
    for text in (netplan.DHCP, netplan.DHCP_BY_NETWORKD):
        found = netplan.definitions(netplan.network_in(text))
        assert netplan.standing(found) == {"zz-magalu-en", "zz-magalu-eth"}
        assert list(netplan.interfaces_in(found, {})) == []
    for each in wicked.OURS.values():
        assert wicked.interface_in("eth0", each, "", "").method(4) is Method.DHCP
        assert wicked.interface_in("eth0", each, "", "").method(6) is Method.DHCP
    assert ifcfg.interface_in("eth0", ifcfg.DHCP_ETH0, "", "").method(4) is Method.DHCP
    assert [each.method(4) for each in ifupdown.interfaces_in(ifupdown.DHCP, "")] == [Method.DHCP]


# Nothing that a file holds makes a reader fall over.

WORDS = st.sampled_from(
    ["iface", "ens192", "auto", "inherits", "static", "inet", "address", "10.0.0.1/24", "[Match]", "[Network]", "[Route]",
     "[connection]", "[keyfile]", "Name=", "type=ethernet", "address1=", "unmanaged-devices=*", "IPADDR=", "DEVICE=", '"', "'",
     "\\", "\n", "\n", "=", ";", "#", "(", ")", "network:", "ethernets:", "  ", "a: &a [*a]", "up", "ip route add", "route add -net",
     "default", "via", "static ", "interface ", "\x00", "é", "\udc80", "nameserver", "{", "}", "/", "2001:db8::1", "%", "-"]
)  # fmt: skip
TEXTS = st.lists(st.one_of(WORDS, st.text(max_size=4)), max_size=30).map(" ".join) | st.lists(WORDS, max_size=30).map(
    "".join
)


def _netplan(text: str) -> None:
    try:
        found = netplan.definitions(netplan.network_in(text))
    except yaml_text.Unreadable:
        return
    list(netplan.interfaces_in(found, {}))
    netplan.without_cards(text, netplan.standing(found))


@given(text=TEXTS)
@example(text="iface a inherits a\niface b inet static inherits c\niface c inherits b")
@example(text="up ip route add")
@example(text="static =")
@example(text="[Route]\nGateway=\n[Address]\nAddress=10.0.0.1/99")
@example(text="network: {ethernets: {a: {addresses: {}, routes: [1, [2]], match: [], nameservers: x}, b: []}}")
@example(text="network: {vlans: {v: {link: v}}, bridges: {b: {interfaces: [b]}}}")
def test_no_text_makes_a_reader_fall_over(text: str) -> None:
    for stanza in ifupdown.interfaces_in(text, "/x"):
        str(stanza)
    ifupdown.sourcing(ifupdown.without_cards(text))
    _netplan(text)
    str(networkd.interface_in(text, "/x")), networkd.any_by_dhcp(text), networkd.stays(text, frozenset())
    str(keyfiles.interface_in(text, "/x")), keyfiles.any_by_dhcp(keyfiles.values(text))
    networkmanager.with_dns(networkmanager.with_cards(text))
    str(ifcfg.interface_in("ens192", text, text, "/x", text)), ifcfg.for_any_card(text)
    str(wicked.interface_in("ens192", text, text, "/x")), wicked.without_routes(text, frozenset())
    [str(each) for each in dhcpcd.interfaces_in(text)], dhcpcd.for_any_card(text)
    str(netctl.interface_in(text, "/x"))
    commands.said(text, "ens192")
    dns.without_old_netconfig(dns.without_old_servers(text))
    renaming.renames_new(text), renaming.without_renames(text)
    list(ipv6.off_in_settings(text)), list(ipv6.off_in_modules(text))


@given(text=TEXTS)
def test_what_is_rewritten_once_stays_so(text: str) -> None:
    for change in (
        ifupdown.without_cards,
        networkmanager.with_cards,
        networkmanager.with_dns,
        dhcpcd.for_any_card,
        dns.without_old_servers,
        dns.without_old_netconfig,
        ifcfg.for_any_card,
        renaming.without_renames,
    ):
        once = change(text)
        assert change(once) == once


# ifupdown


def test_a_stanza_has_what_it_inherits_and_the_one_that_it_inherits_from_is_no_card() -> None:
    text = "iface base inet static\n mtu 9000\niface b1 inet static inherits base\n gateway 10.0.0.1\nauto ens1\niface ens1 inet static inherits b1\n address 10.0.0.2/24\n"
    guest = Draft(from_yaml(f"files: {{/etc/network/interfaces: {text!r}}}".replace("'", '"')))
    found = ifupdown.interfaces(guest)
    assert [(each.name, each.mtu, each.gateways, each.addresses) for each in found] == [
        ("ens1", "9000", ("10.0.0.1",), ("10.0.0.2/24",))
    ]


def test_what_a_bridge_that_stays_inherits_stays_with_it() -> None:
    text = "iface common inet static\n\tbridge_stp off\niface br-inner inet static inherits common\n\taddress 10.0.0.1/24\n"
    assert ifupdown.without_cards(f"{text}iface ens1 inet static inherits common\n\taddress 10.1.0.1/24\n") == text


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("ip route add 172.16.0.0/12 via 10.0.0.1 || true", commands.Said(route=Route("172.16.0.0/12", "10.0.0.1"))),
        ("/sbin/ip -6 r a default via fe80::1 dev ens1 metric 5", commands.Said(route=Route("default", "fe80::1", "metric 5"))),
        ("ip route add blackhole 10.0.0.0/8", commands.Said(route=Route("10.0.0.0/8", "", "blackhole"))),
        ("route add -net 10.1.0.0 netmask 255.255.0.0 gw 10.0.0.1", commands.Said(route=Route("10.1.0.0/16", "10.0.0.1"))),
        ("route add default gw 10.0.0.1 metric 7", commands.Said(route=Route("default", "10.0.0.1", "metric 7"))),
        ("route add -host 10.1.0.7 dev $IFACE", commands.Said(route=Route("10.1.0.7/32"))),
        ("ip rule add from 10.0.0.2 lookup 5", commands.Said(rule="from 10.0.0.2 lookup 5")),
        ("ip addr add 10.0.0.3/24 dev $IFACE label $IFACE:1", commands.Said(address="10.0.0.3/24")),
        ("ip link set $IFACE promisc on", commands.Said()),
        ("iptables -A INPUT -i ens1 -j ACCEPT", commands.Said()),
        ("ip route add 'never closed", commands.Said()),
    ],
)  # fmt: skip
def test_commands_are_understood_in_old_words_and_new(command: str, said: commands.Said) -> None:
    assert commands.said(command, "ens1") == said


# netplan


def test_netplan_reads_a_mac_that_is_a_number_for_others_and_merges_files_key_by_key() -> None:
    first = "network: {ethernets: {a: {match: {macaddress: 52:54:00:12:34:56}, addresses: [10.0.0.1/24], mtu: 1400}}}"
    second = "network: {ethernets: {a: {addresses: [10.0.0.2/24], mtu: 9000, dhcp4: no}}}"
    found = netplan.definitions(netplan.network_in(first), netplan.network_in(second))
    (card,) = netplan.interfaces_in(found, {})
    assert (card.macs, card.addresses, card.mtu) == (("52:54:00:12:34:56",), ("10.0.0.1/24", "10.0.0.2/24"), "9000")


def test_a_definition_that_leans_on_one_that_goes_goes_too_or_netplan_would_refuse_all() -> None:
    text = """
    network:
      ethernets: {ens1: {dhcp4: true}}
      bridges: {br-inner: {}, br1: {interfaces: [vx]}, br2: {interfaces: [dm0]}}
      tunnels: {vx: {mode: vxlan, id: 5, link: ens1}, wg0: {mode: wireguard}}
      dummy-devices: {dm0: {}}
      vrfs: {blue: {table: 5, interfaces: [wg0]}}
    """
    assert netplan.standing(netplan.definitions(netplan.network_in(text))) == {"br-inner", "br2", "dm0", "wg0", "blue"}


# NetworkManager


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[keyfile]\nunmanaged-devices=*\n", "[keyfile]\nunmanaged-devices=*;except:type:ethernet\n"),
        ("[keyfile]\nunmanaged-devices=*,except:type:wifi\n", "[keyfile]\nunmanaged-devices=*,except:type:wifi,except:type:ethernet\n"),
        ("[keyfile]\nunmanaged-devices+=interface-name:e*;\n", "[keyfile]\nunmanaged-devices+=interface-name:e*;except:type:ethernet\n"),
        ("[keyfile]\nunmanaged-devices=except:interface-name:wlan0\n", "[keyfile]\nunmanaged-devices=except:interface-name:wlan0;except:type:ethernet\n"),
        ("[keyfile]\nunmanaged-devices=mac:00:50:56:aa:bb:cc;interface-name:docker0\n", None),
        ("[keyfile]\nunmanaged-devices=interface-name:ens192\n", None),
        ("[keyfile]\nunmanaged-devices=driver:mlx5_core\n", None),
        ("[device]\nmanaged=0\n", "[device]\n"),
        ("[device-x]\nmatch-device=driver:virtio_net\nmanaged=false\n", "[device-x]\nmatch-device=driver:virtio_net\n"),
        ("[device-x]\nmatch-device=type:wifi\nmanaged=0\n[device-y]\nmanaged=1\n", None),
    ],
)  # fmt: skip
def test_wired_cards_are_managed_and_other_devices_stay_as_they_were_told(before: str, after: str | None) -> None:
    assert networkmanager.with_cards(before) == (before if after is None else after)


@pytest.mark.parametrize(
    ("more", "any_card"),
    [
        ("", True),
        ("[ipv6]\naddr-gen-mode=default\nmethod=auto\n[proxy]\n", True),
        ("[ipv4]\nmethod=auto\nmay-fail=false\n", True),
        ("[ethernet]\nmac-address=00:50:56:aa:bb:cc\n", False),
        ("[ipv4]\nmethod=auto\ndns=10.0.0.1;\n", False),
        ("[ipv6]\nmethod=disabled\n", False),
        ("[802-1x]\neap=tls;\n", False),
        ("[match]\ninterface-name=ens*;\n", False),
    ],
)  # fmt: skip
def test_a_profile_for_any_card_is_as_good_as_ours_only_where_nothing_old_is_in_it(more: str, any_card: bool) -> None:
    assert keyfiles.any_by_dhcp(keyfiles.values(f"[connection]\nid=any\ntype=ethernet\n{more}")) is any_card


# systemd-networkd


@pytest.mark.parametrize(
    ("text", "any_card", "stays"),
    [
        ("[Match]\nName=en* eth*\n[Network]\nDHCP=yes\n", True, False),
        ("[Match]\nType=ether\nKind=!*\n[Network]\nDHCP=ipv4\n", True, False),
        ("[Match]\nName=e*\n[Network]\nDHCP=yes\nIPv6AcceptRA=no\n", False, False),
        ("[Match]\nName=e*\n[Network]\nDHCP=yes\nLinkLocalAddressing=ipv4\n", False, False),
        ("[Match]\nName=en*\nDriver=vmxnet3\n[Network]\nDHCP=yes\n", False, False),
        ("[Match]\nName=en*\n[Network]\nDHCP=yes\n[Address]\nAddress=10.0.0.1/24\n", False, False),
        ("[Match]\nMACAddress=00:50:56:aa:bb:cc\n[Network]\nDHCP=yes\n", False, False),
        ("[Match]\nName=docker0 veth*\n[Link]\nUnmanaged=yes\n", False, True),
        ("[Match]\nType=wlan\n[Network]\nDHCP=yes\n", False, True),
        ("[Match]\nVirtualization=container\nName=host0\n[Network]\nDHCP=yes\n", False, True),
        ("[Match]\nName=br-inner\n[Network]\nAddress=10.0.0.1/24\n", False, True),
    ],
)  # fmt: skip
def test_a_file_of_networkd_is_for_one_card_for_any_or_for_none(text: str, any_card: bool, stays: bool) -> None:
    assert (networkd.any_by_dhcp(text), networkd.stays(text, frozenset({"br-inner"}))) == (any_card, stays)


# ifcfg


def test_a_line_may_hold_several_assignments_but_none_of_a_commands_own() -> None:
    found = ifcfg.interface_in(
        "x", "DEVICE=ens1; BOOTPROTO=dhcp\nMTU=9000 HWADDR='00:50:56:aa:bb:cc'\nDNS1=1.1.1.1 run it\n", "", "/x"
    )
    assert (found.name, found.method(4), found.mtu, found.macs) == ("ens1", Method.DHCP, "9000", ("00:50:56:aa:bb:cc",))


def test_routes_of_red_hat_are_read_in_both_forms() -> None:
    text = "ADDRESS0=10.1.0.0\nNETMASK0=255.255.0.0\nGATEWAY0=10.0.0.1\nMETRIC0=5\n# no\n10.2.0.0/16 via 10.0.0.2 dev ens1 table 7\n"
    assert ifcfg.interface_in("ens1", "", text, "/x").routes == (
        Route("10.1.0.0/16", "10.0.0.1", "metric 5"),
        Route("10.2.0.0/16", "10.0.0.2", "dev ens1 table 7"),
    )


# Names


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("[Match]\nOriginalName=*\n[Link]\nName=lan0\n", "lan0"),
        ("[Match]\nDriver=virtio_net\n[Link]\nName=wan\n", "wan"),
        ("[Match]\nOriginalName=*\n[Link]\nName=eth0\n", ""),
        ("[Match]\nDriver=vmxnet3\n[Link]\nName=lan0\n", ""),
        ("[Match]\nOriginalName=ens192\n[Link]\nName=lan0\n", ""),
        ("[Match]\nPath=pci-0000:0b:00.0\n[Link]\nName=lan0\n", ""),
        ("[Match]\nMACAddress=00:50:56:aa:bb:cc\n[Link]\nName=lan0\n", ""),
        ("[Match]\nOriginalName=*\n[Link]\nWakeOnLan=off\n", ""),
    ],
)  # fmt: skip
def test_a_link_file_that_calls_the_new_card_what_nothing_sets_up_is_found(text: str, name: str) -> None:
    assert renaming.renames_new(text) == name


def test_a_rule_of_udevs_that_renames_any_card_goes_and_others_stay() -> None:
    stay = (
        'SUBSYSTEM=="net", ACTION=="add", DRIVERS=="vmxnet3", NAME="lan0"\n'
        'SUBSYSTEM=="net", KERNELS=="0000:0b:00.0", NAME="lan1"\n'
        'SUBSYSTEM=="net", NAME=="lan2", RUN+="/bin/true"\n'
        'SUBSYSTEM=="net", KERNEL=="eth*", NAME="eth%n"\n'
    )
    assert (
        renaming.without_renames(f'SUBSYSTEM=="net", ACTION=="add", \\\n  KERNEL=="eth*", NAME="net0"\n{stay}') == stay
    )


# Words


@pytest.mark.parametrize(
    ("text", "found"),
    [("00:50:56:AA:BB:CC", ("00:50:56:aa:bb:cc",)), ("00-50-56-aa-bb-cc", ("00:50:56:aa:bb:cc",)), ("random", ()), ("0050569abbc", ())],
)  # fmt: skip
def test_a_mac_has_one_form(text: str, found: tuple[str, ...]) -> None:
    assert mac_of(text) == found


def test_a_bonds_mode_has_a_name() -> None:
    assert (bond_mode("4"), bond_mode("balance-alb"), bond_mode("")) == ("802.3ad", "balance-alb", "")


@pytest.mark.parametrize("match", ["Name=6rd-*\nType=sit", "Name=vt-*\nDriver=tun", "Name=ve-*\nDriver=veth"])
def test_what_systemd_brings_for_tunnels_and_machines_is_none_of_a_card(match: str) -> None:
    text = f"[Match]\n{match}\n\n[Network]\nAddress=0.0.0.0/28\nDHCPServer=yes\n"
    assert networkd.stays(text, frozenset())


def test_a_driver_or_type_of_a_card_is_one_of_a_card() -> None:
    assert not networkd.stays("[Match]\nName=eth0\nDriver=vmxnet3\n\n[Network]\nAddress=10.0.0.2/24\n", frozenset())
    assert not networkd.stays("[Match]\nName=eth0\nType=ether\n\n[Network]\nAddress=10.0.0.2/24\n", frozenset())


def test_an_ifcfg_file_with_the_line_ends_of_windows_says_the_same() -> None:
    text = (
        'DEVICE=ens192\nNAME="System ens192"\nIPADDR=10.0.0.5\nPREFIX=24\nGATEWAY=10.0.0.1 # router\nDNS1="10.0.0.2"\n'
    )
    routes = "10.9.0.0/16 via 10.0.0.1\n"
    plain = ifcfg.interface_in("ens192", text, routes, "/x")
    assert ifcfg.interface_in("ens192", text.replace("\n", "\r\n"), routes.replace("\n", "\r\n"), "/x") == plain
    assert plain.name == "ens192" and plain.addresses == ("10.0.0.5/24",)
