"""Every code that a finding or a refusal can have, what it means, and what can be done about it: one register, the data of codes.yaml.

A code means one thing for ever: it is in plans, reports and `--waive` of operators. A new finding gets a new code; one that is gone keeps its own.
"""

import functools
from collections.abc import Collection, Mapping
from importlib.resources import files
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter

from migrate.effects import Severity
from migrate.errors import UsageError
from migrate.remediation import check_names


class Code(BaseModel):
    """What a code means. `title` completes "it tells that …"; `remedy` is what can be done in general, a finding's own is more exact.

    `by` names the remediations that may give it. `waivable` says why an error of this code may be waived; None where it may not. Warnings
    may always be.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    severity: Severity
    title: str
    about: str
    remedy: str
    by: tuple[str, ...] = ()
    waivable: str | None = None


class _Loader(yaml.SafeLoader):
    """YAML in which no key is there twice: PyYAML takes the last one silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise yaml.constructor.ConstructorError(None, None, f"{twice[0]} is there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read(text: str) -> Mapping[str, Code]:
    """Read a register. Raise yaml.YAMLError where a code is there twice, pydantic's ValidationError where one lacks something."""
    return TypeAdapter(dict[str, Code]).validate_python(yaml.load(text, _Loader))  # noqa: S506  (_Loader is a SafeLoader)


@functools.cache
def register() -> Mapping[str, Code]:
    """Return all codes with their meanings, in the file's order."""
    return read(files("migrate").joinpath("codes.yaml").read_text("utf-8"))


def check_waivers(given: Collection[str]) -> None:
    """Each code may be waived. Raise UsageError for the first that there is not, or that says what cannot be waived."""
    check_names("--waive", given, register(), "finding", "`magalu-migrate remediations codes` shows all.")
    for name in sorted(given):
        code = register()[name]
        if code.severity is Severity.ERROR and code.waivable is None:
            raise UsageError(
                f"--waive {name}: that {code.title} cannot be waived, because the machine would not come up or not be whole",
                hint=code.remedy,
            )
