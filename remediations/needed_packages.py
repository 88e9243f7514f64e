"""What Magalu Cloud needs a guest to have: cloud-init, growpart, an SSH server, sudo, and what asks for an address where nothing else does."""

from collections.abc import Mapping
from dataclasses import dataclass

from migrate.draft import Draft
from migrate.effects import Severity
from migrate.errors import PackagesUnavailable
from migrate.guest import Os, PackageChange, Packaging
from migrate.remediation import Settings, remediation
from migrate.text import size
from migrate.versions import order
from remediations import network

PROGRAMS = ("/usr/sbin/sshd", "/usr/bin/cloud-init", "/usr/bin/sudo", "/usr/bin/growpart")
"""What a guest must have, the most important first. Where a program is there, however it came, its package is not asked for."""
SSHD, CLOUD_INIT, SUDO, GROWPART = PROGRAMS

PACKAGES: Mapping[str, tuple[str, ...]] = {
    "debian": ("openssh-server", "cloud-init", "sudo", "cloud-guest-utils"),
    "rhel": ("openssh-server", "cloud-init", "sudo", "cloud-utils-growpart"),
    "suse": ("openssh", "cloud-init", "sudo", "growpart"),
    "photon": ("openssh-server", "cloud-init", "sudo", "cloud-utils"),
    "alpine": ("openssh", "cloud-init", "sudo", "cloud-utils-growpart"),
    "arch": ("openssh", "cloud-init", "sudo", "cloud-guest-utils"),
}
"""Their packages by family, in the order of PROGRAMS. Amazon Linux, Oracle Linux and Azure Linux call them as Red Hat does."""

FAMILY_OF_PACKAGING = {
    Packaging.DPKG: "debian",
    Packaging.RPM: "rhel",
    Packaging.APK: "alpine",
    Packaging.PACMAN: "arch",
}
"""For distributions that say neither who they are nor whom they are like."""

KNOWN_CLIENTS = ("dhclient", "dhcpcd", "udhcpc", "pump")
"""What ifupdown asks for an address with. Source: interfaces(5), "The dhcp Method"."""
DHCP_CLIENTS = ("isc-dhcp-client", "dhcpcd-base")
"""The first was given up by its makers, and a release may have the second only. Source: Debian 13, release notes."""

RESOLVER = "systemd-resolved"
"""A package of its own since Debian 12. Source: its release notes, 5.1.5."""

SPARE = 64 << 20
"""What stays free on the root after packages are installed, in bytes: they write logs and caches when they are set up."""


@dataclass(frozen=True, slots=True)
class Minimum:
    """The oldest version that is of use, without its epoch, and why an older one is not: it completes "because it …"."""

    version: str
    lacks: str


MINIMUM = {
    CLOUD_INIT: Minimum(
        "0.7.9", "takes `locale: false` for a language, and knows neither ds-identify nor the apt section"
    ),
}
"""Of the others, every version that a guest with a virtio kernel can have is of use. Source: cloud-init's cc_locale.py and
cc_apt_configure.py of 0.7.8 and 0.7.9, and its ChangeLog."""


def packages_for(id: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what guests with this ID in os-release may have to be given: what all need, and what is taken where there is such a package."""
    family = Os(id).family
    return PACKAGES.get(family, PACKAGES["rhel"]), (*DHCP_CLIENTS, RESOLVER) if family == "debian" else ()


def wanted(draft: Draft) -> dict[str, str]:
    """Return the package of each program of PROGRAMS, as this guest's distribution calls it; {} where that is not known."""
    os = draft.os
    names = PACKAGES.get(os.family) or PACKAGES.get(FAMILY_OF_PACKAGING.get(os.packaging, ""))
    return dict(zip(PROGRAMS, names, strict=True)) if names else {}


def has(draft: Draft, program: str) -> bool:
    """Whether the guest has, or by now would have, a program of PROGRAMS: by its package, or by the program itself."""
    return wanted(draft).get(program) in draft.packages or draft.exists(program)


def too_old(draft: Draft, program: str) -> str | None:
    """Return the version of a package that is there and is not of use; None where it is new enough, or there is no telling."""
    least, package = MINIMUM.get(program), draft.packages.get(wanted(draft).get(program, ""))
    compare = order(draft.os.packaging)
    if least is None or package is None or compare is None:
        return None
    found = package.version.partition(":")[2] or package.version
    return package.version if compare(found, least.version) < 0 else None


@remediation(
    "install-cloud-init",
    "Install cloud-init, growpart and the SSH server",
    sources=(
        "docs.magalu.cloud, import of custom images: cloud-init, openssh-server and growth are required",
        "ifupdown, inet.defn: DHCP needs a client of its own; Debian 13 recommends dhcpcd-base",
        "docs.magalu.cloud, import of custom images: there is no console, so the user with the key must be able to become root: sudo",
    ),
)
def install_cloud_init(draft: Draft, settings: Settings) -> None:
    """Magalu Cloud gives an instance its key, its address and its disk's size through cloud-init, and lets people in through SSH only.

    cloud-init, growpart, the SSH server and sudo are there, a DHCP client where ifupdown runs the network and has none, and systemd-resolved
    where systemd-networkd does and nothing would write the name servers down. What is installed already is not touched, unless it is so old that it
    is of no use. The packages come from what the user brought (--bundle, --repo), or from the guest's own repositories. Where not all can
    be had, those that can are installed, and what the lack of each means is told; without an SSH server the guest is refused.
    """
    packages = wanted(draft)
    if not packages:
        draft.find(
            "CLOUD-004",
            f"{draft.os.pretty or draft.os.id}: it is not known how its packages are called, so nothing is installed.",
            remedy="Install cloud-init, growpart and an SSH server in the source VM.",
        )
    old = {program: version for program in packages if (version := too_old(draft, program))}
    missing = tuple(package for program, package in packages.items() if not has(draft, program) or program in old)
    renewed = tuple(packages[program] for program in old)
    passed = _install(draft, missing, renewed)
    for program in PROGRAMS:
        if program == SUDO and not has(draft, CLOUD_INIT):
            continue  # our own unit then gives root the key
        if not has(draft, program):
            _tell_missing(draft, program, packages.get(program, program.rpartition("/")[2]), passed)
        elif version := too_old(draft, program):
            _tell_old(draft, program, packages[program], version, passed)


def _install(draft: Draft, missing: tuple[str, ...], renewed: tuple[str, ...]) -> tuple[str, ...]:
    """Install what can be had; return why not everything could, place by place."""
    why = "is what Magalu Cloud gives a machine its key, address and disk size through"
    extras: tuple[str, ...] = ()
    if _lacks_dhcp_client(draft):
        why, extras = f"{why}; ifupdown has no DHCP client of its own", DHCP_CLIENTS
    elif network.lacks_resolver(draft):
        why, extras = f"{why}; systemd-networkd writes no resolv.conf of its own", (RESOLVER,)
    plan = _planned(draft, missing, renewed, extras)
    if plan.change is not None:
        draft.change_packages(plan.change, why=why)
        if plan.change.install and plan.change.passed:
            draft.find(
                "CLOUD-005",
                f"packages come from {plan.change.origin}, because nothing before it served: {'; '.join(plan.change.passed)}",
                severity=Severity.NOTE,
            )
    if extras and plan.extra is None:
        _tell_extra(draft, extras)
    return plan.passed


@dataclass(frozen=True, slots=True)
class _Plan:
    """One transaction, the extra that is in it, and why not everything is."""

    change: PackageChange | None
    extra: str | None
    passed: tuple[str, ...] = ()


def _planned(draft: Draft, missing: tuple[str, ...], renewed: tuple[str, ...], extras: tuple[str, ...]) -> _Plan:
    """Return one transaction, for each costs the start of the guest's package manager: with the first of the extras that can be had.

    Where no such transaction can be had, it is one of as many as can, the most important first.
    """
    reasons: tuple[str, ...] = ()
    for extra in extras or (None,):
        change, reasons = _tried(draft, (*missing, extra) if extra else missing, renewed)
        if change is not None:
            return _Plan(change, extra)
    taken: tuple[str, ...] = ()
    for name in missing:
        if _tried(draft, (*taken, name), renewed)[0] is not None:
            taken = (*taken, name)
    first = next((extra for extra in extras if _tried(draft, (*taken, extra), renewed)[0] is not None), None)
    together = (*taken, first) if first else taken
    change = _tried(draft, together, renewed)[0] if together else None
    return _Plan(change, first, reasons if taken != missing else ())


def _tried(
    draft: Draft, names: tuple[str, ...], renewed: tuple[str, ...]
) -> tuple[PackageChange | None, tuple[str, ...]]:
    try:
        change = draft.plan_packages(install=names, renew=tuple(name for name in renewed if name in names))
    except PackagesUnavailable as error:
        return None, error.passed or (error.message,)
    free = draft.layout.root_filesystem.free
    if free is not None and change.installed_bytes > max(0, free - SPARE):
        room = f"the packages take {size(change.installed_bytes)}, and only {size(free)} are free on the root"
        return None, (room,)
    compare = order(draft.os.packaging)
    for package in change.install:
        before = draft.packages.get(package.name)
        if package.name in renewed and before and compare and compare(package.version, before.version) <= 0:
            return None, (f"{package.name} {package.version} is the newest there",)
    return change, ()


def _lacks_dhcp_client(draft: Draft) -> bool:
    if draft.os.family != "debian" or network.live(draft) is not network.IFUPDOWN:
        return False
    return not any(
        draft.exists(f"{folder}/{client}") for folder in ("/sbin", "/usr/sbin", "/bin") for client in KNOWN_CLIENTS
    )


# What is told


def _tell_extra(draft: Draft, extras: tuple[str, ...]) -> None:
    if extras == (
        RESOLVER,
    ):  # before Debian 12 and on Ubuntu, it is a part of systemd, and there is nothing to install
        draft.find(
            "NET-008",
            "systemd-networkd learns the name servers by DHCP, but this guest has no systemd-resolved that would write them to "
            "/etc/resolv.conf, so it will resolve no names.",
            remedy="Install systemd-resolved in the source VM, or give cloud-init's resolv_conf module the name servers.",
        )
    elif has(draft, CLOUD_INIT):  # without cloud-init, our own unit asks for an address
        draft.find(
            "CLOUD-009",
            f"ifupdown asks for an address with a DHCP client, and none is there or can be had ({', '.join(extras)}), so the "
            "instance would never get an address.",
            remedy=f"Install {extras[0]} in the source VM. {_OFFER}",
            severity=Severity.ERROR,
        )


_OFFER = "Or offer it: --bundle FOLDER, which `magalu-migrate bundle make` makes, or --repo."

LACKS = {
    CLOUD_INIT: (
        "CLOUD-006",
        "is not there and cannot be had, so nothing but a small unit of ours sets the instance up",
    ),
    GROWPART: ("CLOUD-008", "is not there and cannot be had: the root may keep its size"),
    SSHD: (
        "SSH-013",
        "is not there and cannot be had: nobody would ever get into the instance, for there is no console",
    ),
    SUDO: (
        "CLOUD-010",
        "is not there and cannot be had: a user with the key cannot become root without root's password",
    ),
}
"""By program: the finding's code, and what its lack means."""


def _tell_missing(draft: Draft, program: str, package: str, passed: tuple[str, ...]) -> None:
    code, means = LACKS[program]
    why = f" ({'; '.join(passed)})" if passed else ""
    severity = Severity.ERROR if program == SSHD else Severity.WARNING
    draft.find(code, f"{package} {means}{why}", remedy=f"Install it in the source VM. {_OFFER}", severity=severity)


def _tell_old(draft: Draft, program: str, package: str, version: str, passed: tuple[str, ...]) -> None:
    least = MINIMUM[program]
    why = f" ({'; '.join(passed)})" if passed else ""
    draft.find(
        "CLOUD-011",
        f"{package} {version} is older than {least.version}, {least.lacks}; and no newer one can be had{why}",
        remedy=f"Update it in the source VM. {_OFFER}",
    )
