"""Name servers: who writes /etc/resolv.conf on the new machine, and what would still send questions to the old network.

Sources: resolv.conf(5); systemd-resolved.service(8), "/etc/resolv.conf"; resolved.conf(5); dhclient.conf(5) ("supersede");
dhclient-script(8): it writes a regular resolv.conf anew with each lease; resolvconf(8), "/etc/resolvconf/resolv.conf.d"; resolvconf.conf(5);
netconfig(8): it leaves a resolv.conf alone that somebody has changed; dhcpcd-run-hooks(8), "/etc/resolv.conf.head".
"""

import ipaddress
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from migrate.draft import Draft
from migrate.guest import Kind, Link
from remediations import ini, shell_variables, systemd
from remediations.network.model import Form, Interface, is_no

RESOLV = "/etc/resolv.conf"
RESOLVED = "systemd-resolved.service"
STUB = "../run/systemd/resolve/stub-resolv.conf"
UPLINK = "../run/systemd/resolve/resolv.conf"
"""The servers themselves, for a guest whose systemd-resolved does not listen."""
NETCONFIG = "/etc/sysconfig/network/config"

PROVIDERS = frozenset({"168.63.129.16"})
"""Public addresses that answer inside of one cloud only: Azure's. (AWS's and Google's are link-local.)"""

DOMAINS = re.compile(
    r"(.*\.)?(reddog\.microsoft\.com|internal\.cloudapp\.net|compute\.internal|ec2\.internal|google\.internal)|c\..*\.internal"
)
"""Domains that only one cloud's own servers know: Azure's, AWS's, Google's."""

_SILENCED = re.compile(
    r"(?:function\s+)?make_resolv_conf\s*(?:\(\s*\))?\s*\{\s*(?:(?::|true|/bin/true|return(?:\s+0)?)\s*;?\s*)?\}\s*;?",
    re.DOTALL,
)
"""A hook that takes dhclient-script's way to write resolv.conf from it, and nothing else: dhclient-script(8), "HOOKS"."""

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
    """Return a resolv.conf without the name servers of the old network, and without domains that only its cloud knew."""
    return "".join(map(_without_old, text.splitlines(keepends=True)))


def _without_old(line: str) -> str:
    match line.split():
        case ["nameserver", address, *_] if of_the_old_network(address):
            return ""
        case ["search" | "domain" as key, *names] if any(DOMAINS.fullmatch(name) for name in names):
            kept = [name for name in names if not DOMAINS.fullmatch(name)]
            return f"{key} {' '.join(kept)}\n" if kept else ""
    return line


def servers(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the name servers and the domains of a resolv.conf, this machine itself left out."""
    lines = [line.split() for line in text.splitlines()]
    dns = (
        words[1] for words in lines if len(words) > 1 and words[0] == "nameserver" and not words[1].startswith("127.")
    )
    search = (name for words in lines if words[:1] in (["search"], ["domain"]) for name in words[1:])
    return tuple(address for address in dns if address != "::1"), tuple(search)


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


def silences(text: str) -> bool:
    """Whether a hook of dhclient's does nothing but keep it from writing resolv.conf."""
    said = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    return _SILENCED.fullmatch(said.strip()) is not None


def without_old_resolved(text: str) -> str:
    """Return a resolved.conf without global servers of the old network."""

    def unwanted(section: str, key: str, value: str) -> bool:
        old = section == "Resolve" and key in ("DNS", "FallbackDNS")
        return old and any(of_the_old_network(word) for word in value.split())

    return ini.without(text, unwanted, continued=True)


# The draft


class Writer(Enum):
    """Who tells the guest the name servers that DHCP gives."""

    RESOLVED = "systemd-resolved"
    NETWORKMANAGER = "NetworkManager"
    NETCONFIG = "netconfig"
    CLIENT = "the DHCP client"


def interfaces(draft: Draft) -> Iterator[Interface]:
    """Yield what is set for all cards: in a resolv.conf that nothing writes, and in what is put into one."""
    resolv = draft.load(RESOLV) if draft.kind(RESOLV) is not Kind.OTHER else None
    written = isinstance(resolv, Link) and "run/" in resolv.target
    heads = (f"/etc/resolvconf/resolv.conf.d/{name}" for name in ("base", "head", "tail"))
    for path in (*(() if written else (RESOLV,)), *heads):
        dns, search = servers(draft.read(path) or "")
        if dns:
            yield Interface("all cards", (path,), Form.WHOLE, dns=dns, search=search)
    for path in ("/etc/systemd/resolved.conf", *draft.glob("/etc/systemd/resolved.conf.d/*.conf")):
        said = [
            (key, value.split())
            for section, key, value in ini.settings(draft.read(path) or "", continued=True)
            if section == "Resolve"
        ]
        dns = tuple(word for key, words in said if key == "DNS" for word in words)
        search = tuple(word for key, words in said if key == "Domains" for word in words)
        if dns or search:
            yield Interface("all cards", (path,), Form.WHOLE, dns=dns, search=search)


def by_dhcp(draft: Draft, writer: Writer) -> None:
    """What DHCP says about names counts: nothing names the old network's servers, and something writes resolv.conf."""
    why = "sends questions to name servers that only the source's network has"
    for path in (
        "/etc/dhcp/dhclient.conf",
        "/etc/dhclient.conf",
        *draft.glob("/etc/dhclient-*.conf"),
        *draft.glob("/etc/dhcp/dhclient-*.conf"),
    ):
        draft.edit(path, lambda text: without_statements(text, overrides), why=why)
    for path in (
        "/etc/dhclient-enter-hooks",
        "/etc/dhcp/dhclient-enter-hooks",
        *draft.glob("/etc/dhcp/dhclient-enter-hooks.d/*"),
    ):
        if silences(draft.read(path) or ""):
            draft.remove(path, why="keeps the DHCP client from writing down the name servers that it gets")
    for path in (
        *(f"/etc/resolvconf/resolv.conf.d/{name}" for name in ("base", "head", "tail", "original")),
        "/etc/resolv.conf.head",
        "/etc/resolv.conf.tail",
    ):
        draft.edit(path, without_old_servers, why=why)
    draft.edit("/etc/resolvconf.conf", _without_openresolv, why=why)
    draft.edit(NETCONFIG, without_old_netconfig, why=why)
    for path in ("/etc/systemd/resolved.conf", *draft.glob("/etc/systemd/resolved.conf.d/*.conf")):
        draft.edit(path, without_old_resolved, why=why)
    _resolv_conf(draft, writer, why)


def _resolv_conf(draft: Draft, writer: Writer, why: str) -> None:
    """The file is written by somebody on the new machine, and names none of the old servers until then."""
    if draft.kind(RESOLV) is Kind.OTHER:
        return
    if writer is Writer.RESOLVED and not systemd.enabled(draft, RESOLVED) and not systemd.masked(draft, RESOLVED):
        systemd.enable(draft, RESOLVED, why="tells programs the name servers, which systemd-networkd leaves to it")
    resolved = systemd.enabled(draft, RESOLVED)
    entry = draft.load(RESOLV)
    if isinstance(entry, Link) and not draft.exists(RESOLV) and "run/" in entry.target:
        if _is_written(draft, entry.target, writer):
            return
        dangles = "leads to a file that nothing on the new machine writes"
        if resolved:
            draft.link(RESOLV, _resolveds(draft), why=dangles)
        elif writer is not Writer.RESOLVED:  # its package is installed later, and brings the right link
            draft.remove(RESOLV, why=dangles)
        return
    text = draft.read(RESOLV) or ""
    old = without_old_servers(text) != text
    if resolved:
        if old or not text.strip():
            draft.link(
                RESOLV, _resolveds(draft), why="is where systemd-resolved tells the name servers that DHCP gives"
            )
    elif isinstance(entry, Link) and not draft.exists(RESOLV):
        draft.remove(RESOLV, why="leads nowhere")
    elif old and writer is Writer.NETCONFIG:
        draft.remove(RESOLV, why=f"{why}, and netconfig writes no file anew that somebody has changed")
    else:
        draft.edit(RESOLV, without_old_servers, why=why)


def _is_written(draft: Draft, target: str, writer: Writer) -> bool:
    """Whether something on the new machine writes the file in /run that a link leads to."""
    for part, there in (
        ("systemd/resolve", systemd.enabled(draft, RESOLVED)),
        ("NetworkManager", writer is Writer.NETWORKMANAGER),
        ("netconfig", writer in (Writer.NETCONFIG, Writer.NETWORKMANAGER)),
        ("resolvconf", any(draft.exists(f"{folder}/resolvconf") for folder in ("/sbin", "/usr/sbin", "/usr/bin"))),
        ("connman", systemd.enabled(draft, "connman.service")),
    ):
        if f"run/{part}/" in target:
            return there
    return True  # by a program that we do not know


def _resolveds(draft: Draft) -> str:
    paths = ("/etc/systemd/resolved.conf", *draft.glob("/etc/systemd/resolved.conf.d/*.conf"))
    said = (each for path in paths for each in ini.settings(draft.read(path) or "", continued=True))
    listens = [value.lower() for section, key, value in said if (section, key) == ("Resolve", "DNSStubListener")]
    return UPLINK if listens and is_no(listens[-1]) else STUB


def nobody_writes_it(draft: Draft) -> bool:
    """Whether resolv.conf names no server and nothing would write the ones that systemd-networkd learns by DHCP."""
    entry = draft.load(RESOLV) if draft.kind(RESOLV) is not Kind.OTHER else None
    if systemd.enabled(draft, RESOLVED):
        return False
    if isinstance(entry, Link) and "run/" in entry.target and "systemd/resolve" not in entry.target:
        return False
    return not re.search(r"^\s*nameserver\s", without_old_servers(draft.read(RESOLV) or ""), re.MULTILINE)


def without_old_netconfig(text: str) -> str:
    """Return SUSE's settings of netconfig without static servers of the old network, under a policy that takes those of DHCP."""
    found = shell_variables.variables(text)
    static = found.get("NETCONFIG_DNS_STATIC_SERVERS", "").split()
    kept = [address for address in static if not of_the_old_network(address)]
    if kept != static:
        text = shell_variables.assigned(text, "NETCONFIG_DNS_STATIC_SERVERS", " ".join(kept))
    if found.get("NETCONFIG_DNS_POLICY", "auto") in ("", "STATIC"):
        text = shell_variables.assigned(text, "NETCONFIG_DNS_POLICY", "auto")
    return text


def _without_openresolv(text: str) -> str:
    """Source: resolvconf.conf(5) of openresolv, "name_servers"."""

    def unwanted(name: str, value: str) -> bool:
        return name in ("name_servers", "name_servers_append") and any(map(of_the_old_network, value.split()))

    return shell_variables.without(text, unwanted)
