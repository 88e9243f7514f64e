"""What `batch status`, `logs`, `pause`, `resume`, `cancel`, `retry` and `run` say, from any terminal."""

import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from fixtures.batches.trial import planned
from migrate.batch import store_claims as claims
from migrate.batch.control_screen import headline, screen
from migrate.batch.events import Teller
from migrate.batch.facts import BatchFacts, VmFacts, VmState
from migrate.batch.model import Batch, Limits
from migrate.batch.runner import nobody_watches
from migrate.batch.store import Store, open_store
from migrate.batch.store_facts import facts
from migrate.batch.workers import joined
from migrate.run import Note, Progress, StageBegan, StageDone
from tests import file_samples as samples
from tests.program import asked, started

GIB = 1 << 30
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(None, tmp_path) as opened:
        yield opened


def submit(store: Store, *names: str) -> None:
    store.submit(Batch(name="wave-2", vms=planned(*names), limits=Limits(per_worker=9)))


def failed(store: Store) -> None:
    held = claims.claim(store, "h:0")
    assert held is not None
    claims.settle(store, held, VmState.FAILED, "", error="409 Image name already exists", hint="Choose another.")


def test_status_says_the_whole_first_then_what_runs_what_failed_and_what_waits_why(
    store: Store, tmp_path: Path
) -> None:
    submit(store, "web11", "erp07", "crm02")
    failed(store)
    held = claims.claim(store, "h:0")
    assert held is not None
    teller = Teller(store, nobody_watches)
    tell = teller.listener(held)
    for event in (StageBegan("transfer"), Progress("transfer", 6.0, 10.0, "B", "part 212 sent")):
        tell(event)
    teller.flush()
    said = asked("batch", "status", "--work", tmp_path)
    assert said.code == 0
    lines = said.out.splitlines()
    assert lines[0] == "wave-2 · 0 of 3 done · 1 running · 1 failed · 1 wait · 0 B of 24 MiB · no worker runs"
    assert [line.split()[:2] for line in lines[2:]] == [["erp07", "transfer"], ["web11", "failed"], ["crm02", "wait"]]
    assert "60%" in lines[2]
    assert "part 212 sent" in lines[2]
    assert "409 Image name already exists → batch retry web11" in lines[3]
    assert "a worker" in lines[4]


def test_the_status_of_500_vms_fits_a_screen_and_takes_less_than_half_a_second() -> None:
    vm = VmFacts("x", "x", "a", None, VmState.WAITING, waits_for="limit per_source of esx01 (2)", disk_bytes=GIB)
    states = [VmState.RUNNING] * 4 + [VmState.DONE] * 37 + [VmState.FAILED] * 2 + [VmState.WAITING] * 457
    vms = tuple(
        replace(
            vm, id=f"vm{number:03}", state=state, stage="transfer", done=5.0, total=10.0, began=NOW - timedelta(hours=2)
        )
        for number, state in enumerate(states)
    )
    found = BatchFacts("wave-2", NOW, NOW, False, vms, window_closes=NOW.replace(hour=6))
    assert headline(found) == (
        "wave-2 · 37 of 500 done · 4 running · 2 failed · 457 wait · 37 GiB of 500 GiB · window closes 06:00 UTC"
        " · about 24 h 55 min left · no worker runs"
    )
    console = Console(width=100, record=True, file=StringIO())
    began = time.process_time()
    console.print(screen(found, 20))
    assert time.process_time() - began < 0.5
    lines = console.export_text().splitlines()
    assert len(lines) == 1 + 1 + 20 + 1 or len(lines) == 2 + 1 + 20 + 1  # the first line may wrap
    assert all(len(line) <= 100 for line in lines)
    assert "and 443 wait, 37 done (--all shows them)" in lines[-1]


def test_status_as_json_has_everything(store: Store, tmp_path: Path) -> None:
    submit(store, "web11")
    failed(store)
    found = asked("batch", "status", "--output", "json", "--work", tmp_path).json
    assert (found["name"], found["counts"]["failed"]) == ("wave-2", 1)
    assert (found["vms"][0]["error"], found["vms"][0]["hint"]) == ("409 Image name already exists", "Choose another.")


def test_logs_tell_what_a_vm_told_in_order(store: Store, tmp_path: Path) -> None:
    submit(store, "erp07", "crm02")
    teller = Teller(store, nobody_watches)
    for _ in range(2):
        held = claims.claim(store, "h:0")
        assert held is not None
        tell = teller.listener(held)
        for event in (
            StageBegan("describe"),
            Note("no room \x1b[31m", "warning"),
            StageDone("describe", "8 MiB", 0.25),
        ):
            tell(event)
    teller.flush()
    said = asked("batch", "logs", "erp07", "--work", tmp_path)
    texts = [line.split(maxsplit=2)[2] for line in said.out.splitlines()]
    assert texts == ["describe begins", "no room \\x1b[31m", "describe: 8 MiB (0.2 s)"]
    assert len(asked("batch", "logs", "--work", tmp_path).out.splitlines()) == 6
    assert asked("batch", "logs", "zz", "--work", tmp_path).code == 2


def test_pause_resume_cancel_and_retry_say_what_they_did(store: Store, tmp_path: Path) -> None:
    submit(store, "web11", "erp07")
    failed(store)
    said = [
        asked("batch", *words, "--work", tmp_path).out
        for words in (["pause", "erp07"], ["resume"], ["retry", "web11", "--name", "web11-b"], ["cancel", "--yes"])
    ]
    assert said[0] == "wave-2: 1 VM paused. Go on: magalu-migrate batch resume\n"
    assert said[1].startswith("wave-2: 1 VM may go on.\nNo worker runs now.")
    assert said[2].startswith("wave-2: 1 VM to run again.")
    assert said[3].startswith("wave-2: 2 VMs cancelled that had made nothing yet.")


def test_without_a_batch_each_command_says_how_to_start_one(tmp_path: Path) -> None:
    for words in (["status"], ["logs"], ["pause"], ["resume"], ["retry"], ["cancel", "--yes"], ["run"]):
        said = asked("batch", *words, "--work", tmp_path)
        assert (said.code, "magalu-migrate batch run FILE" in said.err) == (2, True), words


def test_a_second_run_on_the_same_folder_is_refused(store: Store, tmp_path: Path) -> None:
    submit(store, "erp07")
    with joined(store, tmp_path) as member:
        said = asked("batch", "run", "--work", tmp_path)
    assert said.code == 2
    assert f"run by another process already: {member.id}" in said.err
    assert "batch status wave-2 --watch" in said.err


def test_a_worker_wants_a_database_that_others_reach(tmp_path: Path) -> None:
    said = asked("worker", "--work", tmp_path)
    assert said.code == 2
    assert "--database postgresql://" in said.err


def test_a_password_on_the_command_line_is_refused(tmp_path: Path) -> None:
    said = asked("batch", "status", "--database", "postgresql://me:planted-4f1c@db/x", "--work", tmp_path)
    assert said.code == 2
    assert "planted" not in said.err + said.out


@pytest.mark.slow
def test_ctrl_c_ends_a_run_in_the_foreground_which_says_how_to_go_on(tmp_path: Path) -> None:
    """Its checksum takes some seconds: the disk is large, and nothing but holes."""
    samples.qemu_img("create", "-f", "vpc", "-o", "subformat=fixed,force_size=on", tmp_path / "disk.vhd", "8G")
    ovf = tmp_path / "erp01.ovf"
    ovf.write_text(samples.ovf_text("disk.vhd"))
    (tmp_path / "erp01.mf").write_text(samples.manifest_text([("disk.vhd", b"another")]))
    file = tmp_path / "wave.yaml"
    file.write_text(f"name: wave-3\ndefaults: {{sandbox: true, prove: false}}\nvms: [{{source: {ovf}}}]\n")
    work = tmp_path / "w"
    with started("batch", "run", file, "--work", work, folder=work) as program, open_store(None, work) as store:

        def is_at_work() -> bool:
            return "wave-3" in store.names() and facts(store, "wave-3", outcomes=False).vms[0].stage == "freeze"

        program.wait_for(is_at_work)
        answer = program.ended(signal.SIGINT, within=30)
        assert answer.code == 130
        assert "What is done is kept. Go on: magalu-migrate batch run --batch wave-3" in answer.err
        assert facts(store, "wave-3").vms[0].state is VmState.WAITING
        program.assert_nothing_is_left()
