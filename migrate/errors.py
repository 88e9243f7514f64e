"""What can go wrong, as one tree.

    MigrateError                exit 1
    ├── UsageError              exit 2    the words of the call are off
    │   ├── PlanChanged                   the plan is not the one that was approved
    │   └── FileWrong                     a file that the user wrote is wrong; every mistake is listed
    ├── NotMigratable           exit 3    this VM is refused; every reason is listed
    ├── Stopped                 exit 130  the user stopped the run
    ├── ToolFailed                        a program that we ran said no
    ├── SourceError                       the place the disk comes from
    │   └── SourceBusy                    another try may do better
    ├── GuestError                        the system on the disk
    │   ├── PackageDatabaseBroken         what is installed cannot be known
    │   └── PackagesUnavailable           what must be installed cannot be had
    ├── BundleBroken                      a bundle of packages is not what its manifest says
    ├── TargetError                       the cloud or its object storage
    │   └── TargetBusy                    another try may do better
    └── ProofFailed                       the image was booted and did not hold

A message names what was asked, what was found, what was wanted; `hint` says what to do next.
Errors of libraries are translated to these at the edge of the module that calls the library.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


class MigrateError(Exception):
    """Base of all that this project raises on purpose."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message


class UsageError(MigrateError):
    """The command line or a setting is wrong."""

    exit_code = 2


class PlanChanged(UsageError):
    """The plan is not the one that was approved; nothing was done. `differences` says in words how, where that is known."""

    def __init__(self, message: str, *, hint: str | None = None, differences: Sequence[str] = ()) -> None:
        super().__init__(message, hint=hint)
        self.differences = tuple(differences)


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where something is written in a file; both count from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong at a place of a file, and what would mend it."""

    place: Place
    text: str
    hint: str | None = None


class FileWrong(UsageError):
    """A file that the user wrote is wrong. `mistakes` are all that were found, in the file's order; `name` is the file as the user named it."""

    def __init__(self, name: str, mistakes: Sequence[Mistake]) -> None:
        if not mistakes:
            raise ValueError("a wrong file without a mistake")
        self.name = name
        self.mistakes = tuple(sorted(mistakes, key=lambda mistake: mistake.place))
        super().__init__(f"{name}: {len(mistakes)} mistake{'s' if len(mistakes) > 1 else ''}")


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason why a VM cannot be moved: a stable code (`SRC-003`), what was found, and what would mend it; `details` are lines of evidence."""

    code: str
    text: str
    remedy: str | None = None
    details: tuple[str, ...] = ()


class NotMigratable(MigrateError):
    """This VM cannot be moved as it is; nothing was copied. Carries every reason that was found."""

    exit_code = 3

    def __init__(self, subject: str, reasons: Sequence[Reason]) -> None:
        if not reasons:
            raise ValueError("a refusal without a reason")
        self.subject = subject
        self.reasons = tuple(reasons)
        count = f"for {len(reasons)} reasons" if len(reasons) > 1 else "for 1 reason"
        super().__init__(f"{subject} cannot be moved, {count}: " + "; ".join(r.text for r in reasons))


class Stopped(MigrateError):
    """The user stopped the run (Ctrl-C, SIGTERM). What was done is kept; a second run goes on."""

    exit_code = 130

    def __init__(self) -> None:
        super().__init__("stopped")


class ToolFailed(MigrateError):
    """A program that we ran ended with an error. Its last words are in the message, never its environment."""

    def __init__(self, program: str, status: int | str, stderr: str, *, hint: str | None = None) -> None:
        said = " / ".join(stderr.strip().splitlines()[-4:])[-800:]
        super().__init__(f"{program} ended with {status}" + (f": {said}" if said else ""), hint=hint)
        self.program = program
        self.status = status
        self.stderr = stderr


class SourceError(MigrateError):
    """The source of the disk cannot give what was asked."""


class SourceBusy(SourceError):
    """The source cannot give it now; another try may do better."""


class GuestError(MigrateError):
    """The guest on the disk is not what was expected, or a change of it failed. Its overlay is thrown away.

    `code` is what it is told as where it keeps a repair from being made (migrate/codes.yaml).
    """

    code = "GUEST-018"


class PackageDatabaseBroken(GuestError):
    """The guest's package database cannot be read."""

    code = "GUEST-013"


class PackagesUnavailable(GuestError):
    """Packages that the guest needs can neither be found in it nor fetched for it. `passed` says of each place why it did not serve."""

    code = "GUEST-021"

    def __init__(self, message: str, *, hint: str | None = None, passed: Sequence[str] = ()) -> None:
        super().__init__(message, hint=hint)
        self.passed = tuple(passed)


class BundleBroken(MigrateError):
    """A bundle of packages is not what its manifest says. Nothing of it is used, and nothing is used in its place."""


class TargetError(MigrateError):
    """Magalu Cloud or its object storage refused. Carries what its support asks for."""

    def __init__(
        self, message: str, *, hint: str | None = None, status: int | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(f"{message} (request {request_id})" if request_id else message, hint=hint)
        self.status = status
        self.request_id = request_id


class TargetBusy(TargetError):
    """Throttled, unreachable or broken for a moment; another try may do better."""


class ProofFailed(MigrateError):
    """The image was booted in the sandbox and one of the claims of the proof does not hold. `proof` is all that was seen, as JSON values."""

    def __init__(self, message: str, *, hint: str | None = None, proof: Mapping[str, object] | None = None) -> None:
        super().__init__(message, hint=hint)
        self.proof = proof
