"""The whole way of two real guests into the sandbox: one dressed as Azure's, out of Azure, one as AWS's, out of AWS; and of a third out of vSphere.

Their agents come from Debian's packages, and beside them lies what such agents write by themselves (fixtures/machines/debian12_{azure,aws}.py).
One migration of each serves all of these tests.
"""

import mmap
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from fixtures.machines import built, debian12_aws, debian12_azure, debian12_cloud
from migrate.job import Jobs
from tests.guest_disks import MIB
from tests.live_vms import LiveVm, on_aws, on_azure, on_vsphere, words_of_all_processes, written
from tests.program import Answer, asked

pytestmark = pytest.mark.slow

MACHINES = {
    debian12_azure.NAME: ("Azure", debian12_azure.SECRETS),
    debian12_aws.NAME: ("AWS", debian12_aws.SECRETS),
}


DATA_DISK = bytes(MIB) + b"data" * (MIB // 4)


@dataclass(frozen=True, slots=True)
class Way:
    """What was said before, what came of it, and the image as a raw disk. `held` is what the cloud held before and holds after."""

    vendor: str
    secrets: tuple[str, ...]
    source: Path
    before: dict[str, Any]
    answer: Answer
    disk: Path
    work: Path
    live: LiveVm
    held: tuple[object, object]
    processes: list[str]

    @property
    def result(self) -> dict[str, Any]:
        return self.answer.json


@contextmanager
def placed(request: pytest.FixtureRequest, name: str) -> Iterator[LiveVm]:
    """The machine as a VM of the cloud that it is dressed for."""
    disk = built(name, format="raw")
    match name:
        case debian12_azure.NAME:
            yield on_azure(request.getfixturevalue("azure_cloud"), name, disk, generation="V1")
        case debian12_aws.NAME:
            yield on_aws(request.getfixturevalue("aws_account"), name, disk, boots_by="uefi")
        case _:
            with on_vsphere(disk, DATA_DISK) as live:
                yield live


@pytest.fixture(scope="module", params=MACHINES)
def way(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    vendor, secrets = MACHINES[request.param]
    work = tmp_path_factory.mktemp("w")
    kept, disk = work / "kept.qcow2", work / "image.raw"
    with placed(request, request.param) as live:
        held = live.state()
        common: tuple[str | Path, ...] = (*live.words, "--work", work, "--output", "json")
        with words_of_all_processes() as processes:
            before = asked("preview", *common, env=live.variables)
            assert before.code == 0, before
            words: tuple[str | Path, ...] = ("--sandbox", "--name", request.param, "--keep-image", kept)
            answer = asked("vm", *common, *words, "--approve", before.json["changes"]["plan"], env=live.variables)
        assert answer.code == 0, answer
        subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", kept, disk], check=True)
        source, after = built(request.param), live.state()
        yield Way(vendor, secrets, source, before.json, answer, disk, work, live, (held, after), processes)


def done(work: Path) -> bool:
    """Whether the one job there has nothing left to do, nor to take back: the bucket that images pass through stays until `clean --all`."""
    (job,) = Jobs(work).all()
    return job.is_done and [made for made in job.ledger.left() if made.kind != "bucket"] == []


def holds(disk: Path, word: str) -> bool:
    with disk.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(word.encode()) >= 0


def test_every_claim_of_the_proof_holds(way: Way) -> None:
    proof = way.result["proof"]
    assert proof["held"] is True
    assert [claim for claim in proof["claims"] if not claim["held"]] == []


def test_what_was_previewed_is_what_was_done(way: Way) -> None:
    before, after = way.before["changes"], way.result["changes"]
    assert after["effects"] == before["effects"]
    assert after["findings"] == before["findings"]
    assert after["plan"] == before["plan"]


def test_it_is_said_that_nothing_of_the_vendor_is_left(way: Way) -> None:
    (gone,) = (fact["text"] for fact in way.result["changes"]["facts"] if fact["name"] == "nothing is left of")
    assert way.vendor in gone.split(", ")


def test_no_secret_of_the_old_cloud_is_anywhere_in_the_image(way: Way) -> None:
    """Not in a file, and not in blocks that a removed file has left."""
    original = built(way.source.stem, format="raw")
    assert [secret for secret in way.secrets if not holds(original, secret)] == []
    assert [secret for secret in way.secrets if holds(way.disk, secret)] == []


def test_no_secret_of_the_old_cloud_is_shown(way: Way) -> None:
    shown = asked("preview", way.source).out
    assert [secret for secret in way.secrets if secret in shown or secret in way.answer.out] == []


def test_the_cloud_holds_what_it_held_and_the_ledger_is_empty(way: Way) -> None:
    before, after = way.held
    assert after == before
    assert done(way.work)


def test_no_secret_of_the_way_is_in_arguments_answers_or_files(way: Way) -> None:
    """Keys and tokens of the cloud, signatures of its URLs and of Magalu's."""
    everything = "\n".join((way.answer.out, way.answer.err, written(way.work), *way.processes))
    assert any("nbdkit" in words or "qemu" in words for words in way.processes)
    assert [secret for secret in (*way.live.secrets(), "X-Amz-Signature") if secret in everything] == []


def test_a_vm_of_vsphere_becomes_an_active_image_and_nothing_of_ours_is_left_there(
    request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Its boot is proven elsewhere, of the same guest from a file (test_vm.py)."""
    with placed(request, debian12_cloud.NAME) as live, words_of_all_processes() as processes:
        words = ("--sandbox", "--no-prove", "--data-disks", "upload", "--work", tmp_path, "--output", "json")
        answer = asked("vm", *live.words, *words, env=live.variables)
        assert (answer.code, answer.json["status"]) == (0, "active"), answer
        (data,) = answer.json["data_disks"]
        whole = sha256(sha256(DATA_DISK).digest())
        assert (data["disk"], data["disk_sha256"]) == (2, whole.hexdigest()), "a disk of one chunk"
        assert answer.json["origin"] == "VMware"
        assert live.state() == ((), 0)
        assert done(tmp_path)
        secrets = (*live.secrets(), "X-Amz-Signature")
    everything = "\n".join((answer.out, answer.err, written(tmp_path), *processes))
    assert [secret for secret in secrets if secret in everything] == []


def test_a_preview_of_the_result_finds_nothing_to_change(way: Way) -> None:
    told = asked("preview", way.result["qcow2"]["path"], "--output", "json")
    assert told.code == 0
    assert told.json["changes"]["effects"] == []
