"""What goes wrong while a disk flows: each time a plain error, nothing half-made that could be imported, and a next run that goes on."""

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from adapters.files import FileSource
from adapters.sandbox import Sandbox
from migrate.errors import MigrateError, SourceError, TargetError
from migrate.guests.appliance import LEAST_FREE, open_appliance
from migrate.nbd import counted, counts_left, served
from migrate.run import Run
from migrate.source import Source, VmRef, check_unchanged
from migrate.transfer import Place, Transferred, transfer
from tests.cloud import observed, s3
from tests.guest_disks import sh
from tests.test_transfer import BUCKET, MIB, same, stored, target

pytestmark = pytest.mark.slow


@pytest.fixture
def disk(run: Run) -> Path:
    """33 MiB that do not compress."""
    path = run.work / "disk.raw"
    path.write_bytes(random.Random(2).randbytes(33 * MIB))  # noqa: S311
    return path


@pytest.fixture
def small(run: Run) -> Iterator[Path]:
    """A work folder on a file system of 64 MiB."""
    folder = run.work / "small"
    folder.mkdir()
    sh("mount", "-t", "tmpfs", "-o", "size=64M", "tmpfs", folder)
    try:
        yield folder
    finally:
        sh("umount", folder)


def filled(folder: Path) -> None:
    """The file system of the folder has no room any more."""
    path = folder / "somebody-elses"
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(MIB)):
                pass
        except OSError:
            pass


def sent(run: Run, box: Sandbox, disk: Path, place: Place, url: str | None = None) -> Transferred:
    with served(run, disk, "raw") as uri, target(run, box, url) as opened:
        return transfer(run, uri, opened, place, "transfer")


def whole(run: Run, box: Sandbox, disk: Path, key: str) -> None:
    """The object is the disk."""
    (run.work / "back.qcow2").write_bytes(stored(box, key))
    same(disk, run.work / "back.qcow2")


def nothing_to_import(box: Sandbox, key: str) -> None:
    assert "Contents" not in s3(box).list_objects_v2(Bucket=BUCKET, Prefix=key)


# The work disk is full


def test_a_work_disk_that_fills_up_while_parts_flow(run: Run, box: Sandbox, disk: Path, small: Path) -> None:
    place = Place("full-disk.qcow2", small)
    with observed(box.s3_url) as seen:
        seen.when, seen.then = 2, partial(filled, small)
        with pytest.raises(
            MigrateError, match=r"small cannot be written: No space left on device .*run the same command"
        ):
            sent(run, box, disk, place, seen.url)
    nothing_to_import(box, place.key)
    (small / "somebody-elses").unlink()
    with observed(box.s3_url) as seen:
        sent(run, box, disk, place, seen.url)
        assert 2 not in seen.parts
    whole(run, box, disk, place.key)


def test_a_work_disk_that_fills_up_while_the_overlay_grows(run: Run, small: Path) -> None:
    """QEMU would stop the appliance and wait for room, for ever."""
    overlay = small / "overlay.qcow2"
    sh("qemu-img", "create", "-q", "-f", "qcow2", overlay, "256M")
    (run.work / "noise").write_bytes(os.urandom(4 * MIB))
    with (
        pytest.raises(MigrateError, match=r"small is full: the repairs grow there, and [\d.]+ MiB are free.*--work"),
        open_appliance(run, [overlay], kvm=False) as appliance,
    ):
        for at in range(0, 64 * MIB, 4 * MIB):
            appliance.call.upload_offset(str(run.work / "noise"), "/dev/sda", at)
            appliance.call.sync()
    assert os.statvfs(small).f_bavail * os.statvfs(small).f_frsize > LEAST_FREE // 4, "it was seen before it was full"


# The source is changed while it is read


def _longer(path: Path) -> None:
    with path.open("ab") as file:
        file.write(bytes(MIB))


def _shorter(path: Path) -> None:
    os.truncate(path, 20 * MIB)


def _written(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(30 * MIB)
        file.write(b"somebody still works")


def _replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.replace(path)


@pytest.mark.parametrize("change", [_longer, _shorter, _written, _replaced])
def test_a_file_that_changes_while_it_is_read_is_never_an_object(
    run: Run, box: Sandbox, disk: Path, change: Callable[[Path], None]
) -> None:
    place = Place(f"changed{change.__name__}.qcow2", run.work)
    source = FileSource(run, disk, "raw")
    with observed(box.s3_url) as seen, pytest.raises(SourceError, match=r"disk\.raw was changed .* (began|read)"):
        seen.when, seen.then = 3, partial(change, disk)
        _moved(run, box, source, disk, place, seen.url)
    nothing_to_import(box, place.key)
    place.forget()  # as the pipeline does for another token
    _moved(run, box, source, disk, place)
    whole(run, box, disk, place.key)


def _moved(run: Run, box: Sandbox, source: Source, disk: Path, place: Place, url: str | None = None) -> None:
    token = source.freeze(source.describe(VmRef(str(disk), "vm")), "job")
    with source.frozen(token) as disks, disks[0].nbd() as uri, target(run, box, url) as opened:
        transfer(run, uri, opened, place, "transfer", still=partial(check_unchanged, source, token))


# Object storage


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("AccessDenied", "object-storage scopes"),
        ("InvalidAccessKeyId", "Check MGC_OBJ_KEY_ID"),
        ("ExpiredToken", "run the same command again"),
    ],
)
def test_storage_that_refuses_half_way(run: Run, box: Sandbox, disk: Path, code: str, hint: str) -> None:
    place = Place(f"{code}.qcow2", run.work)
    with observed(box.s3_url) as seen:
        seen.refuse_from, seen.refusal = 4, code
        with pytest.raises(TargetError, match=rf"upload part \d of {BUCKET}/{place.key}.*403 {code}.*{hint}"):
            sent(run, box, disk, place, seen.url)
    nothing_to_import(box, place.key)
    with observed(box.s3_url) as seen:
        sent(run, box, disk, place, seen.url)
        assert not {2, 3} & set(seen.parts)
    whole(run, box, disk, place.key)


def test_a_bucket_that_is_deleted_half_way(run: Run, box: Sandbox, disk: Path) -> None:
    place = Place("no-bucket.qcow2", run.work)
    client = s3(box)

    def deleted() -> None:
        for upload in client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []):
            client.abort_multipart_upload(Bucket=BUCKET, Key=upload["Key"], UploadId=upload["UploadId"])
        for one in client.list_objects_v2(Bucket=BUCKET).get("Contents", []):
            client.delete_object(Bucket=BUCKET, Key=one["Key"])
        client.delete_bucket(Bucket=BUCKET)

    with observed(box.s3_url) as seen:
        seen.when, seen.then = 4, deleted
        with pytest.raises(TargetError, match=rf"upload part \d of {BUCKET}/{place.key}: object storage answered 404"):
            sent(run, box, disk, place, seen.url)
    # SeaweedFS makes a bucket anew for a part that was on its way; what matters is that nothing is there to be imported.
    if BUCKET in {one["Name"] for one in client.list_buckets()["Buckets"]}:
        nothing_to_import(box, place.key)
    sent(run, box, disk, place)
    whole(run, box, disk, place.key)


# Killed

CHILD = """
import sys
from pathlib import Path
from adapters.magalu import Credentials, magalu_target, region
from adapters.magalu.target import Settings
from migrate.run import Run
from migrate.secret import Secret
from migrate.transfer import Place, transfer
from tests.cloud import Notebook
folder, uri, api, url, key_id, key_secret, where = sys.argv[1:]
keys = Credentials(key_id=Secret(key_id), key_secret=Secret(key_secret), api_key=Secret("x"), region=where)
run = Run(Path(folder))
with magalu_target(run, region(where, api_url=api, s3_url=url), keys, Notebook(), Settings(bucket="transfers-of-the-tests")) as opened:
    transfer(run, uri, opened, Place("killed.qcow2", run.work), "transfer")
"""
PART = 32 * MIB
READER = """
import os, signal, sys
from pathlib import Path
from migrate.blocks import Disk
from migrate.nbd import counted
from migrate.run import Run
folder, uri = sys.argv[1:]
with counted(Run(Path(folder)), uri, Path(folder)) as line, Disk(line.uri) as disk:
    disk.read(0, 8 << 20)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_after_kills_at_random_moments_at_most_two_parts_are_read_and_sent_twice(run: Run, box: Sandbox) -> None:
    disk = run.work / "large.raw"
    moments = random.Random(3)  # noqa: S311
    disk.write_bytes(moments.randbytes(224 * MIB))
    kills = read = 0
    with served(run, disk, "raw") as uri, observed(box.s3_url) as seen:
        ended: int | None = None
        while ended != 0:
            kill_at = seen.sent + moments.randrange(50, 130) * MIB
            with counted(run, uri) as line, _child(run.work, line.uri, box, seen.url) as child:
                while (ended := child.poll()) is None and seen.sent < kill_at:
                    time.sleep(0.005)
                if ended is None:
                    child.kill()
                    kills += 1
                assert ended in (None, 0)
            read += line.bytes_read
    assert kills >= 2
    assert read - disk.stat().st_size <= kills * 2 * PART
    assert seen.sent - len(stored(box, "killed.qcow2")) <= kills * 2 * PART + MIB
    whole(run, box, disk, "killed.qcow2")


def test_what_a_killed_run_has_read_is_counted_by_the_next(run: Run, disk: Path) -> None:
    with served(run, disk, "raw") as uri:
        killed = subprocess.run([sys.executable, "-c", READER, run.work, uri], check=False)
        assert killed.returncode == -9
        deadline = time.monotonic() + 30
        while not any(stats.stat().st_size for stats in run.work.glob("*.reads")) and time.monotonic() < deadline:
            time.sleep(0.05)  # nbdkit writes it down when it sees that we are gone
    assert counts_left(run.work) == 8 * MIB
    assert counts_left(run.work) == 0


@contextmanager
def _child(folder: Path, uri: str, box: Sandbox, url: str) -> Iterator[subprocess.Popen[bytes]]:
    keys = box.credentials
    words = [folder, uri, box.api_url, url, keys.key_id.reveal(), keys.key_secret.reveal(), keys.region]
    with subprocess.Popen([sys.executable, "-c", CHILD, *map(str, words)], cwd=Path(__file__).parents[1]) as child:
        yield child
