"""Where the guest's package manager looks: the distribution's own public servers, and not those that only one cloud has.

Sources: dnf.conf(5), "[repo] Options" (baseurl, mirrorlist, metalink, enabled); zypper(8), libzypp's .repo files; sources.list(5), which also
describes deb822; apt-transport-mirror(1); cloud-init, cc_apt_configure and system_info: package_mirrors.
"""

import fnmatch
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from migrate.draft import Draft
from remediations.vendors.catalogue import Repositories, Vendor

REPOSITORIES = (
    "/etc/yum.repos.d/*.repo",
    "/etc/dnf/repos.d/*.repo",
    "/etc/zypp/repos.d/*.repo",
    "/etc/zypp/services.d/*.service",
)
APT = ("/etc/apt/sources.list", "/etc/apt/sources.list.d/*.list", "/etc/apt/sources.list.d/*.sources")
MIRRORED = (
    *APT,
    "/etc/apt/mirrors/*.list",
    "/etc/apt/*mirrors.txt",
    "/etc/cloud/cloud.cfg",
    "/etc/cloud/cloud.cfg.d/*.cfg",
)
LOCATIONS = frozenset({"baseurl", "mirrorlist", "metalink", "url"})
OFF = frozenset({"0", "no", "false", "off"})


@dataclass(frozen=True, slots=True)
class Section:
    """A section of a .repo file: its lines as they are written, the head first. A head of "" is what stands before the first one."""

    lines: tuple[str, ...]

    @property
    def is_repository(self) -> bool:
        return self.lines[0].startswith("[") and self.lines[0].strip() != "[main]"

    @property
    def enabled(self) -> bool:
        said = [value for key, value in self._settings() if key == "enabled"]
        return self.is_repository and (not said or said[-1].lower() not in OFF)

    @property
    def servers(self) -> tuple[str, ...]:
        """Where it fetches from: hosts, and what names none as "scheme:/path"."""
        words = (word for key, value in self._settings() if key in LOCATIONS for word in re.split(r"[\s,]+", value))
        return tuple(_server(word) for word in words if ":" in word)

    def switched_off(self) -> "Section":
        lines = [re.sub(r"(?i)^(enabled\s*[=:]\s*)[^\r\n]*", r"\g<1>0", line) for line in self.lines]
        if not any(re.match(r"(?i)enabled\s*[=:]", line) for line in lines):
            end = lines[0][len(lines[0].rstrip("\r\n")) :] or "\n"
            lines = [lines[0].rstrip("\r\n") + end, f"enabled=0{end}", *lines[1:]]
        return Section(tuple(lines))

    def _settings(self) -> Iterator[tuple[str, str]]:
        """Keys with their values; a line that begins with space goes on with the value before it."""
        key = ""
        for line in self.lines[1:]:
            text = line.strip()
            if not text or text.startswith(("#", ";")):
                continue
            found = None if line[0] in " \t" and key else re.match(r"([A-Za-z0-9_.-]+)\s*[=:]\s*(.*)", text)
            key = found[1].lower() if found else key
            yield key, found[2] if found else text


def sections(text: str) -> tuple[Section, ...]:
    """Return a .repo file in pieces, whole."""
    pieces: list[list[str]] = [[""]]
    for line in text.splitlines(keepends=True):
        if line.startswith("["):
            pieces.append([line])
        else:
            pieces[-1].append(line)
    return tuple(Section(tuple(lines)) for lines in pieces)


def without_servers(text: str, patterns: Sequence[str]) -> str:
    """Return a .repo file whose repositories on such servers are switched off."""
    kept = (section.switched_off() if _is_on(section, patterns) else section for section in sections(text))
    return "".join(line for section in kept for line in section.lines)


def switch_off(draft: Draft, vendor: Vendor, left_alone: Callable[[str], bool]) -> None:
    """No repository of yum, dnf or zypper asks a server of the vendor's, but those in files that go later."""
    for group in vendor.repositories:
        for path in switched_on(draft, group):
            if not left_alone(path):
                draft.edit(path, _without(group.hosts), why=group.why)


def switched_on(draft: Draft, group: Repositories) -> tuple[str, ...]:
    """Return the files with repositories of a group that are switched on, none where they are the distribution's own."""
    if draft.os.id in group.own:
        return ()
    return tuple(
        path
        for pattern in REPOSITORIES
        for path in draft.glob(pattern)
        if any(_is_on(section, group.hosts) for section in sections(draft.read(path) or ""))
    )


def public(text: str, mirrors: dict[str, str]) -> str:
    """Return the text where what is no comment names public hosts in its URLs; ports, paths and all else stay as they are."""
    lines = (line if line.lstrip().startswith("#") else _public_line(line, mirrors) for line in text.split("\n"))
    return "\n".join(lines)


def use_public(draft: Draft, vendor: Vendor) -> None:
    """apt, and cloud-init where it writes apt's sources, ask the distribution's public servers."""
    for path in mirrored(draft, vendor):
        draft.edit(
            path,
            lambda text: public(text, vendor.mirrors),
            why=f"asks a server of {vendor.name}'s, which need not answer elsewhere",
        )


def mirrored(draft: Draft, vendor: Vendor) -> tuple[str, ...]:
    """Return the files that name servers of the vendor's in place of public ones."""
    found = (path for pattern in MIRRORED for path in draft.glob(pattern)) if vendor.mirrors else ()
    return tuple(
        path for path in found if (text := draft.read(path)) is not None and public(text, vendor.mirrors) != text
    )


def goes_later(path: str, vendors: Sequence[Vendor]) -> bool:
    """Whether a file goes with the client of its repositories, if no package owns it."""
    groups = (group for vendor in vendors for group in vendor.leftovers if group.last)
    return any(fnmatch.fnmatchcase(path, pattern) for group in groups for pattern in group.paths)


def nothing_is_left(draft: Draft, vendors: Sequence[Vendor]) -> bool:
    """Whether the guest's package manager has no repository that is switched on and stays."""
    found = (path for pattern in REPOSITORIES for path in draft.glob(pattern) if not goes_later(path, vendors))
    if any(section.enabled for path in found for section in sections(draft.read(path) or "")):
        return False
    return not any(_has_source(draft.read(path) or "") for pattern in APT for path in draft.glob(pattern))


def _without(hosts: Sequence[str]) -> Callable[[str], str]:
    return lambda text: without_servers(text, hosts)


def _is_on(section: Section, patterns: Sequence[str]) -> bool:
    return section.enabled and any(
        fnmatch.fnmatchcase(server, pattern) for server in section.servers for pattern in patterns
    )


def _server(url: str) -> str:
    """Return a URL's host in lower case, and "plugin:/susecloud" of one that names none."""
    try:
        parts = urlsplit(url)
        return (parts.hostname or f"{parts.scheme}:{parts.path}").lower()
    except ValueError:  # a bracket that is no address
        return ""


def _public_line(line: str, mirrors: dict[str, str]) -> str:
    for host, instead in mirrors.items():
        line = re.sub(rf"(://(?:[^\s/@]*@)?)(?i:{host})(?=[:/\s\"'\],}}]|$)", rf"\g<1>{instead}", line)
    return line


def _has_source(text: str) -> bool:
    """Whether a file of apt's names a source, in either form."""
    if re.search(r"^\s*deb\s", text, re.MULTILINE):
        return True
    return any(
        re.search(r"^URIs:\s*\S", stanza, re.MULTILINE | re.IGNORECASE)
        and not re.search(r"^Enabled:\s*(no|false)", stanza, re.MULTILINE | re.IGNORECASE)
        for stanza in re.split(r"\n\s*\n", text)
    )
