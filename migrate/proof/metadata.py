"""The metadata service of an OpenStack cloud, for one instance.

Served is what Nova serves: the OpenStack tree that cloud-init's DataSourceOpenStack reads, and the EC2-compatible tree beside it.
Source: Nova's nova/api/metadata/base.py and docs.openstack.org/nova/latest/user/metadata.html. What the guest asked for, and when, is evidence.
"""

import base64
import http.server
import json
import secrets
import socket
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

VERSIONS = (
    *("2012-08-10", "2013-04-04", "2013-10-17", "2015-10-15", "2016-06-30", "2016-10-06"),
    *("2017-02-22", "2018-08-27", "2020-10-14", "latest"),
)
EC2_VERSIONS = (
    *("1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10", "2007-12-15", "2008-02-01"),
    *("2008-09-01", "2009-04-04", "latest"),
)
KEY_NAME = "proof"
REQUESTS_KEPT = 200
ANSWER_S = 10.0
"""How long a client may take to say what it wants: requests are served one after the other, so a silent one holds up only itself."""

Tree = Mapping[str, "Tree | str"]


@dataclass(frozen=True, slots=True)
class Instance:
    """Who the guest is told to be. `public_key` is one line of authorized_keys(5); `mac` is lower case with colons."""

    id: str
    hostname: str
    mac: str
    public_key: str
    address: str


def new_instance(public_key: str, address: str) -> Instance:
    """Return an instance that never was: fresh identity, fresh locally administered unicast MAC address."""
    identity = uuid.uuid4()
    # A UUID that starts with "ec2", in either byte order, makes cloud-init believe in Amazon. Source: ds-identify, dscheck_Ec2.
    while "ec2" in (identity.hex[:3], identity.bytes_le.hex()[:3]):
        identity = uuid.uuid4()
    octets = bytes([0x02 | secrets.randbelow(64) << 2]) + secrets.token_bytes(5)
    return Instance(str(identity), f"proof-{identity.hex[:8]}", octets.hex(":"), public_key, address)


def documents(instance: Instance) -> Tree:
    """Return everything that the service holds, as folders and texts."""
    key = f"{instance.public_key}\n"
    meta_data = {
        "uuid": instance.id,
        "name": instance.hostname,
        "hostname": f"{instance.hostname}.novalocal",
        "availability_zone": "nova",
        "launch_index": 0,
        "project_id": uuid.uuid5(uuid.NAMESPACE_URL, instance.id).hex,
        "public_keys": {KEY_NAME: key},
        "keys": [{"name": KEY_NAME, "type": "ssh", "data": key}],
        "random_seed": base64.b64encode(secrets.token_bytes(512)).decode(),
        "devices": [],
        "dedicated_cpus": [],
    }
    port = uuid.uuid5(uuid.NAMESPACE_URL, instance.mac)
    network_data = {
        "links": [
            {
                "id": f"tap{port.hex[:11]}",
                "vif_id": str(port),
                "type": "ovs",
                "mtu": 1500,
                "ethernet_mac_address": instance.mac,
            }
        ],
        "networks": [
            {
                "id": "network0",
                "type": "ipv4_dhcp",
                "link": f"tap{port.hex[:11]}",
                "network_id": str(uuid.uuid5(uuid.NAMESPACE_URL, "network0")),
            }
        ],
        "services": [],
    }
    # There is no user data: Nova answers 404 then.
    release = {
        "meta_data.json": json.dumps(meta_data),
        "password": "",
        "vendor_data.json": "{}",
        "network_data.json": json.dumps(network_data),
        "vendor_data2.json": json.dumps({"static": {}}),
    }
    ec2 = {"meta-data": _ec2(instance, key)}
    return {"openstack": dict.fromkeys(VERSIONS, release), **dict.fromkeys(EC2_VERSIONS, ec2)}


def _ec2(instance: Instance, key: str) -> Tree:
    return {
        "ami-id": "ami-00000001",
        "ami-launch-index": "0",
        "ami-manifest-path": "FIXME",  # Nova's own words
        "block-device-mapping": {"ami": "vda", "root": "/dev/vda"},
        "hostname": f"{instance.hostname}.novalocal",
        "instance-action": "none",
        "instance-id": "i-00000001",
        "instance-type": "proof",
        "local-hostname": f"{instance.hostname}.novalocal",
        "local-ipv4": instance.address,
        "placement": {"availability-zone": "nova"},
        "public-hostname": f"{instance.hostname}.novalocal",
        "public-ipv4": "",
        "public-keys": {f"0={KEY_NAME}": {}, "0": {"openssh-key": key}},
        "reservation-id": "r-00000001",
        "security-groups": "default",
    }


def answer(tree: Tree, path: str) -> bytes | None:
    """Return what a GET of the path gives: a text, or the list of a folder; None where there is nothing."""
    found: Tree | str = tree
    for part in path.partition("?")[0].strip("/").split("/"):
        if not part:
            continue
        if isinstance(found, str) or part not in found:
            return None
        found = found[part]
    if isinstance(found, str):
        return found.encode()
    names: Iterable[str] = _listed(found)
    if found is tree:
        names = EC2_VERSIONS  # Nova's root does not name the OpenStack tree
    elif path.strip("/").startswith("openstack"):
        names = found
    return "\n".join(names).encode()


def _listed(folder: Tree) -> Iterator[str]:
    """Yield names as EC2 lists them: a slash after a folder; of a list of keys only the "0=name" form."""
    for name, entry in folder.items():
        if isinstance(entry, str) or "=" in name or any(other.startswith(f"{name}=") for other in folder):
            if isinstance(entry, str) or "=" in name:
                yield name
        else:
            yield f"{name}/"


@dataclass(frozen=True, slots=True)
class Request:
    """`at` on the monotonic clock, in seconds."""

    path: str
    status: int
    at: float


class MetadataService:
    """Answers on a listening socket; `requests` are the first ones that the guest made."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.tree = documents(instance)
        self.requests: list[Request] = []

    @contextmanager
    def serving(self, listener: socket.socket) -> Iterator[None]:
        """Answer while the block lasts. The socket stays the caller's."""

        class Handler(_Handler):
            service = self

        server = http.server.HTTPServer(("", 0), Handler, bind_and_activate=False)
        server.socket.close()
        server.socket = listener.dup()
        thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="metadata", daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    def get(self, path: str) -> bytes | None:
        """Return the document at a path, and remember that it was asked for."""
        body = answer(self.tree, path)
        if len(self.requests) < REQUESTS_KEPT:
            self.requests.append(Request(path[:200], 200 if body is not None else 404, time.monotonic()))
        return body


class _Handler(http.server.BaseHTTPRequestHandler):
    service: ClassVar[MetadataService]
    timeout = ANSWER_S
    server_version = "Nova"
    sys_version = ""

    def do_GET(self) -> None:
        body = self.service.get(self.path)
        self.send_response(200 if body is not None else 404)
        content = body if body is not None else b"404 Not Found"
        kind = "application/json" if self.path.endswith(".json") and body is not None else "text/plain; charset=UTF-8"
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a guest's request never reaches our terminal."""
