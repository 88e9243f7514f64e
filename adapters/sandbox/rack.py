"""The sandbox's SSH keys and instances: a small JSON file. The keys outlive the sandbox where its folder does, running guests do not."""

import threading
import uuid
from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from migrate.errors import MigrateError
from migrate.proof.metadata import new_instance
from migrate.whole_file import write_whole


class RackedKey(BaseModel):
    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    key: str


class Failure(BaseModel):
    """ErrorMessageV1."""

    model_config = ConfigDict(frozen=True)

    slug: str
    message: str


class RackedInstance(BaseModel):
    """An instance as it is written down. `image` and `machine_type` are ids; `uefi` is the image's firmware."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    image: str
    machine_type: str
    ssh_key_name: str | None
    zone: str | None
    labels: list[str] | None
    groups: list[str]
    wants_public_ip: bool
    created_at: str
    updated_at: str | None = None
    status: str = "creating"
    state: str = "new"
    error: Failure | None = None
    private_ipv4: str | None = None
    public_ipv4: str | None = None


class _Rack(BaseModel):
    keys: list[RackedKey] = []
    instances: list[RackedInstance] = []


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def new_id() -> str:
    """Return an id that no guest takes for Amazon's."""
    return new_instance("", "").id


class Rack:
    """All keys and instances, safe from several threads. Every change is on disk when the call returns."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "rack.json"
        self._lock = threading.RLock()
        self._content = self._read()

    def end_orphans(self) -> None:
        """No instance is on: for the start of a sandbox, when the guests of the former one are gone."""
        for one in self.instances():
            if one.status == "deleting":
                self.remove(one.id)
            elif one.state == "new":
                failure = Failure(slug="sandbox.ended", message="the sandbox ended while the guest booted")
                self.change(one.id, state="error", status="creating_error", error=failure)
            elif one.state == "running":
                self.change(one.id, state="stopped", public_ipv4=None)

    def keys(self) -> tuple[RackedKey, ...]:
        with self._lock:
            return tuple(self._content.keys)

    def key(self, name: str) -> RackedKey | None:
        return next((key for key in self.keys() if key.name == name), None)

    def add_key(self, name: str, key: str) -> RackedKey | None:
        """Return a new key; None where its name is taken."""
        with self._lock:
            if self.key(name) is not None:
                return None
            made = RackedKey(id=str(uuid.uuid4()), name=name, key=key)
            self._content.keys.append(made)
            self._write()
            return made

    def remove_key(self, id_: str) -> bool:
        """The key is gone; return whether it was there."""
        with self._lock:
            left = [key for key in self._content.keys if key.id != id_]
            was_there = len(left) < len(self._content.keys)
            self._content.keys = left
            self._write()
            return was_there

    def instances(self) -> tuple[RackedInstance, ...]:
        with self._lock:
            return tuple(self._content.instances)

    def instance(self, id_: str) -> RackedInstance | None:
        return next((one for one in self.instances() if one.id == id_), None)

    def add(self, instance: RackedInstance) -> None:
        with self._lock:
            self._content.instances.append(instance)
            self._write()

    def change(self, id_: str, **changes: object) -> None:
        """The instance, if it is still there, has these values."""
        with self._lock:
            self._content.instances = [
                one.model_copy(update={**changes, "updated_at": now()}) if one.id == id_ else one
                for one in self._content.instances
            ]
            self._write()

    def remove(self, id_: str) -> None:
        with self._lock:
            self._content.instances = [one for one in self._content.instances if one.id != id_]
            self._write()

    def _read(self) -> _Rack:
        try:
            return _Rack.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return _Rack()
        except (OSError, ValidationError) as error:
            raise MigrateError(
                f"{self._path} cannot be read as the sandbox's instances.",
                hint=f"Remove {self._path}, or name another folder for the sandbox.",
            ) from error

    def _write(self) -> None:
        write_whole(self._path, self._content.model_dump_json(indent=1).encode())
