"""Machine types in Magalu Cloud's API, and which of them is the smallest that a VM fits into.

Path and schema: virtual-machine.jaxyendy.openapi.json (MagaluCloud/magalu, 4e90611e).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import AliasChoices, Field

from adapters.magalu.answers import Listed, Value, every
from adapters.magalu.api import Api
from migrate.target import Requirements

PAGE = 200
MEBIBYTES_FROM = 256
"""A `ram` from here on counts MiB, below it GiB: the specification's own examples have 1024 for a type of 1 GiB, and 2 for another."""


@dataclass(frozen=True, slots=True)
class MachineType:
    """`disk` in the API's gigabytes, of which nothing tells whether they have 10^9 bytes or 2^30; `zones` is empty where it is in all."""

    id: str
    name: str
    vcpus: int
    ram_gib: float
    disk: int
    gpus: int = 0
    zones: tuple[str, ...] = ()

    def fits(self, needs: Requirements) -> bool:
        """Whether it is enough even if its gigabytes are the small ones, and has no GPU to be paid for."""
        return (
            self.vcpus >= needs.vcpu and self.ram_gib >= needs.ram_gb and self.disk >= needs.disk_gb and not self.gpus
        )

    def may_hold(self, disk_bytes: int) -> bool:
        """Whether a disk goes onto its disk if its gigabytes are the large ones, as Nova counts a flavor's disk."""
        return self.disk << 30 >= disk_bytes

    def times(self, needs: Requirements) -> float:
        """How many times over it is what is needed, added up over processors, memory and disk. Nobody tells prices."""
        return self.vcpus / needs.vcpu + self.ram_gib / needs.ram_gb + self.disk / needs.disk_gb

    def lacks(self, needs: Requirements) -> float:
        """How much of what is needed it lacks, added up over processors, memory and disk; 0 where it fits."""
        wanted = ((needs.vcpu, self.vcpus), (needs.ram_gb, self.ram_gib), (needs.disk_gb, self.disk))
        return sum(max(0.0, 1 - there / need) for need, there in wanted)

    @property
    def words(self) -> str:
        return f"{self.name} ({self.vcpus} vCPU, {self.ram_gib:g} GiB memory, {self.disk} GB disk)"


def smallest(types: Iterable[MachineType], needs: Requirements) -> MachineType | None:
    """Return the type that exceeds the needs least; None where none fits. No other type that fits is smaller in everything."""
    fitting = [one for one in types if one.fits(needs)]
    return min(fitting, key=lambda one: (one.times(needs), one.name), default=None)


def nearest(types: Iterable[MachineType], needs: Requirements, count: int = 3) -> Sequence[MachineType]:
    """Return the types that come nearest to the needs, best first."""
    return sorted(types, key=lambda one: (one.lacks(needs), one.times(needs), one.name))[:count]


class _Type(Value):
    """InstanceTypesV1Response, as far as we need it."""

    id: str
    name: str
    vcpus: int
    ram: int
    disk: int
    gpu: int = 0
    status: str
    availability_zones: list[str] | None = None

    @property
    def value(self) -> MachineType:
        ram = self.ram / 1024 if self.ram >= MEBIBYTES_FROM else float(self.ram)
        return MachineType(
            self.id, self.name, self.vcpus, ram, self.disk, self.gpu, tuple(self.availability_zones or ())
        )


class _List(Listed):
    """An older form of the answer calls them instance_types (MagaluCloud/mgc-sdk-go)."""

    machine_types: list[_Type] = Field(validation_alias=AliasChoices("machine_types", "instance_types"))


def machine_types(api: Api) -> tuple[MachineType, ...]:
    """Return every type that may be used now. Raise TargetError with the API's words where it does not tell."""

    def page(which: Mapping[str, int]) -> tuple[list[_Type], int | None]:
        reply = api.repeated("GET", "/v1/machine-types", which)
        listed = api.parsed("list the machine types", reply, 200, _List)
        return listed.machine_types, listed.total or None

    found = every(page, size=PAGE)
    return tuple(one.value for one in found if one.status == "active")
