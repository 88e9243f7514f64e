"""The metadata service of the boot proof, asked over HTTP."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from migrate.proof.metadata import VERSIONS, Instance, MetadataService, new_instance

INSTANCE = Instance(
    "3f1c7e5a-0000-4000-8000-000000000001", "proof-3f1c7e5a", "02:11:22:33:44:55", "ssh-ed25519 AAAA proof", "10.0.2.15"
)


@contextmanager
def asked() -> Iterator[tuple[MetadataService, httpx.Client]]:
    service = MetadataService(INSTANCE)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with service.serving(listener), httpx.Client(base_url=address, trust_env=False) as client:
            yield service, client


def test_what_cloud_init_asks_for_is_there_in_the_version_that_it_picks() -> None:
    with asked() as (_, client):
        listed = client.get("/openstack").text.splitlines()
        # cloud-init takes the newest version that it knows: 2018-08-27 in DataSourceOpenStack.OS_VERSIONS.
        assert listed == list(VERSIONS)
        meta_data = client.get("/openstack/2018-08-27/meta_data.json").json()
        assert client.get("/openstack/2018-08-27/user_data").status_code == 404
        assert client.get("/openstack/2018-08-27/vendor_data.json").json() == {}
        assert client.get("/openstack/2018-08-27/vendor_data2.json").json() == {"static": {}}
    assert meta_data["uuid"] == INSTANCE.id
    assert meta_data["public_keys"] == {"proof": "ssh-ed25519 AAAA proof\n"}
    assert meta_data["hostname"] == "proof-3f1c7e5a.novalocal"


def test_the_network_is_described_as_dhcp_on_the_card_that_the_machine_has() -> None:
    with asked() as (_, client):
        network = client.get("/openstack/latest/network_data.json").json()
    (link,), (net,) = network["links"], network["networks"]
    assert link["ethernet_mac_address"] == INSTANCE.mac
    assert (net["type"], net["link"]) == ("ipv4_dhcp", link["id"])


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/latest", "meta-data/"),
        ("/latest/meta-data/public-keys/", "0=proof"),
        ("/latest/meta-data/public-keys/0/", "openssh-key"),
        ("/2009-04-04/meta-data/public-keys/0/openssh-key", "ssh-ed25519 AAAA proof\n"),
        ("/latest/meta-data/block-device-mapping/", "ami\nroot"),
        ("/latest/meta-data/placement/availability-zone", "nova"),
    ],
)
def test_the_ec2_tree_is_listed_and_read_as_in_nova(path: str, text: str) -> None:
    with asked() as (_, client):
        assert client.get(path).text == text


def test_what_was_asked_is_kept_as_evidence() -> None:
    with asked() as (service, client):
        client.get("/openstack/latest/meta_data.json")
        client.get("/openstack/latest/nothing")
    assert [(request.path, request.status) for request in service.requests] == [
        ("/openstack/latest/meta_data.json", 200),
        ("/openstack/latest/nothing", 404),
    ]
    assert service.requests[0].at <= service.requests[1].at


def test_a_guest_that_asks_for_ever_fills_no_memory() -> None:
    service = MetadataService(INSTANCE)
    for number in range(1000):
        service.get("/" + "x" * 10_000 + str(number))
    assert len(service.requests) == 200
    assert max(len(request.path) for request in service.requests) == 200


def test_a_request_that_is_no_http_is_survived() -> None:
    with asked() as (_, client):
        with socket.create_connection(("127.0.0.1", int(client.base_url.port or 0))) as raw:
            raw.sendall(b"\x00\xff" * 40 + b"\r\n\r\n")
            raw.recv(100)
        assert client.get("/openstack/latest/password").status_code == 200


def test_every_instance_is_new_and_none_looks_like_amazons() -> None:
    instances = [new_instance("key", "10.0.2.15") for _ in range(300)]
    assert len({instance.mac for instance in instances}) == 300
    assert len({instance.id for instance in instances}) == 300
    assert not any(instance.id.startswith("ec2") for instance in instances)
    # Locally administered, for one receiver: IEEE 802, section 8.2.2.
    assert all(int(instance.mac[:2], 16) & 0b11 == 0b10 for instance in instances)


def test_the_documents_are_the_same_each_time_they_are_asked_for() -> None:
    service = MetadataService(INSTANCE)
    first, second = service.get("/openstack/latest/meta_data.json"), service.get("/openstack/latest/meta_data.json")
    assert first == second
    assert first is not None
    assert json.loads(first)["random_seed"]
