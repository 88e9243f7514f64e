"""DHCP on whatever card appears: what becomes of each renderer's files, and what is told."""

from pathlib import Path

import pytest
import yaml

from fixtures.guests import names
from migrate.draft import Draft
from migrate.effects import Severity
from migrate.guest import Folder
from migrate.guests.memory import MemoryGuest, from_yaml
from migrate.preview.values import changes_json
from migrate.run import Run
from remediations.network import (
    dns,
    ifcfg,
    ifupdown,
    keyfiles,
    netplan,
    network_by_dhcp,
    networkd,
    networkmanager,
    wicked,
)
from remediations.network.live import NETCTL, RENDERERS, WICKED, live
from remediations.network.model import Form
from tests.remediation_guests import GUESTS, applied, codes, done, guest, outcome

ALL = [
    "debian12-ifupdown-static",
    "debian12-ifupdown-bond",
    "ubuntu2204-netplan-static",
    "debian12-networkd-cloud",
    "rocky9-keyfiles",
    "centos7-ifcfg",
    "amzn2-network-service",
]


def facts(name: str) -> list[str]:
    return [fact.text for fact in done(guest(name), network_by_dhcp).facts]


@pytest.mark.parametrize("name", ALL)
def test_a_second_run_changes_nothing(run: Run, name: str) -> None:
    before = guest(name)
    assert done(before, network_by_dhcp).effects
    assert before.tree == guest(name).tree
    applied(run, before, network_by_dhcp)


def test_ifupdown_keeps_the_loopback_and_gets_a_pattern() -> None:
    changes = done(guest("debian12-ifupdown-static"), network_by_dhcp)
    assert outcome(changes) == {
        "/etc/network/interfaces": (
            "# This file describes the network interfaces available on your system\n"
            "# and how to activate them. For more information, see interfaces(5).\n"
            "\n"
            "source /etc/network/interfaces.d/*\n"
            "\n"
            "# The loopback network interface\n"
            "auto lo\n"
            "iface lo inet loopback\n"
        ),
        "/etc/network/interfaces.d/storage": None,
        "/etc/network/interfaces.d/zz-magalu-migrate": ifupdown.DHCP,
        "/etc/systemd/system/networking.service.d/magalu-migrate.conf": ifupdown.WAIT,
        "/etc/dhcp/dhclient.conf": (
            "# Configuration file for /sbin/dhclient.\n"
            "option rfc3442-classless-static-routes code 121 = array of unsigned integer 8;\n"
            "send host-name = gethostname();\n"
            'supersede domain-name "corp.example.com";\n'
            "#supersede domain-name-servers 9.9.9.9;\n"
            'interface "ens192" {\n'
            "    send dhcp-client-identifier 1:00:50:56:aa:bb:cc;\n"
            "}\n"
            "request subnet-mask, broadcast-address, routers, domain-name-servers;\n"
        ),
        "/etc/resolv.conf": "search corp.example.com\n",
    }


def test_the_old_settings_are_kept_in_one_line_for_each_card() -> None:
    assert facts("debian12-ifupdown-static") == [
        "ens192: 10.20.30.40/24 2001:db8:20::40/64 10.20.30.41/24, gateway 10.20.30.1, DNS 10.20.0.53 10.20.1.53, "
        "search corp.example.com, route 172.16.0.0/12 via 10.20.30.254, MAC 00:50:56:aa:bb:cc (/etc/network/interfaces)",
        "ens224: 192.168.77.5/24 (/etc/network/interfaces.d/storage)",
        "all cards: DNS 10.20.0.53 10.20.1.53, search corp.example.com (/etc/resolv.conf)",
    ]
    assert facts("ubuntu2204-netplan-static") == [
        "uplink: 10.20.30.40/24 2001:db8::40/64, gateway 10.20.30.1, DNS 10.20.0.53, search corp.example.com, "
        "route 172.16.0.0/12 via 10.20.30.254, MAC 00:0d:3a:11:22:33, mtu 9000, part of br0 (/etc/netplan/00-installer-config.yaml)",
        "br-inner (bridge): 172.30.0.1/24, stays as it is (/etc/netplan/60-inner.yaml)",
        "br0 (bridge over uplink): no address (/etc/netplan/60-inner.yaml)",
        "vlan20 (VLAN 20 over uplink): 10.2.0.9/16 (/etc/netplan/60-inner.yaml)",
        "all cards: DNS 10.20.0.53 (/etc/systemd/resolved.conf)",
    ]
    assert facts("debian12-networkd-cloud") == [
        "eth0: DHCP, MAC 02:42:ac:11:00:03 (/etc/systemd/network/10-cloud-init-eth0.network)",
        "lan0: 10.20.30.40/24, gateway 10.20.30.1, DNS 10.20.0.53 10.20.1.53, route 172.16.0.0/12 via 10.20.30.254, "
        "mtu 9000, VLAN vlan20 (/etc/systemd/network/20-lan0.network)",
        "vlan20 (VLAN 20 over lan0): 10.2.0.9/16 (/etc/systemd/network/vlan20.network, /etc/systemd/network/vlan20.netdev)",
        "wg0 (WireGuard): 10.99.0.1/24, stays as it is (/etc/systemd/network/wg0.network, /etc/systemd/network/wg0.netdev)",
        "all cards: DNS 10.20.0.53 (/etc/resolv.conf)",
    ]
    connections = "/etc/NetworkManager/system-connections"
    assert facts("rocky9-keyfiles") == [
        f"ens192: part of bond0 ({connections}/bond0-port1.nmconnection)",
        f"bond0 (bond active-backup over ens192): DHCP ({connections}/bond0.nmconnection)",
        "ens224: 10.20.30.40/24 10.20.30.41/24, IPv6 off, gateway 10.20.30.1, DNS 10.20.0.53 10.20.1.53, search corp.example.com, "
        f"route 172.16.0.0/12 via 10.20.30.254, MAC 00:50:56:aa:bb:cd, mtu 9000 "
        f"({connections}/eth1 but with spaces.nmconnection)",
        f"br-inner (bridge): 172.30.0.1/24, stays as it is ({connections}/inner.nmconnection)",
        f"wg0 (WireGuard): stays as it is ({connections}/office.nmconnection)",
        "all cards: DNS 10.20.0.53 (/etc/resolv.conf)",
    ]
    scripts = "/etc/sysconfig/network-scripts"
    assert facts("centos7-ifcfg") == [
        f"bond0 (bond active-backup over ens224): DHCP ({scripts}/ifcfg-bond0)",
        f"bond0.20 (VLAN 20 over bond0): 10.2.0.9/16 ({scripts}/ifcfg-bond0.20)",
        "ens192: 10.20.30.40/24 10.20.30.41/24 2001:db8::40/64 10.20.30.42/24, gateway 10.20.30.1, "
        "DNS 10.20.0.53 10.20.1.53, search corp.example.com lab.example.com, route 172.16.0.0/12 via 10.20.30.254, "
        f"MAC 00:50:56:aa:bb:cc ({scripts}/ifcfg-ens192, {scripts}/route-ens192 and 1 more)",
        f"ens224: MAC 00:50:56:aa:bb:cd, part of bond0 ({scripts}/ifcfg-ens224)",
        "all cards: gateway 10.20.30.1 (/etc/sysconfig/network)",
    ]


def test_what_is_built_on_cards_is_given_up_and_told_and_what_needs_none_stays() -> None:
    changes = done(guest("debian12-ifupdown-bond"), network_by_dhcp)
    assert outcome(changes)["/etc/network/interfaces"] == (
        "source /etc/network/interfaces.d/*\n"
        "\n"
        "auto lo br-inner dummy0\n"
        "iface lo inet loopback\n"
        "\n"
        "# for the containers\n"
        "iface br-inner inet static\n"
        "    address 172.30.0.1/24\n"
        "    bridge_ports none\n"
        "\n"
        "iface dummy0 inet static\n"
        "    address 203.0.113.7/32\n"
    )
    assert [(finding.code, finding.text) for finding in changes.findings] == [
        (
            "NET-003",
            "given up: bond0 (bond 802.3ad over ens192, ens224): 10.1.0.9/16, gateway 10.1.0.1 (/etc/network/interfaces)",
        ),
        ("NET-004", "given up: bond0.20 (VLAN 20 over bond0): 10.2.0.9/16 (/etc/network/interfaces)"),
        ("NET-005", "given up: vmbr0 (bridge over ens256): 10.3.0.9/16 (/etc/network/interfaces)"),
    ]


def test_netplan_loses_what_names_a_card_and_keeps_the_comments_of_the_rest() -> None:
    assert outcome(done(guest("ubuntu2204-netplan-static"), network_by_dhcp)) == {
        "/etc/netplan/00-installer-config.yaml": None,
        "/etc/netplan/60-inner.yaml": (
            "network:\n"
            "  version: 2\n"
            "  bridges:\n"
            "    br-inner:          # for the containers\n"
            "      addresses: [172.30.0.1/24]\n"
        ),
        "/etc/netplan/90-magalu-migrate.yaml": netplan.DHCP,
        "/etc/systemd/resolved.conf": "[Resolve]\n#DNS=\nFallbackDNS=9.9.9.9\n",
    }


def test_networkd_keeps_its_tunnels_and_forgets_old_name_servers() -> None:
    changes = done(guest("debian12-networkd-cloud"), network_by_dhcp)
    assert outcome(changes) == {
        "/etc/systemd/network/10-cloud-init-eth0.network": None,
        "/etc/systemd/network/20-lan0.network": None,
        "/etc/systemd/network/20-lan0.network.d": None,
        "/etc/systemd/network/vlan20.network": None,
        "/etc/systemd/network/vlan20.netdev": None,
        "/etc/systemd/network/90-magalu-migrate.network": networkd.DHCP,
        "/etc/resolv.conf": "",
    }
    assert codes(changes) == ["NET-002", "NET-004", "NET-014", "NET-006"]


def test_networkmanager_keeps_bridges_without_ports_and_writes_name_servers_again() -> None:
    changes = done(guest("rocky9-keyfiles"), network_by_dhcp)
    connections = "/etc/NetworkManager/system-connections"
    assert outcome(changes) == {
        f"{connections}/bond0-port1.nmconnection": None,
        f"{connections}/bond0.nmconnection": None,
        f"{connections}/eth1 but with spaces.nmconnection": None,
        f"{connections}/magalu-migrate.nmconnection": keyfiles.DHCP,
        "/etc/NetworkManager/NetworkManager.conf": "[main]\n[logging]\n#level=DEBUG\n",
        "/etc/NetworkManager/conf.d/99-unmanaged.conf": (
            "[keyfile]\nunmanaged-devices=interface-name:docker*;driver:virtio_net;except:type:ethernet\n"
        ),
        "/etc/resolv.conf": "",
    }
    assert codes(changes) == ["NET-011", "NET-003", "NET-002", "NET-014", "NET-006", "NET-009"]


def test_the_profile_of_networkmanager_is_roots_alone_or_it_would_be_ignored(run: Run) -> None:
    after = applied(run, guest("rocky9-keyfiles"), network_by_dhcp)
    assert after.load(keyfiles.OURS).mode == 0o600  # type: ignore[union-attr]


def test_ifcfg_files_give_way_to_one_profile_where_networkmanager_reads_them() -> None:
    scripts = "/etc/sysconfig/network-scripts"
    assert outcome(done(guest("centos7-ifcfg"), network_by_dhcp)) == {
        f"{scripts}/ifcfg-bond0": None,
        f"{scripts}/ifcfg-bond0.20": None,
        f"{scripts}/ifcfg-ens192": None,
        f"{scripts}/route-ens192": None,
        f"{scripts}/ifcfg-ens192:1": None,
        f"{scripts}/ifcfg-ens224": None,
        "/etc/sysconfig/network": 'NETWORKING=yes\nHOSTNAME="web1"\nNOZEROCONF=yes\n',
        keyfiles.OURS: keyfiles.DHCP,
    }


def test_network_service_gets_eth0_where_the_kernel_names_the_card() -> None:
    changes = done(guest("amzn2-network-service"), network_by_dhcp)
    assert outcome(changes) == {
        "/etc/sysconfig/network-scripts/ifcfg-eth0": (
            "# Written by magalu-migrate.\n"
            "DEVICE=eth0\nTYPE=Ethernet\nBOOTPROTO=dhcp\nONBOOT=yes\nPEERDNS=yes\nIPV6INIT=yes\nIPV6_AUTOCONF=yes\n"
        ),
        "/etc/resolv.conf": "nameserver 8.8.8.8\n",
    }
    assert changes.findings == ()


def test_network_service_has_the_kernel_name_the_card_wherever_that_is_said() -> None:
    changes = done(guest("centos7-net-service-only"), network_by_dhcp)
    after = outcome(changes)
    assert "quiet net.ifnames=0\n" in (after["/boot/grub2/grub.cfg"] or "")
    assert after["/etc/default/grub"] == 'GRUB_CMDLINE_LINUX="crashkernel=auto rhgb quiet net.ifnames=0"\n'
    assert after[ifcfg.ETH0] == ifcfg.DHCP_ETH0
    assert codes(changes) == ["NET-016"]


def test_network_service_is_left_to_cloud_init_where_nobody_can_say_how_the_kernel_is_started() -> None:
    text = (Path(__file__).parent.parent / "fixtures/guests/amzn2-network-service.yaml").read_text()
    changes = done(
        from_yaml(text.replace("/etc/default/grub", "/etc/default/boot").replace("eth0", "ens192")), network_by_dhcp
    )
    assert ifcfg.ETH0 not in outcome(changes)
    assert codes(changes) == ["NET-012"]


def test_a_card_that_was_called_eth0_is_taken_to_be_called_so_again_where_nothing_says_more() -> None:
    text = (Path(__file__).parent.parent / "fixtures/guests/amzn2-network-service.yaml").read_text()
    changes = done(from_yaml(text.replace("/etc/default/grub", "/etc/default/boot")), network_by_dhcp)
    assert outcome(changes)[ifcfg.ETH0] == ifcfg.DHCP_ETH0
    assert codes(changes) == []


def test_networkmanager_comes_before_ifupdown_because_it_takes_any_card_that_is_not_named() -> None:
    text = (Path(__file__).parent.parent / "fixtures/guests/debian12-ifupdown-static.yaml").read_text()
    both = from_yaml(
        text.replace(
            "files:\n  /lib/systemd/system/networking.service",
            "files:\n"
            '  /lib/systemd/system/NetworkManager.service: "[Install]\\nWantedBy=multi-user.target\\n"\n'
            "  /etc/systemd/system/multi-user.target.wants/NetworkManager.service: "
            "{link: /lib/systemd/system/NetworkManager.service}\n"
            "  /lib/systemd/system/networking.service",
        )
    )
    after = outcome(done(both, network_by_dhcp))
    assert after[keyfiles.OURS] == keyfiles.DHCP
    assert ifupdown.OURS not in after
    assert "ens192" not in (after["/etc/network/interfaces"] or "")


def test_ifupdown_beside_netplan_is_switched_off_so_that_only_one_asks_for_an_address(run: Run) -> None:
    both = from_yaml(
        """
        packages: {netplan.io: {files: [/usr/sbin/netplan]}, ifupdown: {version: 0.8.41, files: [/sbin/ifup]}}
        files:
          /etc/network/interfaces: "auto lo\\niface lo inet loopback\\n"
          /etc/netplan/90-default.yaml: |
            network: {version: 2, ethernets: {all-en: {match: {name: "en*"}, dhcp4: true, dhcp6: true}}}
          /lib/systemd/system/networking.service: "[Install]\\nWantedBy=multi-user.target\\n"
          /etc/systemd/system/multi-user.target.wants/networking.service: {link: /lib/systemd/system/networking.service}
        """
    )
    changes = done(both, network_by_dhcp)
    assert outcome(changes) == {
        "/etc/netplan/90-magalu-migrate.yaml": netplan.DHCP,
        "/etc/systemd/system/multi-user.target.wants/networking.service": None,
    }
    assert "cloud-init describes it to ifupdown" in changes.effects[-1].why
    applied(run, both, network_by_dhcp)


def test_netplan_for_networkmanager_keeps_its_renderer_and_the_profile_is_networkmanagers_own() -> None:
    desktop = from_yaml(
        """
        os: {id: ubuntu, version_id: "18.04"}
        packages: {netplan.io: {files: [/usr/sbin/netplan]}}
        files:
          /etc/netplan/01-network-manager-all.yaml: |
            # Let NetworkManager manage all devices on this system
            network:
              version: 2
              renderer: NetworkManager
              ethernets:
                ens160: {addresses: [10.0.0.4/24], gateway4: 10.0.0.1}
          /lib/systemd/system/NetworkManager.service: "[Install]\\nWantedBy=multi-user.target\\n"
          /etc/systemd/system/multi-user.target.wants/NetworkManager.service: {link: /lib/systemd/system/NetworkManager.service}
        """
    )
    assert outcome(done(desktop, network_by_dhcp)) == {
        "/etc/netplan/01-network-manager-all.yaml": (
            "# Let NetworkManager manage all devices on this system\n"
            "network:\n  version: 2\n  renderer: NetworkManager\n"
        ),
        keyfiles.OURS: keyfiles.DHCP,
    }


def test_a_guest_whose_network_nobody_knows_is_an_error_and_stays_as_it_is() -> None:
    changes = done(MemoryGuest({"/etc": Folder()}), network_by_dhcp)
    assert changes.effects == ()
    assert [(finding.code, finding.severity) for finding in changes.findings] == [("NET-001", Severity.ERROR)]


def test_a_static_resolv_conf_gives_way_to_resolved_where_that_is_at_work() -> None:
    text = (Path(__file__).parent.parent / "fixtures/guests/ubuntu2204-netplan-static.yaml").read_text()
    static = from_yaml(
        text.replace(
            "/etc/resolv.conf: {link: ../run/systemd/resolve/stub-resolv.conf}",
            "/etc/resolv.conf: 'nameserver 10.20.0.53'",
        )
    )
    assert outcome(done(static, network_by_dhcp))["/etc/resolv.conf"] == "-> ../run/systemd/resolve/stub-resolv.conf"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("supersede domain-name-servers 10.0.0.2;\n", ""),
        ("prepend domain-name-servers 127.0.0.1;\n", "prepend domain-name-servers 127.0.0.1;\n"),
        ("prepend domain-name-servers 127.0.0.1, 10.0.0.2; send x 1;\n", " send x 1;\n"),
        ('option x "supersede routers 1.2.3.4;";\n', 'option x "supersede routers 1.2.3.4;";\n'),
        ("append domain-name-servers 9.9.9.9;\n", "append domain-name-servers 9.9.9.9;\n"),
        ("{" * 5000, "{" * 5000),
    ],
)  # fmt: skip
def test_dhclient_conf_is_read_as_statements(before: str, after: str) -> None:
    assert dns.without_statements(before, dns.overrides) == after


# Which renderer is live


@pytest.mark.parametrize(
    ("name", "renderer"),
    [
        ("debian12-net-ifupdown-many", "ifupdown"),
        ("debian9-net-ifupdown-old", "ifupdown"),
        ("alpine319-net-openrc", "ifupdown"),
        ("ubuntu2404-net-netplan-merged", "netplan"),
        ("ubuntu2204-net-netplan-broken", "netplan"),
        ("ubuntu2004-net-desktop", "NetworkManager"),
        ("fedora40-net-keyfiles-odd", "NetworkManager"),
        ("rhel8-net-both-services", "NetworkManager"),
        ("centos7-net-service-only", "network.service"),
        ("sles15-net-wicked-bond", "wicked"),
        ("opensuse15-net-wicked-names", "wicked"),
        ("debian12-net-networkd-layers", "systemd-networkd"),
        ("amzn2023-net-nothing", "systemd-networkd"),
        ("photon3-net-networkd", "systemd-networkd"),
        ("debian12-net-three-renderers", "systemd-networkd"),
        ("arch-net-netctl", "systemd-networkd"),
        ("arch-net-dhcpcd", "dhcpcd"),
    ],
)  # fmt: skip
def test_the_live_renderer_is_found_and_found_again_after_the_change(run: Run, name: str, renderer: str) -> None:
    found = live(Draft(guest(name)))
    assert found is not None and found.name == renderer
    assert live(Draft(applied(run, guest(name), network_by_dhcp))) is found


@pytest.mark.parametrize("name", [name for name in names() if "-net-" in name])
def test_nothing_is_left_that_names_a_certain_card(run: Run, name: str) -> None:
    after = Draft(applied(run, guest(name), network_by_dhcp))
    found = live(after)
    left = [
        each
        for renderer in RENDERERS
        for each in renderer.interfaces(after)
        if not (each.stays or each.dynamic or each.form is Form.WHOLE or renderer is NETCTL)
    ]
    assert found is not None
    assert [str(each) for each in left] == []


def test_one_renderer_alone_is_left_to_ask_where_three_were_started() -> None:
    changes = done(guest("debian12-net-three-renderers"), network_by_dhcp)
    assert outcome(changes) == {
        "/etc/systemd/network/50-static.network": None,
        "/etc/NetworkManager/system-connections/any.nmconnection": None,
        "/etc/network/interfaces": "auto lo\niface lo inet loopback\n",
        networkd.OURS: networkd.DHCP,
        "/etc/systemd/system/multi-user.target.wants/networking.service": None,
    }


def test_networkmanager_that_would_ask_too_is_told_to_make_no_profiles_of_its_own() -> None:
    text = (GUESTS / "debian12-net-three-renderers.yaml").read_text()
    both = from_yaml(
        text.replace("unmanaged-devices=*,except:type:wifi", "path=/x").replace(
            "type=ethernet\\n[ipv4]", "type=wifi\\n[ipv4]"
        )
    )
    changes = done(both, network_by_dhcp)
    assert outcome(changes)[networkmanager.OURS] == networkmanager.LEAVE
    assert "type=wifi" in (Draft(both).read("/etc/NetworkManager/system-connections/any.nmconnection") or "")


# The traps of single guests


def test_busyboxs_ifup_gets_its_stanza_in_the_main_file_because_it_takes_no_patterns_in_source() -> None:
    assert outcome(done(guest("alpine319-net-openrc"), network_by_dhcp))["/etc/network/interfaces"] == (
        "auto lo\niface lo inet loopback\n\n# Written by magalu-migrate.\nauto eth0\niface eth0 inet dhcp\n"
    )


def test_a_netplan_file_of_a_package_is_hidden_and_one_that_leans_on_itself_is_written_anew() -> None:
    after = outcome(done(guest("ubuntu2404-net-netplan-merged"), network_by_dhcp))
    assert after["/etc/netplan/20-vendor.yaml"] == "network: {version: 2}\n"
    assert "/usr/lib/netplan/20-vendor.yaml" not in after
    assert "/etc/netplan/10-image.yaml" not in after  # it hides the package's
    left = yaml.safe_load(after["/etc/netplan/50-cards.yaml"] or "")["network"]
    assert sorted(left["bridges"]) == ["br-inner"] and sorted(left["tunnels"]) == ["wg0"]
    assert set(left) == {"version", "bridges", "tunnels"}


def test_a_netplan_file_that_is_no_yaml_is_put_aside_because_one_stops_all() -> None:
    changes = done(guest("ubuntu2204-net-netplan-broken"), network_by_dhcp)
    after = outcome(changes)
    assert after["/etc/netplan/50-cards.yaml"] is None
    assert "10.20.30.40/24" in (after["/etc/netplan/50-cards.yaml.magalu-migrate"] or "")
    assert after[netplan.OURS] == netplan.DHCP_BY_NETWORKD  # NetworkManager, which a file asks for, is not there
    assert codes(changes) == ["NET-013"]


def test_a_profile_that_networkmanager_ignored_is_told_as_such_and_a_packages_is_hidden() -> None:
    changes = done(guest("fedora40-net-keyfiles-odd"), network_by_dhcp)
    told = [fact.text for fact in changes.facts]
    assert (
        "ens193: 10.66.0.4/24, NetworkManager ignored the file, which is 0644 "
        "(/etc/NetworkManager/system-connections/open.nmconnection)"
    ) in told
    assert (
        "Conexão cabeada 1: 10.20.30.40/24 10.20.30.41/24, IPv6 off, gateway 10.20.30.1, DNS 10.20.0.53, "
        "route 172.16.0.0/12 via 10.20.30.254 metric 100, MAC 00:50:56:aa:bb:cc "
        "(/etc/NetworkManager/system-connections/Conexão cabeada 1.nmconnection)"
    ) in told
    assert not any("segredo" in text for text in told)
    after = outcome(changes)
    assert after[f"{keyfiles.FOLDER}/11111111-2222-4333-8444-555555555555.nmmeta"] == "-> /dev/null"
    assert f"{keyfiles.FOLDER}/casa.nmconnection" not in after
    assert after["/etc/resolv.conf"] is None  # a link to systemd-resolved's, which is not there


def test_networkds_files_of_packages_are_hidden_and_the_boot_waits_for_any_card() -> None:
    changes = done(guest("debian12-net-networkd-layers"), network_by_dhcp)
    after = outcome(changes)
    assert after["/etc/systemd/network/10-appliance.network"] == "-> /dev/null"
    assert "/etc/systemd/network/20-cards.network" not in after  # hidden already
    assert after["/etc/systemd/network/10-netplan-eth0.network.d"] is None
    assert after[networkd.WAIT_DROP_IN] == (
        "# Written by magalu-migrate.\n[Service]\nExecStart=\nExecStart=/lib/systemd/systemd-networkd-wait-online --any\n"
    )
    waits = "/etc/systemd/system/network-online.target.wants/systemd-networkd-wait-online@bond0.service"
    assert after[waits] is None
    assert after["/etc/resolv.conf"] == "-> ../run/systemd/resolve/resolv.conf"  # the stub does not listen there


def test_photons_old_systemd_gets_the_old_words_and_ipv6_back() -> None:
    changes = done(guest("photon3-net-networkd"), network_by_dhcp)
    after = outcome(changes)
    assert after[networkd.OURS] == networkd.DHCP_OLD
    assert after["/etc/systemd/network/99-dhcp-en.network"] is None
    assert networkd.WAIT_DROP_IN not in after  # 239 knows no --any
    assert codes(changes) == ["NET-009"]


def test_wicked_gets_three_cards_by_the_kernels_names_and_only_the_first_is_waited_for() -> None:
    changes = done(guest("opensuse15-net-wicked-names"), network_by_dhcp)
    after = outcome(changes)
    assert [path for path in wicked.OURS if after[path] == wicked.FIRST] == ["/etc/sysconfig/network/ifcfg-eth0"]
    assert [path for path in wicked.OURS if after[path] == wicked.FURTHER] == [
        "/etc/sysconfig/network/ifcfg-eth1",
        "/etc/sysconfig/network/ifcfg-eth2",
    ]
    assert (
        after["/etc/default/grub"]
        == 'GRUB_CMDLINE_LINUX_DEFAULT="splash=silent quiet"\nGRUB_CMDLINE_LINUX="net.ifnames=0"\n'
    )
    assert "net.ifnames=0\n" in (after["/boot/grub2/grub.cfg"] or "")
    assert after["/etc/resolv.conf"] is None
    assert codes(changes) == ["NET-016", "NET-002", "NET-006"]


def test_wickeds_settings_for_the_whole_guest_take_what_dhcp_says() -> None:
    after = outcome(done(guest("sles15-net-wicked-bond"), network_by_dhcp))
    assert after["/etc/sysconfig/network/routes"] == "172.31.0.0/16 - - br-inner\n"
    assert after["/etc/sysconfig/network/config"] == (
        'NETCONFIG_DNS_POLICY=auto\nNETCONFIG_DNS_STATIC_SEARCHLIST="corp.example.com"\n'
        'NETCONFIG_DNS_STATIC_SERVERS=9.9.9.9\nWAIT_FOR_INTERFACES="30"\n'
    )
    assert after["/etc/sysconfig/network/dhcp"] == "DHCLIENT_SET_DEFAULT_ROUTE=yes\nDHCLIENT_PRIMARY_DEVICE=''\n"
    assert "/etc/sysconfig/network/ifcfg-br-inner" not in after
    assert "/etc/default/grub" not in after  # the kernel names cards there already


def test_sles_11_has_wickeds_files_under_a_script_of_the_name_of_red_hats() -> None:
    old = from_yaml(
        """
        os: {id: sles, version_id: "11.4"}
        files:
          /sbin/initctl: ""
          /etc/rc.d: {link: init.d}
          /etc/init.d/network: "#!/bin/sh\\n"
          /etc/init.d/rc3.d/S05network: {link: ../network}
          /etc/sysconfig/network/ifcfg-eth0: "STARTMODE='auto'\\nIPADDR='10.0.0.4/24'\\n"
        """
    )
    assert live(Draft(old)) is WICKED
    assert outcome(done(old, network_by_dhcp)) == dict(wicked.OURS)


def test_dhcpcd_is_told_to_leave_no_card_alone() -> None:
    assert outcome(done(guest("arch-net-dhcpcd"), network_by_dhcp))["/etc/dhcpcd.conf"] == (
        "# Inform the DHCP server of our hostname for DDNS.\nhostname\npersistent\n\n\ninterface wlan0\nmetric 400\n"
    )


def test_netctls_profiles_are_read_and_systemd_networkd_takes_their_place() -> None:
    changes = done(guest("arch-net-netctl"), network_by_dhcp)
    after = outcome(changes)
    wants = "/etc/systemd/system/multi-user.target.wants"
    assert after[f"{wants}/netctl@a\\x20card.service"] is None
    assert f"{wants}/netctl-auto@wlan0.service" not in after
    assert after[f"{wants}/systemd-networkd.service"] == "-> /usr/lib/systemd/system/systemd-networkd.service"
    assert "/etc/netctl/a card" not in after


def test_what_slept_in_a_folder_that_is_sourced_now_does_not_wake_up(run: Run) -> None:
    asleep = guest("debian12-net-ifupdown-asleep")
    changes = done(asleep, network_by_dhcp)
    after = outcome(changes)
    assert after["/etc/network/interfaces.d/eth0.bak"] is None
    assert "/etc/network/interfaces.d/dummy" not in after
    assert after["/etc/network/interfaces"] == (
        "# Gerado pelo instalador\nauto lo\niface lo inet loopback\nsource /etc/network/interfaces.d/*\n"
    )
    assert not any("10.99" in fact.text for fact in changes.facts)  # it was not the network that was there before
    applied(run, asleep, network_by_dhcp)


def test_what_switches_ipv6_off_elsewhere_is_told_line_by_line_and_stays() -> None:
    changes = done(guest("debian12-net-ifupdown-many"), network_by_dhcp)
    (told,) = [finding.text for finding in changes.findings if finding.code == "NET-015"]
    assert told == (
        "IPv6 is switched off outside of the network's configuration, and stays so: "
        "/etc/sysctl.d/60-no-ipv6.conf line 2: net.ipv6.conf.all.disable_ipv6 = 1; "
        "/etc/sysctl.d/60-no-ipv6.conf line 4: net/ipv6/conf/ens192/accept_ra=0"
    )
    assert "/etc/sysctl.d/60-no-ipv6.conf" not in outcome(changes)


def test_a_renderer_that_we_do_not_know_is_told_by_its_name() -> None:
    gentoo = from_yaml(
        """
        os: {id: gentoo}
        files:
          /sbin/openrc: ""
          /etc/conf.d/net: 'config_eth0="10.0.0.4/24"'
          /etc/runlevels/default/net.eth0: {link: /etc/init.d/net.eth0}
          /etc/runlevels/boot/net.lo: {link: /etc/init.d/net.lo}
        """
    )
    changes = done(gentoo, network_by_dhcp)
    assert changes.effects == ()
    assert [(finding.code, "netifrc" in finding.text) for finding in changes.findings] == [("NET-010", True)]


# The sheet


def test_the_sheet_for_programs_holds_all_that_the_network_can_be_built_from_again() -> None:
    changes = done(guest("debian12-net-networkd-layers"), network_by_dhcp)
    found = {fact.data["name"]: fact.data for fact in changes.facts if isinstance(fact.data, dict)}
    assert found["bond0"] == {
        "name": "bond0",
        "kind": "bond",
        "files": ["/etc/systemd/network/40-bond0.network", "/etc/systemd/network/bond0.netdev"],
        "ipv4": "static",
        "ipv6": "off",
        "addresses": ["10.20.30.40/24", "10.20.30.41/24"],
        "gateways": ["10.20.30.1"],
        "dns": ["10.20.0.53"],
        "search": ["corp.example.com"],
        "routes": [{"to": "172.16.0.0/12", "via": "10.20.30.254", "options": "metric 50"}],
        "rules": ["From=10.20.30.41 Table=100"],
        "macs": ["00:50:56:aa:bb:cc"],
        "mtu": 9000,
        "bond": {"mode": "802.3ad", "ports": ["ens192", "ens224"]},
        "remarks": ["VLAN vlan20", "the boot does not wait for it"],
    }
    assert found["vlan20"]["vlan"] == {"id": 20, "parent": "bond0"}
    assert found["br20"]["bridge"] == {"ports": ["vlan20"]}
    assert found["wg0"]["stays"] is True


def test_the_sheet_reaches_the_previews_json() -> None:
    facts = changes_json(done(guest("debian12-net-ipv6-only"), network_by_dhcp))["facts"]
    assert facts == [
        {
            "name": "network before",
            "text": "ens192: 2001:db8:20::40/64, gateway 2001:db8:20::1, DNS 2001:db8:20::53 (/etc/network/interfaces)",
            "by": "network-by-dhcp",
            "data": {
                "name": "ens192",
                "kind": "card",
                "files": ["/etc/network/interfaces"],
                "ipv6": "static",
                "addresses": ["2001:db8:20::40/64"],
                "gateways": ["2001:db8:20::1"],
                "dns": ["2001:db8:20::53"],
            },
        }
    ]
