"""What a watched page shows, read often: what cannot change any more is read once."""

import threading
from dataclasses import replace

from migrate.batch.facts import BatchFacts, EventFacts, VmFacts
from migrate.batch.store import Store
from migrate.batch.store_facts import events, facts, outcome
from migrate.errors import UsageError
from migrate.outcome import JsonObject

LAST_EVENTS = 100


class Watch:
    """The batches of a database. Safe from several threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[tuple[str, str, int, object], JsonObject | None] = {}
        self._lock = threading.Lock()

    def names(self) -> tuple[str, ...]:
        return self._store.names()

    def overview(self, batch: str) -> BatchFacts:
        """Return a batch without what only a VM's own page shows: diffs and consoles. Raise UsageError where there is none."""
        found = facts(self._store, batch, outcomes=False, stages=True)
        return replace(found, vms=tuple(replace(vm, outcome=self._slim(batch, vm)) for vm in found.vms))

    def vm(self, batch: str, id_: str) -> tuple[VmFacts, tuple[EventFacts, ...]]:
        """Return all that is known of one VM, and the end of its log. Raise UsageError where there is none."""
        found = facts(self._store, batch, outcomes=False, stages=True)
        for vm in found.vms:
            if vm.id == id_:
                log = tuple(event for _, event in events(self._store, batch, id_, last=LAST_EVENTS))
                return replace(vm, outcome=outcome(self._store, batch, id_)), log
        raise UsageError(f"{batch} has no VM {id_}")

    def _slim(self, batch: str, vm: VmFacts) -> JsonObject | None:
        if not vm.state.is_final:
            return None
        key = (batch, vm.id, vm.attempt, vm.ended)
        with self._lock:
            if key in self._known:
                return self._known[key]
        slim = _slimmed(outcome(self._store, batch, vm.id))
        with self._lock:
            self._known[key] = slim
        return slim


def _slimmed(said: JsonObject | None) -> JsonObject | None:
    if said is None:
        return None
    made = dict(said)
    if isinstance(changes := made.get("changes"), dict):
        made["changes"] = {**changes, "effects": [], "facts": []}
    if isinstance(proof := made.get("proof"), dict):
        made["proof"] = {**proof, "console": [], "claims": []}
    return made
