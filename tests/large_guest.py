"""A Debian on 100 GiB of which 1 GiB is used: the disk whose preview must not read it whole."""

import os
from pathlib import Path

from fixtures.machines import built
from tests.guest_disks import sh

GIB = 1 << 30
SIZE = 100 * GIB
USED = GIB
START = 2 << 20
"""Where debian12-cloud's root begins, its last partition. Source: fixtures/machines/debian12_cloud.py."""


def large_guest(folder: Path) -> Path:
    """Return a sparse raw disk: debian12-cloud's, its root grown over the whole disk and filled up to USED."""
    folder.mkdir(exist_ok=True)
    disk, filler = folder / "large.raw", folder / "filler"
    sh("cp", "--sparse=always", built("debian12-cloud", format="raw"), disk)
    os.truncate(disk, SIZE)
    root = f"{disk}?offset={START}"  # libext2fs reads it so: no loop device, no copy
    sh("e2fsck", "-f", "-p", root)
    sh("resize2fs", root, f"{(SIZE - 2 * START) >> 10}K")
    os.truncate(disk, SIZE)  # resize2fs cuts a file off
    sh("sfdisk", "--quiet", "--relocate", "gpt-bak-std", disk)
    sh("sfdisk", "--quiet", "--partno", "2", "--no-reread", disk, given=",+\n")
    filler.write_bytes(os.urandom(USED - disk.stat().st_blocks * 512))
    sh("debugfs", "-w", "-R", f"write {filler} /srv/filler", root)
    filler.unlink()
    return disk
