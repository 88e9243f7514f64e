"""MAC addresses of the source's cards go, and what was tied to them with them, wherever they are written."""

import subprocess
from pathlib import Path

import pytest

from migrate.guests.memory import from_yaml
from migrate.run import Run
from remediations.mac_addresses import (
    strip_macs,
    without_client_macs,
    without_hwaddress,
    without_ifcfg_macs,
    without_keyfile_macs,
    without_mac_lines,
    without_netplan_macs,
    without_network_macs,
    without_udev_names,
)
from remediations.network import network_by_dhcp
from tests.remediation_guests import applied, done, guest, outcome

ALL = [
    "debian12-ifupdown-static",
    "ubuntu2204-netplan-static",
    "debian12-networkd-cloud",
    "rocky9-keyfiles",
    "centos7-ifcfg",
    "amzn2-network-service",
]


@pytest.mark.parametrize("name", ALL)
def test_no_mac_address_is_left_in_what_sets_up_the_network(run: Run, name: str) -> None:
    after = applied(run, guest(name), network_by_dhcp, strip_macs)
    left = [
        path
        for path, entry in after.tree.items()
        if path.startswith("/etc") and not path.endswith(".bak") and hasattr(entry, "text")
        for line in entry.text.lower().splitlines()
        if any(mac in line for mac in ("00:50:56:", "00:0d:3a:", "02:42:ac:", "02:11:22:"))
    ]
    assert left == []


def test_without_the_network_by_dhcp_names_stay_and_only_macs_go() -> None:
    assert outcome(done(guest("centos7-ifcfg"), strip_macs)) == {
        "/etc/sysconfig/network-scripts/ifcfg-ens192": (
            'TYPE="Ethernet"\n'
            "BOOTPROTO='none'\n"
            'NAME="the card # one"\n'
            "DEVICE=ens192   # the first\n"
            "ONBOOT=yes\n"
            'IPADDR0="10.20.30.40"\n'
            "PREFIX0=24\n"
            "IPADDR1='10.20.30.41'\n"
            "NETMASK1=255.255.255.0\n"
            "GATEWAY0=10.20.30.1\n"
            "DNS1=10.20.0.53\n"
            'DNS2="10.20.1.53"\n'
            'DOMAIN="corp.example.com lab.example.com"\n'
            "IPV6ADDR=2001:db8::40/64\n"
        ),
        "/etc/sysconfig/network-scripts/ifcfg-ens224": "DEVICE=ens224\nMASTER=bond0\nSLAVE=yes\n",
    }


def test_files_that_could_match_nothing_any_more_go_as_a_whole() -> None:
    assert outcome(done(guest("debian12-networkd-cloud"), strip_macs)) == {
        "/etc/systemd/network/10-lan0.link": None,
        "/etc/systemd/network/20-wol.link": "[Match]\nOriginalName=*\n[Link]\nWakeOnLan=off\n",
        "/etc/systemd/network/10-cloud-init-eth0.network": "[Match]\nName=eth0\n[Network]\nDHCP=ipv4\n",
    }


def test_a_network_file_for_a_mac_alone_goes_because_an_empty_match_is_every_card() -> None:
    only = from_yaml(
        'files: {/etc/systemd/network/a.network: "[Match]\\nMACAddress=02:00:00:00:00:01\\n[Network]\\nDHCP=yes\\n"}'
    )
    assert outcome(done(only, strip_macs)) == {"/etc/systemd/network/a.network": None}


def test_rules_that_rename_by_mac_go_and_others_stay_with_their_comments() -> None:
    text = (
        "# the card\n"
        'SUBSYSTEM=="net", ACTION=="add", ATTR{address}=="00:50:56:aa:bb:cc", \\\n'
        '  NAME="lan0"\n'
        "\n"
        "# a MAC, but no name\n"
        'SUBSYSTEM=="net", ATTR{address}=="00:50:56:aa:bb:cc", ENV{NM_UNMANAGED}="1"\n'
        "# a name, but no MAC\n"
        'SUBSYSTEM=="net", KERNELS=="0000:0b:00.0", NAME="lan1"\n'
        'SUBSYSTEM=="net", ATTR{address}=="?*", SYMLINK+="x"\n'
    )
    assert without_udev_names(text) == text[text.index("\n# a MAC") :]


def test_a_rules_file_with_nothing_but_comments_left_goes() -> None:
    assert (
        outcome(done(guest("debian12-ifupdown-static"), strip_macs))["/etc/udev/rules.d/70-persistent-net.rules"]
        is None
    )


@pytest.mark.parametrize(
    ("change", "before", "after"),
    [
        (without_hwaddress, "iface a inet dhcp\n  hwaddress 00:50:56:aa:bb:cc\n  mtu 9\n", "iface a inet dhcp\n  mtu 9\n"),
        (without_hwaddress, "auto mac/00:50:56:aa:bb:cc=x lo\n", "auto lo\n"),
        (without_hwaddress, "  hwaddress ether random\n# hwaddress 00:50:56:aa:bb:cc\n", "  hwaddress ether random\n# hwaddress 00:50:56:aa:bb:cc\n"),
        (without_ifcfg_macs, "HWADDR='00:50:56:AA:BB:CC'\nexport MACADDR=00-50-56-aa-bb-cc\nMACADDR=random\n", "MACADDR=random\n"),
        (without_keyfile_macs, "[ethernet]\nmac-address=00:50:56:AA:BB:CC\ncloned-mac-address=stable\n", "[ethernet]\ncloned-mac-address=stable\n"),
        (without_keyfile_macs, "[wifi]\nmac-address=00:50:56:AA:BB:CC\n", "[wifi]\nmac-address=00:50:56:AA:BB:CC\n"),
        (without_network_macs, "[DHCPServerStaticLease]\nMACAddress=00:50:56:aa:bb:cc\n", "[DHCPServerStaticLease]\nMACAddress=00:50:56:aa:bb:cc\n"),
        (without_client_macs, 'send dhcp-client-identifier "web1";\nsend dhcp-client-identifier 1:00:50:56:aa:bb:cc;\n', 'send dhcp-client-identifier "web1";\n'),
        (without_mac_lines, "# eth0 mac 00:50:56:aa:bb:cc\neth0 mac 00:50:56:aa:bb:cc\neth1 businfo 1\n", "# eth0 mac 00:50:56:aa:bb:cc\neth1 businfo 1\n"),
    ],
)  # fmt: skip
def test_a_line_goes_only_where_it_ties_a_card_to_a_mac(change, before: str, after: str) -> None:  # type: ignore[no-untyped-def]
    assert change(before) == after


NETPLAN = """\
network:
  version: 2
  ethernets:
    uplink:
      match:
        macaddress: 00:0d:3a:11:22:33   # the first card
      set-name: uplink
      addresses: [10.20.30.40/24]
    two: {match: {"macaddress": "00:0d:3a:11:22:34"}, set-name: "on", dhcp4: true}
    three: {match: {driver: x, macaddress: "00:0d:3a:11:22:34"}, dhcp4: true}
  bridges:
    br0: {interfaces: [uplink], macaddress: "00:0d:3a:11:22:35"}
"""


def test_a_definition_of_netplan_that_matched_by_mac_alone_matches_by_name(tmp_path: Path) -> None:
    after = (
        NETPLAN.replace("macaddress: 00:0d:3a:11:22:33", 'name: "uplink"')
        .replace('"macaddress": "00:0d:3a:11:22:34"', 'name: "on"')
        .replace(', macaddress: "00:0d:3a:11:22:34"', "")
        .replace(', macaddress: "00:0d:3a:11:22:35"', "")
    )
    assert without_netplan_macs(NETPLAN) == after
    (tmp_path / "etc/netplan").mkdir(parents=True)
    (tmp_path / "etc/netplan/a.yaml").write_text(
        after.replace(', set-name: "on"', "").replace("driver: x", "driver: xx")
    )
    (tmp_path / "etc/netplan/a.yaml").chmod(0o600)
    subprocess.run(["netplan", "generate", "--root-dir", str(tmp_path)], check=True)


@pytest.mark.parametrize(
    "text",
    [
        "network: [",
        "network: {ethernets: {a: {match: &m {macaddress: '00:00:00:00:00:01'}}, b: {match: *m}}}\n",
        "network: {ethernets: [1, 2]}\n",
        "",
    ],
)  # fmt: skip
def test_a_file_of_netplan_that_cannot_be_changed_for_sure_is_left_as_it_is(text: str) -> None:
    assert without_netplan_macs(text) == text
