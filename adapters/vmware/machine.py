"""A VM as vSphere's inventory tells of it: all that decides whether and how its disks can be read.

Source of what each field means: vSphere Web Services API reference, VirtualMachine, VirtualMachineConfigInfo, VirtualDevice.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any
from urllib.parse import unquote

from pyVmomi import vim

from migrate.source import Disk, Firmware, Nic, Vm
from migrate.text import one_line

MARK = "magalu-migrate"

PROPERTIES = (
    "name",
    "parent",
    "parentVApp",
    "customValue",
    "config.annotation",
    "config.bootOptions",
    "config.changeTrackingEnabled",
    "config.firmware",
    "config.guestFullName",
    "config.guestId",
    "config.hardware.device",
    "config.hardware.memoryMB",
    "config.hardware.numCPU",
    "config.instanceUuid",
    "config.keyId",
    "config.template",
    "capability.snapshotOperationsSupported",
    "datastore",
    "guest.toolsRunningStatus",
    "runtime.connectionState",
    "runtime.faultToleranceState",
    "runtime.powerState",
    "snapshot",
)


class Backing(Enum):
    FLAT = "flat"
    RDM = "raw device mapping"
    DELTA = "delta"
    OTHER = "another kind"


CONTROLLERS = (
    (vim.vm.device.VirtualSCSIController, "scsi"),
    (vim.vm.device.VirtualSATAController, "sata"),
    (vim.vm.device.VirtualNVMEController, "nvme"),
    (vim.vm.device.VirtualIDEController, "ide"),
)
"""In the order in which a VM's firmware looks for a disk to boot from, where its boot order does not say."""

INDEPENDENT = ("independent_persistent", "independent_nonpersistent")


@dataclass(frozen=True, slots=True)
class MachineDisk:
    """`size` in bytes; `file` as "[DATASTORE] FOLDER/NAME.vmdk". `device` is how a lease names it, without the VM: "ParaVirtualSCSIController0:1"."""

    key: int
    label: str
    size: int
    file: str
    backing: Backing
    mode: str
    shared: bool
    bus_shared: bool
    encrypted: bool
    device: str
    kind: str = "VirtualDiskFlatVer2BackingInfo"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`ref` is its id; `depth` counts from 1."""

    ref: str
    name: str
    depth: int


@dataclass(frozen=True, slots=True)
class Machine:
    """`path` is its place in the inventory, datacenter first; `datacenter` the inventory path of that, which datastore files are asked with."""

    ref: str
    instance: str
    name: str
    path: tuple[str, ...]
    datacenter: str
    power: str
    connection: str
    template: bool
    guest_id: str
    guest_name: str
    vcpus: int | None
    memory_bytes: int | None
    firmware: Firmware | None
    disks: tuple[MachineDisk, ...]
    nics: tuple[Nic, ...]
    annotation: str
    attributes: tuple[tuple[str, str], ...]
    tools_run: bool
    tracked: bool
    snapshots: tuple[Snapshot, ...]
    encrypted: bool
    has_vtpm: bool
    fault_tolerance: str
    takes_snapshots: bool
    datastores: tuple[str, ...]
    boot_is_guessed: bool = False

    @property
    def is_windows(self) -> bool:
        return self.guest_id.lower().startswith("win")

    @property
    def depth(self) -> int:
        """Of the chain of snapshots, without those of ours."""
        return max((one.depth for one in self.snapshots if not is_ours(one.name)), default=0)

    def vm(self, address: str) -> Vm:
        return Vm(
            name=one_line(self.name),
            origin="VMware",
            disks=tuple(Disk(one_line(disk.label), disk.size, "vmdk") for disk in self.disks),
            firmware=self.firmware,
            vcpus=self.vcpus,
            memory_bytes=self.memory_bytes,
            nics=self.nics,
            os_hint=one_line(self.guest_name or self.guest_id) or None,
            address=address,
            power=self.power or None,
            description=self.annotation,
            tags=self.attributes,
        )


def is_ours(snapshot: str) -> bool:
    return snapshot.startswith(f"{MARK} ")


def machine(
    ref: str, told: Mapping[str, Any], path: tuple[str, ...], datacenter: str, fields: Mapping[int, str]
) -> Machine:
    """Return the VM of a set of properties; what is not set has its least telling value. `fields` names custom attributes by key."""
    devices = told.get("config.hardware.device") or ()
    disks, guessed = _boot_first(tuple(_disks(devices)), told.get("config.bootOptions"))
    memory = told.get("config.hardware.memoryMB")
    tree = told.get("snapshot")
    attributes = (
        (one_line(fields[value.key]), one_line(str(value.value)))
        for value in told.get("customValue") or ()
        if value.key in fields and getattr(value, "value", None)
    )
    return Machine(
        ref=ref,
        instance=str(told.get("config.instanceUuid") or ""),
        name=unquote(str(told.get("name") or ref)),
        path=path,
        datacenter=datacenter,
        power=str(told.get("runtime.powerState") or ""),
        connection=str(told.get("runtime.connectionState") or ""),
        template=bool(told.get("config.template")),
        guest_id=str(told.get("config.guestId") or ""),
        guest_name=str(told.get("config.guestFullName") or ""),
        vcpus=told.get("config.hardware.numCPU"),
        memory_bytes=None if memory is None else memory << 20,
        firmware={"efi": Firmware.UEFI, "bios": Firmware.BIOS}.get(str(told.get("config.firmware"))),
        disks=disks,
        nics=tuple(_nics(devices)),
        annotation=str(told.get("config.annotation") or ""),
        attributes=tuple(attributes),
        tools_run=told.get("guest.toolsRunningStatus") == "guestToolsRunning",
        tracked=bool(told.get("config.changeTrackingEnabled")),
        snapshots=tuple(snapshots_of(tree.rootSnapshotList if tree else (), 1)),
        encrypted=told.get("config.keyId") is not None,
        has_vtpm=any(isinstance(device, vim.vm.device.VirtualTPM) for device in devices),
        fault_tolerance=str(told.get("runtime.faultToleranceState") or "notConfigured"),
        takes_snapshots=told.get("capability.snapshotOperationsSupported") is not False,
        datastores=tuple(one._moId for one in told.get("datastore") or ()),
        boot_is_guessed=guessed,
    )


def disks_of(devices: Any) -> tuple[MachineDisk, ...]:
    """Return the disks among devices, in the order of their controllers and units."""
    return tuple(_disks(devices))


def _disks(devices: Any) -> Iterator[MachineDisk]:
    by_key = {device.key: device for device in devices}
    found = [device for device in devices if isinstance(device, vim.vm.device.VirtualDisk)]

    def place(disk: Any) -> tuple[int, int, int]:
        controller = by_key.get(disk.controllerKey)
        rank = next(
            (rank for rank, (kind, _) in enumerate(CONTROLLERS) if isinstance(controller, kind)), len(CONTROLLERS)
        )
        return rank, getattr(controller, "busNumber", 0), disk.unitNumber or 0

    for disk in sorted(found, key=place):
        yield _disk(disk, by_key.get(disk.controllerKey))


def _disk(disk: Any, controller: Any) -> MachineDisk:
    backing = disk.backing
    label = disk.deviceInfo.label if disk.deviceInfo else f"disk {disk.key}"
    shares = str(getattr(controller, "sharedBus", "noSharing"))
    kind = _class(controller) if controller is not None else "?"
    return MachineDisk(
        key=disk.key,
        label=str(label),
        size=int(disk.capacityInBytes or (disk.capacityInKB or 0) << 10),
        file=str(getattr(backing, "fileName", "") or ""),
        backing=_backing(backing),
        mode=str(getattr(backing, "diskMode", "") or ""),
        shared=getattr(backing, "sharing", None) == "sharingMultiWriter",
        bus_shared=shares in ("virtualSharing", "physicalSharing"),
        encrypted=getattr(backing, "keyId", None) is not None,
        device=f"{kind}{getattr(controller, 'busNumber', 0)}:{disk.unitNumber}",
        kind=_class(backing),
    )


def _class(value: Any) -> str:
    return str(value.__class__.__name__).rpartition(".")[2]


def _backing(backing: Any) -> Backing:
    device = vim.vm.device.VirtualDisk
    if isinstance(backing, device.RawDiskMappingVer1BackingInfo | device.RawDiskVer2BackingInfo):
        return Backing.RDM
    if isinstance(backing, device.FlatVer2BackingInfo):
        return Backing.FLAT if backing.parent is None else Backing.DELTA
    if isinstance(backing, device.SeSparseBackingInfo):
        return Backing.DELTA
    return Backing.OTHER


def _boot_first(disks: tuple[MachineDisk, ...], options: Any) -> tuple[tuple[MachineDisk, ...], bool]:
    """The disks with that in front which the boot order names first; whether nothing but habit says that it is the first."""
    order = getattr(options, "bootOrder", None) or ()
    for entry in order:
        if isinstance(entry, vim.vm.BootOptions.BootableDiskDevice):
            first = [disk for disk in disks if disk.key == entry.deviceKey]
            if first:
                return (*first, *(disk for disk in disks if disk.key != entry.deviceKey)), False
    return disks, len(disks) > 1


def _nics(devices: Any) -> Iterator[Nic]:
    for device in devices:
        if isinstance(device, vim.vm.device.VirtualEthernetCard):
            label = device.deviceInfo.label if device.deviceInfo else f"card {device.key}"
            yield Nic(one_line(str(label)), device.macAddress.lower() if device.macAddress else None)


def snapshots_of(trees: Any, depth: int) -> Iterator[Snapshot]:
    for tree in trees:
        yield Snapshot(tree.snapshot._moId, unquote(tree.name), depth)
        yield from snapshots_of(tree.childSnapshotList or (), depth + 1)
