"""Which room a guest is looked at and repaired in, and the opening of it.

    rooms = Rooms(kvm=False)
    with rooms.look(run, uri, None) as guest:                    # a preview: only read
        …
    with rooms.repair(run, uri, overlay, None) as repair:        # `overlay` is a qcow2 over that same NBD endpoint
        remediate(run, repair.guest, …)
        repair.finish()                                          # now everything is on the overlay, and it is trimmed

The rule for a repair: where KVM works, the appliance. Without it the overlay room, which needs no emulated processor to look, and one only to carry what it
did; where the guest is not on plain ext2/3/4 partitions, or the host forbids the room, the appliance all the same, and a Note says why. A look asks
Dissect first where it is installed: that needs neither.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from migrate.errors import GuestError, ToolFailed, UsageError
from migrate.guest import Guest, Layout
from migrate.guests.appliance import Appliance, mount_guest
from migrate.guests.appliance_guest import ApplianceGuest
from migrate.guests.beside import NOTHING, Beside, look_beside
from migrate.guests.carry import carry
from migrate.guests.cell import ROOM, Unsuitable, open_cell
from migrate.guests.disks import disk_device
from migrate.guests.dissect_room import DissectGuest, is_installed, open_dissected
from migrate.guests.ladder import NO_OFFERS, Offers
from migrate.guests.room import RoomGuest
from migrate.guests.room_opening import open_room
from migrate.guests.trim import discard, gaps
from migrate.run import Note, Run
from migrate.source import Firmware


class Choice(Enum):
    AUTO = "auto"
    APPLIANCE = "appliance"
    OVERLAY = "overlay"
    DISSECT = "dissect"
    """Only to look: none of the guest's programs runs there."""


@dataclass(frozen=True, slots=True)
class Repair:
    """An open guest that takes changes. `finish` puts them on the overlay, trims, and closes; the guest is not used after it."""

    guest: Guest
    finish: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Rooms:
    """Opens guests. `kvm` says whether hardware virtualisation really works here, or finds it out; `choice` is what the user wants, `offers` what they bring.

    `root` names the root file system of the guest, as fstab(5) would, where there are several.
    """

    kvm: bool | Callable[[], bool]
    choice: Choice = Choice.AUTO
    offers: Offers = NO_OFFERS
    root: str | None = None

    @contextmanager
    def look(self, run: Run, uri: str, firmware: Firmware | None, data: Sequence[str] = ()) -> Iterator[Guest]:
        """Open the guest on a disk that NBD serves. What is stored in it is forgotten at the end.

        `data` are its data disks: what is on them is known, and none of them is mounted or written.
        """
        with ExitStack() as stack:
            beside = look_beside(run, uri, data)
            guest: Guest | None = self._dissected(run, stack, uri, firmware, beside)
            guest = guest or self._room(run, stack, uri, firmware, beside)
            if guest is None:
                overlay = stack.enter_context(_scratch_overlay(run, uri))
                appliance = stack.enter_context(_started(run, overlay, kvm=self._has_kvm))
                guest = _launched(run, appliance, firmware, None, self.offers, self.root, beside)
            yield guest

    @contextmanager
    def repair(
        self, run: Run, uri: str, overlay: Path, firmware: Firmware | None, data: Sequence[str] = ()
    ) -> Iterator[Repair]:
        """Open the guest on a disk whose changes belong on `overlay`, a qcow2 over `uri`; `data` as to `look`.

        Without `finish` nothing useful is on the overlay, and it is to be thrown away. Raise GuestError where there is no guest.
        """
        check_repairs(self.choice)
        with ExitStack() as stack:
            # It takes 14 s to come up without KVM, and the room has work of its own until then.
            appliance = stack.enter_context(_started(run, overlay, kvm=self._has_kvm))
            beside = look_beside(run, uri, data)
            room = self._room(run, stack, uri, firmware, beside)
            if room is None:
                guest = _launched(run, appliance, firmware, None, self.offers, self.root, beside)
                yield Repair(guest, lambda: finish(run, guest, appliance))
            else:
                yield Repair(room, lambda: _carried(run, room, appliance, firmware))

    @property
    def _has_kvm(self) -> bool:
        return self.kvm if isinstance(self.kvm, bool) else self.kvm()

    def _dissected(
        self, run: Run, stack: ExitStack, uri: str, firmware: Firmware | None, beside: Beside
    ) -> DissectGuest | None:
        """Open the guest by Dissect, or say why another room is taken."""
        wanted = self.choice is Choice.DISSECT
        if not wanted and not (self.choice is Choice.AUTO and is_installed()):
            return None
        try:
            return stack.enter_context(open_dissected(run, uri, firmware, self.offers, self.root, beside, asked=wanted))
        except Unsuitable as reason:
            if wanted:
                raise GuestError(
                    f"Dissect cannot be used: {reason}", hint="Leave --room out: another one is taken."
                ) from reason
            run.tell(Note(f"The guest is not looked at by Dissect: {reason}."))
        return None

    def _room(
        self, run: Run, stack: ExitStack, uri: str, firmware: Firmware | None, beside: Beside
    ) -> RoomGuest | None:
        """Open the overlay room, or say why the appliance is taken."""
        if self.choice is Choice.APPLIANCE or (self.choice is Choice.AUTO and self._has_kvm):
            return None
        try:
            return stack.enter_context(open_room(run, uri, firmware, self.offers, self.root, beside))
        except Unsuitable as reason:
            if self.choice is Choice.OVERLAY:
                raise GuestError(
                    f"the overlay room cannot be used: {reason}", hint="Leave --room out: the appliance is taken."
                ) from reason
            run.tell(Note(f"The appliance is used instead of the overlay room: {reason}."))
        return None


def check_repairs(choice: Choice) -> None:
    """Raise UsageError for a room in which a guest can only be looked at."""
    if choice is Choice.DISSECT:
        raise UsageError(
            "--room dissect only looks: none of the guest's programs runs there, so that nothing can be repaired",
            hint="Leave --room out, or name appliance or overlay.",
        )


@contextmanager
def _started(run: Run, overlay: Path, *, kvm: bool) -> Iterator[Appliance]:
    appliance = Appliance(run, [overlay], kvm=kvm)
    try:
        appliance.start()
        yield appliance
    finally:
        appliance.end()


def _launched(
    run: Run,
    appliance: Appliance,
    firmware: Firmware | None,
    known: Layout | None = None,
    offers: Offers = NO_OFFERS,
    root: str | None = None,
    beside: Beside = NOTHING,
) -> ApplianceGuest:
    appliance.wait()
    mounted = mount_guest(run, appliance.call, firmware, known, root, beside)
    return ApplianceGuest(run, appliance.call, mounted, offers)


def finish(run: Run, guest: ApplianceGuest, appliance: Appliance) -> None:
    """Everything is on the overlay, and what is unused on it reads as zeros; the appliance is gone."""
    guest.give_up_unused()
    unused = [gaps(appliance.call, device) for device in map(disk_device, range(len(appliance.disks)))]
    appliance.close()
    for overlay, spans in zip(appliance.disks, unused, strict=True):
        discard(run, overlay, spans)


def _carried(run: Run, room: RoomGuest, appliance: Appliance, firmware: Firmware | None) -> None:
    guest = _launched(run, appliance, firmware, room.found)
    carry(room, guest, appliance.call)
    finish(run, guest, appliance)


@contextmanager
def _scratch_overlay(run: Run, uri: str) -> Iterator[Path]:
    """What a look in the appliance writes (a replayed journal) goes where nobody keeps it."""
    with tempfile.TemporaryDirectory(prefix="look-", dir=run.work) as folder:
        overlay = Path(folder) / "overlay.qcow2"
        run.tool(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", uri, overlay])
        yield overlay


def trouble(run: Run) -> str | None:
    """Say in words why the overlay room does not work on this host; None where it does. Takes 0.1 s."""
    try:
        with open_cell(run) as cell:
            for name in ("lower", "upper", "work", "merged"):
                cell.tool(["mkdir", f"{ROOM}/{name}"])
            options = f"lowerdir={ROOM}/lower,upperdir={ROOM}/upper,workdir={ROOM}/work,userxattr"
            cell.tool(["mount", "-t", "overlay", "overlay", "-o", options, f"{ROOM}/merged"])
    except Unsuitable as reason:
        return str(reason)
    except ToolFailed as error:
        return f"overlayfs cannot be mounted: {error.message}"
    return None
