"""What EC2's answers say of an instance, an AMI and a snapshot: as a Vm, and every reason why it cannot be moved. Nothing is asked here."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from adapters.aws.refusals import Code
from migrate.errors import Reason
from migrate.source import Disk, Firmware, Nic, Vm
from migrate.text import one_line

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import (
        ImageTypeDef,
        InstanceTypeDef,
        InstanceTypeInfoTypeDef,
        SnapshotTypeDef,
        VolumeTypeDef,
    )

GIB, MIB = 1 << 30, 1 << 20
X86 = ("x86_64",)


# Instances


def instance_vm(
    instance: "InstanceTypeDef",
    volumes: "Mapping[str, VolumeTypeDef]",
    types: "Mapping[str, InstanceTypeInfoTypeDef]",
    region: str,
) -> Vm:
    """Return the instance, root device first. A volume that is not in `volumes` is left out."""
    tags = tag_texts(instance.get("Tags", ()))
    type_ = types.get(instance.get("InstanceType", ""))
    return Vm(
        name=name_of(instance),
        origin="AWS",
        disks=tuple(
            Disk(device_name(device), volumes[id_]["Size"] * GIB, "raw")
            for device, id_ in devices(instance)
            if id_ in volumes
        ),
        firmware=_firmware(instance, type_),
        vcpus=_vcpus(instance, type_),
        memory_bytes=type_["MemoryInfo"]["SizeInMiB"] * MIB if type_ and "MemoryInfo" in type_ else None,
        nics=tuple(_nics(instance)),
        os_hint=_text(instance.get("PlatformDetails")) or None,
        address=f"aws://{region}/{instance['InstanceId']}",
        power=_text(instance.get("State", {}).get("Name")) or None,
        description=tags.get("Description", ""),
        tags=tuple(sorted(tags.items())),
    )


def name_of(instance: "InstanceTypeDef") -> str:
    """Return its Name tag, or its id where it has none."""
    return tag_texts(instance.get("Tags", ())).get("Name", "").strip() or instance["InstanceId"]


def devices(instance: "InstanceTypeDef") -> list[tuple[str, str]]:
    """Return (device, volume) of each EBS volume, the root device first, then in EC2's order."""
    root = instance.get("RootDeviceName")
    found = [
        (one.get("DeviceName", ""), one["Ebs"]["VolumeId"])
        for one in instance.get("BlockDeviceMappings", ())
        if one.get("Ebs", {}).get("VolumeId")
    ]
    return sorted(found, key=lambda one: one[0] != root)


def instance_reasons(instance: "InstanceTypeDef", volumes: "Mapping[str, VolumeTypeDef]") -> Iterator[Reason]:
    """Yield why it cannot be moved, as far as that is known from looking."""
    yield from _platform_reasons(instance.get("Platform"), instance.get("PlatformDetails"))
    yield from _architecture_reasons(instance.get("Architecture"))
    yield from _product_reasons("the instance", instance.get("ProductCodes", ()))
    if instance.get("RootDeviceType") == "instance-store":
        yield Reason(
            Code.INSTANCE_STORE,
            "its root device is instance store, which has no snapshots",
            "Make an EBS-backed AMI of it in the guest, or copy the disk to a file and give that.",
        )
    elif not devices(instance):
        yield Reason(Code.NO_DISK, "it has no EBS volume", "Name an instance with a disk.")
    elif instance.get("RootDeviceName") not in dict(devices(instance)):
        text = f"its root device {_text(instance.get('RootDeviceName'))} is not attached"
        yield Reason(Code.NO_DISK, text, "Attach the root volume again, or give its snapshot: aws://REGION/snap-…")
    for device, id_ in devices(instance):
        volume = volumes.get(id_)
        if volume is None:
            continue
        yield from _product_reasons(f"volume {id_} ({_text(device)})", _listed(volume, "ProductCodes"))
        if len(volume.get("Attachments", ())) > 1:
            others = ", ".join(
                one["InstanceId"] for one in volume["Attachments"] if one.get("InstanceId") != instance["InstanceId"]
            )
            yield Reason(
                Code.SHARED,
                f"volume {id_} ({_text(device)}) is attached to {others}, too: no snapshot of one machine holds what all write",
                "Detach it from the others, or from this one.",
            )


def local_storage(instance: "InstanceTypeDef", types: "Mapping[str, InstanceTypeInfoTypeDef]") -> str | None:
    """Return in words which instance store disks of its type no snapshot holds; None where the type has none."""
    type_ = types.get(instance.get("InstanceType", ""))
    if type_ is None or not type_.get("InstanceStorageSupported"):
        return None
    gigabytes = type_.get("InstanceStorageInfo", {}).get("TotalSizeInGB", 0)
    return (
        f"an instance of type {_text(instance.get('InstanceType'))} has {gigabytes} GB of instance store: "
        "whatever is on it does not come along, because no snapshot holds it"
    )


def _firmware(instance: "InstanceTypeDef", type_: "InstanceTypeInfoTypeDef | None") -> Firmware:
    """Return what it runs with now, or would start with. An Intel or AMD type without a mode in the AMI starts with BIOS.

    Source: EC2 user guide, "Instance launch behavior with boot modes".
    """
    mode = instance.get("CurrentInstanceBootMode") or instance.get("BootMode")
    if mode == "uefi-preferred":
        return Firmware.UEFI if "uefi" in (type_ or {}).get("SupportedBootModes", ()) else Firmware.BIOS
    return Firmware.UEFI if mode == "uefi" else Firmware.BIOS


def _vcpus(instance: "InstanceTypeDef", type_: "InstanceTypeInfoTypeDef | None") -> int | None:
    chosen = instance.get("CpuOptions", {})
    if chosen.get("CoreCount"):
        return chosen["CoreCount"] * chosen.get("ThreadsPerCore", 1)
    return (type_ or {}).get("VCpuInfo", {}).get("DefaultVCpus")


def _nics(instance: "InstanceTypeDef") -> Iterator[Nic]:
    cards = instance.get("NetworkInterfaces", ())
    for card in sorted(cards, key=lambda one: one.get("Attachment", {}).get("DeviceIndex", 0)):
        yield Nic(_text(card.get("NetworkInterfaceId")), _text(card.get("MacAddress")).lower() or None)


# AMIs and snapshots


def image_vm(image: "ImageTypeDef", snapshots: "Mapping[str, SnapshotTypeDef]", region: str) -> Vm:
    tags = tag_texts(image.get("Tags", ()))
    return Vm(
        name=tags.get("Name", "").strip() or _text(image.get("Name")) or image["ImageId"],
        origin="AWS",
        disks=tuple(
            Disk(device_name(device), snapshots[id_]["VolumeSize"] * GIB, "raw")
            for device, id_ in image_devices(image)
            if id_ in snapshots
        ),
        # An image of uefi-preferred starts with either: its disk tells what it holds.
        firmware={"uefi": Firmware.UEFI, "uefi-preferred": None}.get(str(image.get("BootMode")), Firmware.BIOS),
        os_hint=_text(image.get("PlatformDetails")) or None,
        address=f"aws://{region}/{image['ImageId']}",
        power=_text(image.get("State")) or None,
        description=_text(image.get("Description")),
        tags=tuple(sorted(tags.items())),
    )


def image_devices(image: "ImageTypeDef") -> list[tuple[str, str]]:
    """Return (device, snapshot) of each disk of an AMI, the root device first."""
    root = image.get("RootDeviceName")
    found = [
        (one.get("DeviceName", ""), one["Ebs"]["SnapshotId"])
        for one in image.get("BlockDeviceMappings", ())
        if one.get("Ebs", {}).get("SnapshotId")
    ]
    return sorted(found, key=lambda one: one[0] != root)


def image_reasons(image: "ImageTypeDef") -> Iterator[Reason]:
    yield from _platform_reasons(image.get("Platform"), image.get("PlatformDetails"))
    yield from _architecture_reasons(image.get("Architecture"))
    yield from _product_reasons("the AMI", image.get("ProductCodes", ()))
    if image.get("State", "available") != "available":
        text = f"the AMI is {_text(image.get('State'))}"
        yield Reason(Code.NOT_COMPLETED, text, "Wait until it is available: aws ec2 wait image-available")
    if image.get("RootDeviceType") == "instance-store":
        text = "the AMI is backed by instance store, which has no snapshots"
        yield Reason(Code.INSTANCE_STORE, text, "Start an instance of it and copy it to EBS.")
    elif not image_devices(image):
        yield Reason(Code.NO_DISK, "the AMI has no snapshot", "Name an AMI with a disk.")


def snapshot_vm(snapshot: "SnapshotTypeDef", region: str) -> Vm:
    tags = tag_texts(snapshot.get("Tags", ()))
    id_ = snapshot["SnapshotId"]
    return Vm(
        name=tags.get("Name", "").strip() or id_,
        origin="AWS",
        disks=(Disk(id_, snapshot["VolumeSize"] * GIB, "raw"),),
        address=f"aws://{region}/{id_}",
        power=_text(snapshot.get("State")) or None,
        description=_text(snapshot.get("Description")),
        tags=tuple(sorted(tags.items())),
    )


def snapshot_reasons(snapshot: "SnapshotTypeDef") -> Iterator[Reason]:
    id_ = snapshot["SnapshotId"]
    if snapshot.get("State") != "completed":
        text = (
            f"{id_} is {_text(snapshot.get('State'))}: {_text(snapshot.get('Progress')) or 'its progress is not told'}"
        )
        yield Reason(Code.NOT_COMPLETED, text, f"aws ec2 wait snapshot-completed --snapshot-ids {id_}")
    elif snapshot.get("StorageTier") == "archive":
        text = f"{id_} is archived, and cannot be read before it is restored"
        yield Reason(
            Code.NOT_COMPLETED, text, f"aws ec2 restore-snapshot-tier --snapshot-id {id_} --temporary-restore-days 3"
        )


# What several have


def tag_texts(tags: Iterable[Any]) -> dict[str, str]:
    """Return the tags that the user gave; those that begin with "aws:" are AWS's own."""
    return {
        _text(tag.get("Key")): _text(tag.get("Value"))
        for tag in tags
        if tag.get("Key") and not tag["Key"].startswith("aws:")
    }


def device_name(device: str) -> str:
    """Return "sda1" of "/dev/sda1"."""
    return _text(device).removeprefix("/dev/") or "disk"


def _platform_reasons(platform: str | None, details: str | None) -> Iterator[Reason]:
    if str(platform).lower() == "windows" or str(details).startswith("Windows"):
        text = f"it is no Linux: {_text(details) or 'Windows'}"
        yield Reason(Code.NOT_LINUX, text, "Only Linux guests can be moved.")


def _architecture_reasons(architecture: str | None) -> Iterator[Reason]:
    if architecture not in (None, *X86):
        text = f"it is for {_text(architecture)}; Magalu Cloud's machines are x86_64"
        yield Reason(Code.ARCHITECTURE, text, "Install the same system for x86_64.")


def _product_reasons(what: str, codes: Iterable[Any]) -> Iterator[Reason]:
    for code in codes:
        yield Reason(
            Code.MARKETPLACE,
            f"{what} has the product code {_text(code.get('ProductCodeId'))} ({_text(code.get('ProductCodeType'))}): "
            "it is AWS Marketplace's, whose disks AWS gives to nobody",
            "Install the product from its vendor's own packages, under a licence for the new place.",
        )


def _listed(answer: Any, name: str) -> list[Any]:
    """Return a list that the API gives and its stubs do not know."""
    return [*answer.get(name, ())]


def _text(text: object) -> str:
    return one_line(str(text)) if text is not None else ""
