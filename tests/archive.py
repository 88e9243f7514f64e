"""A real, signed Debian archive on loopback, for tests of what is fetched from one."""

import functools
import http.server
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Archive:
    """`uri` is what sources.list names; `key` its armored public key; `requests` what was asked for so far."""

    uri: str
    key: str
    folder: Path
    requests: list[str] = field(default_factory=list)


def build_deb(
    folder: Path, name: str, *, version: str = "1.0", depends: str = "", scripts: Mapping[str, str] | None = None
) -> Path:
    """Make NAME_VERSION_all.deb that holds /usr/share/NAME/hello, with these maintainer scripts."""
    tree = folder / f"{name}.tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "usr/share" / name).mkdir(parents=True)
    (tree / "usr/share" / name / "hello").write_text(name)
    control = f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: Test <test@invalid>\nDescription: {name}\n"
    (tree / "DEBIAN/control").write_text(control + (f"Depends: {depends}\n" if depends else ""))
    for script, text in (scripts or {}).items():
        path = tree / "DEBIAN" / script
        path.write_text(text)
        path.chmod(0o755)
    deb = folder / f"{name}_{version}_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, deb], check=True, capture_output=True)
    shutil.rmtree(tree)
    return deb


@contextmanager
def archive(folder: Path, *, signed: bool = True, release: Mapping[str, str] | None = None) -> Iterator[Archive]:
    """Index and sign the .deb files in a folder and serve it on loopback while the block lasts. `release` is what its Release says more."""
    packages = _output(["apt-ftparchive", "packages", "."], folder)
    (folder / "Packages").write_bytes(packages)
    said = [
        word for name, text in (release or {}).items() for word in ("-o", f"APT::FTPArchive::Release::{name}={text}")
    ]
    (folder / "Release").write_bytes(_output(["apt-ftparchive", *said, "release", "."], folder))
    key = _sign(folder) if signed else ""
    requests: list[str] = []
    handler = functools.partial(_Noted, requests, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Archive(f"http://127.0.0.1:{server.server_port}", key, folder, requests)
        finally:
            server.shutdown()
            thread.join()


def _sign(folder: Path) -> str:
    with tempfile.TemporaryDirectory(prefix="mm-") as home:
        gpg = ["gpg", "--homedir", home, "--batch", "--passphrase", "", "--quiet"]
        subprocess.run([*gpg, "--quick-gen-key", "test", "ed25519", "sign", "never"], check=True, capture_output=True)
        subprocess.run(
            [*gpg, "--clearsign", "--output", folder / "InRelease", folder / "Release"], check=True, capture_output=True
        )
        key = _output([*gpg, "--armor", "--export"], folder).decode()
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=True, capture_output=True)
        return key


def _output(argv: list[str], folder: Path) -> bytes:
    return subprocess.run(argv, cwd=folder, check=True, capture_output=True).stdout


class _Noted(http.server.SimpleHTTPRequestHandler):
    """It notes what is asked for, and prints nothing."""

    def __init__(self, requests: list[str], *args: Any, **named: Any) -> None:
        self._requests = requests
        super().__init__(*args, **named)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        self._requests.append(self.path)

    def log_message(self, format: str, *args: object) -> None:
        pass
