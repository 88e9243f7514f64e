"""Which VMs a batch file means: its files and patterns, and what live sources list; each VM once, in the file's order.

A source is asked over one connection, however many entries name it: one listing, and each entry takes its part of that.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from migrate.address import Address
from migrate.address import parse as parse_address
from migrate.batch.file import BatchFile, Entry, is_left_out, kept
from migrate.errors import MigrateError, Mistake, NotMigratable, Reason, Stopped
from migrate.ledger import NoLedger
from migrate.run import Note, Progress, Run
from migrate.source import LiveSource, Source, Vm, VmRef
from migrate.text import counted, one_line
from migrate.wiring.sources import SourceOptions, live_source
from migrate.wiring.sources import source as source_of

FILES = "files"
"""What all files together are called, where limits count by source."""
AT_ONCE = 4
"""Sources that are asked, and files that are looked at, at the same time."""
DESCRIBE = "describe"


@dataclass(frozen=True, slots=True)
class Seen:
    """A VM that an entry selects. `vm` is what is known of it, None where that was not asked or could not be told.

    `reasons` are its refusals, `notes` what else the source says, `failure` why it could not be looked at.
    """

    entry: Entry
    number: int
    address: str
    name: str
    vm: Vm | None = None
    reasons: tuple[Reason, ...] = ()
    notes: tuple[str, ...] = ()
    failure: MigrateError | None = None

    @property
    def identity(self) -> str:
        """What two ways to the same VM have in common."""
        return self.address if self.entry.is_live else str(Path(self.address).resolve())

    @property
    def source(self) -> str:
        """The host that limits count by."""
        if not self.entry.is_live:
            return FILES
        where = parse_address(self.address)
        return f"{where.scheme}://{where.host}"


@dataclass(frozen=True, slots=True)
class Selection:
    """`seen` in the file's order. `failures` are the entries whose source could not be asked; `mistakes` what only a source could tell."""

    seen: tuple[Seen, ...]
    mistakes: tuple[Mistake, ...] = ()
    failures: tuple[tuple[Entry, MigrateError], ...] = ()


def select(run: Run, file: BatchFile, *, described: bool) -> Selection:
    """Return the VMs of a batch; `described`: each is looked at, and what refuses it is collected. Nothing is made anywhere.

    Raise Stopped where the user stops it; a source that cannot be asked is among the failures, and stops no other.
    """
    groups: dict[tuple[str, SourceOptions], list[Entry]] = {}
    jobs: list[Callable[[], list[_Found]]] = []
    counting = _Counting(run)
    for entry in file.entries:
        if entry.is_live:
            groups.setdefault((_connection(entry), entry.request.source), []).append(entry)
            continue
        for number, ref in enumerate(kept(entry.files(), entry.leave_out), 1):
            jobs.append(_file_job(run, entry, number, ref, counting, described=described))
    jobs = [_live_job(run, entries, counting, described=described) for entries in groups.values()] + jobs
    with run.stage(DESCRIBE) as stage:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = [one for part in pool.map(lambda job: job(), jobs) for one in part]
        run.check()
        stage.summary = counted(sum(isinstance(one, Seen) for one in found), "VM")
    by_entry: dict[int, list[_Found]] = {}
    for one in found:
        by_entry.setdefault(id(one.entry), []).append(one)
    ordered = [one for entry in file.entries for one in by_entry.get(id(entry), ())]
    seen = tuple(one for one in ordered if isinstance(one, Seen))
    failures = tuple((one.entry, one.failure) for one in ordered if isinstance(one, _Unasked))
    return Selection(seen, tuple(_empty(file.entries, by_entry)), failures)


@dataclass(frozen=True, slots=True)
class _Unasked:
    """An entry whose source could not be asked."""

    entry: Entry
    failure: MigrateError


_Found = Seen | _Unasked


def _empty(entries: Iterable[Entry], by_entry: Mapping[int, Sequence[_Found]]) -> Iterator[Mistake]:
    for entry in entries:
        if not by_entry.get(id(entry)):
            tagged = " with these tags" if entry.tags else ""
            left = ", beside those that are left out" if entry.leave_out else ""
            shown = one_line(entry.source)
            hint = f"`magalu-migrate list '{shown}'` shows what there is." if entry.is_live else None
            yield Mistake(entry.place, f"{shown} names no VM{tagged}{left}", hint)


class _Counting:
    """Tells how many VMs were looked at, of those that are known to be there."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._done = 0

    def one(self, name: str) -> None:
        self._done += 1
        self._run.tell(Progress(DESCRIBE, self._done, None, "VMs", one_line(name)))


# Files


def _file_job(
    run: Run, entry: Entry, number: int, ref: VmRef, counting: _Counting, *, described: bool
) -> Callable[[], list[_Found]]:
    def job() -> list[_Found]:
        run.check()
        notes: list[str] = []
        quiet = _quiet(run, notes)
        with source_of(quiet, ref.address, entry.request.disk_format) as (files, named):
            if not described:
                return [Seen(entry, number, ref.address, named.name)]
            seen = _looked_at(files, entry, number, ref.address, named.name, None, notes)
        counting.one(named.name)
        return [seen]

    return job


def _looked_at(
    source: Source, entry: Entry, number: int, address: str, name: str, listed: Vm | None, notes: list[str]
) -> Seen:
    before = len(notes)
    try:
        vm = source.describe(VmRef(address, name))
    except NotMigratable as refusal:
        return Seen(entry, number, address, name, listed, refusal.reasons, tuple(notes[before:]))
    except Stopped:
        raise
    except MigrateError as error:
        return Seen(entry, number, address, name, listed, failure=error)
    doubts = tuple(doubt for doubt in vm.doubts if doubt.code not in entry.request.waive)
    return Seen(entry, number, address, name, vm, doubts, tuple(notes[before:]))


def _quiet(run: Run, notes: list[str]) -> Run:
    """A run whose notes are kept instead of told."""

    def keep(event: object) -> None:
        if isinstance(event, Note):
            notes.append(event.text)

    return Run(run.work, keep, run.stop)


# Live sources


def _connection(entry: Entry) -> str:
    """What is asked over one connection: a host. Of Azure a resource group, which may be all that the user is allowed to see; and a disk, an AMI
    or a snapshot alone, which are in no list of VMs."""
    where = parse_address(entry.source)
    if where.parts[1:2] == ("disks",) or (where.parts[:1] and where.parts[0].startswith(("ami-", "snap-"))):
        return entry.source
    group = where.parts[0].lower() if where.scheme == "azure" and where.parts else ""
    return f"{where.scheme}://{where.host}/{group}"


def _live_job(
    run: Run, entries: Sequence[Entry], counting: _Counting, *, described: bool
) -> Callable[[], list[_Found]]:
    def job() -> list[_Found]:
        run.check()
        notes: list[str] = []
        addresses = tuple(dict.fromkeys(entry.source for entry in entries))
        first = entries[0].request.source
        try:
            with live_source(_quiet(run, notes), _common(addresses), NoLedger(), first) as live:
                listed = sorted(live.list(), key=lambda vm: (vm.name, vm.address or ""))
                return [
                    each
                    for entry in entries
                    for each in _chosen(
                        run, live, entry, listed, notes, counting, whole=len(addresses) == 1, described=described
                    )
                ]
        except Stopped:
            raise
        except MigrateError as error:
            return [_Unasked(entry, error) for entry in entries]

    return job


def _chosen(
    run: Run,
    live: LiveSource,
    entry: Entry,
    listed: Sequence[Vm],
    notes: list[str],
    counting: _Counting,
    *,
    whole: bool,
    described: bool,
) -> Iterator[Seen]:
    named = listed if whole else matching(listed, parse_address(entry.source))
    once = {vm.address: vm for vm in named if vm.address is not None}
    taken = [vm for vm in once.values() if _has_tags(vm, entry) and not _is_out(vm, entry)]
    for number, vm in enumerate(taken, 1):
        run.check()
        address = vm.address or ""
        if described:
            yield _looked_at(live, entry, number, address, vm.name, vm, notes)
            counting.one(vm.name)
        else:
            yield Seen(entry, number, address, vm.name, vm)


def _has_tags(vm: Vm, entry: Entry) -> bool:
    has = dict(vm.tags)
    return all(key in has and fnmatchcase(has[key], pattern) for key, pattern in entry.tags)


def _is_out(vm: Vm, entry: Entry) -> bool:
    return is_left_out(vm.name, vm.address or "", entry.leave_out)


def _common(addresses: Sequence[str]) -> str:
    """Return the one address that is listed for all of these."""
    if len(addresses) == 1:
        return addresses[0]
    where = parse_address(addresses[0])
    match where.scheme:
        case "azure" if where.parts:
            return f"azure://{where.host}/{where.parts[0]}"
        case "aws":
            return f"aws://{where.host}/*"
        case _:
            return f"{where.scheme}://{where.host}"


def matching(listed: Sequence[Vm], where: Address) -> tuple[Vm, ...]:
    """Return those of a whole source's VMs that an address names, as the source itself would.

    Of vSphere a path, with or without the folder "vm", then a name, then a pattern of either, then all of a folder; of Azure group and name, in
    upper or lower case; of AWS an id or a pattern of names. Each source's own reading is held against this one in the tests.
    """
    match where.scheme:
        case "azure":
            wanted = tuple(part.lower() for part in where.parts) + ("*",) * (2 - len(where.parts))
            return tuple(vm for vm in listed if _alike(tuple(part.lower() for part in _parts(vm)), wanted))
        case "aws":
            what = where.parts[0] if where.parts else "*"
            by_id = tuple(vm for vm in listed if _parts(vm) == where.parts)
            return by_id or tuple(vm for vm in listed if fnmatchcase(vm.name, what))
        case _:
            return _of_folders(listed, where.parts)


def _of_folders(listed: Sequence[Vm], parts: tuple[str, ...]) -> tuple[Vm, ...]:
    ways = [(vm, path) for vm in listed for path in _paths(_parts(vm))]
    readings: tuple[Callable[[Vm, tuple[str, ...]], bool], ...] = (
        lambda vm, path: path == parts,
        lambda vm, path: len(parts) == 1 and vm.name == parts[0],
        lambda vm, path: len(parts) == 1 and fnmatchcase(vm.name, parts[0]),
        lambda vm, path: _alike(path, parts),
        lambda vm, path: _alike(path[: len(parts)], parts),
    )
    for reading in readings:
        found = {vm.address: vm for vm, path in ways if reading(vm, path)}
        if found:
            return tuple(found.values())
    return ()


def _parts(vm: Vm) -> tuple[str, ...]:
    return parse_address(vm.address).parts if vm.address else ()


def _paths(path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    yield path
    if (
        "vm" in path
    ):  # the folder below each datacenter that holds its VMs: govc prints it, the web client does not show it
        at = path.index("vm")
        yield path[:at] + path[at + 1 :]


def _alike(path: tuple[str, ...], patterns: tuple[str, ...]) -> bool:
    return len(path) == len(patterns) and all(fnmatchcase(*pair) for pair in zip(path, patterns, strict=True))
