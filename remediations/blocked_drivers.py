"""virtio drivers that somebody has forbidden the kernel to load: in modprobe's files, on its command line, in dracut's settings.

Sources: modprobe.d(5), "blacklist", "install" and "alias"; kernel-parameters.txt, "module_blacklist="; systemd-modules-load(8) and
modprobe(8), "modprobe.blacklist="; dracut.cmdline(7), "rd.driver.blacklist="; dracut.conf(5), "omit_drivers". Hardening guides and images
made for one hypervisor do so.
"""

import re
from pathlib import PurePosixPath

from migrate.draft import Draft
from migrate.guest import Rebuild
from migrate.initramfs_builder import builder
from migrate.kernels import TO_MOUNT_ROOT, kernels
from migrate.remediation import Settings, remediation
from remediations import kernel_arguments
from remediations.initramfs_settings import DRACUT_FILES

WHO = "# magalu-migrate:"
NEEDED = TO_MOUNT_ROOT | {"virtio_net", "virtio_scsi", "virtio_pci_modern_dev", "virtio_pci_legacy_dev"}
OPERATORS = ("/etc/modprobe.d/*.conf", "/etc/modprobe.conf")
PACKAGED = ("/lib/modprobe.d/*.conf", "/usr/lib/modprobe.d/*.conf", "/usr/local/lib/modprobe.d/*.conf")
ARGUMENTS = ("modprobe.blacklist", "module_blacklist", "rd.driver.blacklist", "rdblacklist")
WHY = "forbids a driver without which the new machine has no disk or no network"

_NOTHING = re.compile(r"(?:/usr)?/s?bin/(?:true|false|nologin)|true|false|:|/dev/null")
_OMITTED = re.compile(r"""^(\s*omit_drivers\+?=)(["'])([^"']*)(\2.*)$""")


@remediation(
    "let-drivers-load",
    "Let the kernel load the drivers of the new machine's disk and network card",
    sources=(
        "modprobe.d(5): blacklist, install, alias; dracut.conf(5): omit_drivers",
        "Linux, kernel-parameters.txt: module_blacklist=; modprobe(8): modprobe.blacklist=; dracut.cmdline(7): rd.driver.blacklist=",
    ),
)
def let_drivers_load(draft: Draft, settings: Settings) -> None:
    """Where a guest forbids its kernel virtio's drivers, it finds neither its disk nor its network card on Magalu Cloud, and nobody can say so.

    Lines of /etc/modprobe.d that forbid one become comments; the kernel's command lines and dracut's settings do not name them any more.
    Where an initramfs may hold such a line, it is built anew. Files of packages in /usr/lib are told and stay.
    """
    freed: set[str] = set()
    for path in (path for pattern in OPERATORS for path in draft.glob(pattern)):
        text = draft.read(path) or ""
        freed |= {name for line in text.splitlines() if (name := forbidden(line))}
        draft.edit(path, allowed, why=WHY)
    kernel_arguments.rewrite(draft, _without_drivers, why=WHY)
    for path in (path for pattern in DRACUT_FILES if pattern.startswith("/etc") for path in draft.glob(pattern)):
        draft.edit(
            path, taken_along, why="leaves out of each initramfs a driver without which the new machine has no disk"
        )
    found = kernels(draft)
    if any(kernel.closure(TO_MOUNT_ROOT) & freed for kernel in found) and builder(draft) is not None:
        draft.rebuild(Rebuild.INITRAMFS, why="may hold a line that forbids a driver of the new machine's disk")
    packaged = {draft.real(path): path for pattern in PACKAGED for path in draft.glob(pattern)}
    for path in packaged.values():
        if draft.exists(f"/etc/modprobe.d/{PurePosixPath(path).name}"):  # modprobe.d(5): it stands for the package's
            continue
        for number, line in enumerate((draft.read(path) or "").splitlines(), 1):
            if forbidden(line):
                draft.find(
                    "BOOT-012",
                    f"{path} line {number} forbids a driver that the new machine needs: {line.strip()}",
                    remedy="Remove the line, or the package that brings it, in the source VM.",
                )


def forbidden(line: str) -> str:
    """Return the driver of virtio that a line of modprobe's configuration keeps from being loaded; "" where it does not."""
    match line.split():
        case ["blacklist", name, *_]:
            pass
        case ["alias", name, "off", *_]:
            pass
        case ["install", name, command, *_] if _NOTHING.fullmatch(command):
            pass
        case _:
            return ""
    plain = name.replace("-", "_")
    return plain if plain in NEEDED else ""


def allowed(text: str) -> str:
    """Return modprobe's configuration in which lines that forbid a driver of virtio are comments."""
    lines = text.split("\n")
    return "\n".join(f"{WHO} needed on KVM: {line.rstrip(chr(92))}" if forbidden(line) else line for line in lines)


def taken_along(text: str) -> str:
    """Return dracut's settings without the drivers of virtio among those that are left out."""

    def line_changed(line: str) -> str:
        found = _OMITTED.match(line)
        if found is None:
            return line
        words = found[3].split()
        kept = [word for word in words if word.replace("-", "_").removesuffix(".ko") not in NEEDED]
        return line if kept == words else f"{found[1]}{found[2]} {' '.join(kept)} {found[4]}"

    return "\n".join(map(line_changed, text.split("\n")))


def _without_drivers(words: kernel_arguments.Arguments) -> kernel_arguments.Arguments:
    return tuple(after for word in words if (after := _argument(word)))


def _argument(word: str) -> str:
    """Return an argument without drivers of virtio in its list; "" where none is left in it."""
    name, equals, value = word.replace('"', "").replace("'", "").partition("=")
    if not equals or name not in ARGUMENTS:
        return word
    modules = value.split(",")
    kept = [module for module in modules if module.replace("-", "_") not in NEEDED]
    return word if kept == modules else f"{name}={','.join(kept)}" if kept else ""
