"""The machines of demo and tests: what the builder writes by itself, and that each machine is what its module says."""

import fcntl
import hashlib
import json
import os
import re
import signal
import struct
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from defusedxml import ElementTree

from fixtures.machines import MachineError, built
from fixtures.machines.base import base_key
from fixtures.machines.cache import builder_lock, cache_folder, forget_unused, machine_key
from fixtures.machines.disk import GPT_ESP, LINUX, MIB, Disk, Partition, empty_disk, uuid_of
from fixtures.machines.grub import Volume, embed_bios_grub, grub_probe_script
from fixtures.machines.host_apt import HostApt, host_apt
from fixtures.machines.ova import VirtualSystem, descriptor, manifest, write_ova
from fixtures.machines.workshop import REPOSITORY, Steps, Workshop

APT = HostApt(Path("/etc/apt/sources.list"), "deb mirror bookworm main\n", ())
ERP = VirtualSystem(
    name="erp <01>",
    vcpus=2,
    memory_mib=2048,
    mac="00:50:56:9a:12:34",
    network="VM & Network",
    os_type="debian12_64Guest",
    os_id=96,
    firmware="bios",
)
NAMESPACES = {
    "ovf": "http://schemas.dmtf.org/ovf/envelope/1",
    "rasd": "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData",
    "vmw": "http://www.vmware.com/schema/ovf",
}


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    return Workshop("erp", tmp_path, tmp_path / "base.tar", tmp_path / "archives", APT, Steps("erp"))


def sh(*command: str | Path) -> str:
    return subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True).stdout


# What the builder writes by itself


def test_the_descriptor_tells_the_hardware_and_keeps_names_as_they_are() -> None:
    text = descriptor(ERP, disk_file="erp-1.vmdk", disk_file_bytes=77, capacity=4 << 30, populated=5)
    root = ElementTree.fromstring(text)

    items = {
        item.findtext("rasd:ResourceType", namespaces=NAMESPACES): (
            item.findtext("rasd:ResourceSubType", namespaces=NAMESPACES),
            item.findtext("rasd:VirtualQuantity", namespaces=NAMESPACES),
            item.findtext("rasd:Address", namespaces=NAMESPACES),
            item.findtext("rasd:Connection", namespaces=NAMESPACES),
        )
        for item in root.iterfind(".//ovf:Item", NAMESPACES)
    }
    assert items == {
        "3": (None, "2", None, None),
        "4": (None, "2048", None, None),
        "6": ("VirtualSCSI", None, "0", None),
        "17": (None, None, None, None),
        "10": ("VmxNet3", None, "00:50:56:9a:12:34", "VM & Network"),
    }
    assert root.findtext(".//ovf:VirtualSystem/ovf:Name", namespaces=NAMESPACES) == "erp <01>"
    system = root.find(".//ovf:OperatingSystemSection", NAMESPACES)
    assert system is not None
    assert system.attrib == {f"{{{NAMESPACES['ovf']}}}id": "96", f"{{{NAMESPACES['vmw']}}}osType": "debian12_64Guest"}
    settings = [element.attrib for element in root.iterfind(".//vmw:Config", NAMESPACES)]
    assert {
        f"{{{NAMESPACES['ovf']}}}required": "false",
        f"{{{NAMESPACES['vmw']}}}key": "firmware",
        f"{{{NAMESPACES['vmw']}}}value": "bios",
    } in settings


def test_an_ova_holds_descriptor_manifest_and_disk_in_this_order_and_the_digests_are_right(tmp_path: Path) -> None:
    vmdk, ova = tmp_path / "disk.vmdk", tmp_path / "made.ova"
    vmdk.write_bytes(b"KDMV" + bytes(9000))
    write_ova(ova, ERP, vmdk, capacity=4 << 30, populated=5)

    with tarfile.open(ova) as tar:
        members = {name: (tar.extractfile(name) or pytest.fail(name)).read() for name in tar.getnames()}
    assert list(members) == ["erp <01>.ovf", "erp <01>.mf", "erp <01>-1.vmdk"]
    digests = {name: hashlib.sha256(members[name]).hexdigest() for name in ("erp <01>.ovf", "erp <01>-1.vmdk")}
    assert members["erp <01>.mf"].decode() == manifest(digests)
    assert members["erp <01>-1.vmdk"] == vmdk.read_bytes()


def test_grub_is_embedded_without_touching_the_partition_table(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    table = bytes(range(0x46))
    disk.write_bytes(bytes(0x1B8) + table + b"\x55\xaa" + bytes(512 * 20))
    (tmp_path / "boot.img").write_bytes(b"B" * 510 + b"\x55\xaa")
    (tmp_path / "core.img").write_bytes(b"C" * 1300)

    embed_bios_grub(disk, tmp_path, sector=5)

    written = disk.read_bytes()
    assert written[0x1B8:0x1FE] == table
    assert struct.unpack_from("<Q", written, 0x5C) == (5,)  # boot.img reads the first sector of core.img,
    assert struct.unpack_from("<QHH", written, 5 * 512 + 0x1F4) == (6, 2, 0x820)  # and that one reads the other two
    assert written[6 * 512 : 7 * 512] == b"C" * 512


def test_the_stand_in_for_grub_probe_knows_each_volume_and_nothing_else(tmp_path: Path) -> None:
    script = tmp_path / "grub-probe"
    script.write_text(
        grub_probe_script(
            (
                Volume("/", "/dev/mapper/vg0-root", "xfs", "1111", "gpt", "lvm/vg0-root", "lvm"),
                Volume("/boot", "/dev/sda2", "ext2", "2222", "gpt", "hd0,gpt2"),
            )
        )
    )
    boot = sh("sh", script, "--target=device", "/boot").strip()
    assert boot == "/dev/sda2"
    assert sh("sh", script, "--device", boot, "--target=fs_uuid") == "2222\n"
    assert sh("sh", script, "--device", "/dev/mapper/vg0-root", "--target=abstraction") == "lvm\n"
    assert subprocess.run(["sh", script, "-t", "fs", "/srv"], check=False).returncode == 1


def test_a_disk_holds_its_filesystems_where_the_partition_table_says(shop: Workshop, tmp_path: Path) -> None:
    folder = tmp_path / "tree"
    folder.mkdir()
    (folder / "hello").write_text("olá\n")
    (folder / "twin").hardlink_to(folder / "hello")
    esp, linux, swap = Partition(1, 40, GPT_ESP), Partition(41, 8, LINUX), Partition(49, 4, "S")
    disk = empty_disk(shop, 54)
    disk.partition("gpt", uuid_of("erp", "disk"), esp, linux, swap)
    disk.fat(esp, folder, serial="5A7C19E2")
    disk.ext4(linux, folder, uuid=uuid_of("erp", "linux"))
    disk.swap(swap, uuid=uuid_of("erp", "swap"))

    table = json.loads(sh("sfdisk", "--json", disk.path))["partitiontable"]["partitions"]
    found = [blkid(disk, part["start"] * 512, part["size"] * 512) for part in table]
    assert found == [
        {"TYPE": "vfat", "UUID": "5A7C-19E2"},
        {"TYPE": "ext4", "UUID": uuid_of("erp", "linux")},
        {"TYPE": "swap", "UUID": uuid_of("erp", "swap")},
    ]
    assert sh("mtype", "-i", f"{disk.path}@@1M", "::hello") == "olá\n"
    assert Ext4(disk.path, 41).text("/twin") == "olá\n"


def blkid(disk: Disk, offset: int, size: int) -> dict[str, str]:
    lines = sh("blkid", "--probe", "-O", str(offset), "-S", str(size), "-o", "export", disk.path).splitlines()
    told = dict(line.split("=", 1) for line in lines)
    return {key: told[key] for key in ("TYPE", "UUID")}


def test_a_machine_is_kept_under_a_key_of_its_name_and_of_the_sources_that_it_holds() -> None:
    other = HostApt(APT.sources, APT.text, ('Acquire::Check-Valid-Until "false";',))
    keys = [machine_key("debian12-cloud", APT), machine_key("debian12-cloud", other), machine_key("debian12-lvm", APT)]
    assert len(set(keys)) == 3
    assert machine_key("debian12-cloud", APT) == keys[0]


def test_a_second_builder_waits_for_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with builder_lock(), (cache_folder() / "lock").open() as second, pytest.raises(BlockingIOError):
        fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with (cache_folder() / "lock").open() as second:
        fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_cache_forgets_what_is_superseded_or_unused_and_what_a_killed_builder_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    ages = {
        "debian12-lvm-new": 600,
        "debian12-lvm-used": 1200,
        "debian12-lvm-old": 7200,
        "debian12-uefi-only": 7200,
        "debian12-cloud-unused": 8 * 86400,
        "partial-killed": 1,
        "archives": 9 * 86400,
    }
    for name, age in ages.items():
        folder = cache_folder() / name
        folder.mkdir(parents=True)
        os.utime(folder, (time.time() - age,) * 2)
    forget_unused()
    left = {entry.name for entry in cache_folder().iterdir()}
    assert left == {"debian12-lvm-new", "debian12-lvm-used", "debian12-uefi-only", "archives"}


@pytest.mark.parametrize(
    ("name", "format", "said"),
    [
        ("debian13-vmware", None, r"no machine 'debian13-vmware'; there are debian12-vmware, debian12-cloud"),
        ("debian12-cloud", "ova", r"cannot be had as 'ova'; it can as raw, qcow2, vmdk, vhd, vhdx$"),
    ],
)
def test_what_cannot_be_had_is_refused_with_what_can(name: str, format: str | None, said: str) -> None:
    with pytest.raises(MachineError, match=said):
        built(name, format=format)


# What the machines are


@dataclass(frozen=True)
class Ext4:
    """Reads an ext4 in a raw disk, without mounting it. Source: debugfs(8); ext2fs takes ?offset= in a file's name."""

    disk: Path
    start: int  # MiB

    def text(self, path: str) -> str:
        return self._debugfs(f"cat {path}")

    def names(self, folder: str) -> set[str]:
        lines = self._debugfs(f"ls -p {folder}").split()
        return {line.split("/")[5] for line in lines if line.count("/") >= 6} - {".", ".."}

    def initramfs(self, folder: str, into: Path) -> str:
        """Return the names of the files in the only initramfs of the folder."""
        (image,) = (name for name in self.names(folder) if name.startswith("initrd.img-"))
        self._debugfs(f"dump {folder}/{image} {into / image}")
        return sh("lsinitramfs", into / image)

    def packages(self) -> set[str]:
        return set(re.findall(r"^Package: (\S+)$", self.text("/var/lib/dpkg/status"), re.MULTILINE))

    def _debugfs(self, request: str) -> str:
        done = subprocess.run(
            ["debugfs", "-R", request, f"{self.disk}?offset={self.start * MIB}"], capture_output=True, check=True
        )
        # debugfs says what it did not find on stderr, and ends with 0.
        assert b"not found" not in done.stderr, done.stderr
        return done.stdout.decode()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="machines-") as folder:
        yield Path(folder)


@pytest.mark.slow
def test_the_vmware_machine_is_an_ova_whose_disk_qemu_reads(folder: Path) -> None:
    ova = built("debian12-vmware")
    with tarfile.open(ova) as tar:
        members = tar.getmembers()
    assert [member.name for member in members] == [
        "debian12-vmware.ovf",
        "debian12-vmware.mf",
        "debian12-vmware-1.vmdk",
    ]
    place = f"json:{json.dumps({'driver': 'vmdk', 'file': {'driver': 'raw', 'offset': members[2].offset_data, 'size': members[2].size, 'file': {'driver': 'file', 'filename': str(ova)}}})}"
    told = json.loads(sh("qemu-img", "info", "--output=json", place))
    assert told["virtual-size"] == 4 << 30
    assert told["format-specific"]["data"]["create-type"] == "streamOptimized"


@pytest.mark.slow
def test_the_vmware_machine_boots_on_vmware_only(folder: Path) -> None:
    root = Ext4(built("debian12-vmware", format="raw"), 3)

    initramfs = root.initramfs("/boot", folder)
    assert "vmw_pvscsi.ko" in initramfs
    assert "virtio" not in initramfs
    assert "sbin/fsck.ext4" in initramfs
    assert {"open-vm-tools", "ifupdown", "nftables", "debian-archive-keyring", "linux-image-amd64"} <= root.packages()
    assert not {"cloud-init", "openssh-server", "netplan.io"} & root.packages()
    assert "root=/dev/sda2" in root.text("/boot/grub/grub.cfg")
    assert "/dev/sda2 / ext4" in root.text("/etc/fstab")
    assert "/dev/sda3 none swap" in root.text("/etc/fstab")
    for pinned in ("/etc/network/interfaces", "/etc/udev/rules.d/70-persistent-net.rules"):
        assert "00:50:56:9a:12:34" in root.text(pinned)
    assert "00:50:56:9a:12:34" in root.text("/etc/systemd/network/10-ens192.link")
    assert "policy drop" in root.text("/etc/nftables.conf")
    assert "nftables.service" in root.names("/etc/systemd/system/sysinit.target.wants")
    assert "192.168.10.20" in root.text("/etc/keepalived/keepalived.conf")
    assert root.text("/home/operador/.ssh/authorized_keys").startswith("ssh-ed25519 ")


@pytest.mark.slow
def test_the_vmware_machine_has_the_hosts_sources_and_nothing_of_the_builder(folder: Path) -> None:
    root, apt = Ext4(built("debian12-vmware", format="raw"), 3), host_apt()
    assert root.text(str(apt.sources)) == apt.text
    assert "99mmdebstrap" not in root.names("/etc/apt/apt.conf.d") | root.names("/etc/dpkg/dpkg.cfg.d")
    assert "policy-rc.d" not in root.names("/usr/sbin")
    assert root.names("/var/lib/apt/lists") == {"partial"}
    assert "disk" not in root.names("/dev")


@pytest.mark.slow
def test_the_cloud_machine_has_what_an_instance_needs(folder: Path) -> None:
    root = Ext4(built("debian12-cloud", format="raw"), 2)
    assert "virtio_blk.ko" in root.initramfs("/boot", folder)
    assert {"cloud-init", "cloud-guest-utils", "openssh-server", "netplan.io"} <= root.packages()
    assert not {name for name in root.names("/etc/ssh") if name.startswith("ssh_host_")}
    assert "console=ttyS0" in root.text("/boot/grub/grub.cfg")
    assert root.text("/etc/machine-id") == ""


@pytest.mark.slow
def test_the_uefi_machine_has_a_loader_only_where_its_boot_entry_points_to() -> None:
    raw = built("debian12-uefi", format="raw")
    files = sh("mdir", "-/", "-b", "-i", f"{raw}@@1M", "::").split()
    assert files == ["::/EFI/", "::/EFI/debian/", "::/EFI/debian/grub.cfg", "::/EFI/debian/grubx64.efi"]
    root = Ext4(raw, 381)
    assert "/dev/sda2 /boot ext4" in root.text("/etc/fstab")
    assert root.names("/boot") == set()
    assert "grub" in Ext4(raw, 125).names("/")
    assert "MACAddress=00:0d:3a:5b:6c:7d" in root.text("/etc/systemd/network/10-azure.network")
    assert "ssh_host_ed25519_key" in root.names("/etc/ssh")
    assert root.text("/root/.ssh/authorized_keys").startswith("ssh-ed25519 ")
    assert "cloud-init" not in root.packages()


@pytest.mark.slow
def test_the_uefi_machine_is_a_fixed_vhd_of_whole_mebibytes_or_a_vhdx() -> None:
    vhd, vhdx = built("debian12-uefi"), built("debian12-uefi", format="vhdx")
    with vhd.open("rb") as file:
        footer = os.pread(file.fileno(), 512, vhd.stat().st_size - 512)
    assert (footer[:8], struct.unpack_from(">Q", footer, 48), struct.unpack_from(">I", footer, 60)) == (
        b"conectix",
        (2048 * MIB,),
        (2,),  # fixed
    )
    assert json.loads(sh("qemu-img", "info", "--output=json", "-f", "vhdx", vhdx))["virtual-size"] == 2048 * MIB


@pytest.mark.slow
def test_the_lvm_machine_has_its_root_on_lvm_and_its_cloud_init_switched_off() -> None:
    commands = """
    run
    lvs
    vfs-type /dev/vg0/root
    vfs-type /dev/vg0/var
    mount-ro /dev/vg0/root /
    mount-ro /dev/vg0/var /var
    cat /etc/fstab
    cat /etc/cloud/cloud.cfg.d/99-disable-network-config.cfg
    cat /etc/cloud/cloud.cfg.d/99-vmware-datasource.cfg
    exists /etc/cloud/cloud-init.disabled
    exists /var/lib/dpkg/status
    getxattr /usr/bin/ping security.capability
    """
    appliance = {"LIBGUESTFS_BACKEND": "direct", "LIBGUESTFS_BACKEND_SETTINGS": "force_tcg"}
    disk = built("debian12-lvm")
    told = subprocess.run(
        ["guestfish", "--ro", "--format=vmdk", "-a", disk],
        input=commands.encode(),
        capture_output=True,
        env=os.environ | appliance,
        check=True,
    ).stdout
    before, capability = told[: -len(told.split(b"true\ntrue\n")[1])], told.split(b"true\ntrue\n")[1]
    lines = before.decode().splitlines()
    assert lines[:4] == ["/dev/vg0/root", "/dev/vg0/var", "xfs", "ext4"]
    assert "/dev/mapper/vg0-root / xfs defaults 0 0" in lines
    assert "network: {config: disabled}" in lines
    assert "datasource_list: [ VMware, OVF ]" in lines
    assert capability.startswith(b"\x01\x00\x00\x02\x00\x20")  # VFS_CAP_REVISION_2 | effective, cap_net_raw (bit 13)
    assert "root=/dev/mapper/vg0-root" in Ext4(built("debian12-lvm", format="raw"), 2).text("/grub/grub.cfg")


@pytest.mark.slow
def test_the_azure_machine_has_what_its_agent_wrote_by_itself_in_a_fixed_vhd() -> None:
    vhd, raw = built("debian12-azure"), built("debian12-azure", format="raw")
    assert vhd.stat().st_size == 2048 * MIB + 512
    with vhd.open("rb") as file:
        assert os.pread(file.fileno(), 8, 2048 * MIB) == b"conectix"
    parts = json.loads(sh("sfdisk", "-J", raw))["partitiontable"]["partitions"]
    assert [part["node"].removeprefix(str(raw)) for part in sorted(parts, key=lambda part: part["start"])] == [
        "14",
        "15",
        "1",
    ]
    root = Ext4(raw, 128)
    assert {"waagent", "hyperv-daemons", "cloud-init", "chrony", "netplan.io"} <= root.packages()
    assert "walinuxagent-network-setup.service" in root.names("/etc/systemd/system/network.target.wants")
    assert "TransportPrivate.pem" in root.names("/var/lib/waagent")
    assert "walinuxagent-network-setup" not in root.text("/var/lib/dpkg/info/waagent.list")
    assert "driver: hv_netvsc" in root.text("/etc/netplan/50-cloud-init.yaml")
    assert "PHC /dev/ptp_hyperv" in root.text("/etc/chrony/chrony.conf")
    assert "rootdelay=300 " in root.text("/boot/grub/grub.cfg")


@pytest.mark.slow
def test_the_aws_machine_boots_by_uefi_only_and_nothing_of_the_network_is_its_own() -> None:
    raw = built("debian12-aws")
    types = {part["type"] for part in json.loads(sh("sfdisk", "-J", raw))["partitiontable"]["partitions"]}
    assert types == {"C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "0FC63DAF-8483-4772-8E79-3D69D8477DE4"}
    assert "::/EFI/BOOT/BOOTX64.EFI" in sh("mdir", "-/", "-b", "-i", f"{raw}@@1M", "::").split()
    root = Ext4(raw, 125)
    assert {"amazon-ec2-utils", "amazon-ec2-net-utils", "ec2-instance-connect", "amazon-ssm-agent"} <= root.packages()
    assert "AuthorizedKeysCommand" in root.text("/lib/systemd/system/ssh.service.d/ec2-instance-connect.conf")
    assert "ec2-instance-connect.conf" not in root.text("/var/lib/dpkg/info/ec2-instance-connect.list")
    assert root.names("/etc/systemd/network") == set()
    assert root.text("/usr/lib/systemd/network/80-ec2.network").startswith("[Match]\nDriver=ena")
    assert "RegistrationKey" in root.names("/var/lib/amazon/ssm/Vault/Store")
    assert "/dev/nvme0n1p1 / ext4" in root.text("/etc/fstab")


@pytest.mark.slow
def test_a_killed_builder_leaves_no_machine_no_mount_and_no_process(tmp_path: Path) -> None:
    built("debian12-cloud")  # so that the base is there
    ours, theirs = tmp_path / "magalu-migrate/machines", cache_folder()
    ours.mkdir(parents=True)
    base = f"base-{base_key(host_apt())}.tar"
    if (theirs / base).exists():
        (ours / base).symlink_to(theirs / base)
    builder = subprocess.Popen(
        [sys.executable, "-m", "fixtures.machines", "debian12-cloud"],
        cwd=REPOSITORY,
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    with builder:
        assert builder.stderr is not None
        for line in builder.stderr:
            if "base unpacked" in line:
                break
        builder.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while (left := processes_with(str(tmp_path))) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
    assert list(ours.glob("debian12-cloud-*")) == []


def processes_with(word: str) -> list[str]:
    found = []
    for commandline in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = commandline.read_bytes().replace(b"\0", b" ").decode()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
        if word in words:
            found.append(words)
    return found
