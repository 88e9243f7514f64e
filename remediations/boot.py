"""From UEFI firmware to the boot loader, on a machine that has forgotten where it was."""

from migrate.draft import Draft
from migrate.guest import File, Kind
from migrate.remediation import Settings, remediation
from migrate.source import Firmware

ESP_FOLDERS = ("/boot/efi", "/efi", "/boot")
VENDORS = {"rhel": ("redhat",), "centos": ("centos",), "opensuse-leap": ("opensuse",), "sles": ("sles", "opensuse")}
LOADERS = ("shimx64.efi", "shim.efi", "grubx64.efi", "grub.efi", "systemd-bootx64.efi")
COMPANIONS = ("grubx64.efi", "mmx64.efi", "grub.cfg")
DEBCONF = "/var/cache/debconf/config.dat"
REMOVABLE_QUESTION = "grub2/force_efi_extra_removable"


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
