"""Whatever is in a file, looking at it ends with an answer or with an error of ours, and soon."""

import functools
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from xml.sax.saxutils import quoteattr

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adapters.files.examine import image
from adapters.files.image import LARGEST
from adapters.files.manifest import manifest
from adapters.files.opened import Folder, folder, whole
from adapters.files.ova import members
from adapters.files.ovf import ovf
from adapters.files.printable import printable
from adapters.files.token import read_token
from adapters.files.vmdk import descriptor
from migrate.errors import MigrateError, NotMigratable
from tests import file_samples as samples

MARKS = (
    b"QFI\xfb",
    b"KDMV",
    b"conectix",
    b"vhdxfile",
    b"# Disk DescriptorFile\n",
    b"<?xml version='1.0'?><Envelope>",
    b"LUKS\xba\xbe",
)
WORDS = (
    "RW",
    "NOACCESS",
    "63",
    "FLAT",
    "SPARSE",
    "ZERO",
    '"disk.raw"',
    '"/etc/passwd"',
    "0",
    "-1",
    "99999999999999999999",
    "\x1b[2J",
    "\0",
)


def looked_at(content: bytes, look: Callable[[Folder], object]) -> None:
    """Let `look` see the content as the file `x` of a folder; only errors of ours may come of it."""
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "x").write_bytes(content)
        with folder(Path(place)) as beside, suppress(MigrateError):
            look(beside)


@functools.cache
def sound(kind: str) -> bytes:
    """A small sound file of each format, cached: the tests change a copy."""
    with tempfile.TemporaryDirectory() as place:
        content = samples.disk_bytes(1 << 20)
        if kind == "ova":
            path = samples.ova(Path(place))
        elif kind == "stream":
            path = samples.vmware_stream(Path(place), content=content)
        else:
            options = ("subformat=fixed",) if kind == "fixed" else ()
            path = samples.converted(Path(place), "vpc" if kind == "fixed" else kind, "disk", *options, content=content)
        return path.read_bytes()


def an_image(beside: Folder) -> None:
    found = image(whole(beside.file("x")), beside)
    assert 0 < found.size <= LARGEST
    assert found.size % 512 == 0 or found.format in ("qcow2", "vhdx")


@settings(deadline=None)
@given(st.sampled_from(MARKS), st.binary(max_size=4096))
def test_any_bytes_behind_any_mark_are_looked_at(mark: bytes, rest: bytes) -> None:
    looked_at(mark + rest, an_image)


@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("kind", ["vmdk", "stream", "qcow2", "vpc", "fixed", "vhdx"])
@given(data=st.data())
def test_a_changed_image_is_looked_at(kind: str, data: st.DataObject) -> None:
    content = bytearray(sound(kind))
    places = st.one_of(
        st.integers(0, 2047), st.integers(len(content) - 2048, len(content) - 1), st.integers(0, len(content) - 1)
    )
    for place, value in data.draw(
        st.lists(st.tuples(places, st.binary(min_size=1, max_size=8)), min_size=1, max_size=6)
    ):
        content[place : place + len(value)] = value
    end = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))
    looked_at(bytes(content[:end]), an_image)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_changed_archive_is_looked_at(data: st.DataObject) -> None:
    content = bytearray(sound("ova"))
    headers = st.builds(lambda start, within: start + within, st.sampled_from((0, 2048)), st.integers(0, 511))
    places = st.one_of(headers, st.integers(0, len(content) - 1))
    for place, value in data.draw(st.lists(st.tuples(places, st.binary(min_size=1, max_size=12)), max_size=6)):
        content[place : place + len(value)] = value
    if data.draw(st.booleans()):  # let changes of the first header through
        content[148:156] = b"%06o\0 " % (sum(content[:148]) + 8 * 32 + sum(content[156:512]))
    end = data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))

    def within(beside: Folder) -> None:
        for window in members(beside.file("x")):
            assert 0 <= window.offset <= window.offset + window.size <= end

    looked_at(bytes(content[:end]), within)


@settings(deadline=None)
@given(
    st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=8)), max_size=12),
    st.sampled_from((" ", "\n", "=", " = ")),
)
@example(["a"] + [" "] * 10, "")
def test_any_descriptor_is_read_or_refused(words: list[str], between: str) -> None:
    text = samples.descriptor(between.join(words)).encode("utf-8", "surrogatepass")
    for candidate in (text, between.join(words).encode("utf-8", "surrogatepass")):
        try:
            found = descriptor(candidate, "x")
        except NotMigratable as refused:
            assert all(reason.text.isprintable() for reason in refused.reasons)
        else:
            assert found.extents and all(0 < extent.sectors <= LARGEST // 512 for extent in found.extents)


@settings(deadline=None)
@given(st.binary(max_size=512))
def test_any_bytes_are_a_descriptor_or_refused(content: bytes) -> None:
    with suppress(NotMigratable):
        descriptor(content, "x")


TAGS = ("References", "File", "DiskSection", "Disk", "VirtualSystem", "VirtualHardwareSection", "Item", "Name", "ResourceType",
        "HostResource", "VirtualQuantity", "AllocationUnits", "InstanceID", "Parent", "AddressOnParent", "Address", "Config")  # fmt: skip
VALUES = (
    "3",
    "4",
    "10",
    "17",
    "d0",
    "f0",
    "ovf:/disk/d0",
    "-1",
    "9" * 30,
    "²",
    "byte * 2^99",
    "${x}",
    "disk.raw",
    "\U0001f600",
    "",
)
ATTRIBUTES = (
    "id",
    "href",
    "diskId",
    "fileRef",
    "capacity",
    "capacityAllocationUnits",
    "compression",
    "key",
    "value",
    "bound",
)


def element(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    attributes = st.dictionaries(st.sampled_from(ATTRIBUTES), st.sampled_from(VALUES), max_size=4)
    return st.builds(_element, st.sampled_from(TAGS), attributes, st.lists(children, max_size=5))


def _element(tag: str, attributes: dict[str, str], inner: list[str]) -> str:
    return f"<{tag} {' '.join(f'{name}={quoteattr(value)}' for name, value in attributes.items())}>{''.join(inner)}</{tag}>"


@settings(deadline=None)
@given(st.lists(st.recursive(st.sampled_from(VALUES), element, max_leaves=30), max_size=5))
def test_any_ovf_is_read_or_refused(inner: list[str]) -> None:
    for extra in ("", samples.ovf_text("disk.raw").partition("<References>")[2].removesuffix("</Envelope>")):
        try:
            found = ovf(f"<Envelope xmlns:ovf='o' xmlns:rasd='r'>{extra}{''.join(inner)}</Envelope>".encode(), "x")
        except NotMigratable as refused:
            assert all(reason.text.isprintable() for reason in refused.reasons)
        else:
            assert found.disks
            assert found.memory_bytes is None or found.memory_bytes > 0


@settings(deadline=None)
@given(st.binary(max_size=512))
def test_any_bytes_are_an_ovf_or_refused(content: bytes) -> None:
    with suppress(NotMigratable):
        ovf(content, "x")


@settings(deadline=None)
@given(st.one_of(st.binary(max_size=200), st.from_regex(rb"(SHA1|SHA256)? ?\(.*\) ?= ?[0-9a-f]{0,64}\n")))
def test_any_manifest_is_read_or_refused(content: bytes) -> None:
    with suppress(NotMigratable):
        manifest(content, "x")


@settings(deadline=None)
@given(st.text())
def test_any_token_is_read_or_refused(text: str) -> None:
    with suppress(MigrateError):
        read_token(text)


@settings(deadline=None)
@given(st.text(st.characters(), max_size=400))
def test_any_text_becomes_printable(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable() and len(shown) <= 161 * 10
    if text.isprintable() and len(text) <= 160:
        assert shown == text
