"""YAML as text: read it, and cut keys out of it without losing what its author wrote beside them.

A parser tells where each key begins and ends, and only those characters go. Loading and dumping the whole file, with ruamel.yaml
too, changes quotes, indents and line lengths everywhere, and whoever reads the preview would have to read all of that.
"""

from collections.abc import Callable, Iterator
from typing import Any

import yaml

Unwanted = Callable[[tuple[str, ...], Any], bool]
"""Whether a key is to go, by its path, ("datasource", "Ec2"), and its value."""

Span = tuple[int, int]
Pair = tuple[yaml.Node, yaml.Node]


MOST_TEXT = 1 << 20
MOST_NODES = 100_000
"""A configuration is far smaller; a hostile one can be a few lines whose aliases multiply to billions of nodes."""


class Unreadable(ValueError):
    """The text is not YAML, has no mapping at its top, or no key can be cut out of it."""


def mapping(text: str) -> dict[str, Any]:
    """Return the mapping that the text holds, {} where it holds only comments. Raise Unreadable."""
    if len(text) > MOST_TEXT:
        raise Unreadable(f"it has more than {MOST_TEXT:,} characters")
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if _weight(node, {}) > MOST_NODES:
            raise Unreadable(f"its aliases make more than {MOST_NODES:,} nodes of it")
        value = None if node is None else loader.construct_document(node)
    except Unreadable:
        raise
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: the 31st of February
        raise Unreadable(_reason(error)) from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Unreadable(f"it holds a {type(value).__name__} where a mapping should be")
    return value


def without(text: str, unwanted: Unwanted) -> str:
    """Return the text without the unwanted keys and what they hold; a key whose last inner key goes, goes too. Raise Unreadable.

    Comments stay, but for those inside of what goes.
    """
    before = mapping(text)
    root = yaml.compose(text, yaml.SafeLoader)
    spans = _cuts(root, before, unwanted, (), text) if isinstance(root, yaml.MappingNode) else []
    for start, end in sorted(spans, reverse=True):
        text = text[:start] + text[end:]
    try:
        sound = mapping(text) == _pruned(before, unwanted, ())
    except Unreadable:
        sound = False
    if not sound:  # an anchor that something else names, for one
        raise Unreadable("its keys lean on each other, so that none can be cut out of it")
    return text


def _reason(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return "it is nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())


def _weight(node: yaml.Node | None, known: dict[int, int]) -> int:
    """Return how many nodes there are when each alias is a copy."""
    if node is None or id(node) in known:
        return known.get(id(node), 0)
    known[id(node)] = MOST_NODES + 1  # what holds itself never ends
    inner: list[yaml.Node] = []
    match node:
        case yaml.MappingNode(value=pairs):
            inner = [each for pair in pairs for each in pair]
        case yaml.SequenceNode(value=items):
            inner = items
    known[id(node)] = 1 + sum(_weight(each, known) for each in inner)
    return known[id(node)]


def _pruned(value: dict[str, Any], unwanted: Unwanted, path: tuple[str, ...]) -> dict[str, Any]:
    kept = {}
    for key, inner in value.items():
        here = (*path, str(key))
        if unwanted(here, inner):
            continue
        rest = _pruned(inner, unwanted, here) if isinstance(inner, dict) else inner
        if rest or not inner:
            kept[key] = rest
    return kept


def _cuts(
    node: yaml.MappingNode, value: dict[str, Any], unwanted: Unwanted, path: tuple[str, ...], text: str
) -> list[Span]:
    """Return which characters of a mapping go: pieces of its keys, or whole keys."""
    spans: list[Span] = []
    pairs: list[Pair] = node.value
    gone: set[int] = set()
    for number, (key, inner) in enumerate(pairs):
        content = value.get(key.value)
        here = (*path, str(key.value))
        if unwanted(here, content):
            gone.add(number)
        elif isinstance(inner, yaml.MappingNode) and isinstance(content, dict) and content:
            if _pruned(content, unwanted, here):
                spans += _cuts(inner, content, unwanted, here, text)
            else:
                gone.add(number)
    if node.flow_style:
        return spans + _in_braces(pairs, gone)
    return spans + [_lines(*pairs[number], text) for number in gone]


def _in_braces(pairs: list[Pair], gone: set[int]) -> list[Span]:
    """Each goes up to the next key; those at the end go with the comma before them."""
    kept = [number for number in range(len(pairs)) if number not in gone]
    last = kept[-1] if kept else -1
    spans = [
        (int(pairs[number][0].start_mark.index), int(pairs[number + 1][0].start_mark.index))
        for number in gone
        if number < last
    ]
    if last + 1 < len(pairs):
        start = _end(*pairs[last]) if kept else int(pairs[0][0].start_mark.index)
        spans.append((start, _end(*pairs[-1])))
    return spans


def _lines(key: yaml.Node, inner: yaml.Node, text: str) -> Span:
    """Whole lines: a key in block style is the first on its line, and nothing but a comment follows its value."""
    start, end = key.start_mark.index - key.start_mark.column, _end(key, inner)
    if end > 0 and text[end - 1] == "\n":  # a block scalar ends behind its line
        return start, end
    line_end = text.find("\n", end)
    return start, len(text) if line_end < 0 else line_end + 1


def _end(key: yaml.Node, inner: yaml.Node) -> int:
    """Where a value's last character is. A block's own mark lies behind the comments that follow it."""
    last = max(_last_marks(inner), default=0)
    return max(last, int(key.end_mark.index))


def _last_marks(node: yaml.Node) -> Iterator[int]:
    match node:
        case yaml.MappingNode(flow_style=False, value=[*_, (key, inner)]):
            yield _end(key, inner)
        case yaml.SequenceNode(flow_style=False, value=[*_, item]):
            yield from _last_marks(item)
        case _:
            yield int(node.end_mark.index)
