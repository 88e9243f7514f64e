"""Whether anything of a vendor is still there, and why: looked at once all else is done, by the same data."""

import re
from collections.abc import Iterator, Sequence

from migrate.draft import Draft
from migrate.effects import Severity
from migrate.guest import Kind
from remediations import kernel_arguments, systemd
from remediations.fstab import FSTAB
from remediations.vendors import clocks, foreign_mounts, lines, package_sources, traces
from remediations.vendors.catalogue import Vendor
from remediations.vendors.owners import Owners
from remediations.vendors.patterns import installed, reason

SETTINGS = (
    "/etc/dracut.conf",
    "/etc/dracut.conf.d/*.conf",
    "/etc/initramfs-tools/modules",
    "/etc/initramfs-tools/initramfs.conf",
    "/etc/initramfs-tools/conf.d/*",
    "/etc/initramfs-tools/hooks/*",
    "/etc/initramfs-tools/scripts/*/*",
    "/etc/mkinitcpio.conf",
    "/etc/sysconfig/kernel",
    "/etc/modules",
    "/etc/modules-load.d/*.conf",
    "/etc/modprobe.conf",
    "/etc/modprobe.d/*.conf",
    "/etc/udev/rules.d/*.rules",
    "/etc/NetworkManager/conf.d/*.conf",
    "/etc/systemd/network/*",
    "/etc/systemd/system-preset/*.preset",
    "/etc/sysctl.conf",
    "/etc/sysctl.d/*.conf",
    "/etc/X11/xorg.conf",
    "/etc/ssh/sshd_config",
    "/etc/nsswitch.conf",
    "/etc/pam.d/*",
    "/etc/hosts",
    "/etc/resolv.conf",
)
"""Where drivers, devices, the network, logins and names are set up. Only /etc: what packages bring is theirs, and may come later."""
LARGEST = 1 << 20
MOST = 12


def tell(draft: Draft, vendors: tuple[Vendor, ...]) -> None:
    """It is said of each vendor that nothing is left, or what is, and why it stays."""
    gone = []
    settings = tuple(_texts(draft))
    for vendor in vendors:
        left = tuple(dict.fromkeys((*found(draft, vendor), *_settings(settings, vendor))))
        if not left:
            gone.append(vendor.name)
            continue
        more = f"; and {len(left) - MOST} more" if len(left) > MOST else ""
        draft.find(
            f"{vendor.code}-003",
            f"Of {vendor.name} there is still: {'; '.join(left[:MOST])}{more}.",
            remedy="It does no harm to the boot; remove it after the move if you like.",
            severity=Severity.NOTE,
        )
    if gone:
        draft.keep("nothing is left of", ", ".join(gone))


def found(draft: Draft, vendor: Vendor) -> Iterator[str]:
    """Yield what is there of a vendor, each with the reason why it stays. Files go without saying where their package is said."""
    for name in installed(draft, (*vendor.packages, *vendor.told_packages, *vendor.last_packages)):
        yield f"{name} ({_why_package(draft, vendor, name)})"
    owned = Owners(draft)
    there = (
        *traces.units(draft, vendor, owned),
        *traces.files(draft, vendor, last=False),
        *traces.files(draft, vendor, last=True),
        *traces.listed(draft, vendor)[0],
    )
    yield from (
        f"{trace.path} (it belongs to no package)"
        for trace in there
        if not owned.within(draft.real(trace.path) or trace.path)
    )
    for name in traces.staying_units(draft, vendor, owned):
        yield f"{name} ({'masked, as its package stays' if systemd.masked(draft, name) else 'its package stays'})"
    for pattern, why in vendor.kept.items():
        yield from (f"{path} (it {why})" for path in draft.glob(pattern))
    for path in _edited(draft, vendor):
        yield f"a line of {path}"


def _why_package(draft: Draft, vendor: Vendor, name: str) -> str:
    told = reason(name, vendor.kept_packages) or reason(name, vendor.told_packages)
    return f"it {told}" if told else "it is still installed"


def _edited(draft: Draft, vendor: Vendor) -> Iterator[str]:
    for group in vendor.lines:
        yield from lines.paths(draft, group)
    for repositories in vendor.repositories:
        yield from package_sources.switched_on(draft, repositories)
    yield from package_sources.mirrored(draft, vendor)
    yield from clocks.asking(draft, vendor)
    if foreign_mounts.claims(draft, (vendor,)):
        yield FSTAB
    for path, words in kernel_arguments.command_lines(draft):
        if any(kernel_arguments.is_one_of(word, vendor.kernel_arguments) for word in words):
            yield path


def _settings(texts: Sequence[tuple[str, str]], vendor: Vendor) -> Iterator[str]:
    """Yield the files that still name something of the vendor's, each reason with the files that it holds for."""
    for pattern, why in vendor.traces.items():
        paths = [path for path, text in texts if _is_said(text, pattern)]
        if paths:
            yield f"{', '.join(paths)} ({why})"


def _texts(draft: Draft) -> Iterator[tuple[str, str]]:
    """Yield the settings that are searched, with their paths."""
    for path in dict.fromkeys(path for pattern in SETTINGS for path in draft.glob(pattern)):
        file = draft.file(path) if draft.kind(path) is not Kind.OTHER else None
        if file is not None and len(file.content) <= LARGEST:
            yield path, file.text


def _is_said(text: str, pattern: str) -> bool:
    """Whether a line that is no comment holds what the pattern finds."""
    return any(re.search(pattern, line) for line in text.splitlines() if not line.lstrip().startswith(("#", ";")))
