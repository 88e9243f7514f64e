"""An AWS region as a LiveSource: aws://REGION/i-…, ami-…, snap-…; in lists also aws://REGION/NAME-GLOB, by Name tag."""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from adapters.aws.account import Account, Answered, account
from adapters.aws.blocks import SnapshotDisk
from adapters.aws.export_rules import Exportable, account_of, bucket_reasons, disk_reasons, role, role_reasons
from adapters.aws.exports import Exports
from adapters.aws.images import Images
from adapters.aws.inventory import (
    device_name,
    devices,
    image_devices,
    image_reasons,
    image_vm,
    instance_reasons,
    instance_vm,
    local_storage,
    name_of,
    snapshot_reasons,
    snapshot_vm,
)
from adapters.aws.mark import Mark
from adapters.aws.objects import ObjectDisk
from adapters.aws.patience import Patience
from adapters.aws.refusals import Code
from adapters.aws.snapshots import Snapshots
from adapters.aws.token import ExportedDisk, FrozenDisk, Token, read_token
from migrate.address import Address, parse
from migrate.errors import NotMigratable, Reason, SourceBusy, SourceError, UsageError
from migrate.ledger import Ledger, Made
from migrate.nbd_server import RemoteDisk, served_disk
from migrate.run import Note, Run
from migrate.source import BlockSource, Extent, Vm, VmRef
from migrate.text import one_line

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import (
        ImageTypeDef,
        InstanceTypeDef,
        InstanceTypeInfoTypeDef,
        SnapshotTypeDef,
        VolumeTypeDef,
    )

TRANSPORTS = ("auto", "direct", "export")
REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d+")
ID = re.compile(r"(i|ami|snap)-[0-9a-f]{8,32}")
EVERY = "*"
PATIENCE = Patience()
DRY_RUN = "a-dry-run"
"""The job that nothing is made for: for questions whether something may be made."""
_WORDS = {"aws/export": "the export", "aws/image": "the AMI", "aws/snapshots": "the snapshots"}
GONE_STATES = ("terminated", "shutting-down")
AT_ONCE = 200
"""Values that one filter takes. Source: EC2 API reference, Filter."""
GONE_FIRST = ("aws/export", "aws/image", "aws/snapshots")
"""Kinds of what we make, in the order in which it goes: a snapshot of an AMI that is there cannot be deleted."""
TYPES_AT_ONCE = 100
"""Instance types that one answer holds. Source: EC2 API reference, DescribeInstanceTypes."""

NO_SNAPSHOTS: "Mapping[str, SnapshotTypeDef]" = {}
NO_VOLUMES: "Mapping[str, VolumeTypeDef]" = {}
NO_TYPES: "Mapping[str, InstanceTypeInfoTypeDef]" = {}

_Result = TypeVar("_Result")


@contextmanager
def aws_source(
    run: Run,
    address: Address,
    ledger: Ledger,
    *,
    ca: Path | None = None,
    transport: str = "auto",
    bucket: str | None = None,
    patience: Patience = PATIENCE,
) -> Iterator["AwsSource"]:
    """Open the region of an address; `bucket` is where disks are exported to by the transport "export".

    Raise UsageError for an address or a setting that means nothing here; nothing is asked yet.
    """
    if transport not in TRANSPORTS:
        known = ", ".join(TRANSPORTS)
        raise UsageError(
            f"--transport {transport} is not AWS's", hint=f"Of AWS there are {known}; auto is direct: EBS direct."
        )
    if (transport == "export") != (bucket is not None):
        raise UsageError(
            "--transport export and --export-bucket go together: AWS exports a disk to a bucket of yours",
            hint="Give both, e.g. --transport export --export-bucket my-exports; or neither, and EBS direct is used.",
        )
    region, what = _region_and_what(address)
    with account(run, region, ca) as opened:
        yield AwsSource(run, opened, what, ledger, patience, bucket)


class AwsSource:
    """`what` is an id, or a glob of Name tags; `bucket` is where disks are exported to, None where they are read by EBS direct."""

    def __init__(
        self, run: Run, account: Account, what: str, ledger: Ledger, patience: Patience, bucket: str | None = None
    ) -> None:
        self._run = run
        self._account = account
        self._what = what
        self._ledger = ledger
        self._patience = patience
        self._bucket = bucket

    @property
    def freezes_nothing(self) -> bool:
        return False

    def vms(self) -> Iterator[VmRef]:
        """Yield what the address names. An instance is named by its Name tag."""
        if ID.fullmatch(self._what):
            yield VmRef(self._address(self._what), self._name())
            return
        for instance in self._instances():
            yield VmRef(self._address(instance["InstanceId"]), name_of(instance))

    def list(self) -> Iterator[Vm]:
        """Yield every instance that the address names, or the one AMI or snapshot. A request a thousand instances, and few for their volumes and types."""
        match self._what.partition("-")[0] if ID.fullmatch(self._what) else "glob":
            case "ami":
                image = self._image(self._what)
                ids = [id_ for _, id_ in image_devices(image)]
                yield image_vm(image, self._snapshots(ids), self._account.region)
            case "snap":
                yield snapshot_vm(self._snapshot(self._what), self._account.region)
            case _:
                found = tuple(self._instances())
                volumes = self._volumes(tuple(id_ for one in found for _, id_ in devices(one)))
                types = self._types(tuple(one["InstanceType"] for one in found))
                for instance in found:
                    yield instance_vm(instance, volumes, types, self._account.region)

    def describe(self, ref: VmRef) -> Vm:
        """Return what EC2 knows; of a disk at most one block is read. Raise NotMigratable with every reason, missing permissions included."""
        id_ = self._id(ref.address)
        found = _Findings(ref.name)
        vm = self._described(id_, found)
        if found.reasons or vm is None:
            raise NotMigratable(vm.name if vm else ref.name, tuple(dict.fromkeys(found.reasons)))
        for text in found.notes:
            self._run.tell(Note(text, "warning"))
        return vm

    def freeze(self, vm: Vm, name: str) -> str:
        """Make one snapshot of each volume, all of one moment, and return when they are completed. An AMI or a snapshot is frozen already.

        By export: return when the disk is an object in the bucket. Raise SourceError where that may not be made, or may not be read: then it is
        gone again.
        """
        id_ = self._id(vm.address or "")
        if self._bucket is not None:
            return self._exported(id_, Mark(id_, name), self._bucket)
        if not id_.startswith("i-"):
            return Token(region=self._account.region, of=id_, job=None, disks=self._still_disks(id_)).text()
        snapshots = self._snapshots_of(Mark(id_, name))
        places = devices(self._instance(id_))
        made = snapshots.made(frozenset(volume for _, volume in places))
        ids = {device_name(device): made[volume] for device, volume in places}
        self._check_may_be_read(snapshots, tuple(ids.values()))
        found = snapshots.completed(tuple(ids.values()))
        disks = tuple(
            FrozenDisk(snapshot=one, name=name, size=found[one]["VolumeSize"] << 30) for name, one in ids.items()
        )
        return Token(region=self._account.region, of=id_, job=name, disks=disks).text()

    @contextmanager
    def frozen(self, token: str) -> Iterator[Sequence[BlockSource]]:
        taken = read_token(token)
        if taken.region != self._account.region:
            raise SourceError(f"the token is of {taken.region}, and this is {self._account.region}")
        yield tuple(_Served(self._run, self._remote(disk)) for disk in taken.disks)

    def release(self, token: str) -> None:
        """What `freeze` made is gone, also after a stop; an AMI or snapshots of the user's own stay."""
        taken = read_token(token)
        if taken.job is None:
            return
        mark = Mark(taken.of, taken.job)
        buckets = {disk.bucket for disk in taken.disks if isinstance(disk, ExportedDisk)}
        for bucket in buckets:
            self._exports_of(mark, bucket).delete()
        if buckets:
            self._images_of(mark).delete()
        else:
            self._snapshots_of(mark).delete()

    def undo(self, made: Sequence[Made]) -> Iterator[str]:
        begun = time.monotonic()
        for one in sorted(made, key=lambda one: GONE_FIRST.index(one.kind) if one.kind in GONE_FIRST else 0):
            of, job = one.names.get("of", ""), one.names.get("job", "")
            seen = time.monotonic() - begun > self._patience.settle  # what a dying run made shows by then
            try:
                match one.kind, one.names:
                    case _, {"region": region} if region != self._account.region:
                        yield f"{one.kind} {'/'.join(one.names.values())} is not of {self._account.region}: it was left as it is"
                    case "aws/export", {"of": of, "job": job, "bucket": bucket}:
                        self._exports_of(Mark(of, job), bucket).delete(seen=seen)
                    case "aws/image", {"of": of, "job": job}:
                        self._images_of(Mark(of, job)).delete(seen=seen)
                    case "aws/snapshots", {"of": of, "job": job}:
                        self._snapshots_of(Mark(of, job)).delete(seen=seen)
                    case _:
                        yield f"{one.kind} {'/'.join(one.names.values())} is nothing that this version makes: it was left as it is"
            except SourceError as error:
                yield f"{_WORDS[one.kind]} of {of} with the tag magalu-migrate={job} could not be taken back: {error}"

    def _snapshots_of(self, mark: Mark) -> Snapshots:
        return Snapshots(self._account, self._ledger, mark, self._patience)

    def _images_of(self, mark: Mark) -> Images:
        return Images(self._account, self._ledger, mark, self._patience)

    def _exports_of(self, mark: Mark, bucket: str) -> Exports:
        return Exports(self._account, self._ledger, mark, bucket, self._patience)

    def _remote(self, disk: FrozenDisk | ExportedDisk) -> RemoteDisk:
        return ObjectDisk(self._account, disk) if isinstance(disk, ExportedDisk) else SnapshotDisk(self._account, disk)

    def _exported(self, id_: str, mark: Mark, bucket: str) -> str:
        images, exports = self._images_of(mark), self._exports_of(mark, bucket)
        name, size = self._root(id_)
        try:
            image = id_ if id_.startswith("ami-") else images.made()
            if image != id_:
                images.available(image)
            disk = exports.completed(exports.made(image), name, size)
        except SourceBusy:
            raise  # what is on its way is gone on with
        except SourceError as error:
            try:
                exports.delete()
                images.delete()
            except SourceError as left:
                words = f"{error.message}; and not all of it could be taken back: {left.message}"
                raise SourceError(words, hint="Mend that, then run `magalu-migrate clean`.") from error
            raise
        return Token(region=self._account.region, of=id_, job=mark.job, disks=(disk,)).text()

    def _root(self, id_: str) -> tuple[str, int]:
        """The name and the size in bytes of the disk that it starts from."""
        if not id_.startswith("i-"):
            return next((disk.name, disk.size) for disk in self._still_disks(id_))
        device, volume = devices(self._instance(id_))[0]
        return device_name(device), self._volumes((volume,))[volume]["Size"] << 30

    # Looking

    def _described(self, id_: str, found: "_Findings") -> Vm | None:
        match id_.partition("-")[0]:
            case "i":
                return self._described_instance(id_, found)
            case "ami":
                image = found.of(lambda: self._image(id_), None)
                if image is None:
                    return None
                found.reasons += image_reasons(image)
                places = image_devices(image)
                snapshots = found.of(lambda: self._snapshots([one for _, one in places]), NO_SNAPSHOTS)
                self._check_snapshots(snapshots, found)
                if self._bucket is not None:
                    still = (_exportable(one, image.get("OwnerId")) for one in snapshots.values())
                    self._check_export(Mark(id_, DRY_RUN), self._bucket, tuple(still), found)
                return image_vm(image, snapshots, self._account.region)
            case _:
                snapshot = found.of(lambda: self._snapshot(id_), None)
                if snapshot is None:
                    return None
                self._check_snapshots({id_: snapshot}, found)
                if self._bucket is not None:
                    still_one = (_exportable(snapshot, snapshot.get("OwnerId")),)
                    self._check_export(Mark(id_, DRY_RUN), self._bucket, still_one, found)
                return snapshot_vm(snapshot, self._account.region)

    def _described_instance(self, id_: str, found: "_Findings") -> Vm | None:
        instance = found.of(lambda: self._instance(id_), None)
        mark = Mark(id_, DRY_RUN)
        denied = [self._snapshots_of(mark).check_may_be_made()] if self._bucket is None else []
        if instance is None:
            ec2 = self._account.ec2
            denied += [
                self._account.denial("ec2", "look at volumes", lambda: ec2.describe_volumes(DryRun=True)),
                self._account.denial("ec2", "look at types", lambda: ec2.describe_instance_types(DryRun=True)),
            ]
        for each in denied:
            if each is not None:
                found.lacks(each)
        if instance is None:
            if self._bucket is not None:
                self._check_export(mark, self._bucket, (), found)
            return None
        wanted = tuple(volume for _, volume in devices(instance))
        volumes = found.of(lambda: self._volumes(wanted), NO_VOLUMES)
        types = found.of(lambda: self._types((instance["InstanceType"],)), NO_TYPES)
        found.reasons += instance_reasons(instance, volumes)
        if self._bucket is None:
            self._check_keys(volumes, found)
        else:
            disks = (Exportable(one, each["Size"] << 30, each.get("Encrypted", False)) for one, each in volumes.items())
            self._check_export(mark, self._bucket, tuple(disks), found)
        if (local := local_storage(instance, types)) is not None:
            found.notes.append(local)
        return instance_vm(instance, volumes, types, self._account.region)

    def _check_keys(self, volumes: "Mapping[str, VolumeTypeDef]", found: "_Findings") -> None:
        keys = {id_: one["KmsKeyId"] for id_, one in volumes.items() if one.get("Encrypted") and one.get("KmsKeyId")}
        for volume, key in keys.items():
            if (reason := self._key_reason(f"volume {volume}", key)) is not None:
                found.reasons.append(reason)

    def _check_export(self, mark: Mark, bucket: str, disks: tuple[Exportable, ...], found: "_Findings") -> None:
        exports = self._exports_of(mark, bucket)
        denied = [exports.check_may_be_made()]
        if not mark.of.startswith("ami-"):
            denied.append(self._images_of(mark).check_may_be_made())
        for each in denied:
            if each is not None:
                found.lacks(each)
        known = len(found.reasons)
        exporter = found.of(lambda: role(self._account), None)
        if len(found.reasons) == known:
            found.reasons += role_reasons(exporter)
        found.reasons += disk_reasons(disks, account_of(exporter))
        for one in bucket_reasons(self._account, bucket, mark.folder):
            if isinstance(one, Answered):
                found.lacks(one, f"bucket {bucket}")
            else:
                found.reasons.append(one)

    def _check_snapshots(self, snapshots: "Mapping[str, SnapshotTypeDef]", found: "_Findings") -> None:
        for snapshot in snapshots.values():
            reasons = list(snapshot_reasons(snapshot))
            if not reasons and self._bucket is None:
                reasons += self._reading_reasons(snapshot, found)
            found.reasons += reasons

    def _reading_reasons(self, snapshot: "SnapshotTypeDef", found: "_Findings") -> Iterator[Reason]:
        """Yield why its first block cannot be read. Asking is surer than judging keys and policies."""
        id_ = snapshot["SnapshotId"]
        disk = SnapshotDisk(self._account, FrozenDisk(snapshot=id_, name=id_, size=snapshot["VolumeSize"] << 30))
        try:
            disk.check_readable()
        except Answered as error:
            key = snapshot.get("KmsKeyId") if snapshot.get("Encrypted") else None
            if key and (reason := self._key_reason(id_, key)) is not None:
                yield reason
            elif error.denied:
                found.lacks(error, f"{id_}, of account {snapshot.get('OwnerId', '?')}")
            else:
                raise

    def _key_reason(self, what: str, key: str) -> Reason | None:
        """Return why what this key encrypts cannot be read, as far as the key itself tells."""
        remedy = f'Allow "kms:DescribeKey" and "kms:Decrypt" for {one_line(key)}, in the key\'s policy, too.'
        try:
            told = self._account.asked("kms", f"look at key {key}", lambda: self._account.kms.describe_key(KeyId=key))
        except Answered as error:
            text = f"{what} is encrypted with {one_line(key)}, which cannot be used: {error.message}"
            return Reason(Code.KEY, text, remedy)
        state = told["KeyMetadata"].get("KeyState", "Enabled")
        if state == "Enabled":
            return None
        text = f"{what} is encrypted with {one_line(key)}, which is {one_line(state)}"
        return Reason(Code.KEY, text, "Enable the key, or cancel its deletion.")

    def _check_may_be_read(self, snapshots: Snapshots, ids: tuple[str, ...]) -> None:
        """Raise where EBS direct is denied, at once and not after the hours that a snapshot may take; the snapshots are gone then."""
        try:
            SnapshotDisk(self._account, FrozenDisk(snapshot=ids[0], name=ids[0], size=0)).check_readable()
        except Answered as error:  # one that is not completed is refused, too
            if error.denied:
                snapshots.delete(ids)
                raise
        except SourceBusy:
            pass  # it is asked again when it is read

    # Asking

    def _instances(self) -> "Iterator[InstanceTypeDef]":
        if ID.fullmatch(self._what):
            return iter((self._instance(self._what),))
        filters = [] if self._what == EVERY else [{"Name": "tag:Name", "Values": [self._what]}]
        return self._instances_of("list the instances", Filters=filters)

    def _instances_of(self, what: str, **words: Any) -> "Iterator[InstanceTypeDef]":
        for page in self._pages("describe_instances", what, **words):
            for reservation in page["Reservations"]:
                for instance in reservation["Instances"]:
                    if instance.get("State", {}).get("Name") not in GONE_STATES:
                        yield instance

    def _instance(self, id_: str) -> "InstanceTypeDef":
        for instance in self._instances_of(f"look at {id_}", InstanceIds=[id_]):
            return instance
        raise self._nothing(id_)

    def _image(self, id_: str) -> "ImageTypeDef":
        for page in self._pages("describe_images", f"look at {id_}", ImageIds=[id_]):
            images: Sequence[ImageTypeDef] = page["Images"]
            for image in images:
                return image
        raise self._nothing(id_)

    def _snapshot(self, id_: str) -> "SnapshotTypeDef":
        for snapshot in self._snapshots([id_]).values():
            return snapshot
        raise self._nothing(id_)

    def _snapshots(self, ids: Sequence[str]) -> "Mapping[str, SnapshotTypeDef]":
        if not ids:
            return {}
        pages = self._pages("describe_snapshots", f"look at {', '.join(ids)}", SnapshotIds=[*ids])
        return {one["SnapshotId"]: one for page in pages for one in page["Snapshots"]}

    def _volumes(self, ids: tuple[str, ...]) -> "Mapping[str, VolumeTypeDef]":
        found: dict[str, VolumeTypeDef] = {}
        for at in range(0, len(ids), AT_ONCE):
            filters = [{"Name": "volume-id", "Values": [*ids[at : at + AT_ONCE]]}]
            for page in self._pages("describe_volumes", "look at the volumes", Filters=filters):
                found |= {one["VolumeId"]: one for one in page["Volumes"]}
        return found

    def _types(self, names: tuple[str, ...]) -> "Mapping[str, InstanceTypeInfoTypeDef]":
        found: dict[str, InstanceTypeInfoTypeDef] = {}
        wanted = sorted(set(names))
        for at in range(0, len(wanted), TYPES_AT_ONCE):
            filters = [{"Name": "instance-type", "Values": wanted[at : at + TYPES_AT_ONCE]}]
            for page in self._pages("describe_instance_types", "look at the instance types", Filters=filters):
                found |= {one["InstanceType"]: one for one in page["InstanceTypes"]}
        return found

    def _pages(self, operation: Any, what: str, **words: Any) -> Iterator[Any]:
        pages = iter(self._account.ec2.get_paginator(operation).paginate(**words))
        while (page := self._account.asked("ec2", what, lambda: next(pages, None))) is not None:
            yield page

    def _still_disks(self, id_: str) -> tuple[FrozenDisk, ...]:
        """The disks of an AMI or a snapshot."""
        if id_.startswith("snap-"):
            return (FrozenDisk(snapshot=id_, name=id_, size=self._snapshot(id_)["VolumeSize"] << 30),)
        places = image_devices(self._image(id_))
        found = self._snapshots([snapshot for _, snapshot in places])
        return tuple(
            FrozenDisk(snapshot=snapshot, name=device_name(device), size=found[snapshot]["VolumeSize"] << 30)
            for device, snapshot in places
        )

    def _name(self) -> str:
        """The name of what an id names. Who may not look is told all that is missing by `describe`, so the id serves until then."""
        try:
            return next(iter(self.list())).name
        except Answered as error:
            if error.denied:
                return self._what
            raise
        except StopIteration:
            raise self._nothing(self._what) from None

    def _nothing(self, id_: str) -> SourceError:
        return SourceError(
            f"there is no {id_} in {self._account.region} of this account",
            hint=f"`magalu-migrate list 'aws://{self._account.region}/*'` shows what there is.",
        )

    def _address(self, id_: str) -> str:
        return f"aws://{self._account.region}/{id_}"

    def _id(self, address: str) -> str:
        region, what = _region_and_what(parse(address))
        if region != self._account.region or not ID.fullmatch(what):
            raise UsageError(f"{one_line(address)} names nothing in {self._account.region}")
        return what


@dataclass(slots=True)
class _Findings:
    """What a look finds: reasons against, and notes."""

    subject: str
    reasons: list[Reason] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def of(self, call: Callable[[], _Result], otherwise: _Result) -> _Result:
        """Return what the call gives; a missing permission is one of the reasons."""
        try:
            return call()
        except Answered as error:
            if not error.denied:
                raise
            self.lacks(error)
            return otherwise

    def lacks(self, error: Answered, of: str | None = None) -> None:
        text = f"the credentials lack {error.action}" + (f" for {one_line(of)}" if of else "")
        self.reasons.append(Reason(Code.PERMISSION, text, error.hint))


@dataclass(frozen=True, slots=True)
class _Served:
    """A BlockSource: the snapshot's disk behind a unix socket."""

    run: Run
    disk: RemoteDisk

    @property
    def name(self) -> str:
        return self.disk.name

    @property
    def size(self) -> int:
        return self.disk.size

    def extents(self) -> Iterator[Extent]:
        return self.disk.extents()

    def nbd(self) -> AbstractContextManager[str]:
        return served_disk(self.run, self.disk)


def _exportable(snapshot: "SnapshotTypeDef", owner: str | None) -> Exportable:
    return Exportable(snapshot["SnapshotId"], snapshot["VolumeSize"] << 30, snapshot.get("Encrypted", False), owner)


def _region_and_what(address: Address) -> tuple[str, str]:
    """Return the region, and the id or glob in it. Raise UsageError for what is neither."""
    if not REGION.fullmatch(address.host):
        raise UsageError(
            f"{one_line(address.text)}: {one_line(address.host)} is no region of AWS",
            hint="For example: aws://sa-east-1/i-0123456789abcdef0",
        )
    if len(address.parts) > 1:
        raise UsageError(
            f"{one_line(address.text)} has more than a region and an id", hint="Write a / in a name as %2F."
        )
    return address.host, address.parts[0] if address.parts else EVERY
