"""A guest in memory: for tests, and for trying a repair by hand. A guest written as YAML is a screenful.

    os: {id: debian, version_id: "12", codename: bookworm}
    firmware: bios                               # or `layout:`, see `_layout`
    packages:                                    # what is installed
      open-vm-tools: {version: "2:12.2.0-1", files: [/usr/bin/vmtoolsd], conffiles: [/etc/vmware-tools/tools.conf]}
      libc6:                                      # version, files … may be left out
    available:                                   # what could be installed, and what it pulls in
      cloud-init: {version: "22.4.2-1", depends: [libc6], files: {/etc/cloud/cloud.cfg: "users: [default]"}, size: 400000}
    kernels:
      6.1.0-21-amd64: {modules: [virtio_blk, vmw_pvscsi], builtin: [ext4], initramfs: [vmw_pvscsi]}
    files:
      /etc/fstab: |
        /dev/sda2 / ext4 defaults 0 1
      /etc/shadow: {content: "root:*:::::::", mode: 0o640, gid: 42}
      /etc/localtime: {link: /usr/share/zoneinfo/UTC}
      /var/lib/empty: {folder: true, mode: 0o700}
      /root/key: {base64: aGFsbG8=}
      /run/socket: {other: true}
      /etc/resolv.conf: {content: "", immutable: true}    # chattr +i

A program of the guest is imitated where its effect matters to a repair: the package manager moves files and resolves `depends`;
what builds an initramfs (initramfs-tools, dracut, mkinitrd, mkinitfs, mkinitcpio) puts into a real, small cpio what its own configuration asks
for. A kernel may say where it is: `image: /boot/vmlinuz-lts, initrd: /boot/initramfs-lts`.
"""

import base64
import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from migrate.draft import Draft
from migrate.errors import GuestError, PackagesUnavailable
from migrate.guest import (
    DropPartition,
    Entry,
    File,
    Filesystem,
    Folder,
    Kind,
    Layout,
    LayoutChange,
    Link,
    MakeSwapFile,
    Os,
    Package,
    PackageChange,
    Packaging,
    Rebuild,
    Status,
)
from migrate.guests.memory_builders import asked_for
from migrate.guests.paths import parent, parts, resolved
from migrate.initramfs import cpio
from migrate.initramfs_builder import DRIVERS, builder
from migrate.kernels import Contents, inside, kernels, required
from migrate.source import Firmware

DEBIAN_12 = Os("debian", (), "12", "bookworm", "Debian GNU/Linux 12 (bookworm)")

MIB = 1 << 20


def plain_layout(firmware: Firmware = Firmware.BIOS) -> Layout:
    """Return a boot disk of 10 GiB whose only file system is an ext4 root, with an EFI system partition before it for UEFI."""
    esp = Filesystem("/dev/sda1", "vfat", 256 * MIB, "C0DE-0001", None, "0a-01", 0, 1, MIB, "/boot/efi")
    number = 2 if firmware is Firmware.UEFI else 1
    start = 257 * MIB if firmware is Firmware.UEFI else MIB
    uuid = "3c0f2f5e-0000-4000-8000-00000000000a"
    root = Filesystem(
        f"/dev/sda{number}", "ext4", 10240 * MIB - start - MIB, uuid, "root", f"0a-0{number}", 0, number, start, "/"
    )
    uefi = firmware is Firmware.UEFI
    return Layout((esp, root) if uefi else (root,), root.device, firmware, 10240 * MIB, "gpt" if uefi else "dos")


PLAIN_LAYOUT = plain_layout()


@dataclass(frozen=True, slots=True)
class Held:
    """A package with what belongs to it: its files (a path alone is a file whose content does not matter), its dependencies."""

    package: Package
    files: Mapping[str, Entry] = field(default_factory=dict)
    conffiles: frozenset[str] = frozenset()
    depends: tuple[str, ...] = ()
    size: int = 0
    installed_size: int = 0


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel: `modules` with what each needs, those built into it, and those inside its initramfs when the guest is made.

    `image` and `initrd` are where they are, where that is not as most distributions have it.
    """

    version: str
    modules: Mapping[str, tuple[str, ...]]
    builtin: tuple[str, ...] = ()
    initramfs: tuple[str, ...] = ()
    image: str = ""
    initrd: str = ""


class MemoryGuest:
    """A Guest whose files, packages and layout are values in memory. Folders above each file are made as needed."""

    def __init__(
        self,
        files: Mapping[str, Entry],
        *,
        os: Os = DEBIAN_12,
        layout: Layout = PLAIN_LAYOUT,
        packages: Iterable[Held] = (),
        available: Iterable[Held] = (),
        kernels: Iterable[Kernel] = (),
        others: Collection[str] = (),
        immutable: Collection[str] = (),
    ) -> None:
        self._os = os
        self._layout = layout
        self._tree: dict[str, Entry] = {"/": Folder()}
        self._others = frozenset(others)
        self._immutable = frozenset(immutable)
        self._held: dict[str, Held] = {}
        self._sizes: dict[str, int] = {}
        self._available = {held.package.name: held for held in available}
        self._kernels = tuple(kernels)
        for path, entry in sorted(files.items()):
            self._place(path, entry)
        for path in self._others:
            self._make_folders(parent(path))
        for held in packages:
            self._unpack(held)
        for kernel in self._kernels:
            self._install_kernel(kernel)

    @property
    def os(self) -> Os:
        return self._os

    @property
    def layout(self) -> Layout:
        return self._layout

    @property
    def packages(self) -> Mapping[str, Package]:
        return {name: held.package for name, held in sorted(self._held.items())}

    @property
    def tree(self) -> Mapping[str, Entry]:
        """Every path with what is there: for a test to compare before and after."""
        return dict(sorted(self._tree.items()))

    def files_of(self, package: str) -> frozenset[str]:
        held = self._held.get(package)
        if held is None:
            raise GuestError(f"the package {package} is not installed in the guest")
        return frozenset(resolved(self, path, last=False) for path in held.files)

    def kind(self, path: str) -> Kind:
        parts(path)
        if path in self._others:
            return Kind.OTHER
        match self._tree.get(path):
            case File():
                return Kind.FILE
            case Folder():
                return Kind.FOLDER
            case Link():
                return Kind.LINK
            case None:
                return Kind.MISSING

    def load(self, path: str) -> Entry:
        kind = self.kind(path)
        if kind in (Kind.MISSING, Kind.OTHER):
            raise GuestError(f"{path} in the guest cannot be read: it is {kind.value}")
        return self._tree[path]

    def names(self, path: str) -> tuple[str, ...]:
        if self.kind(path) is not Kind.FOLDER:
            return ()
        prefix = path.rstrip("/") + "/"
        inside = (known[len(prefix) :] for known in (*self._tree, *self._others) if known.startswith(prefix))
        return tuple(sorted({name for name in inside if name and "/" not in name}))

    def statuses(self) -> Mapping[str, Status]:
        found = {path: _status(entry) for path, entry in self._tree.items() if path != "/"}
        found |= {path: replace(found[path], size=size) for path, size in self._sizes.items() if path in found}
        return found | {path: Status(Kind.OTHER, 0, 0, 0, 0, "") for path in self._others}

    def store(self, path: str, entry: Entry | None) -> None:
        kind = self.kind(path)
        if kind is Kind.OTHER:
            raise GuestError(f"{path} in the guest is a device, socket or pipe, and stays as it is")
        if path == "/":
            raise GuestError("the root folder of the guest stays as it is")
        if kind is Kind.FOLDER and not isinstance(entry, Folder) and self.names(path):
            raise GuestError(f"{path} in the guest is a folder that is not empty")
        if entry is None:
            self._tree.pop(path, None)
            return
        if self.kind(parent(path)) is not Kind.FOLDER:
            raise GuestError(f"{path} in the guest has no folder to be in")
        self._tree[path] = entry

    def immutable(self, paths: Collection[str]) -> frozenset[str]:
        return frozenset(path for path in paths if path in self._immutable and path in self._tree)

    def remove(self, path: str) -> None:
        if path == "/":
            raise GuestError("the root folder of the guest stays as it is")
        prefix = f"{path}/"
        self._tree = {
            known: entry for known, entry in self._tree.items() if known != path and not known.startswith(prefix)
        }
        self._others = frozenset(known for known in self._others if known != path and not known.startswith(prefix))

    def plan_packages(
        self,
        *,
        install: tuple[str, ...] = (),
        remove: tuple[str, ...] = (),
        installed: Mapping[str, Package] | None = None,
    ) -> PackageChange:
        present = frozenset(self._held if installed is None else installed)
        going = self._closure((name for name in remove if name in present), lambda name: self._needing(name, present))
        staying = present - going
        coming = self._closure(
            (name for name in install if name not in staying), lambda name: self._lacking(name, staying)
        )
        if clash := sorted(coming & frozenset(remove)):
            raise PackagesUnavailable(f"{', '.join(clash)} would be removed, and is needed by what would be installed")
        if unknown := sorted(coming - frozenset(self._available)):
            raise PackagesUnavailable(
                f"the guest's repositories have no {', '.join(unknown)}", hint="Offer it with --repo or --bundle."
            )
        arriving = [self._available[name] for name in sorted(coming)]
        return PackageChange(
            tuple(held.package for held in arriving),
            tuple(self._package(name, installed) for name in sorted(going)),
            "the guest's own repositories" if arriving else "",
            sum(held.size for held in arriving),
            sum(held.installed_size for held in arriving),
        )

    def change_packages(self, change: PackageChange) -> None:
        owned = {name: self.files_of(name) for name in self._held}
        gone = {package.name for package in change.remove}
        kept = frozenset[str]().union(*(files for name, files in owned.items() if name not in gone))
        for name in gone & set(self._held):
            for path in owned[name] - kept:
                if self.kind(path) in (Kind.FILE, Kind.LINK):
                    self.store(path, None)
                    self._remove_emptied(parent(path))
            del self._held[name]
        for package in change.install:
            self._unpack(self._available[package.name])

    def change_layout(self, change: LayoutChange) -> None:
        match change:
            case DropPartition(disk, partition):
                kept = tuple(fs for fs in self._layout.filesystems if (fs.disk, fs.partition) != (disk, partition))
                if len(kept) == len(self._layout.filesystems):
                    raise GuestError(f"disk {disk} of the guest has no partition {partition}")
                if self._layout.root not in {fs.device for fs in kept}:
                    raise GuestError(f"partition {partition} of disk {disk} holds the guest's root file system")
                old = self._layout
                self._layout = Layout(kept, old.root, old.firmware, old.disk_size, old.table)
            case MakeSwapFile(path, size):  # its size would be real memory here
                self.store(path, File(b"SWAPSPACE2", 0o600))
                self._sizes[path] = size

    def rebuild(self, what: Rebuild) -> None:
        if what is not Rebuild.INITRAMFS:
            return
        draft = Draft(self)
        build = builder(draft)
        for kernel in required(draft, kernels(draft)):
            if build is not None and kernel.initramfs is not None:
                before = inside(draft, kernel)
                had = before.modules if isinstance(before, Contents) else frozenset()
                drivers = tuple(driver for driver in DRIVERS if driver in kernel.modules)
                command = build.command(kernel.version, kernel.initramfs, kernel.image, drivers)
                chosen = asked_for(self, build, command, kernel, had)
                modules = self._closure(chosen, lambda name, known=kernel.modules: known.get(name, ()))  # type: ignore[misc]
                self._place(kernel.initramfs, File(_initramfs(kernel.version, modules)))

    # Packages

    def _package(self, name: str, installed: Mapping[str, Package] | None) -> Package:
        return self._held[name].package if installed is None else installed[name]

    def _closure(self, names: Iterable[str], step: Callable[[str], Iterable[str]]) -> frozenset[str]:
        todo = list(names)
        found: set[str] = set()
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                todo.extend(step(name))
        return frozenset(found)

    def _needing(self, name: str, present: frozenset[str]) -> Iterator[str]:
        known = self._available | self._held
        return (other for other in present if other in known and name in known[other].depends)

    def _lacking(self, name: str, staying: frozenset[str]) -> Iterator[str]:
        held = self._available.get(name)
        return (needed for needed in (held.depends if held else ()) if needed not in staying)

    def _unpack(self, held: Held) -> None:
        """A configuration file that is there already stays as it is (dpkg's confold)."""
        for path, entry in held.files.items():
            at = resolved(self, path, last=False)
            if self.kind(at) is Kind.MISSING or (path not in held.conffiles and entry != _WHATEVER):
                self._place(at, entry)
        self._held[held.package.name] = held

    # Files

    def _place(self, path: str, entry: Entry) -> None:
        self._make_folders(parent(path))
        self._tree[path] = entry

    def _remove_emptied(self, folder: str) -> None:
        """As dpkg and rpm do: a package's folders go with it, unless something else is in them."""
        while folder != "/" and self.kind(folder) is Kind.FOLDER and not self.names(folder):
            self.store(folder, None)
            folder = parent(folder)

    def _make_folders(self, path: str) -> None:
        names = parts(path)
        for count in range(1, len(names) + 1):
            self._tree.setdefault("/" + "/".join(names[:count]), Folder())

    # Kernels

    def _install_kernel(self, kernel: Kernel) -> None:
        image = kernel.image or f"/boot/vmlinuz-{kernel.version}"
        files = {image: b"MZ", f"/boot/config-{kernel.version}": b"CONFIG_VIRTIO=m\n"}
        folder = resolved(self, f"/lib/modules/{kernel.version}")
        files |= {f"{folder}/{_ko(name)}": b"\x7fELF" for name in kernel.modules}
        dependencies = (
            f"{_ko(name)}: {' '.join(map(_ko, needs))}".rstrip() for name, needs in sorted(kernel.modules.items())
        )
        files[f"{folder}/modules.dep"] = _lines(dependencies)
        files[f"{folder}/modules.builtin"] = _lines(_ko(name) for name in kernel.builtin)
        for path, content in files.items():
            if self.kind(path) is Kind.MISSING:
                self._place(path, File(content))
        usual = {"debian": "/boot/initrd.img-{}", "suse": "/boot/initrd-{}"}.get(
            self._os.family, "/boot/initramfs-{}.img"
        )
        initrd = kernel.initrd or usual.format(kernel.version)
        if self.kind(initrd) is Kind.MISSING:
            self._place(initrd, File(_initramfs(kernel.version, kernel.initramfs)))


def _initramfs(version: str, modules: Iterable[str]) -> bytes:
    content = {f"usr/lib/modules/{version}/{_ko(name)}": b"\x7fELF" for name in modules}
    return cpio(content | {"init": b"#!/bin/sh\n"})


_WHATEVER = File(b"")


def _status(entry: Entry) -> Status:
    match entry:
        case File(content=content, mode=mode, uid=uid, gid=gid):
            return Status(Kind.FILE, mode, uid, gid, len(content), hashlib.sha256(content).hexdigest())
        case Folder(mode=mode, uid=uid, gid=gid):
            return Status(Kind.FOLDER, mode, uid, gid, 0, "")
        case Link(target=target):
            return Status(Kind.LINK, 0, 0, 0, 0, target)


def from_yaml(text: str) -> MemoryGuest:
    """Make a guest from YAML of the form shown above. Raise GuestError where a key is unknown."""
    given: dict[str, Any] = yaml.load(text, _Loader) or {}  # noqa: S506  (_Loader is a SafeLoader)
    known = {"os", "firmware", "layout", "packages", "available", "kernels", "files", "usrmerge"}
    if unknown := sorted(set(given) - known):
        raise GuestError(f"a guest in YAML has no {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    files: dict[str, Any] = given.get("files") or {}
    merged = {name: Link(f"usr/{name}") for name in ("bin", "sbin", "lib")} if given.get("usrmerge", True) else {}
    links = {
        f"/{name}": link for name, link in merged.items() if not any(path.startswith(f"/{name}/") for path in files)
    }
    folders: dict[str, Entry] = {path: Folder() for path in _USUAL_FOLDERS}
    others = frozenset(path for path, value in files.items() if isinstance(value, dict) and value.get("other"))
    return MemoryGuest(
        {**folders, **links, **{path: _entry(value) for path, value in files.items() if path not in others}},
        os=_os(given.get("os") or {}),
        layout=_layout(given.get("layout"), Firmware(given.get("firmware", "bios"))),
        packages=[_held(name, value or {}) for name, value in (given.get("packages") or {}).items()],
        available=[_held(name, value or {}) for name, value in (given.get("available") or {}).items()],
        kernels=[_kernel(version, value or {}) for version, value in (given.get("kernels") or {}).items()],
        others=others,
        immutable=[path for path, value in files.items() if isinstance(value, dict) and value.get("immutable")],
    )


_USUAL_FOLDERS = (
    *("/boot", "/dev", "/etc", "/home", "/proc", "/root", "/run", "/sys", "/tmp", "/usr/bin", "/usr/sbin", "/usr/lib"),  # noqa: S108
    *("/var/lib", "/var/log", "/var/tmp"),  # noqa: S108
)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's `0o640`, beside YAML 1.1's `0640`."""


_Loader.add_implicit_resolver("tag:migrate,2026:octal", re.compile(r"0o[0-7]+"), list("0"))
_Loader.add_constructor("tag:migrate,2026:octal", lambda loader, node: int(node.value, 8))


def _entry(value: Any) -> Entry:
    match value:
        case str():
            return File(value.encode())
        case None:
            return _WHATEVER
        case {"link": target}:
            return Link(target)
        case {"folder": True}:
            return Folder(**_attributes(value))
        case {"base64": encoded}:
            return File(base64.b64decode(encoded), **_attributes(value))
        case {"content": content}:
            return File(content.encode(), **_attributes(value))
    raise GuestError(
        f"a file of a guest in YAML is text or {{content | base64 | link | folder | other}}, not {value!r}"
    )


def _attributes(value: Mapping[str, Any]) -> dict[str, int]:
    return {key: int(value[key]) for key in ("mode", "uid", "gid") if key in value}


def _held(name: str, value: Mapping[str, Any]) -> Held:
    conffiles = frozenset(value.get("conffiles") or ())
    files = value.get("files") or ()
    owned = {
        path: _entry(files.get(path) if isinstance(files, dict) else None) for path in (*files, *sorted(conffiles))
    }
    depends = tuple(value.get("depends") or ())
    record = f"Package: {name}\nDepends: {', '.join(depends)}\n"
    package = Package(name, str(value.get("version", "1.0")), value.get("arch", "amd64"), record)
    return Held(package, owned, conffiles, depends, int(value.get("size", 0)), _bytes(value.get("installed", 0)))


def _kernel(version: str, value: Mapping[str, Any]) -> Kernel:
    modules = value.get("modules") or {}
    needs = {name: tuple((modules[name] if isinstance(modules, dict) else None) or ()) for name in modules}
    names = {key: value.get(key, "") for key in ("image", "initrd")}
    return Kernel(version, needs, tuple(value.get("builtin") or ()), tuple(value.get("initramfs") or ()), **names)


def _os(value: Mapping[str, Any]) -> Os:
    if not value:
        return DEBIAN_12
    id, version_id, codename, pretty = (str(value.get(key, "")) for key in ("id", "version_id", "codename", "pretty"))
    os = Os(id, tuple(value.get("id_like") or ()), version_id, codename, pretty, value.get("arch", "amd64"))
    usual = {"rhel": "rpm", "suse": "rpm", "alpine": "apk", "arch": "pacman"}.get(os.family, "dpkg")
    return replace(os, packaging=Packaging(value.get("packaging", usual)))


def _layout(value: Mapping[str, Any] | None, firmware: Firmware) -> Layout:
    """`layout: {table: gpt, disk_size: 10GiB, filesystems: [{device: /dev/sda1, type: ext4, size: 9GiB, uuid: …, mountpoint: /}]}`

    `disk`, `partition` and `start` may be left out: they follow from the device's name and the order. `disks` are a volume's.
    """
    if value is None:
        return plain_layout(firmware)
    filesystems = []
    start = MIB
    for each in value["filesystems"]:
        size = _bytes(each["size"])
        named = re.fullmatch(r"/dev/sd([a-z])(\d+)", each["device"])
        disk, partition = (ord(named[1]) - ord("a"), int(named[2])) if named else (None, None)
        own = _bytes(each["start"]) if "start" in each else start if named else None
        start = (own or 0) + size if named else start
        texts = {key: each.get(key) for key in ("uuid", "label", "partuuid", "mountpoint")}
        disk, partition = each.get("disk", disk), each.get("partition", partition)
        place = {"disk": disk, "partition": partition, "start": own}
        free = _bytes(each["free"]) if "free" in each else None
        disks = tuple(each.get("disks", ()))
        filesystems.append(Filesystem(each["device"], each["type"], size, **place, **texts, free=free, disks=disks))
    root = next((fs.device for fs in filesystems if fs.mountpoint == "/"), "") or value["root"]
    table = value.get("table", "gpt" if firmware is Firmware.UEFI else "dos")
    return Layout(tuple(filesystems), root, firmware, _bytes(value.get("disk_size", start + MIB)), table)


def _bytes(value: int | str) -> int:
    """ "10GiB" or "512MiB" in bytes; a number is bytes already."""
    if isinstance(value, int):
        return value
    number, unit = re.fullmatch(r"([\d.]+)\s*([KMGT])i?B?", value, re.IGNORECASE).groups()  # type: ignore[union-attr]
    return int(float(number) * 1024 ** ("KMGT".index(unit.upper()) + 1))


def _ko(name: str) -> str:
    return f"kernel/{name}.ko"


def _lines(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
