"""Pieces of a cloud for the tests of adapters.magalu and adapters.sandbox: all of them real servers on this machine."""

import hashlib
import re
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING, Any

import boto3

from adapters.magalu import Credentials, Region, Settings, region
from adapters.magalu.api import Api, Pace
from adapters.magalu.images import ImageOrder, Images
from adapters.magalu.imports import Importer, Patience, marked
from adapters.magalu.launches import LaunchPatience
from adapters.magalu.uploads import MIN_PART
from adapters.sandbox import Exchange, Faults, Sandbox
from adapters.sandbox.api import ImageApi, served
from adapters.sandbox.hypervisor import Hypervisor, Specification
from adapters.sandbox.importer import Importer as SandboxImporter
from adapters.sandbox.instance_api import InstanceApi
from adapters.sandbox.rack import Rack
from adapters.sandbox.shelf import Shelf
from migrate.run import Event, Run
from migrate.secret import Secret
from migrate.target import ObjectRef, Requirements, Target

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

API_KEY = "planted-api-key-4f1c"
TOKEN = "planted-token-77aa"
KEY_ID = "planted-key-id-0b2d"
KEY_SECRET = "planted-key-secret-9e3e"
SIGNATURE = "planted-signature-51ab"
PLANTED = (API_KEY, TOKEN, KEY_ID, KEY_SECRET, SIGNATURE)

SHA256 = "5f" * 32
NEEDS = Requirements(vcpu=1, ram_gb=1, disk_gb=10)

QUICK = Pace(attempts=3, first_pause=0.01, longest_pause=0.02, timeout=5)
IMPATIENT = Patience(poll=0.02, deadline=10, lookup=0.3, grace=0.2)


@dataclass(slots=True)
class Told:
    """A listener that keeps what it hears."""

    events: list[Event] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    @property
    def text(self) -> str:
        return "\n".join(map(repr, self.events))


@dataclass(slots=True)
class Notebook:
    """A ledger that keeps what it is told, in order."""

    lines: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def will_make(self, kind: str, **names: str) -> None:
        self.lines.append(("will make", kind, names))

    def gone(self, kind: str, **names: str) -> None:
        self.lines.append(("gone", kind, names))


@dataclass(frozen=True, slots=True)
class Cloud:
    """The custom image API, and a folder of files that it may import from. `exchanges` is what it was asked."""

    api_url: str
    files_url: str
    files: Path
    folder: Path
    faults: Faults
    exchanges: list[Exchange]

    @property
    def region(self) -> Region:
        return region("br-se1", api_url=self.api_url, s3_url=self.files_url)

    @property
    def creates(self) -> int:
        return sum(e.request.method == "POST" for e in self.exchanges)

    def url(self, name: str = "good.qcow2") -> Secret:
        return Secret(f"{self.files_url}/{name}?X-Amz-Signature={SIGNATURE}")

    def order(self, name: str = "web01", file: str = "good.qcow2", sha256: str = SHA256) -> ImageOrder:
        return ImageOrder(name, self.url(file), uefi=False, requirements=NEEDS, description=marked("a test", sha256))


@dataclass(slots=True)
class NoMachine:
    """A guest without a machine, as Nova's fake driver has them: it comes up at once, unless its name is "slow", and writes three lines."""

    name: str
    private_ipv4: str | None = "10.0.2.15"
    public_ipv4: str | None = None
    is_off: bool = False

    def look(self) -> None:
        """Nothing happens in it."""

    @property
    def has_come_up(self) -> bool:
        return self.name != "slow"

    def console(self) -> str:
        return (
            "FAKE CONSOLE OUTPUT\nci-info: Authorized keys from /home/debian/.ssh/authorized_keys for user debian\n"
            f"{self.name}: Cloud-init v. 22.4.2 finished at Mon, 23 Nov 2026. Datasource DataSourceOpenStack\n"
        )


@contextmanager
def no_power(run: Run, wanted: Specification) -> Iterator[NoMachine]:
    """A guest that is on and needs no machine."""
    yield NoMachine(wanted.name, public_ipv4="127.77.0.1" if wanted.wants_public_ip else None)


@contextmanager
def cloud(folder: Path, *, limit: int = 1 << 30) -> Iterator[Cloud]:
    """A cloud whose object storage is a folder: it has no keys and no signatures, which the image API never sees anyway.

    Its instances have no machines.
    """
    files = folder / "files"
    files.mkdir(exist_ok=True)
    (files / "good.qcow2").write_bytes(_empty_qcow2())
    exchanges: list[Exchange] = []
    faults = Faults()
    inner = Run(folder)
    with http_server(partial(_Files, directory=str(files))) as files_url:
        shelf = Shelf(folder / "images")
        shelf.end_orphans()
        importer = SandboxImporter(inner, shelf, faults, origin=files_url, limit=limit)
        rack = Rack(folder)
        rack.end_orphans()
        hypervisor = Hypervisor(inner, rack, shelf, faults, no_power)
        instances = InstanceApi(rack, shelf, hypervisor, faults, region="br-se1")
        keys = (Secret(API_KEY), Secret(TOKEN))
        api = ImageApi(shelf, importer, instances, faults, prefix="/br-se1/compute", keys=keys)
        with served(api, 0, exchanges.append) as port:
            yield Cloud(f"http://127.0.0.1:{port}/br-se1/compute", files_url, files, folder, faults, exchanges)
        hypervisor.close()
        inner.stop.set()
        importer.wait()


def qemu_img(*words: str | Path) -> None:
    subprocess.run(["qemu-img", *words], check=True, capture_output=True)


@cache
def _empty_qcow2() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        qemu_img("create", "-f", "qcow2", Path(folder) / "empty", "1M")
        return (Path(folder) / "empty").read_bytes()


def credentials(*, api_key: str | None = API_KEY, token: str | None = None) -> Credentials:
    return Credentials(
        key_id=Secret(KEY_ID),
        key_secret=Secret(KEY_SECRET),
        api_key=Secret(api_key) if api_key else None,
        access_token=Secret(token) if token else None,
    )


def box_credentials(box: Sandbox) -> Credentials:
    keys = box.credentials
    return Credentials(key_id=keys.key_id, key_secret=keys.key_secret, api_key=keys.api_key, region=keys.region)


def s3(box: Sandbox) -> "S3Client":
    """A plain S3 client of the sandbox, that is none of ours."""
    keys = box.credentials
    return boto3.client(
        "s3",
        endpoint_url=box.s3_url,
        region_name=keys.region,
        aws_access_key_id=keys.key_id.reveal(),
        aws_secret_access_key=keys.key_secret.reveal(),
    )


def settings(bucket: str | None = "target-of-the-tests", patience: Patience = IMPATIENT) -> Settings:
    launch = LaunchPatience(poll=0.02, deadline=10, lookup=0.3, grace=0.2)
    return Settings(bucket=bucket, part_bytes=MIN_PART, patience=patience, launch_patience=launch, pace=QUICK)


@contextmanager
def api(run: Run, where: Region, keys: Credentials | None = None, pace: Pace = QUICK) -> Iterator[Api]:
    opened = Api(run, where, keys or credentials(), pace)
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def importer(
    run: Run,
    where: Cloud,
    *,
    patience: Patience = IMPATIENT,
    begun: dict[str, str] | None = None,
    ledger: Notebook | None = None,
) -> Iterator[Importer]:
    with api(run, where.region) as opened:
        yield Importer(run, Images(opened), ledger or Notebook(), patience, begun or {})


def known_from(error: BaseException) -> str:
    """All that a traceback with local variables could show of an error, of those behind it, and of what they carry."""
    told = []
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        waiting += [one.__cause__, one.__context__]
        told += [repr(one), str(one), repr(getattr(one, "__dict__", {})), repr(getattr(one, "request", None))]
        for frame, _ in walk_tb(one.__traceback__):
            if "/tests/" not in frame.f_code.co_filename:
                told += [repr(value) for value in frame.f_locals.values()]
    return "\n".join(told)


@contextmanager
def http_server(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    """A server on a free port while the block lasts; yields its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Files(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def always(status: int, body: bytes, headers: dict[str, str] | None = None) -> Iterator[str]:
    """A server that answers every request so; yields its URL."""

    class Same(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(ConnectionError):
                self.wfile.write(body)

        do_POST = do_DELETE = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http_server(Same) as url:
        yield url


@contextmanager
def silent() -> Iterator[str]:
    """A server that takes connections and never answers; yields its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@dataclass(slots=True)
class Observer:
    """A TCP relay before object storage: it sees which parts are really sent, and can cut the line.

    `cut_after` is how many bytes of requests pass before the line is cut, once; `dead_after` before it is cut for good.
    `pause` slows each block of 64 KiB down, in seconds. `stop_at` is the part at whose beginning the line is cut and `stop` is called.
    `then` is called, once, when the part `when` begins, and the line is left alone. `refuse_from` is the part from which on each is answered 403 with the code `refusal`, in the server's place.
    """

    url: str
    parts: list[int] = field(default_factory=list)
    sent: int = 0
    cut_after: int | None = None
    dead_after: int | None = None
    pause: float = 0.0
    stop_at: int | None = None
    stop: Callable[[], None] = lambda: None
    when: int | None = None
    then: Callable[[], None] = lambda: None
    refuse_from: int | None = None
    refusal: str = "AccessDenied"
    cuts: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    _PART = re.compile(rb"PUT /[^ ]*[?&]partNumber=(\d+)[^ ]* HTTP/1\.1\r\n")

    def forget(self) -> None:
        self.parts, self.sent = [], 0

    def answer(self, block: bytes) -> bytes | None:
        """Return what is answered in the server's place; the client waits for it before it sends a part (Expect: 100-continue)."""
        match = self._PART.search(block)
        if match is None or self.refuse_from is None or int(match[1]) < self.refuse_from:
            return None
        body = f"<Error><Code>{self.refusal}</Code><Message>no more</Message></Error>"
        head = f"HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\nConnection: close"
        return f"{head}\r\n\r\n{body}".encode()

    @property
    def is_dead(self) -> bool:
        return self.dead_after is not None and self.sent >= self.dead_after

    def see(self, tail: bytes, block: bytes) -> tuple[bytes, bool]:
        """Take note of a block that a client sent; return what to keep of it for the next, and whether to cut the line now."""
        text = tail + block
        with self._lock:
            found = list(self._PART.finditer(text))
            self.parts += [int(m[1]) for m in found]
            self.sent += len(block)
            cut = self.is_dead or (self.cut_after is not None and self.sent >= self.cut_after)
            if self.when in self.parts:
                self.when = None
                self.then()
            if self.stop_at in self.parts:
                self.stop()
                cut = True
            if cut:
                self.cut_after = None
                self.cuts += 1
        rest = text[found[-1].end() :] if found else text
        return rest[-2000:], cut


@contextmanager
def observed(url: str) -> Iterator[Observer]:
    """Relay to the server at this URL while the block lasts. A signature holds for the relay's own address, which clients name."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    listener = socket.create_server(("127.0.0.1", 0))
    observer = Observer(f"http://127.0.0.1:{listener.getsockname()[1]}")
    open_sockets: list[socket.socket] = []

    def pump(source: socket.socket, sink: socket.socket, *, watched: bool) -> None:
        tail = b""
        with suppress(OSError):
            while block := source.recv(65536):
                if watched:
                    time.sleep(observer.pause)
                    if refusal := observer.answer(block):
                        source.sendall(refusal)
                        break
                    tail, cut = observer.see(tail, block)
                    if cut:
                        break
                sink.sendall(block)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()  # with what is unread in it, which resets the line

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                if observer.is_dead:
                    client.close()
                    continue
                server = socket.create_connection((host, int(port)))
                open_sockets.extend((client, server))
                for source, sink, watched in ((client, server, True), (server, client, False)):
                    threading.Thread(target=pump, args=(source, sink), kwargs={"watched": watched}, daemon=True).start()

    acceptor = threading.Thread(target=accept, daemon=True)
    acceptor.start()
    try:
        yield observer
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        acceptor.join()
        for one in open_sockets:
            one.close()


def uploaded(target: Target, path: Path, key: str, mark: str = "mark") -> ObjectRef:
    """The file as an object: a second call finds it."""
    content = path.read_bytes()
    there = target.stored(key, mark)
    if there is not None and there.bytes == len(content):
        return there
    upload = target.upload(key, mark)
    parts = [content[at : at + upload.part_bytes] for at in range(0, len(content), upload.part_bytes)]
    md5 = [hashlib.md5(part, usedforsecurity=False).hexdigest() for part in parts]
    for number, part in enumerate(parts, 1):
        upload.send(number, part, md5[number - 1])
    return upload.complete(md5, len(content))
