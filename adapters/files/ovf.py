"""An OVF descriptor: one virtual machine's hardware, and the files of its disks. Text in, values out.

Read are VMware's, VirtualBox's and the plain dialect, versions 1.x and 2.x; names are compared without their namespaces, which the
dialects use differently. Source: DMTF DSP0243 1.1.0 and 2.1.1; resource types of CIM_ResourceAllocationSettingData.
"""

import re
from dataclasses import dataclass
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException, ElementTree

from adapters.files.printable import printable
from adapters.files.refusals import Code
from migrate.errors import NotMigratable, Reason
from migrate.source import Firmware, Nic

LARGEST = 1 << 20
"""Bytes. Descriptors of vSphere have some 10 KiB, those of appliances with licences some 100. Each may take 100 times that in memory."""

MOST_DISKS = 256
"""vSphere ends there."""

DEEPEST = 100
"""Levels of elements; the standard's own need 7."""

CPU, MEMORY, NIC, DISK = 3, 4, 10, 17

MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
BOOT_ORDER = "BootOrderSection"
EXPORT = "Export the VM again, as one OVA or OVF."


@dataclass(frozen=True, slots=True)
class OvfDisk:
    """A disk with content. `href` is the file as the descriptor names it, unchecked; `capacity` in bytes, None where not told."""

    href: str
    capacity: int | None


@dataclass(frozen=True, slots=True)
class Ovf:
    """What a descriptor tells of its one virtual machine; disks in boot order. `empty` are disks that have no file."""

    name: str | None
    origin: str
    disks: tuple[OvfDisk, ...]
    empty: int
    firmware: Firmware | None
    vcpus: int | None
    memory_bytes: int | None
    nics: tuple[Nic, ...]
    os_hint: str | None


def ovf(data: bytes, subject: str) -> Ovf:
    """Read a descriptor; raise NotMigratable with every reason why its VM cannot be moved."""
    envelope = _envelope(data, subject)
    systems = [each for each in envelope.iter() if _tag(each) == "VirtualSystem"]
    if len(systems) != 1:
        names = ", ".join(printable(_name(each) or "?", 40) for each in systems[:20])
        text = f"{subject}: it describes {len(systems)} VMs{': ' if names else ''}{names}; one was wanted"
        raise NotMigratable(subject, [Reason(Code.NOT_ONE_VM, text, "Export each VM for itself.")])
    system = systems[0]
    hardware = _first(system, "VirtualHardwareSection")
    items = _items(hardware, _configuration(envelope)) if hardware is not None else []

    reasons: list[Reason] = []
    if _first(envelope, "EncryptionSection") is not None:
        reasons.append(Reason(Code.ENCRYPTED, f"{subject}: its files are encrypted (EncryptionSection)", EXPORT))
    disks, empty = _disks(envelope, system, items, subject, reasons)
    if not disks and not reasons:
        text = f"{subject}: its VM has no disk with content"
        reasons.append(Reason(Code.NO_DISK, text, "Export it with its disks."))
    if reasons:
        raise NotMigratable(subject, tuple(dict.fromkeys(reasons)))

    cpus = [_count(_text(item, "VirtualQuantity"), 4096) for item in items if _type(item) == CPU]
    memory = [_memory(item) for item in items if _type(item) == MEMORY]
    return Ovf(
        name=_name(system),
        origin="VirtualBox" if _first(system, "Machine") is not None else "VMware",
        disks=tuple(disks),
        empty=empty,
        firmware=_firmware(system),
        vcpus=cpus[-1] if cpus else None,
        memory_bytes=memory[-1] if memory else None,
        nics=_nics(system, items),
        os_hint=_os_hint(system),
    )


def _envelope(data: bytes, subject: str) -> Element:
    problem = "it is empty"
    if len(data) > LARGEST:
        problem = f"it has more than {LARGEST} bytes"
    elif data:
        try:
            envelope: Element = ElementTree.fromstring(data, forbid_dtd=True)
        except DefusedXmlException:
            problem = (
                "it has a document type declaration, which no OVF needs and which can name files and grow without end"
            )
        except (ParseError, ValueError, LookupError) as error:  # the latter two: an encoding that Python does not know
            problem = printable(str(error))
        else:
            if _tag(envelope) != "Envelope":
                problem = f"its root is {printable(_tag(envelope), 40)}, Envelope was wanted"
            elif _is_deeper(envelope, DEEPEST):
                problem = f"its elements are nested deeper than {DEEPEST} levels"
            else:
                return envelope
    raise NotMigratable(subject, [Reason(Code.BAD_OVF, f"{subject}: not an OVF descriptor: {problem}", EXPORT)])


def _is_deeper(envelope: Element, most: int) -> bool:
    level = [envelope]
    for _ in range(most):
        level = [child for element in level for child in element]
        if not level:
            return False
    return True


def _disks(
    envelope: Element, system: Element, items: list[Element], subject: str, reasons: list[Reason]
) -> tuple[list[OvfDisk], int]:
    """The disks that the hardware has, in boot order, and how many have no file; without hardware, all disks in their order."""
    files = {_attribute(each, "id") or "": each for each in _children(_first(envelope, "References"), "File")}
    section = _first(envelope, "DiskSection")
    told = {_attribute(each, "diskId") or "": each for each in _children(section, "Disk")}
    ids = _disk_ids(system, items)
    disks: list[OvfDisk] = []
    empty = 0
    if len(ids or told) > MOST_DISKS:
        text = f"{subject}: it tells of {len(ids or told)} disks, at most {MOST_DISKS} are read"
        reasons.append(Reason(Code.BAD_OVF, text, EXPORT))
        return disks, empty
    for id_ in ids or list(told):
        disk = told.get(id_)
        if disk is None:
            text = f'{subject}: its hardware names the disk "{printable(id_, 60)}", its DiskSection does not'
            reasons.append(Reason(Code.MISSING, text, EXPORT))
            continue
        if _attribute(disk, "parentRef"):
            text = f'{subject}: the disk "{printable(id_, 60)}" is a difference of another'
            reasons.append(Reason(Code.HAS_PARENT, text, "Delete the VM's snapshots and export it again."))
        capacity, problem = _capacity(disk)
        if problem:
            text = f'{subject}: the disk "{printable(id_, 60)}" has a capacity of {problem}'
            reasons.append(Reason(Code.SIZE, text, EXPORT))
        reference = _attribute(disk, "fileRef")
        if not reference:
            empty += 1
            continue
        file = files.get(reference)
        href = _attribute(file, "href") if file is not None else None
        if file is None or not href:
            text = f'{subject}: the disk "{printable(id_, 60)}" names a file that its References do not'
            reasons.append(Reason(Code.MISSING, text, EXPORT))
            continue
        compression = (_attribute(file, "compression") or "identity").lower()
        if compression not in ("identity", ""):
            text = f"{subject}: {printable(href)} is compressed ({printable(compression, 20)})"
            reasons.append(
                Reason(Code.COMPRESSED, text, "Unpack it, export without compression (ovftool without --compress).")
            )
        if _attribute(file, "chunkSize"):
            text = f"{subject}: {printable(href)} is split into chunks"
            reasons.append(Reason(Code.COMPRESSED, text, "Export it unsplit (ovftool without --chunkSize)."))
        disks.append(OvfDisk(href, capacity))
    return disks, empty


def _disk_ids(system: Element, items: list[Element]) -> list[str]:
    """The disks' ids in the order in which the firmware tries them.

    VMware's own BootOrderSection comes first; then the controllers in the order in which they are told, those of one kind by their
    address, and the disks by their address on them.
    """
    orders = [each for each in system.iter() if _tag(each) == BOOT_ORDER and _attribute(each, "type") == "disk"]
    first = {_attribute(each, "instanceId"): place for place, each in enumerate(orders)}
    instances = {_text(item, "InstanceID"): item for item in items}
    kinds = {kind: place for place, kind in enumerate(dict.fromkeys(_type(item) for item in items))}
    found: list[tuple[tuple[int, int, int, int], str]] = []
    for item in items:
        match = re.fullmatch(r"(?:ovf:)?/disk/(.+)", _text(item, "HostResource") or "", re.DOTALL)
        if _type(item) != DISK or match is None:
            continue
        own = _text(item, "InstanceID")
        controller = instances.get(_text(item, "Parent"))
        place = (
            first.get(own, len(first)),
            kinds[_type(controller)] if controller is not None else len(kinds),
            _count(_text(controller, "Address"), 1 << 20) or 0,
            _count(_text(item, "AddressOnParent"), 1 << 20) or 0,
        )
        found.append((place, match[1]))
    return list(dict.fromkeys(id_ for _, id_ in sorted(found, key=lambda each: each[0])))


def _capacity(disk: Element) -> tuple[int | None, str | None]:
    """The capacity in bytes, or what is wrong with it. A reference to a property (`${size}`) tells nothing."""
    text = (_attribute(disk, "capacity") or "").strip()
    if not text or text.startswith("${"):
        return None, None
    number, unit = _count(text, 1 << 63), _unit(_attribute(disk, "capacityAllocationUnits") or "byte")
    if number is None:
        return None, f'"{printable(text, 40)}"'
    return (number * unit if unit else None), None


def _memory(item: Element) -> int | None:
    """Bytes. The standard's unit where none is told is the mebibyte: DSP0243 1.1.0, annex; VirtualBox writes "MegaBytes"."""
    number = _count(_text(item, "VirtualQuantity"), 1 << 40)
    unit = _unit(_text(item, "AllocationUnits") or "byte * 2^20")
    return number * unit if number and unit else None


def _unit(text: str) -> int | None:
    """Bytes of a programmatic unit (DSP0004, annex C), or of the words that VirtualBox writes."""
    words = {
        "byte": 1,
        "bytes": 1,
        "kilobytes": 1 << 10,
        "megabytes": 1 << 20,
        "gigabytes": 1 << 30,
        "mb": 1 << 20,
        "gb": 1 << 30,
    }
    plain = text.strip().lower()
    if match := re.fullmatch(r"bytes?\s*\*\s*(2|10)\s*\^\s*(\d{1,2})", plain):
        power: int = pow(int(match[1]), int(match[2]))
        return power
    return words.get(plain)


def _nics(system: Element, items: list[Element]) -> tuple[Nic, ...]:
    """Cards with the MAC of the hardware item, or of VirtualBox's own section, which tells them in the same order."""
    boxes = [
        _attribute(each, "MACAddress")
        for each in system.iter()
        if _tag(each) == "Adapter" and (_attribute(each, "enabled") or "true") == "true"
    ]
    found: list[Nic] = []
    for item in items:
        if _type(item) != NIC:
            continue
        name = printable(_text(item, "ElementName") or _text(item, "Caption") or f"card {len(found) + 1}", 80)
        box = boxes[len(found)] if len(found) < len(boxes) else None
        found.append(Nic(name, _mac(_text(item, "Address")) or _mac(box)))
    return tuple(found)


def _mac(text: str | None) -> str | None:
    plain = (text or "").strip().lower().replace("-", ":")
    if re.fullmatch(r"[0-9a-f]{12}", plain):
        plain = ":".join(plain[i : i + 2] for i in range(0, 12, 2))
    return plain if MAC.fullmatch(plain) else None


def _firmware(system: Element) -> Firmware | None:
    """vSphere tells it as a Config, VirtualBox in its own section; neither of them always."""
    for each in system.iter():
        said = None
        if _tag(each) == "Config" and _attribute(each, "key") == "firmware":
            said = _attribute(each, "value")
        elif _tag(each) == "Firmware":
            said = _attribute(each, "type")
        match (said or "").lower():
            case "efi" | "uefi" | "efi32" | "efi64" | "efidual":
                return Firmware.UEFI
            case "bios":
                return Firmware.BIOS
    return None


def _os_hint(system: Element) -> str | None:
    section = _first(system, "OperatingSystemSection")
    if section is None:
        return None
    said = _text(section, "Description") or _attribute(section, "osType")
    return printable(said, 80) if said else None


def _configuration(envelope: Element) -> str | None:
    """The deployment option in force where nobody chooses: the one marked as default, else the first."""
    options = _children(_first(envelope, "DeploymentOptionSection"), "Configuration")
    marked = [each for each in options if _attribute(each, "default") in ("true", "1")]
    chosen = (marked or options)[:1]
    return _attribute(chosen[0], "id") if chosen else None


def _items(hardware: Element, configuration: str | None) -> list[Element]:
    """The hardware items in force: without those of other deployment options, and those that only tell bounds."""
    found: list[Element] = []
    for item in hardware:
        if _tag(item) not in ("Item", "StorageItem", "EthernetPortItem") or _attribute(item, "bound"):
            continue
        options = (_attribute(item, "configuration") or "").split()
        if not options or configuration in options:
            found.append(item)
    return found


def _name(system: Element) -> str | None:
    said = _text(system, "Name") or _attribute(system, "id")
    return printable(said, 80) if said else None


def _type(item: Element) -> int | None:
    return _count(_text(item, "ResourceType"), 1 << 16)


def _count(text: str | None, most: int) -> int | None:
    """The number, None where it is not one from 0 to `most`."""
    plain = (text or "").strip()
    if not re.fullmatch(r"[0-9]{1,19}", plain):
        return None
    number = int(plain)
    return number if number <= most else None


def _tag(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _attribute(element: Element, name: str) -> str | None:
    for key, value in element.attrib.items():
        if key.rpartition("}")[2] == name:
            return value
    return None


def _children(element: Element | None, tag: str) -> list[Element]:
    return [child for child in element if _tag(child) == tag] if element is not None else []


def _first(element: Element, tag: str) -> Element | None:
    return next((each for each in element.iter() if _tag(each) == tag), None)


def _text(element: Element | None, tag: str) -> str | None:
    """The text of a child, None where there is none, or only blanks."""
    for child in _children(element, tag):
        text = (child.text or "").strip()
        if text:
            return text
    return None
