"""Nobody asks a clock that only the old cloud has, and everybody still asks somebody."""

import pytest

from fixtures.guests import guest
from migrate.guest import Os
from migrate.guests.memory import from_yaml
from remediations import VENDORS
from remediations.vendors import public_time_servers
from remediations.vendors.clocks import pool, sources, without_clocks, without_servers
from tests.remediation_guests import done, outcome

TIME = public_time_servers(VENDORS)


@pytest.mark.parametrize(
    "line",
    [
        "refclock PHC /dev/ptp_hyperv poll 3 dpoll -2 offset 0 stratum 2",
        "  RefClock  PHC\t/dev/ptp_hyperv:extpps",
        "refclock PHC /dev/ptp0",
        "server 169.254.169.123 prefer iburst minpoll 4 maxpoll 4",
        "pool 169.254.169.123",
        "server metadata.google.internal prefer iburst",
    ],
)
def test_a_clouds_clock_goes(line: str) -> None:
    assert without_clocks(f"a\n{line}\r\nb", VENDORS) == "a\nb"


@pytest.mark.parametrize(
    "line",
    [
        "# refclock PHC /dev/ptp_hyperv",
        "refclock PHC /dev/ptp_hyperv2",
        "refclock SHM 0",
        "server 169.254.169.1234",
        "server",
        "allow 169.254.169.123",
    ],
)
def test_other_lines_stay(line: str) -> None:
    assert without_clocks(line, VENDORS) == line


def test_where_no_other_source_is_left_the_distributions_servers_are_asked_in_the_same_file() -> None:
    changes = done(guest("ubuntu2204-azure-marketplace"), TIME)
    assert outcome(changes) == {
        "/etc/chrony/chrony.conf": "confdir /etc/chrony/conf.d\nmakestep 1.0 -1\npool ntp.ubuntu.com iburst\n"
    }
    assert [(finding.code, finding.text) for finding in changes.findings] == [
        ("TIME-001", "chrony had no other source of time than the old cloud's; it asks ntp.ubuntu.com instead.")
    ]


def test_where_another_source_is_left_in_any_file_nothing_is_added() -> None:
    changes = done(guest("rhel9-azure-rhui"), TIME)
    assert outcome(changes) == {
        "/etc/chrony.conf": "pool 2.rhel.pool.ntp.org iburst\n",
        "/etc/chrony.d/azure.conf": "",
    }
    assert changes.findings == ()


def test_ntpd_s_clock_in_the_machine_is_no_source_and_it_knows_no_pool_of_old() -> None:
    to = from_yaml(
        'os: {id: centos, id_like: [rhel], version_id: "7"}\n'
        'files: {/etc/ntp.conf: "server 127.127.1.0\\nserver 169.254.169.123"}\n'
    )
    assert outcome(done(to, TIME)) == {"/etc/ntp.conf": "server 127.127.1.0\nserver 2.centos.pool.ntp.org iburst\n"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[Time]\nNTP=169.254.169.123\n", "[Time]\n"),
        (
            "[Time]\nNTP=169.254.169.123 ntp.empresa.example\nFallbackNTP=a\n",
            "[Time]\nNTP=ntp.empresa.example\nFallbackNTP=a\n",
        ),
        ("[Time]\n#NTP=169.254.169.123\nNTP=\n", "[Time]\n#NTP=169.254.169.123\nNTP=\n"),
        ("[Time]\nFallbackNTP=metadata.google.internal\\\n  x\n", "[Time]\nFallbackNTP=x\n"),
    ],
)
def test_timesyncd_asks_what_it_was_built_with_where_nothing_is_named(before: str, after: str) -> None:
    assert without_servers(before, VENDORS) == after


@pytest.mark.parametrize(
    ("os", "server"),
    [
        (Os("debian"), "2.debian.pool.ntp.org"),
        (Os("ubuntu", ("debian",)), "ntp.ubuntu.com"),
        (Os("rocky", ("rhel",)), "2.rocky.pool.ntp.org"),
        (Os("ol", ("fedora",)), "2.pool.ntp.org"),
        (Os("amzn", ("centos", "rhel", "fedora")), "2.amazon.pool.ntp.org"),
        (Os("sles", ("suse",)), "2.opensuse.pool.ntp.org"),
        (Os("opensuse-leap", ("suse", "opensuse")), "2.opensuse.pool.ntp.org"),
        (Os("kali", ("debian",)), "2.debian.pool.ntp.org"),
        (Os("photon"), "2.pool.ntp.org"),
    ],
)
def test_each_distribution_has_its_own_servers(os: Os, server: str) -> None:
    assert pool(os) == server


def test_what_is_asked_is_read_as_the_programs_do() -> None:
    assert sources("server a\n#server b\n POOL c iburst\npeer d\nrefclock PPS e\nserver 127.127.1.0\nserver\n") == (
        "a",
        "c",
        "d",
        "PPS",
    )
