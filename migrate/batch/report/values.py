"""The facts of a batch as JSON: times as ISO 8601 in UTC, sizes in bytes, durations in seconds."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from pydantic import JsonValue, ValidationError

from migrate.batch.facts import BatchFacts, VmFacts
from migrate.batch.store_facts import to_json as known
from migrate.outcome import JsonObject
from migrate.preview import ChangesValue


def to_json(facts: BatchFacts) -> JsonObject:
    """Return all that is known, with what follows from it for each VM: its sizes, and what is left to do."""
    made = known(facts)
    made["vms"] = [
        {**cast(JsonObject, one), "left_to_do": list(left_to_do(vm))}
        for one, vm in zip(cast(list[JsonValue], made["vms"]), facts.vms, strict=True)
    ]
    return made


@dataclass(frozen=True, slots=True)
class Result:
    """What an outcome says that the table shows. Sizes in bytes; `proof` in words, `proof_held` None where it was not booted."""

    image_id: str | None
    image_bytes: int | None
    virtual_bytes: int | None
    read_bytes: int | None
    proof: str
    proof_held: bool | None
    login: str | None


def result(vm: VmFacts) -> Result:
    said = vm.outcome or {}
    image, stored, proof = _object(said.get("image")), _object(said.get("qcow2")), _object(said.get("proof"))
    return Result(
        image_id=_text(image.get("id")),
        image_bytes=_number(stored.get("bytes")),
        virtual_bytes=_number(stored.get("virtual_bytes")),
        read_bytes=_number(said.get("bytes_read")),
        proof=_text(proof.get("summary")) or "",
        proof_held=bool(proof["held"]) if "held" in proof else None,
        login=_text(said.get("login")),
    )


def changes(vm: VmFacts) -> ChangesValue | None:
    """Return what was changed in the guest; None where it was not reached, or another version of this program wrote it."""
    said = (vm.outcome or {}).get("changes")
    try:
        return None if said is None else ChangesValue.model_validate(said)
    except ValidationError:
        return None


def left_to_do(vm: VmFacts) -> Iterator[str]:
    """Yield what somebody must still see to: what keeps the VM from being done, and each warning that was not waived."""
    if vm.error:
        yield f"{vm.error} {vm.hint or ''}".strip()
    for reason in vm.reasons:
        yield f"{reason.code}: {reason.text} {reason.remedy or ''}".strip()
    made = changes(vm)
    for finding in made.findings if made else ():
        if finding.severity == "warning" and not finding.waived:
            yield f"{finding.code}: {finding.text} {finding.remedy or ''}".strip()
    yield from _data_disks(vm)


def _data_disks(vm: VmFacts) -> Iterator[str]:
    """Yield each disk that is not in the image, with the commands that make a volume of it, as migrate.outcome.DataDisk tells them."""
    said = (vm.outcome or {}).get("data_disks")
    for one in said if isinstance(said, list) else []:
        stored = _object(one)
        name = f"data disk {stored.get('disk')}, {stored.get('name')},"
        if stored.get("key") is None:
            yield f"{name} is left behind: nothing of it was sent"
            continue
        steps = stored.get("steps")
        typed = [_typed(_object(step)) for step in steps] if isinstance(steps, list) else []
        yield f"{name} is {stored.get('bucket')}/{stored.get('key')}: bring it into a volume: {' · '.join(typed)}"


def _typed(step: dict[str, JsonValue]) -> str:
    commands = step.get("commands")
    return f"{step.get('where')}: {'; '.join(map(str, commands if isinstance(commands, list) else []))}"


def _object(value: JsonValue) -> dict[str, JsonValue]:
    return value if isinstance(value, dict) else {}


def _text(value: JsonValue) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: JsonValue) -> int | None:
    return value if isinstance(value, int) else None
