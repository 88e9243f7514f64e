"""What an instance needs around it, and must be there already: an SSH key, a VPC, security groups. Nothing of it is made here.

Paths: profile.openapi.yaml and network.openapi.yaml (MagaluCloud/magalu, fedcc862); MagaluCloud/mgc-sdk-go, network/.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adapters.magalu.answers import Value, every
from adapters.magalu.api import Api
from adapters.magalu.images import segment
from adapters.magalu.regions import Service

DEFAULT_VPC = "vpc_default"
SSH = 22


@dataclass(frozen=True, slots=True)
class Place:
    """A VPC or a security group."""

    id: str
    name: str
    is_default: bool

    def is_called(self, text: str) -> bool:
        return text in (self.id, self.name)


class _Key(Value):
    name: str


class _Keys(Value):
    results: list[_Key]


class _Place(Value):
    id: str | None = None
    name: str | None = None
    is_default: bool | None = None


class _Vpcs(Value):
    vpcs: list[_Place]


class _Groups(Value):
    security_groups: list[_Place]


class _Rule(Value):
    direction: str | None = None
    protocol: str | None = None
    port_range_min: int | None = None
    port_range_max: int | None = None

    @property
    def admits_ssh(self) -> bool:
        if self.direction != "ingress" or (self.protocol or "tcp").lower() not in ("tcp", "any", "6"):
            return False
        return (self.port_range_min or 0) <= SSH <= (self.port_range_max or 65535)


class _Rules(Value):
    rules: list[_Rule]


class Surroundings:
    """What is there for an instance, of one tenant in one region. Every call raises TargetError with the API's words where it does not tell."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def ssh_keys(self) -> tuple[str, ...]:
        """Return the names of the account's keys."""

        def page(which: Mapping[str, int]) -> tuple[list[_Key], None]:
            reply = self._api.repeated("GET", "/v0/ssh-keys", which, service=Service.PROFILE)
            return self._api.parsed("list the SSH keys", reply, 200, _Keys).results, None

        return tuple(key.name for key in every(page))

    def vpcs(self) -> tuple[Place, ...]:
        reply = self._api.repeated("GET", "/v0/vpcs", service=Service.NETWORK)
        return _places(self._api.parsed("list the VPCs", reply, 200, _Vpcs).vpcs)

    def security_groups(self) -> tuple[Place, ...]:
        reply = self._api.repeated("GET", "/v0/security_groups", service=Service.NETWORK)
        return _places(self._api.parsed("list the security groups", reply, 200, _Groups).security_groups)

    def admits_ssh(self, group: Place) -> bool:
        """Whether a rule of the group lets somebody in to port 22, from wherever."""
        path = f"/v0/security_groups/{segment(group.id)}/rules"
        reply = self._api.repeated("GET", path, service=Service.NETWORK)
        rules = self._api.parsed(f"list the rules of security group {group.name}", reply, 200, _Rules).rules
        return any(rule.admits_ssh for rule in rules)


def _places(found: Sequence[_Place]) -> tuple[Place, ...]:
    return tuple(Place(one.id, one.name or "", bool(one.is_default)) for one in found if one.id)
