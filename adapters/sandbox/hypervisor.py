"""The sandbox's hypervisor: each instance is a guest that is booted and watched on a thread of its own, and ends with the sandbox."""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from adapters.sandbox import catalogue
from adapters.sandbox.faults import Faults
from adapters.sandbox.rack import Failure, Rack, RackedInstance
from adapters.sandbox.shelf import Shelf
from migrate.errors import MigrateError, Stopped
from migrate.run import Run

QUOTA = 4
"""Instances that may be on at once: each takes a GiB of this machine's memory."""
BOOT_S = 1800.0
"""How long a guest may take until it has come up; an emulated one with LVM took 261 s."""
LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class Specification:
    """What a guest is made of. `image` is a qcow2 that was looked at; `disk_gib` is the size of its disk, `public_key` may be missing."""

    id: str
    name: str
    image: Path
    uefi: bool
    vcpus: int
    memory_mb: int
    disk_gib: int
    public_key: str
    wants_public_ip: bool


class Guest(Protocol):
    """A guest that is on."""

    private_ipv4: str | None
    public_ipv4: str | None

    def look(self) -> None:
        """Take in what has happened since the last call. Raise MigrateError where it must be ended."""

    @property
    def has_come_up(self) -> bool:
        """Whether it has read its metadata and lets the key in."""

    @property
    def is_off(self) -> bool:
        """Whether it has switched itself off."""

    def console(self) -> str:
        """Return the end of what it wrote to its console. Safe from several threads."""


Power = Callable[[Run, Specification], AbstractContextManager[Guest]]
"""Switches a guest on; it is on while the block lasts."""


@dataclass(slots=True)
class _On:
    """An instance that has a thread. `console` is what stays of a guest that is off."""

    run: Run
    thread: threading.Thread | None = None
    guest: Guest | None = None
    console: str = ""
    is_over: bool = False
    is_deleted: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


class Hypervisor:
    """Boots instances. `run.work` must have a short name: sockets lie in it. `close` it at the end."""

    def __init__(self, run: Run, rack: Rack, shelf: Shelf, faults: Faults, power: Power) -> None:
        self._run = run
        self._rack = rack
        self._shelf = shelf
        self._faults = faults
        self._power = power
        self._on: dict[str, _On] = {}

    def close(self) -> None:
        """Every guest is off."""
        for one in self._on.values():
            one.run.stop.set()
        for one in self._on.values():
            if one.thread is not None:
                one.thread.join()

    def begin(self, instance: RackedInstance) -> None:
        """The guest boots by itself; the instance's state and status tell how that goes."""
        on = self._on[instance.id] = _On(Run(self._run.work, self._run.listener, threading.Event()))
        on.thread = threading.Thread(target=self._live, args=(instance, on), name=f"guest-{instance.name}", daemon=True)
        on.thread.start()

    def delete(self, id_: str) -> None:
        """The instance is gone, or goes as soon as its guest is off."""
        on = self._on.get(id_)
        if on is None:
            self._rack.remove(id_)
            return
        with on.lock:
            on.is_deleted = True
            if on.is_over:
                self._rack.remove(id_)
            else:
                self._rack.change(id_, status="deleting")
        on.run.stop.set()

    def console(self, id_: str) -> Sequence[str]:
        """Return the lines at the end of a guest's console; none for one that ended with an earlier sandbox."""
        on = self._on.get(id_)
        if on is None:
            return ()
        guest = on.guest
        return (on.console if guest is None else guest.console()).splitlines()

    def _live(self, instance: RackedInstance, on: _On) -> None:
        try:
            self._boot(instance, on)
        except Stopped:
            if self._is(instance.id, "running"):
                self._rack.change(instance.id, state="stopped", public_ipv4=None)
        except (MigrateError, OSError) as error:
            failure = Failure(slug="create_instance.guest", message=str(error)[:500])
            self._rack.change(instance.id, state="error", status="creating_error", error=failure, public_ipv4=None)
        finally:
            with on.lock:
                on.is_over = True
                if on.is_deleted:
                    self._rack.remove(instance.id)

    def _boot(self, instance: RackedInstance, on: _On) -> None:
        if (status := self._fails(on)) is not None:
            failure = Failure(
                slug=f"create_instance.{status}", message="An error occurred while creating your instance."
            )
            self._rack.change(instance.id, state="error", status=status, error=failure)
            return
        with self._power(on.run, self._specification(instance)) as guest:
            on.guest = guest
            try:
                self._watch(instance, on, guest)
            finally:
                on.console, on.guest = guest.console(), None

    def _fails(self, on: _On) -> str | None:
        """With which status it fails before it is switched on."""
        others = sum(not one.is_over for one in tuple(self._on.values()) if one is not on)
        return self._faults.launch_status or ("creating_error_quota_instance" if others >= QUOTA else None)

    def _watch(self, instance: RackedInstance, on: _On, guest: Guest) -> None:
        began, is_up = time.monotonic(), False
        while not guest.is_off:
            on.run.check()
            guest.look()
            if not is_up and guest.has_come_up:
                is_up = True
                self._rack.change(
                    instance.id,
                    state="running",
                    status="completed",
                    private_ipv4=guest.private_ipv4,
                    public_ipv4=guest.public_ipv4,
                )
            if not is_up and time.monotonic() - began > BOOT_S:
                raise MigrateError(f"the guest has not come up after {BOOT_S:.0f} s")
            on.run.stop.wait(LOOK_S)
        if not is_up:
            raise MigrateError("the guest switched itself off before it had come up")
        self._rack.change(instance.id, state="stopped", public_ipv4=None)

    def _is(self, id_: str, state: str) -> bool:
        found = self._rack.instance(id_)
        return found is not None and found.state == state

    def _specification(self, instance: RackedInstance) -> Specification:
        image = self._shelf.get(instance.image)
        if image is None:
            raise MigrateError("the image is gone")
        kind = next(kind for kind in catalogue.TYPES if kind.id == instance.machine_type)
        vcpus, ram, disk = kind.numbers
        key = self._rack.key(instance.ssh_key_name) if instance.ssh_key_name else None
        return Specification(
            instance.id,
            instance.name,
            self._shelf.file(image.id),
            image.uefi,
            vcpus,
            ram * 1024,
            disk,
            key.key if key else "",
            instance.wants_public_ip,
        )
