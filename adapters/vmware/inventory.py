"""The VMs of a vCenter or ESXi, read with one question of the property collector, in pages.

Source: vSphere Web Services SDK programming guide, "PropertyCollector" and "ContainerView".
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any
from urllib.parse import quote, unquote

from pyVmomi import vim, vmodl

from adapters.vmware.machine import PROPERTIES, Machine, machine
from adapters.vmware.session import FOREIGN, Session
from migrate.errors import SourceError

PAGE = 200
"""Objects in one answer; a vCenter may give fewer."""

LONGEST_PATH = 64
Query = vmodl.query.PropertyCollector
WITHOUT_DETOUR = "vm"
"""The folder below each datacenter that holds its VMs: govc prints it, the web client does not show it."""


@dataclass(frozen=True, slots=True)
class _Node:
    """A folder, datacenter or vApp."""

    name: str
    parent: str | None
    is_datacenter: bool


def machines(session: Session) -> tuple[Machine, ...]:
    """Return every VM that the user may see, by its path."""
    with _view(session) as view:
        told = dict(_properties(session, view))
    nodes = {ref: _node(ref, values) for ref, values in told.items() if not isinstance(ref, vim.VirtualMachine)}
    by_id = {ref._moId: node for ref, node in nodes.items()}
    fields = _fields(session)
    found = []
    for ref, values in told.items():
        if isinstance(ref, vim.VirtualMachine):
            path, datacenter = _path(values, by_id)
            found.append(machine(ref._moId, values, path, datacenter, fields))
    return tuple(sorted(found, key=lambda one: one.path))


def read_again(session: Session, known: Machine) -> Machine:
    """Return the VM as it is now, at the place where it was. Raise SourceError where it has gone."""
    spec = Query.FilterSpec(
        objectSet=[Query.ObjectSpec(obj=vim.VirtualMachine(known.ref, session.stub))],
        propSet=[Query.PropertySpec(type=vim.VirtualMachine, pathSet=list(PROPERTIES))],
    )
    collector = session.content.propertyCollector
    answer = session.call(
        f"read the VM {known.name}", lambda: collector.RetrievePropertiesEx([spec], Query.RetrieveOptions())
    )
    if answer is None or not answer.objects:
        raise SourceError(f"the VM {known.name} ({known.ref}) is not there any more")
    values = {prop.name: prop.val for prop in answer.objects[0].propSet}
    return machine(known.ref, values, known.path, known.datacenter, _fields(session))


def chosen(all_of_them: Iterable[Machine], parts: tuple[str, ...]) -> tuple[Machine, ...]:
    """Return the VMs that an address names: by path, with or without the folder "vm", globs included; by name alone; or all of a folder."""
    known = tuple(all_of_them)
    if not parts:
        return known
    exact = tuple(one for one in known if any(path == parts for path in _paths(one)))
    if exact:
        return exact
    if len(parts) == 1:
        named = tuple(one for one in known if one.name == parts[0])
        if named:
            return named
        named = tuple(one for one in known if fnmatchcase(one.name, parts[0]))
        if named:
            return named
    matching = tuple(one for one in known if any(_matches(path, parts) for path in _paths(one)))
    if matching:
        return matching
    return tuple(one for one in known if any(_matches(path[: len(parts)], parts) for path in _paths(one)))


def address(host: str, one: Machine) -> str:
    return f"vmware://{host}/{'/'.join(quote(part, safe='') for part in one.path)}"


def _paths(one: Machine) -> Iterator[tuple[str, ...]]:
    yield one.path
    if WITHOUT_DETOUR in one.path:
        at = one.path.index(WITHOUT_DETOUR)
        yield one.path[:at] + one.path[at + 1 :]


def _matches(path: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    return len(path) == len(parts) and all(fnmatchcase(*pair) for pair in zip(path, parts, strict=True))


@contextmanager
def _view(session: Session) -> Iterator[vim.view.ContainerView]:
    kinds = [vim.VirtualMachine, vim.Folder, vim.Datacenter, vim.VirtualApp]
    manager, root = session.content.viewManager, session.content.rootFolder
    view = session.call("list the inventory", lambda: manager.CreateContainerView(root, kinds, True))
    try:
        yield view
    finally:
        with suppress(*FOREIGN):  # it goes with the session at the latest
            view.DestroyView()


def _properties(session: Session, view: vim.view.ContainerView) -> Iterator[tuple[Any, Mapping[str, Any]]]:
    walk = Query.TraversalSpec(name="view", path="view", skip=False, type=vim.view.ContainerView)
    spec = Query.FilterSpec(
        objectSet=[Query.ObjectSpec(obj=view, skip=True, selectSet=[walk])],
        propSet=[
            Query.PropertySpec(type=vim.VirtualMachine, pathSet=list(PROPERTIES)),
            Query.PropertySpec(type=vim.Folder, pathSet=["name", "parent"]),
            Query.PropertySpec(type=vim.Datacenter, pathSet=["name", "parent"]),
            Query.PropertySpec(type=vim.VirtualApp, pathSet=["name", "parentFolder"]),
        ],
    )
    collector = session.content.propertyCollector
    asked = "list the inventory"
    answer = session.call(asked, lambda: collector.RetrievePropertiesEx([spec], Query.RetrieveOptions(maxObjects=PAGE)))
    while answer is not None:
        for one in answer.objects:
            yield one.obj, {prop.name: prop.val for prop in one.propSet}
        token = answer.token
        if not token:
            return
        answer = session.call(asked, partial(collector.ContinueRetrievePropertiesEx, token))


def _node(ref: Any, values: Mapping[str, Any]) -> _Node:
    parent = values.get("parent") or values.get("parentFolder")
    is_datacenter = isinstance(ref, vim.Datacenter)
    return _Node(unquote(str(values.get("name") or "?")), parent._moId if parent else None, is_datacenter)


def _path(values: Mapping[str, Any], nodes: Mapping[str, _Node]) -> tuple[tuple[str, ...], str]:
    """The VM's path, and its datacenter's. The root folder is not in the view, and not in paths."""
    parts = [unquote(str(values.get("name") or "?"))]
    folder = values.get("parent") or values.get("parentVApp")
    here: str | None = folder._moId if folder else None
    datacenter: list[str] = []
    while here is not None and here in nodes and len(parts) < LONGEST_PATH:
        node = nodes[here]
        parts.append(node.name)
        if node.is_datacenter or datacenter:
            datacenter.append(node.name)
        here = node.parent
    return tuple(reversed(parts)), "/".join(reversed(datacenter))


def _fields(session: Session) -> dict[int, str]:
    """The names of custom attributes by their key. An ESXi has none."""
    manager = session.content.customFieldsManager
    if manager is None:
        return {}
    try:
        return {field.key: field.name for field in session.call("read custom attributes", lambda: manager.field) or ()}
    except SourceError:  # worth nothing to the move
        return {}
