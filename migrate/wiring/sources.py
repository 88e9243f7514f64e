"""The sources that there are: files, vSphere, Azure, AWS. A cloud's library is loaded when an address names it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from migrate.address import parse as parse_address
from migrate.errors import UsageError
from migrate.ledger import Ledger, Made, NoLedger
from migrate.run import Run
from migrate.source import LiveSource, Source, VmRef
from migrate.text import shown

if TYPE_CHECKING:  # `convert` of a file needs no pydantic, which takes a while to load
    from pydantic import JsonValue


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How a live source is reached and read; each source takes what concerns it. Nothing here is secret, nothing changes the disk.

    `ca` is a file with a further root certificate, `thumbprint` the server's own certificate, which is trusted then instead of any root.
    """

    ca: Path | None = None
    thumbprint: str | None = None
    transport: str = "auto"
    vddk_libdir: Path | None = None
    export_bucket: str | None = None

    def request(self) -> "dict[str, JsonValue]":
        """What `clean` needs to reach the source again."""
        return {"ca": str(self.ca) if self.ca else None, "thumbprint": self.thumbprint}

    @property
    def words(self) -> list[str]:
        """The options, as they are written."""
        said = [f"--ca={self.ca}"] if self.ca else []
        said += [f"--thumbprint={self.thumbprint}"] if self.thumbprint else []
        said += [f"--transport={self.transport}"] if self.transport != "auto" else []
        said += [f"--vddk-libdir={self.vddk_libdir}"] if self.vddk_libdir else []
        return said + ([f"--export-bucket={self.export_bucket}"] if self.export_bucket else [])

    @classmethod
    def of_request(cls, said: "JsonValue") -> "SourceOptions":
        if not isinstance(said, dict):
            return cls()
        ca, thumbprint = said.get("ca"), said.get("thumbprint")
        return cls(Path(str(ca)) if ca else None, str(thumbprint) if thumbprint else None)


def is_live(address: str) -> bool:
    """Whether it names a cloud or a hypervisor's management, where something must be made before a disk can be read."""
    return "://" in address


def formats() -> tuple[str, ...]:
    """Return what a disk in a file may be said to be."""
    from adapters.files.source import SAYABLE

    return SAYABLE


@contextmanager
def source(
    run: Run,
    address: str,
    disk_format: str | None,
    ledger: Ledger | None = None,
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
    from adapters.files import FileSource

    files = FileSource(run, Path(address).absolute(), disk_format)
    yield files, next(files.vms())


@contextmanager
def live_source(run: Run, address: str, ledger: Ledger, options: SourceOptions) -> Iterator[LiveSource]:
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

            way, bucket = options.transport, options.export_bucket
            with aws_source(run, where, ledger, ca=options.ca, transport=way, bucket=bucket) as aws:
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


def take_back_source(
    run: Run, request: "Mapping[str, JsonValue]", made: Sequence[Made], ledger: Ledger
) -> Iterator[str]:
    """Take back what a job made at its live source; yield in words what could not be."""
    options = SourceOptions.of_request(request.get("source"))
    with live_source(run, str(request.get("address")), ledger, options) as live:
        yield from live.undo(made)


def is_of_source(made: Made) -> bool:
    """Whether a line of a ledger is of a live source ("vmware/snapshot") and not of the target."""
    return "/" in made.kind
