"""Secrets of the guest are not shown, whatever they are called and wherever they lie; what only sounds like one is."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrate import hidden

PLANTED = "Geheim123"


def masked(path: str, text: str) -> str:
    return "\n".join(hidden.lines(path, text.split("\n")))


@pytest.mark.parametrize(
    "path",
    [
        "/etc/shadow",
        "/etc/shadow-",
        "/etc/gshadow",
        "/etc/security/opasswd",
        "/etc/ssh/ssh_host_ed25519_key",
        "/etc/ssl/private/web.pem",
        "/etc/pki/tls/private/localhost.key",
        "/etc/wireguard/wg0.conf",
        "/etc/ppp/chap-secrets",
        "/etc/ipsec.secrets",
        "/etc/kubernetes/admin.conf",
        "/etc/letsencrypt/live/a.example/privkey.pem",
        "/etc/sysconfig/network-scripts/keys-wlan0",
        "/etc/krb5.keytab",
        "/var/lib/waagent/ABC.prv",
        "/var/lib/waagent/ovf-env.xml",
        "/var/lib/amazon/ssm/Vault/Store/RegistrationKey",
        "/var/lib/cloud/instances/i-1/user-data.txt",
        "/var/lib/cloud/seed/nocloud/user-data",
        "/root/.netrc",
        "/root/.kube/config",
        "/home/ana/.aws/credentials",
        "/home/ana/.ssh/id_rsa",
        "/home/ana/.pgpass",
        "/srv/kubeconfig",
    ],
)
def test_of_some_files_nothing_is_shown(path: str) -> None:
    assert hidden.is_secret(path)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "/etc/fstab",
        "/etc/ssh/sshd_config",
        "/etc/ssh/ssh_host_ed25519_key.pub",
        "/root/.ssh/authorized_keys",
        "/etc/pam.d/common-password",
        "/etc/cloud/cloud.cfg",
        "/etc/waagent.conf",
    ],
)
def test_of_others_everything_is(path: str) -> None:
    assert not hidden.is_secret(path, b"-----BEGIN CERTIFICATE-----\n")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/etc/app.ini", f"password = {PLANTED} and more {PLANTED}"),
        ("/etc/app.ini", f"  db_password={PLANTED}"),
        ("/etc/app.ini", f"#password={PLANTED}"),
        ("/etc/app.ini", f"smtp_pass: {PLANTED}"),
        ("/etc/app.ini", f"api-key = '{PLANTED}'"),
        ("/etc/app.ini", f"client_secret={PLANTED}"),
        ("/etc/app.ini", f"password = first\n  {PLANTED}\nx = 1"),
        ("/etc/default/app", f'export DB_PASSWORD="{PLANTED} {PLANTED}"'),
        ("/etc/default/app", f"DSN=postgres://app:{PLANTED}@10.0.0.1/app"),
        ("/etc/app.json", f'{{"user": "a", "password": "{PLANTED}", "port": 1}}'),
        ("/etc/app.json", f'  "token":\n    "{PLANTED}"'),
        ("/etc/app.json", '{"a": "' + "x" * 5000 + f'", "secret": "{PLANTED}"}}'),
        ("/etc/app.xml", f"<a><password>{PLANTED}</password></a>"),
        ("/etc/app.xml", f'<user password="{PLANTED}"/>'),
        ("/etc/app.yaml", f"passwords:\n  - {PLANTED}\n  - {PLANTED}\nx: 1"),
        ("/etc/app.yaml", f"secrets:\n- {PLANTED}\n- {PLANTED}\nx: 1"),
        ("/etc/app.yaml", f"password: |\n  {PLANTED}\n\n  {PLANTED}\nx: 1"),
        ("/etc/app.yaml", f"- token: {PLANTED}"),
        ("/etc/cloud/cloud.cfg.d/90.cfg", f"chpasswd:\n  list: |\n    root:{PLANTED}\nx: 1"),
        ("/etc/cloud/cloud.cfg.d/90.cfg", f"    plain_text_passwd: {PLANTED}"),
        ("/etc/netplan/01.yaml", f'      access-points: {{"home": {{password: "{PLANTED}"}}}}'),
        ("/etc/netplan/01.yaml", f"  wg0:\n    key: {PLANTED}="),
        ("/etc/netplan/01.yaml", f"      keys: {{private: {PLANTED}, shared: {PLANTED}}}"),
        ("/etc/NetworkManager/system-connections/a.nmconnection", f"[wifi-security]\npsk={PLANTED}"),
        ("/etc/NetworkManager/system-connections/a.nmconnection", f"[802-1x]\npassword={PLANTED}"),
        ("/etc/NetworkManager/system-connections/a.nmconnection", f"[vpn-secrets]\nXauth thing={PLANTED}"),
        ("/etc/NetworkManager/system-connections/a", f"[gsm]\npin={PLANTED}"),
        ("/etc/systemd/network/wg.netdev", f"[WireGuard]\nPrivateKey={PLANTED}\nPresharedKey={PLANTED}"),
        ("/etc/systemd/network/macsec.netdev", f"Key={PLANTED}"),
        ("/etc/network/interfaces", f"    wpa-psk {PLANTED}"),
        ("/etc/network/interfaces", f"    wireless-key1 {PLANTED}"),
        ("/etc/wpa_supplicant/wpa_supplicant.conf", f'    psk="{PLANTED}"\n    wep_key0={PLANTED}'),
        ("/etc/keepalived/keepalived.conf", f"        auth_pass {PLANTED}"),
        ("/etc/snmp/snmpd.conf", f"rocommunity {PLANTED} 10.0.0.0/8"),
        ("/etc/iscsi/iscsid.conf", f"node.session.auth.password = {PLANTED}"),
        ("/etc/fstab", f"//nas/x /mnt cifs username=a,password={PLANTED},uid=0 0 0"),
        ("/etc/yum.repos.d/a.repo", f"password={PLANTED}\nbaseurl=https://u:{PLANTED}@repo.example/"),
        ("/etc/apt/sources.list", f"deb https://u:{PLANTED}@repo.example/ stable main"),
        ("/etc/systemd/system/a.service", f"Environment=DB_PASSWORD={PLANTED}"),
        ("/etc/systemd/system/a.service", f'Environment="A=1" "API_TOKEN={PLANTED}"'),
        ("/etc/systemd/system/a.service", f"ExecStart=/bin/a --password {PLANTED}"),
        ("/etc/systemd/system/a.service.d/b.conf", f"SetCredential=a:{PLANTED}"),
        ("/etc/default/grub", f'GRUB_CMDLINE_LINUX="quiet rd.iscsi.password={PLANTED}"'),
        ("/usr/local/bin/backup", f"curl -u admin:{PLANTED} https://a.example"),
        ("/usr/local/bin/backup", f"sshpass -p '{PLANTED}' ssh a"),
        ("/usr/local/bin/backup", f'curl -H "Authorization: Bearer {PLANTED}"'),
        ("/usr/local/bin/backup", f"mysql -e \"CREATE USER a IDENTIFIED BY '{PLANTED}'\""),
        ("/etc/users", f"root:$6$salt${PLANTED}:1"),
        ("/etc/users", f"root:$y$j9T$salt${PLANTED}:1"),
        ("/etc/pam.d/x", f"auth required pam_x.so secret={PLANTED}"),
        ("/boot/grub/grub.cfg", f"password_pbkdf2 root grub.pbkdf2.sha512.10000.{PLANTED}"),
        ("/etc/ldap.conf", f"rootpw {{SSHA}}{PLANTED}"),
    ],
)
def test_what_is_called_a_secret_is_not_shown(path: str, text: str) -> None:
    assert PLANTED not in masked(path, text)
    assert len(hidden.lines(path, text.split("\n"))) == len(text.split("\n"))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/etc/nsswitch.conf", "passwd: files sss\nshadow: files sss"),
        ("/etc/pam.d/common-password", "password [success=1 default=ignore] pam_unix.so obscure"),
        ("/etc/ssh/sshd_config", "PasswordAuthentication no\nPermitEmptyPasswords no"),
        ("/etc/login.defs", "PASS_MAX_DAYS 99999"),
        ("/etc/cloud/cloud.cfg", "ssh_pwauth: false\nusers:\n  - name: a\n    lock_passwd: true"),
        ("/etc/fstab", "# <file system> <mount point> <type> <options> <dump> <pass>"),
        ("/etc/NetworkManager/system-connections/a.nmconnection", "[wifi-security]\nkey-mgmt=wpa-psk\npsk-flags=1"),
        ("/etc/yum.repos.d/a.repo", "gpgkey=file:///etc/pki/rpm-gpg/KEY\nsslclientkey=/etc/pki/product/key"),
        ("/etc/apt/preferences", "Pin: release a=stable\nPin-Priority: 500"),
        ("/etc/systemd/system/a.service", "Description=Forward Password Requests\nExecStart=/usr/bin/ssh-keygen -A"),
        ("/etc/default/grub", 'GRUB_CMDLINE_LINUX="quiet console=ttyS0,115200n8"'),
        ("/etc/sudoers.d/90", "ana ALL=(ALL) NOPASSWD:ALL"),
        ("/etc/keepalived/keepalived.conf", "auth_type PASS"),
        ("/etc/hosts", "127.0.0.1 localhost"),
    ],
)
def test_what_only_sounds_like_a_secret_is_shown(path: str, text: str) -> None:
    assert masked(path, text) == text


def test_behind_a_secret_a_command_line_goes_on() -> None:
    line = "linux /vmlinuz root=UUID=1 rd.iscsi.password=abc quiet console=ttyS0"
    assert masked("/boot/grub/grub.cfg", line) == (
        "linux /vmlinuz root=UUID=1 rd.iscsi.password=(not shown) quiet console=ttyS0"
    )


def test_our_own_words_do_not_quote_secrets() -> None:
    said = f"/etc/raddb names 10.0.0.1: line 3: 10.0.0.1 secret={PLANTED}; line 9: http://a:{PLANTED}@10.0.0.1/"
    assert hidden.sentence(said) == (
        "/etc/raddb names 10.0.0.1: line 3: 10.0.0.1 secret=(not shown) line 9: http://a:(not shown)@10.0.0.1/"
    )
    assert hidden.sentence("line 2: interface ens192") == "line 2: interface ens192"


@pytest.mark.parametrize(
    "line", ["a" * 200_000, "password" * 3000, "pass " * 800, "<password " * 390, "k: " * 1300, "://a:" * 800]
)
def test_hostile_lines_take_no_time(line: str) -> None:
    began = time.monotonic()
    hidden.lines("/etc/x", [line] * 3)
    hidden.sentence(line)
    assert time.monotonic() - began < 2


@given(st.lists(st.text(st.characters(exclude_characters="\n"))))
def test_each_line_stays_a_line(text: list[str]) -> None:
    found = hidden.lines("/etc/x", text)
    assert len(found) == len(text)
    assert all("\n" not in line for line in found)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("/etc/fstab", "//srv/b /c cifs user=ana%visible,vers=3 0 0"),
        ("/etc/fstab", "//ana:visible@srv/c /d cifs defaults 0 0"),
        ("/etc/network/interfaces", "up wg set wg0 private-key visible"),
        ("/boot/grub/grub.cfg", "password root visible"),
    ],
)
def test_secrets_that_no_equals_sign_leads_to_are_hidden(path: str, line: str) -> None:
    assert "visible" not in hidden.lines(path, [line])[0]


def test_a_line_of_pam_that_names_passwords_is_no_secret() -> None:
    line = "password required pam_unix.so"
    assert hidden.lines("/etc/pam.d/sshd", [line]) == [line]
