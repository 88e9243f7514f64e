"""Magalu Cloud as a target: a file becomes an object in a bucket, and the object becomes a custom image."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from adapters.magalu import loggers
from adapters.magalu.api import Api, Pace
from adapters.magalu.credentials import Credentials
from adapters.magalu.images import ImageOrder, Images
from adapters.magalu.imports import Importer, Patience, is_of_this_program, marked, taken
from adapters.magalu.launches import LaunchPatience, MagaluLauncher
from adapters.magalu.regions import Region
from adapters.magalu.storage import Storage, default_bucket
from adapters.magalu.uploads import MAX_PART, MIB, MIN_PART, OBJECT_LIMIT, PartedUpload, at_once, part_size
from adapters.magalu.uploads import Pace as SendingPace
from migrate.errors import MigrateError, Reason, TargetError, UsageError
from migrate.ledger import Ledger
from migrate.run import Note, Run
from migrate.source import Firmware
from migrate.target import Image, ObjectRef, Requirements
from migrate.text import shown

NAME = re.compile(r"[A-Za-z0-9_-]{1,255}")
FILE_LIMIT = 20 * 10**9
"""Bytes of a file that Magalu Cloud takes, by its public documentation. Newer pages say 25 * 10**9."""


class Code(StrEnum):
    """What an image is refused for. migrate/codes.yaml says what each means."""

    NAME = "MGC-001"
    SIZE = "MGC-002"
    API = "MGC-003"
    TAKEN = "MGC-004"
    STORAGE = "MGC-005"


URL_SECONDS_MIN = 12 * 3600
URL_SECONDS_MAX = 604_000
"""A pre-signed URL must hold longer than the first (documentation of imports) and no longer than the second (mgc CLI, presign.go)."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What may be chosen. `bucket` None means one of our own name; sizes in bytes, times in seconds; `sending` holds uploads back."""

    bucket: str | None = None
    part_bytes: int = 32 * MIB
    file_limit: int = FILE_LIMIT
    url_seconds: int = 72 * 3600
    patience: Patience = field(default_factory=Patience)
    launch_patience: LaunchPatience = field(default_factory=LaunchPatience)
    pace: Pace = field(default_factory=Pace)
    sending: SendingPace = at_once

    def __post_init__(self) -> None:
        if not MIN_PART <= self.part_bytes <= MAX_PART:
            raise UsageError(
                f"parts of {self.part_bytes} bytes are not possible.", hint=f"Choose {MIN_PART} to {MAX_PART} bytes."
            )
        if not URL_SECONDS_MIN < self.url_seconds <= URL_SECONDS_MAX:
            raise UsageError(
                f"a pre-signed URL that holds for {self.url_seconds} s is of no use: the import needs more than {URL_SECONDS_MIN} s "
                f"(12 h), and object storage signs for {URL_SECONDS_MAX} s at most.",
                hint="72 h are usual: 259200.",
            )


class MagaluTarget:
    """Implements migrate.target.Target. Make it with `magalu_target`, which closes it."""

    def __init__(
        self,
        run: Run,
        region: Region,
        credentials: Credentials,
        ledger: Ledger,
        settings: Settings,
        begun_imports: Mapping[str, str],
        begun_instances: Mapping[str, str | None],
    ) -> None:
        self._run = run
        self._settings = settings
        self._ledger = ledger
        self.bucket = settings.bucket or default_bucket(credentials)
        self._api = Api(run, region, credentials, settings.pace)
        self._images = Images(self._api)
        self._importer = Importer(run, self._images, ledger, settings.patience, begun_imports)
        self._storage = Storage(run, region, credentials, ledger)
        self.launcher = MagaluLauncher(run, self._api, ledger, settings.launch_patience, begun_instances)

    def close(self) -> None:
        self._api.close()
        self._storage.close()

    def refuses(self, *, name: str, size_bytes: int | None, firmware: Firmware) -> list[Reason]:
        """Return every reason why an image so made would not be taken, before anything is sent. Both firmwares are.

        An image of this name that carries our mark is no reason where the file is there already: it may be the one that an earlier run
        imported of it, and `import_image` compares checksums. A file that is still to be made is never the one that it was made of.
        """
        reasons = [reason for reason in (_name_reason(name), self._size_reason(size_bytes)) if reason]
        return reasons + self._api_reasons(name, is_made=size_bytes is not None) + self._storage_reasons()

    @property
    def file_limit(self) -> int:
        return self._settings.file_limit

    @property
    def object_limit(self) -> int:
        return OBJECT_LIMIT

    def upload(self, key: str, mark: str, most_bytes: int = 0) -> PartedUpload:
        """Begin an object of our bucket, which is made where it is missing; unfinished uploads of this key are given up."""
        self._storage.ensure_bucket(self.bucket)
        for left in self._storage.unfinished(self.bucket, key):
            self._storage.abort(self.bucket, key, left)
        part_bytes = max(self._settings.part_bytes, part_size(most_bytes))
        return self._parted(key, mark, self._storage.begin_upload(self.bucket, key, mark), part_bytes)

    def resume(self, key: str, mark: str, id_: str, part_bytes: int | None = None) -> PartedUpload | None:
        if id_ not in self._storage.unfinished(self.bucket, key):
            return None
        self._storage.claim(self.bucket, key)
        return self._parted(key, mark, id_, part_bytes or self._settings.part_bytes)

    def stored(self, key: str, mark: str) -> ObjectRef | None:
        found = self._storage.stored(self.bucket, key) if self._storage.has_bucket(self.bucket) else None
        if found is None or found.mark != mark:
            return None
        return ObjectRef(self.bucket, key, found.bytes, mark)

    def read(self, source: ObjectRef, offset: int, length: int) -> bytes:
        return self._storage.read(source, offset, length)

    def _parted(self, key: str, mark: str, id_: str, part_bytes: int) -> PartedUpload:
        return PartedUpload(self._run, self._storage, self.bucket, key, mark, id_, part_bytes, self._settings.sending)

    def import_image(
        self,
        source: ObjectRef,
        *,
        name: str,
        disk_sha256: str,
        firmware: Firmware,
        requirements: Requirements,
        description: str,
    ) -> Image:
        """Return the image once it is active. A second call finds the first one's, by its name, our mark and the disk's checksum.

        The pre-signed URL of the object is read by ourselves before the cloud is told of it.
        """
        stored = self._storage.stored(source.bucket, source.key)
        if stored is None or (stored.bytes, stored.mark) != (source.bytes, source.mark):
            raise TargetError(
                f"{source.bucket}/{source.key} is not the object that this program uploaded: "
                + (
                    "nothing is there."
                    if stored is None
                    else f"{stored.bytes} bytes, mark {shown(stored.mark or 'missing')}."
                ),
                hint="Run the same command again: it is uploaded again.",
            )

        def order() -> ImageOrder:
            url = self._storage.presigned(source, self._settings.url_seconds)
            self._storage.check_presigned(url, source)
            return ImageOrder(name, url, firmware is Firmware.UEFI, requirements, marked(description, disk_sha256))

        image = self._importer.imported(name, disk_sha256, order)
        return Image(image.id, image.name, image.status)

    def status(self, id_: str) -> str | None:
        """Return the status that an image has now; None where it is gone."""
        found = self._images.get(id_)
        return found.status if found else None

    def discard(self, source: ObjectRef) -> None:
        """Delete the object and any unfinished upload of it. A second call finds nothing and succeeds."""
        self._storage.discard(source.bucket, source.key)

    def delete_image(self, name: str, id_: str) -> None:
        """The image is gone or going. For `clean`: an import that was ordered and is not wanted any more."""
        self._images.delete(id_)
        self._ledger.gone("image", name=name, id=id_)

    def delete_bucket(self, bucket: str) -> bool:
        """The bucket is gone, unless it holds something: then it stays. Return whether it is gone."""
        return self._storage.delete_bucket(bucket)

    def _size_reason(self, size_bytes: int | None) -> Reason | None:
        limit = self._settings.file_limit
        if size_bytes is None or size_bytes <= limit:
            return None
        return Reason(
            Code.SIZE,
            f"the image file has {_gb(size_bytes)} and Magalu Cloud takes {_gb(limit)}: {_gb(size_bytes - limit)} too much.",
            "Free space in the guest (old kernels, caches, logs), or move data off the boot disk, and run again. Magalu's newer pages "
            "say 25 GB: --size-limit 25 tries that.",
        )

    def _api_reasons(self, name: str, *, is_made: bool) -> list[Reason]:
        try:
            if not NAME.fullmatch(name):
                self._images.check()
                return []
            found = self._images.named(name)
        except TargetError as error:
            return [Reason(Code.API, error.message, error.hint)]
        if found and is_made and is_of_this_program(found[0]):
            self._run.tell(Note(f"image {name} of an earlier run is there; it is used if it was made of the same file"))
            return []
        return [Reason(Code.TAKEN, taken(image), "Choose another with --name.") for image in found[:1]]

    def _storage_reasons(self) -> list[Reason]:
        try:
            self._storage.has_bucket(self.bucket)
        except TargetError as refused:
            reason: MigrateError = refused
        else:
            return []
        try:
            self._storage.check()  # a HEAD's refusal has no words: ask something whose refusal has
        except TargetError as error:
            reason = error
        return [Reason(Code.STORAGE, reason.message, reason.hint)]


@contextmanager
def magalu_target(
    run: Run,
    region: Region,
    credentials: Credentials,
    ledger: Ledger,
    settings: Settings | None = None,
    begun_imports: Mapping[str, str] | None = None,
    begun_instances: Mapping[str, str | None] | None = None,
) -> Iterator[MagaluTarget]:
    """Yield the target; its connections are closed afterwards.

    `begun_imports` names the ids of the imports that an earlier run of the same job ordered, by image name, as its ledger tells: the
    API's lists do not show an image that is still being imported. `begun_instances` names those of instances, by label; None where the
    earlier run may have ordered one and heard no id.
    """
    loggers.silence()
    target = MagaluTarget(
        run, region, credentials, ledger, settings or Settings(), begun_imports or {}, begun_instances or {}
    )
    try:
        yield target
    finally:
        target.close()


def _name_reason(name: str) -> Reason | None:
    if NAME.fullmatch(name):
        return None
    odd = sorted({c for c in name if not re.fullmatch(r"[A-Za-z0-9_-]", c)})
    found = f"it has {len(name)} characters" if not odd else "it has " + ", ".join(repr(c) for c in odd[:8])
    fit = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:255]
    return Reason(
        Code.NAME,
        f"the image name {name[:80]!r} is not possible ({found}): Magalu Cloud takes 1 to 255 letters without accents, digits, - and _.",
        f"Choose one with --name, for example {fit[:80]}." if fit else "Choose one with --name.",
    )


def _gb(count: int) -> str:
    """Decimal gigabytes, as the limit is given; exact enough that a little too much is not shown as nothing."""
    return f"{count / 10**9:.3g} GB" if count >= 10**7 else f"{count} bytes"
