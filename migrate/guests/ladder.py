"""Where the packages come from that a guest lacks: one place after the other is asked, and each says why the next one was.

    1. what is there already                          (never asked for: the plan is empty)
    2. bundles, and folders named with --repo         what the user brought needs no network, and where it suffices none is touched
    3. the guest's own repositories                   fetched by this host; left out with --offline
    4. repositories named with --repo                 the guest's own configuration is never changed by them
    5. nowhere: PackagesUnavailable, with the reasons. The remediations then do with what is there.

A plan is from one place: packages of two places are not mixed, for nobody has tried them together. Source of the order: shared with
ARCHITECTURE.md; a bundle comes before the guest's own repositories because asking those takes minutes where there is no network.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from migrate.errors import PackagesUnavailable, UsageError
from migrate.guest import Package, PackageChange, Packaging
from migrate.guests import apt
from migrate.guests.apt_sources import AptSource, given_source
from migrate.guests.bundle import Bundle, BundlePlace, FolderPlace, is_bundle, read_bundle
from migrate.guests.rpm_places import BaseUrl, OfBundle, given_url, of_folder, of_urls
from migrate.guests.system import ManyFiles, System
from migrate.run import Run
from migrate.text import shown

OWN = "the guest's own repositories"


class Repositories(Protocol):
    """A set of places that packages come from, for one guest: its own repositories, those that a user names, a bundle."""

    def plan(
        self, installed: Mapping[str, Package], *, install: Sequence[str] = (), remove: Sequence[str] = ()
    ) -> PackageChange:
        """Return everything that installing and removing these takes, against what is installed; never more is removed than must.

        Names that already hold are left out. Raise PackagesUnavailable where it cannot be resolved or a repository does not answer.
        """

    def fetch(self, packages: Sequence[Package]) -> dict[str, Path]:
        """Return the package files of what a plan installs, by name, verified. Raise PackagesUnavailable."""


Repo = AptSource | BaseUrl | Path


@dataclass(frozen=True, slots=True)
class Offers:
    """What the user offers for guests that lack packages. `offline`: the guest's own repositories are not asked."""

    repos: tuple[Repo, ...] = ()
    bundles: tuple[Bundle, ...] = ()
    offline: bool = False


NO_OFFERS = Offers()


def offers(repos: Sequence[str], bundles: Sequence[Path], *, offline: bool) -> Offers:
    """Read what the user wrote. Raise UsageError for a repository that is none, BundleBroken for a folder that is no bundle."""
    read = [_repo(each) for each in repos]
    brought = [
        read_bundle(each) for each in (*bundles, *(each for each in read if isinstance(each, Path) and is_bundle(each)))
    ]
    return Offers(
        tuple(each for each in read if not (isinstance(each, Path) and is_bundle(each))), tuple(brought), offline
    )


def _repo(text: str) -> Repo:
    if text.split()[:1] == ["deb"]:
        return given_source(text)
    if (url := given_url(text)) is not None:
        return url
    folder = Path(text)
    with suppress(OSError):  # a text that is too long for a path
        if folder.is_dir():
            return folder.absolute()
    raise UsageError(
        f"--repo {shown(text)[:200]!r} is neither a line of sources.list(5), nor an http(s) address, nor a folder of this machine",
        hint="Write 'deb [signed-by=FILE] URL SUITE COMPONENTS' for Debian and Ubuntu, the address of repodata's folder for RPM guests, or a folder of packages.",
    )


@dataclass(frozen=True, slots=True)
class Rung:
    """A place, in words, and what is asked there; or why it is not asked."""

    name: str
    repositories: Repositories | None
    unfit: str = ""


class Ladder:
    """The places of one guest, in their order. It is a set of repositories itself."""

    def __init__(
        self,
        run: Run,
        files: ManyFiles,
        system: System,
        own: Callable[[], Repositories | None],
        offers: Offers = NO_OFFERS,
    ) -> None:
        """`own` gives the guest's own repositories, None where its package manager is none that can be served from here."""
        self._run = run
        self._files = files
        self._system = system
        self._own = own
        self._offers = offers
        self._rungs: tuple[Rung, ...] | None = None
        self._from: dict[Package, Repositories] = {}

    def plan(
        self, installed: Mapping[str, Package], *, install: Sequence[str] = (), remove: Sequence[str] = ()
    ) -> PackageChange:
        wanted = [name for name in install if name not in installed]
        own = self._own()
        if not wanted and own is not None:  # a removal needs no place: the database says what depends on what
            return own.plan(installed, remove=remove)
        passed: list[str] = []
        last: PackagesUnavailable | None = None
        for rung in self._places():
            if rung.repositories is None:
                passed.append(f"{rung.name}: {rung.unfit}")
                continue
            self._run.check()
            try:
                change = rung.repositories.plan(installed, install=install, remove=remove)
            except PackagesUnavailable as error:
                last = error
                passed.append(f"{rung.name}: {error.message}")
                continue
            self._from |= dict.fromkeys(change.install, rung.repositories)
            return replace(change, origin=rung.name if change.install else "", passed=tuple(passed))
        if last is not None and len(passed) == 1:
            raise PackagesUnavailable(last.message, hint=last.hint, passed=passed) from last
        raise PackagesUnavailable(
            f"{', '.join(wanted)} cannot be had anywhere: {'; '.join(passed)}",
            hint=last.hint if last is not None else apt.OFFER,
            passed=passed,
        ) from last

    def fetch(self, packages: Sequence[Package]) -> dict[str, Path]:
        """Return the files from wherever they were planned. Raise KeyError for a package that no plan named."""
        by_place: dict[int, tuple[Repositories, list[Package]]] = {}
        for package in packages:
            place = self._from[package]
            by_place.setdefault(id(place), (place, []))[1].append(package)
        found: dict[str, Path] = {}
        for place, wanted in by_place.values():
            found |= place.fetch(wanted)
        return found

    def _places(self) -> tuple[Rung, ...]:
        if self._rungs is None:
            self._rungs = tuple(self._climbed())
        return self._rungs

    def _climbed(self) -> Iterator[Rung]:
        for bundle in self._offers.bundles:
            unfit = bundle.unfit(self._system.os)
            yield Rung(bundle.origin, None if unfit else self._of_bundle(bundle), unfit or "")
        for folder in (each for each in self._offers.repos if isinstance(each, Path)):
            yield _opened(f"the packages in {folder}", lambda folder=folder: self._of_folder(folder))  # type: ignore[misc]
        own = None if self._offers.offline else self._own()
        yield Rung(OWN, own, "not asked, as --offline says" if self._offers.offline else _CANNOT)
        named = tuple(each for each in self._offers.repos if not isinstance(each, Path))
        if named:
            fit = tuple(each for each in named if isinstance(each, AptSource) == (self._packaging is Packaging.DPKG))
            words = "; ".join(each.shown for each in fit or named)
            name = f"the repositories of --repo ({words})"
            if fit:
                yield _opened(name, lambda: self._of_repositories(fit))
            else:
                yield Rung(name, None, f"a guest with {self._packaging.value} cannot use it")

    @property
    def _packaging(self) -> Packaging:
        return self._system.os.packaging

    def _of_bundle(self, bundle: Bundle) -> Repositories | None:
        match self._packaging:
            case Packaging.DPKG:
                return self._apt(BundlePlace(bundle))
            case Packaging.RPM:
                return OfBundle(self._run, self._files, self._system, bundle)
        return None

    def _of_folder(self, folder: Path) -> Repositories | None:
        match self._packaging:
            case Packaging.DPKG:
                return self._apt(FolderPlace(folder))
            case Packaging.RPM:
                return of_folder(self._run, self._files, self._system, folder)
        return None

    def _of_repositories(self, named: Sequence[AptSource | BaseUrl]) -> Repositories | None:
        match self._packaging:
            case Packaging.DPKG if named:
                return self._apt(apt.Named([each for each in named if isinstance(each, AptSource)], self._files))
            case Packaging.RPM if named:
                urls = [each for each in named if isinstance(each, BaseUrl)]
                return of_urls(self._run, self._files, self._system, urls)
        return None

    def _apt(self, place: apt.Place) -> Repositories:
        return apt.Repositories(self._run, self._files, self._system.os, place)


def _opened(name: str, open_place: Callable[[], Repositories | None]) -> Rung:
    try:
        return Rung(name, open_place(), _CANNOT)
    except PackagesUnavailable as error:
        return Rung(name, None, error.message)


_CANNOT = "packages for this guest's package manager cannot be taken from there"
