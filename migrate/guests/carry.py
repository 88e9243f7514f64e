"""Carry what was done in the overlay room to the guest's disk: one tar for each of its file systems, through the appliance."""

from collections.abc import Sequence
from pathlib import Path

from migrate.errors import GuestError
from migrate.guests.appliance import Calls
from migrate.guests.appliance_guest import ApplianceGuest
from migrate.guests.cell import ROOM
from migrate.guests.immutable import with_folders
from migrate.guests.room import Layer, RoomGuest
from migrate.guests.scrub import scrub
from migrate.guests.upper import Difference

OURS = "user.overlay."
"""overlayfs's own marks; they must not travel."""

S_IFSOCK = 0o140000


def carry(room: RoomGuest, guest: ApplianceGuest, call: Calls) -> None:
    """Everything that was changed in the room is on the disk: content, owners, modes, times, hard links, devices, attributes, ACLs, capabilities.

    Where a folder became a file or the other way round, the old one goes first. Raise GuestError where it cannot be done; the disk is to be
    thrown away then.
    """
    for path in room.given_up:
        guest.remove(path)
    for layer in room.layers:
        if layer.mountpoint not in guest.mountpoints:
            raise GuestError(f"{layer.mountpoint} of the guest is mounted in the room, and not in the appliance")
        found = room.agent.at(layer.upper).difference(layer.lower)
        changed = [_at(layer, path) for path in (*found.gone, *found.put, *found.sockets)]
        with guest.loosened(room.immutable(tuple(with_folders(changed)))):
            _remove(guest, call, [_at(layer, path) for path in found.gone])
            if layer.type == "vfat":
                _copy(room, call, layer, found)
            elif found.put:
                _unpack(room, call, layer, found)
            for path in found.sockets:
                call.mknod(S_IFSOCK | 0o755, 0, 0, _at(layer, path))
    for change in room.layout_changes:
        guest.change_layout(change)


def _at(layer: Layer, path: str) -> str:
    return layer.mountpoint.rstrip("/") + path


def _remove(guest: ApplianceGuest, call: Calls, paths: Sequence[str]) -> None:
    """Most are files, and unlink(2) takes a millisecond; rm -rf is a program, and takes 0.2 s under emulation."""
    scrub(call, paths)
    for path in paths:
        try:
            call.rm(path)
        except GuestError:
            guest.remove(path, scrubbed=True)


def _unpack(room: RoomGuest, call: Calls, layer: Layer, found: Difference) -> None:
    """tar packs in the cell, where the owners are the guest's, and unpacks in the appliance. Source: tar(1), "Extended file attributes"."""
    archive = f"{ROOM}/carried.tar"
    names = "".join(f".{path}\0" for path in found.put).encode("utf-8", "surrogateescape")
    words = [
        "tar",
        "--create",
        "--file",
        archive,
        "--directory",
        layer.upper,
        "--no-recursion",
        "--null",
        "--files-from=-",
    ]
    words += ["--numeric-owner", "--acls", "--xattrs", "--xattrs-include=*", f"--xattrs-exclude={OURS}*", "--sparse"]
    room.cell.tool(words, stdin=names)
    try:
        outside = Path(f"/proc/{room.cell.pid}/root{archive}")
        call.tar_in(str(outside), layer.mountpoint, xattrs=True, acls=True)
    finally:
        room.cell.tool(["rm", "-f", archive])


def _copy(room: RoomGuest, call: Calls, layer: Layer, found: Difference) -> None:
    """vfat knows neither owners nor links: its files are put one by one."""
    for path in found.put:
        source = Path(f"/proc/{room.cell.pid}/root{layer.upper}{path}")
        if source.is_symlink():
            raise GuestError(f"{_at(layer, path)} is a link, which an EFI system partition cannot hold")
        if source.is_dir():
            call.mkdir_p(_at(layer, path))
        else:
            call.upload(str(source), _at(layer, path))
