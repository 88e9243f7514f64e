"""The package database of RPM systems, read with the host's rpm on a private copy: sqlite, ndb and Berkeley DB.

The database is the guest's, so rpm reads it as an untrusted file: in a sandbox without network and under limits.
"""

import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from migrate.errors import GuestError, ToolFailed
from migrate.guest import File, Kind, Package
from migrate.guests.paths import Files, resolved
from migrate.guests.rpm_ndb import header_list
from migrate.guests.sandbox import give, sandboxed
from migrate.run import Limits, Run

FOLDERS = ("/usr/lib/sysimage/rpm", "/var/lib/rpm")
"""The newer place first; on Fedora 36 and later the older one is a link to it. Source: Fedora change "RelocateRPMToUsr"."""
SQLITE, NDB, BDB = "rpmdb.sqlite", "Packages.db", "Packages"
"""The file that tells each format. The newest first: a converted database may leave the old file behind."""
FILES = (SQLITE, f"{SQLITE}-wal", NDB, BDB)
"""Indexes are made anew by rpm where it needs them."""

KEYS = "gpg-pubkey"
"""A key that the guest trusts is kept as a package of this name. Source: rpmkeys(8)."""

DEBIAN_ARCH = {"x86_64": "amd64", "aarch64": "arm64", "noarch": "all"}
RPM_ARCH = {debian: rpm for rpm, debian in DEBIAN_ARCH.items()}
LIMITS = Limits(address_space=2 << 30, cpu_seconds=120)

EVR = "%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}"


@dataclass(frozen=True, slots=True)
class RpmDatabase:
    packages: Mapping[str, Package]
    files: Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Record:
    """What is kept of an RPM package in `Package.record`: its full name, and where it would come from and what it takes the place of."""

    nevra: str
    repository: str = ""
    obsoletes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return "\n".join((self.nevra, self.repository, *self.obsoletes))


def record(package: Package) -> Record:
    """Return a package's record; one that was made up in a test names itself."""
    if not package.record:
        return Record(f"{package.name}-{package.version}.{RPM_ARCH.get(package.arch, package.arch)}")
    nevra, repository, *obsoletes = f"{package.record}\n".split("\n")
    return Record(nevra, repository, tuple(filter(None, obsoletes)))


def name_of(package: Package) -> str:
    """Return the name that the package has in its header, whatever it is called among several."""
    return record(package).nevra.rsplit("-", 2)[0]


def database_files(files: Files) -> dict[str, str]:
    """Return the database's files in the guest, name → path; {} where there is no RPM database."""
    for folder in FOLDERS:
        at = resolved(files, folder)
        found = {name: f"{at}/{name}" for name in FILES if files.kind(f"{at}/{name}") is Kind.FILE}
        if found:
            return found
    return {}


def copied(files: Files, run: Run, folder: Path) -> str:
    """Copy the guest's database into a folder of ours, for `sandboxed` to read; return rpm's word for its format there.

    Debian's rpm knows sqlite, and reads Berkeley DB; ndb is made sqlite. Raise GuestError where the database is damaged.
    """
    found = database_files(files)
    kind = next((name for name in (SQLITE, NDB, BDB) if name in found), "")
    for name, path in found.items():
        entry = files.load(path)
        if isinstance(entry, File) and name.startswith(kind) and name != NDB:
            (folder / name).write_bytes(entry.content)
            give(folder / name)
    give(folder)
    if kind == NDB and isinstance(entry := files.load(found[NDB]), File):
        argv = ["rpmdb", "--dbpath", "/db", "--define", "_db_backend sqlite", "--importdb"]
        run.tool(sandboxed(argv, folder=(folder, "/db")), stdin=header_list(entry.content), limits=LIMITS, timeout=180)
    return "bdb_ro" if kind == BDB else "sqlite"


def read(files: Files, run: Run, arch: str = "amd64") -> RpmDatabase:
    """Read the guest's database. Raise GuestError where rpm cannot.

    Of several versions of one package (kernels), the name stands for the one that was installed last; the others are called by their
    full names ("kernel-core-5.14.0-70.el9.x86_64"), and a package of another architecture than `arch` by both ("glibc.i686").
    """
    copy = Path(tempfile.mkdtemp(prefix="rpmdb-", dir=run.work))
    try:
        backend = copied(files, run, copy)
        query = ["--qf", rf"%{{NAME}}\t{EVR}\t%{{ARCH}}\t%{{INSTALLTIME}}\n[\t%{{FILENAMES}}\n]"]
        # The database's format is told by the files that are there; rpm(8) "--dbpath".
        argv = ["rpm", "--dbpath", "/db", "--define", f"_db_backend {backend}", "--nosignature", "-qa", *query]
        output = run.tool(sandboxed(argv, folder=(copy, "/db")), limits=LIMITS, timeout=180)
    except ToolFailed as error:
        raise GuestError(f"the guest's RPM database cannot be read: {_complaint(error.stderr)}") from error
    finally:
        shutil.rmtree(copy, ignore_errors=True)
    if "error:" in output.stderr:  # rpm says what it found up to the damage, complains, and ends with success
        raise GuestError(f"the guest's RPM database is damaged: {_complaint(output.stderr)}")
    return _database(_headers(output.text), arch)


def _complaint(said: str) -> str:
    errors = [line.removeprefix("error: ") for line in said.splitlines() if line.startswith("error: ")]
    return (errors or [said.strip() or "rpm does not say why"])[0][:300]


@dataclass(frozen=True, slots=True)
class Header:
    """One installed package, in rpm's words; `installed` in seconds since 1970."""

    name: str
    evr: str
    arch: str
    installed: int
    files: frozenset[str]

    @property
    def nevra(self) -> str:
        return f"{self.name}-{self.evr}.{self.arch}"


def _headers(text: str) -> list[Header]:
    files: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
    key: tuple[str, ...] = ()
    for line in text.split("\n"):
        if line.startswith("\t"):
            files[key].add(line[1:])
        elif len(words := line.split("\t")) == 4:
            key = tuple(words)
            files[key] = set()
    return [
        Header(name, evr.removeprefix("0:"), arch, int(when) if when.isdecimal() else 0, _leaves(paths))
        for (name, evr, arch, when), paths in files.items()
        if name != KEYS
    ]


def _database(headers: Iterable[Header], arch: str) -> RpmDatabase:
    packages: dict[str, Package] = {}
    files: dict[str, frozenset[str]] = {}
    for header in sorted(headers, key=lambda header: header.installed, reverse=True):
        told = DEBIAN_ARCH.get(header.arch, header.arch)
        name = header.name if told in (arch, "all") else f"{header.name}.{header.arch}"
        name = header.nevra if name in packages else name
        packages[name] = Package(name, header.evr, told, Record(header.nevra).text)
        files[name] = header.files
    return RpmDatabase(dict(sorted(packages.items())), files)


def keys(run: Run, folder: Path, inside: str, database: str, backend: str) -> tuple[str, ...]:
    """Return the keys that the guest trusts, armored. The copy of its database is at `database`, seen from inside `folder`."""
    argv = ["rpm", "--dbpath", f"{inside}/{database}", "--define", f"_db_backend {backend}", "-q", KEYS]
    said = run.tool(
        sandboxed([*argv, "--qf", "%{DESCRIPTION}\n"], folder=(folder, inside)), limits=LIMITS, timeout=60, ok=(0, 1)
    )
    ends: Sequence[str] = said.text.split("-----END PGP PUBLIC KEY BLOCK-----")[:-1]
    found = (f"{each[each.find('-----BEGIN') :]}-----END PGP PUBLIC KEY BLOCK-----\n" for each in ends)
    return tuple(key for key in found if key.startswith("-----BEGIN PGP PUBLIC KEY BLOCK-----"))


def _leaves(paths: set[str]) -> frozenset[str]:
    return frozenset(paths - {path.rpartition("/")[0] for path in paths})
