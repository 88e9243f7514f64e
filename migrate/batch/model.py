"""A batch that was checked and resolved: which VMs, in which order, when, and how many at once."""

from datetime import datetime, time

from pydantic import BaseModel, ConfigDict, Field

from migrate.wiring.request import VmRequest


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Window(Frozen):
    """When work may start: from `opens` to `closes` on the days on which it opens (0 is Monday), in an IANA time zone; it may pass midnight."""

    opens: time
    closes: time
    days: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6)
    zone: str = "UTC"


class Limits(Frozen):
    """How many VMs at once: in all, on one worker, from one source host, to one target. None is no limit of its own."""

    overall: int | None = Field(default=None, ge=1)
    per_worker: int = Field(default=2, ge=1)
    per_source: int | None = Field(default=None, ge=1)
    per_target: int | None = Field(default=None, ge=1)


class PlannedVm(Frozen):
    """One VM of a batch. `id` is unique in the batch, and what the user types; `source` and `target` are what limits count by.

    A higher `priority` goes first. `disk_bytes` of its disks, where the source says. Nothing in it is secret.
    """

    id: str
    request: VmRequest
    source: str
    target: str
    priority: int = 0
    not_before: datetime | None = None
    window: Window | None = None
    disk_bytes: int | None = None


class Batch(Frozen):
    """`name` is unique in its database. `vms` in the file's order."""

    name: str
    vms: tuple[PlannedVm, ...]
    limits: Limits = Limits()
