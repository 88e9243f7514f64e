"""A bundle: a folder of packages for one release of a distribution, complete in itself, so that no network is needed where it is used.

    DIR/manifest.json     what each file is and its SHA-256, for which release, made when, from which repositories, signed by which keys
    DIR/Packages          (dpkg) the packages as their repositories describe them, by which apt resolves
    DIR/*.deb, *.rpm

The packages were verified by their repositories' keys when the bundle was made; from then on the manifest speaks for them. It is looked at
before each use, and a file that is not what it says is refused. Who hands a bundle on can compare the manifest's own SHA-256.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from migrate.errors import BundleBroken, PackagesUnavailable
from migrate.guest import Os, Package, Packaging
from migrate.guests import dpkg
from migrate.guests.apt_sources import INSIDE, AptSource, Root, stanza
from migrate.guests.sandbox import sandboxed
from migrate.run import Limits, Run

MANIFEST = "manifest.json"
INDEX = "Packages"
MOST_MANIFEST_BYTES = 64 << 20
READING = Limits(address_space=1 << 30, cpu_seconds=300)

FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+~%^:-]*$", max_length=255)]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Word = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,300}$")]
Words = Annotated[str, StringConstraints(pattern=r"^[ -~]{0,2000}$")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Release(_Model):
    """What the packages are for. `version` as os-release has it, or its beginning: "9" is every 9.x."""

    id: Word
    version: Word
    arch: Word
    packaging: Packaging

    def __str__(self) -> str:
        return f"{self.id} {self.version} ({self.arch})"


class Bundled(_Model):
    """A package, or the index. `bytes` is the size of its file."""

    name: Word
    version: Word
    arch: Word
    file: FileName
    sha256: Digest
    bytes: int


class Origin(_Model):
    """A repository that the packages are from. `signed_by` are the fingerprints of the keys whose signatures were good."""

    repository: Words
    signed_by: tuple[Word, ...] = ()


class Manifest(_Model):
    format: Literal[1] = 1
    release: Release
    asked: tuple[Word, ...]
    made: datetime
    by: Words
    repositories: tuple[Origin, ...]
    index_sha256: Digest | None
    packages: tuple[Bundled, ...]

    @property
    def bytes(self) -> int:
        return sum(package.bytes for package in self.packages)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle on this machine. `digest` is the SHA-256 of its manifest."""

    folder: Path
    manifest: Manifest
    digest: str

    @property
    def origin(self) -> str:
        return f"the bundle {self.folder.name} of {self.manifest.made:%Y-%m-%d} for {self.manifest.release}"

    def unfit(self, guest: Os) -> str | None:
        """Say why the packages are not for a guest; None where they are."""
        wanted = self.manifest.release
        if (wanted.packaging, wanted.id) != (guest.packaging, guest.id) or not same_release(
            wanted.version, guest.version_id
        ):
            return f"it is for {wanted.id} {wanted.version}, and the guest is {guest.id} {guest.version_id or '(no version)'}"
        if wanted.arch != guest.arch:
            return f"it is for {wanted.arch}, and the guest is {guest.arch}"
        return None

    def broken(self) -> Iterator[str]:
        """Yield what is not as the manifest says, file by file. Every file is read."""
        if self.manifest.index_sha256 is not None and (
            trouble := _trouble(self.folder / INDEX, self.manifest.index_sha256)
        ):
            yield trouble
        for package in self.manifest.packages:
            if trouble := _trouble(self.folder / package.file, package.sha256):
                yield trouble

    def check(self) -> None:
        """Every file is what the manifest says. Raise BundleBroken with all that is not."""
        if broken := list(self.broken()):
            more = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
            raise BundleBroken(
                f"the bundle {self.folder} is not what its manifest says: {'; '.join(broken[:3])}{more}",
                hint="Nothing of it is used. Copy it again, or make it anew: magalu-migrate bundle make.",
            )

    def copied(self, package: Bundled, to: Path) -> Path:
        """Copy a package's file, and return the copy; what is copied is what was verified. Raise BundleBroken."""
        with suppress(FileNotFoundError):
            shutil.copyfile(self.folder / package.file, to)
        if trouble := _trouble(to, package.sha256):
            raise BundleBroken(f"the bundle {self.folder} changed while it was used: {trouble}")
        return to


def same_release(wanted: str, found: str) -> bool:
    """Whether a version is the wanted one or a point release of it: "9.4" is "9", and "22.10" is not "22.1"."""
    return found == wanted or found.startswith(f"{wanted}.")


def _trouble(path: Path, sha256: str) -> str | None:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return f"{path.name} is missing"
    return None if found == sha256 else f"{path.name} was changed"


def is_bundle(folder: Path) -> bool:
    return (folder / MANIFEST).is_file()


def read_bundle(folder: Path) -> Bundle:
    """Return the bundle in a folder; its files are not looked at. Raise BundleBroken where there is no manifest, or none that we read."""
    path = folder / MANIFEST
    try:
        with path.open("rb") as file:
            content = file.read(MOST_MANIFEST_BYTES)
    except OSError as error:
        raise BundleBroken(
            f"{folder} is no bundle: {MANIFEST} cannot be read ({error.strerror})",
            hint="`magalu-migrate bundle make` makes one.",
        ) from error
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise BundleBroken(
            f"{path} is not a manifest that this program reads: {f'{place}: ' * bool(place)}{first['msg']}",
            hint="Make the bundle anew with this version: magalu-migrate bundle make.",
        ) from error
    return Bundle(folder.absolute(), manifest, hashlib.sha256(content).hexdigest())


class BundlePlace:
    """A bundle of Debian packages as apt resolves by it: an index in apt's own root, no network, no signature but the manifest's."""

    online = False
    sources = (AptSource(f"file:{INSIDE}/bundle", "./", (), trusted=True),)

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._root: Root | None = None

    @property
    def name(self) -> str:
        return f"apt-bundle-{self._bundle.digest[:12]}"

    @property
    def origin(self) -> str:
        return self._bundle.origin

    def lay_out(self, root: Root, run: Run) -> None:
        self._bundle.check()
        index = (self._bundle.folder / INDEX).read_bytes()
        if hashlib.sha256(index).hexdigest() != self._bundle.manifest.index_sha256:
            raise BundleBroken(f"the bundle {self._bundle.folder} changed while it was used: {INDEX} was changed")
        root.write(f"bundle/{INDEX}", index)
        root.write_sources([stanza(source, "") for source in self.sources])
        self._root = root

    def held(self, package: Package) -> Path | None:
        wanted = (package.name, package.version, package.arch)
        for each in self._bundle.manifest.packages:
            if (each.name, each.version, each.arch) == wanted and self._root is not None:
                return self._bundle.copied(each, self._root.path / "bundle" / each.file)
        return None


class FolderPlace:
    """Debian packages in a folder of this machine that the user named: no index, no signature; that the user named them is what counts."""

    online = False
    sources = (AptSource(f"file:{INSIDE}/folder", "./", (), trusted=True),)

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._files: dict[tuple[str, str, str], Path] = {}

    @property
    def name(self) -> str:
        return f"apt-folder-{hashlib.sha256(os.fsencode(self._folder)).hexdigest()[:12]}"

    @property
    def origin(self) -> str:
        return f"the packages in {self._folder}"

    def lay_out(self, root: Root, run: Run) -> None:
        """The packages are copied, and their own descriptions make the index."""
        copies = root.path / "folder"
        shutil.rmtree(copies, ignore_errors=True)
        names = {f"{number}.deb": path for number, path in enumerate(sorted(self._folder.glob("*.deb")))}
        for name, path in names.items():
            root.write(f"folder/{name}", path.read_bytes())
        if not names:
            raise PackagesUnavailable(f"there is no .deb in {self._folder}")
        stanzas = []
        for name, control in _controls(run, root, "folder"):
            fields = next(dpkg.stanzas(control), {})
            if not fields.get("Package"):
                raise PackagesUnavailable(f"{names[name]} is no Debian package")
            self._files[fields["Package"], fields.get("Version", ""), fields.get("Architecture", "")] = copies / name
            stanzas.append(indexed(control, name, (copies / name).read_bytes()))
        root.write(f"folder/{INDEX}", "\n".join(stanzas))
        root.write_sources([stanza(source, "") for source in self.sources])

    def held(self, package: Package) -> Path | None:
        return self._files.get((package.name, package.version, package.arch))


PLACING = frozenset({"Filename", "Size", "Md5sum", "Sha1", "Sha256", "Sha512", "Status"})
"""What an index says of a file, and a status file of a package: it is written anew."""


def indexed(record: str, file: str, content: bytes) -> str:
    """Return a package's description as an index has it: where its file is, and what it must be. Source: deb822(5), "Packages" files."""
    kept: list[str] = []
    skipping = False
    for line in record.strip("\n").split("\n"):
        if line[:1] not in (" ", "\t"):
            skipping = line.partition(":")[0].strip().capitalize() in PLACING
        if not skipping:
            kept.append(line)
    placed = [f"Filename: ./{file}", f"Size: {len(content)}", f"SHA256: {hashlib.sha256(content).hexdigest()}"]
    return "\n".join([*kept, *placed, ""])


def _controls(run: Run, root: Root, folder: str) -> Iterator[tuple[str, str]]:
    """Yield each package file of a folder in the root with what it says of itself, read by the host's dpkg-deb in the sandbox."""
    inside = f"{INSIDE}/{folder}"
    argv = ["find", inside, "-name", "*.deb"]
    argv += ["-exec", "printf", "\\0%s\\n", "{}", ";", "-exec", "dpkg-deb", "--field", "{}", ";"]
    said = run.tool(sandboxed(argv, folder=(root.path, INSIDE)), limits=READING, timeout=600).text
    for part in sorted(said.split("\0")[1:]):
        name, _, control = part.partition("\n")
        yield name.removeprefix(f"{inside}/"), control
