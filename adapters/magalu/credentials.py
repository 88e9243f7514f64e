"""The keys of Magalu Cloud: from the command line, the environment, or the files of the mgc CLI.

Names, folder and files are the mgc CLI's own (MagaluCloud/magalu v0.63.1: root.go, config.go, auth.go, profile_manager).
"""

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from adapters.magalu import regions
from migrate.errors import UsageError
from migrate.run import Note, Run
from migrate.secret import Secret


@dataclass(frozen=True, slots=True)
class Given:
    """What the command line says; it wins over everything else. None where it says nothing."""

    api_key: Secret | None = None
    key_id: Secret | None = None
    key_secret: Secret | None = None
    region: str | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """All that is needed to work in one region: an API key or an access token, and the key pair of object storage."""

    key_id: Secret
    key_secret: Secret
    api_key: Secret | None = None
    access_token: Secret | None = None
    region: str = regions.DEFAULT

    def __post_init__(self) -> None:
        if not self.api_key and not self.access_token:
            raise ValueError("credentials without an API key and without an access token")

    @property
    def headers(self) -> dict[str, str]:
        """The header that authorises a request. It holds the key: build it where the request is sent."""
        if self.api_key:
            return {"X-API-Key": self.api_key.reveal()}
        assert self.access_token is not None  # noqa: S101 - __post_init__ says so
        return {"Authorization": f"Bearer {self.access_token.reveal()}"}

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """Every text that must not be shown, for whoever shows foreign text."""
        return tuple(s for s in (self.api_key, self.access_token, self.key_id, self.key_secret) if s)


def find_credentials(given: Given, environ: Mapping[str, str], run: Run) -> Credentials:
    """Return the credentials: the command line's, else the environment's, else those of the mgc CLI's files.

    An API key wins over an access token. A key pair is taken whole from one place. A file that others may read is told as a
    warning. Raise UsageError that lists everything that is missing, with how to set it.
    """
    files = _MgcFiles(environ, run)
    api_key = given.api_key or _secret(environ, "MGC_API_KEY")
    access_token = None if api_key else _secret(environ, "MGC_ACCESS_TOKEN") or files.auth.secret("access_token")
    pair = _first_pair(
        (given.key_id, given.key_secret),
        (_secret(environ, "MGC_OBJ_KEY_ID"), _secret(environ, "MGC_OBJ_KEY_SECRET")),
        (_secret(environ, "MGC_ACCESS_KEY"), _secret(environ, "MGC_SECRET_KEY")),
        (files.auth.secret("access_key_id"), files.auth.secret("secret_access_key")),
    )
    missing = []
    if not api_key and not access_token:
        missing.append(
            "the API key (set MGC_API_KEY to a key from https://id.magalu.com/api-keys with the scopes virtual-machine.read and "
            "virtual-machine.write, or run `mgc auth login`)"
        )
    if pair is None:
        missing.append(
            "the key pair of object storage (set both MGC_OBJ_KEY_ID and MGC_OBJ_KEY_SECRET to the pair of an API key with the "
            "object-storage scopes, or run `mgc object-storage api-key create` and `mgc object-storage api-key set`)"
        )
    if missing or pair is None:
        raise UsageError(
            f"Magalu Cloud: missing: {'; '.join(missing)}.",
            hint=f"Looked in the environment and {files.folder}. --sandbox needs none.",
        )
    return Credentials(
        key_id=pair[0],
        key_secret=pair[1],
        api_key=api_key,
        access_token=access_token,
        region=given.region or environ.get("MGC_REGION") or files.cli.region or regions.DEFAULT,
    )


def _secret(environ: Mapping[str, str], name: str) -> Secret | None:
    text = environ.get(name, "").strip()
    return Secret(text) if text else None


def _first_pair(*pairs: tuple[Secret | None, Secret | None]) -> tuple[Secret, Secret] | None:
    """Half a pair is passed over: joined with another place's half it could only be refused."""
    for key_id, key_secret in pairs:
        if key_id and key_secret:
            return key_id, key_secret
    return None


class _MgcFile(BaseModel):
    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)


class _Auth(_MgcFile):
    access_token: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None

    def secret(self, name: str) -> Secret | None:
        text = getattr(self, name)
        return Secret(text) if text else None


class _Cli(_MgcFile):
    region: str | None = None


_File = TypeVar("_File", bound=_MgcFile)


class _MgcFiles:
    """The workspace of the mgc CLI that is in use."""

    def __init__(self, environ: Mapping[str, str], run: Run) -> None:
        self._run = run
        home = Path(environ.get("HOME") or Path.home())
        settings = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
        top = Path(environ.get("MGC_CONFIG_DIR") or settings / "mgc")
        self.folder = top / _workspace(top, environ)
        self.auth = self._read("auth.yaml", _Auth, secret=True)
        self.cli = self._read("cli.yaml", _Cli, secret=False)

    def _read(self, name: str, model: type[_File], *, secret: bool) -> _File:
        path = self.folder / name
        try:
            text = path.read_text()
            mode = path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return model()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"cannot read {path}: {error.__class__.__name__}.", hint="It is a file of the mgc CLI."
            ) from None
        if secret and mode & (stat.S_IRWXG | stat.S_IRWXO):
            self._run.tell(Note(f"{path} holds keys and others may read it: chmod 600 {path}", "warning"))
        sound = _parsed(text, model)
        if sound is None:
            raise UsageError(
                f"{path} is not what the mgc CLI writes.", hint="Repair it, or set the MGC_… variables instead."
            )
        return sound


def _parsed(text: str, model: type[_File]) -> _File | None:
    """The file as a value, None where it is not one. The libraries' errors quote the file, so they end here."""
    try:
        return model.model_validate(yaml.safe_load(text) or {})
    except (yaml.YAMLError, ValidationError):
        return None


def _workspace(top: Path, environ: Mapping[str, str]) -> str:
    name = environ.get("MGC_WORKSPACE") or ""
    if not name:
        try:
            name = (top / "current").read_text().strip()
        except OSError:
            name = ""
    name = name or "default"
    if name in {".", ".."} or "/" in name or "\0" in name:
        raise UsageError(
            f"the mgc workspace {name!r} is not a folder's name.", hint="Set MGC_WORKSPACE, or mend the file `current`."
        )
    return name
