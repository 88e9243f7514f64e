"""The SSH server lets in the instance's own user, and nobody whom the source let in; sshd itself is asked."""

import shutil
import subprocess
from pathlib import Path

import pytest

from migrate.guest import File
from migrate.guests.memory import MemoryGuest, from_yaml
from migrate.run import Run
from remediations.ssh import (
    HOST_KEYS,
    HOST_KEYS_UNIT,
    accounts,
    allow_key_login,
    enable_sshd,
    forget_authorized_keys,
    keys_in,
    make_host_keys_at_first_boot,
    without_addresses,
)
from remediations.sshd_config import parsed, with_lines
from tests.remediation_guests import applied, codes, done, guest, outcome

ALL = (allow_key_login, enable_sshd, forget_authorized_keys, make_host_keys_at_first_boot)
CLOSED = "debian12-sshd-closed"


def sshd(text: str) -> MemoryGuest:
    """A guest with this sshd_config."""
    indented = "".join(f"    {line}\n" for line in text.splitlines())
    return from_yaml(f"files:\n  /etc/ssh/sshd_config: |\n{indented}" if text else "files: {}")


def test_all_of_it_is_done_once(run: Run) -> None:
    applied(run, guest(CLOSED), *ALL)


def test_what_locks_out_the_new_user_is_changed_in_its_line() -> None:
    changes = done(guest(CLOSED), allow_key_login)
    assert outcome(changes) == {
        "/etc/ssh/sshd_config": (
            "# an administrator's file\n"
            "Include /etc/ssh/sshd_config.d/*.conf\n"
            "Port 2222\n"
            "ListenAddress 0.0.0.0\n"
            "ListenAddress [::]:2222\n"
            "PubkeyAuthentication yes\n"
            "HostKey /etc/ssh/ssh_host_ed25519_key\n"
            'HostKey "/srv/keys/host key"\n'
            "AllowUsers alice bob@10.0.0.0/8 debian\n"
            "AllowGroups ssh-users admins debian\n"
            "DenyUsers guest\n"
            "Match User backup\n"
            "    PubkeyAuthentication no\n"
            "    AuthenticationMethods password\n"
            "Match all\n"
            "AuthenticationMethods publickey,keyboard-interactive\n"
        ),
        "/etc/ssh/sshd_config.d/10-hardening.conf": (
            "pubkeyauthentication yes\nAuthorizedKeysFile /etc/ssh/keys/%u .ssh/authorized_keys\n"
        ),
        "/etc/systemd/system/ssh.socket.d/address.conf": (
            "[Socket]\nListenStream=\nListenStream=2222\nListenStream=127.0.0.1:22\n"
        ),
    }


def test_what_nobody_can_change_for_the_operator_is_told() -> None:
    changes = done(guest(CLOSED), allow_key_login)
    main = "/etc/ssh/sshd_config"
    assert [(finding.code, finding.text) for finding in changes.findings] == [
        (
            "SSH-003",
            "keys were looked for in /etc/ssh/keys/%u only, where cloud-init does not write the instance's key; "
            "users' own files count now too",
        ),
        (
            "SSH-001",
            f"{main}:9: allowusers alice bob@10.0.0.0/8 did not let in the instance's own user; debian was added to it",
        ),
        (
            "SSH-001",
            f"{main}:10: allowgroups ssh-users admins did not let in the instance's own user; debian was added to it",
        ),
        (
            "SSH-002",
            "logins need more than a key, which the instance's user does not have: "
            f"{main}:16: authenticationmethods publickey,keyboard-interactive",
        ),
        ("SSH-004", f"may keep the instance's user out: {main}:13: pubkeyauthentication no (Match User backup)"),
        ("SSH-004", f"may keep the instance's user out: {main}:14: authenticationmethods password (Match User backup)"),
        ("SSH-006", "the SSH server listens on port 2222 and not on 22"),
        ("SSH-009", "/etc/default/ssh puts options over the SSH server's configuration: -o LogLevel=DEBUG"),
        (
            "SSH-008",
            "/etc/hosts.deny keeps people out of the SSH server (ALL: ALL), and /etc/hosts.allow names only some of them",
        ),
    ]


def test_a_plain_debian_needs_nothing() -> None:
    plain = sshd(
        "Include /etc/ssh/sshd_config.d/*.conf\n#Port 22\n#ListenAddress 0.0.0.0\nKbdInteractiveAuthentication no\nUsePAM yes\n"
        "X11Forwarding yes\nPrintMotd no\nAcceptEnv LANG LC_*\nSubsystem sftp /usr/lib/openssh/sftp-server\n"
        "#Match User anoncvs\n#       X11Forwarding no\n"
    )
    changes = done(plain, allow_key_login)
    assert (changes.effects, changes.findings) == ((), ())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("ListenAddress 10.0.0.5\nListenAddress 10.0.0.6\n", "ListenAddress 0.0.0.0\n"),
        ("ListenAddress 10.0.0.5:2222\nListenAddress ::1\n", "ListenAddress 0.0.0.0:2222\n"),
        ("ListenAddress web1\nListenAddress 0.0.0.0\n", "ListenAddress 0.0.0.0\n"),
        ("ListenAddress 2001:db8::7\n", "ListenAddress ::\n"),
        ("AuthorizedKeysFile none\n", "AuthorizedKeysFile .ssh/authorized_keys\n"),
        ("AuthorizedKeysCommand /opt/gone %u\nAuthorizedKeysCommandUser nobody\nUsePAM yes\n", "UsePAM yes\n"),
        ("DenyUsers debian\nUsePAM yes\n", "UsePAM yes\n"),
        ("PubkeyAuthentication no\nPubkeyAuthentication yes\n", "PubkeyAuthentication yes\nPubkeyAuthentication yes\n"),
    ],
)  # fmt: skip
def test_a_line_is_changed(before: str, after: str) -> None:
    assert outcome(done(sshd(before), allow_key_login)) == {"/etc/ssh/sshd_config": after}


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ("PubkeyAuthentication yes\nPubkeyAuthentication no\n", []),
        ("Match User x\nPubkeyAuthentication no\n", ["SSH-004"]),
        ("ListenAddress 127.0.0.1\n", ["SSH-005"]),
        ("DenyUsers deb*\n", ["SSH-012"]),
        ("DenyGroups debian\n", ["SSH-012"]),
        ("AllowUsers deb*\n", []),
        ("AuthenticationMethods publickey publickey,password\n", []),
        ("AuthenticationMethods publickey,password\n", ["SSH-002"]),
        ("AuthorizedKeysFile /etc/keys/%u\n", []),
        ("AuthorizedKeysFile %h/.ssh/authorized_keys\n", []),
        ("Port 22\nPort 2222\n", []),
        ('ForceCommand "Port 1"\nChrootDirectory none # Port 3\n', []),
    ],
)  # fmt: skip
def test_a_line_is_left_and_told_only_where_it_matters(config: str, told: list[str]) -> None:
    changes = done(sshd(config), allow_key_login)
    assert changes.effects == ()
    assert codes(changes) == told


def test_the_new_user_is_the_one_that_the_guests_cloud_init_names() -> None:
    named = from_yaml(
        """
        files:
          /etc/ssh/sshd_config: "AllowUsers alice\\n"
          /etc/cloud/cloud.cfg: |
            users: [default]
            system_info: {default_user: {name: operator}}
        """
    )
    assert outcome(done(named, allow_key_login)) == {"/etc/ssh/sshd_config": "AllowUsers alice operator\n"}


def test_host_keys_go_and_a_unit_makes_new_ones() -> None:
    changes = done(guest(CLOSED), make_host_keys_at_first_boot)
    unit = f"/etc/systemd/system/{HOST_KEYS_UNIT}"
    assert outcome(changes) == {
        unit: HOST_KEYS,
        f"/etc/systemd/system/multi-user.target.wants/{HOST_KEYS_UNIT}": f"-> {unit}",
        "/etc/ssh/ssh_host_ed25519_key": None,
        "/etc/ssh/ssh_host_ed25519_key.pub": None,
    }
    assert codes(changes) == ["SSH-007"]


def test_a_guest_without_systemd_keeps_its_host_keys_rather_than_have_none() -> None:
    openrc = from_yaml("files:\n  /etc/ssh/ssh_host_rsa_key: PRIVATE\n  /sbin/openrc: ''\n")
    changes = done(openrc, make_host_keys_at_first_boot)
    assert changes.effects == ()
    assert codes(changes) == ["SSH-011"]


def test_keys_of_people_go_and_keys_of_services_stay() -> None:
    changes = done(guest(CLOSED), forget_authorized_keys)
    assert outcome(changes) == {"/root/.ssh/authorized_keys": None, "/etc/ssh/keys/alice": None}
    assert [fact.text for fact in changes.facts] == [
        "/root/.ssh/authorized_keys: ssh-rsa deploy key, ssh-ed25519",
        "/etc/ssh/keys/alice: ssh-ed25519 alice@laptop",
    ]
    elsewhere = sshd("")
    assert done(elsewhere, forget_authorized_keys).effects == ()


def test_homes_that_are_links_are_followed_inside_of_the_guest(run: Run) -> None:
    linked = from_yaml(
        """
        files:
          /etc/passwd: "ana:x:1001:1001::/home/ana:/bin/bash\\nroot:x:0:0::/../../root:/bin/sh\\nx:x:1002:1::/:/bin/sh\\n"
          /home/ana: {link: /srv/homes/ana}
          /srv/homes/ana/.ssh/authorized_keys: "ssh-ed25519 AAAAC3 a\\n"
          /root/.ssh/authorized_keys2: "ssh-ed25519 AAAAC3 r\\n"
          /.ssh/authorized_keys: "ssh-ed25519 AAAAC3 nobody's\\n"
        """
    )
    assert outcome(done(linked, forget_authorized_keys)) == {
        "/srv/homes/ana/.ssh/authorized_keys": None,
        "/root/.ssh/authorized_keys2": None,
    }
    applied(run, linked, forget_authorized_keys)


def test_a_masked_server_is_started_again() -> None:
    ssh = "/lib/systemd/system/ssh.service"
    assert outcome(done(guest(CLOSED), enable_sshd)) == {
        "/etc/ssh/sshd_not_to_be_run": None,
        "/etc/systemd/system/ssh.service": None,
        "/etc/systemd/system/multi-user.target.wants/ssh.service": f"-> {ssh}",
        "/etc/systemd/system/sshd.service": f"-> {ssh}",
    }


def test_a_server_behind_an_enabled_socket_is_left_to_it() -> None:
    ubuntu = from_yaml(
        """
        files:
          /usr/sbin/sshd: ""
          /usr/lib/systemd/system/ssh.service: "[Install]\\nWantedBy=multi-user.target\\n"
          /usr/lib/systemd/system/ssh.socket: "[Install]\\nWantedBy=sockets.target\\n"
          /etc/systemd/system/sockets.target.wants/ssh.socket: {link: /usr/lib/systemd/system/ssh.socket}
        """
    )
    assert done(ubuntu, enable_sshd).effects == ()


def test_lines_are_read_as_sshd_reads_them() -> None:
    assert parsed('  HostKey="/a b/key"  # ours\n') == ("hostkey", ("/a b/key",))
    assert parsed("AllowUsers = a b") == ("allowusers", ("a", "b"))
    assert parsed("# Port 22") is None
    assert with_lines('A 1\n  B "x y"\nC\n', {1: None, 2: ("z", "x y")}) == '  B z "x y"\nC\n'


def test_passwd_and_keys_are_read_by_their_formats() -> None:
    assert [
        each.name for each in accounts("a:x:0:0::/root:/bin/sh\nb:x:1::/x:/y\nc:x:1:1::relative:/y\nd:x:5:5::/:/y\n")
    ] == ["a"]
    assert keys_in('# ssh-rsa AAAA no\nenvironment="A=b c" sk-ssh-ed25519@openssh.com AAAAG me\nrubbish\n') == (
        "sk-ssh-ed25519@openssh.com me",
    )
    assert without_addresses("[Socket]\nListenStream=22\n[Other]\nListenStream=10.0.0.1:1\n") == (
        "[Socket]\nListenStream=22\n[Other]\nListenStream=10.0.0.1:1\n"
    )


def effective(after: MemoryGuest, folder: Path, user: str) -> dict[str, list[str]]:
    """Return what sshd itself makes of a guest's configuration for a user's login."""
    for path, entry in after.tree.items():
        if path.startswith("/etc/ssh/") and isinstance(entry, File):
            real = folder / path[1:]
            real.parent.mkdir(parents=True, exist_ok=True)
            real.write_text(entry.text.replace("/etc/ssh/", f"{folder}/etc/ssh/"))
    key = folder / "etc/ssh/ssh_host_ed25519_key"
    key.unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    Path("/run/sshd").mkdir(exist_ok=True)
    command = ["sshd", "-T", "-f", str(folder / "etc/ssh/sshd_config"), "-C", f"user={user},host=h,addr=198.51.100.7"]
    command[0] = "/usr/sbin/sshd"
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, list[str]] = {}
    for line in said.stdout.splitlines():
        keyword, _, value = line.partition(" ")
        found.setdefault(keyword, []).append(value)
    return found


def test_sshd_itself_lets_the_new_user_in(run: Run, tmp_path: Path) -> None:
    with pytest.raises(
        subprocess.CalledProcessError
    ):  # it would not even start: no login can satisfy AuthenticationMethods
        effective(guest(CLOSED), tmp_path / "before", "debian")
    after = effective(applied(run, guest(CLOSED), *ALL), tmp_path / "after", "debian")
    assert {
        key: after[key] for key in ("pubkeyauthentication", "allowusers", "allowgroups", "denyusers", "listenaddress")
    } == {
        "pubkeyauthentication": ["yes"],
        "allowusers": ["alice", "bob@10.0.0.0/8", "debian"],
        "allowgroups": ["ssh-users", "admins", "debian"],
        "denyusers": ["guest"],
        "listenaddress": ["0.0.0.0:2222", "[::]:2222"],
    }
    assert after["authorizedkeysfile"] == [f"{tmp_path}/after/etc/ssh/keys/%u .ssh/authorized_keys"]
    assert after["authorizedkeyscommand"] == ["none"]


CLOUD_INIT = """\
[Unit]
DefaultDependencies=no
After=systemd-remount-fs.service
Before=network-online.target sshd-keygen.service sshd.service sysinit.target systemd-user-sessions.service
[Service]
Type=oneshot
ExecStart=/usr/bin/true
[Install]
WantedBy=multi-user.target
"""
"""The order of Debian's cloud-init.service 22.4."""


@pytest.mark.parametrize(
    ("unit", "circles"), [(HOST_KEYS, 0), (HOST_KEYS.replace("Before=ssh.service", "Before=ssh.socket"), 1)]
)
def test_the_unit_that_makes_host_keys_is_in_no_circle_unless_it_waits_for_the_socket(
    tmp_path: Path, unit: str, circles: int
) -> None:
    """A boot with Debian's own units, the SSH server's socket and cloud-init, as systemd orders it."""
    vendors, operators = tmp_path / "usr/lib/systemd/system", tmp_path / "etc/systemd/system"
    operators.mkdir(parents=True)
    shutil.copytree("/usr/lib/systemd/system", vendors, symlinks=True)
    (tmp_path / "lib").symlink_to("usr/lib")
    (vendors / "cloud-init.service").write_text(CLOUD_INIT)
    (operators / HOST_KEYS_UNIT).write_text(unit)
    for program in ("ssh-keygen", "true"):
        (tmp_path / "usr/bin").mkdir(exist_ok=True)
        (tmp_path / "usr/bin" / program).touch(mode=0o755)
    names = ["ssh.service", "ssh.socket", "cloud-init.service", HOST_KEYS_UNIT]
    subprocess.run(
        ["systemctl", f"--root={tmp_path}", "--quiet", "enable", *names], check=True, stderr=subprocess.DEVNULL
    )
    verify = ["systemd-analyze", "verify", f"--root={tmp_path}", "multi-user.target"]
    said = subprocess.run(verify, capture_output=True, text=True, check=False).stderr
    assert said.count("Found ordering cycle") == circles
    assert [
        line for line in said.splitlines() if HOST_KEYS_UNIT in line and "cycle" not in line.lower()
    ] == [] or circles
