"""What the probe of KVM found not to work here, remembered until this machine starts anew: it takes four seconds to find out, before every migration.

Only a no is remembered. One that is out of date makes a migration slower, nothing else; one yes that is would break it, and to ask takes 0.4 s.
"""

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

from platformdirs import user_cache_path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""Another one after each start. Source: random(4)."""


def remembered(device: Path) -> str | None:
    """Return why KVM did not work; None where that is not known, or was found under another start, device or QEMU."""
    with suppress(OSError, ValueError, LookupError, TypeError, RuntimeError):
        known = json.loads(_place().read_bytes())
        if known["of"] == _circumstances(device):
            return str(known["why"])
    return None


def remember(device: Path, why: str | None) -> None:
    """The next one to ask is told why it does not work; None, that it does, forgets what was known.

    On a machine that is too busy to be believed nothing is remembered, nor where there is no place for it.
    """
    with suppress(OSError, RuntimeError):
        if why is None or os.getloadavg()[0] > len(os.sched_getaffinity(0)):
            _place().unlink(missing_ok=True)
            return
        text = json.dumps({"of": _circumstances(device), "why": why})
        place = _place()
        place.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile("w", dir=place.parent, delete=False) as draft:
            draft.write(text)
        Path(draft.name).replace(place)


def _place() -> Path:
    """Where this user's caches lie."""
    return user_cache_path("magalu-migrate") / "kvm.json"


def _circumstances(device: Path) -> list[object]:
    """A module of the kernel that is loaded anew makes the device anew; a QEMU that is updated may do better."""
    qemu = shutil.which("qemu-system-x86_64")
    seen = [path.stat() for path in (device, Path(qemu) if qemu else device)]
    return [BOOT_ID.read_text().strip(), *([each.st_ino, each.st_ctime_ns] for each in seen)]
