"""The command line as its users meet it: what it answers, with which exit code, and what it leaves behind."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from adapters.sandbox import Sandbox
from fixtures.machines import built
from migrate import preview
from migrate.cli.terminal import running
from migrate.effects import Changes
from migrate.errors import ProofFailed
from migrate.guest import Entry, File, Link
from migrate.job import Job, Jobs
from migrate.outcome import Imported
from migrate.run import Run
from tests import file_samples as samples
from tests.cloud import box_credentials, qemu_img, s3
from tests.guest_disks import FOLDERS, ext4_disk, put
from tests.preview_guests import ordinary
from tests.program import Started, asked, commands, environment, keys_in, repaired_job, started

SECRETS = {
    "MGC_API_KEY": "planted-api-key-61c0",
    "MGC_OBJ_KEY_ID": "planted-key-id-8f12",
    "MGC_OBJ_KEY_SECRET": "planted-key-secret-d41d",
}


def test_every_command_s_help_shows_an_example() -> None:
    for words in commands():
        answer = asked(*words, "--help")
        assert answer.code == 0
        assert f"Example: magalu-migrate {' '.join(words)}" in answer.out


def test_the_overview_tells_each_command_in_whole_words() -> None:
    answer = asked("--help")
    assert answer.code == 0
    assert "..." not in answer.out.partition("Commands:")[2]


# What cannot be a VM


def _missing(folder: Path) -> Path:
    return folder / "missing.ova"


def _folder(folder: Path) -> Path:
    (folder / "export").mkdir()
    return folder / "export"


def _fifo(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


def _endless(folder: Path) -> Path:
    return Path("/dev/zero")


def _empty(folder: Path) -> Path:
    (folder / "empty.vmdk").touch()
    return folder / "empty.vmdk"


def _text(folder: Path) -> Path:
    (folder / "notes.txt").write_text("this is no disk\n")
    return folder / "notes.txt"


def _overlay(folder: Path) -> Path:
    qemu_img("create", "-f", "qcow2", "-F", "raw", "-b", "/etc/passwd", folder / "overlay.qcow2", "1M")
    return folder / "overlay.qcow2"


def _two_disks(folder: Path) -> Path:
    samples.raw(folder, name="a.raw")
    samples.raw(folder, name="b.raw")
    (folder / "erp01.ovf").write_text(samples.ovf_text("a.raw", "b.raw"))
    return folder / "erp01.ovf"


NO_VM = pytest.mark.parametrize(
    ("made", "code", "said"),
    [
        (_missing, 1, "there is no such file"),
        (_folder, 3, "OVF descriptors"),
        (_fifo, 3, "is a FIFO, not a file"),
        (_endless, 3, "is a character device, not a file"),
        (_empty, 3, "is empty"),
        (_text, 3, "no known disk format"),
        (_overlay, 3, "has a backing file"),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)


@NO_VM
@pytest.mark.parametrize("command", ["inspect", "preview", "vm"])
def test_what_is_no_vm_is_refused_in_words_and_leaves_nothing(
    tmp_path: Path, made: Callable[[Path], Path], code: int, said: str, command: str
) -> None:
    sandbox = ["--sandbox"] if command == "vm" else []
    answer = asked(command, made(tmp_path), *sandbox, "--work", tmp_path / "work")
    assert answer.code == code
    assert answer.out == ""
    assert said in answer.err
    assert len(answer.err.strip().splitlines()) >= 2, "what to do next is said as well"
    assert not (tmp_path / "work").exists()


@NO_VM
@pytest.mark.parametrize("command", ["inspect", "preview", "vm"])
def test_with_output_json_a_refusal_is_one_object(
    tmp_path: Path, made: Callable[[Path], Path], code: int, said: str, command: str
) -> None:
    sandbox = ["--sandbox"] if command == "vm" else []
    answer = asked(command, made(tmp_path), *sandbox, "--work", tmp_path / "work", "--output", "json")
    assert answer.code == code
    told = answer.json
    assert told["status"] == {1: "failed", 3: "refused"}[code]
    assert said in told["error"]
    if code == 3:
        assert all(reason["code"] and reason["text"] and reason["remedy"] for reason in told["reasons"])


# Words that cannot be meant


@pytest.mark.parametrize("command", ["inspect", "preview", "vm"])
def test_skipping_a_remediation_that_there_is_not_is_wrong_usage(tmp_path: Path, command: str) -> None:
    answer = asked(command, samples.raw(tmp_path), "--skip", "strip-mac", "--work", tmp_path / "work")
    assert answer.code == 2
    assert answer.err == (
        "--skip strip-mac: there is no remediation of that name; the nearest is strip-macs\n`magalu-migrate remediations list` shows all.\n"
    )
    assert not (tmp_path / "work").exists()


def test_a_format_that_there_is_not_is_wrong_usage(tmp_path: Path) -> None:
    answer = asked("preview", samples.raw(tmp_path), "--format", "floppy")
    assert answer.code == 2
    assert '"floppy" is not a format' in answer.err
    assert "raw" in answer.err


def test_without_credentials_everything_missing_is_listed_once(tmp_path: Path) -> None:
    answer = asked("vm", samples.raw(tmp_path), "--work", tmp_path / "work", "--output", "json")
    assert answer.code == 2
    told = answer.json
    for name in ("MGC_API_KEY", "MGC_OBJ_KEY_ID", "MGC_OBJ_KEY_SECRET"):
        assert told["error"].count(f"{name} ") == 1
    assert "--sandbox needs none" in told["hint"]
    assert not (tmp_path / "work").exists()


def test_a_region_that_there_is_not_is_refused_before_anything(tmp_path: Path) -> None:
    answer = asked("vm", samples.raw(tmp_path), "--region", "mars-1", "--work", tmp_path / "work", env=SECRETS)
    assert answer.code == 2
    assert "mars-1" in answer.err
    assert not (tmp_path / "work").exists()


def test_a_work_folder_that_cannot_be_made_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    answer = asked("vm", samples.raw(tmp_path), "--sandbox", "--work", tmp_path / "file" / "work")
    assert answer.code == 1
    assert f"{tmp_path}/file/work" in answer.err
    assert "Not a directory" in answer.err


def test_an_image_to_prove_that_is_none_is_refused(tmp_path: Path) -> None:
    for made in (_text, _empty, _overlay):
        answer = asked("prove", made(tmp_path), "--output", "json")
        assert answer.code in (1, 2, 3)
        assert answer.json["error"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["preview"], "Missing argument 'ADDRESS'."),
        (["preview", "erp01.ova", "--room", "cellar"], "'cellar' is not one of"),
        (["nonsense"], "No such command 'nonsense'."),
        (["remediations", "list", "--nonsense"], "No such option '--nonsense'."),
        (["vm", "erp01.ova", "--size-limit", "much"], "'much' is not a valid float"),
    ],
)
def test_words_that_cannot_be_meant_are_one_object_with_output_json(words: list[str], said: str) -> None:
    answer = asked(*words, "--output", "json")
    assert answer.code == 2
    assert answer.json["status"] == "failed"
    assert said in answer.json["error"]
    assert "--help` shows what it takes" in answer.json["hint"]
    assert answer.err == ""


def test_a_proof_that_failed_is_told_whole_with_output_json(capsys: pytest.CaptureFixture[str]) -> None:
    proof = {"held": False, "claims": [{"name": "login", "held": False}], "console": ["no bootable device"]}
    with pytest.raises(SystemExit) as ended, running("json"):
        raise ProofFailed("it does not come up", hint="Look at it.", proof=proof)
    assert ended.value.code == 1
    assert json.loads(capsys.readouterr().out) == {
        "status": "failed",
        "error": "it does not come up",
        "hint": "Look at it.",
        "proof": proof,
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["preview", "--diff", "strip-mac"], "the nearest is strip-macs"),
        (["preview", "--html", "/nowhere/at/all.html"], "there is no folder /nowhere/at"),
        (
            ["vm", "--sandbox", "--approve", "nonsense"],
            "neither a plan, which is 8 to 64 hexadecimal digits, nor a file",
        ),
        (["vm", "--sandbox", "--approve", "/dev/null"], "no preview of this version"),
    ],
)
def test_what_cannot_be_done_with_a_preview_is_said_before_anything(
    tmp_path: Path, words: list[str], said: str
) -> None:
    answer = asked(*words, samples.raw(tmp_path), "--work", tmp_path / "work")
    assert answer.code == 2
    assert said in answer.err
    assert not (tmp_path / "work").exists()


# Remediations


def test_each_remediation_of_the_list_can_be_explained() -> None:
    listed = json.loads(asked("remediations", "list", "--output", "json").out)
    head, *lines = asked("remediations", "list").out.splitlines()
    assert head.split() == ["lift-and-shift", "golden-image"]
    assert [line.split()[0] for line in lines] == [one["name"] for one in listed]
    for one in listed:
        explained = asked("remediations", "explain", one["name"])
        assert explained.code == 0
        assert explained.out.startswith(f"{one['name']}: ")
        assert len(explained.out.splitlines()) >= 3


def test_a_remediation_that_there_is_not_cannot_be_explained() -> None:
    answer = asked("remediations", "explain", "strip-mac")
    assert answer.code == 2
    assert "there is no remediation or finding of that name; the nearest is strip-macs" in answer.err
    assert "remediations list" in answer.err


def test_a_code_can_be_explained_and_all_are_listed() -> None:
    assert asked("remediations", "explain", "net-012").out.splitlines() == [
        "NET-012: only cloud-init can set up the network: the new card's name would have to be known",
        "",
        "Where cloud-init fails, the machine has no address.",
        "Install NetworkManager in the source VM, or add net.ifnames=0 to its kernel's command line.",
        "",
        "  severity warning: it is left to do; `vm --strict` stops at it, and --waive NET-012 accepts it",
        "  given by network-by-dhcp",
    ]
    listed = asked("remediations", "codes").out.splitlines()
    assert "MGC-001    error    the image's name is not allowed" in listed


def test_what_cannot_be_waived_is_wrong_usage(tmp_path: Path) -> None:
    answer = asked("preview", samples.raw(tmp_path), "--waive", "BOOT-002")
    assert answer.code == 2
    assert answer.err.startswith("--waive BOOT-002: that the default kernel has no virtio cannot be waived")


# Cleaning


def test_where_there_is_nothing_clean_says_so_and_makes_nothing(tmp_path: Path) -> None:
    answer = asked("clean", "--work", tmp_path / "work")
    assert (answer.code, answer.out) == (0, "nothing to clean: no unfinished migration has left anything\n")
    assert not (tmp_path / "work").exists()


def test_cleaning_a_job_that_there_is_not_is_wrong_usage(tmp_path: Path) -> None:
    answer = asked("clean", "erp01-00000000", "--work", tmp_path)
    assert answer.code == 2
    assert "there is no job erp01-00000000" in answer.err


@pytest.mark.parametrize("content", [b"", b"{", b'{"request": 7}', b"\xff\xfe"])
def test_a_job_that_cannot_be_read_can_be_cleaned(tmp_path: Path, content: bytes) -> None:
    job = Jobs(tmp_path).find("erp01", {"address": "/erp01.ova"})
    (job.folder / "job.json").write_bytes(content)
    listed = asked("clean", "--dry-run", "--work", tmp_path)
    assert listed.code == 0
    assert "cannot be read" in listed.out
    assert job.folder.exists()
    assert asked("clean", "--work", tmp_path).code == 0
    assert not job.folder.exists()


def test_an_unreadable_job_that_made_something_remote_is_kept_and_the_others_are_cleaned(tmp_path: Path) -> None:
    kept, gone = (Jobs(tmp_path).find(name, {"address": name}) for name in ("aaa", "bbb"))
    kept.ledger.will_make("object", bucket="b", key="k")
    (kept.folder / "job.json").write_bytes(b"{")
    answer = asked("clean", "--work", tmp_path)
    assert answer.code == 1
    assert "object b/k" in answer.out
    assert kept.folder.exists()
    assert not gone.folder.exists()


def test_a_running_job_is_left_alone(tmp_path: Path) -> None:
    job = Jobs(tmp_path).find("erp01", {"address": "/erp01.ova"})
    with job.locked():
        answer = asked("clean", "--work", tmp_path)
    assert answer.code == 1
    assert "is running in another process" in answer.out
    assert job.folder.exists()


def test_the_same_migration_runs_once_at_a_time(run: Run, tmp_path: Path) -> None:
    image = samples.converted(tmp_path, "qcow2", "image.qcow2", "compat=1.1")
    cloud = {"region": "sandbox", "api": None}
    job = repaired_job(run, tmp_path / "work", samples.raw(tmp_path), image, "erp01", cloud)
    with job.locked():
        answer = asked("vm", tmp_path / "disk.raw", "--name", "erp01", "--sandbox", "--work", tmp_path / "work")
    assert answer.code == 2
    assert answer.err == f"{job.name} is running in another process\nWait for it, or stop it.\n"


def test_a_job_that_is_done_is_cleaned_only_when_asked_for(tmp_path: Path) -> None:
    job = Jobs(tmp_path).find("erp01", {"address": "/erp01.ova"})
    job.finish("import", Imported(id="1", name="erp01", status="active", object_kept=False))
    assert "nothing to clean" in asked("clean", "--work", tmp_path).out
    assert job.folder.exists()
    assert asked("clean", job.name, "--work", tmp_path).code == 0
    assert not job.folder.exists()


def test_what_was_made_in_another_cloud_is_not_looked_for_in_this_one(tmp_path: Path) -> None:
    request = {"address": "/erp01.ova", "region": "br-se1", "api": "http://127.0.0.1:1/br-se1/compute"}
    job = Jobs(tmp_path).find("erp01", {**request})
    job.ledger.will_make("object", bucket="b", key="k")
    answer = asked("clean", "--work", tmp_path, env=SECRETS)
    assert answer.code == 1
    assert "Set MAGALU_MIGRATE_API_URL=http://127.0.0.1:1/br-se1/compute as it was." in answer.out
    assert job.ledger.left() != ()


# With a cloud


@pytest.fixture
def job(box: Sandbox, run: Run, tmp_path: Path) -> Job:
    """A job that was stopped after the repair of a tiny disk; `vm DISK --name NAME` of the same folder goes on with it."""
    name = f"cli-{tmp_path.name.replace('_', '-')}"
    image = samples.converted(tmp_path, "qcow2", "image.qcow2", "compat=1.1")
    cloud = {"region": box.credentials.region, "api": box.api_url}
    return repaired_job(run, tmp_path / "work", samples.raw(tmp_path), image, name, cloud)


@pytest.fixture
def sandboxed(box: Sandbox, run: Run, tmp_path: Path) -> Job:
    """The same for `vm --sandbox`: the work folder's sandbox is the one that runs already."""
    name = f"cli-{tmp_path.name.replace('_', '-')}"
    image = samples.converted(tmp_path, "qcow2", "image.qcow2", "compat=1.1")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "sandbox").symlink_to(box.folder)
    return repaired_job(run, tmp_path / "work", samples.raw(tmp_path), image, name, {"region": "sandbox", "api": None})


@pytest.mark.slow
def test_every_reason_is_said_at_once(box: Sandbox, tmp_path: Path) -> None:
    words: list[str | Path] = ["--name", "bad name", "--work", tmp_path / "work", "--output", "json"]
    told = asked("vm", _two_disks(tmp_path), *words, env=environment(box))
    assert told.code == 3
    assert [reason["code"] for reason in told.json["reasons"]] == ["SRC-100", "MGC-001", "GUEST-004"]
    assert not list((tmp_path / "work").glob("jobs/*"))


@pytest.mark.slow
def test_a_guest_that_cannot_be_repaired_is_refused_with_each_reason_and_nothing_is_left(
    box: Sandbox, tmp_path: Path
) -> None:
    files: dict[str, Entry] = {
        "/etc/os-release": File(b"ID=debian\n"),
        "/etc/fstab": File(b"/dev/sda1 / ext4 defaults 0 1\n"),
        "/etc/cloud/cloud.cfg.d": File(b"a file"),
        "/etc/systemd/system": Link("system"),
    }
    put(tmp_path / "tree", {**FOLDERS, **files})
    os.mkfifo(tmp_path / "tree/etc/machine-id")
    disk = ext4_disk(tmp_path / "erp01.raw", tmp_path / "tree")
    before = disk.read_bytes()
    words: list[str | Path] = ["--work", tmp_path / "work", "--output", "json"]
    told = asked("vm", disk, *words, "--strict", "--waive", "BOOT-007", env=environment(box))
    assert told.code == 3
    assert "BOOT-007" not in {reason["code"] for reason in told.json["reasons"]}
    said = " ".join(reason["text"] for reason in told.json["reasons"] if reason["code"] == "GUEST-018")
    for part in ("a circle of links", "is a file, where a folder was expected", "is a device, socket or pipe"):
        assert part in said
    assert not list((tmp_path / "work").glob("jobs/*"))
    assert disk.read_bytes() == before


@pytest.mark.slow
def test_keys_that_are_refused_are_a_reason_not_a_traceback(box: Sandbox, tmp_path: Path) -> None:
    told = asked("vm", samples.raw(tmp_path), "--work", tmp_path, "--output", "json", env=environment(box) | SECRETS)
    assert told.code == 3
    reasons = told.json["reasons"]
    assert [reason["code"] for reason in reasons] == ["MGC-003", "MGC-005", "GUEST-004"]
    assert not any(secret in told.out + told.err for secret in SECRETS.values())


@pytest.mark.slow
def test_clean_takes_back_the_object_of_a_half_made_job(box: Sandbox, job: Job, tmp_path: Path) -> None:
    client, key = s3(box), f"{job.image_name}.qcow2"
    client.create_bucket(Bucket="half-made")
    client.put_object(Bucket="half-made", Key=key, Body=b"x")
    client.create_multipart_upload(Bucket="half-made", Key=key)
    client.put_object(Bucket="half-made", Key="somebody-else-s", Body=b"x")
    for kind in ("upload", "object"):
        job.ledger.will_make(kind, bucket="half-made", key=key)
    listed = asked("clean", "--dry-run", "--work", tmp_path / "work", env=environment(box))
    assert f"object half-made/{key}" in listed.out
    assert len(keys_in(box, "half-made", key)) == 2
    assert asked("clean", "--work", tmp_path / "work", env=environment(box)).code == 0
    assert keys_in(box, "half-made", "") == ["somebody-else-s"]
    assert not job.folder.exists()


@pytest.mark.slow
def test_clean_never_deletes_an_active_image(box: Sandbox, sandboxed: Job, tmp_path: Path) -> None:
    words: list[str | Path] = [
        "--name",
        str(sandboxed.image_name),
        "--sandbox",
        "--no-prove",
        "--work",
        tmp_path / "work",
        "--output",
        "json",
    ]
    made = asked("vm", tmp_path / "disk.raw", *words)
    assert made.code == 0
    assert made.json["status"] == "active"
    image = box.image_file(made.json["image"]["id"])
    for more in ([], ["--all"]):
        assert asked("clean", *more, "--work", tmp_path / "work").code == 0
        assert image.exists()
        assert box.image_file(made.json["image"]["id"]) == image
    assert not sandboxed.folder.exists()


@pytest.mark.slow
def test_an_image_that_was_deleted_meanwhile_is_made_anew_from_the_source(
    box: Sandbox, sandboxed: Job, tmp_path: Path
) -> None:
    words: list[str | Path] = ["vm", tmp_path / "disk.raw", "--name", str(sandboxed.image_name), "--sandbox"]
    words += ["--no-prove", "--work", tmp_path / "work", "--output", "json"]
    first, second = asked(*words).json, asked(*words).json
    assert second["image"] == first["image"]
    api_key = {"x-api-key": box.credentials.api_key.reveal()}
    deleted = httpx.delete(f"{box.api_url}/v1/images/custom/{first['image']['id']}", headers=api_key)
    assert deleted.status_code == 204
    third = asked(*words)
    assert "is gone; it is made anew" in third.err
    # The object and the overlay went when the image was active; the tiny disk itself holds no guest to be repaired.
    assert third.code == 3
    assert "remediate" in [json.loads(line).get("stage") for line in third.err.splitlines() if line.startswith("{")]
    assert keys_in(box, first["object"]["bucket"], first["object"]["key"]) == []


@pytest.mark.slow
def test_an_object_that_is_to_be_kept_outlives_clean(box: Sandbox, sandboxed: Job, tmp_path: Path) -> None:
    words: list[str | Path] = [
        "--name",
        str(sandboxed.image_name),
        "--sandbox",
        "--no-prove",
        "--keep-object",
        "--work",
        tmp_path / "work",
    ]
    made = asked("vm", tmp_path / "disk.raw", *words, "--output", "json")
    stored = made.json["object"]
    assert stored["kept"] is True
    assert asked("clean", "--all", "--work", tmp_path / "work").code == 0
    assert keys_in(box, stored["bucket"], stored["key"]) == [stored["key"]]


@pytest.mark.slow
def test_a_plan_that_is_not_the_approved_one_is_not_uploaded(box: Sandbox, sandboxed: Job, tmp_path: Path) -> None:
    words: list[str | Path] = [
        "--name",
        str(sandboxed.image_name),
        "--sandbox",
        "--no-prove",
        "--approve",
        "7f3a91c4",
        "--work",
        tmp_path / "work",
    ]
    answer = asked("vm", tmp_path / "disk.raw", *words)
    assert answer.code == 2
    assert f"the plan is {Changes().plan} now, not 7f3a91c4 as approved" in answer.err
    assert sandboxed.ledger.left() == ()


@pytest.mark.slow
def test_with_the_approved_preview_it_is_told_what_has_changed_since(sandboxed: Job, tmp_path: Path) -> None:
    file = tmp_path / "preview.json"
    file.write_text(json.dumps(preview.to_json(ordinary())))
    words: list[str | Path] = [
        "vm",
        tmp_path / "disk.raw",
        "--name",
        str(sandboxed.image_name),
        "--sandbox",
        "--no-prove",
    ]
    words += ["--approve", file, "--work", tmp_path / "work"]
    answer = asked(*words)
    assert answer.code == 2
    assert "as approved; nothing was touched" in answer.err
    assert "  no longer: write /etc/hosts (files)\n" in answer.err
    told = asked(*words, "--output", "json").json
    assert told["status"] == "failed"
    assert "no longer: rebuild the initramfs (disk)" in told["differences"]
    assert sandboxed.ledger.left() == ()


@pytest.mark.slow
def test_no_secret_is_shown_written_down_or_in_a_command_line(box: Sandbox, job: Job, tmp_path: Path) -> None:
    secrets = [value.reveal() for value in box_credentials(box).secrets]
    assert len(secrets) >= 3
    seen: set[str] = set()
    words: list[str | Path] = ["--name", str(job.image_name), "--no-prove", "--work", tmp_path / "work"]
    with started("vm", tmp_path / "disk.raw", *words, folder=tmp_path, env=environment(box)) as program:
        while program.process.poll() is None:
            seen.update(program.relatives().values())
            time.sleep(0.02)
        answer = program.finished()
    assert answer.code == 0
    assert any("magalu-migrate vm" in words for words in seen)
    written = [path.read_bytes().decode("latin-1") for path in (tmp_path / "work").rglob("*") if path.is_file()]
    for text in (answer.out, answer.err, *seen, *written):
        assert not any(secret in text for secret in secrets)


# What the machine has


@pytest.mark.slow
def test_doctor_names_what_is_missing_and_what_mends_it(tmp_path: Path) -> None:
    answer = asked("doctor", "--work", tmp_path / "work")
    assert answer.code == 1
    lines = answer.out.splitlines()
    assert any(line.startswith("miss  Magalu Cloud: missing: the API key (set MGC_API_KEY") for line in lines)
    assert lines[-1] == ("1 thing is missing. What works without it: preview, inspect, prove, and vm with --sandbox.")
    assert not (tmp_path / "work").exists()


@pytest.mark.slow
def test_doctor_tells_programs_the_same_and_shows_no_key(tmp_path: Path) -> None:
    answer = asked("doctor", "--work", tmp_path, "--output", "json", env=SECRETS)
    told = answer.json
    assert (answer.code, told["missing"]) == (0, 0)
    assert {check["verdict"] for check in told["checks"]} <= {"ok", "slow"}
    assert not any(secret in answer.out + answer.err for secret in SECRETS.values())


# Ctrl-C


def _weed_runs(program: Started) -> bool:
    return program.runs("weed")


def _qemu_runs(program: Started) -> bool:
    return program.runs("qemu-system-x86_64") and program.runs("virtio-net")


def _room_is_open(program: Started) -> bool:
    return program.runs("nbdfuse") or program.runs("guestfsd")


def _reader_runs(program: Started) -> bool:
    return program.runs("migrate.guests.dissect_reader")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("command", ["sandbox", "prove", "preview", "inspect"])
def test_a_stop_ends_everything_within_seconds(tmp_path: Path, command: str, number: signal.Signals) -> None:
    words: list[str | Path]
    match command:
        case "sandbox":
            words, until = ["--folder", tmp_path / "box"], _weed_runs
        case "prove":
            qemu_img("create", "-f", "qcow2", tmp_path / "blank.qcow2", "64M")
            words, until = [tmp_path / "blank.qcow2"], _qemu_runs
        case "preview":
            words, until = [built("debian12-vmware"), "--work", tmp_path / "work", "--room=overlay"], _room_is_open
        case _:
            words, until = [built("debian12-vmware"), "--work", tmp_path / "work", "--room=dissect"], _reader_runs
    with started(command, *words, folder=tmp_path) as program:
        program.wait_for(lambda: until(program))
        answer = program.ended(number, within=20)
        assert answer.code == 130
        assert answer.err.splitlines()[-1] == "stopped"
        program.assert_nothing_is_left()


@pytest.mark.slow
def test_a_second_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    with started("sandbox", "--folder", tmp_path / "box", folder=tmp_path) as program:
        program.wait_for(lambda: _weed_runs(program))
        program.process.send_signal(signal.SIGINT)
        answer = program.ended(signal.SIGINT, within=20)
        # Where the interpreter was ending already, the second signal ends it: a shell says 130 of both.
        assert answer.code in (130, -signal.SIGINT)
        deadline = time.monotonic() + 5
        while program.relatives() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert program.relatives() == {}
