"""The dashboard's server: on loopback, for whoever has the token that stands in its URL.

Another site's page that a browser has open can send requests here, and may make a name of its own lead to 127.0.0.1: so the Host header must be
this server's own, and control asks for JSON, which a foreign page cannot send without a permission that is never given.
"""

import hmac
import json
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from migrate.batch import control
from migrate.batch.dashboard import page
from migrate.batch.dashboard.watch import Watch
from migrate.batch.store import Store
from migrate.errors import MigrateError, UsageError
from migrate.text import counted, shown

MOST_BODY = 1 << 20
HTML, JSON = "text/html; charset=utf-8", "application/json"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    kind: str
    content: bytes


@contextmanager
def serve(store: Store, *, port: int = 0, allow_control: bool = False) -> Iterator[str]:
    """Serve the batches while the block lasts; yield the page's URL, in which the token is. Raise UsageError where the port is taken."""
    try:
        server = _Server(("127.0.0.1", port), _Handler)
    except OSError as error:
        raise UsageError(f"port {port} of 127.0.0.1: {error.strerror}", hint="Name another one with --port.") from error
    server.watch, server.store, server.allows_control = Watch(store), store, allow_control
    server.token = secrets.token_urlsafe(24)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    with server:
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/{server.token}/"
        finally:
            server.shutdown()
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    watch: Watch
    store: Store
    token: str
    allows_control: bool


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "magalu-migrate"
    sys_version = ""
    timeout = 30

    def do_GET(self) -> None:
        self._answer(self._got)

    def do_POST(self) -> None:
        self._answer(self._posted)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the token stands in each request's line."""

    @cached_property
    def _words(self) -> list[str]:
        return [unquote(word) for word in urlsplit(self.path).path.split("/")[1:]]

    def _answer(self, made: Callable[[list[str]], Answer]) -> None:
        try:
            answer = self._checked() or made(self._words[1:])
        except UsageError as error:
            answer = _said(404, error.message)
        except MigrateError as error:
            answer = _said(500, error.message)
        self.send_response(answer.status)
        for name, value in (
            ("Content-Type", answer.kind),
            ("Content-Length", str(len(answer.content))),
            ("Content-Security-Policy", page.policy_of_pages()),
            ("Referrer-Policy", "no-referrer"),
            ("X-Content-Type-Options", "nosniff"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Cache-Control", "no-store"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.content)

    def _checked(self) -> Answer | None:
        port = self.server.server_port
        if self.headers.get("Host") not in (f"127.0.0.1:{port}", f"localhost:{port}"):
            return _said(403, "this server answers to its own name only")
        if not hmac.compare_digest(self._words[0].encode(errors="replace"), self.server.token.encode()):
            return _said(403, "the address must be the one that `magalu-migrate dashboard` printed")
        return None

    def _got(self, words: list[str]) -> Answer:
        watch, allows = self.server.watch, self.server.allows_control
        match words:
            case [""]:
                return _page(page.batches(watch.names()))
            case ["batch", name]:
                return _page(page.batch(watch.overview(name), control=allows))
            case ["batch", name, "now"]:
                return _json(page.parts(watch.overview(name)))
            case ["batch", name, "vm", id_]:
                return _page(page.vm(name, *watch.vm(name, id_), control=allows))
            case ["batch", name, "vm", id_, "now"]:
                return _json(page.vm_parts(*watch.vm(name, id_)))
        return _said(404, "there is no such page")

    def _posted(self, words: list[str]) -> Answer:
        if not self.server.allows_control:
            return _said(403, "this dashboard only shows: start it with --allow-control")
        if self.headers.get("Content-Type") != JSON:
            return _said(415, "JSON was wanted")
        vms = _vms(self.rfile.read(min(int(self.headers.get("Content-Length") or 0), MOST_BODY)))
        if vms is None:
            return _said(400, 'an object like {"vms": ["erp01"]} was wanted')
        match words:
            case ["batch", name, "do", deed]:
                return _said(200, _done(self.server.store, name, deed, vms))
        return _said(404, "there is no such page")


def _done(store: Store, batch: str, deed: str, vms: tuple[str, ...]) -> str:
    match deed:
        case "pause":
            return f"{counted(control.pause(store, batch, vms), 'VM')} told to pause"
        case "resume":
            return f"{counted(control.resume(store, batch, vms), 'VM')} told to go on"
        case "retry":
            return f"{counted(control.retry(store, batch, vms), 'VM')} told to try again"
        case "cancel":
            at_once, later = control.cancel(store, batch, vms)
            return f"{counted(at_once + later, 'VM')} told to stop for good"
    raise UsageError(f"there is nothing called {deed} to be done")


def _vms(body: bytes) -> tuple[str, ...] | None:
    try:
        said = json.loads(body)
    except ValueError:
        return None
    vms = said.get("vms") if isinstance(said, dict) else None
    return tuple(vms) if isinstance(vms, list) and all(isinstance(vm, str) for vm in vms) else None


def _page(text: str) -> Answer:
    return Answer(200, HTML, text.encode())


def _json(value: object) -> Answer:
    return Answer(200, JSON, json.dumps(value).encode())


def _said(status: int, text: str) -> Answer:
    return Answer(status, JSON, json.dumps({"said": shown(text)}).encode())
