"""The processes that run VMs: each has a fixed name and says that it lives; what a dead one held goes to another.

A worker's name is its host's with the number of its slot, "mig01:0". A slot is a locked file in the work folder: whoever has the lock knows that its
former holder is dead, and takes its place at once; other hosts wait until its lease has run out.
"""

import fcntl
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from uuid import uuid4

import sqlalchemy as sa

from migrate.batch import store_tables as tables
from migrate.batch.store import Store, place_of
from migrate.batch.store_claims import hand_over
from migrate.errors import MigrateError

LEASE_S = 40.0
"""How long a worker is believed to live that says nothing; with what a reaper takes to look, less than a minute."""
SLOTS = 256


@dataclass(slots=True)
class Membership:
    """A worker's place among all. `lease_s` in seconds."""

    store: Store
    id: str
    place: str
    instance: str
    lease_s: float
    _renewed: float = field(default_factory=time.monotonic)

    @property
    def is_lost(self) -> bool:
        """Whether others may have taken what this worker holds: it could not say in time that it lives."""
        return time.monotonic() - self._renewed > self.lease_s

    def renew(self) -> bool:
        """The worker lives for another lease. Return False where it is no longer known: others believed it dead, and what it held is theirs."""
        asked = time.monotonic()
        row = tables.WORKERS.c
        with self.store.write() as connection:
            now = self.store.now(connection)
            known = connection.execute(
                tables.WORKERS.update()
                .where(row.id == self.id, row.instance == self.instance, row.until > now)
                .values(seen=now, until=now + self.lease_s)
            )
        if known.rowcount == 0:
            return False
        self._renewed = asked
        return True

    def rejoin(self) -> None:
        """The worker is known again, with nothing."""
        with self.store.write(alone=True) as connection:
            _enter(self.store, connection, self)
        self._renewed = time.monotonic()


@contextmanager
def joined(store: Store, work: Path, lease_s: float = LEASE_S) -> Iterator[Membership]:
    """Be a worker while the block lasts. What a dead process of this slot held waits for the next claim."""
    place = place_of(work)
    host = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname()) or "host"
    for slot in range(SLOTS):
        lock = _locked(work / "workers" / f"{slot}.lock")
        if lock is None:
            continue
        with lock:
            member = Membership(store, f"{host}:{slot}", place, uuid4().hex, lease_s)
            with store.write(alone=True) as connection:
                entered = _enter(store, connection, member)
            if not entered:
                continue
            try:
                yield member
            finally:
                _leave(member)
            return
    raise MigrateError(f"{SLOTS} workers run on this host already", hint="End one of them.")


def others(store: Store, own: str | None = None) -> tuple[str, ...]:
    """Return the workers that live, but this one."""
    row = tables.WORKERS.c
    with store.read() as connection:
        now = store.now(connection)
        return tuple(
            one.id
            for one in connection.execute(sa.select(row.id).where(row.until > now).order_by(row.id))
            if one.id != own
        )


def reap(store: Store) -> tuple[str, ...]:
    """What dead workers held waits for others. Return the ids of those VMs."""
    row = tables.WORKERS.c
    with store.read() as connection:
        dead = connection.execute(_dead(store.now(connection))).all()
    if not dead:
        return ()
    with store.write(alone=True) as connection:
        now = store.now(connection)
        found: list[str] = []
        for one in connection.execute(_dead(now)).all():
            found += hand_over(connection, one.worker, f"worker {one.worker} is gone; another one goes on", now)
            connection.execute(tables.WORKERS.delete().where(row.id == one.worker))
        return tuple(found)


def _dead(now: float) -> "sa.Select[tuple[str]]":
    """The workers that hold VMs and have no lease."""
    vm, row = tables.VMS.c, tables.WORKERS.c
    alive = sa.select(row.id).where(row.until > now)
    return sa.select(vm.worker).where(vm.state == "running", vm.worker.not_in(alive)).distinct()


def _enter(store: Store, connection: sa.Connection, member: Membership) -> bool:
    """The worker is known. Return False where its name is that of one that lives elsewhere."""
    row = tables.WORKERS.c
    now = store.now(connection)
    there = connection.execute(sa.select(tables.WORKERS).where(row.id == member.id)).first()
    if there is not None and there.until > now and there.place != member.place:
        return False
    hand_over(connection, member.id, f"worker {member.id} began anew", now)
    connection.execute(tables.WORKERS.delete().where(row.id == member.id))
    connection.execute(
        tables.WORKERS.insert().values(
            id=member.id,
            host=member.id.rpartition(":")[0],
            place=member.place,
            instance=member.instance,
            seen=now,
            until=now + member.lease_s,
        )
    )
    return True


def _leave(member: Membership) -> None:
    """The worker is gone, and what it still held waits."""
    row = tables.WORKERS.c
    with member.store.write(alone=True) as connection:
        mine = sa.and_(row.id == member.id, row.instance == member.instance)
        if connection.execute(sa.select(row.id).where(mine)).first() is not None:
            hand_over(connection, member.id, f"worker {member.id} ended", member.store.now(connection))
            connection.execute(tables.WORKERS.delete().where(mine))


def _locked(path: Path) -> TextIOWrapper | None:
    """The file, locked; None where another process has it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file
