"""The least that makes an instance reachable where cloud-init can neither be found nor installed: a unit of our own.

    DHCP               where nothing else has brought an address
    the key            from the metadata service (OpenStack's tree, then EC2's) or the configuration drive, to one user of the guest
    SSH host keys      those that are missing
    growth             the root's partition and file system

Whom the key goes to, as near to what cloud-init would do as without it can be: the default user of the guest's own cloud-init configuration,
or of its distribution, where that account is there; else the first person (a number of 1000 or more, and a shell) who may become root with
sudo; else root itself, by key only. Nobody is created: a user whom no package of the guest knows of has no sudo. Source of the order: cloud-init,
config/cloud.cfg.tmpl; of the rest: docs.magalu.cloud, custom images (login by key only, no console: someone must be able to become root).
"""

import posixpath
import re
from importlib.resources import files

from migrate.draft import Draft
from migrate.effects import Severity
from migrate.login import LOGIN_FACT
from migrate.remediation import Settings, remediation
from remediations import cloud_config, openrc, services, ssh, sshd_config, systemd
from remediations.needed_packages import CLOUD_INIT, SUDO, has
from remediations.ssh import DEFAULT_USERS, Account, accounts
from remediations.sshd_config import Lines

NAME = "magalu-migrate-first-boot"
PROGRAM = f"/usr/local/sbin/{NAME}"
SCRIPT = files("remediations").joinpath("first-boot.sh")

UNIT = f"""\
# Written by magalu-migrate: cloud-init could not be installed. It stands back as soon as cloud-init is there.
[Unit]
Description=Give this instance its address, key and disk size, in place of cloud-init
After=local-fs.target network.target systemd-udevd.service
ConditionPathExists=!{CLOUD_INIT}

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={PROGRAM}
StandardOutput=journal+console
TimeoutStartSec=15min

[Install]
WantedBy=multi-user.target
"""

OPENRC = f"""\
#!/sbin/openrc-run
# Written by magalu-migrate: cloud-init could not be installed.
description="Give this instance its address, key and disk size, in place of cloud-init"
command="{PROGRAM}"
command_background="yes"
pidfile="/run/{NAME}.pid"
output_log="/dev/console"
error_log="/dev/console"

depend() {{
\tneed localmount
\tafter net networking dhcpcd
}}
"""

SYSV = f"""\
#!/bin/sh
# Written by magalu-migrate: cloud-init could not be installed.
### BEGIN INIT INFO
# Provides:          {NAME}
# Required-Start:    $local_fs
# Required-Stop:
# Should-Start:      $network
# Default-Start:     2 3 4 5
# Default-Stop:
# Short-Description: Give this instance its address, key and disk size
### END INIT INFO
# chkconfig: 2345 99 01
case "$1" in
    start) {PROGRAM} >/dev/console 2>&1 & ;;
    stop | restart | force-reload | status) ;;
    *) echo "usage: $0 start" >&2; exit 3 ;;
esac
"""

ADMINISTRATORS = frozenset({"sudo", "wheel", "admin"})
"""Groups whose members may become root: the distributions' sudoers, and sudo's own example."""


@remediation(
    "boot-without-cloud-init",
    "Give the instance its address, key and disk size without cloud-init",
    sources=(
        "Nova, metadata service: /openstack/latest/meta_data.json, and EC2's /latest/meta-data; config drive: a disk labelled config-2",
        "systemd.network(5); growpart(1); sfdisk(8), -N; resize2fs(8); xfs_growfs(8); btrfs-filesystem(8)",
        "docs.magalu.cloud, import of custom images: DHCP, a key for the main user, growth",
    ),
)
def boot_without_cloud_init(draft: Draft, settings: Settings) -> None:
    """Without cloud-init nobody gives an instance its key, so nobody would get in. Only where cloud-init is not there and could not be installed, a
    small unit of ours does what is essential.

    At each boot it asks for an address where nothing else did; once per instance it fetches the key for one user, makes missing SSH host
    keys, and grows the root. It is a shell script that needs nothing but what is on every guest, says what it does on the console, and stands
    back as soon as cloud-init is installed. What it does not do is told.
    """
    if has(draft, CLOUD_INIT) or "install-cloud-init" in settings.skip:
        return
    user = key_user(draft)
    why = "gives the instance its address, key and disk size, which nothing else on this guest does"
    if not _start(draft, why):
        draft.find(
            "CLOUD-012",
            "cloud-init is not there, and neither systemd, OpenRC nor /etc/init.d is: nothing would fetch the instance's key.",
            remedy="Install cloud-init, or whatever takes its place, in the source VM.",
            severity=Severity.ERROR,
        )
        return
    draft.write(PROGRAM, script(user), why=why, mode=0o755)
    ssh.admit(draft, user)
    if user == "root":
        _admit_root(draft)
    draft.keep(LOGIN_FACT, user)
    draft.find(
        "CLOUD-007",
        f"In place of cloud-init a unit of ours asks for an address, gives the instance's key to {user}, makes SSH host keys and grows the root. "
        "It does not run user data, create users, set passwords or the hostname, format or mount volumes, or set up a network other than by DHCP.",
        remedy="Install cloud-init in the instance: the unit then stands back.",
    )


def script(user: str) -> str:
    """Return the program that gives its key to a user."""
    return SCRIPT.read_text("utf-8").replace("@USER@", user)


def key_user(draft: Draft) -> str:
    """Return the user of the guest whom the instance's key goes to."""
    there = {
        each.name: each for each in accounts(draft.read("/etc/passwd") or "") if each.is_a_persons and _has_shell(each)
    }
    usual = (cloud_config.read(draft).admits, DEFAULT_USERS.get(draft.os.id))
    found = next((name for name in usual if name in there), None)
    if found is not None and (found == "root" or has(draft, SUDO)):
        return found
    people = sorted((each for each in there.values() if each.uid >= 1000), key=lambda each: each.uid)
    able = (each.name for each in people if ADMINISTRATORS & set(ssh.groups_of(draft, each.name)) and has(draft, SUDO))
    return next(able, "root")


def _has_shell(account: Account) -> bool:
    """Whether somebody may log in; a name that a shell would not read as one word is nobody's. Source: useradd(8), "CAVEATS"."""
    if not re.fullmatch(r"[A-Za-z_][\w.-]*", account.name, re.ASCII):
        return False
    return posixpath.basename(account.shell) not in ("nologin", "false", "sync")


def _start(draft: Draft, why: str) -> bool:
    """Whatever starts this guest starts our program. False where we do not know what that is."""
    if systemd.runs(draft) and any(draft.exists(path) for path in ("/usr/lib/systemd/systemd", "/lib/systemd/systemd")):
        draft.write(f"{systemd.OPERATORS}/{NAME}.service", UNIT, why=why)
        systemd.enable(draft, f"{NAME}.service", why=why)
    elif openrc.runs(draft):
        draft.write(f"{openrc.SCRIPTS}/{NAME}", OPENRC, why=why, mode=0o755)
        openrc.enable(draft, NAME, "default", why=why)
    elif folder := services.scripts(draft):
        draft.write(f"{folder}/{NAME}", SYSV, why=why, mode=0o755)
        services.enable(draft, NAME, why=why)
    elif systemd.runs(draft):
        draft.write(f"{systemd.OPERATORS}/{NAME}.service", UNIT, why=why)
        systemd.enable(draft, f"{NAME}.service", why=why)
    else:
        return False
    return True


def _admit_root(draft: Draft) -> None:
    """The SSH server lets root in by key, and by nothing else. Source: sshd_config(5), PermitRootLogin."""
    said = sshd_config.first(sshd_config.directives(draft), "PermitRootLogin")
    if said and said.args[:1] in (("no",), ("forced-commands-only",)):
        lines: Lines = {}
        sshd_config.change(lines, said, ("prohibit-password",))
        sshd_config.write(draft, lines, why="keeps out root, who alone on this guest can be given the instance's key")
