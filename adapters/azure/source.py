"""VMs and managed disks of an Azure subscription, as a live source."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from adapters.azure import inventory
from adapters.azure.access import Access
from adapters.azure.cloud import Cloud, opened
from adapters.azure.disk import FrozenDisk, PageBlob
from adapters.azure.place import Place, place
from adapters.azure.snapshots import GRANT, SNAPSHOT, Snapshots
from adapters.azure.token import Token, read_token
from adapters.azure.transport import UNHURRIED, Pace
from migrate.address import Address
from migrate.address import parse as parse_address
from migrate.errors import SourceBusy, SourceError
from migrate.ledger import Ledger, Made
from migrate.run import Note, Run
from migrate.source import BlockSource, Vm, VmRef
from migrate.text import one_line


class AzureSource:
    """What an address names in a subscription. What is refused, and with which code: adapters/azure/refusals.py."""

    def __init__(self, run: Run, where: Place, ledger: Ledger, cloud: Cloud) -> None:
        self._run = run
        self._place = where
        self._ledger = ledger
        self._cloud = cloud
        self._snapshots = Snapshots(cloud, ledger)

    @property
    def freezes_nothing(self) -> bool:
        return False

    def list(self) -> Iterator[Vm]:
        """Yield the VMs that the address names, or its one disk, with what some five lists tell."""
        if self._place.is_disk:
            yield inventory.found(self._cloud, self._place).vm
            return
        yield from inventory.listed(self._cloud, self._place)

    def vms(self) -> Iterator[VmRef]:
        if self._place.is_one:
            yield VmRef(self._place.text, one_line(self._place.name))
            return
        for group, name in inventory.names(self._cloud, self._place):
            yield VmRef(Place(self._place.subscription, group, name).text, one_line(name))

    def describe(self, ref: VmRef) -> Vm:
        return inventory.found(self._cloud, self._of(ref.address)).vm

    def freeze(self, vm: Vm, name: str) -> str:
        """Take a snapshot of each disk, or find those of the same job; return a token that names them.

        Each holds one moment, as a power cut would leave it; those of several disks are seconds apart. Raise NotMigratable, SourceError, SourceBusy.
        """
        found = inventory.found_disks(self._cloud, self._of(vm.address or ""))
        if found.vm.power == "running":
            apart = " Its disks' snapshots are seconds apart; stop it for one moment in all." if found.disks[1:] else ""
            self._run.tell(Note(f"{vm.name} is running: its disk is taken as a power cut would leave it.{apart}"))
        kept = self._snapshots.taken(found.disks, found.group, name)
        return Token(subscription=self._cloud.subscription, snapshots=kept).model_dump_json()

    @contextmanager
    def frozen(self, token: str) -> Iterator[Sequence[BlockSource]]:
        """Open the snapshots of a token. Access to each is granted when it is first used, and revoked when the block is left."""
        taken = read_token(token, self._cloud.subscription)
        with ExitStack() as stack:
            disks = []
            for kept in taken.snapshots:
                self._snapshots.check(kept)
                access = Access(self._cloud, self._ledger, kept)
                stack.callback(access.close)
                blob = PageBlob(self._cloud, access, kept)
                stack.callback(blob.close)
                disks.append(FrozenDisk(self._run, blob))
            yield tuple(disks)

    def release(self, token: str) -> None:
        for kept in read_token(token, self._cloud.subscription).snapshots:
            if said := self._snapshots.taken_back(kept.group, kept.name, kept.job):
                self._run.tell(Note(said, "warning"))

    def undo(self, made: Sequence[Made]) -> Iterator[str]:
        """Take back snapshots, and access to them. Raise SourceBusy where Azure cannot be asked now: nothing is forgotten then."""
        for names in _of_azure(made):
            group, name = names["group"], names["name"]
            if names["subscription"] != self._cloud.subscription:
                yield f"the snapshot {name} is in the subscription {names['subscription']}, not in {self._cloud.subscription}"
                continue
            try:
                said = self._snapshots.taken_back(group, name, names.get("job", ""))
            except SourceBusy:
                raise
            except SourceError as error:
                said = str(error)
            if said:
                yield said

    def _of(self, address: str) -> Place:
        where = place(parse_address(address))
        if where.subscription != self._cloud.subscription or not where.is_one:
            raise SourceError(f"{one_line(address)} is not one VM of the subscription {self._cloud.subscription}")
        return where


@contextmanager
def azure_source(
    run: Run,
    address: Address,
    ledger: Ledger,
    ca: Path | None = None,
    *,
    pace: Pace = UNHURRIED,
    environ: Mapping[str, str] = os.environ,
) -> Iterator[AzureSource]:
    """Open the subscription of an address. `ca` is a file with one more root certificate. Raise UsageError for an address that names nothing."""
    where = place(address)
    with opened(run, where.subscription, ca, pace=pace, environ=environ) as cloud:
        yield AzureSource(run, where, ledger, cloud)


def _of_azure(made: Sequence[Made]) -> Iterator[Mapping[str, str]]:
    """The names of each snapshot once: access to one goes with it."""
    seen = set()
    for one in made:
        if one.kind in (SNAPSHOT, GRANT):
            key = (one.names["subscription"], one.names["group"], one.names["name"])
            if key not in seen:
                seen.add(key)
                yield one.names
