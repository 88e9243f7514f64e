"""`list`, `inspect`, `preview` and `clean` on aws:// addresses, as a user calls them."""

import random
from pathlib import Path

import pytest

from fixtures.emulators.aws import GIB, REGION, SECRET_KEY, SESSION_TOKEN, Account
from tests.live_vms import words_of_all_processes
from tests.program import asked


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        file.truncate(GIB)
        file.seek(1 << 20)
        file.write(random.Random(1).randbytes(1 << 20))  # noqa: S311
    return path


def test_a_file_is_not_listed_and_the_way_to_look_at_it_is_said(tmp_path: Path) -> None:
    answer = asked("list", tmp_path / "disk.raw")
    assert answer.code == 2
    assert "is no address of a cloud" in answer.err and "magalu-migrate inspect" in answer.err


def test_a_transport_of_another_cloud_is_refused() -> None:
    answer = asked("list", f"aws://{REGION}/*", "--transport", "nfc")
    assert answer.code == 2
    assert "--transport nfc is not AWS's" in answer.err


@pytest.mark.slow
def test_list_shows_what_there_is_as_a_table_and_as_json(aws_account: Account, disk: Path) -> None:
    id_ = aws_account.instance("listed-01", disk, disk)
    aws_account.alter(id_, platform_details="Linux/UNIX")
    table = asked("list", f"aws://{REGION}/listed*", env=aws_account.variables)
    assert table.code == 0, table.err
    *_, row, count = (line.rstrip() for line in table.out.splitlines() if line.strip())
    cells = ["listed-01", "running", "Linux/UNIX", "2", "2 GiB", "bios", "1 GiB + 1 GiB", f"aws://{REGION}/{id_}"]
    assert "".join(row.split()) == "".join("".join(cells).split())
    assert count == "1 VM"
    told = asked("list", f"aws://{REGION}/{id_}", "--output", "json", env=aws_account.variables)
    (vm,) = told.json["vms"]
    assert (vm["name"], vm["firmware"], vm["memory_bytes"]) == ("listed-01", "bios", 2 * GIB)
    none = asked("list", f"aws://{REGION}/nobody*", env=aws_account.variables)
    assert (none.code, none.out) == (0, f"aws://{REGION}/nobody* names no VM\n")


@pytest.mark.slow
def test_a_glob_that_names_several_is_no_vm_to_look_at(aws_account: Account, disk: Path) -> None:
    for _ in range(2):
        aws_account.instance("twin", disk)
    answer = asked("inspect", f"aws://{REGION}/twin", env=aws_account.variables)
    assert answer.code == 2
    assert f"aws://{REGION}/twin names more than one VM" in answer.err and "magalu-migrate list" in answer.err


@pytest.mark.slow
@pytest.mark.parametrize("words", [(), ("--transport", "export", "--export-bucket", "exports-look")])
def test_a_look_at_a_disk_that_is_no_linux_leaves_nothing_and_shows_no_secret(
    aws_account: Account, disk: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    aws_account.exporter()
    bucket = aws_account.bucket("exports-look")
    id_ = aws_account.instance("no-linux", disk)
    before = aws_account.holds(bucket)
    work = tmp_path / "work"
    with words_of_all_processes() as started:
        answer = asked("inspect", f"aws://{REGION}/{id_}", *words, "--work", work, env=aws_account.variables)
    assert answer.code == 3, answer.err
    assert aws_account.holds(bucket) == before
    assert list((work / "jobs").iterdir()) == []
    assert any("bwrap" in words for words in started), "the children were seen"
    for text in (answer.out, answer.err, *started):
        assert SECRET_KEY not in text and SESSION_TOKEN not in text


@pytest.mark.slow
def test_clean_takes_back_what_a_look_could_not(aws_account: Account, disk: Path, tmp_path: Path) -> None:
    id_ = aws_account.instance("left", disk)
    before = aws_account.snapshots()
    work = tmp_path / "work"
    aws_account.faults(deny=["ec2:DeleteSnapshot"])
    answer = asked("inspect", f"aws://{REGION}/{id_}", "--work", work, env=aws_account.variables)
    aws_account.faults()
    assert answer.code == 1 and "the credentials lack ec2:DeleteSnapshot" in answer.err
    assert len(aws_account.snapshots() - before) == 1
    cleaned = asked("clean", "--work", work, env=aws_account.variables)
    assert cleaned.code == 0, cleaned.out
    assert "aws/snapshots" in cleaned.out
    assert aws_account.snapshots() == before
