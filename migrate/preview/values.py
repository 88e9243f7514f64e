"""The preview as JSON: the models are its schema, and what programs may rely on.

A field is never renamed or given another meaning within a version of the schema; new ones may come. Texts of the guest have what cannot be seen
made visible, and secrets are left out, with their sizes and digests.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, ValidationError

from migrate import hidden
from migrate.effects import (
    Changes,
    Edit,
    Effect,
    Finding,
    LayoutEdit,
    PackageEdit,
    RebuildRequest,
    Removal,
    Severity,
)
from migrate.errors import MigrateError
from migrate.guest import DropPartition, Entry, File, Filesystem, Folder, LayoutChange, Link, MakeSwapFile, Package
from migrate.preview.difference import difference
from migrate.preview.preview import Occasion, Preview, data_disks
from migrate.preview.rehearsal import OWN_FILES, Rehearsal
from migrate.preview.summary import Summary, summary
from migrate.text import shown

Text = Annotated[str, BeforeValidator(shown)]
"""Foreign text, which may hold anything that a file name or a file can hold."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class FileValue(_Model):
    kind: Literal["file"] = "file"
    mode: str
    """Octal, four digits."""
    uid: int
    gid: int
    bytes: int | None
    """Null where the content is a secret."""


class FolderValue(_Model):
    kind: Literal["folder"] = "folder"
    mode: str
    uid: int
    gid: int


class LinkValue(_Model):
    kind: Literal["link"] = "link"
    target: Text


EntryValue = Annotated[FileValue | FolderValue | LinkValue, Field(discriminator="kind")]


class PackageValue(_Model):
    name: Text
    version: Text
    arch: Text


class _EffectValue(_Model):
    by: str
    """The remediation's name."""
    why: str
    """Completes "because it …"."""


class EditValue(_EffectValue):
    effect: Literal["edit"] = "edit"
    path: Text
    before: EntryValue | None
    """Null where there was nothing."""
    after: EntryValue
    secret: bool
    """Whether the content is hidden."""
    diff: tuple[Text, ...]
    """In words what is no text, then the lines of a unified diff without its file headers."""


class RemovalValue(_EffectValue):
    effect: Literal["remove"] = "remove"
    path: Text
    kind: str
    inside: int
    """How many entries go with a folder, counted up to 10,000."""


class PackagesValue(_EffectValue):
    effect: Literal["packages"] = "packages"
    install: tuple[PackageValue, ...]
    remove: tuple[PackageValue, ...]
    origin: Text
    """Where the packages come from, in words."""
    download_bytes: int


class DropPartitionValue(_EffectValue):
    effect: Literal["drop partition"] = "drop partition"
    disk: int
    """From 0."""
    partition: int
    """From 1."""


class MakeSwapFileValue(_EffectValue):
    effect: Literal["make swap file"] = "make swap file"
    path: Text
    bytes: int


class RebuildValue(_EffectValue):
    effect: Literal["rebuild"] = "rebuild"
    what: str


EffectValue = Annotated[
    EditValue | RemovalValue | PackagesValue | DropPartitionValue | MakeSwapFileValue | RebuildValue,
    Field(discriminator="effect"),
]


class FindingValue(_Model):
    code: str
    severity: Literal["note", "warning", "error"]
    waived: bool
    """Whether the operator accepts it."""
    by: str
    text: Text
    """What was found, with the evidence."""
    remedy: Text | None


class FactValue(_Model):
    name: Text
    text: Text
    by: str
    data: JsonValue
    """The same for programs: of "network before" an interface, from which it can be built again. Null where there is no more than the text."""


class ChangesValue(_Model):
    """All that is done, in order. `vm` gives the same object as what was done."""

    plan: str
    """The digest's first eight digits: what is typed behind `--approve`."""
    digest: str
    """SHA-256 over all effects and the real contents of all files."""
    effects: tuple[EffectValue, ...]
    findings: tuple[FindingValue, ...]
    facts: tuple[FactValue, ...]
    """What the guest was before, and will not be any more."""


class RemovedValue(_Model):
    packages: int
    files: dict[str, int]
    """Files and folders by their kinds ("unit", "log", "configuration file", …)."""


class SummaryValue(_Model):
    remove: RemovedValue
    install: tuple[Text, ...]
    """Names of packages."""
    change: tuple[Text, ...]
    add: tuple[Text, ...]
    disk: int
    """How many changes of partitions or swap there are."""
    rebuild: tuple[str, ...]
    errors: int
    warnings: int
    notes: int


class SizesValue(_Model):
    read_bytes: int | None
    """What is read of the source at most; null where the source cannot tell."""
    download_bytes: int
    """What packages are fetched for the guest."""


class OsValue(_Model):
    id: Text
    version: Text
    pretty: Text
    arch: Text
    """In dpkg's words: "amd64"."""


class FilesystemValue(_Model):
    device: Text
    type: Text
    bytes: int
    uuid: Text | None
    label: Text | None
    mountpoint: Text | None


class DriftValue(_Model):
    text: Text
    path: Text
    """Empty where it is about no path."""


class ExplainedValue(_Model):
    what: str
    package: Text
    """Empty where it is no package's."""
    count: int
    paths: tuple[Text, ...]
    """Left out where they are the package's own files."""


class RehearsalValue(_Model):
    held: bool
    said: int
    """How many effects the preview has."""
    kept: int
    """How many of them came out as said."""
    drift: tuple[DriftValue, ...]
    explained: tuple[ExplainedValue, ...]
    """What else changed on the disk, and what that was said explains it."""


class OccasionValue(_Model):
    address: Text
    """The source, as it was given."""
    made: datetime
    version: str
    """Of magalu-migrate."""


class DataDiskValue(_Model):
    """A disk of the VM that no image holds."""

    disk: int
    """From 2 on: the boot disk is the first."""
    name: Text
    bytes: int
    filesystems: tuple[FilesystemValue, ...]
    """What has a superblock on it, volumes of its groups among them."""


class GuestValue(_Model):
    """What a VM is."""

    name: Text
    origin: Text
    os: OsValue
    firmware: Literal["bios", "uefi"]
    disk_bytes: int
    kernels: tuple[Text, ...]
    """Newest last."""
    login: Text | None
    """Whom the key will admit; null where that is not known."""
    filesystems: tuple[FilesystemValue, ...]
    """On all disks."""
    data_disks: tuple[DataDiskValue, ...]


class PreviewValue(GuestValue):
    """What will be done to a VM, and what it is."""

    schema_: Literal["magalu-migrate/preview/1"] = Field(default="magalu-migrate/preview/1", alias="schema")
    status: Literal["can go", "refused"]
    """"refused" where a finding forbids the move."""
    can_go: bool
    occasion: OccasionValue | None
    rehearsal: RehearsalValue | None
    """Null where it was not rehearsed."""
    sizes: SizesValue
    summary: SummaryValue
    changes: ChangesValue


def to_json(preview: Preview) -> dict[str, object]:
    """Return the preview as JSON values; `changes` has the same shape in the result of a migration."""
    found = summary(preview.changes)
    value = PreviewValue(
        **dict(_guest(preview)),
        status="can go" if preview.can_go else "refused",
        can_go=preview.can_go,
        occasion=_occasion(preview.occasion),
        rehearsal=_rehearsal(preview.rehearsal),
        sizes=SizesValue(read_bytes=preview.read_bytes, download_bytes=found.download_bytes),
        summary=_summary(found, preview.changes.findings),
        changes=changes_value(preview.changes),
    )
    return value.model_dump(mode="json", by_alias=True)


def guest_json(preview: Preview) -> dict[str, object]:
    """Return what a VM is as JSON values."""
    return _guest(preview).model_dump(mode="json")


def changes_json(changes: Changes) -> dict[str, object]:
    """Return changes as JSON values: effects with their diffs, findings, facts and the plan's hash."""
    return changes_value(changes).model_dump(mode="json")


def kept_changes(values: Mapping[str, object]) -> ChangesValue:
    """Return changes that were written down as JSON. Raise MigrateError where another version of ours wrote them."""
    try:
        return ChangesValue.model_validate(values)
    except ValidationError as error:
        raise MigrateError(
            f"the changes that an earlier run wrote down cannot be read: {error.errors()[0]['msg']}",
            hint="Another version of magalu-migrate made them: take its work back with `magalu-migrate clean`, and begin anew.",
        ) from error


def _guest(preview: Preview) -> GuestValue:
    layout, os = preview.layout, preview.os
    return GuestValue(
        name=preview.vm.name,
        origin=preview.vm.origin,
        os=OsValue(id=os.id, version=os.version_id, pretty=os.pretty, arch=os.arch),
        firmware=layout.firmware.value,
        disk_bytes=layout.disk_size,
        kernels=preview.kernels,
        login=preview.login,
        filesystems=tuple(map(_filesystem, layout.filesystems)),
        data_disks=tuple(
            DataDiskValue(
                disk=disk.number,
                name=disk.disk.name,
                bytes=disk.disk.size,
                filesystems=tuple(map(_filesystem, disk.filesystems)),
            )
            for disk in data_disks(preview)
        ),
    )


def _filesystem(fs: Filesystem) -> FilesystemValue:
    return FilesystemValue(
        device=fs.device, type=fs.type, bytes=fs.size, uuid=fs.uuid, label=fs.label, mountpoint=fs.mountpoint
    )


def _occasion(occasion: Occasion | None) -> OccasionValue | None:
    if occasion is None:
        return None
    return OccasionValue(address=occasion.address, made=occasion.made, version=occasion.version)


def _rehearsal(rehearsal: Rehearsal | None) -> RehearsalValue | None:
    if rehearsal is None:
        return None
    return RehearsalValue(
        held=rehearsal.held,
        said=rehearsal.said,
        kept=rehearsal.kept,
        drift=tuple(DriftValue(text=drift.text, path=drift.path) for drift in rehearsal.drift),
        explained=tuple(
            ExplainedValue(
                what=each.what,
                package=each.package,
                count=len(each.paths),
                paths=() if each.what in OWN_FILES else each.paths,
            )
            for each in rehearsal.explained
        ),
    )


def _summary(found: Summary, findings: Iterable[Finding]) -> SummaryValue:
    by_severity = Counter(finding.severity for finding in findings if not finding.waived)
    return SummaryValue(
        remove=RemovedValue(
            packages=len(found.packages_removed), files={group.kind: len(group.paths) for group in found.removed}
        ),
        install=tuple(package.name for change in found.installs for package in change.install),
        change=found.changed,
        add=found.added,
        disk=len(found.layout),
        rebuild=tuple(what.value for what, _ in found.rebuilds),
        errors=by_severity[Severity.ERROR],
        warnings=by_severity[Severity.WARNING],
        notes=by_severity[Severity.NOTE],
    )


def changes_value(changes: Changes) -> ChangesValue:
    """Return changes as they are published."""
    return ChangesValue(
        plan=changes.plan,
        digest=changes.digest,
        effects=tuple(map(_effect, changes.effects)),
        findings=tuple(
            FindingValue(
                code=finding.code,
                severity=finding.severity.value,
                waived=finding.waived,
                by=finding.by,
                text=hidden.sentence(finding.text),
                remedy=None if finding.remedy is None else hidden.sentence(finding.remedy),
            )
            for finding in changes.findings
        ),
        facts=tuple(
            FactValue(name=fact.name, text=hidden.sentence(fact.text), by=fact.by, data=_sound(fact.data))
            for fact in changes.facts
        ),
    )


def _sound(value: JsonValue) -> JsonValue:
    """Return JSON whose texts, which are the guest's, can be shown."""
    match value:
        case str():
            return shown(hidden.sentence(value))
        case list():
            return [_sound(each) for each in value]
        case dict():
            return {
                key: hidden.HIDDEN if hidden.is_named(key) and each else _sound(each) for key, each in value.items()
            }
    return value


def _effect(effect: Effect) -> EffectValue:
    by, why = effect.by, effect.why
    match effect:
        case Edit(path=path, before=before, after=after):
            found = difference(path, before, after)
            return EditValue(
                by=by,
                why=why,
                path=path,
                before=None if before is None else _entry(before, secret=found.secret),
                after=_entry(after, secret=found.secret),
                secret=found.secret,
                diff=found.text,
            )
        case Removal(path=path, kind=kind, inside=inside):
            return RemovalValue(by=by, why=why, path=path, kind=kind.value, inside=inside)
        case PackageEdit(change=packages):
            return PackagesValue(
                by=by,
                why=why,
                install=tuple(map(_package, packages.install)),
                remove=tuple(map(_package, packages.remove)),
                origin=packages.origin,
                download_bytes=packages.download_bytes,
            )
        case LayoutEdit(change=change):
            return _layout(by, why, change)
        case RebuildRequest(what=what):
            return RebuildValue(by=by, why=why, what=what.value)


def _entry(entry: Entry, *, secret: bool) -> EntryValue:
    match entry:
        case File(content=content, mode=mode, uid=uid, gid=gid):
            return FileValue(mode=f"{mode:04o}", uid=uid, gid=gid, bytes=None if secret else len(content))
        case Folder(mode=mode, uid=uid, gid=gid):
            return FolderValue(mode=f"{mode:04o}", uid=uid, gid=gid)
        case Link(target=target):
            return LinkValue(target=target)


def _package(package: Package) -> PackageValue:
    return PackageValue(name=package.name, version=package.version, arch=package.arch)


def _layout(by: str, why: str, change: LayoutChange) -> EffectValue:
    match change:
        case DropPartition(disk=disk, partition=partition):
            return DropPartitionValue(by=by, why=why, disk=disk, partition=partition)
        case MakeSwapFile(path=path, size=size):
            return MakeSwapFileValue(by=by, why=why, path=path, bytes=size)
