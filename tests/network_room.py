"""A network of its own for one test, with a DHCP server and a router in it, where a card of a given name appears and a guest's own
renderer, the real one, reads the guest's files and asks for an address.

Everything is in namespaces that end with the test: this machine's network, /run, /etc and services see nothing of it.
"""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from migrate.guest import Folder, Link
from migrate.guests.memory import MemoryGuest

ADDRESS = "10.9.0."
SERVER = "10.9.0.2"
"""The name server that DHCP names."""
PREFIX = "fd09::"
"""What the router announces for IPv6."""

_ROOM = """
set -e
home=$1; shift
start=$1; shift
mount -t tmpfs none /run
mkdir -p /run/netns /run/network /run/dbus /run/NetworkManager /run/systemd/network /run/systemd/netif/links /run/systemd/netif/leases
mkdir -p /run/systemd/netif/lldp /run/dhcpcd /run/lock
chown -R systemd-network /run/systemd/netif
mount -t sysfs none /sys -o ro
for folder in /var/lib/dhcp /var/lib/NetworkManager /var/lib/dhcpcd /var/lib/systemd /etc/systemd/network /etc/NetworkManager /etc/netplan; do
    mkdir -p "$folder"; mount -t tmpfs none "$folder"
done
for folder in systemd/network NetworkManager netplan; do
    if [ -d "$home/etc/$folder" ]; then cp -a "$home/etc/$folder/." "/etc/$folder/"; fi
done
cp "$home/etc/resolv.conf" "$home/resolv.conf" 2>/dev/null || : > "$home/resolv.conf"
mount --bind "$home/resolv.conf" /etc/resolv.conf
ip link set lo up
ip netns add server
number=0
for card in "$@"; do
    ip link add "$card" type veth peer name "server$number" netns server
    ip netns exec server ip link set "server$number" up
    number=$((number + 1))
done
ip netns exec server ip address add 10.9.0.1/24 dev server0
ip netns exec server ip address add fd09::1/64 dev server0 nodad
ip netns exec server dnsmasq --keep-in-foreground --conf-file=/dev/null --port=0 --interface=server0 --bind-interfaces --user=root \\
    --dhcp-range=10.9.0.50,10.9.0.90,1h --enable-ra --dhcp-range=fd09::,ra-stateless --leasefile-ro --dhcp-option=6,10.9.0.2 \\
    --log-dhcp --log-facility="$home/dnsmasq.log" &
for _ in $(seq 50); do grep -q 'DHCP, IP range' "$home/dnsmasq.log" 2>/dev/null && break; sleep 0.1; done
home=$home sh -c "$start" > "$home/said.log" 2>&1 &
for _ in $(seq 80); do
    if ip -4 -oneline address show dev "$1" scope global | grep -q inet &&
        ip -6 -oneline address show dev "$1" scope global | grep -q inet6; then break; fi
    sleep 0.25
done
if [ -n "$ASK" ]; then sh -c "$ASK" > "$home/asked.log" 2>&1 || echo "exit $?" >> "$home/asked.log"; fi
ip -json address show > "$home/addresses.json"
kill $(jobs -p) 2>/dev/null || :
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the cards. `addresses` by card; `log` is what the DHCP server saw, `said` what the renderer said, `asked` the answer."""

    addresses: dict[str, tuple[str, ...]]
    resolv: str
    log: str
    said: str
    asked: str

    @property
    def leases(self) -> int:
        """How many addresses the server gave."""
        return len({line.split()[-2] for line in self.log.splitlines() if " DHCPACK(" in line})


def written(guest: MemoryGuest, folder: Path, *below: str) -> Path:
    """Write what is below some folders of a guest to a folder of this machine."""
    for path, entry in guest.tree.items():
        if not path.startswith(below):
            continue
        real = folder / path[1:]
        real.parent.mkdir(parents=True, exist_ok=True)
        match entry:
            case Folder():
                real.mkdir(exist_ok=True)
            case Link(target=target):
                real.symlink_to(target)
            case _:
                real.write_text(entry.text.replace(" /etc/network", f" {folder}/etc/network"))
                real.chmod(entry.mode)
    return folder


def outcome(home: Path, start: str, *cards: str, ask: str = "") -> Outcome:
    """Start a renderer by a line of shell on the files of `home`, in a network with these cards, the first of which reaches the server.

    `ask` is a line of shell that is run once the first card has its addresses, or after 20 s.
    """
    room = [
        "unshare",
        "--mount",
        "--net",
        "--pid",
        "--fork",
        "--mount-proc",
        "bash",
        "-c",
        _ROOM,
        "room",
        str(home),
        start,
        *cards,
    ]
    path = "/usr/sbin:/usr/bin:/sbin:/bin"
    subprocess.run(room, check=True, timeout=90, env={"PATH": path, "ASK": ask}, capture_output=True)
    found: list[dict[str, Any]] = json.loads((home / "addresses.json").read_text())
    return Outcome(
        {
            card["ifname"]: tuple(each["local"] for each in card["addr_info"] if each["scope"] == "global")
            for card in found
            if card["ifname"] in cards
        },
        (home / "resolv.conf").read_text(),
        (home / "dnsmasq.log").read_text(),
        (home / "said.log").read_text(),
        (home / "asked.log").read_text() if ask else "",
    )
