"""What else in /etc names the old network: where it is found, where it is not, and by whose name it is told."""

import hashlib

import pytest

from migrate.draft import Draft
from migrate.effects import Finding
from migrate.guest import File, Folder, Package
from migrate.guests.memory import Held, MemoryGuest, from_yaml
from remediations.network import network_by_dhcp, traces
from remediations.network.model import Form, Interface, Route
from remediations.network.software import software_of
from remediations.network.traces import Old, lines_with, old_of
from tests.remediation_guests import done, guest

CARD = Interface(
    "ens192",
    ("/x",),
    addresses=("10.0.0.1/24", "2001:db8::40/64"),
    gateways=("10.0.0.254",),
    dns=("10.0.0.53", "9.9.9.9"),
    routes=(Route("172.16.0.0/12", "10.0.0.253"),),
    macs=("00:50:56:aa:bb:cc",),
)
OLD = old_of((CARD,))


def told(name: str) -> list[Finding]:
    return [finding for finding in done(guest(name), network_by_dhcp).findings if finding.code == "NET-007"]


def hits(line: str, old: Old = OLD) -> tuple[str, ...]:
    return next((found for _, found, _ in lines_with(line, old)), ())


def test_what_is_looked_for_is_what_the_new_machine_does_not_have() -> None:
    assert old_of((CARD,)) == Old(
        frozenset({"10.0.0.1", "2001:db8::40", "10.0.0.254", "10.0.0.53"}),
        frozenset({"10.0.0.0/24", "2001:db8::/64"}),
        frozenset({"ens192"}),
        frozenset({"00:50:56:aa:bb:cc"}),
    )
    eth0 = Interface("eth0", ("/x",), addresses=("127.0.0.2/8", "10.0.0.1/32"))
    tunnel = Interface("wg0", ("/x",), Form.WIREGUARD, addresses=("10.99.0.1/24",), stays=True)
    assert old_of((eth0, tunnel)) == Old(frozenset({"10.0.0.1"}), frozenset({"127.0.0.0/8"}))


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("a 10.0.0.1", ("10.0.0.1",)),
        ("a 110.0.0.1", ()),
        ("a 10.0.0.11", ()),
        ("a 10.0.0.1.example.com", ()),
        ("v10.0.0.1", ()),
        ("a 10.0.0.1/24", ("10.0.0.0/24",)),
        ("a 10.0.0.1/32", ("10.0.0.1",)),
        ("allow 10.0.0.0/24;", ("10.0.0.0/24",)),
        ("/srv 10.0.0.0/255.255.255.0(ro)", ("10.0.0.0/24",)),
        ("a 10.0.0.0/16", ()),
        ("listen 10.0.0.1:80;", ("10.0.0.1",)),
        ("https://10.0.0.1:2379,https://10.0.0.254:2379", ("10.0.0.1", "10.0.0.254")),
        ("range 10.0.0.1-10.0.0.9", ("10.0.0.1",)),
        ("listen [2001:db8::40]:443", ("2001:db8::40",)),
        ("a 2001:0DB8:0:0:0:0:0:0040", ("2001:db8::40",)),
        ("a 2001:db8::401", ()),
        ("prefix 2001:db8:0:0::/64", ("2001:db8::/64",)),
        ("mac 00-50-56-AA-BB-CC", ("00:50:56:aa:bb:cc",)),
        ("mac 0050.56aa.bbcc", ("00:50:56:aa:bb:cc",)),
        ("iif ens192", ("ens192",)),
        ('<interface name="ens192"/>', ("ens192",)),
        ("net.ipv4.conf.ens192.rp_filter = 0", ("ens192",)),
        ("ens192.20 ens1920 xens192 ens192-old", ()),
        ("f=ens192;", ("ens192",)),
        ("# 10.0.0.1", ()),
        ("  ; 10.0.0.1", ()),
        ("nameserver 9.9.9.9", ()),
        ("nameserver 10.0.0.53", ("10.0.0.53",)),
    ],
)  # fmt: skip
def test_a_word_is_found_only_where_it_stands_for_itself(line: str, found: tuple[str, ...]) -> None:
    assert hits(line) == found


def test_a_name_that_could_be_any_word_is_found_only_where_a_name_belongs() -> None:
    old = old_of((Interface("uplink", ("/x",)),))
    assert hits("the uplink is slow", old) == ()
    assert hits("interface uplink", old) == ("uplink",)
    assert hits("tcpdump -i uplink", old) == ("uplink",)
    assert hits('iifname "uplink" accept', old) == ("uplink",)


def test_a_profiles_own_name_is_no_name_of_a_card() -> None:
    assert not old_of((Interface("Wired connection", ("/x",)),)).names & {"Wired connection"}
    assert hits("wired connection", old_of((Interface("wired connection", ("/x",)),))) == ()


def test_each_software_is_told_by_its_name_with_its_own_remedy() -> None:
    found = told("rocky9-net-software")
    assert [finding.text.partition(": /")[0] for finding in found if not finding.text.startswith("/")] == [
        "BIND and other name servers",
        "Corosync and Pacemaker",
        "Docker",
        "etcd",
        "firewalld (switched off)",
        "HAProxy",
        "keepalived",
        "Kubernetes",
        "NFS",
        "nftables",
        "nginx",
        "Oracle Database",
        "PostgreSQL",
        "the hosts file",
        "time servers",
    ]
    keepalived = next(finding for finding in found if finding.text.startswith("keepalived"))
    assert keepalived.text == (
        "keepalived: /etc/keepalived/keepalived.conf names ens192, 10.20.30.40, which the new machine does not have: "
        "line 2: interface ens192; line 3: unicast_src_ip 10.20.30.40"
    )
    assert "gratuitous ARP" in (keepalived.remedy or "")
    assert [finding.text for finding in found if finding.text.startswith("/")] == [
        "/etc/company/app.ini names ens192, which the new machine does not have: line 1: uplink=ens192",
        "/etc/dhcp-inventory names 00:50:56:aa:bb:cc, which the new machine does not have: "
        "line 1: web1 0050.56aa.bbcc 00-50-56-AA-BB-CC",
    ]


def test_ipv6_addresses_are_found_in_every_form() -> None:
    assert [finding.text.partition(" names ")[0].rpartition(" ")[2] for finding in told("debian12-net-ipv6-only")] == [
        "/etc/bind/named.conf.options",
        "/etc/nginx/sites-enabled/web",
        "/etc/hosts",
        "/etc/radvd.conf",
    ]


def test_a_file_as_its_package_brought_it_is_not_told() -> None:
    text = "listen 10.0.0.1\n"
    digest = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
    record = f"Package: app\nConffiles:\n /etc/app.conf {digest}\n /etc/changed.conf 0\n"
    held = Held(Package("app", "1", record=record))
    draft = Draft(
        MemoryGuest({"/etc/app.conf": File(text.encode()), "/etc/changed.conf": File(text.encode())}, packages=[held])
    )
    traces.tell(draft, (CARD,))
    assert [finding.text.split()[0] for finding in draft.changes.findings] == ["/etc/changed.conf"]


def test_a_look_ends_at_folders_and_files_that_nobody_writes_by_hand() -> None:
    many = {f"/etc/many/{number}": File(b"10.0.0.1") for number in range(traces.MOST_IN_FOLDER + 1)}
    draft = Draft(MemoryGuest({**many, "/etc/large": File(b"10.0.0.1\n" * 40000), "/etc/bin": File(b"\0 10.0.0.1")}))
    traces.tell(draft, (CARD,))
    assert [finding.text for finding in draft.changes.findings] == [
        "/etc/many holds 1,501 files, and is not searched for the old network"
    ]


def test_no_more_files_are_told_than_somebody_reads() -> None:
    files = {f"/etc/app{number:02}": File(b"10.0.0.1") for number in range(traces.MOST_FILES + 5)}
    draft = Draft(MemoryGuest({**files, "/etc": Folder()}))
    traces.tell(draft, (CARD,))
    texts = [finding.text for finding in draft.changes.findings]
    assert len(texts) == traces.MOST_FILES + 1
    assert sum(text.startswith("more than 40 files") for text in texts) == 1


def test_software_is_known_by_its_paths() -> None:
    assert software_of("/etc/haproxy/haproxy.cfg").name == "HAProxy"
    assert software_of("/etc/systemd/system/etcd.service.d/a.conf").name == "etcd"
    assert software_of("/etc/company.conf").name == ""


def test_what_is_quoted_holds_no_secret_of_its_file() -> None:
    before = from_yaml(
        """
        packages: {ifupdown: {version: 0.8.41, files: [/usr/sbin/ifup]}}
        files:
          /etc/network/interfaces: "auto eth0\\niface eth0 inet static\\n address 10.7.0.5/24\\n"
          /etc/ipsec.secrets: '10.7.0.5 : PSK "visible"'
          /etc/ppp/chap-secrets: "10.7.0.5 * visible *"
          /etc/snmp/snmpd.conf: "rocommunity visible 10.7.0.5"
          /etc/postfix/sasl_passwd: "[10.7.0.5]:587 user:visible"
          /etc/keepalived/keepalived.conf: "authentication { auth_pass visible } unicast_src_ip 10.7.0.5"
        """
    )
    told = [finding.text for finding in done(before, network_by_dhcp).findings if finding.code == "NET-007"]
    assert len(told) >= 4
    assert not any("visible" in text for text in told)
