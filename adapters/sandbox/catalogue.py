"""What the sandbox has from the beginning: machine types, a VPC, security groups."""

import uuid
from dataclasses import dataclass

from pydantic import JsonValue

ZONES = ("br-se1-a", "br-se1-b")


def _id(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"magalu-migrate sandbox {name}"))


@dataclass(frozen=True, slots=True)
class Type:
    """A machine type; its name says its processors, GiB of memory and GB of disk, as Magalu's names do."""

    name: str

    @property
    def id(self) -> str:
        return _id(self.name)

    @property
    def numbers(self) -> tuple[int, int, int]:
        vcpus, ram, disk = self.name.lstrip("BV").split("-")
        return int(vcpus), int(ram), int(disk)

    def to_json(self) -> JsonValue:
        """InstanceTypesV1Response."""
        vcpus, ram, disk = self.numbers
        return {
            "id": self.id,
            "name": self.name,
            "vcpus": vcpus,
            "ram": ram * 1024,
            "disk": disk,
            "gpu": 0,
            "status": "active",
            "sku": None,
            "availability_zones": [*ZONES],
        }


# Names that public code and pages use; the last two are what a large VM would need.
TYPES = tuple(
    Type(name)
    for name in (
        *("BV1-1-10", "BV1-2-10", "BV2-2-10", "BV1-4-10", "BV2-4-10", "BV1-1-40", "BV4-8-40", "BV4-8-100"),
        *("BV8-32-100", "BV16-64-500", "BV32-128-1000"),
    )
)


@dataclass(frozen=True, slots=True)
class Group:
    """A security group; `admits_ssh` is its one rule of note."""

    name: str
    is_default: bool
    admits_ssh: bool

    @property
    def id(self) -> str:
        return _id(f"security group {self.name}")

    def to_json(self) -> JsonValue:
        return {"id": self.id, "name": self.name, "status": "created", "is_default": self.is_default}

    @property
    def rules(self) -> list[JsonValue]:
        outward: JsonValue = {
            "id": _id(f"{self.name} out"),
            "direction": "egress",
            "ethertype": "IPv4",
            "status": "created",
        }
        inward: JsonValue = {
            "id": _id(f"{self.name} in"),
            "direction": "ingress",
            "ethertype": "IPv4",
            "protocol": "tcp",
            "port_range_min": 22,
            "port_range_max": 22,
            "remote_ip_prefix": "0.0.0.0/0",
            "status": "created",
        }
        return [outward, inward] if self.admits_ssh else [outward]


GROUPS = (Group("default", is_default=True, admits_ssh=False), Group("ssh", is_default=False, admits_ssh=True))
VPC_NAME = "vpc_default"
VPC_ID = _id(VPC_NAME)
VPC: JsonValue = {"id": VPC_ID, "name": VPC_NAME, "status": "completed", "is_default": True}
