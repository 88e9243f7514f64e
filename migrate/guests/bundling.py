"""Making a bundle: everything that a guest of one release may need to live on Magalu Cloud, with all that it depends on.

It is resolved as if nothing at all were installed, so it is complete for the barest guest, and holds each dependency in the same version
as what needs it. At use only what is missing is taken.
"""

import hashlib
import re
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version as version_of
from pathlib import Path

from migrate.errors import UsageError
from migrate.guest import Os, Packaging
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
from migrate.guests.signers import signers
from migrate.guests.system import os_of
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


def repositories(wanted: Release, repos: Sequence[str]) -> Place:
    """Return where a bundle's packages come from: what the user named, else this host's own repositories if it is of that very release.

    Keys that a line does not name are this host's. Raise UsageError.
    """
    host = FolderFiles(Path("/"))
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
    run: Run, folder: Path, release: Release, asked: Sequence[str], if_there: Sequence[str], place: Place
) -> Bundle:
    """Make a bundle in a folder that is not there yet, or empty. `if_there` is put in where the repositories have it.

    Raise PackagesUnavailable where the repositories lack something that was asked for, UsageError where they are another release's.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} is there already, and not empty", hint="Name a new folder, or remove that one.")
    if release.packaging is not Packaging.DPKG:
        raise UsageError(f"bundles for {release.id} cannot be made yet: only for Debian and Ubuntu")
    half_made = folder.absolute().with_name(f"{folder.absolute().name}.partial")
    shutil.rmtree(half_made, ignore_errors=True)
    half_made.mkdir(parents=True)
    try:
        manifest = _filled(run, half_made, release, asked, if_there, place)
        (half_made / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n")
        if folder.exists():
            folder.rmdir()
        half_made.rename(folder.absolute())
    finally:
        shutil.rmtree(half_made, ignore_errors=True)
    return read_bundle(folder)


def _filled(
    run: Run, folder: Path, release: Release, asked: Sequence[str], if_there: Sequence[str], place: Place
) -> Manifest:
    """Put the packages and their index into the folder, and return what there is to say of them."""
    system = Os(release.id, version_id=release.version, arch=release.arch, packaging=release.packaging)
    repositories = Repositories(run, FolderFiles(folder), system, place)
    names = (*asked, *repositories.offered(if_there))
    _check_release(repositories, release)
    plan = repositories.plan({}, install=names)
    files = repositories.fetch(plan.install)
    bundled: list[Bundled] = []
    stanzas: list[str] = []
    for number, package in enumerate(plan.install):
        run.check()
        run.tell(Progress("bundle", number, len(plan.install), "packages", package.name))
        content = files[package.name].read_bytes()
        file = f"{package.name}_{package.version.rpartition(':')[2]}_{package.arch}.deb"
        (folder / file).write_bytes(content)
        stanzas.append(indexed(package.record, file, content))
        digest = hashlib.sha256(content).hexdigest()
        name, version, arch = package.name, package.version, package.arch
        bundled.append(
            Bundled(name=name, version=version, arch=arch, file=file, sha256=digest, bytes=len(content)),
        )
    index = "\n".join(stanzas).encode("utf-8", "surrogateescape")
    (folder / INDEX).write_bytes(index)
    return Manifest(
        release=release,
        asked=tuple(names),
        made=datetime.now(UTC).replace(microsecond=0),
        by=f"magalu-migrate {version_of('magalu-migrate')}",
        repositories=_origins(run, repositories, place),
        index_sha256=hashlib.sha256(index).hexdigest(),
        packages=tuple(bundled),
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
