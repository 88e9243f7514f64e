"""The repositories that an RPM guest has of its own, read from its files: those of dnf, yum and zypper.

Only what says where packages are and how they are verified is taken; proxies, commands and plugins of the guest are not.
Sources: dnf.conf(5), yum.conf(5), zypper(8) "Repository management", github.com/openSUSE/libzypp zypp/RepoInfo.h.
"""

import configparser
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from migrate.guests.paths import Files, resolved
from migrate.guests.system import text_of

YUM = "/etc/yum.repos.d"
ZYPP = "/etc/zypp/repos.d"
VARIABLES = ("/etc/yum/vars", "/etc/dnf/vars", "/etc/zypp/vars.d")
SETTINGS = ("/etc/yum.conf", "/etc/dnf/dnf.conf")

TRUE = frozenset({"1", "yes", "true", "on", "enabled"})

CLIENT_CERTIFICATE = (
    "it asks for the client certificate {}, which counts only where it was given out "
    "(RHUI answers only inside its cloud, a subscription only its own machine)"
)


@dataclass(frozen=True, slots=True)
class RpmSource:
    """A repository. Places hold variables ($releasever) as the guest wrote them; `keys` are paths in the guest.

    `gpgcheck` says that packages must be signed, `repo_gpgcheck` that the metadata must be. `refused` says why it cannot be used from
    here; "" where it can. `kept` are the packages that alone are taken from it, `left_out` those that are not.
    """

    id: str
    baseurl: tuple[str, ...] = ()
    mirrorlist: str = ""
    metalink: str = ""
    gpgcheck: bool = True
    repo_gpgcheck: bool = False
    keys: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    module_hotfixes: bool = False
    priority: int = 99
    username: str = ""
    password: str = ""
    refused: str = ""


def sources_of(files: Files) -> tuple[RpmSource, ...]:
    """Read the guest's enabled repositories, in the order of their files; of two with one id the first counts."""
    found: dict[str, RpmSource] = {}
    default = TRUE if settings(files).get("gpgcheck", "0").lower() in TRUE else frozenset[str]()
    for folder, zypp in ((YUM, False), (ZYPP, True)):
        for name in files.names(resolved(files, folder)):
            if name.endswith(".repo"):
                for source in _parsed(text_of(files, f"{folder}/{name}") or "", bool(default), zypp):
                    found.setdefault(source.id, source)
    return tuple(found.values())


def settings(files: Files) -> Mapping[str, str]:
    """Return the [main] section of dnf.conf, or of yum.conf."""
    found: dict[str, str] = {}
    for path in SETTINGS:
        parser = _ini(text_of(files, path) or "")
        if parser.has_section("main"):
            found |= dict(parser.items("main"))
    return found


def excluded(files: Files) -> tuple[str, ...]:
    """Return the packages that the guest's settings keep out: excludes of dnf and yum, locks of zypper."""
    main = settings(files)
    locks = re.findall(r"^solvable_name:\s*(\S+)", text_of(files, "/etc/zypp/locks") or "", re.MULTILINE)
    return (*_words(main.get("excludepkgs", "")), *_words(main.get("exclude", "")), *locks)


def variables(files: Files) -> dict[str, str]:
    """Return the variables that the guest defines for its repositories: name → the first line of the file of that name."""
    found = {}
    for folder in VARIABLES:
        for name in files.names(resolved(files, folder)):
            text = text_of(files, f"{folder}/{name}")
            if text is not None and re.fullmatch(r"\w+", name):
                found[name] = text.split("\n")[0].strip()
    return found


def _parsed(text: str, gpgcheck: bool, zypp: bool) -> Iterator[RpmSource]:
    parser = _ini(text)
    for id in parser.sections():
        if not re.fullmatch(r"[\w.:+-]+", id):
            continue
        values = dict(parser.items(id))
        if values.get("enabled", "1").lower() in TRUE:
            yield _source(id, values, gpgcheck, zypp)


def _source(id: str, values: Mapping[str, str], gpgcheck: bool, zypp: bool) -> RpmSource:
    def told(name: str, default: bool) -> bool:
        return values[name].lower() in TRUE if name in values else default

    # zypp verifies the metadata, whose checksums then speak for the packages; packages themselves only where it was asked for by name.
    checked = told("gpgcheck", True) if zypp else told("gpgcheck", gpgcheck)
    places = _words(values.get("baseurl", ""))
    return RpmSource(
        id,
        tuple(place for place in places if _asked(place)),
        values.get("mirrorlist", ""),
        values.get("metalink", ""),
        gpgcheck=told("pkg_gpgcheck", False) if zypp else checked,
        repo_gpgcheck=told("repo_gpgcheck", checked if zypp else False),
        keys=tuple(key.removeprefix("file://") for key in _words(values.get("gpgkey", "")) if key.startswith("file:/")),
        left_out=(*_words(values.get("excludepkgs", "")), *_words(values.get("exclude", ""))),
        kept=_words(values.get("includepkgs", "")),
        module_hotfixes=told("module_hotfixes", False),
        priority=int(values["priority"]) if values.get("priority", "").isdecimal() else 99,
        username=values.get("username", ""),
        password=values.get("password", ""),
        refused=_refused(values, places),
    )


def _refused(values: Mapping[str, str], places: tuple[str, ...]) -> str:
    certificate = values.get("sslclientcert") or values.get("sslclientkey")
    if certificate:
        return CLIENT_CERTIFICATE.format(certificate)
    if values.get("type", "").lower() in ("yast2", "plaindir"):
        return f"it is of the kind {values['type']}, and only repositories with repodata/repomd.xml are read"
    if values.get("mirrorlist") or values.get("metalink") or any(map(_asked, places)):
        return ""
    if any(place.startswith("plugin:") for place in places):
        return (
            "its address is made by a plugin of its cloud's registration (SUSE's update servers answer only inside it)"
        )
    shown = " ".join(re.sub(r"//[^/@]*@|\?.*", "//", place).removesuffix("//") for place in places)
    return f"it is at {shown or 'no address at all'}, and only http and https are asked"


def _asked(place: str) -> bool:
    """A place that begins with a variable is looked at again once that has its value."""
    return place.startswith(("http://", "https://", "$"))


def _words(value: str) -> tuple[str, ...]:
    return tuple(word for word in re.split(r"[\s,]+", value) if word)


def _ini(text: str) -> configparser.RawConfigParser:
    """What does not parse is left out: a half of a file of repositories is better than none."""
    parser = configparser.RawConfigParser(
        strict=False, delimiters=("=",), comment_prefixes=("#", ";"), default_section="\0", allow_no_value=False
    )
    with suppress(configparser.Error):
        parser.read_string(text)
    return parser
