"""The program of a guest that builds its initramfs, and how it is called for one kernel.

Each is given the kernel and the image, never "all": one kernel that cannot be built for (a half removed one) would fail the others.

Sources: update-initramfs(8), mkinitramfs(8); dracut(8) (--no-hostonly is there since 014, and RHEL 6 has 004); SUSE's mkinitrd(8) up to SLES 11;
mkinitrd(8) of RHEL 5; mkinitfs(1) of Alpine; mkinitcpio(8) of Arch.
"""

from dataclasses import dataclass
from enum import Enum

from migrate.draft import Draft

DRIVERS = ("virtio_pci", "virtio_blk", "virtio_scsi", "virtio_net")
"""What is put into an initramfs that is built anew. The root's disk is virtio-blk; the others spare the next cloud the same trouble."""


class Kind(Enum):
    INITRAMFS_TOOLS = "initramfs-tools"
    DRACUT = "dracut"
    SUSE_MKINITRD = "SUSE's mkinitrd"
    RED_HAT_MKINITRD = "Red Hat's mkinitrd"
    MKINITFS = "mkinitfs"
    MKINITCPIO = "mkinitcpio"


PROGRAMS = {
    Kind.INITRAMFS_TOOLS: ("/usr/sbin/update-initramfs", "/sbin/update-initramfs"),
    Kind.DRACUT: ("/usr/bin/dracut", "/usr/sbin/dracut", "/sbin/dracut"),
    Kind.MKINITFS: ("/sbin/mkinitfs", "/usr/sbin/mkinitfs"),
    Kind.MKINITCPIO: ("/usr/bin/mkinitcpio", "/usr/sbin/mkinitcpio", "/sbin/mkinitcpio"),
    # Last, and one program of two makers: where dracut is, mkinitrd only calls it.
    Kind.SUSE_MKINITRD: ("/sbin/mkinitrd",),
    Kind.RED_HAT_MKINITRD: ("/sbin/mkinitrd",),
}
PACKAGES = {Kind.INITRAMFS_TOOLS: ("initramfs-tools", "initramfs-tools-core"), Kind.DRACUT: ("dracut",)}
SUSE_CONFIG = "/etc/sysconfig/kernel"
DEPMOD = ("/sbin/depmod", "/usr/sbin/depmod", "/usr/bin/depmod", "/bin/depmod")


@dataclass(frozen=True, slots=True)
class Builder:
    kind: Kind
    program: str

    def command(
        self, version: str, image: str, kernel: str, drivers: tuple[str, ...], *, old: bool = False
    ) -> list[str]:
        """Return the command that builds the initramfs `image` for a kernel; `kernel` is its own image.

        `drivers` are those of DRIVERS that it has as modules. `old` says that it is a dracut which takes everything anyway and has no word for it.
        """
        match self.kind:
            case Kind.INITRAMFS_TOOLS:
                # -c: whatever update-initramfs.conf says of updates; -t: also where the old one was not built by it.
                return [self.program, "-c", "-t", "-k", version]
            case Kind.DRACUT:
                everything = [] if old else ["--no-hostonly"]
                added = ["--add-drivers", " ".join(drivers)] if drivers else []
                return [self.program, "--force", *everything, *added, image, version]
            case Kind.SUSE_MKINITRD:
                return [self.program, "-k", kernel, "-i", image]
            case Kind.RED_HAT_MKINITRD:
                disk = [word for word in drivers if word != "virtio_net"]
                return [
                    self.program,
                    "-f",
                    *(f"--preload={word}" for word in disk),
                    "--with=virtio_net",
                    image,
                    version,
                ]
            case Kind.MKINITFS:
                return [self.program, "-o", image, version]
            case Kind.MKINITCPIO:
                # autodetect would look at the machine that builds.
                return [self.program, "-k", version, "-g", image, "-S", "autodetect"]


def builder(draft: Draft) -> Builder | None:
    """Return what builds the guest's initramfs; None where there is nothing that we know."""
    for kind, programs in PROGRAMS.items():
        if kind is Kind.SUSE_MKINITRD and not _is_suse(draft):
            continue
        if kind is Kind.INITRAMFS_TOOLS and _is_wrapper(draft):
            continue
        found = next((path for path in programs if draft.exists(path)), None)
        if found is not None:
            return Builder(kind, found)
    named = (kind for kind, names in PACKAGES.items() if set(names) & set(draft.packages))
    return next((Builder(kind, PROGRAMS[kind][0]) for kind in named), None)


def is_old_dracut(draft: Draft) -> bool:
    """Whether it is RHEL 6's, which knows no --no-hostonly and takes every driver by itself. Later ones live in /usr/lib/dracut."""
    return draft.exists("/usr/share/dracut/dracut-functions")


def _is_wrapper(draft: Draft) -> bool:
    """Whether update-initramfs is the one that Debian's dracut brings, from Debian 13 on, and that only calls it."""
    dracut = any(draft.exists(path) for path in PROGRAMS[Kind.DRACUT])
    return dracut and "initramfs-tools" not in draft.packages


def _is_suse(draft: Draft) -> bool:
    return draft.os.family == "suse" or "INITRD_MODULES" in (draft.read(SUSE_CONFIG) or "")
