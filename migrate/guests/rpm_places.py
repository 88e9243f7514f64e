"""Where RPM packages come from other than the guest's own repositories: those that a user names, folders, and bundles."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from migrate.errors import PackagesUnavailable, UsageError
from migrate.guest import Entry, File, Kind, Package, PackageChange
from migrate.guests.apt_sources import MOST_KEY_BYTES, without_password
from migrate.guests.bundle import Bundle
from migrate.guests.paths import resolved
from migrate.guests.rpm import Repositories
from migrate.guests.rpm_sources import RpmSource
from migrate.guests.system import ManyFiles, System
from migrate.run import Run

KEYS_OF_DISTRIBUTION = "/etc/pki/rpm-gpg"
GIVEN = "/.magalu-migrate-keys"
"""Where the host's key files are seen by what reads a guest's: nowhere else, and never in the guest."""


@dataclass(frozen=True, slots=True)
class BaseUrl:
    """A repository of RPM packages: the place that holds its repodata. Source: dnf.conf(5), "baseurl".

    `signed_by` are key files of the host; without one, the keys that the guest trusts vouch for the packages. `trusted`: nobody has to.
    """

    url: str
    signed_by: tuple[str, ...] = ()
    trusted: bool = False

    @property
    def shown(self) -> str:
        return without_password(self.url)


def given_url(text: str) -> BaseUrl | None:
    """Return the repository that a user wrote: "URL", or "rpm [signed-by=FILE] URL"; None where it is neither. Raise UsageError."""
    match = re.fullmatch(r"(?:rpm\s+)?(?:\[([^\]]*)\]\s+)?(https?://[!-~]+)", text.strip())
    if match is None:
        return None
    options = dict(word.split("=", 1) for word in (match[1] or "").split() if "=" in word)
    keys = tuple(filter(None, options.get("signed-by", "").split(",")))
    for key in keys:
        if not Path(key).is_file():
            raise UsageError(f"--repo {without_password(match[2])}: there is no key file {key} on this machine")
    return BaseUrl(match[2], keys, options.get("trusted", "no").lower() in ("yes", "true", "1"))


class WithKeys:
    """A guest's files, and key files of the host beside them under names of our own."""

    def __init__(self, files: ManyFiles, keys: Mapping[str, bytes]) -> None:
        self._files = files
        self._keys = keys

    def kind(self, path: str) -> Kind:
        return Kind.FILE if path in self._keys else self._files.kind(path)

    def load(self, path: str) -> Entry:
        return File(self._keys[path]) if path in self._keys else self._files.load(path)

    def names(self, path: str) -> tuple[str, ...]:
        return self._files.names(path)

    def texts(self, path: str, suffix: str) -> Mapping[str, str]:
        return self._files.texts(path, suffix)


def of_urls(run: Run, files: ManyFiles, system: System, urls: Sequence[BaseUrl]) -> Repositories:
    """Return the repositories that the user named. Raise PackagesUnavailable where a key file cannot be read."""
    keys: dict[str, bytes] = {}
    sources = []
    for number, each in enumerate(urls):
        own = []
        for key in each.signed_by:
            own.append(f"{GIVEN}/{len(keys)}")
            keys[own[-1]] = _read(key)
        if not own:  # those that the distribution brought, whether they were imported or not
            folder = resolved(files, KEYS_OF_DISTRIBUTION)
            own = [f"{folder}/{name}" for name in files.names(folder)]
        sources.append(RpmSource(f"named{number}", (each.url,), gpgcheck=not each.trusted, keys=tuple(own)))
    name = f"rpm-{hashlib.sha256(repr(urls).encode()).hexdigest()[:12]}"
    return Repositories(run, WithKeys(files, keys), system, sources=sources, name=name)


def of_folder(run: Run, files: ManyFiles, system: System, folder: Path) -> Repositories:
    """Return the packages in a folder that the user named; that the user named them is what counts. Raise PackagesUnavailable."""
    found = sorted(folder.glob("*.rpm"))
    if not found:
        raise PackagesUnavailable(f"there is no .rpm in {folder}")
    name = f"rpm-folder-{hashlib.sha256(str(folder).encode('utf-8', 'surrogateescape')).hexdigest()[:12]}"
    return Repositories(run, files, system, sources=(), offered=found, name=name)


class OfBundle:
    """The packages of a bundle, looked at before the first use; what was looked at is copied, and the copies are used."""

    def __init__(self, run: Run, files: ManyFiles, system: System, bundle: Bundle) -> None:
        self._run = run
        self._files = files
        self._system = system
        self._bundle = bundle
        self._repositories: Repositories | None = None

    def plan(
        self, installed: Mapping[str, Package], *, install: Sequence[str] = (), remove: Sequence[str] = ()
    ) -> PackageChange:
        return self._opened().plan(installed, install=install, remove=remove)

    def fetch(self, packages: Sequence[Package]) -> dict[str, Path]:
        return self._opened().fetch(packages)

    def _opened(self) -> Repositories:
        if self._repositories is None:
            self._bundle.check()
            name = f"rpm-bundle-{self._bundle.digest[:12]}"
            copies = self._run.work / f"{name}-files"
            copies.mkdir(exist_ok=True)
            offered = [self._bundle.copied(each, copies / each.file) for each in self._bundle.manifest.packages]
            self._repositories = Repositories(
                self._run, self._files, self._system, sources=(), offered=offered, name=name
            )
        return self._repositories


def _read(key: str) -> bytes:
    try:
        with Path(key).open("rb") as file:
            return file.read(MOST_KEY_BYTES)
    except OSError as error:
        raise PackagesUnavailable(f"the key file {key} cannot be read: {error.strerror}") from error
