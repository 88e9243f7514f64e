"""What will be done to a VM, and what it is."""

from dataclasses import dataclass

from migrate.effects import Changes
from migrate.guest import Layout, Os
from migrate.source import Firmware, Vm
from migrate.text import shown, size


@dataclass(frozen=True, slots=True)
class Preview:
    """What will be done to a VM, and what it is. `login` is the user whom the key will admit; `kernels` newest last."""

    vm: Vm
    os: Os
    layout: Layout
    kernels: tuple[str, ...]
    login: str | None
    changes: Changes

    @property
    def can_go(self) -> bool:
        return not any(finding.forbids for finding in self.changes.findings)


def head(preview: Preview) -> str:
    parts = [
        preview.vm.name,
        preview.os.pretty or preview.os.id or "unknown system",
        "UEFI" if preview.layout.firmware is Firmware.UEFI else "BIOS",
        size(preview.layout.disk_size),
    ]
    if preview.kernels:
        parts.append(f"kernel {preview.kernels[-1]}")
    if preview.vm.origin != "file":
        parts.append(f"from {preview.vm.origin}")
    return shown(" · ".join(parts))
