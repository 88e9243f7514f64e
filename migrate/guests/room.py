"""The overlay room: the guest's disk read through FUSE, its changes kept in a folder beside it, its own programs run in a sandbox over both.

No appliance is needed to look, and none to try: the source is only read. What was changed is in the upper folders, and is carried to the disk by
migrate.guests.carry. Where the guest is on more than plain ext2/3/4 partitions, `Unsuitable` says why, and the appliance is used.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from migrate.errors import GuestError, ToolFailed
from migrate.guest import (
    DropPartition,
    Entry,
    File,
    Kind,
    Layout,
    LayoutChange,
    MakeSwapFile,
    Package,
    PackageChange,
    Rebuild,
    Status,
)
from migrate.guests import programs, rebuilds
from migrate.guests.agent import AgentFiles
from migrate.guests.cell import ROOM, Cell
from migrate.guests.disks import (
    EXT,
    mapped_name,
)
from migrate.guests.grub_probe import grub_probe
from migrate.guests.immutable import in_ext
from migrate.guests.labels import Unlabelled
from migrate.guests.ladder import NO_OFFERS, Offers
from migrate.guests.large_folders import LARGE, Folders, kinds_in_ext
from migrate.guests.packages import Packages
from migrate.guests.paths import parent, parts, resolved
from migrate.guests.system import OfSystem, System
from migrate.run import Limits, Run

MERGED = f"{ROOM}/merged"
PACKAGES = "/tmp/packages"  # noqa: S108  (in the sandbox's own /tmp)

CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETUID", "SETGID", "SETFCAP", "SYS_CHROOT")
"""What a package manager needs. All of them count in the cell only. Source: capabilities(7)."""

MOST_PROCESSES = 2000
MOST_FILE_BYTES = 4 << 30
SECONDS = 1800
WORKING = Limits(address_space=4 << 30, cpu_seconds=SECONDS)


@dataclass(frozen=True, slots=True)
class Layer:
    """A file system of the guest in the room: what is on the disk, what was changed, and where it is mounted."""

    mountpoint: str
    type: str
    lower: str
    upper: str
    image: str = ""
    """What is on the disk as debugfs(8) names it; "" where it does not read it."""


class RoomGuest(OfSystem):
    """A Guest in an open room. Changes of the disk's layout are noted, and made when the guest is carried."""

    def __init__(
        self,
        run: Run,
        cell: Cell,
        agent: AgentFiles,
        layout: Layout,
        layers: Sequence[Layer],
        offers: Offers = NO_OFFERS,
    ) -> None:
        self._run = run
        self._cell = cell
        self._agent = agent
        self.found = layout
        """The layout as it is on the disk, whatever was changed of it in the room."""
        self._layout = layout
        self.layers = tuple(layers)
        self.layout_changes: list[LayoutChange] = []
        self._files = agent.at(MERGED)
        self._folders = Folders()
        self._system = System(self, run)
        self._packages = Packages(run, self, self._system, offers)

    @property
    def layout(self) -> Layout:
        return self._layout

    @property
    def cell(self) -> Cell:
        return self._cell

    @property
    def agent(self) -> AgentFiles:
        return self._agent

    def kind(self, path: str) -> Kind:
        if self._folders.is_given_up(path):
            return Kind.MISSING
        names = parts(path)
        if not names:
            return self._files.kind(path)
        folder = parent(path)
        known = self._known(folder)
        if known is not None and names[-1] in known:
            return known[names[-1]]
        return self._files.kind(path) if self._folders.is_large(folder) else Kind.MISSING

    def _known(self, folder: str) -> Mapping[str, Kind] | None:
        """What each name in a folder is. A look asks for 120,000 paths, most of them missing: one question a folder answers them (45 s before).

        None, or without some of its names, for a large folder.
        """
        known = self._folders.kinds(folder)
        if known is None and not self._folders.is_large(folder):
            if len(self._files.names(folder)) >= LARGE:
                self._folders.remember_large(folder)
            else:
                known = self._files.kinds(folder)
                self._folders.remember(folder, known)
        return known

    def load(self, path: str) -> Entry:
        if self._folders.is_given_up(path):
            raise GuestError(f"{path} in the guest cannot be read: it is missing")
        return self._files.load(path)

    def names(self, path: str) -> tuple[str, ...]:
        if self._folders.is_given_up(path):
            return ()
        known = self._known(path)
        listed = self._files.names(path) if known is None or self._folders.is_large(path) else tuple(known)
        names = tuple(name for name in listed if not self._folders.is_given_up(f"{path.rstrip('/')}/{name}"))
        layer = self._layer_of(path)
        if len(names) >= LARGE and layer is not None and layer.image and self._folders.kinds(path) is None:
            within = self._within(layer, path)
            lower = kinds_in_ext(self._cell, layer.image, within)
            known = {**lower, **self._agent.at(layer.upper).kinds(within)}
            self._folders.remember(path, {name: known[name] for name in names if name in known})
        return names

    def statuses(self) -> Mapping[str, Status]:
        found = self._files.statuses()
        if not self.given_up:
            return found
        return {path: status for path, status in found.items() if not self._folders.is_given_up(path)}

    @property
    def given_up(self) -> tuple[str, ...]:
        """Folders that are gone for whoever asks, and are removed when the guest is carried."""
        return self._folders.given_up

    def texts(self, path: str, suffix: str) -> Mapping[str, str]:
        return self._files.texts(path, suffix)

    def store(self, path: str, entry: Entry | None) -> None:
        for above in self.given_up:
            if path == above or path.startswith(f"{above}/"):  # it comes again: now it must really go
                self._folders.take_back(above)
                self._files.remove(above)
        self._files.store(path, entry)
        self._changed(path)

    def immutable(self, paths: Collection[str]) -> frozenset[str]:
        """As it is on the disk, whatever was changed in the room."""
        found: set[str] = set()
        for layer in self.layers:
            own = {self._within(layer, path): path for path in paths if self._layer_of(path) is layer}
            if layer.image and own:
                found |= {own[path] for path in in_ext(self._cell, layer.image, own)}
        return frozenset(found)

    def _layer_of(self, path: str) -> Layer | None:
        above = (each for each in self.layers if each.mountpoint == "/" or f"{path}/".startswith(f"{each.mountpoint}/"))
        return max(above, key=lambda layer: len(layer.mountpoint), default=None)

    def _within(self, layer: Layer, path: str) -> str:
        return path.removeprefix(layer.mountpoint.rstrip("/")) or "/"

    def remove(self, path: str) -> None:
        if self.kind(path) is Kind.FOLDER and self._counts(path, LARGE) and not self._holds_mounts(path):
            self._folders.give_up(path)
        elif not self._folders.is_given_up(path):
            self._files.remove(path)
        self._changed(path)

    def _counts(self, path: str, most: int) -> bool:
        """Whether as many files are in a folder and its folders."""
        todo, count = [path], 0
        while todo and count < most:
            folder = todo.pop()
            names = self.names(folder)
            count += len(names)
            if count < most:
                todo += [inner for name in names if self.kind(inner := f"{folder}/{name}") is Kind.FOLDER]
        return count >= most

    def _holds_mounts(self, path: str) -> bool:
        return any(f"{layer.mountpoint}/".startswith(f"{path}/") for layer in self.layers)

    def _changed(self, path: str) -> None:
        self._folders.forget(path)
        self._system.changed(path)

    def plan_packages(
        self,
        *,
        install: tuple[str, ...] = (),
        remove: tuple[str, ...] = (),
        installed: Mapping[str, Package] | None = None,
    ) -> PackageChange:
        return self._packages.plan(install, remove, installed)

    def change_packages(self, change: PackageChange) -> None:
        files = self._packages.fetch(change)
        chosen = [files[package.name] for package in change.install]
        self._cell.tool(["mkdir", "-p", f"{ROOM}/packages"])
        try:
            for file in chosen:
                self._agent.at(f"{ROOM}/packages").store(f"/{file.name}", File(file.read_bytes()))
            programs.change_packages(self, change, [f"{PACKAGES}/{file.name}" for file in chosen])
        finally:
            self._cell.tool(["rm", "-rf", f"{ROOM}/packages"])
            self._folders.forget_all()
            self._system.changed()

    def rebuild(self, what: Rebuild) -> None:
        rebuilds.rebuild(self._run, self, what)

    def unlabelled(self) -> tuple[Unlabelled, ...]:
        return tuple(
            replace(each, path=layer.mountpoint.rstrip("/") + each.path)
            for layer in self._labelled_layers
            for each in self._agent.at(layer.upper).unlabelled()
        )

    def label(self, labels: Mapping[str, str]) -> None:
        left = dict(labels)
        for layer in self._labelled_layers:
            above = layer.mountpoint.rstrip("/")
            own = [path for path in left if path.startswith(f"{above}/")]
            self._agent.at(layer.upper).label({path.removeprefix(above): left.pop(path) for path in own})

    @property
    def _labelled_layers(self) -> tuple[Layer, ...]:
        """The innermost first: /boot/x is in /boot's. vfat holds no labels."""
        return tuple(
            sorted((layer for layer in self.layers if layer.type in EXT), key=lambda each: -len(each.mountpoint))
        )

    def change_layout(self, change: LayoutChange) -> None:
        match change:
            case DropPartition(disk, partition):
                gone = next(
                    (fs for fs in self._layout.filesystems if (fs.disk, fs.partition) == (disk, partition)), None
                )
                if gone is not None and gone.mountpoint in {layer.mountpoint for layer in self.layers}:
                    raise GuestError(f"partition {partition} of disk {disk} is in use as {gone.mountpoint}")
                kept = tuple(fs for fs in self._layout.filesystems if fs is not gone)
                self._layout = replace(self._layout, filesystems=kept)
            case MakeSwapFile(path, _):
                self.store(path, File(b"", 0o600))
        self.layout_changes.append(change)

    def execute(self, argv: Sequence[str], *, env: Mapping[str, str]) -> str:
        """Run a program of the guest in the sandbox. Nothing that it starts outlives it."""
        try:
            said = self._cell.tool([*self._sandbox(env), *argv], timeout=SECONDS, limits=WORKING)
        except ToolFailed as error:
            raise GuestError(
                f"the guest's {Path(argv[0]).name} ended with {error.status}: {last_words(error.stderr)}"
            ) from error
        finally:
            self._folders.forget_all()
            self._system.changed()
        return said.text

    def _sandbox(self, env: Mapping[str, str]) -> list[str]:
        """Its own processes, network (none), devices and /tmp; the guest's merged files as the root. Source: bwrap(1)."""
        words = ["prlimit", f"--nproc={MOST_PROCESSES}", f"--fsize={MOST_FILE_BYTES}", "--core=0", "bwrap"]
        words += [
            "--unshare-pid",
            "--unshare-net",
            "--unshare-ipc",
            "--unshare-uts",
            "--die-with-parent",
            "--new-session",
        ]
        words += ["--cap-drop", "ALL", *(word for name in CAPABILITIES for word in ("--cap-add", f"CAP_{name}"))]
        words += ["--bind", MERGED, "/", "--proc", "/proc", "--dev", "/dev"]
        for path, mode in (("/tmp", "1777"), ("/run", "0755")):  # noqa: S108
            words += ["--perms", mode, "--size", str(1 << 30), "--tmpfs", path]
        words += ["--perms", "1777", "--dir", "/run/lock"]
        words += ["--ro-bind-try", f"{ROOM}/packages", PACKAGES]
        words += self._root_device()
        words += self._stand_ins()
        words.append("--clearenv")
        for name, value in env.items():
            words += ["--setenv", name, value]
        return [*words, "--chdir", "/", "--"]

    def _root_device(self) -> list[str]:
        """grub-mkconfig names the root by UUID only where /dev/disk/by-uuid shows it."""
        nodes = {
            fs.device: fs.device if fs.disk is not None else mapped_name(fs.device) for fs in self._layout.filesystems
        }
        links = {device: node for device, node in nodes.items() if device != node}
        for fs in self._layout.filesystems:
            if re.fullmatch(r"[\w-]+", fs.uuid or ""):
                links.setdefault(f"/dev/disk/by-uuid/{fs.uuid}", nodes[fs.device])
        words = [word for node in nodes.values() for word in ("--dev-bind", "/dev/null", node)]
        return words + [word for link, node in links.items() for word in ("--symlink", node, link)]

    def _stand_ins(self) -> list[str]:
        """What cannot work where the root is an overlay is told what the disk is: grub-probe, and the fsck hook of initramfs-tools."""
        words = []
        checked = sorted({fs.type for fs in self._layout.filesystems if fs.mountpoint in ("/", "/usr")})
        for path, text in (
            ("/usr/sbin/grub-probe", grub_probe(self._layout)),
            # What is added at its end wins: the file is a shell script. initramfs.conf(5).
            ("/etc/initramfs-tools/initramfs.conf", f"\nFSTYPE={','.join(checked)}\n"),
        ):
            at = resolved(self, path)
            if self.kind(at) is Kind.FILE and isinstance(entry := self.load(at), File):
                name = path.rpartition("/")[2]
                made = File((entry.content if name.endswith(".conf") else b"") + text.encode(), entry.mode)
                self._agent.at(f"{ROOM}/tools").store(f"/{name}", made)
                words += ["--ro-bind", f"{ROOM}/tools/{name}", at]
        return words


def last_words(text: str) -> str:
    """Return what a program said at its end, in one line."""
    return " / ".join(text.strip().splitlines()[-4:])[-600:]
