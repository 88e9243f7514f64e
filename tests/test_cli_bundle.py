"""`bundle make`, `bundle check`, and the options that say where packages come from, as a user calls them."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrate.wiring.request import VmRequest
from tests.archive import Archive, archive, build_deb
from tests.program import PROGRAM, Answer, asked

NAMES = ("openssh-server", "cloud-init", "sudo", "cloud-guest-utils", "isc-dhcp-client")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    folder = tmp_path_factory.mktemp("archive")
    for name in NAMES:
        build_deb(folder, name)
    with archive(folder, release={"Origin": "Debian", "Version": "12.7"}) as found:
        yield found


def line(served: Archive, folder: Path) -> str:
    key = folder / "archive.asc"
    key.write_text(served.key)
    return f"deb [signed-by={key}] {served.uri.replace('//', '//me:hunter2@')} ./"


def made(served: Archive, tmp_path: Path) -> Answer:
    return asked(
        "bundle", "make", "--for", "debian:12", "--repo", line(served, tmp_path), tmp_path / "d12", "--output", "json"
    )


def test_a_bundle_is_made_and_checked(served: Archive, tmp_path: Path) -> None:
    answer = made(served, tmp_path)
    assert answer.code == 0, answer
    assert sorted(answer.json["asked"]) == sorted(NAMES)
    assert "hunter2" not in answer.out + answer.err + (tmp_path / "d12/manifest.json").read_text()
    checked = asked("bundle", "check", tmp_path / "d12")
    assert checked.code == 0
    lines = checked.out.splitlines()
    assert lines[0].startswith(f"{tmp_path / 'd12'}: debian 12 (amd64), 5 packages, ")
    assert lines[1].startswith(f"  from {served.uri} ./, signed by ")
    assert lines[-2:] == [f"SHA-256 of its manifest: {answer.json['sha256']}", "It is sound."]


def test_a_changed_bundle_is_told_file_by_file_and_ends_with_an_error(served: Archive, tmp_path: Path) -> None:
    made(served, tmp_path)
    (tmp_path / "d12/sudo_1.0_all.deb").write_bytes(b"!<arch>\n")
    (tmp_path / "d12/cloud-init_1.0_all.deb").unlink()
    answer = asked("bundle", "check", tmp_path / "d12", "--output", "json")
    assert answer.code == 1
    assert answer.json["broken"] == ["cloud-init_1.0_all.deb is missing", "sudo_1.0_all.deb was changed"]
    assert "It is not what its manifest says." in asked("bundle", "check", tmp_path / "d12").out


def test_a_folder_that_is_no_bundle_is_said_to_be_none(tmp_path: Path) -> None:
    answer = asked("bundle", "check", tmp_path)
    assert (answer.code, answer.out) == (1, "")
    assert f"{tmp_path} is no bundle" in answer.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--for", "debian"], "is not ID:VERSION"),
        (["--for", "debian:11"], "so its own repositories make no bundle for debian 11"),
        (["--for", "rocky:9"], "is made from repositories of RPM packages"),
        (["--for", "debian:12", "--repo", "deb cdrom:[Debian] bookworm main"], "http and https only"),
    ],
)
def test_what_cannot_be_made_is_a_mistake_in_the_call(words: list[str], said: str, tmp_path: Path) -> None:
    answer = asked("bundle", "make", *words, tmp_path / "b")
    assert answer.code == 2
    assert said in " ".join(answer.err.split())
    assert not (tmp_path / "b").exists()


def test_without_room_for_it_nothing_is_left_and_the_reason_is_said(served: Archive, tmp_path: Path) -> None:
    small = ["bwrap", "--dev-bind", "/", "/", "--size", "16384", "--tmpfs", "/mnt", "--"]
    command = f"{PROGRAM} bundle make --for debian:12 --repo '{line(served, tmp_path)}' /mnt/d12; echo $?; ls -A /mnt"
    said = subprocess.run([*small, "sh", "-c", command], capture_output=True, text=True, check=True)
    assert said.stdout == "1\n"
    assert "No space left on device" in said.stderr and "Traceback" not in said.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--repo", "nowhere"], 2, "neither a line of sources.list(5), nor an http(s) address, nor a folder"),
        (["--repo", "x" * 5000], 2, "neither a line of sources.list(5), nor an http(s) address, nor a folder"),
        (["--bundle", "."], 1, "is no bundle"),
        (["--bundle", "/not/there"], 2, "does not exist"),
    ],
)
@pytest.mark.parametrize("command", ["preview", "vm"])
def test_what_is_offered_is_looked_at_before_the_disk(
    command: str, words: list[str], code: int, said: str, tmp_path: Path
) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(1 << 20))
    answer = asked(command, disk, *words, "--work", tmp_path / "work", *(["--sandbox"] if command == "vm" else []))
    assert answer.code == code
    assert said in " ".join(answer.err.split())
    assert not list((tmp_path / "work").glob("jobs/*"))


def test_what_is_offered_is_a_part_of_the_job_and_a_password_is_not() -> None:
    repo = "deb http://me:hunter2@127.0.0.1/debian bookworm main"
    asked_for = VmRequest(address="/disk", repo=(repo,), bundle=(Path("/b"),), offline=True)
    request = asked_for.key({})
    assert request["repo"] == ["deb http://127.0.0.1/debian bookworm main"]
    assert (request["bundle"], request["offline"]) == (["/b"], True)
    assert asked_for.words == ["--repo=deb http://…@127.0.0.1/debian bookworm main", "--bundle=/b", "--offline"]
