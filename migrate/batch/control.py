"""What a user asks of a batch from any terminal: it is written into the database, and workers see it within a second."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from migrate.batch import store_tables as tables
from migrate.batch.model import PlannedVm
from migrate.batch.store import Store, check_batch
from migrate.errors import UsageError
from migrate.text import one_line

ENDED = ("done", "refused", "failed", "cancelled")


def pause(store: Store, batch: str, vms: Sequence[str] = ()) -> int:
    """These VMs stop and stay where they are; without any, nothing of the batch runs. Return how many that concerns. Raise UsageError."""
    vm = tables.VMS.c
    with store.write(alone=True) as connection:
        rows = _rows(connection, batch, vms)
        if not vms:
            _set_paused(connection, batch, is_paused=True)
            return sum(row.state not in ENDED for row in rows)
        found = [row.id for row in rows if row.state in ("waiting", "running") and row.wanted == "run"]
        of = sa.and_(vm.batch == batch, vm.id.in_(found))
        connection.execute(tables.VMS.update().where(of).values(wanted="pause"))
        connection.execute(tables.VMS.update().where(of, vm.state == "waiting").values(state="paused"))
        return len(found)


def resume(store: Store, batch: str, vms: Sequence[str] = ()) -> int:
    """These VMs go on; without any, the batch and all that was paused of it. Return how many VMs go on. Raise UsageError."""
    vm = tables.VMS.c
    with store.write(alone=True) as connection:
        rows = _rows(connection, batch, vms)
        was_paused = check_batch(connection, batch).is_paused
        if not vms:
            _set_paused(connection, batch, is_paused=False)
        found = [row.id for row in rows if row.wanted == "pause"]
        of = sa.and_(vm.batch == batch, vm.id.in_(found))
        connection.execute(tables.VMS.update().where(of).values(wanted="run"))
        connection.execute(tables.VMS.update().where(of, vm.state == "paused").values(state="waiting"))
        return sum(row.state not in ENDED for row in rows) if was_paused and not vms else len(found)


def cancel(store: Store, batch: str, vms: Sequence[str] = ()) -> tuple[int, int]:
    """These VMs, or all that have not ended, stop for good, and what they made is taken back.

    Return how many are cancelled at once, because they made nothing yet, and how many a worker takes back. One that failed is taken back where it is
    named. Raise UsageError.
    """
    vm = tables.VMS.c
    with store.write(alone=True) as connection:
        now = store.now(connection)
        wanted = [
            row
            for row in _rows(connection, batch, vms)
            if row.state not in ENDED or (vms and row.state in ("failed", "refused") and row.job_file is not None)
        ]
        bare = [row.id for row in wanted if row.state != "running" and row.job_file is None]
        rest = [row.id for row in wanted if row.id not in bare]
        of = vm.batch == batch
        connection.execute(
            tables.VMS.update()
            .where(of, vm.id.in_(bare))
            .values(state="cancelled", wanted="run", ended=now, last="cancelled", last_at=now)
        )
        connection.execute(tables.VMS.update().where(of, vm.id.in_(rest)).values(wanted="cancel"))
        connection.execute(
            tables.VMS.update().where(of, vm.id.in_(rest), vm.state.in_(ENDED)).values(state="waiting", ended=None)
        )
        return len(bare), len(rest)


def retry(store: Store, batch: str, vms: Sequence[str] = (), name: str | None = None) -> int:
    """These VMs, or all that failed, run again; what they have done counts. `name` is the image's from now on, for one VM.

    Return how many. Raise UsageError where one runs or waits, or is done.
    """
    vm = tables.VMS.c
    with store.write(alone=True) as connection:
        rows = _rows(connection, batch, vms)
        if name is not None and len(vms) != 1:
            raise UsageError("--name is one image's, and one VM was not named", hint="Name the one VM that gets it.")
        wrong = [row for row in rows if row.state not in ("failed", "refused", "cancelled")]
        if vms and wrong:
            raise UsageError(
                f"{one_line(wrong[0].id)} is {wrong[0].state}: only what failed, was refused or was cancelled is tried again",
                hint="`magalu-migrate batch status` shows the states.",
            )
        found = [row for row in rows if row.state in (("failed", "refused", "cancelled") if vms else ("failed",))]
        for row in found:
            values: dict[str, Any] = {
                "state": "waiting",
                "wanted": "run",
                "attempt": row.attempt + 1,
                "busy": 0,
                "not_before": None,
                "ended": None,
                "error": None,
                "hint": None,
                "reasons": None,
                "last": "",
            }
            if name is not None:
                values |= {"image": name}
                if row.job_file is None:  # nothing was begun: it is as if it had been asked for so
                    values |= {"planned": _named(row.planned, name)}
            connection.execute(tables.VMS.update().where(vm.batch == batch, vm.id == row.id).values(**values))
        return len(found)


def _named(planned: str, name: str) -> str:
    vm = PlannedVm.model_validate_json(planned)
    return vm.model_copy(update={"request": vm.request.model_copy(update={"name": name})}).model_dump_json()


def _set_paused(connection: sa.Connection, batch: str, *, is_paused: bool) -> None:
    connection.execute(tables.BATCHES.update().where(tables.BATCHES.c.name == batch).values(is_paused=is_paused))


def _rows(connection: sa.Connection, batch: str, vms: Sequence[str]) -> list[Any]:
    """The batch's VMs, those that are named where some are. Raise UsageError for one that it has not."""
    check_batch(connection, batch)
    rows = connection.execute(sa.select(tables.VMS).where(tables.VMS.c.batch == batch)).all()
    known = {row.id for row in rows}
    if missing := [one for one in vms if one not in known]:
        raise UsageError(
            f"batch {one_line(batch)} has no VM {', '.join(map(one_line, missing))}",
            hint=f"`magalu-migrate batch status {one_line(batch)}` lists them.",
        )
    return [row for row in rows if not vms or row.id in vms]
