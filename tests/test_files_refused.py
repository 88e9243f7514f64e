"""Files that are refused: each a real one, as a mistake, a bad copy or an attacker makes it."""

import gzip
import os
import re
import shutil
import socket
import struct
import subprocess
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from adapters.files import FileSource, refusals
from adapters.files.refusals import Code
from migrate.errors import NotMigratable
from migrate.run import Run
from tests import file_samples as samples

MIB = samples.MIB
Maker = Callable[[Path], Path]


@dataclass(frozen=True, slots=True)
class Case:
    """A file that `made` makes in an empty folder is refused with exactly these codes, and says these words."""

    title: str
    made: Maker
    words: str
    codes: tuple[Code, ...]
    said: str | None = None


CASES: list[Case] = []


def refused(words: str, *codes: Code, said: str | None = None) -> Callable[[Maker], Maker]:
    """Let the decorated function's name be the title of a case."""

    def noted(made: Maker) -> Maker:
        CASES.append(Case(made.__name__.replace("_", " "), made, words, codes, said))
        return made

    return noted


# --- not a file -------------------------------------------------------------------------------------------------------


@refused("is a FIFO, not a file", Code.NOT_A_FILE)
def a_fifo(folder: Path) -> Path:
    os.mkfifo(folder / "disk.raw")
    return folder / "disk.raw"


@refused("is a character device", Code.NOT_A_FILE)
def an_endless_device(folder: Path) -> Path:
    return Path("/dev/zero")


@refused("is a character device", Code.NOT_A_FILE)
def a_link_to_a_device(folder: Path) -> Path:
    (folder / "disk.raw").symlink_to("/dev/zero")
    return folder / "disk.raw"


@refused("is a socket", Code.NOT_A_FILE)
def a_socket(folder: Path) -> Path:
    here = Path.cwd()
    os.chdir(folder)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("disk.raw")
    finally:
        os.chdir(here)
    return folder / "disk.raw"


@refused("is empty", Code.EMPTY)
def an_empty_file(folder: Path) -> Path:
    return samples.raw(folder, b"")


@refused("disk.vmdk is empty", Code.EMPTY)
def an_empty_disk_in_an_ova(folder: Path) -> Path:
    return samples.ova(folder, disk=b"")


# --- which format -----------------------------------------------------------------------------------------------------


@refused("no boot signature of a raw disk", Code.UNKNOWN_FORMAT)
def a_disk_without_a_boot_signature(folder: Path) -> Path:
    return samples.raw(folder, b"\1" * MIB)


@refused("no known disk format", Code.UNKNOWN_FORMAT)
def a_filesystem_without_a_partition_table(folder: Path) -> Path:
    sector = bytearray(512)
    sector[0x10], sector[0x15], sector[510:] = 2, 0xF8, b"\x55\xaa"  # a FAT boot sector has the signature too
    return samples.raw(folder, bytes(sector) + bytes(MIB))


@refused("no known disk format", Code.UNKNOWN_FORMAT)
def a_text(folder: Path) -> Path:
    return samples.raw(folder, b"just some words\n", "notes.vmdk")


@refused("raw disk with a partition table, qcow2", Code.SEVERAL_FORMATS)
def a_qcow2_that_is_a_partitioned_disk_too(folder: Path) -> Path:
    return samples.patched(samples.converted(folder, "qcow2", "disk.raw"), (510, b"\x55\xaa"))


@refused("qcow2, vhd", Code.SEVERAL_FORMATS)
def a_qcow2_with_the_footer_of_a_vhd(folder: Path) -> Path:
    path = samples.converted(folder, "qcow2", "disk.vhd")
    footer = samples.converted(folder, "vpc", "fixed.vhd", "subformat=fixed").read_bytes()[-512:]
    path.write_bytes(path.read_bytes() + footer)
    return path


@refused("raw disk with a partition table, vhd", Code.SEVERAL_FORMATS)
def a_dynamic_vhd_that_is_a_partitioned_disk_too(folder: Path) -> Path:
    return samples.patched(samples.converted(folder, "vpc", "disk.vhd"), (510, b"\x55\xaa"))


@refused("qcow2, tar archive", Code.SEVERAL_FORMATS)
def a_tar_whose_first_name_is_the_mark_of_qcow2(folder: Path) -> Path:
    name = b"QFI\xfb\0\0\0\3".decode("utf-8", "surrogateescape")
    info = tarfile.TarInfo("x")
    path = samples.tar(folder / "vm.ova", [(info, b"")])
    header = bytearray(path.read_bytes())
    header[:8] = name.encode("utf-8", "surrogateescape")
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 8 * 32 + sum(header[156:512]))
    return samples.patched(path, (0, bytes(header)))


@refused("raw was said, but by its content it is qcow2", Code.OTHER_FORMAT, said="raw")
def a_qcow2_that_is_said_to_be_raw(folder: Path) -> Path:
    return samples.converted(folder, "qcow2", "disk.raw")


@refused("ova was said", Code.OTHER_FORMAT, said="ova")
def a_disk_that_is_said_to_be_an_ova(folder: Path) -> Path:
    return samples.raw(folder)


@refused("packed with gzip", Code.UNSUPPORTED_FORMAT)
def a_packed_disk(folder: Path) -> Path:
    return samples.raw(folder, gzip.compress(samples.disk_bytes()), "disk.raw.gz")


@refused("packed with zip", Code.UNSUPPORTED_FORMAT)
def a_zip(folder: Path) -> Path:
    return Path(shutil.make_archive(str(folder / "vm"), "zip", samples.raw(folder).parent, "disk.raw"))


@refused("VDI disk of VirtualBox", Code.UNSUPPORTED_FORMAT)
def a_vdi(folder: Path) -> Path:
    return samples.converted(folder, "vdi", "disk.vdi")


@refused("QED disk", Code.UNSUPPORTED_FORMAT)
def a_qed(folder: Path) -> Path:
    return samples.converted(folder, "qed", "disk.qed")


@refused("installation medium", Code.UNSUPPORTED_FORMAT)
def an_iso(folder: Path) -> Path:
    return samples.raw(folder, samples.disk_bytes()[: 32 << 10] + b"\1CD001\1".ljust(4096, b"\0"), "debian.iso")


@refused('type "fulldevice"', Code.UNSUPPORTED_FORMAT)
def a_vmdk_of_a_physical_disk(folder: Path) -> Path:
    text = samples.descriptor('RW 63 FLAT "/dev/sda" 0', create_type="fullDevice")
    return samples.raw(folder, text.encode(), "disk.vmdk")


@refused("an extent RW VMFSRDM", Code.UNSUPPORTED_FORMAT)
def a_vmdk_of_a_raw_device_mapping(folder: Path) -> Path:
    return samples.raw(folder, samples.descriptor('RW 63 VMFSRDM "disk-rdm.vmdk"').encode(), "disk.vmdk")


@refused("an extent NOACCESS FLAT", Code.UNSUPPORTED_FORMAT)
def a_vmdk_with_an_extent_that_qemu_would_skip(folder: Path) -> Path:
    return samples.raw(folder, samples.descriptor('NOACCESS 63 FLAT "disk.raw" 0').encode(), "disk.vmdk")


# --- only a part of a disk, or data elsewhere -------------------------------------------------------------------------


@refused("has a backing file", Code.HAS_PARENT)
def a_qcow2_with_a_backing_file(folder: Path) -> Path:
    samples.qemu_img("create", "-f", "qcow2", "-b", "/etc/passwd", "-F", "raw", "-u", folder / "disk.qcow2", "1M")
    return folder / "disk.qcow2"


@refused("external data file", Code.DATA_ELSEWHERE)
def a_qcow2_with_an_external_data_file(folder: Path) -> Path:
    samples.qemu_img(
        "create", "-f", "qcow2", "-o", f"data_file={folder}/data,data_file_raw=on", folder / "disk.qcow2", "1M"
    )
    return folder / "disk.qcow2"


@refused("not a safe qcow2 file: Unknown QCOW2 features found", Code.DAMAGED)
def a_qcow2_with_unknown_features(folder: Path) -> Path:
    return samples.patched(samples.converted(folder, "qcow2", "disk.qcow2"), (72, b"\x01"))


@refused("difference of", Code.HAS_PARENT)
def a_vmdk_with_a_parent(folder: Path) -> Path:
    parent = samples.converted(folder, "vmdk", "parent.vmdk")
    samples.qemu_img("create", "-f", "vmdk", "-b", parent, "-F", "vmdk", folder / "disk.vmdk")
    return folder / "disk.vmdk"


@refused('difference of "/etc/passwd"', Code.HAS_PARENT)
def a_vmdk_descriptor_with_a_parent(folder: Path) -> Path:
    samples.raw(folder)
    text = samples.descriptor('RW 63 FLAT "disk.raw" 0', parent="12345678", more='parentFileNameHint="/etc/passwd"\n')
    return samples.raw(folder, text.encode(), "disk.vmdk")


@refused("snapshot's difference", Code.HAS_PARENT)
def a_vmdk_that_hides_its_parent_behind_the_id_of_none(folder: Path) -> Path:
    """qemu follows the hint only with a parentCID, but another reader may not ask."""
    path = samples.converted(folder, "vmdk", "disk.vmdk")
    text = path.read_bytes()[512 : 20 * 512].split(b"\0")[0]
    return samples.patched(path, (512 + len(text), b'parentFileNameHint="/etc/passwd"\n'))


@refused("snapshot's difference (VMFSSPARSE)", Code.HAS_PARENT)
def a_delta_of_esx(folder: Path) -> Path:
    text = samples.descriptor('RW 63 VMFSSPARSE "disk-000001-delta.vmdk"', create_type="vmfsSparse")
    return samples.raw(folder, text.encode(), "disk-000001.vmdk")


@refused("snapshot's difference of ESX", Code.HAS_PARENT)
def the_data_of_a_delta_of_esx(folder: Path) -> Path:
    return samples.raw(folder, b"COWD\1\0\0\0".ljust(4096, b"\0"), "disk-000001-delta.vmdk")


@refused("differencing disk", Code.HAS_PARENT)
def a_differencing_vhd(folder: Path) -> Path:
    return samples.vhd_footer_changed(samples.converted(folder, "vpc", "disk.vhd"), 60, struct.pack(">I", 4))


@refused("differencing disk", Code.HAS_PARENT)
def a_differencing_vhdx(folder: Path) -> Path:
    path = samples.converted(folder, "vhdx", "disk.avhdx")
    flags = path.read_bytes().index(bytes.fromhex("3767a1ca36fa434db3b633f0aa44e76b"))
    region = flags // 65536 * 65536
    offset = struct.unpack_from("<I", path.read_bytes(), flags + 16)[0]
    return samples.patched(path, (region + offset + 4, struct.pack("<I", 2)))


@refused('names data outside of its folder: "/etc/passwd"', Code.DATA_ELSEWHERE)
def a_vmdk_of_a_host_file(folder: Path) -> Path:
    return samples.raw(folder, samples.descriptor('RW 1 FLAT "/etc/passwd" 0').encode(), "disk.vmdk")


@refused("names data outside of its folder", Code.DATA_ELSEWHERE)
def a_vmdk_of_a_file_above_its_folder(folder: Path) -> Path:
    (folder / "vm").mkdir()
    samples.raw(folder)
    return samples.raw(folder / "vm", samples.descriptor('RW 63 FLAT "../disk.raw" 0').encode(), "disk.vmdk")


@refused("names data outside of its folder", Code.DATA_ELSEWHERE)
def a_vmdk_of_a_url(folder: Path) -> Path:
    return samples.raw(folder, samples.descriptor('RW 63 FLAT "nbd://127.0.0.1:1/x" 0').encode(), "disk.vmdk")


@refused("is a symbolic link", Code.NOT_A_FILE)
def a_vmdk_of_a_link_to_a_host_file(folder: Path) -> Path:
    (folder / "disk-flat.vmdk").symlink_to("/etc/passwd")
    return samples.raw(folder, samples.descriptor('RW 1 FLAT "disk-flat.vmdk" 0').encode(), "disk.vmdk")


@refused("is a FIFO", Code.NOT_A_FILE)
def a_vmdk_of_a_fifo(folder: Path) -> Path:
    os.mkfifo(folder / "disk-flat.vmdk")
    return samples.raw(folder, samples.descriptor('RW 1 FLAT "disk-flat.vmdk" 0').encode(), "disk.vmdk")


@refused("a capacity of zero", Code.DAMAGED)
def a_sparse_vmdk_that_sends_qemu_to_the_files_in_its_text(folder: Path) -> Path:
    """With a capacity of 0 qemu reads the embedded text as a descriptor and opens what it names."""
    text = samples.descriptor('RW 1 FLAT "/etc/passwd" 0').encode().ljust(20 * 512, b"\0")
    path = samples.converted(folder, "vmdk", "disk.vmdk")
    return samples.patched(path, (12, bytes(8)), (512, text))


@refused("a capacity of zero", Code.DAMAGED)
def an_extent_that_sends_qemu_to_the_files_in_its_text(folder: Path) -> Path:
    text = samples.descriptor('RW 1 FLAT "/etc/passwd" 0').encode().ljust(20 * 512, b"\0")
    path = samples.converted(folder, "vmdk", "disk.vmdk", "subformat=twoGbMaxExtentSparse")
    samples.patched(folder / "disk-s001.vmdk", (12, bytes(8)), (512, text))
    return path


@refused("data is in further files", Code.DATA_ELSEWHERE)
def an_ova_whose_disk_is_a_vmdk_descriptor(folder: Path) -> Path:
    return samples.ova(folder, disk=samples.descriptor('RW 1 FLAT "/etc/passwd" 0').encode())


@refused("is a difference of another", Code.HAS_PARENT)
def an_ovf_of_a_delta(folder: Path) -> Path:
    samples.raw(folder)
    return samples.raw(folder, samples.ovf_text("disk.raw", disk_attributes='ovf:parentRef="d9"').encode(), "vm.ovf")


# --- encrypted --------------------------------------------------------------------------------------------------------


@refused("encrypted (LUKS)", Code.ENCRYPTED)
def a_qcow2_with_luks(folder: Path) -> Path:
    """Its header only: qemu-img takes 5 s to make the real one."""
    return samples.patched(samples.converted(folder, "qcow2", "disk.qcow2"), (32, struct.pack(">I", 2)))


@refused("encrypted (AES)", Code.ENCRYPTED)
def a_qcow2_with_aes(folder: Path) -> Path:
    options = ("-o", "encrypt.format=aes,encrypt.key-secret=s")
    secret = ("--object", "secret,id=s,data=abcdefgh")
    samples.qemu_img("create", *secret, "-f", "qcow2", *options, folder / "disk.qcow2", "1M")
    return folder / "disk.qcow2"


@refused("all of it is LUKS-encrypted", Code.ENCRYPTED)
def a_raw_disk_that_is_luks_from_end_to_end(folder: Path) -> Path:
    return samples.raw(folder, b"LUKS\xba\xbe\0\1aes".ljust(MIB, b"\0"))


@refused("all of it is LUKS-encrypted", Code.ENCRYPTED)
def a_fixed_vhd_that_is_luks2_from_end_to_end(folder: Path) -> Path:
    content = b"LUKS\xba\xbe\0\2".ljust(MIB, b"\0")
    return samples.converted(folder, "vpc", "disk.vhd", "subformat=fixed", "force_size=on", content=content)


@refused("VMware has encrypted it", Code.ENCRYPTED)
def a_vmdk_that_workstation_encrypted(folder: Path) -> Path:
    samples.raw(folder)
    text = samples.descriptor(
        'RW 63 FLAT "disk.raw" 0', more='encryption.keySafe = "vmware:key/list/(pair/(phrase/x))"\n'
    )
    return samples.raw(folder, text.encode(), "disk.vmdk")


@refused("VMware has encrypted it", Code.ENCRYPTED)
def a_vmdk_that_vsphere_encrypted(folder: Path) -> Path:
    samples.raw(folder, name="disk-flat.vmdk")
    text = samples.descriptor(
        'RW 63 VMFS "disk-flat.vmdk"', create_type="vmfs", more='ddb.iofilters = "vmwarevmcrypt"\n'
    )
    return samples.raw(folder, text.encode(), "disk.vmdk")


@refused("EncryptionSection", Code.ENCRYPTED)
def an_encrypted_ovf(folder: Path) -> Path:
    samples.raw(folder)
    text = samples.ovf_text("disk.raw").replace("<VirtualSystem", "<EncryptionSection/><VirtualSystem", 1)
    return samples.raw(folder, text.encode(), "vm.ovf")


# --- damaged ----------------------------------------------------------------------------------------------------------


@refused("points after EOF", Code.DAMAGED)
def a_sparse_vmdk_that_was_cut_off(folder: Path) -> Path:
    return samples.cut(samples.converted(folder, "vmdk", "disk.vmdk"), 0.6)


@refused("the file was cut off", Code.DAMAGED)
def a_stream_of_vmware_that_was_cut_off(folder: Path) -> Path:
    return samples.cut(samples.vmware_stream(folder), 0.6)


@refused("no footer that repeats it", Code.DAMAGED)
def a_vmdk_whose_footer_tells_of_another_disk(folder: Path) -> Path:
    """qemu takes the footer in the header's stead."""
    return samples.patched(samples.vmware_stream(folder), (-1024 + 12, struct.pack("<Q", 1 << 40)))


@refused("not a safe vmdk file", Code.DAMAGED)
def a_vmdk_without_the_marker_of_its_footer(folder: Path) -> Path:
    return samples.patched(samples.vmware_stream(folder), (-1536 + 12, b"\7"))


@refused("line ends that a transfer in text mode changed", Code.DAMAGED)
def a_vmdk_that_was_sent_in_text_mode(folder: Path) -> Path:
    return samples.patched(samples.converted(folder, "vmdk", "disk.vmdk"), (73, b"\n \n\n"))


@refused("is one extent of a disk of several files", Code.DAMAGED)
def a_numbered_part_of_a_vmdk(folder: Path) -> Path:
    samples.converted(folder, "vmdk", "disk.vmdk", "subformat=twoGbMaxExtentSparse")
    return folder / "disk-s001.vmdk"


@refused("disk-flat.vmdk has 5244416 bytes, 6291456 were told", Code.DAMAGED)
def a_flat_vmdk_that_was_cut_off(folder: Path) -> Path:
    samples.raw(folder, name="disk-flat.vmdk")
    return samples.raw(folder, samples.descriptor('RW 12288 FLAT "disk-flat.vmdk" 0').encode(), "disk.vmdk")


@refused("disk-s001.vmdk holds 5244416 bytes of the disk, 512000 were told", Code.DAMAGED)
def a_vmdk_whose_extent_is_of_another_disk(folder: Path) -> Path:
    path = samples.converted(folder, "vmdk", "disk.vmdk", "subformat=twoGbMaxExtentSparse")
    path.write_text(samples.descriptor('RW 1000 SPARSE "disk-s001.vmdk"', create_type="twoGbMaxExtentSparse"))
    return path


@refused(r'is not understood: "\x1b[2Jsurprise"', Code.DAMAGED)
def a_vmdk_descriptor_with_a_line_for_the_terminal(folder: Path) -> Path:
    samples.raw(folder)
    text = samples.descriptor('RW 63 FLAT "disk.raw" 0', more="\x1b[2Jsurprise\n")
    return samples.raw(folder, text.encode(), "disk.vmdk")


@refused("has no end", Code.DAMAGED)
def a_vmdk_descriptor_of_blanks(folder: Path) -> Path:
    """An expression with two greedy blanks takes the square of their number."""
    text = samples.descriptor('RW 63 FLAT "disk.raw" 0', more="a=b" + " " * 900_000 + "c\n")
    return samples.raw(folder, text.encode(), "disk.vmdk")


@refused("a VMDK descriptor of 2097", Code.DAMAGED)
def a_vmdk_descriptor_without_end(folder: Path) -> Path:
    text = samples.descriptor('RW 63 FLAT "disk.raw" 0').encode() + b"# more and more\n" * (2 * MIB // 16)
    return samples.raw(folder, text, "disk.vmdk")


@refused("2 disk types, one was wanted", Code.DAMAGED)
def a_vmdk_of_two_types(folder: Path) -> Path:
    samples.raw(folder)
    text = samples.descriptor('RW 63 FLAT "disk.raw" 0', more='createType="vmfs"\n')
    return samples.raw(folder, text.encode(), "disk.vmdk")


@refused("region exceeding the end of the file", Code.DAMAGED)
def a_qcow2_that_was_cut_off(folder: Path) -> Path:
    return samples.cut(samples.converted(folder, "qcow2", "disk.qcow2"), 0.6)


@refused("its last sector is not the footer", Code.DAMAGED)
def a_dynamic_vhd_that_was_cut_off(folder: Path) -> Path:
    return samples.cut(samples.converted(folder, "vpc", "disk.vhd"), 0.6)


@refused("Image has probably been truncated", Code.QEMU)
def a_vhdx_that_was_cut_off(folder: Path) -> Path:
    return samples.cut(samples.converted(folder, "vhdx", "disk.vhdx"), 0.6)


@refused("metadata does not tell the disk's size", Code.DAMAGED)
def a_vhdx_without_metadata(folder: Path) -> Path:
    return samples.patched(samples.converted(folder, "vhdx", "disk.vhdx"), (192 << 10, bytes(128 << 10)))


@refused("checksum of its VHD footer", Code.DAMAGED)
def a_vhd_with_a_broken_footer(folder: Path) -> Path:
    return samples.patched(samples.converted(folder, "vpc", "disk.vhd", "subformat=fixed"), (-512 + 70, b"?"))


@refused("tells of 1099511627776 bytes, and 5", Code.DAMAGED)
def a_fixed_vhd_that_is_shorter_than_its_footer_says(folder: Path) -> Path:
    path = samples.converted(folder, "vpc", "disk.vhd", "subformat=fixed")
    return samples.vhd_footer_changed(path, 48, struct.pack(">Q", 1 << 40))


@refused("tells of 512 bytes, and 5", Code.DAMAGED)
def a_fixed_vhd_that_is_longer_than_its_footer_says(folder: Path) -> Path:
    path = samples.converted(folder, "vpc", "disk.vhd", "subformat=fixed")
    return samples.vhd_footer_changed(path, 48, struct.pack(">Q", 512))


@refused("not whole sectors", Code.DAMAGED)
def a_vhd_that_ends_within_a_sector(folder: Path) -> Path:
    path = samples.converted(folder, "vpc", "disk.vhd", "subformat=fixed", "force_size=on")
    return samples.vhd_footer_changed(path, 48, struct.pack(">Q", len(samples.disk_bytes()) - 1))


@refused("dynamic VHD header is not where", Code.DAMAGED)
def a_dynamic_vhd_without_its_header(folder: Path) -> Path:
    return samples.patched(samples.converted(folder, "vpc", "disk.vhd"), (512, bytes(8)))


@refused("does not hold its", Code.DAMAGED)
def a_dynamic_vhd_with_too_small_a_table(folder: Path) -> Path:
    return samples.patched(samples.converted(folder, "vpc", "disk.vhd"), (512 + 28, struct.pack(">I", 1)))


@refused("unknown kind 9", Code.DAMAGED)
def a_vhd_of_an_unknown_kind(folder: Path) -> Path:
    return samples.vhd_footer_changed(samples.converted(folder, "vpc", "disk.vhd"), 60, struct.pack(">I", 9))


# --- sizes ------------------------------------------------------------------------------------------------------------


@refused("at most 70368744177664 (64 TiB)", Code.SIZE)
def a_raw_disk_of_eight_exbibytes(folder: Path) -> Path:
    path = samples.raw(Path("/dev/shm"), samples.disk_bytes()[:512], f"magalu-migrate-test-{os.getpid()}.raw")
    os.truncate(path, (1 << 63) - 4096)
    (folder / "remove").symlink_to(path)
    return path


@refused("4611686018427387904 bytes", Code.SIZE)
def a_qcow2_of_four_exbibytes(folder: Path) -> Path:
    return samples.patched(samples.converted(folder, "qcow2", "disk.qcow2"), (24, struct.pack(">Q", 1 << 62)))


@refused("a disk of 0 bytes", Code.SIZE)
def a_qcow2_of_no_size(folder: Path) -> Path:
    return samples.patched(samples.converted(folder, "qcow2", "disk.qcow2"), (24, bytes(8)))


@refused("its header tells of a disk of", Code.SIZE)
def a_sparse_vmdk_without_end(folder: Path) -> Path:
    return samples.patched(samples.converted(folder, "vmdk", "disk.vmdk"), (12, struct.pack("<Q", 1 << 54)))


@refused("an extent of 99999999999999999 sectors", Code.SIZE)
def a_vmdk_of_endless_zeros(folder: Path) -> Path:
    return samples.raw(folder, samples.descriptor("RW 99999999999999999 ZERO").encode(), "disk.vmdk")


@refused("names 600 extents", Code.SIZE)
def a_vmdk_of_more_files_than_can_be_opened(folder: Path) -> Path:
    samples.raw(folder)
    return samples.raw(folder, samples.descriptor(*['RW 63 FLAT "disk.raw" 0'] * 600).encode(), "disk.vmdk")


@refused('a capacity of "-1"', Code.SIZE)
def an_ovf_with_a_negative_capacity(folder: Path) -> Path:
    samples.raw(folder)
    return samples.raw(folder, samples.ovf_text("disk.raw", disk_attributes='ovf:capacity="-1"').encode(), "vm.ovf")


@refused("does not read it as qcow2", Code.QEMU)
def a_qcow2_with_a_gigantic_table(folder: Path) -> Path:
    return samples.patched(samples.converted(folder, "qcow2", "disk.qcow2"), (36, struct.pack(">I", 1 << 31)))


@refused("does not read it as vmdk", Code.QEMU)
def a_vmdk_with_a_gigantic_table(folder: Path) -> Path:
    path = samples.converted(folder, "vmdk", "disk.vmdk")
    return samples.patched(path, (12, struct.pack("<Q", 1 << 36)), (44, struct.pack("<I", 1)))


# --- in use -----------------------------------------------------------------------------------------------------------


@refused("its log is not empty", Code.IN_USE)
def a_vhdx_of_a_running_vm(folder: Path) -> Path:
    path = samples.converted(folder, "vhdx", "disk.vhdx")
    return samples.patched(path, ((64 << 10) + 48, b"\1" * 16), ((128 << 10) + 48, b"\1" * 16))


# --- OVA --------------------------------------------------------------------------------------------------------------


@refused("what follows its member 3 is not a tar header", Code.BAD_ARCHIVE)
def an_ova_with_rubbish_behind_a_member(folder: Path) -> Path:
    path = samples.ova(folder)
    with tarfile.open(path) as archive:
        last = archive.getmembers()[-1]
    return samples.patched(path, (last.offset_data + -(-last.size // 512) * 512, b"rubbish"))


def _with_header(path: Path, offset: int, **fields: tuple[int, bytes]) -> Path:
    """The tar with changed fields in the header at `offset`, and its checksum mended."""
    with path.open("rb") as file:
        file.seek(offset)
        header = bytearray(file.read(512))
    for at, value in fields.values():
        header[at : at + len(value)] = value
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 8 * 32 + sum(header[156:512]))
    return samples.patched(path, (offset, bytes(header)))


@refused("ends at", Code.DAMAGED)
def an_ova_that_was_cut_off(folder: Path) -> Path:
    return samples.cut(samples.ova(folder), 0.7)


@refused("ends at", Code.DAMAGED)
def an_ova_whose_member_says_it_is_larger_than_the_archive(folder: Path) -> Path:
    path = samples.ova(folder)
    with tarfile.open(path) as archive:
        last = archive.getmembers()[-1]
    return _with_header(path, last.offset, size=(124, b"\x80" + (1 << 50).to_bytes(11, "big")))


@refused("not a sound tar archive", Code.BAD_ARCHIVE)
def an_ova_whose_member_has_a_negative_size(folder: Path) -> Path:
    """tarfile goes back and reads the same members for ever: CVE-2025-8194."""
    path = samples.ova(folder)
    with tarfile.open(path) as archive:
        last = archive.getmembers()[-1]
    return _with_header(path, last.offset, size=(124, (-last.offset - 512).to_bytes(12, "big", signed=True)))


@refused("a header of", Code.BAD_ARCHIVE)
def an_ova_with_an_extended_header_of_gigabytes(folder: Path) -> Path:
    path = folder / "vm.ova"
    info = tarfile.TarInfo("pax")
    info.type = tarfile.XHDTYPE
    path.write_bytes(info.tobuf(tarfile.USTAR_FORMAT) + bytes(1024))
    os.truncate(path, 9 << 30)
    return _with_header(path, 0, size=(124, b"\x80" + (8 << 30).to_bytes(11, "big")))


@refused("not a sound tar archive", Code.BAD_ARCHIVE)
def an_ova_whose_extended_headers_take_the_square_of_their_length(folder: Path) -> Path:
    """CVE-2024-6232 of tarfile: 0.3 s for each of these 8 KiB, and there are many."""
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 8 << 10
    path = folder / "vm.ova"
    path.write_bytes((info.tobuf(tarfile.USTAR_FORMAT) + b"1" * info.size) * 500)
    return path


@refused("not a sound tar archive", Code.BAD_ARCHIVE)
def an_ova_of_headers_that_follow_each_other_without_end(folder: Path) -> Path:
    info = tarfile.TarInfo("long")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 512
    path = folder / "vm.ova"
    path.write_bytes((info.tobuf(tarfile.GNU_FORMAT) + b"a" * 511 + b"\0") * 3000)
    return path


@refused("not a sound tar archive", Code.BAD_ARCHIVE)
def an_ova_with_a_sparse_map_without_end(folder: Path) -> Path:
    info = tarfile.TarInfo("disk.vmdk")
    info.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[482] = 1  # more of the map follows
    path = folder / "vm.ova"
    path.write_bytes(bytes(header) + (b"00000000001\0" * 42 + b"\1").ljust(512, b"\0") * 20_000)
    return _with_header(path, 0)


@refused("it has 1000 members or more", Code.BAD_ARCHIVE)
def an_ova_with_members_without_end(folder: Path) -> Path:
    return samples.tar(folder / "vm.ova", [(f"{number}.txt", b"") for number in range(1200)])


@refused('the member "../erp01.ovf" has a path', Code.NAME)
def an_ova_with_a_member_above_it(folder: Path) -> Path:
    return samples.ova(folder, ("../erp01.ovf", b""))


@refused('the member "/etc/passwd" has a path', Code.NAME)
def an_ova_with_an_absolute_member(folder: Path) -> Path:
    return samples.ova(folder, ("/etc/passwd", b""))


@refused('the member "./disk.vmdk" has a path', Code.NAME)
def an_ova_that_was_packed_with_paths(folder: Path) -> Path:
    return samples.tar(
        folder / "vm.ova", [("erp01.ovf", samples.ovf_text("disk.vmdk").encode()), ("./disk.vmdk", b"x")]
    )


@refused(r'the member "\x1b[2J\nall is well.vmdk" has a path or signs', Code.NAME)
def an_ova_with_a_name_for_the_terminal(folder: Path) -> Path:
    return samples.ova(folder, ("\x1b[2J\nall is well.vmdk", b""))


def _member(name: str, kind: bytes, link: str = "") -> samples.Member:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.devmajor, info.devminor = kind, link, 1, 5
    return info, b""


@refused("is a symbolic link, not a plain file", Code.MEMBER_KIND)
def an_ova_with_a_symbolic_link(folder: Path) -> Path:
    return samples.ova(folder, _member("disk2.vmdk", tarfile.SYMTYPE, "/etc/passwd"))


@refused("is a hard link", Code.MEMBER_KIND)
def an_ova_with_a_hard_link(folder: Path) -> Path:
    return samples.ova(folder, _member("disk2.vmdk", tarfile.LNKTYPE, "disk.vmdk"))


@refused("is a character device", Code.MEMBER_KIND)
def an_ova_with_a_device(folder: Path) -> Path:
    return samples.ova(folder, _member("disk2.vmdk", tarfile.CHRTYPE))


@refused("is a FIFO", Code.MEMBER_KIND)
def an_ova_with_a_fifo(folder: Path) -> Path:
    return samples.ova(folder, _member("disk2.vmdk", tarfile.FIFOTYPE))


@refused("is a folder", Code.MEMBER_KIND)
def an_ova_with_a_folder(folder: Path) -> Path:
    return samples.ova(folder, _member("disks", tarfile.DIRTYPE))


@refused("is a sparse member", Code.MEMBER_KIND)
def an_ova_with_a_sparse_member(folder: Path) -> Path:
    samples.converted(folder, "vmdk", "disk.vmdk")
    os.truncate(folder / "disk.vmdk", 64 * MIB)
    (folder / "vm.ovf").write_text(samples.ovf_text("disk.vmdk"))
    subprocess.run(
        ["tar", "--sparse", "--format=gnu", "-C", folder, "-cf", folder / "vm.ova", "vm.ovf", "disk.vmdk"], check=True
    )
    return folder / "vm.ova"


@refused("is a sparse member", Code.MEMBER_KIND)
def an_ova_with_a_sparse_member_of_pax(folder: Path) -> Path:
    path = an_ova_with_a_sparse_member(folder)
    subprocess.run(["tar", "--sparse", "--format=pax", "-C", folder, "-cf", path, "vm.ovf", "disk.vmdk"], check=True)
    return path


@refused('the member "disk.vmdk" is in it twice', Code.DUPLICATE)
def an_ova_with_a_name_twice(folder: Path) -> Path:
    return samples.ova(folder, ("disk.vmdk", b"the other"))


@refused("holds 0 OVF descriptors", Code.NOT_ONE_VM)
def a_tar_without_an_ovf(folder: Path) -> Path:
    return samples.tar(folder / "vm.ova", [("disk.vmdk", b"x")])


@refused("holds 2 OVF descriptors", Code.NOT_ONE_VM)
def an_ova_with_two_ovfs(folder: Path) -> Path:
    return samples.ova(folder, ("other.ovf", b"<Envelope/>"))


# --- OVF --------------------------------------------------------------------------------------------------------------


def _ovf(folder: Path, text: str | bytes) -> Path:
    return samples.raw(folder, text if isinstance(text, bytes) else text.encode(), "vm.ovf")


@refused("is compressed (gzip)", Code.COMPRESSED)
def an_ovf_with_a_compressed_disk(folder: Path) -> Path:
    samples.raw(folder, gzip.compress(samples.disk_bytes()), "disk.vmdk.gz")
    return _ovf(folder, samples.ovf_text("disk.vmdk.gz", file_attributes='ovf:compression="gzip"'))


@refused("disk.vmdk.gz: it is packed with gzip", Code.UNSUPPORTED_FORMAT)
def an_ovf_with_a_compressed_disk_that_it_does_not_tell_of(folder: Path) -> Path:
    samples.raw(folder, gzip.compress(samples.disk_bytes()), "disk.vmdk.gz")
    return _ovf(folder, samples.ovf_text("disk.vmdk.gz"))


@refused("is split into chunks", Code.COMPRESSED)
def an_ovf_with_a_chunked_disk(folder: Path) -> Path:
    return _ovf(folder, samples.ovf_text("disk.vmdk", file_attributes='ovf:chunkSize="1000"'))


@refused('"disk.vmdk" is not in', Code.MISSING)
def an_ovf_without_its_disk(folder: Path) -> Path:
    return _ovf(folder, samples.ovf_text("disk.vmdk"))


@refused('"other.vmdk", a disk\'s file, is not in it', Code.MISSING)
def an_ova_without_its_disk(folder: Path) -> Path:
    return samples.ova(folder, text=samples.ovf_text("other.vmdk"))


@refused("names a file that its References do not", Code.MISSING)
def an_ovf_with_a_disk_that_no_reference_tells_of(folder: Path) -> Path:
    return _ovf(folder, samples.ovf_text("disk.vmdk").replace('ovf:id="f0"', 'ovf:id="g0"'))


@refused('names the disk "d7", its DiskSection does not', Code.MISSING)
def an_ovf_whose_hardware_names_an_unknown_disk(folder: Path) -> Path:
    item = "<Item><rasd:HostResource>ovf:/disk/d7</rasd:HostResource><rasd:ResourceType>17</rasd:ResourceType></Item>"
    return _ovf(folder, samples.ovf_text("disk.vmdk", hardware=item))


@refused('"/etc/passwd" is not the plain name of a file', Code.NAME)
def an_ovf_with_the_path_of_a_host_file(folder: Path) -> Path:
    return _ovf(folder, samples.ovf_text("/etc/passwd"))


@refused('"https://example.org/disk.vmdk" is not the plain name', Code.NAME)
def an_ovf_with_a_url(folder: Path) -> Path:
    return _ovf(folder, samples.ovf_text("https://example.org/disk.vmdk"))


@refused("is a symbolic link", Code.NOT_A_FILE)
def an_ovf_with_a_link_for_a_disk(folder: Path) -> Path:
    (folder / "disk.vmdk").symlink_to("/etc/passwd")
    return _ovf(folder, samples.ovf_text("disk.vmdk"))


@refused("document type declaration", Code.BAD_OVF)
def an_ovf_that_names_a_host_file(folder: Path) -> Path:
    text = samples.ovf_text("&passwd;").replace(
        "<Envelope", '<!DOCTYPE x [<!ENTITY passwd SYSTEM "file:///etc/passwd">]><Envelope'
    )
    return _ovf(folder, text)


@refused("document type declaration", Code.BAD_OVF)
def an_ovf_that_laughs_a_billion_times(folder: Path) -> Path:
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    text = f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY l0 "ha">{laughs}]><Envelope>&l9;</Envelope>'
    return _ovf(folder, text)


@refused("it has more than 1048576 bytes", Code.BAD_OVF)
def an_ovf_without_end(folder: Path) -> Path:
    path = _ovf(folder, '<?xml version="1.0"?><Envelope>')
    os.truncate(path, 10 << 30)
    return path


@refused("nested deeper than 100 levels", Code.BAD_OVF)
def an_ovf_without_bottom(folder: Path) -> Path:
    depth = 100_000
    return _ovf(folder, '<?xml version="1.0"?><Envelope>' + "<a>" * depth + "</a>" * depth + "</Envelope>")


@refused("not an OVF descriptor", Code.BAD_OVF)
def an_ovf_that_was_cut_off(folder: Path) -> Path:
    return _ovf(folder, samples.ovf_text("disk.vmdk")[:400])


@refused("not an OVF descriptor", Code.BAD_OVF)
def an_ovf_in_an_encoding_that_is_none(folder: Path) -> Path:
    return _ovf(folder, samples.ovf_text("disk.vmdk").replace("UTF-8", "zlib"))


@refused("its root is domain, Envelope was wanted", Code.BAD_OVF)
def a_descriptor_of_libvirt(folder: Path) -> Path:
    return _ovf(folder, '<?xml version="1.0"?><domain/>')


@refused("it tells of 300 disks", Code.BAD_OVF)
def an_ovf_of_more_disks_than_any_vm_has(folder: Path) -> Path:
    return _ovf(folder, samples.ovf_text(*[f"{number}.vmdk" for number in range(300)]))


@refused("describes 2 VMs: erp01, crm01", Code.NOT_ONE_VM)
def an_ovf_of_two_vms(folder: Path) -> Path:
    return _ovf(
        folder, samples.ovf_text("disk.raw").replace("</Envelope>", "<VirtualSystem ovf:id='crm01'/></Envelope>")
    )


@refused("holds 2 OVF descriptors: a.ovf, b.OVF", Code.NOT_ONE_VM)
def a_folder_with_two_ovfs(folder: Path) -> Path:
    for name in ("a.ovf", "b.OVF"):
        (folder / name).write_text(samples.ovf_text("disk.raw"))
    return folder


@refused("holds 0 OVF descriptors", Code.NOT_ONE_VM)
def a_folder_without_an_ovf(folder: Path) -> Path:
    return samples.raw(folder).parent


@refused("has no disk with content", Code.NO_DISK)
def an_ovf_without_a_disk(folder: Path) -> Path:
    return _ovf(folder, samples.ovf_text())


@refused("the manifest tells", Code.CHECKSUM)
def an_ova_whose_disk_was_changed_after_the_export(folder: Path) -> Path:
    path = samples.ova(folder)
    with tarfile.open(path) as archive:
        disk = archive.getmember("disk.vmdk")
    return samples.patched(path, (disk.offset_data + disk.size - 512 - 1, b"!"))


@refused("the manifest tells", Code.CHECKSUM)
def an_ovf_whose_descriptor_was_changed_after_the_export(folder: Path) -> Path:
    samples.raw(folder)
    text = samples.ovf_text("disk.raw")
    (folder / "vm.mf").write_text(samples.manifest_text([("vm.ovf", text.replace("erp01", "erp02").encode())]))
    return _ovf(folder, text)


@refused('line 1 is not understood: "MD5(disk.raw)= 0123"', Code.BAD_MANIFEST)
def a_manifest_with_an_unknown_checksum(folder: Path) -> Path:
    samples.raw(folder)
    (folder / "vm.mf").write_text("MD5(disk.raw)= 0123\n")
    return _ovf(folder, samples.ovf_text("disk.raw"))


@refused("it has two checksums of disk.raw", Code.BAD_MANIFEST)
def a_manifest_that_contradicts_itself(folder: Path) -> Path:
    samples.raw(folder)
    (folder / "vm.mf").write_text(samples.manifest_text([("disk.raw", b"a"), ("disk.raw", b"b")]))
    return _ovf(folder, samples.ovf_text("disk.raw"))


@refused("it has more than 1048576 bytes", Code.BAD_MANIFEST)
def a_manifest_without_end(folder: Path) -> Path:
    samples.raw(folder)
    (folder / "vm.mf").write_text("")
    os.truncate(folder / "vm.mf", 1 << 33)
    return _ovf(folder, samples.ovf_text("disk.raw"))


@refused("holds 2 manifests", Code.BAD_MANIFEST)
def an_ova_with_two_manifests(folder: Path) -> Path:
    return samples.ova(folder, ("second.mf", b""))


@refused("names the disk", Code.MISSING, Code.HAS_PARENT, Code.COMPRESSED)
def an_ovf_with_several_faults(folder: Path) -> Path:
    items = "".join(
        f"<Item><rasd:HostResource>ovf:/disk/{disk}</rasd:HostResource><rasd:ResourceType>17</rasd:ResourceType></Item>"
        for disk in ("d0", "d1", "d2")
    )
    attributes = {"file_attributes": 'ovf:chunkSize="9"', "disk_attributes": 'ovf:parentRef="d9"'}
    return _ovf(folder, samples.ovf_text("a.vmdk", "b.vmdk", hardware=items, **attributes))


@refused("a.raw: no known disk format", Code.UNKNOWN_FORMAT, Code.HAS_PARENT, Code.MISSING)
def an_ovf_whose_disks_all_have_faults(folder: Path) -> Path:
    samples.raw(folder, b"\1" * 4096, "a.raw")
    shutil.move(a_qcow2_with_a_backing_file(folder), folder / "b.qcow2")
    return _ovf(folder, samples.ovf_text("a.raw", "b.qcow2", "c.raw"))


@pytest.mark.parametrize("case", CASES, ids=[case.title for case in CASES])
def test_a_file_is_refused_with_its_reasons(run: Run, tmp_path: Path, case: Case) -> None:
    path = case.made(tmp_path)
    began = time.monotonic()
    try:
        refusal = samples.refusal(run, path, case.said)
    finally:
        if (tmp_path / "remove").is_symlink():
            (tmp_path / "remove").resolve().unlink()
    assert {reason.code for reason in refusal.reasons} == set(case.codes)
    assert case.words in str(refusal)
    for reason in refusal.reasons:
        assert reason.text.isprintable() and (reason.remedy or "").isprintable()
        assert "/proc/" not in reason.text
    assert time.monotonic() - began < 30


def test_a_raw_disk_that_is_not_known_as_one_is_refused_with_the_way_to_say_so(run: Run, tmp_path: Path) -> None:
    (reason,) = samples.refusal(run, a_disk_without_a_boot_signature(tmp_path)).reasons
    assert "--format raw" in (reason.remedy or "")


def test_every_code_has_a_file_that_is_refused_with_it() -> None:
    assert {code for case in CASES for code in case.codes} == set(Code)


def test_every_code_is_in_the_table() -> None:
    assert re.findall(r"^\| (SRC-\d{3}) ", refusals.__doc__ or "", re.MULTILINE) == sorted(Code)


def test_a_disk_that_a_vm_writes_to_is_refused(run: Run, tmp_path: Path) -> None:
    path = samples.converted(tmp_path, "qcow2", "disk.qcow2")
    socket_path = run.work / "writer.sock"
    with run.daemon(["qemu-nbd", "--format=qcow2", "--socket", socket_path, path], ready=socket_path.exists):
        refusal = samples.refusal(run, path)
    assert [reason.code for reason in refusal.reasons] == [Code.IN_USE]


def test_refusing_a_file_leaves_nothing_open_and_nothing_behind(run: Run, tmp_path: Path) -> None:
    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = open_files()
    for made in (a_fifo, an_ovf_whose_disks_all_have_faults, an_ova_with_a_hard_link):
        folder = tmp_path / made.__name__
        folder.mkdir()
        with pytest.raises(NotMigratable):
            source = FileSource(run, made(folder))
            source.describe(next(source.vms()))
    assert open_files() == before
    assert list(run.work.iterdir()) == []
