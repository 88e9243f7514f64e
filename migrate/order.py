"""What is wanted of one VM, and what is needed for it: rooms for its guest, and who boots the repaired disk."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from migrate.data_disks import DataDisks
from migrate.guest import Guest
from migrate.launch import Launch
from migrate.outcome import JsonObject
from migrate.preview import Approval
from migrate.qcow2 import Compression
from migrate.remediation import Remediation, Settings
from migrate.run import Run
from migrate.source import Firmware, VmRef
from migrate.target import Target


class Repair(Protocol):
    """A guest that takes changes."""

    @property
    def guest(self) -> Guest: ...

    def finish(self) -> None:
        """Everything that was changed is on the overlay, freed blocks are trimmed; the guest is not used any more."""


class Rooms(Protocol):
    """Opens the guest on a disk: to look at it, or to repair it on an overlay.

    `data` are the data disks; what is on them is known, and they are only read.
    """

    def look(
        self, run: Run, uri: str, firmware: Firmware | None, data: Sequence[str] = ()
    ) -> AbstractContextManager[Guest]: ...

    def repair(
        self, run: Run, uri: str, overlay: Path, firmware: Firmware | None, data: Sequence[str] = ()
    ) -> AbstractContextManager[Repair]: ...


class Prover(Protocol):
    def __call__(
        self, run: Run, uri: str, *, firmware: Firmware, user: str | None, root_grows: bool = True
    ) -> JsonObject:
        """Boot the disk behind an NBD endpoint and return the proof; `held` in it says whether every claim that decides holds, `reasons` why not."""


@dataclass(frozen=True, slots=True)
class Order:
    """What the user wants of one VM. `name` is the image's; `prover` is None where no proof is wanted, `launch` where no
    instance is.

    `no_growth` holds the findings' codes that say that the root cannot grow: the proof does not ask for it then. `strict` refuses
    a guest with a warning that is not waived.
    """

    ref: VmRef
    name: str
    settings: Settings
    target: Target
    prover: Prover | None
    remediations: Sequence[Remediation]
    no_growth: frozenset[str] = frozenset()
    keep_object: bool = False
    data_disks: DataDisks = DataDisks.REFUSE
    compression: Compression = Compression.ZLIB
    keep_image: Path | None = None
    approved: Approval | None = None
    strict: bool = False
    launch: Launch | None = None
