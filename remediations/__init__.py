"""What is done to a guest so that it can live on Magalu Cloud: every remediation, in the order in which they are applied.

Findings that they tell:

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
    DISK-005   note     the root is on a logical volume, which a service of ours grows
    DISK-006   warning  the root cannot grow
    DISK-007   warning  no swap file, or a smaller one, fits in place of the swap partition
    DISK-008   error    a part of the system is on another disk than the boot disk
    DISK-008   warning  a part of the system is on none of the disks
    DISK-009   warning  LVM's settings choose disks by their names
    BOOT-001   note     a kernel that does not start by default has no virtio
    BOOT-002   error    the default kernel has no virtio
    BOOT-003   warning  it is not known whether a kernel has virtio
    BOOT-004   warning  an initramfs is missing or cannot be read
    BOOT-005   error    an initramfs has no virtio and nothing is there to build another
    BOOT-006   warning  UEFI firmware will find no boot loader
    BOOT-007   warning  no kernel was found
    NET-001    error    nothing that we know brings up a network card
    NET-002    warning  a card had more than one address, routes or commands, which are given up
    NET-003    warning  a bond or team is given up
    NET-004    warning  a VLAN is given up
    NET-005    warning  a bridge over a card, or something else built on one, is given up
    NET-006    note     the VM had several network cards
    NET-007    warning  a file in /etc names an address, card or MAC of the old network
    NET-008    warning  nothing will write the name servers to resolv.conf
    NET-010    warning  the network is set up by a program whose files we leave as they are
    NET-011    warning  NetworkManager is told to leave cards alone
    NET-012    warning  only cloud-init can set up the network: the new card's name would have to be known
    NET-013    warning  a file of netplan cannot be read
    SSH-001    note     the instance's user was added to AllowUsers or AllowGroups (warning: a rule still keeps it out)
    SSH-002    warning  logins need more than a key
    SSH-003    warning  keys were looked for where cloud-init does not write them
    SSH-004    warning  a rule for some logins only may keep the instance's user out
    SSH-005    warning  the SSH server listens to this machine only
    SSH-006    note     the SSH server does not listen on port 22
    SSH-007    warning  a host key lies elsewhere and is kept
    SSH-008    warning  hosts.deny or /etc/nologin keeps people out
    SSH-009    note     options on the SSH server's command line
    SSH-010    note     keys of a service's account are kept
    SSH-011    warning  not systemd: nothing would make new host keys, so the old ones are kept
    FW-001     note     a firewall was switched off; these were its rules
    FW-002     warning  it also forwarded or translated addresses for others
    FW-003     note     fail2ban stays
    FW-004     warning  something else loads firewall rules at boot
    ID-001     note     kernels' boot entries keep the old machine-id in their names
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
from remediations.firewall import disable_firewall
from remediations.fstab import forget_missing_devices, mount_by_uuid
from remediations.growth import let_the_root_grow
from remediations.identity import empty_logs, forget_leases, reset_machine_id
from remediations.lvm import forget_lvm_devices, grow_root_volume
from remediations.mac_addresses import strip_macs
from remediations.network import network_by_dhcp
from remediations.ssh import allow_key_login, enable_sshd, forget_authorized_keys, make_host_keys_at_first_boot
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
    # Only what is still there after the network has been set up anew has MACs to be stripped.
    strip_macs,
    disable_firewall,
    # The server's configuration before its package: a fresh one has nothing that must be changed.
    allow_key_login,
    forget_authorized_keys,
    make_host_keys_at_first_boot,
    enable_sshd,
    # Before packages are installed: what is logged of that is no log of the source.
    empty_logs,
    # Our own files come before packages: afterwards the folders for them would be there already, and what is done
    # would not be what the preview said. The package manager leaves files alone that no package owns.
    configure_cloud_init,
    install_cloud_init,
    # Units can be linked only when they are there.
    enable_cloud_init,
    # After packages, whose scripts fill in a machine-id that is empty.
    reset_machine_id,
    forget_leases,
    # By UUID first: what is missing, and which line means the swap partition, is then told from UUIDs too.
    mount_by_uuid,
    forget_missing_devices,
    let_the_root_grow,
    grow_root_volume,
    forget_lvm_devices,
    drop_vendor_kernel_arguments,
    serial_console,
    uefi_fallback_path,
    # Last of those that ask for a new initramfs: it looks at the configuration that the others have written.
    virtio_in_initramfs,
)
