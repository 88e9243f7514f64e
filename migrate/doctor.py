"""What this machine has and can do, each with the command that mends what is missing."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import packages_distributions
from importlib.resources import files
from pathlib import Path

from migrate.errors import MigrateError
from migrate.proof import kvm
from migrate.run import Run
from migrate.text import size

ROOM_WANTED = 20 * 10**9
"""Free bytes in the work folder below which a migration of a usual disk may not fit."""


@dataclass(frozen=True, slots=True)
class SystemPackage:
    """A Debian package; `proof` is a command on the PATH, or an absolute path that may hold a pattern."""

    group: str
    name: str
    proof: str
    purpose: str

    @property
    def present(self) -> bool:
        if not self.proof.startswith("/"):
            return shutil.which(self.proof) is not None
        return any(Path("/").glob(self.proof[1:]))


def system_packages() -> tuple[SystemPackage, ...]:
    """Return the one list of system packages, which `make setup` installs."""
    lines = (files("migrate") / "system-packages.txt").read_text().splitlines()
    return tuple(SystemPackage(*line.split(maxsplit=3)) for line in lines if line.strip() and not line.startswith("#"))


@dataclass(frozen=True, slots=True)
class Check:
    """`verdict` is "ok", "slow" (it works, but not as fast as it could) or "miss"; `without` is what works where it is missing."""

    verdict: str
    text: str
    remedy: str | None = None
    without: str | None = None


Checked = Callable[[], Check]


def checks(run: Run, work: Path, others: Sequence[Checked]) -> Iterator[Check]:
    """Yield what was found, one thing at a time; `others` are the checks of adapters and rooms."""
    yield _packages()
    yield _tools(run)
    yield _bindings()
    yield _kvm(run)
    for other in others:
        yield other()
    yield _work_folder(work)
    yield _names()


def _packages() -> Check:
    missing = [package for package in system_packages() if package.group == "run" and not package.present]
    if not missing:
        return Check("ok", "every system package that a migration needs is there")
    named = ", ".join(f"{package.name} ({package.purpose})" for package in missing)
    return Check("miss", f"system packages: {named}", f"apt-get install {' '.join(p.name for p in missing)}")


def _tools(run: Run) -> Check:
    found = []
    for argv in (["qemu-img", "--version"], ["nbdkit", "--version"], ["guestfish", "--version"]):
        try:
            found.append(run.tool(argv, timeout=20).text.splitlines()[0].split("(")[0].strip())
        except MigrateError as error:
            return Check("miss", f"{argv[0]}: {error.message}", "make setup")
    return Check("ok", ", ".join(found))


def _bindings() -> Check:
    try:
        import guestfs  # noqa: F401
        import nbd  # noqa: F401
    except ImportError as error:
        return Check(
            "miss",
            f"Python cannot import {error.name}: the bindings of libguestfs and libnbd are not on PyPI",
            "make setup, or link them from /usr/lib/python3/dist-packages as .ci/setup does",
        )
    return Check("ok", "the Python bindings of libguestfs and libnbd")


def _kvm(run: Run) -> Check:
    state = kvm.usable(run, anew=True)
    if state.usable:
        return Check("ok", "KVM: a guest runs")
    return Check("slow", f"KVM: {state.why}. Emulation and the overlay room are used.")


def _work_folder(work: Path) -> Check:
    folder = next(path for path in (work, *work.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    text = f"work folder {work}: {size(free)} free"
    return Check("ok", text) if free >= ROOM_WANTED else Check("slow", text, "Name a larger one with --work.")


def _names() -> Check:
    """Others own distributions on PyPI whose import packages are called migrate or adapters, too."""
    owners = packages_distributions()
    foreign = {
        f"{package} ({owner})"
        for package in ("migrate", "adapters", "remediations")
        for owner in owners.get(package, [])
        if owner != "magalu-migrate"
    }
    if foreign:
        return Check(
            "miss",
            f"another distribution has packages of our names: {', '.join(sorted(foreign))}",
            "Install magalu-migrate in an environment of its own (pipx install magalu-migrate).",
        )
    return Check("ok", "the Python packages migrate, adapters and remediations are ours alone")
