"""A KVM that hangs here, remembered for an hour, and until this machine starts anew: it takes four seconds to find out, before every migration.

Nothing else is remembered. That KVM works, or that QEMU refuses it, is found out in half a second, and may have changed since.
"""

import json
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from tempfile import mkstemp

from platformdirs import user_cache_path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""Another one after each start. Source: random(4)."""
HOLDS_S = 3600


def remembered(device: Path) -> str | None:
    """Return why KVM hung; None where that is not known, was found under another start, device or QEMU, or is too long ago."""
    with suppress(OSError, ValueError, LookupError, TypeError, RuntimeError):
        known = json.loads(_place().read_bytes())
        if known["of"] == _circumstances(device) and 0 <= time.time() - known["at"] < HOLDS_S:
            return str(known["why"])
    return None


def remember(device: Path, why: str | None) -> None:
    """The next one to ask is told that it hangs, and how; None forgets what was known.

    On a machine that is too busy to be believed nothing is remembered, nor where there is no place for it.
    """
    with suppress(OSError, RuntimeError):
        if why is None or os.getloadavg()[0] > 2 * len(os.sched_getaffinity(0)):
            _place().unlink(missing_ok=True)
            return
        text = json.dumps({"of": _circumstances(device), "why": why, "at": time.time()})
        place = _place()
        place.parent.mkdir(parents=True, exist_ok=True)
        number, draft = mkstemp(dir=place.parent)  # others may write at the same time
        try:
            with os.fdopen(number, "w") as file:
                file.write(text)
            Path(draft).replace(place)
        finally:
            Path(draft).unlink(missing_ok=True)


def _place() -> Path:
    """Where this user's caches lie."""
    return user_cache_path("magalu-migrate") / "kvm.json"


def _circumstances(device: Path) -> list[object]:
    """A module of the kernel that is loaded anew makes the device anew; a QEMU that is updated may do better."""
    qemu = shutil.which("qemu-system-x86_64")
    seen = [path.stat() for path in (device, Path(qemu) if qemu else device)]
    return [BOOT_ID.read_text().strip(), *([each.st_ino, each.st_ctime_ns] for each in seen)]
