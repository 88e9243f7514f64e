"""A VM of a test's own in each of the three clouds: where it is, what leads there, what its cloud holds, and what must be shown nowhere."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from fixtures.emulators.aws import REGION, SECRET_KEY, SESSION_TOKEN, Account
from fixtures.emulators.azure import SUBSCRIPTION, Cloud
from fixtures.emulators.vcsim import PASSWORD, Vcsim
from migrate.ledger import Ledger
from migrate.run import Run
from migrate.source import Source, VmRef
from migrate.wiring.sources import SourceOptions
from migrate.wiring.sources import source as source_of
from tests import vsphere


@dataclass(frozen=True, slots=True)
class LiveVm:
    """`state` is what its cloud holds now, to be compared; `sent` how many bytes of disks it gave so far; `secrets` every one that it knows."""

    address: str
    options: SourceOptions
    variables: Mapping[str, str]
    state: Callable[[], object]
    sent: Callable[[], int]
    secrets: Callable[[], tuple[str, ...]]

    @property
    def words(self) -> tuple[str, ...]:
        """How a command is told of it."""
        return self.address, *self.options.words

    @contextmanager
    def source(self, run: Run, ledger: Ledger) -> Iterator[tuple[Source, VmRef]]:
        with (
            patch.dict(os.environ, self.variables),
            source_of(run, self.address, None, ledger, self.options) as opened,
        ):
            yield opened


@contextmanager
def on_vsphere(
    *disks: bytes | Path, tracked: bool = True, transport: str = "datastore", nfc_rate: int | None = None
) -> Iterator[LiveVm]:
    """In a vCenter of its own. `tracked` is whether changed block tracking is on."""
    with vsphere.server(nfc_rate=nfc_rate) as vc:
        vc.give(vsphere.VM, disks, tracked=tracked, exported=transport == "nfc")
        yield of_vsphere(vc, transport)


def of_vsphere(vc: Vcsim, transport: str = "auto") -> LiveVm:
    def state() -> object:
        now = vc.state()
        return now.snapshots, now.leases

    return LiveVm(
        f"vmware://{vc.host}/DC0/{vsphere.VM}",
        SourceOptions(vc.ca, transport=transport),
        vc.environ,
        state,
        lambda: vc.state().bytes,
        lambda: (PASSWORD, "nfcexport", *vc.state().cookies),
    )


def on_azure(cloud: Cloud, name: str, *disks: Path, generation: str = "V2", security: str = "Standard") -> LiveVm:
    id_ = cloud.add_vm(name, *disks, securityProfile={"securityType": security})
    group = id_.rpartition("/virtualMachines/")[0]
    cloud.change(f"{group}/disks/{name}-os", hyperVGeneration=generation)
    begun = cloud.blob_bytes
    return LiveVm(
        f"azure://{SUBSCRIPTION}/rg1/{name}",
        SourceOptions(cloud.ca),
        cloud.variables,
        lambda: cloud.state,
        lambda: cloud.blob_bytes - begun,
        lambda: (*cloud.secrets, "sig="),
    )


def on_aws(
    account: Account, name: str, *disks: Path, boots_by: str = "legacy-bios", bucket: str | None = None
) -> LiveVm:
    """With a bucket, the disk is exported to it."""
    if bucket:
        account.exporter()
        account.bucket(bucket)
    id_ = account.instance(name, *disks)
    account.alter(id_, current_instance_boot_mode=boots_by)
    begun = account.counts().get("bytes", 0)
    return LiveVm(
        f"aws://{REGION}/{id_}",
        SourceOptions(transport="export", export_bucket=bucket) if bucket else SourceOptions(),
        account.variables,
        (lambda: account.holds(bucket)) if bucket else account.snapshots,
        lambda: account.counts().get("bytes", 0) - begun,
        lambda: (SECRET_KEY, SESSION_TOKEN),
    )


@contextmanager
def words_of_all_processes() -> Iterator[list[str]]:
    """What any process below this one was started with while the block lasts; the list is filled when it is left."""
    seen: set[bytes] = set()
    found: list[str] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            seen.update(_words_below(os.getpid()))
            time.sleep(0.02)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()
        found += [words.replace(b"\0", b" ").decode("utf-8", "replace") for words in seen]


def _words_below(ancestor: int) -> Iterator[bytes]:
    parents: dict[int, int] = {}
    words: dict[int, bytes] = {}
    for entry in Path("/proc").iterdir():
        try:
            words[int(entry.name)] = (entry / "cmdline").read_bytes()
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):  # it has ended, or is no process
            continue
    below = {ancestor}
    while more := {pid for pid, parent in parents.items() if parent in below} - below:
        below |= more
    yield from (words[pid] for pid in below - {ancestor})


def written(folder: Path) -> str:
    """All that the files below a folder hold, but those of disks and of the sandbox, which has secrets of its own."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".qcow2", ".raw"))
    ours = (path for path in files if "sandbox" not in path.relative_to(folder).parts)
    return "\n".join(path.read_bytes().decode("utf-8", "replace") for path in sorted(ours))
