"""A job remembers what is done, and what it made, through a crash."""

import multiprocessing
from pathlib import Path

from migrate.errors import UsageError
from migrate.job import Jobs
from migrate.ledger import Made
from migrate.ledger_file import LedgerFile
from migrate.outcome import Frozen


def test_the_same_request_finds_the_same_job(tmp_path: Path) -> None:
    jobs = Jobs(tmp_path)
    first = jobs.find("erp01", {"address": "/disks/erp01.ova"})
    first.finish("freeze", Frozen(token="x"))
    assert jobs.find("erp01", {"address": "/disks/erp01.ova"}).result("freeze", Frozen) == Frozen(token="x")
    assert jobs.find("erp01", {"address": "/other/erp01.ova"}).result("freeze", Frozen) is None


def test_a_job_s_name_is_a_safe_folder_name(tmp_path: Path) -> None:
    job = Jobs(tmp_path).find("../../../etc/passwd \n", {})
    assert job.folder.parent == tmp_path / "jobs"
    assert job.name.startswith("etc-passwd-")


def test_the_scratch_of_a_dead_run_is_swept_by_the_next(tmp_path: Path) -> None:
    job = Jobs(tmp_path).find("vm", {})
    with job.scratch() as first:
        (first / "file").touch()
        with job.scratch() as second:
            assert not first.exists()
            assert second.stat().st_mode & 0o777 == 0o700
    assert not second.exists()


def test_a_job_runs_in_one_process_at_a_time(tmp_path: Path) -> None:
    job = Jobs(tmp_path).find("vm", {})
    with job.locked():
        child = multiprocessing.get_context("fork").Process(target=_lock, args=(tmp_path,))
        child.start()
        child.join()
        assert child.exitcode == 7
    with job.locked():
        pass


def _lock(root: Path) -> None:
    try:
        with Jobs(root).find("vm", {}).locked():
            pass
    except UsageError:
        raise SystemExit(7) from None


def test_the_ledger_knows_what_is_left(tmp_path: Path) -> None:
    ledger = LedgerFile(tmp_path / "ledger.jsonl")
    ledger.will_make("upload", bucket="b", key="k")
    ledger.will_make("image", name="n")
    ledger.will_make("image", name="n", id="1")
    ledger.will_make("image", name="m")
    ledger.will_make("upload", bucket="b", key="k")
    ledger.gone("image", name="n", id="1")
    ledger.gone("image", name="m")
    assert ledger.left() == (Made("upload", {"bucket": "b", "key": "k"}),)
    ledger.gone("upload", key="k")
    assert ledger.left() == ()


def test_a_ledger_line_that_a_crash_cut_off_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    LedgerFile(path).will_make("object", key="k")
    with path.open("a") as file:
        file.write('{"will_make": "ima')
    assert LedgerFile(path).left() == (Made("object", {"key": "k"}),)
