"""What the guest mounts: by names that hold everywhere, and without waiting for what did not come along."""

import json
import subprocess
from pathlib import Path

import pytest

from fixtures.guests import guest
from migrate.effects import Severity
from migrate.guest import Rebuild
from migrate.guests.memory import from_yaml
from migrate.run import Run
from remediations.fstab import forget_missing_devices, mount_by_uuid
from tests.remediation_guests import applied, codes, done, outcome

LAYOUT = """
layout:
  filesystems:
    - {device: /dev/sda1, type: ext4, size: 9GiB, uuid: aaaa, mountpoint: /}
    - {device: /dev/sda2, type: swap, size: 1GiB, uuid: bbbb}
    - {device: /dev/sdb1, type: xfs, size: 9GiB, uuid: cccc}
files:
"""


def fstab(*lines: str, **more: str) -> str:
    files = {"/etc/fstab": "".join(f"{line}\n" for line in lines)} | {
        "/" + path.replace("__", "/"): text for path, text in more.items()
    }
    return LAYOUT + "".join(f"  {path}: {json.dumps(text)}\n" for path, text in files.items())


def test_every_line_of_an_old_fstab_is_what_it_should_be(run: Run) -> None:
    to = applied(run, guest("debian11-vmware-tarball"), mount_by_uuid, forget_missing_devices)
    assert to.load("/etc/fstab").text.split("\n") == [  # type: ignore[union-attr]
        "# /etc/fstab",
        "#/dev/sdb2 /old ext3 defaults 0 0",
        "UUID=3c000000-0000-4000-8000-000000000001\t/\text4\terrors=remount-ro,noatime\t0\t1   ",
        "",
        "UUID=3c000000-0000-4000-8000-000000000005  none\tswap\tsw,pri=5\t0 0",
        "# magalu-migrate: this disk did not come along; without it the boot goes on after 10 s",
        "UUID=3c000000-0000-4000-8000-0000000000b1 /srv/nota\\040fiscal auto "
        "defaults,nofail,x-systemd.device-timeout=10s 0 2",
        "# magalu-migrate: this disk did not come along; without it the boot goes on after 10 s",
        "/dev/sdb1 /srv/errado ext4 defaults,nofail,x-systemd.device-timeout=10s 0 2",
        "# magalu-migrate: this disk did not come along; without it the boot goes on after 10 s",
        "/dev/sdc1 /srv/arquivo xfs nofail,x-systemd.device-timeout=10s",
        "UUID=dead0000-0000-4000-8000-000000000000 /srv/extinto ext4 defaults,nofail 0 2",
        "# magalu-migrate: this disk did not come along; without it the boot goes on after 10 s",
        "UUID=beef0000-0000-4000-8000-000000000000 /srv/velho ext4 defaults,nofail,x-systemd.device-timeout=10s 0 2",
        "# magalu-migrate: this disk did not come along; without it the boot goes on after 10 s",
        "LABEL=dados /srv/dados xfs defaults,nofail,x-systemd.device-timeout=10s 0 2",
        "# magalu-migrate: the new machine has no such drive",
        "#/dev/fd0 /media/floppy0 auto rw,user,noauto 0 0",
        "tmpfs /tmp tmpfs size=1G 0 0",
        "/srv/dados/home /home none bind 0 0",
        "//nas.empresa.example/share /mnt/nas cifs credentials=/root/.nas 0 0",
        "half a line",
        "",
    ]


def test_crypttab_names_its_disk_by_uuid_and_does_not_wait_for_one_that_stays_behind(run: Run) -> None:
    to = applied(run, guest("debian11-vmware-tarball"), mount_by_uuid, forget_missing_devices)
    assert to.load("/etc/crypttab").text == (  # type: ignore[union-attr]
        "# <target name> <source device> <key file> <options>\n"
        "# magalu-migrate: this disk did not come along; without it the boot goes on after 10 s\n"
        "cofre UUID=3c000000-0000-4000-8000-0000000000b1 none luks,nofail,x-systemd.device-timeout=10s\n"
        "# magalu-migrate: this disk did not come along; without it the boot goes on after 10 s\n"
        "outro UUID=3c000000-0000-4000-8000-0000000000ff none luks,nofail,x-systemd.device-timeout=10s\n"
    )


def test_libmount_reads_what_was_written_as_it_was_meant(run: Run, tmp_path: Path) -> None:
    to = applied(run, guest("debian12-vmware"), mount_by_uuid, forget_missing_devices)
    table = tmp_path / "fstab"
    table.write_bytes(to.load("/etc/fstab").content)  # type: ignore[union-attr]
    columns = "SOURCE,TARGET,FSTYPE,OPTIONS"
    said = subprocess.run(
        ["findmnt", "--tab-file", table, "--json", "--list", "--output", columns], capture_output=True, check=True
    ).stdout
    assert json.loads(said) == {
        "filesystems": [
            {
                "source": "UUID=1f0d2c3b-0000-4000-8000-00000000a002",
                "target": "/",
                "fstype": "ext4",
                "options": "errors=remount-ro",
            },
            {
                "source": "UUID=1f0d2c3b-0000-4000-8000-00000000a003",
                "target": "none",
                "fstype": "swap",
                "options": "sw",
            },
        ]
    }


def test_the_kernel_looks_for_its_root_by_uuid_in_every_entry(run: Run) -> None:
    to = applied(run, guest("debian12-vmware"), mount_by_uuid)
    menu = to.load("/boot/grub/grub.cfg").text  # type: ignore[union-attr]
    assert [line.strip() for line in menu.splitlines() if line.strip().startswith("linux")] == [
        "linux	/boot/vmlinuz-6.1.0-21-amd64 root=UUID=1f0d2c3b-0000-4000-8000-00000000a002 ro quiet",
        "linux	/boot/vmlinuz-6.1.0-21-amd64 root=UUID=1f0d2c3b-0000-4000-8000-00000000a002 ro single",
    ]
    assert "GRUB_DISABLE_LINUX_UUID=false\n" in to.load("/etc/default/grub").text  # type: ignore[union-attr]


def test_a_resume_device_by_name_is_renamed_and_the_initramfs_that_holds_it_built_anew(run: Run) -> None:
    to = from_yaml(
        fstab("/dev/sda1 / ext4 defaults 0 1")
        + "  /etc/initramfs-tools/conf.d/resume: |\n    # swap\n    RESUME=/dev/sda2\n"
    )
    changes = done(to, mount_by_uuid)
    assert outcome(changes)["/etc/initramfs-tools/conf.d/resume"] == "# swap\nRESUME=UUID=bbbb\n"
    assert [effect.what for effect in changes.effects if hasattr(effect, "what")] == [Rebuild.INITRAMFS]


@pytest.mark.parametrize(
    "line",
    [
        "UUID=aaaa / ext4 defaults 0 1",
        "LABEL=root / ext4 defaults 0 1",
        "/dev/mapper/vg-root / ext4 defaults 0 1",
        "/dev/md0 /srv ext4 defaults 0 1",
        "#/dev/sda1 / ext4 defaults 0 1",
        "  # /dev/sda1 / ext4 defaults 0 1",
        "tmpfs /dev/sda1 tmpfs defaults 0 0",
        "nas:/dev/sda1 /mnt nfs ro 0 0",
        "/dev/sda1",
    ],
)
def test_what_is_named_well_or_is_no_disk_stays(line: str) -> None:
    assert done(from_yaml(fstab(line)), mount_by_uuid).effects == ()


def test_a_line_that_does_not_fit_the_disk_is_told_and_left_alone() -> None:
    changes = done(
        from_yaml(fstab("/dev/sdb1 /srv ext4 defaults 0 2", "/dev/sda2 /x auto defaults 0 0")), mount_by_uuid
    )
    assert changes.effects == ()
    assert [finding.text for finding in changes.findings] == [
        "/etc/fstab mounts /dev/sdb1 on /srv as ext4, but /dev/sdb1 holds xfs; the line is left as it is.",
        "/etc/fstab mounts /dev/sda2 on /x as auto, but /dev/sda2 holds swap; the line is left as it is.",
    ]


def test_ext3_mounted_as_ext4_fits_and_the_root_is_the_root_whatever_its_old_number(run: Run) -> None:
    to = applied(run, from_yaml(fstab("/dev/sdb7 / ext3 defaults 0 1")), mount_by_uuid)
    assert to.load("/etc/fstab").text == "UUID=aaaa / ext3 defaults 0 1\n"  # type: ignore[union-attr]


def test_a_name_by_the_old_controllers_path_is_known_from_where_it_is_mounted() -> None:
    path = "/dev/disk/by-path/pci-0000:03:00.0-scsi-0:0:0:0-part1"
    assert outcome(done(from_yaml(fstab(f"{path} / ext4 defaults 0 1")), mount_by_uuid)) == {
        "/etc/fstab": "UUID=aaaa / ext4 defaults 0 1\n"
    }


def test_a_disk_by_a_name_that_a_clouds_rules_made_is_not_waited_for() -> None:
    before = from_yaml(
        fstab("/dev/disk/azure/root-part1 / ext4 defaults 0 1", "/dev/disk/azure/scsi1/lun0-part1 /d ext4 defaults 0 2")
    )
    assert outcome(done(before, mount_by_uuid))["/etc/fstab"].startswith("UUID=aaaa / ext4")  # type: ignore[union-attr]
    waiting = done(before, forget_missing_devices)
    assert "/lun0-part1 /d ext4 defaults,nofail,x-systemd.device-timeout=10s" in str(outcome(waiting)["/etc/fstab"])


def test_a_part_of_the_system_on_another_disk_refuses_the_guest() -> None:
    changes = done(
        from_yaml(fstab("/dev/sda1 / ext4 defaults 0 1", "/dev/sdb1 /var xfs defaults 0 2")), forget_missing_devices
    )
    assert [(finding.code, finding.severity) for finding in changes.findings] == [("DISK-008", Severity.ERROR)]
    assert changes.findings[0].text == (
        "/etc/fstab mounts /dev/sdb1 on /var; it is on another disk (/dev/sdb1) than the boot disk, "
        "and an image holds the boot disk only. The guest cannot do without it."
    )


def test_mounts_from_the_network_are_told_and_stay() -> None:
    changes = done(from_yaml(fstab("nas:/x /mnt nfs ro 0 0", "//nas/y /mnt2 cifs ro 0 0")), forget_missing_devices)
    assert changes.effects == ()
    assert codes(changes) == ["DISK-003", "DISK-003"]


def test_what_is_mounted_by_hand_is_not_waited_for() -> None:
    assert done(from_yaml(fstab("/dev/sdz1 /mnt ext4 noauto,user 0 0")), forget_missing_devices).effects == ()


def test_a_root_that_no_file_system_is_called_is_told() -> None:
    to = from_yaml(LAYOUT + '  /boot/grub/grub.cfg: "linux /vmlinuz root=/dev/sda7 ro\\n"\n')
    changes = done(to, mount_by_uuid)
    assert changes.effects == ()
    assert [finding.text for finding in changes.findings] == [
        "/boot/grub/grub.cfg starts a kernel with root=/dev/sda7, and no file system here is called so."
    ]


def test_a_guest_without_fstab_has_nothing_to_change() -> None:
    assert done(from_yaml(LAYOUT + "  /etc/hostname: x\n"), mount_by_uuid, forget_missing_devices).effects == ()
