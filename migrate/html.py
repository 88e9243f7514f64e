"""What all our pages share: foreign text is escaped and made visible, and nothing runs or styles but what a page names by its digest."""

import base64
import functools
import hashlib
import re
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from migrate.text import CONTROL, escaped, shown

_UNSEEN_IN_LINE = re.compile(f"{CONTROL.pattern}|[\t\n]")


@functools.cache
def environment(*folders: Path) -> Environment:
    """Return the templates of these folders; filters `visible` for foreign text, `line` for a foreign name, `address` for one in a URL, `quoted` for our own words."""
    made = Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["visible"] = visible
    made.filters["line"] = lambda text: visible(text, line=True)
    made.filters["address"] = address
    made.filters["quoted"] = quoted
    return made


@functools.cache
def asset(path: Path) -> str:
    return path.read_text("utf-8")


def policy(css: str, script: str, *more: str) -> str:
    """Return a page's policy: this sheet, this script, and no request. Source: Content Security Policy Level 3, hash sources."""
    rules = (
        "default-src 'none'",
        f"style-src '{_digest(css)}'",
        f"script-src '{_digest(script)}'",
        "base-uri 'none'",
        "form-action 'none'",
    )
    return "; ".join((*rules, *more))


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def visible(text: str, *, line: bool = False) -> Markup:
    """Return foreign text escaped for HTML, with what cannot be seen written out and marked; in a `line`, its ends and tabs too."""
    made: list[str] = []
    at = 0
    for match in (_UNSEEN_IN_LINE if line else CONTROL).finditer(text):
        made += escape(text[at : match.start()]), Markup('<b class="c">{}</b>').format(escaped(match.group()))
        at = match.end()
    return Markup("").join([*made, escape(text[at:])])


def address(name: str) -> str:
    """Return a foreign name as one part of a URL, or of an element's id."""
    return quote(shown(name), safe="")


def quoted(text: str) -> Markup:
    """Return our own sentence with what stands between backticks as code."""
    parts = (visible(part, line=True) for part in text.split("`"))
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else part for number, part in enumerate(parts)
    )
