"""What the guest knows of its own boot, gathered in one login by one script that only reads.

The script waits inside the guest until the boot has ended, which costs the guest nothing, and prints one section per fact. It needs a POSIX
shell; what a guest lacks gives an empty section. The answer is foreign text: sections are told apart by a mark that the guest
cannot know beforehand, and everything is parsed as if it lied.
"""

import contextlib
import json
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from migrate.proof.console import plain

HELLO, END = "hello", "end"

# /run/cloud-init/status.json is what `cloud-init status` prints; reading it saves starting a Python, 4 s under emulation.
# `systemctl is-system-running` leaves "starting" only when no job is left: also the cloud-init of the last stage.
SCRIPT = r"""
exec 2>/dev/null </dev/null
PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C; export PATH LC_ALL
part() { printf '\n%s %s\n' "$mark" "$1"; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@" || "$@"; fi; }
part hello; id -un; date +%s
state=; while [ "$wait" -gt 0 ]; do
  state=$(systemctl is-system-running)
  case "$state" in initializing|starting) ;; *) if [ ! -d /run/cloud-init ] || [ -e /run/cloud-init/result.json ]; then break; fi ;; esac
  [ -e /run/cloud-init/disabled ] && case "$state" in initializing|starting) ;; *) break ;; esac
  sleep 1; wait=$((wait - 1))
done
part state; echo "$state"
part uptime; cat /proc/uptime
part failed; systemctl list-units --state=failed --all --plain --full --no-legend --no-pager
part jobs; systemctl list-jobs --full --no-legend --no-pager
part cloud-status; cat /run/cloud-init/status.json
part cloud-result; cat /run/cloud-init/result.json
part cloud-init; command -v cloud-init
part cloud-log; as_root cat /var/log/cloud-init.log | grep -E -a -e ' - [^ ]+\[(WARNING|ERROR|CRITICAL)\]: ' | tail -n 20
part first-boot; cat /var/lib/magalu-migrate/instance
part addresses; ip -j addr show
part root; findmnt -vbJ -o SOURCE,FSTYPE,SIZE,USED /
part fstab; findmnt -slJ -o SOURCE,TARGET,OPTIONS
part root-devices; lsblk -bJs -o NAME,TYPE,SIZE "$(findmnt -vnro SOURCE /)"
part devices; lsblk -bJ -o NAME,TYPE,SIZE
part host-keys; stat -c '%Y %n' /etc/ssh/ssh_host_*_key.pub
part journal; as_root journalctl -b -q --no-pager -o cat -p warning _PID=1 | grep -a -E -e 'Timed out waiting for device' -e "failed with result .(dependency|timeout)" -e 'Dependency failed' | head -n 40
part end
"""


@dataclass(frozen=True, slots=True)
class Script:
    """The script for one session. `mark` is what starts each of its section headings."""

    mark: str
    text: str


def new_script(wait_s: int) -> Script:
    """Return the script, with a mark that no guest can know beforehand; it waits at most `wait_s` seconds for the boot to end."""
    mark = f"@{secrets.token_hex(12)}"
    return Script(mark, f"mark={mark} wait={wait_s}\n{SCRIPT}")


def sections(output: bytes, mark: str) -> dict[str, str]:
    """Return the sections that are complete, plain text by name; the first one of a name counts."""
    found: dict[str, str] = {}
    parts = plain(output).split(f"\n{mark} ")[1:]
    for part, following in zip(parts, [*parts[1:], None], strict=True):
        name, _, text = part.partition("\n")
        if following is not None or name == END:
            found.setdefault(name.strip(), text.strip("\n"))
    return found


@dataclass(frozen=True, slots=True)
class Device:
    """A disk, partition or volume as lsblk(8) lists it; `size` in bytes."""

    name: str
    type: str
    size: int
    children: tuple["Device", ...] = ()

    def walk(self) -> Iterator["Device"]:
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True, slots=True)
class Address:
    """An IPv4 address on a card; `dynamic` where it has a lease time."""

    card: str
    mac: str
    address: str
    dynamic: bool


@dataclass(frozen=True, slots=True)
class CloudInit:
    """What cloud-init says of itself. `datasource` as in result.json: "DataSourceOpenStackLocal [net,ver=2]".

    `finished` in seconds of the guest's clock since 1970.
    """

    installed: bool = False
    done: bool = False
    datasource: str = ""
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    finished: float | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """Sizes in bytes, times in seconds of the guest's clock since 1970; None, "" and () where the guest did not say."""

    user: str = ""
    clock: float | None = None
    system_state: str = ""
    uptime: float | None = None
    failed_units: tuple[str, ...] = ()
    jobs: tuple[str, ...] = ()
    cloud_init: CloudInit = field(default_factory=CloudInit)
    set_up_as: str = ""
    """The instance that our own unit says it has set up, in place of cloud-init."""
    addresses: tuple[Address, ...] = ()
    root_source: str = ""
    root_type: str = ""
    root_size: int | None = None
    root_device: Device | None = None
    """The root's own block device; its children are what it lies on, down to disks."""
    disks: tuple[Device, ...] = ()
    host_keys: Mapping[str, float] = field(default_factory=dict)
    """When each public host key was written."""
    waited_for: tuple[str, ...] = ()
    """Lines of the journal about devices and jobs that never came."""
    optional: frozenset[str] = frozenset()
    """Devices and mount points that fstab lets be missing (nofail)."""


def parsed(texts: Mapping[str, str]) -> Facts:
    """Return what the sections say. What cannot be understood counts as not said."""
    hello = _lines(texts, HELLO)
    root = _first(_json(texts, "root").get("filesystems"))
    root_devices = _devices(_json(texts, "root-devices").get("blockdevices"))
    return Facts(
        user=hello[0] if hello else "",
        clock=_number(hello[1]) if len(hello) > 1 else None,
        system_state=texts.get("state", "").strip(),
        uptime=_number(texts.get("uptime", "").partition(" ")[0]),
        failed_units=tuple(words[0] for line in _lines(texts, "failed") if (words := line.lstrip("●*× ").split())),
        jobs=tuple(" ".join(line.split()[1:]) for line in _lines(texts, "jobs") if "No jobs" not in line),
        cloud_init=_cloud_init(texts),
        set_up_as=texts.get("first-boot", "").strip()[:100],
        addresses=tuple(_addresses(_json(texts, "addresses", list))),
        root_source=_text(root.get("source")),
        root_type=_text(root.get("fstype")),
        root_size=_size(root.get("size")),
        root_device=root_devices[0] if root_devices else None,
        disks=_devices(_json(texts, "devices").get("blockdevices")),
        host_keys={
            name.rpartition("/")[2]: float(time)
            for line in _lines(texts, "host-keys")
            if (time := line.partition(" ")[0]).isdigit() and (name := line.partition(" ")[2])
        },
        waited_for=tuple(_lines(texts, "journal")),
        optional=frozenset(_optional(_json(texts, "fstab").get("filesystems"))),
    )


def _cloud_init(texts: Mapping[str, str]) -> CloudInit:
    result = _inner(_json(texts, "cloud-result"), "v1")
    status = _inner(_json(texts, "cloud-status"), "v1")
    final = status.get("modules-final")
    errors = [_text(error) for error in _list(result.get("errors"))]
    return CloudInit(
        installed=bool(texts.get("cloud-init", "").strip() or result or status),
        done=bool(result),
        datasource=_text(result.get("datasource")) or _text(status.get("datasource")),
        errors=tuple(error for error in errors if error),
        warnings=tuple(line.partition(" - ")[2] or line for line in _lines(texts, "cloud-log")),
        finished=_number(final.get("finished")) if isinstance(final, dict) else None,
    )


def _optional(lines: object) -> Iterator[str]:
    for line in _list(lines):
        if isinstance(line, dict) and "nofail" in _text(line.get("options")).split(","):
            source = _text(line.get("source"))
            tag, equals, value = source.partition("=")
            yield f"/dev/disk/by-{tag.lower()}/{value}" if equals and not source.startswith("/") else source
            target = _text(line.get("target"))
            yield from (target,) if target.startswith("/") else ()


def _addresses(links: list[Any]) -> Iterator[Address]:
    for link in links:
        if not isinstance(link, dict) or link.get("link_type") == "loopback":
            continue
        for info in _list(link.get("addr_info")):
            if isinstance(info, dict) and info.get("family") == "inet":
                yield Address(
                    card=_text(link.get("ifname")),
                    mac=_text(link.get("address")).lower(),
                    address=_text(info.get("local")),
                    dynamic=info.get("dynamic") is True,
                )


def _devices(entries: object, depth: int = 0) -> tuple[Device, ...]:
    if depth > 8:
        return ()
    return tuple(
        Device(
            _text(entry.get("name")),
            _text(entry.get("type")),
            _size(entry.get("size")) or 0,
            _devices(entry.get("children"), depth + 1),
        )
        for entry in _list(entries)
        if isinstance(entry, dict)
    )


def _lines(texts: Mapping[str, str], name: str) -> list[str]:
    return [line.strip() for line in texts.get(name, "").splitlines() if line.strip()]


def _json(texts: Mapping[str, str], name: str, kind: Callable[[], Any] = dict) -> Any:
    """Return the section's JSON if its outermost value is of the kind, else an empty one."""
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(texts.get(name, ""))
        if isinstance(value, type(kind())):
            return value
    return kind()


def _inner(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    inner = value.get(name)
    return inner if isinstance(inner, dict) else {}


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list) else []


def _first(value: object) -> Mapping[str, Any]:
    entries = _list(value)
    return entries[0] if entries and isinstance(entries[0], dict) else {}


def _text(value: object) -> str:
    return value[:1000] if isinstance(value, str) else ""


def _number(value: object) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    return float(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,9})?", value) else None


def _size(value: object) -> int | None:
    """Return a size of util-linux's JSON: a number, in older versions a text of digits."""
    number = _number(value)
    return None if number is None else int(number)
