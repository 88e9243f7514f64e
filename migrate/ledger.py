"""Where we write down what we are about to make elsewhere, so that a dead run's things can be found and removed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from migrate.errors import MigrateError


@dataclass(frozen=True, slots=True)
class Made:
    """A remote thing of a job that is not known to be gone."""

    kind: str
    names: Mapping[str, str]


class Ledger(Protocol):
    """Told before a remote thing is made, and again once it is gone.

    Kinds and their names, of the target: "bucket" (bucket) · "upload" (bucket, key) · "object" (bucket, key) · "image" (name, and a second
    time with id as soon as the cloud told it) · "instance" (name, label; and with id). Of a source: its scheme, a slash and the kind ("vmware/snapshot"), with whatever finds the
    thing again without any other memory. Telling the same thing twice is normal: a resumed run does.
    """

    def will_make(self, kind: str, **names: str) -> None: ...

    def gone(self, kind: str, **names: str) -> None:
        """What was made under these names is deleted, was never made, or belongs to the user now; a name that is left out matches any."""


class NoLedger:
    """For a glance, which makes nothing: whoever would make something all the same is stopped before it."""

    def will_make(self, kind: str, **names: str) -> None:
        raise MigrateError(f"a {kind} was about to be made where nothing may be made")

    def gone(self, kind: str, **names: str) -> None:
        pass
