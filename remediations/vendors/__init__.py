"""What other clouds leave in a guest, as data, one file per vendor; and the engine that takes it out and looks whether it is gone.

What a vendor's file says is in catalogue.py. Packages go by vendor, and so do the files that they leave; what several vendors may have
written into one file of the guest (mirrors, time, fstab, the kernel's command line) is changed once for all of them.
"""

from collections.abc import Sequence

from migrate.draft import Draft
from migrate.remediation import Remediation, Settings
from remediations import kernel_arguments
from remediations.vendors import (
    absence,
    apt_marks,
    clocks,
    foreign_mounts,
    leftovers,
    package_sources,
    packages,
)
from remediations.vendors.catalogue import Vendor, vendor, vendors
from remediations.vendors.owners import Owners
from remediations.vendors.patterns import installed

__all__ = [
    "Vendor",
    "absence_check",
    "dependency_marks",
    "foreign_mount_removal",
    "kernel_argument_removal",
    "last_leftover_removal",
    "last_package_removal",
    "leftover_removal",
    "package_removal",
    "public_package_sources",
    "public_time_servers",
    "unit_stop",
    "vendor",
    "vendors",
]


def dependency_marks(of: Sequence[Vendor]) -> Remediation:
    """Return the remediation after which `apt autoremove` takes nothing that a metapackage named which goes with a vendor's packages."""

    def act(draft: Draft, settings: Settings) -> None:
        for each in of:
            apt_marks.keep_what_metapackages_named(draft, each)

    return Remediation(
        "keep-what-metapackages-named",
        "Keep what a metapackage brought when it goes with a vendor's packages",
        "Ubuntu's ubuntu-server names open-vm-tools, and goes when that goes. What else it named was installed on its behalf, and the next "
        "`apt autoremove` would take it. It is marked as wanted in /var/lib/apt/extended_states, before the packages go.",
        ("apt-mark(8); apt-get(8), autoremove", "ubuntu-meta, metapackage-map"),
        act,
    )


def unit_stop(of: Sequence[Vendor]) -> Remediation:
    """Return the remediation after which nothing starts a unit of a vendor's. It comes before its packages go."""

    def act(draft: Draft, settings: Settings) -> None:
        for each in of:
            leftovers.stop(draft, each)

    return Remediation(
        "stop-vendor-units",
        "Not start what belongs to another cloud",
        "The links by which systemd starts the agents of other clouds go before their packages do, as `systemctl disable` would take them: a "
        "package's scripts know its own units, but not those that an agent enabled for each network card. So do files that such scripts wrote, "
        "as the drop-in by which EC2 Instance Connect starts the SSH server. What a package owns goes with it.",
        (
            "systemctl(1), disable; systemd.unit(5)",
            "amazon-ec2-net-utils, policy-routes@.service; aws-ec2-instance-connect-config, debian/postinst and prerm",
        ),
        act,
    )


def package_removal(of: Vendor) -> Remediation:
    """Return the remediation after which no package of the vendor is installed but those that must stay, which are told."""

    def act(draft: Draft, settings: Settings) -> None:
        packages.remove(draft, of)

    return Remediation(
        f"remove-{of.slug}-packages",
        f"Remove {of.name}'s packages",
        f"{of.name}'s agents and drivers have nothing to talk to on another cloud; they fail at each boot, or wait. "
        "Packages that cannot stay without them go too, and are told; nothing is removed only because nobody needs it any more, "
        "for that may be what the machine is there for. What would drag a kernel or the system's libraries along stays, and is told.",
        _sources(of, "apt-get(8), autoremove; dnf(8), clean_requirements_on_remove"),
        act,
    )


def leftover_removal(of: Vendor) -> Remediation:
    """Return the remediation after which nothing of the vendor's files, units and lines is there but what a package owns."""

    def act(draft: Draft, settings: Settings) -> None:
        leftovers.remove(draft, of)

    return Remediation(
        f"remove-{of.slug}-leftovers",
        f"Remove what {of.name}'s packages and installers leave behind",
        f"State, logs, certificates and settings of {of.name}'s agents belong to no package, and an agent from a tarball is known "
        "to no package manager. They go, with the masks and drop-ins of its units, and with its lines in PAM, NSS, sudo and the SSH server's "
        "configuration all at once, so that nobody is locked out by one half of them. A file that a package owns stays, and a unit that "
        "stays is masked.",
        _sources(of, "systemd.unit(5); pam.conf(5); nsswitch.conf(5)"),
        act,
    )


def public_package_sources(of: Sequence[Vendor]) -> Remediation:
    """Return the remediation after which the package manager asks the distribution's public servers."""

    def act(draft: Draft, settings: Settings) -> None:
        owned = Owners(draft)
        later = frozenset(name for each in of for name in installed(draft, each.last_packages))
        for each in of:
            package_sources.use_public(draft, each)
            package_sources.switch_off(
                draft, each, lambda path: owned.of(path) in later or package_sources.goes_later(path, of)
            )

    return Remediation(
        "use-public-package-sources",
        "Ask the distribution's public servers for packages",
        "Images of a cloud name its own mirrors, which need not answer elsewhere and cost seconds to minutes each time. apt's sources name the "
        "distribution's own host instead, with the same paths; repositories of yum, dnf and zypper that only the old cloud serves are "
        "switched off.",
        ("sources.list(5); dnf.conf(5), enabled; zypper(8)", "cloud images of Ubuntu, Debian, Red Hat and SUSE"),
        act,
    )


def public_time_servers(of: Sequence[Vendor]) -> Remediation:
    """Return the remediation after which nobody asks a vendor's clock for the time."""

    def act(draft: Draft, settings: Settings) -> None:
        clocks.ask_public_servers(draft, of)

    return Remediation(
        "use-public-time-servers",
        "Ask public servers for the time",
        "A time server that answers in one cloud only is silent elsewhere, and chrony does not even start without the clock device that it is "
        "told to read. Such lines go from chrony, ntpd and systemd-timesyncd; where no other source is left, the distribution's servers in the "
        "public pool take their place.",
        ("chrony.conf(5); ntp.conf(5); timesyncd.conf(5)", "ntppool.org, vendor zones"),
        act,
    )


def foreign_mount_removal(of: Sequence[Vendor]) -> Remediation:
    """Return the remediation after which fstab mounts nothing that only the old place has."""

    def act(draft: Draft, settings: Settings) -> None:
        foreign_mounts.forget(draft, of)

    return Remediation(
        "forget-foreign-mounts",
        "Not wait at boot for disks and folders that only the old place has",
        "The temporary disk of a cloud's machine does not come along, nor does a folder of its host. Lines of fstab that mount such a thing, and "
        "lines that need a file on it, such as a swap file, become comments that say why.",
        ("fstab(5); systemd.mount(5)", "WALinuxAgent, ResourceDisk; cloud-init, cc_mounts"),
        act,
    )


def kernel_argument_removal(of: Sequence[Vendor]) -> Remediation:
    """Return the remediation after which no kernel is started with what only a vendor's image asks for."""
    patterns = tuple(dict.fromkeys(pattern for each in of for pattern in each.kernel_arguments))

    def act(draft: Draft, settings: Settings) -> None:
        kernel_arguments.drop_arguments(draft, patterns, "asks the kernel for what only the old cloud has use for")

    return Remediation(
        "drop-vendor-kernel-arguments",
        "Forget kernel arguments that only the old cloud asked for",
        "Images of other clouds wait for slow disks at each boot, or power off where an error should be shown. "
        f"{', '.join(patterns)} go from every kernel entry and from GRUB's settings. Consoles, interface naming and everything else stay.",
        (
            "kernel arguments of Azure's Linux images and of Amazon Linux 2; initramfs-tools(7), rootdelay",
            "dracut.cmdline(7), rd.emergency= and rd.shell",
        ),
        act,
    )


def last_package_removal(of: Vendor) -> Remediation:
    """Return the remediation after which no client of the vendor's repositories is installed. It comes after all that installs."""

    def act(draft: Draft, settings: Settings) -> None:
        packages.remove_last(draft, of)

    return Remediation(
        f"remove-{of.slug}-registration",
        f"Remove what knows {of.name}'s package repositories",
        f"{of.name}'s update service answers inside of it only, and each use of the package manager elsewhere hangs until it gives up. Its client "
        "goes after everything was installed that may have needed it. Where the guest has no other repository, that is told.",
        _sources(of, "Red Hat Update Infrastructure; cloud-regionsrv-client"),
        act,
    )


def last_leftover_removal(of: Vendor) -> Remediation:
    """Return the remediation after which nothing is left of the registration with the vendor's repositories."""

    def act(draft: Draft, settings: Settings) -> None:
        leftovers.remove_last(draft, of)

    return Remediation(
        f"remove-{of.slug}-registration-leftovers",
        f"Remove what the client of {of.name}'s repositories leaves behind",
        "Certificates and credentials that only the old cloud's update service knows belong to no package. They go once its client is gone.",
        _sources(of, "Red Hat Update Infrastructure; cloud-regionsrv-client, registercloudguest --clean"),
        act,
    )


def absence_check(of: Sequence[Vendor]) -> Remediation:
    """Return the remediation that changes nothing and says of each vendor whether something is left."""

    def act(draft: Draft, settings: Settings) -> None:
        absence.tell(draft, tuple(of))

    return Remediation(
        "verify-absence",
        "Look whether anything of another cloud is left",
        "After everything else, the guest is searched once more for all that is known of each vendor: packages, units, files, lines, mirrors, "
        "clocks, kernel arguments, and settings of the initramfs, of devices and of the network. What stays is told with the reason.",
        ("remediations/vendors/*.yaml",),
        act,
    )


def _sources(of: Vendor, *also: str) -> tuple[str, ...]:
    return (f"remediations/vendors: {of.name}, with its sources", *also)
