"""The only file that knows which adapter, remediation, guest and prover there is, and puts them together."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import date
from itertools import islice
from pathlib import Path
from typing import cast

from pydantic import JsonValue

from adapters.files import FileSource
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
from adapters.magalu.target import FILE_LIMIT
from adapters.magalu.uploads import at_once
from adapters.sandbox import Exchange, Sandbox
from adapters.sandbox import sandbox as open_sandbox
from migrate.address import parse as parse_address
from migrate.doctor import Check, Checked
from migrate.errors import MigrateError, UsageError
from migrate.guest import Guest
from migrate.guests import bundle, bundling, ladder
from migrate.guests.rooms import Choice
from migrate.guests.rooms import Rooms as GuestRooms
from migrate.guests.rooms import trouble as room_trouble
from migrate.job import Ledger
from migrate.ledger import Ledger as LedgerOfSource
from migrate.ledger import Made, NoLedger
from migrate.nbd import served
from migrate.outcome import JsonObject
from migrate.pipeline import Prover, Repair, Rooms
from migrate.proof import kvm
from migrate.proof.image import check_image
from migrate.proof.proof import to_json as proof_json
from migrate.proof.prove import prove
from migrate.remediation import Remediation
from migrate.run import Note, Run
from migrate.source import Firmware, LiveSource, Source, VmRef
from migrate.target import ObjectRef
from migrate.text import shown
from remediations import BUILTIN
from remediations.needed_packages import packages_for

REMEDIATIONS: Sequence[Remediation] = BUILTIN

Offers = ladder.Offers

NO_GROWTH = frozenset({"DISK-005", "DISK-006", "CLOUD-008"})

SANDBOX_PATIENCE = Patience(poll=0.5, deadline=900.0, lookup=30.0, grace=10.0)
PROOF_S = 420.0
"""A guest under KVM logs in after half a minute; one that fsck's or grows a large disk takes longer."""
EMULATED_PROOF_S = 1800.0
"""Emulated on two cores: 82 s for a plain guest, 261 s with LVM (measured)."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where an image goes. `file_limit` in bytes."""

    sandbox: bool
    region: str | None
    bucket: str | None
    file_limit: int
    work: Path


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How a live source is reached and read; each source takes what concerns it. Nothing here is secret, nothing changes the disk.

    `ca` is a file with a further root certificate, `thumbprint` the server's own certificate, which is trusted then instead of any root.
    """

    ca: Path | None = None
    thumbprint: str | None = None
    transport: str = "auto"
    vddk_libdir: Path | None = None

    def request(self) -> dict[str, JsonValue]:
        """What `clean` needs to reach the source again."""
        return {"ca": str(self.ca) if self.ca else None, "thumbprint": self.thumbprint}

    @classmethod
    def of_request(cls, said: JsonValue) -> "SourceOptions":
        if not isinstance(said, dict):
            return cls()
        ca, thumbprint = said.get("ca"), said.get("thumbprint")
        return cls(Path(str(ca)) if ca else None, str(thumbprint) if thumbprint else None)


def is_live(address: str) -> bool:
    """Whether it names a cloud or a hypervisor's management, where something must be made before a disk can be read."""
    return "://" in address


@contextmanager
def source(
    run: Run,
    address: str,
    disk_format: str | None,
    ledger: LedgerOfSource | None = None,
    options: SourceOptions = SourceOptions(),
) -> Iterator[tuple[Source, VmRef]]:
    """Open the source that an address names; yield it with the one VM there. Without a ledger a live one can be described, not frozen."""
    if is_live(address):
        with live_source(run, address, ledger or NoLedger(), options) as live:
            found = tuple(islice(live.vms(), 2))
            if len(found) != 1:
                raise UsageError(
                    f"{shown(address)} names {'no VM' if not found else 'more than one VM'}; one was wanted",
                    hint=f"`magalu-migrate list '{shown(address)}'` shows what there is." if found else None,
                )
            yield live, found[0]
        return
    files = FileSource(run, Path(address).absolute(), disk_format)
    yield files, next(files.vms())


@contextmanager
def live_source(run: Run, address: str, ledger: LedgerOfSource, options: SourceOptions) -> Iterator[LiveSource]:
    """Open the cloud of an address. Raise UsageError where its library is not installed."""
    where = parse_address(address)
    match where.scheme:
        case "vmware":
            try:
                from adapters.vmware import Options, vmware_source
            except ModuleNotFoundError as error:
                raise UsageError(
                    f"{shown(address)}: pyvmomi, the library for vSphere, is not installed",
                    hint="pip install 'magalu-migrate[vmware]'",
                ) from error
            chosen = Options(options.ca, options.thumbprint, options.transport, options.vddk_libdir)
            with vmware_source(run, where, ledger, chosen) as vmware:
                yield vmware
        case "aws":
            from adapters.aws import aws_source

            with aws_source(run, where, ledger, ca=options.ca, transport=options.transport) as aws:
                yield aws
        case "azure":
            try:
                from adapters.azure import azure_source
            except ModuleNotFoundError as error:
                raise UsageError(
                    f"{shown(address)}: the libraries for Azure are not installed",
                    hint="pip install 'magalu-migrate[azure]'",
                ) from error
            with azure_source(run, where, ledger, options.ca) as azure:
                yield azure
        case _:
            raise UsageError(
                f"{shown(address)}: {where.scheme} is not built in yet",
                hint="Give a disk file, an OVA or an OVF: export the VM from its cloud first.",
            )


def take_back_source(run: Run, request: Mapping[str, JsonValue], made: Sequence[Made], ledger: Ledger) -> Iterator[str]:
    """Take back what a job made at its live source; yield in words what could not be."""
    options = SourceOptions.of_request(request.get("source"))
    with live_source(run, str(request.get("address")), ledger, options) as live:
        yield from live.undo(made)


def is_of_source(made: Made) -> bool:
    """Whether a line of a ledger is of a live source ("vmware/snapshot") and not of the target."""
    return "/" in made.kind


class Host:
    """What this machine can do, found out when it is first needed: a VM that is refused is refused at once."""

    def __init__(self) -> None:
        self._kvm: bool | None = None

    def has_kvm(self, run: Run) -> bool:
        """Whether KVM is of use; it is believed only after a guest ran. What it means where it is not is said once."""
        if self._kvm is None:
            state = kvm.usable(run)
            if not state.usable:
                run.tell(
                    Note(
                        f"KVM does not work here: {state.why}. The guest is emulated, which is slower and changes nothing else."
                    )
                )
            self._kvm = state.usable
        return self._kvm


@dataclass(frozen=True, slots=True)
class _Rooms:
    """The rooms of this machine. Which one it is, is decided when a guest is opened."""

    host: Host
    choice: Choice
    offers: Offers
    root: str | None

    def look(self, run: Run, uri: str, firmware: Firmware | None) -> AbstractContextManager[Guest]:
        return GuestRooms(self.host.has_kvm(run), self.choice, self.offers, self.root).look(run, uri, firmware)

    def repair(self, run: Run, uri: str, overlay: Path, firmware: Firmware | None) -> AbstractContextManager[Repair]:
        return GuestRooms(self.host.has_kvm(run), self.choice, self.offers, self.root).repair(
            run, uri, overlay, firmware
        )


def rooms(host: Host, choice: str, offered: Offers = ladder.NO_OFFERS, root: str | None = None) -> Rooms:
    """Return the rooms of this machine.

    `offered` is what the user brings for guests that lack packages; `root` names the root file system where there are several.
    """
    return _Rooms(host, Choice(choice), offered, root)


def offers(repos: Sequence[str], bundles: Sequence[Path], *, offline: bool) -> Offers:
    """Return what the user brings for guests that lack packages. Raise UsageError, or BundleBroken for a folder that is no bundle."""
    return ladder.offers(repos, bundles, offline=offline)


def make_bundle(run: Run, folder: Path, release: str, repos: Sequence[str]) -> bundle.Bundle:
    """Make a bundle for a release ("debian:12") of all that our remediations install. Raise UsageError, PackagesUnavailable."""
    wanted = bundling.release(release)
    asked, if_there = packages_for(wanted.id)
    return bundling.make_bundle(run, folder, wanted, asked, if_there, bundling.repositories(wanted, repos))


def read_bundle(folder: Path) -> bundle.Bundle:
    """Return the bundle in a folder. Raise BundleBroken where it is none."""
    return bundle.read_bundle(folder)


def image_name(vm: str) -> str:
    """Return the default name of a VM's image: its own, with the day."""
    safe = "".join(char if char.isascii() and (char.isalnum() or char in "-_") else "-" for char in vm)
    return f"{safe.strip('-')[:240] or 'vm'}-{date.today():%Y%m%d}"


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
    run: Run, place: Place, ledger: Ledger, sending: Callable[[int], object] = at_once
) -> Iterator[MagaluTarget]:
    """Open Magalu Cloud, or the sandbox of the work folder. `sending` holds uploads back."""
    begun = {one.names["name"]: one.names["id"] for one in ledger.left() if one.kind == "image" and "id" in one.names}
    settings = TargetSettings(bucket=place.bucket, file_limit=place.file_limit, sending=sending)
    if not place.sandbox:
        found = find_credentials(Given(region=place.region), os.environ, run)
        where = region(found.region, api_url=os.environ.get(API_URL_ENV), s3_url=os.environ.get(S3_URL_ENV))
        with magalu_target(run, where, found, ledger, settings, begun) as opened:
            yield opened
        return
    with open_sandbox(run, place.work / "sandbox", file_limit=place.file_limit) as box:
        where = region(box.credentials.region, api_url=box.api_url, s3_url=box.s3_url)
        settings = replace(settings, patience=SANDBOX_PATIENCE)
        with magalu_target(run, where, _credentials(box), ledger, settings, begun) as opened:
            yield opened


def _credentials(box: Sandbox) -> Credentials:
    keys = box.credentials
    return Credentials(keys.key_id, keys.key_secret, api_key=keys.api_key, region=keys.region)


def take_back(target: MagaluTarget, made: Sequence[Made]) -> Iterator[str]:
    """Delete what an unfinished job made remotely: images that were ordered, objects and uploads, then an empty bucket.

    Yield what could not be, in words.
    """
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


def prover(host: Host) -> Prover:
    """Return the boot proof for this machine."""

    def boot(run: Run, uri: str, *, firmware: Firmware, user: str | None, root_grows: bool = True) -> JsonObject:
        usable = host.has_kvm(run)
        return cast(
            JsonObject,
            proof_json(
                prove(
                    run,
                    uri,
                    firmware=firmware,
                    expected_user=user,
                    root_grows=root_grows,
                    timeout=PROOF_S if usable else EMULATED_PROOF_S,
                    use_kvm=usable,
                )
            ),
        )

    return boot


def prove_image(run: Run, image: Path, firmware: Firmware, user: str | None) -> JsonObject:
    """Boot a qcow2 file. Raise UsageError where it is none, or names another file."""
    check_image(image, "qcow2")
    with served(run, image) as uri:
        return prover(Host())(run, uri, firmware=firmware, user=user)


def checks(run: Run) -> tuple[Checked, ...]:
    """Return what `doctor` asks of adapters and rooms."""
    return (lambda: _room_check(run), lambda: _credentials_check(run))


def _room_check(run: Run) -> Check:
    why = room_trouble(run)
    if why is None:
        return Check("ok", "overlay room: FUSE, overlayfs and bubblewrap work here")
    return Check("slow", f"overlay room: {why}. The appliance is used.")


def _credentials_check(run: Run) -> Check:
    try:
        found = find_credentials(Given(), os.environ, run)
    except MigrateError as error:
        return Check("miss", error.message, error.hint, without="preview, inspect, prove, and vm with --sandbox")
    return Check("ok", f"Magalu Cloud: credentials for {found.region}")
