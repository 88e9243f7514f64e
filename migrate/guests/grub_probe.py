"""A stand-in for grub-probe: in the overlay room the root is an overlay, of which the real one can tell nothing."""

import shlex

from migrate.guest import Filesystem, Layout
from migrate.guests.disks import EXT, mapped_name


def grub_probe(layout: Layout) -> str:
    """Return a shell script that answers like grub-probe(8) does on the real disk: the root, and /boot where it has its own partition."""
    root = layout.root_filesystem
    boot = next((fs for fs in layout.filesystems if fs.mountpoint == "/boot"), root)
    return f"""#!/bin/sh
# A stand-in while magalu-migrate works in its overlay room.
target=device where=/
while [ $# -gt 0 ]; do
    case "$1" in
    --target=*) target="${{1#--target=}}" ;;
    -t|--target) target="$2"; shift ;;
    --device|-d|--device-map|-m|--*) ;;
    *) where="$1" ;;
    esac
    shift
done
case "$where" in
/boot|/boot/*|{shlex.quote(boot.device)}|{shlex.quote(mapped_name(boot.device))}) {_probe_answers(layout, boot)} ;;
*) {_probe_answers(layout, root)} ;;
esac
case "$target" in
device) echo "$device" ;;
fs) echo "$fs" ;;
fs_uuid) echo "$uuid" ;;
fs_label) echo "$label" ;;
partuuid) echo "$partuuid" ;;
partmap) echo "$partmap" ;;
drive) echo "($place)" ;;
disk) echo "$disk" ;;
compatibility_hint) echo "$place" ;;
abstraction) echo "$abstraction" ;;
hints_string|bios_hints|efi_hints|baremetal_hints|cryptodisk_uuid) echo ;;
*) exit 1 ;;
esac
"""


def _probe_answers(layout: Layout, fs: Filesystem) -> str:
    partmap = {"dos": "msdos"}.get(layout.table, layout.table)
    volume = fs.disk is None
    device = mapped_name(fs.device) if volume else fs.device
    values = {
        "device": device,
        "disk": device.rstrip("0123456789"),
        "fs": "ext2" if fs.type in EXT else fs.type,
        "uuid": fs.uuid or "",
        "label": fs.label or "",
        "partuuid": fs.partuuid or "",
        "partmap": partmap,
        "abstraction": "lvm" if volume else "",
        "place": f"lvm/{device.rpartition('/')[2]}" if volume else f"hd{fs.disk},{partmap}{fs.partition or 1}",
    }
    return " ".join(f"{name}={shlex.quote(value)}" for name, value in values.items())
