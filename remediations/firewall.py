"""The guest's own firewall, which Magalu Cloud wants switched off: its security groups do that work."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from defusedxml import DefusedXmlException, ElementTree

from migrate.draft import Draft
from migrate.effects import Severity
from migrate.guest import Kind
from migrate.remediation import Settings, remediation
from remediations import shell_variables, systemd

MOST_RULES = 12
LARGEST = 256 * 1024
UFW = "/etc/ufw/ufw.conf"

WHY = "does what security groups do on Magalu Cloud, which demands that a guest's own firewall is off"


@dataclass(frozen=True, slots=True)
class Firewall:
    """A firewall by its units. `files` are where its rules are, `rules` reads one of them."""

    name: str
    units: tuple[str, ...]
    files: tuple[str, ...]
    rules: Callable[[str], tuple[str, ...]]


def iptables_rules(text: str) -> tuple[str, ...]:
    """Return the rules of an iptables-save file, and the policies that are not ACCEPT. Source: iptables-restore(8)."""
    lines = (line.strip() for line in text.splitlines())
    return tuple(
        line
        for line in lines
        if line.startswith(("-A ", "-I ")) or (line.startswith(":") and line.split()[1:2] in (["DROP"], ["REJECT"]))
    )


def nft_rules(text: str) -> tuple[str, ...]:
    """Return the lines of an nft file that decide something: rules with a verdict, and policies that are not accept. Source: nft(8)."""
    verdict = re.compile(r"\b(accept|drop|reject|masquerade|snat|dnat|redirect|jump|goto|queue)\b")
    lines = (line.strip() for line in re.sub(r"#.*", "", text).splitlines())
    return tuple(line for line in lines if verdict.search(line.replace("policy accept", "")))


def ufw_rules(text: str) -> tuple[str, ...]:
    """Return the rules as `ufw` was told them: it keeps each in a comment, "### tuple ### allow tcp 22 0.0.0.0/0 any …"."""
    return tuple(line.partition("### tuple ###")[2].strip() for line in text.splitlines() if "### tuple ###" in line)


def zone_rules(text: str) -> tuple[str, ...]:
    """Return what a zone of firewalld lets in. Source: firewalld.zone(5)."""
    try:
        zone = ElementTree.fromstring(text, forbid_dtd=True)
    except (ElementTree.ParseError, DefusedXmlException):
        return ()
    return tuple(
        " ".join((child.tag, *child.attrib.values())) for child in zone if child.tag not in ("short", "description")
    )


def plain_rules(text: str) -> tuple[str, ...]:
    """Return the lines that are not empty and no comment: Shorewall's rules, ferm's."""
    return tuple(
        line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith(("#", "?"))
    )


FIREWALLS = (
    Firewall("ufw", ("ufw.service",), ("/etc/ufw/user.rules", "/etc/ufw/user6.rules"), ufw_rules),
    Firewall("firewalld", ("firewalld.service",), ("/etc/firewalld/zones/*.xml",), zone_rules),
    Firewall(
        "nftables",
        ("nftables.service",),
        ("/etc/nftables.conf", "/etc/nftables.d/*", "/etc/sysconfig/nftables.conf"),
        nft_rules,
    ),
    Firewall(
        "iptables-persistent",
        ("netfilter-persistent.service", "iptables-persistent.service"),
        ("/etc/iptables/rules.v4", "/etc/iptables/rules.v6"),
        iptables_rules,
    ),
    Firewall(
        "iptables",
        ("iptables.service", "ip6tables.service"),
        ("/etc/sysconfig/iptables", "/etc/sysconfig/ip6tables"),
        iptables_rules,
    ),
    Firewall(
        "Shorewall",
        ("shorewall.service", "shorewall6.service"),
        ("/etc/shorewall/rules", "/etc/shorewall6/rules"),
        plain_rules,
    ),
    Firewall(
        "SuSEfirewall2",
        ("SuSEfirewall2.service", "SuSEfirewall2_init.service"),
        ("/etc/sysconfig/SuSEfirewall2",),
        plain_rules,
    ),
    Firewall("ferm", ("ferm.service",), ("/etc/ferm/ferm.conf",), plain_rules),
    Firewall("ConfigServer Firewall", ("csf.service", "lfd.service"), ("/etc/csf/csf.allow",), plain_rules),
)

_ROUTING = re.compile(r"\b(masquerade|SNAT|DNAT|forward-port|-A FORWARD)\b|^masquerade", re.IGNORECASE)
_LOADS = re.compile(r"(^|[\s;&|/])(ip6?tables(-restore)?|nft)\s+\S")


@remediation(
    "disable-firewall",
    "Switch off the guest's own firewall",
    sources=(
        "Magalu Cloud, custom images, requirements: the internal firewall is disabled, security groups take its place",
        "systemctl(1), disable; ufw(8), ufw.conf, ENABLED",
    ),
)
def disable_firewall(draft: Draft, settings: Settings) -> None:
    """ufw, firewalld, nftables, iptables and their like do not start at boot any more. Their rules stay on the disk, so that whoever
    needs them can switch them on again, and are told, so that security groups can be made of them.

    fail2ban stays. Rules that scripts of the operator's load stay too, and are told.
    """
    for firewall in FIREWALLS:
        if _switched_off(draft, firewall):
            _tell_rules(draft, firewall)
    if systemd.enabled(draft, "fail2ban.service"):
        draft.find(
            "FW-003",
            "fail2ban stays on, and locks out addresses from which too many logins fail",
            remedy="Add your own addresses to its ignoreip if that is not wanted.",
            severity=Severity.NOTE,
        )
    _tell_scripts(draft)


def _switched_off(draft: Draft, firewall: Firewall) -> bool:
    """Nothing starts the firewall. Return whether something did."""
    if firewall.name == "ufw":
        text = draft.read(UFW) or ""
        if shell_variables.variables(text).get("ENABLED", "no").lower() != "yes":
            return False  # its unit is on everywhere, and does nothing then
        draft.write(UFW, shell_variables.assigned(text, "ENABLED", "no"), why=WHY)
    started = [unit for unit in firewall.units if systemd.starts(draft, unit)]
    for unit in started:
        systemd.disable(draft, unit, why=WHY)
        if systemd.enabled(draft, unit):
            systemd.mask(draft, unit, why=WHY)
    return bool(started) or firewall.name == "ufw"


def _tell_rules(draft: Draft, firewall: Firewall) -> None:
    rules: list[str] = []
    for path in (path for pattern in firewall.files for path in draft.glob(pattern)):
        text = draft.read(path) or ""
        rules += firewall.rules(text) if len(text) <= LARGEST else (f"{path} is too large to be shown",)
    shown = "; ".join(rules[:MOST_RULES]) + (f"; and {len(rules) - MOST_RULES} more" if len(rules) > MOST_RULES else "")
    draft.find(
        "FW-001",
        f"{firewall.name} was switched off; "
        + (f"its rules were: {shown}" if rules else "no rules of the operator's were found"),
        remedy="Make what is needed of it a security group; the files are still there.",
        severity=Severity.NOTE,
    )
    routing = [rule for rule in rules if _ROUTING.search(rule)]
    if routing:
        draft.find(
            "FW-002",
            f"{firewall.name} also forwarded or translated addresses for other machines, and does no more: {'; '.join(routing[:4])}",
            remedy="Switch it on again in the instance if that is needed there.",
        )


def _tell_scripts(draft: Draft) -> None:
    paths = (
        "/etc/rc.local",
        "/etc/rc.d/rc.local",
        *draft.glob("/etc/network/if-*.d/*"),
        *draft.glob("/etc/NetworkManager/dispatcher.d/*"),
    )
    for path in dict.fromkeys(paths):
        if draft.kind(path) is not Kind.FILE:
            continue
        for number, line in enumerate((draft.read(path) or "").splitlines()[:2000], 1):
            if not line.lstrip().startswith("#") and _LOADS.search(line):
                draft.find(
                    "FW-004",
                    f"{path}:{number} loads firewall rules at boot, and still does: {line.strip()[:120]}",
                    remedy="See that it lets SSH in from where you come, or remove it in the source VM.",
                )
                break
