"""The sandbox's answers about instances and what they need: machine types, SSH keys, the VPC, security groups.

By virtual-machine.jaxyendy.openapi.json (MagaluCloud/magalu, 4e90611e) and profile.openapi.yaml (fedcc862); of the network, which has no
such document here, what MagaluCloud/mgc-sdk-go reads of it. Instances are made, seen and deleted; starting, stopping and changing them is
not there, nor user data, volumes or further cards: who asks for these is refused.
"""

import re
from typing import Annotated

from pydantic import Field, JsonValue, ValidationError

from adapters.sandbox import catalogue
from adapters.sandbox.answers import PageRequest, Reply, Request, Strict, exception, invalid, not_uuid, page, refusal
from adapters.sandbox.faults import Faults
from adapters.sandbox.hypervisor import Hypervisor
from adapters.sandbox.rack import Rack, RackedInstance, new_id, now
from adapters.sandbox.shelf import Shelf

KEY_TYPES = ("ssh-rsa", "ssh-dss", "ecdsa-sha", "ssh-ed25519", "sk-ecdsa-sha", "sk-ssh-ed25519")
KEY = re.compile(rf"({'|'.join(KEY_TYPES)})[A-Za-z0-9@.-]* [A-Za-z0-9+/=]+( [^\n]*)?")


class Ref(Strict):
    """ID or Name; the id wins."""

    id: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    name: Annotated[str, Field(min_length=1, max_length=255)] | None = None

    def is_for(self, id_: str, name: str) -> bool:
        return self.id == id_ if self.id is not None else self.name == name


class InterfaceRequest(Strict):
    security_groups: tuple[Ref, ...] = ()
    subnets: Annotated[tuple[Ref, ...], Field(max_length=1)] = ()


class NetworkRequest(Strict):
    vpc: Ref | None = None
    interface: InterfaceRequest | None = None
    associate_public_ip: bool = True


class InstanceRequest(Strict):
    """InstanceCreateRequestV1Default."""

    name: Annotated[str, Field(min_length=1, max_length=255)]
    machine_type: Ref
    image: Ref
    ssh_key_name: str | None = None
    availability_zone: str | None = None
    network: NetworkRequest | None = None
    labels: list[str] | None = None
    user_data: str | None = None
    volumes: tuple[Ref, ...] = ()
    network_profile: dict[str, JsonValue] | None = None


class KeyRequest(Strict):
    """SSHPubKeyPublicInput."""

    name: Annotated[str, Field(min_length=1, max_length=45, pattern=r"^[a-z0-9_-]+$")]
    key: Annotated[str, Field(max_length=16384)]


class LinesRequest(Strict):
    model_config = Strict.model_config | {"strict": False}

    count: int = Field(50, alias="max-lines-count", gt=0, le=5000)


class InstanceApi:
    """Answers about instances. `region` is the first segment of paths: br-se1."""

    def __init__(self, rack: Rack, shelf: Shelf, hypervisor: Hypervisor, faults: Faults, *, region: str) -> None:
        self._rack = rack
        self._shelf = shelf
        self._hypervisor = hypervisor
        self._faults = faults
        self._region = region

    def reply(self, request: Request) -> Reply | None:
        """Return the answer to a request of somebody who may ask; None where it is about something else."""
        match request.path.strip("/").split("/"):
            case ["profile", *rest]:
                return self._profile(request, rest)
            case [self._region, "network", *rest]:
                return self._network(request, rest)
            case [self._region, "compute", *rest]:
                return self._compute(request, rest)
        return None

    def _profile(self, request: Request, path: list[str]) -> Reply | None:
        match request.method, path:
            case "GET", ["v0", "ssh-keys"]:
                return self._list_keys(request)
            case "POST", ["v0", "ssh-keys"]:
                return self._add_key(request)
            case "DELETE", ["v0", "ssh-keys", id_]:
                return Reply(200) if self._rack.remove_key(id_) else refusal(404, "SSH key not found", "not_found")
        return None

    def _network(self, request: Request, path: list[str]) -> Reply | None:
        match request.method, path:
            case "GET", ["v0", "vpcs"]:
                return Reply(200, {"vpcs": [catalogue.VPC]})
            case "GET", ["v0", "security_groups"]:
                return Reply(200, {"security_groups": [one.to_json() for one in catalogue.GROUPS]})
            case "GET", ["v0", "security_groups", id_, "rules"]:
                group = next((one for one in catalogue.GROUPS if one.id == id_), None)
                return refusal(404, "Not found", "not_found") if group is None else Reply(200, {"rules": group.rules})
        return None

    def _compute(self, request: Request, path: list[str]) -> Reply | None:
        match request.method, path:
            case "GET", ["v1", "machine-types"]:
                return self._list_types(request)
            case "GET", ["v1", "instances"]:
                return self._list(request)
            case "POST", ["v1", "instances"]:
                return self._create(request)
            case "GET", ["v1", "instances", id_]:
                return self._get(id_, request)
            case "DELETE", ["v1", "instances", id_]:
                return self._delete(id_)
            case "GET", ["v1", "instances", id_, "init-logs"]:
                return self._logs(id_, request)
        return None

    def _list_keys(self, request: Request) -> Reply:
        try:
            asked = PageRequest.model_validate(dict(request.query))
        except ValidationError as error:
            return invalid(error, "query")
        keys = self._rack.keys()[asked.offset : asked.offset + asked.limit]
        return Reply(200, {"results": [_key(one.id, one.name, one.key) for one in keys]})

    def _add_key(self, request: Request) -> Reply:
        try:
            order = KeyRequest.model_validate_json(request.body or b"null")
        except ValidationError as error:
            return invalid(error, "body")
        if not KEY.fullmatch(order.key.strip()):
            return refusal(400, "Invalid SSH key", "invalid_key")
        made = self._rack.add_key(order.name, order.key.strip())
        if made is None:
            return refusal(409, "SSH key name already exists", "conflict")
        return Reply(201, _key(made.id, made.name, made.key))

    def _list_types(self, request: Request) -> Reply:
        try:
            asked = PageRequest.model_validate({"_limit": 200} | dict(request.query))
        except ValidationError as error:
            return invalid(error, "query")
        zone = request.query.get("availability-zone")
        there = catalogue.TYPES if zone in (None, *catalogue.ZONES) else ()
        return page("machine_types", [one.to_json() for one in there if asked.name in (None, one.name)], asked)

    def _list(self, request: Request) -> Reply:
        try:
            asked = PageRequest.model_validate(dict(request.query))
        except ValidationError as error:
            return invalid(error, "query")
        name = None if self._faults.unfiltered else asked.name
        found = [one for one in self._rack.instances() if name in (None, one.name)]
        return page("instances", [self._told(one, request) for one in found], asked)

    def _get(self, id_: str, request: Request) -> Reply:
        found = self._rack.instance(id_)
        return _unknown() if found is None else Reply(200, self._told(found, request))

    def _delete(self, id_: str) -> Reply:
        if (wrong := not_uuid(id_)) is not None:
            return wrong
        if self._rack.instance(id_) is None:
            return _unknown()
        self._hypervisor.delete(id_)
        return Reply(204)

    def _logs(self, id_: str, request: Request) -> Reply:
        try:
            asked = LinesRequest.model_validate(dict(request.query))
        except ValidationError as error:
            return invalid(error, "query")
        if self._rack.instance(id_) is None:
            return refusal(404, "Instance not found", "instance_not_found")
        return Reply(200, {"logs": [*self._hypervisor.console(id_)[-asked.count :]]})

    def _create(self, request: Request) -> Reply:
        try:
            order = InstanceRequest.model_validate_json(request.body or b"null")
        except ValidationError as error:
            return invalid(error, "body")
        if self._faults.use_up("launches_break"):
            return exception(500, "Internal server error", "internal_error")
        if (wrong := self._wrong(order)) is not None:
            return wrong
        instance = self._racked(order)
        self._rack.add(instance)
        self._hypervisor.begin(instance)
        return Reply(201, {"id": instance.id}, cut=self._faults.use_up("launches_fall_silent"))

    def _wrong(self, order: InstanceRequest) -> Reply | None:
        """The refusal of an order for which something is missing."""
        network = order.network or NetworkRequest()
        groups = network.interface.security_groups if network.interface else ()
        if order.user_data is not None or order.volumes or order.network_profile is not None:
            return exception(400, "The sandbox has no user data, volumes or network profiles", "not_in_the_sandbox")
        if not any(order.image.is_for(one.id, one.name) for one in self._shelf.all() if one.status == "active"):
            return exception(404, "Image not found", "create_instance.image.not_found")
        if not any(order.machine_type.is_for(one.id, one.name) for one in catalogue.TYPES):
            return exception(404, "Machine type not found", "create_instance.machine_type.not_found")
        if order.ssh_key_name is not None and self._rack.key(order.ssh_key_name) is None:
            return exception(404, "SSH key not found", "create_instance.keypair.not_found")
        if network.vpc is not None and not network.vpc.is_for(catalogue.VPC_ID, catalogue.VPC_NAME):
            return exception(404, "VPC not found", "create_instance.vpc.not_found")
        if not {one.id for one in groups} <= {one.id for one in catalogue.GROUPS}:
            return exception(404, "Security group not found", "create_instance.security_group.not_found")
        if order.availability_zone not in (None, *catalogue.ZONES):
            return exception(404, "Availability zone not found", "create_instance.availability_zone.not_found")
        return None

    def _racked(self, order: InstanceRequest) -> RackedInstance:
        network = order.network or NetworkRequest()
        groups = network.interface.security_groups if network.interface else ()
        return RackedInstance(
            id=new_id(),
            name=order.name,
            image=next(one.id for one in self._shelf.all() if order.image.is_for(one.id, one.name)),
            machine_type=next(one.id for one in catalogue.TYPES if order.machine_type.is_for(one.id, one.name)),
            ssh_key_name=order.ssh_key_name,
            zone=order.availability_zone or catalogue.ZONES[0],
            labels=order.labels,
            groups=[one.id or "" for one in groups] or [one.id for one in catalogue.GROUPS if one.is_default],
            wants_public_ip=network.associate_public_ip,
            created_at=now(),
        )

    def _told(self, one: RackedInstance, request: Request) -> JsonValue:
        """InstanceV1Response, with what `expand` asks for."""
        expand = request.query.get("expand", "").split(",")
        kind = next(kind for kind in catalogue.TYPES if kind.id == one.machine_type)
        vcpus, ram, disk = kind.numbers
        image = self._shelf.get(one.image)
        whole_type: JsonValue = {"id": kind.id, "name": kind.name, "vcpus": vcpus, "ram": ram * 1024, "disk": disk}
        whole_image: JsonValue = {"id": one.image, "name": image.name if image else "", "platform": "linux"}
        return {
            "id": one.id,
            "name": one.name,
            "machine_type": whole_type if "machine-type" in expand else {"id": kind.id},
            "image": whole_image if "image" in expand else {"id": one.image},
            "status": one.status,
            "state": one.state,
            "user_data": None,
            "created_at": one.created_at,
            "updated_at": one.updated_at,
            "ssh_key_name": one.ssh_key_name,
            "availability_zone": one.zone,
            "network": _network(one) if "network" in expand else {"interfaces": [{"id": one.id}]},
            "labels": [*one.labels] if one.labels is not None and "labels" in expand else None,
            "error": one.error.model_dump() if one.error else None,
        }


def _network(one: RackedInstance) -> JsonValue:
    """NetworkPortsNewExpand."""
    return {
        "vpc": {"id": catalogue.VPC_ID, "name": catalogue.VPC_NAME},
        "interfaces": [
            {
                "id": one.id,
                "name": f"{one.name}-primary",
                "security_groups": [*one.groups],
                "primary": True,
                "associated_public_ipv4": one.public_ipv4,
                "ip_addresses": {"private_ipv4": one.private_ipv4, "public_ipv6": None},
                "mac_address": None,
            }
        ],
    }


def _key(id_: str, name: str, key: str) -> JsonValue:
    return {"id": id_, "name": name, "key": key, "key_type": key.partition(" ")[0]}


def _unknown() -> Reply:
    return exception(404, "Instance not found", "instance_not_found")
