"""Debian's package archives as the guest names them, asked from the host: what would be installed, and the files themselves.

apt runs on the host with a root of its own, shut away from the host's files, which holds the guest's sources, keys and pins, and what it
has installed. Nothing of the guest's apt.conf is taken: it can name programs to run. Neither the guest nor a room needs a network.

Sources: apt-get(8), apt.conf(5), sources.list(5), apt_preferences(5).
"""

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from migrate.errors import GuestError, PackagesUnavailable, ToolFailed
from migrate.guest import File, Os, Package, PackageChange
from migrate.guests.dpkg import stanzas, status_text
from migrate.guests.paths import Files, resolved
from migrate.guests.sandbox import sandboxed
from migrate.run import Limits, Note, Output, Run

INSIDE = "/apt"
LIMITS = Limits(address_space=4 << 30, cpu_seconds=900)
ANSWER_S = 900.0
ORIGIN = "the guest's own repositories"

SIMULATED = re.compile(r"^(Inst|Remv|Purg) (\S+)(?: \[(\S+)\])?(?: \((\S+) [^)]*\[(\w+)\][^)]*\))?", re.MULTILINE)
FETCHED = re.compile(r"^'[^']*' (\S+) (\d+) ", re.MULTILINE)
ONE_LINE = re.compile(r"^deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)((?:\s+\S+)*)$")
CREDENTIALS = re.compile(r"(\w+://)[^/@\s]+@")

CONFIGURATION = f"""\
Dir "{INSIDE}/";
Dir::State::status "{INSIDE}/status";
Dir::Bin::Methods "/usr/lib/apt/methods";
APT::Architecture "%(arch)s";
APT::Architectures {{ "%(arch)s"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "";
APT::Get::Assume-Yes "true";
APT::Keep-Downloaded-Packages "true";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
Acquire::Check-Valid-Until "false";
Debug::NoLocking "true";
"""
"""An archive that is no longer renewed still serves what its signed index says: a guest of last year is migrated today."""


@dataclass(frozen=True, slots=True)
class Repository:
    """One entry of sources.list(5). `keys` are keyrings as the guest has them; none means the guest's trusted keys."""

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    keys: tuple[bytes, ...] = ()


@dataclass(slots=True)
class Apt:
    """The archives of one guest. The lists are fetched once in its life, packages once each."""

    run: Run
    files: Files
    os: Os
    _updated: bool = False
    _complaints: list[str] = field(default_factory=list)

    def plan(self, installed: Mapping[str, Package], *, install: Sequence[str], remove: Sequence[str]) -> PackageChange:
        """Return what apt would do to install and purge these on top of `installed`; names that hold already are left out.

        A removal needs no archive. Nothing is ever removed only because nothing needs it any more. Raise PackagesUnavailable.
        """
        wanted = tuple(name for name in install if name not in installed)
        unwanted = tuple(name for name in remove if name in installed)
        if not wanted and not unwanted:
            return PackageChange()
        if wanted:
            self._update(installed)
        request = [*wanted, *(f"{name}-" for name in unwanted)]
        said = self._get(installed, ["--simulate", "--purge", "install", *request], request)
        incoming, outgoing = _simulated(said.text, installed)
        size = sum(size for _, size in self._uris(installed, incoming)) if incoming else 0
        return PackageChange(incoming, outgoing, ORIGIN if incoming else "", size)

    def fetch(self, installed: Mapping[str, Package], change: PackageChange) -> tuple[Path, ...]:
        """Download what a plan installs and return its .deb files; apt has checked each against the archive's signature."""
        if not change.install:
            return ()
        self._update(installed)
        self._get(installed, ["--download-only", "install", *_exact(change.install)], _names(change.install))
        found = [self._root / "var/cache/apt/archives" / name for name, _ in self._uris(installed, change.install)]
        missing = [path.name for path in found if not path.is_file()]
        if missing:
            raise PackagesUnavailable(f"apt did not fetch {', '.join(missing)}", hint="Run the same command again.")
        return tuple(found)

    @property
    def _root(self) -> Path:
        return self.run.work / "apt"

    def _uris(self, installed: Mapping[str, Package], packages: Sequence[Package]) -> list[tuple[str, int]]:
        """Return the file name and size of each package's archive, also of those that are here already."""
        # apt prints no line for a file that it has: the archives folder is moved out of its sight.
        argv = ["-o", f"Dir::Cache::Archives={INSIDE}/none", "--print-uris", "install", *_exact(packages)]
        said = self._get(installed, argv, _names(packages))
        return [(Path(name).name, int(size)) for name, size in FETCHED.findall(said.text)]

    def _update(self, installed: Mapping[str, Package]) -> None:
        if self._updated:
            return
        self._furnish()
        # One archive that is gone or not signed must not stand in the way of the others: what it lacks shows in the plan.
        said = self._get(installed, ["update"], (), ok=(0, 100))
        lines = said.stderr.splitlines()
        self._complaints = [CREDENTIALS.sub(r"\1", line) for line in lines if line.startswith(("W:", "E:"))]
        self._updated = True

    def _get(
        self, installed: Mapping[str, Package], words: Sequence[str], asked: Sequence[str], *, ok: Sequence[int] = (0,)
    ) -> Output:
        """Run apt-get on the guest's state. Raise PackagesUnavailable, in its own words, where it says no."""
        self._furnish()
        (self._root / "status").write_text(status_text(installed), "utf-8", "surrogateescape")
        argv = sandboxed(
            ["apt-get", "-q", *words],
            write={self._root: INSIDE},
            network=True,
            env={"APT_CONFIG": f"{INSIDE}/apt.conf", "DEBIAN_FRONTEND": "noninteractive"},
        )
        try:
            return self.run.tool(argv, limits=LIMITS, timeout=ANSWER_S, ok=ok)
        except ToolFailed as error:
            said = [line for line in error.stderr.splitlines() if line.startswith("E:")] + self._complaints
            reason = CREDENTIALS.sub(r"\1", "; ".join(said[:4])) or f"apt-get: {error.status}"
            raise PackagesUnavailable(
                f"{', '.join(asked)}: the guest's own repositories cannot give them: {reason}",
                hint="Its /etc/apt/sources.list(.d) names them; they must answer from this machine.",
            ) from error

    def _furnish(self) -> None:
        """Make apt's root: configuration, sources, keys, pins. Once."""
        if (self._root / "apt.conf").exists():
            return
        shutil.rmtree(self._root, ignore_errors=True)
        etc = self._root / "etc/apt"
        for folder in ("sources.list.d", "trusted.gpg.d", "preferences.d", "apt.conf.d", "auth.conf.d"):
            (etc / folder).mkdir(parents=True)
        for folder in (
            "var/lib/apt/lists/partial",
            "var/cache/apt/archives/partial",
            "none/partial",
            "keys",
            "var/log/apt",
        ):
            (self._root / folder).mkdir(parents=True)
        for number, (name, content) in enumerate(self._keyrings()):
            (etc / "trusted.gpg.d" / f"{number}{Path(name).suffix}").write_bytes(content)
        for number, path in enumerate(self._paths("/etc/apt/preferences", "/etc/apt/preferences.d")):
            (etc / "preferences.d" / f"{number}.pref").write_bytes(self._load(path))
        repositories = list(self.repositories())
        text = "\n".join(self._stanza(number, repository) for number, repository in enumerate(repositories))
        (etc / "sources.list.d" / "guest.sources").write_text(text)
        (self._root / "apt.conf").write_text(CONFIGURATION % {"arch": self.os.arch} + self._proxies())
        if not repositories:
            self._complaints.append("E: the guest names no repository that can be reached over http or https")

    def _proxies(self) -> str:
        """The host's way out: its proxies and its own CA file count for what the host fetches."""
        said = self.run.tool(["apt-config", "dump", "Acquire::http", "Acquire::https"], timeout=30).text
        wanted = re.compile(r'^Acquire::https?::(Proxy|CaInfo|Proxy::\S+) "[^"]*";$', re.MULTILINE | re.IGNORECASE)
        return "".join(f"{match.group()}\n" for match in wanted.finditer(said))

    def _stanza(self, number: int, repository: Repository) -> str:
        lines = [
            "Types: deb",
            f"URIs: {' '.join(repository.uris)}",
            f"Suites: {' '.join(repository.suites)}",
        ]
        lines += [f"Components: {' '.join(repository.components)}"] if repository.components else []
        paths = []
        for index, key in enumerate(repository.keys):
            armored = key.lstrip().startswith(b"-----BEGIN")
            path = self._root / "keys" / f"{number}-{index}.{'asc' if armored else 'gpg'}"
            path.write_bytes(key)
            paths.append(f"{INSIDE}/keys/{path.name}")
        lines += [f"Signed-By: {' '.join(paths)}"] if paths else []
        return "\n".join(lines) + "\n"

    def _keyrings(self) -> Iterator[tuple[str, bytes]]:
        for path in self._paths("/etc/apt/trusted.gpg", "/etc/apt/trusted.gpg.d"):
            if path.endswith((".gpg", ".asc")):
                yield path, self._load(path)

    def _paths(self, file: str, folder: str) -> list[str]:
        names = self.files.names(resolved(self.files, folder))
        return [path for path in (file, *(f"{folder}/{name}" for name in names)) if self._load(path)]

    def _load(self, path: str) -> bytes:
        """Return the content of a file of the guest, links followed inside it; b"" where there is none."""
        try:
            entry = self.files.load(resolved(self.files, path))
        except GuestError:
            return b""
        return entry.content if isinstance(entry, File) else b""

    def repositories(self) -> Iterator[Repository]:
        """Yield what the guest's sources name and can be asked from here; what is left out is told."""
        for path in self._paths("/etc/apt/sources.list", "/etc/apt/sources.list.d"):
            text = self._load(path).decode("utf-8", "replace")
            if path.endswith(".sources"):
                found: Iterator[Repository | str] = self._deb822(text)
            elif path.endswith(".list"):
                found = self._one_line(text)
            else:
                continue
            for repository in found:
                if isinstance(repository, Repository):
                    yield repository
                else:
                    self.run.tell(Note(f"{path}: {repository} is left out: only http and https are asked from here"))

    def _deb822(self, text: str) -> Iterator[Repository | str]:
        plain = "\n".join(line for line in text.split("\n") if not line.startswith("#"))
        for fields in stanzas(plain):
            if "deb" not in fields.get("Types", "").split() or fields.get("Enabled", "yes").lower() in (
                "no",
                "false",
                "0",
            ):
                continue
            yield from self._checked(
                tuple(fields.get("Uris", "").split()),
                tuple(fields.get("Suites", "").split()),
                tuple(fields.get("Components", "").split()),
                fields.get("Signed-by", ""),
            )

    def _one_line(self, text: str) -> Iterator[Repository | str]:
        for line in text.splitlines():
            match = ONE_LINE.match(line.partition("#")[0].strip())
            if match:
                options = dict(word.partition("=")[::2] for word in (match[1] or "").split())
                signed = options.get("signed-by", "").replace(",", " ")
                yield from self._checked((match[2],), (match[3],), tuple(match[4].split()), signed)

    def _checked(
        self, uris: tuple[str, ...], suites: tuple[str, ...], components: tuple[str, ...], signed: str
    ) -> Iterator[Repository | str]:
        good = tuple(uri for uri in uris if re.match(r"https?://[^\s\"']+$", uri))
        yield from (CREDENTIALS.sub(r"\1", uri) for uri in uris if uri not in good)
        if good and suites:
            yield Repository(good, suites, components, self._signing_keys(signed))

    def _signing_keys(self, signed: str) -> tuple[bytes, ...]:
        """Signed-By holds a key, or names keyrings; a fingerprint alone means one of the trusted keys."""
        if "-----BEGIN" in signed:
            # A line with a single dot stands for an empty one; deb822(5).
            return (
                "\n".join("" if line.strip() == "." else line.strip() for line in signed.split("\n")).encode() + b"\n",
            )
        found = (self._load(word) for word in signed.split() if word.startswith("/"))
        return tuple(key for key in found if key)


def _exact(packages: Sequence[Package]) -> list[str]:
    return [f"{name}={package.version}" for name, package in zip(_names(packages), packages, strict=True)]


def _names(packages: Sequence[Package]) -> list[str]:
    return [package.name for package in packages]


def _simulated(text: str, installed: Mapping[str, Package]) -> tuple[tuple[Package, ...], tuple[Package, ...]]:
    """Return what a simulated run installs and removes, each sorted by name."""
    incoming: dict[str, Package] = {}
    outgoing: dict[str, Package] = {}
    for action, name, old, new, arch in SIMULATED.findall(text):
        if action == "Inst":
            incoming[name] = Package(name, new, arch)
        else:
            outgoing[name] = installed.get(name) or Package(name, old)
    return tuple(incoming[name] for name in sorted(incoming)), tuple(outgoing[name] for name in sorted(outgoing))
