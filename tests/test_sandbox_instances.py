"""The sandbox's instances as an API: none of them has a machine here (tests/test_vm.py launches a real guest)."""

import json
import socket
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from jsonschema import Draft4Validator

from adapters.sandbox.hypervisor import QUOTA
from adapters.sandbox.relay import relayed
from migrate.run import Run
from tests.cloud import Cloud, cloud
from tests.launches import KEY, ORDER, active_image, http, launcher, put_key
from tests.test_sandbox_api import faults_of

PROFILE = yaml.safe_load((Path(__file__).parent / "openapi/profile.yaml").read_text())
COMPUTE = "/br-se1/compute/v1"
UNKNOWN = "3c4f0000-0000-0000-0000-000000000000"


def body(image: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": "erp01",
        "image": {"id": image},
        "machine_type": {"name": "BV1-1-10"},
        "ssh_key_name": "ops",
    } | changes


def made(client: httpx.Client, image: str, **changes: Any) -> str:
    answer = client.post(f"{COMPUTE}/instances", json=body(image, **changes))
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def seen(client: httpx.Client, id_: str, *, expand: str = "network,labels,machine-type,image") -> dict[str, Any]:
    """The instance once it is no longer being made."""
    deadline = time.monotonic() + 20
    while True:
        one = client.get(f"{COMPUTE}/instances/{id_}", params={"expand": expand}).json()
        if one["state"] != "new":
            return dict(one)
        assert time.monotonic() < deadline
        time.sleep(0.02)


def faults(there: Cloud) -> list[str]:
    """What is against the specification, in every request and answer of the compute API so far."""
    compute = [one for one in there.exchanges if one.request.path.startswith("/br-se1/compute")]
    return [fault for one in compute for fault in faults_of(one)]


def test_an_instance_is_told_as_the_specification_says(tmp_path: Path) -> None:
    image = active_image(tmp_path)
    with cloud(tmp_path) as there, http(there) as client:
        put_key(there)
        group = client.get("/br-se1/network/v0/security_groups").json()["security_groups"][1]
        network = {"associate_public_ip": False, "interface": {"security_groups": [{"id": group["id"]}]}}
        id_ = made(client, image, labels=["a", "b"], network=network, availability_zone="br-se1-b")
        whole, bare = seen(client, id_), seen(client, id_, expand="")
        assert client.get(f"{COMPUTE}/instances", params={"name": "erp01"}).json()["meta"]["page"]["total"] == 1
        assert client.get(f"{COMPUTE}/instances", params={"name": "erp02"}).json()["instances"] == []
        types = client.get(f"{COMPUTE}/machine-types", params={"name": "BV4-8-100"}).json()["machine_types"]
        logs = client.get(f"{COMPUTE}/instances/{id_}/init-logs", params={"max-lines-count": 1}).json()["logs"]
        assert client.delete(f"{COMPUTE}/instances/{id_}", params={"delete_public_ip": "true"}).status_code == 204
        assert faults(there) == []
    assert (whole["state"], whole["status"], whole["labels"]) == ("running", "completed", ["a", "b"])
    assert whole["network"]["interfaces"][0]["ip_addresses"]["private_ipv4"] == "10.0.2.15"
    assert whole["network"]["interfaces"][0]["security_groups"] == [group["id"]]
    assert whole["machine_type"] | {"id": ""} == {"id": "", "name": "BV1-1-10", "vcpus": 1, "ram": 1024, "disk": 10}
    assert whole["image"]["name"] == "erp01-image"
    assert (bare["labels"], set(bare["network"]["interfaces"][0])) == (None, {"id"})
    assert [(one["name"], one["vcpus"], one["ram"], one["disk"]) for one in types] == [("BV4-8-100", 4, 8192, 100)]
    assert logs == ["erp01: Cloud-init v. 22.4.2 finished at Mon, 23 Nov 2026. Datasource DataSourceOpenStack"]


REFUSED: tuple[tuple[dict[str, Any], int, str], ...] = (
    ({"image": {"id": UNKNOWN}}, 404, "create_instance.image.not_found"),
    ({"machine_type": {"name": "BV0"}}, 404, "create_instance.machine_type.not_found"),
    ({"ssh_key_name": "nobody"}, 404, "create_instance.keypair.not_found"),
    ({"network": {"vpc": {"name": "lan"}}}, 404, "create_instance.vpc.not_found"),
    (
        {"network": {"interface": {"security_groups": [{"id": UNKNOWN}]}}},
        404,
        "create_instance.security_group.not_found",
    ),
    ({"availability_zone": "br-ne1-a"}, 404, "create_instance.availability_zone.not_found"),
    ({"user_data": "IyEvYmluL3No"}, 400, "not_in_the_sandbox"),
)


def test_an_order_that_names_what_is_not_there_is_refused(tmp_path: Path) -> None:
    image = active_image(tmp_path)
    with cloud(tmp_path) as there, http(there) as client:
        put_key(there)
        for changes, status, slug in REFUSED:
            answer = client.post(f"{COMPUTE}/instances", json=body(image) | changes)
            assert (answer.status_code, answer.json()["slug"]) == (status, slug)
        assert client.get(f"{COMPUTE}/instances").json()["instances"] == []
        assert faults(there) == []


def test_other_wrong_requests_are_answered_as_the_specification_says(tmp_path: Path) -> None:
    with cloud(tmp_path) as there, http(there) as client, http(there, "wrong") as stranger:
        wanted = [
            (422, client.post(f"{COMPUTE}/instances", json={"name": "x"})),
            (422, client.post(f"{COMPUTE}/instances", json={"name": "", "image": {}, "machine_type": {}})),
            (422, client.get(f"{COMPUTE}/instances", params={"_limit": 0})),
            (404, client.get(f"{COMPUTE}/instances/{UNKNOWN}")),
            (404, client.delete(f"{COMPUTE}/instances/{UNKNOWN}")),
            (422, client.delete(f"{COMPUTE}/instances/x")),
            (404, client.get(f"{COMPUTE}/instances/{UNKNOWN}/init-logs")),
            (422, client.get(f"{COMPUTE}/instances/{UNKNOWN}/init-logs", params={"max-lines-count": 5001})),
            (200, client.get(f"{COMPUTE}/machine-types", params={"_limit": 1000})),
            (401, stranger.get(f"{COMPUTE}/machine-types")),
        ]
        assert [answer.status_code for _, answer in wanted] == [status for status, _ in wanted]
        assert faults(there) == []
        assert stranger.get("/profile/v0/ssh-keys").status_code == 401
        assert stranger.get("/br-se1/network/v0/vpcs").status_code == 401
        assert client.get("/br-se1/network/v0/nothing").status_code == 404


def test_keys_are_told_as_the_specification_says_and_outlive_the_sandbox(tmp_path: Path) -> None:
    schema = PROFILE["components"]["schemas"]["SSHPubKeyPublicOutputList"] | {"components": PROFILE["components"]}
    with cloud(tmp_path) as there, http(there) as client:
        put_key(there)
        for name, key, status in (
            ("ops", KEY, 409),
            ("Ops", KEY, 422),
            ("x", "ssh-ed25519", 400),
            ("x" * 46, KEY, 422),
        ):
            assert client.post("/profile/v0/ssh-keys", json={"name": name, "key": key}).status_code == status, name
    with cloud(tmp_path) as there, http(there) as client:
        told = client.get("/profile/v0/ssh-keys").json()
        assert list(Draft4Validator(schema).iter_errors(told)) == []
        (key,) = told["results"]
        assert (key["name"], key["key"], key["key_type"]) == ("ops", KEY, "ssh-ed25519")
        assert client.get("/profile/v0/ssh-keys", params={"_offset": 1}).json() == {"results": []}
        assert client.delete(f"/profile/v0/ssh-keys/{key['id']}").status_code == 200
        assert client.delete(f"/profile/v0/ssh-keys/{key['id']}").status_code == 404


def test_a_deleted_instance_is_gone_even_while_it_is_being_made(tmp_path: Path) -> None:
    image = active_image(tmp_path)
    with cloud(tmp_path) as there, http(there) as client:
        put_key(there)
        for id_ in (made(client, image), made(client, image, name="slow")):
            assert client.delete(f"{COMPUTE}/instances/{id_}").status_code == 204
            deadline = time.monotonic() + 10
            while client.get(f"{COMPUTE}/instances/{id_}").status_code != 404:
                assert time.monotonic() < deadline
                time.sleep(0.02)


def test_more_guests_than_the_quota_are_not_switched_on(tmp_path: Path) -> None:
    image = active_image(tmp_path)
    with cloud(tmp_path) as there, http(there) as client:
        put_key(there)
        for _ in range(QUOTA):
            made(client, image)
        refused = seen(client, made(client, image))
        assert faults(there) == []
    assert (refused["state"], refused["status"]) == ("error", "creating_error_quota_instance")
    assert set(refused["error"]) == {"slug", "message"}


def test_no_guest_outlives_the_sandbox(run: Run, tmp_path: Path) -> None:
    image = active_image(tmp_path)
    with cloud(tmp_path) as there, http(there) as client, launcher(run, there) as opened:
        put_key(there)
        ran, booted = opened.launch(ORDER, image).id, made(client, image, name="slow")
    with cloud(tmp_path) as there, http(there) as client:
        after = {id_: client.get(f"{COMPUTE}/instances/{id_}").json() for id_ in (ran, booted)}
        assert client.get(f"{COMPUTE}/instances/{ran}/init-logs").json() == {"logs": []}
    assert (after[ran]["state"], after[ran]["status"]) == ("stopped", "completed")
    assert (after[booted]["state"], after[booted]["status"]) == ("error", "creating_error")
    assert json.loads((tmp_path / "rack.json").read_text())["instances"][0]["public_ipv4"] is None


def test_the_relay_passes_bytes_both_ways_until_its_block_is_left() -> None:
    with socket.create_server(("127.0.0.1", 0)) as guest:
        port = _free_port()
        with relayed(lambda: socket.create_connection(guest.getsockname()), "127.0.0.1", port) as address:
            assert address == "127.0.0.1"
            with socket.create_connection((address, port), timeout=10) as client:
                inside, _ = guest.accept()
                with inside:
                    inside.sendall(b"SSH-2.0-guest")
                    assert client.recv(64) == b"SSH-2.0-guest"
                    client.sendall(b"SSH-2.0-client")
                    assert inside.recv(64) == b"SSH-2.0-client"
                    client.close()
                    assert inside.recv(64) == b""
            with relayed(lambda: None, "127.0.0.1", port) as other:
                assert other is None  # somebody listens there already
        with pytest.raises(ConnectionError):
            socket.create_connection(("127.0.0.1", port), timeout=5)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
