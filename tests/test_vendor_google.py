"""A guest that comes from Google's cloud: OS Login goes whole, so that nobody is locked out by one half of it."""

import re
from pathlib import Path

import pytest

from migrate.draft import Draft
from migrate.effects import PackageEdit
from migrate.guests.memory import from_yaml
from migrate.remediation import Settings
from remediations.vendors import leftover_removal, vendor
from tests.test_vendor_aws import sshd_refuses
from tests.vendor_guests import moved

LEFT: dict[str, list[str]] = {
    "centos7-gcp-python-agent": [],
    "debian12-gcp-oslogin": [],
    "rhel8-gcp-rhui": ["/etc/yum.repos.d/google-cloud.repo"],
    "ubuntu2204-gcp-mirrors": [],
}


@pytest.mark.parametrize("name", sorted(LEFT))
def test_nothing_of_googles_is_left_but_a_repository_that_answers_everywhere(name: str) -> None:
    to = moved(name)
    paths = [path for path in to.paths("google", "gce", "oslogin", "instance_configs", "boto") if "/opt/" not in path]
    assert paths == LEFT[name]


def test_os_login_goes_from_nss_pam_sshd_and_sudo_in_one_step() -> None:
    to = moved("debian12-gcp-oslogin")
    files = ("/etc/nsswitch.conf", "/etc/pam.d/sshd", "/etc/ssh/sshd_config", "/etc/security/group.conf")
    steps = {
        effect.by
        for effect in to.said.effects
        if getattr(effect, "path", "") in (*files, "/etc/sudoers.d/google-oslogin")
    }
    assert steps == {"remove-google-cloud-leftovers"}
    assert not any("oslogin" in (to.text(path) or "").lower() for path in files)


def test_the_files_are_as_before_os_login() -> None:
    to = moved("debian12-gcp-oslogin")
    assert to.text("/etc/nsswitch.conf") == (
        "passwd:         files systemd\ngroup:          files systemd\nshadow:         files\nhosts:          files dns\n"
    )
    assert to.text("/etc/pam.d/sshd") == (
        "@include common-auth\n"
        "account    required     pam_nologin.so\n"
        "@include common-account\n"
        "session    required     pam_limits.so\n"
        "@include common-session\n"
    )
    assert to.text("/etc/ssh/sshd_config") == (
        "Include /etc/ssh/sshd_config.d/*.conf\nPermitRootLogin no\nUsePAM yes\nSubsystem sftp /usr/lib/openssh/sftp-server\n"
    )
    assert to.text("/etc/security/group.conf") == "# xsh; tty* ;%admin;Al0000-2400;plugdev\n"


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        # A module that is not there any more, and a control that makes that a refusal: nobody would get in
        (
            "/etc/pam.d/sshd",
            "  account   [success=ok ignore=ignore default=die] pam_oslogin_login.so\n\tAuth\t[default=ignore]  pam_oslogin_login.so\n"
            " auth  [default=ignore]  pam_group.so \naccount required pam_unix.so\n",
            "account required pam_unix.so\n",
        ),
        (
            "/etc/nsswitch.conf",
            "passwd: files cache_oslogin oslogin [NOTFOUND=return] systemd # oslogin\n shadow:\tfiles oslogin\n#group: oslogin\n",
            "passwd: files systemd # oslogin\n shadow:\tfiles\n#group: oslogin\n",
        ),
    ],
)
def test_os_login_goes_however_its_lines_are_spaced(path: str, before: str, after: str) -> None:
    draft = Draft(from_yaml("files: {}"))
    draft.write(path, before, why="x")
    leftover_removal(vendor("google")).act(draft, Settings())
    assert draft.read(path) == after


def test_a_second_factor_of_os_login_keeps_nobody_out() -> None:
    assert moved("debian12-gcp-oslogin").told("SSH-002") == []


def test_what_the_former_script_of_os_login_wrote_goes_and_the_operators_own_line_comes_back() -> None:
    to = moved("ubuntu2204-gcp-mirrors")
    assert "\nAuthorizedKeysCommand /usr/local/bin/chaves %u\n" in (to.text("/etc/ssh/sshd_config") or "")
    assert "google" not in (to.text("/etc/ssh/sshd_config") or "").lower()
    assert to.text("/etc/pam.d/su") == "auth       sufficient pam_rootok.so\n@include common-account\n"
    modules = re.findall(r"pam_\w+\.so", to.text("/etc/pam.d/sshd") or "")
    assert modules == ["pam_nologin.so", "pam_limits.so"]
    assert to.text("/etc/nsswitch.conf") == "passwd:         files systemd # equipe\ngroup:          files systemd\n"


@pytest.mark.parametrize("name", ["debian12-gcp-oslogin", "ubuntu2204-gcp-mirrors"])
def test_sshd_takes_what_is_left_of_its_configuration(name: str, tmp_path: Path) -> None:
    text = moved(name).text("/etc/ssh/sshd_config")
    assert text is not None
    assert sshd_refuses(text, tmp_path) == ""


def test_googles_rules_for_sudo_go_and_the_operators_stay() -> None:
    assert moved("debian12-gcp-oslogin").paths("/etc/sudoers.d/", "sudoers.d") == ["/etc/sudoers.d/operacao"]


@pytest.mark.parametrize(
    ("name", "hosts"),
    [
        ("debian12-gcp-oslogin", "127.0.0.1 localhost\n10.128.0.9 banco\n"),
        ("rhel8-gcp-rhui", "127.0.0.1 localhost\n"),
        ("centos7-gcp-python-agent", "127.0.0.1 localhost\n"),
    ],
)
def test_googles_names_go_from_hosts(name: str, hosts: str) -> None:
    assert moved(name).text("/etc/hosts") == hosts


@pytest.mark.parametrize(
    ("name", "path", "asked"),
    [
        ("debian12-gcp-oslogin", "/etc/chrony/chrony.conf", ["pool 2.debian.pool.ntp.org iburst"]),
        ("ubuntu2204-gcp-mirrors", "/etc/chrony/chrony.conf", ["pool ntp.ubuntu.com iburst maxsources 4"]),
        ("centos7-gcp-python-agent", "/etc/ntp.conf", ["server 2.centos.pool.ntp.org iburst"]),
    ],
)
def test_the_time_is_asked_of_servers_that_answer(name: str, path: str, asked: list[str]) -> None:
    lines = (moved(name).text(path) or "").splitlines()
    assert [line for line in lines if line.startswith(("server", "pool"))] == asked


def test_ubuntu_asks_its_own_servers() -> None:
    sources = moved("ubuntu2204-gcp-mirrors").text("/etc/apt/sources.list") or ""
    assert sources.startswith("deb http://archive.ubuntu.com/ubuntu/ jammy main universe\n")


def test_a_file_for_the_network_that_the_agent_put_among_packages_goes() -> None:
    assert moved("debian12-gcp-oslogin").paths("google-guest-agent.network") == []


def test_keys_of_the_metadata_server_and_of_red_hats_repositories_do_not_travel() -> None:
    to = moved("rhel8-gcp-rhui")
    contents = b"".join(getattr(entry, "content", b"") for entry in to.guest.tree.values())
    assert b"chave-do-mds" not in contents
    assert b"chave-do-rhui" not in contents


def test_the_client_of_red_hats_repositories_goes_after_what_is_installed() -> None:
    to = moved("rhel8-gcp-rhui")
    edits = [effect.change for effect in to.said.effects if isinstance(effect, PackageEdit)]
    assert [package.name for package in edits[-1].remove] == ["google-rhui-client-rhel8"]
    assert any(change.install for change in edits[:-1])


def test_monitoring_stays_and_the_operator_is_asked() -> None:
    to = moved("debian12-gcp-oslogin")
    assert to.guest.packages.keys() >= {"google-cloud-ops-agent", "google-cloud-cli"}
    assert [text.split()[0] for text in to.told("GCP-004")] == ["google-cloud-ops-agent"]


def test_six_services_of_the_agent_in_python_go_with_a_mask() -> None:
    assert moved("centos7-gcp-python-agent").paths("/google-") == []
