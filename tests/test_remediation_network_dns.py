"""Name servers: what DHCP says about them counts, and something writes it down."""

import pytest

from migrate.draft import Draft
from migrate.guests.memory import from_yaml
from remediations.network import dns
from remediations.network.dns import Writer
from tests.remediation_guests import outcome

RESOLVED = """
  /lib/systemd/system/systemd-resolved.service: "[Install]\\nWantedBy=sysinit.target\\n"
  /etc/systemd/system/sysinit.target.wants/systemd-resolved.service: {link: /lib/systemd/system/systemd-resolved.service}
"""
STUB = "-> ../run/systemd/resolve/stub-resolv.conf"


def resolv(content: str, writer: Writer, more: str = "") -> str | None:
    """Return what becomes of a guest's resolv.conf; "as it was" where nothing does."""
    draft = Draft(from_yaml(f"files:\n  /etc/resolv.conf: {content}\n{more}"))
    dns.by_dhcp(draft, writer)
    return outcome(draft.changes).get("/etc/resolv.conf", "as it was")


@pytest.mark.parametrize(
    ("content", "writer", "more", "after"),
    [
        ('"nameserver 10.0.0.2\\nsearch a.example\\n"', Writer.CLIENT, "", "search a.example\n"),
        ('"nameserver 10.0.0.2\\n"', Writer.RESOLVED, RESOLVED, STUB),
        ('"nameserver 10.0.0.2\\n"', Writer.NETCONFIG, "", None),
        ('"nameserver 9.9.9.9\\n"', Writer.NETCONFIG, "", "as it was"),
        ('"nameserver 9.9.9.9\\n"', Writer.RESOLVED, RESOLVED, "as it was"),
        ('"nameserver 168.63.129.16\\nsearch x.y.internal.cloudapp.net corp.example\\n"', Writer.CLIENT, "", "search corp.example\n"),
        ('"nameserver 127.0.0.1\\nsearch ec2.internal\\n"', Writer.CLIENT, "", "nameserver 127.0.0.1\n"),
        ("{link: ../run/systemd/resolve/stub-resolv.conf}", Writer.RESOLVED, RESOLVED, "as it was"),
        ("{link: ../run/systemd/resolve/stub-resolv.conf}", Writer.NETWORKMANAGER, RESOLVED, "as it was"),
        ("{link: ../run/systemd/resolve/stub-resolv.conf}", Writer.NETWORKMANAGER, "", None),
        ("{link: ../run/systemd/resolve/stub-resolv.conf}", Writer.RESOLVED, "", "as it was"),
        ("{link: /run/NetworkManager/resolv.conf}", Writer.NETWORKMANAGER, "", "as it was"),
        ("{link: /run/NetworkManager/resolv.conf}", Writer.RESOLVED, RESOLVED, STUB),
        ("{link: /run/NetworkManager/resolv.conf}", Writer.CLIENT, "", None),
        ("{link: /run/resolvconf/resolv.conf}", Writer.CLIENT, '  /sbin/resolvconf: ""\n', "as it was"),
        ("{link: /run/resolvconf/resolv.conf}", Writer.CLIENT, "", None),
        ("{link: /run/netconfig/resolv.conf}", Writer.NETCONFIG, "", "as it was"),
        ("{link: /run/company/resolv.conf}", Writer.CLIENT, "", "as it was"),
        ("{link: /nowhere}", Writer.CLIENT, "", None),
        ("{link: /etc/resolv.conf}", Writer.CLIENT, "", None),
        ("{other: true}", Writer.CLIENT, "", "as it was"),
    ],
)  # fmt: skip
def test_resolv_conf_is_written_by_somebody_on_the_new_machine(
    content: str, writer: Writer, more: str, after: str | None
) -> None:
    assert resolv(content, writer, more) == after


def test_a_link_to_a_file_of_the_guests_own_is_followed() -> None:
    draft = Draft(
        from_yaml('files: {/etc/resolv.conf: {link: resolv.mine}, /etc/resolv.mine: "nameserver 10.0.0.2\\n"}')
    )
    dns.by_dhcp(draft, Writer.CLIENT)
    assert outcome(draft.changes) == {"/etc/resolv.mine": ""}


@pytest.mark.parametrize(
    ("text", "silences"),
    [
        ("make_resolv_conf() { :; }\n", True),
        ("#!/bin/sh\n# no\nmake_resolv_conf(){\n    :\n}\n", True),
        ("function make_resolv_conf {\n  return 0\n}\n", True),
        ("make_resolv_conf() {\n  local R\n  resolvconf -a eth0\n}\n", False),
        ("make_resolv_conf() { :; }\nlogger hello\n", False),
        ("", False),
    ],
)  # fmt: skip
def test_a_hook_that_only_keeps_dhclient_from_writing_resolv_conf_is_known(text: str, silences: bool) -> None:
    assert dns.silences(text) is silences


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('NETCONFIG_DNS_POLICY=""\n', "NETCONFIG_DNS_POLICY=auto\n"),
        ('NETCONFIG_DNS_POLICY="STATIC *"\n', 'NETCONFIG_DNS_POLICY="STATIC *"\n'),
        ("NETCONFIG_DNS_STATIC_SERVERS='10.0.0.2'\n", "NETCONFIG_DNS_STATIC_SERVERS=''\n"),
        ("NETCONFIG_DNS_STATIC_SERVERS='9.9.9.9'\n", "NETCONFIG_DNS_STATIC_SERVERS='9.9.9.9'\n"),
    ],
)  # fmt: skip
def test_netconfig_takes_what_dhcp_says(before: str, after: str) -> None:
    assert dns.without_old_netconfig(before) == after
