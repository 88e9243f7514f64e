"""A rehearsal: the repairs are really made, on an overlay that is thrown away, and what was done is compared with what the preview said.

Three comparisons: the effects one by one; a second look, which must find nothing left to change; and the whole tree before and after, in which
every path must be one that the preview named, or be explained by a package that the preview named.
"""

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from migrate.convert import make_overlay
from migrate.effects import Changes, Edit, Effect, LayoutEdit, PackageEdit, RebuildRequest, Removal
from migrate.errors import MigrateError
from migrate.guest import Entry, File, Folder, Guest, Kind, Link, MakeSwapFile, Package, Rebuild
from migrate.job import SCRATCH
from migrate.look import look, served_all
from migrate.nbd import served
from migrate.order import Rooms
from migrate.preview import Preview, changes_value
from migrate.preview.approval import differences
from migrate.preview.rehearsal import INSTALLED, REMOVED, Drift, Explained, Rehearsal
from migrate.remediate import preview as previewed
from migrate.remediate import remediate
from migrate.remediation import Remediation, Settings
from migrate.run import Run
from migrate.source import BlockSource, Source, VmRef
from migrate.text import counted, one_line
from migrate.traces import Cause, trace
from migrate.tree import TreeChange, loaded, tree_changes

CAUSES = {
    Rebuild.INITRAMFS: Cause.INITRAMFS,
    Rebuild.BOOTLOADER: Cause.BOOTLOADER,
    Rebuild.SELINUX_LABELS: Cause.LABELS,
}


Reason = tuple[str, str]
"""What explains a change, and the package where it is one's."""


def rehearse(
    run: Run, source: Source, ref: VmRef, rooms: Rooms, remediations: Sequence[Remediation], settings: Settings
) -> Preview:
    """Return the preview with what came of it; it is not rehearsed where the VM cannot go, or where nothing is to be changed.

    The source is only read; nothing is left of the overlay. Raise GuestError where a repair fails, as `vm` would.
    """
    said = look(run, source, ref, rooms, remediations, settings)
    if not said.can_go or not said.changes.effects:
        return said
    with tempfile.TemporaryDirectory(prefix="rehearse-", dir=SCRATCH) as folder:
        overlay = Path(folder) / "overlay.qcow2"
        with _frozen(source, said, ref) as disks:
            if not disks:
                raise MigrateError(f"{said.vm.name} has no disk to read")
            with disks[0].nbd() as uri, served_all(disks[1:]) as data:
                make_overlay(run, overlay, uri)
                with run.stage("rehearse") as stage, rooms.repair(run, uri, overlay, said.vm.firmware, data) as repair:
                    done = remediate(run, repair.guest, remediations, settings, stage.name)
                    left = previewed(run, repair.guest, remediations, settings)
                    repair.finish()
                    stage.summary = f"{counted(len(done.effects), 'change')} made on an overlay"
                with (
                    run.stage("compare") as stage,
                    rooms.look(run, uri, said.vm.firmware, data) as old,
                    served(run, overlay) as merged,
                    rooms.look(run, merged, said.vm.firmware, data) as new,
                ):
                    found = compared(said.changes, done, left, old, new)
                    stage.summary = found.summary
    return replace(said, rehearsal=found)


@contextmanager
def _frozen(source: Source, said: Preview, ref: VmRef) -> Iterator[Sequence[BlockSource]]:
    token = source.freeze(said.vm, ref.name)
    try:
        with source.frozen(token) as disks:
            yield disks
    finally:
        source.release(token)


def compared(said: Changes, done: Changes, left: Changes, old: Guest, new: Guest) -> Rehearsal:
    """Compare what was said with what was done, with what a second look would still do, and with the guest before and after."""
    effects = [Drift(_not_as_said(text)) for text in differences(changes_value(said), changes_value(done))]
    if not effects and said.digest != done.digest:
        effects = [Drift(_unseen(said, done))]
    unmet = [
        Drift(f"a second look still wants {counted(count, 'change')} by {by}")
        for by, count in _by(left.effects).items()
    ]
    tree = _Tree(said, old, new)
    wrong = tuple(tree.wrong())
    paths = {drift.path for drift in wrong}
    kept = sum(
        effect in done.effects and not (isinstance(effect, Edit | Removal) and effect.path in paths)
        for effect in said.effects
    )
    return Rehearsal(len(said.effects), kept, (*effects, *unmet, *wrong, *tree.unexplained), tree.explained)


def _not_as_said(text: str) -> str:
    """The words of a plan that changed, for one that was carried out otherwise."""
    for old, new in (
        ("new: ", "done, and not said: "),
        ("no longer: ", "said, and not done: "),
        ("found since: ", "found only when done: "),
    ):
        if text.startswith(old):
            return new + text.removeprefix(old)
    return f"done otherwise: {text}"


def _unseen(said: Changes, done: Changes) -> str:
    """What is otherwise where each effect looks the same."""
    if all(effect in done.effects for effect in said.effects):
        by = dict.fromkeys(one.by for one, other in zip(said.effects, done.effects, strict=False) if one != other)
        return f"done in another order than said: {', '.join(by)}"
    return "the content of a file that is kept secret is not the one that was said"


def _by(effects: Sequence[Effect]) -> dict[str, int]:
    found: dict[str, int] = {}
    for effect in effects:
        found[effect.by] = found.get(effect.by, 0) + 1
    return found


class _Tree:
    """The guest before and after, held against what was said."""

    def __init__(self, said: Changes, old: Guest, new: Guest) -> None:
        self._new = new
        self._changes = tree_changes(old, new)
        self._wanted: dict[str, Entry | None] = {}
        self._swap: dict[str, int] = {}
        causes: set[Cause] = set()
        removed: list[Package] = []
        self._installed: list[Package] = []
        for effect in said.effects:
            match effect:
                case Edit(path=path, after=after):
                    self._wanted[path] = after
                case Removal(path=path):
                    self._wanted = {p: entry for p, entry in self._wanted.items() if not p.startswith(f"{path}/")}
                    self._wanted[path] = None
                case PackageEdit(change=change):
                    causes.add(Cause.PACKAGES)
                    removed += change.remove
                    self._installed += change.install
                case LayoutEdit(change=MakeSwapFile(path=path, size=size)):
                    self._swap[path] = size
                case RebuildRequest(what=what):
                    causes.add(CAUSES[what])
        self._causes = frozenset(causes)
        self._removed = [package for package in removed if package.name not in {each.name for each in self._installed}]
        self._owners = dict(_owned(old, removed, REMOVED)) | dict(_owned(new, self._installed, INSTALLED))
        self._scripts = tuple(_scripts(new, self._installed)) + tuple(_scripts(old, removed))
        explained: dict[Reason, list[str]] = {}
        self.unexplained = tuple(self._explain(explained))
        """What changed though nobody said so, and nothing that was said explains it."""
        self.explained = tuple(
            Explained(what, tuple(reversed(paths)), package) for (what, package), paths in sorted(explained.items())
        )

    def wrong(self) -> Iterator[Drift]:
        """Yield what the preview named and is not as it said."""
        for path, wanted in self._wanted.items():
            found = loaded(self._new, path)
            if found != wanted:
                yield Drift(f"{one_line(path)} was to be {_words(wanted)}, and is {_words(found, wanted)}", path)
        for path, size in self._swap.items():
            entry = self._new.statuses().get(path)
            if entry is None or (entry.kind, entry.size, entry.mode) != (Kind.FILE, size, 0o600):
                yield Drift(f"{one_line(path)} was to be a swap file of {size:,} bytes", path)
        present = self._new.packages
        for package in self._installed:
            found_version = present[package.name].version if package.name in present else None
            if found_version != package.version:
                yield Drift(
                    one_line(
                        f"{package.name} {package.version} was to be installed, and there is {found_version or 'none'}"
                    )
                )
        yield from (
            Drift(one_line(f"{package.name} was to be removed, and is there"))
            for package in self._removed
            if package.name in present
        )

    def _explain(self, explained: dict[Reason, list[str]]) -> Iterator[Drift]:
        """Put each change that is explained under its reason; yield the others."""
        unexplained: list[TreeChange] = []
        told: set[str] = set(self._wanted) | set(self._swap)
        for change in sorted(
            self._changes, key=lambda change: change.path, reverse=True
        ):  # a folder after what is in it
            if self._is_named(change):
                told.add(change.path)
                continue
            why = self._why(change, told)
            if why is None:
                unexplained.append(change)
            else:
                told.add(change.path)
                explained.setdefault(why, []).append(change.path)
        for change in reversed(unexplained):
            yield Drift(f"{one_line(change.path)} is {change.what}, and nothing that was said explains it", change.path)

    def _is_named(self, change: TreeChange) -> bool:
        """Whether the preview named the path, or the folder with which it went. That it is as named is checked elsewhere."""
        if change.path in self._wanted or change.path in self._swap:
            return True
        return change.after is None and any(
            above in self._wanted and self._wanted[above] is None for above in _above(change.path)
        )

    def _why(self, change: TreeChange, told: set[str]) -> Reason | None:
        path = change.path
        if path in self._owners:
            return self._owners[path]
        if Kind.FOLDER in {status.kind for status in (change.before, change.after) if status is not None} and (
            change.before is None or change.after is None
        ):
            inside = f"{path}/"
            if any(each.startswith(inside) for each in told) or any(each.startswith(inside) for each in self._owners):
                return "folders that came or went with what is in them", ""
        for package, text in self._scripts:
            if re.search(rf"{re.escape(path)}(?![\w.-])", text):
                return "what the scripts of packages write", package
        what = trace(path, self._causes)
        return None if what is None else (what, "")


def _owned(guest: Guest, packages: Sequence[Package], what: str) -> Iterator[tuple[str, Reason]]:
    for package in packages:
        if package.name in guest.packages:
            for path in guest.files_of(package.name):
                yield path, (what, package.name)


def _scripts(guest: Guest, packages: Sequence[Package]) -> Iterator[tuple[str, str]]:
    """Yield the scripts of packages, where the database has them as files. Source: deb-postinst(5), /var/lib/dpkg/info."""
    for package in packages:
        for name in (package.name, f"{package.name}:{package.arch}"):
            for script in ("preinst", "postinst", "prerm", "postrm"):
                path = f"/var/lib/dpkg/info/{name}.{script}"
                entry = loaded(guest, path)
                if isinstance(entry, File):
                    yield package.name, entry.text


def _above(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


def _words(entry: Entry | str | None, other: Entry | str | None = None) -> str:
    """What is at a path, without its content."""
    match entry:
        case None:
            return "gone" if other is None else "not there"
        case File(content=content, mode=mode, uid=uid, gid=gid):
            alike = isinstance(other, File) and (other.mode, other.uid, other.gid) == (mode, uid, gid)
            return "another text" if alike else f"a file of {len(content):,} bytes, mode {mode:04o}, owner {uid}:{gid}"
        case Folder(mode=mode, uid=uid, gid=gid):
            return f"a folder, mode {mode:04o}, owner {uid}:{gid}"
        case Link(target=target):
            return f"a link to {one_line(target)}"
        case text:
            return one_line(text)
