"""A real, signed Debian archive on loopback, for tests of what is fetched from one."""

import functools
import http.server
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Archive:
    """`uri` is what sources.list names; `key` its armored public key."""

    uri: str
    key: str
    folder: Path


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
def archive(folder: Path, *, signed: bool = True) -> Iterator[Archive]:
    """Index and sign the .deb files in a folder and serve it on loopback while the block lasts."""
    packages = _output(["apt-ftparchive", "packages", "."], folder)
    (folder / "Packages").write_bytes(packages)
    (folder / "Release").write_bytes(_output(["apt-ftparchive", "release", "."], folder))
    key = _sign(folder) if signed else ""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Archive(f"http://127.0.0.1:{server.server_port}", key, folder)
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


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass
