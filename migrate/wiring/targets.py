"""Where images go: Magalu Cloud, or the sandbox on this machine."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import JsonValue

from adapters.magalu import (
    API_URL_ENV,
    S3_URL_ENV,
    Credentials,
    Given,
    MagaluTarget,
    find_credentials,
    magalu_target,
    region,
)
from adapters.magalu import Settings as TargetSettings
from adapters.magalu.imports import Patience
from adapters.magalu.launches import LaunchPatience
from adapters.magalu.target import FILE_LIMIT
from adapters.magalu.uploads import at_once
from adapters.sandbox import Exchange, Sandbox
from adapters.sandbox import sandbox as open_sandbox
from migrate.errors import UsageError
from migrate.ledger import Made
from migrate.ledger_file import LedgerFile
from migrate.run import Run
from migrate.target import ObjectRef
from migrate.text import shown

SANDBOX_PATIENCE = Patience(poll=0.5, deadline=900.0, lookup=30.0, grace=10.0)
SANDBOX_LAUNCH_PATIENCE = LaunchPatience(poll=0.5, deadline=2100.0, lookup=10.0, grace=5.0)
"""Its instances are guests that may be emulated; the sandbox itself gives up on one after 30 minutes."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an image goes. `file_limit` in bytes; `public_key` is a file whose key the sandbox is to have."""

    sandbox: bool
    region: str | None
    bucket: str | None
    file_limit: int
    work: Path
    public_key: Path | None = None


def cloud(run: Run, place: Place) -> dict[str, JsonValue]:
    """Return what tells the cloud of a place from any other: the names of a job's request that `place_of` reads.

    Raise UsageError that lists every credential that is missing, or for a region that there is not.
    """
    if place.sandbox:
        return {"region": "sandbox", "api": None}
    quiet = Run(run.work, stop=run.stop)  # what there is to say is said when the keys are used
    found = find_credentials(Given(region=place.region), os.environ, quiet)
    region(found.region, api_url=os.environ.get(API_URL_ENV), s3_url=os.environ.get(S3_URL_ENV))
    return {"region": found.region, "api": os.environ.get(API_URL_ENV)}


def place_of(request: Mapping[str, JsonValue], work: Path) -> Place:
    """Return the place that a job's request names. Raise UsageError where the environment leads to another one now."""
    if request.get("region") == "sandbox":
        return Place(True, None, None, FILE_LIMIT, work)
    wanted, present = request.get("api"), os.environ.get(API_URL_ENV)
    if wanted != present:
        raise UsageError(
            f"what this job made is at {shown(str(wanted or 'Magalu Cloud'))}, and {API_URL_ENV} is {present or 'not set'}",
            hint=f"Set {API_URL_ENV}={wanted} as it was." if wanted else f"Unset {API_URL_ENV}.",
        )
    named = request.get("region")
    return Place(False, str(named) if named else None, None, FILE_LIMIT, work)


@contextmanager
def target(
    run: Run, place: Place, ledger: LedgerFile, sending: Callable[[int], object] = at_once
) -> Iterator[MagaluTarget]:
    """Open Magalu Cloud, or the sandbox of the work folder. `sending` holds uploads back."""
    begun = {one.names["name"]: one.names["id"] for one in ledger.left() if one.kind == "image" and "id" in one.names}
    instances = _begun_instances(ledger)
    settings = TargetSettings(bucket=place.bucket, file_limit=place.file_limit, sending=sending)
    if not place.sandbox:
        found = find_credentials(Given(region=place.region), os.environ, run)
        where = region(found.region, api_url=os.environ.get(API_URL_ENV), s3_url=os.environ.get(S3_URL_ENV))
        with magalu_target(run, where, found, ledger, settings, begun, instances) as opened:
            yield opened
        return
    with open_sandbox(run, place.work / "sandbox", file_limit=place.file_limit) as box:
        if place.public_key is not None:
            box.put_key(place.public_key)
        where = region(box.credentials.region, api_url=box.api_url, s3_url=box.s3_url)
        settings = replace(settings, patience=SANDBOX_PATIENCE, launch_patience=SANDBOX_LAUNCH_PATIENCE)
        with magalu_target(run, where, _credentials(box), ledger, settings, begun, instances) as opened:
            yield opened


def _begun_instances(ledger: LedgerFile) -> dict[str, str | None]:
    """Return the ids of the instances that a job may have ordered, by label; None where it heard no id."""
    found: dict[str, str | None] = {}
    for one in ledger.left():
        if one.kind == "instance":
            label = one.names["label"]
            found[label] = one.names.get("id") or found.get(label)
    return found


def _credentials(box: Sandbox) -> Credentials:
    keys = box.credentials
    return Credentials(keys.key_id, keys.key_secret, api_key=keys.api_key, region=keys.region)


def take_back(target: MagaluTarget, made: Sequence[Made]) -> Iterator[str]:
    """Delete what an unfinished job made remotely: an instance, images that were ordered, objects and uploads, then an empty bucket.

    Yield what could not be, in words.
    """
    yield from _take_back_instances(target, [one for one in made if one.kind == "instance"])
    for one in made:
        match one.kind, one.names:
            case "image", {"name": name, "id": id_}:
                target.delete_image(name, id_)
            case "image", {"name": name}:
                # Nobody heard the order's answer, so nobody knows whether there is an image: deleting by name might hit another's.
                yield f"an image {name} may have been ordered; look for it: mgc vm images custom list"
            case (("object" | "upload"), {"bucket": bucket, "key": key}):
                target.discard(ObjectRef(bucket, key, 0, ""))
    for one in made:
        if one.kind == "bucket":
            target.delete_bucket(one.names["bucket"])


def _take_back_instances(target: MagaluTarget, made: Sequence[Made]) -> Iterator[str]:
    """An instance stands in the ledger as it was ordered, and a second time with its id: the second is the better one to ask by."""
    best = {one.names["label"]: one.names for one in sorted(made, key=lambda one: "id" in one.names)}
    for label, names in best.items():
        if not target.launcher.delete(names["name"], label, names.get("id")):
            yield (
                f"an instance {names['name']} may have been ordered, and none bears the label {label}; "
                "look for it: mgc vm instances list"
            )


@contextmanager
def kept_sandbox(run: Run, work: Path) -> Iterator[None]:
    """The sandbox of a work folder runs while the block lasts, so that several who use it at a time come and go. Its server ends with this thread."""
    with open_sandbox(run, work / "sandbox"):
        yield


def serve_sandbox(run: Run, folder: Path, say: Callable[[str], None]) -> None:
    """Run the sandbox until the user stops it, and say what is asked of it."""

    def watched(exchange: Exchange) -> None:
        say(f"  {exchange.request.method} {shown(exchange.request.path)} -> {exchange.reply.status}")

    with open_sandbox(run, folder, watch=watched) as box:
        say(f"Magalu Cloud on this machine: API {box.api_url}, object storage {box.s3_url}")
        say(f"In another terminal:  . {box.environment_file} && magalu-migrate vm DISK")
        say("Ctrl-C ends it.")
        run.stop.wait()
        run.check()
