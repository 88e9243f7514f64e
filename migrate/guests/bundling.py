"""Making a bundle: everything that a guest of one release may need to live on Magalu Cloud, with all that it depends on.

It is resolved as if nothing at all were installed, so it is complete for the barest guest, and holds each dependency in the same version
as what needs it. At use only what is missing is taken.
"""

import hashlib
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version as version_of
from pathlib import Path

from migrate.errors import UsageError
from migrate.guest import Os, Package, Packaging
from migrate.guests import dpkg
from migrate.guests.apt import Named, Place, Repositories
from migrate.guests.apt_sources import AptSource, given_source, sources_of
from migrate.guests.bundle import (
    INDEX,
    MANIFEST,
    Bundle,
    Bundled,
    Manifest,
    Origin,
    Release,
    indexed,
    read_bundle,
    same_release,
)
from migrate.guests.files import FolderFiles
from migrate.guests.rpm_places import BaseUrl, given_url, of_urls
from migrate.guests.signers import rpm_signers, signers
from migrate.guests.system import System, os_of
from migrate.run import Progress, Run

DISTRIBUTORS = {"Debian": "debian", "Ubuntu": "ubuntu"}
"""What a distribution's own archives call themselves in their Release file, and its ID in os-release."""


def release(text: str) -> Release:
    """Return the release that a user named: "debian:12", "ubuntu:22.04", "rocky:9", with ":arm64" after it for another processor. Raise UsageError."""
    match = re.fullmatch(r"([a-z][a-z0-9_-]*):(\d+(?:\.\d+)*)(?::([a-z0-9]+))?", text)
    if match is None:
        raise UsageError(
            f"--for {text!r} is not ID:VERSION", hint="As os-release(5) has them: debian:12, ubuntu:22.04, rocky:9."
        )
    packaging = Packaging.DPKG if Os(match[1]).family == "debian" else Packaging.RPM
    return Release(id=match[1], version=match[2], arch=match[3] or "amd64", packaging=packaging)


Places = Place | tuple[BaseUrl, ...]
"""apt's sources, or repositories of RPM packages."""


def repositories(wanted: Release, repos: Sequence[str]) -> Places:
    """Return where a bundle's packages come from: what the user named, else this host's own repositories if it is of that very release.

    Keys that a line of apt's does not name are this host's. Raise UsageError.
    """
    host = FolderFiles(Path("/"))
    if wanted.packaging is Packaging.RPM:
        urls = tuple(url for text in repos if (url := given_url(text)) is not None)
        if not urls or len(urls) < len(repos):
            raise UsageError(
                f"a bundle for {wanted.id} {wanted.version} is made from repositories of RPM packages, and {repos[0] if repos else 'none'} is named",
                hint="Name each with its key: --repo 'rpm [signed-by=FILE] URL', where URL/repodata is.",
            )
        return urls
    if repos:
        return Named([given_source(text) for text in repos], host)
    system = os_of(host)
    own = [source for source in sources_of(host) if re.fullmatch(rf"{re.escape(system.codename)}(-.*)?", source.suite)]
    if system.id != wanted.id or not same_release(wanted.version, system.version_id) or not own:
        raise UsageError(
            f"this machine is {system.pretty or system.id}, so its own repositories make no bundle for {wanted.id} {wanted.version}",
            hint="Name that release's: --repo 'deb [signed-by=FILE] URL SUITE COMPONENTS'.",
        )
    return Named(own, host)


def make_bundle(
    run: Run, folder: Path, release: Release, asked: Sequence[str], if_there: Sequence[str], places: Places
) -> Bundle:
    """Make a bundle in a folder that is not there yet, or empty. `if_there` is put in where apt's repositories have it.

    Raise PackagesUnavailable where the repositories lack something that was asked for, UsageError where they are another release's.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there already, and not empty", hint="Name a new folder, or remove that one.")
    half_made = folder.absolute().with_name(f"{folder.absolute().name}.partial")
    shutil.rmtree(half_made, ignore_errors=True)
    half_made.mkdir(parents=True)
    try:
        if isinstance(places, tuple):
            manifest = _filled_with_rpms(run, half_made, release, asked, places)
        else:
            manifest = _filled_with_debs(run, half_made, release, asked, if_there, places)
        (half_made / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n")
        if folder.exists():
            folder.rmdir()
        half_made.rename(folder.absolute())
    finally:
        shutil.rmtree(half_made, ignore_errors=True)
    return read_bundle(folder)


def _filled_with_debs(
    run: Run, folder: Path, release: Release, asked: Sequence[str], if_there: Sequence[str], place: Place
) -> Manifest:
    """Put the packages and their index into the folder, and return what there is to say of them."""
    system = Os(release.id, version_id=release.version, arch=release.arch, packaging=release.packaging)
    repositories = Repositories(run, FolderFiles(folder), system, place)
    names = (*asked, *repositories.offered(if_there))
    _check_release(repositories, release)
    plan = repositories.plan({}, install=names)
    bundled = _stored(run, folder, plan.install, repositories.fetch(plan.install), "_{version}_{arch}.deb")
    records = {package.name: package.record for package in plan.install}
    stanzas = [indexed(records[each.name], each.file, (folder / each.file).read_bytes()) for each in bundled]
    index = "\n".join(stanzas).encode("utf-8", "surrogateescape")
    (folder / INDEX).write_bytes(index)
    return _manifest(release, names, _origins(run, repositories, place), bundled, hashlib.sha256(index).hexdigest())


def _filled_with_rpms(
    run: Run, folder: Path, release: Release, asked: Sequence[str], urls: tuple[BaseUrl, ...]
) -> Manifest:
    """Put the packages into the folder, and return what there is to say of them. They are resolved for a guest that has none."""
    with tempfile.TemporaryDirectory(prefix="bare-", dir=run.work) as name:
        guest = _bare_rpm_guest(run, Path(name), release)
        repositories = of_urls(run, guest, System(guest, run), urls)
        plan = repositories.plan({}, install=asked)
        bundled = _stored(run, folder, plan.install, repositories.fetch(plan.install), "-{version}.{arch}.rpm")
    keys = tuple(sorted(rpm_signers(run, folder)))
    origins = tuple(Origin(repository=url.shown, signed_by=() if url.trusted else keys) for url in urls)
    return _manifest(release, asked, origins, bundled, None)


def _bare_rpm_guest(run: Run, root: Path, release: Release) -> FolderFiles:
    """Make a guest of that release whose package database is empty."""
    (root / "etc").mkdir()
    platform = f'PLATFORM_ID="platform:el{release.version.partition(".")[0]}"\n'
    words = f'ID="{release.id}"\nVERSION_ID="{release.version}"\n{platform if Os(release.id).family == "rhel" else ""}'
    (root / "etc/os-release").write_text(words)
    database = root / "var/lib/rpm"
    database.mkdir(parents=True)
    run.tool(["rpm", "--dbpath", database, "--define", "_db_backend sqlite", "--initdb"], timeout=60)
    return FolderFiles(root)


def _stored(
    run: Run, folder: Path, packages: Sequence[Package], files: Mapping[str, Path], ending: str
) -> tuple[Bundled, ...]:
    """Copy the packages into the folder, each under a name of ours."""
    bundled: list[Bundled] = []
    for number, package in enumerate(packages):
        run.check()
        run.tell(Progress("bundle", number, len(packages), "packages", package.name))
        content = files[package.name].read_bytes()
        version = package.version.rpartition(":")[2]
        file = f"{package.name}{ending.format(version=version, arch=package.arch)}"
        (folder / file).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        name, arch = package.name, package.arch
        bundled.append(
            Bundled(name=name, version=package.version, arch=arch, file=file, sha256=digest, bytes=len(content))
        )
    return tuple(bundled)


def _manifest(
    release: Release,
    asked: Sequence[str],
    origins: tuple[Origin, ...],
    bundled: tuple[Bundled, ...],
    index_sha256: str | None,
) -> Manifest:
    return Manifest(
        release=release,
        asked=tuple(asked),
        made=datetime.now(UTC).replace(microsecond=0),
        by=f"magalu-migrate {version_of('magalu-migrate')}",
        repositories=origins,
        index_sha256=index_sha256,
        packages=bundled,
    )


def _origins(run: Run, repositories: Repositories, place: Place) -> tuple[Origin, ...]:
    """Each source with the keys that signed its archive: told by the name under which apt keeps the signed description."""
    found = []
    for source in place.sources:
        key = _list_name(source)
        signed = (release for release in repositories.releases() if release.name.startswith(key))
        prints = sorted({each for release in signed for each in signers(run, repositories.root, release)})
        found.append(Origin(repository=source.shown, signed_by=tuple(prints)))
    return tuple(found)


def _list_name(source: AptSource) -> str:
    """The beginning of the names of a source's files in apt's lists. Source: apt, URItoFileName in strutl.cc."""
    place = re.sub(r"^\w+://(?:[^/@]*@)?", "", source.uri).rstrip("/").replace("_", "%5f").replace("/", "_")
    suite = source.suite.strip("./")
    return f"{place}_dists_{suite}_InRelease" if source.components else f"{place}_{suite}"


def _check_release(repositories: Repositories, release: Release) -> None:
    """No archive of the distribution's own is one of another release. Raise UsageError. Archives of others say nothing of that."""
    for signed in repositories.releases():
        fields = next(dpkg.stanzas(signed.read_text(errors="replace").partition("\n\n")[2]), {})
        said = re.match(r"\d+(\.\d+)?", fields.get("Version", ""))
        if said and DISTRIBUTORS.get(fields.get("Origin", "")) not in (None, release.id):
            raise UsageError(f"the repositories are {fields['Origin']}'s, and the bundle is for {release.id}")
        if said and fields.get("Origin", "") in DISTRIBUTORS and not same_release(release.version, said[0]):
            raise UsageError(
                f"the repositories are {fields['Origin']} {fields['Version']}'s, and the bundle is for {release.id} {release.version}",
                hint="Name the repositories of that release with --repo.",
            )
