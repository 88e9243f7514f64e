"""What Magalu Cloud needs a guest to have is there afterwards, as far as it can be had; and what cannot is told."""

import pytest

from fixtures.guests import guest
from migrate.draft import Draft
from migrate.effects import Changes, PackageEdit
from migrate.guest import Package
from migrate.guests.memory import MemoryGuest, from_yaml
from migrate.run import Run
from remediations.needed_packages import install_cloud_init, packages_for, wanted
from remediations.network import network_by_dhcp
from tests.remediation_guests import applied, codes, done


def installs(to: MemoryGuest) -> list[list[str]]:
    effects = done(to, install_cloud_init).effects
    return [
        [package.name for package in effect.change.install] for effect in effects if isinstance(effect, PackageEdit)
    ]


def test_everything_that_is_missing_comes_in_one_transaction() -> None:
    assert installs(guest("debian11-vmware-tarball")) == [
        [
            "cloud-guest-utils",
            "cloud-init",
            "isc-dhcp-client",
            "openssh-server",
            "openssh-sftp-server",
            "sudo",
        ]
    ]


NETWORKD = """
os: {id: debian, version_id: "12"}
packages:
  cloud-init: {version: "22"}
  cloud-guest-utils: {version: "0"}
  openssh-server: {version: "9"}
  sudo: {version: "1"}
  systemd:
    version: "252"
    files:
      /lib/systemd/system/systemd-networkd.service: "[Install]\\nWantedBy=multi-user.target\\n"
files:
  /etc/systemd/system/multi-user.target.wants/systemd-networkd.service: {link: /lib/systemd/system/systemd-networkd.service}
  /etc/systemd/network/10-lan.network: "[Match]\\nName=ens192\\n[Network]\\nAddress=10.0.0.5/24\\n"
  /etc/resolv.conf: "nameserver 10.0.0.2\\n"
"""


def test_systemd_networkd_gets_the_resolver_that_it_needs_and_its_lack_is_told() -> None:
    offered = NETWORKD + 'available: {systemd-resolved: {version: "252"}}\n'
    changes = done(from_yaml(offered), network_by_dhcp, install_cloud_init)
    installed = [effect.change.install for effect in changes.effects if isinstance(effect, PackageEdit)]
    assert [[package.name for package in packages] for packages in installed] == [["systemd-resolved"]]
    assert codes(changes) == []
    assert codes(done(from_yaml(NETWORKD), network_by_dhcp, install_cloud_init)) == ["NET-008"]


def test_what_is_there_is_not_installed_again() -> None:
    assert installs(guest("ubuntu2204-vmware-lvm")) == []
    assert installs(guest("rocky8-vmware-bls")) == [["cloud-init", "cloud-utils-growpart", "openssh-server"]]


def test_the_other_dhcp_client_serves_where_the_first_cannot_be_had() -> None:
    text = """
packages: {ifupdown: {files: [/sbin/ifup]}, sudo: {}, cloud-init: {}, cloud-guest-utils: {}, openssh-server: {}}
available: {dhcpcd-base: {}}
files:
  /lib/systemd/system/networking.service: "[Install]\\nWantedBy=multi-user.target\\n"
  /etc/systemd/system/multi-user.target.wants/networking.service: {link: /lib/systemd/system/networking.service}
  /etc/network/interfaces: "auto eth0\\niface eth0 inet dhcp\\n"
"""
    assert installs(from_yaml(text)) == [["dhcpcd-base"]]


# What cannot be had

NOTHING = "os: {id: debian, version_id: '12'}\nfiles: {/usr/sbin/sshd: x}\navailable: {}\n"


def told(changes: Changes) -> dict[str, str]:
    return {finding.code: finding.text for finding in changes.findings}


def test_what_can_be_had_is_installed_and_the_rest_is_told() -> None:
    changes = done(from_yaml(NOTHING.replace("available: {}", "available: {sudo: {}}")), install_cloud_init)
    (effect,) = changes.effects
    assert isinstance(effect, PackageEdit) and [package.name for package in effect.change.install] == ["sudo"]
    assert told(changes) == {
        "CLOUD-006": "cloud-init is not there and cannot be had, so nothing but a small unit of ours sets the instance up "
        "(the guest's repositories have no cloud-guest-utils, cloud-init)",
        "CLOUD-008": "cloud-guest-utils is not there and cannot be had: the root may keep its size "
        "(the guest's repositories have no cloud-guest-utils, cloud-init)",
    }


def test_without_an_ssh_server_the_guest_is_refused() -> None:
    changes = done(from_yaml("os: {id: debian, version_id: '12'}\navailable: {cloud-init: {}}\n"), install_cloud_init)
    assert [(f.code, f.severity.value) for f in changes.findings if f.severity.value == "error"] == [
        ("SSH-013", "error")
    ]


def test_a_guest_whose_user_could_never_become_root_is_told_so() -> None:
    changes = done(from_yaml(NOTHING.replace("{}", "{cloud-init: {}, cloud-guest-utils: {}}")), install_cloud_init)
    assert told(changes) == {
        "CLOUD-010": "sudo is not there and cannot be had: a user with the key cannot become root without root's password "
        "(the guest's repositories have no sudo)"
    }


def test_a_program_that_is_there_without_its_package_is_not_asked_for() -> None:
    to = from_yaml(
        f"{NOTHING}".replace(
            "/usr/sbin/sshd: x", "/usr/sbin/sshd: x, /usr/bin/cloud-init: x, /usr/bin/growpart: x, /usr/bin/sudo: x"
        )
    )
    assert done(to, install_cloud_init) == Changes()


def test_a_distribution_that_is_not_known_gets_nothing_and_is_told() -> None:
    changes = done(from_yaml("os: {id: homemade, packaging: none}\nfiles: {/usr/sbin/sshd: x}\n"), install_cloud_init)
    assert (changes.effects, codes(changes)) == ((), ["CLOUD-004", "CLOUD-006", "CLOUD-008"])


@pytest.mark.parametrize(
    ("os", "first"),
    [
        ("{id: photon, packaging: rpm}", ("cloud-init", "cloud-utils")),
        ("{id: amzn, id_like: [fedora]}", ("cloud-init", "cloud-utils-growpart")),
        ("{id: azurelinux, packaging: rpm}", ("cloud-init", "cloud-utils-growpart")),
        ("{id: opensuse-leap, id_like: [suse, opensuse]}", ("cloud-init", "growpart")),
        ("{id: alpine}", ("cloud-init", "cloud-utils-growpart")),
        ("{id: arch}", ("cloud-init", "cloud-guest-utils")),
        ("{id: devuan, id_like: [debian]}", ("cloud-init", "cloud-guest-utils")),
    ],
)
def test_packages_are_asked_for_by_the_names_that_the_distribution_gives_them(os: str, first: tuple[str, str]) -> None:
    assert tuple(wanted(Draft(from_yaml(f"os: {os}\nfiles: {{/etc/hostname: x}}\n"))).values())[1::2] == first


def test_a_bundle_holds_what_any_guest_of_its_release_may_be_given() -> None:
    assert packages_for("ubuntu") == (
        ("openssh-server", "cloud-init", "sudo", "cloud-guest-utils"),
        ("isc-dhcp-client", "dhcpcd-base", "systemd-resolved"),
    )
    assert packages_for("rocky") == (("openssh-server", "cloud-init", "sudo", "cloud-utils-growpart"), ())
    assert packages_for("sles")[0][0] == "openssh"


def test_packages_that_do_not_fit_on_the_root_are_not_installed() -> None:
    text = """
os: {id: debian, version_id: "12"}
layout: {filesystems: [{device: /dev/sda1, type: ext4, size: 1GiB, mountpoint: /, free: 70MiB}]}
files: {/usr/sbin/sshd: x, /usr/bin/sudo: x}
available: {cloud-init: {installed: 5MiB}, cloud-guest-utils: {installed: 2MiB}}
"""
    assert [package.name for package in planned(from_yaml(text))] == ["cloud-init"]
    changes = done(from_yaml(text), install_cloud_init)
    assert told(changes)["CLOUD-008"].endswith("(the packages take 7 MiB, and only 70 MiB are free on the root)")


def planned(to: MemoryGuest) -> list[Package]:
    return [
        package
        for effect in done(to, install_cloud_init).effects
        if isinstance(effect, PackageEdit)
        for package in effect.change.install
    ]


# Recent enough

OLD = """
os: {id: centos, version_id: "7", id_like: [rhel]}
packages: {cloud-init: {version: 0.7.5-10.el7, files: [/usr/bin/cloud-init]}, cloud-utils-growpart: , openssh-server: , sudo: }
available: {cloud-init: {version: NEW, files: [/usr/bin/cloud-init]}}
"""


def test_a_cloud_init_that_is_too_old_is_renewed(run: Run) -> None:
    to = applied(run, from_yaml(OLD.replace("NEW", "0.7.10-1.el7")), install_cloud_init)
    assert to.packages["cloud-init"].version == "0.7.10-1.el7"


@pytest.mark.parametrize(
    ("new", "why"), [("0.7.5-10.el7", "cloud-init 0.7.5-10.el7 is the newest there"), ("0.7.6-1", None)]
)
def test_one_that_stays_too_old_is_told(new: str, why: str | None) -> None:
    changes = done(from_yaml(OLD.replace("NEW", new)), install_cloud_init)
    version = "0.7.5-10.el7" if why else new
    assert told(changes) == {
        "CLOUD-011": f"cloud-init {version} is older than 0.7.9, takes `locale: false` for a language, and knows neither ds-identify nor the "
        f"apt section; and no newer one can be had{f' ({why})' if why else ''}"
    }


def test_one_that_is_recent_enough_is_left() -> None:
    assert done(from_yaml(OLD.replace("0.7.5-10", "0.7.9-24").replace("NEW", "24.4")), install_cloud_init).effects == ()
