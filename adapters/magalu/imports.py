"""The import of an image: ordered at most once, found again after a crash, awaited until it is active."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from adapters.magalu.images import Accepted, CustomImage, ImageOrder, Images, InDoubt, NameTaken, Standing, standing
from migrate.errors import TargetBusy, TargetError
from migrate.ledger import Ledger
from migrate.run import Note, Progress, Run
from migrate.text import clock, shown

MARKER = "magalu-migrate sha256="
DESCRIPTION_LIMIT = 200
"""Characters. Source: the documentation's table, and the specification before commit 2ad4c4c3 of 2025-06-17."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds. The API says neither progress nor an end; a pre-signed URL of more than 12 h is asked for, so imports may be slow."""

    poll: float = 15.0
    deadline: float = 7200.0
    lookup: float = 300.0
    """How long an image is looked for by name where nobody knows whether the order was taken."""
    grace: float = 120.0
    """How long after the order "no such image" is believed to be the API's own delay."""


def marked(description: str, sha256: str) -> str:
    """Return the description with our mark behind it, shortened to what the API takes. The mark makes an image known as ours."""
    mark = f"{MARKER}{sha256}"
    room = DESCRIPTION_LIMIT - len(mark) - 1
    text = " ".join(shown(description).split())
    return f"{text if len(text) <= room else text[: room - 1] + '…'} {mark}".strip()


def is_ours(image: CustomImage, sha256: str) -> bool:
    """Whether we made this image, of the very same file."""
    return (image.description or "").endswith(f"{MARKER}{sha256}")


def is_of_this_program(image: CustomImage) -> bool:
    return MARKER in (image.description or "")


class Importer:
    """Imports images. `begun` names the ids of imports that an earlier run ordered, by image name, as its ledger tells."""

    def __init__(self, run: Run, images: Images, ledger: Ledger, patience: Patience, begun: Mapping[str, str]) -> None:
        self._run = run
        self._images = images
        self._ledger = ledger
        self._patience = patience
        self._begun = dict(begun)

    def imported(self, name: str, sha256: str, order: Callable[[], ImageOrder]) -> CustomImage:
        """Return the active image of this name and file; `order` is called only if it must be ordered.

        A second call finds the first one's image. Raise TargetError where the name is another image's, where the import fails or
        is refused; TargetBusy where it lasts longer than the deadline.
        """
        known = self._earlier(name, sha256)
        id_ = known.id if known is not None else self._ordered(order(), sha256)
        self._begun[name] = id_
        self._ledger.will_make("image", name=name, id=id_)
        return self._active(id_, name)

    def _earlier(self, name: str, sha256: str) -> CustomImage | None:
        """The image that an earlier run ordered. One whose import failed is deleted, because its name is needed again."""
        begun = self._images.get(self._begun[name]) if name in self._begun else None
        if begun is not None and is_of_this_program(begun):
            if begun.status not in _GOING and standing(begun.status) is Standing.FAILED:
                self._run.tell(
                    Note(f"image {name} ({begun.id}) of an earlier run is {shown(begun.status)}; it is deleted")
                )
                self._delete(begun)
                return None
            if begun.status not in _GOING and is_ours(begun, sha256):
                self._run.tell(
                    Note(f"image {name} ({begun.id}) was ordered by an earlier run and is {shown(begun.status)}")
                )
                return begun
        return self._of_name(name, sha256)

    def _delete(self, image: CustomImage) -> None:
        """The image is gone, so that its name is free; or it was long enough waited for."""
        self._images.delete(image.id)
        deadline = time.monotonic() + self._patience.lookup
        while (left := self._images.get(image.id)) is not None and left.status != "deleted":
            if time.monotonic() >= deadline:
                return
            self._pause()
        self._ledger.gone("image", name=image.name, id=image.id)

    def _of_name(self, name: str, sha256: str) -> CustomImage | None:
        """The active image of this name if it is ours, None if there is none. Raise TargetError if it is another's."""
        found = self._images.named(name)
        for image in found:
            if is_ours(image, sha256):
                return image
        if found:
            raise TargetError(taken(found[0]), hint=_CHOOSE_ANOTHER.format(id=found[0].id), status=409)
        return None

    def _ordered(self, order: ImageOrder, sha256: str) -> str:
        self._ledger.will_make("image", name=order.name)
        try:
            outcome = self._images.create(order)
        except TargetError:
            self._ledger.gone("image", name=order.name)
            raise
        match outcome:
            case Accepted(id=id_):
                return id_
            case InDoubt(error=error):
                self._run.tell(Note(f"{error.message}; looking whether image {order.name} was taken", "warning"))
                return self._looked_up(order.name, sha256, error, _AFTER_DOUBT)
            case NameTaken(error=error):
                self._run.tell(
                    Note(f"the name {order.name} is taken, but no active image has it; looking again", "warning")
                )
                return self._looked_up(order.name, sha256, error, _AFTER_CONFLICT)

    def _looked_up(self, name: str, sha256: str, error: TargetError, hint: str) -> str:
        """Return the id of our image once a list shows it. Raise `error`, with what to do, if none does in time."""
        deadline = time.monotonic() + self._patience.lookup
        while True:
            try:
                image = self._of_name(name, sha256)
            except TargetBusy:
                image = None  # the API is having a bad time; that is why we are here
            if image is not None:
                return image.id
            if time.monotonic() >= deadline:
                break
            self._pause()
        error.hint = hint.format(name=name, time=clock(self._patience.lookup))
        raise error

    def _active(self, id_: str, name: str) -> CustomImage:
        began = time.monotonic()
        told: set[str] = set()
        status = "unknown"
        while True:
            elapsed = time.monotonic() - began
            try:
                image = self._images.get(id_)
            except TargetBusy as error:
                self._run.tell(Note(f"{error.message}; the import goes on, looking again"))
            else:
                if image is None and elapsed >= self._patience.grace:
                    raise TargetError(
                        f'image "{name}" ({id_}) was ordered, and after {clock(elapsed)} the API still knows no image of this id.',
                        hint="Somebody may have deleted it: run the same command again, and it is ordered again.",
                        status=404,
                    )
                if image is not None:
                    status = shown(image.status)
                    match standing(image.status):
                        case Standing.ACTIVE:
                            return image
                        case Standing.FAILED:
                            raise _failed(image, name)
                        case Standing.UNKNOWN if image.status not in told:
                            told.add(image.status)
                            self._run.tell(
                                Note(f'image {name} has the status "{status}", new to this program; waiting')
                            )
                self._run.tell(Progress("import", elapsed, self._patience.deadline, "s", status))
            if elapsed >= self._patience.deadline:
                raise TargetBusy(
                    f'image "{name}" ({id_}) is not active after {clock(self._patience.deadline)}; '
                    f"its status: {status}.",
                    hint="The import goes on in the cloud. Run the same command again to wait on.",
                )
            self._pause()

    def _pause(self) -> None:
        self._run.stop.wait(self._patience.poll)
        self._run.check()


def taken(image: CustomImage) -> str:
    """Return the sentence that an image has this name, and what it is."""
    what = f' described as "{shown(image.description)}"' if image.description else ""
    return f'the name "{image.name}" is taken: image {shown(image.id)}, {shown(image.status)},{what or " without a description"}.'


_CHOOSE_ANOTHER = "Choose another name with --name, or delete that image: mgc vm images custom delete --id {id}"

_AFTER_DOUBT = (
    "The order may have been taken: no active image named {name} appeared within {time}. Run the same command again in a while: it "
    "finds the image once it is active. If it then answers that the name exists, the name is stuck: choose another with --name; the "
    "uploaded object is used again."
)
_AFTER_CONFLICT = (
    "No active image named {name} appeared within {time}. It may still be importing: run the same command again in a while. Or it "
    "failed and keeps its name: choose another with --name (the uploaded object is used again), or ask Magalu Cloud's support to "
    "free it, with the request id above."
)

_GOING = {"deprecated", "deleting", "deleting_error", "deleted"}
"""What somebody did to an image after its import."""

_WHY = {
    "invalid_image": "Magalu Cloud looked at the file and did not take it as an image.",
    "importing_error": "Magalu Cloud could not fetch or convert the file.",
}


def _failed(image: CustomImage, name: str) -> TargetError:
    why = _WHY.get(image.status, "It will not become active.")
    return TargetError(
        f'image "{name}" ({image.id}) ended as {shown(image.status)}. {why} The API tells no more.',
        hint="The uploaded object is kept. Run the same command again: the failed image is deleted and ordered anew. If it fails "
        "again, give Magalu Cloud's support the image's id and the request's.",
        request_id=image.request_id,
    )
