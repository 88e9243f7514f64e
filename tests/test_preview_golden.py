"""What a preview says of each guest in fixtures/guests is what a reviewer read there, and its JSON keeps to the schema."""

import json

import jsonschema
import pytest

from fixtures.guests import names
from fixtures.previews import FOLDER, SCHEMA, golden, made, text
from migrate import preview
from migrate.errors import MigrateError
from migrate.lines import WIDTH
from migrate.preview import Screen
from remediations import BUILTIN

AGAIN = "\nWhere this is what you meant:  .venv/bin/python -m fixtures.previews {name}\nand read the difference: git diff fixtures/previews"
PUBLISHED = json.loads(SCHEMA.read_text("utf-8"))


@pytest.mark.parametrize("name", names())
def test_the_preview_is_the_one_that_was_read(name: str) -> None:
    assert golden(name).exists(), AGAIN.format(name=name)
    assert text(name) == golden(name).read_text("utf-8"), AGAIN.format(name=name)


def test_no_preview_is_kept_of_a_guest_that_is_gone() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} <= set(names())


@pytest.mark.parametrize("name", names())
def test_the_json_of_each_guest_keeps_to_the_schema(name: str) -> None:
    try:
        found = made(name)
    except MigrateError:
        return  # no preview, no JSON: the golden text holds the refusal
    values = json.loads(json.dumps(preview.to_json(found)))
    jsonschema.Draft202012Validator(PUBLISHED).validate(values)
    assert values["changes"]["plan"] == found.changes.plan == values["changes"]["digest"][:8]
    assert len(values["changes"]["effects"]) == len(found.changes.effects)


@pytest.mark.parametrize("name", names())
def test_prose_keeps_to_the_width_of_the_screen(name: str) -> None:
    try:
        found = made(name)
    except MigrateError:
        return
    for width in (80, WIDTH):
        for line in preview.lines(found, BUILTIN, Screen(width)):
            prose = line.text.lstrip()
            is_path = max(map(len, prose.split()), default=0) > width - 50 or prose.startswith(
                ("edit ", "add ", "remove /", "link ")
            )
            assert len(line.text) <= width or line.text.startswith("    ") or is_path, line.text


def test_the_schema_that_is_published_is_the_models() -> None:
    assert preview.schema() == PUBLISHED, "Write it anew: .venv/bin/python -m fixtures.previews"
