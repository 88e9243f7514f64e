"""What an instance needs around it, and must be there already: an SSH key, a VPC, security groups. Nothing of it is made here.

Paths: profile.openapi.yaml and network.openapi.yaml (MagaluCloud/magalu, fedcc862); MagaluCloud/mgc-sdk-go, network/.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from adapters.magalu.api import Api
from adapters.magalu.images import segment
from adapters.magalu.regions import Service

PAGE = 50
MAX_PAGES = 200
DEFAULT_VPC = "vpc_default"
SSH = 22


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


@dataclass(frozen=True, slots=True)
class Place:
    """A VPC or a security group."""

    id: str
    name: str
    is_default: bool

    def is_called(self, text: str) -> bool:
        return text in (self.id, self.name)


class _Key(_Value):
    name: str


class _Keys(_Value):
    results: list[_Key]


class _Place(_Value):
    id: str | None = None
    name: str | None = None
    is_default: bool | None = None


class _Vpcs(_Value):
    vpcs: list[_Place]


class _Groups(_Value):
    security_groups: list[_Place]


class _Rule(_Value):
    direction: str | None = None
    protocol: str | None = None
    port_range_min: int | None = None
    port_range_max: int | None = None

    @property
    def admits_ssh(self) -> bool:
        if self.direction != "ingress" or (self.protocol or "tcp").lower() not in ("tcp", "any", "6"):
            return False
        return (self.port_range_min or 0) <= SSH <= (self.port_range_max or 65535)


class _Rules(_Value):
    rules: list[_Rule]


class Surroundings:
    """What is there for an instance, of one tenant in one region. Every call raises TargetError with the API's words where it does not tell."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def ssh_keys(self) -> tuple[str, ...]:
        """Return the names of the account's keys."""
        found: list[str] = []
        for _ in range(MAX_PAGES):
            params = {"_limit": PAGE, "_offset": len(found)}
            reply = self._api.repeated("GET", "/v0/ssh-keys", params, service=Service.PROFILE)
            page = self._api.parsed("list the SSH keys", reply, 200, _Keys).results
            found += [key.name for key in page]
            if len(page) < PAGE:
                break
        return tuple(found)

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
