"""What the database of batches keeps, and what is read from it."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from migrate.batch.facts import VmState
from migrate.batch.model import Batch, Limits, PlannedVm
from migrate.batch.store import Store, open_store, place_of
from migrate.batch.store_facts import facts, to_json
from migrate.errors import MigrateError, UsageError
from migrate.wiring.request import VmRequest


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(None, tmp_path) as opened:
        yield opened


def planned(id_: str, *, source: str = "esx01", priority: int = 0, disk_bytes: int | None = 1 << 30) -> PlannedVm:
    request = VmRequest(address=f"memory://cloud/{id_}", sandbox=True)
    return PlannedVm(id=id_, request=request, source=source, target="sandbox", priority=priority, disk_bytes=disk_bytes)


def test_a_batch_that_was_submitted_is_there_for_the_next_process(tmp_path: Path) -> None:
    with open_store(None, tmp_path) as store:
        store.submit(Batch(name="wave-2", vms=(planned("erp01"), planned("crm02")), limits=Limits(overall=3)))
    with open_store(None, tmp_path) as store:
        found = facts(store, "wave-2")
        assert store.limits("wave-2") == Limits(overall=3)
    assert [(vm.id, vm.state, vm.address) for vm in found.vms] == [
        ("erp01", VmState.WAITING, "memory://cloud/erp01"),
        ("crm02", VmState.WAITING, "memory://cloud/crm02"),
    ]
    assert found.counts == {VmState.WAITING: 2}
    assert found.at.tzinfo is UTC


def test_a_batch_that_is_submitted_again_keeps_what_it_has_and_takes_what_is_new(store: Store) -> None:
    assert store.submit(Batch(name="wave-2", vms=(planned("erp01"),))) == 1
    assert store.submit(Batch(name="wave-2", vms=(planned("erp01"), planned("crm02")))) == 1
    assert store.add("wave-2", [planned("crm02"), planned("web11")]) == ("crm02",)
    assert [vm.id for vm in facts(store, "wave-2").vms] == ["erp01", "crm02", "web11"]


def test_a_batch_that_there_is_not_is_named(store: Store) -> None:
    with pytest.raises(UsageError, match="there is no batch wave-9"):
        facts(store, "wave-9")


def test_the_facts_of_500_vms_are_read_in_a_fraction_of_a_second(store: Store) -> None:
    store.submit(Batch(name="all", vms=tuple(planned(f"vm{number:03}") for number in range(500))))
    began = time.process_time()
    found = facts(store, "all", outcomes=False)
    assert time.process_time() - began < 0.5
    assert len(found.vms) == 500


def test_the_facts_are_json(store: Store) -> None:
    store.submit(Batch(name="wave-2", vms=(planned("erp01"),)))
    found = to_json(facts(store, "wave-2"))
    assert found["counts"] == {
        "waiting": 1,
        "running": 0,
        "paused": 0,
        "done": 0,
        "refused": 0,
        "failed": 0,
        "cancelled": 0,
    }
    assert datetime.fromisoformat(str(found["at"])).tzinfo is not None


def test_a_password_in_the_address_of_a_database_is_refused_and_not_repeated(tmp_path: Path) -> None:
    for url in ("postgresql://me:s3cret@db/x", "postgresql://me@db/x?password=s3cret"):
        with pytest.raises(UsageError, match="PGPASSWORD") as refused, open_store(url, tmp_path):
            pass
        assert "s3cret" not in str(refused.value)


def test_only_postgresql_is_taken_as_an_address(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="only PostgreSQL"), open_store("mysql://me@db/x", tmp_path):
        pass


def test_a_database_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(MigrateError, match=r"postgresql.*127\.0\.0\.1:1/x cannot be used"),
        open_store("postgresql://me@127.0.0.1:1/x", tmp_path),
    ):
        pass


def test_tables_of_another_version_are_refused(tmp_path: Path) -> None:
    with open_store(None, tmp_path) as store, store.write() as connection:
        connection.exec_driver_sql("UPDATE mm_schema SET version = 99")
    with pytest.raises(UsageError, match="version 99"), open_store(None, tmp_path):
        pass


def test_a_work_folder_has_one_name_and_keeps_it(tmp_path: Path) -> None:
    assert place_of(tmp_path) == place_of(tmp_path) != place_of(tmp_path / "another")
