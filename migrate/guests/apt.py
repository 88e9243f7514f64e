"""Debian packages for a guest, resolved and fetched on the host, against the guest's own package database.

The host's apt works on a private root that holds what a Place lays out there and nothing else: no apt.conf of the guest (it may run commands), no
source but http and https. It runs in a sandbox as nobody; what it fetches is verified, by the guest's own keys where the sources are the guest's.
Sources: sources.list(5), apt.conf(5), apt-get(8), apt-secure(8).
"""

import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from migrate.errors import GuestError, PackagesUnavailable, ToolFailed
from migrate.guest import Os, Package, PackageChange
from migrate.guests import dpkg
from migrate.guests.apt_sources import (
    INSIDE,
    AptSource,
    Root,
    below,
    copy_keyrings,
    copy_trusted_keys,
    guests_keys,
    hosts_keys,
    sources_of,
    stanza,
)
from migrate.guests.paths import Files
from migrate.guests.sandbox import give, sandboxed
from migrate.guests.system import text_of
from migrate.run import Limits, Note, Output, Run

ORIGIN = "the guest's own repositories"
LISTS_FRESH_S = 3600
"""How long fetched package lists are used again, by a second run on the same work folder."""
OLD_S = 400 * 86400
"""A repository that was last changed this long ago is an archive (point releases come twice a year): worth a word, not a refusal."""

LIMITS = Limits(address_space=4 << 30, cpu_seconds=600)
ARCHIVES = "var/cache/apt/archives"
LISTS = "var/lib/apt/lists"

SETTINGS = """\
Dir "/apt";
Dir::State::status "/apt/status";
Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Bin::methods "/usr/lib/apt/methods";
Dir::Log "/tmp";
APT::Architecture "{arch}";
APT::Architectures {{ {archs} }};
APT::Install-Recommends "false";
APT::Get::Assume-Yes "true";
APT::Get::AutomaticRemove "false";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Check-Valid-Until "false";
Acquire::Retries "2";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
"""
# How the host itself reaches the network; nothing else of its settings is taken.
HOST_SETTING = re.compile(r'Acquire::(https?::Proxy\b\S*|https?::CaInfo|Check-Date) ".*";')


class Place(Protocol):
    """Where packages come from and who vouches for them. `name` is its folder's in the work folder, `origin` says in words what it is."""

    @property
    def name(self) -> str: ...

    @property
    def origin(self) -> str: ...

    @property
    def online(self) -> bool:
        """Whether apt needs the network for it."""

    @property
    def sources(self) -> tuple[AptSource, ...]: ...

    def lay_out(self, root: Root, run: Run) -> None:
        """The sources, and all that says what is believed of them, are in apt's private root. Raise PackagesUnavailable."""

    def held(self, package: Package) -> Path | None:
        """Return the package's file where the place has it at hand, verified; None where apt is to fetch it."""


class Own:
    """The guest's own sources, with its keys, pins and passwords."""

    name = "apt"
    origin = ORIGIN
    online = True

    def __init__(self, files: Files) -> None:
        self._files = files

    @property
    def sources(self) -> tuple[AptSource, ...]:
        return sources_of(self._files)

    def lay_out(self, root: Root, run: Run) -> None:
        stanzas = []
        for number, source in enumerate(self.sources):
            if source.is_asked:
                stanzas.append(stanza(source, guests_keys(self._files, root, source.signed_by, number)))
            else:
                run.tell(Note(f"the guest's package source {source.uri} is left out: only http and https are asked"))
        root.write_sources(stanzas)
        for path in ("/etc/apt/preferences", *below(self._files, "/etc/apt/preferences.d")):
            root.copy(self._files, path, path.lstrip("/"))
        for path in ("/etc/apt/auth.conf", *below(self._files, "/etc/apt/auth.conf.d")):
            root.copy(self._files, path, path.lstrip("/"))
        copy_trusted_keys(self._files, root)

    def held(self, package: Package) -> Path | None:
        return None


class Named:
    """Sources that the user named. A source that names no key is vouched for by the keys in `files`: the guest's own, or this host's."""

    online = True

    def __init__(self, sources: Sequence[AptSource], files: Files) -> None:
        self.sources = tuple(sources)
        self._files = files

    @property
    def name(self) -> str:
        return f"apt-{hashlib.sha256(repr(self.sources).encode()).hexdigest()[:12]}"

    @property
    def origin(self) -> str:
        return f"the repositories of --repo ({'; '.join(source.shown for source in self.sources)})"

    def lay_out(self, root: Root, run: Run) -> None:
        root.write_sources(
            [stanza(source, hosts_keys(root, source.signed_by, number)) for number, source in enumerate(self.sources)]
        )
        copy_trusted_keys(self._files, root)
        copy_keyrings(self._files, root)

    def held(self, package: Package) -> Path | None:
        return None


class Repositories:
    """Places that packages come from, for one guest. Nothing is fetched before it is needed; what was fetched stays in the run's work folder."""

    def __init__(self, run: Run, files: Files, os: Os, place: Place | None = None) -> None:
        """`files` are the guest's. Without a `place`, it is the guest's own sources."""
        self._run = run
        self._files = files
        self._os = os
        self._place = Own(files) if place is None else place
        self._root = Root(run.work / self._place.name)
        self._prepared = False
        self._updated = False
        self._complaints = ""
        self._silent: PackagesUnavailable | None = None
        self._plans: dict[tuple[tuple[str, ...], tuple[str, ...], str], PackageChange] = {}

    def plan(
        self, installed: Mapping[str, Package], *, install: Sequence[str] = (), remove: Sequence[str] = ()
    ) -> PackageChange:
        """Return everything that installing and removing these takes, against what is installed; never more is removed than must.

        Raise PackagesUnavailable where it cannot be resolved or a repository does not answer.
        """
        wanted = tuple(name for name in install if name not in installed)
        unwanted = tuple(name for name in remove if name in installed)
        if not wanted and not unwanted:
            return PackageChange()
        status = dpkg.status_text(installed)
        known = self._plans.get((wanted, unwanted, status))  # a preview and its performance ask the same; apt takes 2 s
        if known is None:
            known = self._plans[wanted, unwanted, status] = self._resolved(installed, status, wanted, unwanted)
        return known

    def _resolved(
        self, installed: Mapping[str, Package], status: str, wanted: Sequence[str], unwanted: Sequence[str]
    ) -> PackageChange:
        self._prepare()
        if wanted:
            self._update()
        self._root.write("status", status)
        argv = ["apt-get", "--simulate", "install", *wanted, *(f"{name}-" for name in unwanted)]
        said = self._apt(argv, ok=(0, 100))
        if said.status:
            raise self._unavailable(wanted, unwanted, said)
        coming, going = _simulated(said.text)
        arriving = self._described([f"{name}={version}" for name, version in coming.items()]) if coming else ()
        leaving = tuple(sorted((_installed(installed, name) for name in going), key=lambda package: package.name))
        return PackageChange(
            arriving,
            leaving,
            self._place.origin if arriving else "",
            sum(int(_field(package.record, "Size") or 0) for package in arriving),
            sum(int(_field(package.record, "Installed-size") or 0) << 10 for package in arriving),
        )

    def fetch(self, packages: Sequence[Package]) -> dict[str, Path]:
        """Return the package files, by name, verified. What was fetched before is not fetched again. Raise PackagesUnavailable."""
        self._prepare()
        self._update()
        found = {package.name: self._place.held(package) or self._archives / file_name(package) for package in packages}
        wanted = [_exactly(package) for package in packages if not found[package.name].is_file()]
        try:
            if wanted:
                self._apt(["apt-get", "download", *wanted], cwd=f"{INSIDE}/{ARCHIVES}")
        except ToolFailed as error:
            raise PackagesUnavailable(
                f"the packages for the guest could not be fetched: {_complaint(error.stderr)}", hint=_TRY_LATER
            ) from error
        if missing := [name for name, path in found.items() if not path.is_file()]:
            raise PackagesUnavailable(f"apt fetched all but {', '.join(missing)}", hint=_TRY_LATER)
        return found

    def offered(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return those of the names that the place has a package of. Raise PackagesUnavailable where it does not answer."""
        self._prepare()
        self._update()
        self._root.write("status", "")
        said = self._apt(["apt-cache", "pkgnames"]).text.split()
        return tuple(name for name in names if name in said)

    def releases(self) -> tuple[Path, ...]:
        """Return the signed descriptions of the archives that were asked: InRelease files."""
        return tuple(sorted((self._root.path / LISTS).glob("*InRelease")))

    @property
    def root(self) -> Path:
        return self._root.path

    @property
    def _archives(self) -> Path:
        return self._root.path / ARCHIVES

    def _prepare(self) -> None:
        """Lay out the private root once."""
        if self._prepared:
            return
        for folder in ("etc/apt/trusted.gpg.d", "etc/apt/preferences.d", "keys", f"{LISTS}/partial", "var/lib/dpkg"):
            (self._root.path / folder).mkdir(parents=True, exist_ok=True)
        (self._archives / "partial").mkdir(parents=True, exist_ok=True)
        for made in (self._root.path, *self._root.path.rglob("*")):
            give(made)
        self._place.lay_out(self._root, self._run)
        archs = [self._os.arch, *(text_of(self._files, "/var/lib/dpkg/arch") or "").split()]
        settings = SETTINGS.format(arch=self._os.arch, archs=" ".join(f'"{arch}";' for arch in dict.fromkeys(archs)))
        self._root.write("apt.conf", settings + "\n".join(_host_settings(self._run)) + "\n")
        self._prepared = True

    def _update(self) -> None:
        """Fetch the package lists, once; those of an earlier run are used while they are fresh. Who did not answer is not asked again."""
        if self._updated:
            return
        if self._silent is None:
            try:
                self._read_lists()
            except PackagesUnavailable as error:
                self._silent = error
        if self._silent is not None:
            raise self._silent
        self._updated = True

    def _read_lists(self) -> None:
        sources = self._root.path / "etc/apt/sources.list.d/guest.sources"
        stamp = self._root.path / "updated"
        digest = hashlib.sha256(sources.read_bytes()).hexdigest()
        fresh = stamp.is_file() and stamp.read_text() == digest and time.time() - stamp.stat().st_mtime < LISTS_FRESH_S
        if not self._place.sources:
            raise PackagesUnavailable("the guest has no package sources of its own", hint=OFFER)
        if not fresh or not self._place.online:
            said = self._apt(["apt-get", "update"], ok=(0, 100))
            self._complaints = "\n".join(line for line in said.stderr.splitlines() if line.startswith(("E:", "W:")))
            if not any((self._root.path / LISTS).glob("*_Packages*")):
                raise self._no_lists()
            if self._complaints:
                self._run.tell(
                    Note(f"not all of {self._place.origin} answer: {_complaint(self._complaints)}", "warning")
                )
            else:
                stamp.write_text(digest)
        self._tell_age()

    def _no_lists(self) -> PackagesUnavailable:
        hosts = ", ".join(dict.fromkeys(source.host for source in self._place.sources))
        unsigned = re.search(r"not signed|NO_PUBKEY|couldn't be verified|EXPKEYSIG|BADSIG", self._complaints)
        if unsigned and isinstance(self._place, Own):
            return PackagesUnavailable(
                f"what the guest's package sources ({hosts}) send cannot be verified by the guest's own keys: "
                f"{_complaint(self._complaints)}",
                hint=f"Update the guest's keyring package in the source. {OFFER}",
            )
        if unsigned:
            return PackagesUnavailable(
                f"what {hosts} sends cannot be verified: {_complaint(self._complaints)}",
                hint="Name the key that signs it: --repo 'deb [signed-by=FILE] URL SUITE COMPONENTS'.",
            )
        return PackagesUnavailable(
            f"none of the package sources answers ({hosts}): {_complaint(self._complaints)}",
            hint=f"Let this host reach one of them (a proxy of the host's apt is used). {OFFER}",
        )

    def _tell_age(self) -> None:
        for release in sorted((self._root.path / LISTS).glob("*Release")):
            signed = re.search(r"^Date: (.*)$", release.read_text(errors="replace"), re.MULTILINE)
            if signed and (age := _age_s(signed[1])) > OLD_S:
                name = release.name.partition("_dists_")[2].removesuffix("_InRelease").removesuffix("_Release")
                self._run.tell(Note(f"the repository {name} was last changed {age // 86400:.0f} days ago"))

    def _described(self, wanted: Sequence[str]) -> tuple[Package, ...]:
        """Return the packages as the repositories describe them; each record becomes one of an installed package."""
        said = self._apt(["apt-cache", "show", "--no-all-versions", *wanted]).text
        found = {}
        for record in said.split("\n\n"):
            fields = next(dpkg.stanzas(record), {})
            if "Package" in fields:
                lines = [line for line in record.strip("\n").split("\n") if not line.startswith("Status:")]
                text = "\n".join([lines[0], "Status: install ok installed", *lines[1:]])
                arch = fields.get("Architecture", self._os.arch)
                found[fields["Package"], fields["Version"]] = Package(fields["Package"], fields["Version"], arch, text)
        names = sorted(tuple(each.split("=", 1)) for each in wanted)
        return tuple(found[name.partition(":")[0], version] for name, version in names)

    def _apt(self, argv: Sequence[str], *, ok: Sequence[int] = (0,), cwd: str = "/") -> Output:
        network = self._place.online and bool({"update", "download"} & set(argv))
        env = {"APT_CONFIG": f"{INSIDE}/apt.conf"}
        inside = sandboxed(argv, folder=(self._root.path, INSIDE), network=network, env=env, cwd=cwd)
        return self._run.tool(inside, limits=LIMITS, timeout=900, ok=ok)

    def _unavailable(self, wanted: Sequence[str], unwanted: Sequence[str], output: Output) -> PackagesUnavailable:
        what = " and ".join(
            filter(
                None, [f"install {', '.join(wanted)}" * bool(wanted), f"remove {', '.join(unwanted)}" * bool(unwanted)]
            )
        )
        # Which dependency it is, apt says on standard output.
        unmet = "\n".join(re.findall(r"^ +(?:\S+ : )?\S*(?:Depends|Conflicts|Breaks): .*", output.text, re.MULTILINE))
        said = _complaint(f"{self._complaints}\n{output.stderr}\n{unmet}")
        return PackagesUnavailable(f"apt finds no way to {what} in the guest: {said}", hint=OFFER if wanted else None)


OFFER = "Offer the packages with --repo or --bundle, or install them in the source."
_TRY_LATER = "Try again later; what was fetched is kept."


def _simulated(said: str) -> tuple[dict[str, str], list[str]]:
    """Read `apt-get --simulate`: "Inst NAME [OLD] (NEW … [ARCH])", "Remv NAME [OLD]"."""
    coming = {}
    going = []
    for line in said.splitlines():
        if match := re.match(r"Inst (\S+) (?:\[\S+\] )?\((\S+) ", line):
            coming[match[1]] = match[2]
        elif match := re.match(r"(?:Remv|Purg) (\S+) ", line):
            going.append(match[1])
    return coming, going


def _installed(installed: Mapping[str, Package], name: str) -> Package:
    found = installed.get(name) or installed.get(name.partition(":")[0])
    if found is None:
        raise GuestError(f"apt would remove {name}, which the guest's package database does not list")
    return found


def _field(record: str, name: str) -> str:
    return next(dpkg.stanzas(record), {}).get(name, "")


def _exactly(package: Package) -> str:
    arch = "" if package.arch == "all" else f":{package.arch}"
    return f"{package.name}{arch}={package.version}"


def file_name(package: Package) -> str:
    """The name under which apt keeps a package file; it quotes the epoch's colon."""
    return f"{package.name}_{package.version.replace(':', '%3a')}_{package.arch}.deb"


def _complaint(text: str) -> str:
    """The lines in which apt says what is wrong."""
    lines = [re.sub(r"^[EW]: ", "", line).strip() for line in text.splitlines() if line.strip()]
    return "; ".join(dict.fromkeys(line for line in lines if line))[-600:]


def _age_s(date: str) -> float:
    try:
        return time.time() - time.mktime(time.strptime(date.rsplit(" ", 1)[0], "%a, %d %b %Y %H:%M:%S"))
    except ValueError:
        return 0


def _host_settings(run: Run) -> list[str]:
    said = run.tool(["apt-config", "dump"], timeout=30).text
    return [line for line in said.splitlines() if HOST_SETTING.fullmatch(line)]
