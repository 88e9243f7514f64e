"""cloud-init's own configuration on the guest's disk: /etc/cloud/cloud.cfg and, over it, /etc/cloud/cloud.cfg.d/*.cfg.

Sources: cloud-init, util.read_conf_with_confd (files in order, a later one wins), distros/ug_util.py, settings.py.
"""

import re
from dataclasses import dataclass
from typing import Any

from migrate.draft import Draft
from remediations.yaml_text import Unreadable, mapping

MAIN = "/etc/cloud/cloud.cfg"
DROP_INS = "/etc/cloud/cloud.cfg.d/*.cfg"
OURS = "/etc/cloud/cloud.cfg.d/99-magalu-migrate.cfg"

SERVED = ("OpenStack", "ConfigDrive")
"""Where an instance's metadata may come from on Magalu Cloud: one of the two, it is not said which. No page of Magalu's says more; stock detection works."""
HARMLESS = (*SERVED, "Ec2")
"""Magalu's service may also answer in Amazon's words, so what is set for those is kept."""


@dataclass(frozen=True, slots=True)
class CloudConfig:
    """What the files say together, ours left out."""

    values: dict[str, Any]

    def value(self, *path: str) -> Any:
        """Return what is set at a path of keys; None where nothing is."""
        at: Any = self.values
        for key in path:
            at = at.get(key) if isinstance(at, dict) else None
        return at

    @property
    def users(self) -> tuple[Any, ...]:
        """The `users` in order: names, or mappings of what a user is."""
        match self.values.get("users"):
            case str() as words:
                return tuple(word.strip() for word in words.split(","))
            case list() as items:
                return tuple(items)
            case dict() as named:
                return tuple(named)
        return ()

    @property
    def default_user(self) -> str | None:
        """The user whom the image's configuration calls its own."""
        name = self.value("system_info", "default_user", "name")
        return name if isinstance(name, str) and name else None

    @property
    def admits(self) -> str | None:
        """The user who gets the instance's key; None where nobody but a locked root does."""
        named = [user.get("name") for user in self.users if isinstance(user, dict) and user.get("default")]
        old = self.values.get("user")
        if isinstance(old, str) and old:
            return old
        if "default" in self.users:
            return self.default_user
        return next((name for name in named if isinstance(name, str)), None)

    def runs(self, module: str) -> bool:
        """Whether a module is in one of the lists of what runs at boot."""
        lists = (self.values.get(f"cloud_{stage}_modules") for stage in ("init", "config", "final"))
        words = (item[0] if isinstance(item, list) and item else item for each in lists for item in each or ())
        return module in {str(word).replace("_", "-") for word in words}


def paths(draft: Draft) -> tuple[str, ...]:
    """Return the files in the order in which cloud-init reads them, ours left out."""
    return tuple(path for path in (MAIN, *draft.glob(DROP_INS)) if path != OURS and draft.file(path) is not None)


def read(draft: Draft) -> CloudConfig:
    """Return what all readable files say together."""
    values: dict[str, Any] = {}
    for path in paths(draft):
        try:
            values = _over(values, mapping(draft.read(path) or ""))
        except Unreadable:
            continue
    return CloudConfig(values)


def is_foreign(path: tuple[str, ...], value: Any) -> bool:
    """Whether a key ties cloud-init to another cloud, or keeps it from setting up the network.

    A list of datasources stays where it names both that Magalu may serve.
    """
    match path:
        case ("datasource_list",):
            return not set(SERVED) <= set(_words(value))
        case ("datasource", name):
            return name not in HARMLESS
        case ("network",) | ("disable_vmware_customization",):
            return True
    return False


def _words(value: Any) -> tuple[str, ...]:
    """A list, or the text that one becomes when its brackets are quoted."""
    items = value if isinstance(value, list) else re.findall(r"\w+", str(value))
    return tuple(str(item) for item in items)


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _over(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
