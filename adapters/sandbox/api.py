"""The sandbox's API over HTTP: the paths, bodies and error shapes of Magalu Cloud's, custom images here, all else in instance_api.py.

By virtual-machine.jaxyendy.openapi.json (MagaluCloud/magalu, 4e90611e); a copy lies in tests/openapi, and a test holds every answer
against it. Nothing is logged: requests carry keys and pre-signed URLs.
"""

import hmac
import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, JsonValue, ValidationError

from adapters.sandbox.answers import PageRequest, Reply, Request, Strict, invalid, not_uuid, refusal
from adapters.sandbox.answers import page as page_of
from adapters.sandbox.faults import Faults
from adapters.sandbox.importer import Importer
from adapters.sandbox.instance_api import InstanceApi
from adapters.sandbox.shelf import Needs, Shelf, ShelvedImage
from migrate.secret import Secret

MAX_REQUEST = 1 << 20
"""Bytes of a request's body that are read."""

NAME = re.compile(r"[A-Za-z0-9_-]{1,255}")


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and its reply, for who watches the server. The request's body may hold a pre-signed URL."""

    request: Request
    reply: Reply


class CreateRequest(Strict):
    """CreateCustomImageRequest."""

    name: str
    url: str
    platform: Literal["linux", "windows"]
    license: Literal["unlicensed", "licensed"]
    architecture: Literal["x86/64"]
    uefi: bool = False
    description: str | None = Field(None, max_length=200)
    version: str | None = None
    requirements: Needs | None = None


class PatchRequest(Strict):
    """PatchCustomImageRequest."""

    description: str | None = Field(None, max_length=200)
    version: str | None = None
    requirements: Needs | None = None


class ImageApi:
    """Answers requests. `prefix` is the path before /v1, as in the real one: /br-se1/compute."""

    def __init__(
        self,
        shelf: Shelf,
        importer: Importer,
        instances: InstanceApi,
        faults: Faults,
        *,
        prefix: str,
        keys: tuple[Secret, Secret],
    ) -> None:
        self._shelf = shelf
        self._instances = instances
        self._importer = importer
        self._faults = faults
        self._prefix = prefix
        self._api_key, self._token = keys

    def reply(self, request: Request) -> Reply:
        """Return the answer to a request, with its id."""
        reply = self._faulty(request) or self._reply(request)
        ids = {"X-Request-Id": str(uuid.uuid4()), "X-Mgc-Trace-Id": uuid.uuid4().hex}
        return Reply(reply.status, reply.body, ids | dict(reply.headers), reply.cut)

    def _faulty(self, request: Request) -> Reply | None:
        if self._faults.use_up("throttled"):
            return refusal(
                429, "Too many requests", "too_many_requests", {"Retry-After": f"{self._faults.retry_after_s:g}"}
            )
        if self._faults.use_up("broken"):
            return Reply(
                502, b"<html><head><title>502 Bad Gateway</title></head></html>", {"Content-Type": "text/html"}
            )
        return None

    def _reply(self, request: Request) -> Reply:
        if not self._authorised(request.headers):
            return refusal(401, "Unauthorized", "unauthorized")
        if (other := self._instances.reply(request)) is not None:
            return other
        path = request.path.removeprefix(self._prefix)
        if path == request.path:
            return refusal(404, "Not found", "not_found")
        match request.method, path.strip("/").split("/"):
            case "POST", ["v1", "images", "custom"]:
                return self._create(request)
            case "GET", ["v1", "images", "custom"]:
                return self._list(request, _custom_image)
            case "GET", ["v1", "images"]:
                return self._list(request, _catalogue_image)
            case "GET", ["v1", "images", "custom", id_]:
                return self._get(id_)
            case "PATCH", ["v1", "images", "custom", id_]:
                return self._patch(id_, request)
            case "DELETE", ["v1", "images", "custom", id_]:
                return self._delete(id_)
        return refusal(404, "Not found", "not_found")

    def _authorised(self, headers: Mapping[str, str]) -> bool:
        key, bearer = headers.get("x-api-key", ""), headers.get("authorization", "")
        return _same(key, self._api_key.reveal()) or _same(bearer, f"Bearer {self._token.reveal()}")

    def _create(self, request: Request) -> Reply:
        try:
            order = CreateRequest.model_validate_json(request.body or b"null")
        except ValidationError as error:
            return invalid(error, "body")
        if self._faults.echo:
            return refusal(400, f"cannot import {request.body.decode()}", "bad_request")
        if not NAME.fullmatch(order.name):
            return refusal(400, "Invalid characters in name", "invalid_name")
        if order.platform != "linux" or order.license != "unlicensed":
            return refusal(400, "Only unlicensed linux images can be imported", "invalid_platform")
        if not self._importer.accepts(order.url):
            return Reply(
                422,
                {"detail": [{"loc": ["body", "url"], "msg": "URL of object storage required", "type": "value_error"}]},
            )
        if self._faults.use_up("creates_break"):
            self._shelf.stick(order.name)
            return refusal(500, "Internal server error", "internal_error")
        image = self._shelf.add(
            name=order.name,
            uefi=order.uefi,
            description=order.description,
            version=order.version,
            requirements=order.requirements,
        )
        if image is None:
            return refusal(409, "Image name already exists", "image_name_already_exists")
        self._importer.begin(image, Secret(order.url))
        return Reply(202, {"id": image.id}, cut=self._faults.use_up("creates_fall_silent"))

    def _list(self, request: Request, shown: Callable[[ShelvedImage], JsonValue]) -> Reply:
        try:
            page = PageRequest.model_validate(dict(request.query))
        except ValidationError as error:
            return invalid(error, "query")
        name = None if self._faults.unfiltered else page.name
        images = [i for i in self._shelf.all() if i.status == "active" and name in {None, i.name}]
        return page_of("images", [shown(image) for image in images], page)

    def _get(self, id_: str) -> Reply:
        image = self._shelf.get(id_)
        if image is None or self._faults.use_up("unseen"):
            return _unknown()
        return Reply(200, _custom_image(image.model_copy(update={"status": self._faults.status or image.status})))

    def _patch(self, id_: str, request: Request) -> Reply:
        if (wrong := not_uuid(id_)) is not None:
            return wrong
        try:
            order = PatchRequest.model_validate_json(request.body or b"null")
        except ValidationError as error:
            return invalid(error, "body")
        if self._shelf.get(id_) is None:
            return _unknown()
        self._shelf.change(id_, **{name: getattr(order, name) for name in order.model_fields_set})
        return Reply(204)

    def _delete(self, id_: str) -> Reply:
        if (wrong := not_uuid(id_)) is not None:
            return wrong
        if self._shelf.get(id_) is None:
            return _unknown()
        self._shelf.remove(id_)
        return Reply(204)


@contextmanager
def served(api: ImageApi, port: int, watch: Callable[[Exchange], None]) -> Iterator[int]:
    """Serve the API on 127.0.0.1 while the block lasts; yield its port. Port 0 means any that is free."""
    server = _Server(("127.0.0.1", port), _Handler)
    server.api, server.watch = api, watch
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="sandbox-api", daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    api: ImageApi
    watch: Callable[[Exchange], None]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no news; the traceback would be printed on the user's screen."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "magalu-sandbox"
    sys_version = ""
    timeout = 30
    wbufsize = -1  # head and body leave together: apart, Nagle's algorithm holds the body back for 40 ms
    server: _Server

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PATCH = do_DELETE = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a request line may hold a secret."""

    def _answer(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or int(length) > MAX_REQUEST or self.headers.get("Transfer-Encoding"):
            self.close_connection = True
            self._send(refusal(413, "Request too large", "request_too_large"))
            return
        try:
            url = urlsplit(self.path)
        except ValueError:
            self._send(refusal(400, "Bad request", "bad_request"))
            return
        request = Request(
            self.command,
            url.path,
            {name: values[-1] for name, values in parse_qs(url.query, keep_blank_values=True).items()},
            {name.lower(): value for name, value in self.headers.items()},
            self.rfile.read(int(length)),
        )
        reply = self.server.api.reply(request)
        self.server.watch(Exchange(request, reply))
        if reply.cut:
            self.close_connection = True
            return
        self._send(reply)

    def _send(self, reply: Reply) -> None:
        if isinstance(reply.body, bytes):
            body = reply.body
        else:
            body = b"" if reply.status == 204 else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        for name, value in ({"Content-Type": "application/json"} | dict(reply.headers)).items():
            self.send_header(name, value)
        if reply.status != 204:  # which has no body, RFC 9110
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _custom_image(image: ShelvedImage) -> JsonValue:
    return {
        "id": image.id,
        "name": image.name,
        "status": image.status,
        "platform": "linux",
        "license": "unlicensed",
        "requirements": _needs(image.requirements),
        "version": image.version,
        "description": image.description,
        "metadata": {"uefi": "true" if image.uefi else "false"},
    }


def _catalogue_image(image: ShelvedImage) -> JsonValue:
    return {
        "id": image.id,
        "name": image.name,
        "status": image.status,
        "platform": "linux",
        "version": image.version,
        "minimum_requirements": _needs(image.requirements) or {"vcpu": 1, "ram": 1, "disk": 10},
        "availability_zones": None,
    }


def _needs(needs: Needs | None) -> JsonValue:
    return None if needs is None else {"vcpu": needs.vcpu, "ram": needs.ram, "disk": needs.disk}


def _unknown() -> Reply:
    return refusal(404, "Image not found", "image_not_found")


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), wanted.encode())
