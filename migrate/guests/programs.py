"""The guest's own programs as both rooms run them: its package manager."""

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from typing import Protocol

from migrate.errors import GuestError
from migrate.guest import Entry, File, Kind, Package, PackageChange, Packaging
from migrate.guests import apk
from migrate.guests.paths import Files, parent, resolved
from migrate.guests.rpmdb import EVR, KEYS, name_of, record
from migrate.guests.system import packaging_of

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "DEBCONF_NONINTERACTIVE_SEEN": "true",
    "APT_LISTCHANGES_FRONTEND": "none",
    "NEEDRESTART_SUSPEND": "1",
    "SYSTEMD_OFFLINE": "1",  # systemctl changes links only, and asks no systemd; systemd's docs/ENVIRONMENT.md
}

POLICY = "/usr/sbin/policy-rc.d"
NO_SERVICES = File(b"#!/bin/sh\nexit 101\n", 0o755)
"""invoke-rc.d asks it before starting a service; 101 is "forbidden by policy". Source: /usr/share/doc/init-system-helpers/README.policy-rc.d."""

INITRAMFS_CONF = "/etc/initramfs-tools/update-initramfs.conf"
NO_INITRAMFS = "\nupdate_initramfs=no\n"
"""Packages trigger update-initramfs (95 s in a room) for every kernel; ours comes once, at the end. Source: update-initramfs.conf(5)."""

IDENTITIES = re.compile(
    r"/etc/ssh/ssh_host_\w+_key(\.pub)?|/etc/machine-id|/var/lib/dbus/machine-id|/etc/ssl/private/ssl-cert-snakeoil\.key"
)
"""What package scripts make once per machine; an image must not hold it."""

RPM_ENVIRONMENT = ENVIRONMENT | {
    # Ours comes once, at the end. The first is for kernel-install, systemd's docs/ENVIRONMENT.md; the second names what SUSE's
    # regenerate-initrd-posttrans runs (suse-module-tools).
    "KERNEL_INSTALL_BYPASS": "1",
    "DRACUT": "/bin/true",
}

APT = (
    "apt-get",
    "--assume-yes",
    "--no-install-recommends",
    "--allow-downgrades",
    *("--option", "Dir::Etc::sourcelist=/dev/null", "--option", "Dir::Etc::sourceparts=/dev/null"),
    *("--option", "Dir::Cache::pkgcache=", "--option", "Dir::Cache::srcpkgcache="),
    *("--option", "APT::Sandbox::User=root", "--option", "APT::Get::AutomaticRemove=false"),
    *("--option", "DPkg::Options::=--force-confdef", "--option", "DPkg::Options::=--force-confold"),
    *("--option", "DPkg::Options::=--force-unsafe-io"),
    *("--option", "Dpkg::Use-Pty=0"),  # so that dpkg's own errors are in ours
)


class Programs(Files, Protocol):
    """Files of a guest, and its programs run in a room: without network, as root of the guest."""

    def store(self, path: str, entry: Entry | None) -> None: ...

    def remove(self, path: str) -> None: ...

    def execute(self, argv: Sequence[str], *, env: Mapping[str, str]) -> str:
        """Run a program of the guest and return what it writes. Raise GuestError with its last words where it fails."""


def change_packages(room: Programs, change: PackageChange, packages: Sequence[str]) -> None:
    """The transaction is performed; `packages` are the paths of the package files inside the guest.

    Raise GuestError where the package manager fails, or where it did more or less than was planned.
    """
    if not change.install and not change.remove:
        return
    before = _identities(room)
    running = frozenset(room.names("/run"))
    match packaging_of(room):
        case Packaging.RPM:
            _change_rpm(room, change, packages)
        case Packaging.APK:
            _change_apk(room, change)
        case _:
            _change_dpkg(room, change, packages)
    for path in _identities(room) - before:
        room.store(path, None)
    # A machine that runs keeps /run in memory. The overlay room does too, the appliance does not.
    for name in set(room.names("/run")) - running:
        room.remove(f"/run/{name}")


def _change_dpkg(room: Programs, change: PackageChange, packages: Sequence[str]) -> None:
    with _held_back(room, POLICY, NO_SERVICES), _held_back(room, INITRAMFS_CONF, _switched_off(room)):
        if change.remove:
            # Purged: a vendor's configuration goes too. The list is complete, so nothing else can go.
            room.execute(["dpkg", "--force-unsafe-io", "--purge", *map(_named, change.remove)], env=ENVIRONMENT)
        if packages:
            room.execute([*APT, "install", *packages], env=ENVIRONMENT)


def _change_rpm(room: Programs, change: PackageChange, packages: Sequence[str]) -> None:
    """rpm itself, not dnf or zypper: it takes the list as it is, asks no repository, and removes nothing that nobody needs any more.

    Signatures were verified on the host, by keys that the guest may not have imported yet.
    """
    before = _installed_rpms(room)
    replaced = {words.split()[0] for package in change.install for words in record(package).obsoletes}
    going = [record(package).nevra for package in change.remove if name_of(package) not in replaced]
    if going:
        _erase_rpms(room, [_without_epoch(nevra) for nevra in going])
    if packages:
        room.execute(["rpm", "--upgrade", "--nosignature", *packages], env=RPM_ENVIRONMENT)
    after = _installed_rpms(room)
    coming = {record(package).nevra: name_of(package) for package in change.install}
    leaving = {record(package).nevra for package in change.remove}
    renewed = {nevra for nevra in before if nevra.rsplit("-", 2)[0] in coming.values()}
    _held_to("rpm", after - before, set(coming) - before)
    _held_to("rpm", before - after - renewed, leaving)


def _erase_rpms(room: Programs, names: Sequence[str]) -> None:
    """They are gone in one transaction, and their configuration with them: rpm would keep what was changed as *.rpmsave."""
    listed = room.execute(["rpm", "--query", "--list", *names], env=RPM_ENVIRONMENT).splitlines()
    owned = [path for path in listed if path.startswith("/")]
    saved = [f"{path}.rpmsave" for path in owned]
    kept = {path for path in saved if _is_there(room, path)}
    try:
        room.execute(["rpm", "--erase", *names], env=RPM_ENVIRONMENT)
    except GuestError:
        # A script before the removal failed and kept its package: `systemctl disable --now` does where no systemd runs. The others are gone.
        left = sorted({_without_epoch(nevra) for nevra in _installed_rpms(room)} & set(names))
        room.execute(["rpm", "--erase", "--nopreun", *left], env=RPM_ENVIRONMENT)
    for path in saved:
        if path not in kept and _is_there(room, path):
            at = resolved(room, path, last=False)
            room.store(at, None)
            folder = parent(at)
            if folder in owned and room.kind(folder) is Kind.FOLDER and not room.names(folder):
                room.store(folder, None)


def _installed_rpms(room: Programs) -> set[str]:
    said = room.execute(["rpm", "-qa", "--qf", f"%{{NAME}}-{EVR}.%{{ARCH}}\n"], env=RPM_ENVIRONMENT)
    return {line.replace("-0:", "-") for line in said.splitlines() if not line.startswith(f"{KEYS}-")}


def _change_apk(room: Programs, change: PackageChange) -> None:
    """apk takes out of its world what was asked for, and with it what only that needed: all of that is in the list."""
    before = _installed_apks(room)
    room.execute(["apk", "--no-network", "del", *(package.name for package in change.remove)], env=ENVIRONMENT)
    _held_to("apk", before - _installed_apks(room), {package.name for package in change.remove})


def _installed_apks(room: Programs) -> set[str]:
    entry = room.load(resolved(room, apk.INSTALLED))
    return {each.package.name for each in apk.stanzas(entry.text if isinstance(entry, File) else "")}


def _held_to(program: str, done: Set[str], planned: Set[str]) -> None:
    if more := sorted(done ^ planned):
        raise GuestError(
            f"the guest's {program} did not do what was planned: {', '.join(more)} changed, or did not. The repair is thrown away."
        )


def _is_there(room: Programs, path: str) -> bool:
    return room.kind(resolved(room, path, last=False)) is not Kind.MISSING


def _without_epoch(nevra: str) -> str:
    """Older rpms do not take an epoch in a package's full name."""
    return re.sub(r"-\d+:(?=[^-]*-[^-]*$)", "-", nevra)


@contextmanager
def _held_back(room: Programs, path: str, entry: Entry | None) -> Iterator[None]:
    """The entry is at the path while the block lasts; what was there before is there again afterwards. None: nothing is done."""
    if entry is None:
        yield
        return
    at = resolved(room, path)
    before = None if room.kind(at) is Kind.MISSING else room.load(at)
    room.store(at, entry)
    try:
        yield
    finally:
        # A package may have brought its own meanwhile.
        if room.kind(at) is not Kind.MISSING and room.load(at) == entry:
            room.store(at, before)


def _switched_off(room: Programs) -> File | None:
    at = resolved(room, INITRAMFS_CONF)
    match room.load(at) if room.kind(at) is Kind.FILE else None:
        case File(mode=mode, uid=uid, gid=gid) as file:
            return File((file.text + NO_INITRAMFS).encode("utf-8", "surrogateescape"), mode, uid, gid)
    return None


def _identities(room: Programs) -> frozenset[str]:
    folders = {parent(path) for path in ("/etc/ssh/x", "/etc/x", "/var/lib/dbus/x", "/etc/ssl/private/x")}
    found = (f"{folder}/{name}" for folder in folders for name in room.names(folder))
    return frozenset(path for path in found if IDENTITIES.fullmatch(path))


def _named(package: Package) -> str:
    return package.name if package.arch == "all" or ":" in package.name else f"{package.name}:{package.arch}"
