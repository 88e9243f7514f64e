"""Services, switched on by whatever starts the guest: systemd, OpenRC, upstart, or the scripts of System V.

Sources: systemctl(1); rc-update(8); init(5) of upstart, "manual" and override files; chkconfig(8), "RUNLEVEL FILES"; insserv(8), Linux Standard
Base, "Comment Conventions for Init Scripts".
"""

import re
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePosixPath

from migrate.draft import Draft
from migrate.guest import Kind
from remediations import openrc, systemd

JOBS = "/etc/init"
SCRIPTS = ("/etc/init.d", "/etc/rc.d/init.d")
LINKS = ("/etc/rc.d", "/etc/init.d", "/etc")
"""Where the folders of links are by which scripts are started: Red Hat's, SUSE's, Debian's."""

CHKCONFIG = re.compile(r"^#\s*chkconfig:\s*([0-6]+|-)\s+(\d+)\s+(\d+)", re.MULTILINE)
DEFAULT_START = re.compile(r"^#\s*Default-Start:\s*([0-6 ]+?)\s*$", re.MULTILINE)


class Init(Enum):
    SYSTEMD = "systemd"
    OPENRC = "OpenRC"
    UPSTART = "upstart"
    SYSTEM_V = "System V init"


@dataclass(frozen=True, slots=True)
class Levels:
    """The runlevels in which a script is started, and its place in their order."""

    levels: str = "2345"
    number: int = 99


def init(draft: Draft) -> Init:
    """Return what starts the guest's services."""
    if systemd.runs(draft):
        return Init.SYSTEMD
    if openrc.runs(draft):
        return Init.OPENRC
    return Init.UPSTART if draft.exists("/sbin/initctl") else Init.SYSTEM_V


def script(draft: Draft, name: str) -> str | None:
    """Return the path of a service's script; None where it has none."""
    return next((path for folder in SCRIPTS if draft.file(path := f"{folder}/{name}") is not None), None)


def scripts(draft: Draft) -> str | None:
    """Return the folder of the services' scripts, where something starts those in it; None where there is none."""
    if not any(draft.glob(f"{folder}/rc[2-5].d/*") for folder in LINKS):
        return None
    return next((folder for folder in SCRIPTS if draft.exists(folder)), None)


def starts(draft: Draft, name: str) -> bool:
    """Whether the service is started at each boot."""
    match init(draft):
        case Init.SYSTEMD:
            return systemd.starts(draft, f"{name}.service")
        case Init.OPENRC:
            return bool(draft.glob(f"{openrc.LEVELS}/*/{name}"))
        case Init.UPSTART if draft.exists(f"{JOBS}/{name}.conf"):
            return not any(_is_manual(draft.read(f"{JOBS}/{name}.{kind}") or "") for kind in ("conf", "override"))
        case _:
            return bool(_links(draft, name, "S"))


def enable(
    draft: Draft,
    name: str,
    *,
    why: str,
    level: str = "default",
    target: str = "multi-user.target",
    coming: bool = False,
) -> bool:
    """The service is started at each boot. Return False, and change nothing, where the guest has no such service.

    `coming` says that a package brings it without enabling it, as those of Alpine and Arch do: it is enabled before it is there, in OpenRC's
    runlevel `level`, or wanted by systemd's `target`.
    """
    match init(draft):
        case Init.SYSTEMD:
            return systemd.enable(draft, f"{name}.service", why=why) or (
                coming and _link_unit(draft, name, target, why)
            )
        case Init.OPENRC:
            return _in_level(draft, name, level, why, coming)
        case Init.UPSTART if draft.exists(f"{JOBS}/{name}.conf"):
            draft.edit(f"{JOBS}/{name}.override", _not_manual, why=why)
            return True
        case _:
            return _link_script(draft, name, why)


def levels(text: str) -> Levels:
    """Return what the comments at the head of a script say."""
    found = CHKCONFIG.search(text)
    if found is not None:
        return Levels(Levels().levels if found[1] == "-" else found[1], int(found[2]))
    standard = DEFAULT_START.search(text)
    return Levels("".join(standard[1].split())) if standard is not None else Levels()


def _in_level(draft: Draft, name: str, level: str, why: str, coming: bool) -> bool:
    if not (coming or draft.exists(f"{openrc.SCRIPTS}/{name}")):
        return False
    path = f"{openrc.LEVELS}/{level}/{name}"
    if draft.kind(path) is Kind.MISSING:
        draft.link(path, f"{openrc.SCRIPTS}/{name}", why=why)
    return True


def _link_unit(draft: Draft, name: str, target: str, why: str) -> bool:
    path = f"{systemd.OPERATORS}/{target}.wants/{name}.service"
    if draft.kind(path) is Kind.MISSING:
        draft.link(path, f"/usr/lib/systemd/system/{name}.service", why=why)
    return True


def _link_script(draft: Draft, name: str, why: str) -> bool:
    path = script(draft, name)
    if path is None:
        return False
    above = next((folder for folder in LINKS if draft.kind(f"{folder}/rc3.d") is Kind.FOLDER), LINKS[-1])
    target = f"../{name}" if above == "/etc/init.d" else f"../init.d/{name}"
    wanted = levels(draft.read(path) or "")
    for level in wanted.levels:
        folder = f"{above}/rc{level}.d"
        if any(_is_link_of(each, name, "S") for each in draft.names(folder)):
            continue
        for each in draft.names(folder):
            if _is_link_of(each, name, "K"):
                draft.remove(f"{folder}/{each}", why="stops the service in this runlevel")
        draft.link(f"{folder}/S{wanted.number:02d}{name}", target, why=why)
    return True


def _links(draft: Draft, name: str, kind: str) -> tuple[str, ...]:
    found = (path for folder in LINKS for path in draft.glob(f"{folder}/rc[2-5].d/{kind}[0-9][0-9]*"))
    return tuple(path for path in found if _is_link_of(PurePosixPath(path).name, name, kind))


def _is_link_of(link: str, name: str, kind: str) -> bool:
    return re.fullmatch(rf"{kind}\d\d{re.escape(name)}", link) is not None


def _is_manual(text: str) -> bool:
    return any(line.split("#")[0].strip() == "manual" for line in text.splitlines())


def _not_manual(text: str) -> str:
    kept = (line for line in text.splitlines(keepends=True) if line.split("#")[0].strip() != "manual")
    return "".join(kept)
