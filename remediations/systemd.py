"""Switch units of systemd on and off, as `systemctl enable`, `disable`, `mask` and `unmask` do on a system that is not running.

Sources: systemctl(1); systemd.unit(5), "Unit File Load Path" and "[Install] Section Options"; systemd.syntax(7).
"""

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from migrate.draft import Draft
from migrate.guest import Kind, Link
from remediations import ini

OPERATORS = "/etc/systemd/system"
FOLDERS = (OPERATORS, "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
"""Where unit files are, the first one winning. /run is empty on a disk."""

SCRIPTS = ("/etc", "/etc/rc.d", "/etc/init.d")
"""Where the folders of links are by which scripts are started: on Debian, Red Hat's systems, SUSE."""

OTHER_INITS = ("/sbin/openrc", "/sbin/initctl", "/etc/inittab")

RELATIONS = {"WantedBy": "wants", "RequiredBy": "requires", "UpheldBy": "upholds"}
_SUFFIXES = tuple(f".{kind}" for kind in RELATIONS.values())


@dataclass(frozen=True, slots=True)
class Install:
    """A unit's [Install] section. `links` are folders below /etc/systemd/system ("multi-user.target.wants")."""

    links: tuple[str, ...] = ()
    alias: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    default_instance: str = ""


@dataclass(frozen=True, slots=True)
class _Lists:
    values: dict[str, list[str]] = field(default_factory=dict)

    def add(self, key: str, value: str) -> None:
        """An empty value forgets the former ones."""
        if value:
            self.values.setdefault(key, []).extend(value.split())
        else:
            self.values[key] = []


def install_section(*texts: str) -> Install:
    """Return what [Install] says in a unit file and, after it, its drop-ins."""
    lists = _Lists()
    for text in texts:
        for section, key, value in ini.settings(text, continued=True):
            if section == "Install":
                lists.add(key, value)
    found = lists.values
    return Install(
        tuple(f"{target}.{kind}" for key, kind in RELATIONS.items() for target in found.get(key, ())),
        tuple(found.get("Alias", ())),
        tuple(found.get("Also", ())),
        next(reversed(found.get("DefaultInstance", ())), ""),
    )


def unit_file(draft: Draft, unit: str) -> str | None:
    """Return the path of the file that a unit is loaded from, aliases followed; None where there is none or it is masked.

    For an instance ("getty@tty1.service") it is the template's file.
    """
    for _ in range(8):  # an alias of an alias: more is a circle
        found = _first(draft, unit) or _first(draft, _template(unit))
        if found is None or _is_mask(draft, found):
            return None
        entry = draft.load(found)
        name = PurePosixPath(entry.target).name if isinstance(entry, Link) else ""
        if name in ("", unit, _template(unit)):
            return found if draft.exists(found) else None
        unit = name
    return None


def unit_name(draft: Draft, unit: str) -> str:
    """Return the name that an alias stands for ("ssh.service" for "sshd.service" on Debian), or the name itself."""
    path = unit_file(draft, unit)
    name = unit if path is None else PurePosixPath(path).name
    return unit if name == _template(unit) else name


def masked(draft: Draft, unit: str) -> bool:
    """Whether systemd refuses to start the unit at all: its file is a link to /dev/null, or empty."""
    found = _first(draft, unit) or _first(draft, _template(unit))
    return found is not None and _is_mask(draft, found)


def enabled(draft: Draft, unit: str) -> bool:
    """Whether something starts the unit at boot: a link in a .wants or .requires folder of the operator's or of the vendor's."""
    if unit_file(draft, unit) is None:
        return False
    names = dict.fromkeys((unit, unit_name(draft, unit)))
    links = (f"{folder}/{name}" for above in FOLDERS for folder in _relations(draft, above) for name in names)
    return any(draft.kind(path) is not Kind.MISSING for path in links)


def _relations(draft: Draft, folder: str) -> tuple[str, ...]:
    """Return the folders of links below a folder of units."""
    return tuple(f"{folder}/{name}" for name in draft.names(folder) if name.endswith(_SUFFIXES))


def starts(draft: Draft, unit: str) -> bool:
    """Whether the unit, or the script in /etc/init.d of a service that has no unit, is started at boot."""
    return enabled(draft, unit) or bool(_script_links(draft, unit))


def enable(draft: Draft, unit: str, *, why: str) -> bool:
    """The unit, and what it names in Also=, is unmasked and has the links of its [Install] section.

    Return False, and change nothing, where the guest has no such unit.
    """
    unmask(draft, unit, why=why)
    if unit_file(draft, unit) is None:
        return False
    for name in _with_also(draft, unit_name(draft, unit)):
        path = unit_file(draft, name)
        if path is None:
            continue
        install = _install(draft, name, path)
        linked = name.replace("@.", f"@{install.default_instance}.") if install.default_instance else name
        for folder in install.links:
            _link(draft, f"{OPERATORS}/{_expanded(folder, linked)}/{linked}", path, why)
        for alias in install.alias:
            _link(draft, f"{OPERATORS}/{_expanded(alias, linked)}", path, why)
    return True


def disable(draft: Draft, unit: str, *, why: str) -> None:
    """No link of the operator's starts the unit, or what it names in Also=. Its file stays, and so does a mask.

    Of a service that has only a script in /etc/init.d, the links that start it go. A unit that the vendor's own folder
    starts is still `enabled` afterwards: only `mask` stops it.
    """
    names = set(_with_also(draft, unit_name(draft, unit))) | {unit}
    templates = {_template(name) for name in names}
    folders = (OPERATORS, *_relations(draft, OPERATORS))
    for path in (f"{folder}/{name}" for folder in folders for name in draft.names(folder)):
        entry = draft.load(path) if draft.kind(path) is Kind.LINK else None
        if not isinstance(entry, Link) or entry.target == "/dev/null":
            continue
        target = PurePosixPath(entry.target).name
        if target in names | templates and (target in names or PurePosixPath(path).name in names):
            draft.remove(path, why=why)
    for path in _script_links(draft, unit):
        draft.remove(path, why=why)


def mask(draft: Draft, unit: str, *, why: str) -> None:
    """Nothing can start the unit. An operator's own file of that name gives way."""
    if not masked(draft, unit):
        draft.link(f"{OPERATORS}/{unit}", "/dev/null", why=why)


def unmask(draft: Draft, unit: str, *, why: str) -> None:
    """The operator's mask of the unit is gone."""
    path = f"{OPERATORS}/{unit}"
    if draft.kind(path) is not Kind.MISSING and _is_mask(draft, path):
        draft.remove(path, why=why)


def _script_links(draft: Draft, unit: str) -> tuple[str, ...]:
    """The links that start a service's script: systemd starts those too, where the service has no unit. Source: systemd-sysv-generator(8)."""
    if not unit.endswith(".service") or unit_file(draft, unit) or masked(draft, unit):
        return ()
    links = tuple(path for folder in SCRIPTS for path in draft.glob(f"{folder}/rc[2-5].d/S[0-9][0-9]*"))
    return tuple(path for path in links if PurePosixPath(path).name[3:] == unit.removesuffix(".service"))


def _first(draft: Draft, unit: str) -> str | None:
    paths = (f"{folder}/{unit}" for folder in FOLDERS)
    return next((path for path in paths if draft.kind(path) in (Kind.FILE, Kind.LINK)), None)


def _is_mask(draft: Draft, path: str) -> bool:
    entry = draft.load(path)
    if isinstance(entry, Link):
        return entry.target == "/dev/null"
    file = draft.file(path)
    return file is not None and not file.content


def _install(draft: Draft, unit: str, path: str) -> Install:
    folders = (f"{folder}/{name}.d" for folder in reversed(FOLDERS) for name in dict.fromkeys((_template(unit), unit)))
    drop_ins = {PurePosixPath(file).name: file for folder in folders for file in draft.glob(f"{folder}/*.conf")}
    return install_section(draft.read(path) or "", *(draft.read(drop_ins[name]) or "" for name in sorted(drop_ins)))


def _with_also(draft: Draft, unit: str) -> tuple[str, ...]:
    names: dict[str, None] = {}
    todo = [unit]
    while todo:
        name = todo.pop(0)
        if name not in names:
            names[name] = None
            path = unit_file(draft, name)
            todo.extend(_install(draft, name, path).also if path else ())
    return tuple(names)


def _link(draft: Draft, path: str, target: str, why: str) -> None:
    """Link as systemctl does: one that leads to the same unit, by whatever folder, is left as it is."""
    entry = draft.load(path)
    same = isinstance(entry, Link) and PurePosixPath(entry.target).name == PurePosixPath(target).name
    if not same and path != target:
        draft.link(path, target, why=why)


def _template(unit: str) -> str:
    return re.sub(r"@[^.]*\.", "@.", unit) if "@" in unit else unit


def _expanded(text: str, unit: str) -> str:
    """Expand the specifiers that [Install] sections of real units use."""
    stem = unit.rpartition(".")[0]
    prefix, _, instance = stem.partition("@")
    return text.replace("%i", instance).replace("%p", prefix).replace("%n", unit).replace("%N", stem)


def runs(draft: Draft) -> bool:
    """Whether systemd starts this guest: /sbin/init is a link to it; where that says nothing, its program, or at least no other init, is there.

    Ubuntu 14.04 and Debian with System V init may hold systemd's program, too, and start another.
    """
    init = draft.load("/sbin/init")
    if isinstance(init, Link):
        return "systemd" in init.target
    if init is not None and any(draft.exists(path) for path in OTHER_INITS):
        return False
    if any(draft.exists(path) for path in ("/usr/lib/systemd/systemd", "/lib/systemd/systemd")):
        return True
    return not any(draft.exists(path) for path in OTHER_INITS)
