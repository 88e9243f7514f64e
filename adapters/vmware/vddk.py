"""Disks read through VMware's own library, the VDDK, by nbdkit's plugin for it: quick where a datastore gives no files.

VMware gives the library to its customers only, and Debian's nbdkit comes without the plugin: this is written from nbdkit-vddk-plugin(1) and was never run
against either.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from adapters.vmware import trust
from adapters.vmware.credentials import Credentials
from adapters.vmware.session import Server
from adapters.vmware.token import Token, TokenDisk
from migrate.blocks import answers
from migrate.errors import ToolFailed, UsageError
from migrate.nbd import socket_uri
from migrate.run import Run

READY_S = 120.0


def check(run: Run, libdir: Path | None) -> Path:
    """Return the library's folder. Raise UsageError where it was not named, or nbdkit has no plugin for it."""
    if libdir is None:
        raise UsageError("--transport vddk needs VMware's library", hint="Name its folder: --vddk-libdir FOLDER")
    try:
        run.tool(["nbdkit", "vddk", "--dump-plugin"], timeout=60)
    except ToolFailed as failed:
        raise UsageError(
            "this nbdkit has no plugin for the VDDK", hint="Install nbdkit-vddk-plugin, or use --transport nfc."
        ) from failed
    return libdir


@contextmanager
def served(
    run: Run, libdir: Path, server: Server, credentials: Credentials, token: Token, disk: TokenDisk
) -> Iterator[str]:
    """Serve a disk of the snapshot read-only while the block lasts; yield the URI. The password goes through a pipe (password=-FD)."""
    with TemporaryDirectory(prefix="vddk-", dir=run.work) as folder:
        path = Path(folder) / "s"
        with _readable(credentials.password.reveal().encode()) as descriptor:
            words: list[str | Path] = ["nbdkit", "--foreground", "--readonly", "--unix", path, "vddk"]
            words += [f"libdir={libdir}", f"server={server.host}", f"port={server.port}", f"user={credentials.user}"]
            words += [f"password=-{descriptor}", f"thumbprint={_sha1(server)}", f"vm=moref={token.vm}"]
            words += [f"snapshot={token.snapshot}", "transports=nbdssl", f"file={disk.file}"]
            uri = socket_uri(path)
            with run.daemon(
                words, ready=lambda: answers(uri), timeout=READY_S, log=Path(folder) / "log", pass_fds=(descriptor,)
            ):
                yield uri


def _sha1(server: Server) -> str:
    """The library knows certificates by nothing else. It is the server's whose certificate we have believed."""
    der = trust.certificate(server.host, server.port)
    return hashlib.sha1(der, usedforsecurity=False).hexdigest()


@contextmanager
def _readable(content: bytes) -> Iterator[int]:
    reading, writing = os.pipe()
    try:
        os.write(writing, content + b"\n")
    finally:
        os.close(writing)
    try:
        yield reading
    finally:
        os.close(reading)
