"""cloud-init on Magalu Cloud: there, switched on, tied to no other cloud, and told to leave the guest as it is."""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from migrate.draft import Draft
from migrate.guest import File, Kind, Link
from migrate.remediation import Profile, Settings, remediation
from remediations import cloud_config, ini, kernel_arguments, openrc, services, systemd
from remediations.cloud_config import MAIN, OURS, is_foreign
from remediations.yaml_text import Unreadable, mapping, without

UNITS = (
    "cloud-init-local.service",
    "cloud-init-main.service",
    "cloud-init-network.service",
    "cloud-init.service",
    "cloud-config.service",
    "cloud-final.service",
)
"""cloud-init-main and -network are there since 24.3, cloud-init.service was before. Source: cloud-init, systemd/."""
TARGETS = ("cloud-init.target", "cloud-config.target")

SERVICES = (
    ("cloud-init-ds-identify", "boot"),
    ("cloud-init-local", "boot"),
    ("cloud-init", "default"),
    ("cloud-config", "default"),
    ("cloud-final", "default"),
)
"""Those of OpenRC, with their runlevels. Source: Alpine, community/cloud-init, setup-cloud-init and README.Alpine."""

LEAVES_SERVICES_OFF = frozenset({"alpine", "arch", "archarm", "manjaro"})
"""Distributions whose packages do not enable what they bring. Source: Alpine wiki, "OpenRC"; Arch wiki, "systemd"."""
NEW_UNITS = ("cloud-init-local", "cloud-init-main", "cloud-init-network", "cloud-config", "cloud-final")

IDENTIFY = "/etc/cloud/ds-identify.cfg"
SWITCH = "/etc/cloud/cloud-init.disabled"
GROWTH_SWITCH = "/etc/growroot-disabled"
GENERATOR = "/etc/systemd/system-generators/cloud-init-generator"
"""Where an operator's file, or a link to nowhere, takes the place of the program that switches cloud-init on. Source: systemd.generator(7)."""
SYSTEMD = ("/etc/systemd/system.conf", "/etc/systemd/system.conf.d/*.conf")
STATE = ("instances", "data", "sem", "handlers", "scripts/vendor")
LOGS = ("/var/log/cloud-init.log*", "/var/log/cloud-init-output.log*")

PROVIDERS_NAME = re.compile(r"ip-\d+-\d+-\d+-\d+|localhost")

INTRODUCTION = (
    "# Written by magalu-migrate: this machine was moved as it is, and cloud-init must not make another one of it.\n"
)
REASONS = {
    "datasource_list": "Asked for with --force-datasource: the first one is taken without looking.",
    "preserve_hostname": "Applications, certificates and other machines know it by its name.",
    "locale": "Databases sort by it.",
    "apt": "The package sources are the machine's own.",
    "manual_cache_clean": "What it remembers of one instance is not taken for the next one.",
    "growpart": "The root fills its new disk.",
    "resize_rootfs": "The root fills its new disk.",
    "grub_dpkg": "GRUB's package learns which disk to install itself on: the old one's name is gone.",
    "users": "The instance's key goes to the default user.",
}


@remediation(
    "clear-foreign-datasources",
    "Untie cloud-init from other clouds and switch it on",
    sources=(
        "docs.magalu.cloud, import of custom images: naming foreign datasources breaks the import; stock detection works",
        "cloud-init, tools/ds-identify and systemd/cloud-init-generator.tmpl: what disables it",
        "cloud-init#2968, #3777, #4107",
        "subiquity: 99-installer.cfg and subiquity-disable-cloudinit-networking.cfg",
    ),
)
def clear_foreign_datasources(draft: Draft, settings: Settings) -> None:
    """Templates and installers tie cloud-init to one cloud, or to none, and switch its network off: the instance then never gets a key or an address.

    In cloud.cfg and its drop-ins, lists of datasources without OpenStack and ConfigDrive, settings of other clouds' datasources and
    network settings go; a drop-in that held nothing else goes with them. So do seeds on the disk, cloud-init.disabled, ds-identify's
    overrides, masks of its units, and the words that switch it off on the kernel's command line and in systemd's environment. A list that
    names both stays. No datasource is named instead: detection finds the right one.
    """
    for path in cloud_config.paths(draft):
        _untie(draft, path)
    draft.remove(SWITCH, why="switches cloud-init off")
    _detect(draft)
    for pattern in SYSTEMD:
        for path in draft.glob(pattern):
            draft.edit(path, with_cloud_init, why="switches cloud-init off, or gives it another configuration")
    kernel_arguments.rewrite(
        draft,
        lambda words: tuple(word for word in words if not _disables(word)),
        why="switches cloud-init off, or names its datasource",
    )
    for unit in (*UNITS, *TARGETS):
        systemd.unmask(draft, unit, why="keeps systemd from starting cloud-init")
    entry = draft.load(GENERATOR) if draft.kind(GENERATOR) in (Kind.LINK, Kind.FILE) else None
    if entry == Link("/dev/null") or (isinstance(entry, File) and not entry.content):
        draft.remove(GENERATOR, why="keeps systemd from starting cloud-init")
    _empty(draft, "/var/lib/cloud/seed", why="is found before the cloud's own metadata")


@remediation(
    "reset-cloud-init-state",
    "Let cloud-init see a new instance",
    sources=("cloud-init, cmd/clean.py", "cloud-init#4107: a cached datasource outlives the move"),
)
def reset_cloud_init_state(draft: Draft, settings: Settings) -> None:
    """cloud-init remembers the instance, its datasource and which modules ran; with that memory it may skip the key and the network.

    Its instances, semaphores, cached data, vendor scripts and logs go; the operator's own scripts stay.
    """
    why = "remembers the old cloud's instance"
    draft.remove("/var/lib/cloud/instance", why=why)
    for folder in STATE:
        _empty(draft, f"/var/lib/cloud/{folder}", why=why)
    for pattern in LOGS:
        for path in draft.glob(pattern):
            draft.remove(path, why="tells of the old cloud's boots, and cloud-init's state is read from it")


@remediation(
    "configure-cloud-init",
    "Tell cloud-init to grow the root, admit the key, and change nothing else",
    sources=(
        "docs.magalu.cloud, import of custom images: growth and a key for the main user are required",
        "cloud-init, cc_set_hostname, cc_locale, cc_apt_configure, cc_growpart, cc_resizefs, cc_users_groups",
        "cloud-init, tools/ds-identify: a list of one and None is taken without looking",
    ),
)
def configure_cloud_init(draft: Draft, settings: Settings) -> None:
    """On a first boot cloud-init makes a fresh machine: it names it after the instance, sets its language and rewrites its package sources.

    A machine that was moved keeps its own: a drop-in of ours says so. The hostname is kept because applications, certificates and other
    machines know it; names that another cloud gave (ip-10-0-0-5) are not kept. Where the guest's own configuration keeps the root
    from growing or admits nobody by key, the drop-in mends that. With --force-datasource it names that one.
    """
    config = cloud_config.read(draft)
    draft.remove(GROWTH_SWITCH, why="keeps growpart from growing the root")
    said: dict[str, Any] = {}
    if settings.force_datasource is not None:
        said["datasource_list"] = [settings.force_datasource, "None"]
    if settings.profile is Profile.LIFT_AND_SHIFT and _keeps_its_name(draft):
        said["preserve_hostname"] = True
    said["locale"] = "false"  # text, for the schema of old versions; cc_locale takes both
    if draft.os.family == "debian":
        said["apt"] = {"preserve_sources_list": True}
    if config.value("manual_cache_clean") not in (None, False, "false"):
        said["manual_cache_clean"] = False
    said |= _disk(config) | _users(draft, config)
    draft.write(
        OURS,
        drop_in(said),
        why="keeps cloud-init from renaming this machine or changing its language and package sources",
    )
    _tell_missing_modules(draft, config)


@remediation(
    "enable-cloud-init",
    "Start cloud-init at each boot",
    sources=("systemctl(1), enable; cloud-init, systemd/*.service: [Install]", "deb-systemd-helper(1p)"),
)
def enable_cloud_init(draft: Draft, settings: Settings) -> None:
    """cloud-init is of use only when it is started, and templates often disable it.

    Each of its units that the guest has is linked as its [Install] section says; where OpenRC starts the guest, its services are in the
    runlevels that Alpine's setup-cloud-init puts them in. A package that is only just installed enables its own, but not on Alpine and Arch:
    there it is done for it, and for the SSH server.
    """
    why = "starts cloud-init at boot"
    coming = draft.os.id in LEAVES_SERVICES_OFF and "cloud-init" in draft.packages
    if openrc.runs(draft):
        for service, level in SERVICES:
            services.enable(draft, service, level=level, coming=coming, why=why)
    else:
        for unit in UNITS:
            systemd.enable(draft, unit, why=why)
        for service in NEW_UNITS if coming else ():
            services.enable(draft, service, target=TARGETS[0], coming=True, why=why)
    if draft.os.id in LEAVES_SERVICES_OFF and {"openssh", "openssh-server"} & set(draft.packages):
        services.enable(draft, "sshd", coming=True, why="is the only way into an instance of Magalu Cloud")


def drop_in(said: dict[str, Any]) -> str:
    """Return our drop-in: each setting with its reason. Lists of names are in one line, as ds-identify reads no other."""
    return INTRODUCTION + "".join(f"\n# {REASONS[key]}\n{_setting(key, value)}" for key, value in said.items())


def _setting(key: str, value: Any) -> str:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return f"{key}: [ {', '.join(value)} ]\n"
    return yaml.safe_dump({key: value}, default_flow_style=False, sort_keys=False, width=1000)


def detecting(text: str) -> str:
    """Return a ds-identify.cfg that leaves the choice to detection; "" where nothing but comments is left."""
    kept = []
    for line in text.splitlines(keepends=True):
        key, _, value = line.partition(":")
        pins = key.strip() == "datasource"
        disables = key.strip() == "policy" and value.split("#")[0].strip().split(",")[0] in ("disabled", "report")
        if not pins and not disables:
            kept.append(line)
    says = any(line.strip() and not line.lstrip().startswith("#") for line in kept)
    return "".join(kept) if says or len(kept) == len(text.splitlines()) else ""


def with_cloud_init(text: str) -> str:
    """Return a system.conf whose DefaultEnvironment= does not switch cloud-init off. Source: cloud-init documentation, "Disable cloud-init"."""
    parts = []
    for entry in ini.entries(text, continued=True):
        words = entry.value.split() if entry.key == "DefaultEnvironment" else []
        kept = [
            word for word in words if not word.strip("\"'").startswith(("CLOUD_CFG=", "KERNEL_CMDLINE=cloud-init="))
        ]
        if kept == words:
            parts.append(entry.raw)
        elif kept:
            parts.append(f"DefaultEnvironment={' '.join(kept)}\n")
    return "".join(parts)


def _untie(draft: Draft, path: str) -> None:
    text = draft.read(path) or ""
    in_main = path == MAIN
    try:
        before = mapping(text)
        after = without(
            text,
            lambda key, value: is_foreign(key, value) and not (in_main and key[0] == "disable_vmware_customization"),
        )
    except Unreadable as error:
        draft.find(
            "CLOUD-001",
            f"{path} cannot be read ({error}), so it is not known what it says to cloud-init; it is left as it is.",
            remedy="Mend or remove it in the source VM.",
        )
        return
    if after == text:
        return
    if "network" in before:
        draft.keep(f"network in {path}", yaml.safe_dump(before["network"], default_flow_style=True, width=1000).strip())
    why = "; ".join(_faults(before))
    if mapping(after) or in_main:
        draft.write(path, after, why=why)
    else:
        draft.remove(path, why=why)


def _empty(draft: Draft, folder: str, *, why: str) -> None:
    """The folder is empty. Where a link or a file is in its place, that goes: what a link leads to is not ours to clear."""
    if draft.kind(folder) is Kind.FOLDER:
        draft.clear(folder, why=why)
    else:
        draft.remove(folder, why=why)


def _detect(draft: Draft) -> None:
    text = draft.read(IDENTIFY) or ""
    after = detecting(text)
    why = "names the datasource instead of looking for it, or switches cloud-init off"
    if after == "" != text:
        draft.remove(IDENTIFY, why=why)
    elif text:
        draft.write(IDENTIFY, after, why=why)


def _faults(values: dict[str, Any]) -> Iterator[str]:
    """Say what is wrong with a file, each part completing "because it …"."""
    if is_foreign(("datasource_list",), values.get("datasource_list", list(cloud_config.SERVED))):
        yield "keeps cloud-init from looking for Magalu's metadata"
    if any(is_foreign(("datasource", str(name)), None) for name in values.get("datasource") or ()):
        yield "sets up datasources of other clouds"
    if "network" in values:
        yield "takes the network out of cloud-init's hands"
    if "disable_vmware_customization" in values:
        yield "speaks of VMware's customization"


def _disables(word: str) -> bool:
    bare = word.strip("\"'")
    return bare in ("cloud-init=disabled", "network-config=disabled", "ci.di.policy=disabled") or bare.startswith(
        ("ci.ds=", "ci.datasource=", "ds=")
    )


def _keeps_its_name(draft: Draft) -> bool:
    lines = (line.strip() for line in (draft.read("/etc/hostname") or "").splitlines())
    name = next((line for line in lines if line and not line.startswith("#")), "")
    return bool(name) and PROVIDERS_NAME.fullmatch(name.split(".")[0]) is None


def _disk(config: cloud_config.CloudConfig) -> dict[str, Any]:
    said: dict[str, Any] = {}
    mode, devices = config.value("growpart", "mode"), config.value("growpart", "devices")
    if mode in ("off", "false", False) or (isinstance(devices, list) and "/" not in devices):
        said["growpart"] = {"mode": "auto", "devices": ["/"]}
    if config.value("resize_rootfs") in (False, "false", "off", "no"):
        said["resize_rootfs"] = True
    if config.value("grub_dpkg", "enabled") in (False, "false"):  # as Ubuntu's installer writes it
        said["grub_dpkg"] = {"enabled": True}
    return said


def _users(draft: Draft, config: cloud_config.CloudConfig) -> dict[str, Any]:
    if not config.values or config.admits is not None:
        return {}
    if config.default_user is not None:
        return {"users": ["default", *(user for user in config.users if user != "default")]}
    draft.find(
        "CLOUD-002",
        "cloud-init's configuration names no default user (system_info: default_user), so that the instance's key admits nobody but root.",
        remedy="Name one in /etc/cloud/cloud.cfg of the source VM, or set PermitRootLogin and disable_root for root's login.",
    )
    return {}


def _tell_missing_modules(draft: Draft, config: cloud_config.CloudConfig) -> None:
    if not draft.exists(MAIN):
        return
    missing = [module for module in ("growpart", "resizefs", "users-groups", "ssh") if not config.runs(module)]
    if missing:
        draft.find(
            "CLOUD-003",
            f"cloud-init's list of modules lacks {', '.join(missing)}, without which the root does not grow or no key arrives.",
            remedy="Restore /etc/cloud/cloud.cfg from its package in the source VM.",
        )
