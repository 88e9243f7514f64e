"""Where batches are kept: an SQLite file below the work folder, or a PostgreSQL database that many hosts share.

    with open_store(None, work) as store:
        store.submit(batch)
        facts(store, "wave-2")

Nothing in it is secret. A password for PostgreSQL comes from PGPASSWORD or ~/.pgpass, which libpq reads itself.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from migrate.batch.model import Batch, Limits, PlannedVm
from migrate.errors import MigrateError, UsageError
from migrate.text import one_line

try:
    import sqlalchemy as sa
except ModuleNotFoundError as error:
    raise UsageError(
        "batches need DBOS, the library that keeps them through crashes, and it is not installed",
        hint="pip install 'magalu-migrate[batch]'",
    ) from error

from migrate.batch import store_tables as tables

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPIConnection

FILE = "batches.sqlite"
BUSY_S = 30
"""How long one process waits for another's transaction on SQLite."""
LOCK = 0x6D6D6261746368
"""The advisory lock of our claims on PostgreSQL: they are made one after the other, so that limits hold."""

LOCAL_PASSWORD = "password"  # noqa: S105 - the name of a parameter


@dataclass(frozen=True, slots=True)
class Store:
    """A database of batches, open. `url` is DBOS's name for it, without a password."""

    engine: sa.Engine
    url: str

    @property
    def is_shared(self) -> bool:
        """Whether several hosts may work on it."""
        return self.engine.dialect.name == "postgresql"

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A look at the database that waits for nobody."""
        with self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self, *, alone: bool = False) -> Iterator[sa.Connection]:
        """A transaction. With `alone` no other one of these runs at the same time, on any host."""
        with self.engine.begin() as connection:
            if not self.is_shared:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            elif alone:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
            yield connection

    def now(self, connection: sa.Connection) -> float:
        """Return the time that all workers agree on, in seconds since 1970: the server's, where there is one."""
        if not self.is_shared:
            return time.time()
        return float(connection.execute(sa.text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())

    def submit(self, batch: Batch) -> int:
        """The batch is there with these VMs and limits. Return how many VMs are new; those that it has already stay as they are."""
        with self.write(alone=True) as connection:
            now = self.now(connection)
            limits = batch.limits.model_dump_json()
            of = tables.BATCHES.c.name == batch.name
            if connection.execute(sa.select(tables.BATCHES.c.name).where(of)).first() is None:
                connection.execute(
                    tables.BATCHES.insert().values(name=batch.name, created=now, is_paused=False, limits=limits, sent=0)
                )
            else:
                connection.execute(tables.BATCHES.update().where(of).values(limits=limits))
            return len(_added(connection, batch.name, batch.vms))

    def add(self, batch: str, vms: Sequence[PlannedVm]) -> tuple[str, ...]:
        """The batch has these VMs, too. Return the ids of those that it had already; they stay as they are. Raise UsageError."""
        with self.write(alone=True) as connection:
            check_batch(connection, batch)
            new = _added(connection, batch, vms)
            return tuple(vm.id for vm in vms if vm.id not in new)

    def planned(self, batch: str) -> tuple[PlannedVm, ...]:
        """Return the VMs of a batch as they were asked for, in its order; none where there is no such batch."""
        vm = tables.VMS.c
        with self.read() as connection:
            rows = connection.execute(sa.select(vm.planned).where(vm.batch == batch).order_by(vm.position))
            return tuple(PlannedVm.model_validate_json(row.planned) for row in rows)

    def names(self) -> tuple[str, ...]:
        """Return the names of all batches, the newest first."""
        with self.read() as connection:
            rows = connection.execute(sa.select(tables.BATCHES.c.name).order_by(tables.BATCHES.c.created.desc()))
            return tuple(row.name for row in rows)

    def limits(self, batch: str) -> Limits:
        with self.read() as connection:
            return Limits.model_validate_json(check_batch(connection, batch).limits)

    def close(self) -> None:
        self.engine.dispose()


@contextmanager
def open_store(database: str | None, work: Path) -> Iterator[Store]:
    """Yield the batches of a database, whose tables are made where they are missing; by default an SQLite file in the work folder.

    Raise UsageError for a URL that is none of PostgreSQL's or holds a password; MigrateError where the database cannot be used.
    """
    engine, url = (_sqlite(work / FILE)) if database is None else _postgresql(database)
    try:
        with _told(url), engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
            else:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            _check_version(connection, url)
        yield Store(engine, url)
    finally:
        engine.dispose()


def check_batch(connection: sa.Connection, name: str) -> "sa.Row[Any]":
    """Return the row of a batch. Raise UsageError where there is none."""
    row = connection.execute(sa.select(tables.BATCHES).where(tables.BATCHES.c.name == name)).first()
    if row is None:
        raise UsageError(
            f"there is no batch {one_line(name)} in this database", hint="`magalu-migrate batch status` lists them."
        )
    return row


def _added(connection: sa.Connection, batch: str, vms: Sequence[PlannedVm]) -> set[str]:
    vm = tables.VMS.c
    there = {row.id for row in connection.execute(sa.select(vm.id).where(vm.batch == batch))}
    position = connection.execute(sa.select(sa.func.count()).where(vm.batch == batch)).scalar_one()
    rows = [
        {
            "batch": batch,
            "id": one.id,
            "position": position + number,
            "planned": one.model_dump_json(),
            "address": one.request.address,
            "image": one.request.name,
            "source": one.source,
            "target": one.target,
            "priority": one.priority,
            "not_before": one.not_before.timestamp() if one.not_before else None,
            "open_window": one.window.model_dump_json() if one.window else None,
            "disk_bytes": one.disk_bytes,
            "state": "waiting",
            "wanted": "run",
            "fence": 0,
            "attempt": 0,
            "busy": 0,
            "unit": "B",
            "last": "",
        }
        for number, one in enumerate(vms)
        if one.id not in there
    ]
    if rows:
        connection.execute(tables.VMS.insert(), rows)
    return {str(row["id"]) for row in rows}


def _sqlite(path: Path) -> tuple[sa.Engine, str]:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600)
    url = f"sqlite:///{path.absolute()}"
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_S})

    @sa.event.listens_for(engine, "connect")
    def connected(opened: "DBAPIConnection", _: object) -> None:
        # `write` begins transactions itself: sqlite3's own begin at the first change, after the look that decided about it.
        opened.isolation_level = None
        cursor = opened.cursor()
        # Who only looks must not wait for who writes; the mode is kept in the file, so DBOS's connections have it, too.
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.close()

    return engine, url


def _postgresql(database: str) -> tuple[sa.Engine, str]:
    try:
        url = sa.make_url(database)
    except sa.exc.ArgumentError as error:
        raise UsageError("--database is no URL", hint="For example: postgresql://migrate@db.example/migrate") from error
    if url.get_backend_name() not in ("postgresql", "postgres"):
        raise UsageError(
            f"--database names {one_line(url.get_backend_name())}, and only PostgreSQL is possible there",
            hint="Leave it out for a file in the work folder, or give postgresql://USER@HOST/NAME.",
        )
    if url.password is not None or LOCAL_PASSWORD in url.query:
        raise UsageError(
            "--database holds a password, which every process of this machine may read there",
            hint="Leave it out, and give it in PGPASSWORD or ~/.pgpass.",
        )
    url = url.set(drivername="postgresql+psycopg")
    return sa.create_engine(url, pool_pre_ping=True), url.render_as_string()


@contextmanager
def _told(url: str) -> Iterator[None]:
    """A database that cannot be reached is said by its name. The error of the library below is not passed on: it may hold what it was given."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        failure = MigrateError(
            f"{one_line(url)} cannot be used: {one_line(str(error.orig).strip().splitlines()[0])}",
            hint="Check that it runs, that you may create tables in it, and PGPASSWORD or ~/.pgpass."
            if "postgresql" in url
            else "Check that the work folder may be written and has room.",
        )
    else:
        return
    raise failure


def _check_version(connection: sa.Connection, url: str) -> None:
    tables.METADATA.create_all(connection)
    found = connection.execute(sa.select(tables.SCHEMA.c.version)).scalar()
    if found is None:
        connection.execute(tables.SCHEMA.insert().values(version=tables.VERSION))
    elif found != tables.VERSION:
        raise UsageError(
            f"{one_line(url)} was made by another version of this program (its tables are of version {found}, ours of {tables.VERSION})",
            hint="Finish its batches with that version, or give another database.",
        )


def place_of(work: Path) -> str:
    """Return what names a work folder among all: a job's local files are found by who has the same one."""
    path = work / "place"
    work.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        for _ in range(50):
            if text := path.read_text().strip():
                return text
            time.sleep(0.02)  # its maker is about to write it
        raise MigrateError(f"{path} is empty", hint="Remove it, and run the same command again.") from None
    with os.fdopen(descriptor, "w") as file:
        name = os.urandom(12).hex()
        file.write(name)
    return name
