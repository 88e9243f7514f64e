"""`magalu-migrate convert` as a user runs it."""

import subprocess
from pathlib import Path

from tests import file_samples as samples
from tests.program import asked


def test_a_disk_becomes_a_qcow2_and_its_hash_is_told(tmp_path: Path) -> None:
    content = b"disk" * (1 << 20)
    disk = samples.converted(tmp_path, "vmdk", "disk.vmdk", content=content)
    image = tmp_path / "disk.qcow2"
    said = [asked("convert", disk, image, "--output", "json", "--force", *more) for more in ([], ["--engine=qemu-img"])]
    ours, theirs = (answer.json for answer in said)
    assert (ours["image"], ours["virtual_bytes"]) == (str(image), len(content))
    assert len(ours["disk_sha256"]) == 64
    assert theirs["disk_sha256"] is None
    subprocess.run(["qemu-img", "compare", "-q", "-f", "vmdk", "-F", "qcow2", disk, image], check=True)


def test_an_image_that_is_there_is_not_replaced_unasked(tmp_path: Path) -> None:
    disk, image = samples.raw(tmp_path), tmp_path / "mine.qcow2"
    image.write_bytes(b"mine")
    answer = asked("convert", disk, image, "--format=raw")
    assert answer.code == 2
    assert "mine.qcow2 is there already" in answer.err
    assert image.read_bytes() == b"mine"


def test_a_folder_that_cannot_be_written_is_a_plain_error(tmp_path: Path) -> None:
    answer = asked("convert", samples.raw(tmp_path), tmp_path / "no" / "such.qcow2", "--format=raw")
    assert answer.code == 1
    assert "such.qcow2 cannot be written: No such file or directory" in answer.err
    assert "Traceback" not in answer.err
