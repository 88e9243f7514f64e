"""What EC2's answers mean, answer by answer: the shapes are those of the API reference's examples."""

from typing import TYPE_CHECKING, Any, cast

import pytest

from adapters.aws import Code
from adapters.aws.inventory import (
    image_reasons,
    image_vm,
    instance_reasons,
    instance_vm,
    local_storage,
    snapshot_reasons,
    snapshot_vm,
)
from adapters.aws.pace import LEAST, MOST, Pace
from migrate.codes import register
from migrate.effects import Severity
from migrate.errors import Reason
from migrate.source import Disk, Firmware, Nic

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import (
        ImageTypeDef,
        InstanceTypeDef,
        InstanceTypeInfoTypeDef,
        SnapshotTypeDef,
        VolumeTypeDef,
    )

GIB = 1 << 30


def instance(**other: Any) -> "InstanceTypeDef":
    """An instance of two volumes, its root second in the answer."""
    return cast(
        "InstanceTypeDef",
        {
            "InstanceId": "i-0123456789abcdef0",
            "InstanceType": "m5.large",
            "Architecture": "x86_64",
            "PlatformDetails": "Linux/UNIX",
            "RootDeviceName": "/dev/xvda",
            "RootDeviceType": "ebs",
            "State": {"Code": 16, "Name": "running"},
            "BlockDeviceMappings": [
                {"DeviceName": "/dev/sdf", "Ebs": {"VolumeId": "vol-2"}},
                {"DeviceName": "/dev/xvda", "Ebs": {"VolumeId": "vol-1"}},
            ],
            "NetworkInterfaces": [
                {"NetworkInterfaceId": "eni-2", "MacAddress": "02:AA:00:00:00:02", "Attachment": {"DeviceIndex": 1}},
                {"NetworkInterfaceId": "eni-1", "MacAddress": "02:AA:00:00:00:01", "Attachment": {"DeviceIndex": 0}},
            ],
            "Tags": [
                {"Key": "Name", "Value": "erp01"},
                {"Key": "aws:cloudformation:stack-name", "Value": "s"},
                {"Key": "team", "Value": "erp\x1b[2J"},
            ],
        }
        | other,
    )


def volumes(**other: Any) -> "dict[str, VolumeTypeDef]":
    attached = [{"InstanceId": "i-0123456789abcdef0", "Device": "/dev/xvda"}]
    return cast(
        "dict[str, VolumeTypeDef]",
        {
            "vol-1": {"VolumeId": "vol-1", "Size": 8, "Attachments": attached} | other,
            "vol-2": {"VolumeId": "vol-2", "Size": 100, "Attachments": attached},
        },
    )


def types(**other: Any) -> "dict[str, InstanceTypeInfoTypeDef]":
    return cast(
        "dict[str, InstanceTypeInfoTypeDef]",
        {
            "m5.large": {
                "InstanceType": "m5.large",
                "VCpuInfo": {"DefaultVCpus": 2},
                "MemoryInfo": {"SizeInMiB": 8192},
                "SupportedBootModes": ["legacy-bios", "uefi"],
            }
            | other
        },
    )


def codes(reasons: Any) -> list[Code]:
    return [Code(reason.code) for reason in reasons]


def test_an_instance_is_told_root_disk_and_first_card_first() -> None:
    vm = instance_vm(instance(), volumes(), types(), "sa-east-1")
    assert vm.disks == (Disk("xvda", 8 * GIB, "raw"), Disk("sdf", 100 * GIB, "raw"))
    assert vm.nics == (Nic("eni-1", "02:aa:00:00:00:01"), Nic("eni-2", "02:aa:00:00:00:02"))
    assert (vm.name, vm.vcpus, vm.memory_bytes, vm.power) == ("erp01", 2, 8 * GIB, "running")
    assert vm.tags == (("Name", "erp01"), ("team", "erp\\x1b[2J")), (
        "AWS's own tags stay, and what moves the cursor is shown"
    )
    assert list(instance_reasons(instance(), volumes())) == []


def test_an_instance_without_a_name_is_called_by_its_id() -> None:
    assert instance_vm(instance(Tags=[]), volumes(), types(), "sa-east-1").name == "i-0123456789abcdef0"


def test_cores_that_were_chosen_count_and_not_the_type_s() -> None:
    chosen = instance(CpuOptions={"CoreCount": 1, "ThreadsPerCore": 1})
    assert instance_vm(chosen, volumes(), types(), "sa-east-1").vcpus == 1


@pytest.mark.parametrize(
    ("modes", "firmware"),
    [
        ({}, Firmware.BIOS),
        ({"BootMode": "legacy-bios"}, Firmware.BIOS),
        ({"BootMode": "uefi"}, Firmware.UEFI),
        ({"BootMode": "uefi-preferred"}, Firmware.UEFI),
        ({"BootMode": "uefi-preferred", "CurrentInstanceBootMode": "legacy-bios"}, Firmware.BIOS),
        ({"BootMode": "uefi-preferred", "CurrentInstanceBootMode": "uefi"}, Firmware.UEFI),
    ],
)
def test_the_firmware_is_what_the_instance_runs_with(modes: dict[str, str], firmware: Firmware) -> None:
    assert instance_vm(instance(**modes), volumes(), types(), "sa-east-1").firmware is firmware


def test_uefi_preferred_on_a_type_without_uefi_is_bios() -> None:
    old = types(SupportedBootModes=["legacy-bios"])
    assert instance_vm(instance(BootMode="uefi-preferred"), volumes(), old, "r-1").firmware is Firmware.BIOS


def test_every_reason_against_an_instance_is_told() -> None:
    product = [{"ProductCodeId": "abc123", "ProductCodeType": "marketplace"}]
    bad = instance(Platform="windows", PlatformDetails="Windows", Architecture="arm64", ProductCodes=product)
    shared = [{"InstanceId": "i-0123456789abcdef0"}, {"InstanceId": "i-other"}]
    found: list[Reason] = list(instance_reasons(bad, volumes(Attachments=shared)))
    assert codes(found) == [Code.NOT_LINUX, Code.ARCHITECTURE, Code.MARKETPLACE, Code.SHARED]
    assert "i-other" in found[3].text and all(reason.remedy for reason in found)


def test_a_root_on_instance_store_or_none_is_refused_and_local_disks_are_told() -> None:
    assert codes(instance_reasons(instance(RootDeviceType="instance-store"), volumes())) == [Code.INSTANCE_STORE]
    assert codes(instance_reasons(instance(BlockDeviceMappings=[]), volumes())) == [Code.NO_DISK]
    assert codes(instance_reasons(instance(RootDeviceName="/dev/sda1"), volumes())) == [Code.NO_DISK]
    assert local_storage(instance(), types()) is None
    local = types(InstanceStorageSupported=True, InstanceStorageInfo={"TotalSizeInGB": 75})
    assert "75 GB of instance store" in str(local_storage(instance(), local))


def image(**other: Any) -> "ImageTypeDef":
    return cast(
        "ImageTypeDef",
        {
            "ImageId": "ami-0123456789abcdef0",
            "Name": "golden",
            "State": "available",
            "Architecture": "x86_64",
            "RootDeviceName": "/dev/xvda",
            "RootDeviceType": "ebs",
            "BlockDeviceMappings": [
                {"DeviceName": "/dev/sdb", "VirtualName": "ephemeral0"},
                {"DeviceName": "/dev/sdf", "Ebs": {"SnapshotId": "snap-2"}},
                {"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": "snap-1"}},
            ],
        }
        | other,
    )


def snapshot(**other: Any) -> "SnapshotTypeDef":
    return cast(
        "SnapshotTypeDef",
        {"SnapshotId": "snap-1", "VolumeSize": 8, "State": "completed", "StorageTier": "standard"} | other,
    )


def test_an_ami_is_told_by_its_snapshots_and_its_boot_mode() -> None:
    snapshots = {"snap-1": snapshot(), "snap-2": snapshot(SnapshotId="snap-2", VolumeSize=20)}
    vm = image_vm(image(), snapshots, "sa-east-1")
    assert (vm.name, vm.firmware) == ("golden", Firmware.BIOS)
    assert vm.disks == (Disk("xvda", 8 * GIB, "raw"), Disk("sdf", 20 * GIB, "raw"))
    assert image_vm(image(BootMode="uefi"), snapshots, "sa-east-1").firmware is Firmware.UEFI
    assert image_vm(image(BootMode="uefi-preferred"), snapshots, "sa-east-1").firmware is None
    assert list(image_reasons(image())) == []


def test_an_ami_that_cannot_be_read_is_refused_for_every_reason() -> None:
    product = [{"ProductCodeId": "abc", "ProductCodeType": "marketplace"}]
    bad = image(State="pending", Architecture="i386", ProductCodes=product, BlockDeviceMappings=[])
    assert codes(image_reasons(bad)) == [Code.ARCHITECTURE, Code.MARKETPLACE, Code.NOT_COMPLETED, Code.NO_DISK]


def test_a_snapshot_that_is_not_completed_or_archived_is_refused() -> None:
    assert list(snapshot_reasons(snapshot())) == []
    assert codes(snapshot_reasons(snapshot(State="pending", Progress="45%"))) == [Code.NOT_COMPLETED]
    (archived,) = snapshot_reasons(snapshot(StorageTier="archive"))
    assert archived.code == Code.NOT_COMPLETED and "restore-snapshot-tier" in str(archived.remedy)
    assert snapshot_vm(snapshot(), "sa-east-1").firmware is None


def test_every_refusal_has_a_meaning_and_is_an_error() -> None:
    assert {register()[code].severity for code in Code} == {Severity.ERROR}


def test_the_pace_is_below_the_quota_and_falls_and_recovers() -> None:
    pace = Pace()
    assert pace.rate == MOST < 1000
    pace.throttled()
    pace.throttled()
    assert pace.rate == MOST / 2, "requests that were refused together count once"
    for _ in range(140):
        pace.answered()
    assert pace.rate == MOST
    assert LEAST > 0
