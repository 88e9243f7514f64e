"""Why a VM or a disk of Azure's cannot be moved: codes and what Azure says of it. A code never changes its meaning; texts and remedies may.

| code    | the VM or the disk is refused because                                                             |
| ------- | ------------------------------------------------------------------------------------------------- |
| AZR-001 | it is Windows                                                                                     |
| AZR-002 | Azure Disk Encryption encrypts inside the guest                                                   |
| AZR-003 | a key of the customer's encrypts it, and its disk encryption set does not give it                 |
| AZR-004 | its OS disk is ephemeral                                                                          |
| AZR-005 | it is a Trusted Launch VM, and nobody has said --waive AZR-005                                    |
| AZR-006 | it is a confidential VM                                                                           |
| AZR-007 | a disk is unmanaged: a page blob in a storage account                                             |
| AZR-008 | a disk may be downloaded through private links only, or not at all                                |
| AZR-009 | a disk has sectors of 4096 bytes                                                                  |
| AZR-010 | a right is missing                                                                                |
| AZR-011 | a disk's download wants a sign-in of its own                                                      |
| AZR-012 | a disk is not whole: it is being filled, or Azure failed to make it                               |
| AZR-013 | it has no OS disk                                                                                 |

Sources: Azure REST reference, Compute 2025-04-01 (Disk, VirtualMachine); "Download a Linux VHD from Azure"; "Restrict managed disks from being
imported or exported"; "Azure ultra disks", "Premium SSD v2". That a Trusted Launch disk is read like any other, by the same SAS, its virtual TPM by
another one that must be asked for: "Get sas on managed disk and VM guest state", an example of Disks - Grant Access; azure-cli issue 22275.
"""

from collections.abc import Iterator
from enum import StrEnum

from azure.mgmt.compute import models

from migrate.errors import Reason
from migrate.text import one_line

TRUSTED = "trustedlaunch"
CONFIDENTIAL = "confidential"
SECTOR = 512


class Code(StrEnum):
    WINDOWS = "AZR-001"
    DISK_ENCRYPTION = "AZR-002"
    KEY = "AZR-003"
    EPHEMERAL = "AZR-004"
    TRUSTED_LAUNCH = "AZR-005"
    CONFIDENTIAL = "AZR-006"
    UNMANAGED = "AZR-007"
    PRIVATE = "AZR-008"
    SECTORS = "AZR-009"
    RIGHT = "AZR-010"
    SIGN_IN = "AZR-011"
    NOT_WHOLE = "AZR-012"
    NO_DISK = "AZR-013"


WAIVABLE = frozenset({Code.TRUSTED_LAUNCH})
"""What speaks against a move and does not keep a disk from being read. migrate/codes.yaml says why it may be waived."""


def of_vm(vm: models.VirtualMachine) -> Iterator[Reason]:
    """Yield what the VM itself tells against it; its disks are looked at one by one."""
    told = vm.properties
    system = told.storage_profile.os_disk if told and told.storage_profile else None
    if told is None or system is None:
        yield Reason(
            Code.NO_DISK, "it has no OS disk", "Move the disk itself: azure://SUBSCRIPTION/RESOURCE_GROUP/disks/NAME."
        )
        return
    if _word(system.os_type) == "windows":
        yield _windows("it")
    if system.diff_disk_settings is not None and _word(system.diff_disk_settings.option) == "local":
        yield Reason(
            Code.EPHEMERAL,
            "its OS disk is ephemeral: it is on the host, and no snapshot holds it",
            "Deploy the VM anew with a managed OS disk, or move its data by other means.",
        )
    if system.encryption_settings is not None and system.encryption_settings.enabled:
        yield _disk_encryption("its OS disk")
    secured = _word(told.security_profile.security_type) if told.security_profile else ""
    yield from _secured("it", secured)
    profile = system.managed_disk.security_profile if system.managed_disk else None
    if profile is not None and profile.security_encryption_type and not secured.startswith(CONFIDENTIAL):
        yield from _secured("it", CONFIDENTIAL)
    for disk in (system, *(told.storage_profile.data_disks or () if told.storage_profile else ())):
        if disk.vhd is not None and disk.managed_disk is None:
            yield Reason(
                Code.UNMANAGED,
                f'disk "{one_line(disk.name or "")}" is unmanaged: a page blob in a storage account',
                "Convert the VM: az vm convert --name VM --resource-group GROUP.",
            )


def of_disk(disk: models.Disk, *, is_of_vm: bool) -> Iterator[Reason]:
    """Yield what speaks against a managed disk; what its VM has said already is not said again."""
    told, name = disk.properties, f'disk "{one_line(disk.name or "")}"'
    if told is None:
        return
    if _word(told.os_type) == "windows" and not is_of_vm:
        yield _windows(name)
    if told.encryption_settings_collection is not None and told.encryption_settings_collection.enabled:
        yield _disk_encryption(name)
    if told.security_profile is not None and not is_of_vm:
        yield from _secured(name, _word(told.security_profile.security_type))
    elif told.security_profile is not None and told.security_profile.secure_vm_disk_encryption_set_id:
        yield from _secured(name, CONFIDENTIAL)
    policy, public = _word(told.network_access_policy), _word(told.public_network_access)
    if policy in ("denyall", "allowprivate") or public == "disabled":
        found = one_line(text(told.network_access_policy)) or "not said"
        yield Reason(
            Code.PRIVATE,
            f"{name} may not be downloaded from here: its network access policy is {found}"
            + (" and public network access is disabled" if public == "disabled" else ""),
            "Allow it while the VM moves: az disk update --network-access-policy AllowAll --public-network-access Enabled.",
        )
    if told.creation_data is not None and (told.creation_data.logical_sector_size or SECTOR) != SECTOR:
        yield Reason(
            Code.SECTORS,
            f"{name} has sectors of {told.creation_data.logical_sector_size} bytes ({one_line(_sku(disk))}), and a disk here has 512",
            "Copy its files to a disk with sectors of 512 bytes, or leave it behind.",
        )
    if _word(told.data_access_auth_mode) == "azureactivedirectory":
        yield Reason(
            Code.SIGN_IN,
            f"the download of {name} wants a sign-in of its own (dataAccessAuthMode AzureActiveDirectory)",
            "Switch it off while the VM moves: az disk update --data-access-auth-mode None.",
        )
    if _word(told.provisioning_state) == "failed" or _word(told.disk_state) in ("activeupload", "readytoupload"):
        yield Reason(
            Code.NOT_WHOLE,
            f"{name} is not whole: its state is {one_line(text(told.provisioning_state))}, {one_line(text(told.disk_state))}",
            "Wait until its upload is done, or make it anew.",
        )


def right(action: str, scope: str) -> Reason:
    return Reason(
        Code.RIGHT,
        f"the right {action} is missing on {one_line(scope)}",
        "Have a role assigned that holds it; the README has one with all that is needed.",
    )


def key(name: str, why: str) -> Reason:
    return Reason(
        Code.KEY,
        f'disk "{one_line(name)}" is encrypted with a key of your own, which cannot be used: {why}',
        "Give its disk encryption set access to the key again, and yourself the right to read the set.",
    )


def _windows(what: str) -> Reason:
    return Reason(Code.WINDOWS, f"{what} is Windows", "Only Linux is moved.")


def _disk_encryption(what: str) -> Reason:
    return Reason(
        Code.DISK_ENCRYPTION,
        f"{what} is encrypted inside the guest by Azure Disk Encryption, with a key that a vault of Azure's holds",
        "Switch it off where Azure allows that (data disks), or move the data by other means.",
    )


def _secured(what: str, kind: str) -> Iterator[Reason]:
    if kind == TRUSTED:
        yield Reason(
            Code.TRUSTED_LAUNCH,
            f"{what} is a Trusted Launch VM: secrets may be sealed to its virtual TPM, which does not come along",
            f"Make sure that no key of the guest's is in it, then --waive {Code.TRUSTED_LAUNCH.value}; or turn Trusted Launch off: deallocate it, "
            "then az vm update --security-type Standard.",
        )
    elif kind.startswith(CONFIDENTIAL):
        yield Reason(
            Code.CONFIDENTIAL,
            f"{what} is a confidential VM: its disks and its state are encrypted for hardware of Azure's",
            "Move the data by other means.",
        )


def _sku(disk: models.Disk) -> str:
    return str(disk.sku.name if disk.sku and disk.sku.name else "")


def text(value: object) -> str:
    """A value of Azure's enums: it comes as an enum, or as a text that the SDK does not know yet."""
    return str(getattr(value, "value", value) or "")


def _word(value: object) -> str:
    return text(value).lower()
