"""What makes a machine this one and no other: its machine-id, what it told DHCP servers."""

import re

from migrate.draft import Draft
from migrate.effects import Severity
from migrate.guest import Kind
from migrate.remediation import Settings, remediation
from remediations import systemd

MACHINE_ID = "/etc/machine-id"
DBUS_ID = "/var/lib/dbus/machine-id"
SEEDS = ("/var/lib/systemd/random-seed", "/var/lib/urandom/random-seed", "/boot/efi/loader/random-seed")

LEASES = {
    "is an address that the source's network gave": (
        "/var/lib/dhcp/dhclient*",
        "/var/lib/dhcp3/dhclient*",
        "/var/lib/dhclient/dhclient*",
        "/var/lib/NetworkManager/*.lease",
        "/var/lib/NetworkManager/dhclient-*.conf",
        "/var/lib/NetworkManager/timestamps",
        "/var/lib/wicked/lease-*.xml",
        "/var/lib/dhcpcd/*.lease",
        "/var/lib/dhcpcd/*.lease6",
        "/var/lib/dhcpcd5/*.lease",
        "/var/lib/dhcpcd/*-*.lease*",
    ),
    "is what a DHCP server knows the source by": (
        "/var/lib/NetworkManager/secret_key",
        "/var/lib/wicked/duid.xml",
        "/var/lib/wicked/iaid.xml",
        "/var/lib/dhcpcd/duid",
        "/var/lib/dhcpcd/secret",
        "/etc/dhcpcd.duid",
        "/etc/dhcpcd.secret",
        "/var/lib/dhcpv6/dhcp6c_duid",
    ),
}
"""By reason. Leases that a server on this guest gave to others (dhcpd.leases, dnsmasq.leases) are an application's and stay."""

_ID = re.compile(r"[0-9a-f]{32}")


@remediation(
    "reset-machine-id",
    "Let the machine find a new identity",
    sources=(
        "machine-id(5), First Boot Semantics: with an empty file the boot is no first boot, with `uninitialized` it is",
        "systemd#9609, chef/bento#1062, canonical/lxd#7180: clones with one machine-id get one address",
        "systemd, Safely Building Images: machine-id and random seed",
    ),
)
def reset_machine_id(draft: Draft, settings: Settings) -> None:
    """Two machines with one machine-id get one address from a DHCP server, and the source may live on. So the file is emptied, and
    systemd makes a new id at the first boot. The seed of the random numbers goes too, which two machines must not share.

    The file is empty and neither `uninitialized` nor missing: those make a first boot, at which systemd switches units on by its presets,
    the firewall among them on Red Hat's systems and all services on Debian. Keep the id (--keep-machine-id)
    where licences hang on it and the source goes.
    """
    if not settings.reset_machine_id:
        return
    why = "is the source's identity, and DHCP gives two machines that share it one address"
    old = (draft.read(MACHINE_ID) or draft.read(DBUS_ID) or "").strip()
    if _ID.fullmatch(old):
        draft.keep("machine-id before", old)
    wanted = systemd.runs(draft) or draft.file(MACHINE_ID) is not None
    if draft.kind(MACHINE_ID) is Kind.LINK:  # to D-Bus's, on old systems; the id is needed before /var is mounted
        draft.remove(MACHINE_ID, why=why)
    if wanted:
        draft.write(MACHINE_ID, "", why=why, mode=0o444)
    if draft.kind(DBUS_ID) is Kind.FILE:  # D-Bus makes it anew, as a link or from /etc/machine-id
        draft.remove(DBUS_ID, why=why)
    for path in SEEDS:
        draft.remove(path, why="makes every instance of the image start from the same random numbers")
    entries = draft.glob(f"/boot/loader/entries/{old}-*.conf") if _ID.fullmatch(old) else ()
    if entries:
        draft.find(
            "ID-001",
            f"{len(entries)} boot entries are named after the old machine-id, {entries[0]} for one: they boot, but removing their "
            "kernels' packages will not remove them",
            remedy="Rename them after the new machine-id in the instance, or keep the old one.",
            severity=Severity.NOTE,
        )


@remediation(
    "forget-leases",
    "Forget the addresses and names that DHCP servers gave",
    sources=(
        "dhclient.leases(5); NetworkManager, contrib: /var/lib/NetworkManager; wicked(8); dhcpcd(8), FILES",
        "openSUSE/wicked#929, systemd#9609: a remembered DUID or lease asks for the source's address",
    ),
)
def forget_leases(draft: Draft, settings: Settings) -> None:
    """A DHCP client first asks for the address that it had, in the name that it had: in the new network that costs time, and of two
    instances one gets nothing. Leases and client identities of dhclient, NetworkManager, wicked and dhcpcd go.

    What a DHCP server on this guest has given to others stays.
    """
    for why, patterns in LEASES.items():
        for path in dict.fromkeys(path for pattern in patterns for path in draft.glob(pattern)):
            draft.remove(path, why=why)
