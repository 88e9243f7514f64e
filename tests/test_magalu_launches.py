"""The launch of instances, against a cloud whose instances have no machines."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters.magalu.launches import LABEL_BYTES, LaunchPatience, labels, mark_label
from adapters.magalu.machine_types import MachineType, nearest, smallest
from migrate.errors import TargetBusy, TargetError
from migrate.run import Note, Run
from migrate.target import Requirements
from tests.cloud import Cloud, Notebook, Told, cloud
from tests.launches import ORDER, active_image, http, launcher, put_key, with_options

LABEL = mark_label(ORDER.mark)


def kind(name: str, **more: Any) -> MachineType:
    vcpus, ram, disk = map(int, name.lstrip("BV").split("-"))
    return MachineType(name, name, vcpus, ram, disk, **more)


TYPES = [kind(name) for name in ("BV1-1-10", "BV2-4-40", "BV2-64-40", "BV4-8-40", "BV4-8-100", "BV8-32-100")]


@pytest.mark.parametrize(
    ("needs", "wanted"),
    [
        (Requirements(1, 1, 10), "BV1-1-10"),
        (Requirements(1, 1, 11), "BV2-4-40"),
        # Not BV2-64-40: exact in two things, and thirteen times the memory.
        (Requirements(2, 5, 40), "BV4-8-40"),
        (Requirements(4, 8, 43), "BV4-8-100"),
        (Requirements(1, 9, 10), "BV2-64-40"),
        (Requirements(9, 1, 10), None),
        (Requirements(1, 1, 101), None),
    ],
)
def test_the_smallest_machine_type_that_fits_is_taken(needs: Requirements, wanted: str | None) -> None:
    found = smallest(TYPES, needs)
    assert (found and found.name) == wanted


def test_a_machine_type_with_a_gpu_is_not_taken_by_itself() -> None:
    assert smallest([kind("BV1-1-10", gpus=1), kind("BV8-32-100")], Requirements(1, 1, 10)) == kind("BV8-32-100")


def test_the_nearest_types_are_those_that_lack_least() -> None:
    near = nearest(TYPES, Requirements(4, 8, 500), 3)
    assert [one.name for one in near] == ["BV4-8-100", "BV8-32-100", "BV4-8-40"]


def test_labels_are_our_mark_and_the_tags_in_characters_that_a_label_may_have() -> None:
    assert labels(ORDER) == (LABEL, "env=prod", "owner=Jo-o-TI")
    assert len(LABEL) <= LABEL_BYTES


def began(there: Cloud) -> int:
    return sum(e.request.method == "POST" and e.request.path.endswith("/instances") for e in there.exchanges)


def test_an_instance_runs_with_name_key_labels_and_addresses(run: Run, tmp_path: Path) -> None:
    image, ledger = active_image(tmp_path), Notebook()
    with cloud(tmp_path) as there, launcher(run, there, ledger=ledger) as opened:
        put_key(there)
        order = with_options(security_groups=("ssh",), zone="br-se1-b")
        assert opened.refuses(order) == []
        made = opened.launch(order, image)
        assert opened.instance(made.id) == made
        console = opened.console(made.id)
        sent = json.loads(
            next(
                e.request.body
                for e in there.exchanges
                if e.request.path.endswith("compute/v1/instances") and e.request.method == "POST"
            )
        )
    assert (made.name, made.machine_type, made.status) == ("erp01", "BV4-8-40", "running, completed")
    assert (made.private_ipv4, made.public_ipv4, made.ipv6) == ("10.0.2.15", "127.77.0.1", None)
    assert console[0] == "FAKE CONSOLE OUTPUT"
    assert (sent["name"], sent["ssh_key_name"], sent["availability_zone"]) == ("erp01", "ops", "br-se1-b")
    assert sent["labels"] == [LABEL, "env=prod", "owner=Jo-o-TI"]
    assert len(sent["network"]["interface"]["security_groups"]) == 1
    assert ledger.lines == [
        ("will make", "instance", {"name": "erp01", "label": LABEL}),
        ("will make", "instance", {"name": "erp01", "label": LABEL, "id": made.id}),
    ]


def test_everything_that_forbids_a_launch_is_said_at_once_and_nothing_is_made(run: Run, tmp_path: Path) -> None:
    image = active_image(tmp_path)
    with cloud(tmp_path) as there, launcher(run, there) as other, launcher(run, there) as opened:
        put_key(there, "other")
        put_key(there, "ops")
        other.launch(ORDER, image)
        wrong = with_options(ssh_key="opps", machine_type="BV4-16-40", vpc="lan", security_groups=("ssh", "web"))
        reasons = opened.refuses(wrong)
        assert began(there) == 1
    assert [reason.code for reason in reasons] == ["MGC-006", "MGC-007", "MGC-008", "MGC-009", "MGC-010"]
    key, type_, vpc, group, taken = reasons
    assert key.remedy == "There are: ops, other. Name one with --ssh-key."
    assert type_.text == 'there is no machine type "BV4-16-40".'
    assert type_.details == ("named alike: BV4-8-100, BV4-8-40",)
    assert vpc.remedy == "Choose one with --vpc: vpc_default."
    assert 'no security group "web"' in group.text
    assert taken.text.startswith('an instance is called "erp01" already: ')


@pytest.mark.parametrize(
    ("needs", "text"),
    [
        (Requirements(64, 4, 11), "no machine type has 64 vCPU, 4 GiB memory, 11 GB disk, which the VM has."),
        (Requirements(2, 4, 1001), "no machine type has 2 vCPU, 4 GiB memory, 1001 GB disk, which the VM has."),
    ],
)
def test_where_no_type_fits_the_nearest_are_named(run: Run, tmp_path: Path, needs: Requirements, text: str) -> None:
    with cloud(tmp_path) as there, launcher(run, there) as opened:
        put_key(there)
        (reason,) = opened.refuses(replace(ORDER, needs=needs))
    assert (reason.code, reason.text) == ("MGC-007", text)
    assert reason.details[0] == "nearest: BV32-128-1000 (32 vCPU, 128 GiB memory, 1000 GB disk)"


def test_a_named_type_may_have_less_of_all_but_the_disk(tmp_path: Path) -> None:
    told = Told()
    with cloud(tmp_path) as there, launcher(Run(tmp_path, told), there) as opened:
        put_key(there)
        # 10 GiB are 10.7 GB: it depends on what Magalu's GB are.
        assert opened.refuses(with_options(machine_type="BV1-1-10")) == []
        small = with_options(machine_type="BV4-8-40")
        (reason,) = opened.refuses(replace(small, needs=Requirements(1, 1, 44), disk_bytes=41 << 30))
    assert "It fits if Magalu's GB have 2^30" in told.text
    assert "BV1-1-10 (1 vCPU, 1 GiB memory, 10 GB disk) is less than the VM has" in told.text
    assert reason.text == (
        "machine type BV4-8-40 (4 vCPU, 8 GiB memory, 40 GB disk) is too small: the image's disk has 44 GB."
    )
    assert reason.details[0].startswith("nearest: BV4-8-100")


def test_a_zone_without_machine_types_is_a_reason(run: Run, tmp_path: Path) -> None:
    with cloud(tmp_path) as there, launcher(run, there) as opened:
        put_key(there)
        (reason,) = opened.refuses(with_options(zone="br-se1-z"))
    assert reason.text.startswith("no machine type in zone br-se1-z has")


def test_a_group_that_lets_nobody_in_is_told_beforehand(tmp_path: Path) -> None:
    for groups, wanted in (((), True), (("ssh",), False), (("default", "ssh"), False)):
        told = Told()
        with cloud(tmp_path) as there, launcher(Run(tmp_path, told), there) as opened:
            opened.refuses(with_options(security_groups=groups))
        warned = [event for event in told.events if isinstance(event, Note) and "port 22" in event.text]
        assert bool(warned) == wanted, groups


def test_a_key_without_the_scopes_is_a_reason_with_the_scopes(run: Run, tmp_path: Path) -> None:
    with cloud(tmp_path) as there, launcher(run, there) as opened:
        there.faults.broken = 10**6
        reasons = opened.refuses(ORDER)
    assert {reason.code for reason in reasons} == {"MGC-003"}
    assert len(reasons) == 5


def test_a_second_launch_finds_the_instance_of_the_first(run: Run, tmp_path: Path) -> None:
    image = active_image(tmp_path)
    with cloud(tmp_path) as there:
        put_key(there)
        with launcher(run, there) as first:
            made = first.launch(ORDER, image)
        with launcher(run, there, begun={LABEL: made.id}) as second:
            assert second.refuses(ORDER) == []
            assert second.launch(ORDER, image) == made
        with launcher(run, there, begun={LABEL: None}) as third:  # killed before it heard the answer
            assert third.refuses(ORDER) == []
            assert third.launch(ORDER, image) == made
        assert began(there) == 1


def test_an_answer_that_was_lost_makes_no_second_instance(run: Run, tmp_path: Path) -> None:
    image = active_image(tmp_path)
    with cloud(tmp_path) as there, launcher(run, there) as opened:
        put_key(there)
        there.faults.launches_fall_silent = 1
        assert opened.launch(ORDER, image).status == "running, completed"
        assert began(there) == 1


def test_an_order_in_doubt_is_not_posted_again_and_says_what_to_do(run: Run, tmp_path: Path) -> None:
    image, ledger = active_image(tmp_path), Notebook()
    with cloud(tmp_path) as there, launcher(run, there, ledger=ledger) as opened:
        put_key(there)
        there.faults.launches_break = 1
        with pytest.raises(TargetBusy, match="answered 500") as caught:
            opened.launch(ORDER, image)
        assert began(there) == 1
    assert f'no instance "erp01" with label {LABEL} appeared within' in str(caught.value)
    assert ledger.lines == [("will make", "instance", {"name": "erp01", "label": LABEL})]


def test_an_order_that_is_refused_is_not_left_in_the_ledger(run: Run, tmp_path: Path) -> None:
    ledger = Notebook()
    with cloud(tmp_path) as there, launcher(run, there, ledger=ledger) as opened:
        put_key(there)
        with pytest.raises(TargetError, match=r'answered 404: "Image not found" \(create_instance\.image\.not_found\)'):
            opened.launch(ORDER, "11111111-1111-1111-1111-111111111111")
    assert [what for what, _, _ in ledger.lines] == ["will make", "gone"]


def test_a_used_up_quota_is_told_in_the_api_s_words_and_the_failed_instance_makes_room(
    run: Run, tmp_path: Path
) -> None:
    image, ledger = active_image(tmp_path), Notebook()
    with cloud(tmp_path) as there, launcher(run, there, ledger=ledger) as opened:
        put_key(there)
        there.faults.launch_status = "creating_error_quota_vcpu"
        with pytest.raises(TargetError, match="ended as error, creating_error_quota_vcpu") as caught:
            opened.launch(ORDER, image)
        failed = ledger.lines[-1][2]["id"]
        there.faults.launch_status = None
        made = opened.launch(ORDER, image)
        assert made.id != failed
        assert opened.instance(failed) is None
    assert "A quota of the account is used up" in str(caught.value)
    assert "An error occurred while creating your instance" in str(caught.value)


def test_an_instance_that_is_not_done_in_time_is_told_with_its_status(run: Run, tmp_path: Path) -> None:
    image = active_image(tmp_path)
    quick = LaunchPatience(poll=0.01, deadline=0.0, lookup=0.1, grace=0.1)
    with cloud(tmp_path) as there, launcher(run, there, patience=quick) as opened:
        put_key(there)
        with pytest.raises(TargetBusy, match="does not run after 0:00; it is new, creating") as caught:
            opened.launch(replace(ORDER, name="slow"), image)
    assert "Run the same command again to wait on" in str(caught.value)


def test_only_an_instance_with_our_label_is_deleted(run: Run, tmp_path: Path) -> None:
    image, ledger = active_image(tmp_path), Notebook()
    with cloud(tmp_path) as there, launcher(run, there, ledger=ledger) as opened, http(there) as client:
        put_key(there)
        body = {"name": "erp01", "image": {"id": image}, "machine_type": {"name": "BV1-1-10"}, "labels": ["mine"]}
        theirs = client.post("/br-se1/compute/v1/instances", json=body).json()["id"]
        assert opened.delete("erp01", LABEL, None) is False
        assert opened.delete("erp01", LABEL, theirs) is False
        assert opened.instance(theirs) is not None
        client.delete(f"/br-se1/compute/v1/instances/{theirs}")
        while opened.instance(theirs) is not None:
            pass
        ours = opened.launch(ORDER, image).id
        assert opened.delete("erp01", LABEL, ours) is True
        assert opened.delete("erp01", LABEL, ours) is True
        while opened.instance(ours) is not None:
            pass
    assert ledger.lines[-1] == ("gone", "instance", {"name": "erp01", "label": LABEL})


def test_an_instance_that_may_be_ours_and_bears_no_label_is_neither_taken_nor_doubled(run: Run, tmp_path: Path) -> None:
    image = active_image(tmp_path)
    with cloud(tmp_path) as there, launcher(run, there, begun={LABEL: None}) as opened, http(there) as client:
        put_key(there)
        body = {"name": "erp01", "image": {"id": image}, "machine_type": {"name": "BV1-1-10"}}
        assert client.post("/br-se1/compute/v1/instances", json=body).status_code == 201
        with pytest.raises(
            TargetError, match="which an earlier run may have ordered and which does not bear its label"
        ):
            opened.launch(ORDER, image)
        assert began(there) == 1
