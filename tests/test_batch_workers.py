"""Who may work on what: limits, windows, priorities, claims, workers that die, and what users ask meanwhile."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, time
from pathlib import Path

import pytest

from migrate.batch import control
from migrate.batch import store_claims as claims
from migrate.batch import store_tables as tables
from migrate.batch.facts import VmFacts, VmState
from migrate.batch.limits import Pace, Running, Waiting, faster, hindrance, slower
from migrate.batch.model import Batch, Limits, PlannedVm, Window
from migrate.batch.runner_jobs import carried
from migrate.batch.store import Store, open_store
from migrate.batch.store_facts import facts
from migrate.batch.windows import closes, opens
from migrate.batch.workers import joined, others, reap
from migrate.errors import Reason, Stopped, UsageError
from migrate.job import Jobs
from migrate.wiring.request import VmRequest

NIGHT = Window(opens=time(22), closes=time(6), days=(0, 1, 2, 3, 4), zone="America/Sao_Paulo")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(None, tmp_path / "work") as opened:
        yield opened


def vm(id_: str, source: str = "esx01", target: str = "br-se1", **more: object) -> PlannedVm:
    return PlannedVm.model_validate(
        {"id": id_, "request": VmRequest(address=f"tiny://c/{id_}"), "source": source, "target": target, **more}
    )


NO_LIMITS = Limits(per_worker=99)


def submit(store: Store, *vms: PlannedVm, limits: Limits = NO_LIMITS) -> None:
    store.submit(Batch(name="b", vms=vms, limits=limits))


def claimed(store: Store, worker: str = "h:0") -> str | None:
    held = claims.claim(store, worker)
    return held.vm if held else None


def of(store: Store, id_: str) -> VmFacts:
    return next(one for one in facts(store, "b").vms if one.id == id_)


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]


# Windows


def test_a_window_past_midnight_belongs_to_the_day_on_which_it_opens() -> None:
    friday_night, saturday_night = utc(2026, 11, 28, 3), utc(2026, 11, 29, 3)  # midnight there is 03:00 UTC
    assert closes(NIGHT, friday_night) == utc(2026, 11, 28, 9)
    assert closes(NIGHT, saturday_night) is None
    assert opens(NIGHT, saturday_night) == utc(2026, 12, 1, 1)  # Monday 22:00 there


def test_a_window_keeps_its_local_hours_when_clocks_change() -> None:
    window = Window(opens=time(1), closes=time(5), zone="Europe/Lisbon")
    assert closes(window, utc(2026, 10, 24, 0, 30)) == utc(2026, 10, 24, 4)  # summer time: UTC+1
    assert closes(window, utc(2026, 10, 26, 2)) == utc(2026, 10, 26, 5)


def test_a_window_that_closes_when_it_opens_lasts_a_day() -> None:
    window = Window(opens=time(8), closes=time(8), days=(0,))
    assert closes(window, utc(2026, 11, 24, 7, 59)) == utc(2026, 11, 24, 8)
    assert closes(window, utc(2026, 11, 24, 8)) is None


# Limits


def test_each_limit_says_what_it_waits_for() -> None:
    running = [Running("esx01", "br-se1", "a"), Running("esx02", "br-ne1", "a")]
    limits = Limits(overall=2, per_source=1, per_target=1, per_worker=2)
    asked = Waiting("esx01", "br-mgl1")
    none = Limits(per_worker=99)
    now = utc(2026, 11, 23, 12).timestamp()
    assert hindrance(asked, running, limits, {}, "b", now) == "limit overall (2)"
    assert (
        hindrance(asked, running, none.model_copy(update={"per_source": 1}), {}, "b", now)
        == "limit per_source of esx01 (1)"
    )
    assert (
        hindrance(Waiting("esx09", "br-ne1"), running, none.model_copy(update={"per_target": 1}), {}, "b", now)
        == "limit per_target of br-ne1 (1)"
    )
    assert hindrance(asked, running, none.model_copy(update={"per_worker": 2}), {}, "a", now) == "limit per_worker (2)"
    assert hindrance(asked, running, none, {("source", "esx01"): Pace(1, now)}, "b", now) == (
        "esx01 was busy: 1 at once"
    )
    assert hindrance(replace(asked, window=NIGHT), [], none, {}, "b", now) == "window opens 01:00 UTC"
    assert hindrance(replace(asked, not_before=now + 60), [], none, {}, "b", now) == "not before 12:01 UTC"
    assert hindrance(asked, running, none, {}, "b", now) is None


def test_a_busy_place_is_given_half_and_gets_one_more_after_a_while() -> None:
    pace = slower(8, None, 100.0)
    assert pace == Pace(4, 100.0)
    assert slower(4, pace, 101.0) == Pace(2, 101.0)
    assert slower(1, Pace(1, 0.0), 1.0) == Pace(1, 1.0)
    assert faster(pace, 130.0) == pace
    assert faster(pace, 160.0) == Pace(5, 160.0)


def test_claims_keep_to_all_limits_at_once(store: Store) -> None:
    limits = Limits(overall=3, per_source=2, per_worker=2)
    submit(store, *(vm(f"a{n}") for n in range(3)), *(vm(f"b{n}", "esx02") for n in range(3)), limits=limits)
    assert [claimed(store, "h:0"), claimed(store, "h:0"), claimed(store, "h:0")] == ["a0", "a1", None]
    assert [claimed(store, "h:1"), claimed(store, "h:1")] == ["b0", None]
    assert of(store, "a2").waits_for == "limit overall (3)"


def test_the_highest_priority_goes_first_then_the_order_of_the_file(store: Store) -> None:
    submit(store, vm("a"), vm("b", priority=5), vm("c", priority=5), vm("d", priority=-1))
    assert [claimed(store) for _ in range(5)] == ["b", "c", "a", "d", None]


def test_what_is_hindered_lets_others_pass(store: Store) -> None:
    later = datetime.now(UTC).replace(year=2099)
    submit(store, vm("a", not_before=later, priority=9), vm("b"))
    assert [claimed(store), claimed(store)] == ["b", None]
    assert of(store, "a").waits_for.startswith("not before 2099-")


def test_a_source_that_was_busy_is_given_half_and_the_vm_waits(store: Store) -> None:
    submit(store, *(vm(f"a{n}") for n in range(6)))
    held = [claims.claim(store, "h:0") for _ in range(4)]
    assert held[0] is not None
    assert claims.was_busy(store, held[0], "source", "busy", 60.0)
    assert of(store, "a0").state is VmState.WAITING
    assert claimed(store) is None
    assert of(store, "a5").waits_for == "esx01 was busy: 2 at once"


# Claims


def test_whoever_lost_a_claim_writes_nothing_any_more(store: Store, tmp_path: Path) -> None:
    submit(store, vm("a"))
    slow = claims.claim(store, "h:0")
    assert slow is not None
    job = carried(store, slow, Jobs(tmp_path / "work").find("a", {"address": "x"}), "here")
    job.ledger.will_make("tiny/snapshot", vm="a", job="1")
    with store.write() as connection:
        claims.hand_over(connection, "h:0", "gone", 0.0)
    fresh = claims.claim(store, "h:1")
    assert fresh is not None
    assert fresh.ledger == ('{"will_make": "tiny/snapshot", "vm": "a", "job": "1"}',)
    with pytest.raises(Stopped):
        job.ledger.will_make("image", name="a")
    with pytest.raises(Stopped):
        job.named("other")
    with pytest.raises(Stopped):
        claims.keep_outcome(store, slow, {})
    assert slow.stop.is_set()
    assert not claims.settle(store, slow, VmState.DONE, "done")
    assert of(store, "a").state is VmState.RUNNING
    assert [made.kind for made in job.ledger.left()] == ["tiny/snapshot"]


def test_another_host_knows_what_the_first_one_made(store: Store, tmp_path: Path) -> None:
    submit(store, vm("a"))
    first = claims.claim(store, "h1:0")
    assert first is not None
    there = carried(store, first, Jobs(tmp_path / "one").find("a", {"address": "x"}), "one")
    there.ledger.will_make("tiny/snapshot", vm="a", job=there.mark)
    there.named("a-20261123")
    with store.write() as connection:
        claims.hand_over(connection, "h1:0", "gone", 0.0)
    second = claims.claim(store, "h2:0")
    assert second is not None
    mine = Jobs(tmp_path / "two").find("a", {"address": "x"})
    assert mine.mark != there.mark
    for name in ("overlay.qcow2", "transfer.journal"):  # of a time when this host had it
        (mine.folder / name).touch()
    here = carried(store, second, mine, "two")
    assert here.mark == there.mark
    assert here.image_name == "a-20261123"
    assert here.ledger.left() == there.ledger.left()
    assert sorted(path.name for path in here.folder.iterdir()) == ["job.json", "ledger.jsonl", "lock"]


def test_the_same_host_keeps_what_lies_beside_the_job(store: Store, tmp_path: Path) -> None:
    submit(store, vm("a"))
    first = claims.claim(store, "h:0")
    assert first is not None
    job = carried(store, first, Jobs(tmp_path).find("a", {"address": "x"}), "one")
    job.overlay.touch()
    with store.write() as connection:
        claims.hand_over(connection, "h:0", "gone", 0.0)
    second = claims.claim(store, "h:1")
    assert second is not None
    assert carried(store, second, Jobs(tmp_path).find("a", {"address": "x"}), "one").overlay.exists()


def test_a_plan_of_another_version_fails_alone_and_says_so(store: Store) -> None:
    submit(store, vm("a"), vm("c"))
    with store.write() as connection:
        connection.execute(tables.VMS.update().where(tables.VMS.c.id == "a").values(planned='{"id": "a", "new": 1}'))
    assert claimed(store) == "c"
    assert of(store, "a").state is VmState.FAILED
    assert "what was planned for it cannot be read" in (of(store, "a").error or "")


def test_a_refusal_is_kept_with_all_its_reasons(store: Store) -> None:
    submit(store, vm("a"))
    held = claims.claim(store, "h:0")
    assert held is not None
    reasons = (Reason("SRC-003", "an independent disk", "change it", ("line",)),)
    assert claims.settle(store, held, VmState.REFUSED, "", error="cannot be moved", reasons=reasons)
    assert of(store, "a").reasons == reasons
    assert claims.unfinished(store, None) == 0


# Workers


def test_two_processes_of_a_host_have_two_names_and_a_dead_ones_is_taken_again(store: Store, tmp_path: Path) -> None:
    work = tmp_path / "work"
    with joined(store, work) as first, joined(store, work) as second:
        assert (first.id.rpartition(":")[2], second.id.rpartition(":")[2]) == ("0", "1")
        assert others(store, first.id) == (second.id,)
    with joined(store, work) as again:
        assert again.id == first.id
    assert others(store) == ()


def test_another_work_folder_of_the_same_host_has_a_name_of_its_own(store: Store, tmp_path: Path) -> None:
    with joined(store, tmp_path / "one") as first, joined(store, tmp_path / "two") as second:
        assert first.id != second.id
        assert first.place != second.place


def test_what_a_dead_worker_held_waits_for_another(store: Store, tmp_path: Path) -> None:
    submit(store, vm("a"), vm("b"))
    with joined(store, tmp_path / "work", lease_s=60.0) as member:
        assert claimed(store, member.id) == "a"
        assert reap(store) == ()
        with store.write() as connection:
            connection.execute(tables.WORKERS.update().values(until=1.0))
        assert reap(store) == ("a",)
        assert reap(store) == ()
        assert not member.renew()  # it comes back, and is told
        assert claimed(store, "other:0") == "a"
        assert of(store, "a").last == f"worker {member.id} is gone; another one goes on"


def test_a_worker_that_leaves_gives_back_what_it_holds(store: Store, tmp_path: Path) -> None:
    submit(store, vm("a"))
    with joined(store, tmp_path / "work") as member:
        assert claimed(store, member.id) == "a"
    assert of(store, "a").state is VmState.WAITING


# Control


def test_a_paused_vm_waits_for_resume(store: Store) -> None:
    submit(store, vm("a"), vm("b"))
    assert control.pause(store, "b", ["a"]) == 1
    assert of(store, "a").state is VmState.PAUSED
    assert [claimed(store), claimed(store)] == ["b", None]
    assert control.resume(store, "b", ["a"]) == 1
    assert claimed(store) == "a"


def test_a_running_vm_that_is_paused_stays_paused_when_its_worker_lets_it_go(store: Store) -> None:
    submit(store, vm("a"))
    held = claims.claim(store, "h:0")
    assert held is not None
    control.pause(store, "b", ["a"])
    assert of(store, "a").waits_for == "is about to pause"
    assert claims.give_back(store, held, "paused")
    assert of(store, "a").state is VmState.PAUSED


def test_a_paused_batch_starts_nothing_until_it_is_resumed(store: Store) -> None:
    submit(store, vm("a"), vm("c"))
    control.pause(store, "b")
    assert claimed(store) is None
    assert facts(store, "b").is_paused
    assert of(store, "a").waits_for == "the batch is paused"
    assert control.resume(store, "b") == 2
    assert claimed(store) == "a"


def test_what_made_nothing_is_cancelled_at_once_and_the_rest_is_taken_back_even_in_a_paused_batch(
    store: Store, tmp_path: Path
) -> None:
    submit(store, vm("a"), vm("c"))
    held = claims.claim(store, "h:0")
    assert held is not None
    carried(store, held, Jobs(tmp_path).find("a", {"address": "x"}), "one")
    claims.give_back(store, held, "stopped")
    control.pause(store, "b")
    assert control.cancel(store, "b") == (1, 1)
    assert of(store, "c").state is VmState.CANCELLED
    again = claims.claim(store, "h:0")
    assert again is not None
    assert (again.vm, again.is_undoing) == ("a", True)
    claims.settle(store, again, VmState.CANCELLED, "")
    assert claims.unfinished(store, None) == 0


def test_retry_takes_what_failed_and_gives_one_vm_another_name(store: Store) -> None:
    submit(store, vm("a"), vm("c"))
    held = claims.claim(store, "h:0")
    assert held is not None
    claims.settle(store, held, VmState.FAILED, "409", error="409")
    with pytest.raises(UsageError, match="c is waiting"):
        control.retry(store, "b", ["c"])
    with pytest.raises(UsageError, match="one VM was not named"):
        control.retry(store, "b", name="other")
    assert control.retry(store, "b", ["a"], "a-2") == 1
    again = claims.claim(store, "h:0")
    assert again is not None
    assert (again.vm, again.attempt, again.image, again.planned.request.name) == ("a", 2, "a-2", "a-2")
    assert of(store, "a").error is None


def test_a_vm_that_there_is_not_is_named(store: Store) -> None:
    submit(store, vm("a"))
    for ask in (control.pause, control.resume, control.cancel, control.retry):
        with pytest.raises(UsageError, match="batch b has no VM zz"):
            ask(store, "b", ["zz"])
