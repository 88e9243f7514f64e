"""NetworkManager's settings: which devices it leaves alone, and whether it writes name servers.

Sources: NetworkManager.conf(5) ("unmanaged-devices", "[device] managed", "no-auto-default", "dns", "rc-manager"; "Device List Format": an
`except:` wins over all others; a file in /etc hides the one of the same name in /usr/lib). Read with `NetworkManager --print-config` 1.42.
"""

import fnmatch
import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from migrate.draft import Draft
from migrate.effects import Severity
from remediations import ini
from remediations.network import dns
from remediations.network.model import OWN, is_no

MAIN = "/etc/NetworkManager/NetworkManager.conf"
FOLDER = "/etc/NetworkManager/conf.d"
OF_PACKAGES = "/usr/lib/NetworkManager/conf.d"
OURS = f"{FOLDER}/zz-{OWN}.conf"
WIRED = "except:type:ethernet"

LEAVE = """\
# Written by magalu-migrate. Something else brings up the cards: NetworkManager makes no profile of its own for them.
[main]
no-auto-default=*
"""


def files(draft: Draft) -> tuple[str, ...]:
    """Return the files that count, in the order in which they are read, a later one winning."""
    own = draft.glob(f"{FOLDER}/*.conf")
    hidden = {PurePosixPath(path).name for path in own}
    packaged = (path for path in draft.glob(f"{OF_PACKAGES}/*.conf") if PurePosixPath(path).name not in hidden)
    return tuple(path for path in (*packaged, MAIN, *own) if path != OURS and draft.file(path) is not None)


def leaves_cards(text: str) -> bool:
    """Whether a file tells NetworkManager to leave alone what a new wired card may be."""
    return with_cards(text) != text


def with_cards(text: str) -> str:
    """Return a NetworkManager.conf under which wired cards are managed; what is said of other devices stays."""
    pieces: list[str] = []
    wide = _wide_sections(text)
    number = -1
    for entry in ini.entries(text):
        if not entry.key and entry.raw.strip().startswith("["):
            number += 1
        if (entry.section, entry.key.rstrip("+-")) == ("keyfile", "unmanaged-devices") and _matches_cards(entry.value):
            separator = "," if "," in entry.value and ";" not in entry.value else ";"
            head = entry.raw[: entry.raw.index("=") + 1]
            pieces.append(f"{head}{entry.value.rstrip(' ;,')}{separator}{WIRED}\n")
        elif entry.section.startswith("device") and entry.key == "managed" and is_no(entry.value) and number in wide:
            continue
        else:
            pieces.append(entry.raw)
    return "".join(pieces)


def with_dns(text: str) -> str:
    """Return a NetworkManager.conf that does not forbid it to write name servers."""
    forbidden = {("main", "dns", "none"), ("main", "rc-manager", "unmanaged")}

    def unwanted(section: str, key: str, value: str) -> bool:
        servers = re.split(r"[,;\s]+", value) if section.startswith("global-dns-domain") and key == "servers" else []
        return (section, key, value) in forbidden or any(map(dns.of_the_old_network, servers))

    return ini.without(text, unwanted)


def _wide_sections(text: str) -> frozenset[int]:
    """The [device…] sections, by number, that a new wired card may fall under."""
    matches: dict[int, str] = {}
    number = -1
    for entry in ini.entries(text):
        if not entry.key and entry.raw.strip().startswith("["):
            number += 1
            matches[number] = "*"
        elif entry.key == "match-device":
            matches[number] = entry.value
    return frozenset(number for number, value in matches.items() if _matches_cards(value))


def _matches_cards(value: str) -> bool:
    """Whether a device list may match a new wired card."""
    specs = [spec for spec in re.split(r"[;,\s]+", value) if spec]
    excepted = (WIRED, "except:interface-name:e*", "except:interface-name:en*", "except:driver:virtio_net")
    if any(spec in excepted for spec in specs):
        return False
    if specs and all(spec.startswith("except:") for spec in specs):
        return True
    return any(spec in ("*", "type:ethernet") or spec.startswith("driver:virtio") or _names_new(spec) for spec in specs)


_LIKELY = ("eth0", "ens3", "enp1s0", "eno1")


def _names_new(spec: str) -> bool:
    """Whether a spec is for names, and the new card's may be among them."""
    pattern = spec.removeprefix("interface-name:").lstrip("=~")
    return any(fnmatch.fnmatchcase(name, pattern) for name in _LIKELY)


# The draft


def takes_cards(draft: Draft) -> bool:
    """Whether NetworkManager would bring up a wired card that no profile names."""
    return not any(leaves_cards(draft.read(path) or "") for path in files(draft))


NETPLANS = "10-globally-managed-devices.conf"
"""Ubuntu's, which leaves all but Wi-Fi to netplan. Where netplan gives the cards to NetworkManager, it hides the file itself, in /run."""


def take_cards(draft: Draft, *, by_netplan: bool) -> None:
    """NetworkManager manages wired cards, and writes name servers. A file of a package's is hidden by one of ours of its name."""
    for path in files(draft):
        if by_netplan and PurePosixPath(path).name == NETPLANS:
            continue
        text = draft.read(path) or ""
        place = path if path.startswith("/etc/") else f"{FOLDER}/{PurePosixPath(path).name}"
        wanted = with_cards(text)
        if wanted != text:
            draft.find(
                "NET-011",
                f"{path} told NetworkManager to leave cards alone ({'; '.join(_said(text))}); it takes wired ones now",
                remedy="See that nothing else sets up the cards that the line was meant for.",
                severity=Severity.NOTE,
            )
            draft.write(
                place, wanted, why="tells NetworkManager to leave cards alone, and nothing else brings up the new one"
            )
        silent = with_dns(wanted)
        if silent != wanted:
            draft.write(
                place, silent, why="keeps NetworkManager from telling the guest the name servers that DHCP gives"
            )
    draft.remove(OURS, why="keeps NetworkManager from making profiles, which it is to do")


def leave_cards(draft: Draft) -> None:
    """NetworkManager makes no profiles of its own: it would ask for an address on each card that no profile names."""
    if takes_cards(draft):
        draft.write(
            OURS,
            LEAVE,
            why="keeps NetworkManager from asking for an address too, on the card that something else brings up",
        )


def _said(text: str) -> Iterator[str]:
    for section, key, value in ini.settings(text):
        if key.startswith("unmanaged-devices") or (key == "managed" and section.startswith("device")):
            yield f"{key}={value}"
