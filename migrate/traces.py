"""What programs write by themselves when packages change or something is built anew: known, so that it is no surprise on a guest's disk.

A preview cannot show it, because it is the guest's own programs that write it. What is not in here, and nobody else explains, is drift.
"""

import re
from dataclasses import dataclass
from enum import Enum


class Cause(Enum):
    PACKAGES = "packages were changed"
    INITRAMFS = "the initramfs was built anew"
    BOOTLOADER = "the boot loader's menu was written anew"
    LABELS = "SELinux labels were set"


@dataclass(frozen=True, slots=True)
class Trace:
    """Paths that a cause may change, and what they are."""

    cause: Cause
    what: str
    places: re.Pattern[str]


def _trace(cause: Cause, what: str, *places: str) -> Trace:
    return Trace(cause, what, re.compile("|".join(f"(?:{place})" for place in places)))


TRACES = (
    # Sources: dpkg(1), FILES; apt.conf(5), Dir; debconf(7); ucf(1); rpm(8), FILES; dnf(8); yum(8); zypper(8).
    _trace(
        Cause.PACKAGES,
        "the package manager's own records",
        r"^/var/lib/dpkg(/|$)",
        r"^/var/(lib|cache)/(apt|debconf|ucf|rpm|dnf|yum|zypp|PackageKit)(/|$)",
        r"^/usr/lib/sysimage/rpm(/|$)",
        r"^/var/log/(dpkg\.log|alternatives\.log|apt|dnf|yum|hawkey|zypp|zypper)",
        r"^/var/backups/(dpkg|apt)\.",
        r"^/lib/apk/db(/|$)",
        r"^/etc/(dpkg|rpm|apk)/origins",
    ),
    # Sources: useradd(8), FILES; deb-systemd-helper(1p); update-rc.d(8); systemctl(1), preset; runit-helper's README; update-alternatives(1); pam-auth-update(8).
    _trace(
        Cause.PACKAGES,
        "users and groups of packages",
        r"^/etc/(passwd|shadow|group|gshadow|subuid|subgid)-?$",
        r"^/etc/\.pwd\.lock$",
    ),
    _trace(
        Cause.PACKAGES,
        "services of packages, switched on or off",
        r"^/var/lib/systemd/deb-systemd-(user-)?helper-(enabled|masked)(/|$)",
        r"^/etc/systemd/(system|user)/[^/]+\.(wants|requires)(/|$)",
        r"^/etc/systemd/system/[\w@.\\-]+\.(service|socket|timer|target)$",
        r"^/etc/rc(\d|S|\.d/rc\d)\.d/[SK]\d\d",
        r"^/etc/init\.d/\.depend\.(boot|start|stop)$",
        r"^/etc/runlevels(/|$)",
        r"^/etc/runit/runsvdir/",
    ),
    _trace(
        Cause.PACKAGES,
        "choices among programs",
        r"^/etc/alternatives(/|$)",
        r"^/var/lib/(dpkg/)?alternatives(/|$)",
        r"^/var/lib/pam/",
        r"^/etc/pam\.d/common-",
    ),
    # Sources: ldconfig(8); mandb(8); py3compile(1); systemd-hwdb(8); journalctl(1), --update-catalog; update-mime-database(1); update-ca-certificates(8).
    _trace(
        Cause.PACKAGES,
        "caches of what is installed",
        r"^/etc/ld\.so\.cache$",
        r"^/var/cache/(ldconfig|man|fontconfig)(/|$)",
        r"/__pycache__(/|$)",
        r"\.py[co]$",
        r"^/(etc|usr/lib)/udev/hwdb\.bin$",
        r"^/var/lib/systemd/catalog(/|$)",
        r"^/usr/share/(mime|icons|applications|glib-2\.0|info)/.*(cache|compiled|dir(\.old)?|mime\.\w+|XMLnamespaces)$",
        r"^/etc/ssl/certs/",
        r"^/usr/lib/locale/locale-archive$",
        r"^/usr/lib/.*/(giomodule|loaders)\.cache$",
    ),
    # Sources: update-initramfs(8), FILES; dracut(8); mkinitrd(8); depmod(8).
    _trace(
        Cause.INITRAMFS,
        "the initramfs and what its builder remembers",
        r"^/boot/(initrd|initramfs)",
        # By the Boot Loader Specification: below the boot partition, the machine-id or another token, the kernel. Source: kernel-install(8).
        r"^/(boot|efi)(/efi)?/[^/]+/[^/]+/(initrd|initramfs)[^/]*$",
        r"^/var/lib/initramfs-tools(/|$)",
        r"^/var/lib/dracut(/|$)",
        r"^/usr/lib/modules/[^/]+/modules\.",
    ),
    # Sources: grub-mkconfig(8); grub2-mkconfig(8); grub-editenv(1).
    _trace(
        Cause.BOOTLOADER,
        "the boot loader's menu",
        r"^/boot/grub2?/(grub\.cfg(\.new)?|grubenv)$",
        r"^/boot/efi/EFI/[^/]+/grub\.cfg$",
        r"^/boot/loader/entries(/|$)",
    ),
    _trace(Cause.LABELS, "marks of relabelling", r"^/\.autorelabel$", r"^/etc/selinux/.*/(contexts/files/.*\.bin)$"),
)


def trace(path: str, causes: frozenset[Cause]) -> str | None:
    """Return what a path is, where one of the causes writes it by itself."""
    return next((each.what for each in TRACES if each.cause in causes and each.places.search(path)), None)
