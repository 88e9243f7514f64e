"""vSphere as a LiveSource: VMs are listed, frozen by a snapshot, read without being disturbed, and left as they were."""

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
from pyVmomi import vim

from adapters.vmware import flat, inventory, lease, snapshots, trust, vddk
from adapters.vmware.credentials import Credentials, find_credentials
from adapters.vmware.loggers import silence
from adapters.vmware.machine import MARK, Backing, Machine, disks_of
from adapters.vmware.privileges import missing
from adapters.vmware.refusals import Code, reasons
from adapters.vmware.session import LICENCE, Pace, Server, Session, host_and_port
from adapters.vmware.token import Token, TokenDisk, read_token
from migrate.address import Address, parse
from migrate.blocks import Disk as NbdDisk
from migrate.errors import NotMigratable, Reason, SourceError, UsageError
from migrate.ledger import Ledger, Made
from migrate.nbd import served
from migrate.nbd_server import WORKERS, served_disk
from migrate.run import Note, Run
from migrate.source import BlockSource, Extent, Vm, VmRef
from migrate.text import one_line

TRANSPORTS = ("auto", "datastore", "nfc", "vddk")


@dataclass(frozen=True, slots=True)
class Options:
    """`ca` is a further root certificate, `thumbprint` the server's own certificate's digest; `transport` one of TRANSPORTS."""

    ca: Path | None = None
    thumbprint: str | None = None
    transport: str = "auto"
    vddk_libdir: Path | None = None
    pace: Pace = field(default_factory=Pace)


@contextmanager
def vmware_source(run: Run, address: Address, ledger: Ledger, options: Options) -> Iterator["VmwareSource"]:
    """Open the vCenter or ESXi of an address, with the credentials of the environment; it is left when the block is."""
    source = VmwareSource(run, address, ledger, options, find_credentials(os.environ, address.host))
    try:
        yield source
    finally:
        source.close()


class VmwareSource:
    """A vCenter or ESXi. It logs in when it is first asked. `close` logs out."""

    def __init__(self, run: Run, address: Address, ledger: Ledger, options: Options, credentials: Credentials) -> None:
        silence()
        self._run = run
        self._address = address
        self._ledger = ledger
        self._options = options
        self._credentials = credentials
        self._server: Server | None = None
        self._session: Session | None = None
        self._known: dict[str, Machine] = {}

    def close(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    @property
    def freezes_nothing(self) -> bool:
        return False

    def list(self) -> Iterator[Vm]:
        """Yield every VM that the address names: one question for all, in pages. No refusals."""
        for one in self._chosen(self._address):
            yield one.vm(inventory.address(self._address.host, one))

    def vms(self) -> Iterator[VmRef]:
        """Yield what the address names, by its whole path. Raise UsageError where it names nothing."""
        found = self._chosen(self._address)
        if not found:
            raise UsageError(
                f"{one_line(self._address.text)}: there is no such VM, or {one_line(self._credentials.user)} may not see it",
                hint="An address is vmware://HOST/DATACENTER/FOLDER/VM, as `govc find / -type m` prints it, or vmware://HOST/VM.",
            )
        for one in found:
            yield VmRef(inventory.address(self._address.host, one), one_line(one.name))

    def describe(self, ref: VmRef) -> Vm:
        """Return what the inventory tells of the VM. Raise NotMigratable with every reason, SourceError where it is not there."""
        one = self._machine(ref.address)
        found = [*reasons(one), *self._licence(), *self._privileges(one)]
        if found:
            raise NotMigratable(one_line(one.name), tuple(dict.fromkeys(found)))
        if one.boot_is_guessed:
            text = f'{one_line(one.name)}: no boot order is set, so "{one_line(one.disks[0].label)}" is taken for the boot disk'
            self._run.tell(Note(text))
        return one.vm(ref.address)

    def freeze(self, vm: Vm, name: str) -> str:
        """Make the VM's snapshot, or find it, and return a token that names it and its disks, boot disk first."""
        if vm.address is None:
            raise SourceError(f"{vm.name} is not a VM of vSphere")
        one = self._machine(vm.address)
        session = self._opened()
        snapshot = snapshots.taken(self._run, session, one, snapshots.snapshot_name(name), self._ledger)
        return Token(
            host=session.server.text,
            vm=one.ref,
            instance=one.instance,
            name=one.name,
            datacenter=one.datacenter if session.is_vcenter else "ha-datacenter",
            snapshot=snapshot.ref,
            snapshot_name=snapshot.name,
            tracked=one.tracked,
            disks=self._disks(session, one, snapshot.ref),
        ).text()

    @contextmanager
    def frozen(self, token: str) -> Iterator[Sequence[BlockSource]]:
        """Open the snapshot's disks. What is fetched of them goes when the block is left, and every lease with it."""
        taken = read_token(token)
        session = self._opened()
        if not snapshots.is_there(session, taken.vm, taken.snapshot):
            raise SourceError(
                f"{one_line(taken.name)}: the snapshot {taken.snapshot_name!r} is gone",
                hint="Run the same command again: it begins anew with another one.",
            )
        with ExitStack() as stack:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="vmware-", dir=self._run.work)))
            client = stack.enter_context(_client(session))
            exports = lease.Exports(self._run, taken, self._ledger, folder, self._new_session)
            ways = _Ways(self._run, session, self._credentials, self._options, taken, client, exports)
            yield tuple(_FrozenDisk(disk, ways) for disk in taken.disks)

    def release(self, token: str) -> None:
        """The snapshot is gone and merged; a second call finds nothing."""
        taken = read_token(token)
        session = self._opened()
        snapshots.remove(self._run, session, taken.vm, taken.instance, taken.snapshot_name)
        self._ledger.gone(snapshots.KIND, host=taken.host, name=taken.snapshot_name)
        self._ledger.gone(lease.KIND, host=taken.host, name=taken.snapshot_name)

    def undo(self, made: Sequence[Made]) -> Iterator[str]:
        """End the sessions of leases of ours and remove snapshots of ours; yield what could not be ended, and why that is no harm."""
        session = self._opened()
        for one in made:
            if one.kind == lease.KIND:
                yield from self._end_lease(session, one.names["name"])
                self._ledger.gone(one.kind, **one.names)
        for one in made:
            if one.kind == snapshots.KIND:
                snapshots.remove(self._run, session, one.names["vm"], one.names.get("instance", ""), one.names["name"])
                self._ledger.gone(one.kind, **one.names)

    def _end_lease(self, session: Session, name: str) -> Iterator[str]:
        manager = session.content.sessionManager
        if not name.startswith(f"{MARK} "):
            return
        try:
            keys = tuple(snapshots.sessions_of(session, lease.agent(name)))
            if keys:
                session.call("end a session of ours", lambda: manager.TerminateSession(list(keys)), stoppable=False)
        except SourceError as error:
            yield f"an export lease may be left; it ends by itself after some minutes ({error.message})"

    def _chosen(self, address: Address) -> tuple[Machine, ...]:
        found = inventory.chosen(inventory.machines(self._opened()), address.parts)
        self._known |= {inventory.address(self._address.host, one): one for one in found}
        return found

    def _machine(self, address: str) -> Machine:
        """The VM of an address, as it is now."""
        known = self._known.get(address)
        if known is None:
            found = self._chosen(parse(address))
            if len(found) != 1:
                raise SourceError(f"{one_line(address)} names {len(found)} VMs; one was wanted")
            return found[0]
        return inventory.read_again(self._opened(), known)

    def _disks(self, session: Session, one: Machine, snapshot: str) -> tuple[TokenDisk, ...]:
        ref = vim.vm.Snapshot(snapshot, session.stub)
        devices = session.call("read the snapshot's disks", lambda: ref.config.hardware.device)
        order = {disk.key: number for number, disk in enumerate(one.disks)}
        found = [disk for disk in disks_of(devices) if disk.key in order]
        if len(found) != len(order):
            raise SourceError(f"{one_line(one.name)}: its snapshot holds {len(found)} of {len(order)} disks")
        return tuple(
            TokenDisk(
                key=disk.key,
                label=one_line(disk.label),
                size=disk.size,
                file=disk.file,
                device=disk.device,
                is_delta=disk.backing is not Backing.FLAT,
            )
            for disk in sorted(found, key=lambda disk: order[disk.key])
        )

    def _licence(self) -> Iterator[Reason]:
        session = self._opened()
        if session.is_vcenter:
            return
        manager = session.content.licenseManager
        licences = session.call("read the licence", lambda: manager.licenses) if manager is not None else ()
        if any((one.editionKey or "").startswith("esxBasic") for one in licences or ()):
            yield Reason(Code.LICENCE, LICENCE, "Give it a licence, or shut the VM down and export it as an OVA.")

    def _privileges(self, one: Machine) -> Iterator[Reason]:
        lacking = missing(self._opened(), one, self._options.transport)
        if lacking:
            text = f"{one_line(self._credentials.user)} lacks privileges"
            remedy = "Add them to the role; the README has the whole list."
            yield Reason(Code.PRIVILEGES, f"{text}: {', '.join(lacking)}", remedy, details=lacking)

    def _opened(self) -> Session:
        if self._session is None:
            self._session = self._new_session(MARK)
        return self._session

    def _new_session(self, agent: str) -> Session:
        if self._server is None:
            host, port = host_and_port(self._address.host)
            self._server = Server(host, port, trust.context(host, port, self._options.ca, self._options.thumbprint))
        return Session(self._run, self._server, self._credentials, agent, self._options.pace)


def _client(session: Session) -> AbstractContextManager[httpx.Client]:
    limits = httpx.Limits(max_connections=2 * WORKERS, max_keepalive_connections=2 * WORKERS)
    timeout = httpx.Timeout(session.pace.timeout, connect=trust.CONNECT_S)
    return httpx.Client(verify=session.server.context, timeout=timeout, limits=limits, trust_env=False)


@dataclass(slots=True)
class _Ways:
    """How the disks of one token are read. Which way a disk goes is decided when it is first read."""

    run: Run
    session: Session
    credentials: Credentials
    options: Options
    token: Token
    client: httpx.Client
    exports: lease.Exports
    found: dict[int, str] = field(default_factory=dict)

    def way(self, disk: TokenDisk) -> str:
        """Return the way for a disk: the one that was asked for, else the datastore where it gives the file, else a lease."""
        if self.options.transport != "auto":
            return self.options.transport
        if disk.key not in self.found:
            self.found[disk.key] = self._found(disk)
        return self.found[disk.key]

    def _found(self, disk: TokenDisk) -> str:
        if disk.is_delta:
            self.run.tell(Note(f'disk "{disk.label}": the VM has older snapshots, so no single file holds it'))
            return "nfc"
        try:
            flat.FlatDisk(self.run, self.session, self.client, self.token, disk).probe()
        except SourceError as error:
            self.run.tell(Note(f"it is not read from the datastore: {error.message}"))
            return "nfc"
        return "datastore"

    @contextmanager
    def nbd(self, disk: TokenDisk) -> Iterator[str]:
        opened: AbstractContextManager[str]
        match self.way(disk):
            case "datastore":
                opened = served_disk(self.run, self._flat(disk))
            case "vddk":
                libdir = vddk.check(self.run, self.options.vddk_libdir)
                opened = vddk.served(self.run, libdir, self.session.server, self.credentials, self.token, disk)
            case _:
                opened = served(self.run, self.exports.file(disk), "vmdk")
        with opened as uri:
            yield uri

    def extents(self, disk: TokenDisk) -> Iterator[Extent]:
        if self.way(disk) == "datastore":
            yield from self._flat(disk).extents()
            return
        with self.nbd(disk) as uri, NbdDisk(uri) as opened:
            position = 0
            for span in opened.extents():
                if span.offset > position:
                    yield Extent(position, span.offset - position, True)
                yield Extent(span.offset, span.length, False)
                position = span.end
            if position < disk.size:
                yield Extent(position, disk.size - position, True)

    def _flat(self, disk: TokenDisk) -> flat.FlatDisk:
        if disk.is_delta:
            raise UsageError(
                f'disk "{disk.label}" is a chain of snapshots: no single file of the datastore holds it',
                hint="Delete the VM's older snapshots, or read it another way: --transport nfc.",
            )
        return flat.FlatDisk(self.run, self.session, self.client, self.token, disk)


@dataclass(frozen=True, slots=True)
class _FrozenDisk:
    disk: TokenDisk
    ways: _Ways

    @property
    def name(self) -> str:
        return self.disk.label

    @property
    def size(self) -> int:
        return self.disk.size

    def extents(self) -> Iterator[Extent]:
        return self.ways.extents(self.disk)

    def nbd(self) -> AbstractContextManager[str]:
        return self.ways.nbd(self.disk)
