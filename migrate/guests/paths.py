"""Paths inside a guest: text that is never handed to the host's own path resolution."""

from typing import Protocol

from migrate.errors import GuestError
from migrate.guest import Entry, Kind, Link

MOST_LINKS = 40
"""As many as the kernel follows in one path; more is a loop. Source: path_resolution(7)."""


class Files(Protocol):
    """The part of a Guest that reads files."""

    def kind(self, path: str) -> Kind: ...
    def load(self, path: str) -> Entry: ...
    def names(self, path: str) -> tuple[str, ...]: ...


def parts(path: str) -> tuple[str, ...]:
    """Split an absolute path; "/" has no parts. Raise GuestError where it is not absolute, or holds "..", "." or a NUL."""
    names = tuple(path.split("/")[1:]) if path != "/" else ()
    if not path.startswith("/") or "\0" in path or any(name in ("", ".", "..") for name in names):
        raise GuestError(f"{path!r} is not an absolute, plain path in the guest")
    return names


def parent(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def resolved(files: Files, path: str, *, last: bool = True) -> str:
    """Return the path with every link in it followed inside the guest; `last` says whether one at the end is followed too.

    A link that points above the root stays in the root, as in a chroot. What does not exist is kept as it is written. Raise GuestError on a loop.
    """
    todo = [name for name in reversed(path.split("/")) if name not in ("", ".")]
    at: list[str] = []
    followed = 0
    while todo:
        name = todo.pop()
        if name == "..":
            at = at[:-1]
            continue
        here = "/" + "/".join([*at, name])
        if (last or todo) and files.kind(here) is Kind.LINK:
            entry = files.load(here)
            if not isinstance(entry, Link):  # it changed under us
                raise GuestError(f"{here} in the guest was a link, and is none any more")
            followed += 1
            if followed > MOST_LINKS:
                raise GuestError(f"{path} in the guest leads through a loop of links at {here}")
            if entry.target.startswith("/"):
                at = []
            todo.extend(part for part in reversed(entry.target.split("/")) if part not in ("", "."))
        else:
            at.append(name)
    return "/" + "/".join(at)
