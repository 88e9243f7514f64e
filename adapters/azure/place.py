"""What an address of Azure's names: VMs of a subscription by resource group and name, globs included, or one managed disk."""

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

from migrate.address import Address
from migrate.errors import UsageError
from migrate.text import shown

FORMS = "azure://SUBSCRIPTION/RESOURCE_GROUP/VM or azure://SUBSCRIPTION/RESOURCE_GROUP/disks/NAME"
SUBSCRIPTION = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
NAME = re.compile(r"[\w.()\-*\[\]!]{1,90}")
"""Letters of any alphabet, as resource groups may have them, and a glob's. Source: "Naming rules and restrictions for Azure resources"."""


@dataclass(frozen=True, slots=True)
class Place:
    """`group` and `name` may be globs, but of a disk. Azure's names are the same in upper and lower case."""

    subscription: str
    group: str
    name: str
    is_disk: bool = False

    @property
    def is_one(self) -> bool:
        """Whether it names one thing and not what matches."""
        return not _is_glob(self.group) and not _is_glob(self.name)

    @property
    def one_group(self) -> str | None:
        return None if _is_glob(self.group) else self.group

    def holds(self, group: str, name: str) -> bool:
        return fnmatchcase(group.lower(), self.group.lower()) and fnmatchcase(name.lower(), self.name.lower())

    @property
    def text(self) -> str:
        return "/".join(("azure:/", self.subscription, self.group, *(["disks"] if self.is_disk else []), self.name))


@dataclass(frozen=True, slots=True)
class ResourceId:
    """A resource's full name, of which Azure writes parts now in upper, now in lower case."""

    subscription: str
    group: str
    name: str


def place(address: Address) -> Place:
    """Raise UsageError where the address names nothing of Azure."""
    if not SUBSCRIPTION.fullmatch(address.host):
        raise UsageError(
            f"{shown(address.text)}: {shown(address.host)} is not a subscription's id",
            hint=f"Write {FORMS}; `az account list` shows the ids.",
        )
    for part in address.parts:
        if not NAME.fullmatch(part) or part.strip(".") == "":
            raise UsageError(f"{shown(address.text)}: {shown(part)} is no name in Azure", hint=f"Write {FORMS}.")
    match address.parts:
        case ():
            return Place(address.host, "*", "*")
        case (group,):
            return Place(address.host, group, "*")
        case (group, name):
            return Place(address.host, group, name)
        case (group, "disks", name) if not _is_glob(group + name):
            return Place(address.host, group, name, is_disk=True)
    raise UsageError(f"{shown(address.text)} names neither VMs nor one disk", hint=f"Write {FORMS}.")


def resource_id(text: str) -> ResourceId:
    """Read a resource's id. Raise ValueError for what is none."""
    words = text.split("/")
    if len(words) < 9 or words[1].lower() != "subscriptions" or words[3].lower() != "resourcegroups":
        raise ValueError(f"{text!r} is not the id of a resource in Azure")
    return ResourceId(words[2].lower(), words[4], words[8])


def _is_glob(text: str) -> bool:
    return any(char in text for char in "*[")
