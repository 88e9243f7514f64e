"""Where a Debian guest's packages come from, and who vouches for them: sources as text and as values, and the keys beside them.

Sources: sources.list(5), apt-secure(8).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from migrate.errors import PackagesUnavailable, UsageError
from migrate.guest import File, Kind
from migrate.guests import dpkg
from migrate.guests.paths import Files, resolved
from migrate.guests.sandbox import give
from migrate.guests.system import text_of

INSIDE = "/apt"
"""Where the sandbox shows apt's private root."""

KEYRINGS = tuple(
    f"/usr/share/keyrings/{name}-archive-keyring.{suffix}" for name in ("debian", "ubuntu") for suffix in ("gpg", "pgp")
)
"""The distribution's own keys: newer releases name them in Signed-By, and have none in trusted.gpg.d."""

MOST_KEY_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class AptSource:
    """A place that packages come from, as sources.list(5) has it. `signed_by` is a path, a fingerprint, or an inline key.

    `trusted` is what a user of ours said; what a guest says of that is not believed.
    """

    uri: str
    suite: str
    components: tuple[str, ...]
    archs: tuple[str, ...] = ()
    signed_by: str = ""
    trusted: bool = False

    @property
    def host(self) -> str:
        return urlsplit(self.uri).hostname or self.uri

    @property
    def shown(self) -> str:
        """The source in one line, without a password that its address may hold."""
        return " ".join((without_password(self.uri), self.suite, *self.components))

    @property
    def is_asked(self) -> bool:
        """Whether it is one that apt may be given: by http or https, and nothing in it that could end a line."""
        return urlsplit(self.uri).scheme in ("http", "https") and bool(re.fullmatch(r"[!-~]+", self.uri + self.suite))


def without_password(url: str) -> str:
    """Return an address as it may be shown: without the name and password that it may hold."""
    words = urlsplit(url)
    return words._replace(netloc=words.netloc.rpartition("@")[2]).geturl()


class Root:
    """apt's private root on the host. Names in it are ours, so no path of a guest's reaches the host."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, content: str | bytes) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)  # auth.conf holds passwords
        give(path.parent)
        give(path)
        path.write_bytes(content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content)

    def copy(self, files: Files, path: str, name: str) -> None:
        """Copy a file of the guest; where there is none, nothing is done."""
        at = resolved(files, path)
        entry = files.load(at) if files.kind(at) is Kind.FILE else None
        if isinstance(entry, File):
            self.write(name, entry.content)

    def write_sources(self, stanzas: list[str]) -> None:
        self.write("etc/apt/sources.list.d/guest.sources", "\n".join(stanzas))


def below(files: Files, folder: str) -> tuple[str, ...]:
    """Return the paths of what is in a folder."""
    return tuple(f"{folder}/{name}" for name in files.names(resolved(files, folder)))


def copy_trusted_keys(files: Files, root: Root) -> None:
    """The keys that vouch for every source, as the guest has them."""
    for path in ("/etc/apt/trusted.gpg", *below(files, "/etc/apt/trusted.gpg.d")):
        root.copy(files, path, path.lstrip("/"))


def copy_keyrings(files: Files, root: Root) -> None:
    """The distribution's own keys vouch for every source too: for sources that name no key, on releases that trust none by itself."""
    for path in KEYRINGS:
        root.copy(files, path, f"etc/apt/trusted.gpg.d/{path.rpartition('/')[2].partition('.')[0]}.gpg")


def sources_of(files: Files) -> tuple[AptSource, ...]:
    """Read the guest's sources, in both formats, those that are switched off left out."""
    found: list[AptSource] = []
    for path in ("/etc/apt/sources.list", *below(files, "/etc/apt/sources.list.d")):
        text = text_of(files, path) or ""
        if path.endswith(".list"):
            found += [source for line in text.splitlines() for source in _one_line(line)]
        elif path.endswith(".sources"):
            found += [source for stanza in dpkg.stanzas(_without_comments(text)) for source in _stanza(stanza)]
    return tuple(dict.fromkeys(found))


def given_source(line: str) -> AptSource:
    """Return the source that a user wrote as one line of sources.list(5). Its key is a file of the host. Raise UsageError."""
    match = _LINE.fullmatch(line.strip())
    source = next(_one_line(line), None)
    if source is None or match is None:
        raise UsageError(
            f"--repo {line!r} is no line of sources.list(5)", hint="Write 'deb [signed-by=FILE] URL SUITE COMPONENTS'."
        )
    if not source.is_asked:
        raise UsageError(
            f"--repo {source.shown}: packages are fetched by http and https only",
            hint="Of packages on this machine, name the folder: --repo FOLDER.",
        )
    if source.signed_by and not all(Path(word).is_file() for word in source.signed_by.split(",") if "/" in word):
        raise UsageError(f"--repo {source.shown}: there is no key file {source.signed_by} on this machine")
    options = dict(word.split("=", 1) for word in (match[1] or "").split() if "=" in word)
    return AptSource(
        source.uri,
        source.suite,
        source.components,
        source.archs,
        source.signed_by,
        options.get("trusted", "no").lower() in ("yes", "true", "1"),
    )


_LINE = re.compile(r"deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s*(.*)")


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.split("\n") if not line.startswith("#"))


def _one_line(line: str) -> Iterator[AptSource]:
    match = _LINE.fullmatch(line.partition("#")[0].strip())
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


def stanza(source: AptSource, signed_by: str) -> str:
    """Return a source as a deb822 paragraph; `signed_by` is what it is in the private root."""
    fields = {
        "Types": "deb",
        "URIs": source.uri,
        "Suites": source.suite,
        "Components": " ".join(source.components),
        "Architectures": " ".join(source.archs),
        "Signed-By": signed_by,
        "Trusted": "yes" if source.trusted else "",
    }
    return "".join(f"{name}: {value}\n" for name, value in fields.items() if value)


def guests_keys(files: Files, root: Root, signed_by: str, number: int) -> str:
    """Return Signed-By for the private root: a fingerprint as it is, an inline key and the guest's key files as copies."""
    if "-----BEGIN" in signed_by:
        return _inline_key(root, signed_by, number)
    words = []
    for index, word in enumerate(filter(None, re.split(r"[\s,]+", signed_by.strip()))):
        if word.startswith("/"):
            name = _key_name(word, number, index)
            root.copy(files, word, name)
            words.append(f"{INSIDE}/{name}")
        else:
            words.append(word)
    return " ".join(words)


def hosts_keys(root: Root, signed_by: str, number: int) -> str:
    """Return Signed-By for the private root, of key files of the host that the user named. Raise PackagesUnavailable."""
    words = []
    if "-----BEGIN" in signed_by:
        return _inline_key(root, signed_by, number)
    for index, word in enumerate(filter(None, re.split(r"[\s,]+", signed_by))):
        if "/" not in word:
            words.append(word)
            continue
        name = _key_name(word, number, index)
        try:
            with Path(word).open("rb") as file:
                root.write(name, file.read(MOST_KEY_BYTES))
        except OSError as error:
            raise PackagesUnavailable(f"the key file {word} cannot be read: {error.strerror}") from error
        words.append(f"{INSIDE}/{name}")
    return " ".join(words)


def _inline_key(root: Root, text: str, number: int) -> str:
    """A key that stands in the sources themselves; a dot is its empty line. Source: sources.list(5), "Signed-By"."""
    lines = (line.strip() for line in text.strip().split("\n"))
    root.write(f"keys/{number}.asc", "".join("\n" if line == "." else f"{line}\n" for line in lines))
    return f"{INSIDE}/keys/{number}.asc"


def _key_name(path: str, number: int, index: int) -> str:
    return f"keys/{number}-{index}{'.asc' if path.endswith('.asc') else '.gpg'}"
