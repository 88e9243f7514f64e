"""The user and password of a vCenter or ESXi: from a file, or from the variables that govc and other tools of vSphere read.

Sources: govc's manual (GOVC_URL, GOVC_USERNAME, GOVC_PASSWORD); Terraform's provider (VSPHERE_USER, VSPHERE_PASSWORD, VSPHERE_SERVER).
"""

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from migrate.errors import UsageError
from migrate.secret import Secret
from migrate.text import one_line

FILE_ENV = "MAGALU_MIGRATE_VSPHERE_FILE"


@dataclass(frozen=True, slots=True)
class Credentials:
    user: str
    password: Secret


@dataclass(frozen=True, slots=True)
class _Place:
    """One place's answer. `server` is the only one that it is for, None where it does not say."""

    names: tuple[str, str]
    user: str | None
    password: Secret | None
    server: str | None


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    user: str
    password: str
    server: str | None = None


def find_credentials(environ: Mapping[str, str], server: str) -> Credentials:
    """Return the credentials for a server: the file's that is named, else govc's variables, else VSPHERE_….

    User and password are taken from one place. What is said to be for another server is never sent to this one. Raise UsageError
    that names all that is missing.
    """
    if file := environ.get(FILE_ENV):
        found = _of_file(Path(file))
        if _is_for(found, server):
            return _whole(found)
        raise UsageError(
            f"{FILE_ENV} holds the credentials of {one_line(str(found.server))}, and {one_line(server)} was asked for"
        )
    missing, passed = [], []
    for place in _places(environ):
        if not _is_for(place, server):
            passed.append(f"those for {one_line(str(place.server))} were left alone")
            continue
        if place.user and place.password:
            return _whole(place)
        lacks = [name for name, value in zip(place.names, (place.user, place.password), strict=True) if not value]
        missing.append(" and ".join(lacks))
    others = f" ({'; '.join(passed)})" if passed else ""
    raise UsageError(
        f"{one_line(server)}: user and password of vSphere are missing{others}: set {', or '.join(missing) or 'GOVC_USERNAME and GOVC_PASSWORD'}",
        hint=f"Or name a file with `user` and `password` (YAML, mode 600): {FILE_ENV}=FILE",
    )


def _places(environ: Mapping[str, str]) -> Iterator[_Place]:
    url = environ.get("GOVC_URL", "")
    split = urlsplit(url if "//" in url else f"//{url}")
    user = environ.get("GOVC_USERNAME") or (unquote(split.username) if split.username else None)
    password = environ.get("GOVC_PASSWORD") or (unquote(split.password) if split.password else None)
    yield _Place(
        ("GOVC_USERNAME", "GOVC_PASSWORD"), user, Secret(password) if password else None, split.hostname or None
    )
    password = environ.get("VSPHERE_PASSWORD")
    yield _Place(
        ("VSPHERE_USER", "VSPHERE_PASSWORD"),
        environ.get("VSPHERE_USER"),
        Secret(password) if password else None,
        environ.get("VSPHERE_SERVER") or None,
    )


def _is_for(place: _Place, server: str) -> bool:
    return place.server is None or _host(place.server) == _host(server)


def _host(server: str) -> str | None:
    return urlsplit(f"//{server}").hostname


def _whole(place: _Place) -> Credentials:
    assert place.user and place.password  # noqa: S101 - the callers have looked
    return Credentials(place.user, place.password)


def _of_file(path: Path) -> _Place:
    shown = one_line(str(path))
    try:
        with path.open(encoding="utf-8") as file:
            status = os.fstat(file.fileno())
            text = file.read(64 << 10)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{FILE_ENV}: {shown} cannot be read ({error.__class__.__name__})") from None
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO) or status.st_uid not in (os.geteuid(), 0):
        raise UsageError(f"{FILE_ENV}: {shown} holds a password and others may read it", hint=f"chmod 600 {shown}")
    sound = _parsed(text)
    if sound is None or not sound.user or not sound.password:
        raise UsageError(f"{FILE_ENV}: {shown} is not what was wanted", hint="YAML or JSON with `user` and `password`.")
    return _Place(("user", "password"), sound.user, Secret(sound.password), sound.server)


def _parsed(text: str) -> _File | None:
    """The file as a value, None where it is not one. The libraries' errors quote the file, so they end here."""
    try:
        return _File.model_validate(yaml.safe_load(text))
    except (yaml.YAMLError, ValidationError):
        return None
