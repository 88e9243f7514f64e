import os
import stat
import sys
from pathlib import Path

import httpx
import pytest

from adapters.magalu import find_credentials, magalu_target, region
from adapters.magalu.credentials import Given
from adapters.sandbox import Sandbox, sandbox
from migrate.errors import MigrateError, TargetError, UsageError
from migrate.run import Run
from migrate.source import Firmware
from migrate.target import InstanceOrder, LaunchOptions, Requirements
from tests.cloud import SHA256, Notebook, box_credentials, qemu_img, s3, settings, uploaded
from tests.launches import KEY

pytestmark = pytest.mark.slow

NEEDS = Requirements(vcpu=1, ram_gb=1, disk_gb=1)


def weed(box: Sandbox) -> int:
    """The process that serves this sandbox's objects."""
    (found,) = (
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdecimal() and f"-dir={box.folder}/s3/data".encode() in _command_line(entry).split(b"\0")
    )
    return found


def _command_line(entry: Path) -> bytes:
    try:
        return (entry / "cmdline").read_bytes()
    except OSError:
        return b""


def listeners(pid: int) -> set[str]:
    """The addresses that a process listens on, as the kernel tells them."""
    sockets = {str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in sockets:
                found.add(words[1].partition(":")[0])
    return found


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_listens_on_this_machine_only(box: Sandbox) -> None:
    assert listeners(weed(box)) == {"0100007F"}
    assert box.api_url.startswith("http://127.0.0.1:")


def test_its_keys_are_its_owners_only_and_are_in_no_command_line(box: Sandbox) -> None:
    assert mode(box.folder) == 0o700
    for name in ("sandbox.json", "environment", "s3/s3.json"):
        assert mode(box.folder / name) == 0o600
    command = _command_line(Path(f"/proc/{weed(box)}")).decode()
    assert not any(secret.reveal() in command for secret in (box.credentials.key_id, box.credentials.key_secret))


def test_its_inner_doors_are_closed_to_who_has_no_keys(run: Run, box: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"QFI\xfb of somebody")
    where = region("br-se1", api_url=box.api_url, s3_url=box.s3_url)
    with magalu_target(run, where, box_credentials(box), Notebook(), settings("inner-doors")) as opened:
        uploaded(opened, tmp_path / "file", "k")
    words = _command_line(Path(f"/proc/{weed(box)}")).decode().split("\0")
    filer = next(word for word in words if word.startswith("-filer.port=")).partition("=")[2]
    assert httpx.get(f"http://127.0.0.1:{filer}/buckets/inner-doors/k", trust_env=False).status_code == 401
    assert httpx.get(f"{box.s3_url}/inner-doors/k", trust_env=False).status_code == 403


def test_nothing_is_left_of_a_sandbox_without_a_folder(run: Run) -> None:
    with sandbox(run) as box:
        pid = weed(box)
        grpc = [
            word.partition("=")[2]
            for word in _command_line(Path(f"/proc/{pid}")).decode().split("\0")
            if ".grpc=" in word
        ]
        assert len(grpc) == 4
    assert not Path(f"/proc/{pid}").exists()
    assert not box.folder.exists()
    assert [path for port in grpc for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock")] == []
    with pytest.raises(httpx.ConnectError):
        httpx.get(box.api_url, trust_env=False)


def test_a_folder_keeps_images_objects_parts_and_keys(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "box"
    qemu_img("create", "-f", "qcow2", tmp_path / "image.qcow2", "1M")
    with sandbox(run, folder) as box:
        first = box
        where = region("br-se1", api_url=box.api_url, s3_url=box.s3_url)
        with magalu_target(run, where, box_credentials(box), Notebook(), settings("kept")) as opened:
            stored = uploaded(opened, tmp_path / "image.qcow2", "k")
            image = opened.import_image(
                stored, name="kept", disk_sha256=SHA256, firmware=Firmware.BIOS, requirements=NEEDS, description="d"
            )
        s3(box).create_multipart_upload(Bucket="kept", Key="unfinished")
    assert first.image_file(image.id).read_bytes() == (tmp_path / "image.qcow2").read_bytes()
    with sandbox(run, folder) as box:
        assert box.credentials == first.credentials
        assert s3(box).get_object(Bucket="kept", Key="k")["Body"].read() == (tmp_path / "image.qcow2").read_bytes()
        assert [u["Key"] for u in s3(box).list_multipart_uploads(Bucket="kept")["Uploads"]] == ["unfinished"]
        where = region("br-se1", api_url=box.api_url, s3_url=box.s3_url)
        with magalu_target(run, where, box_credentials(box), Notebook(), settings("kept")) as opened:
            again = opened.import_image(
                stored, name="kept", disk_sha256=SHA256, firmware=Firmware.BIOS, requirements=NEEDS, description="d"
            )
        assert again == image


SECOND = """
import sys
from pathlib import Path
from adapters.sandbox import sandbox
from migrate.run import Run
with sandbox(Run(Path(sys.argv[1])), Path(sys.argv[2])) as box:
    print(box.api_url, box.s3_url, box.is_own, box.credentials.key_secret.reveal() == sys.stdin.read())
"""


def test_a_second_process_uses_the_sandbox_that_runs_and_leaves_it_running(run: Run, tmp_path: Path) -> None:
    with sandbox(run, tmp_path / "box") as box:
        said = run.tool(
            [sys.executable, "-c", SECOND, tmp_path, tmp_path / "box"],
            stdin=box.credentials.key_secret.reveal().encode(),
            cwd=Path(__file__).parent.parent,
        )
        assert said.text.split() == [box.api_url, box.s3_url, "False", "True"]
        assert box.is_own
        assert httpx.get(box.api_url, trust_env=False).status_code == 401
        assert s3(box).create_bucket(Bucket="still-there")


def test_its_environment_is_all_that_another_terminal_needs(run: Run, box: Sandbox, tmp_path: Path) -> None:
    said = run.tool(["sh", "-c", f". {box.environment_file}; env -0"], env={"PATH": os.environ["PATH"]}).text
    environ = dict(line.split("=", 1) for line in said.split("\0") if line)
    keys = find_credentials(Given(), environ | {"HOME": str(tmp_path)}, run)
    where = region(keys.region, api_url=environ["MAGALU_MIGRATE_API_URL"], s3_url=environ["MAGALU_MIGRATE_S3_URL"])
    with magalu_target(run, where, keys, Notebook(), settings()) as opened:
        assert opened.refuses(name="env01", size_bytes=None, firmware=Firmware.BIOS) == []


def test_there_is_no_file_of_an_image_that_is_not_there(box: Sandbox) -> None:
    with pytest.raises(MigrateError, match="no active image 3c4f"):
        box.image_file("3c4f")


def test_a_file_that_is_no_public_key_or_whose_name_is_taken_is_refused(box: Sandbox, tmp_path: Path) -> None:
    for name, text in (("ops.pub", KEY), ("ops.pub", KEY), ("none.pub", "-----BEGIN OPENSSH PRIVATE KEY-----")):
        (tmp_path / name).write_text(text)
        if text == KEY:
            box.put_key(tmp_path / name)
        else:
            with pytest.raises(UsageError, match="the sandbox answers 400"):
                box.put_key(tmp_path / name)
    (tmp_path / "ops.pub").write_text(KEY.replace("AAAA", "AAAB", 1))
    with pytest.raises(UsageError, match="another key has this name"):
        box.put_key(tmp_path / "ops.pub")
    with pytest.raises(UsageError, match="FileNotFoundError"):
        box.put_key(tmp_path / "missing.pub")


def test_a_disk_that_is_too_large_for_the_machine_type_is_told_as_the_instance_s_failure(
    run: Run, box: Sandbox, tmp_path: Path
) -> None:
    qemu_img("create", "-f", "qcow2", tmp_path / "image.qcow2", "11G")
    (tmp_path / "large.pub").write_text(KEY)
    box.put_key(tmp_path / "large.pub")
    where = region("br-se1", api_url=box.api_url, s3_url=box.s3_url)
    order = InstanceOrder("large", "large", LaunchOptions("large", "BV1-1-10"), NEEDS, 10 << 30)
    with magalu_target(run, where, box_credentials(box), Notebook(), settings("large")) as opened:
        stored = uploaded(opened, tmp_path / "image.qcow2", "k")
        image = opened.import_image(
            stored, name="large", disk_sha256=SHA256, firmware=Firmware.BIOS, requirements=NEEDS, description="d"
        )
        with pytest.raises(TargetError, match="has 11811160064 bytes, and the machine type's 10 GiB") as caught:
            opened.launcher.launch(order, image.id)
    assert "ended as error, creating_error" in str(caught.value)
