"""What is known of batches, for the tests of what shows it: a night of a dozen VMs in every state, hundreds, and one that attacks its reader."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import cast

from migrate.batch.facts import BatchFacts, Sample, StageFacts, VmFacts, VmState, WorkerFacts
from migrate.errors import Reason
from migrate.outcome import JsonObject
from migrate.preview import Preview, changes_json
from tests.preview_guests import EVIL, hostile, ordinary

BEGAN = datetime(2026, 11, 22, 22, 0, tzinfo=UTC)
NOW = BEGAN + timedelta(hours=2)
STAGES = (("describe", 2), ("freeze", 4), ("remediate", 56), ("prove", 80), ("transfer", 600), ("import", 120))


def outcome(name: str, preview: Preview) -> JsonObject:
    proof = {
        "held": True,
        "summary": "login as debian after 70 s, cloud-init done, root grew",
        "reasons": [],
        "claims": [
            {"name": "dhcp", "text": "it asked for an address", "held": True, "needed": True, "seconds": 21.5, "evidence": "192.0.2.15"},
            {"name": "units", "text": "no unit failed", "held": False, "needed": False, "seconds": None, "evidence": "backup.service"},
        ],
        "console": ["[  0.0] Linux", "login:"],
    }  # fmt: skip
    return cast(
        JsonObject,
        {
            "status": "active",
            "name": name,
            "image": {"id": f"id-of-{name}", "name": f"{name}-20261122", "status": "active"},
            "object": {"bucket": "magalu-migrate", "key": f"{name}.qcow2", "bytes": 300 << 20, "kept": False},
            "qcow2": {"path": None, "bytes": 300 << 20, "virtual_bytes": 4 << 30, "disk_sha256": "ab" * 32},
            "changes": changes_json(preview.changes),
            "proof": proof,
            "login": "debian",
            "seconds": {},
            "bytes_read": 800 << 20,
        },
    )


def vm(number: int, state: VmState, *, name: str | None = None, preview: Preview | None = None) -> VmFacts:
    name = name or f"erp{number:02d}"
    at = BEGAN + timedelta(minutes=5 * number)
    reached = len(STAGES) if state is VmState.DONE else {VmState.WAITING: 0, VmState.REFUSED: 1}.get(state, 5)
    stages: list[StageFacts] = []
    for stage, seconds in STAGES[:reached]:
        last = len(stages) + 1 == reached and state is not VmState.DONE
        stages.append(StageFacts(stage, at, None if last else at + timedelta(seconds=seconds), "as it must", "host:0"))
        at += timedelta(seconds=seconds)
    facts = VmFacts(
        id=name,
        name=name,
        address=f"vmware://vc.example/DC0/{name}",
        image=f"{name}-20261122",
        state=state,
        began=stages[0].began if stages else None,
        ended=at if state.is_final else None,
        stages=tuple(stages),
        attempt=1 if stages else 0,
        disk_bytes=4 << 30,
    )
    match state:
        case VmState.DONE:
            return replace(facts, outcome=outcome(name, preview or ordinary()))
        case VmState.RUNNING:
            return replace(
                facts,
                stage="transfer",
                done=600e6,
                total=1e9,
                rate=20e6,
                left_s=20.0,
                last="part 18 sent",
                worker="host:0",
            )
        case VmState.FAILED:
            return replace(facts, error="409 name exists", hint=f"batch retry {name} --name {name}-b")
        case VmState.REFUSED:
            reasons = (
                Reason("SRC-100", "it has a data disk", "--data-disks skip"),
                Reason("GUEST-003", "Windows", None),
            )
            return replace(facts, error=f"{name} cannot go", reasons=reasons)
        case VmState.WAITING:
            return replace(facts, waits_for="window opens 22:00")
    return facts  # fmt: skip


def night() -> BatchFacts:
    """A dozen VMs: every state there is."""
    states = [VmState.DONE] * 5 + [*VmState] + [VmState.WAITING]
    return batch("wave-2", tuple(vm(number, state) for number, state in enumerate(states)))


def many(count: int) -> BatchFacts:
    states = list(VmState)
    return batch("fleet", tuple(vm(number, states[number % len(states)]) for number in range(count)))


def hostile_batch() -> BatchFacts:
    """Names, errors and guests that want to run something where they are read."""
    evil = replace(vm(0, VmState.DONE, name="".join(EVIL), preview=hostile()), image="".join(EVIL))
    failed = replace(vm(1, VmState.FAILED), error=f'=cmd|"/c calc"!A1 {"".join(EVIL)}', name="=1+1")
    return batch("".join(EVIL), (evil, failed))


def batch(name: str, vms: tuple[VmFacts, ...]) -> BatchFacts:
    samples = tuple(Sample(BEGAN + timedelta(minutes=number), (number**2) << 24) for number in range(120))
    running = tuple(one.id for one in vms if one.state is VmState.RUNNING)
    return BatchFacts(name, NOW, BEGAN, False, vms, (WorkerFacts("host:0", "host", NOW, True, running),), samples)
