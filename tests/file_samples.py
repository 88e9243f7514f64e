"""Disk files for the tests: real ones made by qemu-img and tarfile, and what an attacker or a bad copy makes of them."""

import hashlib
import io
import random
import struct
import subprocess
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from xml.sax.saxutils import quoteattr

import nbd

from adapters.files import FileSource
from migrate.errors import NotMigratable
from migrate.run import Run
from migrate.source import Vm

MIB = 1 << 20
SECTOR = 512


def disk_bytes(size: int = 5 * MIB + 3 * SECTOR, seed: int = 1) -> bytes:
    """A disk with a boot signature, runs of data, and zeros between them."""
    noise, disk = random.Random(seed), bytearray(size)  # noqa: S311  nothing is secret here
    for start in range(1000, size - 2000, 300_000):
        disk[start : start + 1000] = noise.randbytes(1000)
    disk[-100:] = noise.randbytes(100)
    disk[510:512] = b"\x55\xaa"
    return bytes(disk)


def raw(folder: Path, content: bytes | None = None, name: str = "disk.raw") -> Path:
    path = folder / name
    path.write_bytes(disk_bytes() if content is None else content)
    return path


def converted(folder: Path, form: str, name: str, *options: str, content: bytes | None = None) -> Path:
    """The disk in another format, by qemu-img; `options` as after -o, `-c` compresses."""
    path = folder / name
    flags = [flag for flag in options if flag.startswith("-")]
    chosen = [option for option in options if not option.startswith("-")]
    words = ["qemu-img", "convert", "-f", "raw", "-O", form, *flags, *(["-o", ",".join(chosen)] if chosen else [])]
    subprocess.run([*words, raw(folder, content, "converted-from.raw"), path], check=True)
    (folder / "converted-from.raw").unlink()
    return path


def qemu_img(*words: str | Path) -> None:
    subprocess.run(["qemu-img", *words], check=True, stdout=subprocess.DEVNULL)


def patched(path: Path, *changes: tuple[int, bytes]) -> Path:
    """The file with bytes overwritten; a negative offset counts from the end."""
    with path.open("r+b") as file:
        for offset, data in changes:
            file.seek(offset, 0 if offset >= 0 else 2)
            file.write(data)
    return path


def cut(path: Path, share: float) -> Path:
    """The file as a broken transfer leaves it."""
    with path.open("r+b") as file:
        file.truncate(int(path.stat().st_size * share) // SECTOR * SECTOR)
    return path


def vmware_stream(folder: Path, name: str = "disk.vmdk", content: bytes | None = None) -> Path:
    """A streamOptimized VMDK as VMware exports it: version 3, its directory told only by a footer at the end.

    qemu writes the directory's place into the header. Source: Virtual Disk Format 5.0, "Stream-Optimized Compressed Sparse Extents".
    """
    path = converted(folder, "vmdk", name, "subformat=streamOptimized", content=content)
    header = path.read_bytes()[:SECTOR]
    marker = struct.pack("<QII", 1, 0, 3).ljust(SECTOR, b"\0")
    with path.open("ab") as file:
        file.write(b"\0" * (-path.stat().st_size % SECTOR) + marker + header + b"\0" * SECTOR)
    return patched(path, (56, b"\xff" * 8))


def vhd_footer_changed(path: Path, offset: int, data: bytes) -> Path:
    """A VHD whose footer, and its copy in front, say something else, with sound checksums."""
    for start in (0, path.stat().st_size - SECTOR):
        footer = bytearray(path.read_bytes()[start : start + SECTOR])
        if footer.startswith(b"conectix"):
            footer[offset : offset + len(data)] = data
            footer[64:68] = b"\0" * 4
            footer[64:68] = struct.pack(">I", ~sum(footer) & 0xFFFFFFFF)
            patched(path, (start, bytes(footer)))
    return path


def descriptor(*extents: str, create_type: str = "monolithicFlat", parent: str = "ffffffff", more: str = "") -> str:
    """A VMDK descriptor's text."""
    lines = "".join(f"{extent}\n" for extent in extents)
    return (
        f'# Disk DescriptorFile\nversion=1\nCID=1234abcd\nparentCID={parent}\ncreateType="{create_type}"\n{more}'
        f'\n# Extent description\n{lines}\n# The Disk Data Base\n#DDB\n\nddb.adapterType = "lsilogic"\n'
    )


def ovf_text(
    *disks: str,
    name: str = "erp01",
    hardware: str = "",
    file_attributes: str = "",
    disk_attributes: str = "",
    more: str = "",
) -> str:
    """A descriptor with these files as its disks, in this order; `capacity` is left out unless told in `disk_attributes`."""
    files = "".join(f'<File ovf:id="f{n}" ovf:href={quoteattr(d)} {file_attributes}/>' for n, d in enumerate(disks))
    told = "".join(f'<Disk ovf:diskId="d{n}" ovf:fileRef="f{n}" {disk_attributes}/>' for n, _ in enumerate(disks))
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"
 xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData"
 xmlns:vmw="http://www.vmware.com/schema/ovf" xmlns:vbox="http://www.virtualbox.org/ovf/machine">
<References>{files}</References><DiskSection><Info/>{told}</DiskSection>
<VirtualSystem ovf:id="{name}"><Info/><Name>{name}</Name>
<VirtualHardwareSection><Info/>{hardware}</VirtualHardwareSection>{more}</VirtualSystem></Envelope>"""


def manifest_text(files: Iterable[tuple[str, bytes]], algorithm: str = "SHA256") -> str:
    return "".join(f"{algorithm}({name})= {hashlib.new(algorithm.lower(), data).hexdigest()}\n" for name, data in files)


Member = tuple[str | tarfile.TarInfo, bytes]


def tar(path: Path, members: Sequence[Member], form: int = tarfile.USTAR_FORMAT) -> Path:
    """A tar with exactly these members; a TarInfo keeps its kind and gets the content's size where it is a plain file."""
    with tarfile.open(path, "w", format=form) as archive:
        for name, data in members:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            if info.isreg():
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def ova(folder: Path, *more: Member, name: str = "erp01", disk: bytes | None = None, text: str | None = None) -> Path:
    """An OVA with one disk, `disk.vmdk`, and a sound manifest; `more` members follow."""
    content = vmware_stream(folder, "ova-disk.vmdk").read_bytes() if disk is None else disk
    ovf = (ovf_text("disk.vmdk", name=name) if text is None else text).encode()
    files = [(f"{name}.ovf", ovf), ("disk.vmdk", content)]
    members: list[Member] = [files[0], (f"{name}.mf", manifest_text(files).encode()), files[1], *more]
    return tar(folder / f"{name}.ova", members)


def refusal(run: Run, path: Path, said: str | None = None) -> NotMigratable:
    """What describe, or else freeze, says against it."""
    asked = FileSource(run, path, said)
    try:
        vm = asked.describe(next(asked.vms()))
        asked.freeze(vm, "name")
    except NotMigratable as refused:
        return refused
    raise AssertionError(f"{path} was not refused: {vm}")


def described(run: Run, path: Path, said: str | None = None) -> Vm:
    asked = FileSource(run, path, said)
    return asked.describe(next(asked.vms()))


def served(uri: str) -> bytes:
    """All bytes of an NBD export."""
    client = nbd.NBD()
    client.connect_uri(uri)
    size, read = client.get_size(), bytearray()
    while len(read) < size:
        read += client.pread(min(MIB, size - len(read)), len(read))
    client.shutdown()
    return bytes(read)


def all_disks(run: Run, path: Path, said: str | None = None) -> list[bytes]:
    """The whole way: describe, freeze, open, and read each disk."""
    asked = FileSource(run, path, said)
    vm = asked.describe(next(asked.vms()))
    found: list[bytes] = []
    with asked.frozen(asked.freeze(vm, "name")) as disks:
        assert [disk.size for disk in disks] == [disk.size for disk in vm.disks]
        for disk in disks:
            with disk.nbd() as uri:
                found.append(served(uri))
    return found
