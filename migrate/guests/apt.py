"""Debian packages for a guest, resolved and fetched on the host with the guest's own sources, keys and package database.

The host's apt works on a private root that holds copies of these and nothing else: no apt.conf of the guest (it may run commands), no source but
http and https. It runs in a sandbox as nobody; what it fetches is verified by the guest's keys, as the guest would.
Sources: sources.list(5), apt.conf(5), apt-get(8), apt-secure(8).
"""

import hashlib
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from migrate.errors import GuestError, PackagesUnavailable, ToolFailed
from migrate.guest import File, Kind, Os, Package, PackageChange
from migrate.guests import dpkg
from migrate.guests.paths import Files, resolved
from migrate.guests.sandbox import give, sandboxed
from migrate.guests.system import text_of
from migrate.run import Limits, Note, Output, Run

ORIGIN = "the guest's own repositories"
LISTS_FRESH_S = 3600
"""How long fetched package lists are used again, by a second run on the same work folder."""
OLD_S = 400 * 86400
"""A repository that was last changed this long ago is an archive (point releases come twice a year): worth a word, not a refusal."""

LIMITS = Limits(address_space=4 << 30, cpu_seconds=600)
INSIDE = "/apt"
ARCHIVES = "var/cache/apt/archives"

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


@dataclass(frozen=True, slots=True)
class AptSource:
    """A place that packages come from, as sources.list(5) has it. `signed_by` is a path, a fingerprint, or an inline key."""

    uri: str
    suite: str
    components: tuple[str, ...]
    archs: tuple[str, ...] = ()
    signed_by: str = ""

    @property
    def host(self) -> str:
        return urlsplit(self.uri).hostname or self.uri


def sources_of(files: Files) -> tuple[AptSource, ...]:
    """Read the guest's sources, in both formats, those that are switched off left out."""
    found: list[AptSource] = []
    for path in ("/etc/apt/sources.list", *_below(files, "/etc/apt/sources.list.d")):
        text = text_of(files, path) or ""
        if path.endswith(".list"):
            found += [source for line in text.splitlines() for source in _one_line(line)]
        elif path.endswith(".sources"):
            found += [source for stanza in dpkg.stanzas(_without_comments(text)) for source in _stanza(stanza)]
    return tuple(dict.fromkeys(found))


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.split("\n") if not line.startswith("#"))


def _one_line(line: str) -> Iterator[AptSource]:
    match = re.fullmatch(r"deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s*(.*)", line.partition("#")[0].strip())
    if match:
        options = dict(word.split("=", 1) for word in (match[1] or "").split() if "=" in word)
        archs = tuple(filter(None, options.get("arch", "").split(",")))
        yield AptSource(match[2], match[3], tuple(match[4].split()), archs, options.get("signed-by", ""))


def _stanza(fields: Mapping[str, str]) -> Iterator[AptSource]:
    if "deb" not in fields.get("Types", "").split() or fields.get("Enabled", "yes").lower() in (
        "no",
        "false",
        "0",
        "off",
    ):
        return
    components = tuple(fields.get("Components", "").split())
    archs = tuple(fields.get("Architectures", "").split())
    for uri in fields.get("Uris", "").split():
        for suite in fields.get("Suites", "").split():
            yield AptSource(uri, suite, components, archs, fields.get("Signed-by", ""))


class Repositories:
    """The repositories of one guest. Nothing is fetched before it is needed; what was fetched stays in the run's work folder."""

    def __init__(self, run: Run, files: Files, os: Os) -> None:
        self._run = run
        self._files = files
        self._os = os
        self._root = run.work / "apt"
        self._prepared = False
        self._updated = False
        self._complaints = ""
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
        self._write("status", status)
        argv = ["apt-get", "--simulate", "install", *wanted, *(f"{name}-" for name in unwanted)]
        try:
            said = self._apt(argv).text
        except ToolFailed as error:
            raise self._unavailable(wanted, unwanted, error) from error
        coming, going = _simulated(said)
        arriving = self._described([f"{name}={version}" for name, version in coming.items()]) if coming else ()
        leaving = tuple(sorted((_installed(installed, name) for name in going), key=lambda package: package.name))
        size = sum(int(_field(package.record, "Size") or 0) for package in arriving)
        return PackageChange(arriving, leaving, ORIGIN if arriving else "", size)

    def fetch(self, packages: Sequence[Package]) -> dict[str, Path]:
        """Return the package files, by name, verified. What was fetched before is not fetched again. Raise PackagesUnavailable."""
        self._prepare()
        self._update()
        found = {package.name: self._archives / _file_name(package) for package in packages}
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

    @property
    def _archives(self) -> Path:
        return self._root / ARCHIVES

    def _prepare(self) -> None:
        """Lay out the private root once."""
        if self._prepared:
            return
        for folder in (
            "etc/apt/trusted.gpg.d",
            "etc/apt/preferences.d",
            "keys",
            "var/lib/apt/lists/partial",
            "var/lib/dpkg",
        ):
            (self._root / folder).mkdir(parents=True, exist_ok=True)
        (self._archives / "partial").mkdir(parents=True, exist_ok=True)
        for made in (self._root, *self._root.rglob("*")):
            give(made)
        self._write("etc/apt/sources.list.d/guest.sources", self._sources_text())
        for path in ("/etc/apt/preferences", *_below(self._files, "/etc/apt/preferences.d")):
            self._copy(path, path.lstrip("/"))
        for path in ("/etc/apt/auth.conf", *_below(self._files, "/etc/apt/auth.conf.d")):
            self._copy(path, path.lstrip("/"))
        for path in ("/etc/apt/trusted.gpg", *_below(self._files, "/etc/apt/trusted.gpg.d")):
            self._copy(path, path.lstrip("/"))
        archs = [self._os.arch, *(text_of(self._files, "/var/lib/dpkg/arch") or "").split()]
        settings = SETTINGS.format(arch=self._os.arch, archs=" ".join(f'"{arch}";' for arch in dict.fromkeys(archs)))
        self._write("apt.conf", settings + "\n".join(_host_settings(self._run)) + "\n")
        self._prepared = True

    def _sources_text(self) -> str:
        stanzas = []
        for number, source in enumerate(sources_of(self._files)):
            if urlsplit(source.uri).scheme not in ("http", "https") or not re.fullmatch(
                r"[!-~]+", source.uri + source.suite
            ):
                self._run.tell(
                    Note(f"the guest's package source {source.uri} is left out: only http and https are asked")
                )
                continue
            fields = {
                "Types": "deb",
                "URIs": source.uri,
                "Suites": source.suite,
                "Components": " ".join(source.components),
            }
            fields["Architectures"] = " ".join(source.archs)
            fields["Signed-By"] = self._keys(source.signed_by, number)
            stanzas.append("".join(f"{name}: {value}\n" for name, value in fields.items() if value))
        return "\n".join(stanzas)

    def _keys(self, signed_by: str, number: int) -> str:
        """Return Signed-By for the private root: a fingerprint as it is, the guest's key files as copies."""
        if not signed_by:
            return ""
        if "-----BEGIN" in signed_by:
            lines = (line.strip() for line in signed_by.strip().split("\n"))
            self._write(f"keys/{number}.asc", "".join("\n" if line == "." else f"{line}\n" for line in lines))
            return f"{INSIDE}/keys/{number}.asc"
        words = []
        for index, word in enumerate(re.split(r"[\s,]+", signed_by.strip())):
            if word.startswith("/"):
                name = f"keys/{number}-{index}{'.asc' if word.endswith('.asc') else '.gpg'}"
                self._copy(word, name)
                words.append(f"{INSIDE}/{name}")
            else:
                words.append(word)
        return " ".join(words)

    def _copy(self, path: str, name: str) -> None:
        """Copy a file of the guest; `name` is ours, so no path of the guest's reaches the host."""
        at = resolved(self._files, path)
        entry = self._files.load(at) if self._files.kind(at) is Kind.FILE else None
        if isinstance(entry, File):
            self._write(name, entry.content)

    def _write(self, name: str, content: str | bytes) -> None:
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)  # auth.conf holds passwords
        give(path.parent)
        give(path)
        path.write_bytes(content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content)

    def _update(self) -> None:
        """Fetch the package lists, once; those of an earlier run are used while they are fresh."""
        if self._updated:
            return
        sources = self._root / "etc/apt/sources.list.d/guest.sources"
        stamp = self._root / "updated"
        digest = hashlib.sha256(sources.read_bytes()).hexdigest()
        fresh = stamp.is_file() and stamp.read_text() == digest and time.time() - stamp.stat().st_mtime < LISTS_FRESH_S
        if not sources_of(self._files):
            raise PackagesUnavailable("the guest has no package sources of its own", hint=_OFFER)
        if not fresh:
            said = self._apt(["apt-get", "update"], ok=(0, 100))
            self._complaints = "\n".join(line for line in said.stderr.splitlines() if line.startswith(("E:", "W:")))
            if not any((self._root / "var/lib/apt/lists").glob("*_Packages*")):
                raise self._no_lists()
            if self._complaints:
                self._run.tell(
                    Note(f"not all of the guest's package sources answer: {_complaint(self._complaints)}", "warning")
                )
            else:
                stamp.write_text(digest)
        self._tell_age()
        self._updated = True

    def _no_lists(self) -> PackagesUnavailable:
        hosts = ", ".join(dict.fromkeys(source.host for source in sources_of(self._files)))
        unsigned = re.search(r"not signed|NO_PUBKEY|couldn't be verified|EXPKEYSIG|BADSIG", self._complaints)
        if unsigned:
            return PackagesUnavailable(
                f"what the guest's package sources ({hosts}) send cannot be verified by the guest's own keys: "
                f"{_complaint(self._complaints)}",
                hint="Update the guest's keyring package in the source, or offer the packages: --packages FOLDER.",
            )
        return PackagesUnavailable(
            f"none of the guest's package sources answers ({hosts}): {_complaint(self._complaints)}",
            hint=f"Let this host reach one of them (a proxy of the host's apt is used). {_OFFER}",
        )

    def _tell_age(self) -> None:
        for release in sorted((self._root / "var/lib/apt/lists").glob("*Release")):
            signed = re.search(r"^Date: (.*)$", release.read_text(errors="replace"), re.MULTILINE)
            if signed and (age := _age_s(signed[1])) > OLD_S:
                name = release.name.partition("_dists_")[2].removesuffix("_InRelease").removesuffix("_Release")
                self._run.tell(Note(f"the guest's repository {name} was last changed {age // 86400:.0f} days ago"))

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
        network = bool({"update", "download"} & set(argv))
        env = {"APT_CONFIG": f"{INSIDE}/apt.conf"}
        inside = sandboxed(argv, folder=(self._root, INSIDE), network=network, env=env, cwd=cwd)
        return self._run.tool(inside, limits=LIMITS, timeout=900, ok=ok)

    def _unavailable(self, wanted: Sequence[str], unwanted: Sequence[str], error: ToolFailed) -> PackagesUnavailable:
        what = " and ".join(
            filter(
                None, [f"install {', '.join(wanted)}" * bool(wanted), f"remove {', '.join(unwanted)}" * bool(unwanted)]
            )
        )
        said = _complaint(f"{self._complaints}\n{error.stderr}")
        return PackagesUnavailable(f"apt finds no way to {what} in the guest: {said}", hint=_OFFER if wanted else None)


_OFFER = "Or leave the step out with --skip and install what it needs in the source."
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


def _file_name(package: Package) -> str:
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


def _below(files: Files, folder: str) -> tuple[str, ...]:
    at = resolved(files, folder)
    return tuple(f"{folder}/{name}" for name in files.names(at))


def _host_settings(run: Run) -> list[str]:
    said = run.tool(["apt-config", "dump"], timeout=30).text
    return [line for line in said.splitlines() if HOST_SETTING.fullmatch(line)]
