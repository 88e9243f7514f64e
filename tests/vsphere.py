"""Pieces of a vSphere for tests: a server of its own for each, sources on it, and VMs as its inventory would tell of them."""

import os
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from adapters.vmware import Options, VmwareSource, vmware_source
from adapters.vmware.machine import Backing, Machine, MachineDisk
from adapters.vmware.session import Pace
from fixtures.emulators.vcsim import Vcsim, vcsim
from migrate.address import parse
from migrate.ledger import Ledger
from migrate.run import Run
from migrate.source import Firmware, Nic
from tests.cloud import Notebook

QUICK = Pace(attempts=3, first_pause=0.02, longest_pause=0.05, timeout=10, poll=0.02)
VM = "DC0_H0_VM0"
NOISE = random.Random(7).randbytes(3 << 20) + bytes(1 << 20)  # noqa: S311
"""A disk whose stream is as long as it is: 3 MiB."""

DISK = MachineDisk(
    key=2000,
    label="Hard disk 1",
    size=1 << 30,
    file="[store] web/web.vmdk",
    backing=Backing.FLAT,
    mode="persistent",
    shared=False,
    bus_shared=False,
    encrypted=False,
    device="ParaVirtualSCSIController0:0",
)
SOUND = Machine(
    ref="vm-1",
    instance="50000000-0000-0000-0000-000000000001",
    name="web",
    path=("DC0", "vm", "shop", "web"),
    datacenter="DC0",
    power="poweredOn",
    connection="connected",
    template=False,
    guest_id="debian11_64Guest",
    guest_name="Debian GNU/Linux 11 (64-bit)",
    vcpus=2,
    memory_bytes=4 << 30,
    firmware=Firmware.BIOS,
    disks=(DISK,),
    nics=(Nic("Network adapter 1", "00:50:56:00:00:01"),),
    annotation="",
    attributes=(),
    tools_run=True,
    tracked=True,
    snapshots=(),
    encrypted=False,
    has_vtpm=False,
    fault_tolerance="notConfigured",
    takes_snapshots=True,
    datastores=("datastore-1",),
)
"""A VM that nothing speaks against."""


def at(*path: str) -> Machine:
    return replace(SOUND, path=path, name=path[-1], ref="/".join(path))


@contextmanager
def server(**words: Any) -> Iterator[Vcsim]:
    with tempfile.TemporaryDirectory(prefix="vc-") as folder, vcsim(Path(folder), **words) as started:
        yield started


@contextmanager
def opened(
    run: Run,
    at: Vcsim,
    path: str = VM,
    *,
    ledger: Ledger | None = None,
    environ: dict[str, str] | None = None,
    **words: Any,
) -> Iterator[VmwareSource]:
    options = replace(Options(ca=at.ca, pace=QUICK), **words)
    clean = {name: text for name, text in os.environ.items() if not name.startswith(("GOVC_", "VSPHERE_"))}
    with (
        patch.dict(os.environ, clean | at.environ | (environ or {}), clear=True),
        vmware_source(run, parse(f"vmware://{at.host}/{path}"), ledger or Notebook(), options) as source,
    ):
        yield source


def token(source: VmwareSource, name: str = "web-20261123") -> str:
    (ref,) = source.vms()
    return source.freeze(source.describe(ref), name)


def read(source: VmwareSource, text: str) -> list[bytes]:
    """What the disks of a token hold, read through NBD."""
    from tests import file_samples as samples

    with source.frozen(text) as disks:
        found = []
        for disk in disks:
            with disk.nbd() as uri:
                found.append(samples.served(uri))
        return found
