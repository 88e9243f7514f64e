"""From the firmware to a mounted root."""

import pytest

from fixtures.guests import guest
from migrate.boot_menu import version_key
from migrate.codes import register
from migrate.draft import Draft
from migrate.effects import RebuildRequest, Severity
from migrate.guest import File
from migrate.guests.memory import MemoryGuest, from_yaml
from migrate.initramfs import modules_inside
from migrate.kernels import kernels
from migrate.run import Run
from remediations.boot import uefi_fallback_path, with_debconf_answer
from remediations.initramfs_settings import with_modules
from remediations.serial_console import serial_console, with_serial_login
from remediations.virtio import virtio_in_initramfs
from tests.remediation_guests import applied, codes, done, outcome

VIRTIO = "virtio: [], virtio_ring: [virtio], virtio_pci: [virtio_ring], virtio_blk: [virtio_ring], virtio_scsi: [virtio_ring], virtio_net: [virtio_ring]"


def kernel(
    inside: str, *, files: str = "", packages: str = "initramfs-tools: {}", modules: str = VIRTIO, builtin: str = ""
) -> MemoryGuest:
    return from_yaml(
        f"packages: {{{packages}}}\nkernels:\n  6.1.0:\n    modules: {{{modules}, vmw_pvscsi: []}}\n"
        f"    builtin: [{builtin}]\n    initramfs: [{inside}]\nfiles:\n  /etc/hostname: x\n{files}"
    )


def rebuilds(to: MemoryGuest) -> int:
    return sum(isinstance(effect, RebuildRequest) for effect in done(to, virtio_in_initramfs).effects)


def test_an_initramfs_without_virtio_is_built_anew_with_it(run: Run) -> None:
    to = applied(run, guest("debian12-vmware"), virtio_in_initramfs)
    initramfs = to.load("/boot/initrd.img-6.1.0-21-amd64")
    assert isinstance(initramfs, File)
    assert modules_inside(initramfs.content) >= {
        *("virtio", "virtio_ring", "virtio_pci", "virtio_pci_modern_dev", "virtio_blk", "virtio_scsi", "virtio_net"),
        *("vmw_pvscsi", "ext4"),
    }


def test_an_initramfs_with_virtio_is_left_as_it_is() -> None:
    assert done(kernel("virtio, virtio_ring, virtio_pci, virtio_blk, virtio_scsi"), virtio_in_initramfs).effects == ()


def test_a_module_that_another_one_needs_is_missed_too() -> None:
    assert rebuilds(kernel("virtio, virtio_pci, virtio_blk, virtio_scsi")) == 1


def test_what_is_built_into_the_kernel_counts() -> None:
    builtin = "virtio, virtio_ring, virtio_pci, virtio_blk, virtio_scsi, virtio_net"
    assert done(kernel("", modules="ext4: []", builtin=builtin), virtio_in_initramfs).effects == ()


def test_a_network_driver_may_come_from_the_root_file_system() -> None:
    inside = "virtio, virtio_ring, virtio_pci, virtio_blk, virtio_scsi"
    assert rebuilds(kernel(inside)) == 0


def test_only_where_the_builder_would_look_at_its_own_machine_is_it_told_to_take_most_modules() -> None:
    wanted = "virtio_pci\nvirtio_blk\nvirtio_scsi\nvirtio_net\n"
    most = kernel("", files='  /etc/initramfs-tools/initramfs.conf: "MODULES=most\\n"\n')
    assert outcome(done(most, virtio_in_initramfs)) == {"/etc/initramfs-tools/modules": wanted}
    dep = kernel(
        "",
        files='  /etc/initramfs-tools/initramfs.conf: "MODULES=most\\n"\n'
        '  /etc/initramfs-tools/conf.d/driver-policy: "MODULES=dep # small\\n"\n',
    )
    assert outcome(done(dep, virtio_in_initramfs)) == {
        "/etc/initramfs-tools/modules": wanted,
        "/etc/initramfs-tools/conf.d/magalu-migrate": (
            "# Written by magalu-migrate: MODULES=dep looks at the machine that builds, which is not the one that boots.\n"
            "MODULES=most\n"
        ),
    }


def test_dracut_gets_a_drop_in(run: Run) -> None:
    to = applied(run, guest("rocky8-vmware-bls"), virtio_in_initramfs)
    assert to.load("/etc/dracut.conf.d/50-magalu-migrate.conf").text == (  # type: ignore[union-attr]
        "# Written by magalu-migrate: whichever machine builds the initramfs, it boots on KVM.\n"
        'add_drivers+=" virtio_pci virtio_blk virtio_scsi virtio_net "\n'
    )


def test_without_a_builder_the_guest_is_refused() -> None:
    changes = done(kernel("", packages=""), virtio_in_initramfs)
    assert changes.effects == ()
    assert [(finding.code, finding.severity) for finding in changes.findings] == [("BOOT-005", Severity.ERROR)]


def test_modules_that_are_named_already_are_not_named_twice() -> None:
    assert (
        with_modules("virtio-blk\n# virtio_pci", ("virtio_pci", "virtio_blk"))
        == "virtio-blk\n# virtio_pci\nvirtio_pci\n"
    )


def test_an_initramfs_that_is_none_is_told_and_built_anew() -> None:
    to = kernel("")
    to.store("/boot/initrd.img-6.1.0", File(b"not an archive"))
    changes = done(to, virtio_in_initramfs)
    assert codes(changes) == ["BOOT-004"]
    assert rebuilds(to) == 1


def test_a_kernel_without_an_initramfs_that_needs_one_is_told() -> None:
    to = kernel("")
    to.store("/boot/initrd.img-6.1.0", None)
    changes = done(to, virtio_in_initramfs)
    assert (codes(changes), changes.effects) == (["BOOT-004"], ())


def test_a_default_kernel_without_virtio_refuses_the_guest_and_another_one_is_only_noted() -> None:
    to = guest("debian11-vmware-tarball")
    found = {(finding.code, finding.severity) for finding in done(to, virtio_in_initramfs).findings}
    assert found == {("BOOT-002", Severity.ERROR), ("BOOT-001", Severity.NOTE)}
    menu = to.load("/boot/grub/grub.cfg")
    assert isinstance(menu, File)
    to.store("/boot/grub/grub.cfg", File(menu.content.replace(b'default="1>0"', b'default="0"')))
    found = {(finding.code, finding.severity) for finding in done(to, virtio_in_initramfs).findings}
    assert found == {("BOOT-001", Severity.NOTE)}


def test_a_guest_without_any_kernel_is_refused() -> None:
    found = done(from_yaml("files: {/etc/hostname: x}"), virtio_in_initramfs).findings
    assert [(finding.code, finding.forbids) for finding in found] == [("BOOT-011", True)]
    assert register()["BOOT-011"].waivable is None


@pytest.mark.parametrize(
    "path", ["/boot/vmlinuz-6.1.0", "/lib/modules/6.1.0/modules.dep", "/boot/efi/0123/6.1.0/linux", "/boot/bzImage"]
)
def test_a_kernel_of_which_only_a_part_is_found_is_told(path: str) -> None:
    found = done(from_yaml(f"files: {{{path}: x}}"), virtio_in_initramfs).findings
    assert [(finding.code, finding.forbids) for finding in found] == [("BOOT-007", False)]


def test_a_unified_kernel_is_a_kernel() -> None:
    assert "BOOT-011" not in codes(done(from_yaml("files: {/efi/EFI/Linux/a.efi: x}"), virtio_in_initramfs))


def test_kernels_are_in_the_order_of_their_numbers() -> None:
    assert sorted(["6.1.0-21", "6.1.0-9", "5.10.0-28"], key=version_key) == ["5.10.0-28", "6.1.0-9", "6.1.0-21"]
    found = kernels(Draft(guest("debian11-vmware-tarball")))
    assert [(each.version, each.listed) for each in found] == [
        ("4.9.0-0.custom", True),
        ("5.10.0-9-amd64", False),
        ("5.10.0-28-amd64", True),
    ]


def grub(arguments: str) -> MemoryGuest:
    return MemoryGuest({"/boot/grub/grub.cfg": File(f"linux /vmlinuz-6 {arguments}\n".encode())})


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("root=x", "root=x console=tty0 console=ttyS0,115200n8"),
        ("root=x console=tty1", "root=x console=tty1 console=ttyS0,115200n8"),
        ("root=x console=ttyS0 quiet", "root=x console=ttyS0 quiet"),
        ("root=x console=ttyS0,9600 console=tty0 quiet", "root=x console=tty0 console=ttyS0,9600 quiet"),
        ("root=x console=ttyS1", "root=x console=ttyS1 console=ttyS0,115200n8"),
    ],
)
def test_the_serial_port_is_the_last_console_and_others_stay(before: str, after: str) -> None:
    to = grub(before)
    found = outcome(done(to, serial_console)).get("/boot/grub/grub.cfg", f"linux /vmlinuz-6 {before}\n")
    assert found == f"linux /vmlinuz-6 {after}\n"


def test_grubs_own_settings_say_so_too(run: Run) -> None:
    to = applied(run, guest("debian12-vmware"), serial_console)
    assert 'GRUB_CMDLINE_LINUX="console=tty0 console=ttyS0,115200n8"\n' in to.load("/etc/default/grub").text  # type: ignore[union-attr]


def test_a_console_in_a_cloud_images_own_settings_is_enough() -> None:
    assert done(guest("ubuntu2404-ec2-pinned"), serial_console).effects == ()


BUSYBOX = """\
::sysinit:/sbin/openrc sysinit
tty1::respawn:/sbin/getty 38400 tty1
#ttyS0::respawn:/sbin/getty -L 0 ttyS0 vt100
::ctrlaltdel:/sbin/reboot
"""
SYSVINIT = """\
id:2:initdefault:
1:2345:respawn:/sbin/getty 38400 tty1
#T0:23:respawn:/sbin/getty -L ttyS0 9600 vt100
"""


def test_an_inittab_gets_a_login_on_the_serial_port_once() -> None:
    assert with_serial_login(BUSYBOX) == BUSYBOX + "ttyS0::respawn:/sbin/getty -L 115200 ttyS0 vt100\n"
    assert with_serial_login(SYSVINIT) == SYSVINIT + "S0:2345:respawn:/sbin/getty -L 115200 ttyS0 vt100\n"
    red_hat = "id:3:initdefault:\nS0:2345:respawn:/sbin/mingetty tty1"
    assert with_serial_login(red_hat) == f"{red_hat}\nT0:2345:respawn:/sbin/agetty -L 115200 ttyS0 vt100\n"
    for text in (BUSYBOX, SYSVINIT, red_hat):
        assert with_serial_login(with_serial_login(text)) == with_serial_login(text)


@pytest.mark.parametrize(
    ("files", "changed"),
    [
        ({"/etc/inittab": BUSYBOX, "/sbin/openrc": ""}, ["/etc/inittab"]),
        ({"/etc/init/tty1.conf": "", "/sbin/initctl": ""}, ["/etc/init/ttyS0.conf"]),
        (
            {
                "/etc/init/serial.conf": "",
                "/etc/init/tty1.conf": "",
                "/sbin/initctl": "",
                "/etc/inittab": "id:3:initdefault:\n",
            },
            [],
        ),
        ({"/etc/inittab": SYSVINIT, "/usr/lib/systemd/systemd": ""}, []),
    ],
    ids=["busybox", "upstart", "rhel6", "systemd"],
)
def test_each_init_system_is_told_in_its_own_words(files: dict[str, str], changed: list[str]) -> None:
    to = MemoryGuest({path: File(text.encode()) for path, text in files.items()})
    assert list(outcome(done(to, serial_console))) == changed


def test_the_shim_is_put_where_any_firmware_looks_with_what_it_loads(run: Run) -> None:
    to = applied(run, guest("debian12-uefi-pinned"), uefi_fallback_path)
    folder = {name: to.load(f"/boot/efi/EFI/BOOT/{name}").content for name in to.names("/boot/efi/EFI/BOOT")}  # type: ignore[union-attr]
    assert folder == {
        "BOOTX64.EFI": b"shim",
        "grubx64.efi": b"grub",
        "mmx64.efi": b"mm",
        "grub.cfg": (
            b"search.fs_uuid 3c0f2f5e-0000-4000-8000-00000000000a root\n"
            b"set prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n"
        ),
    }
    assert "Name: grub2/force_efi_extra_removable\nTemplate: grub2/force_efi_extra_removable\nValue: true\n" in (
        to.load("/var/cache/debconf/config.dat").text  # type: ignore[union-attr]
    )


def esp(*names: str, os: str = "debian") -> MemoryGuest:
    files = "".join(f"  /boot/efi/{name}: {name}\n" for name in names)
    return from_yaml(f"os: {{id: {os}}}\nfirmware: uefi\nfiles:\n  /etc/hostname: x\n{files}")


def test_a_fallback_loader_in_whatever_case_stays() -> None:
    assert done(esp("EFI/boot/bootx64.efi", "EFI/debian/grubx64.efi"), uefi_fallback_path).effects == ()


def test_a_folder_in_lower_case_is_used_and_grub_alone_does_without_companions() -> None:
    to = esp(
        "efi/Boot/fbx64.efi", "efi/arch/grubx64.efi", "efi/arch/mmx64.efi", "efi/Microsoft/bootmgfw.efi", os="arch"
    )
    assert outcome(done(to, uefi_fallback_path)) == {"/boot/efi/efi/Boot/BOOTX64.EFI": "efi/arch/grubx64.efi"}


def test_the_distributions_own_loader_is_preferred_to_another_ones() -> None:
    to = esp("EFI/centos/shimx64.efi", "EFI/redhat/shimx64.efi", "EFI/redhat/grubx64.efi", os="rhel")
    assert outcome(done(to, uefi_fallback_path)) == {
        "/boot/efi/EFI/BOOT/BOOTX64.EFI": "EFI/redhat/shimx64.efi",
        "/boot/efi/EFI/BOOT/grubx64.efi": "EFI/redhat/grubx64.efi",
    }


def test_no_loader_is_told_and_a_bios_guest_needs_none() -> None:
    assert codes(done(esp("EFI/debian/readme"), uefi_fallback_path)) == ["BOOT-006"]
    assert codes(done(esp("x"), uefi_fallback_path)) == ["BOOT-006"]
    assert done(guest("debian12-vmware"), uefi_fallback_path).findings == ()


def test_debconf_learns_an_answer_only_to_a_question_that_it_knows() -> None:
    known = "Name: a/b\nTemplate: a/b\nOwners: x\n\nName: q\nTemplate: q\nOwners: y\nFlags: seen\n"
    assert with_debconf_answer(known, "q", "true") == (
        "Name: a/b\nTemplate: a/b\nOwners: x\n\nName: q\nTemplate: q\nValue: true\nOwners: y\nFlags: seen\n"
    )
    assert with_debconf_answer(known, "other", "true") == known
