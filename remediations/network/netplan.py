"""netplan: *.yaml in /etc/netplan and /lib/netplan, from which it writes configuration for systemd-networkd or NetworkManager at each boot.

Sources: netplan(5) (YAML configuration, "match", "renderer"), netplan-generate(8) (a file in /etc hides the one of the same name in /lib;
files in the order of their names; mappings are merged, lists joined, a later value wins); tried with `netplan generate` 0.106: both
backends get DHCP for the patterns, and a definition that cloud-init adds in 50-cloud-init.yaml comes first by its file's name.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import yaml

from migrate.draft import Draft
from remediations import systemd, yaml_text
from remediations.network import keyfiles, networkd
from remediations.network.model import (
    OWN,
    PATTERNS,
    WHY_DHCP,
    WHY_FORGET,
    Form,
    Interface,
    Method,
    Route,
    interface,
    is_no,
    is_yes,
    mac_of,
    network,
    with_ports,
    without_defaults,
)

FOLDER = "/etc/netplan"
FOLDERS = (FOLDER, "/usr/lib/netplan", "/lib/netplan")
OURS = f"{FOLDER}/90-{OWN}.yaml"
PROGRAMS = ("/usr/sbin/netplan", "/lib/netplan/generate", "/usr/libexec/netplan/generate")
"""The command, and what runs at each boot: since Ubuntu 24.10 the second may be there without the first."""

_FORMS = {
    "ethernets": Form.CARD,
    "bonds": Form.BOND,
    "bridges": Form.BRIDGE,
    "vlans": Form.VLAN,
    "vrfs": Form.OTHER,
    "wifis": Form.WIFI,
    "tunnels": Form.TUNNEL,
    "modems": Form.OTHER,
    "dummy-devices": Form.OTHER,
    "virtual-ethernets": Form.OTHER,
    "nm-devices": Form.OTHER,
}
_BUILT = ("bonds", "bridges", "vlans", "vrfs")
_REFERENCES = ("interfaces", "link", "peer")

Definition = Mapping[str, Any]
Definitions = Mapping[str, Mapping[str, Definition]]
"""By kind ("ethernets") and by name."""


def _dhcp(renderer: str = "") -> str:
    """Only words that the oldest netplan in use knows (0.36): it refuses a file as a whole for one that it does not."""
    ids = ((f"zz-magalu-{pattern.rstrip('*')}", pattern) for pattern in PATTERNS)
    said = f"      renderer: {renderer}\n" if renderer else ""
    definitions = "".join(
        f'    {name}:\n{said}      match: {{name: "{pattern}"}}\n      dhcp4: true\n      dhcp6: true\n'
        "      dhcp-identifier: mac\n"
        for name, pattern in ids
    )
    return f"# Written by magalu-migrate. Whatever card appears asks for DHCP.\nnetwork:\n  version: 2\n  ethernets:\n{definitions}"


DHCP = _dhcp()
DHCP_BY_NETWORKD = _dhcp("networkd")
"""Where the files ask for NetworkManager, which is not there."""


def network_in(text: str) -> Definition:
    """Return what a file says, every value as text: as netplan reads it, to which 52:54:00:12:34:56 is no number. Raise yaml_text.Unreadable."""
    yaml_text.mapping(text)  # sound, and of a size that can be read
    found = yaml.load(text, yaml.BaseLoader)  # noqa: S506  (a BaseLoader makes nothing but texts, lists and mappings)
    return _mapping(_mapping(found).get("network"))


def definitions(*networks: Definition) -> Definitions:
    """Return what files define together, the last one's word holding."""
    everything: dict[str, Any] = {}
    for each in networks:
        everything = _over(everything, each)
    return {
        kind: {str(name): _mapping(value) for name, value in named.items()}
        for kind, named in everything.items()
        if kind in _FORMS and isinstance(named, dict)
    }


def standing(found: Definitions) -> frozenset[str]:
    """Return the names of the definitions that need no card, and of those that already match any card and ask for DHCP."""
    any_card = frozenset(name for name, value in found.get("ethernets", {}).items() if _any_by_dhcp(value))
    others = {name: value for kind, named in found.items() if kind != "ethernets" for name, value in named.items()}
    needing = {
        name for kind in _BUILT[:1] + _BUILT[2:] for name, value in found.get(kind, {}).items() if not _parts(value)
    }
    kept = frozenset(others) - needing
    while True:
        # A definition that names one that goes would make netplan refuse everything.
        rest = frozenset(name for name in kept if all(part in kept for part in _references(others[name])))
        if rest == kept:
            return kept | any_card
        kept = rest


def without_cards(text: str, kept: frozenset[str]) -> str:
    """Return the file without the definitions that do not stay; comments beside the rest stay. Raise yaml_text.Unreadable.

    Where keys lean on each other, so that none can be cut out, it is written anew.
    """
    gone = any(
        name not in kept for kind in ("bonds", "bridges") for name in definitions(network_in(text)).get(kind, {})
    )

    def unwanted(path: tuple[str, ...], value: Any) -> bool:
        match path:
            case ("network", "openvswitch"):
                return gone
            case ("network", kind, name):
                return kind in _FORMS and name not in kept
        return False

    try:
        return yaml_text.without(text, unwanted)
    except yaml_text.Unreadable:
        said = network_in(text)
        rest = {
            key: {name: inner for name, inner in value.items() if name in kept}
            if key in _FORMS and isinstance(value, dict)
            else value
            for key, value in said.items()
            if key != "openvswitch" or not gone
        }
        rest = {key: value for key, value in rest.items() if value or key not in _FORMS}
        return yaml.dump({"network": rest}, Dumper=_Dumper, sort_keys=False) if said else text


class _Dumper(yaml.SafeDumper):
    """Without anchors, which is why it is written anew."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def says_something(text: str) -> bool:
    """Whether a file has more in it than its version: definitions, or a renderer."""
    return any(key != "version" for key in network_in(text))


def interfaces_in(found: Definitions, paths: Mapping[str, tuple[str, ...]]) -> Iterator[Interface]:
    """Yield what is defined, but for what asks for DHCP on any card. `paths` are the files that a name is in."""
    kept = standing(found)
    called = {name: _called(name, value) for named in found.values() for name, value in named.items()}
    for kind, named in found.items():
        for name, value in named.items():
            if kind != "ethernets" or name not in kept:
                parts = tuple(called.get(part, part) for part in _parts(value))
                yield replace(
                    _interface(name, value, _FORMS[kind], paths.get(name, ())), parts=parts, stays=name in kept
                )


def _called(name: str, value: Definition) -> str:
    """What the interface of a definition is called on the guest; its own id is only its own."""
    return str(value.get("set-name") or _mapping(value.get("match")).get("name") or name)


def _interface(name: str, value: Definition, form: Form, paths: tuple[str, ...]) -> Interface:
    servers = _mapping(value.get("nameservers"))
    match = _mapping(value.get("match"))
    by_gateways = (Route("default", str(value[key])) for key in ("gateway4", "gateway6") if value.get(key))
    gateways, routes = without_defaults((*by_gateways, *map(_route, map(_mapping, _list(value.get("routes"))))))
    addresses = (next(iter(a)) if isinstance(a, dict) and a else a for a in _list(value.get("addresses")))
    macs = (match.get("macaddress"), value.get("macaddress"))
    parameters = _mapping(value.get("parameters"))
    if form is Form.TUNNEL and value.get("mode") == "wireguard":
        form = Form.WIREGUARD
    return Interface(
        _called(name, value),
        paths,
        form,
        *_methods(value),
        addresses=tuple(interface(str(address)) for address in addresses),
        gateways=gateways,
        dns=tuple(str(server) for server in _list(servers.get("addresses"))),
        search=tuple(str(domain) for domain in _list(servers.get("search"))),
        routes=routes,
        rules=tuple(
            " ".join(f"{key} {each}" for key, each in _mapping(rule).items())
            for rule in _list(value.get("routing-policy"))
        ),
        macs=tuple(dict.fromkeys(mac for text in macs for mac in mac_of(str(text or "")))),
        mtu=str(value.get("mtu") or ""),
        mode=str(parameters.get("mode") or "") if form is Form.BOND else "",
        tag=str(value.get("id") or "") if form is Form.VLAN else "",
        more=tuple(f"{key} {value[key]}" for key in ("local", "remote") if value.get(key)),
    )


def _methods(value: Definition) -> tuple[Method, Method]:
    local = value.get("link-local")
    off = is_no(str(value.get("accept-ra", "yes"))) or (isinstance(local, list) and "ipv6" not in local)
    fixed = any(":" in str(address) for address in _list(value.get("addresses")))
    by_routers = Method.ROUTERS if is_yes(str(value.get("accept-ra", ""))) else Method.UNSAID
    return (
        Method.DHCP if is_yes(str(value.get("dhcp4", ""))) else Method.UNSAID,
        Method.DHCP if is_yes(str(value.get("dhcp6", ""))) else Method.OFF if off and not fixed else by_routers,
    )


def _route(value: Definition) -> Route:
    table = (f"{key} {value[key]}" for key in ("metric", "table", "from", "type", "scope") if value.get(key))
    return Route(network(str(value.get("to") or "")), str(value.get("via") or ""), " ".join(table))


def _parts(value: Definition) -> tuple[str, ...]:
    link = value.get("link")
    return tuple(str(part) for part in (*_list(value.get("interfaces")), *((link,) if link else ())))


def _references(value: Definition) -> tuple[str, ...]:
    return tuple(
        str(part) for key in _REFERENCES for part in (_list(value[key]) if isinstance(value.get(key), list) else [value.get(key)]) if part
    )  # fmt: skip


def _any_by_dhcp(value: Definition) -> bool:
    match = _mapping(value.get("match"))
    asks = _methods(value)
    wide = "*" in str(match.get("name", "")) and set(match) == {"name"}
    bound = any(
        key in value for key in ("addresses", "gateway4", "gateway6", "routes", "macaddress", "set-name", "nameservers")
    )
    return wide and not bound and asks[0] is Method.DHCP and asks[1] is not Method.OFF


def _over(below: Any, above: Any) -> Any:
    if isinstance(below, dict) and isinstance(above, dict):
        merged = dict(below)
        for key, value in above.items():
            merged[key] = _over(merged[key], value) if key in merged else value
        return merged
    if isinstance(below, list) and isinstance(above, list):
        return [*below, *(item for item in above if item not in below)]
    return above


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else []


# The draft


def files(draft: Draft) -> tuple[str, ...]:
    """Return the files that count, ours left out, in the order in which they are read: by their names."""
    found: dict[str, str] = {}
    for folder in reversed(FOLDERS):
        found |= {
            PurePosixPath(path).name: path for path in draft.glob(f"{folder}/*.yaml") if draft.file(path) is not None
        }
    return tuple(found[name] for name in sorted(found) if found[name] != OURS)


def installed(draft: Draft) -> bool:
    return any(draft.exists(path) for path in PROGRAMS)


def present(draft: Draft) -> bool:
    """Whether netplan is installed and has something to say."""
    return installed(draft) and bool(draft.glob(f"{FOLDER}/*.yaml") or _networks(draft))


def renderer(draft: Draft) -> str:
    """Return the backend that the files ask for, "networkd" where they do not: the last file's word holds."""
    asked = (str(each.get("renderer") or "") for each in _networks(draft).values())
    return next(filter(None, reversed(tuple(asked))), "networkd")


def by_networkmanager(draft: Draft) -> bool:
    """Whether the backend is NetworkManager, and that is there to be it."""
    return renderer(draft) == "NetworkManager" and systemd.unit_file(draft, keyfiles.UNIT) is not None


def _networks(draft: Draft) -> Mapping[str, Definition]:
    """What each readable file says, by its path, in order."""
    found = {}
    for path in files(draft):
        try:
            found[path] = network_in(draft.read(path) or "")
        except yaml_text.Unreadable:
            continue
    return {path: said for path, said in found.items() if said}


def interfaces(draft: Draft) -> tuple[Interface, ...]:
    said = _networks(draft)
    found = definitions(*said.values())
    paths: dict[str, tuple[str, ...]] = {}
    for path, each in said.items():
        for named in definitions(each).values():
            for name in named:
                paths[name] = (*paths.get(name, ()), path)
    return _with_masters(with_ports(interfaces_in(found, paths)))


def _with_masters(found: tuple[Interface, ...]) -> tuple[Interface, ...]:
    """Here a bond names its ports, and not the other way round."""
    above = {part: each.name for each in found if each.form in (Form.BOND, Form.BRIDGE) for part in each.parts}
    return tuple(replace(each, within=above.get(each.name, "")) for each in found)


def forget(draft: Draft, *, live: bool) -> None:
    """No file defines a card any more; one that has nothing else to say goes.

    A file that is no YAML is put aside: netplan would refuse all of them because of it. A file of a package's is hidden by ours of its name.
    """
    kept = standing(definitions(*_networks(draft).values()))
    for path in files(draft):
        text = draft.read(path) or ""
        place = path if path.startswith("/etc/") else f"{FOLDER}/{PurePosixPath(path).name}"
        try:
            rest = without_cards(text, kept)
            empty = not says_something(rest)
        except yaml_text.Unreadable as error:
            _put_aside(draft, path, error)
            continue
        if rest == text:
            continue
        if empty and place == path and not _hides(draft, path):
            draft.remove(path, why=WHY_FORGET)
        else:
            draft.write(place, rest, why=WHY_FORGET, mode=None if place == path else 0o600)
    if not live:
        draft.remove(OURS, why="asks for an address too, on the card that something else brings up")


def _hides(draft: Draft, path: str) -> bool:
    return any(draft.exists(f"{folder}/{PurePosixPath(path).name}") for folder in FOLDERS[1:])


def _put_aside(draft: Draft, path: str, error: yaml_text.Unreadable) -> None:
    aside = f"{path}.{OWN}"
    draft.find(
        "NET-013",
        f"{path} cannot be read as YAML ({error}), and netplan sets up no card at all where one file is broken; it is kept as {aside}",
        remedy="See what it was for, and mend it in the instance.",
    )
    why = "is no YAML, and netplan sets up no card at all where one of its files is broken"
    file = draft.file(path)
    if file is not None:
        draft.write(aside, file.content, why="keeps what was in the broken file", mode=file.mode)
        draft.remove(path, why=why)


def by_dhcp(draft: Draft, called: frozenset[str]) -> None:
    """Whatever card appears asks for DHCP; what cloud-init writes for a card comes first."""
    draft.write(OURS, DHCP if renderer(draft) == "networkd" else DHCP_BY_NETWORKD, why=WHY_DHCP, mode=0o600)
    networkd.wait_for_any(draft)
