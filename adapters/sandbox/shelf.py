"""The sandbox's images: a small JSON file and the qcow2 files beside it. They outlive the sandbox where its folder does."""

import threading
import uuid
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from migrate.errors import MigrateError
from migrate.whole_file import write_whole


class Needs(BaseModel):
    """CustomImageRequirements."""

    model_config = ConfigDict(extra="ignore", strict=True)

    vcpu: int
    ram: int
    disk: int


class ShelvedImage(BaseModel):
    """An image as it is written down. `reason` says in words why an import failed, which the real cloud never tells."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    status: str
    uefi: bool
    description: str | None = None
    version: str | None = None
    requirements: Needs | None = None
    reason: str | None = None


class _Shelf(BaseModel):
    images: list[ShelvedImage] = []
    stuck_names: list[str] = []


class Shelf:
    """All images, safe from several threads. Every change is on disk when the call returns."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._path = folder / "images.json"
        self._lock = threading.RLock()
        self._content = self._read()

    def end_orphans(self) -> None:
        """No image is importing: for the start of a sandbox, when the importers of the former one are gone."""
        for image in self.all():
            if image.status == "importing":
                self.change(image.id, status="importing_error", reason="the sandbox ended during the import")

    def all(self) -> tuple[ShelvedImage, ...]:
        with self._lock:
            return tuple(self._content.images)

    def get(self, id_: str) -> ShelvedImage | None:
        return next((image for image in self.all() if image.id == id_), None)

    def has_name(self, name: str) -> bool:
        """Whether a new image cannot have this name, for whatever reason."""
        with self._lock:
            return name in self._content.stuck_names or any(image.name == name for image in self._content.images)

    def add(
        self, *, name: str, uefi: bool, description: str | None, version: str | None, requirements: Needs | None
    ) -> ShelvedImage | None:
        """Return a new image that is being imported; None where its name is taken."""
        with self._lock:
            if self.has_name(name):
                return None
            image = ShelvedImage(
                id=str(uuid.uuid4()),
                name=name,
                status="importing",
                uefi=uefi,
                description=description,
                version=version,
                requirements=requirements,
            )
            self._content.images.append(image)
            self._write()
            return image

    def stick(self, name: str) -> None:
        """The name is taken from now on, and by no image that could be seen."""
        with self._lock:
            self._content.stuck_names.append(name)
            self._write()

    def change(self, id_: str, **changes: object) -> None:
        """The image, if it is still there, has these values."""
        with self._lock:
            self._content.images = [
                image.model_copy(update=changes) if image.id == id_ else image for image in self._content.images
            ]
            self._write()

    def remove(self, id_: str) -> None:
        with self._lock:
            self._content.images = [image for image in self._content.images if image.id != id_]
            self._write()
            self.file(id_).unlink(missing_ok=True)

    def file(self, id_: str) -> Path:
        """Where the qcow2 of an image lies. The id is one that this shelf gave."""
        return self._folder / f"{uuid.UUID(id_)}.qcow2"

    def _read(self) -> _Shelf:
        try:
            return _Shelf.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return _Shelf()
        except (OSError, ValidationError) as error:
            raise MigrateError(
                f"{self._path} cannot be read as the sandbox's images.",
                hint=f"Remove {self._folder}, or name another folder for the sandbox.",
            ) from error

    def _write(self) -> None:
        write_whole(self._path, self._content.model_dump_json(indent=1).encode())
