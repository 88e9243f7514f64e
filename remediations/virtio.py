"""virtio drivers in the initramfs: without them a kernel never sees its root disk."""

from collections.abc import Mapping

from migrate import boot_menu
from migrate.draft import Draft
from migrate.effects import Severity
from migrate.errors import GuestError
from migrate.guest import Rebuild
from migrate.initramfs import modules_inside, section
from migrate.initramfs_builder import DRIVERS, Builder, builder
from migrate.kernels import MODULES, Contents, Kernel, inside, kernels, missing, required
from migrate.remediation import Settings, remediation
from remediations import boot_room, initramfs_settings

UNIFIED = tuple(f"{esp}/EFI/Linux/*.efi" for esp in ("/boot/efi", "/efi", "/boot"))
"""Source: UAPI group, "Boot Loader Specification", type 2."""

TRACES = (
    *(
        f"/boot/{name}"
        for name in ("*vmlinu[xz]*", "*[bz]Image*", "Image*", "kernel*", "linux*", "*/linux", "*/*/linux")
    ),
    *("/efi/*/linux", "/efi/*/*/linux", "/boot/efi/*/*/linux", "/boot/*/vmlinu[xz]*"),
)
"""What there is of a kernel, however little. Source: kernel-install(8), and the names in migrate/kernels.py."""

NEEDED_DRIVERS = ("virtio_pci", "virtio_blk", "virtio_net")
"""Without these a kernel cannot live on Magalu Cloud. virtio_net is loaded from the root file system, so it may be outside the initramfs."""


@remediation(
    "virtio-in-initramfs",
    "Put the virtio drivers into the initramfs of each kernel that starts",
    sources=(
        "UAPI group: The Boot Loader Specification; Unified Kernel Image",
        "block-storage examples of Magalu's API: the root disk is /dev/vda, so virtio-blk",
        "kubevirt#11133, dracut#205, mkosi#56: a host-only initramfs without virtio ends in a dracut-initqueue timeout",
        "initramfs-tools(7), initramfs.conf(5), dracut.conf(5), mkinitfs(1), mkinitcpio.conf(5), mkinitrd(8) of SUSE and of RHEL 5",
        "compute-image-tools#1139: a kernel without modules.dep",
        "Linux, drivers/virtio/Kconfig",
    ),
)
def virtio_in_initramfs(draft: Draft, settings: Settings) -> None:
    """A kernel finds its root only with the drivers in its initramfs, and one built on another cloud often holds that cloud's alone.

    Kernels are found in /lib/modules, /boot and the boot loaders' entries. For each one, the initramfs that it is started with is unpacked and
    the virtio modules are looked for inside it; what is built into the kernel counts. Where the kernel that starts by default, or the newest,
    lacks one, the drivers are written into the builder's own configuration and its initramfs is built anew at the end, and looked into
    again. Older kernels that do not start by themselves are only told. A guest whose /boot has no room for it is refused before anything is
    changed, and so is one that nothing can build for.
    """
    found = kernels(draft)
    if not found:
        _tell_none(draft)
    _tell_unified(draft)
    defaults = boot_menu.defaults(draft)
    fit = tuple(kernel for kernel in found if all(map(kernel.has, NEEDED_DRIVERS)))
    for kernel in found:
        starts = draft.real(kernel.image, last=True) in defaults if defaults else kernel == found[-1]
        _tell_unfit(draft, kernel, fit, starts=starts)
    must = required(draft, fit)
    contents = {kernel.version: inside(draft, kernel) for kernel in fit}
    lacking = [kernel for kernel in must if _lacks(draft, kernel, contents[kernel.version])]
    for kernel in fit:
        if kernel not in must and (absent := missing(kernel, contents[kernel.version])):
            _tell_left(draft, kernel, absent)
    if lacking:
        _build(draft, lacking, contents)


def _tell_none(draft: Draft) -> None:
    """A kernel of which something is there may start in a way that we do not know; where nothing is there, nothing can start."""
    if (
        any(map(draft.names, MODULES))
        or any(map(draft.glob, (*TRACES, *UNIFIED)))
        or any(entry.linux is not None and draft.exists(entry.linux) for entry in boot_menu.entries(draft))
    ):
        draft.find(
            "BOOT-007",
            "No kernel was found: /lib/modules and /boot hold none that belong together.",
            remedy="Check that /boot was taken along.",
        )
        return
    draft.find(
        "BOOT-011",
        "There is no kernel: neither /lib/modules nor /boot holds anything of one, so nothing would start.",
        remedy="Give the disk that holds /boot along with the others, or install a kernel in the source VM.",
        severity=Severity.ERROR,
    )


def _tell_unfit(draft: Draft, kernel: Kernel, fit: tuple[Kernel, ...], *, starts: bool) -> None:
    absent = [module for module in NEEDED_DRIVERS if not kernel.has(module)]
    if not absent:
        return
    if not kernel.modules and not kernel.builtin:
        draft.find(
            "BOOT-003",
            f"The kernel {kernel.version} has no modules and no list of them, so it is not known whether it has virtio.",
            remedy="Install its package anew in the source VM, or remove it.",
        )
        return
    role = "starts by default and" if starts else "does not start by default; it"
    draft.find(
        "BOOT-002" if starts else "BOOT-001",
        f"The kernel {kernel.version} {role} has no {', '.join(absent)}: it cannot run on Magalu Cloud.",
        remedy=f"Make {fit[-1].version}, which has them, the default in the source VM."
        if starts and fit
        else "Remove it, or choose another in the menu."
        if fit
        else "Install a kernel that has virtio drivers in the source VM, and make it the default.",
        severity=Severity.ERROR if starts else Severity.NOTE,
    )


def _tell_unified(draft: Draft) -> None:
    """A kernel, its arguments and its initramfs in one program, which may be signed: nothing in it can be changed one by one."""
    for path in (path for pattern in UNIFIED for path in draft.glob(pattern)):
        file = draft.file(path)
        initrd = section(file.content, ".initrd") if file is not None else None
        if initrd is None:
            continue
        try:
            lacks = (
                ""
                if {"virtio_pci", "virtio_blk"} <= modules_inside(initrd)
                else ", which has no virtio_pci and virtio_blk"
            )
        except GuestError as error:
            lacks = f", which cannot be read: {error.message}"
        draft.find(
            "BOOT-009" if lacks else "BOOT-010",
            f"{path} is a kernel in one program with its arguments and its initramfs{lacks}; it is left as it is.",
            remedy="See whether it has the drivers built in, or build it anew with them in the source VM."
            if lacks
            else None,
            severity=Severity.WARNING if lacks else Severity.NOTE,
        )


def _tell_left(draft: Draft, kernel: Kernel, absent: frozenset[str]) -> None:
    draft.find(
        "BOOT-001",
        f"The kernel {kernel.version} does not start by default, and its initramfs has no {', '.join(sorted(absent))}: it is left as it is.",
        remedy="Build its initramfs anew on the new machine before you choose it in the menu, or remove it.",
        severity=Severity.NOTE,
    )


def _lacks(draft: Draft, kernel: Kernel, contents: Contents | str) -> bool:
    """Whether its initramfs is to be built anew. Without modules.dep no module can be loaded, whatever is in it."""
    absent = missing(kernel, contents)
    if absent and isinstance(contents, str):
        draft.find(
            "BOOT-004",
            f"The kernel {kernel.version} needs virtio modules at boot, and {contents}.",
            remedy="See whether the source VM boots this kernel at all.",
            severity=Severity.WARNING,
        )
    return kernel.initramfs is not None and (bool(absent) or not kernel.listed)


def _build(draft: Draft, lacking: list[Kernel], contents: Mapping[str, Contents | str]) -> None:
    build = builder(draft)
    names = ", ".join(kernel.version for kernel in lacking)
    if build is None:
        absent = sorted(missing(lacking[0], contents[lacking[0].version])) or ["list of modules"]
        draft.find(
            "BOOT-005",
            f"The initramfs of {lacking[0].version} has no {', '.join(absent)}, and nothing that we know is there to build another: neither "
            "initramfs-tools, dracut, mkinitrd, mkinitfs nor mkinitcpio.",
            remedy=f"Build one with {', '.join(DRIVERS)} in the source VM.",
            severity=Severity.ERROR,
        )
        return
    if _tell_no_room(draft, build, lacking, contents):
        return
    initramfs_settings.add_drivers(
        draft, build, _drivers(lacking), why=f"leaves the disk drivers of KVM out of the initramfs of {names}"
    )
    lists = "" if all(kernel.listed for kernel in lacking) else ", and modules.dep, without which no module is loaded"
    draft.rebuild(Rebuild.INITRAMFS, why=f"lacks the disk drivers of KVM for {names}{lists}")


def _drivers(lacking: list[Kernel]) -> tuple[str, ...]:
    return tuple(driver for driver in DRIVERS if any(kernel.has(driver) for kernel in lacking))


def _tell_no_room(draft: Draft, build: Builder, lacking: list[Kernel], contents: Mapping[str, Contents | str]) -> bool:
    sizes = {
        kernel.initramfs or "": held.size
        for kernel in lacking
        if isinstance(held := contents[kernel.version], Contents)
    }
    short = boot_room.shortages(draft, build, sizes)
    for shortage in short:
        draft.find(
            "BOOT-008",
            shortage.text,
            remedy="Make room there in the source VM: old kernels are what mostly takes it.",
            severity=Severity.ERROR,
        )
    return bool(short)
