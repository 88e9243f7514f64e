"""Why a VM of vSphere is refused: every reason at once, before anything is made. The codes' meanings: migrate/codes.yaml.

| code    | the VM is refused because                                                           |
| ------- | ----------------------------------------------------------------------------------- |
| VSP-001 | a disk is independent: no snapshot holds it                                         |
| VSP-002 | a disk is a raw device mapping                                                      |
| VSP-003 | a disk, or its bus, is shared with other VMs                                        |
| VSP-004 | the VM or a disk is encrypted                                                       |
| VSP-005 | it has a virtual TPM                                                                |
| VSP-006 | it takes no snapshots                                                               |
| VSP-007 | fault tolerance is on                                                               |
| VSP-008 | it is a template                                                                    |
| VSP-009 | its chain of snapshots has the greatest length already                              |
| VSP-010 | privileges are missing                                                              |
| VSP-011 | the ESXi's licence forbids changes through its API                                  |
| VSP-012 | it has no disk                                                                      |
| VSP-013 | it is a Windows guest                                                               |
| VSP-014 | its host is not connected, or its files cannot be reached                           |
| VSP-015 | a disk is kept in a way that is not read                                            |
"""

from collections.abc import Iterator
from enum import StrEnum

from adapters.vmware.machine import INDEPENDENT, Backing, Machine, MachineDisk
from migrate.errors import Reason
from migrate.text import one_line


class Code(StrEnum):
    INDEPENDENT = "VSP-001"
    RDM = "VSP-002"
    SHARED = "VSP-003"
    ENCRYPTED = "VSP-004"
    VTPM = "VSP-005"
    NO_SNAPSHOTS = "VSP-006"
    FAULT_TOLERANCE = "VSP-007"
    TEMPLATE = "VSP-008"
    SNAPSHOT_LIMIT = "VSP-009"
    PRIVILEGES = "VSP-010"
    LICENCE = "VSP-011"
    NO_DISK = "VSP-012"
    WINDOWS = "VSP-013"
    OUT_OF_REACH = "VSP-014"
    BACKING = "VSP-015"


MOST_SNAPSHOTS = 32
"""In a chain. Source: VMware KB 1025279, best practices for snapshots."""

EXPORT = "Or export it without this and give the OVA."


def reasons(one: Machine) -> Iterator[Reason]:
    """Yield what the inventory alone says against the move."""
    if one.connection not in ("connected", ""):
        text = f"vSphere says of it: {one_line(one.connection)}"
        yield Reason(Code.OUT_OF_REACH, text, "Connect its host or its datastore again.")
    if one.template:
        yield Reason(
            Code.TEMPLATE, "it is a template, of which vSphere makes no snapshot", "Clone it to a VM, and move that."
        )
    if one.is_windows:
        yield Reason(
            Code.WINDOWS, f"it is a Windows guest ({one_line(one.guest_id)})", "Only Linux guests can be moved."
        )
    if one.encrypted:
        yield Reason(Code.ENCRYPTED, "the VM is encrypted", "Decrypt it: change its storage policy in vCenter.")
    if one.has_vtpm:
        text = "it has a virtual TPM, whose secrets do not come along"
        yield Reason(Code.VTPM, text, "Take the guest's keys out of it (systemd-cryptenroll), then remove the device.")
    if one.fault_tolerance not in ("notConfigured", "disabled"):
        text = (
            f"fault tolerance is on ({one_line(one.fault_tolerance)}); such a VM takes no snapshot that could be read"
        )
        yield Reason(Code.FAULT_TOLERANCE, text, "Turn it off for the move.")
    if not one.takes_snapshots and not one.template:
        yield Reason(
            Code.NO_SNAPSHOTS, "vSphere says that it takes no snapshots", f"Shut it down and look why. {EXPORT}"
        )
    if one.depth >= MOST_SNAPSHOTS:
        text = f"its chain of snapshots has {one.depth} of {MOST_SNAPSHOTS}; one more is needed"
        yield Reason(Code.SNAPSHOT_LIMIT, text, "Delete snapshots that nobody needs.")
    if not one.disks and not one.connection.startswith(("in", "dis", "orph")):
        yield Reason(Code.NO_DISK, "it has no disk", "Name another VM.")
    for disk in one.disks:
        yield from _of_disk(disk)


def _of_disk(disk: MachineDisk) -> Iterator[Reason]:
    name = f'disk "{one_line(disk.label)}"'
    if disk.mode in INDEPENDENT:
        text = f"{name} is an independent disk ({disk.mode}), which no snapshot holds"
        yield Reason(Code.INDEPENDENT, text, "Change its mode to dependent in vCenter (the VM off), or detach it.")
    match disk.backing:
        case Backing.RDM:
            text = f"{name} is a raw device mapping: a LUN, not a file"
            yield Reason(
                Code.RDM, text, "Copy its data by other means and detach it, or turn it into a VMDK (Storage vMotion)."
            )
        case Backing.OTHER:
            text = f"{name} is kept as {one_line(disk.kind)}, which is not read"
            yield Reason(Code.BACKING, text, "Move the VM's storage to another datastore, or export it as an OVA.")
        case Backing.FLAT | Backing.DELTA:
            pass
    if disk.shared or disk.bus_shared:
        how = "may be written by several VMs (multi-writer)" if disk.shared else "is on a bus that VMs share"
        yield Reason(Code.SHARED, f"{name} {how}: no snapshot holds it", "Stop the sharing, or detach it.")
    if disk.encrypted:
        yield Reason(Code.ENCRYPTED, f"{name} is encrypted", "Decrypt it: change its storage policy in vCenter.")
