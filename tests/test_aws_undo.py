"""What is made in AWS is taken back, whatever happens in between; and nothing else is."""

import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from adapters.aws import aws_source
from fixtures.emulators.aws import GIB, REGION, Account
from migrate.address import parse
from migrate.job import Jobs
from migrate.ledger import Made
from migrate.ledger_file import LedgerFile
from migrate.run import Run
from tests.aws_journeys import QUICK, journeys
from tests.killed import FORKS, MOMENTS
from tests.program import asked

pytestmark = pytest.mark.slow


def seed(folder: Path) -> Path:
    path = folder / "seed.raw"
    with path.open("wb") as file:
        file.truncate(GIB)
        for at in range(0, 8 << 20, 1 << 20):
            file.seek(at)
            file.write(random.Random(at).randbytes(4096))  # noqa: S311
    return path


def test_after_a_kill_at_any_moment_and_a_clean_the_account_holds_what_it_held(
    aws_account: Account, run: Run, tmp_path: Path
) -> None:
    """A process that makes, reads and gives back is killed, by EBS direct and by export in turn."""
    disk, work = seed(tmp_path), run.work
    aws_account.exporter()
    bucket = aws_account.bucket("exports-killed")
    ways = (
        (f"aws://{REGION}/{aws_account.instance('killed', disk, disk)}", None),
        (f"aws://{REGION}/{aws_account.instance('killed-export', disk)}", bucket),
    )
    before = aws_account.holds(bucket)
    moments = random.Random(4)  # noqa: S311
    left = []
    aws_account.faults(exporting=0.1)
    for number in range(MOMENTS):
        ready = FORKS.Event()
        child = FORKS.Process(
            target=journeys, args=(work, *ways[number % len(ways)], aws_account.variables, ready), daemon=True
        )
        child.start()
        assert ready.wait(60)
        time.sleep(moments.uniform(0, 0.6))
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        time.sleep(0.1)  # a request that was on its way is answered all the same
        left.append(aws_account.holds(bucket) - before)
        cleaned = asked("clean", "--work", work, env=aws_account.variables)
        assert cleaned.code == 0, (number, cleaned)
        assert aws_account.holds(bucket) == before, number
        assert list(Jobs(work).all()) == []
    aws_account.faults()
    kinds = {one.partition("-")[0].partition("/")[0] for each in left for one in each}
    assert sum(map(bool, left)) >= MOMENTS // 2
    assert {"snap", "ami", "magalu"} <= kinds, "an object's key begins with magalu-migrate"


def test_undo_touches_only_what_carries_the_mark_of_this_job(aws_account: Account, run: Run, tmp_path: Path) -> None:
    disk = seed(tmp_path)
    instance, other = aws_account.instance("mine", disk), aws_account.instance("other", disk)
    ec2 = aws_account.ec2
    ec2.create_snapshots(InstanceSpecification={"InstanceId": instance})
    tags: Any = [{"ResourceType": "snapshot", "Tags": [{"Key": "magalu-migrate", "Value": "job"}]}]
    ec2.create_snapshots(InstanceSpecification={"InstanceId": instance}, TagSpecifications=tags)
    before = aws_account.snapshots()
    ledger = LedgerFile(run.work / "ledger.jsonl")
    with aws_account.environment():
        for each, job in ((instance, "job"), (instance, "another job"), (other, "job")):
            with aws_source(run, parse(f"aws://{REGION}/{each}"), ledger, patience=QUICK) as source:
                (ref,) = source.vms()
                source.freeze(source.describe(ref), job)
        whole = aws_account.snapshots()
        assert len(whole - before) == 3
        with aws_source(run, parse(f"aws://{REGION}/{instance}"), ledger, patience=QUICK) as source:
            names = {"region": REGION, "of": instance, "job": "job"}
            assert list(source.undo([Made("aws/snapshots", names)])) == []
            assert before < aws_account.snapshots() < whole
            assert len(aws_account.snapshots() - before) == 2
            elsewhere = names | {"region": "us-east-1"}
            assert list(source.undo([Made("aws/snapshots", elsewhere)])) == [
                f"aws/snapshots us-east-1/{instance}/job is not of sa-east-1: it was left as it is"
            ]
            assert list(source.undo(ledger.left())) == []
    assert aws_account.snapshots() == before


def test_what_may_not_be_deleted_is_told_and_stays_in_the_ledger(
    aws_account: Account, run: Run, tmp_path: Path
) -> None:
    instance = aws_account.instance("kept", seed(tmp_path))
    ledger = LedgerFile(run.work / "ledger.jsonl")
    with (
        aws_account.environment(),
        aws_source(run, parse(f"aws://{REGION}/{instance}"), ledger, patience=QUICK) as source,
    ):
        (ref,) = source.vms()
        source.freeze(source.describe(ref), "job")
        aws_account.faults(deny=["ec2:DeleteSnapshot"])
        (said,) = source.undo(ledger.left())
        assert "the credentials lack ec2:DeleteSnapshot" in said and "magalu-migrate=job" in said
        assert len(ledger.left()) == 1
        aws_account.faults()
        assert list(source.undo(ledger.left())) == []
        assert ledger.left() == ()


def test_a_stop_does_not_keep_what_was_made_from_being_released(aws_account: Account, run: Run, tmp_path: Path) -> None:
    before = aws_account.snapshots()
    instance = aws_account.instance("stopped", seed(tmp_path))
    ledger = LedgerFile(run.work / "ledger.jsonl")
    with (
        aws_account.environment(),
        aws_source(run, parse(f"aws://{REGION}/{instance}"), ledger, patience=QUICK) as source,
    ):
        (ref,) = source.vms()
        token = source.freeze(source.describe(ref), "job")
        assert aws_account.snapshots() != before
        run.stop.set()
        source.release(token)
    assert aws_account.snapshots() == before
    assert ledger.left() == ()
