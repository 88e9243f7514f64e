"""A guest that comes from AWS keeps nothing of Amazon's but what is told, is reached by key, and gets an address."""

import subprocess
from pathlib import Path

import pytest

from migrate.effects import PackageEdit
from migrate.guest import Link
from tests.vendor_guests import moved

SECRETS = ("chave-do-ssm", "segredo-do-cfn", "chave-do-rhui", "senha-do-smt", "token-da-replicacao")

# What still has a name of Amazon's in the end, and is the operator's, the kernel's, or told.
LEFT = {
    "amzn2-aws-netutils": [],
    "amzn2023-aws-netutils": [],
    "centos7-aws-vmimport": [],
    "debian12-aws-netutils": [],
    "rhel9-aws-rhui": ["/etc/dracut.conf.d/ec2.conf"],
    "rocky9-aws-monitored": [
        "/etc/systemd/system/amazon-cloudwatch-agent.service",
        "/opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent",
        "/opt/aws/bin/cfn-hup",
    ],
    "sles15-aws-payg": [],
    "ubuntu2004-aws-hibernation": [],
    "ubuntu2204-aws-ssm-snap": [
        "/etc/systemd/system/multi-user.target.wants/snap-amazon\\x2dssm\\x2dagent-7993.mount",
        "/etc/systemd/system/snap-amazon\\x2dssm\\x2dagent-7993.mount",
        "/snap/amazon-ssm-agent/current",
        "/var/lib/snapd/snaps/amazon-ssm-agent_7993.snap",
    ],
}
NAMES = (
    "/amazon-ssm",
    "snap-amazon",
    "/amazon/",
    "ssm-agent",
    "ec2",
    "eic_",
    "hibinit",
    "cfn",
    "policy-routes",
    "amazon-cloudwatch",
)


@pytest.mark.parametrize("name", sorted(LEFT))
def test_nothing_of_amazons_is_left_but_what_is_told(name: str) -> None:
    assert moved(name).paths(*NAMES) == LEFT[name]


@pytest.mark.parametrize(
    "name",
    ["ubuntu2204-aws-ssm-snap", "amzn2-aws-netutils", "rhel9-aws-rhui", "sles15-aws-payg", "centos7-aws-vmimport"],
)
def test_no_key_or_token_of_amazons_travels(name: str) -> None:
    contents = b"".join(getattr(entry, "content", b"") for entry in moved(name).guest.tree.values())
    assert not [secret for secret in SECRETS if secret.encode() in contents]


# Instance Connect


@pytest.mark.parametrize("name", ["ubuntu2204-aws-ssm-snap", "ubuntu2004-aws-hibernation", "rocky9-aws-monitored"])
def test_the_ssh_server_starts_by_its_own_unit_again(name: str) -> None:
    """The drop-in that replaces ExecStart is the package's on one, and nobody's on two of them."""
    to = moved(name)
    assert not [path for path in to.paths("ssh.service.d/", "sshd.service.d/") if "ExecStart" in (to.text(path) or "")]
    assert to.paths("eic_run_authorized_keys") == []


def test_a_drop_in_that_a_script_wrote_goes_before_the_package_whose_script_would_take_it() -> None:
    to = moved("ubuntu2004-aws-hibernation")
    steps = [(effect.by, getattr(effect, "path", "packages")) for effect in to.said.effects]
    drop_in = ("stop-vendor-units", "/lib/systemd/system/ssh.service.d/ec2-instance-connect.conf")
    assert steps.index(drop_in) < steps.index(("remove-aws-packages", "packages"))


def test_an_operators_drop_in_beside_instance_connects_stays() -> None:
    to = moved("rocky9-aws-monitored")
    assert to.paths("sshd.service.d/") == ["/usr/lib/systemd/system/sshd.service.d/limits.conf"]


def test_amazon_linux_asks_nobody_for_keys_in_sshd_config() -> None:
    assert moved("amzn2-aws-netutils").text("/etc/ssh/sshd_config") == (
        "PasswordAuthentication no\nUsePAM yes\nSubsystem sftp /usr/libexec/openssh/sftp-server\n"
    )


@pytest.mark.parametrize("name", ["amzn2-aws-netutils", "amzn2023-aws-netutils"])
def test_sshd_takes_what_is_left_of_its_configuration(name: str, tmp_path: Path) -> None:
    text = moved(name).text("/etc/ssh/sshd_config")
    assert text is not None
    assert sshd_refuses(text, tmp_path) == ""


def sshd_refuses(text: str, folder: Path) -> str:
    """Return what OpenSSH says against a configuration; files that it includes are not there."""
    config, key = folder / "sshd_config", folder / "key"
    config.write_text("".join(line + "\n" for line in text.splitlines() if not line.startswith("Include")))
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    return subprocess.run(["/usr/sbin/sshd", "-t", "-f", config, "-h", key], capture_output=True, text=True).stderr


# Systems Manager


def test_the_sudoers_file_of_systems_manager_goes_and_its_user_is_told() -> None:
    to = moved("ubuntu2204-aws-ssm-snap")
    assert to.paths("/etc/sudoers.d/") == ["/etc/sudoers.d/90-cloud-init-users"]
    assert [text for text in map(str, to.findings) if "ssm-user" in text]
    assert "ssm-user" in (to.text("/etc/passwd") or "")


def test_an_agent_from_a_snap_is_started_no_more_and_what_only_snapd_can_do_is_told() -> None:
    """Its mount unit and its file stay: snapd makes a mount unit anew that is missing, and without the file that fails at each boot."""
    to = moved("ubuntu2204-aws-ssm-snap")
    assert not [path for path in to.guest.tree if "snap.amazon-ssm-agent" in path]
    assert any("snap remove amazon-ssm-agent" in str(finding) for finding in to.findings)


def test_a_unit_of_the_agents_in_the_operators_folder_goes_with_its_package() -> None:
    assert moved("rhel9-aws-rhui").paths("amazon-ssm-agent") == []


# The network


def test_a_guest_that_only_net_utils_configured_still_asks_for_an_address() -> None:
    """On Amazon Linux 2023 net-utils had switched NetworkManager off; on both, its file for systemd-networkd was all that there was."""
    for name in ("amzn2023-aws-netutils", "debian12-aws-netutils"):
        to = moved(name)
        assert "DHCP=yes" in (to.text("/etc/systemd/network/90-magalu-migrate.network") or "")
        assert "/etc/systemd/system/multi-user.target.wants/systemd-networkd.service" in to.guest.tree
        assert not [path for path in to.guest.tree if path.endswith(".wants/NetworkManager.service")]
        assert to.paths("80-ec2.network") == []


def test_net_utils_of_the_first_version_leave_a_card_that_asks_for_an_address() -> None:
    to = moved("amzn2-aws-netutils")
    assert "BOOTPROTO=dhcp" in (to.text("/etc/sysconfig/network-scripts/ifcfg-eth0") or "")
    assert to.paths("/ec2net", "53-ec2", "ec2dhcp", "70-persistent-net") == []


# Boot, disks and time


def test_nothing_powers_the_machine_off_where_it_should_show_an_error() -> None:
    for name in ("amzn2-aws-netutils", "amzn2023-aws-netutils"):
        to = moved(name)
        lines = [
            to.text(path) or ""
            for path in to.paths("/etc/default/grub", "/boot/grub2/grub.cfg", "/boot/loader/entries/")
        ]
        assert lines and not any("rd.emergency" in line or "rd.shell" in line for line in lines)
        assert any("console=ttyS0,115200n8" in line for line in lines)


def test_the_file_for_hibernation_goes_with_what_pointed_into_it() -> None:
    to = moved("ubuntu2004-aws-hibernation")
    assert to.paths("/swap-hibinit", "99-set-swap", "hibinit") == []
    assert "resume_offset" not in (to.text("/boot/grub/grub.cfg") or "")
    assert to.guest.packages.keys() >= {"acpid"}


def test_the_instances_own_disk_and_the_swap_on_it_are_comments() -> None:
    fstab = moved("ubuntu2004-aws-hibernation").text("/etc/fstab") or ""
    assert [line for line in fstab.splitlines() if not line.startswith("#")] == [
        "LABEL=root / ext4 defaults,discard 0 1"
    ]


def test_a_volume_by_a_name_that_flips_does_not_stop_the_boot() -> None:
    fstab = moved("rocky9-aws-monitored").text("/etc/fstab") or ""
    assert "/dev/xvdf1 /var/lib/pgsql xfs defaults,noatime,nofail,x-systemd.device-timeout=10s 0 2" in fstab
    assert "#LABEL=ephemeral0 /mnt" in fstab


def test_the_root_is_named_by_its_uuid_and_not_by_nvme() -> None:
    fstab = moved("debian12-aws-netutils").text("/etc/fstab") or ""
    assert "UUID=5e000000-0000-4000-8000-0000000000aa / ext4" in fstab
    assert "UUID=B3D5-F792 /boot/efi vfat" in fstab


@pytest.mark.parametrize(
    ("name", "path", "asked"),
    [
        ("debian12-aws-netutils", "/etc/chrony", "pool 2.debian.pool.ntp.org iburst"),
        ("rhel9-aws-rhui", "/etc/chrony", "pool 2.rhel.pool.ntp.org iburst"),
        ("sles15-aws-payg", "/etc/chrony", "pool 2.opensuse.pool.ntp.org iburst"),
        ("amzn2-aws-netutils", "/etc/chrony", "pool 2.amazon.pool.ntp.org iburst"),
        ("rocky9-aws-monitored", "/etc/chrony", "pool 2.rocky.pool.ntp.org iburst"),
    ],
)
def test_the_time_is_asked_of_servers_that_answer(name: str, path: str, asked: str) -> None:
    to = moved(name)
    lines = [line for file in to.paths(path) for line in (to.text(file) or "").splitlines() if not line.startswith("#")]
    assert [line for line in lines if line.split()[:1] in (["server"], ["pool"], ["refclock"])] == [asked]


# Packages


@pytest.mark.parametrize(
    ("name", "path", "text"),
    [
        (
            "ubuntu2204-aws-ssm-snap",
            "/etc/apt/sources.list",
            "deb http://archive.ubuntu.com/ubuntu/ jammy main restricted universe\n"
            "# deb-src http://sa-east-1.ec2.archive.ubuntu.com/ubuntu/ jammy main restricted universe\n"
            "deb http://security.ubuntu.com/ubuntu jammy-security main restricted universe\n",
        ),
        (
            "debian12-aws-netutils",
            "/etc/apt/sources.list",
            "deb http://deb.debian.org/debian bookworm main\ndeb http://security.debian.org/debian-security bookworm-security main\n",
        ),
        ("amzn2-aws-netutils", "/etc/yum/vars/awsregion", "default\n"),
        (
            "amzn2023-aws-netutils",
            "/etc/yum.repos.d/amazonlinux.repo",
            "[amazonlinux]\nname=Amazon Linux 2023 repository\n"
            "mirrorlist=https://cdn.amazonlinux.com/al2023/core/mirrors/$releasever/$basearch/mirror.list\nenabled=1\n",
        ),
    ],
)
def test_packages_are_asked_of_servers_that_answer(name: str, path: str, text: str) -> None:
    assert moved(name).text(path) == text


def test_the_client_of_red_hats_repositories_goes_last_and_that_none_are_left_is_told() -> None:
    to = moved("rhel9-aws-rhui")
    edits = [effect.change for effect in to.said.effects if isinstance(effect, PackageEdit)]
    assert [package.name for package in edits[-1].remove] == ["rh-amazon-rhui-client", "rh-amazon-rhui-client-ha"]
    assert to.paths("rhui") == []
    assert to.told("RHUI-005")


def test_the_registration_with_suse_goes_with_its_line_in_hosts_and_the_companys_repository_stays() -> None:
    to = moved("sles15-aws-payg")
    assert to.text("/etc/hosts") == "127.0.0.1\tlocalhost\n\n\n10.9.8.7\tbanco.empresa.example\n"
    updates = "/etc/zypp/repos.d/SUSE_Linux_Enterprise_Server_x86_64:SLES15-SP5-Updates.repo"
    assert "enabled=0" in (to.text(updates) or "")
    assert "enabled=1" in (to.text("/etc/zypp/repos.d/empresa.repo") or "")
    assert not [name for name in to.guest.packages if "region" in name]
    assert to.told("SUSE-005") == []


def test_what_watches_and_deploys_stays_and_the_operator_is_asked() -> None:
    to = moved("rocky9-aws-monitored")
    assert to.guest.packages.keys() >= {"amazon-cloudwatch-agent", "codedeploy-agent", "amazon-efs-utils"}
    told = to.told("AWS-004")
    assert [text.split()[0] for text in told] == ["amazon-cloudwatch-agent", "amazon-efs-utils", "codedeploy-agent"]


# Several vendors


def test_a_guest_that_came_to_aws_from_vmware_is_rid_of_both() -> None:
    to = moved("centos7-aws-vmimport")
    assert to.paths("vmware", "vmtoolsd", "aws-replication", "amazon") == []
    assert not {"open-vm-tools", "amazon-ssm-agent"} & to.guest.packages.keys()
    assert "#nas01:/vol/erp /mnt/erp nfs defaults 0 0" in (to.text("/etc/fstab") or "")


def test_links_of_units_that_are_gone_are_gone() -> None:
    """Those that net-utils' udev rule made for a card are of no package, and no script of its knows them."""
    for name in ("debian12-aws-netutils", "amzn2023-aws-netutils"):
        to = moved(name)
        links = [path for path, entry in to.guest.tree.items() if isinstance(entry, Link) and "policy-routes" in path]
        assert links == []
