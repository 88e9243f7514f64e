"""What is made in Azure is taken back, whatever happens in between, and nothing else is; and no secret is anywhere."""

import logging
import subprocess
import traceback
from pathlib import Path

import pytest

from fixtures.emulators.azure import SUBSCRIPTION, Cloud
from migrate.errors import MigrateError, SourceBusy
from migrate.ledger import Made
from migrate.ledger_file import LedgerFile
from migrate.run import Run
from tests import file_samples as samples
from tests.azure_journeys import address, source, token
from tests.cloud import Told, known_from
from tests.killed import MOMENTS, held_after_kills
from tests.live_vms import on_azure

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def no_faults_are_left(azure_cloud: Cloud) -> None:
    azure_cloud.faults.denied.clear()
    azure_cloud.faults.answers.clear()


def test_after_a_kill_at_any_moment_and_a_clean_the_subscription_holds_what_it_held(
    azure_cloud: Cloud, tmp_path: Path
) -> None:
    disks = samples.raw(tmp_path), samples.raw(tmp_path, samples.disk_bytes(seed=2), "data.raw")
    live = on_azure(azure_cloud, "killed", *disks)
    found = list(held_after_kills(tmp_path, live, held=lambda: azure_cloud.state, settle=0.1))
    assert sum(state != azure_cloud.state for state in found) >= MOMENTS // 4


def test_undo_touches_only_what_carries_the_tag_of_this_job(azure_cloud: Cloud, run: Run, tmp_path: Path) -> None:
    azure_cloud.add_vm("mine", samples.raw(tmp_path))
    foreign = azure_cloud.add("rg1", "Microsoft.Compute/snapshots", "somebodys")
    ledger = LedgerFile(run.work / "ledger.jsonl")
    before = azure_cloud.state
    with source(azure_cloud, run, address("mine"), ledger) as opened:
        token(opened, "job-1")
        token(opened, "job-2")
        assert len(azure_cloud.snapshots) >= 3
        names = {"subscription": SUBSCRIPTION, "group": "rg1", "name": "somebodys", "job": "job-1"}
        assert list(opened.undo([Made("azure/snapshot", names)])) == [
            "the snapshot somebodys in rg1 does not carry our tag magalu-migrate=job-1; it stays"
        ]
        elsewhere = names | {"subscription": "another"}
        assert list(opened.undo([Made("azure/snapshot", elsewhere)])) == [
            f"the snapshot somebodys is in the subscription another, not in {SUBSCRIPTION}"
        ]
        first = [made for made in ledger.left() if made.names["job"] == "job-1"]
        assert list(opened.undo(first)) == []
        assert {made.names["job"] for made in ledger.left()} == {"job-2"}
        assert foreign in azure_cloud.snapshots
        assert list(opened.undo(ledger.left())) == []
    assert azure_cloud.state == before


def test_a_snapshot_of_somebody_elses_under_our_name_is_left_alone(
    azure_cloud: Cloud, run: Run, tmp_path: Path
) -> None:
    azure_cloud.add_vm("taken", samples.raw(tmp_path))
    ledger = LedgerFile(run.work / "ledger.jsonl")
    with source(azure_cloud, run, address("taken"), ledger) as opened:
        frozen = token(opened)
        (id_,) = [one for one in azure_cloud.snapshots if "job-1" in one]
        azure_cloud.resources[id_.lower()]["tags"] = {"owner": "somebody"}
        with pytest.raises(MigrateError, match="does not carry our tag"):
            token(opened)
        opened.release(frozen)
        assert id_ in azure_cloud.snapshots
        assert ledger.left() == ()
    del azure_cloud.resources[id_.lower()]


def test_what_may_not_be_deleted_is_told_and_stays_in_the_ledger(azure_cloud: Cloud, run: Run, tmp_path: Path) -> None:
    azure_cloud.add_vm("kept", samples.raw(tmp_path))
    before = azure_cloud.state
    ledger = LedgerFile(run.work / "ledger.jsonl")
    with source(azure_cloud, run, address("kept"), ledger) as opened:
        token(opened)
        azure_cloud.faults.denied.add("Microsoft.Compute/snapshots/delete")
        (said,) = opened.undo(ledger.left())
        assert "the right Microsoft.Compute/snapshots/delete is missing" in said
        azure_cloud.faults.denied.clear()
        azure_cloud.faults.answer("DELETE *", 503, times=9)
        with pytest.raises(SourceBusy):
            list(opened.undo(ledger.left()))
        azure_cloud.faults.answers.clear()
        assert len(ledger.left()) == 1
        assert list(opened.undo(ledger.left())) == []
    assert azure_cloud.state == before and ledger.left() == ()


def test_a_stop_keeps_nothing_from_being_revoked_and_released(azure_cloud: Cloud, run: Run, tmp_path: Path) -> None:
    azure_cloud.add_vm("stopped", samples.raw(tmp_path))
    before = azure_cloud.state
    ledger = LedgerFile(run.work / "ledger.jsonl")
    with source(azure_cloud, run, address("stopped"), ledger) as opened:
        frozen = token(opened)
        with opened.frozen(frozen) as (boot,):
            list(boot.extents())
            assert len(azure_cloud.active_grants) == 1
            run.stop.set()
        assert not azure_cloud.active_grants
        opened.release(frozen)
    assert azure_cloud.state == before and ledger.left() == ()


def test_where_one_disk_of_several_cannot_be_frozen_none_stays_so(azure_cloud: Cloud, run: Run, tmp_path: Path) -> None:
    azure_cloud.add_vm("halfway", samples.raw(tmp_path), 1 << 30)  # the second has no content, and its snapshot fails
    before = azure_cloud.state
    ledger = LedgerFile(run.work / "ledger.jsonl")
    with source(azure_cloud, run, address("halfway"), ledger) as opened, pytest.raises(MigrateError):
        token(opened)
    assert azure_cloud.state == before and ledger.left() == ()


def test_no_secret_is_in_arguments_logs_notes_ledger_token_or_tracebacks(
    azure_cloud: Cloud, run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = Told()
    run.listener = told
    caplog.set_level(logging.DEBUG)
    disk = samples.raw(tmp_path)
    azure_cloud.add_vm("secretive", disk)
    ledger = LedgerFile(run.work / "ledger.jsonl")
    seen: list[str] = []
    faults = azure_cloud.faults
    with source(azure_cloud, run, address("secretive"), ledger) as opened:
        logging.getLogger("azure").info("as loud as a program may set it")
        frozen = token(opened)
        seen += [frozen, repr(opened)]
        with opened.frozen(frozen) as (boot,):
            faults.answer("GET *.vhd", 503, Retry_After="0")
            faults.short, faults.cut = 1, 1
            with boot.nbd() as uri:
                seen.append(_arguments(uri))
                samples.served(uri)
            seen += [repr(boot), uri]
            for pattern, status in (("GET *.vhd", 503), ("GET *.vhd", 403), ("*.vhd", 409)):
                faults.answer(pattern, status, times=50)
                with pytest.raises(MigrateError) as raised:
                    boot.remote.read(0, 512)  # type: ignore[attr-defined]
                seen += [known_from(raised.value), "".join(traceback.format_exception(raised.value))]
                faults.answers.clear()
            run.stop.set()
            with pytest.raises(MigrateError) as raised:
                boot.remote.read(0, 512)  # type: ignore[attr-defined]
            seen += [known_from(raised.value), "".join(traceback.format_exception(raised.value))]
            run.stop.clear()
        faults.answer("POST */beginGetAccess", 409)
        with opened.frozen(frozen) as (boot,), pytest.raises(MigrateError) as raised, boot.nbd():
            pass
        seen += [known_from(raised.value)]
        opened.release(frozen)
    everything = "\n".join([*seen, told.text, caplog.text, (run.work / "ledger.jsonl").read_text()])
    assert len(azure_cloud.signatures) >= 2
    assert [secret for secret in azure_cloud.secrets if secret in everything] == []
    assert "sig=" not in everything


def _arguments(uri: str) -> str:
    """The command lines of all processes while a program reads the disk."""
    with subprocess.Popen(
        ["qemu-img", "bench", "-c", "50", "-s", "4k", "-f", "raw", uri], stdout=subprocess.DEVNULL
    ) as child:
        lines = []
        while child.poll() is None:
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    lines.append(path.read_bytes().decode("utf-8", "replace"))
                except OSError:
                    continue
    assert any("qemu-img" in line for line in lines)
    return "\n".join(lines)
