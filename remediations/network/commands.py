"""Commands in a network's configuration that add addresses, routes and rules, in the words of the model.

Sources: ip-route(8), ip-rule(8), ip-address(8), route(8), ifconfig(8). What is not understood stays a command.
"""

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from remediations.network.model import Route, interface, network

_VARIABLES = re.compile(r"\$\{?(?:IFACE|DEVICE|INTERFACE|LOGICAL)\}?")


@dataclass(frozen=True, slots=True)
class Said:
    """What one command adds; all is empty where it adds nothing that we understand."""

    route: Route | None = None
    rule: str = ""
    address: str = ""


def said(command: str, name: str = "") -> Said:
    """Return what a command adds. `name` is the interface that it is run for."""
    try:
        words = shlex.split(_VARIABLES.sub(lambda _: name, command), comments=True)
    except ValueError:  # a quote that is never closed
        return Said()
    words = list(_first_of_several(words))
    while words and words[0].rpartition("/")[2] in ("sudo", "exec", "nice"):
        words = words[1:]
    if not words:
        return Said()
    match [words[0].rpartition("/")[2], *words[1:]]:
        case ["ip", *rest]:
            return _ip([word for word in rest if word not in ("-4", "-6", "-f", "inet", "inet6")], name)
        case ["route", *rest]:
            return _route([word for word in rest if word not in ("-A", "inet6", "inet", "-4", "-6")])
    return Said()


def route_of(words: list[str], name: str = "") -> Route:
    """Return the route that the words after `ip route add` are: also a line of EL's route-* files."""
    types = ("unicast", "blackhole", "unreachable", "prohibit", "local", "throw")
    kind = words[0] if words and words[0] in types[1:] else ""
    rest = iter(words[1:] if words and words[0] in types else words)
    to = network(next(rest, "")) if words else ""
    via, more = "", [kind] if kind else []
    for word in rest:
        if word == "via":
            via = next(rest, "")
            via = next(rest, "") if via in ("inet", "inet6") else via
        elif word == "dev":
            device = next(rest, "")
            more += ["dev", device] if device != name else []
        elif word not in ("proto", "protocol"):
            more.append(word)
        else:
            next(rest, "")
    return Route(to, via, " ".join(more))


def without_understood(commands: Iterable[str], name: str) -> tuple[str, ...]:
    """Return the commands that say something else, and the removals that go with none of what was understood."""
    return tuple(command for command in commands if said(command, name) == Said() and not _takes_back(command))


def _first_of_several(words: list[str]) -> Iterator[str]:
    for word in words:
        if word in ("||", "&&", ";", "|") or word.endswith(";"):
            if word.endswith(";") and word != ";":
                yield word[:-1]
            return
        if word in (">", "2>", ">/dev/null", "2>/dev/null", "&>/dev/null"):
            return
        yield word


def _takes_back(command: str) -> bool:
    return re.match(r"(\S*/)?(ip(\s+-[46])?\s+(route|rule|ro|ru|addr\w*|a|r)\s+del|route\s+del)\b", command) is not None


def _ip(words: list[str], name: str) -> Said:
    match words:
        case [thing, "add" | "append" | "replace" | "change" | "a", *rest] if rest and "route".startswith(thing):
            return Said(route=route_of(rest, name))
        case [thing, "add" | "a", *rest] if rest and "rule".startswith(thing) and thing != "r":
            return Said(rule=" ".join(rest))
        case [thing, "add" | "a" | "replace", address, *_] if "address".startswith(thing):
            return Said(address=interface(address))
    return Said()


def _route(words: list[str]) -> Said:
    match words:
        case ["add", "default", *rest]:
            return Said(route=_old_route("default", "", rest))
        case ["add", "-net" | "-host" as kind, to, *rest]:
            mask = dict(pairwise(rest)).get("netmask", "255.255.255.255" if kind == "-host" else "")
            return Said(route=_old_route(to, mask, rest))
        case ["add", to, *rest]:
            return Said(route=_old_route(to, "", rest))
    return Said()


def _old_route(to: str, mask: str, rest: list[str]) -> Route:
    pairs = dict(pairwise(rest))
    via = pairs.get("gw", "") or pairs.get("gateway", "")
    metric = f"metric {pairs['metric']}" if "metric" in pairs else ""
    return Route(network(to, mask), via, metric)
