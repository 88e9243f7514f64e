"""What vSphere tells of VMs, without a server: addresses, refusals, the boot disk, credentials, trust."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from pyVmomi import vim

from adapters.vmware import trust
from adapters.vmware.credentials import Credentials, find_credentials
from adapters.vmware.flat import flat_path
from adapters.vmware.inventory import address, chosen
from adapters.vmware.machine import Backing, Machine, MachineDisk, Snapshot, machine
from adapters.vmware.refusals import Code, reasons
from adapters.vmware.session import LICENCE, translated
from adapters.vmware.snapshots import snapshot_name
from adapters.vmware.token import Token, TokenDisk, read_token
from migrate.address import parse
from migrate.errors import SourceBusy, SourceError, UsageError
from migrate.secret import Secret
from tests.vsphere import DISK, SOUND, at

PASSWORD = "planted-password-1b7e"


# Addresses

WEB, DB, OTHER_WEB = at("DC0", "vm", "shop", "web"), at("DC0", "vm", "shop", "db"), at("DC1", "vm", "web")
ALL = (WEB, DB, OTHER_WEB)


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("DC0/vm/shop/web", [WEB]),
        ("DC0/shop/web", [WEB]),
        ("db", [DB]),
        ("web", [WEB, OTHER_WEB]),
        ("w*", [WEB, OTHER_WEB]),
        ("DC0/shop/*", [WEB, DB]),
        ("DC0/shop", [WEB, DB]),
        ("DC*", [WEB, DB, OTHER_WEB]),
        ("", [WEB, DB, OTHER_WEB]),
        ("DC0/web", []),
    ],
)
def test_an_address_names_vms_by_path_by_name_by_folder_and_by_pattern(path: str, wanted: list[Machine]) -> None:
    assert list(chosen(ALL, parse(f"vmware://vc1/{path}").parts)) == wanted


def test_a_name_with_a_slash_or_a_bracket_is_found_again_by_its_address() -> None:
    odd = at("DC0", "vm", "a/b [c] %2f é")
    text = address("vc1:8443", odd)
    assert parse(text).host == "vc1:8443"
    assert chosen((*ALL, odd), parse(text).parts) == (odd,)


# Refusals


def codes(one: Machine) -> list[str]:
    return [reason.code for reason in reasons(one)]


def test_a_plain_vm_is_not_refused() -> None:
    assert codes(SOUND) == []


def with_disk(**words: object) -> Machine:
    changed: MachineDisk = replace(DISK, **words)  # type: ignore[arg-type]
    return replace(SOUND, disks=(changed,))


@pytest.mark.parametrize(
    ("one", "code"),
    [
        (with_disk(mode="independent_persistent"), Code.INDEPENDENT),
        (with_disk(mode="independent_nonpersistent"), Code.INDEPENDENT),
        (with_disk(backing=Backing.RDM), Code.RDM),
        (with_disk(backing=Backing.OTHER, kind="LocalPMemBackingInfo"), Code.BACKING),
        (with_disk(shared=True), Code.SHARED),
        (with_disk(bus_shared=True), Code.SHARED),
        (with_disk(encrypted=True), Code.ENCRYPTED),
        (replace(SOUND, encrypted=True), Code.ENCRYPTED),
        (replace(SOUND, has_vtpm=True), Code.VTPM),
        (replace(SOUND, takes_snapshots=False), Code.NO_SNAPSHOTS),
        (replace(SOUND, fault_tolerance="running"), Code.FAULT_TOLERANCE),
        (replace(SOUND, template=True, takes_snapshots=False), Code.TEMPLATE),
        (replace(SOUND, snapshots=(Snapshot("s", "theirs", 32),)), Code.SNAPSHOT_LIMIT),
        (replace(SOUND, disks=()), Code.NO_DISK),
        (replace(SOUND, guest_id="windows2019srv_64Guest"), Code.WINDOWS),
        (replace(SOUND, connection="inaccessible"), Code.OUT_OF_REACH),
    ],
)
def test_each_hindrance_has_its_code(one: Machine, code: str) -> None:
    assert codes(one) == [code]


def test_all_reasons_are_told_at_once_and_name_the_disk() -> None:
    second = replace(DISK, key=2001, label="Hard disk 2", mode="independent_persistent", shared=True)
    one = replace(SOUND, disks=(replace(DISK, backing=Backing.RDM), second), encrypted=True)
    assert codes(one) == [Code.ENCRYPTED, Code.RDM, Code.INDEPENDENT, Code.SHARED]
    assert [reason.text for reason in reasons(one) if "Hard disk 2" in reason.text] == [
        'disk "Hard disk 2" is an independent disk (independent_persistent), which no snapshot holds',
        'disk "Hard disk 2" may be written by several VMs (multi-writer): no snapshot holds it',
    ]


def test_a_snapshot_of_ours_does_not_count_towards_the_limit() -> None:
    assert codes(replace(SOUND, snapshots=(Snapshot("s", "magalu-migrate web", 32),))) == []


# What pyvmomi gives


def controller(kind: type, key: int, bus: int = 0, shared: str = "noSharing") -> object:
    made = kind(key=key, busNumber=bus)
    if isinstance(made, vim.vm.device.VirtualSCSIController):
        made.sharedBus = shared
    return made


def disk(key: int, controller_key: int, unit: int, backing: object | None = None) -> object:
    plain = vim.vm.device.VirtualDisk.FlatVer2BackingInfo(fileName=f"[s] w/{key}.vmdk", diskMode="persistent")
    return vim.vm.device.VirtualDisk(
        key=key,
        controllerKey=controller_key,
        unitNumber=unit,
        capacityInBytes=1 << 20,
        capacityInKB=1 << 10,
        backing=backing or plain,
        deviceInfo=vim.Description(label=f"Hard disk {key}", summary=""),
    )


SCSI, SATA = vim.vm.device.ParaVirtualSCSIController, vim.vm.device.VirtualAHCIController


def told(devices: list[object], **more: object) -> Machine:
    values = {"name": "web", "config.hardware.device": devices, **more}
    return machine("vm-1", values, ("DC0", "vm", "web"), "DC0", {})


def test_the_boot_order_names_the_boot_disk() -> None:
    devices = [controller(SCSI, 1000), disk(1, 1000, 0), disk(2, 1000, 1)]
    order = vim.vm.BootOptions(bootOrder=[vim.vm.BootOptions.BootableDiskDevice(deviceKey=2)])
    assert [one.key for one in told(devices, **{"config.bootOptions": order}).disks] == [2, 1]
    assert [one.key for one in told(devices).disks] == [1, 2]
    assert told(devices).boot_is_guessed and not told(devices, **{"config.bootOptions": order}).boot_is_guessed


def test_without_a_boot_order_scsi_comes_before_sata_and_controllers_before_units() -> None:
    devices = [
        *(controller(SATA, 15000), controller(SCSI, 1001, 1), controller(SCSI, 1000)),
        *(disk(1, 15000, 0), disk(2, 1001, 0), disk(3, 1000, 8), disk(4, 1000, 2)),
    ]
    assert [one.key for one in told(devices).disks] == [4, 3, 2, 1]


def test_backings_modes_and_sharing_are_read_from_the_devices() -> None:
    kinds = vim.vm.device.VirtualDisk
    base = kinds.FlatVer2BackingInfo(fileName="[s] w/base.vmdk", diskMode="persistent")
    devices = [
        *(controller(SCSI, 1000, shared="physicalSharing"), controller(SATA, 15000)),
        disk(1, 1000, 0, kinds.RawDiskMappingVer1BackingInfo(fileName="[s] w/rdm.vmdk", diskMode="persistent")),
        disk(2, 15000, 0, kinds.FlatVer2BackingInfo(fileName="[s] w/d.vmdk", diskMode="persistent", parent=base)),
        disk(3, 15000, 1, kinds.FlatVer2BackingInfo(fileName="[s] w/i.vmdk", diskMode="independent_persistent")),
        disk(4, 15000, 2, kinds.FlatVer2BackingInfo(fileName="[s] w/m.vmdk", sharing="sharingMultiWriter")),
    ]
    one = told(devices)
    assert [each.backing for each in one.disks] == [Backing.RDM, Backing.DELTA, Backing.FLAT, Backing.FLAT]
    assert codes(one) == [Code.RDM, Code.SHARED, Code.INDEPENDENT, Code.SHARED]
    assert one.disks[0].device == "ParaVirtualSCSIController0:0"


def test_a_vm_of_which_the_inventory_tells_nothing_is_told_all_the_same() -> None:
    one = machine("vm-1", {"name": "lost", "runtime.connectionState": "inaccessible"}, ("DC0", "vm", "lost"), "DC0", {})
    assert one.vm("vmware://vc1/DC0/vm/lost").disks == ()
    assert codes(one) == [Code.OUT_OF_REACH]


# Names and tokens


def test_names_of_snapshots_bear_the_mark_and_stay_apart() -> None:
    assert snapshot_name("web-20261123") == "magalu-migrate web-20261123"
    long = [snapshot_name("x" * 200), snapshot_name("x" * 201), snapshot_name("a/b"), snapshot_name("a-b")]
    assert len(set(long)) == 4
    assert all(re.fullmatch(r"magalu-migrate [\w.-]{1,65}", name) for name in long)


def frozen(**words: object) -> Token:
    one = TokenDisk(key=1, label="Hard disk 1", size=512, file="[a b] w é/w.vmdk", device="X0:0", is_delta=False)
    given = {"host": "vc1", "vm": "vm-1", "instance": "i", "name": "wéb", "datacenter": "F/DC 0", "snapshot": "s-1"}
    return Token(**(given | {"snapshot_name": "magalu-migrate w", "tracked": True, "disks": (one,)} | words))  # type: ignore[arg-type]


def test_a_token_is_read_back_and_another_text_is_refused() -> None:
    assert read_token(frozen().text()) == frozen()
    for text in ("", "{}", '{"version": 2}', frozen().text().replace('"version": 1', '"version": 7')):
        with pytest.raises(SourceError, match="not a token"):
            read_token(text)


def test_a_datastores_file_is_asked_for_with_every_name_quoted() -> None:
    token = frozen()
    assert flat_path(token, token.disks[0]) == "/folder/w%20%C3%A9/w-flat.vmdk?dcPath=F%2FDC%200&dsName=a%20b"
    assert flat_path(token, token.disks[0].model_copy(update={"file": "nonsense"})) is None


# Credentials


@pytest.mark.parametrize(
    "environ",
    [
        {"GOVC_USERNAME": "u", "GOVC_PASSWORD": PASSWORD},
        {"GOVC_URL": f"https://u:{PASSWORD}@vc1/sdk"},
        {"GOVC_URL": f"u:{PASSWORD}@VC1:443"},
        {"GOVC_URL": "vc1", "GOVC_USERNAME": "u", "GOVC_PASSWORD": PASSWORD},
        {"VSPHERE_USER": "u", "VSPHERE_PASSWORD": PASSWORD, "VSPHERE_SERVER": "vc1"},
        {"GOVC_USERNAME": "half", "VSPHERE_USER": "u", "VSPHERE_PASSWORD": PASSWORD},
    ],
)
def test_credentials_are_read_where_users_have_them(environ: dict[str, str]) -> None:
    found = find_credentials(environ, "vc1:443")
    assert found == Credentials("u", Secret(PASSWORD))
    assert PASSWORD not in repr(found)


def test_what_is_meant_for_another_server_is_not_sent_to_this_one() -> None:
    environ = {"GOVC_URL": f"https://u:{PASSWORD}@vc2/sdk", "GOVC_USERNAME": "u", "GOVC_PASSWORD": PASSWORD}
    with pytest.raises(
        UsageError, match=r"those for vc2 were left alone.*VSPHERE_USER and VSPHERE_PASSWORD"
    ) as refused:
        find_credentials(environ, "vc1")
    assert PASSWORD not in str(refused.value)


def test_all_that_is_missing_is_named_at_once() -> None:
    with pytest.raises(UsageError) as refused:
        find_credentials({"GOVC_USERNAME": "u"}, "vc1")
    assert (
        refused.value.message
        == "vc1: user and password of vSphere are missing: set GOVC_PASSWORD, or VSPHERE_USER and VSPHERE_PASSWORD"
    )


def test_a_file_of_credentials_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "vsphere.json"
    path.write_text(json.dumps({"user": "u", "password": PASSWORD, "server": "vc1"}))
    environ = {"MAGALU_MIGRATE_VSPHERE_FILE": str(path)}
    path.chmod(0o640)
    with pytest.raises(UsageError, match="others may read it") as refused:
        find_credentials(environ, "vc1")
    assert refused.value.hint == f"chmod 600 {path}"
    path.chmod(0o600)
    assert find_credentials(environ, "vc1") == Credentials("u", Secret(PASSWORD))
    with pytest.raises(UsageError, match="the credentials of vc1, and vc9 was asked for"):
        find_credentials(environ, "vc9")


@pytest.mark.parametrize("text", ["", "user: u", f"password: [{PASSWORD}", f"user: u\npassword: {PASSWORD}\nmore: 1"])
def test_a_file_that_is_not_one_is_refused_without_being_quoted(tmp_path: Path, text: str) -> None:
    path = tmp_path / "vsphere.yaml"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(UsageError, match="is not what was wanted") as refused:
        find_credentials({"MAGALU_MIGRATE_VSPHERE_FILE": str(path)}, "vc1")
    assert PASSWORD not in str(refused.value)


# Trust and faults


def test_a_thumbprint_is_a_digest_in_any_usual_writing() -> None:
    assert trust.digits("AB:" * 19 + "CD") == "ab" * 19 + "cd"
    assert trust.digits("ab" * 32) == "ab" * 32
    for wrong in ("", "ab" * 16, "xy" * 32):
        with pytest.raises(UsageError, match="no thumbprint"):
            trust.digits(wrong)


def test_a_file_without_a_certificate_is_no_root(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(UsageError, match="no certificate can be read in it"):
        trust.context("127.0.0.1", 1, ca=tmp_path / "ca.pem")


def test_faults_are_told_in_words_and_a_missing_privilege_by_its_name() -> None:
    denied = vim.fault.NoPermission(privilegeId="VApp.Export", object=vim.VirtualMachine("vm-7"))
    assert translated("export it", denied).message == "cannot export it: the privilege VApp.Export is missing on vm-7"
    assert LICENCE in translated("make a snapshot", vim.fault.RestrictedVersion()).message
    assert isinstance(translated("look", vim.fault.TaskInProgress()), SourceBusy)
    assert not isinstance(translated("look", vim.fault.InvalidState()), SourceBusy)
    assert isinstance(translated("look", ConnectionResetError("reset")), SourceBusy)
