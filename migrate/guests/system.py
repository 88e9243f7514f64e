"""Who the guest is and what is installed on it, read from its files by us: os-release, the ELF header of its shell, its package database."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from migrate.errors import GuestError, PackageDatabaseBroken
from migrate.guest import File, Kind, Os, Package, Packaging
from migrate.guests import apk, dpkg, pacman, rpmdb
from migrate.guests.paths import Files, parent, resolved
from migrate.guests.releases import RELEASE_FILES, release
from migrate.run import Run

DATABASES = ("/var/lib/dpkg/", "/var/lib/rpm/", "/usr/lib/sysimage/rpm/", "/lib/apk/db/", "/var/lib/pacman/")

MEND_DATABASE = "Mend it in the source VM (dpkg keeps /var/lib/dpkg/status-old and /var/backups/dpkg.status.*; rpm --rebuilddb), and export the disk again."

ELF_MACHINES = {3: "i386", 62: "amd64", 183: "arm64", 40: "armhf", 22: "s390x", 243: "riscv64", 21: "ppc64el"}
"""e_machine of the ELF header in dpkg's words. Source: elf.h, dpkg's cputable."""

PROGRAMS = ("/bin/sh", "/bin/bash", "/usr/bin/env")


class ManyFiles(Files, Protocol):
    """Files that are read many at once: one by one they would cost seconds in the appliance."""

    def texts(self, path: str, suffix: str) -> Mapping[str, str]: ...


class System:
    """What is known of a guest's system; read once, and anew after its package database changed."""

    def __init__(self, files: ManyFiles, run: Run) -> None:
        self._files = files
        self._run = run
        self._os: Os | None = None
        self._installed: Installed | None = None

    @property
    def os(self) -> Os:
        if self._os is None:
            self._os = os_of(self._files)
        return self._os

    @property
    def installed(self) -> "Installed":
        if self._installed is None:
            try:
                self._installed = read_installed(self._files, self._run, self.os.arch)
            except GuestError as error:
                raise PackageDatabaseBroken(error.message, hint=error.hint or MEND_DATABASE) from error
        return self._installed

    def changed(self, path: str = DATABASES[0]) -> None:
        """Something at a path changed; without one, packages did."""
        if path.startswith(DATABASES):
            self._installed = None


class OfSystem:
    """What every guest that is a real system answers alike: it keeps a `System`."""

    _system: System

    @property
    def os(self) -> Os:
        return self._system.os

    @property
    def packages(self) -> Mapping[str, Package]:
        return self._system.installed.packages

    def files_of(self, package: str) -> frozenset[str]:
        return self._system.installed.files_of(package)


def text_of(files: Files, path: str) -> str | None:
    """Return the text of the file that a path leads to, links followed; None where it leads to no file."""
    at = resolved(files, path)
    if files.kind(at) is not Kind.FILE:
        return None
    entry = files.load(at)
    return entry.text if isinstance(entry, File) else None


def os_of(files: Files) -> Os:
    """Read os-release(5), or what came before it. Raise GuestError where there is neither."""
    found = release(lambda path: text_of(files, path))
    if found is None:
        raise GuestError(f"the guest has none of {', '.join(RELEASE_FILES)}, so it is not known what it is")
    return Os(
        id=found.id,
        id_like=found.id_like,
        version_id=found.version_id,
        codename=found.codename,
        pretty=found.pretty,
        arch=_arch(files),
        packaging=packaging_of(files),
    )


def packaging_of(files: Files) -> Packaging:
    """Tell the package manager by the database that is there: a guest may name any id, and none that it is like."""
    for packaging, path in (
        (Packaging.DPKG, dpkg.STATUS),
        (Packaging.APK, apk.INSTALLED),
        (Packaging.PACMAN, pacman.LOCAL),
    ):
        if files.kind(resolved(files, path)) is not Kind.MISSING:
            return packaging
    return Packaging.RPM if rpmdb.database_files(files) else Packaging.NONE


def _arch(files: Files) -> str:
    for path in PROGRAMS:
        at = resolved(files, path)
        entry = files.load(at) if files.kind(at) is Kind.FILE else None
        if isinstance(entry, File) and entry.content[:4] == b"\x7fELF" and len(entry.content) >= 20:
            (machine,) = struct.unpack_from("<H" if entry.content[5] == 1 else ">H", entry.content, 18)
            return ELF_MACHINES.get(machine, f"elf-{machine}")
    return "amd64"


@dataclass(frozen=True, slots=True)
class Installed:
    """What the guest's package database says: the packages, the files of each, and the packages that were left half done."""

    packages: Mapping[str, Package]
    files: Mapping[str, frozenset[str]]
    unfinished: tuple[str, ...] = ()

    def files_of(self, package: str) -> frozenset[str]:
        if package not in self.packages:
            raise GuestError(f"the package {package} is not installed in the guest")
        return self.files.get(package, frozenset())


def read_installed(files: ManyFiles, run: Run, arch: str) -> Installed:
    """Read the guest's package database; no packages where there is none."""
    match packaging_of(files):
        case Packaging.DPKG:
            return _dpkg(files, arch)
        case Packaging.RPM:
            database = rpmdb.read(files, run, arch)
            return Installed(database.packages, _real(files, database.files))
        case Packaging.APK:
            found = {each.package.name: each for each in apk.stanzas(text_of(files, apk.INSTALLED) or "")}
            owned = {name: each.files for name, each in found.items()}
            return Installed({name: each.package for name, each in found.items()}, _real(files, owned))
        case Packaging.PACMAN:
            packages, owned = pacman.read(files)
            return Installed(packages, _real(files, owned))
        case Packaging.NONE:
            return Installed({}, {})


def _dpkg(files: ManyFiles, arch: str) -> Installed:
    status = text_of(files, dpkg.STATUS) or ""
    if (complaint := dpkg.complaint(status, len(files.names(resolved(files, dpkg.INFO))))) is not None:
        raise GuestError(f"the guest's package database {dpkg.STATUS} is broken: {complaint}")
    packages = dpkg.installed(status, arch)
    listings = files.texts(resolved(files, dpkg.INFO), ".list")
    owned = {
        name: next((dpkg.owned(listings[each]) for each in dpkg.list_names(package) if each in listings), frozenset())
        | dpkg.conffiles(package.record)
        for name, package in packages.items()
    }
    return Installed(packages, _real(files, owned), dpkg.unfinished(status))


def _real(files: Files, owned: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """Name each file by its resolved path: a package may say /lib/x where the guest has /usr/lib/x."""
    folders: dict[str, str] = {}

    def real(path: str) -> str:
        folder = parent(path)
        if folder not in folders:
            top = "/" + folder.split("/")[1]
            if top not in folders:
                folders[top] = resolved(files, top)
            folders[folder] = folders[top].rstrip("/") + folder[len(top) :]
        return folders[folder].rstrip("/") + path[len(folder.rstrip("/")) :]

    return {name: frozenset(map(real, paths)) for name, paths in owned.items()}
