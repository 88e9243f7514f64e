"""Guests from Xen, VirtualBox, Parallels, Oracle, Alibaba and Nutanix keep nothing of theirs but what is told."""

import pytest

from tests.vendor_guests import moved

NAMES = {
    "centos7-xen-hvc0": ("xen-vcpu", "xe-", "hvc0", "xenstore", "/xen.conf"),
    "ubuntu2004-virtualbox-tarball": ("VBox", "vbox"),
    "debian11-virtualbox-packages": ("VBox", "vbox", "virtualbox"),
    "fedora40-parallels-tarball": ("parallels", "prl"),
    "ol8-oracle-iscsi": ("oracle-cloud-agent", "oci-utils", "/ocid."),
    "ubuntu2204-oracle-snap": ("oracle-cloud-agent", "oracle\\x2dcloud"),
    "centos7-alibaba-assist": ("aliyun", "aegis", "cloudmonitor", "ecs_mq"),
    "rocky8-nutanix-ngt": ("nutanix", "ngt_"),
}
LEFT = {
    "centos7-xen-hvc0": ["/etc/modprobe.d/xen.conf"],
    "fedora40-parallels-tarball": ["/usr/bin/prlreport"],
    "ubuntu2204-oracle-snap": [
        "/etc/systemd/system/snap-oracle\\x2dcloud\\x2dagent-72.mount",
        "/var/lib/snapd/snaps/oracle-cloud-agent_72.snap",
    ],
}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_nothing_is_left_but_what_is_told_or_another_s(name: str) -> None:
    assert moved(name).paths(*NAMES[name]) == LEFT.get(name, [])


def test_consoles_that_only_xen_has_get_neither_messages_nor_logins() -> None:
    to = moved("centos7-xen-hvc0")
    line = next(line for line in (to.text("/boot/grub2/grub.cfg") or "").splitlines() if "linux16" in line)
    assert "hvc0" not in line
    assert "xencons" not in line
    assert "console=ttyS0,115200n8" in line
    assert to.text("/etc/inittab") == "id:3:initdefault:\n1:2345:respawn:/sbin/mingetty tty1\n"
    assert to.text("/etc/modprobe.d/xen.conf") == "options loop max_loop=16\n"


def test_what_virtualboxs_list_says_of_others_files_is_not_believed() -> None:
    to = moved("ubuntu2004-virtualbox-tarball")
    assert to.text("/etc/shadow") is not None
    assert to.text("/etc/passwd") is not None
    assert any("/etc/shadow" in str(finding) for finding in to.findings)


def test_a_folder_of_the_host_does_not_stop_the_boot() -> None:
    fstab = moved("ubuntu2004-virtualbox-tarball").text("/etc/fstab") or ""
    assert not [
        line for line in fstab.splitlines() if "vboxsf" in line and not line.startswith("#") and "nofail" not in line
    ]


def test_modules_of_virtualbox_are_loaded_no_more() -> None:
    assert moved("ubuntu2004-virtualbox-tarball").text("/etc/modules") == "loop\n"


@pytest.mark.parametrize("name", ["debian11-virtualbox-packages", "fedora40-parallels-tarball"])
def test_the_screen_needs_no_card_of_the_old_machine(name: str) -> None:
    assert '"modesetting"' in (moved(name).text("/etc/X11/xorg.conf") or "")


def test_a_kernel_does_not_look_for_its_root_by_iscsi() -> None:
    to = moved("ol8-oracle-iscsi")
    for path in ("/etc/default/grub", "/boot/loader/entries/ol-5.15.0.conf"):
        assert "iscsi" not in (to.text(path) or "")
        assert "console=ttyS0,115200" in (to.text(path) or "")


def test_oracle_linux_asks_the_public_server_of_packages() -> None:
    assert moved("ol8-oracle-iscsi").text("/etc/dnf/vars/ociregion") == "\n"


def test_a_user_that_could_become_root_by_run_command_can_no_more() -> None:
    to = moved("ol8-oracle-iscsi")
    assert to.paths("/etc/sudoers.d/101") == []
    assert any("ocarun" in str(finding) for finding in to.findings)


def test_both_services_of_oracles_snap_go_and_the_snap_is_told() -> None:
    to = moved("ubuntu2204-oracle-snap")
    assert not [path for path in to.guest.tree if "snap.oracle-cloud-agent" in path]
    assert any("snap remove oracle-cloud-agent" in str(finding) for finding in to.findings)


@pytest.mark.parametrize(
    ("name", "path", "asked"),
    [
        ("ol8-oracle-iscsi", "/etc/chrony.conf", "pool 2.pool.ntp.org iburst"),
        ("ubuntu2204-oracle-snap", "/etc/chrony/chrony.conf", "pool ntp.ubuntu.com iburst"),
        ("centos7-alibaba-assist", "/etc/ntp.conf", "server 2.centos.pool.ntp.org iburst"),
    ],
)
def test_the_time_is_asked_of_servers_that_answer(name: str, path: str, asked: str) -> None:
    lines = (moved(name).text(path) or "").splitlines()
    assert [line for line in lines if line.startswith(("server", "pool"))] == [asked]


def test_servers_inside_alibabas_cloud_become_the_public_ones() -> None:
    base = moved("centos7-alibaba-assist").text("/etc/yum.repos.d/CentOS-Base.repo") or ""
    assert "baseurl=http://mirrors.aliyun.com/centos/$releasever/os/$basearch/" in base


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("ol8-oracle-iscsi", b"chave-da-oci"),
        ("ubuntu2204-oracle-snap", b"chave-da-oci"),
        ("centos7-alibaba-assist", b"token-do-aliyun"),
        ("rocky8-nutanix-ngt", b"certificado-do-ngt"),
    ],
)
def test_no_key_of_the_old_cloud_travels(name: str, secret: bytes) -> None:
    assert secret not in b"".join(getattr(entry, "content", b"") for entry in moved(name).guest.tree.values())
