"""The package database of RPM systems, read with the host's rpm on a private copy: sqlite, ndb and Berkeley DB.

The database is the guest's, so rpm reads it as an untrusted file: in a sandbox without network and under limits.
"""

import shutil
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from migrate.errors import GuestError, ToolFailed
from migrate.guest import File, Kind, Package
from migrate.guests.paths import Files, resolved
from migrate.guests.sandbox import give, sandboxed
from migrate.run import Limits, Run

FOLDERS = ("/usr/lib/sysimage/rpm", "/var/lib/rpm")
"""The newer place first; on Fedora 36 and later the older one is a link to it. Source: Fedora change "RelocateRPMToUsr"."""
FILES = ("rpmdb.sqlite", "rpmdb.sqlite-wal", "Packages.db", "Index.db", "Packages")
"""sqlite, ndb, bdb. Indexes other than these are made anew by rpm where it needs them."""

DEBIAN_ARCH = {"x86_64": "amd64", "aarch64": "arm64", "noarch": "all"}
LIMITS = Limits(address_space=2 << 30, cpu_seconds=120)


@dataclass(frozen=True, slots=True)
class RpmDatabase:
    packages: Mapping[str, Package]
    files: Mapping[str, frozenset[str]]


def database_files(files: Files) -> dict[str, str]:
    """Return the database's files in the guest, name → path; {} where there is no RPM database."""
    for folder in FOLDERS:
        at = resolved(files, folder)
        found = {name: f"{at}/{name}" for name in FILES if files.kind(f"{at}/{name}") is Kind.FILE}
        if found:
            return found
    return {}


def read(files: Files, run: Run) -> RpmDatabase:
    """Read the guest's database. Raise GuestError where rpm cannot.

    Of several versions of one package (kernels), the name stands for the one that was installed last.
    """
    copy = Path(tempfile.mkdtemp(prefix="rpmdb-", dir=run.work))
    try:
        for name, path in database_files(files).items():
            entry = files.load(path)
            if isinstance(entry, File):
                (copy / name).write_bytes(entry.content)
                give(copy / name)
        give(copy)
        query = ["--qf", r"%{NAME}\t%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}\t%{ARCH}\n[\t%{FILENAMES}\n]"]
        # The database's format is told by the files that are there; rpm(8) "--dbpath".
        argv = ["rpm", "--dbpath", "/db", *_backend(copy), "-qa", *query]
        said = run.tool(sandboxed(argv, folder=(copy, "/db")), limits=LIMITS, timeout=180).text
    except ToolFailed as error:
        raise GuestError(f"the guest's RPM database cannot be read: {error.stderr.strip()[-400:]}") from error
    finally:
        shutil.rmtree(copy, ignore_errors=True)
    return _parsed(said)


def _backend(folder: Path) -> list[str]:
    for name, backend in (("rpmdb.sqlite", "sqlite"), ("Packages.db", "ndb"), ("Packages", "bdb_ro")):
        if (folder / name).exists():
            return ["--define", f"_db_backend {backend}"]
    return []


def _parsed(text: str) -> RpmDatabase:
    packages: dict[str, Package] = {}
    files: defaultdict[str, set[str]] = defaultdict(set)
    name = ""
    for line in text.splitlines():
        if line.startswith("\t"):
            files[name].add(line[1:])
            continue
        name, version, arch = line.split("\t")
        if name != "gpg-pubkey":  # a key, shown as a package
            packages[name] = Package(name, version, DEBIAN_ARCH.get(arch, arch))
    return RpmDatabase(packages, {name: _leaves(files[name]) for name in packages})


def _leaves(paths: set[str]) -> frozenset[str]:
    return frozenset(paths - {path.rpartition("/")[0] for path in paths})
