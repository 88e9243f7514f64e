"""What will be done to a VM, shown before it is done: on the screen, as JSON, as a page."""

from migrate.lines import Line
from migrate.preview.approval import Approval, approval
from migrate.preview.explained import explained, listed, meaning
from migrate.preview.inventory import inventory, inventory_json
from migrate.preview.json_schema import schema
from migrate.preview.page import html
from migrate.preview.preview import Occasion, Preview
from migrate.preview.screen import Screen, lines
from migrate.preview.values import ChangesValue, changes_json, changes_value, kept_changes, to_json

__all__ = [
    "Approval",
    "ChangesValue",
    "Line",
    "Occasion",
    "Preview",
    "Screen",
    "approval",
    "changes_json",
    "changes_value",
    "explained",
    "html",
    "inventory",
    "inventory_json",
    "kept_changes",
    "lines",
    "listed",
    "meaning",
    "schema",
    "to_json",
]
