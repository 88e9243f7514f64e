"""What a VM is: its system, firmware, disks, file systems, cards and kernels, for people and as JSON values."""

from collections.abc import Iterator

from migrate.lines import Line
from migrate.preview.preview import Preview, head
from migrate.preview.values import guest_json
from migrate.text import shown, size


def inventory(preview: Preview) -> Iterator[Line]:
    """Yield what a VM is, one fact a line."""
    yield Line(head(preview), "bold")
    yield Line()
    vm = preview.vm
    facts = [
        ("system", f"{preview.os.pretty or preview.os.id} ({preview.os.arch})"),
        ("kernels", ", ".join(preview.kernels) or "none found"),
        ("firmware", preview.layout.firmware.value.upper()),
        ("processors", str(vm.vcpus or "not said")),
        ("memory", size(vm.memory_bytes) if vm.memory_bytes else "not said"),
        ("cards", ", ".join(f"{nic.name} {nic.mac or ''}".strip() for nic in vm.nics) or "not said"),
        ("disks", ", ".join(f"{disk.name} {size(disk.size)} {disk.format}" for disk in vm.disks)),
        ("partitions", {"dos": "MBR", "gpt": "GPT"}.get(preview.layout.table, preview.layout.table)),
    ]
    for name, text in facts:
        yield Line(f"  {name:<11} {shown(text)}")
    for fs in preview.layout.filesystems:
        place = f"on {fs.mountpoint}" if fs.mountpoint and fs.type != "swap" else ""
        words = [fs.device, fs.type, size(fs.size), place, fs.uuid or ""]
        yield Line(shown(f"  {'':<11} {words[0]:<22} {words[1]:<8} {words[2]:>9}  {words[3]:<14} {words[4]}").rstrip())
    if preview.login:
        yield Line(f"  {'login':<11} {shown(preview.login)}")


def inventory_json(preview: Preview) -> dict[str, object]:
    """Return what a VM is as JSON values."""
    vm = preview.vm
    return guest_json(preview) | {
        "vcpus": vm.vcpus,
        "memory_bytes": vm.memory_bytes,
        "nics": [{"name": nic.name, "mac": nic.mac} for nic in vm.nics],
        "disks": [{"name": disk.name, "bytes": disk.size, "format": disk.format} for disk in vm.disks],
    }
