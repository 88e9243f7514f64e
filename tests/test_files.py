"""VMs in files: what is told of them, and that every byte arrives."""

import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import nbd
import pytest

from adapters.files import FileSource
from migrate.errors import MigrateError, SourceError, Stopped, UsageError
from migrate.nbd import socket_path
from migrate.run import Event, Note, Progress, Run
from migrate.source import Disk, Extent, Firmware, Nic, Vm
from tests import file_samples as samples

ODD = samples.disk_bytes()
"""5 MiB and three sectors: no whole number of grains, clusters, blocks or cylinders."""


def _ova(folder: Path) -> Path:
    return samples.ova(folder)


def _ovf_folder(folder: Path) -> Path:
    samples.vmware_stream(folder)
    (folder / "erp01.ovf").write_text(samples.ovf_text("disk.vmdk"))
    return folder


def _split_with_zeros(folder: Path) -> Path:
    """Two flat parts and one of zeros between; the first begins within its file."""
    (folder / "a.vmdk").write_bytes(b"x" * 512 + ODD[: 2 * samples.MIB])
    (folder / "b.vmdk").write_bytes(ODD[3 * samples.MIB :])
    lines = ('RW 4096 FLAT "a.vmdk" 1', "RW 2048 ZERO", f'RW {(len(ODD) - 3 * samples.MIB) // 512} FLAT "b.vmdk" 0')
    return samples.raw(folder, samples.descriptor(*lines, create_type="twoGbMaxExtentFlat").encode(), "disk.vmdk")


def _esx(folder: Path) -> Path:
    samples.raw(folder, ODD, "disk-flat.vmdk")
    more = 'isNativeSnapshot="no"\nchangeTrackPath="disk-ctk.vmdk"\n'
    text = samples.descriptor(f'RW {len(ODD) // 512} VMFS "disk-flat.vmdk"', create_type="vmfs", more=more)
    return samples.raw(folder, text.encode(), "disk.vmdk")


def _vmdk(subformat: str) -> Callable[[Path], Path]:
    return lambda folder: samples.converted(folder, "vmdk", "disk.vmdk", f"subformat={subformat}")


SOUND: dict[str, Callable[[Path], Path]] = {
    "raw": samples.raw,
    "monolithicSparse": _vmdk("monolithicSparse"),
    "monolithicFlat": _vmdk("monolithicFlat"),
    "twoGbMaxExtentSparse": _vmdk("twoGbMaxExtentSparse"),
    "twoGbMaxExtentFlat": _vmdk("twoGbMaxExtentFlat"),
    "streamOptimized of qemu": _vmdk("streamOptimized"),
    "streamOptimized of VMware": samples.vmware_stream,
    "vmfs": _esx,
    "fixed VHD": lambda folder: samples.converted(folder, "vpc", "disk.vhd", "subformat=fixed", "force_size=on"),
    "dynamic VHD": lambda folder: samples.converted(folder, "vpc", "disk.vhd", "subformat=dynamic", "force_size=on"),
    "VHDX": lambda folder: samples.converted(folder, "vhdx", "disk.vhdx"),
    "fixed VHDX": lambda folder: samples.converted(folder, "vhdx", "disk.vhdx", "subformat=fixed"),
    "qcow2": lambda folder: samples.converted(folder, "qcow2", "disk.qcow2"),
    "compressed qcow2": lambda folder: samples.converted(folder, "qcow2", "disk.qcow2", "-c", "compression_type=zstd"),
    "qcow2 of version 2": lambda folder: samples.converted(folder, "qcow2", "disk.qcow2", "compat=0.10"),
    "OVA": _ova,
    "OVF": _ovf_folder,
}


@pytest.mark.parametrize("made", SOUND.values(), ids=SOUND)
def test_every_byte_of_a_disk_arrives(run: Run, tmp_path: Path, made: Callable[[Path], Path]) -> None:
    assert samples.all_disks(run, made(tmp_path)) == [ODD]


def test_a_disk_of_flat_parts_and_zeros_is_put_together(run: Run, tmp_path: Path) -> None:
    expected = bytearray(ODD)
    expected[2 * samples.MIB : 3 * samples.MIB] = bytes(samples.MIB)
    assert samples.all_disks(run, _split_with_zeros(tmp_path)) == [bytes(expected)]


def test_a_vmdk_of_more_than_2_gib_is_put_together_from_its_parts(run: Run, tmp_path: Path) -> None:
    big = samples.raw(tmp_path, ODD, "big.raw")
    os.truncate(big, (5 << 30) + 512)
    with big.open("r+b") as file:
        file.seek(5 << 30)
        file.write(b"the end".ljust(512, b"!"))
    samples.qemu_img(
        "convert", "-O", "vmdk", "-o", "subformat=twoGbMaxExtentSparse", "-f", "raw", big, tmp_path / "d.vmdk"
    )
    assert len(list(tmp_path.glob("d-s*.vmdk"))) == 3
    asked = FileSource(run, tmp_path / "d.vmdk")
    vm = asked.describe(next(asked.vms()))
    with asked.frozen(asked.freeze(vm, "name")) as (disk,), disk.nbd() as uri:
        words = ["qemu-img", "compare", "-f", "raw", "-F", "raw", str(big), uri]
        assert subprocess.run(words, stdout=subprocess.DEVNULL, check=False).returncode == 0


def test_a_raw_disk_that_ends_within_a_sector_is_filled_up_with_zeros(run: Run, tmp_path: Path) -> None:
    content = ODD[:1_000_001]
    assert samples.all_disks(run, samples.raw(tmp_path, content)) == [content.ljust(1_000_448, b"\0")]


def test_a_raw_disk_without_a_boot_signature_is_taken_where_the_user_says_raw(run: Run, tmp_path: Path) -> None:
    path = samples.raw(tmp_path, b"\1" * 4096)
    assert samples.all_disks(run, path, "raw") == [b"\1" * 4096]


def test_a_raw_disk_with_a_hybrid_partition_table_is_taken(run: Run, tmp_path: Path) -> None:
    """oslo's check of partition tables refuses these; qemu never reads them."""
    content = bytearray(ODD)
    for entry, kind in enumerate((0x0C, 0xEE)):
        content[446 + 16 * entry : 462 + 16 * entry] = bytes([0x80, 1, 1, 0, kind, 1, 1, 1, 1, 0, 0, 0, 9, 0, 0, 0])
    assert samples.all_disks(run, samples.raw(tmp_path, bytes(content))) == [bytes(content)]


def test_a_fixed_vhd_is_as_large_as_its_footer_says_whatever_its_geometry(run: Run, tmp_path: Path) -> None:
    path = SOUND["fixed VHD"](tmp_path)
    samples.vhd_footer_changed(path, 56, b"\0\1\1\1")  # one cylinder, one head, one sector
    assert samples.all_disks(run, path) == [ODD]


def test_a_dynamic_vhd_is_as_large_as_its_footer_says_whoever_wrote_it(run: Run, tmp_path: Path) -> None:
    """qemu goes by the geometry for most writers, VirtualBox among them, and would leave the disk's end out."""
    path = samples.vhd_footer_changed(SOUND["dynamic VHD"](tmp_path), 28, b"vbox")
    assert samples.all_disks(run, path) == [ODD]


def test_a_fixed_vhd_that_is_filled_up_to_a_mebibyte_is_taken(run: Run, tmp_path: Path) -> None:
    content = SOUND["fixed VHD"](tmp_path).read_bytes()
    filled = samples.raw(tmp_path, content[:-512] + bytes(-len(ODD) % samples.MIB) + content[-512:], "filled.vhd")
    assert samples.all_disks(run, filled) == [ODD]


def test_an_ova_may_hold_other_formats_than_vmdk(run: Run, tmp_path: Path) -> None:
    for number, name in enumerate(("raw", "fixed VHD", "dynamic VHD", "VHDX", "compressed qcow2")):
        folder = tmp_path / str(number)
        folder.mkdir()
        disk = SOUND[name](folder).read_bytes()
        assert samples.all_disks(run, samples.ova(folder, disk=disk)) == [ODD], name


def test_an_ova_in_each_dialect_of_tar_is_read(run: Run, tmp_path: Path) -> None:
    disk = samples.vmware_stream(tmp_path).read_bytes()
    name = "a-name-that-is-longer-than-the-hundred-bytes-of-a-header-" * 3 + ".vmdk"
    files = [("vm.ovf", samples.ovf_text(name).encode()), (name, disk)]
    members: list[samples.Member] = [*files, ("vm.mf", samples.manifest_text(files).encode())]
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        path = samples.tar(tmp_path / f"{form}.ova", members, form)
        assert samples.all_disks(run, path) == [ODD]


@pytest.mark.parametrize("algorithm", ["SHA1", "SHA256", "SHA512"])
def test_the_checksums_of_a_manifest_are_checked_with_progress(run: Run, tmp_path: Path, algorithm: str) -> None:
    disk = samples.vmware_stream(tmp_path).read_bytes()
    files = [("vm.ovf", samples.ovf_text("disk.vmdk").encode()), ("disk.vmdk", disk)]
    manifest = samples.manifest_text(files, algorithm).encode()
    path = samples.tar(tmp_path / "vm.ova", [files[0], ("vm.mf", manifest), files[1]])
    told: list[Event] = []
    run.listener = told.append
    samples.all_disks(run, path)
    last = {event.what: event.done for event in told if isinstance(event, Progress)}
    assert last == {"checking vm.ovf": len(files[0][1]), "checking disk.vmdk": len(disk)}
    assert [event for event in told if isinstance(event, Note)] == []


def test_a_second_freeze_gives_the_same_token_and_reads_nothing_again(run: Run, tmp_path: Path) -> None:
    asked = FileSource(run, samples.ova(tmp_path))
    vm = asked.describe(next(asked.vms()))
    told: list[Event] = []
    run.listener = told.append
    first = asked.freeze(vm, "name")
    assert told
    told.clear()
    assert asked.freeze(vm, "name") == first
    assert told == []


def test_checking_a_checksum_stops_when_the_user_says_so(run: Run, tmp_path: Path) -> None:
    asked = FileSource(run, samples.ova(tmp_path))
    vm = asked.describe(next(asked.vms()))
    run.listener = lambda event: run.stop.set()
    with pytest.raises(Stopped):
        asked.freeze(vm, "name")


VMWARE_HARDWARE = """
<Item><rasd:AllocationUnits>hertz * 10^6</rasd:AllocationUnits><rasd:InstanceID>1</rasd:InstanceID>
 <rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>4</rasd:VirtualQuantity></Item>
<Item><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:InstanceID>2</rasd:InstanceID>
 <rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>8192</rasd:VirtualQuantity></Item>
<Item><rasd:Address>0</rasd:Address><rasd:InstanceID>3</rasd:InstanceID><rasd:ResourceType>6</rasd:ResourceType></Item>
<Item><rasd:AddressOnParent>1</rasd:AddressOnParent><rasd:HostResource>ovf:/disk/d0</rasd:HostResource>
 <rasd:InstanceID>5</rasd:InstanceID><rasd:Parent>3</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item>
<Item><rasd:AddressOnParent>0</rasd:AddressOnParent><rasd:HostResource>ovf:/disk/d1</rasd:HostResource>
 <rasd:InstanceID>4</rasd:InstanceID><rasd:Parent>3</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item>
<Item><rasd:Address>00:50:56:9A:12:34</rasd:Address><rasd:ElementName>Network adapter 1</rasd:ElementName>
 <rasd:InstanceID>6</rasd:InstanceID><rasd:ResourceType>10</rasd:ResourceType></Item>
<Item><rasd:ElementName>Network adapter 2</rasd:ElementName>
 <rasd:InstanceID>7</rasd:InstanceID><rasd:ResourceType>10</rasd:ResourceType></Item>
<vmw:Config ovf:required="false" vmw:key="firmware" vmw:value="efi"/>"""


def _two_disks(folder: Path, text: str) -> Path:
    samples.raw(folder, ODD, "system.raw")
    samples.raw(folder, ODD[: samples.MIB], "data.raw")
    path = folder / "erp01.ovf"
    path.write_text(text)
    return path


def test_an_ovf_of_vsphere_is_told_whole_with_the_disk_of_the_first_address_first(run: Run, tmp_path: Path) -> None:
    os_section = "<OperatingSystemSection ovf:id='96' vmw:osType='debian12_64Guest'><Info/></OperatingSystemSection>"
    text = samples.ovf_text("data.raw", "system.raw", hardware=VMWARE_HARDWARE, more=os_section)
    assert samples.described(run, _two_disks(tmp_path, text)) == Vm(
        name="erp01",
        origin="VMware",
        disks=(Disk("system.raw", len(ODD), "raw"), Disk("data.raw", samples.MIB, "raw")),
        firmware=Firmware.UEFI,
        vcpus=4,
        memory_bytes=8 << 30,
        nics=(Nic("Network adapter 1", "00:50:56:9a:12:34"), Nic("Network adapter 2", None)),
        os_hint="debian12_64Guest",
    )


def test_the_disk_that_vsphere_boots_from_is_first_wherever_it_is_plugged_in(run: Run, tmp_path: Path) -> None:
    order = '<vmw:BootOrderSection vmw:instanceId="5" vmw:type="disk"><Info/></vmw:BootOrderSection>'
    text = samples.ovf_text("data.raw", "system.raw", hardware=VMWARE_HARDWARE, more=order)
    assert [disk.name for disk in samples.described(run, _two_disks(tmp_path, text)).disks] == [
        "data.raw",
        "system.raw",
    ]


def test_an_ovf_of_virtualbox_is_told_whole(run: Run, tmp_path: Path) -> None:
    hardware = """
<Item><rasd:Caption>1 virtual CPU</rasd:Caption><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType>
 <rasd:VirtualQuantity>1</rasd:VirtualQuantity></Item>
<Item><rasd:AllocationUnits>MegaBytes</rasd:AllocationUnits><rasd:InstanceID>2</rasd:InstanceID>
 <rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>1024</rasd:VirtualQuantity></Item>
<Item><rasd:Address>0</rasd:Address><rasd:InstanceID>3</rasd:InstanceID><rasd:ResourceType>20</rasd:ResourceType></Item>
<Item><rasd:AutomaticAllocation>true</rasd:AutomaticAllocation><rasd:Caption>Ethernet adapter on 'NAT'</rasd:Caption>
 <rasd:InstanceID>5</rasd:InstanceID><rasd:ResourceType>10</rasd:ResourceType></Item>
<Item><rasd:AddressOnParent>0</rasd:AddressOnParent><rasd:HostResource>/disk/d0</rasd:HostResource>
 <rasd:InstanceID>6</rasd:InstanceID><rasd:Parent>3</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item>"""
    machine = """<OperatingSystemSection ovf:id="96"><Info/><Description>Debian_64</Description></OperatingSystemSection>
<vbox:Machine ovf:required="false" version="1.19-linux" name="erp01"><Hardware><Firmware type="EFI"/><Network>
<Adapter slot="0" enabled="true" MACAddress="080027ABCDEF"/></Network></Hardware></vbox:Machine>"""
    text = samples.ovf_text("system.raw", hardware=hardware, more=machine)
    assert samples.described(run, _two_disks(tmp_path, text)) == Vm(
        name="erp01",
        origin="VirtualBox",
        disks=(Disk("system.raw", len(ODD), "raw"),),
        firmware=Firmware.UEFI,
        vcpus=1,
        memory_bytes=1 << 30,
        nics=(Nic("Ethernet adapter on 'NAT'", "08:00:27:ab:cd:ef"),),
        os_hint="Debian_64",
    )


def test_of_several_deployment_options_the_default_is_told(run: Run, tmp_path: Path) -> None:
    hardware = """
<Item ovf:configuration="small"><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>2</rasd:VirtualQuantity></Item>
<Item ovf:configuration="large"><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>8</rasd:VirtualQuantity></Item>
<Item ovf:bound="max"><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>64</rasd:VirtualQuantity></Item>"""
    options = """<DeploymentOptionSection><Configuration ovf:id="small"/><Configuration ovf:id="large" ovf:default="true"/>
</DeploymentOptionSection><VirtualSystem"""
    text = samples.ovf_text("system.raw", hardware=hardware).replace("<VirtualSystem", options, 1)
    assert samples.described(run, _two_disks(tmp_path, text)).vcpus == 8


def test_what_an_ovf_does_not_say_is_none(run: Run, tmp_path: Path) -> None:
    vm = samples.described(run, _two_disks(tmp_path, samples.ovf_text("system.raw")))
    assert (vm.firmware, vm.vcpus, vm.memory_bytes, vm.nics, vm.os_hint) == (None, None, None, (), None)


@pytest.mark.parametrize(
    ("form", "name", "origin"),
    [("vmdk", "erp 01.vmdk", "VMware"), ("vpc", "erp 01.vhd", "Azure/Hyper-V"), ("qcow2", "erp 01.qcow2", "file")],
)
def test_a_single_disk_is_a_vm_of_its_files_name(run: Run, tmp_path: Path, form: str, name: str, origin: str) -> None:
    vm = samples.described(run, samples.converted(tmp_path, form, name))
    assert (vm.name, vm.origin, [disk.name for disk in vm.disks]) == ("erp 01", origin, [name])


def test_what_a_user_should_know_is_noted(run: Run, tmp_path: Path) -> None:
    hardware = "".join(
        f"<Item><rasd:HostResource>ovf:/disk/{disk}</rasd:HostResource><rasd:ResourceType>17</rasd:ResourceType></Item>"
        for disk in ("d0", "blank")
    )
    text = samples.ovf_text(
        "disk.qcow2", hardware=hardware, disk_attributes='ovf:capacity="6" ovf:capacityAllocationUnits="byte * 2^20"'
    )
    text = text.replace("</DiskSection>", '<Disk ovf:diskId="blank" ovf:capacity="1"/></DiskSection>')
    disk = samples.converted(tmp_path, "qcow2", "disk.qcow2")
    samples.qemu_img("snapshot", "-c", "before", disk)
    path = _two_disks(tmp_path, text)
    (tmp_path / "erp01.mf").write_text(samples.manifest_text([("erp01.ovf", text.encode())]))
    told: list[Event] = []
    run.listener = told.append
    samples.described(run, path)
    assert [event.text for event in told if isinstance(event, Note)] == [
        "disk.qcow2 holds 1 internal snapshots; only the present state is moved.",
        "disk.qcow2 is a disk of 5244416 bytes; the OVF tells of 6291456.",
        "erp01.ovf tells of 1 further disks without content; they are left out.",
        "The manifest has no checksum of disk.qcow2; it is not checked.",
    ]


def test_internal_snapshots_are_left_behind(run: Run, tmp_path: Path) -> None:
    disk = samples.converted(tmp_path, "qcow2", "disk.qcow2")
    samples.qemu_img("snapshot", "-c", "before", disk)
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 7 1M 64k", disk], check=True, stdout=subprocess.DEVNULL)
    expected = bytearray(ODD)
    expected[samples.MIB : samples.MIB + 65536] = b"\7" * 65536
    assert samples.all_disks(run, disk) == [bytes(expected)]


def test_the_extents_tell_where_the_data_is(run: Run, tmp_path: Path) -> None:
    content = bytes(samples.MIB) + b"\1" * 65536 + bytes(2 * samples.MIB)
    disk = samples.converted(tmp_path, "qcow2", "disk.qcow2", content=content)
    asked = FileSource(run, disk)
    with asked.frozen(asked.freeze(asked.describe(next(asked.vms())), "name")) as (opened,):
        assert list(opened.extents()) == [
            Extent(0, samples.MIB, True),
            Extent(samples.MIB, 65536, False),
            Extent(samples.MIB + 65536, 2 * samples.MIB, True),
        ]


def test_the_extents_of_more_than_one_request_are_joined(run: Run, tmp_path: Path) -> None:
    path = samples.raw(tmp_path, ODD)
    os.truncate(path, 5 << 30)
    asked = FileSource(run, path)
    with asked.frozen(asked.freeze(asked.describe(next(asked.vms())), "name")) as (opened,):
        found = list(opened.extents())
    assert found[-1].zero and found[-1].length > 4 << 30
    assert sum(extent.length for extent in found) == 5 << 30


def test_a_disk_is_served_to_several_readers_and_only_to_this_user(run: Run, tmp_path: Path) -> None:
    asked = FileSource(run, samples.raw(tmp_path))
    with asked.frozen(asked.freeze(asked.describe(next(asked.vms())), "name")) as (disk,):
        with disk.nbd() as uri, disk.nbd() as other:
            assert uri != other
            folder = socket_path(uri).parent
            assert folder.stat().st_mode & 0o777 == 0o700
            clients = [nbd.NBD() for _ in range(8)]
            for client in clients:
                client.connect_uri(uri)
            assert {bytes(client.pread(512, 0)) for client in clients} == {ODD[:512]}
            assert all(client.is_read_only() for client in clients)
        assert not folder.exists()
    assert [each for each in run.work.iterdir() if each.name.startswith("nbd-")] == []


def test_a_work_folder_with_a_long_and_odd_name_does_not_hinder_serving(tmp_path: Path) -> None:
    work = tmp_path / ("a folder & more? 100% +" + "x" * 150)
    work.mkdir()
    assert samples.all_disks(Run(work), samples.raw(tmp_path)) == [ODD]
    odd = tmp_path.parent / "o & ? % + #"
    odd.mkdir()
    assert samples.all_disks(Run(odd), samples.raw(tmp_path)) == [ODD]
    assert list(work.iterdir()) == list(odd.iterdir()) == []


def test_qemu_runs_within_limits(run: Run, tmp_path: Path) -> None:
    asked = FileSource(run, samples.raw(tmp_path))
    with (
        asked.frozen(asked.freeze(asked.describe(next(asked.vms())), "name")) as (disk,),
        disk.nbd() as uri,
    ):
        place = str(socket_path(uri)).encode()
        (server,) = [each for each in Path("/proc").glob("[0-9]*") if place in _words(each)]
        limits = (server / "limits").read_text().splitlines()
        (space,) = [line.split()[3] for line in limits if line.startswith("Max address space")]
    assert int(space) == 4 << 30


def _words(process: Path) -> list[bytes]:
    try:
        return (process / "cmdline").read_bytes().split(b"\0")
    except OSError:  # it has ended
        return []


def test_a_link_that_the_user_names_is_followed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    samples.converted(tmp_path / "elsewhere", "vmdk", "disk.vmdk", "subformat=monolithicFlat")
    (tmp_path / "link.vmdk").symlink_to("elsewhere/disk.vmdk")
    assert samples.all_disks(run, tmp_path / "link.vmdk") == [ODD]


def test_a_name_that_no_terminal_can_show_is_no_hindrance_and_never_shown(run: Run, tmp_path: Path) -> None:
    path = samples.raw(tmp_path, name="\x1b[31mred\nname.raw")
    assert samples.described(run, path).name == r"\x1b[31mred\nname"
    assert samples.all_disks(run, path) == [ODD]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("gone.raw", "there is no such file"),
        ("loop", "cannot be opened"),
        ("disk.raw/inside", "cannot be opened"),
        ("x" * 300, "cannot be opened"),
    ],
)
def test_a_path_that_leads_nowhere_is_said(run: Run, tmp_path: Path, path: str, words: str) -> None:
    samples.raw(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(SourceError, match=words):
        samples.described(run, tmp_path / path)


def test_an_unknown_format_is_the_users_mistake(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match='"vdi" is not a format'):
        FileSource(run, tmp_path, "vdi")


def test_a_changed_file_is_not_opened_again(run: Run, tmp_path: Path) -> None:
    path = samples.raw(tmp_path)
    asked = FileSource(run, path)
    token = asked.freeze(asked.describe(next(asked.vms())), "name")
    with path.open("ab") as file:
        file.write(bytes(512))
    with pytest.raises(SourceError, match="was changed since the migration began: 5244416 bytes"), asked.frozen(token):
        pass


def test_a_file_that_another_has_taken_the_place_of_is_not_opened(run: Run, tmp_path: Path) -> None:
    path = samples.raw(tmp_path)
    asked = FileSource(run, path)
    token = asked.freeze(asked.describe(next(asked.vms())), "name")
    status = path.stat()
    other = samples.raw(tmp_path, ODD[:512] + ODD[:511:-1], "other.raw")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.rename(path)
    with pytest.raises(SourceError, match="was changed since"), asked.frozen(token):
        pass


def test_an_extent_that_was_changed_is_found_too(run: Run, tmp_path: Path) -> None:
    path = _esx(tmp_path)
    asked = FileSource(run, path)
    token = asked.freeze(asked.describe(next(asked.vms())), "name")
    samples.patched(tmp_path / "disk-flat.vmdk", (4096, b"other"))
    with pytest.raises(SourceError, match=r"disk-flat\.vmdk was changed"), asked.frozen(token):
        pass


def test_what_takes_a_files_place_while_it_is_open_is_never_read(run: Run, tmp_path: Path) -> None:
    path = _esx(tmp_path)
    asked = FileSource(run, path)
    with asked.frozen(asked.freeze(asked.describe(next(asked.vms())), "name")) as (disk,):
        for victim in (path, tmp_path / "disk-flat.vmdk"):
            victim.rename(tmp_path / f"moved-{victim.name}")
            victim.symlink_to("/etc/passwd")
        # Moving a file changes its ctime, so it is not served anew.
        with pytest.raises(SourceError, match="was changed while it was read"), disk.nbd():
            pass


def test_a_file_may_be_moved_while_it_is_served(run: Run, tmp_path: Path) -> None:
    path = samples.raw(tmp_path)
    asked = FileSource(run, path)
    with asked.frozen(asked.freeze(asked.describe(next(asked.vms())), "name")) as (disk,), disk.nbd() as uri:
        path.rename(tmp_path / "moved.raw")
        path.symlink_to("/etc/passwd")
        assert samples.served(uri) == ODD


def test_a_file_that_shrinks_while_it_is_served_is_an_error_at_the_end(run: Run, tmp_path: Path) -> None:
    """qemu reads zeros behind the end and says nothing."""
    path = samples.raw(tmp_path)
    asked = FileSource(run, path)
    with (
        asked.frozen(asked.freeze(asked.describe(next(asked.vms())), "name")) as (disk,),
        pytest.raises(SourceError, match=r"was changed while it was read: 5244416 bytes before, 4096 now"),
        disk.nbd() as uri,
    ):
        os.truncate(path, 4096)
        assert samples.served(uri)[4096:] == bytes(len(ODD) - 4096)


def test_a_write_before_serving_is_found_though_its_time_was_set_back(run: Run, tmp_path: Path) -> None:
    path = samples.raw(tmp_path)
    status = path.stat()
    asked = FileSource(run, path)
    with asked.frozen(asked.freeze(asked.describe(next(asked.vms())), "name")) as (disk,):
        samples.patched(path, (4096, b"other"))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        with pytest.raises(SourceError, match="was changed while it was read"), disk.nbd():
            pass


def test_a_disk_that_became_something_else_is_said_to_have_changed(run: Run, tmp_path: Path) -> None:
    path = samples.raw(tmp_path)
    asked = FileSource(run, path)
    token = asked.freeze(asked.describe(next(asked.vms())), "name")
    path.write_bytes(b"no disk")
    with pytest.raises(SourceError, match="was changed since the migration began"), asked.frozen(token):
        pass
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(SourceError), asked.frozen(token):
        pass


def test_a_part_that_is_gone_is_said(run: Run, tmp_path: Path) -> None:
    path = _esx(tmp_path)
    asked = FileSource(run, path)
    token = asked.freeze(asked.describe(next(asked.vms())), "name")
    (tmp_path / "disk-flat.vmdk").unlink()
    with pytest.raises(SourceError, match=r'"disk-flat.vmdk" is not in .*; it was when'), asked.frozen(token):
        pass


def test_a_token_opens_the_disk_after_a_restart_and_in_another_working_directory(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples.raw(tmp_path, b"\1" * 4096, "disk")
    monkeypatch.chdir(tmp_path)
    asked = FileSource(run, Path("disk"), "raw")
    token = asked.freeze(asked.describe(next(asked.vms())), "name")
    monkeypatch.chdir("/")
    with FileSource(run, Path("disk")).frozen(token) as (disk,), disk.nbd() as uri:
        assert samples.served(uri) == b"\1" * 4096


@pytest.mark.parametrize(
    "token", ["", "{}", "[]", "null", '{"version": 2}', '{"version": 1, "path": 3, "files": [], "format": null}']
)
def test_a_text_that_is_no_token_is_said(run: Run, tmp_path: Path, token: str) -> None:
    with pytest.raises(MigrateError, match="not a token"), FileSource(run, tmp_path).frozen(token):
        pass


def test_the_ovf_of_a_folder_is_found(run: Run, tmp_path: Path) -> None:
    path = _ovf_folder(tmp_path)
    assert samples.described(run, path) == samples.described(run, path / "erp01.ovf")
