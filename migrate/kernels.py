"""The kernels of a guest, found where they are: /lib/modules, /boot and the boot loaders' entries, never only in the package database.

Source of the wish: virt-v2v#54 and forklift#1261, where a package database that could not be read meant "no kernels installed".
Sources of names: kernel-install(8); Debian's linux-image; mkinitfs and Alpine's kernel packages (kernel.release); Arch's linux package (pkgbase).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import PurePosixPath

from migrate import boot_menu
from migrate.boot_menu import version_key
from migrate.draft import Draft
from migrate.errors import GuestError
from migrate.initramfs import builtin_modules, is_module, module_dependencies, module_name, modules_inside

IMAGES = ("/boot/vmlinuz-{}", "/boot/vmlinux-{}", "/boot/Image-{}", "/boot/bzImage-{}", "/boot/kernel-{}")
INITRAMFS = (
    "/boot/initrd.img-{}",
    "/boot/initramfs-{}.img",
    "/boot/initrd-{}",
    "/boot/initrd-{}.img",
    "/boot/initramfs-{}",
    "/boot/initramfs.img-{}",
)
"""As Debian, Fedora, SUSE, RHEL 5, Alpine and self-built kernels call them."""

MODULES = ("/lib/modules", "/usr/lib/modules")

TO_MOUNT_ROOT = frozenset({"virtio", "virtio_ring", "virtio_pci", "virtio_blk"})
"""Without these in its initramfs, or built in, a kernel never sees its root disk: on Magalu Cloud that is /dev/vda."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel that can be booted. `initramfs` is the path of the one that it is started with; None where it has none.

    `modules` maps each module to all that it needs; without modules.dep (`listed` is false) only what is there is known, not what it needs.
    """

    version: str
    image: str
    builtin: frozenset[str]
    modules: dict[str, frozenset[str]]
    initramfs: str | None
    listed: bool = True

    def has(self, module: str) -> bool:
        """Whether the kernel can drive it at all."""
        return module in self.builtin or module in self.modules

    def closure(self, wanted: frozenset[str]) -> frozenset[str]:
        """Return those of the wanted modules that the kernel has as files, and all that they need; what is built in is left out."""
        found = wanted & set(self.modules)
        return found.union(*(self.modules[module] for module in found)) - self.builtin


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in an initramfs; `size` of the file, in bytes."""

    modules: frozenset[str]
    size: int


def kernels(draft: Draft) -> tuple[Kernel, ...]:
    """Return the kernels that have modules and an image, in the order of their versions."""
    started = boot_menu.entries(draft)
    found: dict[str, Kernel] = {}
    for folder in MODULES:
        for version in draft.names(folder):
            image = _image(draft, f"{folder}/{version}", version, started)
            if image is not None and version not in found:
                found[version] = _kernel(draft, f"{folder}/{version}", version, image, started)
    return tuple(found[version] for version in sorted(found, key=version_key))


def required(draft: Draft, found: tuple[Kernel, ...]) -> tuple[Kernel, ...]:
    """Return those that must come up: what starts by default, also for one boot only, and the newest. All where that cannot be told."""
    images = boot_menu.defaults(draft)
    if not images:
        return found
    newest = found[-1:]
    return tuple(kernel for kernel in found if kernel in newest or draft.real(kernel.image, last=True) in images)


def inside(draft: Draft, kernel: Kernel) -> Contents | str:
    """Look into a kernel's initramfs, or say in words why that cannot be done."""
    file = draft.file(kernel.initramfs) if kernel.initramfs is not None else None
    if file is None:
        return "it has no initramfs"
    try:
        return Contents(modules_inside(file.content), len(file.content))
    except GuestError as error:
        return f"{kernel.initramfs} cannot be read: {error.message}"


def missing(kernel: Kernel, contents: Contents | str) -> frozenset[str]:
    """Return the modules without which the kernel does not find its root, and that are neither built in nor in its initramfs."""
    held = contents.modules if isinstance(contents, Contents) else frozenset()
    return kernel.closure(TO_MOUNT_ROOT) - held


def _kernel(draft: Draft, folder: str, version: str, image: str, started: tuple[boot_menu.Entry, ...]) -> Kernel:
    dependencies = draft.read(f"{folder}/modules.dep")
    modules = dict(module_dependencies(dependencies)) if dependencies else dict(_modules_there(draft, folder))
    return Kernel(
        version,
        image,
        builtin_modules(draft.read(f"{folder}/modules.builtin") or ""),
        modules,
        _initramfs(draft, folder, version, image, started),
        listed=bool(dependencies) or not modules,  # a kernel that needs none has an empty list, also after depmod
    )


def _modules_there(draft: Draft, folder: str) -> Iterator[tuple[str, frozenset[str]]]:
    """depmod makes the list from them, and is asked to when an initramfs is built. Source of the wish: compute-image-tools#1139."""
    for path in draft.walk(folder):
        if is_module(path):
            yield module_name(path), frozenset()


def _image(draft: Draft, folder: str, version: str, started: tuple[boot_menu.Entry, ...]) -> str | None:
    names = [version, *_flavours(draft, folder, version)]
    named = (path for name in names for path in (pattern.format(name) for pattern in IMAGES) if draft.exists(path))
    # kernel-install gives each version a folder of its own: /efi/MACHINE/VERSION/linux.
    entered = (
        each.linux
        for each in started
        if each.linux is not None and version in (each.version, PurePosixPath(each.linux).parent.name)
    )
    return next(chain(named, entered), None)


def _initramfs(draft: Draft, folder: str, version: str, image: str, started: tuple[boot_menu.Entry, ...]) -> str | None:
    """The boot loader's word counts before a name: it is what the kernel really gets."""
    real = draft.real(image, last=True)
    for each in sorted(started, key=lambda each: not each.starts):
        if each.initrds and each.linux == real:
            return each.initrds[-1]
    names = [version, *_flavours(draft, folder, version)]
    paths = (pattern.format(name) for name in names for pattern in INITRAMFS)
    return next((path for path in paths if draft.exists(path)), None)


def _flavours(draft: Draft, folder: str, version: str) -> Iterator[str]:
    """Yield what a distribution calls a kernel whose image has no version in its name: "lts" on Alpine, "linux" on Arch."""
    base = (draft.read(f"{folder}/pkgbase") or "").strip()
    if base:
        yield base
    for flavour in draft.names("/usr/share/kernel"):
        if (draft.read(f"/usr/share/kernel/{flavour}/kernel.release") or "").strip() == version:
            yield flavour
