"""The whole way of a real VMware guest into the sandbox, and what is left of a run that is killed on it.

One migration serves most of these tests. It is killed twice before it is let through, so that each claim about the result holds of a
migration that had to begin again.
"""

import hashlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters.sandbox import Sandbox, sandbox
from adapters.sandbox.shelf import Shelf
from fixtures.machines import built
from migrate.job import Job
from migrate.run import Run
from tests import file_samples as samples
from tests.cloud import observed
from tests.program import Answer, Started, asked, environment, keys_in, repaired_job, started

pytestmark = pytest.mark.slow

NAME = "whole-way"


@dataclass(slots=True)
class Migration:
    """What was seen of it. `scratches` are the folders that its runs used for sockets and mounts, `survivors` the processes that
    outlived them, `litter` what the last run left in TMPDIR."""

    source: Path
    work: Path
    before: dict[str, Any]
    source_was: tuple[str, int]
    scratches: list[Path] = field(default_factory=list)
    survivors: list[str] = field(default_factory=list)
    litter: list[str] = field(default_factory=list)
    answer: Answer = field(default_factory=lambda: Answer(-1, "{}", ""))

    @property
    def words(self) -> list[str | Path]:
        words: list[str | Path] = ["vm", self.source, "--sandbox", "--name", NAME, "--output", "json"]
        return [*words, "--approve", self.before["changes"]["plan"], "--keep-image", self.kept, "--work", self.work]

    @property
    def kept(self) -> Path:
        return self.work / "kept.qcow2"

    @property
    def result(self) -> dict[str, Any]:
        return self.answer.json

    @property
    def image(self) -> Path:
        return Path(self.result["qcow2"]["path"])

    def note_scratch(self) -> bool:
        """Whether a run tells of its scratch folder now."""
        for note in self.work.glob("jobs/*/scratch"):
            folder = Path(note.read_text())
            if folder not in self.scratches:
                self.scratches.append(folder)
        return bool(self.scratches)


def identity(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_mtime_ns


def progress(program: Started, stage: str) -> float:
    """How far a stage has come."""
    lines = [json.loads(line) for line in program.err.splitlines(keepends=True) if line.endswith("\n")]
    return max((one["done"] for one in lines if one["event"] == "progress" and one["stage"] == stage), default=0)


def killed(program: Started) -> list[str]:
    """Kill it as the kernel does when memory is short; return what still runs of it a little later."""
    program.ended(signal.SIGKILL, within=10)
    deadline = time.monotonic() + 10
    while program.relatives() and time.monotonic() < deadline:
        time.sleep(0.1)
    return list(program.relatives().values())


@pytest.fixture(scope="module")
def migration(tmp_path_factory: pytest.TempPathFactory) -> Migration:
    source = built("debian12-vmware")
    work = tmp_path_factory.mktemp("w")
    before = asked("preview", source, "--output", "json")
    assert before.code == 0
    seen = Migration(source, work, before.json, identity(source))
    for stage in ("remediate", "transfer"):
        with started(*seen.words, folder=work) as program:
            program.wait_for(lambda: progress(program, stage) > 0, timeout=1500)  # noqa: B023
            assert seen.note_scratch()
            seen.survivors += killed(program)
    with started(*seen.words, folder=work) as program:
        while program.process.poll() is None:
            seen.note_scratch()
            time.sleep(0.5)
        seen.answer = program.finished()
        seen.survivors += program.relatives().values()
        seen.litter = [path.name for path in program.scratch.iterdir()]
    return seen


def test_the_image_becomes_active(migration: Migration) -> None:
    assert migration.answer.code == 0, migration.answer
    assert migration.result["status"] == "active"
    assert migration.result["image"]["status"] == "active"
    assert migration.result["image"]["name"] == NAME
    assert migration.result["origin"] == "VMware"


def test_the_final_object_tells_what_was_made(migration: Migration) -> None:
    result = migration.result
    assert {"status", "image", "object", "qcow2", "changes", "proof", "seconds", "bytes_read"} <= result.keys()
    assert {"id", "name", "status"} <= result["image"].keys()
    assert {"bucket", "key", "bytes"} <= result["object"].keys()
    assert {"path", "bytes", "virtual_bytes", "disk_sha256"} <= result["qcow2"].keys()
    # The second run was killed while it sent: what it repaired and proved counts in the third.
    assert list(result["seconds"]) == ["describe", "freeze", "transfer", "import"]
    assert all(seconds >= 0 for seconds in result["seconds"].values())
    assert 0 < result["bytes_read"] <= 2 * result["qcow2"]["virtual_bytes"]


def test_each_stage_is_told_when_it_begins_and_ends(migration: Migration) -> None:
    events = [json.loads(line) for line in migration.answer.err.splitlines()]
    for word in ("stage began", "stage done"):
        assert [one["stage"] for one in events if one["event"] == word] == list(migration.result["seconds"])


def test_what_was_previewed_is_what_was_done(migration: Migration) -> None:
    before, after = migration.before["changes"], migration.result["changes"]
    assert after["plan"] == before["plan"]
    assert after["effects"] == before["effects"]
    assert after["findings"] == before["findings"]
    assert migration.result["login"] == migration.before["login"] == "debian"


def test_the_image_is_a_sound_qcow2(migration: Migration) -> None:
    told = migration.result["qcow2"]
    checked = subprocess.run(
        ["qemu-img", "check", "--output=json", "-f", "qcow2", migration.image], capture_output=True, check=True
    )
    assert not {"corruptions", "leaks", "check-errors"} & {k for k, v in json.loads(checked.stdout).items() if v}
    shown = subprocess.run(
        ["qemu-img", "info", "--output=json", "-f", "qcow2", migration.image], capture_output=True, check=True
    )
    info = json.loads(shown.stdout)
    assert info["format-specific"]["data"]["compat"] == "1.1"
    assert info["format-specific"]["data"]["compression-type"] == "zlib"
    assert "backing-filename" not in info
    assert info["virtual-size"] == told["virtual_bytes"]
    assert migration.image.stat().st_size == told["bytes"] == migration.result["object"]["bytes"]


def test_the_cloud_has_the_very_bytes_of_the_image(migration: Migration) -> None:
    there = Shelf(migration.work / "sandbox" / "images").file(migration.result["image"]["id"])
    assert identity(there)[0] == identity(migration.image)[0]


def test_every_claim_of_the_proof_holds(migration: Migration) -> None:
    proof = migration.result["proof"]
    assert proof["held"] is True
    assert proof["reasons"] == []
    assert [claim for claim in proof["claims"] if not claim["held"]] == []
    assert len(proof["claims"]) >= 5


def test_the_source_is_only_read(migration: Migration) -> None:
    assert identity(migration.source) == migration.source_was


def test_nothing_of_any_run_is_left_on_the_machine(migration: Migration) -> None:
    assert migration.survivors == []
    assert migration.litter == []
    assert len(migration.scratches) == 3
    assert [folder for folder in migration.scratches if folder.exists()] == []
    assert not any(str(folder) in Path("/proc/self/mountinfo").read_text() for folder in migration.scratches)
    (job,) = (migration.work / "jobs").iterdir()
    assert {path.name for path in job.iterdir()} == {"job.json", "ledger.jsonl", "lock", "blocks"}


def test_a_second_run_does_nothing_again(migration: Migration) -> None:
    again = asked(*migration.words)
    assert again.code == 0
    assert again.json["image"] == migration.result["image"]
    assert again.json["changes"] == migration.result["changes"]
    assert again.json["proof"] == migration.result["proof"]
    assert list(again.json["seconds"]) == ["describe", "freeze"]


def test_a_preview_of_the_result_finds_nothing_to_change(migration: Migration) -> None:
    told = asked("preview", migration.image, "--output", "json")
    assert told.code == 0
    assert told.json["changes"]["effects"] == []


def test_the_result_is_what_inspect_sees(migration: Migration) -> None:
    answer = asked("inspect", migration.image, "--output", "json")
    assert answer.code == 0
    told = answer.json
    assert told["os"]["id"] == "debian"
    assert told["kernels"] == migration.before["kernels"]
    assert told["login"] == "debian"
    assert told["disks"][0]["format"] == "qcow2"
    roots = [fs for fs in told["filesystems"] if fs["mountpoint"] == "/"]
    assert [fs["type"] for fs in roots] == ["ext4"]
    assert "swap" not in {fs["type"] for fs in told["filesystems"]}


SSH_OPTIONS = ("-oBatchMode=yes", "-oStrictHostKeyChecking=no", "-oUserKnownHostsFile=/dev/null", "-oLogLevel=ERROR")


def test_the_same_words_with_launch_make_an_instance_that_lets_the_key_in(
    migration: Migration, run: Run, tmp_path: Path
) -> None:
    key = tmp_path / "ops"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    words = [*migration.words, "--launch", "--instance-name", "Erp_01"]
    with sandbox(run, migration.work / "sandbox") as box:
        refused = asked(*words, "--ssh-key", "nobody", "--machine-type", "BV0-1-10")
        assert [reason["code"] for reason in refused.json["reasons"]] == ["MGC-006", "MGC-007"]
        answer = asked(*words, "--ssh-key", f"{key}.pub")
        assert answer.code == 0, answer
        assert list(answer.json["seconds"]) == ["describe", "freeze", "launch"]
        made = answer.json["instance"]
        assert made["ssh"] == f"ssh debian@{made['public_ipv4']}"
        assert "Cloud-init v." in "\n".join(made["init_logs"])
        asks = "hostname; df --output=size -B1G / | tail -1; ls /run/cloud-init/result.json"
        ssh = ["ssh", "-F", "none", "-i", key, *SSH_OPTIONS, *made["ssh"].split()[1:], asks]
        said = subprocess.run(ssh, check=True, capture_output=True, text=True, timeout=300).stdout.split()
        assert said[0] == "erp01", "the guest keeps the name that it had, whatever the instance is called"
        assert int(said[1]) >= 9  # the disk of BV1-1-10; the image's has 2 GiB
        again = asked(*words, "--ssh-key", f"{key}.pub")
        assert again.json["instance"] == made
        assert asked("clean", "--work", migration.work).code == 0
        url = f"{box.api_url}/v1/instances/{made['id']}"
        there = httpx.get(url, headers={"X-API-Key": box.credentials.api_key.reveal()}, trust_env=False)
        assert there.json()["state"] == "running"
    with pytest.raises(ConnectionError), socket.create_connection((made["public_ipv4"], 22), timeout=5):
        pass


def test_the_object_is_gone_and_clean_keeps_the_active_image(migration: Migration, run: Run) -> None:
    stored, id_ = migration.result["object"], migration.result["image"]["id"]
    with sandbox(run, migration.work / "sandbox") as box:
        assert keys_in(box, stored["bucket"], "") == []
        assert "nothing to clean" in asked("clean", "--work", migration.work).out
        assert asked("clean", "--all", "--work", migration.work).code == 0
        assert migration.image.exists(), "what the user wanted kept is the user's"
        assert box.image_file(id_).stat().st_size == stored["bytes"]


# Ended while it uploads


@dataclass(frozen=True, slots=True)
class Upload:
    """A job that begins with its transfer, of four parts, and the words that go on with it."""

    job: Job
    words: tuple[str | Path, ...]
    env: dict[str, str]
    box: Sandbox

    @contextmanager
    def halfway(self) -> Iterator[Started]:
        """A run of it that has sent two parts, over a slow line."""
        with observed(self.box.s3_url) as relay:
            relay.pause = 0.01
            slow = self.env | {"MAGALU_MIGRATE_S3_URL": relay.url}
            with started(*self.words, folder=self.job.folder.parent, env=slow) as program:
                program.wait_for(lambda: relay.sent > 68 << 20)
                yield program


@pytest.fixture
def upload(box: Sandbox, run: Run, tmp_path: Path) -> Upload:
    name = f"half-{os.urandom(4).hex()}"
    content = random.Random(1).randbytes(112 << 20)  # noqa: S311  incompressible: three parts of 32 MiB and one of 16
    image = samples.converted(tmp_path, "qcow2", "image.qcow2", "compat=1.1", content=content)
    cloud = {"region": box.credentials.region, "api": box.api_url}
    job = repaired_job(run, tmp_path / "work", samples.raw(tmp_path), image, name, cloud)
    words: list[str | Path] = ["vm", tmp_path / "disk.raw", "--name", name, "--no-prove"]
    words += ["--keep-image", tmp_path / "kept.qcow2", "--work", tmp_path / "work", "--output", "json"]
    return Upload(job, tuple(words), environment(box), box)


@pytest.fixture
def half(upload: Upload) -> Upload:
    """The same after a run was killed in the middle."""
    with upload.halfway() as program:
        assert killed(program) == []
    return upload


def test_ctrl_c_ends_an_upload_and_says_how_to_go_on(upload: Upload) -> None:
    with upload.halfway() as program:
        answer = program.ended(signal.SIGINT, within=20)
        program.assert_nothing_is_left()
    assert answer.code == 130
    assert answer.json["status"] == "stopped"
    assert "the same command goes on" in answer.json["hint"]
    assert "upload" in {made.kind for made in upload.job.ledger.left()}


def test_a_killed_upload_is_gone_on_with(half: Upload) -> None:
    again = asked(*half.words, env=half.env)
    assert again.code == 0
    assert again.json["image"]["status"] == "active"
    assert re.search(r"going on with an unfinished upload: [123] parts? ha(s|ve) arrived", again.err)
    kept = Path(again.json["qcow2"]["path"])
    assert half.box.image_file(again.json["image"]["id"]).read_bytes() == kept.read_bytes()
    assert again.json["qcow2"]["bytes"] == kept.stat().st_size
    assert keys_in(half.box, again.json["object"]["bucket"], again.json["object"]["key"]) == []


def test_what_was_sent_of_another_overlay_is_not_gone_on_with(half: Upload, run: Run, tmp_path: Path) -> None:
    """A repair made anew is another disk of the same size: its image must not begin with the parts of the former one."""
    half.job.overlay.unlink()
    assert asked(*half.words, env=half.env).code == 3  # the tiny disk itself holds no guest that could be repaired anew
    content = random.Random(2).randbytes(112 << 20)  # noqa: S311
    other = samples.converted(tmp_path, "qcow2", "other.qcow2", "compat=1.1", content=content)
    wanted = tmp_path / "wanted.qcow2"
    wanted.write_bytes(other.read_bytes())
    cloud = {"region": half.box.credentials.region, "api": half.box.api_url}
    job = repaired_job(run, tmp_path / "work", tmp_path / "disk.raw", other, str(half.job.image_name), cloud)
    assert job.name == half.job.name
    again = asked(*half.words, env=half.env)
    assert again.code == 0
    assert "going on with an unfinished upload" not in again.err
    subprocess.run(["qemu-img", "compare", "-q", wanted, again.json["qcow2"]["path"]], check=True)


def test_clean_takes_a_killed_upload_back(half: Upload, tmp_path: Path) -> None:
    (upload,) = (made.names for made in half.job.ledger.left() if made.kind == "upload")
    assert keys_in(half.box, upload["bucket"], upload["key"]) == [upload["key"]]
    assert asked("clean", "--work", tmp_path / "work", env=half.env).code == 0
    assert keys_in(half.box, upload["bucket"], upload["key"]) == []
    assert not half.job.folder.exists()
