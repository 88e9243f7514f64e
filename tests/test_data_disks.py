"""A VM's data disks: known to the guest's repairs, never lost silently, sent beside the image, and made volumes of by the commands that are told."""

import os
import random
import signal
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from adapters.magalu.uploads import MAX_PARTS, OBJECT_LIMIT, part_size
from adapters.sandbox import Sandbox
from migrate import blocks
from migrate.data_disks import data_disk_reasons
from migrate.errors import NotMigratable, Reason
from migrate.guest import Entry, File, Folder
from migrate.guests.appliance import open_appliance
from migrate.guests.beside import Group, look_beside
from migrate.guests.memory import from_yaml
from migrate.guests.refusals import Found, no_root
from migrate.guests.rooms import Choice, Rooms
from migrate.job import Job
from migrate.run import Run
from migrate.source import Disk, Vm
from migrate.volume import volume_steps
from remediations.fstab import forget_missing_devices, mount_by_uuid
from tests import file_samples as samples
from tests.cloud import observed, s3
from tests.guest_disks import MIB, ext4_disk, put, served, sh
from tests.program import asked, environment, keys_in, repaired_job, started
from tests.remediation_guests import done, outcome

HOME = "3c0f2f5e-0000-4000-8000-00000000000b"
FSTAB = f"LABEL=root / ext4 defaults 0 1\nUUID={HOME} /home ext4 defaults 0 2\n/dev/sdb2 none swap sw 0 0\n"
GUEST: dict[str, Entry] = {
    "/etc/os-release": File(b"ID=debian\nVERSION_ID=12\n"),
    "/etc/fstab": File(FSTAB.encode()),
    "/boot": Folder(),
    "/home": Folder(),
}


@contextmanager
def all_served(run: Run, disks: Sequence[Path]) -> Iterator[tuple[str, ...]]:
    with ExitStack() as stack:
        yield tuple(stack.enter_context(served(run, disk, disk.suffix[1:])) for disk in disks)


def boot_disk(folder: Path, guest: dict[str, Entry] | None = None) -> Path:
    put(folder / "tree", guest or GUEST)
    return ext4_disk(folder / "boot.raw", folder / "tree")


def data_disk(folder: Path) -> Path:
    """A disk with /home of the guest, and its swap space."""
    disk = folder / "data.raw"
    with disk.open("wb") as file:
        file.truncate(48 * MIB)
    sh("sfdisk", "--quiet", disk, given="label: gpt\nstart=2048, size=32MiB\nsize=8MiB\n")
    sh("mke2fs", "-q", "-F", "-t", "ext4", "-U", HOME, "-L", "home", "-E", f"offset={MIB}", disk, "32M")
    swap = folder / "swap"
    swap.write_bytes(bytes(8 * MIB))
    sh("mkswap", "--quiet", swap)
    with disk.open("r+b") as file:
        file.seek(33 * MIB)
        file.write(swap.read_bytes())
    return disk


# What is on them


def test_what_is_on_a_data_disk_is_known_without_opening_it(run: Run) -> None:
    with all_served(run, (boot_disk(run.work), data_disk(run.work))) as (boot, *data):
        found = look_beside(run, boot, data)
    home, swap = found.filesystems
    assert (home.device, home.type, home.uuid, home.label, home.on_boot_disk) == (
        "/dev/sdb1",
        "ext4",
        HOME,
        "home",
        False,
    )
    assert (swap.device, swap.type) == ("/dev/sdb2", "swap")
    assert [(table.disk, table.kind, len(table.partitions)) for table in found.tables] == [(1, "gpt", 2)]
    assert found.groups == ()


LAYOUT = """
layout:
  filesystems:
    - {device: /dev/sda1, type: ext4, size: 9GiB, uuid: aaaa, mountpoint: /}
    - {device: /dev/sdb1, type: ext4, size: 9GiB, uuid: bbbb, mountpoint: /home}
    - {device: /dev/sdc1, type: linux_raid_member, size: 9GiB, uuid: cccc}
files:
"""


def test_the_boot_waits_for_no_data_disk_and_what_brings_it_back_is_told() -> None:
    lines = ("/dev/sda1 / ext4 defaults 0 1", "/dev/sdb1 /home ext4 defaults 0 2", "UUID=dddd /raid xfs defaults 0 2")
    guest = from_yaml(LAYOUT + "  /etc/fstab: |\n" + "".join(f"    {line}\n" for line in lines))
    changes = done(guest, mount_by_uuid, forget_missing_devices)
    fstab = str(outcome(changes)["/etc/fstab"])
    assert "UUID=bbbb /home ext4 defaults,nofail,x-systemd.device-timeout=10s 0 2\n" in fstab
    # What lies in a RAID of data disks cannot be seen, and is not on the boot disk, where nothing is hidden.
    assert "UUID=dddd /raid xfs defaults,nofail,x-systemd.device-timeout=10s 0 2\n" in fstab
    assert [finding.code for finding in changes.findings] == ["DISK-002", "DISK-011", "DISK-002"]
    assert changes.findings[0].text == (
        "/etc/fstab mounts UUID=bbbb on /home; it is /dev/sdb1 (ext4) on disk 2, and an image holds the boot disk only. The boot goes on "
        "without it. It is used again as soon as a volume that holds disk 2 is attached: UUID=bbbb."
    )


@dataclass(frozen=True, slots=True)
class Groups:
    """A boot disk with a group of its own and a part of another, whose rest, with a third group, is on two data disks."""

    boot: Path
    data: tuple[Path, ...]


@pytest.fixture(scope="module")
def groups(tmp_path_factory: pytest.TempPathFactory) -> Groups:
    """Made by LVM itself: `spans` on the boot disk and the second one, with /usr in it; `apart` on the third one."""
    folder = tmp_path_factory.mktemp("groups")
    run = Run(folder)
    paths = [folder / f"{name}.qcow2" for name in ("boot", "second", "third")]
    for path in paths:
        sh("qemu-img", "create", "-q", "-f", "qcow2", path, "128M")
    with open_appliance(run, paths, kvm=False) as appliance:
        call = appliance.call
        call.part_init("/dev/sda", "mbr")
        call.part_add("/dev/sda", "p", 2048, 2048 + 64 * 2048 - 1)
        call.part_add("/dev/sda", "p", 2048 + 64 * 2048, -2048)
        call.mkfs("ext4", "/dev/sda1", label="root")
        for group, members in (("spans", ["/dev/sda2", "/dev/sdb"]), ("apart", ["/dev/sdc"])):
            for member in members:
                call.pvcreate(member)
            call.vgcreate(group, members)
        call.lvcreate("usr", "spans", 32)
        call.lvcreate("both", "spans", 100)
        call.lvcreate("srv", "apart", 64)
        for device in ("/dev/spans/usr", "/dev/spans/both", "/dev/apart/srv"):
            call.mkfs("ext4", device)
        call.mount("/dev/sda1", "/")
        call.mkdir_p("/etc")
        call.write("/etc/os-release", b"ID=debian\nVERSION_ID=12\n")
        call.write("/etc/fstab", b"LABEL=root / ext4 defaults 0 1\n/dev/apart/srv /srv ext4 defaults 0 2\n")
    return Groups(paths[0], tuple(paths[1:]))


@pytest.mark.slow
def test_volume_groups_are_known_with_the_disks_that_they_need(run: Run, groups: Groups) -> None:
    with all_served(run, (groups.boot, *groups.data)) as (boot, *data):
        found = look_beside(run, boot, data)
        assert found.groups == (Group("spans", (0, 1)), Group("apart", (2,)))
        volumes = {fs.device: (fs.type, fs.disks) for fs in found.filesystems if fs.disk is None}
        assert volumes == {
            "/dev/spans/usr": ("ext4", (0, 1)),
            "/dev/spans/both": ("ext4", (0, 1)),
            "/dev/apart/srv": ("ext4", (2,)),
        }
        with Rooms(kvm=False, choice=Choice.OVERLAY).look(run, boot, None, data) as guest:
            (srv,) = (fs for fs in guest.layout.filesystems if fs.mountpoint == "/srv")
    assert (srv.device, srv.on_boot_disk) == ("/dev/apart/srv", False)


@pytest.mark.slow
def test_a_root_in_a_group_that_needs_a_data_disk_is_refused_with_the_disks_and_volumes(
    run: Run, groups: Groups
) -> None:
    with all_served(run, (groups.boot, *groups.data)) as (first, *data), blocks.Disk(data[0]) as second:
        (member,) = (fs for fs in look_beside(run, first, data).filesystems if fs.device == "/dev/sdb")
        # The other way round: the boot disk is the one that holds nothing but a part of the group.
        found = look_beside(run, data[0], [first])
        here = replace(member, device="/dev/sda", disk=0)
        seen = found.with_boot_disk([here])
        (reason,) = no_root(Found([], seen, lambda _, at, count: bytes(second.read(at, count)))).reasons
    assert reason.code == "GUEST-022"
    assert reason.text == (
        'the volume group "spans" lies on disk 1 and disk 2 (/dev/sdb2, /dev/sda), and the root is probably in it'
    )
    assert "  /dev/spans/usr    32 MiB  ext4" in reason.details


def refused(run: Run, guest: dict[str, Entry]) -> tuple[Reason, ...]:
    """Why a guest is refused whose data disk is that of the other tests."""
    with (
        all_served(run, (boot_disk(run.work, guest), data_disk(run.work))) as (boot, *data),
        pytest.raises(NotMigratable) as refusal,
        Rooms(kvm=False, choice=Choice.OVERLAY).look(run, boot, None, data),
    ):
        pass
    return tuple(refusal.value.reasons)


@pytest.mark.slow
def test_a_part_of_the_system_on_a_data_disk_is_refused_with_the_disk(run: Run) -> None:
    fstab = f"LABEL=root / ext4 defaults 0 1\nUUID={HOME} /usr ext4 defaults 0 2\n"
    (reason,) = refused(run, {**GUEST, "/etc/fstab": File(fstab.encode()), "/usr": Folder()})
    assert (reason.code, reason.text) == ("GUEST-022", "/usr of the guest is on /dev/sdb1 (ext4), which is on disk 2")


@pytest.mark.slow
def test_a_root_on_a_data_disk_is_refused_with_the_disk(run: Run) -> None:
    menu = f"menuentry 'x' {{\n  linux /vmlinuz root=UUID={HOME} ro\n}}\n"
    (reason,) = refused(run, {"/grub/grub.cfg": File(menu.encode())})
    assert reason.code == "GUEST-008"
    assert reason.text == (
        f"the boot loader on this disk starts a root on /dev/sdb1 (ext4), which is on disk 2: root=UUID={HOME}"
    )


# What is said of them


def ova_of(folder: Path, *disks: Path) -> Path:
    """An OVA of a VM with these raw disks."""
    members: list[samples.Member] = []
    for number, disk in enumerate(disks):
        name = f"disk{number}.vmdk"
        content = samples.converted(folder, "vmdk", name, "subformat=monolithicSparse", content=disk.read_bytes())
        members.append((name, content.read_bytes()))
    ovf = samples.ovf_text(*(str(name) for name, _ in members))
    return samples.tar(folder / "erp01.ova", [("erp01.ovf", ovf.encode()), *members])


@pytest.mark.slow
def test_a_preview_names_data_disks_and_what_is_on_them(run: Run, tmp_path: Path) -> None:
    ova = ova_of(tmp_path, boot_disk(tmp_path), data_disk(tmp_path))
    (disk,) = asked("preview", ova, "--output", "json").json["data_disks"]
    assert (disk["disk"], disk["name"], disk["bytes"]) == (2, "disk1.vmdk", 48 * MIB)
    assert [(fs["device"], fs["type"], fs["mountpoint"]) for fs in disk["filesystems"]] == [
        ("/dev/sdb1", "ext4", "/home"),
        ("/dev/sdb2", "swap", "swap"),
    ]
    told = asked("preview", ova)
    assert f'disk 2, disk1.vmdk, 48 MiB: /dev/sdb1 ext4 "home" 32 MiB on /home {HOME}' in " ".join(told.out.split())
    assert "--data-disks upload" in told.out


def test_each_data_disk_is_a_reason_to_refuse_until_something_is_said() -> None:
    vm = Vm("erp01", "file", tuple(Disk(f"disk{number}.vmdk", MIB, "vmdk") for number in range(3)))
    assert [(reason.code, reason.text.split(", is a")[0]) for reason in data_disk_reasons(vm)] == [
        ("SRC-100", 'disk 2, "disk1.vmdk" (1 MiB)'),
        ("SRC-100", 'disk 3, "disk2.vmdk" (1 MiB)'),
    ]


# How one becomes a volume


def test_the_largest_object_fits_into_its_parts() -> None:
    assert part_size(OBJECT_LIMIT) * MAX_PARTS >= OBJECT_LIMIT
    assert part_size(0) == 0
    assert part_size(MAX_PARTS * MIB + 1) == 2 * MIB


def test_a_volume_is_at_least_as_large_as_magalus_smallest_and_holds_the_disk() -> None:
    for virtual, size in ((1 << 20, 10), (10 << 30, 10), ((10 << 30) + 512, 11)):
        (create, *_), *_ = (
            step.commands for step in volume_steps("b", "erp01-data1.qcow2", 1, virtual, "00", "br-ne1")
        )
        assert f"--name erp01-data1 --size {size} " in create
        assert "--region br-ne1" in create


# The whole way


@dataclass(frozen=True, slots=True)
class Upload:
    """A job that begins with its transfers: a small boot disk, and a data disk of four parts."""

    job: Job
    words: tuple[str | Path, ...]
    env: dict[str, str]
    box: Sandbox
    name: str

    @property
    def key(self) -> str:
        return f"{self.name}-data1.qcow2"

    def killed(self, sent: int) -> None:
        """A run of it is killed when it has sent so many bytes, of which the boot disk's are few."""
        with observed(self.box.s3_url) as relay:
            relay.pause = 0.01
            slow = self.env | {"MAGALU_MIGRATE_S3_URL": relay.url}
            with started(*self.words, folder=self.job.folder.parent, env=slow) as program:
                program.wait_for(lambda: relay.sent > sent)
                program.ended(signal.SIGKILL, within=10)


DATA_BYTES = 112 * MIB
"""Three parts of 32 MiB and one of 16."""


@cache
def random_bytes() -> bytes:
    """What is on the data disk: nothing of it packs."""
    return random.Random(3).randbytes(DATA_BYTES)  # noqa: S311


@pytest.fixture(scope="module")
def ova(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ova")
    return ova_of(folder, samples.raw(folder, name="small.raw"), samples.raw(folder, random_bytes(), "large.raw"))


@pytest.fixture
def upload(box: Sandbox, run: Run, ova: Path, tmp_path: Path) -> Upload:
    name = f"two-{os.urandom(4).hex()}"
    image = samples.converted(tmp_path, "qcow2", "image.qcow2", "compat=1.1")
    cloud = {"region": box.credentials.region, "api": box.api_url}
    job = repaired_job(run, tmp_path / "work", ova, image, name, cloud, data_disks="upload")
    words: list[str | Path] = ["vm", ova, "--name", name, "--no-prove", "--data-disks", "upload"]
    return Upload(job, (*words, "--work", tmp_path / "work", "--output", "json"), environment(box), box, name)


@pytest.mark.slow
def test_a_killed_run_goes_on_within_the_data_disk_and_what_it_sends_becomes_a_volume(
    upload: Upload, tmp_path: Path
) -> None:
    upload.killed(70 << 20)
    again = asked(*upload.words, env=upload.env)
    assert again.code == 0, again
    assert "going on with an unfinished upload" in again.err, again.err
    (told,) = again.json["data_disks"]
    assert (told["disk"], told["key"], told["virtual_bytes"]) == (2, upload.key, DATA_BYTES)
    assert keys_in(upload.box, told["bucket"], upload.name) == [upload.key], (
        "the image's object has gone, this is the user's"
    )
    assert upload.job.ledger.left() == () or {made.kind for made in upload.job.ledger.left()} == {"bucket"}

    with observed(upload.box.s3_url) as relay:
        third = asked(*upload.words, env=upload.env | {"MAGALU_MIGRATE_S3_URL": relay.url})
        assert third.json["data_disks"] == again.json["data_disks"]
        assert relay.parts == []

    verified = asked("verify", upload.job.name, "--disk", "2", *upload.words[-4:], env=upload.env)
    assert verified.json == {"status": "same", "disk_sha256": told["disk_sha256"]}
    copied = tmp_path / "volume"
    with block_device(copied, DATA_BYTES + MIB) as device:
        said = on_the_instance(upload.box, told, device)
    assert copied.read_bytes()[:DATA_BYTES] == random_bytes()
    assert said == told["disk_sha256"]


def on_the_instance(box: Sandbox, told: dict[str, Any], device: str) -> str:
    """Run the commands that are told for the instance, but for those of its fstab; return what the last one says."""
    url = s3(box).generate_presigned_url("get_object", Params={"Bucket": told["bucket"], "Key": told["key"]})
    copy, check = (
        step["commands"] for step in told["steps"] if "head -c" in str(step) or "qemu-img convert" in str(step)
    )
    script = (
        "\n".join((*copy, *check))
        .replace("URL='ADDRESS'", f"URL='{url}'")
        .replace("DEVICE=/dev/vdb", f"DEVICE={device}")
    )
    return sh("sh", "-euc", script).splitlines()[-1]


@contextmanager
def block_device(file: Path, size: int) -> Iterator[str]:
    with file.open("wb") as opened:
        opened.truncate(size)
    if not Path("/dev/loop-control").exists():  # in a container; qemu-img writes into a file as into a device
        yield str(file)
        return
    device = sh("losetup", "--find", "--show", file).strip()
    try:
        yield device
    finally:
        sh("losetup", "--detach", device)


@pytest.mark.slow
def test_clean_takes_the_data_disk_of_a_killed_run_back(upload: Upload, tmp_path: Path) -> None:
    upload.killed(3 << 20)
    bucket = next(made.names["bucket"] for made in upload.job.ledger.left() if made.kind == "upload")
    assert keys_in(upload.box, bucket, upload.name) != []
    assert asked("clean", "--work", tmp_path / "work", env=upload.env).code == 0
    assert keys_in(upload.box, bucket, upload.name) == []
    assert not upload.job.folder.exists()
