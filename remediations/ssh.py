"""The SSH server: the only way into an instance of Magalu Cloud, by the key that cloud-init brings."""

import ipaddress
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from migrate.draft import Draft
from migrate.effects import Severity
from migrate.remediation import Settings, remediation
from remediations import cloud_config, ini, services, shell_variables, sshd_config, systemd
from remediations.sshd_config import Directive, Lines, change, every, first, matches

HOST_KEYS_UNIT = "magalu-migrate-host-keys.service"
HOST_KEYS = """\
# Written by magalu-migrate. The source's host keys were removed, and not every SSH server makes new ones by itself.
# It comes after cloud-init, which removes and makes the keys of a new instance, and before every other maker of keys.
[Unit]
Description=Make the SSH host keys that this machine does not have
Documentation=man:ssh-keygen(1)
After=local-fs.target cloud-init.service cloud-init-network.service
Before=ssh.service sshd.service sshd-keygen.service sshd-keygen.target
Before=sshd-keygen@rsa.service sshd-keygen@ecdsa.service sshd-keygen@ed25519.service
ConditionFileIsExecutable=/usr/bin/ssh-keygen
ConditionPathIsReadWrite=/etc/ssh

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/ssh-keygen -A

[Install]
WantedBy=multi-user.target
"""

HOST_KEYS_JOB = """\
# Written by magalu-migrate. The source's host keys were removed, and the SSH server makes none by itself.
description "Make the SSH host keys that this machine does not have"
start on starting ssh
task
exec /usr/bin/ssh-keygen -A
"""

DEFAULT_USERS = {
    "debian": "debian",
    "ubuntu": "ubuntu",
    "rocky": "rocky",
    "almalinux": "almalinux",
    "fedora": "fedora",
    "centos": "cloud-user",
    "rhel": "cloud-user",
    "ol": "cloud-user",
    "amzn": "ec2-user",
    "sles": "sles",
    "opensuse-leap": "opensuse",
}
"""The user that cloud-init's package of a distribution makes. Source: cloud-init, config/cloud.cfg.tmpl."""


@remediation(
    "make-host-keys-at-first-boot",
    "Make new SSH host keys at the first boot",
    sources=(
        "ssh-keygen(1), -A; sshd(8): it does not start without a host key",
        "cloud-init, cc_ssh.py: ssh_deletekeys; disable-sshd-keygen-if-cloud-init-active.conf: no keys from sshd-keygen@ meanwhile",
        "canonical/cloud-init#2642, vagrant-libvirt#759: host keys removed and never made again on Debian and Ubuntu",
    ),
)
def make_host_keys_at_first_boot(draft: Draft, settings: Settings) -> None:
    """Everybody who has the image, or another instance of it, would have the host keys in it and could pose as this machine. They go.

    cloud-init makes new ones where it works; Debian's server itself makes none. A unit of our own therefore makes what is
    missing at each boot, after cloud-init and before the server. Keys that lie elsewhere than /etc/ssh are told and kept.
    """
    if not _make_keys(draft):
        draft.find(
            "SSH-011",
            "nothing in the guest would make new SSH host keys, so the old ones are kept",
            remedy="Remove /etc/ssh/ssh_host_* in the instance and run ssh-keygen -A there.",
        )
        return
    for path in draft.glob("/etc/ssh/ssh_host_*"):
        draft.remove(path, why="is shared otherwise by the source and every instance of the image")
    for each in every(sshd_config.directives(draft), "HostKey"):
        elsewhere = each.args and not _is_usual(each.args[0])
        if elsewhere and draft.exists(each.args[0]):
            draft.find(
                "SSH-007",
                f"the host key {each.args[0]} is kept, as {each.path}:{each.number} asks for it there: every instance will share it",
                remedy="Make a new one in the instance.",
            )


def _make_keys(draft: Draft) -> bool:
    """Something makes host keys before the server starts, where systemd or upstart starts it; other servers' scripts mostly do so themselves."""
    why = "makes host keys where cloud-init does not; without any, the SSH server does not start"
    match services.init(draft):
        case services.Init.SYSTEMD:
            draft.write(f"{systemd.OPERATORS}/{HOST_KEYS_UNIT}", HOST_KEYS, why=why)
            systemd.enable(draft, HOST_KEYS_UNIT, why=why)
            return True
        case services.Init.UPSTART if draft.exists(f"{services.JOBS}/ssh.conf"):
            draft.write(f"{services.JOBS}/magalu-migrate-host-keys.conf", HOST_KEYS_JOB, why=why)
            return True
    paths = (services.script(draft, name) for name in ("sshd", "ssh"))
    return any("keygen" in (draft.read(path) or "") for path in paths if path is not None)


def _is_usual(path: str) -> bool:
    """Whether a host key is where `ssh-keygen -A` makes it."""
    return PurePosixPath(path).parent == PurePosixPath("/etc/ssh") and PurePosixPath(path).name.startswith("ssh_host_")


@dataclass(frozen=True, slots=True)
class Account:
    """A line of passwd(5)."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str

    @property
    def is_a_persons(self) -> bool:
        """Root, and who may log in with an ordinary user's number. Source: login.defs(5), UID_MIN."""
        return self.uid == 0 or (
            self.uid >= 1000 and posixpath.basename(self.shell) not in ("nologin", "false", "sync")
        )


def accounts(text: str) -> tuple[Account, ...]:
    """Return the accounts of a passwd(5) that have a home of their own."""
    found = []
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) == 7 and fields[2].isdigit() and fields[3].isdigit() and fields[5].startswith("/"):
            home = "/" + posixpath.normpath(fields[5]).lstrip("/")
            if home != "/":
                found.append(Account(fields[0], int(fields[2]), int(fields[3]), home, fields[6]))
    return tuple(found)


def keys_in(text: str) -> tuple[str, ...]:
    """Return type and comment of each key of an authorized_keys: sshd(8), AUTHORIZED_KEYS FILE FORMAT."""
    kinds = r"(?:^|\s)((?:ssh|ecdsa|sk)-[\w@.-]+)\s+AAAA\S+[ \t]*(.*)$"
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("#"))
    return tuple(" ".join(filter(None, found.groups())) for line in lines if (found := re.search(kinds, line)))


@remediation(
    "forget-authorized-keys",
    "Forget the SSH keys that open the image's users",
    sources=(
        'Magalu Cloud, custom images, errors: "public key permission denied" comes from authorized_keys left in the image\'s users',
        "sshd_config(5), AuthorizedKeysFile; passwd(5)",
    ),
)
def forget_authorized_keys(draft: Draft, settings: Settings) -> None:
    """The files with the keys of root and of ordinary users are removed; cloud-init writes the instance's key into a new one.

    Magalu Cloud demands it, and keys of a former place open every instance. Who had which key stays in the report. Accounts of services
    (a system's number, or no shell) keep theirs, which their programs need, and are told.
    """
    for account in accounts(draft.read("/etc/passwd") or ""):
        for path in sshd_config.key_files(draft, account.name, account.home):
            file = draft.file(path)
            if file is None:
                continue
            keys = keys_in(file.text)
            if account.is_a_persons:
                if keys:
                    draft.keep("authorized keys before", f"{path}: {', '.join(keys)}")
                draft.remove(
                    path,
                    why="opens the machine to keys of the source, and Magalu Cloud refuses logins where it is left",
                )
            elif keys:
                draft.find(
                    "SSH-010",
                    f"{path} is kept, because {account.name} is a service's account: {', '.join(keys)}",
                    remedy="Remove in the instance what is not needed there.",
                    severity=Severity.NOTE,
                )


@remediation(
    "allow-key-login",
    "Let the instance's user in by key",
    sources=(
        "sshd_config(5); Magalu Cloud, custom images: only login by key is supported, and there is no console",
        "cloud-init, ssh_util.py, extract_authorized_keys: of sshd's configuration it reads the main file only",
    ),
)
def allow_key_login(draft: Draft, settings: Settings) -> None:
    """What keeps the user whom cloud-init makes from logging in with a key is changed where that is certain, and told where not.

    sshd's configuration is read as sshd reads it. Changed are: public keys switched off; lists of users or groups without the new
    user; key files where cloud-init does not write; commands for keys that are not installed; addresses to listen on that the new
    machine does not have. Told are: logins that need more than a key, rules for some logins only, another port, hosts.deny.
    """
    user = cloud_config.read(draft).admits or DEFAULT_USERS.get(draft.os.id, draft.os.id)
    _public_keys(draft)
    _key_files(draft)
    _commands(draft)
    _addresses(draft)
    _sockets(draft)
    admit(draft, user)
    _tell_conditions(draft)
    _tell_ports(draft)
    _tell_closed_doors(draft)


@remediation(
    "enable-sshd",
    "Start the SSH server at each boot",
    sources=(
        "systemctl(1), rc-update(8), chkconfig(8), init(5) of upstart; ssh.service, ConditionPathExists=!/etc/ssh/sshd_not_to_be_run",
    ),
)
def enable_sshd(draft: Draft, settings: Settings) -> None:
    """Nothing keeps the SSH server from starting, and something starts it: its service, or its socket where that is enabled.

    A server that is not installed yet is enabled by its package.
    """
    why = "is the only way into an instance of Magalu Cloud"
    draft.remove("/etc/ssh/sshd_not_to_be_run", why="keeps Debian's SSH server from starting")
    for unit in ("ssh.service", "sshd.service"):
        systemd.unmask(draft, unit, why=why)
    if any(systemd.enabled(draft, unit) for unit in ("ssh.socket", "sshd.socket")):
        return
    names = ("ssh", "sshd")
    if draft.exists("/usr/sbin/sshd") and not any(services.starts(draft, name) for name in names):
        any(services.enable(draft, name, why=why) for name in names)


# What is changed


def _public_keys(draft: Draft) -> None:
    found = sshd_config.directives(draft)
    said = first(found, "PubkeyAuthentication")
    if said and said.args[:1] == ("no",):
        lines: Lines = {}
        change(lines, said, ("yes",))
        sshd_config.write(draft, lines, why="switches off the only way to log in that Magalu Cloud supports")


def _key_files(draft: Draft) -> None:
    """cloud-init writes into the first path of the main file's line that is a user's own, else into ~/.ssh/authorized_keys."""
    found = sshd_config.directives(draft)
    said = first(found, "AuthorizedKeysFile")
    usual = (".ssh/authorized_keys", "%h/.ssh/authorized_keys")
    if said is None or any(path in usual for path in said.args):
        return
    if said.path == sshd_config.MAIN and any("%u" in path or "%h" in path for path in said.args):
        return
    lines: Lines = {}
    rest = tuple(path for path in said.args if path != "none")
    change(lines, said, (*rest, ".ssh/authorized_keys"))
    sshd_config.write(draft, lines, why="leaves out the file where cloud-init puts the instance's key")
    draft.find(
        "SSH-003",
        f"keys were looked for in {' '.join(said.args)} only, where cloud-init does not write the instance's key; users' own files "
        "count now too",
        remedy="Take .ssh/authorized_keys out again once the instance's keys are where they belong.",
    )


def _commands(draft: Draft) -> None:
    found = sshd_config.directives(draft)
    lines: Lines = {}
    for each in every(found, "AuthorizedKeysCommand"):
        program = each.args[0] if each.args else "none"
        if program != "none" and not draft.exists(program):
            change(lines, each, None)
    left = [each for each in every(found, "AuthorizedKeysCommand") if each.number not in lines.get(each.path, {})]
    if lines and not left:
        for each in every(found, "AuthorizedKeysCommandUser"):
            change(lines, each, None)
    sshd_config.write(draft, lines, why="asks a program for keys that is not installed")


def _addresses(draft: Draft) -> None:
    """An address that only the source had becomes any address of its family, which loopback is one of."""
    listening = [each for each in every(sshd_config.directives(draft), "ListenAddress") if each.args]
    known = {each.args[0] for each in listening if _is_any(each.args[0])}
    gone = [each for each in listening if not (_is_any(each.args[0]) or _is_loopback(each.args[0]))]
    lines: Lines = {}
    for each in gone:
        wanted = _anywhere(each.args[0])
        change(lines, each, None if wanted in known else (wanted, *each.args[1:]))
        known.add(wanted)
    for each in listening if gone else ():
        if _is_loopback(each.args[0]):
            change(lines, each, None)
    sshd_config.write(draft, lines, why="makes the server listen on an address that only the source had, and fail")
    if listening and not gone and all(_is_loopback(each.args[0]) for each in listening):
        draft.find(
            "SSH-005",
            f"the SSH server listens to this machine only: {listening[0]}",
            remedy="Remove the ListenAddress in the source VM.",
        )


def _sockets(draft: Draft) -> None:
    for unit in ("ssh.socket", "sshd.socket"):
        for path in (f"{systemd.OPERATORS}/{unit}", *draft.glob(f"{systemd.OPERATORS}/{unit}.d/*.conf")):
            draft.edit(
                path, without_addresses, why="makes the server listen on an address that only the source had, and fail"
            )


def without_addresses(text: str) -> str:
    """Return a socket unit where what listens on one certain address listens on all, with the same port."""
    pieces = []
    for entry in ini.entries(text, continued=True):
        address = entry.value.rpartition(":")[0]
        if (entry.section, entry.key) == ("Socket", "ListenStream") and address and not _is_any(address):
            port = entry.value.rpartition(":")[2]
            pieces.append(entry.raw if _is_loopback(address) else f"ListenStream={port}\n")
        else:
            pieces.append(entry.raw)
    return "".join(pieces)


def admit(draft: Draft, user: str) -> None:
    """No list of users or groups keeps somebody out, where that is certain; where it is not, it is told."""
    _users(draft, user)
    _groups(draft, user)


def _users(draft: Draft, user: str) -> None:
    found = sshd_config.directives(draft)
    allowed = every(found, "AllowUsers")
    lines: Lines = {}
    if allowed and not any(matches(name, user) for each in allowed for name in each.args):
        change(lines, allowed[0], (*allowed[0].args, user))
        _tell_added(draft, allowed[0], user)
    for each in every(found, "DenyUsers"):
        if user in each.args:
            change(lines, each, tuple(name for name in each.args if name != user) or None)
        elif any(matches(name, user) for name in each.args):
            _tell_denied(draft, each, user)
    sshd_config.write(draft, lines, why=f"keeps out {user}, whom cloud-init gives the instance's key")


def _groups(draft: Draft, user: str) -> None:
    found = sshd_config.directives(draft)
    allowed = every(found, "AllowGroups")
    groups = groups_of(draft, user)
    if allowed and not any(matches(name, group) for each in allowed for name in each.args for group in groups):
        lines: Lines = {}
        change(lines, allowed[0], (*allowed[0].args, groups[0]))
        sshd_config.write(draft, lines, why=f"keeps out {user}, whom cloud-init gives the instance's key")
        _tell_added(draft, allowed[0], groups[0])
    for each in every(found, "DenyGroups"):
        if any(matches(name, group) for name in each.args for group in groups):
            _tell_denied(draft, each, user)


def groups_of(draft: Draft, user: str) -> tuple[str, ...]:
    """Return the groups that a user has, or will have when cloud-init makes it, its own first. Source: useradd(8), USERGROUPS_ENAB."""
    rows = [line.split(":") for line in (draft.read("/etc/group") or "").splitlines()]
    named = [row for row in rows if len(row) == 4]
    account = next((each for each in accounts(draft.read("/etc/passwd") or "") if each.name == user), None)
    if account is None:
        said = cloud_config.read(draft).value("system_info", "default_user", "groups")
        return (user, *(said if isinstance(said, list) else str(said or "").replace(" ", "").split(",")))
    own = next((row[0] for row in named if row[2] == str(account.gid)), user)
    return (own, *(row[0] for row in named if user in row[3].split(",")))


def _anywhere(address: str) -> str:
    """Return all addresses of the same family, with the same port: "[::]:2222" for "[2001:db8::7]:2222"."""
    host = _host(address)
    port = address.removeprefix(f"[{host}]" if address.startswith("[") else host)
    if ":" not in host:
        return f"0.0.0.0{port}"  # noqa: S104
    return f"[::]{port}" if port else "::"


def _is_any(address: str) -> bool:
    host = _host(address)
    return host in ("0.0.0.0", "::", "*")  # noqa: S104


def _is_loopback(address: str) -> bool:
    host = _host(address)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _host(address: str) -> str:
    """Return the host of "host", "host:port" or "[host]:port"."""
    bracketed = re.fullmatch(r"\[([^]]*)\](?::\w+)?", address)
    if bracketed:
        return bracketed[1]
    return address.partition(":")[0] if address.count(":") == 1 else address


# What is told


def _tell_added(draft: Draft, rule: Directive, name: str) -> None:
    draft.find(
        "SSH-001",
        f"{rule} did not let in the instance's own user; {name} was added to it",
        remedy="Take it out again when others can log in with their keys.",
        severity=Severity.NOTE,
    )


def _tell_denied(draft: Draft, rule: Directive, user: str) -> None:
    draft.find(
        "SSH-012",
        f"{rule} keeps out {user}, whom cloud-init gives the instance's key",
        remedy="Change the rule in the source VM.",
    )


def _locks_out(each: Directive) -> bool:
    match each.keyword:
        case "authenticationmethods":
            return not any(method in ("any", "publickey") for method in each.args)
        case "pubkeyauthentication":
            return bool(each.match) and each.args[:1] == ("no",)
        case "allowusers" | "allowgroups" | "denyusers" | "denygroups":
            return bool(each.match)
    return False


def _tell_conditions(draft: Draft) -> None:
    found = sshd_config.directives(draft)
    methods = first(found, "AuthenticationMethods")
    if methods and _locks_out(methods):
        draft.find(
            "SSH-002",
            f"logins need more than a key, which the instance's user does not have: {methods}",
            remedy='Add "publickey" as another method in the source VM, or exempt the instance\'s user with a Match block.',
        )
    for each in found:
        if each.match and _locks_out(each):
            draft.find("SSH-004", f"may keep the instance's user out: {each}", remedy="Check whom the rule is for.")


def _tell_ports(draft: Draft) -> None:
    found = sshd_config.directives(draft)
    ports = [each.args[0] for each in every(found, "Port") if each.args]
    if ports and "22" not in ports:
        draft.find(
            "SSH-006",
            f"the SSH server listens on port {', '.join(ports)} and not on 22",
            remedy="Open that port in the instance's security group.",
            severity=Severity.NOTE,
        )
    for path, name in (("/etc/default/ssh", "SSHD_OPTS"), ("/etc/sysconfig/sshd", "OPTIONS")):
        options = shell_variables.variables(draft.read(path) or "").get(name, "")
        if re.search(r"(^|\s)-[ofp]", options):
            draft.find(
                "SSH-009", f"{path} puts options over the SSH server's configuration: {options}", severity=Severity.NOTE
            )


def _tell_closed_doors(draft: Draft) -> None:
    denied = [rule for rule in wrapper_rules(draft.read("/etc/hosts.deny") or "") if rule[0] & {"sshd", "ALL"}]
    opened = [rule for rule in wrapper_rules(draft.read("/etc/hosts.allow") or "") if rule[0] & {"sshd", "ALL"}]
    if denied and not any("ALL" in clients for _, clients in opened):
        shown = "; ".join(f"{' '.join(sorted(daemons))}: {' '.join(sorted(clients))}" for daemons, clients in denied)
        draft.find(
            "SSH-008",
            f"/etc/hosts.deny keeps people out of the SSH server ({shown}), and /etc/hosts.allow names only some of them",
            remedy="Let in the addresses that you will come from, or add sshd: ALL to hosts.allow in the source VM.",
        )
    if draft.exists("/etc/nologin"):
        draft.find("SSH-008", "/etc/nologin keeps everybody but root out", remedy="Remove it in the source VM.")


def wrapper_rules(text: str) -> Iterator[tuple[frozenset[str], frozenset[str]]]:
    """Yield the daemons and clients of each rule. Source: hosts_access(5)."""
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip() and not line.lstrip().startswith("#") and ":" in line:
            daemons, clients = line.split(":")[:2]
            yield frozenset(re.split(r"[\s,]+", daemons.strip())), frozenset(re.split(r"[\s,]+", clients.strip()))
