"""What is done to a guest so that it can live on Magalu Cloud: every remediation, in the order in which they are applied.

Findings of the modules here (those of the network are in remediations.network):

    VMW-001    note     a metapackage goes with VMware's packages; autoremove would now take what it named
    VMW-002    warning  a package goes with VMware's packages, or one of theirs cannot go
    VMW-003    note     something of VMware is still there, because a package owns it
    CLOUD-001  warning  a file of cloud-init's configuration cannot be read
    CLOUD-002  warning  cloud-init's configuration names nobody who would get the instance's key
    CLOUD-003  warning  cloud-init does not run a module that growth or the key need
    CLOUD-004  warning  it is not known how this distribution's packages are called
    DISK-001   warning  a line of fstab does not fit what is on the disk
    DISK-002   warning  fstab mounts what is not on the boot disk
    DISK-003   note     fstab mounts from the network
    DISK-004   note     a swap partition behind the root became a swap file
    DISK-005   warning  the root is on a volume, which does not grow by itself
    DISK-006   warning  the root cannot grow
    DISK-007   warning  no swap file, or a smaller one, fits in place of the swap partition
    DISK-008   error    a part of the system is on another disk than the boot disk
    DISK-008   warning  a part of the system is on none of the disks
    BOOT-001   note     a kernel that does not start by default has no virtio
    BOOT-002   error    the default kernel has no virtio
    BOOT-003   warning  it is not known whether a kernel has virtio
    BOOT-004   warning  an initramfs is missing or cannot be read
    BOOT-005   error    an initramfs has no virtio and nothing is there to build another
    BOOT-006   warning  UEFI firmware will find no boot loader
    BOOT-007   warning  no kernel was found
"""

from migrate.remediation import Remediation
from remediations.boot import (
    drop_vendor_kernel_arguments,
    serial_console,
    uefi_fallback_path,
    virtio_in_initramfs,
)
from remediations.cloud_init import (
    clear_foreign_datasources,
    configure_cloud_init,
    enable_cloud_init,
    install_cloud_init,
    reset_cloud_init_state,
)
from remediations.fstab import forget_missing_devices, mount_by_uuid
from remediations.growth import let_the_root_grow
from remediations.mac_addresses import strip_macs
from remediations.network import network_by_dhcp
from remediations.vendors import leftover_removal, package_removal, vendor

VENDORS = (vendor("vmware"),)

BUILTIN: tuple[Remediation, ...] = (
    # Packages first: what they own goes with them, and only the rest is a leftover.
    *(package_removal(each) for each in VENDORS),
    *(leftover_removal(each) for each in VENDORS),
    clear_foreign_datasources,
    reset_cloud_init_state,
    # The network before cloud-init is configured and installed: what is installed includes the DHCP client that it needs.
    network_by_dhcp,
    strip_macs,
    # Our own files come before packages: afterwards the folders for them would be there already, and what is done
    # would not be what the preview said. The package manager leaves files alone that no package owns.
    configure_cloud_init,
    install_cloud_init,
    # Units can be linked only when they are there.
    enable_cloud_init,
    # By UUID first: what is missing, and which line means the swap partition, is then told from UUIDs too.
    mount_by_uuid,
    forget_missing_devices,
    let_the_root_grow,
    drop_vendor_kernel_arguments,
    serial_console,
    uefi_fallback_path,
    # Last of those that ask for a new initramfs: it looks at the configuration that the others have written.
    virtio_in_initramfs,
)
