"""Which formats claim a file by its content, and whether oslo's inspectors call it safe.

The formats are recognised by oslo.utils' format_inspector, which OpenStack's Glance, Nova and Cinder decide by since
CVE-2024-32498; the rest (archives, fixed VHD, whose only mark is in the last sector) by the signatures below.
"""

import logging
import struct

from oslo_utils.imageutils import format_inspector
from oslo_utils.imageutils.format_inspector import FileInspector, ImageFormatError, SafetyCheckFailed

from adapters.files import vhd, vmdk
from adapters.files.opened import Window
from adapters.files.printable import printable

HEAD = 2 << 20
"""Bytes that are shown to the inspectors: all their marks lie in the first 33 KiB, a VMDK's text in the first MiB."""

TAIL = 1536
"""Bytes: a VMDK's footer and the two markers around it."""

INSPECTED = ("qcow2", "vhd", "vhdx", "vmdk", "vdi", "qed", "iso", "gpt", "luks")

SIGNATURES = (
    ("tar", 257, b"ustar"),
    ("gzip", 0, b"\x1f\x8b\x08"),
    ("bzip2", 0, b"BZh"),
    ("xz", 0, b"\xfd7zXZ\0"),
    ("zstd", 0, b"\x28\xb5\x2f\xfd"),
    ("lz4", 0, b"\x04\x22\x4d\x18"),
    ("zip", 0, b"PK\x03\x04"),
    ("7z", 0, b"7z\xbc\xaf\x27\x1c"),
    ("rar", 0, b"Rar!\x1a\x07"),
    ("COWD", 0, b"COWD"),
    ("seSparse", 0, b"\xbe\xba\xfe\xca\0\0\0\0"),
    ("parallels", 0, b"WithoutFreeSpace"),
    ("parallels", 0, b"WithouFreSpacExt"),
    ("OVF", 0, b"<?xml"),
    ("OVF", 0, b"\xef\xbb\xbf<?xml"),
    ("OVF", 0, b"<\0?\0x\0m\0l\0"),
    ("OVF", 0, b"\xff\xfe<\0?\0x\0m\0l\0"),
    ("OVF", 0, b"<Envelope"),
)

STUMBLES = (ImageFormatError, struct.error, LookupError, ValueError, TypeError, AttributeError, RuntimeError)
"""What an inspector ends with on a file that was made to make it end: besides its own error, those of the parsing in it."""

# Without any handler Python prints oslo's warnings on stderr, with a stranger's text in them; the reasons are in our refusals.
logging.getLogger(format_inspector.__name__).addHandler(logging.NullHandler())


def claims(window: Window) -> tuple[str, ...]:
    """The names of the formats that claim the file, in order of the alphabet; "gpt" stands for an MBR too."""
    head = window.read(0, HEAD)
    found = {name for name, offset, mark in SIGNATURES if head[offset : offset + len(mark)] == mark}
    found |= {name for name in INSPECTED if _matches(name, head)}
    if vmdk.is_text(window):
        found.add("vmdk")
    if vhd.footer(window) is not None:
        found.add("vhd")
    return tuple(sorted(found))


def unsafe(window: Window, name: str) -> str | None:
    """Why oslo's inspector of this format calls the file unsafe, None where it does not."""
    inspector = _inspector(name)
    head = window.read(0, HEAD)
    try:
        inspector.eat_chunk(head)
        # A VMDK with a footer is judged by its last sectors too. What lies between is not looked at, so it is left out.
        rest = min(TAIL, window.size - len(head))
        if rest > 0:
            inspector.eat_chunk(window.read(window.size - rest, rest))
        inspector.finish()
        inspector.safety_check()
    except SafetyCheckFailed as failed:
        return "; ".join(printable(str(failure)) for failure in failed.failures.values())
    except STUMBLES as error:
        return printable(str(error) or type(error).__name__)
    return None


def _matches(name: str, head: bytes) -> bool:
    inspector = _inspector(name)
    try:
        inspector.eat_chunk(head)
        inspector.finish()
    except STUMBLES:
        pass  # a mark that is there counts, whatever is wrong behind it
    try:
        return inspector.format_match
    except STUMBLES:
        return False


def _inspector(name: str) -> FileInspector:
    inspector = format_inspector.get_inspector(name)
    if inspector is None:
        raise LookupError(f"oslo.utils has no inspector {name}")
    return inspector()
