"""Name servers: who writes /etc/resolv.conf on the new machine, and what would still send questions to the old network.

Sources: resolv.conf(5); systemd-resolved.service(8), "/etc/resolv.conf"; resolved.conf(5); dhclient.conf(5) ("supersede");
dhclient-script(8): it writes a regular resolv.conf anew with each lease; resolvconf(8), "/etc/resolvconf/resolv.conf.d".
"""

import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from migrate.draft import Draft
from migrate.guest import Kind, Link
from remediations import ini, shell_variables, systemd

RESOLV = "/etc/resolv.conf"
RESOLVED = "systemd-resolved.service"
STUB = "../run/systemd/resolve/stub-resolv.conf"

PROVIDERS = frozenset({"168.63.129.16"})
"""Public addresses that answer inside of one cloud only: Azure's. (AWS's and Google's are link-local.)"""

_MODIFIERS = ("supersede", "prepend", "append", "default")
_ROUTING = frozenset(
    {"routers", "subnet-mask", "broadcast-address", "static-routes", "rfc3442-classless-static-routes"}
)
_SERVERS = frozenset({"domain-name-servers", "dhcp6.name-servers"})


def of_the_old_network(address: str) -> bool:
    """Whether a name server answers in the source's network only: private or link-local, but not this machine itself."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0].partition("#")[0])
    except ValueError:
        return False
    return not ip.is_loopback and (not ip.is_global or str(ip) in PROVIDERS)


def without_old_servers(text: str) -> str:
    """Return a resolv.conf without the name servers of the old network."""
    kept = []
    for line in text.splitlines(keepends=True):
        words = line.split()
        if not (len(words) > 1 and words[0] == "nameserver" and of_the_old_network(words[1])):
            kept.append(line)
    return "".join(kept)


MOST_BLOCKS = 100


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of dhclient.conf: where it is up to its ";" or "{", its words, and what is inside of its braces."""

    start: int
    end: int
    words: tuple[str, ...]
    inner: tuple["Statement", ...] = ()


def statements(text: str) -> tuple[Statement, ...]:
    """Return the statements of a dhclient.conf, () where it is nested deeper than any real one. Source: dhclient.conf(5)."""
    if text.count("{") > MOST_BLOCKS:
        return ()
    found = re.finditer(r'"(?:\\.|[^"\\])*"|#[^\n]*|[{};]|[^\s{};"#]+', text)
    return tuple(_block((each.start(), each.group()) for each in found if not each.group().startswith("#")))


def _block(pieces: Iterator[tuple[int, str]]) -> Iterator[Statement]:
    words: list[str] = []
    begin = -1
    for start, piece in pieces:
        if piece == "}":
            return
        if begin < 0:
            begin = start
        if piece == ";":
            yield Statement(begin, start + 1, tuple(words))
        elif piece == "{":
            yield Statement(begin, start + 1, tuple(words), tuple(_block(pieces)))
        else:
            words.append(piece)
            continue
        words, begin = [], -1


def without_statements(text: str, unwanted: Callable[[tuple[str, ...]], bool]) -> str:
    """Return a dhclient.conf without the statements whose words are unwanted, inside of braces too."""

    def spans(found: tuple[Statement, ...]) -> Iterator[tuple[int, int]]:
        for statement in found:
            if statement.inner:
                yield from spans(statement.inner)
            elif unwanted(statement.words):
                yield statement.start, statement.end

    for start, end in sorted(spans(statements(text)), reverse=True):
        line_start = text.rfind("\n", 0, start) + 1
        line_end = text.find("\n", end)
        line_end = len(text) if line_end < 0 else line_end + 1
        alone = not text[line_start:start].strip() and not text[end:line_end].strip()
        text = text[:line_start] + text[line_end:] if alone else text[:start] + text[end:]
    return text


def overrides(words: tuple[str, ...]) -> bool:
    """Whether a statement of dhclient.conf puts the old network's servers or routes over what DHCP says."""
    match words:
        case (modifier, option, *values) if modifier in _MODIFIERS and option in _SERVERS:
            return any(of_the_old_network(word.strip(",")) for value in values for word in value.split(","))
        case (modifier, option, *_) if modifier == "supersede" and option in _ROUTING:
            return True
    return False


def without_old_resolved(text: str) -> str:
    """Return a resolved.conf without global servers of the old network."""

    def unwanted(section: str, key: str, value: str) -> bool:
        old = section == "Resolve" and key in ("DNS", "FallbackDNS")
        return old and any(of_the_old_network(word) for word in value.split())

    return ini.without(text, unwanted, continued=True)


# The draft


def by_dhcp(draft: Draft, *, networkd: bool) -> None:
    """What DHCP says about names counts: nothing names the old network's servers, and something writes resolv.conf."""
    why = "sends questions to name servers that only the source's network has"
    for path in (
        "/etc/dhcp/dhclient.conf",
        "/etc/dhclient.conf",
        *draft.glob("/etc/dhclient-*.conf"),
        *draft.glob("/etc/dhcp/dhclient-*.conf"),
    ):
        draft.edit(path, lambda text: without_statements(text, overrides), why=why)
    for name in ("base", "head", "tail", "original"):
        draft.edit(f"/etc/resolvconf/resolv.conf.d/{name}", without_old_servers, why=why)
    draft.edit("/etc/resolvconf.conf", _without_openresolv, why=why)
    for path in ("/etc/systemd/resolved.conf", *draft.glob("/etc/systemd/resolved.conf.d/*.conf")):
        draft.edit(path, without_old_resolved, why=why)
    _resolv_conf(draft, networkd, why)


def _resolv_conf(draft: Draft, networkd: bool, why: str) -> None:
    entry = draft.load(RESOLV) if draft.kind(RESOLV) is not Kind.OTHER else None
    if isinstance(entry, Link) and "run/" in entry.target:
        return
    text = draft.read(RESOLV) or ""
    if networkd and not systemd.enabled(draft, RESOLVED) and not systemd.masked(draft, RESOLVED):
        systemd.enable(draft, RESOLVED, why="tells programs the name servers, which systemd-networkd leaves to it")
    if systemd.enabled(draft, RESOLVED):
        if without_old_servers(text) != text or not text.strip():
            draft.link(RESOLV, STUB, why="is where systemd-resolved tells the name servers that DHCP gives")
        return
    draft.edit(RESOLV, without_old_servers, why=why)


def nobody_writes_it(draft: Draft) -> bool:
    """Whether resolv.conf names no server and nothing would write the ones that systemd-networkd learns by DHCP."""
    entry = draft.load(RESOLV) if draft.kind(RESOLV) is not Kind.OTHER else None
    if (isinstance(entry, Link) and "run/" in entry.target) or systemd.enabled(draft, RESOLVED):
        return False
    return not re.search(r"^\s*nameserver\s", without_old_servers(draft.read(RESOLV) or ""), re.MULTILINE)


def _without_openresolv(text: str) -> str:
    """Source: resolvconf.conf(5) of openresolv, "name_servers"."""

    def unwanted(name: str, value: str) -> bool:
        return name in ("name_servers", "name_servers_append") and any(map(of_the_old_network, value.split()))

    return shell_variables.without(text, unwanted)
