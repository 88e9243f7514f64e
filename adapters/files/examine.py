"""From a file's content to the image that it holds, or to every reason to refuse it."""

from collections.abc import Callable

from adapters.files.claims import claims, unsafe
from adapters.files.image import Image, raw_node, whole_sectors, wrong_size
from adapters.files.opened import Folder, Window
from adapters.files.qcow2 import qcow2
from adapters.files.refusals import Code
from adapters.files.vhd import vhd
from adapters.files.vhdx import vhdx
from adapters.files.vmdk import MAGIC, vmdk
from migrate.errors import NotMigratable, Reason

DISKS = ("qcow2", "raw", "vhd", "vhdx", "vmdk")
"""The formats of a disk that are read."""

PACKED = ("gzip", "bzip2", "xz", "zstd", "lz4", "zip", "7z", "rar")

WORDS = {
    "gpt": "raw disk with a partition table",
    "iso": "ISO 9660 or UDF image, an installation medium",
    "vdi": "VDI disk of VirtualBox",
    "qed": "QED disk",
    "parallels": "Parallels disk",
    "tar": "tar archive",
    "OVF": "XML text",
    "COWD": "snapshot's difference of ESX",
    "seSparse": "snapshot's difference of ESX",
}


def image(window: Window, folder: Folder | None, *, said: str | None = None) -> Image:
    """Return the image of a disk; raise NotMigratable with every reason to refuse it.

    `folder` is where a VMDK's extents lie, None within an archive; `said` the format that the user says it has.
    """
    name = window.name
    if window.size == 0:
        raise NotMigratable(name, [Reason(Code.EMPTY, f"{name} is empty", "Copy it again.")])
    found = claims(window)
    form = format_of(window, found, said)
    match form:
        case "qcow2":
            looked_at = _both(window, lambda: qcow2(window), "qcow2")
        case "vhdx":
            looked_at = vhdx(window)  # oslo checks nothing in VHD and VHDX (SafetyCheck.null)
        case "vhd":
            looked_at = vhd(window)
        case "vmdk" if window.read(0, 4) != MAGIC:
            # oslo allows no VMDK of several files. Our descriptor's reader decides; qemu gets none of the stranger's text.
            looked_at = vmdk(window, folder)
        case "vmdk":
            looked_at = _both(window, lambda: vmdk(window, folder), "vmdk")
        case _:
            looked_at = _raw(window)
    return looked_at


def format_of(window: Window, found: tuple[str, ...], said: str | None) -> str:
    """The one format, of DISKS, that the content has; raise NotMigratable where there is none, or more, or not the said one."""
    name = window.name
    formats = set(found)
    if "vhd" in formats and not window.read(0, 8).startswith(b"conectix"):
        formats.discard("gpt")  # a fixed VHD is a raw disk with a footer, so both claim it, rightly
    if "luks" in formats:
        text = f"{name}: all of it is LUKS-encrypted"
        raise NotMigratable(
            name, [Reason(Code.ENCRYPTED, text, "Give the disk that holds the partitions, or decrypt it.")]
        )
    if formats == {"iso", "gpt"}:
        # Installation media have a partition table for USB sticks.
        raise NotMigratable(name, [_unsupported(name, "iso")])
    if len(formats) > 1:
        text = f"{name}: more than one format claims it: {', '.join(_words(each) for each in sorted(formats))}"
        raise NotMigratable(name, [Reason(Code.SEVERAL_FORMATS, text, "Convert it anew from its source.")])
    if not formats:
        if said == "raw":
            return "raw"
        text = f"{name}: no known disk format, and no boot signature of a raw disk"
        remedy = "If it is a raw disk, say so: --format raw. If it is one partition, give the whole disk."
        raise NotMigratable(name, [Reason(Code.UNKNOWN_FORMAT, text, remedy)])
    (only,) = formats
    form = "raw" if only == "gpt" else only
    if form not in DISKS:
        raise NotMigratable(name, [_unsupported(name, form)])
    if said not in (None, form):
        text = f"{name}: {said} was said, but by its content it is {form}"
        raise NotMigratable(name, [Reason(Code.OTHER_FORMAT, text, "Leave out --format.")])
    return form


def _both(window: Window, ours: Callable[[], Image], name: str) -> Image:
    """Our look and oslo's safety check must both find it sound. Ours speaks first: it says what to do."""
    looked_at = ours()
    why = unsafe(window, name)
    if why is not None:
        text = f"{window.name}: it is not a safe {name} file: {why}"
        raise NotMigratable(window.name, [Reason(Code.DAMAGED, text, f"Make it anew: qemu-img convert -O {name}.")])
    return looked_at


def _raw(window: Window) -> Image:
    """A raw disk. oslo's check of its partition table is not asked: it refuses hybrid tables, and qemu reads none of it."""
    size = whole_sectors(window.size)
    reasons = wrong_size(window.name, size)
    if reasons:
        raise NotMigratable(window.name, reasons)
    return Image(window.name, "raw", size, raw_node(window))


def _unsupported(name: str, form: str) -> Reason:
    if form in PACKED:
        return Reason(Code.UNSUPPORTED_FORMAT, f"{name}: it is packed with {form}", "Unpack it first.")
    if form in ("COWD", "seSparse"):
        remedy = "Delete the snapshots of the VM (consolidate) and export it again."
        return Reason(Code.HAS_PARENT, f"{name}: it is a {_words(form)}", remedy)
    remedy = "Give a disk as VMDK, VHD, VHDX, qcow2 or raw."
    if form in ("vdi", "qed", "parallels"):
        remedy = f"Convert it: qemu-img convert -f {form} -O qcow2."
    return Reason(Code.UNSUPPORTED_FORMAT, f"{name}: it is of the kind {_words(form)}, which is not read", remedy)


def _words(form: str) -> str:
    return WORDS.get(form, form)
