"""netctl: profiles in /etc/netctl, which Arch Linux used before systemd-networkd. They are read for the sheet, and not written.

Sources: netctl.profile(5) (a file of bash, with arrays), netctl(1): an enabled profile is a unit netctl@PROFILE.service.
"""

import re
import shlex
from pathlib import PurePosixPath

from migrate.draft import Draft
from remediations.network import commands
from remediations.network.model import Form, Interface, Method, Route, interface, merged, virtual, without_defaults

FOLDER = "/etc/netctl"
UNITS = ("netctl@*.service", "netctl-auto@*.service", "netctl-ifplugd@*.service")

_FORMS = {
    "ethernet": Form.CARD,
    "bond": Form.BOND,
    "bridge": Form.BRIDGE,
    "vlan": Form.VLAN,
    "wireless": Form.WIFI,
    "wireguard": Form.WIREGUARD,
    "tunnel": Form.TUNNEL,
}
_ASSIGNMENT = re.compile(r"^\s*(\w+)=(\((?:[^()]*)\)|[^\n]*)", re.MULTILINE)


def values(text: str) -> dict[str, tuple[str, ...]]:
    """Return what each name is, an array as its items; what bash alone could tell is left out."""
    found = {}
    for match in _ASSIGNMENT.finditer(text):
        try:
            items = shlex.split(match[2].strip().removeprefix("(").removesuffix(")"), comments=True)
        except ValueError:  # a quote that is never closed
            continue
        found[match[1]] = tuple(items)
    return found


def interface_in(text: str, path: str) -> Interface | None:
    """Return what a profile says; None where it is none."""
    found = values(text)
    name = (*found.get("Interface", ()), "")[0]
    form = _FORMS.get((*found.get("Connection", ()), "")[0].lower())
    if not name or form is None:
        return None

    def methods(key: str) -> Method:
        said = (*found.get(key, ()), "")[0].lower()
        return Method.DHCP if said.startswith("dhcp") else Method.ROUTERS if said == "stateless" else Method.UNSAID

    routers = (Route("default", word) for key in ("Gateway", "Gateway6") for word in found.get(key, ()))
    others = (commands.route_of(each.split()) for key in ("Routes", "Routes6") for each in found.get(key, ()))
    gateways, routes = without_defaults((*routers, *others))
    return Interface(
        name,
        (path,),
        form,
        methods("IP"),
        methods("IP6"),
        addresses=tuple(interface(word) for key in ("Address", "Address6") for word in found.get(key, ())),
        gateways=gateways,
        dns=found.get("DNS", ()),
        search=found.get("DNSSearch", ()),
        routes=routes,
        mode=(*found.get("Mode", ()), "")[0] if form is Form.BOND else "",
        tag=(*found.get("VLANID", ()), "")[0],
        parts=found.get("BindsToInterfaces", ()),
        stays=form in (Form.WIFI, Form.WIREGUARD, Form.TUNNEL),
    )


# The draft


def started(draft: Draft) -> tuple[tuple[str, str], ...]:
    """Return (profile or interface, link) of what is started at boot for one of them."""
    links = (path for name in UNITS for path in draft.glob(f"/etc/systemd/system/*.wants/{name}"))
    return tuple((_instance(path), path) for path in links)


def _instance(path: str) -> str:
    """Source: systemd.unit(5), "String Escaping for Inclusion in Unit Names"."""
    escaped = PurePosixPath(path).name.partition("@")[2].removesuffix(".service").replace("-", "/")
    return re.sub(r"\\x([0-9a-f]{2})", lambda found: chr(int(found[1], 16)), escaped)


def interfaces(draft: Draft) -> tuple[Interface, ...]:
    return merged(_profiles(draft).values())


def _profiles(draft: Draft) -> dict[str, Interface]:
    found = {PurePosixPath(path).name: interface_in(draft.read(path) or "", path) for path in draft.glob(f"{FOLDER}/*")}
    return {name: each for name, each in found.items() if each is not None}


def forget(draft: Draft, *, live: bool) -> None:
    """No profile of a card is started at boot; the files stay."""
    profiles = _profiles(draft)
    for name, path in started(draft):
        known = profiles.get(name)
        if not (known.stays if known else virtual(name)):
            draft.remove(path, why="starts a profile for a card by a name that the new one may not have")
