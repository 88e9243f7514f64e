"""What every Source does, whichever it is. A new source adds itself to SOURCES and proves the same."""

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from adapters.aws import aws_source
from adapters.azure import azure_source
from adapters.files import FileSource
from fixtures.emulators.azure import SUBSCRIPTION
from migrate.address import parse
from migrate.run import Run
from migrate.source import BlockSource, Source
from tests import file_samples as samples
from tests import vsphere
from tests.cloud import Notebook

CONTENT = samples.disk_bytes()


@dataclass(frozen=True, slots=True)
class Made:
    """A source of one VM, and what its disks hold. `again` opens it as after a restart."""

    source: Source
    again: Source
    disks: tuple[bytes, ...]


Maker = Callable[[pytest.FixtureRequest, Run, Path], AbstractContextManager[Made]]


@contextmanager
def _file(request: pytest.FixtureRequest, run: Run, folder: Path) -> Iterator[Made]:
    path = samples.raw(folder)
    yield Made(FileSource(run, path), FileSource(run, path), (CONTENT,))


@contextmanager
def _ova(request: pytest.FixtureRequest, run: Run, folder: Path) -> Iterator[Made]:
    path = samples.ova(folder)
    yield Made(FileSource(run, path), FileSource(run, path), (CONTENT,))


@contextmanager
def _ovf_with_two_disks(request: pytest.FixtureRequest, run: Run, folder: Path) -> Iterator[Made]:
    samples.converted(folder, "qcow2", "a.qcow2")
    samples.raw(folder, CONTENT[:4096], "b.raw")
    (folder / "vm.ovf").write_text(samples.ovf_text("a.qcow2", "b.raw"))
    yield Made(FileSource(run, folder), FileSource(run, folder), (CONTENT, CONTENT[:4096]))


@cache
def _gibibyte() -> bytes:
    """The smallest disk that a cloud has."""
    return CONTENT.ljust(1 << 30, b"\0")


@contextmanager
def _aws(request: pytest.FixtureRequest, run: Run, folder: Path) -> Iterator[Made]:
    account = request.getfixturevalue("aws_account")
    seed = samples.raw(folder)
    with seed.open("r+b") as file:
        file.truncate(1 << 30)
    address = parse(f"aws://sa-east-1/{account.instance('contract', seed)}")
    with (
        account.environment(),
        aws_source(run, address, Notebook()) as source,
        aws_source(run, address, Notebook()) as again,
    ):
        yield Made(source, again, (_gibibyte(),))


@contextmanager
def _azure(request: pytest.FixtureRequest, run: Run, folder: Path) -> Iterator[Made]:
    cloud = request.getfixturevalue("azure_cloud")
    name = f"contract-{uuid.uuid4().hex[:8]}"
    cloud.add_vm(name, samples.raw(folder), samples.raw(folder, CONTENT[:4096], "data.raw"))
    address = parse(f"azure://{SUBSCRIPTION}/rg1/{name}")
    with (
        cloud.environment(),
        azure_source(run, address, Notebook(), cloud.ca) as source,
        azure_source(run, address, Notebook(), cloud.ca) as again,
    ):
        yield Made(source, again, (CONTENT, CONTENT[:4096]))


@contextmanager
def _vsphere_datastore(request: pytest.FixtureRequest, run: Run, folder: Path) -> Iterator[Made]:
    with _vsphere(run, "datastore") as made:
        yield made


@contextmanager
def _vsphere_export(request: pytest.FixtureRequest, run: Run, folder: Path) -> Iterator[Made]:
    with _vsphere(run, "nfc") as made:
        yield made


@contextmanager
def _vsphere(run: Run, transport: str) -> Iterator[Made]:
    with vsphere.server() as vc:
        vc.give(vsphere.VM, [CONTENT, CONTENT[:4096]], tracked=True)
        with (
            vsphere.opened(run, vc, transport=transport) as source,
            vsphere.opened(run, vc, transport=transport) as again,
        ):
            yield Made(source, again, (CONTENT, CONTENT[:4096]))


SOURCES: tuple[Maker, ...] = (_file, _ova, _ovf_with_two_disks)
LIVE: tuple[Maker, ...] = (_aws, _azure, _vsphere_datastore, _vsphere_export)
"""Those that need a server."""


@pytest.fixture(
    params=[*SOURCES, *(pytest.param(make, marks=pytest.mark.slow) for make in LIVE)],
    ids=[make.__name__.strip("_").replace("_", " ") for make in (*SOURCES, *LIVE)],
)
def made(request: pytest.FixtureRequest, run: Run, tmp_path: Path) -> Iterator[Made]:
    make: Maker = request.param
    with make(request, run, tmp_path) as found:
        yield found


def _token(source: Source) -> str:
    (ref,) = source.vms()
    return source.freeze(source.describe(ref), "magalu-migrate-1234")


def _read(disk: BlockSource) -> bytes:
    with disk.nbd() as uri:
        return samples.served(uri)


def test_a_vm_is_described_twice_alike(made: Made) -> None:
    (ref,) = made.source.vms()
    vm = made.source.describe(ref)
    assert vm == made.source.describe(ref) == made.again.describe(ref)
    assert vm.name and vm.origin
    assert [disk.size for disk in vm.disks] == [len(content) for content in made.disks]


def test_freezing_twice_finds_the_same(made: Made) -> None:
    assert _token(made.source) == _token(made.source) == _token(made.again)


def test_a_token_is_text_that_a_job_file_can_hold(made: Made) -> None:
    token = _token(made.source)
    assert json.loads(json.dumps(token)) == token
    assert token.isprintable()


def test_the_disks_hold_what_the_vm_holds_boot_disk_first(made: Made) -> None:
    (ref,) = made.source.vms()
    vm = made.source.describe(ref)
    with made.source.frozen(_token(made.source)) as disks:
        assert [(disk.name, disk.size) for disk in disks] == [(disk.name, disk.size) for disk in vm.disks]
        assert tuple(_read(disk) for disk in disks) == made.disks


def test_a_token_opens_the_disks_after_a_restart_and_as_often_as_wanted(made: Made) -> None:
    token = _token(made.source)
    for _ in range(2):
        with made.again.frozen(token) as disks:
            assert tuple(_read(disk) for disk in disks) == made.disks


def test_a_disk_is_served_several_times_at_once(made: Made) -> None:
    with made.source.frozen(_token(made.source)) as (disk, *_), disk.nbd() as one, disk.nbd() as other:
        assert samples.served(one) == samples.served(other) == made.disks[0]


def test_extents_cover_the_disk_without_gaps_and_zeros_are_zeros(made: Made) -> None:
    with made.source.frozen(_token(made.source)) as disks:
        for disk, content in zip(disks, made.disks, strict=True):
            position = 0
            for extent in disk.extents():
                assert extent.offset == position and extent.length > 0
                position += extent.length
                if extent.zero:
                    assert not any(content[extent.offset : position])
            assert position == disk.size == len(content)


def test_releasing_twice_succeeds(made: Made) -> None:
    token = _token(made.source)
    made.source.release(token)
    made.source.release(token)
    made.again.release(token)


def test_what_a_closed_source_leaves_is_nothing(made: Made, run: Run) -> None:
    with made.source.frozen(_token(made.source)) as disks:
        for disk in disks:
            _read(disk)
    assert list(run.work.iterdir()) == []
