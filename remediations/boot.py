"""From the firmware to a mounted root: on virtio disks, with a console that the cloud can show."""

from pathlib import PurePosixPath

from migrate.draft import Draft
from migrate.effects import Severity
from migrate.guest import File, Kind, Rebuild
from migrate.remediation import Settings, remediation
from migrate.source import Firmware
from remediations import kernel_arguments
from remediations.grub_menu import default_kernel
from remediations.kernel_arguments import Arguments
from remediations.kernels import Kernel, inside, kernels

TO_MOUNT_ROOT = frozenset({"virtio", "virtio_ring", "virtio_pci", "virtio_blk", "virtio_scsi"})
"""Without these in its initramfs a kernel never sees its root disk."""
NEEDED_DRIVERS = ("virtio_pci", "virtio_blk", "virtio_net")
"""Without these a kernel cannot live on Magalu Cloud. virtio_net is loaded from the root file system, so it may be outside the initramfs."""
ADDED = ("virtio_pci", "virtio_blk", "virtio_scsi", "virtio_net")

INITRAMFS_MODULES = "/etc/initramfs-tools/modules"
INITRAMFS_DROP_IN = "/etc/initramfs-tools/conf.d/magalu-migrate"
DRACUT_DROP_IN = "/etc/dracut.conf.d/50-magalu-migrate.conf"
BUILDERS = ("/usr/sbin/update-initramfs", "/usr/bin/dracut", "/usr/sbin/dracut", "/sbin/dracut")

SERIAL = "console=ttyS0,115200n8"
SCREEN = "console=tty0"

ESP_FOLDERS = ("/boot/efi", "/efi", "/boot")
VENDORS = {"rhel": ("redhat",), "centos": ("centos",), "opensuse-leap": ("opensuse",), "sles": ("sles", "opensuse")}
LOADERS = ("shimx64.efi", "shim.efi", "grubx64.efi", "grub.efi", "systemd-bootx64.efi")
COMPANIONS = ("grubx64.efi", "mmx64.efi", "grub.cfg")
DEBCONF = "/var/cache/debconf/config.dat"
REMOVABLE_QUESTION = "grub2/force_efi_extra_removable"


@remediation(
    "virtio-in-initramfs",
    "Put the virtio drivers into every kernel's initramfs",
    sources=(
        "block-storage examples of Magalu's API: the root disk is /dev/vda, so virtio-blk",
        "kubevirt#11133, dracut#205, mkosi#56: a host-only initramfs without virtio ends in a dracut-initqueue timeout",
        "initramfs-tools(7), initramfs.conf(5), dracut.conf(5)",
        "Linux, drivers/virtio/Kconfig",
    ),
)
def virtio_in_initramfs(draft: Draft, settings: Settings) -> None:
    """A kernel finds its root only with the drivers in its initramfs, and one built on VMware often holds VMware's alone.

    For each kernel in /lib/modules with an image in /boot, the initramfs is unpacked and the virtio modules are looked for inside it; what is
    built into the kernel counts. Where one is missing it is written into the builder's own configuration, and every initramfs is
    built anew at the end. A kernel that has no virtio drivers at all is told.
    """
    found = kernels(draft)
    default = default_kernel(draft)
    for kernel in found:
        _tell_unfit(draft, kernel, is_default=kernel.version == default or len(found) == 1)
    if not found:
        draft.find(
            "BOOT-007",
            "No kernel was found: /lib/modules and /boot hold none that belong together.",
            remedy="Check that /boot was taken along.",
        )
    lacking = [kernel for kernel in found if _lacks(draft, kernel)]
    if lacking:
        _add_drivers(draft, lacking)


@remediation(
    "serial-console",
    "Show the kernel's and the system's messages on the serial console",
    sources=(
        "kernel.org, admin-guide/serial-console: the last console= is /dev/console; instances' init-logs show it",
        "Linux, Documentation/admin-guide/serial-console.rst: the last console= is /dev/console",
        "systemd-getty-generator(8): a serial console gets a login",
    ),
)
def serial_console(draft: Draft, settings: Settings) -> None:
    """The cloud keeps what a machine writes to its serial port; it is all that one sees of a boot that fails.

    Every kernel entry, and GRUB's settings for later ones, say console=ttyS0,115200n8, with console=tty0 before it where no console was named.
    Consoles that are named already stay.
    """
    kernel_arguments.add(
        draft, _lacking_consoles, why="sends no message to the serial port, which is all that a cloud shows"
    )


@remediation(
    "uefi-fallback-path",
    "Let UEFI firmware find the boot loader without its old settings",
    sources=(
        "UEFI 2.10, 3.5.1.1 Removable Media Boot Behavior: \\EFI\\BOOT\\BOOTX64.EFI",
        "forklift#24, packer-examples-for-vsphere#964: NVRAM entries do not travel",
        "shim README.fallback; Debian grub-efi-amd64.postinst, grub2/force_efi_extra_removable",
    ),
)
def uefi_fallback_path(draft: Draft, settings: Settings) -> None:
    """Firmware keeps the way to the boot loader in its own memory, which stays behind; without it only EFI/BOOT/BOOTX64.EFI is tried.

    On UEFI guests that file is the distribution's shim, or its GRUB where there is none, with what that loads beside it. Debian and Ubuntu
    are told to keep it up to date. One that is there already stays.
    """
    if draft.layout.firmware is not Firmware.UEFI:
        return
    esp = next((path for folder in ESP_FOLDERS if (path := _inside(draft, folder, "EFI")) is not None), None)
    if esp is None:
        draft.find(
            "BOOT-006",
            "The EFI system partition has no EFI folder, or is not mounted in fstab.",
            remedy="Mount it at /boot/efi in the source VM.",
        )
        return
    boot = _inside(draft, esp, "BOOT")
    if boot is None or _inside(draft, boot, "BOOTX64.EFI") is None:
        _fill_fallback(draft, esp, boot or f"{esp}/BOOT")


def _tell_unfit(draft: Draft, kernel: Kernel, *, is_default: bool) -> None:
    if kernel.modules is None:
        draft.find(
            "BOOT-003",
            f"The kernel {kernel.version} has no list of its modules (modules.dep), so it is not known whether it has virtio.",
            remedy=f"Run depmod {kernel.version} in the source VM.",
        )
        return
    missing = [module for module in NEEDED_DRIVERS if not kernel.has(module)]
    if missing:
        role = "starts by default and" if is_default else "does not start by default; it"
        draft.find(
            "BOOT-002" if is_default else "BOOT-001",
            f"The kernel {kernel.version} {role} has no {', '.join(missing)}: it cannot run on Magalu Cloud.",
            remedy="Install a kernel that has virtio drivers in the source VM"
            + (", and make it the default." if is_default else "."),
            severity=Severity.ERROR if is_default else Severity.NOTE,
        )


def _lacks(draft: Draft, kernel: Kernel) -> bool:
    wanted = kernel.closure(TO_MOUNT_ROOT)
    if not wanted:
        return False
    held = inside(draft, kernel)
    if isinstance(held, str):
        draft.find(
            "BOOT-004",
            f"The kernel {kernel.version} needs virtio modules at boot, and {held}.",
            remedy="See whether the source VM boots this kernel at all.",
            severity=Severity.WARNING,
        )
        return kernel.initramfs is not None
    return not wanted <= held


def _add_drivers(draft: Draft, lacking: list[Kernel]) -> None:
    versions = ", ".join(kernel.version for kernel in lacking)
    why = f"leaves the disk drivers of KVM out of the initramfs of {versions}"
    builder = next((PurePosixPath(path).name for path in BUILDERS if draft.exists(path)), None)
    if {"initramfs-tools", "initramfs-tools-core"} & set(draft.packages) or builder == "update-initramfs":
        added = [module for module in ADDED if any(kernel.has(module) for kernel in lacking)]
        text = draft.read(INITRAMFS_MODULES) or ""
        draft.write(INITRAMFS_MODULES, with_modules(text, added), why=why)
        if _initramfs_tools_setting(draft) == "dep":
            draft.write(
                INITRAMFS_DROP_IN,
                "# Written by magalu-migrate: MODULES=dep looks at the machine that builds, which is not the one that boots.\nMODULES=most\n",
                why="makes the initramfs fit the machine that builds it only",
            )
    elif "dracut" in draft.packages or builder == "dracut":
        drivers = " ".join(module for module in ADDED if any(module in (kernel.modules or {}) for kernel in lacking))
        draft.write(
            DRACUT_DROP_IN,
            "# Written by magalu-migrate: the machine that builds the initramfs is not the one that boots.\n"
            f'hostonly="no"\nadd_drivers+=" {drivers} "\n',
            why=why,
        )
    else:
        draft.find(
            "BOOT-005",
            f"The initramfs of {lacking[0].version} has no virtio drivers, and neither initramfs-tools nor dracut is there to build another.",
            remedy=f"Build one with {', '.join(ADDED)} in the source VM.",
            severity=Severity.ERROR,
        )
        return
    draft.rebuild(Rebuild.INITRAMFS, why=f"lacks the disk drivers of KVM for {versions}")


def with_modules(text: str, wanted: list[str]) -> str:
    """Return an initramfs-tools/modules file that names these modules too; `_` and `-` are the same to modprobe."""
    lines = text.split("\n")
    named = {line.split()[0].replace("-", "_") for line in lines if line.strip() and not line.lstrip().startswith("#")}
    new = [module for module in wanted if module not in named]
    return text + "\n" * (bool(text) and not text.endswith("\n")) + "".join(f"{module}\n" for module in new)


def _initramfs_tools_setting(draft: Draft) -> str:
    """The last file wins: mkinitramfs reads initramfs.conf, then conf.d in order."""
    value = "most"
    for path in ("/etc/initramfs-tools/initramfs.conf", *draft.glob("/etc/initramfs-tools/conf.d/*")):
        for line in (draft.read(path) or "").splitlines():
            key, equals, setting = line.strip().partition("=")
            if key == "MODULES" and equals:
                value = setting.split("#")[0].strip().strip("\"'")
    return value


def _lacking_consoles(arguments: Arguments) -> Arguments:
    consoles = [word.removeprefix("console=") for word in arguments if word.startswith("console=")]
    if any(console.split(",")[0] == "ttyS0" for console in consoles):
        return ()
    return (SERIAL,) if consoles else (SCREEN, SERIAL)


def _inside(draft: Draft, folder: str, name: str) -> str | None:
    """Return the path of an entry in a folder of the ESP, where upper and lower case are the same. Source: FAT specification."""
    found = next((entry for entry in draft.names(folder) if entry.lower() == name.lower()), None)
    return None if found is None else f"{folder}/{found}"


def _fill_fallback(draft: Draft, esp: str, boot: str) -> None:
    source = _loader(draft, esp)
    if source is None:
        draft.find(
            "BOOT-006",
            f"{esp} holds neither EFI/BOOT/BOOTX64.EFI nor a boot loader to make it from.",
            remedy="Install one in the source VM: grub-install --target=x86_64-efi --removable",
        )
        return
    why = "is the only place where firmware looks that does not have the old machine's settings"
    folder, loader = source.rpartition("/")[0], source.rpartition("/")[2]
    _copy(draft, source, f"{boot}/BOOTX64.EFI", why)
    for name in COMPANIONS:
        companion = _inside(draft, folder, name)
        if companion is not None and companion != source and (name == "grub.cfg" or loader.lower().startswith("shim")):
            _copy(draft, companion, _inside(draft, boot, name) or f"{boot}/{name}", f"is what {boot}/BOOTX64.EFI loads")
    draft.edit(
        DEBCONF,
        lambda text: with_debconf_answer(text, REMOVABLE_QUESTION, "true"),
        why="keeps upgrades of GRUB from renewing EFI/BOOT, whose GRUB then no longer fits its modules",
    )


def _loader(draft: Draft, esp: str) -> str | None:
    """Prefer the distribution's own folder, and a shim, which loads with and without Secure Boot."""
    own = [*VENDORS.get(draft.os.id, ()), draft.os.id]
    others = [name for name in draft.names(esp) if name.lower() not in ("boot", "microsoft", *own)]
    for vendor in (*own, *others):
        folder = _inside(draft, esp, vendor)
        if folder is None or draft.kind(folder) is not Kind.FOLDER:
            continue
        for name in LOADERS:
            path = _inside(draft, folder, name)
            if path is not None and draft.file(path) is not None:
                return path
    return None


def _copy(draft: Draft, source: str, target: str, why: str) -> None:
    file = draft.file(source)
    if isinstance(file, File):
        draft.write(target, file.content, why=why)


def with_debconf_answer(text: str, question: str, answer: str) -> str:
    """Return debconf's database with this answer to a question that is in it. Source: debconf-devel(7), config.dat."""
    paragraphs = text.split("\n\n")
    for number, paragraph in enumerate(paragraphs):
        lines = paragraph.split("\n")
        if f"Name: {question}" not in lines:
            continue
        kept = [line for line in lines if not line.startswith("Value:")]
        place = next((at + 1 for at, line in enumerate(kept) if line.startswith("Template:")), 1)
        paragraphs[number] = "\n".join([*kept[:place], f"Value: {answer}", *kept[place:]])
    return "\n\n".join(paragraphs)
