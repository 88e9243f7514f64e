"""ifupdown: /etc/network/interfaces and what it sources.

Sources: interfaces(5); ifupdown 0.8.20, NEWS.Debian (patterns); interfaces(5) of ifupdown-ng 0.11 (stanzas without a family, `use`);
tried with ifupdown 0.8.41 in a network namespace: with `iface ens3 inet dhcp` from cloud-init and our pattern, `ifup -a` brings ens3
up once, says nothing and ends with 0.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from migrate.draft import Draft
from remediations import systemd
from remediations.network import commands, kernel_names
from remediations.network.model import (
    OWN,
    PATTERNS,
    WHY_DHCP,
    WHY_FORGET,
    Form,
    Interface,
    Method,
    Route,
    bond_mode,
    form_of,
    interface,
    is_no,
    mac_of,
    merged,
    virtual,
    without_defaults,
)

MAIN = "/etc/network/interfaces"
OURS = f"/etc/network/interfaces.d/zz-{OWN}"
SETTLE = f"/etc/systemd/system/networking.service.d/{OWN}.conf"

DHCP = f"""\
# Written by magalu-migrate. Whatever card appears asks for DHCP. The pattern leads to a name of its own, so that a card that
# cloud-init has described in this folder already is not configured twice.
auto {" ".join(f"/{pattern}=magalu" for pattern in PATTERNS)}
iface magalu inet dhcp
"""
DHCP_BEFORE_PATTERNS = """\
# Written by magalu-migrate. The stanza has a name of its own, so that a card that cloud-init has described in this folder already is
# not configured twice.
auto eth0=magalu
iface magalu inet dhcp
"""
"""For versions before 0.8.20. Two stanzas for eth0 would start two DHCP clients, which ifupdown 0.8.41 does in a network namespace."""
DHCP_ETH0 = """\
# Written by magalu-migrate.
auto eth0
iface eth0 inet dhcp
"""
INLINE = f"\n{DHCP_ETH0}"
"""What is put behind /etc/network/interfaces itself, where `source` takes no patterns: BusyBox's ifup, ifupdown-ng."""
WAIT = """\
# Written by magalu-migrate. A pattern in /etc/network/interfaces matches only the cards that the kernel knows by then.
[Service]
ExecStartPre=-/bin/udevadm settle --timeout=30
"""

_STARTS = re.compile(r"(iface|mapping|auto|allow-\S+|no-auto-down|no-scripts|rename|template|source|source-directory)$")
_COMMANDS = ("up", "post-up", "pre-up", "down", "pre-down", "post-down")


@dataclass(frozen=True, slots=True)
class Stanza:
    """Lines that belong together: a stanza with the comments right above it, or what is between two stanzas."""

    raw: str
    words: tuple[str, ...] = ()
    options: tuple[tuple[str, str], ...] = ()

    @property
    def kind(self) -> str:
        return self.words[0] if self.words else ""

    @property
    def name(self) -> str:
        return self.words[1] if len(self.words) > 1 else ""

    @property
    def inherited(self) -> tuple[str, ...]:
        """The names of the stanzas whose options it has too: a word of its head, or in ifupdown-ng an option."""
        head = self.words[self.words.index("inherits") + 1 :] if "inherits" in self.words else ()
        return (*head, *self.values("inherits"))

    def values(self, *names: str) -> tuple[str, ...]:
        """Return what an option says, under any of its names; a bond's may be written with "-" or "_"."""
        return tuple(value for key, value in self.options if key.replace("_", "-") in names)


def stanzas(text: str) -> tuple[Stanza, ...]:
    """Return the file in order, whole."""
    found: list[Stanza] = []
    pending = ""
    raw = ""
    for line in text.splitlines(keepends=True):
        raw += line
        if raw.rstrip("\n").endswith("\\") and not raw.lstrip().startswith("#"):
            continue
        words = raw.replace("\\\n", " ").split()
        piece, raw = raw, ""
        if words and _STARTS.match(words[0]):
            found.append(Stanza(pending + piece, tuple(words)))
            pending = ""
        elif not words:
            found.append(Stanza(pending + piece))
            pending = ""
        elif words[0].startswith("#"):
            pending += piece
        else:
            _add_option(found, pending + piece, words)
            pending = ""
    rest = pending + raw
    return (*found, Stanza(rest)) if rest else tuple(found)


def _add_option(found: list[Stanza], raw: str, words: list[str]) -> None:
    """Add a line to the stanza that is open; empty lines do not close one."""
    at = next((i for i in reversed(range(len(found))) if found[i].words), None)
    if at is None:
        found.append(Stanza(raw))
        return
    between = "".join(stanza.raw for stanza in found[at + 1 :])
    old = found[at]
    option = (words[0], " ".join(words[1:]))
    found[at:] = [Stanza(old.raw + between + raw, old.words, (*old.options, option))]


Known = Mapping[str, tuple[Stanza, ...]]


def described(found: Iterable[Stanza]) -> Known:
    """Return the stanzas that describe each name."""
    known: dict[str, tuple[Stanza, ...]] = {}
    for stanza in found:
        if stanza.kind in ("iface", "template"):
            known[stanza.name] = (*known.get(stanza.name, ()), stanza)
    return known


def whole(stanza: Stanza, known: Known) -> Stanza:
    """Return a stanza with the options that it inherits, its own first."""
    options = stanza.options
    seen = {stanza.name}
    todo = list(stanza.inherited)
    while todo:
        name = todo.pop(0)
        if name in seen:
            continue
        seen.add(name)
        for other in known.get(name, ()):
            options = (*options, *other.options)
            todo += other.inherited
    return Stanza(stanza.raw, stanza.words, options)


def stays(stanza: Stanza) -> bool:
    """Whether an iface stanza has nothing to do with a card: the loopback, a bridge without ports, devices that software makes."""
    if stanza.name == "lo" or "loopback" in stanza.words:
        return True
    if stanza.values("vlan-raw-device", "bond-slaves", "bond-members", "bond-master", "slaves"):
        return False
    ports = stanza.values("bridge-ports")
    if ports:
        return all(port in ("none", "regex") or virtual(port) for value in ports for port in value.split())
    return virtual(stanza.name) or "tunnel" in stanza.words


def kept_names(known: Known) -> frozenset[str]:
    """Return the names whose stanzas stay, with those that they inherit from."""
    kept = {"lo"}
    todo = [name for name, found in known.items() if all(stays(whole(stanza, known)) for stanza in found)]
    while todo:
        name = todo.pop()
        if name not in kept or name == "lo":
            kept.add(name)
            todo += [other for stanza in known.get(name, ()) for other in stanza.inherited if other not in kept]
    return frozenset(kept)


def without_cards(text: str, kept: frozenset[str] | None = None) -> str:
    """Return the file without any stanza of a card, or of what is built on cards, and without their names in `auto` and its like.

    `kept` are the names that stay, as all files together say.
    """
    found = stanzas(text)
    kept = kept_names(described(found)) if kept is None else kept
    pieces: list[str] = []
    for stanza in found:
        match stanza.kind:
            case "iface" | "template" if stanza.name not in kept:
                continue
            case "mapping" | "rename":
                continue
            case "auto" | "no-auto-down" | "no-scripts":
                pieces.append(_named(stanza, kept))
            case kind if kind.startswith("allow-"):
                pieces.append(_named(stanza, kept))
            case _:
                pieces.append(stanza.raw)
    if "".join(pieces) == text:
        return text
    return re.sub(r"\n{3,}", "\n\n", "".join(pieces)).strip("\n") + "\n"


def _named(stanza: Stanza, kept: frozenset[str]) -> str:
    names = [name for name in stanza.words[1:] if name in kept]
    if len(names) == len(stanza.words) - 1:
        return stanza.raw
    comments = "".join(line for line in stanza.raw.splitlines(keepends=True) if line.lstrip().startswith("#"))
    return f"{comments}{stanza.kind} {' '.join(names)}\n" if names else ""


def sourcing(text: str) -> str:
    """Return the file so that it sources /etc/network/interfaces.d/*, whatever the files there are called."""
    pieces: list[str] = []
    sources = False
    for stanza in stanzas(text):
        if stanza.kind == "source" and PurePosixPath(stanza.name).parent.name == "interfaces.d":
            everything = PurePosixPath(stanza.name).name == "*"
            if not everything and not stanza.name.endswith("*.cfg"):
                pieces.append(stanza.raw)
                continue
            if not sources:
                pieces.append(stanza.raw if everything else "source /etc/network/interfaces.d/*\n")
            sources = True
        elif stanza.kind == "source-directory" and PurePosixPath(stanza.name).name == "interfaces.d":
            sources = sources or not stanza.name.startswith("/run")
            pieces.append(stanza.raw)
        else:
            pieces.append(stanza.raw)
    return "".join(pieces) if sources else "source /etc/network/interfaces.d/*\n\n" + "".join(pieces).lstrip("\n")


def interfaces_in(
    text: str, path: str, known: Known | None = None, kept: frozenset[str] | None = None
) -> Iterator[Interface]:
    """Yield what the stanzas of a file say, the loopback's left out."""
    found = stanzas(text)
    known = described(found) if known is None else known
    kept = kept_names(known) if kept is None else kept
    for stanza in found:
        if stanza.kind == "iface" and stanza.name and stanza.name != "lo":
            yield _interface(whole(stanza, known), path, stanza.name in kept)


def _interface(stanza: Stanza, path: str, staying: bool) -> Interface:
    masks = (*stanza.values("netmask"), "")
    bond = stanza.values("bond-slaves", "bond-members", "slaves")
    raw = stanza.values("vlan-raw-device")
    ports = stanza.values("bridge-ports")
    name = stanza.name.partition(":")[0]
    parts = tuple(word for value in (*bond, *raw, *ports) for word in value.split() if word not in ("none", "regex"))
    master = (*stanza.values("bond-master"), "")[0]
    form = (
        Form.BOND if bond or (stanza.values("bond-mode") and not master)
        else Form.VLAN if raw or re.search(r"\.\d+$", name)
        else Form.BRIDGE if ports
        else form_of(name) if virtual(name)
        else Form.TUNNEL if "tunnel" in stanza.words
        else Form.CARD
    )  # fmt: skip
    orders = stanza.values(*_COMMANDS)
    said = tuple(commands.said(order, name) for order in orders)
    gateways, routes = without_defaults(
        (
            *(Route("default", gateway) for gateway in stanza.values("gateway")),
            *(each.route for each in said if each.route),
        )
    )
    modes = (*map(bond_mode, stanza.values("bond-mode")), "")
    tag = (*stanza.values("vlan-id"), (re.findall(r"(?:\.|^vlan)(\d+)$", name) or [""])[0])[0]
    return Interface(
        name,
        (path,),
        form,
        *_methods(stanza),
        addresses=(
            *(interface(address.split()[0], masks[0]) for address in stanza.values("address") if address),
            *(each.address for each in said if each.address),
        ),
        gateways=gateways,
        dns=tuple(word for value in stanza.values("dns-nameservers", "dns-nameserver") for word in value.split()),
        search=tuple(word for value in stanza.values("dns-search", "dns-domain") for word in value.split()),
        routes=routes,
        rules=tuple(each.rule for each in said if each.rule),
        macs=tuple(mac for value in stanza.values("hwaddress") for word in value.split() for mac in mac_of(word)),
        mtu=(*stanza.values("mtu"), "")[0],
        mode=modes[0] if form is Form.BOND else "",
        tag=tag if form is Form.VLAN else "",
        parts=parts or ((name.rpartition(".")[0],) if form is Form.VLAN and "." in name else ()),
        within="" if master == "none" else master,
        more=tuple(f"command: {order}" for order in commands.without_understood(orders, name)),
        stays=staying,
    )


def _methods(stanza: Stanza) -> tuple[Method, Method]:
    method = stanza.words[3] if len(stanza.words) > 3 else ""
    uses = frozenset(word for value in stanza.values("use") for word in value.split())
    asks = method in ("dhcp", "bootp") or bool(uses & {"dhcp"})
    if stanza.words[2:3] == ("inet6",):
        by_routers = Method.DHCP if any(not is_no(value) for value in stanza.values("dhcp")) else Method.ROUTERS
        off = method != "auto" and any(value == "0" for value in stanza.values("accept-ra"))
        return Method.UNSAID, (
            Method.DHCP if asks else by_routers if method == "auto" else Method.OFF if off and not stanza.values("address")
            else Method.UNSAID
        )  # fmt: skip
    return (Method.DHCP if asks else Method.UNSAID), Method.UNSAID


# The draft


def files(draft: Draft, main: str | None = None) -> tuple[str, ...]:
    """Return the main file and all that it sources, ours left out; with `main`, as if that was the main file's text."""
    known: dict[str, None] = {}
    todo = [MAIN]
    while todo:
        path = todo.pop(0)
        text = main if path == MAIN and main is not None else draft.read(path)
        if path in known or text is None:
            continue
        known[path] = None
        for stanza in stanzas(text):
            todo.extend(_sourced(draft, stanza, path))
    known.pop(OURS, None)
    return tuple(known)


def _sourced(draft: Draft, stanza: Stanza, path: str) -> Iterable[str]:
    """What is not absolute is beside the file that names it. Several patterns may stand on one line."""
    for word in stanza.words[1:] if stanza.kind in ("source", "source-directory") else ():
        pattern = word if word.startswith("/") else f"{PurePosixPath(path).parent}/{word}"
        if stanza.kind == "source":
            yield from draft.glob(pattern)
        else:
            yield from (
                file
                for file in draft.glob(f"{pattern.rstrip('/')}/*")
                if re.fullmatch(r"[\w-]+", PurePosixPath(file).name)
            )


def present(draft: Draft) -> bool:
    """Whether ifupdown is installed, has its file, and brings cards up at boot: by systemd, by OpenRC or by a script of SysV's."""
    if draft.read(MAIN) is None or not any(draft.exists(path) for path in ("/sbin/ifup", "/usr/sbin/ifup")):
        return False
    unit = "networking.service"
    if systemd.unit_file(draft, unit):
        return systemd.enabled(draft, unit)
    if draft.exists("/etc/runlevels"):  # OpenRC
        return bool(draft.glob("/etc/runlevels/*/networking"))
    return not systemd.masked(draft, unit)


def _text(draft: Draft, path: str) -> str:
    """What a file says but for what is ours."""
    return (draft.read(path) or "").replace(INLINE, "")


def _all(draft: Draft) -> tuple[Stanza, ...]:
    return tuple(stanza for path in files(draft) for stanza in stanzas(_text(draft, path)))


def names(draft: Draft) -> frozenset[str]:
    """The names of all that is set up, the loopback and ours left out."""
    return frozenset(described(_all(draft))) - {"lo"}


def interfaces(draft: Draft) -> tuple[Interface, ...]:
    known = described(_all(draft))
    kept = kept_names(known)
    inherited = {name for found in known.values() for stanza in found for name in stanza.inherited}
    started = {name for stanza in _all(draft) if stanza.kind != "iface" for name in stanza.words[1:]}
    return tuple(
        each
        for each in merged(
            each for path in files(draft) for each in interfaces_in(_text(draft, path), path, known, kept)
        )
        if each.name not in inherited or each.name in started
    )


def _to_be_read(draft: Draft, *, live: bool) -> tuple[str, ...]:
    """Return the files that count afterwards. Where `by_dhcp` will source a whole folder, files there that slept would wake up."""
    text = draft.read(MAIN)
    return files(draft, sourcing(text)) if live and text is not None and _sources_ours(draft) else files(draft)


def _sources_ours(draft: Draft) -> bool:
    """Whether this ifup reads what we write from a folder; BusyBox's and ifupdown-ng read the main file."""
    return draft.os.family == "debian" or bool({"ifupdown", "ifupdown2"} & set(draft.packages))


def forget(draft: Draft, *, live: bool) -> None:
    """No file sets up a card any more; one that has nothing else to say goes."""
    paths = _to_be_read(draft, live=live)
    kept = kept_names(described(stanza for path in paths for stanza in stanzas(_text(draft, path))))
    for path in paths:
        text = without_cards(_text(draft, path), kept)
        if live and INLINE in (draft.read(path) or ""):
            text += INLINE
        if path != MAIN and not any(stanza.words for stanza in stanzas(text)):
            draft.remove(path, why=WHY_FORGET)
        else:
            draft.write(path, text, why=WHY_FORGET)
    if not live:
        draft.remove(OURS, why="asks for an address too, on the card that something else brings up")


def by_dhcp(draft: Draft, called: frozenset[str]) -> None:
    """Whatever card appears asks for DHCP, once, also where cloud-init describes it too."""
    if not _sources_ours(draft):
        kernel_names.keep(draft, "ifup", seen="eth0" in called or draft.exists(OURS))
        # cloud-init writes this very file on Alpine, so that nothing is there twice.
        draft.edit(MAIN, lambda text: text.replace(INLINE, "").rstrip("\n") + "\n" + INLINE, why=WHY_DHCP)
        return
    draft.edit(
        MAIN, sourcing, why="has to read the files in /etc/network/interfaces.d, where cloud-init describes the cards"
    )
    if not knows_patterns(draft):
        kernel_names.keep(
            draft, "ifupdown of this version", seen="eth0" in called or INLINE in (draft.read(MAIN) or "")
        )
        text = DHCP_ETH0 if "ifupdown2" in draft.packages else DHCP_BEFORE_PATTERNS
        draft.write(OURS, text, why="makes the new card, which the kernel calls eth0, ask for DHCP")
        return
    draft.write(OURS, DHCP, why=WHY_DHCP)
    draft.write(SETTLE, WAIT, why="lets udev finish first: a pattern matches only cards that are there by then")


def knows_patterns(draft: Draft) -> bool:
    """Patterns came with ifupdown 0.8.20; ifupdown2, ifupdown-ng, BusyBox's ifup and older ones know none."""
    if any(name in draft.packages for name in ("ifupdown2", "ifupdown-ng")):
        return False
    package = draft.packages.get("ifupdown")
    if package is None:
        return draft.os.family == "debian"
    number = tuple(int(part) for part in re.findall(r"\d+", package.version.rpartition(":")[2])[:3])
    return number >= (0, 8, 20)
