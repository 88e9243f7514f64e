"""What is done to a guest so that it can live on Magalu Cloud: every remediation, in the order in which they are applied.

What they may tell is in migrate/codes.yaml, a code each; the law's tests hold them to it.
"""

from migrate.remediation import Remediation
from remediations.blocked_drivers import let_drivers_load
from remediations.boot import uefi_fallback_path
from remediations.boot_arguments import forget_boot_address
from remediations.check_guest import check_guest
from remediations.cloud_init import (
    clear_foreign_datasources,
    configure_cloud_init,
    enable_cloud_init,
    reset_cloud_init_state,
)
from remediations.firewall import disable_firewall
from remediations.first_boot import boot_without_cloud_init
from remediations.fstab import forget_missing_devices, mount_by_uuid
from remediations.golden import GOLDEN
from remediations.growth import let_the_root_grow
from remediations.identity import forget_leases, reset_machine_id
from remediations.lvm import forget_lvm_devices, grow_root_volume
from remediations.mac_addresses import strip_macs
from remediations.needed_packages import install_cloud_init
from remediations.network import network_by_dhcp
from remediations.selinux import relabel_selinux
from remediations.serial_console import serial_console
from remediations.ssh import allow_key_login, enable_sshd, forget_authorized_keys, make_host_keys_at_first_boot
from remediations.vendors import (
    absence_check,
    dependency_marks,
    foreign_mount_removal,
    kernel_argument_removal,
    last_leftover_removal,
    last_package_removal,
    leftover_removal,
    package_removal,
    public_package_sources,
    public_time_servers,
    unit_stop,
    vendors,
)
from remediations.virtio import virtio_in_initramfs

VENDORS = vendors()
REGISTERING = tuple(each for each in VENDORS if each.last_packages)
"""Vendors with repositories that only they serve."""

BUILTIN: tuple[Remediation, ...] = (
    # Before anything is stated: what is told is the source's.
    check_guest,
    # Before packages go that a metapackage named: afterwards nobody knows what else it named.
    dependency_marks(VENDORS),
    unit_stop(VENDORS),
    # Packages first: what they own goes with them, and only the rest is a leftover.
    *(package_removal(each) for each in VENDORS),
    *(leftover_removal(each) for each in VENDORS),
    # Before anything is installed from there, and before lines of fstab are judged by what is on the disk.
    public_package_sources(VENDORS),
    public_time_servers(VENDORS),
    foreign_mount_removal(VENDORS),
    clear_foreign_datasources,
    reset_cloud_init_state,
    # The network before cloud-init is configured and installed: what is installed includes the DHCP client that it needs.
    network_by_dhcp,
    # Only what is still there after the network has been set up anew has MACs to be stripped.
    strip_macs,
    disable_firewall,
    # The server's configuration before its package: a fresh one has nothing that must be changed.
    allow_key_login,
    forget_authorized_keys,
    make_host_keys_at_first_boot,
    enable_sshd,
    # Our own files come before packages: afterwards the folders for them would be there already, and what is done
    # would not be what the preview said. The package manager leaves files alone that no package owns.
    configure_cloud_init,
    install_cloud_init,
    # Units can be linked only when they are there.
    enable_cloud_init,
    # Only where cloud-init is still not there.
    boot_without_cloud_init,
    # Nothing is installed after this.
    *(last_package_removal(each) for each in REGISTERING),
    *(last_leftover_removal(each) for each in REGISTERING),
    # After packages, whose scripts fill in a machine-id that is empty.
    reset_machine_id,
    forget_leases,
    # After packages, whose scripts write logs and caches of their own.
    *GOLDEN,
    # By UUID first: what is missing, and which line means the swap partition, is then told from UUIDs too.
    mount_by_uuid,
    forget_missing_devices,
    let_the_root_grow,
    grow_root_volume,
    forget_lvm_devices,
    kernel_argument_removal(VENDORS),
    forget_boot_address,
    let_drivers_load,
    serial_console,
    uefi_fallback_path,
    # Last of those that ask for a new initramfs: it looks at the configuration that the others have written.
    virtio_in_initramfs,
    # Last of all: it looks for what the others have left.
    absence_check(VENDORS),
    # After everything that writes: it labels what was written.
    relabel_selinux,
)
