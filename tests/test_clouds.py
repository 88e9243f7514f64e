"""The whole way of two real guests into the sandbox: one dressed as Azure's, one as AWS's.

Their agents come from Debian's packages, and beside them lies what such agents write by themselves (fixtures/machines/debian12_{azure,aws}.py).
One migration of each serves all of these tests.
"""

import mmap
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fixtures.machines import built, debian12_aws, debian12_azure
from tests.program import Answer, asked

pytestmark = pytest.mark.slow

MACHINES = {
    debian12_azure.NAME: ("Azure", debian12_azure.SECRETS),
    debian12_aws.NAME: ("AWS", debian12_aws.SECRETS),
}


@dataclass(frozen=True, slots=True)
class Way:
    """What was said before, what came of it, and the image as a raw disk."""

    vendor: str
    secrets: tuple[str, ...]
    source: Path
    before: dict[str, Any]
    answer: Answer
    disk: Path

    @property
    def result(self) -> dict[str, Any]:
        return self.answer.json


@pytest.fixture(scope="module", params=MACHINES)
def way(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Way:
    vendor, secrets = MACHINES[request.param]
    source = built(request.param)
    work = tmp_path_factory.mktemp("w")
    before = asked("preview", source, "--output", "json")
    assert before.code == 0, before
    kept = work / "kept.qcow2"
    words = [
        "vm",
        source,
        "--sandbox",
        "--name",
        request.param,
        "--output",
        "json",
        "--keep-image",
        kept,
        "--work",
        work,
    ]
    answer = asked(*words, "--approve", before.json["changes"]["plan"])
    assert answer.code == 0, answer
    disk = work / "image.raw"
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", kept, disk], check=True)
    return Way(vendor, secrets, source, before.json, answer, disk)


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


def test_a_preview_of_the_result_finds_nothing_to_change(way: Way) -> None:
    told = asked("preview", way.result["qcow2"]["path"], "--output", "json")
    assert told.code == 0
    assert told.json["changes"]["effects"] == []
