"""Work that outlives its process: steps that are done are not done again, whoever goes on with it.

    with dbos_durable(store.url, member.id, steps) as durable:
        durable.begin("wave-2/erp01/1", former=None)

DBOS 3.4 does it, hidden here. What was found out about it by trial, and decides how it is used: it has no heartbeat, so a dead worker's work is gone on
with only when `begin` is told of it; at its own start it takes up what its executor id had in hand, which is forbidden by cancelling that first (a
cancelled workflow can be resumed); its default serializer is pickle, which runs what it reads; its default version is a hash of code, which strands
what an older program began; it waits for running steps when the process ends.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from dbos import DBOS, DBOSClient, DBOSConfig, DBOSPortableJSONSerializer, SetWorkflowID

from migrate.outcome import JsonObject

VERSION = "1"
"""Of the steps and what they give each other. Work that another version began is not gone on with."""
NAME = "magalu-migrate"
POLL_S = 1.0
RESUMABLE = ("PENDING", "ENQUEUED", "CANCELLED", "DELAYED")


@dataclass(frozen=True, slots=True)
class Step:
    """A part of the work: it is given the work's key and what the step before gave, and gives JSON values. It does not raise."""

    name: str
    does: Callable[[str, JsonObject], JsonObject]


class Durable(Protocol):
    """Runs the steps of a key in a thread, one after the other, and remembers what each gave."""

    def can_go_on(self, key: str) -> bool:
        """Whether work of this key was begun and did not come to its end."""

    def begin(self, key: str) -> None:
        """The work runs in this process, from its first step that is not done. Nobody else may be at it."""


class _Dbos:
    def __init__(self, work: Callable[[str], JsonObject], queue: str) -> None:
        self._work = work
        self._queue = queue

    def can_go_on(self, key: str) -> bool:
        found = DBOS.get_workflow_status(key)
        return found is not None and found.status in RESUMABLE

    def begin(self, key: str) -> None:
        if self.can_go_on(key):
            DBOS.resume_workflow(key, queue_name=self._queue)
            return
        with SetWorkflowID(key):
            DBOS.start_workflow(self._work, key)


@contextmanager
def dbos_durable(url: str, executor: str, steps: Sequence[Step]) -> Iterator[Durable]:
    """Yield what runs these steps durably in a database; one at a time in a process. What this executor had in hand waits to be begun again."""
    # It warns that SQLite is for development: on one host, with one process that writes at a time, it was killed on purpose and lost nothing.
    logging.getLogger("dbos").setLevel(logging.CRITICAL)
    config: DBOSConfig = {
        "name": NAME,
        "system_database_url": url,
        "executor_id": executor,
        "application_version": VERSION,
        "serializer": DBOSPortableJSONSerializer(),
        "log_level": "CRITICAL",
        "enable_otlp": False,
        "notification_listener_polling_interval_sec": 1.0,
    }
    DBOS(config=config)

    @DBOS.workflow(name="vm")
    def work(key: str) -> JsonObject:
        said: JsonObject = {}
        for step in steps:
            said = DBOS.run_step({"name": step.name}, step.does, key, said)
        return said

    _let_go(url, executor)
    DBOS.listen_queues([executor])
    DBOS.launch()
    try:
        DBOS.register_queue(executor, polling_interval_sec=POLL_S)
        yield _Dbos(work, executor)
    finally:
        DBOS.destroy(destroy_registry=True)


def _let_go(url: str, executor: str) -> None:
    """Nothing is in this executor's hand, so that DBOS begins nothing by itself when it starts."""
    client = DBOSClient(
        system_database_url=url, serializer=DBOSPortableJSONSerializer(), lazy=True, retry_connection_errors=False
    )
    try:
        held = client.list_workflows(executor_id=executor, status=["PENDING", "ENQUEUED"], load_input=False)
        if held:
            client.cancel_workflows([one.workflow_id for one in held])
    except _errors() as error:
        if not _is_new(error):
            raise
    finally:
        client.destroy()


def _errors() -> tuple[type[Exception], ...]:
    from sqlalchemy.exc import DBAPIError

    return (DBAPIError,)


def _is_new(error: Any) -> bool:
    """Whether DBOS has no tables there yet."""
    said = str(error.orig)
    return "no such table" in said or "does not exist" in said
