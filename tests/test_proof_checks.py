"""The claims of the proof and the reasons of its failure, on what boots showed."""

from dataclasses import replace

import pytest

from migrate.proof.checks import claims
from migrate.proof.excuses import excuse
from migrate.proof.facts import Address, CloudInit, Device, Facts
from migrate.proof.metadata import Request
from migrate.proof.observed import Observed, Wanted
from migrate.proof.proof import Claim, Proof, to_json
from migrate.proof.reasons import reasons
from migrate.source import Firmware

GIB = 1 << 30
MAC = "c2:8d:df:25:94:84"
WANTED = Wanted(MAC, "openstack", 2 * GIB, 6 * GIB, True, "debian")
DISK = Device("vda", "disk", 6 * GIB, (Device("vda1", "part", 1 << 20), Device("vda2", "part", 6 * GIB - (3 << 20))))
FACTS = Facts(
    user="debian",
    clock=1795408549.0,
    system_state="running",
    uptime=95.0,
    cloud_init=CloudInit(True, True, "DataSourceOpenStackLocal [net,ver=2]", finished=1795408559.0),
    addresses=(Address("ens3", MAC, "10.0.2.15", True),),
    root_source="/dev/vda2",
    root_type="ext4",
    root_size=int(5.87 * GIB),
    root_device=DISK.children[1],
    disks=(DISK,),
    host_keys={"ssh_host_ed25519_key.pub": 1795408541.0},
)


def seen(facts: Facts | None = FACTS) -> Observed:
    """A boot that went well, as far as it was seen from outside; it was logged in to at 90 s."""
    return Observed(
        firmware_at=0.2,
        kernel_at=8.3,
        kernel="6.1.0-56-cloud-amd64",
        dhcp_asked_at=41.0,
        dhcp_given_at=41.5,
        address="10.0.2.15",
        address_used_at=42.0,
        spoke_as=("10.0.2.15",),
        packets=300,
        requests=(Request("/openstack", 200, 47.0), Request("/openstack/2018-08-27/meta_data.json", 200, 47.3)),
        banner_at=89.8,
        banner="SSH-2.0-OpenSSH_9.2p1",
        login_at=90.0,
        user="debian",
        facts=facts,
        facts_at=105.7,
    )


def claim(name: str, boot: Observed, wanted: Wanted = WANTED) -> Claim:
    return next(claim for claim in claims(boot, wanted) if claim.name == name)


def failed(boot: Observed, wanted: Wanted = WANTED) -> dict[str, str]:
    return {claim.name: claim.evidence for claim in claims(boot, wanted) if claim.needed and not claim.held}


def test_a_good_boot_holds_with_the_time_of_each_claim() -> None:
    checked = claims(seen(), WANTED)
    assert {claim.name: claim.seconds for claim in checked} == {
        "kernel": 8.3,
        "dhcp": 41.5,
        "metadata": 47.3,
        "sshd": 89.8,
        "host-keys": 82.0,
        "login": 90.0,
        "cloud-init": 100.0,
        "root-grew": 105.7,
        "units": 105.7,
        "devices": 105.7,
        "console": 8.3,
    }
    assert failed(seen()) == {}
    assert reasons(seen(), checked) == ()


def test_host_keys_that_came_with_the_image_do_not_hold() -> None:
    old = replace(FACTS, host_keys={"ssh_host_ed25519_key.pub": 1795408541.0, "ssh_host_rsa_key.pub": 1795000000.0})
    assert failed(seen(old)) == {
        "host-keys": "older than this boot, so every instance would have them: ssh_host_rsa_key.pub"
    }


def test_a_key_that_admits_another_user_than_was_promised_does_not_hold() -> None:
    assert failed(replace_user(seen(), "root")) == {"login": "as root"}
    anybody = replace(WANTED, user=None)
    assert failed(replace_user(seen(), "root"), anybody) == {}


def replace_user(boot: Observed, user: str) -> Observed:
    boot.user = user
    return boot


def test_a_fixed_address_is_found_out_although_the_guest_took_a_lease_on_the_way() -> None:
    """An initramfs or cloud-init asks for a lease; the system then configures what it always had."""
    fixed = replace(FACTS, addresses=(Address("ens3", MAC, "192.168.10.20", False),))
    assert failed(seen(fixed)) == {"dhcp": "10.0.2.15 was given, and is on none of its cards now"}


def test_an_address_without_a_lease_time_is_told() -> None:
    assert claim("dhcp", seen(replace(FACTS, addresses=(Address("ens3", MAC, "10.0.2.15", False),)))).evidence == (
        f"10.0.2.15 on ens3, {MAC}, with no lease time"
    )


def test_the_word_error_of_cloud_init_is_told_in_detail_and_does_not_decide() -> None:
    error = "('locale', ProcessExecutionError('update-locale'))"
    facts = replace(
        FACTS,
        system_state="degraded",
        failed_units=("cloud-config.service",),
        cloud_init=replace(
            FACTS.cloud_init, errors=(error,), warnings=("util.py[WARNING]: Running module locale failed",)
        ),
    )
    assert failed(seen(facts)) == {}
    assert claim("cloud-init", seen(facts)).evidence == (
        f"datasource DataSourceOpenStackLocal [net,ver=2]; it reports: {error}; "
        "its log: util.py[WARNING]: Running module locale failed"
    )
    assert claim("units", seen(facts)).evidence == (
        "system is degraded; cloud-config.service failed, as it may: "
        "the locale that cloud-init wants is not generated in this guest"
    )


@pytest.mark.parametrize(
    ("state", "evidence"),
    [
        (CloudInit(), "it is not installed"),
        (CloudInit(installed=True), "it had not finished when the proof ended, or never ran"),
        (CloudInit(True, True, "DataSourceNone"), "datasource DataSourceNone"),
        (CloudInit(True, True, ""), "datasource not named"),
    ],
)
def test_a_cloud_init_that_did_not_find_openstack_does_not_hold(state: CloudInit, evidence: str) -> None:
    assert failed(seen(replace(FACTS, cloud_init=state))) == {"cloud-init": evidence}


def test_a_unit_of_ours_that_set_up_this_instance_holds_in_place_of_cloud_init() -> None:
    wanted = replace(WANTED, instance="0f2c1d3e")
    facts = replace(FACTS, cloud_init=CloudInit(), set_up_as="0f2c1d3e")
    found = claim("cloud-init", seen(facts), wanted)
    assert found.held and found.evidence == "it is not installed; a unit of ours has set up this instance in its place"
    for other in (replace(facts, set_up_as="another"), replace(facts, cloud_init=CloudInit(installed=True))):
        assert not claim("cloud-init", seen(other), wanted).held
    assert not claim("cloud-init", seen(replace(facts, set_up_as="")), replace(wanted, instance="")).held


def test_a_unit_that_failed_does_not_hold_and_one_that_must_fail_here_is_excused() -> None:
    facts = replace(FACTS, system_state="degraded", failed_units=("vgauth.service", "apt-daily.service"))
    assert failed(seen(facts)) == {
        "units": "failed: vgauth.service; apt-daily.service failed, as it may: there are no package repositories here"
    }


def test_a_stage_of_cloud_init_is_excused_for_modules_that_are_known_only() -> None:
    known, unknown = "('locale', X())", "('runcmd', X())"
    assert excuse("cloud-config.service", CloudInit(True, True, "x", (known,))) is not None
    assert excuse("cloud-config.service", CloudInit(True, True, "x", (known, unknown))) is None
    assert excuse("cloud-config.service", CloudInit(True, True, "x", ())) is None
    assert excuse("cloud-config.service", CloudInit(True, False, "", (known,))) is None


def test_a_device_that_never_came_does_not_hold() -> None:
    facts = replace(
        FACTS,
        waited_for=("Timed out waiting for device dev-sda3.device - /dev/sda3.",),
        jobs=("dev-sdb1.device start",),
    )
    assert failed(seen(facts)) == {
        "devices": "Timed out waiting for device dev-sda3.device - /dev/sda3.; still waiting: dev-sdb1.device start"
    }


def test_a_disk_that_fstab_lets_be_missing_is_told_and_holds() -> None:
    """forget-missing-devices writes so of disks that did not come along."""
    lines = (
        "Timed out waiting for device dev-nvme1n1.device - /dev/nvme1n1.",
        "Dependency failed for systemd-fsck@dev-nvme1n1.service - File System Check on /dev/nvme1n1.",
        "Dependency failed for srv-dados.mount - /srv/dados.",
    )
    optional = replace(FACTS, waited_for=lines, optional=frozenset({"/dev/nvme1n1", "/srv/dados"}))
    assert failed(seen(optional)) == {}
    evidence = claim("devices", seen(optional)).evidence
    assert evidence == "no job is left; not there, as fstab allows (nofail): /dev/nvme1n1, /srv/dados"
    assert failed(seen(replace(optional, optional=frozenset({"/dev/nvme1n1"})))) == {"devices": lines[2]}


def test_a_partition_that_was_not_grown_does_not_hold() -> None:
    small = Device("vda2", "part", 2 * GIB)
    facts = replace(
        FACTS, root_size=int(1.9 * GIB), root_device=small, disks=(Device("vda", "disk", 6 * GIB, (small,)),)
    )
    assert failed(seen(facts)) == {
        "root-grew": "root is 1.9 GiB of a disk of 6 GiB (image: 2 GiB); 4 GiB of vda belong to nothing"
    }


def test_a_file_system_that_was_not_grown_in_its_partition_does_not_hold() -> None:
    assert failed(seen(replace(FACTS, root_size=int(1.9 * GIB)))) == {
        "root-grew": "root is 1.9 GiB of a disk of 6 GiB (image: 2 GiB); the file system is smaller than vda2, 6 GiB"
    }


def lvm(root: int, *others: int) -> Facts:
    """A root on LVM, in GiB, with other volumes beside it in a partition that fills the disk."""
    volume = Device("vg-root", "lvm", root * GIB)
    beside = tuple(Device(f"vg-{number}", "lvm", gib * GIB) for number, gib in enumerate(others))
    partition = Device("vda2", "part", 6 * GIB - (1 << 20), (volume, *beside))
    disk = Device("vda", "disk", 6 * GIB, (partition,))
    chain = replace(volume, children=(replace(partition, children=(replace(disk, children=()),)),))
    return replace(FACTS, root_size=int(root * GIB * 0.97), root_device=chain, disks=(disk,))


def test_a_root_on_lvm_holds_when_the_volume_group_is_used_up() -> None:
    facts = lvm(5, 1)
    assert claim("root-grew", seen(facts)).held


def test_a_root_on_lvm_that_was_not_grown_is_told_and_decides_only_where_it_was_promised() -> None:
    facts = lvm(2)
    assert failed(seen(facts)) == {
        "root-grew": "root is 1.94 GiB of a disk of 6 GiB (image: 2 GiB); 4 GiB of vda2 belong to nothing"
    }
    assert failed(seen(facts), replace(WANTED, root_grows=False)) == {}


def test_a_guest_that_says_nothing_of_itself_holds_nothing() -> None:
    assert set(failed(seen(Facts()))) == {"dhcp", "host-keys", "cloud-init", "root-grew"}


def given_up(**changes: object) -> tuple[str, ...]:
    boot = Observed(
        firmware_at=0.2, kernel_at=5.0, console="[    0.000000] Linux version 6.1\nCloud-init v. 22 running\n"
    )
    for name, value in changes.items():
        setattr(boot, name, value)
    return reasons(boot, claims(boot, WANTED))


def test_why_a_boot_was_given_up_is_said_with_the_cause_first() -> None:
    assert given_up(ended="it was not done after 240 s.", spoke_as=("192.168.10.20",), packets=9) == (
        "it was not done after 240 s.",
        "it never asked for an address; it uses 192.168.10.20, fixed in its own network configuration.",
    )
    assert given_up() == (
        "its network card stayed silent: no driver for virtio-net, or no interface is configured on this card.",
    )
    assert given_up(packets=3) == (
        "it never asked for an address, though its network card works: nothing asks for DHCP on this card.",
    )
    assert given_up(dhcp_asked_at=9.0) == ("it asked for an address and did not take the one that was offered.",)
    leased = {"dhcp_asked_at": 9.0, "dhcp_given_at": 9.0, "address": "10.0.2.15", "address_used_at": 9.0}
    assert given_up(**leased) == (
        "it has the address 10.0.2.15, and nothing answers on port 22: sshd is missing, disabled or behind a firewall.",
    )
    assert given_up(**leased, banner_at=20.0, refused=["debian", "root", "debian"]) == (
        "it never asked the metadata service, so nobody was given the key: cloud-init is missing, disabled or pinned to another cloud.",
        "sshd answers and refuses the key: Permission denied (publickey) for debian, root.",
    )
    assert given_up(**leased, banner_at=20.0, no_shell=["svc"], requests=(Request("/openstack", 200, 9.0),)) == (
        "sshd takes the key, and no shell runs for svc.",
    )


def test_consequences_of_a_dead_end_are_not_listed() -> None:
    console = "[    0.000000] Linux version 6.1\n[    1.0] Kernel panic - not syncing: No working init found.\n"
    assert given_up(console=console, dead=True, ended="the boot came to a dead end after 1 s.") == (
        "kernel panic: No working init found.",
        "the boot came to a dead end after 1 s.",
    )


def test_a_kernel_that_is_silent_on_the_serial_console_is_named() -> None:
    assert given_up(kernel_at=None, console="Loading initial ramdisk ...\n") == (
        "the kernel said nothing on the serial console; the last words were: Loading initial ramdisk ...",
        "cloud-init gave no sign of life: it is missing or disabled.",
        "its network card stayed silent: no driver for virtio-net, or no interface is configured on this card.",
    )
    assert (
        given_up(firmware_at=None, kernel_at=None, console="")[0]
        == "there was no output at all, not even from the firmware."
    )


def test_a_proof_is_told_in_one_line_and_in_json() -> None:
    checked = claims(seen(), WANTED)
    proof = Proof(True, Firmware.BIOS, False, "max (emulated)", 6 * GIB, checked, (), 105.7, "debian", "a\nb\n")
    assert proof.summary == "login as debian after 90 s, cloud-init done, root grew to 5.87 GiB of 6 GiB"
    told = to_json(proof)
    assert told["held"] is True
    assert told["console"] == ["a", "b"]
    assert isinstance(told["claims"], list)
    assert told["claims"][0] == {
        "name": "kernel",
        "text": "the kernel started",
        "held": True,
        "needed": True,
        "seconds": 8.3,
        "evidence": "Linux 6.1.0-56-cloud-amd64",
    }
    assert replace(proof, held=False, reasons=("kernel panic: x", "more")).summary == "kernel panic: x"
