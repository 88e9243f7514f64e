"""What the three clouds give of a disk: the same bytes of the same guest, and not more of them than a preview needs."""

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from fixtures.machines import built, debian12_cloud
from migrate.blocks import Disk
from migrate.run import Run
from tests.cloud import Notebook
from tests.large_guest import SIZE, USED, large_guest
from tests.live_vms import LiveVm, on_aws, on_azure, on_vsphere
from tests.program import asked

pytestmark = pytest.mark.slow

MIB = 1 << 20
WAYS = ("vsphere by its datastore", "vsphere by an export lease", "azure", "aws")
MOST_READ = 200 * 10**6


@contextmanager
def placed(
    request: pytest.FixtureRequest, way: str, name: str, disk: Path, *, tracked: bool = True
) -> Iterator[LiveVm]:
    with ExitStack() as stack:
        match way:
            case "azure":
                yield on_azure(request.getfixturevalue("azure_cloud"), name, disk, security="TrustedLaunch")
            case "aws":
                yield on_aws(request.getfixturevalue("aws_account"), name, disk)
            case "aws by an export":
                yield on_aws(request.getfixturevalue("aws_account"), name, disk, bucket="exports-of-live-disks")
            case "vsphere by an export lease":
                yield stack.enter_context(on_vsphere(disk, transport="nfc"))
            case _:
                yield stack.enter_context(on_vsphere(disk, tracked=tracked))


@pytest.fixture(scope="module")
def guest() -> tuple[Path, str]:
    """A machine's raw disk and its SHA-256."""
    disk = built(debian12_cloud.NAME, format="raw")
    with disk.open("rb") as file:
        return disk, hashlib.file_digest(file, "sha256").hexdigest()


@pytest.mark.parametrize("way", WAYS)
def test_the_same_guest_is_the_same_disk_byte_for_byte_from_every_cloud(
    request: pytest.FixtureRequest, run: Run, guest: tuple[Path, str], way: str
) -> None:
    disk, digest = guest
    with placed(request, way, "alike", disk) as live:
        before = live.state()
        with live.source(run, Notebook()) as (source, ref):
            token = source.freeze(source.describe(ref), "alike")
            with source.frozen(token) as (frozen,), frozen.nbd() as uri:
                assert digest_of(uri) == digest
            source.release(token)
        assert live.state() == before


def digest_of(uri: str) -> str:
    """The SHA-256 of a whole disk behind NBD, holes included."""
    found = hashlib.sha256()
    zeros = bytes(4 * MIB)
    with Disk(uri) as disk:
        position = 0
        for extent in disk.extents():
            for start in range(position, extent.offset, 4 * MIB):
                found.update(zeros[: min(4 * MIB, extent.offset - start)])
            for start in range(extent.offset, extent.end, 4 * MIB):
                found.update(disk.read(start, min(4 * MIB, extent.end - start)))
            position = extent.end
        for start in range(position, disk.size, 4 * MIB):
            found.update(zeros[: min(4 * MIB, disk.size - start)])
    return found.hexdigest()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return large_guest(tmp_path_factory.mktemp("large"))


@pytest.mark.parametrize(
    ("way", "tracked"),
    [
        ("vsphere by its datastore", True),
        ("vsphere by its datastore", False),
        ("azure", True),
        ("aws", True),
        ("aws by an export", True),
    ],
)
def test_a_preview_of_100_gib_of_which_1_is_used_reads_less_than_200_mb(
    request: pytest.FixtureRequest, tmp_path: Path, large: Path, way: str, tracked: bool
) -> None:
    """Counted at the server. `tracked` is whether vSphere says what was ever written; Azure's page ranges and EBS direct always do, an export
    never does. The one in Azure is a Trusted Launch VM.
    """
    assert (large.stat().st_size, large.stat().st_blocks * 512 // (16 * MIB)) == (SIZE, USED // (16 * MIB))
    with placed(request, way, "large", large, tracked=tracked) as live:
        before = live.state()
        waiver = ("--waive", "AZR-005") if way == "azure" else ()
        answer = asked("preview", *live.words, *waiver, "--work", tmp_path, "--output", "json", env=live.variables)
        assert answer.code == 0, answer
        assert live.state() == before
        sent = live.sent()
    found = {finding["code"]: finding["waived"] for finding in answer.json["changes"]["findings"]}
    assert found.get("AZR-005") is (True if way == "azure" else None)
    print(f"{way}, tracked {tracked}: {sent} bytes")  # noqa: T201
    assert MIB < sent < MOST_READ
