"""The batch file as its writer sees it. Keys are the long options of `vm`; what is left out is as there."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from migrate.batch.file_words import (
    Bundle,
    Clock,
    Days,
    DiskFormat,
    ExistingFile,
    ExistingFolder,
    FindingCode,
    Moment,
    NameTemplate,
    Pattern,
    Rate,
    RegionName,
    RemediationName,
    Repo,
    SourceText,
    SshKey,
    Zone,
)
from migrate.qcow2 import Compression
from migrate.remediation import Profile

SCHEMA = "https://json-schema.org/draft/2020-12/schema"
Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Positive = Annotated[int, Field(ge=1)]


def _kebab(name: str) -> str:
    return {"leave_out": "except", "disk_format": "format"}.get(name, name.replace("_", "-"))


class Words(BaseModel):
    """A part of the file. None is what was not said."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=_kebab, use_attribute_docstrings=True, validate_default=False
    )

    @classmethod
    def known_keys(cls) -> tuple[str, ...]:
        """The keys as they are written, its own first."""
        own = cls.__annotations__
        return tuple(_kebab(name) for name in sorted(cls.model_fields, key=lambda name: name not in own))

    def said(self) -> dict[str, Any]:
        """What was said, by the names of fields."""
        return {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}


class WindowWords(Words):
    """When work may start. Outside of it nothing starts, and what runs ends its part and waits."""

    opens: Clock
    """A time of day, e.g. 22:00."""
    closes: Clock
    """A time of day; the next day's where it is not after the one at which it opens."""
    days: Days = (0, 1, 2, 3, 4, 5, 6)
    """The days on which it opens: a list, or from one to another as mon-fri. Every day, if left out."""
    zone: Zone = "UTC"
    """The IANA time zone of these times, e.g. America/Sao_Paulo. UTC, if left out."""


class LimitsWords(Words):
    """How many VMs run at once."""

    overall: Positive | None = None
    """In the whole batch, however many workers there are."""
    per_worker: Positive | None = None
    """On one worker. 2, if left out."""
    per_source: Positive | None = None
    """From one source host: a vCenter, a subscription, a region; all files together are one."""
    per_target: Positive | None = None
    """To one target: a region of Magalu Cloud, or the sandbox."""


class LaunchWords(Words):
    """An instance is made of the image, named as the VM, and it is waited for until it runs."""

    ssh_key: SshKey
    """The key that it is reached by: its name in the cloud; for the sandbox a file with a public key (.pub)."""
    machine_type: str | None = None
    """The smallest that fits, if left out."""
    vpc: str | None = None
    """Name or id. The default one, if left out."""
    security_groups: tuple[str, ...] = ()
    """Names or ids. The default one, if left out."""
    zone: str | None = None
    """The availability zone."""
    public_ip: bool = True
    tags: bool = True
    """Take the source VM's tags as labels."""


class Options(Words):
    """What can be said of one VM, or of all that say nothing else. A list takes the place of the defaults' list."""

    profile: Profile | None = None
    """What the image is for: one machine that moves, or a template that many are made of."""
    skip: tuple[RemediationName, ...] | None = None
    """Remediations that are left out."""
    ask: tuple[RemediationName, ...] | None = None
    """Remediations that are made although the profile leaves them out."""
    only: tuple[RemediationName, ...] | None = None
    """These remediations and no other."""
    waive: tuple[FindingCode, ...] | None = None
    """Codes of findings that are accepted."""
    strict: bool | None = None
    """Refuse a VM with a warning that is not waived."""
    prove: bool | None = None
    """Boot the repaired disk before it is uploaded. True, if left out."""
    disk_format: DiskFormat | None = None
    """What the disk is, e.g. raw for one without a partition table."""
    root: str | None = None
    """The root file system, where the disk holds several systems: /dev/sda2, UUID=… or LABEL=…."""
    room: Literal["auto", "appliance", "overlay"] | None = None
    """Where the guest's own programs run."""
    repo: tuple[Repo, ...] | None = None
    """Where to get packages that the guest lacks, if its own repositories do not serve."""
    bundle: tuple[Bundle, ...] | None = None
    """Folders of bundles of packages (`magalu-migrate bundle make`)."""
    offline: bool | None = None
    """Do not ask the guest's own repositories."""
    keep_machine_id: bool | None = None
    """Keep the guest's identity. Only where the source VM stays off."""
    force_datasource: str | None = None
    """Let cloud-init use this datasource only."""
    ca: ExistingFile | None = None
    """Of a live source: a file with a further root certificate (PEM) that is trusted."""
    thumbprint: str | None = None
    """Of vSphere: trust the certificate with this SHA-256 (or SHA-1), and no other."""
    transport: Literal["auto", "datastore", "nfc", "vddk", "direct", "export"] | None = None
    """How disks of a live source are read."""
    vddk_libdir: ExistingFolder | None = None
    """Of vSphere: the folder of VMware's VDDK, for the transport vddk."""
    export_bucket: str | None = None
    """Of AWS: the bucket that disks are exported to, for the transport export."""
    sandbox: bool | None = None
    """Into the sandbox on this machine, as a rehearsal."""
    region: RegionName | None = None
    """The region of Magalu Cloud. If left out: MGC_REGION, then the mgc CLI's, then br-se1."""
    bucket: Annotated[str, Field(min_length=3, max_length=63)] | None = None
    """Where the image passes through. If left out: one of ours, made if missing."""
    keep_object: bool | None = None
    """Leave the uploaded file in the bucket after the import."""
    data_disks: Literal["refuse", "skip", "upload"] | None = None
    """What becomes of a VM's further disks: the VM is refused, they are left behind, or sent as files beside the image."""
    size_limit: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """The largest image file that Magalu takes, in 10^9 bytes. 20, if left out."""
    bandwidth: Rate | None = None
    """Send no faster, in bytes a second, e.g. 20M; for each VM."""
    compression: Compression | None = None
    """zstd is smaller, and it is not known whether Magalu reads it."""
    launch: LaunchWords | None = None
    """Make an instance of the image. It is not made, if left out."""
    priority: Annotated[int, Field(ge=-1000, le=1000)] | None = None
    """VMs of a higher one go first. 0, if left out."""
    not_before: Moment | None = None
    """Nothing of it starts before, e.g. 2026-12-01T22:00-03:00."""
    window: WindowWords | None = None
    """When work on it may start."""


class EntryWords(Options):
    """One VM, or all that a pattern or tags select."""

    source: SourceText
    """A disk file, an OVA, a folder with an OVF, or the address of a live source; * stands for any text, and selects many."""
    name: NameTemplate | None = None
    """What the image is called: letters, digits, - and _, with the fields {name}, {date}, {batch} and {number}. "{name}-{date}", if left out."""
    tags: Mapping[str, str] | None = None
    """Of a live source: only VMs with all of these tags; in a value * stands for any text."""
    leave_out: tuple[Pattern, ...] | None = None
    """VMs whose name or address matches one of these are left out."""


class FileWords(Words):
    """Many VMs that are moved to Magalu Cloud. Paths begin in the file's own folder. Nothing in it is secret."""

    name: Name
    """What the batch is called; letters, digits, dots, - and _."""
    limits: LimitsWords | None = None
    defaults: Options | None = None
    """What holds for each VM that does not say it."""
    vms: Annotated[tuple[EntryWords, ...], Field(min_length=1)]


class _Schema(GenerateJsonSchema):
    """JSON Schema for editors: what was not said is not null but absent."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])


def json_schema() -> dict[str, Any]:
    """Return the file's JSON Schema."""
    made = FileWords.model_json_schema(schema_generator=_Schema)
    return {"$schema": SCHEMA, **made, "title": "A batch file of magalu-migrate"}
