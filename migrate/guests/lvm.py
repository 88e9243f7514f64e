"""Logical volumes, found without device-mapper: LVM's own text on a physical volume says where each lies.

`volumes` tells of those that lie in one piece on one physical volume, as installers make them: an offset is all that it takes to read one. `spread`
tells of those that grew, too. Stripes, mirrors and thin pools are left to the appliance, which has LVM. Sources: lvm2's lib/format_text/layout.h and lib/label/label.c; vgcfgbackup(8) for the text.
"""

import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from migrate.errors import GuestError

SECTOR = 512
LABEL_SECTORS = 4
MDA_MAGIC = b" LVM2 x[5A%r0N*>"
MOST_TEXT = 16 << 20
DEEPEST = 8

Value = int | float | str | list["Value"] | dict[str, "Value"]


@dataclass(frozen=True, slots=True)
class Volume:
    """A logical volume and where it lies in its physical volume, in bytes."""

    group: str
    name: str
    offset: int
    size: int

    @property
    def device(self) -> str:
        return f"/dev/{self.group}/{self.name}"


@dataclass(frozen=True, slots=True)
class Physical:
    """A physical volume as its group knows it: its UUID, the device that it was last, and its size in bytes."""

    uuid: str
    device: str
    size: int


@dataclass(frozen=True, slots=True)
class Group:
    name: str
    physical: tuple[Physical, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of a logical volume: which physical volume it lies on, and where there, in bytes."""

    physical: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Spread:
    """A logical volume in its pieces, in order."""

    group: str
    name: str
    pieces: tuple[Piece, ...]

    @property
    def device(self) -> str:
        return f"/dev/{self.group}/{self.name}"

    @property
    def size(self) -> int:
        return sum(piece.size for piece in self.pieces)


def spread(physical: Sequence[Callable[[int, int], bytes]]) -> tuple[Spread, ...]:
    """Return the volumes whose pieces follow one another and all lie on these physical volumes. Raise GuestError where metadata is broken.

    `physical` are functions that read them: offset and size in bytes.
    """
    numbers = {_uuid(read): number for number, read in enumerate(physical)}
    found: dict[str, dict[str, Value]] = {}
    for read in physical:
        for name, group in parsed(metadata(read) or "").items():
            if isinstance(group, dict):
                found[name] = group
    return tuple(volume for name, group in found.items() for volume in _spread(name, group, numbers))


def _spread(name: str, group: Mapping[str, Value], numbers: Mapping[str, int]) -> Iterator[Spread]:
    extent = _number(group, "extent_size") * SECTOR
    starts: dict[str, tuple[int, int]] = {}
    for own, values in _section(group, "physical_volumes").items():
        if isinstance(values, dict) and (number := numbers.get(str(values.get("id", "")).replace("-", ""))) is not None:
            starts[own] = (number, _number(values, "pe_start") * SECTOR)
    for volume, logical in _section(group, "logical_volumes").items():
        if isinstance(logical, dict) and "VISIBLE" in _texts(logical, "status"):
            pieces = [_piece(segment, starts, extent) for segment in _segments(logical)]
            whole = tuple(piece for piece in pieces if piece is not None)
            if whole and len(whole) == len(pieces):
                yield Spread(name, volume, whole)


def _piece(segment: Mapping[str, Value], starts: Mapping[str, tuple[int, int]], extent: int) -> Piece | None:
    match segment.get("type"), segment.get("stripe_count"), segment.get("stripes"):
        case "striped", 1, [str(own), int(first)] if own in starts:
            number, start = starts[own]
            return Piece(number, start + first * extent, _number(segment, "extent_count") * extent)
    return None


def _segments(logical: Mapping[str, Value]) -> list[dict[str, Value]]:
    """Return the segments of a volume in their order."""
    named = ((key, value) for key, value in logical.items() if re.fullmatch(r"segment\d+", key))
    return sorted(
        (value for _, value in named if isinstance(value, dict)), key=lambda each: _number(each, "start_extent")
    )


def _uuid(read: Callable[[int, int], bytes]) -> str:
    """Return the UUID of a physical volume: its header begins with it. Source: lib/format_text/layout.h, pv_header."""
    label = _label(read)
    (header,) = struct.unpack_from("<I", label, 20)
    return label[header : header + 32].decode("ascii", "replace")


def groups(read: Callable[[int, int], bytes]) -> tuple[Group, ...]:
    """Return the groups that a physical volume's metadata tells of, and which volumes they lie on. Raise GuestError where it is broken."""
    text = metadata(read)
    found = parsed(text) if text is not None else {}
    return tuple(
        Group(name, tuple(_physical(values) for values in _section(group, "physical_volumes").values()))
        for name, group in found.items()
        if isinstance(group, dict)
    )


def _physical(values: Value) -> Physical:
    if not isinstance(values, dict):
        raise GuestError("the LVM metadata of the guest is broken: a physical volume is no section")
    sectors = values.get("dev_size")
    return Physical(
        str(values.get("id", "")), str(values.get("device", "?")), (sectors if isinstance(sectors, int) else 0) * SECTOR
    )


def volumes(read: Callable[[int, int], bytes]) -> tuple[Volume, ...]:
    """Return the readable volumes of a physical volume; `read(offset, size)` reads it. Raise GuestError where its metadata is broken."""
    text = metadata(read)
    if text is None:
        return ()
    groups = parsed(text)
    return tuple(
        volume for name, group in groups.items() if isinstance(group, dict) for volume in _volumes(name, group)
    )


def metadata(read: Callable[[int, int], bytes]) -> str | None:
    """Return the newest text on a physical volume; None where it holds none (another one of its group does)."""
    label = _label(read)
    (header,) = struct.unpack_from("<I", label, 20)
    areas = _locations(label, header + 40)  # behind the volume's id and size
    _, after = areas
    metadata_areas, _ = _locations(label, after)
    for offset, size in metadata_areas:
        if (text := _area(read, offset, size)) is not None:
            return text
    return None


def _label(read: Callable[[int, int], bytes]) -> bytes:
    labels = read(0, LABEL_SECTORS * SECTOR)
    for at in range(0, len(labels), SECTOR):
        label = labels[at : at + SECTOR]
        if label[:8] == b"LABELONE" and label[24:32] == b"LVM2 001":
            return label
    raise GuestError("a partition that says it is an LVM physical volume has no label")


def _locations(label: bytes, at: int) -> tuple[list[tuple[int, int]], int]:
    """Read a list of (offset, size) that ends with zeros, and say where it ends."""
    found = []
    while at + 16 <= len(label):
        offset, size = struct.unpack_from("<QQ", label, at)
        at += 16
        if not offset:
            break
        found.append((offset, size))
    return found, at


def _area(read: Callable[[int, int], bytes], offset: int, size: int) -> str | None:
    header = read(offset, SECTOR)
    if header[4:20] != MDA_MAGIC:
        raise GuestError("the LVM metadata of the guest is broken: its area has no magic")
    at, length = struct.unpack_from("<QQ", header, 40)
    if not at:
        return None
    if length > min(size, MOST_TEXT):
        raise GuestError(f"the LVM metadata of the guest claims {length:,} bytes")
    # The area is a ring; its first sector is the header.
    first = min(length, size - at)
    text = read(offset + at, first) + (read(offset + SECTOR, length - first) if first < length else b"")
    return text.rstrip(b"\0").decode("utf-8", "replace")


def _volumes(group: str, values: Mapping[str, Value]) -> Iterator[Volume]:
    extent = _number(values, "extent_size") * SECTOR
    physical = _section(values, "physical_volumes")
    if len(physical) != 1:
        return
    (only,) = physical.values()
    if not isinstance(only, dict):
        return
    start = _number(only, "pe_start") * SECTOR
    for name, logical in _section(values, "logical_volumes").items():
        if isinstance(logical, dict) and "VISIBLE" in _texts(logical, "status"):
            placed = _in_one_piece(_segments(logical))
            if placed is not None:
                yield Volume(group, name, start + placed[0] * extent, placed[1] * extent)


def _in_one_piece(segments: list[dict[str, Value]]) -> tuple[int, int] | None:
    """Return the first extent and the number of extents where all segments, in order, follow one another on the disk."""
    first = count = 0
    for number, segment in enumerate(segments):
        stripes = segment.get("stripes")
        if segment.get("type") != "striped" or segment.get("stripe_count") != 1 or not isinstance(stripes, list):
            return None
        place = stripes[1] if len(stripes) == 2 else None
        if not isinstance(place, int):
            return None
        if number == 0:
            first = place
        elif place != first + count:
            return None
        count += _number(segment, "extent_count")
    return (first, count) if count else None


def _section(values: Mapping[str, Value], name: str) -> dict[str, Value]:
    found = values.get(name)
    return found if isinstance(found, dict) else {}


def _number(values: Mapping[str, Value], name: str) -> int:
    found = values.get(name)
    if not isinstance(found, int):
        raise GuestError(f"the LVM metadata of the guest is broken: {name} is no number")
    return found


def _texts(values: Mapping[str, Value], name: str) -> list[Value]:
    found = values.get(name)
    return found if isinstance(found, list) else []


WORD = re.compile(r'"(?:[^"\\]|\\.)*"|#[^\n]*|[{}\[\],=]|[^\s{}\[\],="#]+')


def parsed(text: str) -> dict[str, Value]:
    """Read LVM's configuration text: `name { … }`, `name = value`, values being numbers, strings or lists. Source: lvm.conf(5)."""
    words = [word for word in WORD.findall(text) if not word.startswith("#")]
    words.reverse()
    return _values(words, 0)


def _values(words: list[str], depth: int) -> dict[str, Value]:
    if depth > DEEPEST:
        raise GuestError("the LVM metadata of the guest is nested too deep")
    found: dict[str, Value] = {}
    while words:
        name = words.pop()
        if name == "}":
            return found
        sign = words.pop() if words else ""
        if sign == "{":
            found[name] = _values(words, depth + 1)
        elif sign == "=":
            found[name] = _value(words)
        else:
            raise GuestError(f"the LVM metadata of the guest is broken at {name!r}")
    if depth:
        raise GuestError("the LVM metadata of the guest is cut off")
    return found


def _value(words: list[str]) -> Value:
    word = words.pop() if words else ""
    if word != "[":
        return _scalar(word)
    found: list[Value] = []
    while words and (word := words.pop()) != "]":
        if word != ",":
            found.append(_scalar(word))
    return found


def _scalar(word: str) -> Value:
    if word.startswith('"'):
        return re.sub(r"\\(.)", r"\1", word[1:-1])
    if re.fullmatch(r"-?\d+", word):
        return int(word)
    if re.fullmatch(r"-?\d+\.\d+", word):
        return float(word)
    raise GuestError(f"the LVM metadata of the guest is broken at {word!r}")
