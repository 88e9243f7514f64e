"""The guest in memory: written as YAML, and imitating what repairs rely on."""

import pytest

from migrate.errors import GuestError, PackagesUnavailable
from migrate.guest import DropPartition, File, Folder, Kind, Link, MakeSwapFile, Rebuild
from migrate.guests.memory import from_yaml
from migrate.initramfs import modules_inside
from migrate.source import Firmware

VMWARE = """
os: {id: debian, version_id: "12", codename: bookworm}
packages:
  open-vm-tools: {version: "2:12.2.0-1", depends: [libc6], files: [/usr/bin/vmtoolsd], conffiles: [/etc/vmware-tools/tools.conf]}
  task-vmware: {depends: [open-vm-tools]}
  libc6: {version: "2.36"}
available:
  cloud-init: {version: "22.4.2", depends: [libc6, python3], files: {/etc/cloud/cloud.cfg: "users: [default]"}, size: 400}
  python3: {version: "3.11", size: 100}
kernels:
  6.1.0: {modules: {virtio_net: [failover], failover: [], virtio_blk: [], vmw_pvscsi: []}, builtin: [ext4], initramfs: [vmw_pvscsi]}
files:
  /etc/initramfs-tools/initramfs.conf: "MODULES=list\\n"
  /etc/initramfs-tools/modules: "virtio-net\\n"
  /etc/shadow: {content: "root:*", mode: 0o640, gid: 42}
  /etc/localtime: {link: /usr/share/zoneinfo/UTC}
  /var/lib/empty: {folder: true, mode: 0700}
  /root/key: {base64: aGFsbG8=}
  /run/socket: {other: true}
"""


def test_a_yaml_guest_has_every_kind_of_entry() -> None:
    guest = from_yaml(VMWARE)
    assert guest.load("/etc/shadow") == File(b"root:*", 0o640, 0, 42)
    assert guest.load("/etc/localtime") == Link("/usr/share/zoneinfo/UTC")
    assert guest.load("/var/lib/empty") == Folder(0o700)
    assert guest.load("/root/key") == File(b"hallo")
    assert guest.kind("/run/socket") is Kind.OTHER
    assert guest.load("/lib") == Link("usr/lib")


def test_a_yaml_guest_is_a_debian_12_with_one_ext4_root_where_it_does_not_say() -> None:
    guest = from_yaml("")
    assert (guest.os.id, guest.os.version_id, guest.layout.root_filesystem.type) == ("debian", "12", "ext4")
    assert guest.layout.firmware is Firmware.BIOS


def test_an_unknown_key_is_named() -> None:
    with pytest.raises(GuestError, match="no pakages"):
        from_yaml("pakages: {}")


def test_an_installation_brings_what_it_depends_on() -> None:
    change = from_yaml(VMWARE).plan_packages(install=("cloud-init", "libc6"))
    assert [p.name for p in change.install] == ["cloud-init", "python3"]
    assert change.download_bytes == 500


def test_a_removal_takes_what_depends_on_it() -> None:
    guest = from_yaml(VMWARE)
    change = guest.plan_packages(remove=("open-vm-tools", "never-there"))
    assert [p.name for p in change.remove] == ["open-vm-tools", "task-vmware"]
    guest.change_packages(change)
    assert list(guest.packages) == ["libc6"]
    assert guest.kind("/usr/bin/vmtoolsd") is Kind.MISSING


def test_a_plan_is_made_against_the_packages_it_is_given() -> None:
    guest = from_yaml(VMWARE)
    after = dict(guest.packages) | {p.name: p for p in guest.plan_packages(install=("cloud-init",)).install}
    assert guest.plan_packages(install=("cloud-init",), installed=after).install == ()


def test_a_configuration_file_that_is_there_is_kept() -> None:
    guest = from_yaml(VMWARE.replace("files:\n  /etc/init", "files:\n  /etc/cloud/cloud.cfg: mine\n  /etc/init"))
    assert guest.load("/etc/cloud/cloud.cfg") == File(b"mine")


def test_what_no_repository_has_is_named() -> None:
    with pytest.raises(PackagesUnavailable, match="no qemu-guest-agent"):
        from_yaml(VMWARE).plan_packages(install=("qemu-guest-agent",))


def test_a_rebuilt_initramfs_holds_what_its_configuration_asks_for() -> None:
    guest = from_yaml(VMWARE.replace("files:\n", "files:\n  /usr/sbin/update-initramfs: ''\n", 1))
    assert _modules(guest) == {"vmw_pvscsi"}
    guest.rebuild(Rebuild.INITRAMFS)
    assert _modules(guest) == {"vmw_pvscsi", "virtio_net", "failover"}
    guest.store("/etc/initramfs-tools/initramfs.conf", File(b"MODULES=most\n"))
    guest.rebuild(Rebuild.INITRAMFS)
    assert _modules(guest) == {"vmw_pvscsi", "virtio_net", "failover", "virtio_blk"}


def test_dracut_takes_all_drivers_but_those_that_its_configuration_omits() -> None:
    guest = from_yaml(
        """
        os: {id: almalinux, id_like: [rhel], version_id: "9.3"}
        kernels: {5.14: {modules: [virtio_blk, virtio_net, nvme], initramfs: [nvme]}}
        files: {/usr/bin/dracut: "", /etc/dracut.conf.d/virtio.conf: 'omit_drivers+=" virtio_net "'}
        """
    )
    guest.rebuild(Rebuild.INITRAMFS)
    entry = guest.load("/boot/initramfs-5.14.img")
    assert isinstance(entry, File) and modules_inside(entry.content) == {"nvme", "virtio_blk"}


def test_a_dropped_partition_is_gone_and_the_root_cannot_be_dropped() -> None:
    guest = from_yaml(
        """
        layout:
          disk_size: 40GiB
          filesystems:
            - {device: /dev/sda1, type: ext4, size: 38GiB, mountpoint: /}
            - {device: /dev/sda2, type: swap, size: 1GiB, mountpoint: swap}
        """
    )
    with pytest.raises(GuestError, match="root"):
        guest.change_layout(DropPartition(0, 1))
    guest.change_layout(DropPartition(0, 2))
    assert [fs.device for fs in guest.layout.filesystems] == ["/dev/sda1"]
    guest.change_layout(MakeSwapFile("/swapfile", 1 << 30))
    assert guest.kind("/swapfile") is Kind.FILE


def _modules(guest: object) -> frozenset[str]:
    entry = guest.load("/boot/initrd.img-6.1.0")  # type: ignore[attr-defined]
    return modules_inside(entry.content)
