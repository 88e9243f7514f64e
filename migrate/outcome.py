"""What became of one VM: what each stage leaves in the job's folder, and the final JSON object."""

from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, JsonValue

from migrate.source import Disk, Firmware, Vm
from migrate.target import Image, ObjectRef
from migrate.volume import Step, volume_steps

JsonObject = dict[str, JsonValue]


class StageResult(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Frozen(StageResult):
    """`token` names the source's frozen state after a restart."""

    token: str


class Repaired(StageResult):
    """The overlay holds a repaired guest. `changes` as the preview's JSON has them; `login` is who the key will admit."""

    changes: JsonObject
    firmware: Firmware
    login: str | None
    root_grows: bool


class Proven(StageResult):
    """The repaired disk was booted, and every claim that decides holds."""

    proof: JsonObject


class Sent(StageResult):
    """The image is an object. Sizes in bytes; `kept` is a file that holds it, too; `disk_sha256` as migrate.block_map has it."""

    bucket: str
    key: str
    bytes: int
    mark: str
    virtual_bytes: int
    disk_sha256: str
    kept: Path | None = None

    @property
    def ref(self) -> ObjectRef:
        return ObjectRef(self.bucket, self.key, self.bytes, self.mark)


class DiskSent(StageResult):
    """A data disk is an object beside the image. `number` counts the VM's disks from 1, so that the first data disk is the second; the rest as `Sent`."""

    number: int
    bucket: str
    key: str
    bytes: int
    mark: str
    virtual_bytes: int
    disk_sha256: str

    @property
    def ref(self) -> ObjectRef:
        return ObjectRef(self.bucket, self.key, self.bytes, self.mark)


class Imported(StageResult):
    """The image is active. `object_kept`: the object was left to the user."""

    id: str
    name: str
    status: str
    object_kept: bool

    @classmethod
    def of(cls, image: Image, *, object_kept: bool) -> "Imported":
        return cls(id=image.id, name=image.name, status=image.status, object_kept=object_kept)


class Launched(StageResult):
    """An instance of the image of this id runs. `user` is whom the key admits, as far as that is known; `console` the end of what its guest wrote."""

    image: str
    id: str
    name: str
    machine_type: str
    status: str
    private_ipv4: str | None
    public_ipv4: str | None
    ipv6: str | None
    user: str | None
    console: tuple[str, ...]

    @property
    def addresses(self) -> tuple[str, ...]:
        """The best first: an address that the whole world reaches, then the private one."""
        return tuple(one for one in (self.public_ipv4, self.ipv6, self.private_ipv4) if one)

    @property
    def ssh(self) -> str | None:
        """The command that logs in; None where it has no address."""
        if not self.addresses:
            return None
        return f"ssh {self.user}@{self.addresses[0]}" if self.user else f"ssh {self.addresses[0]}"

    def to_json(self) -> dict[str, object]:
        return {**self.model_dump(exclude={"console"}), "ssh": self.ssh, "init_logs": list(self.console)}


@dataclass(frozen=True, slots=True)
class DataDisk:
    """A disk of the VM that is not in the image, by its number from 2 on, and what became of it: None where it is left behind.

    `region` is the bucket's, None where it is not known.
    """

    number: int
    disk: Disk
    sent: DiskSent | None = None
    region: str | None = None

    @property
    def steps(self) -> tuple[Step, ...]:
        """What brings it into a volume."""
        sent = self.sent
        if sent is None:
            return ()
        return volume_steps(sent.bucket, sent.key, sent.bytes, sent.virtual_bytes, sent.disk_sha256, self.region)

    def to_json(self) -> dict[str, object]:
        return {
            "disk": self.number,
            "name": self.disk.name,
            "virtual_bytes": self.disk.size,
            "bucket": self.sent and self.sent.bucket,
            "key": self.sent and self.sent.key,
            "bytes": self.sent and self.sent.bytes,
            "disk_sha256": self.sent and self.sent.disk_sha256,
            "steps": [{"where": step.where, "what": step.what, "commands": [*step.commands]} for step in self.steps],
        }


@dataclass(slots=True)
class Outcome:
    """What became of it, stage by stage. `bytes_read` of the source, in all runs of the job; `seconds` of this one."""

    status: str = "failed"
    vm: Vm | None = None
    repaired: Repaired | None = None
    proven: Proven | None = None
    sent: Sent | None = None
    imported: Imported | None = None
    data_disks: tuple[DataDisk, ...] = ()
    launched: Launched | None = None
    bytes_read: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Return the final JSON object. A stage that was not reached, or not wanted, is null."""
        return {
            "status": self.status,
            "name": self.vm.name if self.vm else None,
            "origin": self.vm.origin if self.vm else None,
            "image": self.imported and self.imported.model_dump(include={"id", "name", "status"}),
            "instance": self.launched and self.launched.to_json(),
            "object": self.sent
            and {
                **self.sent.model_dump(include={"bucket", "key", "bytes"}),
                "kept": self.imported is None or self.imported.object_kept,
            },
            "data_disks": [one.to_json() for one in self.data_disks],
            "qcow2": self.sent
            and {
                "path": str(self.sent.kept) if self.sent.kept else None,
                **self.sent.model_dump(include={"bytes", "virtual_bytes", "disk_sha256"}),
            },
            "changes": self.repaired and self.repaired.changes,
            "proof": self.proven and self.proven.proof,
            "login": self.repaired and self.repaired.login,
            "seconds": self.seconds,
            "bytes_read": self.bytes_read,
        }
