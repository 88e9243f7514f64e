import json
import re
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from adapters.magalu.images import Images
from adapters.sandbox import Exchange
from migrate.run import Run
from tests.cloud import API_KEY, NEEDS, SHA256, SIGNATURE, TOKEN, Cloud, api, cloud, importer, qemu_img

SPEC = json.loads((Path(__file__).parent / "openapi/virtual-machine.json").read_text())

# What the specification leaves out: every status has Magalu's own error shape but 422, which it describes.
ERROR = {"$ref": "#/components/schemas/ErrorMessageV1"}


@contextmanager
def client(there: Cloud, **headers: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=there.api_url, headers=headers or {"X-API-Key": API_KEY}, trust_env=False) as opened:
        yield opened


def body(there: Cloud, **changes: Any) -> dict[str, Any]:
    return {
        "name": "web01",
        "url": there.url().reveal(),
        "platform": "linux",
        "license": "unlicensed",
        "architecture": "x86/64",
    } | changes


def ended(http: httpx.Client, id_: str) -> dict[str, Any]:
    deadline = time.monotonic() + 20
    while (image := http.get(f"/v1/images/custom/{id_}").json())["status"] == "importing":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return dict(image)


def made(http: httpx.Client, there: Cloud, **changes: Any) -> dict[str, Any]:
    answer = http.post("/v1/images/custom", json=body(there, **changes))
    assert answer.status_code == 202, answer.text
    return ended(http, answer.json()["id"])


def faults_of(exchange: Exchange) -> list[str]:
    """What in an exchange is against the specification, request and answer."""
    request, reply = exchange.request, exchange.reply
    path = request.path.removeprefix("/br-se1/compute")
    template = next(one for one in sorted(SPEC["paths"]) if re.fullmatch(one.replace("{id}", "[^/]+"), path))
    operation = SPEC["paths"][template][request.method.lower()]
    found = []
    if request.body and reply.status < 300:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        found += _against(schema, json.loads(request.body))
    described = operation["responses"].get(str(reply.status))
    if described is None:
        assert reply.status >= 400, (
            f"{request.method} {template} answers {reply.status}, which is no success that it describes"
        )
        found += _against(ERROR, reply.body)
    elif "content" in described:
        found += _against(described["content"]["application/json"]["schema"], reply.body)
    elif reply.body is not None:
        found.append("a body where none belongs")
    return found


def _against(schema: dict[str, Any], value: Any) -> list[str]:
    validator = Draft202012Validator({**schema, "components": SPEC["components"]})
    return [error.message for error in validator.iter_errors(value)]


@pytest.mark.slow
def test_every_answer_is_as_the_specification_says(tmp_path: Path) -> None:
    with cloud(tmp_path) as there, client(there) as http:
        image = made(
            http, there, description="d", version="1", requirements={"vcpu": 1, "ram": 1, "disk": 3}, uefi=True
        )
        plain = made(http, there, name="web02")
        unknown = str(uuid.uuid4())
        wanted = [
            (202, http.post("/v1/images/custom", json=body(there, name="web03"))),
            (409, http.post("/v1/images/custom", json=body(there))),
            (400, http.post("/v1/images/custom", json=body(there, name="web 01"))),
            (400, http.post("/v1/images/custom", json=body(there, name="w", platform="windows"))),
            (422, http.post("/v1/images/custom", json=body(there, name="w", architecture="arm64"))),
            (422, http.post("/v1/images/custom", json=body(there, name="w", requirements={"vcpu": 1}))),
            (422, http.post("/v1/images/custom", json=body(there, name="w", description="x" * 201))),
            (422, http.post("/v1/images/custom", json=body(there, name="w", url="http://169.254.169.254/"))),
            (422, http.post("/v1/images/custom", json={"name": "w"})),
            (422, http.post("/v1/images/custom", content=b"{")),
            (422, http.post("/v1/images/custom")),
            (200, http.get("/v1/images/custom")),
            (200, http.get("/v1/images", params={"name": "web01"})),
            (422, http.get("/v1/images/custom", params={"_limit": 0})),
            (422, http.get("/v1/images", params={"_offset": "x"})),
            (422, http.get("/v1/images", params={"_sort": "name"})),
            (200, http.get(f"/v1/images/custom/{image['id']}")),
            (404, http.get(f"/v1/images/custom/{unknown}")),
            (401, http.get("/v1/images/custom", headers={"X-API-Key": "wrong"})),
            (401, http.post("/v1/images/custom", headers={"X-API-Key": ""}, json=body(there))),
            (204, http.patch(f"/v1/images/custom/{image['id']}", json={"description": "new"})),
            (404, http.patch(f"/v1/images/custom/{unknown}", json={})),
            (422, http.patch("/v1/images/custom/x", json={})),
            (422, http.patch(f"/v1/images/custom/{image['id']}", json={"version": 1})),
            (204, http.delete(f"/v1/images/custom/{plain['id']}")),
            (404, http.delete(f"/v1/images/custom/{plain['id']}")),
            (422, http.delete("/v1/images/custom/x")),
        ]
        assert [answer.status_code for _, answer in wanted] == [status for status, _ in wanted]
        assert all(answer.headers["X-Request-Id"] for _, answer in wanted)
        assert len({answer.headers["X-Request-Id"] for _, answer in wanted}) == len(wanted)
        assert {str(e.request.path): faults_of(e) for e in there.exchanges if faults_of(e)} == {}
    assert image | {"id": ""} == {
        "id": "",
        "name": "web01",
        "status": "active",
        "platform": "linux",
        "license": "unlicensed",
        "requirements": {"vcpu": 1, "ram": 1, "disk": 3},
        "version": "1",
        "description": "d",
        "metadata": {"uefi": "true"},
    }


def test_every_request_of_our_client_is_as_the_specification_says(run: Run, tmp_path: Path) -> None:
    with cloud(tmp_path) as there, importer(run, there) as opened, api(run, there.region) as plain:
        image = opened.imported("web01", SHA256, there.order)
        Images(plain).delete(image.id)
        Images(plain).delete(image.id)
        assert {e.request.method for e in there.exchanges} == {"GET", "POST", "DELETE"}
        assert [faults_of(e) for e in there.exchanges if faults_of(e)] == []
        sent = json.loads(next(e.request.body for e in there.exchanges if e.request.method == "POST"))
    assert sent["requirements"] == {"vcpu": NEEDS.vcpu, "ram": NEEDS.ram_gb, "disk": NEEDS.disk_gb}


def test_a_token_opens_the_sandbox_too(tmp_path: Path) -> None:
    with cloud(tmp_path) as there, client(there, Authorization=f"Bearer {TOKEN}") as http:
        assert http.get("/v1/images/custom").status_code == 200


def test_lists_hold_active_images_only_in_pages(tmp_path: Path) -> None:
    with cloud(tmp_path) as there, client(there) as http:
        for number in range(3):
            made(http, there, name=f"web0{number}")
        there.faults.import_s = 20
        http.post("/v1/images/custom", json=body(there, name="web03"))
        page = http.get("/v1/images/custom", params={"_limit": 2, "_offset": 2}).json()
        assert [image["name"] for image in page["images"]] == ["web02"]
        assert page["meta"] == {"page": {"limit": 2, "offset": 2, "count": 1, "total": 3}}
        named = http.get("/v1/images/custom", params={"name": "web01"}).json()
        assert [image["name"] for image in named["images"]] == ["web01"]


def test_a_patch_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    with cloud(tmp_path) as there, client(there) as http:
        before = made(http, there, description="old", version="1")
        http.patch(f"/v1/images/custom/{before['id']}", json={"description": "new"})
        assert http.get(f"/v1/images/custom/{before['id']}").json() == before | {"description": "new"}


def test_a_deleted_image_frees_its_name_and_its_file(tmp_path: Path) -> None:
    with cloud(tmp_path) as there, client(there) as http:
        first = made(http, there)
        http.delete(f"/v1/images/custom/{first['id']}")
        assert not (tmp_path / "images" / f"{first['id']}.qcow2").exists()
        assert made(http, there)["id"] != first["id"]


def foreign_images(folder: Path) -> dict[str, Path]:
    """A file for each reason not to take it."""
    files = {
        name: folder / f"{name}.qcow2"
        for name in ("raw", "old", "backed", "outside", "zstd", "locked", "torn", "huge", "lies")
    }
    qemu_img("create", "-f", "qcow2", folder / "base.qcow2", "1M")
    qemu_img("create", "-f", "raw", files["raw"], "1M")
    qemu_img("create", "-f", "qcow2", "-o", "compat=0.10", files["old"], "1M")
    qemu_img("create", "-f", "qcow2", "-b", folder / "base.qcow2", "-F", "qcow2", files["backed"])
    qemu_img("create", "-f", "qcow2", "-o", f"data_file={folder / 'secret'}", files["outside"], "1M")
    qemu_img("create", "-f", "qcow2", "-o", "compression_type=zstd", files["zstd"], "1M")
    # AES, because LUKS times its key derivation and gives up where a virtual machine's clock steps back.
    secret = ("--object", "secret,id=s,data=word")
    qemu_img("create", "-f", "qcow2", *secret, "-o", "encrypt.format=aes,encrypt.key-secret=s", files["locked"], "1M")
    (folder / "full.raw").write_bytes(b"full" * (1 << 18))
    qemu_img("convert", "-O", "qcow2", folder / "full.raw", files["torn"])
    with files["torn"].open("r+b") as torn:
        torn.truncate(files["torn"].stat().st_size - (1 << 18))
    qemu_img("convert", "-O", "qcow2", folder / "full.raw", files["huge"])
    with files["huge"].open("ab") as huge:
        huge.truncate(5 << 20)
    files["lies"].write_bytes(b"QFI\xfb" + bytes(2000))
    return files


@pytest.mark.slow
def test_only_a_sound_qcow2_within_the_limit_becomes_active(tmp_path: Path) -> None:
    with cloud(tmp_path, limit=4 << 20) as there, client(there) as http:
        statuses = {}
        for name in foreign_images(there.files):
            statuses[name] = made(http, there, name=name, url=there.url(f"{name}.qcow2").reveal())["status"]
        assert statuses == dict.fromkeys(statuses, "invalid_image")
        assert made(http, there, name="gone", url=there.url("gone.qcow2").reveal())["status"] == "importing_error"
        assert made(http, there, name="good")["status"] == "active"
        kept = sorted(path.name for path in (tmp_path / "images").iterdir())
        assert len(kept) == 2  # one image, and the list


def test_a_compressed_image_is_taken(tmp_path: Path) -> None:
    with cloud(tmp_path) as there, client(there) as http:
        (there.files / "full.raw").write_bytes(b"full" * (1 << 18))
        qemu_img("convert", "-c", "-O", "qcow2", there.files / "full.raw", there.files / "small.qcow2")
        assert made(http, there, url=there.url("small.qcow2").reveal())["status"] == "active"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/x",
        "https://br-se1.magaluobjects.com/b/k",
        "file:///etc/passwd",
        "{own}.example.org/x",
        "http://[",
        "",
    ],
)
def test_the_importer_reads_nothing_but_its_own_object_storage(tmp_path: Path, url: str) -> None:
    with cloud(tmp_path) as there, client(there) as http:
        answer = http.post("/v1/images/custom", json=body(there, url=url.format(own=there.files_url)))
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["loc"] == ["body", "url"]


def test_images_outlive_the_sandbox_and_an_import_does_not(tmp_path: Path) -> None:
    with cloud(tmp_path) as there, client(there) as http:
        kept = made(http, there)
        there.faults.import_s = 60
        cut = http.post("/v1/images/custom", json=body(there, name="web02")).json()["id"]
        text = (tmp_path / "images/images.json").read_text()
        assert SIGNATURE not in text
    with cloud(tmp_path) as there, client(there) as http:
        assert http.get(f"/v1/images/custom/{kept['id']}").json() == kept
        assert http.get(f"/v1/images/custom/{cut}").json()["status"] == "importing_error"


def test_faults_come_when_asked_for_and_pass(tmp_path: Path) -> None:
    with cloud(tmp_path) as there, client(there) as http:
        there.faults.throttled, there.faults.retry_after_s = 1, 7
        throttled = http.get("/v1/images/custom")
        assert (throttled.status_code, throttled.headers["Retry-After"]) == (429, "7")
        there.faults.broken = 1
        assert http.get("/v1/images/custom").status_code == 502
        there.faults.creates_break = 1
        assert http.post("/v1/images/custom", json=body(there)).status_code == 500
        assert http.post("/v1/images/custom", json=body(there)).status_code == 409
        assert http.get("/v1/images/custom", params={"name": "web01"}).json()["images"] == []
        there.faults.creates_fall_silent = 1
        with pytest.raises(httpx.RemoteProtocolError):
            http.post("/v1/images/custom", json=body(there, name="web02"))
        assert http.post("/v1/images/custom", json=body(there, name="web02")).status_code == 409
        image = made(http, there, name="web03")
        there.faults.unseen = 1
        assert http.get(f"/v1/images/custom/{image['id']}").status_code == 404
        assert http.get(f"/v1/images/custom/{image['id']}").status_code == 200


def test_a_request_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with cloud(tmp_path) as there:
        url = httpx.URL(there.api_url)
        with socket.create_connection((url.host, url.port or 0), timeout=5) as line:
            line.sendall(
                b"POST /br-se1/compute/v1/images/custom HTTP/1.1\r\nHost: x\r\nContent-Length: 1099511627776\r\n\r\n"
            )
            assert line.recv(100).startswith(b"HTTP/1.1 413")
