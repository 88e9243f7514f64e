"""Custom images in Magalu Cloud's API: order one, see it, list those of a name, delete one.

Paths and schemas: virtual-machine.jaxyendy.openapi.json (MagaluCloud/magalu, 4e90611e). Statuses are text here, because the API has
already grown new ones twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from pydantic import JsonValue

from adapters.magalu.answers import Created, Listed, Value, every
from adapters.magalu.api import Answer, Api, Lost
from migrate.errors import TargetBusy, TargetError
from migrate.secret import Secret
from migrate.target import Requirements

PAGE = 50


class Standing(Enum):
    """What a status means for one who waits."""

    UNDERWAY = "underway"
    ACTIVE = "active"
    FAILED = "failed"
    UNKNOWN = "unknown"


_STANDINGS = {
    "pending": Standing.UNDERWAY,
    "creating": Standing.UNDERWAY,
    "importing": Standing.UNDERWAY,
    "active": Standing.ACTIVE,
    "importing_error": Standing.FAILED,
    "invalid_image": Standing.FAILED,
    "error": Standing.FAILED,
    "deprecated": Standing.FAILED,
    "deleting": Standing.FAILED,
    "deleting_error": Standing.FAILED,
    "deleted": Standing.FAILED,
}


def standing(status: str) -> Standing:
    """Return what a status means. One that we do not know has failed where its name says so; else nobody knows yet."""
    known = _STANDINGS.get(status)
    if known is not None:
        return known
    return Standing.FAILED if any(word in status.lower() for word in ("error", "invalid", "fail")) else Standing.UNKNOWN


class CustomImage(Value):
    """GetCustomImageResponse, as far as we need it. `request_id` is that of the answer it came in."""

    id: str
    name: str
    status: str
    description: str | None = None
    request_id: str | None = None


class _CustomList(Listed):
    images: tuple[CustomImage, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageOrder:
    """A Linux image to be imported from a pre-signed URL."""

    name: str
    url: Secret
    uefi: bool
    requirements: Requirements
    description: str

    def body(self) -> dict[str, JsonValue | Secret]:
        """`requirements` is deprecated in the newest specification and required by the documentation's text: it is sent."""
        return {
            "name": self.name,
            "url": self.url,
            "platform": "linux",
            "architecture": "x86/64",
            "license": "unlicensed",
            "uefi": self.uefi,
            "requirements": {
                "vcpu": self.requirements.vcpu,
                "ram": self.requirements.ram_gb,
                "disk": self.requirements.disk_gb,
            },
            "version": "1",
            "description": self.description,
        }


@dataclass(frozen=True, slots=True)
class Accepted:
    """The order was taken; the image has this id."""

    id: str


@dataclass(frozen=True, slots=True)
class NameTaken:
    """The order was refused because an image has, or is about to have, this name (409)."""

    error: TargetError


@dataclass(frozen=True, slots=True)
class InDoubt:
    """The server broke or fell silent: the order may have been taken. A 500 has been seen to reserve the name."""

    error: TargetError


class Images:
    """The custom images of one tenant in one region."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def check(self) -> None:
        """The credentials are taken by the API. Raise TargetError with its words where they are not."""
        reply = self._api.repeated("GET", "/v1/images/custom", {"_limit": 1})
        self._api.parsed("list the custom images", reply, 200, _CustomList)

    def create(self, order: ImageOrder) -> Accepted | NameTaken | InDoubt:
        """Order an image, once. Raise TargetError where the order is refused for another reason than its name."""
        asked = f'import image "{order.name}"'
        reply = self._api.posted("/v1/images/custom", order.body())
        match reply:
            case Answer(status=202 | 200 | 201):
                try:
                    return Accepted(self._api.parsed(asked, reply, reply.status, Created).id)
                except TargetError as error:
                    return InDoubt(error)
            case Answer(status=409):
                return NameTaken(self._api.refusal(asked, reply, hide=[order.url]))
            case Lost(sent=True):
                return InDoubt(self._api.refusal(asked, reply))
            case Answer(status=status) if status >= 500:
                return InDoubt(self._api.refusal(asked, reply, hide=[order.url]))
        raise self._api.refusal(asked, reply, hide=[order.url])

    def get(self, id_: str) -> CustomImage | None:
        """Return the image as it is now; None where there is none of this id."""
        asked = f"look at image {id_}"
        reply = self._api.repeated("GET", f"/v1/images/custom/{segment(id_)}")
        if isinstance(reply, Answer) and reply.status == 404:
            return None
        image = self._api.parsed(asked, reply, 200, CustomImage)
        return image.model_copy(update={"request_id": reply.request_id if isinstance(reply, Answer) else None})

    def named(self, name: str) -> tuple[CustomImage, ...]:
        """Return the images of exactly this name. The lists hold active images only, so one that is being imported is not seen.

        The list of custom images is asked first, then the catalogue, where an image has been seen that the first did not hold
        (mobikersc/mgc-vm-clone finds its image there); the catalogue's public images are not ours to see by id, and drop out.
        """
        found = {image.id: image for image in self._listed("/v1/images/custom", name) if image.name == name}
        for image in self._listed("/v1/images", name):
            if image.name == name and image.id not in found and (seen := self._ours(image.id)) is not None:
                found[image.id] = seen
        return tuple(found.values())

    def delete(self, id_: str) -> None:
        """The image is gone or going. A second call finds nothing and succeeds."""
        self._api.deleted(f"delete image {id_}", f"/v1/images/custom/{segment(id_)}")

    def _ours(self, id_: str) -> CustomImage | None:
        """A catalogue's image as a custom image; None where the API does not give it to us as one, in whatever words."""
        try:
            return self.get(id_)
        except TargetBusy:
            raise
        except TargetError:
            return None

    def _listed(self, path: str, name: str) -> list[CustomImage]:
        asked = f'list the images named "{name}"'

        def page(which: Mapping[str, int]) -> tuple[Sequence[CustomImage], int | None]:
            listed = self._api.parsed(asked, self._api.repeated("GET", path, {**which, "name": name}), 200, _CustomList)
            return listed.images, listed.total

        return every(page, size=PAGE)


def segment(id_: str) -> str:
    """An id that is one segment of a path, whatever the server told us."""
    if not id_ or not all(c.isascii() and (c.isalnum() or c in "-_") for c in id_):
        raise TargetError("an id that came from the server has characters that no id has.")
    return id_
