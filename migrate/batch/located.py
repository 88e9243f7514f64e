"""YAML in which each value knows its place, and mistakes that are told with theirs.

A plain value is the text that is written: what it is read as is said by the model that takes it. YAML 1.1, which PyYAML follows, would make
`22:00` the number 1320 and `no` a false. Source: YAML 1.1, types int and bool; YAML 1.2, 10.3.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from migrate.errors import Mistake, Place
from migrate.text import one_line

MOST_BYTES = 8 << 20
DEEPEST = 12
"""Levels of lists and mappings. A batch file has five."""
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_UNREADABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")
_NOTHING = frozenset({"", "~", "null", "Null", "NULL"})
_SHARED = "Write what VMs share into `defaults`."


@dataclass(slots=True)
class Text:
    """A plain value. `is_void` where what is written could not be taken, which was told: nothing is to be said of it again."""

    place: Place
    text: str
    is_void: bool = False

    def plain(self) -> object:
        return self.text


@dataclass(slots=True)
class Items:
    place: Place
    items: "list[Node]" = field(default_factory=list)

    def plain(self) -> object:
        return [item.plain() for item in self.items]


@dataclass(slots=True)
class Mapping:
    """`keys` are the places of the keys."""

    place: Place
    values: "dict[str, Node]" = field(default_factory=dict)
    keys: dict[str, Place] = field(default_factory=dict)

    def plain(self) -> object:
        return {key: value.plain() for key, value in self.values.items()}


Node = Text | Items | Mapping


def at(node: Node, path: Sequence[str | int]) -> Node:
    """Return what is found along a path, as far as it leads."""
    for step in path:
        match node, step:
            case Mapping(values=values), str() if step in values:
                node = values[step]
            case Items(items=items), int() if 0 <= step < len(items):
                node = items[step]
            case _:
                break
    return node


def key_place(node: Node, path: Sequence[str | int]) -> Place:
    """Return where the last step of a path is written: its key, where it is one, else what it leads to."""
    parent = at(node, path[:-1])
    if path and isinstance(parent, Mapping) and path[-1] in parent.keys:
        return parent.keys[str(path[-1])]
    return at(node, path).place


def read(content: bytes) -> tuple[Node | None, tuple[Mistake, ...]]:
    """Return the one document of a file, None where there is none to be had, and every mistake in how it is written.

    Aliases, tags and merged keys are mistakes: what VMs share has its own place, and aliases of aliases would grow without bounds.
    """
    if len(content) > MOST_BYTES:
        return None, (Mistake(Place(1, 1), f"the file has {len(content):,} bytes; at most {MOST_BYTES:,} are read"),)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8", "replace")
        return None, (Mistake(_end_of(before), "what stands here is no UTF-8", "Save the file as UTF-8."),)
    unreadable = tuple(
        Mistake(_end_of(text[: found.start()]), f"the character {one_line(found.group())} cannot be in YAML")
        for found in _UNREADABLE.finditer(text)
    )
    if unreadable:
        return None, unreadable
    reader = _Reader(yaml.parse(text, Loader=_LOADER))
    try:
        root = reader.document()
    except yaml.MarkedYAMLError as error:
        return None, (*reader.mistakes, _unparsable(error))
    except _TooDeep:
        return None, tuple(reader.mistakes)
    return root, tuple(reader.mistakes)


class _TooDeep(Exception):
    pass


class _Reader:
    """Makes nodes of the parser's events, and goes on after a mistake wherever what follows can still be told."""

    def __init__(self, events: Iterator[Any]) -> None:
        self.mistakes: list[Mistake] = []
        self._events = events

    def document(self) -> Node | None:
        root: Node | None = None
        documents = 0
        for event in self._events:
            match event:
                case yaml.DocumentStartEvent():
                    documents += 1
                    if documents == 2:
                        self._wrong(_place(event), "a second document begins here; a batch is one")
                case yaml.NodeEvent():
                    node = self._node(event, 0)
                    root = node if documents == 1 else root
                case _:
                    pass
        if documents == 0:
            self.mistakes.append(Mistake(Place(1, 1), "the file is empty"))
        return root

    def _node(self, event: Any, depth: int) -> Node:
        place = _place(event)
        if depth > DEEPEST:
            self._wrong(place, f"lists and mappings are nested deeper than {DEEPEST} levels")
            raise _TooDeep
        if getattr(event, "tag", None) is not None:
            self._wrong(place, f"{one_line(event.tag)}: tags have no meaning here")
        match event:
            case yaml.MappingStartEvent():
                return self._mapping(place, depth)
            case yaml.SequenceStartEvent():
                return self._items(place, depth)
            case yaml.ScalarEvent():
                return Text(place, event.value, is_void=not event.style and event.value in _NOTHING)
            case _:
                self._wrong(place, "aliases (*) are not read", _SHARED)
                return Text(place, "", is_void=True)

    def _items(self, place: Place, depth: int) -> Items:
        made = Items(place)
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            item = self._node(event, depth + 1)
            if isinstance(event, yaml.ScalarEvent) and isinstance(item, Text) and item.is_void:
                self._wrong(item.place, "an item of the list is empty")
            made.items.append(item)
        return made

    def _mapping(self, place: Place, depth: int) -> Mapping:
        made = Mapping(place)
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._node(event, depth + 1)
            value_event = next(self._events)
            value = self._node(value_event, depth + 1)
            if not isinstance(key, Text):
                self._wrong(key.place, "a key must be a word")
            elif key.text in made.keys:
                first = made.keys[key.text].line
                self._wrong(key.place, f"`{one_line(key.text)}` is there twice; the first is in line {first}")
            elif key.text == "<<":
                if not isinstance(value_event, yaml.AliasEvent):
                    self._wrong(key.place, "<< is not read", _SHARED)
            else:
                if isinstance(value_event, yaml.ScalarEvent) and isinstance(value, Text) and value.is_void:
                    self._wrong(key.place, f"nothing stands behind `{one_line(key.text)}:`")
                made.keys[key.text] = key.place
                made.values[key.text] = value
        return made

    def _wrong(self, place: Place, text: str, hint: str | None = None) -> None:
        self.mistakes.append(Mistake(place, text, hint))


def _place(event: Any) -> Place:
    return Place(event.start_mark.line + 1, event.start_mark.column + 1)


def _end_of(text: str) -> Place:
    """Return the place behind a text."""
    return Place(text.count("\n") + 1, len(text) - (text.rfind("\n") + 1) + 1)


def _unparsable(error: yaml.MarkedYAMLError) -> Mistake:
    mark, context = error.problem_mark or error.context_mark, error.context_mark
    place = Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)
    is_above = context is not None and context.line + 1 < place.line
    began = f" ({error.context}, which begins in line {context.line + 1})" if context and is_above else ""
    return Mistake(
        place,
        f"this is no YAML: {error.problem}{began}",
        "Nothing below it could be read. A text with : or # or a * at its beginning stands in quotes; lines are indented by blanks.",
    )
