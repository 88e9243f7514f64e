"""RPM packages for a guest, resolved and fetched on the host with the guest's own repositories, keys and package database.

The host's dnf (libsolv) works on a private folder that holds copies of these and nothing else of the guest's settings; it runs in a
sandbox as nobody. Metadata and packages are verified as the guest's settings ask, by keys that are in the guest: a key that would have
to be fetched is not trusted. What goes with a removal is computed from the guest's own headers, without any repository.
Sources: dnf.conf(5), dnf.readthedocs.io/en/latest/api.html, rpmkeys(8).
"""

import fnmatch
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from migrate.errors import PackagesUnavailable, ToolFailed
from migrate.guest import File, Kind, Package, PackageChange
from migrate.guests import rpmdb
from migrate.guests.paths import resolved
from migrate.guests.releases import assignments
from migrate.guests.rpm_sources import RpmSource, excluded, sources_of, variables
from migrate.guests.rpmdb import Record, record
from migrate.guests.sandbox import give, sandboxed
from migrate.guests.system import Installed, ManyFiles, System, text_of
from migrate.run import Limits, Note, Run

ORIGIN = "the guest's own repositories"
OFFERED = "offered"
"""What a record names as the repository of a package that the caller holds as a file."""

PYTHON = "/usr/bin/python3"
"""Debian's own, which its dnf is made for; ours may be another."""
INSIDE = "/rpm"
DATABASE = "root/var/lib/rpm"
MODULES = ("/etc/dnf/modules.d", "/etc/dnf/modules.defaults.d")
"""Which streams of modules the guest has chosen. Source: dnf, "Modularity", dnf.readthedocs.io."""
PASSWORD = re.compile(rb"(?<=:)//[^/@\s]+@")
TOKEN = re.compile(rb"(?<=://)(?P<place>[^\s\"\\?]*)\?[^\s\"\\\]]*")
"""librepo names a repository's whole address where it fails; SUSE's hold a token."""
PLAIN = re.compile(r"[\w.+-]+")
LIMITS = Limits(address_space=4 << 30, cpu_seconds=600)
LISTS_FRESH_S = 3600
"""How long fetched metadata is used again, by a second run on the same work folder."""
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
"""How the host itself reaches the network. They may hold passwords, so they go in by a file."""

PROTECTED = (
    *("glibc", "filesystem", "setup", "basesystem", "bash", "coreutils", "systemd", "systemd-sysvinit", "aaa_base"),
    *("rpm", "dnf", "dnf5", "yum", "microdnf", "tdnf", "zypper", "libzypp"),
    *("kernel", "kernel-core", "kernel-modules-core", "kernel-default", "kernel-default-base", "kernel-uek*"),
    *("kernel-azure", "kernel-lt", "kernel-ml", "kernel-rt*", "linux", "linux-esx", "linux-secure"),
    *("dracut", "grub2-common", "grub2-tools", "grub2-pc", "grub2-i386-pc", "grub2-efi-x64", "grub2-x86_64-efi"),
    *("shim", "shim-x64", "redhat-release*", "centos-release", "centos-linux-release", "centos-stream-release"),
    *("rocky-release", "almalinux-release", "oraclelinux-release*", "fedora-release*", "system-release"),
    *("openSUSE-release", "sles-release", "photon-release"),
)
"""What a guest is none without, or does not start without. What these need goes never without them, so it is protected with them."""

_OFFER = "Or leave the step out with --skip and install what it needs in the source."
_TRY_LATER = "Try again later; what was fetched is kept."


class _Described(BaseModel):
    """A package as the resolver describes it: `size` to fetch, and what it `takes` on the disk, in bytes."""

    model_config = ConfigDict(frozen=True)

    nevra: str
    name: str
    version: str
    arch: str
    repository: str
    size: int
    takes: int
    obsoletes: tuple[str, ...]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)

    install: tuple[_Described, ...]
    remove: tuple[_Described, ...]
    files: dict[str, str]
    trouble: tuple[str, ...]
    error: str


class Repositories:
    """A set of RPM repositories for one guest. Nothing is fetched before it is needed; what was fetched stays in the run's work folder."""

    def __init__(
        self,
        run: Run,
        files: ManyFiles,
        system: System,
        *,
        sources: Sequence[RpmSource] | None = None,
        offered: Sequence[Path] = (),
        name: str = "rpm",
    ) -> None:
        """`sources`: other repositories than the guest's own; `offered`: package files that are known to be good, taken as if a repository had them.

        Each set of a run has a `name` of its own, that of its folder.
        """
        self._run = run
        self._files = files
        self._system = system
        self._given = sources
        self._offered = {path.name: path for path in offered}
        self._root = run.work / name
        self._copied: Installed | None = None
        self._backend = ""
        self._trusted: tuple[str, ...] = ()
        self._told: set[str] = set()
        self._plans: dict[tuple[object, ...], PackageChange] = {}

    @property
    def sources(self) -> tuple[RpmSource, ...]:
        return sources_of(self._files) if self._given is None else tuple(self._given)

    def plan(
        self, installed: Mapping[str, Package], *, install: Sequence[str] = (), remove: Sequence[str] = ()
    ) -> PackageChange:
        """Return everything that installing and removing these takes, against what is installed; never more is removed than must.

        Raise PackagesUnavailable where it cannot be resolved, no repository answers, or a removal would take along what the guest cannot be
        without.
        """
        wanted = tuple(name for name in install if name not in installed)
        unwanted = tuple(name for name in remove if name in installed)
        if not wanted and not unwanted:
            return PackageChange()
        self._copy_database()
        known = (wanted, unwanted, id(self._copied), frozenset(record(each).nevra for each in installed.values()))
        if known not in self._plans:  # a preview and its performance ask the same
            self._plans[known] = self._resolved(installed, wanted, unwanted)
        return self._plans[known]

    def fetch(self, packages: Sequence[Package]) -> dict[str, Path]:
        """Return the package files, by name, verified. What was fetched before is not fetched again. Raise PackagesUnavailable."""
        found = {}
        asked = {}
        for package in packages:
            origin = record(package).repository
            if origin.startswith(f"{OFFERED}/"):
                found[package.name] = self._offered[origin.partition("/")[2]]
            else:
                asked[package.name] = record(package)
        if asked:
            self._copy_database()
            answer = self._asked(
                network=True,
                repositories=True,
                fetch=[{"nevra": each.nevra, "repository": each.repository} for each in asked.values()],
            )
            if answer.error:
                raise PackagesUnavailable(
                    f"the packages for the guest could not be fetched: {answer.error}", hint=_TRY_LATER
                )
            found |= {name: self._downloaded(answer.files.get(each.nevra, "")) for name, each in asked.items()}
            for source in self._usable():
                signed = [found[name] for name, each in asked.items() if each.repository == source.id]
                if signed and source.gpgcheck:
                    self._verify(source, signed)
        return found

    def _downloaded(self, name: str) -> Path:
        """The sandbox named a file: it is one of its own, whatever it is a link to."""
        path = (self._root / name).resolve()
        if not path.is_relative_to((self._root / "cache").resolve()) or not path.is_file():
            raise PackagesUnavailable(f"dnf fetched all but {name!r}", hint=_TRY_LATER)
        return path

    def _resolved(
        self, installed: Mapping[str, Package], wanted: Sequence[str], unwanted: Sequence[str]
    ) -> PackageChange:
        there = {record(each).nevra for each in self._system.installed.packages.values()}
        drafted = {record(each).nevra: each for each in installed.values()}
        added = {nevra: each for nevra, each in drafted.items() if nevra not in there}
        renewed = {each.name for each in added.values()}
        gone = [
            record(each).nevra
            for name, each in self._system.installed.packages.items()
            if record(each).nevra not in drafted and name not in renewed
        ]
        if early := [name for name in unwanted if installed[name] in added.values()]:
            raise PackagesUnavailable(
                f"{', '.join(early)} would be installed by a step before, and removed by this one"
            )
        online = bool(wanted or added)
        if wanted and not self._usable() and not self._offered:
            raise PackagesUnavailable(
                f"the guest has no repository that can be used from here{self._refusals()}", hint=_OFFER
            )
        answer = self._asked(
            network=online,
            repositories=online,
            install=list(wanted),
            remove=[record(installed[name]).nevra for name in unwanted],
            gone=gone,
            added=list(added),
        )
        if answer.error:
            raise self._unavailable(wanted, unwanted, answer)
        arriving = tuple(sorted(map(self._arriving, answer.install), key=lambda package: package.name))
        coming = {package.name for package in arriving}
        leaving = {nevra: each for nevra, each in drafted.items() if nevra in {gone.nevra for gone in answer.remove}}
        self._protect(unwanted, wanted, leaving)
        return PackageChange(
            arriving,
            tuple(sorted((each for each in leaving.values() if each.name not in coming), key=lambda each: each.name)),
            self._origin(arriving),
            sum(each.size for each in answer.install),
            sum(each.takes for each in answer.install),
        )

    def _arriving(self, each: _Described) -> Package:
        arch = rpmdb.DEBIAN_ARCH.get(each.arch, each.arch)
        name = each.name if arch in (self._system.os.arch, "all") else f"{each.name}.{each.arch}"
        return Package(name, each.version, arch, Record(each.nevra, each.repository, each.obsoletes).text)

    def _origin(self, arriving: Sequence[Package]) -> str:
        if not arriving:
            return ""
        own = self._given is None and not any(record(each).repository.startswith(OFFERED) for each in arriving)
        return ORIGIN if own else "what was offered for it"

    def _protect(self, unwanted: Sequence[str], wanted: Sequence[str], leaving: Mapping[str, Package]) -> None:
        lost = sorted(
            f"{each.name} {each.version}"
            for each in leaving.values()
            if any(fnmatch.fnmatchcase(rpmdb.name_of(each), pattern) for pattern in PROTECTED)
        )
        if lost:
            what = f"removing {', '.join(unwanted)}" if unwanted else f"installing {', '.join(wanted)}"
            raise PackagesUnavailable(
                f"{what} would take {', '.join(lost)} along, without which the guest is none any more or does not start",
                hint="Leave the step out with --skip, and take it out of the guest by hand after the move.",
            )

    # What the resolver reads

    def _asked(self, *, network: bool, repositories: bool, **words: Any) -> _Answer:
        """Have the resolver answer a request."""
        self._run.check()
        os = self._system.os
        release = assignments(
            text_of(self._files, "/etc/os-release") or text_of(self._files, "/usr/lib/os-release") or ""
        )
        request = {
            "database": bool(rpmdb.database_files(self._files)),
            "platform": release.get("PLATFORM_ID", ""),
            "arch": rpmdb.RPM_ARCH.get(os.arch, os.arch),
            "release": os.version_id or "0",
            "variables": variables(self._files),
            "exclude": list(excluded(self._files)),
            "fresh_s": LISTS_FRESH_S,
            "proxies": {name: _environment(name) for name in PROXIES if _environment(name)},
            "repositories": [self._described(source) for source in self._usable()] if repositories else [],
            "offered": self._offered_names() if repositories else [],
            "install": [],
            "remove": [],
            "gone": [],
            "added": [],
            "fetch": [],
        }
        self._write("request.json", json.dumps(request | words))
        self._write("resolver.py", (Path(__file__).parent / "rpm_resolver.py").read_bytes())
        argv = [PYTHON, "-I", f"{INSIDE}/resolver.py", INSIDE]
        inside = sandboxed(argv, folder=(self._root, INSIDE), network=network, env={"HOME": f"{INSIDE}/home"})
        try:
            said = self._run.tool(inside, limits=LIMITS, timeout=900)
        except ToolFailed as error:
            raise PackagesUnavailable(
                f"dnf cannot work on the guest's packages: {' / '.join(error.stderr.strip().splitlines()[-3:])}",
                hint="`magalu-migrate doctor` says what is missing.",
            ) from error
        finally:
            (self._root / "request.json").unlink()  # it holds the passwords of repositories
        answer = _Answer.model_validate_json(TOKEN.sub(rb"\g<place>", PASSWORD.sub(b"//", said.stdout)))
        for trouble in _reasons(answer.trouble):
            self._tell(f"not all of the guest's repositories answer: {trouble}", "warning")
        return answer

    def _usable(self) -> tuple[RpmSource, ...]:
        for source in self.sources:
            if source.refused:
                self._tell(f"the guest's repository {source.id} cannot be used from here: {source.refused}", "warning")
        return tuple(source for source in self.sources if not source.refused)

    def _described(self, source: RpmSource) -> dict[str, Any]:
        if not source.gpgcheck and not source.repo_gpgcheck:
            self._tell(
                f"the guest's repository {source.id} asks for no signatures: what it sends is taken as it comes",
                "warning",
            )
        return {
            "id": source.id,
            "baseurl": source.baseurl,
            "mirrorlist": [source.mirrorlist] if source.mirrorlist else [],
            "metalink": [source.metalink] if source.metalink else [],
            "gpgcheck": source.gpgcheck,
            "repo_gpgcheck": source.repo_gpgcheck,
            "keys": self._keys(source),
            "exclude": source.left_out,
            "include": source.kept,
            "module_hotfixes": source.module_hotfixes,
            "priority": source.priority,
            "username": source.username,
            "password": source.password,
        }

    def _keys(self, source: RpmSource) -> list[str]:
        """Copy the keys that vouch for a repository: those that it names in the guest, and those in its package database."""
        names = list(self._trusted)
        for number, path in enumerate(source.keys):
            at = resolved(self._files, path)
            entry = self._files.load(at) if self._files.kind(at) is Kind.FILE else None
            if isinstance(entry, File):
                names.append(f"keys/{source.id}-{number}.asc")
                self._write(names[-1], entry.content)
        return names

    def _copy_database(self) -> None:
        """Copy the guest's package database, and anew after it changed."""
        installed = self._system.installed
        if installed is self._copied:
            return
        shutil.rmtree(self._root / "root", ignore_errors=True)
        self._root.mkdir(exist_ok=True)
        for name in (
            "home",
            "keys",
            "offered",
            "root",
            "root/var",
            "root/var/lib",
            DATABASE,
            "cache",
            "persist",
            "keyrings",
        ):
            (self._root / name).mkdir(exist_ok=True)
            (self._root / name).chmod(0o755)
        # Where we write later, a program in the sandbox must not have put a link of its own: it gets no folder that we write into.
        for name in (DATABASE, "cache", "persist", "keyrings"):
            give(self._root / name)
        self._backend = rpmdb.copied(self._files, self._run, self._root / DATABASE)
        for folder in MODULES:
            below = f"root{folder}"
            (self._root / below).mkdir(parents=True, exist_ok=True)
            for name in filter(PLAIN.fullmatch, self._files.names(resolved(self._files, folder))):
                self._write(f"{below}/{name}", text_of(self._files, f"{folder}/{name}") or "")
        # libdnf reads rpm's settings anew whenever it likes: they are where rpm looks for a user's.
        self._write("home/.rpmmacros", f"%_dbpath /var/lib/rpm\n%_db_backend {self._backend}\n")
        known = rpmdb.database_files(self._files)  # none where a bundle is made, for no guest in particular
        trusted = rpmdb.keys(self._run, self._root, INSIDE, DATABASE, self._backend) if known else ()
        self._trusted = tuple(f"keys/{number}.asc" for number in range(len(trusted)))
        for name, key in zip(self._trusted, trusted, strict=True):
            self._write(name, key)
        self._copied = installed

    def _offered_names(self) -> list[str]:
        for name, path in self._offered.items():
            if not (self._root / "offered" / name).exists():
                self._write(f"offered/{name}", path.read_bytes())
        return [f"offered/{name}" for name in self._offered]

    def _verify(self, source: RpmSource, files: Sequence[Path]) -> None:
        """Every package is signed by a key that the guest trusts for this repository. Raise PackagesUnavailable."""
        keyring = f"{INSIDE}/keyrings/{source.id}"
        rpmkeys = ["rpmkeys", "--define", f"_dbpath {keyring}", "--define", "_pkgverify_level all"]
        keys = [f"{INSIDE}/{name}" for name in self._keys(source)]
        inside = [f"{INSIDE}/{file.relative_to(self._root)}" for file in files]
        try:
            if keys:
                self._run.tool(sandboxed([*rpmkeys, "--import", *keys], folder=(self._root, INSIDE)), limits=LIMITS)
            self._run.tool(sandboxed([*rpmkeys, "--checksig", *inside], folder=(self._root, INSIDE)), limits=LIMITS)
        except ToolFailed as error:
            raise PackagesUnavailable(
                f"packages of the guest's repository {source.id} cannot be verified by the guest's own keys: "
                f"{' / '.join(error.stderr.strip().splitlines()[-3:])}",
                hint="Import the repository's key in the source (rpm --import), or name it: --repo 'rpm [signed-by=FILE] URL'.",
            ) from error

    def _write(self, name: str, content: str | bytes) -> None:
        path = self._root / name
        path.touch(mode=0o600)
        give(path)
        path.write_bytes(content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content)

    # What is said

    def _tell(self, text: str, level: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._run.tell(Note(text, "warning") if level == "warning" else Note(text))

    def _refusals(self) -> str:
        return "".join(f"; {source.id}: {source.refused}" for source in self.sources if source.refused)

    def _unavailable(self, wanted: Sequence[str], unwanted: Sequence[str], answer: _Answer) -> PackagesUnavailable:
        what = " and ".join(
            words
            for words, names in (
                (f"install {', '.join(wanted)}", wanted),
                (f"remove {', '.join(unwanted)}", unwanted),
            )
            if names
        )
        said = "; ".join((" ".join(answer.error.split()), *_reasons(answer.trouble)))[:800]
        refusals = self._refusals() if wanted else ""
        return PackagesUnavailable(
            f"dnf finds no way to {what} in the guest: {said}{refusals}", hint=_OFFER if wanted else None
        )


def _reasons(told: Sequence[str]) -> tuple[str, ...]:
    """Why repositories do not answer, a line for each; dnf says each thing up to three times."""
    found = {}
    for text in told:
        line = " ".join(text.split())
        if match := re.fullmatch(r"Errors during downloading metadata for repository '(.*?)': - (.*)", line):
            found[match[1]] = f"{match[1]}: {match[2]}"
        elif match := re.fullmatch(r"Error: Failed to download metadata for repo '(.*?)': (.*)", line):
            found.setdefault(match[1], f"{match[1]}: {match[2]}")
        elif not line.startswith("Ignoring repositories: "):
            found[line] = line
    return tuple(found.values())


def _environment(name: str) -> str:
    return os.environ.get(name, "")
