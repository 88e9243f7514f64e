"""What will be done to a VM, shown before it is done: on the screen, as JSON, as a page."""

from migrate.lines import Line
from migrate.preview.explained import explained, listed, meaning
from migrate.preview.inventory import inventory, inventory_json
from migrate.preview.preview import Preview
from migrate.preview.screen import lines
from migrate.preview.values import changes_json, to_json

__all__ = [
    "Line",
    "Preview",
    "changes_json",
    "explained",
    "inventory",
    "inventory_json",
    "lines",
    "listed",
    "meaning",
    "to_json",
]
