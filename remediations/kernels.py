"""The kernels of a guest, found where they are: /lib/modules and /boot, never only in the package database.

Source of the wish: virt-v2v#54 and forklift#1261, where a package database that could not be read meant "no kernels installed".
"""

from dataclasses import dataclass

from migrate.draft import Draft
from migrate.errors import GuestError
from migrate.initramfs import builtin_modules, module_dependencies, modules_inside

INITRAMFS_NAMES = ("/boot/initrd.img-{}", "/boot/initramfs-{}.img", "/boot/initrd-{}")
"""As Debian, Fedora and SUSE call them."""
IMAGE_NAMES = ("/boot/vmlinuz-{}", "/boot/vmlinux-{}", "/boot/Image-{}")


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel that can be booted. `modules` is None where its modules.dep is missing; `initramfs` where it has none.

    `modules` maps each module to all that it needs.
    """

    version: str
    image: str
    builtin: frozenset[str]
    modules: dict[str, frozenset[str]] | None
    initramfs: str | None

    def has(self, module: str) -> bool:
        """Whether the kernel can drive it at all."""
        return module in self.builtin or module in (self.modules or {})

    def closure(self, wanted: frozenset[str]) -> frozenset[str]:
        """Return those of the wanted modules that the kernel has as files, and all that they need; what is built in is left out."""
        known = self.modules or {}
        found = wanted & set(known)
        return found.union(*(known[module] for module in found)) - self.builtin


def kernels(draft: Draft) -> tuple[Kernel, ...]:
    """Return the kernels that have modules and an image, in the order of their versions."""
    found = []
    for version in sorted(draft.names("/lib/modules"), key=version_key):
        image = _first(draft, IMAGE_NAMES, version)
        if image is None:
            continue
        folder = f"/lib/modules/{version}"
        dependencies = draft.read(f"{folder}/modules.dep")
        found.append(
            Kernel(
                version,
                image,
                builtin_modules(draft.read(f"{folder}/modules.builtin") or ""),
                None if not dependencies else dict(module_dependencies(dependencies)),
                _first(draft, INITRAMFS_NAMES, version),
            )
        )
    return tuple(found)


def inside(draft: Draft, kernel: Kernel) -> frozenset[str] | str:
    """Return the modules inside a kernel's initramfs, or in words why that cannot be said."""
    file = draft.file(kernel.initramfs) if kernel.initramfs is not None else None
    if file is None:
        return "it has no initramfs"
    try:
        return modules_inside(file.content)
    except GuestError as error:
        return f"{kernel.initramfs} cannot be read: {error.message}"


def version_key(version: str) -> tuple[tuple[int, str], ...]:
    """Order versions by their numbers: 6.1.0-9 comes before 6.1.0-21."""
    words = "".join(char if char.isdigit() else f" {char} " for char in version).split()
    return tuple((int(word), "") if word.isdigit() else (-1, word) for word in words)


def _first(draft: Draft, names: tuple[str, ...], version: str) -> str | None:
    return next((path for name in names if draft.exists(path := name.format(version))), None)
