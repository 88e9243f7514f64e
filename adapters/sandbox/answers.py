"""Requests to the sandbox's API and the forms of its answers: Magalu's own errors, and FastAPI's for what does not validate."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered. `cut` closes the connection instead."""

    status: int
    body: JsonValue | bytes = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False


class Strict(BaseModel):
    """The body of a request."""

    model_config = ConfigDict(extra="ignore", strict=True, hide_input_in_errors=True)


class PageRequest(BaseModel):
    """The query of a list."""

    model_config = ConfigDict(extra="ignore", hide_input_in_errors=True)

    limit: int = Field(50, alias="_limit", gt=0, le=2147483647)
    offset: int = Field(0, alias="_offset", ge=0, le=2147483647)
    sort: str = Field("", alias="_sort", pattern=r"^([\w-]+:(asc|desc)(,[\w-]+:(asc|desc))*)?$")
    name: str | None = None


def page(key: str, found: list[JsonValue], asked: PageRequest) -> Reply:
    """Return one page of a list, as PageRequest asks for it."""
    part = found[asked.offset : asked.offset + asked.limit]
    meta: JsonValue = {"page": {"limit": asked.limit, "offset": asked.offset, "count": len(part), "total": len(found)}}
    return Reply(200, {key: part, "meta": meta})


def refusal(status: int, message: str, slug: str, headers: Mapping[str, str] | None = None) -> Reply:
    """ErrorMessageV1."""
    return Reply(status, {"message": message, "slug": slug}, headers or {})


def exception(status: int, message: str, slug: str) -> Reply:
    """ExceptionModel, the form of errors about instances."""
    return Reply(status, {"message": message, "slug": slug, "details": {}})


def invalid(error: ValidationError, where: str) -> Reply:
    """FastAPI's answer to what does not validate, without the input that it would quote."""
    findings: list[JsonValue] = [
        {"loc": [where, *found["loc"]], "msg": found["msg"], "type": found["type"]}
        for found in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    return Reply(422, {"detail": findings})


def not_uuid(id_: str) -> Reply | None:
    """Return the refusal of an id that is no UUID."""
    try:
        uuid.UUID(id_)
    except ValueError:
        return Reply(
            422, {"detail": [{"loc": ["path", "id"], "msg": "Input should be a valid UUID", "type": "uuid_parsing"}]}
        )
    return None
