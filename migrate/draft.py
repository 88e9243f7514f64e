"""The guest as it would be: reads through to the guest, keeps writes to itself, records each real difference with its reason.

A remediation states what should hold, on a Draft, and never asks whether it is previewed or applied. A write that changes
nothing leaves no record. Paths may pass through links of the guest at any place: they are resolved inside the guest, through
what was drafted so far (`/lib/systemd` and `/usr/lib/systemd` are one place on a merged-/usr system).
"""

import fnmatch
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import PurePosixPath

from pydantic import JsonValue

from migrate.effects import (
    Changes,
    Edit,
    Effect,
    Fact,
    Finding,
    LayoutEdit,
    PackageEdit,
    RebuildRequest,
    Removal,
    Severity,
)
from migrate.errors import GuestError
from migrate.guest import (
    DropPartition,
    Entry,
    File,
    Folder,
    Guest,
    Kind,
    Layout,
    LayoutChange,
    Link,
    MakeSwapFile,
    Os,
    Package,
    PackageChange,
    Rebuild,
)

MOST_COUNTED = 10_000
"""As many entries of a folder that goes are counted; a folder may hold millions."""

LINK_LIMIT = 40
"""As many links as Linux follows in one path: path_resolution(7)."""


class Draft:
    def __init__(self, guest: Guest, *, changed: bool = False) -> None:
        """`changed` says that other drafts have changed the guest already."""
        self._guest = guest
        self._changed = changed
        self._entries: dict[str, Entry | None] = {}
        self._packages: dict[str, Package] | None = None
        self._children: dict[str, set[str]] = {}
        self._gone: set[str] = set()
        self._hidden: set[str] = set()
        self._dropped: set[tuple[int, int]] = set()
        self._folders: dict[str, str] = {}
        self._by = ""
        self._effects: list[Effect] = []
        self._findings: list[Finding] = []
        self._facts: list[Fact] = []

    # Who is at work

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Record what happens in the block under this remediation's name."""
        self._by = name
        try:
            yield
        finally:
            self._by = ""

    @property
    def changes(self) -> Changes:
        return Changes(tuple(self._effects), tuple(self._findings), tuple(self._facts))

    @property
    def changed(self) -> bool:
        """Whether anything was stated so far that the guest was not already, by this remediation or one before it."""
        return self._changed or bool(self._effects)

    # Reading

    @property
    def os(self) -> Os:
        return self._guest.os

    @property
    def layout(self) -> Layout:
        """The disks as they would be: without the partitions that were dropped so far."""
        layout = self._guest.layout
        if not self._dropped:
            return layout
        kept = tuple(fs for fs in layout.filesystems if (fs.disk, fs.partition) not in self._dropped)
        return Layout(kept, layout.root, layout.firmware, layout.disk_size, layout.table)

    @property
    def packages(self) -> Mapping[str, Package]:
        return self._guest.packages if self._packages is None else self._packages

    def files_of(self, package: str) -> frozenset[str]:
        """Return the paths that a package owns; of one that would only be installed nothing is known yet."""
        return self._guest.files_of(package) if package in self._guest.packages else frozenset()

    def kind(self, path: str) -> Kind:
        """What is at a path; a link at its end is not followed."""
        return self._kind(self._resolve(path, last=False))

    def real(self, path: str, *, last: bool = False) -> str | None:
        """Return where a path really is, links before its last part followed inside the guest; None where they lead in a circle.

        With `last`, one at its end is followed too.
        """
        try:
            return self._resolve(path, last=last)
        except GuestError:
            return None

    def exists(self, path: str) -> bool:
        """Whether following the path, links included, leads to something."""
        try:
            return self._kind(self._resolve(path)) is not Kind.MISSING
        except GuestError:
            return False

    def load(self, path: str) -> Entry | None:
        """Return what is at a path, a link at its end not followed; None where there is nothing."""
        return self._load(self._resolve(path, last=False))

    def file(self, path: str) -> File | None:
        """Return the regular file that the path leads to, links followed; None where it leads to none."""
        try:
            entry = self._load(self._resolve(path))
        except GuestError:  # a circle of links
            return None
        return entry if isinstance(entry, File) else None

    def read(self, path: str) -> str | None:
        """Return the text of the file that the path leads to; None where it leads to none."""
        file = self.file(path)
        return None if file is None else file.text

    def names(self, path: str) -> tuple[str, ...]:
        """Return the sorted names in a folder; () where there is none."""
        try:
            return self._names(self._resolve(path))
        except GuestError:  # a circle of links
            return ()

    def glob(self, pattern: str) -> tuple[str, ...]:
        """Return the sorted paths of files and links that match, each part of the pattern as in fnmatch(3).

        What lies behind a circle of links is not there.
        """
        found = [""]
        for part in filter(None, pattern.split("/")):
            if any(char in part for char in "*?["):
                found = [f"{base}/{name}" for base in found for name in self.names(base or "/") if _matches(name, part)]
            else:
                found = [f"{base}/{part}" for base in found]
        there = ((path, self.real(path)) for path in sorted(found))
        return tuple(path for path, real in there if real and self._kind(real) in (Kind.FILE, Kind.LINK))

    def walk(self, path: str) -> tuple[str, ...]:
        """Return everything below a folder, in order, a folder after its content; links are not followed."""
        found: list[str] = []
        for name in self.names(path):
            inner = f"{path.rstrip('/')}/{name}"
            if self.kind(inner) is Kind.FOLDER:
                found.extend(self.walk(inner))
            found.append(inner)
        return tuple(found)

    # Stating what should hold

    def write(self, path: str, content: str | bytes, *, why: str, mode: int | None = None) -> None:
        """The file that the path leads to has this content (and mode); missing folders are made.

        An existing file keeps its owner, and its mode where none is given; a new one is root's, 0644.
        """
        real = self._resolve(path)
        data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
        before = self._load(real)
        match before:
            case File(mode=old, uid=uid, gid=gid):
                after = File(data, old if mode is None else mode, uid, gid)
            case None:
                after = File(data, 0o644 if mode is None else mode)
            case _:
                raise GuestError(f"{self.os.pretty or 'the guest'}: {path} is not a file, so it cannot be written")
        self._put(real, before, after, why)

    def edit(self, path: str, change: Callable[[str], str], *, why: str) -> None:
        """The file's text is what `change` makes of it. Where there is no such file, nothing holds and nothing is recorded."""
        text = self.read(path)
        if text is not None:
            self.write(path, change(text), why=why)

    def link(self, path: str, target: str, *, why: str) -> None:
        """The path is a symbolic link to `target`; a file or link that was there is replaced."""
        real = self._resolve(path, last=False)
        before = self._load(real)
        if isinstance(before, Folder):
            raise GuestError(f"{path} is a folder, so it cannot become a link")
        self._put(real, before, Link(target), why)

    def remove(self, path: str, *, why: str) -> None:
        """Nothing is at the path; of a folder, nothing is left. A link goes, not what it points to."""
        real = self._resolve(path, last=False)
        kind = self._kind(real)
        if kind is Kind.MISSING:
            return
        inside = self._counted(real, MOST_COUNTED) if kind is Kind.FOLDER else 0
        self._take(real, kind)
        self._effects.append(Removal(self._by, why, real, kind, inside))

    def clear(self, path: str, *, why: str) -> None:
        """The folder is empty; the folder itself stays."""
        real = self._resolve(path)
        for name in self._names(real):
            self.remove(f"{real.rstrip('/')}/{name}", why=why)

    def plan_packages(
        self, *, install: tuple[str, ...] = (), remove: tuple[str, ...] = (), renew: tuple[str, ...] = ()
    ) -> PackageChange:
        """Return what the guest's package manager would do, without recording it. Raise PackagesUnavailable.

        Those to be installed that `renew` names are planned as if they were not there: what is offered of them takes the place of what is.
        """
        present = {name: package for name, package in self.packages.items() if name not in renew}
        return self._guest.plan_packages(install=install, remove=remove, installed=present)

    def change_packages(self, change: PackageChange, *, why: str) -> None:
        """The packages are installed and removed as planned; what only the removed ones own is gone, with the folders that this empties."""
        if not change.install and not change.remove:
            return
        packages = dict(self.packages)
        gone = frozenset[str]().union(*(self.files_of(package.name) for package in change.remove))
        for package in change.remove:
            packages.pop(package.name, None)
        kept = frozenset[str]().union(*(self.files_of(name) for name in packages)) if gone else frozenset()
        for path in gone - kept:
            real = self._resolve(path, last=False)
            if self._kind(real) in (Kind.FILE, Kind.LINK):
                self._hidden.add(real)
                self._hide_emptied(str(PurePosixPath(real).parent))
        packages.update({package.name: package for package in change.install})
        self._packages = packages
        self._effects.append(PackageEdit(self._by, why, change))

    def install(self, *names: str, why: str) -> None:
        self.change_packages(self.plan_packages(install=names), why=why)

    def purge(self, *names: str, why: str) -> None:
        self.change_packages(self.plan_packages(remove=names), why=why)

    def change_layout(self, change: LayoutChange, *, why: str) -> None:
        """The disk is divided so. A swap file that is there already is left as it is."""
        match change:
            case DropPartition(disk=disk, partition=partition):
                self._dropped.add((disk, partition))
            case MakeSwapFile(path=path):
                if self.exists(path):
                    return
                self._set(self._resolve(path), File(b"", 0o600))
        self._effects.append(LayoutEdit(self._by, why, change))

    def rebuild(self, what: Rebuild, *, why: str) -> None:
        self._effects.append(RebuildRequest(self._by, why, what))

    # Telling

    def find(self, code: str, text: str, *, remedy: str | None = None, severity: Severity = Severity.WARNING) -> None:
        """Tell the operator something; the same finding is told once."""
        finding = Finding(self._by, code, severity, text, remedy)
        if finding not in self._findings:
            self._findings.append(finding)

    def keep(self, name: str, text: str, data: JsonValue = None) -> None:
        """Keep what the guest was before for the report, in words, and as JSON where a program may want to build it again."""
        self._facts.append(Fact(self._by, name, text, data))

    # The layers

    def _put(self, real: str, before: Entry | None, after: Entry, why: str) -> None:
        if before == after:
            return
        self._make_folders(str(PurePosixPath(real).parent), why)
        self._set(real, after)
        self._hidden.discard(real)
        self._folders.clear()
        self._effects.append(Edit(self._by, why, real, before, after))

    def _set(self, real: str, entry: Entry | None) -> None:
        self._entries[real] = entry
        folder, _, name = real.rpartition("/")
        self._children.setdefault(folder or "/", set()).add(name)

    def _take(self, real: str, kind: Kind) -> None:
        """What is at the path is gone, with all that is in it, drafted or not."""
        if kind is Kind.FOLDER:
            for path in [path for path in self._entries if path.startswith(f"{real}/")]:
                del self._entries[path]
            for folder in [folder for folder in self._children if folder == real or folder.startswith(f"{real}/")]:
                del self._children[folder]
            self._gone.add(real)
        self._set(real, None)
        self._folders.clear()

    def _is_gone(self, real: str) -> bool:
        """Whether what the guest has at the path went with a folder above it, whatever was drafted there since."""
        while self._gone and real != "/":
            if real in self._gone:
                return True
            real = real.rpartition("/")[0] or "/"
        return False

    def _counted(self, real: str, most: int) -> int:
        """Return how many entries are in a folder and its folders, `most` where there are more."""
        names = self._names(real)
        count = len(names)
        for name in names:
            if count >= most:
                return most
            if self._kind(f"{real}/{name}") is Kind.FOLDER:
                count += self._counted(f"{real}/{name}", most - count)
        return min(count, most)

    def _hide_emptied(self, folder: str) -> None:
        """As dpkg and rpm do: a package's folders go with it, unless something else is in them."""
        while folder != "/" and self._kind(folder) is Kind.FOLDER and not self._names(folder):
            self._hidden.add(folder)
            folder = str(PurePosixPath(folder).parent)

    def _make_folders(self, real: str, why: str) -> None:
        kind = self._kind(real)
        if kind is Kind.FOLDER:
            return
        if kind is not Kind.MISSING:
            raise GuestError(f"{real} is a {kind.value}, where a folder was expected")
        self._make_folders(str(PurePosixPath(real).parent), why)
        self._set(real, Folder())
        self._effects.append(Edit(self._by, why, real, None, Folder()))

    def _kind(self, real: str) -> Kind:
        if real in self._entries:
            match self._entries[real]:
                case None:
                    return Kind.MISSING
                case File():
                    return Kind.FILE
                case Folder():
                    return Kind.FOLDER
                case Link():
                    return Kind.LINK
        return Kind.MISSING if real in self._hidden or self._is_gone(real) else self._guest.kind(real)

    def _load(self, real: str) -> Entry | None:
        if real in self._entries:
            return self._entries[real]
        kind = self._kind(real)
        if kind is Kind.MISSING:
            return None
        if kind is Kind.OTHER:
            raise GuestError(f"{real} is a device, socket or pipe; it is left alone")
        return self._guest.load(real)

    def _names(self, real: str) -> tuple[str, ...]:
        prefix = real.rstrip("/") + "/"
        if self._kind(real) is not Kind.FOLDER:
            return ()
        below = () if self._is_gone(real) else self._guest.names(real)
        drafted = self._children.get(real, set())
        there = {name for name in below if name not in drafted and prefix + name not in self._hidden}
        return tuple(sorted(there | {name for name in drafted if self._entries.get(prefix + name) is not None}))

    def _resolve(self, path: str, *, last: bool = True) -> str:
        """Return the path with every link followed inside the guest; with `last` false, not the one at its end.

        What is missing resolves to itself. Raise GuestError on a circle of links.
        """
        if not path.startswith("/"):
            raise ValueError(f"not an absolute path: {path}")
        if path == "/":
            return "/"
        if "//" in path or "/." in path or path.endswith("/"):  # pathlib is slow, and half of a preview's time was its
            path = str(PurePosixPath(path))
        above, _, name = path.rpartition("/")
        folder = self._folder(above or "/")
        if not name:
            return "/"
        if name == "..":
            return folder.rpartition("/")[0] or "/"
        real = f"{folder.rstrip('/')}/{name}"
        return self._folder(real) if last and self._kind(real) is Kind.LINK else real

    def _folder(self, path: str) -> str:
        """Return the path with every link followed, remembered until something is drafted."""
        known = self._folders.get(path)
        if known is None:
            known = self._folders[path] = self._follow(path)
        return known

    def _follow(self, path: str) -> str:
        todo = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        real = ""
        links = 0
        while todo:
            part = todo.pop()
            if part == "..":
                real = real.rpartition("/")[0]
                continue
            step = f"{real}/{part}"
            entry = self._load(step) if self._kind(step) is Kind.LINK else None
            if not isinstance(entry, Link):
                real = step
                continue
            links += 1
            if links > LINK_LIMIT:
                raise GuestError(f"{path} leads through a circle of links")
            target = PurePosixPath(entry.target)
            if target.is_absolute():
                real = ""
            todo.extend(reversed([word for word in target.parts if word != "/"]))
        return real or "/"


def _matches(name: str, pattern: str) -> bool:
    """As a shell does: a leading dot is matched by a dot only. glob(7)."""
    return fnmatch.fnmatchcase(name, pattern) and (pattern.startswith(".") or not name.startswith("."))
