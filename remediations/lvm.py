"""Logical volumes: found on the new disk, and grown with it."""

from migrate.draft import Draft
from migrate.effects import Severity
from migrate.guest import Filesystem, Layout, Rebuild
from migrate.remediation import Settings, remediation
from remediations import systemd
from remediations.device_names import BOOT_DISK, names_volume

MEMBER = "LVM2_member"
DEVICES = "/etc/lvm/devices/system.devices"
CACHE = "/etc/lvm/cache/.cache"
SETTINGS = "/etc/lvm/lvm.conf"

PROGRAM = "/usr/local/sbin/magalu-migrate-grow-root"
SCRIPT = """\
#!/bin/sh
# Written by magalu-migrate: cloud-init grows partitions and the file systems on them, but no logical volumes.
# What the disk has gained goes to the root's volume; what its group had left free stays free.
set -eu
root=$(findmnt -n -o SOURCE /)
group=$(lvs --noheadings -o vg_name "$root" | tr -d ' ')
free() { vgs --noheadings -o vg_free_count "$group" | tr -d ' '; }
before=$(free)
for member in $(pvs --noheadings -o pv_name -S "vg_name=$group"); do
    disk=$(lsblk -n -d -o PKNAME "$member")
    if [ -n "$disk" ]; then
        growpart "/dev/$disk" "$(cat "/sys/class/block/${member#/dev/}/partition")" || [ $? -eq 1 ]  # 1: no room to grow
    fi
    pvresize "$member"
done
gained=$(($(free) - before))
[ "$gained" -le 0 ] || lvextend -r -l "+$gained" "$root"
"""
UNIT = "magalu-migrate-grow-root.service"
SERVICE = f"""\
# Written by magalu-migrate.
[Unit]
Description=Grow the root volume with its disk
After=local-fs.target
ConditionPathExists=/usr/bin/growpart

[Service]
Type=oneshot
ExecStart={PROGRAM}

[Install]
WantedBy=multi-user.target
"""


@remediation(
    "forget-lvm-devices",
    "Let LVM look for its disks instead of remembering them",
    sources=(
        "lvmdevices(8): a file of devices hides all others; without one, all are used",
        "rear#3042, cloud-init PR#1514, crc snc#740: the file hides the group after the disk's id has changed",
    ),
)
def forget_lvm_devices(draft: Draft, settings: Settings) -> None:
    """Newer LVM uses only disks whose ids it has written down, and the id of a disk changes with its controller: the root is not found then.

    The list goes, from the initramfs too. Filters in lvm.conf stay and are told, for they may let only the old names pass.
    """
    for path in (DEVICES, CACHE):
        if draft.file(path) is not None:
            draft.remove(path, why="lists disks by what they were called on the old machine")
            draft.rebuild(Rebuild.INITRAMFS, why="keeps a copy of LVM's list of disks")
    filters = [line.strip() for line in (draft.read(SETTINGS) or "").splitlines() if _is_filter(line)]
    if filters:
        draft.find(
            "DISK-009",
            f"{SETTINGS} chooses disks by their names: {'; '.join(filters)[:200]}. The new disk is called /dev/vda.",
            remedy="See that the filter lets /dev/vda pass, or remove it in the source VM.",
        )


@remediation(
    "grow-root-volume",
    "Let the root's logical volume grow to the size of its new disk",
    sources=(
        "docs.magalu.cloud, import of custom images: growing at the first boot is required",
        "cloud-init, cc_growpart.py and cc_resizefs.py: they end at the partition",
        "growpart(1), pvresize(8), lvextend(8) -r",
    ),
)
def grow_root_volume(draft: Draft, settings: Settings) -> None:
    """cloud-init does not grow logical volumes, so a root on one would keep its size.

    On guests whose root is on LVM, on the boot disk's last partition, a service of ours gives what the disk has gained to the partition,
    the physical volume, the root's logical volume and its file system, at each boot. Space that was left free in the group on purpose
    stays free.
    """
    if not grows(draft):
        return
    why = "gives the root what its disk has gained; cloud-init does not grow logical volumes"
    draft.write(PROGRAM, SCRIPT, why=why, mode=0o755)
    draft.write(f"{systemd.OPERATORS}/{UNIT}", SERVICE, why=why)
    systemd.enable(draft, UNIT, why=why)
    draft.find(
        "DISK-005",
        f"The root is on {draft.layout.root}, a logical volume: a service of ours gives it what its disk has gained, at each boot. "
        "What its group had left free stays free.",
        severity=Severity.NOTE,
    )


def grows(draft: Draft) -> bool:
    """Whether `grow_root_volume` can make the root grow: its disk ends in a physical volume, and systemd starts the guest."""
    layout = draft.layout
    root = layout.root_filesystem
    last = _last(layout)
    return names_volume(root.device) and last is not None and last.type == MEMBER and systemd.runs(draft)


def _last(layout: Layout) -> Filesystem | None:
    on_boot_disk = (fs for fs in layout.filesystems if fs.disk == BOOT_DISK)
    return max(on_boot_disk, key=lambda fs: fs.start or 0, default=None)


def _is_filter(line: str) -> bool:
    key, equals, _ = line.strip().partition("=")
    return bool(equals) and key.strip() in ("filter", "global_filter")
