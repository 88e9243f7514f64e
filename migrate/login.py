"""Whom the operator logs in as afterwards: cloud-init's default user."""

from collections.abc import Mapping, Sequence

import yaml

from migrate.draft import Draft
from migrate.effects import Fact

LOGIN_FACT = "login afterwards"
"""The name of the fact in which a remediation keeps who will be given the key, where that is not cloud-init's default user."""

DEFAULT_USERS: Mapping[str, str] = {
    # What each distribution's own cloud-init package puts into system_info.default_user.
    "debian": "debian",
    "ubuntu": "ubuntu",
    "rocky": "rocky",
    "almalinux": "almalinux",
    "centos": "centos",
    "rhel": "cloud-user",
    "fedora": "fedora",
    "ol": "opc",
    "amzn": "ec2-user",
    "sles": "sles",
    "opensuse-leap": "opensuse",
    "alpine": "alpine",
    "arch": "arch",
}


def login_user(draft: Draft, facts: Sequence[Fact] = ()) -> str | None:
    """Return the user whom cloud-init gives the key to, or whom a remediation has told; None where nothing tells.

    Later files in cloud.cfg.d win over earlier ones and over cloud.cfg, as cloud-init merges them. Where cloud-init is not there yet,
    it is what the distribution's package will bring.
    """
    told = next((fact.text for fact in facts if fact.name == LOGIN_FACT), None)
    if told is not None:
        return told
    user: str | None = None
    for path in ("/etc/cloud/cloud.cfg", *draft.glob("/etc/cloud/cloud.cfg.d/*.cfg")):
        user = _configured(draft.read(path)) or user
    return user or DEFAULT_USERS.get(draft.os.id)


def _configured(text: str | None) -> str | None:
    try:
        config = yaml.safe_load(text or "")
    except yaml.YAMLError:
        return None  # cloud-init skips what it cannot parse, too
    match config:
        case {"system_info": {"default_user": {"name": str(name)}}}:
            return name
        case _:
            return None
