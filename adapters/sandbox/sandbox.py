"""The sandbox: Magalu Cloud's object storage, custom images and instances on this machine, for rehearsals, tests and the demo."""

import fcntl
import secrets
import shlex
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from adapters.sandbox import guest
from adapters.sandbox.api import Exchange, ImageApi, served
from adapters.sandbox.faults import Faults
from adapters.sandbox.hypervisor import Hypervisor, Power
from adapters.sandbox.importer import Importer
from adapters.sandbox.instance_api import InstanceApi
from adapters.sandbox.private_file import write_private
from adapters.sandbox.rack import Rack
from adapters.sandbox.shelf import Shelf
from adapters.sandbox.storage import object_storage
from migrate.errors import MigrateError, UsageError
from migrate.run import Run
from migrate.secret import Secret

REGION = "br-se1"
FILE_LIMIT = 20 * 10**9
ATTACH_S = 90.0
"""How long the sandbox of another process may take to start before we give up waiting for it."""


@dataclass(frozen=True, slots=True)
class Keys:
    """What opens the sandbox, in the same parts as the real cloud's credentials."""

    api_key: Secret
    access_token: Secret
    key_id: Secret
    key_secret: Secret
    region: str = REGION


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A sandbox that runs. `faults` acts only in the process that started it; `is_own` says whether that is this one."""

    api_url: str
    s3_url: str
    credentials: Keys
    folder: Path
    is_own: bool
    faults: Faults = field(repr=False)

    @property
    def environment(self) -> Mapping[str, Secret]:
        """The variables with which magalu-migrate, in another terminal, works on this sandbox."""
        return {
            "MGC_API_KEY": self.credentials.api_key,
            "MGC_OBJ_KEY_ID": self.credentials.key_id,
            "MGC_OBJ_KEY_SECRET": self.credentials.key_secret,
            "MGC_REGION": Secret(self.credentials.region),
            "MAGALU_MIGRATE_API_URL": Secret(self.api_url),
            "MAGALU_MIGRATE_S3_URL": Secret(self.s3_url),
        }

    @property
    def environment_file(self) -> Path:
        """A file for `. FILE` in a shell, which only its owner can read; so the keys need not be printed."""
        return self.folder / "environment"

    def image_file(self, id_: str) -> Path:
        """Return the qcow2 of an active image. Raise MigrateError where there is none."""
        shelf = Shelf(_images(self.folder))
        image = shelf.get(id_)
        if image is None or image.status != "active":
            raise MigrateError(
                f"the sandbox has no active image {id_}" + (f": it is {image.status}." if image else "."),
                hint=image.reason if image else None,
            )
        return shelf.file(id_)

    def put_key(self, file: Path) -> None:
        """The sandbox has the public key of this file, named after the file. Raise UsageError where it is none, or another has its name."""
        try:
            text = file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"{file} cannot be read as a public key: {error.__class__.__name__}.", hint="ssh-keygen makes one."
            ) from error
        headers = {"X-API-Key": self.credentials.api_key.reveal()}
        url = f"{self.api_url.removesuffix(f'/{REGION}/compute')}/profile/v0/ssh-keys"
        with httpx.Client(timeout=30, trust_env=False, headers=headers) as http:
            answer = http.post(url, json={"name": file.stem, "key": text})
            there = {one["name"]: one["key"] for one in http.get(url, params={"_limit": 1000}).json()["results"]}
        if there.get(file.stem) != text:
            why = "another key has this name" if file.stem in there else f"the sandbox answers {answer.status_code}"
            raise UsageError(
                f"{file} cannot be used as SSH key {file.stem!r}: {why}.",
                hint="A name has lower-case letters, digits, - and _; the file holds one public key.",
            )


@contextmanager
def sandbox(
    run: Run,
    folder: Path | None = None,
    *,
    file_limit: int = FILE_LIMIT,
    faults: Faults | None = None,
    watch: Callable[[Exchange], None] | None = None,
    power: Power = guest.power,
) -> Iterator[Sandbox]:
    """Yield a sandbox; it ends with the block, and its guests with it. `power` is what switches a guest on.

    With a folder, its images, objects and keys are kept there and the next sandbox in it goes on with them; without, all of it is gone
    afterwards. Where another process has the sandbox of this folder running, that one is yielded, and goes on afterwards.
    """
    with ExitStack() as stack:
        if folder is None:
            made = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="sandbox-", dir=run.work, ignore_cleanup_errors=True)
            )
            folder = Path(made)
        folder = folder.absolute()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
        lock = stack.enter_context((folder / "lock").open("w"))
        if not _locked(lock.fileno()):
            running = _running(run, folder, lock.fileno())
            if running is not None:
                yield running
                return
        yield stack.enter_context(
            _started(run, folder, file_limit, faults or Faults(), watch or _nobody_watches, power)
        )


class _Note(BaseModel):
    """sandbox.json: how to reach the sandbox of this folder. It holds keys, and only its owner can read it."""

    model_config = ConfigDict(extra="forbid")

    api_key: str
    access_token: str
    key_id: str
    key_secret: str
    api_port: int = 0
    s3_port: int = 0
    running: bool = False

    def sandbox(self, folder: Path, *, is_own: bool, faults: Faults) -> Sandbox:
        return Sandbox(
            api_url=f"http://127.0.0.1:{self.api_port}/{REGION}/compute",
            s3_url=f"http://127.0.0.1:{self.s3_port}",
            credentials=Keys(
                Secret(self.api_key), Secret(self.access_token), Secret(self.key_id), Secret(self.key_secret)
            ),
            folder=folder,
            is_own=is_own,
            faults=faults,
        )


@contextmanager
def _started(
    run: Run, folder: Path, file_limit: int, faults: Faults, watch: Callable[[Exchange], None], power: Power
) -> Iterator[Sandbox]:
    note = _read_note(folder) or _new_keys()
    note.running = False
    _write_note(folder, note)
    # The importers' own stop: they end with the sandbox, whether or not the user stops the run.
    inner = Run(folder, run.listener, threading.Event())
    with ExitStack() as stack:
        s3_url = stack.enter_context(
            object_storage(
                run,
                folder / "s3",
                key_id=Secret(note.key_id),
                key_secret=Secret(note.key_secret),
                region=REGION,
                port=note.s3_port,
            )
        )
        shelf = Shelf(_images(folder))
        shelf.end_orphans()
        importer = Importer(inner, shelf, faults, origin=s3_url, limit=file_limit)
        keys = (Secret(note.api_key), Secret(note.access_token))
        rack = Rack(folder)
        rack.end_orphans()
        # Guests' sockets lie in the run's folder: the sandbox's own may have a long name.
        hypervisor = Hypervisor(Run(run.work, run.listener, inner.stop), rack, shelf, faults, power)
        instances = InstanceApi(rack, shelf, hypervisor, faults, region=REGION)
        api = ImageApi(shelf, importer, instances, faults, prefix=f"/{REGION}/compute", keys=keys)
        stack.callback(importer.wait)
        stack.callback(hypervisor.close)
        stack.callback(inner.stop.set)
        note.api_port = stack.enter_context(served(api, note.api_port, watch))
        note.s3_port = int(s3_url.rpartition(":")[2])
        note.running = True
        _write_note(folder, note)
        box = note.sandbox(folder, is_own=True, faults=faults)
        _write_environment(box)
        try:
            yield box
        finally:
            note.running = False
            _write_note(folder, note)


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _running(run: Run, folder: Path, fd: int) -> Sandbox | None:
    """The sandbox that another process has in this folder, once it runs; None where that process ended and the lock is ours."""
    deadline = time.monotonic() + ATTACH_S
    while True:
        note = _read_note(folder)
        if note is not None and note.running:
            return note.sandbox(folder, is_own=False, faults=Faults())
        if _locked(fd):
            return None
        if time.monotonic() > deadline:
            raise MigrateError(
                f"another process has held the sandbox in {folder} for {ATTACH_S:.0f} s, and it is not running yet.",
                hint="End that process, or name another folder.",
            )
        run.stop.wait(0.2)
        run.check()


def _images(folder: Path) -> Path:
    return folder / "images"


def _new_keys() -> _Note:
    """Keys in the real ones' alphabet, of no use anywhere else."""
    return _Note(
        api_key=secrets.token_hex(24),
        access_token=secrets.token_hex(24),
        key_id=secrets.token_hex(10),
        key_secret=secrets.token_hex(20),
    )


def _read_note(folder: Path) -> _Note | None:
    try:
        return _Note.model_validate_json((folder / "sandbox.json").read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _write_note(folder: Path, note: _Note) -> None:
    write_private(folder / "sandbox.json", note.model_dump_json(indent=1))


def _write_environment(box: Sandbox) -> None:
    lines = [f"export {name}={shlex.quote(value.reveal())}\n" for name, value in box.environment.items()]
    write_private(box.environment_file, "".join(lines))


def _nobody_watches(exchange: Exchange) -> None:
    pass
