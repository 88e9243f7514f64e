"""What single words of a batch file may be: each is checked where it stands, with the nearest that there is."""

import difflib
import re
from collections.abc import Collection
from datetime import datetime, time
from pathlib import Path
from typing import Annotated, NoReturn
from zoneinfo import available_timezones

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError

from migrate import hidden
from migrate.address import parse as parse_address
from migrate.bandwidth import parse as parse_rate
from migrate.batch.file_paths import check_pattern, found_files, kind, within
from migrate.batch.template import FIELDS, check_template
from migrate.codes import check_waivers, register
from migrate.errors import MigrateError, UsageError
from migrate.text import one_line
from migrate.wiring.guests import REMEDIATIONS, offers
from migrate.wiring.regions import check_region
from migrate.wiring.sources import formats, is_live

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
FOLDER = "folder"
"""The batch file's own, which its paths begin in: in the context of a validation."""
_USER = re.compile(r"://[^/\s]*@")
_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_NO_PASSWORD = "an address holds no user and no password here: whoever reads the file would have them"  # noqa: S105
SECRETS_HINT = (
    "Names and keys of sources and of Magalu Cloud come from the environment; the README says which variables are read."
)
_REMEDIATIONS = tuple(remediation.name for remediation in REMEDIATIONS)


def wrong(text: str, hint: str | None = None) -> NoReturn:
    """Refuse a value, in words that are told as they are."""
    raise PydanticCustomError("said", "{text}", {"text": text, "hint": hint})


def nearest(word: str, known: Collection[str]) -> str:
    """Return "; did you mean …?" where something known is near, else nothing."""
    near = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {near[0]}?" if near else ""


def quoted(text: str) -> str:
    """Return foreign text as it may be told: in a line, without the secrets in it, not too long."""
    line = one_line(hidden.sentence(text))
    return f'"{line if len(line) <= 60 else line[:59] + "…"}"'


def _told(error: MigrateError) -> NoReturn:
    text = re.sub(r"^--[\w-]+ ", "", error.message)
    wrong(one_line(hidden.sentence(text)).rstrip("."), error.hint)


def _remediation(name: str) -> str:
    if name not in _REMEDIATIONS:
        hint = "`magalu-migrate remediations list` shows all."
        wrong(f"there is no remediation {quoted(name)}{nearest(name, _REMEDIATIONS)}", hint)
    return name


def _code(name: str) -> str:
    if name not in register():
        hint = "`magalu-migrate remediations codes` shows all."
        wrong(f"there is no finding {quoted(name)}{nearest(name.upper(), register())}", hint)
    try:
        check_waivers((name,))
    except UsageError as error:
        _told(error)
    return name


def _address(text: str) -> str:
    if _USER.search(text):
        wrong(_NO_PASSWORD, SECRETS_HINT)
    return text


def _source(text: str, info: ValidationInfo) -> str:
    _address(text)
    try:
        if is_live(text):
            for part in parse_address(text).parts:
                check_pattern(part)
        else:
            found_files(_folder(info), text)
    except UsageError as error:
        _told(error)
    return text if is_live(text) else str(within(_folder(info), text))


def _repo(text: str, info: ValidationInfo) -> str:
    if _USER.search(text):
        wrong(
            _NO_PASSWORD, "Let the repository be reached without one, or bring its packages: `magalu-migrate bundle`."
        )
    folder = within(_folder(info), text)
    text = str(folder) if "//" not in text and kind(folder) == "folder" else text
    try:
        offers((text,), (), offline=False)
    except MigrateError as error:
        _told(error)
    except (OSError, ValueError):  # it cannot even be the name of a folder
        wrong(f"{quoted(text)} is no repository")
    return text


def _bundle(text: str, info: ValidationInfo) -> Path:
    folder = within(_folder(info), text)
    try:
        offers((), (_is_folder(text, info),), offline=False)
    except MigrateError as error:
        _told(error)
    return folder


def _is_file(text: str, info: ValidationInfo) -> Path:
    path = within(_folder(info), text)
    if kind(path) != "file":
        wrong(f"there is no file {one_line(str(path))}")
    return path


def _is_folder(text: str, info: ValidationInfo) -> Path:
    path = within(_folder(info), text)
    if kind(path) != "folder":
        wrong(f"there is no folder {one_line(str(path))}")
    return path


def _ssh_key(text: str, info: ValidationInfo) -> str:
    return str(_is_file(text, info)) if text.endswith(".pub") else text


def _folder(info: ValidationInfo) -> Path:
    return Path((info.context or {})[FOLDER])


def _template(text: str) -> str:
    try:
        check_template(text)
    except UsageError as error:
        _told(error)
    return text


def _pattern(text: str) -> str:
    try:
        check_pattern(text)
    except UsageError as error:
        _told(error)
    return text


def _rate(text: str) -> int:
    try:
        return parse_rate(text)
    except UsageError as error:
        _told(error)


def _region(name: str) -> str:
    try:
        check_region(name)
    except UsageError as error:
        _told(error)
    return name


def _format(name: str) -> str:
    if name not in formats():
        wrong(f"{quoted(name)} is no format of a disk{nearest(name, formats())}", f"Known are {', '.join(formats())}.")
    return name


def _zone(name: str) -> str:
    zones = available_timezones()
    if name not in zones:
        hint = "Zones are IANA's, e.g. America/Sao_Paulo."
        wrong(f"there is no time zone {quoted(name)}{nearest(name, zones)}", hint)
    return name


def _clock(value: object) -> time:
    match = _CLOCK.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        wrong(f"{quoted(str(value))} is no time of day", "Write hours and minutes, e.g. 22:00.")
    return time(int(match[1]), int(match[2]))


def _moment(value: object) -> datetime:
    try:
        moment = datetime.fromisoformat(value if isinstance(value, str) else "")
    except ValueError:
        wrong(f"{quoted(str(value))} is no time", _MOMENT_HINT)
    if moment.tzinfo is None:
        wrong(f"{quoted(str(value))} does not say in which time zone", _MOMENT_HINT)
    return moment


_MOMENT_HINT = "Write it with its zone, e.g. 2026-12-01T22:00-03:00."


def _day(value: object) -> int:
    word = str(value).strip().lower()
    if word not in DAYS:
        wrong(f"{quoted(str(value))} is no day{nearest(word, DAYS)}", f"Days are {', '.join(DAYS)}.")
    return DAYS.index(word)


def _days(value: object) -> object:
    """A list of days as it is; "mon-fri" as the days from one to the other, past Sunday where it must be."""
    if not isinstance(value, str):
        return value
    first, dash, last = value.partition("-")
    begin, end = _day(first), _day(last if dash else first)
    return [DAYS[at % 7] for at in range(begin, end + 1 + (7 if end < begin else 0))]


_PATH = {"type": "string"}

RemediationName = Annotated[
    str, AfterValidator(_remediation), WithJsonSchema({"type": "string", "enum": list(_REMEDIATIONS)})
]
FindingCode = Annotated[str, AfterValidator(_code), WithJsonSchema({"type": "string", "enum": list(register())})]
SourceText = Annotated[
    str,
    AfterValidator(_source),
    WithJsonSchema({"type": "string", "examples": ["exports/*.ova", "vmware://vc1/DC0/prod/*"]}),
]
Repo = Annotated[str, AfterValidator(_repo), WithJsonSchema(_PATH)]
Bundle = Annotated[Path, BeforeValidator(_bundle), WithJsonSchema(_PATH)]
SshKey = Annotated[str, AfterValidator(_ssh_key)]
ExistingFile = Annotated[Path, BeforeValidator(_is_file), WithJsonSchema(_PATH)]
ExistingFolder = Annotated[Path, BeforeValidator(_is_folder), WithJsonSchema(_PATH)]
Pattern = Annotated[str, AfterValidator(_pattern)]
NameTemplate = Annotated[
    str,
    AfterValidator(_template),
    WithJsonSchema(
        {"type": "string", "pattern": rf"^([A-Za-z0-9_-]|\{{({'|'.join(FIELDS)})\}})+$", "examples": ["{name}-{date}"]}
    ),
]
Rate = Annotated[
    int, BeforeValidator(_rate), WithJsonSchema({"type": ["string", "integer"], "examples": ["20M"], "minimum": 0})
]
RegionName = Annotated[str, AfterValidator(_region), WithJsonSchema({"type": "string", "examples": ["br-se1"]})]
DiskFormat = Annotated[str, AfterValidator(_format), WithJsonSchema({"type": "string", "enum": list(formats())})]
Zone = Annotated[str, AfterValidator(_zone), WithJsonSchema({"type": "string", "examples": ["America/Sao_Paulo"]})]
Clock = Annotated[time, BeforeValidator(_clock), WithJsonSchema({"type": "string", "pattern": f"^({_CLOCK.pattern})$"})]
Moment = Annotated[
    datetime,
    BeforeValidator(_moment),
    WithJsonSchema({"type": "string", "examples": ["2026-12-01T22:00-03:00"]}),
]
Day = Annotated[int, BeforeValidator(_day), WithJsonSchema({"type": "string", "enum": list(DAYS)})]
Days = Annotated[
    tuple[Day, ...],
    BeforeValidator(_days),
    Field(min_length=1),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": f"^({'|'.join(DAYS)})(-({'|'.join(DAYS)}))?$"},
                {"type": "array", "items": {"type": "string", "enum": list(DAYS)}, "minItems": 1},
            ]
        }
    ),
]
