"""The launch as the last stage of a job: what it writes down, what a second run finds, what the user is told."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from adapters.magalu import magalu_target
from adapters.magalu.launches import mark_label
from migrate.errors import TargetBusy, TargetError
from migrate.job import Job, Jobs
from migrate.launch import Launch, launch_reasons, launched
from migrate.outcome import Imported, Launched, Outcome, Repaired
from migrate.run import Run
from migrate.source import Disk, Firmware, Vm
from migrate.target import LaunchOptions, Requirements
from migrate.wiring.request import VmRequest
from migrate.wiring.targets import Place, take_back, target
from tests.cloud import API_KEY, KEY_ID, KEY_SECRET, Cloud, Told, cloud, credentials, settings
from tests.launches import active_image, http, launcher, put_key
from tests.program import asked

VM = Vm(
    "erp 01",
    "VMware",
    (Disk("sda", 10 << 30, "raw"),),
    vcpus=2,
    memory_bytes=4 << 30,
    tags=(("env", "prod"), ("billing", "")),
)
NEEDS = Requirements(2, 4, 11)


@dataclass(frozen=True, slots=True)
class Stage:
    """A job whose image is active, and what launches it."""

    run: Run
    job: Job
    launch: Launch
    imported: Imported
    there: Cloud

    def run_it(self, vm: Vm = VM) -> Launched:
        outcome = Outcome(repaired=Repaired(changes={}, firmware=Firmware.BIOS, login="admin", root_grows=True))
        return launched(self.run, self.job, self.launch, outcome, vm, NEEDS, self.imported)

    @property
    def made(self) -> int:
        return sum(e.request.method == "POST" and e.request.path.endswith("/instances") for e in self.there.exchanges)


@contextmanager
def stage(folder: Path, told: Told | None = None) -> Iterator[Stage]:
    id_ = active_image(folder)
    run = Run(folder, told or Told())
    job = Jobs(folder / "work").find("erp01", {})
    imported = Imported(id=id_, name="erp01-image", status="active", object_kept=False)
    job.finish("import", imported)
    with cloud(folder) as there, launcher(run, there, ledger=job.ledger) as opened:
        put_key(there)
        yield Stage(run, job, Launch(opened, LaunchOptions("ops"), settle=0), imported, there)


def test_a_launch_is_written_down_told_whole_and_given_to_the_user(tmp_path: Path) -> None:
    with stage(tmp_path) as one:
        assert launch_reasons(one.run, one.job, one.launch, VM, NEEDS) == []
        made = one.run_it()
        assert one.job.result("launch", Launched) == made
        assert one.job.ledger.left() == ()
        assert one.job.is_done
    assert made.to_json() == {
        "image": one.imported.id,
        "id": made.id,
        "name": "erp-01",
        "machine_type": "BV4-8-40",
        "status": "running, completed",
        "private_ipv4": "10.0.2.15",
        "public_ipv4": "127.77.0.1",
        "ipv6": None,
        "user": "debian",  # whom the console names, not whom the configuration named before
        "ssh": "ssh debian@127.77.0.1",
        "init_logs": [
            "FAKE CONSOLE OUTPUT",
            "ci-info: Authorized keys from /home/debian/.ssh/authorized_keys for user debian",
            "erp-01: Cloud-init v. 22.4.2 finished at Mon, 23 Nov 2026. Datasource DataSourceOpenStack",
        ],
    }


@pytest.mark.parametrize(
    ("options", "name", "labels"),
    [
        (LaunchOptions("ops"), "erp-01", ["env=prod", "billing"]),
        (LaunchOptions("ops", name="other", tags=False), "other", []),
    ],
)
def test_name_and_tags_carry_over_unless_others_are_wanted(
    tmp_path: Path, options: LaunchOptions, name: str, labels: list[str]
) -> None:
    with stage(tmp_path) as one:
        replace(one, launch=replace(one.launch, options=options)).run_it()
        sent = json.loads([e.request.body for e in one.there.exchanges if e.request.method == "POST"][-1])
        assert (sent["name"], sent["labels"]) == (name, [mark_label(one.job.mark), *labels])


def test_a_second_run_finds_the_instance_and_asks_for_nothing(tmp_path: Path) -> None:
    told = Told()
    with stage(tmp_path, told) as one:
        first = one.run_it()
        without_key = replace(one.launch, options=LaunchOptions("gone"))
        assert launch_reasons(one.run, one.job, without_key, VM, NEEDS) == []
        assert replace(one, launch=without_key).run_it() == first
        assert one.made == 1
    assert "was launched by an earlier run and is running, completed" in told.text


def test_a_run_that_was_killed_before_it_gave_the_instance_to_the_user_gives_it_now(tmp_path: Path) -> None:
    with stage(tmp_path) as one:
        made = one.run_it()
        one.job.ledger.will_make("instance", name=made.name, label=mark_label(one.job.mark), id=made.id)
        assert not one.job.is_done
        one.run_it()
        assert one.job.is_done


@pytest.mark.parametrize("lines", [1, 2], ids=["before it heard the id", "before it ran"])
def test_the_instance_of_a_killed_run_is_found_by_what_the_ledger_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: int
) -> None:
    with stage(tmp_path) as one:
        first = one.run_it()
        ledger = one.job.folder / "ledger.jsonl"
        ledger.write_text("".join(ledger.read_text().splitlines(keepends=True)[:lines]))
        one.job.forget("launch")
        for name, value in {
            "MGC_API_KEY": API_KEY,
            "MGC_OBJ_KEY_ID": KEY_ID,
            "MGC_OBJ_KEY_SECRET": KEY_SECRET,
            "MAGALU_MIGRATE_API_URL": one.there.api_url,
            "MAGALU_MIGRATE_S3_URL": one.there.files_url,
        }.items():
            monkeypatch.setenv(name, value)
        with target(one.run, Place(False, "br-se1", None, 1 << 30, tmp_path), one.job.ledger) as opened:
            again = replace(one, launch=replace(one.launch, launcher=opened.launcher))
            assert launch_reasons(one.run, one.job, again.launch, VM, NEEDS) == []
            assert again.run_it() == first
        assert one.made == 1
        assert one.job.is_done


def test_an_instance_that_somebody_deleted_is_launched_anew(tmp_path: Path) -> None:
    told = Told()
    with stage(tmp_path, told) as one:
        first = one.run_it()
        with http(one.there) as user:
            user.delete(f"/br-se1/compute/v1/instances/{first.id}")
        while one.launch.launcher.instance(first.id) is not None:
            pass
        assert one.run_it().id != first.id
    assert "is gone; it is launched anew" in told.text


def test_an_instance_of_another_image_keeps_its_name(tmp_path: Path) -> None:
    with stage(tmp_path) as one:
        first = one.run_it()
        other = replace(one, imported=one.imported.model_copy(update={"id": "another"}))
        # A program that was started anew knows only what the ledger tells, and there the first one stands no more.
        with launcher(one.run, one.there, ledger=one.job.ledger) as fresh:
            again = replace(other, launch=replace(one.launch, launcher=fresh))
            with pytest.raises(TargetError, match='an instance is called "erp-01" already') as caught:
                again.run_it()
        assert one.launch.launcher.instance(first.id) is not None
    assert "--instance-name" in str(caught.value)


def test_a_launch_that_fails_keeps_the_image_and_says_how_to_go_on(tmp_path: Path) -> None:
    with stage(tmp_path) as one:
        one.there.faults.launches_break = 1
        with pytest.raises(TargetBusy) as caught:
            one.run_it()
        assert not one.job.is_done  # `clean` looks for what may have been made
        assert one.job.result("import", Imported) == one.imported
        one.run_it()
        assert one.job.is_done
    assert f"Image erp01-image ({one.imported.id}) stays: the same command tries only the launch again." in str(
        caught.value
    )


def test_clean_takes_an_unfinished_launch_back_and_says_where_it_cannot(tmp_path: Path) -> None:
    with stage(tmp_path) as one:
        one.there.faults.launch_status = "creating_error_capacity"
        with pytest.raises(TargetError, match="creating_error_capacity"):
            one.run_it()
        (failed,) = {made.names["id"] for made in one.job.ledger.left() if "id" in made.names}
        with magalu_target(one.run, one.there.region, credentials(), one.job.ledger, settings()) as opened:
            assert list(take_back(opened, one.job.ledger.left())) == []
            assert opened.launcher.instance(failed) is None
            assert one.job.ledger.left() == ()
            one.job.ledger.will_make("instance", name="erp-01", label=mark_label(one.job.mark))
            (said,) = take_back(opened, one.job.ledger.left())
    assert "an instance erp-01 may have been ordered" in said


def test_a_source_that_tells_no_hardware_is_said(tmp_path: Path) -> None:
    told = Told()
    with stage(tmp_path, told) as one:
        bare = replace(VM, vcpus=None, memory_bytes=None)
        assert launch_reasons(one.run, one.job, one.launch, bare, Requirements(1, 1, 11)) == []
    assert "does not say how many processors or how much memory" in told.text


def test_a_launch_does_not_make_it_another_job() -> None:
    plain = VmRequest(address="/disk.raw")
    assert plain.key({}) == plain.model_copy(update={"launch": LaunchOptions("ops")}).key({})


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--launch"], "--launch needs --ssh-key"), (["--ssh-key", "ops"], "no --launch")],
)
def test_options_of_a_launch_go_together(tmp_path: Path, words: list[str], said: str) -> None:
    answer = asked("vm", tmp_path / "disk.raw", "--sandbox", *words, "--work", tmp_path)
    assert answer.code == 2
    assert said in answer.err
