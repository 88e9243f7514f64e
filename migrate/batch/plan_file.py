"""plan.json: what the previews of a batch say of each VM, and which plan a later run is held to."""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from migrate.batch.model import Batch, PlannedVm
from migrate.errors import UsageError
from migrate.text import counted, one_line
from migrate.whole_file import write_whole
from migrate.wiring.request import GuestRequest

NAME = "plan.json"
MOST_BYTES = 256 << 20
MOST_NAMED = 8
Beside = Annotated[str, Field(pattern=r"^vms/[A-Za-z0-9][A-Za-z0-9._-]*\.(html|json)$")]
"""A file of ours: a plan.json that somebody else wrote leads nowhere else."""
Status = Literal["can go", "refused", "failed"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ReasonSaid(_Model):
    code: str
    text: str
    remedy: str | None = None


class VmPlan(_Model):
    """What the preview of one VM says. `asked` tells the same wish again; `page` and `preview` are files beside plan.json.

    `plan` and `digest` are None where there is no preview. Sizes in bytes.
    """

    id: str
    name: str
    address: str
    asked: str
    status: Status
    made: datetime
    page: Beside | None = None
    preview: Beside | None = None
    plan: str | None = None
    digest: str | None = None
    system: str | None = None
    disk_bytes: int | None = None
    read_bytes: int | None = None
    changes: int = 0
    warnings: int = 0
    reasons: tuple[ReasonSaid, ...] = ()
    error: str | None = None
    hint: str | None = None


class PlanFile(_Model):
    """`vms` in the batch's order. `expected` is how many there will be when all are made."""

    schema_: Literal["magalu-migrate/batch-plan/1"] = Field(default="magalu-migrate/batch-plan/1", alias="schema")
    batch: str
    version: str
    made: datetime
    expected: int
    vms: tuple[VmPlan, ...]

    def write(self, folder: Path) -> None:
        write_whole(folder / NAME, self.model_dump_json(by_alias=True, indent=1).encode())


def asked(vm: PlannedVm) -> str:
    """Return what tells a wish for a preview from any other: the disk, how it is read, and how its guest is repaired."""
    of_guest = {*GuestRequest.model_fields, "address"}
    return hashlib.sha256(vm.request.model_dump_json(include=of_guest).encode()).hexdigest()


def read_plan(path: Path) -> PlanFile:
    """Read a plan.json, or that of a folder. Raise UsageError where it is none."""
    file = path / NAME if path.is_dir() else path
    shown = one_line(str(file))
    try:
        if file.stat().st_size > MOST_BYTES:
            raise UsageError(f"{shown} is larger than any plan of a batch")
        return PlanFile.model_validate_json(file.read_bytes())
    except OSError as error:
        raise UsageError(f"{shown} cannot be read: {error.strerror}", hint=_HINT) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise UsageError(
            f"{shown} is no plan of a batch of this version's: {place}: {first['msg']}", hint=_HINT
        ) from error


_HINT = "`magalu-migrate batch plan FILE --into FOLDER` writes one."


def approved(batch: Batch, path: Path) -> Batch:
    """Return the batch with each VM held to its plan in a plan.json. Raise UsageError where one has none that can go, or another wish."""
    plans = {(plan.id, plan.address): plan for plan in read_plan(path).vms}
    held: list[PlannedVm] = []
    without: list[str] = []
    for vm in batch.vms:
        plan = plans.get((vm.id, vm.request.address))
        if plan is None or plan.digest is None or plan.status != "can go":
            without.append(f"{vm.id} ({plan.status if plan else 'not in it'})")
        elif plan.asked != asked(vm):
            without.append(f"{vm.id} (asked for otherwise now)")
        else:
            request = vm.request.model_copy(update={"approve": plan.digest})
            held.append(vm.model_copy(update={"request": request}))
    if without:
        raise UsageError(
            f"{one_line(str(path))} has no plan for {counted(len(without), 'VM')} of the batch: {_named(without)}",
            hint="Make the previews again, or leave these VMs out of the batch file.",
        )
    return batch.model_copy(update={"vms": tuple(held)})


def check_held(batch: Batch, there: Sequence[PlannedVm]) -> None:
    """The VMs that a batch has already are held to the same plans. Raise UsageError where they are not: they stay as they were asked for."""
    wanted = {vm.id: vm.request.approve for vm in batch.vms}
    otherwise = [vm.id for vm in there if vm.id in wanted and vm.request.approve != wanted[vm.id]]
    if otherwise:
        raise UsageError(
            f"{counted(len(otherwise), 'VM')} of {batch.name} are in the database already, and not held to these plans: {_named(otherwise)}",
            hint=f"Go on without --approve; or give the batch another name, and cancel this one: magalu-migrate batch cancel --batch {batch.name}",
        )


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(map(one_line, names[:MOST_NAMED])) + more
