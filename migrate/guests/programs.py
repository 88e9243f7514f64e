"""The guest's own programs as both rooms run them: its package manager."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from migrate.guest import Entry, File, Kind, Package, PackageChange
from migrate.guests.paths import Files, parent, resolved

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

    def execute(self, argv: Sequence[str], *, env: Mapping[str, str]) -> str:
        """Run a program of the guest and return what it writes. Raise GuestError with its last words where it fails."""


def change_packages(room: Programs, change: PackageChange, packages: Sequence[str]) -> None:
    """The transaction is performed; `packages` are the paths of the package files inside the guest."""
    if not change.install and not change.remove:
        return
    before = _identities(room)
    with _held_back(room, POLICY, NO_SERVICES), _held_back(room, INITRAMFS_CONF, _switched_off(room)):
        if change.remove:
            # Purged: a vendor's configuration goes too. The list is complete, so nothing else can go.
            room.execute(["dpkg", "--force-unsafe-io", "--purge", *map(_named, change.remove)], env=ENVIRONMENT)
        if packages:
            room.execute([*APT, "install", *packages], env=ENVIRONMENT)
    for path in _identities(room) - before:
        room.store(path, None)


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
