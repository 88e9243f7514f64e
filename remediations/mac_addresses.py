"""MAC addresses of the source's cards: a new machine has others, and whatever is tied to the old ones stays down.

Magalu Cloud gives each card a new MAC and forbids fixed ones (its documentation, custom images, requirements).
"""

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

import yaml

from migrate.draft import Draft
from migrate.remediation import Settings, remediation
from remediations import ini, shell_variables, yaml_text
from remediations.network import dns, ifcfg, ifupdown, keyfiles, netplan, networkd, wicked

MAC = re.compile(r"[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}")

_WIRED = frozenset({"ethernet", "802-3-ethernet", "bridge", "vlan", "infiniband"})
_KEYFILE_KEYS = frozenset({"mac-address", "cloned-mac-address", "assigned-mac-address"})
_IFCFG_KEYS = frozenset({"HWADDR", "MACADDR", "LLADDR"})
_MATCH_KEYS = frozenset({"MACAddress", "PermanentMACAddress"})


def is_mac(text: str) -> bool:
    return MAC.fullmatch(text.strip().strip("\"'")) is not None


@remediation(
    "strip-macs",
    "Forget the MAC addresses of the source's network cards",
    sources=(
        "Magalu Cloud, custom images: no fixed MAC addresses, HWADDR in ifcfg-eth0 for one",
        "udev(7); systemd.link(5); systemd.network(5); interfaces(5), hwaddress; netplan(5), macaddress, match, set-name",
        "nm-settings-keyfile(5); nm-settings-ifcfg-rh(5), HWADDR, MACADDR; dhclient.conf(5), dhcp-client-identifier",
    ),
)
def strip_macs(draft: Draft, settings: Settings) -> None:
    """Whatever names, matches or sets the MAC address of a card stops doing so: rules of udev, .link and .network files, stanzas
    of ifupdown and netplan, profiles of NetworkManager, ifcfg files, client identifiers of dhclient.

    What can match nothing without its MAC goes as a whole; a netplan definition matches by its name then. Words that are no address
    (random, preserve) and tables of other machines' addresses (a DHCP server's) stay.
    """
    _udev(draft)
    _links(draft)
    _networkd(draft)
    why = "gives the card, or asks it for, a MAC address that the source's card had"
    for path in _own(ifupdown.files(draft)):
        _edit(draft, path, without_hwaddress, why)
    for _, path in ifcfg.files(draft):
        _edit(draft, path, without_ifcfg_macs, why)
    for _, path in wicked.files(draft):
        _edit(draft, path, without_ifcfg_macs, why)
    for path in _own(keyfiles.files(draft)):
        _edit(draft, path, without_keyfile_macs, why)
    for path in _own(netplan.files(draft)):
        _edit(draft, path, without_netplan_macs, why)
    for path in (*draft.glob("/etc/dhclient*.conf"), *draft.glob("/etc/dhcp/dhclient*.conf")):
        _edit(draft, path, without_client_macs, "tells the DHCP server that this is the source's card")
    for path in ("/etc/iftab", "/etc/mactab"):
        _edit(draft, path, without_mac_lines, "names a card by a MAC address that only the source's card had")


# Text


def without_udev_names(text: str) -> str:
    """Return udev rules without those that rename a card by its MAC address. Source: udev(7), "Rules Files"."""
    return _rules(text, lambda rule: not _names_by_mac(rule))


def _rules(text: str, kept: Callable[[str], bool]) -> str:
    """A rule is a line with all that it continues on; the comments right above it go where it goes."""
    pieces: list[str] = []
    comments = raw = ""
    for line in text.splitlines(keepends=True):
        if not raw and line.lstrip().startswith("#"):
            comments += line
            continue
        raw += line
        if raw.rstrip("\n").endswith("\\"):
            continue
        if not raw.strip() or kept(raw.replace("\\\n", "")):
            pieces.append(comments + raw)
        comments = raw = ""
    return "".join((*pieces, comments, raw))


def _names_by_mac(rule: str) -> bool:
    by_mac = any(is_mac(found[1]) for found in re.finditer(r'(?:ATTRS?\{address\}|SYSFS\{address\})=="([^"]*)"', rule))
    return by_mac and re.search(r'(^|[\s,])NAME:?="', rule) is not None


def without_hwaddress(text: str) -> str:
    """Return an interfaces file whose stanzas set no MAC address, and whose patterns ask for none."""
    pieces = []
    raw = ""
    for line in text.splitlines(keepends=True):
        raw += line
        if raw.rstrip("\n").endswith("\\") and not raw.lstrip().startswith("#"):
            continue
        words = raw.split()
        if words and (words[0] == "auto" or words[0].startswith("allow-")):
            kept = [word for word in words[1:] if not word.startswith("mac/")]
            raw = raw if len(kept) == len(words) - 1 else f"{words[0]} {' '.join(kept)}\n" if kept else ""
        elif words and words[0] == "hwaddress" and any(map(is_mac, words)):
            raw = ""
        pieces.append(raw)
        raw = ""
    return "".join((*pieces, raw))


def without_ifcfg_macs(text: str) -> str:
    return shell_variables.without(text, lambda name, value: name in _IFCFG_KEYS and is_mac(value))


def without_keyfile_macs(text: str) -> str:
    """Return a profile that is for any card; "cloned-mac-address=random" and its like stay."""

    def unwanted(section: str, key: str, value: str) -> bool:
        return section in _WIRED and key in _KEYFILE_KEYS and is_mac(value)

    return ini.without(text, unwanted)


def without_network_macs(text: str) -> str:
    """Return a .network or .netdev file that matches and sets no MAC address; tables of other machines' addresses stay."""

    def unwanted(section: str, key: str, value: str) -> bool:
        sets = section in ("Link", "NetDev") and key == "MACAddress" and is_mac(value)
        return sets or (section == "Match" and key in _MATCH_KEYS)

    return ini.without(text, unwanted, continued=True)


def without_netplan_macs(text: str) -> str:
    """Return a netplan file where no definition matches or sets a MAC address.

    One that had nothing else to match by matches by its name from now on: by what the card was to be called, or by its own id.
    The file is left as it is where it cannot be read.
    """
    try:
        renamed = _matched_by_name(text)

        def unwanted(path: tuple[str, ...], value: Any) -> bool:
            match path:
                case ("network", _, _, "macaddress"):  # PyYAML takes 52:54:00:12:34:56 for a number of base 60
                    return isinstance(value, int) or is_mac(str(value))
                case ("network", "ethernets", _, "match", "macaddress"):
                    return True
            return False

        return yaml_text.without(renamed, unwanted)
    except yaml_text.Unreadable:
        return text


def _matched_by_name(text: str) -> str:
    """Change "macaddress: …" of a definition that matches by nothing else to "name: …", in place. Raise yaml_text.Unreadable."""
    cards = netplan.definitions(netplan.network_in(text)).get("ethernets", {})
    changes: dict[tuple[int, int], str] = {}
    for name, definition in _pairs(_value(_value(yaml.compose(text, yaml.SafeLoader), "network"), "ethernets")):
        match _pairs(_value(definition, "match")):
            case [(key, value)] if key.value == "macaddress":
                span = key.start_mark.index, value.end_mark.index
                if span in changes:
                    raise yaml_text.Unreadable("two definitions share one match")
                wanted = str(cards.get(name.value, {}).get("set-name") or name.value)
                changes[span] = f"name: {json.dumps(wanted)}"
    for (start, end), new in sorted(changes.items(), reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _value(node: yaml.Node | None, key: str) -> yaml.Node | None:
    return next((value for name, value in _pairs(node) if name.value == key), None)


def _pairs(node: yaml.Node | None) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return [(key, value) for key, value in pairs if isinstance(key, yaml.ScalarNode)]


def without_client_macs(text: str) -> str:
    """Return a dhclient.conf that sends no client identifier made of a MAC address."""

    def unwanted(words: tuple[str, ...]) -> bool:
        match words:
            case ("send", "dhcp-client-identifier" | "dhcp6.client-id", *values):
                return any(MAC.search(value) for value in values)
        return False

    return dns.without_statements(text, unwanted)


def without_mac_lines(text: str) -> str:
    """Return an iftab(5) or mactab(5) without the lines whose selector is a MAC address."""
    lines = text.splitlines(keepends=True)
    return "".join(line for line in lines if line.lstrip().startswith("#") or not any(map(is_mac, line.split()[1:])))


# The draft


def _edit(draft: Draft, path: str, change: Callable[[str], str], why: str) -> None:
    draft.edit(path, change, why=why)


def _own(paths: Iterable[str]) -> tuple[str, ...]:
    """The operator's files: those of packages are hidden where they name a card, and not changed."""
    return tuple(path for path in paths if path.startswith("/etc/"))


def _udev(draft: Draft) -> None:
    why = "names a card by a MAC address that only the source's card had"
    for path in draft.glob("/etc/udev/rules.d/*.rules"):
        text = draft.read(path) or ""
        rest = without_udev_names(text)
        empty = all(not line.strip() or line.lstrip().startswith("#") for line in rest.splitlines())
        if rest != text and empty:
            draft.remove(path, why=why)
        elif rest != text:
            draft.write(path, rest, why=why)


def _links(draft: Draft) -> None:
    for path in draft.glob(f"{networkd.FOLDER}/*.link"):
        text = draft.read(path) or ""
        if any(section == "Match" and key in _MATCH_KEYS for section, key, _ in ini.settings(text, continued=True)):
            draft.remove(path, why="is for a card with a MAC address that only the source's card had")
            draft.remove(f"{path}.d", why="is for a card with a MAC address that only the source's card had")
        else:
            _edit(draft, path, without_network_macs, "gives the new card the MAC address of the source's")


def _networkd(draft: Draft) -> None:
    for path in _own(networkd.files(draft, "network")):
        text = draft.read(path) or ""
        matched = [key for section, key, _ in ini.settings(text, continued=True) if section == "Match"]
        if matched and set(matched) <= _MATCH_KEYS:  # an empty [Match] would match every card, the loopback too
            draft.remove(path, why="is for a card with a MAC address that only the source's card had")
        else:
            _edit(draft, path, without_network_macs, "is tied to a MAC address that only the source's card had")
    for path in _own(networkd.files(draft, "netdev")):
        _edit(draft, path, without_network_macs, "gives a device the MAC address of a card that the source had")
