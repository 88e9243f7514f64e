"""What a user can ask of one VM, as data: the command line makes it of options, a batch of its file."""

import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path

from pydantic import BaseModel, ConfigDict, JsonValue

from migrate.codes import check_waivers
from migrate.data_disks import DataDisks
from migrate.errors import UsageError
from migrate.qcow2 import Compression
from migrate.remediation import Profile, Settings, check_names
from migrate.target import LaunchOptions
from migrate.wiring.guests import REMEDIATIONS, Offers, offers
from migrate.wiring.sources import SourceOptions, is_live

_PASSWORD = re.compile(r"//[^/@\s]*@")
"""The name and password in an address: neither shown nor kept."""


class GuestRequest(BaseModel):
    """How a disk is read, and how its guest is repaired."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    disk_format: str | None = None
    root: str | None = None
    room: str = "auto"
    profile: Profile = Profile.LIFT_AND_SHIFT
    skip: tuple[str, ...] = ()
    ask: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    waive: tuple[str, ...] = ()
    repo: tuple[str, ...] = ()
    bundle: tuple[Path, ...] = ()
    offline: bool = False
    keep_machine_id: bool = False
    force_datasource: str | None = None
    source: SourceOptions = SourceOptions()

    @property
    def words(self) -> list[str]:
        """What decides what the plan is, as the options of a command."""
        said = [f"--format={self.disk_format}"] if self.disk_format else []
        said += [f"--profile={self.profile.value}"] if self.profile is not Profile.LIFT_AND_SHIFT else []
        said += [f"--skip={name}" for name in self.skip]
        said += [f"--ask={name}" for name in self.ask]
        said += [f"--only={name}" for name in self.only]
        said += [f"--waive={code}" for code in self.waive]
        said += [f"--repo={_PASSWORD.sub('//…@', text)}" for text in self.repo]
        said += [f"--bundle={folder}" for folder in self.bundle]
        said += ["--offline"] if self.offline else []
        said += [f"--root={self.root}"] if self.root else []
        said += self.source.words
        said += ["--keep-machine-id"] if self.keep_machine_id else []
        return said + ([f"--force-datasource={self.force_datasource}"] if self.force_datasource else [])

    @property
    def offers(self) -> Offers:
        """What is brought for guests that lack packages. Raise UsageError, or BundleBroken for a bundle that is none."""
        return offers(self.repo, self.bundle, offline=self.offline)

    @property
    def settings(self) -> Settings:
        """Raise UsageError for a name or a code that there is not, or that is asked for and skipped."""
        known = {remediation.name for remediation in REMEDIATIONS}
        listed = "`magalu-migrate remediations list` shows all."
        check_names("--skip", self.skip, known, "remediation", listed)
        check_names("--ask", self.ask, known, "remediation", listed)
        check_names("--only", self.only, known, "remediation", listed)
        check_waivers(self.waive)
        wanted = {*self.ask, *self.only}
        if both := sorted(set(self.skip) & wanted):
            raise UsageError(f"{both[0]} is both asked for and skipped", hint="Ask for it or skip it, not both.")
        return Settings(
            self.force_datasource,
            not self.keep_machine_id,
            skip=frozenset(known - wanted if self.only else self.skip),
            profile=self.profile,
            ask=frozenset(wanted),
            waive=frozenset(self.waive),
        )


class VmRequest(GuestRequest):
    """What shall become of one VM. `name` is the image's, None for the default; `size_limit` in bytes, `bandwidth` in bytes a second.

    `approve` is the digest of the one plan that it may go by, None where any will do.
    """

    address: str
    name: str | None = None
    sandbox: bool = False
    region: str | None = None
    bucket: str | None = None
    prove: bool = True
    strict: bool = False
    keep_object: bool = False
    data_disks: DataDisks = DataDisks.REFUSE
    size_limit: int = 20 * 10**9
    bandwidth: int | None = None
    keep_image: Path | None = None
    compression: Compression = Compression.ZLIB
    launch: LaunchOptions | None = None
    approve: str | None = None

    @property
    def sandbox_key(self) -> Path | None:
        """The file of a public key that the sandbox is to have, named after the file; the real cloud has its own."""
        named = self.launch.ssh_key if self.launch and self.sandbox else ""
        return Path(named).expanduser() if named.endswith(".pub") else None

    def key(self, cloud: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
        """Everything that makes two requests the same job. What is waived changes nothing in the image; it is kept with the findings.

        Nor does a launch: the same words with --launch behind them find the finished image, and launch it.
        """
        return {
            "address": self.address,
            "format": self.disk_format,
            "root": self.root,
            "image": self.name,
            **({"source": self.source.request()} if is_live(self.address) else {}),
            **cloud,
            **({"data_disks": "upload"} if self.data_disks is DataDisks.UPLOAD else {}),
            "profile": self.profile.value,
            "skip": [*sorted(set(self.skip))],
            "ask": [*sorted(set(self.ask))],
            "only": [*sorted(set(self.only))],
            "repo": [_PASSWORD.sub("//", text) for text in self.repo],
            "bundle": [str(folder) for folder in self.bundle],
            "offline": self.offline,
            "keep_machine_id": self.keep_machine_id,
            "force_datasource": self.force_datasource,
        }


def image_name(vm: str) -> str:
    """Return the default name of a VM's image: its own, with the day."""
    safe = "".join(char if char.isascii() and (char.isalnum() or char in "-_") else "-" for char in vm)
    return f"{safe.strip('-')[:240] or 'vm'}-{date.today():%Y%m%d}"
