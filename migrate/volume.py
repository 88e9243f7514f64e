"""How an object that holds a data disk becomes a volume of Magalu Cloud: the commands, to be typed by whoever has the instance.

There is no import of volumes: a new one is empty, or made of a volume's snapshot. So an instance copies the disk into an empty volume, and says
whether it is the same. It fetches the whole object first: what reads a disk over HTTP in place (nbdkit's curl plugin, qemu's curl driver) begins
with HEAD, and an address that is signed for GET answers that with 403. Sources: the mgc CLI's manual of block-storage volumes create and attach,
object-storage objects presign and delete (v0.63); Magalu's block-storage API, POST /v1/volumes; qemu-img(1), convert -n.
"""

import re
import shlex
from dataclasses import dataclass

from migrate.block_map import CHUNK
from migrate.text import size

GIB = 1 << 30
LEAST_GIB = 10
LONGEST_NAME = 50
VOLUME_TYPE = "cloud_nvme1k"
HOURS = 24

HERE, THERE = "here", "on the instance, as root"

DIGEST = (
    "import hashlib,sys;w=hashlib.sha256();"
    f'[w.update(hashlib.sha256(c).digest())for c in iter(lambda:sys.stdin.buffer.read({CHUNK}),b"")];print(w.hexdigest())'
)
"""What migrate.block_map calls a disk's digest, in Python's own words: cloud-init, and with it Python 3, is on every instance."""


@dataclass(frozen=True, slots=True)
class Step:
    """What is done `where`, and the commands for it. Words in capitals are to be filled in."""

    where: str
    what: str
    commands: tuple[str, ...]


def volume_steps(
    bucket: str, key: str, stored_bytes: int, virtual_bytes: int, disk_sha256: str, region: str | None = None
) -> tuple[Step, ...]:
    """Return the way of a stored disk into a volume that an instance has attached, and its check, in order."""
    place = shlex.quote(f"{bucket}/{key}")
    there = f" --region {shlex.quote(region)}" if region else ""
    name = re.sub(r"[^A-Za-z0-9_-]", "-", key.removesuffix(".qcow2"))[-LONGEST_NAME:]
    file = shlex.quote(f"/var/tmp/{key}")  # noqa: S108  on an instance, by its root
    gib = max(LEAST_GIB, -(-virtual_bytes // GIB))
    return (
        Step(
            HERE,
            "make an empty volume in the instance's zone, attach it, and sign an address that reads the object for a day",
            (
                f"mgc block-storage volumes create{there} --name {name} --size {gib} --type.name {VOLUME_TYPE} --availability-zone ZONE",
                f"mgc block-storage volumes attach{there} --id VOLUME --virtual-machine-id INSTANCE",
                f"mgc object-storage objects presign{there} --raw --dst {place} --expires-in {HOURS}h",
            ),
        ),
        Step(
            THERE,
            f"copy the disk; it takes {size(stored_bytes)} in /var/tmp meanwhile, and qemu-img (package qemu-utils on Debian and Ubuntu, qemu-img on RHEL, "
            f"qemu-tools on SUSE). Which is the empty disk of {gib} GiB, lsblk shows: /dev/vdb if it is the first",
            (
                "URL='ADDRESS'",
                "DEVICE=/dev/vdb",
                f'curl --fail --retry 10 --continue-at - --output {file} "$URL"',
                f'qemu-img convert -p -n -f qcow2 -O raw {file} "$DEVICE"',
                f"rm {file}",
            ),
        ),
        Step(
            THERE,
            f"see that it is the same: this prints {disk_sha256}",
            (f"head -c {virtual_bytes} \"$DEVICE\" | python3 -c '{DIGEST}'",),
        ),
        Step(THERE, "mount what fstab names", ("systemctl daemon-reload", "mount -a", "swapon -a")),
        Step(HERE, "the object is not needed any more", (f"mgc object-storage objects delete{there} --dst {place}",)),
    )
