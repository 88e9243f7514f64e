"""What a serial console says when a boot goes wrong, and what that means in words.

Each pattern was taken from the program that prints it; the source stands beside it. `dead` symptoms end a boot: nothing follows them but silence.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from migrate.text import shown

REASONS_KEPT = 8


@dataclass(frozen=True, slots=True)
class Symptom:
    """`means` may name groups of `pattern`; `loader` marks what does not matter once a kernel runs, `vague` what is only
    told where nothing better was found."""

    pattern: re.Pattern[str]
    means: str
    dead: bool = False
    loader: bool = False
    vague: bool = False


def _symptom(pattern: str, means: str, *, dead: bool = False, loader: bool = False, vague: bool = False) -> Symptom:
    return Symptom(re.compile(pattern, re.MULTILINE), means, dead, loader, vague)


FALLBACK = (
    r"UEFI finds no boot loader on the disk. Entries in NVRAM do not travel with an image: "
    r"\EFI\BOOT\BOOTX64.EFI must be on the EFI system partition."
)
SHELL = "the boot stopped in the initramfs, at an emergency shell"

SYMPTOMS = (
    # SeaBIOS, src/boot.c
    _symptom(
        r"^(?:No bootable device|Boot failed: not a bootable disk)",
        "the BIOS finds no boot loader on the disk (No bootable device).",
        dead=True,
    ),
    # EDK2, MdeModulePkg/Universal/BdsDxe/BdsEntry.c, Library/UefiBootManagerLib/BmBoot.c, ShellPkg
    _symptom(r"BdsDxe: No bootable option or device was found|^Shell> ?$|UEFI Interactive Shell", FALLBACK, dead=True),
    # GRUB, grub-core/kern/rescue_reader.c, grub-core/normal/main.c, grub-core/kern/disk.c
    _symptom(r"^error: no such device: (?P<name>\S+?)\.$", "GRUB does not find the file system {name}.", loader=True),
    _symptom(
        # Fonts and translations are often missing, and never needed.
        r"^error: (?P<what>(?!.*\.(?:pf2|mo|gz)\b)(?:disk|file|symbol|no such partition|unknown filesystem).{0,120}?)\.$",
        "GRUB says: {what}.",
        loader=True,
    ),
    _symptom(
        r"^grub rescue>",
        "GRUB stopped at its rescue prompt: it does not find its modules or its root.",
        dead=True,
        vague=True,
    ),
    _symptom(
        r"Minimal BASH-like line editing is supported", "GRUB stopped at its prompt: it found no menu.", dead=True
    ),
    # Linux, init/do_mounts.c, kernel/panic.c
    _symptom(
        r"Kernel panic - not syncing: VFS: Unable to mount root fs on (?P<device>\S+)",
        "the kernel cannot mount its root file system ({device}): no driver for the virtio disk in the kernel or its initramfs, "
        "or no initramfs, or a root= that names no device here.",
        dead=True,
    ),
    _symptom(r"Kernel panic - not syncing: (?!VFS: Unable)(?P<what>.{1,160})", "kernel panic: {what}", dead=True),
    _symptom(
        r'VFS: Cannot open root device "(?P<device>[^"\n]+)"', "the kernel does not find the root device {device}."
    ),
    # initramfs-tools, scripts/local and scripts/functions
    _symptom(
        r"ALERT! +(?P<device>\S+) does not exist\. +Dropping to a shell!",
        "the initramfs waited for the root device {device}, and it never came: either the initramfs has no driver for the virtio disk "
        "(virtio_pci, virtio_blk), or root= names a device that does not exist here.",
        dead=True,
    ),
    _symptom(r"^\(initramfs\) ?$", f"{SHELL} (initramfs-tools).", dead=True, vague=True),
    # dracut, modules.d/98dracut-systemd, modules.d/99base/dracut-lib.sh
    _symptom(
        r"dracut-initqueue.*Warning: (?P<device>/dev/\S+) does not exist",
        "the initramfs waited for {device}, and it never came: the initramfs has no driver for the virtio disk, or the kernel command "
        "line names a device that does not exist here.",
    ),
    _symptom(r"^dracut:/#|Generating \"/run/initramfs/rdsosreport.txt\"", f"{SHELL} (dracut).", dead=True, vague=True),
    # lvm2, cryptsetup, systemd's ask-password
    _symptom(r'Volume group "(?P<name>[\w.+-]{1,127})" not found', "the volume group {name} is not found."),
    _symptom(
        r"[Pp]lease (?:enter passphrase for|unlock) disk (?P<name>\S+)",
        "it waits for a passphrase ({name}).",
        dead=True,
    ),
    # e2fsprogs, e2fsck/problem.c
    _symptom(
        r"UNEXPECTED INCONSISTENCY; RUN fsck MANUALLY",
        "the file system check found damage that it does not mend by itself.",
    ),
    # systemd, src/core/job.c, src/core/unit.c, src/core/emergency-mode, units/emergency.service.in; sulogin(8)
    _symptom(
        r"Timed out waiting for device (?:\S+ - )?(?P<device>\S.{0,120}?)\.?$",
        "systemd waited in vain for the device {device}.",
    ),
    _symptom(
        r"\[FAILED\] Failed to (?P<verb>mount|start) (?:\S+ - )?(?P<what>.{1,100}?)\.?$", "failed to {verb} {what}."
    ),
    _symptom(
        r"\[DEPEND\] Dependency failed for (?:\S+ - )?(?P<what>.{1,100}?)\.?$",
        "given up, because something else failed: {what}.",
    ),
    _symptom(r"You are in (?P<mode>emergency|rescue) mode", "systemd stopped in {mode} mode.", dead=True),
    _symptom(
        r"(?:Give root password for|Press Enter for) maintenance|Cannot open access to console, the root account is locked",
        "systemd stopped and waits for an administrator at the console.",
        dead=True,
        vague=True,
    ),
    # cloud-init, cloudinit/config/cc_final_message.py, cloudinit/sources/DataSourceNone.py
    _symptom(
        r"Used fallback datasource|Datasource DataSourceNone", "cloud-init found no datasource and took its fallback."
    ),
    _symptom(r"No (?:instance )?datasource found", "cloud-init found no datasource."),
    _symptom(
        r"^\[[ \d.]+\] Out of memory: Killed process \d+ \((?P<name>[^)\n]{1,40})\)",
        "out of memory: {name} was killed.",
    ),
)

# systemd, src/core/manager.c: repeated while a job waits.
WAITING = re.compile(
    r"(?:A start job is running for|Job) (?P<what>.{1,120}?)(?:/start running)? \((?P<time>[\dminhs ]+ / [^)\n]{1,20})\)"
)

LINUX = re.compile(r"Linux version (\S+)")
ON_SCREEN = re.compile(
    r"^\[ *\d+\.\d{6}\] |\(initramfs\)|Gave up waiting for|Kernel panic|^\S+ login: |systemd\[1\]", re.MULTILINE
)
"""What shows on a screen that a kernel runs, where the serial console is silent."""
KERNEL_LINE = re.compile(r"^\[ *\d+\.\d{6}\] |^\[  OK  \] |Linux version \S+|^\S+ login: ?$", re.MULTILINE)
CLOUD_INIT_DONE = re.compile(r"Cloud-init v\. .* finished at .* Datasource (\S+)")
KEYS_FOR = re.compile(r"Authorized keys from \S+ for user ([a-z_][a-z0-9_.-]{0,31})\b")
LOGIN_PROMPT = re.compile(r"^\S+ login: ?$", re.MULTILINE)


def found(console: str) -> list[str]:
    """Return in words what the console shows to be wrong, in the order of the table, each once."""
    said = list(dict.fromkeys(_meanings(console, vague=False))) or list(dict.fromkeys(_meanings(console, vague=True)))
    if (waiting := _still_waiting(console)) is not None:
        said.append(waiting)
    return said[:REASONS_KEPT]


def _meanings(console: str, *, vague: bool) -> Iterator[str]:
    kernel_ran = KERNEL_LINE.search(console) is not None
    for symptom in SYMPTOMS:
        if symptom.vague is not vague or (symptom.loader and kernel_ran):
            continue
        for match in symptom.pattern.finditer(console):
            yield symptom.means.format(**{name: shown(text.strip()) for name, text in match.groupdict().items()})


def _still_waiting(console: str) -> str | None:
    """Return what the console's end says is still waited for."""
    waits = [*WAITING.finditer(console[-2000:])]
    return f"it still waits for {shown(waits[-1]['what'].strip())} ({waits[-1]['time'].strip()})." if waits else None


def is_dead(console_end: str) -> bool:
    """Say whether the end of a console shows that nothing more will come."""
    return any(symptom.dead and symptom.pattern.search(console_end) for symptom in SYMPTOMS)
