"""DHCP on whatever card appears: what becomes of each renderer's files, and what the renderers' own parsers say of it."""

import subprocess
from pathlib import Path

import pytest

from migrate.effects import Severity
from migrate.guest import Folder, Link
from migrate.guests.memory import MemoryGuest, from_yaml
from migrate.run import Run
from remediations.network import dns, ifupdown, keyfiles, netplan, network_by_dhcp, networkd
from remediations.network.traces import lines_with
from tests.remediation_guests import applied, codes, done, guest, outcome, shown

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
        "search corp.example.com, MAC 00:50:56:aa:bb:cc, "
        "command: ip route add 172.16.0.0/12 via 10.20.30.254 (/etc/network/interfaces)",
        "ens224: 192.168.77.5/24 (/etc/network/interfaces.d/storage)",
    ]
    assert facts("ubuntu2204-netplan-static") == [
        "uplink: 10.20.30.40/24 2001:db8::40/64, gateway 10.20.30.1, DNS 10.20.0.53, search corp.example.com, "
        "route 172.16.0.0/12 via 10.20.30.254, MAC 00:0d:3a:11:22:33, mtu 9000 (/etc/netplan/00-installer-config.yaml)",
        "br0 (bridge over uplink): no address (/etc/netplan/60-inner.yaml)",
        "vlan20 (VLAN over uplink): 10.2.0.9/16 (/etc/netplan/60-inner.yaml)",
    ]
    assert facts("debian12-networkd-cloud") == [
        "eth0: DHCP, MAC 02:42:ac:11:00:03 (/etc/systemd/network/10-cloud-init-eth0.network)",
        "lan0: 10.20.30.40/24, gateway 10.20.30.1, DNS 10.20.0.53 10.20.1.53, route 172.16.0.0/12 via 10.20.30.254, "
        "VLAN vlan20 (/etc/systemd/network/20-lan0.network)",
        "vlan20 (VLAN over lan0): 10.2.0.9/16 (/etc/systemd/network/vlan20.network)",
    ]
    connections = "/etc/NetworkManager/system-connections"
    assert facts("rocky9-keyfiles") == [
        f"ens192: part of bond0 ({connections}/bond0-port1.nmconnection)",
        f"bond0 (bond over ens192): DHCP ({connections}/bond0.nmconnection)",
        "ens224: 10.20.30.40/24 10.20.30.41/24, gateway 10.20.30.1, DNS 10.20.0.53 10.20.1.53, search corp.example.com, "
        f"route 172.16.0.0/12 via 10.20.30.254, MAC 00:50:56:aa:bb:cd, mtu 9000 "
        f"({connections}/eth1 but with spaces.nmconnection)",
    ]
    scripts = "/etc/sysconfig/network-scripts"
    assert facts("centos7-ifcfg") == [
        f"bond0 (bond): DHCP ({scripts}/ifcfg-bond0)",
        f"bond0.20 (VLAN over bond0): 10.2.0.9/16 ({scripts}/ifcfg-bond0.20)",
        "ens192: 10.20.30.40/24 10.20.30.41/24 2001:db8::40/64 10.20.30.42/24, gateway 10.20.30.1, "
        "DNS 10.20.0.53 10.20.1.53, search corp.example.com lab.example.com, route 172.16.0.0/12 via 10.20.30.254, "
        f"MAC 00:50:56:aa:bb:cc ({scripts}/ifcfg-ens192)",
        f"ens224: MAC 00:50:56:aa:bb:cd, part of bond0 ({scripts}/ifcfg-ens224)",
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
            "given up: bond0 (bond over ens192, ens224): 10.1.0.9/16, gateway 10.1.0.1 (/etc/network/interfaces)",
        ),
        ("NET-004", "given up: bond0.20 (VLAN over bond0): 10.2.0.9/16 (/etc/network/interfaces)"),
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
    assert codes(changes) == ["NET-002", "NET-004", "NET-006"]


def test_networkmanager_keeps_bridges_without_ports_and_writes_name_servers_again() -> None:
    changes = done(guest("rocky9-keyfiles"), network_by_dhcp)
    connections = "/etc/NetworkManager/system-connections"
    assert outcome(changes) == {
        f"{connections}/bond0-port1.nmconnection": None,
        f"{connections}/bond0.nmconnection": None,
        f"{connections}/eth1 but with spaces.nmconnection": None,
        f"{connections}/magalu-migrate.nmconnection": keyfiles.DHCP,
        "/etc/NetworkManager/NetworkManager.conf": "[main]\n[logging]\n#level=DEBUG\n",
        "/etc/resolv.conf": "",
    }
    assert codes(changes) == ["NET-011", "NET-003", "NET-002", "NET-006"]


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


def test_network_service_is_left_to_cloud_init_where_nobody_knows_the_cards_name() -> None:
    text = (Path(__file__).parent.parent / "fixtures/guests/amzn2-network-service.yaml").read_text()
    changes = done(from_yaml(text.replace("net.ifnames=0", "quiet")), network_by_dhcp)
    assert outcome(changes)["/etc/sysconfig/network-scripts/ifcfg-eth0"] is None
    assert codes(changes) == ["NET-012"]


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


def test_wicked_is_left_to_cloud_init_and_told() -> None:
    suse = from_yaml(
        """
        os: {id: sles, version_id: "15.5"}
        files:
          /usr/lib/systemd/system/wicked.service: "[Install]\\nWantedBy=multi-user.target\\n"
          /etc/systemd/system/multi-user.target.wants/wicked.service: {link: /usr/lib/systemd/system/wicked.service}
          /etc/sysconfig/network/ifcfg-eth0: "IPADDR='10.0.0.4/24'\\nBOOTPROTO='static'\\n"
        """
    )
    changes = done(suse, network_by_dhcp)
    assert changes.effects == ()
    assert codes(changes) == ["NET-010"]


def test_files_elsewhere_that_name_the_old_network_are_told_with_their_lines() -> None:
    changes = done(guest("debian12-ifupdown-static"), network_by_dhcp)
    assert [finding.text for finding in changes.findings if finding.code == "NET-007"] == [
        '/etc/dhcp/dhclient.conf names ens192, which the new machine does not have: line 6: interface "ens192" {',
        "/etc/hosts names 10.20.30.40, which the new machine does not have: line 2: 10.20.30.40 web1.corp.example.com web1",
        "/etc/keepalived/keepalived.conf names ens192, 10.20.30.40, which the new machine does not have: "
        "line 3: interface ens192; line 5: unicast_src_ip 10.20.30.40",
    ]


def test_an_address_is_found_only_where_it_stands_for_itself() -> None:
    words = frozenset({"10.0.0.1", "ens192"})
    text = "a 10.0.0.1\nb 110.0.0.1\nc 10.0.0.11\nd 10.0.0.1/24\n# 10.0.0.1\ne ens192.20 ens1920\nf=ens192;\ng 10.0.0.1:80\n"
    assert [line for _, _, line in lines_with(text, words)] == [
        "a 10.0.0.1",
        "d 10.0.0.1/24",
        "f=ens192;",
        "g 10.0.0.1:80",
    ]


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


# The renderers' own parsers


def write(after: MemoryGuest, folder: Path, *below: str) -> Path:
    """Write what is below some folders of a guest to a folder of this machine."""
    for path, entry in after.tree.items():
        if not path.startswith(below):
            continue
        real = folder / path[1:]
        real.parent.mkdir(parents=True, exist_ok=True)
        match entry:
            case Folder():
                real.mkdir(exist_ok=True)
            case Link(target=target):
                real.symlink_to(target)
            case _:
                real.write_text((shown(entry) or "").replace(" /etc/network", f" {folder}/etc/network"))
                real.chmod(entry.mode)
    return folder


@pytest.mark.parametrize("name", ["debian12-ifupdown-static", "debian12-ifupdown-bond"])
def test_ifquery_reads_what_ifupdown_gets(run: Run, tmp_path: Path, name: str) -> None:
    after = applied(run, guest(name), network_by_dhcp)
    folder = write(after, tmp_path, "/etc/network")
    (folder / "etc/network/interfaces.d/50-cloud-init").write_text("auto ens3\niface ens3 inet dhcp\n")
    ifquery = ["ifquery", "-i", str(folder / "etc/network/interfaces")]
    listed = subprocess.run([*ifquery, "--list"], capture_output=True, text=True, check=True)
    assert listed.stderr == ""
    assert {"lo", "ens3"} <= set(listed.stdout.split())
    known = subprocess.run([*ifquery, "magalu"], capture_output=True, text=True, check=False)
    assert (known.returncode, known.stderr) == (0, "")


def test_networkings_drop_in_is_sound(run: Run, tmp_path: Path) -> None:
    after = applied(run, guest("debian12-ifupdown-static"), network_by_dhcp)
    folder = write(after, tmp_path, "/etc/systemd/system/networking.service.d")
    unit = folder / "etc/systemd/system/networking.service"
    unit.write_text("[Service]\nType=oneshot\nExecStart=/bin/true\n")
    said = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert str(folder) not in said.stderr


def test_netplan_makes_dhcp_for_both_of_its_backends(run: Run, tmp_path: Path) -> None:
    after = applied(run, guest("ubuntu2204-netplan-static"), network_by_dhcp)
    folder = write(after, tmp_path, "/etc/netplan")
    cloud = "network: {version: 2, ethernets: {ens3: {match: {macaddress: fa:16:3e:00:00:01}, set-name: ens3, dhcp4: true}}}\n"
    (folder / "etc/netplan/50-cloud-init.yaml").write_text(cloud)
    subprocess.run(["netplan", "generate", "--root-dir", str(folder)], check=True)
    made = {path.name: path.read_text() for path in (folder / "run/systemd/network").glob("*.network")}
    assert sorted(made) == [
        "10-netplan-br-inner.network",
        "10-netplan-ens3.network",
        "10-netplan-zz-magalu-en.network",
        "10-netplan-zz-magalu-eth.network",
    ]
    assert "Name=en*\n" in made["10-netplan-zz-magalu-en.network"]
    assert "DHCP=yes\n" in made["10-netplan-zz-magalu-en.network"]


def test_nmcli_reads_the_profile() -> None:
    command = ["nmcli", "--offline", "connection", "modify", "connection.zone", ""]
    read = subprocess.run(command, input=keyfiles.DHCP, capture_output=True, text=True, check=True)
    kept = [line for line in keyfiles.DHCP.splitlines() if line and not line.startswith("#")]
    assert [line for line in read.stdout.splitlines() if line in kept] == kept


ROOM = """
set -e
mkdir -p /run/netns /run/network
mount -t tmpfs none /run/netns; mount -t tmpfs none /run/network; mount -t tmpfs none /var/lib/dhcp
cp /etc/resolv.conf "$1/resolv.conf"; mount --bind "$1/resolv.conf" /etc/resolv.conf
ip link set lo up
ip netns add server
ip link add "$2" type veth peer name server0 netns server
ip netns exec server ip address add 10.9.0.1/24 dev server0
ip netns exec server ip link set server0 up
ip netns exec server dnsmasq --keep-in-foreground --port=0 --interface=server0 --bind-interfaces --user=root \\
    --dhcp-range=10.9.0.50,10.9.0.90,1h --leasefile-ro --dhcp-option=6,10.9.0.2 --log-facility="$1/dnsmasq.log" &
server=$!
sleep 1
ifup --interfaces="$1/etc/network/interfaces" --all 2>"$1/ifup.log"
ifquery --interfaces="$1/etc/network/interfaces" --state "$2"
ip -4 -oneline address show dev "$2" | awk '{print $4}'
pgrep --count --exact dhclient
grep nameserver /etc/resolv.conf
ifdown --interfaces="$1/etc/network/interfaces" --all 2>/dev/null
kill $server
"""
"""A network of its own with a DHCP server in it, where a card of a new name appears. What is printed is what became of the card."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("card", "cloud_init", "state"),
    [
        ("ens3", "", "ens3=magalu"),
        ("eth0", "", "eth0=magalu"),
        ("enp1s0", "auto enp1s0\niface enp1s0 inet dhcp\n", "enp1s0=enp1s0"),
        ("ens3", "allow-hotplug ens3\niface ens3 inet dhcp\n", "ens3=magalu"),
    ],
)  # fmt: skip
def test_ifupdown_brings_a_new_card_up_exactly_once(
    run: Run, tmp_path: Path, card: str, cloud_init: str, state: str
) -> None:
    folder = write(applied(run, guest("debian12-ifupdown-static"), network_by_dhcp), tmp_path, "/etc/network")
    if cloud_init:
        (folder / "etc/network/interfaces.d/50-cloud-init").write_text(cloud_init)
    room = [
        "unshare",
        "--mount",
        "--net",
        "--pid",
        "--fork",
        "--mount-proc",
        "bash",
        "-c",
        ROOM,
        "room",
        str(folder),
        card,
    ]
    said = subprocess.run(room, capture_output=True, text=True, check=True, timeout=60)
    shown, address, clients, server = said.stdout.split("\n")[:4]
    assert shown == state
    assert address.startswith("10.9.0.")
    assert (clients, server) == ("1", "nameserver 10.9.0.2")
