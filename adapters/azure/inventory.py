"""What a subscription tells of its VMs: many by lists, page by page, or one with all that a list leaves out."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from azure.mgmt.compute import models
from azure.mgmt.network.models import NetworkInterface

from adapters.azure import refusals
from adapters.azure.cloud import Cloud
from adapters.azure.failures import MissingRight
from adapters.azure.place import Place, ResourceId, resource_id
from adapters.azure.refusals import text
from migrate.errors import NotMigratable, Reason, SourceError
from migrate.run import Note
from migrate.source import Disk, Firmware, Nic, Vm
from migrate.text import one_line

Item = TypeVar("Item")
Doubts = tuple[Reason, ...]

GIB = 1 << 30
ORIGIN = "Azure"
FIRMWARES = {"v1": Firmware.BIOS, "v2": Firmware.UEFI}
"""A VM's generation. Source: "Support for Generation 2 VMs on Azure": BIOS and UEFI."""


@dataclass(frozen=True, slots=True)
class Size:
    vcpus: int | None
    memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class Around:
    """What belongs to VMs, by lower-case id; sizes by lower-case location and name. What is not here is not known."""

    disks: Mapping[str, models.Disk] = field(default_factory=dict)
    nics: Mapping[str, NetworkInterface] = field(default_factory=dict)
    sizes: Mapping[tuple[str, str], Size] = field(default_factory=dict)
    powers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """One VM, or one disk, with its managed disks: boot disk first, then by LUN."""

    vm: Vm
    disks: tuple[models.Disk, ...]
    group: str


def listed(cloud: Cloud, place: Place) -> Iterator[Vm]:
    """Yield the VMs that a place names. Some five lists are asked for, however many VMs there are."""
    vms = [vm for vm in _vms(cloud, place) if place.holds(_id(vm.id).group, vm.name or "")]
    if not vms:
        return
    powers = _if_allowed(cloud, "the power states", lambda: _powers(cloud, place, vms))
    disks = _if_allowed(cloud, "the disks' sizes", lambda: cloud.listed("list the disks", cloud.compute.disks.list))
    nics = _if_allowed(
        cloud,
        "MAC addresses",
        lambda: cloud.listed("list the network cards", cloud.network.network_interfaces.list_all),
    )
    sizes = _if_allowed(cloud, "vCPUs and memory", lambda: _sizes(cloud, {vm.location for vm in vms}).items())
    around = Around(_by_id(disks), {(nic.id or "").lower(): nic for nic in nics}, dict(sizes), dict(powers))
    for vm in vms:
        yield told(vm, cloud.subscription, around)


def names(cloud: Cloud, place: Place) -> Iterator[tuple[str, str]]:
    """Yield the resource groups and names of the VMs that a place names, by one list."""
    for vm in _vms(cloud, place):
        group, name = _id(vm.id).group, vm.name or ""
        if place.holds(group, name):
            yield group, name


def found(cloud: Cloud, place: Place) -> Found:
    """Return the VM or the disk with all that is known. Raise NotMigratable with every reason, SourceError where it is not there."""
    if place.is_disk:
        return _found_disk(cloud, place)
    vm, disks, doubts = _looked_at(cloud, place)
    nics = _if_allowed(cloud, "MAC addresses", lambda: [_nic(cloud, _id(id_)) for id_ in _nic_ids(vm)])
    sizes = _if_allowed(cloud, "vCPUs and memory", lambda: _sizes(cloud, {vm.location}).items())
    around = Around(_by_id(disks), {(nic.id or "").lower(): nic for nic in nics}, dict(sizes))
    return Found(replace(told(vm, cloud.subscription, around), doubts=doubts), disks, _id(vm.id).group)


def found_disks(cloud: Cloud, place: Place) -> Found:
    """As `found`, without what it takes no disk to know: network cards, vCPUs, memory."""
    if place.is_disk:
        return _found_disk(cloud, place)
    vm, disks, _ = _looked_at(cloud, place)
    return Found(told(vm, cloud.subscription, Around(_by_id(disks))), disks, _id(vm.id).group)


def told(vm: models.VirtualMachine, subscription: str, around: Around) -> Vm:
    """Return our words for a VM, with what is around it."""
    group, name = _id(vm.id).group, one_line(vm.name or "")
    storage = vm.properties.storage_profile if vm.properties else None
    view = vm.properties.instance_view if vm.properties else None
    system = storage.os_disk if storage else None
    managed = [around.disks.get(id_.lower()) for id_ in disk_ids(vm)]
    generation = managed[0].properties.hyper_v_generation if managed and managed[0] and managed[0].properties else None
    size = _size(vm, around.sizes)
    running_os = " ".join(filter(None, (view.os_name, view.os_version))) if view else ""
    return Vm(
        name=name,
        origin=ORIGIN,
        disks=tuple(_disks(vm, managed)),
        firmware=FIRMWARES.get(text(generation or (view.hyper_v_generation if view else None)).lower()),
        vcpus=size.vcpus,
        memory_bytes=size.memory_bytes,
        nics=tuple(_nics(vm, around.nics)),
        os_hint=one_line(running_os or text(system.os_type if system else None)) or None,
        address=Place(subscription, group, vm.name or "").text,
        power=_power(view) or around.powers.get((vm.id or "").lower()),
        tags=_tags(vm.tags),
    )


def disk_ids(vm: models.VirtualMachine) -> tuple[str, ...]:
    """Return the ids of a VM's managed disks: the boot disk's, then those of data disks by LUN."""
    storage = vm.properties.storage_profile if vm.properties else None
    if storage is None:
        return ()
    data = sorted(storage.data_disks or (), key=lambda disk: disk.lun)
    attached = [disk.managed_disk for disk in (storage.os_disk, *data) if disk is not None]
    return tuple(one.id for one in attached if one is not None and one.id)


def disk_size(disk: models.Disk) -> int:
    """In bytes. Azure tells whole GiB, and bytes of what is not too new."""
    told_size = disk.properties
    if told_size is None:
        return 0
    return int(told_size.disk_size_bytes or (told_size.disk_size_gb or 0) * GIB)


def _looked_at(cloud: Cloud, place: Place) -> tuple[models.VirtualMachine, tuple[models.Disk, ...], Doubts]:
    """The VM with its managed disks, and what speaks against it that may be waived. Raise NotMigratable with all where something may not be."""
    subject = place.text
    vm = cloud.asked(
        f"look at {subject}",
        lambda: cloud.compute.virtual_machines.get(place.group, place.name, expand="instanceView"),
    )
    reasons = list(refusals.of_vm(vm))
    disks: list[models.Disk] = []
    for id_ in disk_ids(vm):
        try:
            disks.append(_disk(cloud, _id(id_)))
        except MissingRight as missing:
            reasons.append(refusals.right(missing.action, missing.scope))
    for disk in disks:
        reasons += refusals.of_disk(disk, is_of_vm=True)
        reasons += _key_reasons(cloud, disk)
    return vm, tuple(disks), _doubts(one_line(vm.name or place.name), reasons)


def _doubts(subject: str, reasons: Iterable[Reason]) -> Doubts:
    """Return what speaks against a VM where all of it may be waived."""
    found = tuple(dict.fromkeys(reasons))
    if any(reason.code not in refusals.WAIVABLE for reason in found):
        raise NotMigratable(subject, found)
    return found


def _found_disk(cloud: Cloud, place: Place) -> Found:
    try:
        disk = _disk(cloud, ResourceId(place.subscription, place.group, place.name))
    except MissingRight as missing:
        raise NotMigratable(place.name, [refusals.right(missing.action, missing.scope)]) from None
    name = one_line(disk.name or place.name)
    doubts = _doubts(name, [*refusals.of_disk(disk, is_of_vm=False), *_key_reasons(cloud, disk)])
    properties = disk.properties
    vm = Vm(
        name=name,
        origin=ORIGIN,
        disks=(Disk(name, disk_size(disk), "raw"),),
        firmware=FIRMWARES.get(text(properties.hyper_v_generation if properties else None).lower()),
        os_hint=one_line(text(properties.os_type if properties else None)) or None,
        address=place.text,
        power="running"
        if disk.managed_by and text(properties.disk_state if properties else None) == "Attached"
        else None,
        tags=_tags(disk.tags),
        doubts=doubts,
    )
    return Found(vm, (disk,), _id(disk.id).group)


def _vms(cloud: Cloud, place: Place) -> Iterable[models.VirtualMachine]:
    one = place.one_group
    if one is None:
        return cloud.listed(f"list the VMs of {place.subscription}", cloud.compute.virtual_machines.list_all)
    return cloud.listed(f"list the VMs of {one}", lambda: cloud.compute.virtual_machines.list(one))


def _powers(cloud: Cloud, place: Place, vms: Iterable[models.VirtualMachine]) -> list[tuple[str, str]]:
    """The power states, by the one list that holds them. Source: Virtual Machines - List All, statusOnly."""
    wanted = {(vm.id or "").lower() for vm in vms}
    states = cloud.listed(
        f"list the states of the VMs of {place.subscription}",
        lambda: cloud.compute.virtual_machines.list_all(status_only="true"),
    )
    found_powers = [
        ((vm.id or "").lower(), _power(vm.properties.instance_view if vm.properties else None)) for vm in states
    ]
    return [(id_, power) for id_, power in found_powers if id_ in wanted and power]


def _sizes(cloud: Cloud, locations: Iterable[str | None]) -> dict[tuple[str, str], Size]:
    sizes: dict[tuple[str, str], Size] = {}
    for location in sorted({one for one in locations if one and one.isalnum()}):
        ask = partial(cloud.compute.resource_skus.list, filter=f"location eq '{location}'")
        for sku in cloud.listed(f"list the sizes of VMs in {location}", ask):
            if (sku.resource_type or "").lower() == "virtualmachines":
                told_of = {one.name: one.value or "" for one in sku.capabilities or ()}
                sizes[location.lower(), (sku.name or "").lower()] = Size(
                    _whole(told_of.get("vCPUs", ""), 1), _whole(told_of.get("MemoryGB", ""), GIB)
                )
    return sizes


def _size(vm: models.VirtualMachine, sizes: Mapping[tuple[str, str], Size]) -> Size:
    profile = vm.properties.hardware_profile if vm.properties else None
    if profile is None:
        return Size(None, None)
    size = sizes.get(((vm.location or "").lower(), text(profile.vm_size).lower()), Size(None, None))
    constrained = profile.vm_size_properties
    if constrained is not None and constrained.v_cpus_available:
        return Size(constrained.v_cpus_available, size.memory_bytes)
    return size


def _whole(number: str, unit: int) -> int | None:
    try:
        return int(float(number) * unit)
    except (ValueError, OverflowError):
        return None


def _disks(vm: models.VirtualMachine, managed: list[models.Disk | None]) -> Iterator[Disk]:
    """The disks by the managed ones where those are known, else by what the VM tells: a size only while it runs."""
    for id_, disk in zip(disk_ids(vm), managed, strict=True):
        if disk is not None:
            yield Disk(one_line(disk.name or ""), disk_size(disk), "raw")
        else:
            yield Disk(one_line(_id(id_).name), _told_size(vm, id_), "raw")


def _told_size(vm: models.VirtualMachine, id_: str) -> int:
    storage = vm.properties.storage_profile if vm.properties else None
    every = (storage.os_disk, *(storage.data_disks or ())) if storage else ()
    for one in every:
        if one is not None and one.managed_disk is not None and one.managed_disk.id == id_:
            return (one.disk_size_gb or 0) * GIB
    return 0


def _nics(vm: models.VirtualMachine, known: Mapping[str, NetworkInterface]) -> Iterator[Nic]:
    for id_ in _nic_ids(vm):
        nic = known.get(id_.lower())
        mac = nic.properties.mac_address if nic is not None and nic.properties is not None else None
        yield Nic(one_line(_id(id_).name), mac.replace("-", ":").lower() if mac else None)


def _nic_ids(vm: models.VirtualMachine) -> tuple[str, ...]:
    """The primary one first, as the guest's first card is."""
    network = vm.properties.network_profile if vm.properties else None
    cards = list(network.network_interfaces or ()) if network else []
    cards.sort(key=lambda card: not (card.properties is not None and card.properties.primary))
    return tuple(card.id for card in cards if card.id)


def _key_reasons(cloud: Cloud, disk: models.Disk) -> list[Reason]:
    """A disk encrypted with a customer's key is decrypted by Azure while it is read, as long as its encryption set can use the key."""
    encryption = disk.properties.encryption if disk.properties else None
    if encryption is None or not encryption.disk_encryption_set_id:
        return []
    name, where = disk.name or "", _id(encryption.disk_encryption_set_id)
    try:
        keys = cloud.asked(
            f"look at the disk encryption set {one_line(where.name)}",
            lambda: cloud.compute.disk_encryption_sets.get(where.group, where.name),
        )
    except MissingRight as missing:
        return [refusals.key(name, f"the right {missing.action} is missing on {missing.scope}")]
    except SourceError as error:
        return [refusals.key(name, error.message)]
    trouble = keys.properties.auto_key_rotation_error if keys.properties else None
    if trouble is not None and (trouble.message or trouble.code):
        return [refusals.key(name, one_line(trouble.message or trouble.code or "")[:300])]
    if keys.properties and text(keys.properties.provisioning_state).lower() == "failed":
        return [refusals.key(name, f"the disk encryption set {one_line(where.name)} is in the state Failed")]
    return []


def _if_allowed(cloud: Cloud, what: str, call: Callable[[], Iterable[Item]]) -> list[Item]:
    """What the call returns, or nothing where we may not ask: what is missing then is good to know and not needed."""
    try:
        return list(call())
    except MissingRight as missing:
        cloud.run.tell(Note(f"{what} are not known: the right {missing.action} is missing on {missing.scope}"))
        return []


def _disk(cloud: Cloud, id_: ResourceId) -> models.Disk:
    return cloud.asked(f"look at the disk {one_line(id_.name)}", lambda: cloud.compute.disks.get(id_.group, id_.name))


def _nic(cloud: Cloud, id_: ResourceId) -> NetworkInterface:
    return cloud.asked(
        f"look at the network card {one_line(id_.name)}",
        lambda: cloud.network.network_interfaces.get(id_.group, id_.name),
    )


def _by_id(disks: Iterable[models.Disk]) -> dict[str, models.Disk]:
    return {(disk.id or "").lower(): disk for disk in disks}


def _power(view: models.VirtualMachineInstanceView | None) -> str | None:
    """The word behind PowerState/: running, deallocated, stopped …"""
    for status in (view.statuses or ()) if view else ():
        kind, _, state = (status.code or "").partition("/")
        if kind == "PowerState" and state:
            return one_line(state)
    return None


def _tags(tags: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    return tuple((one_line(name), one_line(str(value))) for name, value in sorted((tags or {}).items()))


def _id(text_of_id: str | None) -> ResourceId:
    try:
        return resource_id(text_of_id or "")
    except ValueError as error:
        raise SourceError(f"Azure answered with what is no id: {one_line(str(text_of_id))[:200]}") from error
