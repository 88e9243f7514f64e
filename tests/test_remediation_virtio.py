"""Each builder of an initramfs is told in its own words; room is asked for before anything is changed; what cannot be done is told."""

import re
import struct

import pytest

from fixtures.guests import guest
from migrate.draft import Draft
from migrate.effects import RebuildRequest, Severity
from migrate.guest import File
from migrate.guests.memory import MemoryGuest, from_yaml
from migrate.initramfs import cpio, modules_inside
from migrate.initramfs_builder import Kind, builder
from migrate.run import Run
from remediations.boot_room import expected
from remediations.initramfs_settings import is_hostonly, with_array_words, with_virtio_adapter, without_network_legacy
from remediations.virtio import virtio_in_initramfs
from tests.remediation_guests import applied, codes, done, outcome

DRIVERS = (
    "virtio: [], virtio_ring: [virtio], virtio_pci: [virtio_ring], virtio_blk: [virtio_ring], virtio_net: [virtio_ring]"
)
TO_MOUNT_ROOT = {"virtio", "virtio_ring", "virtio_pci", "virtio_blk"}


def of(id: str, files: str, *, free: str = "10GiB", inside: str = "mptspi", like: str = "") -> MemoryGuest:
    return from_yaml(
        f"os: {{id: {id}, id_like: [{like}]}}\nusrmerge: false\n"
        "layout: {filesystems: [{device: /dev/sda1, type: ext4, size: 20GiB, free: "
        f"{free}, mountpoint: /}}]}}\n"
        f"kernels: {{6.1.0: {{modules: {{{DRIVERS}, mptspi: []}}, initramfs: [{inside}]}}}}\nfiles:\n{files}"
    )


CONFIGURED = {
    Kind.INITRAMFS_TOOLS: (
        of("debian", "  /usr/sbin/update-initramfs: ''\n  /etc/initramfs-tools/initramfs.conf: MODULES=list\n"),
        {"/etc/initramfs-tools/modules": "virtio_pci\nvirtio_blk\nvirtio_net\n"},
    ),
    Kind.DRACUT: (
        of("fedora", '  /usr/bin/dracut: ""\n  /usr/lib/dracut/dracut.conf.d/01-dist.conf: "hostonly=yes\\n"\n'),
        {
            "/etc/dracut.conf.d/50-magalu-migrate.conf": "# Written by magalu-migrate: whichever machine builds the initramfs, it "
            'boots on KVM.\nadd_drivers+=" virtio_pci virtio_blk virtio_net "\n'
        },
    ),
    Kind.SUSE_MKINITRD: (
        of(
            "sles",
            "  /sbin/mkinitrd: ''\n  /etc/sysconfig/kernel: 'INITRD_MODULES=\"mptspi virtio_blk\"'\n",
            like="suse",
        ),
        {"/etc/sysconfig/kernel": "INITRD_MODULES='mptspi virtio_blk virtio_pci virtio_net'\n"},
    ),
    Kind.RED_HAT_MKINITRD: (
        of("rhel", "  /sbin/mkinitrd: ''\n  /etc/modprobe.conf: \"alias scsi_hostadapter mptspi\\n\"\n"),
        {"/etc/modprobe.conf": "alias scsi_hostadapter virtio_blk\n"},
    ),
    Kind.MKINITFS: (
        of("alpine", "  /sbin/mkinitfs: ''\n  /etc/mkinitfs/mkinitfs.conf: 'features=\"base ext4 scsi\"'\n"),
        {"/etc/mkinitfs/mkinitfs.conf": "features='base ext4 scsi virtio'\n"},
    ),
    Kind.MKINITCPIO: (
        of(
            "arch",
            "  /usr/bin/mkinitcpio: ''\n  /etc/mkinitcpio.conf: \"MODULES=(crc32c)\\nHOOKS=(base autodetect filesystems)\\n\"\n",
        ),
        {
            "/etc/mkinitcpio.conf": "MODULES=(crc32c virtio_pci virtio_blk virtio_net)\n"
            "HOOKS=(base autodetect filesystems)\n"
        },
    ),
}


@pytest.mark.parametrize("kind", CONFIGURED, ids=lambda kind: kind.value)
def test_each_builder_is_told_in_its_own_words_and_then_puts_virtio_in(run: Run, kind: Kind) -> None:
    to, expected_files = CONFIGURED[kind]
    found = builder(Draft(to))
    assert found is not None and found.kind is kind
    assert outcome(done(to, virtio_in_initramfs)) == expected_files
    applied(run, to, virtio_in_initramfs)
    image = next(to.load(f"/boot/{name}") for name in to.names("/boot") if name.startswith("init"))
    assert isinstance(image, File) and modules_inside(image.content) >= TO_MOUNT_ROOT


def test_each_builder_is_called_for_one_kernel_and_one_image() -> None:
    commands = {}
    for kind, (to, _) in CONFIGURED.items():
        found = builder(Draft(to))
        assert found is not None
        commands[kind] = found.command("6.1", "/boot/i-6.1", "/boot/k-6.1", ("virtio_pci", "virtio_blk", "virtio_net"))
    assert commands == {
        Kind.INITRAMFS_TOOLS: ["/usr/sbin/update-initramfs", "-c", "-t", "-k", "6.1"],
        Kind.DRACUT: [
            *("/usr/bin/dracut", "--force", "--no-hostonly", "--add-drivers", "virtio_pci virtio_blk virtio_net"),
            *("/boot/i-6.1", "6.1"),
        ],
        Kind.SUSE_MKINITRD: ["/sbin/mkinitrd", "-k", "/boot/k-6.1", "-i", "/boot/i-6.1"],
        Kind.RED_HAT_MKINITRD: [
            *("/sbin/mkinitrd", "-f", "--preload=virtio_pci", "--preload=virtio_blk", "--with=virtio_net"),
            *("/boot/i-6.1", "6.1"),
        ],
        Kind.MKINITFS: ["/sbin/mkinitfs", "-o", "/boot/i-6.1", "6.1"],
        Kind.MKINITCPIO: ["/usr/bin/mkinitcpio", "-k", "6.1", "-g", "/boot/i-6.1", "-S", "autodetect"],
    }


def test_a_guest_whose_initramfs_has_virtio_needs_no_builder() -> None:
    assert done(of("gentoo", "  /x: ''\n", inside=", ".join(TO_MOUNT_ROOT)), virtio_in_initramfs).effects == ()


def test_a_guest_that_nothing_can_build_for_is_refused_with_what_it_lacks() -> None:
    changes = done(of("gentoo", "  /x: ''\n"), virtio_in_initramfs)
    assert (changes.effects, codes(changes)) == ((), ["BOOT-005"])
    assert "has no virtio, virtio_blk, virtio_pci, virtio_ring, and nothing that we know" in changes.findings[0].text


def test_an_older_kernel_that_does_not_start_is_told_and_left() -> None:
    to = from_yaml(
        f"packages: {{initramfs-tools: }}\nkernels:\n  6.1.0-9: {{modules: {{{DRIVERS}}}}}\n"
        f"  6.1.0-21: {{modules: {{{DRIVERS}}}, initramfs: [{', '.join(TO_MOUNT_ROOT)}]}}\nfiles:\n"
        '  /boot/grub/grub.cfg: "menuentry x {\\n linux /boot/vmlinuz-6.1.0-21\\n}\\n"\n'
    )
    changes = done(to, virtio_in_initramfs)
    assert (changes.effects, codes(changes)) == ((), ["BOOT-001"])
    assert "does not start by default, and its initramfs has no virtio" in changes.findings[0].text


def test_a_kernel_without_modules_dep_gets_one_with_its_initramfs(run: Run) -> None:
    to = of("debian", "  /usr/sbin/update-initramfs: ''\n", inside=", ".join(TO_MOUNT_ROOT))
    assert done(to, virtio_in_initramfs).effects == ()
    to.store("/lib/modules/6.1.0/modules.dep", None)
    changes = done(to, virtio_in_initramfs)
    (request,) = (effect for effect in changes.effects if isinstance(effect, RebuildRequest))
    assert request.why.endswith("and modules.dep, without which no module is loaded")


def test_a_kernel_that_has_all_built_in_needs_no_list_of_modules() -> None:
    built_in = from_yaml(
        "kernels: {6.1.0: {builtin: [virtio, virtio_ring, virtio_pci, virtio_blk, virtio_scsi, virtio_net]}}"
    )
    changes = done(built_in, virtio_in_initramfs)
    assert (changes.effects, changes.findings) == ((), ())


def test_where_another_kernel_has_virtio_it_is_named_to_be_the_default() -> None:
    built_in = "builtin: [virtio, virtio_ring, virtio_pci, virtio_blk, virtio_scsi, virtio_net]"
    two = from_yaml(f"kernels: {{5.14.0-1: {{{built_in}}}, 5.14.0-2: {{modules: [ena], initramfs: [ena]}}}}")
    (told,) = done(two, virtio_in_initramfs).findings
    assert (told.code, told.remedy) == ("BOOT-002", "Make 5.14.0-1, which has them, the default in the source VM.")


def test_no_room_for_a_new_initramfs_refuses_the_guest_before_anything_is_changed() -> None:
    files = '  /usr/bin/dracut: ""\n'
    changes = done(of("fedora", files, free="1000"), virtio_in_initramfs)
    assert changes.effects == ()
    assert {(finding.code, finding.severity) for finding in changes.findings} == {("BOOT-008", Severity.ERROR)}
    assert re.search(r"needs about [\d.]+ \w+ on /, and 1000 B are free", changes.findings[0].text)
    assert codes(done(of("fedora", files, free="3MiB"), virtio_in_initramfs)) == []


def test_an_image_for_every_machine_is_expected_to_be_larger_than_one_for_this_machine() -> None:
    hostonly = Draft(CONFIGURED[Kind.DRACUT][0])
    build = builder(hostonly)
    assert build is not None
    assert is_hostonly(hostonly) and expected(hostonly, build, 30_000_000) == 90_000_000
    hostonly.write("/etc/dracut.conf.d/02-generic.conf", 'hostonly="no"\n', why="x")
    assert not is_hostonly(hostonly) and expected(hostonly, build, 30_000_000) == 33_000_000


def test_a_dracut_module_that_needs_dhclient_is_not_asked_for_where_there_is_none() -> None:
    trap = '  /usr/bin/dracut: ""\n  /etc/dracut.conf.d/50-network-legacy.conf: \'add_dracutmodules+=" network-legacy "\'\n'
    path = "/etc/dracut.conf.d/50-network-legacy.conf"
    assert outcome(done(of("rhel", trap), virtio_in_initramfs))[path] is None
    assert path not in outcome(done(of("rhel", trap + "  /usr/sbin/dhclient: ''\n"), virtio_in_initramfs))
    both = '# ours\nadd_dracutmodules+=" network-legacy lvm "\n'
    assert without_network_legacy(both) == '# ours\nadd_dracutmodules+=" lvm "\n'


def test_controllers_of_real_machines_stay_in_modprobe_conf() -> None:
    assert with_virtio_adapter(
        "alias eth0 pcnet32\nalias scsi_hostadapter mptbase\nalias scsi_hostadapter1 mptspi\nalias scsi_hostadapter2 ata_piix\n"
    ) == ("alias eth0 pcnet32\nalias scsi_hostadapter virtio_blk\nalias scsi_hostadapter2 ata_piix\n")
    assert with_virtio_adapter("") == "alias scsi_hostadapter virtio_blk\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("MODULES=()\n", "MODULES=(a b)\n"),
        ('MODULES="x a"\n', 'MODULES="x a b"\n'),
        ("#MODULES=(x)\nMODULES=(x\n y)\n", "#MODULES=(x)\nMODULES=(x y a b)\n"),
        ("MODULES=(x)\nMODULES=(a)\n", "MODULES=(x)\nMODULES=(a b)\n"),
        ("MODULES=(b a)\n", "MODULES=(b a)\n"),
        ("HOOKS=(base)", "HOOKS=(base)\nMODULES=(a b)\n"),
    ],
)
def test_a_list_of_bash_gets_what_it_lacks(before: str, after: str) -> None:
    assert with_array_words(before, "MODULES", ("a", "b")) == after


@pytest.mark.parametrize(
    ("name", "refused"),
    [
        ("photon4-vmware-esx", ["BOOT-002"]),
        ("rhel8-vmware-bootless", ["BOOT-008"]),
        ("fedora41-vmware-selinux", []),
        ("oracle9-vmware-uek", []),
        ("opensusetw-vmware-sdboot", []),
        ("centos6-vmware-oldgrub", []),
    ],
)
def test_what_a_kernel_cannot_do_refuses_its_guest(name: str, refused: list[str]) -> None:
    changes = done(guest(name), virtio_in_initramfs)
    assert [finding.code for finding in changes.findings if finding.severity is Severity.ERROR] == refused
    assert bool(refused) == (changes.effects == ())


def unified(initrd: bytes) -> bytes:
    """The smallest PE file with one section: headers of objdump's reading, and the content behind them."""
    coff = struct.pack("<4s2HIIIHH", b"PE\0\0", 0x8664, 1, 0, 0, 0, 0, 0)
    table = struct.pack("<8sIIII16x", b".initrd", len(initrd), 0, len(initrd), 0x100)
    return (b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x40) + coff + table).ljust(0x100, b"\0") + initrd


@pytest.mark.parametrize(
    ("modules", "told"),
    [((), Severity.WARNING), (("virtio_pci", "virtio_blk"), Severity.NOTE)],
    ids=["without", "with"],
)
def test_a_unified_kernel_image_is_looked_into_and_left(modules: tuple[str, ...], told: Severity) -> None:
    image = unified(cpio({f"usr/lib/modules/6.9/kernel/{name}.ko": b"" for name in ("ext4", *modules)}))
    to = MemoryGuest({"/efi/EFI/Linux/arch-linux.efi": File(image), "/efi/EFI/Linux/other.efi": File(b"MZ not one")})
    findings = [each for each in done(to, virtio_in_initramfs).findings if each.code in ("BOOT-009", "BOOT-010")]
    assert [(each.severity, "/efi/EFI/Linux/arch-linux.efi" in each.text) for each in findings] == [(told, True)]


def test_debians_dracut_is_the_builder_where_it_took_the_place_of_initramfs_tools() -> None:
    both = "  /usr/bin/dracut: ''\n  /usr/sbin/update-initramfs: ''\n"
    found = builder(Draft(of("debian", both)))
    assert found is not None and found.kind is Kind.DRACUT
    kept = builder(Draft(from_yaml(f"packages: {{initramfs-tools: }}\nfiles:\n{both}")))
    assert kept is not None and kept.kind is Kind.INITRAMFS_TOOLS
