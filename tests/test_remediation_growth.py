"""The root file system fills its new disk."""

from fixtures.guests import guest
from migrate.effects import Changes, LayoutEdit, Severity
from migrate.guest import DropPartition, LayoutChange, MakeSwapFile, Rebuild
from migrate.guests.memory import MemoryGuest, from_yaml
from migrate.run import Run
from remediations.growth import let_the_root_grow
from tests.remediation_guests import applied, codes, done, outcome

MIB = 1 << 20
ROOT = "{device: /dev/sda1, type: ext4, size: 8GiB, start: 1MiB, free: 4GiB, uuid: aaaa, mountpoint: /}"
SWAP = "{device: /dev/sda2, type: swap, size: 1GiB, start: 8193MiB, uuid: bbbb, mountpoint: swap}"
USED = "UUID=aaaa / ext4 defaults 0 1\nUUID=bbbb none swap sw 0 0\n"


def disk(*filesystems: str, fstab: str = USED, table: str = "dos", files: str = "") -> MemoryGuest:
    rows = "".join(f"    - {fs}\n" for fs in filesystems)
    lines = fstab.replace("\n", "\\n")
    return from_yaml(f'layout:\n  table: {table}\n  filesystems:\n{rows}files:\n  /etc/fstab: "{lines}"\n{files}')


def layout_changes(to: MemoryGuest) -> list[LayoutChange]:
    return [effect.change for effect in done(to, let_the_root_grow).effects if isinstance(effect, LayoutEdit)]


def test_a_swap_partition_behind_the_root_becomes_a_swap_file_of_its_size(run: Run) -> None:
    changes = done(guest("debian12-vmware"), let_the_root_grow)
    assert [effect.change for effect in changes.effects if isinstance(effect, LayoutEdit)] == [
        MakeSwapFile("/swapfile", 392 * MIB),
        DropPartition(0, 3),
    ]
    assert [effect.what for effect in changes.effects if hasattr(effect, "what")] == [Rebuild.INITRAMFS]
    assert outcome(changes)["/etc/initramfs-tools/conf.d/resume"] == "RESUME=none\n"
    assert [(finding.code, finding.severity, finding.text) for finding in changes.findings] == [
        (
            "DISK-004",
            Severity.NOTE,
            "swap partition /dev/sda3 lies behind the root; it becomes a 392 MiB swap file so that the root can grow.",
        )
    ]


def test_the_swap_file_takes_the_partitions_place_in_fstab_with_its_options(run: Run) -> None:
    to = applied(
        run,
        disk(ROOT, SWAP, fstab="UUID=aaaa / ext4 defaults 0 1\nUUID=bbbb  none\tswap\tsw,pri=5 0 0\n"),
        let_the_root_grow,
    )
    assert to.load("/etc/fstab").text == "UUID=aaaa / ext4 defaults 0 1\n/swapfile  none\tswap\tsw,pri=5 0 0\n"  # type: ignore[union-attr]
    assert to.load("/swapfile").mode == 0o600  # type: ignore[union-attr]
    assert [fs.device for fs in to.layout.filesystems] == ["/dev/sda1"]


def test_the_kernel_no_longer_resumes_from_the_partition_and_other_arguments_stay() -> None:
    files = '  /boot/grub/grub.cfg: "linux /vmlinuz root=UUID=aaaa resume=/dev/sda2 resume=UUID=cccc quiet\\n"\n'
    assert outcome(done(disk(ROOT, SWAP, files=files), let_the_root_grow))["/boot/grub/grub.cfg"] == (
        "linux /vmlinuz root=UUID=aaaa resume=UUID=cccc quiet\n"
    )


def test_a_swap_file_that_is_there_already_is_not_taken_over() -> None:
    files = "  /swapfile: x\n"
    assert layout_changes(disk(ROOT, SWAP, files=files)) == [
        MakeSwapFile("/swapfile1", 1024 * MIB),
        DropPartition(0, 2),
    ]


def test_a_partition_that_nobody_uses_just_goes() -> None:
    to = disk(ROOT, SWAP, fstab="UUID=aaaa / ext4 defaults 0 1\n")
    assert layout_changes(to) == [DropPartition(0, 2)]
    assert codes(done(to, let_the_root_grow)) == ["DISK-004"]


def test_two_swap_partitions_become_one_file() -> None:
    more = "{device: /dev/sda3, type: swap, size: 512MiB, start: 9217MiB, uuid: cccc}"
    to = disk(ROOT, SWAP, more, fstab=USED + "/dev/sda3 none swap sw 0 0\n")
    assert layout_changes(to) == [MakeSwapFile("/swapfile", 1536 * MIB), DropPartition(0, 2), DropPartition(0, 3)]
    assert outcome(done(to, let_the_root_grow))["/etc/fstab"] == (
        "UUID=aaaa / ext4 defaults 0 1\n/swapfile none swap sw 0 0\n"
        "# magalu-migrate: this swap partition lay behind the root and is gone\n#/dev/sda3 none swap sw 0 0\n"
    )


def test_where_the_root_is_nearly_full_the_file_is_smaller_or_not_made_and_that_is_told() -> None:
    smaller = disk(ROOT.replace("free: 4GiB", "free: 700MiB"), SWAP)
    assert layout_changes(smaller) == [MakeSwapFile("/swapfile", 188 * MIB), DropPartition(0, 2)]
    none = disk(ROOT.replace("free: 4GiB", "free: 500MiB"), SWAP)
    assert layout_changes(none) == [DropPartition(0, 2)]
    assert outcome(done(none, let_the_root_grow))["/etc/fstab"] == (
        "UUID=aaaa / ext4 defaults 0 1\n"
        "# magalu-migrate: this swap partition lay behind the root and is gone\n#UUID=bbbb none swap sw 0 0\n"
    )
    assert [done(each, let_the_root_grow).findings[0].remedy for each in (smaller, none)] == [
        "After the first boot: swapoff /swapfile && fallocate -l 1024M /swapfile && chmod 600 /swapfile && mkswap /swapfile "
        "&& swapon /swapfile",
        "After the first boot: fallocate -l 1024M /swapfile && chmod 600 /swapfile && mkswap /swapfile && swapon /swapfile",
    ]


def test_a_root_with_nothing_behind_it_is_left_alone() -> None:
    assert done(disk(ROOT), let_the_root_grow) == Changes()


def test_a_swap_partition_before_the_root_or_on_another_disk_does_not_matter() -> None:
    before = "{device: /dev/sda2, type: swap, size: 1MiB, start: 512KiB, uuid: bbbb}"
    other = "{device: /dev/sdb1, type: swap, size: 1GiB, start: 9GiB, uuid: cccc}"
    assert done(disk(ROOT, before, other), let_the_root_grow).effects == ()


def told(to: MemoryGuest) -> list[tuple[str, str, str | None]]:
    changes = done(to, let_the_root_grow)
    assert changes.effects == ()
    return [(finding.code, finding.text, finding.remedy) for finding in changes.findings]


def test_data_behind_the_root_is_told_and_nothing_is_touched() -> None:
    home = "{device: /dev/sda3, type: ext4, size: 1GiB, start: 9217MiB, uuid: cccc, mountpoint: /home}"
    assert told(disk(ROOT, SWAP, home)) == [
        (
            "DISK-006",
            "/dev/sda3 (ext4, /home) lies behind the root, which therefore keeps its 8 GiB.",
            "Put it on a disk of its own, or attach a volume for what must grow.",
        )
    ]


def test_a_root_on_lvm_is_left_to_the_service_that_grows_it() -> None:
    assert done(guest("rocky8-vmware-bls"), let_the_root_grow) == Changes()


def test_a_root_whose_group_does_not_end_the_disk_is_told_with_the_commands_that_help() -> None:
    member = "{device: /dev/sda1, type: LVM2_member, size: 8GiB, start: 1MiB}"
    behind = "{device: /dev/sda2, type: xfs, size: 8GiB, start: 9GiB}"
    root = "{device: /dev/vg/root, type: ext4, size: 8GiB, mountpoint: /}"
    assert told(disk(member, behind, root)) == [
        (
            "DISK-006",
            "The root is on /dev/vg/root, which is no partition and does not grow by itself: it keeps its 8 GiB.",
            "On the new machine: growpart /dev/vda NUMBER && pvresize /dev/vdaNUMBER && lvextend -r -l +100%FREE /dev/vg/root",
        )
    ]


def test_an_encrypted_root_is_told() -> None:
    locked = "{device: /dev/sda1, type: crypto_LUKS, size: 8GiB, start: 1MiB}"
    assert (
        told(disk(locked, "{device: /dev/mapper/root_crypt, type: ext4, size: 8GiB, mountpoint: /}"))[0][0]
        == "DISK-006"
    )


def test_a_logical_partition_cannot_outgrow_its_extended_one() -> None:
    assert told(disk(ROOT.replace("sda1", "sda5")))[0][0] == "DISK-006"
    assert done(disk(ROOT.replace("sda1", "sda5"), table="gpt"), let_the_root_grow).findings == ()


def test_btrfs_takes_no_plain_swap_file_so_its_swap_partition_stays_and_is_told() -> None:
    assert told(disk(ROOT.replace("ext4", "btrfs"), SWAP))[0][0] == "DISK-006"


def test_comments_in_the_resume_setting_stay() -> None:
    files = '  /etc/initramfs-tools/conf.d/resume: "# by the installer\\nRESUME=UUID=bbbb\\n"\npackages: {initramfs-tools: {}}\n'
    assert outcome(done(disk(ROOT, SWAP, files=files), let_the_root_grow))["/etc/initramfs-tools/conf.d/resume"] == (
        "# by the installer\nRESUME=none\n"
    )
