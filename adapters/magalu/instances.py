"""Instances in Magalu Cloud's API: order one, see it, list those of a name, read its console, delete it.

Paths and schemas: virtual-machine.jaxyendy.openapi.json (MagaluCloud/magalu, 4e90611e). The form of the network in an answer is that of
x-api-version 1.1, as MagaluCloud/mgc-sdk-go asks for it.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from adapters.magalu.answers import Created, Listed, Value, every
from adapters.magalu.api import Answer, Api, Lost
from adapters.magalu.images import Standing, segment
from migrate.errors import TargetError
from migrate.secret import Secret
from migrate.target import Instance
from migrate.text import shown

VERSION = "1.1"
EXPAND = "network,image,machine-type,labels"
LOG_LINES = 200
"""Lines of a console that are asked for; the API gives up to 5000."""


class _Addresses(Value):
    private_ipv4: str | None = None
    public_ipv6: str | None = None


class _Interface(Value):
    primary: bool = True
    associated_public_ipv4: str | None = None
    ip_addresses: _Addresses | None = None


class _Network(Value):
    interfaces: list[_Interface] | None = None


class _Named(Value):
    id: str = ""
    name: str | None = None


class _Error(Value):
    slug: str = ""
    message: str = ""


class FoundInstance(Value):
    """InstanceV1Response, as far as we need it. `request_id` is that of the answer it came in."""

    id: str
    name: str | None = None
    status: str
    state: str
    machine_type: _Named | None = None
    network: _Network | None = None
    labels: list[str] | None = None
    error: _Error | None = None
    request_id: str | None = None

    @property
    def standing(self) -> Standing:
        """What it means for one who waits. Both words count: a state of "new" may stand beside a status that has failed."""
        if self.state in ("error", "deleted") or any(word in self.status for word in ("error", "delet", "fail")):
            return Standing.FAILED
        if self.state == "running" and self.status == "completed":
            return Standing.ACTIVE
        return Standing.UNDERWAY if self.state in ("new", "running") else Standing.UNKNOWN

    @property
    def words(self) -> str:
        return f"{shown(self.state)}, {shown(self.status)}"

    @property
    def said(self) -> str:
        """What the API says of its failure."""
        if self.error is None or not (self.error.message or self.error.slug):
            return "The API tells no more."
        return f'Magalu Cloud says: "{shown(self.error.message)[:300]}" ({shown(self.error.slug)[:100]}).'

    @property
    def value(self) -> Instance:
        cards = (self.network.interfaces if self.network else None) or []
        card = next((one for one in cards if one.primary), cards[0] if cards else _Interface())
        addresses = card.ip_addresses or _Addresses()
        return Instance(
            self.id,
            shown(self.name or ""),
            shown(self.machine_type.name or self.machine_type.id if self.machine_type else ""),
            self.words,
            _address(addresses.private_ipv4),
            _address(card.associated_public_ipv4),
            _address(addresses.public_ipv6),
        )


def _address(text: str | None) -> str | None:
    """An IP address, whatever the server told us: it becomes a word of a command."""
    try:
        return None if text is None else str(ipaddress.ip_address(text))
    except ValueError:
        return None


class _List(Listed):
    instances: list[FoundInstance]


class _Logs(Value):
    logs: list[str]


@dataclass(frozen=True, slots=True)
class InstanceBody:
    """InstanceCreateRequestV1Default, all by id."""

    name: str
    image: str
    machine_type: str
    ssh_key: str
    vpc: str
    security_groups: tuple[str, ...]
    zone: str | None
    public_ip: bool
    labels: tuple[str, ...]

    def body(self) -> Mapping[str, JsonValue | Secret]:
        network: dict[str, JsonValue] = {"vpc": {"id": self.vpc}, "associate_public_ip": self.public_ip}
        if self.security_groups:
            network["interface"] = {"security_groups": [{"id": id_} for id_ in self.security_groups]}
        return {
            "name": self.name,
            "image": {"id": self.image},
            "machine_type": {"id": self.machine_type},
            "ssh_key_name": self.ssh_key,
            "network": network,
            "labels": list(self.labels),
            **({"availability_zone": self.zone} if self.zone else {}),
        }


@dataclass(frozen=True, slots=True)
class InDoubt:
    """The server broke or fell silent: the order may have been taken."""

    error: TargetError


class Instances:
    """The instances of one tenant in one region."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def create(self, order: InstanceBody) -> str | InDoubt:
        """Order an instance, once; return its id. Raise TargetError where the order is refused."""
        asked = f'create instance "{order.name}"'
        reply = self._api.posted("/v1/instances", order.body())
        match reply:
            case Answer(status=201 | 200 | 202):
                try:
                    return self._api.parsed(asked, reply, reply.status, Created).id
                except TargetError as error:
                    return InDoubt(error)
            case Lost(sent=True):
                return InDoubt(self._api.refusal(asked, reply))
            case Answer(status=status) if status >= 500:
                return InDoubt(self._api.refusal(asked, reply))
        raise self._api.refusal(asked, reply)

    def get(self, id_: str) -> FoundInstance | None:
        """Return the instance as it is now; None where there is none of this id."""
        path = f"/v1/instances/{segment(id_)}"
        reply = self._api.repeated("GET", path, {"expand": EXPAND}, version=VERSION)
        if isinstance(reply, Answer) and reply.status == 404:
            return None
        found = self._api.parsed(f"look at instance {id_}", reply, 200, FoundInstance)
        return found.model_copy(update={"request_id": reply.request_id if isinstance(reply, Answer) else None})

    def named(self, name: str) -> tuple[FoundInstance, ...]:
        """Return the instances of exactly this name that are not deleted; the API lets several have one name."""
        asked = f'list the instances named "{name}"'

        def page(which: Mapping[str, int]) -> tuple[list[FoundInstance], int | None]:
            params: dict[str, str | int] = {**which, "name": name, "expand": EXPAND}
            reply = self._api.repeated("GET", "/v1/instances", params, version=VERSION)
            listed = self._api.parsed(asked, reply, 200, _List)
            return listed.instances, listed.total

        found = every(page)
        return tuple(one for one in found if one.name == name and "deleted" not in (one.state, one.status))

    def console(self, id_: str) -> tuple[str, ...]:
        """Return the last lines that the guest wrote to its serial console, oldest first."""
        path = f"/v1/instances/{segment(id_)}/init-logs"
        reply = self._api.repeated("GET", path, {"max-lines-count": LOG_LINES})
        return tuple(self._api.parsed(f"read the init-logs of instance {id_}", reply, 200, _Logs).logs)

    def delete(self, id_: str) -> None:
        """The instance is gone or going, and its public address with it. A second call finds nothing and succeeds."""
        self._api.deleted(f"delete instance {id_}", f"/v1/instances/{segment(id_)}", {"delete_public_ip": "true"})
