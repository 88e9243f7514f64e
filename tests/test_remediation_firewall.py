"""The guest's own firewall is off, its rules are kept and told."""

import pytest

from migrate.guests.memory import from_yaml
from migrate.run import Run
from remediations.firewall import disable_firewall, iptables_rules, nft_rules, ufw_rules, zone_rules
from tests.remediation_guests import applied, codes, done, guest, outcome

ADMINS = "/etc/systemd/system/multi-user.target.wants"


def test_every_firewall_that_something_starts_is_switched_off_and_its_files_stay(run: Run) -> None:
    before = guest("debian12-firewalls")
    assert outcome(done(before, disable_firewall)) == {
        "/etc/ufw/ufw.conf": "# /etc/ufw/ufw.conf\n# Set to yes to start on boot. ENABLED=yes\nENABLED=no\nLOGLEVEL=low\n",
        f"{ADMINS}/ufw.service": None,
        f"{ADMINS}/firewalld.service": None,
        "/etc/systemd/system/dbus-org.fedoraproject.FirewallD1.service": None,
        "/etc/systemd/system/sysinit.target.wants/nftables.service": None,
        f"{ADMINS}/netfilter-persistent.service": None,
    }
    applied(run, before, disable_firewall)


def test_the_rules_are_told_so_that_security_groups_can_be_made_of_them() -> None:
    changes = done(guest("debian12-firewalls"), disable_firewall)
    assert [(finding.code, finding.text) for finding in changes.findings] == [
        (
            "FW-001",
            "ufw was switched off; its rules were: allow tcp 22 10.0.0.0/8 any 0.0.0.0/0 in; "
            "allow any 80,443 0.0.0.0/0 any 0.0.0.0/0 in",
        ),
        ("FW-001", "firewalld was switched off; its rules were: service ssh; port 8080 tcp"),
        (
            "FW-001",
            "nftables was switched off; its rules were: type filter hook input priority 0; policy drop;; "
            "tcp dport { 22, 443 } accept; "
            'chain post { type nat hook postrouting priority 100; oifname "ens192" masquerade; }',
        ),
        (
            "FW-002",
            "nftables also forwarded or translated addresses for other machines, and does no more: "
            'chain post { type nat hook postrouting priority 100; oifname "ens192" masquerade; }',
        ),
        (
            "FW-001",
            "iptables-persistent was switched off; its rules were: :INPUT DROP [0:0]; "
            "-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT",
        ),
        ("FW-003", "fail2ban stays on, and locks out addresses from which too many logins fail"),
        (
            "FW-004",
            "/etc/network/if-pre-up.d/iptables:3 loads firewall rules at boot, and still does: "
            "/sbin/iptables-restore < /etc/iptables.up.rules",
        ),
    ]


def test_ubuntus_ufw_which_is_started_and_does_nothing_is_left_alone() -> None:
    ubuntu = from_yaml(
        """
        files:
          /lib/systemd/system/ufw.service: "[Install]\\nWantedBy=multi-user.target\\n"
          /etc/systemd/system/multi-user.target.wants/ufw.service: {link: /lib/systemd/system/ufw.service}
          /etc/ufw/ufw.conf: "ENABLED=no\\n"
        """
    )
    changes = done(ubuntu, disable_firewall)
    assert (changes.effects, changes.findings) == ((), ())


def test_a_script_of_init_is_not_started_any_more() -> None:
    old = from_yaml(
        """
        files:
          /etc/init.d/iptables: "#!/bin/sh\\n"
          /etc/rc.d/rc3.d/S08iptables: {link: ../init.d/iptables}
          /etc/rc.d/rc0.d/K92iptables: {link: ../init.d/iptables}
        """
    )
    changes = done(old, disable_firewall)
    assert outcome(changes) == {"/etc/rc.d/rc3.d/S08iptables": None}
    assert codes(changes) == ["FW-001"]


def test_rules_are_read_by_their_formats() -> None:
    assert iptables_rules("*nat\n:PREROUTING ACCEPT [0:0]\n# -A no\n-A POSTROUTING -j MASQUERADE\nCOMMIT\n") == (
        "-A POSTROUTING -j MASQUERADE",
    )
    assert nft_rules("chain o { type filter hook output priority 0; policy accept; }\n# drop\n") == ()
    assert ufw_rules("### RULES ###\n") == ()


@pytest.mark.parametrize("text", ["<zone", "", '<!DOCTYPE z [<!ENTITY a "b">]><zone><x y="&a;"/></zone>'])
def test_a_zone_that_is_no_zone_has_no_rules(text: str) -> None:
    assert zone_rules(text) == ()
