"""The AWS source before a real server that fails on purpose: EC2, EBS direct, KMS."""

import dataclasses
import json
import logging
import os
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import pytest

from adapters.aws import AwsSource, aws_source
from fixtures.emulators.authority import Authority
from fixtures.emulators.aws import EXPIRED, GIB, REGION, SECRET_KEY, SESSION_TOKEN, UNKNOWN, Account, aws
from migrate.address import parse
from migrate.blocks import Disk as Opened
from migrate.errors import NotMigratable, SourceBusy, SourceError, Stopped, UsageError
from migrate.ledger_file import LedgerFile
from migrate.run import Note, Run
from migrate.source import Disk, Firmware, Vm
from tests.aws_journeys import QUICK
from tests.cloud import Told, known_from

pytestmark = pytest.mark.slow
BLOCK = 512 << 10


@pytest.fixture
def account(aws_account: Account) -> Iterator[Account]:
    yield aws_account
    aws_account.faults()


@pytest.fixture
def seeds(tmp_path: Path) -> tuple[Path, Path]:
    """Two disks of 1 GiB, with eight and with two blocks that hold something."""
    first, second = tmp_path / "first.raw", tmp_path / "second.raw"
    for path, places in ((first, (0, 1, 2, 9, 10, 700, 701, 2047)), (second, (0, 5))):
        chance = random.Random(path.name)  # noqa: S311
        with path.open("wb") as file:
            file.truncate(GIB)
            for index in places:
                file.seek(index * BLOCK)
                file.write(chance.randbytes(BLOCK))
    return first, second


@contextmanager
def opened(run: Run, what: str, ledger: LedgerFile | None = None, **variables: str) -> Iterator[AwsSource]:
    with aws_source(
        run, parse(f"aws://{REGION}/{what}"), ledger or LedgerFile(run.work / "ledger.jsonl"), patience=QUICK
    ) as source:
        yield source


def described(source: AwsSource) -> Vm:
    (ref,) = source.vms()
    return source.describe(ref)


def codes(refusal: NotMigratable) -> list[str]:
    return [reason.code for reason in refusal.reasons]


def compare(run: Run, uri: str, path: Path) -> None:
    run.tool(["qemu-img", "compare", "-f", "raw", "-F", "raw", uri, path])


# Looking


def test_an_instance_is_described_as_ec2_knows_it(account: Account, run: Run, seeds: tuple[Path, Path]) -> None:
    id_ = account.instance("web01", *seeds)
    account.alter(id_, current_instance_boot_mode="uefi", platform_details="Linux/UNIX")
    with account.environment(), opened(run, id_) as source:
        (ref,) = source.vms()
        vm = source.describe(ref)
        assert (ref.address, ref.name) == (f"aws://{REGION}/{id_}", "web01")
    (nic,) = vm.nics
    assert nic.mac is not None and nic.mac.startswith("02:")
    assert dataclasses.replace(vm, nics=()) == Vm(
        name="web01",
        origin="AWS",
        disks=(Disk("sda1", GIB, "raw"), Disk("sdf", GIB, "raw")),
        firmware=Firmware.UEFI,
        vcpus=2,
        memory_bytes=2 * GIB,
        os_hint="Linux/UNIX",
        address=f"aws://{REGION}/{id_}",
        power="running",
        tags=(("Name", "web01"),),
    )


def test_everything_that_refuses_is_told_at_once(account: Account, run: Run, seeds: tuple[Path, Path]) -> None:
    id_ = account.instance("bad", seeds[0], image="ami-3333333333333333a")
    account.alter(id_, platform="windows", platform_details="Windows", root_device_name="/dev/xvda")
    account.faults(deny=["ec2:CreateSnapshots"])
    with account.environment(), opened(run, id_) as source, pytest.raises(NotMigratable) as refusal:
        described(source)
    assert codes(refusal.value) == ["EC2-008", "EC2-001", "EC2-005", "EC2-009"]
    assert refusal.value.subject == "bad"


def test_every_missing_permission_is_named_at_once(account: Account, run: Run, seeds: tuple[Path, Path]) -> None:
    id_ = account.instance("secret", seeds[0])
    lacking = ["ec2:CreateSnapshots", "ec2:DescribeInstanceTypes", "ec2:DescribeInstances", "ec2:DescribeVolumes"]
    account.faults(deny=lacking)
    with account.environment(), opened(run, id_) as source, pytest.raises(NotMigratable) as refusal:
        described(source)
    assert sorted(reason.text for reason in refusal.value.reasons) == [f"the credentials lack {one}" for one in lacking]
    assert all(reason.remedy and '"ec2:' in reason.remedy for reason in refusal.value.reasons)


def test_an_encrypted_volume_asks_for_its_key(account: Account, run: Run, seeds: tuple[Path, Path]) -> None:
    id_ = account.instance("sealed", seeds[0])
    ec2 = account.ec2
    zone = ec2.describe_instances(InstanceIds=[id_])["Reservations"][0]["Instances"][0]["Placement"]["AvailabilityZone"]
    key = account.kms.create_key()["KeyMetadata"]["Arn"]
    volume = ec2.create_volume(Size=1, AvailabilityZone=zone, Encrypted=True, KmsKeyId=key)["VolumeId"]
    ec2.attach_volume(VolumeId=volume, InstanceId=id_, Device="/dev/sdf")
    with account.environment(), opened(run, id_) as source:
        assert [disk.name for disk in described(source).disks] == ["sda1", "sdf"]
        account.faults(deny=["kms:DescribeKey"])
        with pytest.raises(NotMigratable) as refusal:
            described(source)
        account.faults()
        account.kms.disable_key(KeyId=key.rpartition("/")[2])
        with pytest.raises(NotMigratable) as disabled:
            described(source)
    assert codes(refusal.value) == codes(disabled.value) == ["EC2-003"]
    assert "the credentials lack kms:DescribeKey" in refusal.value.reasons[0].text
    assert "kms:Decrypt" in str(refusal.value.reasons[0].remedy)
    assert f"volume {volume} is encrypted with" in disabled.value.reasons[0].text
    assert disabled.value.reasons[0].text.endswith("which is Disabled")


def test_three_hundred_instances_are_listed_in_a_handful_of_requests(account: Account, run: Run) -> None:
    account.ec2.run_instances(
        ImageId="ami-1111111111111111a",
        MinCount=300,
        MaxCount=300,
        InstanceType="t3.small",
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "herd"}]}],
    )
    account.counts(forget=True)
    with account.environment(), opened(run, "her*") as source:
        found = list(source.list())
    assert len(found) == 300
    assert {(vm.name, vm.vcpus, len(vm.disks)) for vm in found} == {("herd", 2, 1)}
    assert sum(account.counts().values()) <= 5


def test_ec2_that_fails_for_a_moment_is_asked_again_and_that_is_told(account: Account, run: Run) -> None:
    told = run.listener = Told()
    account.faults(unavailable={"ec2:DescribeInstances": 1}, throttle={"ec2:DescribeVolumes": 1})
    with account.environment(), opened(run, "*") as source:
        list(source.list())
    assert "AWS: trying again (2 of 6)" in told.text and "fewer requests a second" in told.text


def test_what_is_not_there_is_said(account: Account, run: Run) -> None:
    with account.environment():
        for what in ("i-00000000000000000", "ami-0000000000000000f", "snap-00000000000000000"):
            with opened(run, what) as source, pytest.raises(SourceError, match=what):
                tuple(source.vms())
        with opened(run, "no-such-name") as source:
            assert tuple(source.vms()) == ()


@pytest.mark.parametrize("text", ["aws://nowhere/i-0123456789abcdef0", "aws://sa-east-1/a/b"])
def test_an_address_that_means_nothing_is_refused(run: Run, text: str) -> None:
    with pytest.raises(UsageError), aws_source(run, parse(text), LedgerFile(run.work / "l")):
        pass


# Freezing


def test_all_volumes_are_read_as_they_were(account: Account, run: Run, seeds: tuple[Path, Path]) -> None:
    id_ = account.instance("two", *seeds)
    account.faults(pending=2, longest_page=3)
    with account.environment(), opened(run, id_) as source:
        token = source.freeze(described(source), "job")
        with source.frozen(token) as disks:
            for disk, seed in zip(disks, seeds, strict=True):
                with disk.nbd() as uri:
                    compare(run, uri, seed)
        source.release(token)


def test_snapshots_whose_answer_was_lost_are_found_and_not_made_again(
    account: Account, run: Run, seeds: tuple[Path, Path]
) -> None:
    id_ = account.instance("lost", *seeds)
    before = account.snapshots()
    with account.environment(), opened(run, id_) as source:
        vm = described(source)
        account.faults(lost={"ec2:CreateSnapshots": 1})
        token = source.freeze(vm, "job")
        assert len(account.snapshots() - before) == 2
        assert source.freeze(vm, "job") == token
        source.release(token)
    assert account.snapshots() == before


def test_snapshots_that_ec2_does_not_show_yet_are_waited_for_and_deleted_all_the_same(
    account: Account, run: Run, seeds: tuple[Path, Path]
) -> None:
    id_ = account.instance("shy", *seeds)
    before = account.snapshots()
    with account.environment(), opened(run, id_) as source:
        vm = described(source)
        account.faults(unseen=3)
        token = source.freeze(vm, "job")
        assert len(account.snapshots() - before) == 2
        source.release(token)
        account.faults(unseen=2, deny=["ebs:ListSnapshotBlocks"])
        with pytest.raises(SourceError, match="ebs:ListSnapshotBlocks"):
            source.freeze(vm, "job")
        account.faults()
    assert account.snapshots() == before


def test_a_wait_for_a_snapshot_can_be_stopped_and_taken_up(
    account: Account, run: Run, seeds: tuple[Path, Path]
) -> None:
    id_ = account.instance("slow", seeds[0])
    before = account.snapshots()
    with account.environment(), opened(run, id_) as source:
        vm = described(source)
        account.faults(pending=1000)
        timer = threading.Timer(0.5, run.stop.set)
        timer.start()
        with pytest.raises(Stopped):
            source.freeze(vm, "job")
        timer.join()
        run.stop.clear()
        assert len(account.snapshots() - before) == 1
        account.faults()
        token = source.freeze(vm, "job")
        assert len(account.snapshots() - before) == 1
        source.release(token)


def test_where_ebs_direct_is_denied_no_snapshot_is_left(account: Account, run: Run, seeds: tuple[Path, Path]) -> None:
    id_ = account.instance("shut", seeds[0])
    before = account.snapshots()
    account.faults(deny=["ebs:GetSnapshotBlock"])
    ledger = LedgerFile(run.work / "ledger.jsonl")
    with account.environment(), opened(run, id_, ledger) as source:
        vm = described(source)
        with pytest.raises(SourceError, match="the credentials lack ebs:GetSnapshotBlock"):
            source.freeze(vm, "job")
    assert account.snapshots() == before
    assert ledger.left() == ()


def test_a_snapshot_and_an_ami_are_frozen_already_and_stay(
    account: Account, run: Run, seeds: tuple[Path, Path]
) -> None:
    id_ = account.instance("still", seeds[0])
    root = account.ec2.describe_volumes(Filters=[{"Name": "attachment.instance-id", "Values": [id_]}])["Volumes"][0]
    snapshot = account.ec2.create_snapshot(VolumeId=root["VolumeId"], Description="before the upgrade")["SnapshotId"]
    image = account.ec2.create_image(InstanceId=id_, Name="still-1", Description="golden", NoReboot=True)["ImageId"]
    before = account.snapshots()
    with account.environment():
        with opened(run, snapshot) as source:
            vm = described(source)
            assert (vm.description, vm.disks) == ("before the upgrade", (Disk(snapshot, GIB, "raw"),))
            token = source.freeze(vm, "job")
            with source.frozen(token) as (disk,), disk.nbd() as uri:
                compare(run, uri, seeds[0])
            source.release(token)
            account.faults(deny=["ebs:ListSnapshotBlocks"])
            with pytest.raises(NotMigratable) as refusal:
                described(source)
            assert codes(refusal.value) == ["EC2-008"]
            account.faults()
        with opened(run, image) as source:
            vm = described(source)
            assert (vm.name, vm.description, vm.power) == ("still-1", "golden", "available")
            assert vm.disks == (Disk("sda1", GIB, "raw"),)
            token = source.freeze(vm, "job")
            with source.frozen(token) as (disk,), disk.nbd() as uri:
                compare(run, uri, seeds[0])
            source.release(token)
    assert account.snapshots() == before


# Reading, while things go wrong


@contextmanager
def frozen(account: Account, run: Run, seed: Path) -> Iterator[str]:
    """The URI of a frozen disk."""
    with account.environment(), opened(run, account.instance("read", seed)) as source:
        token = source.freeze(described(source), "job")
        with source.frozen(token) as (disk,), disk.nbd() as uri:
            account.counts(forget=True)
            yield uri
        account.faults()
        source.release(token)


def test_a_throttled_read_is_slowed_down_and_told_once(account: Account, run: Run, seeds: tuple[Path, Path]) -> None:
    told = run.listener = Told()
    with frozen(account, run, seeds[0]) as uri:
        account.faults(throttle={"ebs:GetSnapshotBlock": 5})
        compare(run, uri, seeds[0])
    notes = [event.text for event in told.events if isinstance(event, Note)]
    assert [text for text in notes if "fewer requests" in text] == [
        f"AWS takes fewer requests a second in {REGION} than it got; it is asked more slowly"
    ]
    assert not any("trying again" in text for text in notes)


def test_a_service_that_fails_for_a_moment_is_asked_again(account: Account, run: Run, seeds: tuple[Path, Path]) -> None:
    with frozen(account, run, seeds[0]) as uri:
        account.faults(unavailable={"ebs:GetSnapshotBlock": 2}, corrupt=2, cut=2)
        compare(run, uri, seeds[0])


def test_a_block_that_never_comes_as_it_was_sent_is_an_error_and_not_a_disk(
    account: Account, run: Run, seeds: tuple[Path, Path]
) -> None:
    with (
        pytest.raises(SourceBusy, match=r"read block 0 of snap-\w+: 524288 bytes came with SHA-256 .*were sent"),
        frozen(account, run, seeds[0]) as uri,
        Opened(uri) as disk,
    ):
        account.faults(corrupt=1000)
        disk.read(0, 4096)


def test_tokens_that_expire_are_listed_again_once_for_all_threads(
    account: Account, run: Run, seeds: tuple[Path, Path]
) -> None:
    with frozen(account, run, seeds[0]) as uri:
        with Opened(uri) as disk:
            assert disk.read(0, 512) == seeds[0].read_bytes()[:512]
        account.faults(expire_tokens=1)
        account.counts(forget=True)
        with Opened(uri) as disk, ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda index: disk.read(index * BLOCK, 512), (1, 2, 9, 10, 700, 701, 2047)))
        assert account.counts()["ebs:ListSnapshotBlocks"] <= 2
        compare(run, uri, seeds[0])


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("denied", "read block 700 of snap-.*: the credentials lack ebs:GetSnapshotBlock"),
        ("deleted", "snap-.* is gone: somebody has deleted it"),
        ("throttled for good", "read block 700 of snap-.*: AWS takes no more requests now"),
    ],
)
def test_a_disk_that_cannot_be_read_to_its_end_is_an_error_in_words(
    account: Account, run: Run, seeds: tuple[Path, Path], what: str, error: str
) -> None:
    before = account.snapshots()
    with pytest.raises(SourceError, match=error), frozen(account, run, seeds[0]) as uri, Opened(uri) as disk:
        disk.read(0, 4096)
        match what:
            case "denied":
                account.faults(deny=["ebs:GetSnapshotBlock"])
            case "deleted":
                (snapshot,) = account.snapshots() - before
                account.ec2.delete_snapshot(SnapshotId=snapshot)
            case _:
                account.faults(throttle={"ebs:GetSnapshotBlock": 1000})
        disk.read(700 * BLOCK, 4096)
    account.faults()
    for snapshot in account.snapshots() - before:
        account.ec2.delete_snapshot(SnapshotId=snapshot)


def test_only_what_is_asked_for_is_read(account: Account, run: Run, seeds: tuple[Path, Path]) -> None:
    with frozen(account, run, seeds[0]) as uri, Opened(uri) as disk:
        disk.read(100 << 20, 64 << 20)
        assert "bytes" not in account.counts()
        for _ in range(2):
            disk.read(9 * BLOCK + 5, 100)
        assert account.counts()["bytes"] == BLOCK


# Permissions, credentials and TLS


def test_the_policy_that_we_publish_suffices_and_holds_no_action_too_many(
    account: Account, run: Run, seeds: tuple[Path, Path]
) -> None:
    policy = json.loads(files("adapters.aws").joinpath("policy.json").read_text())
    allowed = {
        action
        for statement in policy["Statement"]
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    }
    id_ = account.instance("least", seeds[0])
    ec2 = account.ec2
    zone = ec2.describe_instances(InstanceIds=[id_])["Reservations"][0]["Instances"][0]["Placement"]["AvailabilityZone"]
    sealed = ec2.create_volume(Size=1, AvailabilityZone=zone, Encrypted=True)["VolumeId"]
    ec2.create_tags(Resources=[sealed], Tags=[{"Key": "seed", "Value": str(seeds[1])}])
    ec2.attach_volume(VolumeId=sealed, InstanceId=id_, Device="/dev/sdf")
    image = ec2.create_image(InstanceId=id_, Name="least-1", NoReboot=True)["ImageId"]
    account.counts(forget=True)
    account.faults(allow=sorted(allowed))
    ledger = LedgerFile(run.work / "ledger.jsonl")
    with account.environment():
        for what in (id_, image):
            with opened(run, what, ledger) as source:
                assert len(list(source.list())) == 1
                token = source.freeze(described(source), "job")
                with source.frozen(token) as disks:
                    for disk, seed in zip(disks, seeds, strict=False):
                        with disk.nbd() as uri:
                            compare(run, uri, seed)
                source.release(token)
                assert list(source.undo(ledger.left())) == []
    # What AWS checks while it does something else: tags are made with the snapshot, blocks are decrypted as they are read.
    indirect = {"ec2:CreateTags", "kms:Decrypt"}
    assert account.counts().keys() - {"bytes"} == allowed - indirect


def test_credentials_that_aws_does_not_take_are_named(account: Account, run: Run) -> None:
    unknown_keys = pytest.raises(SourceError, match="AWS does not know these credentials")
    with account.environment(**UNKNOWN), opened(run, "*") as source, unknown_keys as unknown:
        list(source.list())
    old_keys = pytest.raises(SourceError, match="have expired")
    with account.environment(**EXPIRED), opened(run, "*") as source, old_keys as expired:
        list(source.list())
    with account.environment():
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            del os.environ[name]
        with opened(run, "*") as source, pytest.raises(SourceError, match="there are no AWS credentials"):
            list(source.list())
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
            os.environ[name] = ""
        os.environ["AWS_PROFILE"] = "nobody"
        with pytest.raises(UsageError, match="nobody"), opened(run, "*"):
            pass
        del os.environ["AWS_PROFILE"]
    for failure in (unknown, expired):
        assert SECRET_KEY not in known_from(failure.value)
        assert SESSION_TOKEN not in known_from(failure.value)


def test_credentials_that_expire_while_a_disk_is_read_are_named(
    account: Account, run: Run, seeds: tuple[Path, Path]
) -> None:
    with account.environment():
        id_ = account.instance("expires", seeds[0])
        with opened(run, id_) as source:
            token = source.freeze(described(source), "job")
        with (
            account.environment(**EXPIRED),
            opened(run, id_) as source,
            source.frozen(token) as (disk,),
            pytest.raises(SourceError, match="the AWS credentials have expired"),
            disk.nbd(),
        ):
            pass
        with opened(run, id_) as source:
            source.release(token)


def test_no_secret_is_in_logs_events_ledger_token_or_tracebacks(
    account: Account, run: Run, seeds: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    told = run.listener = Told()
    id_ = account.instance("quiet", seeds[0])
    ledger = LedgerFile(run.work / "ledger.jsonl")
    with caplog.at_level(logging.DEBUG), account.environment(), opened(run, id_, ledger) as source:
        token = source.freeze(described(source), "job")
        account.faults(corrupt=1000)
        with (
            pytest.raises(SourceError) as failure,
            source.frozen(token) as (disk,),
            disk.nbd() as uri,
            Opened(uri) as nbd,
        ):
            nbd.read(0, 512)
        account.faults(deny=["ec2:DeleteSnapshot"])
        with pytest.raises(SourceError) as denied:
            source.release(token)
        account.faults()
        source.release(token)
    assert told.events
    known = [caplog.text, told.text, token, (run.work / "ledger.jsonl").read_text()]
    known += [known_from(failure.value), known_from(denied.value)]
    for text in known:
        assert SECRET_KEY not in text and SESSION_TOKEN not in text and "blockToken" not in text


def test_a_certificate_of_nobody_is_refused_and_one_of_a_given_root_is_taken(run: Run, tmp_path: Path) -> None:
    authority = Authority.made(tmp_path, "127.0.0.1")
    address = parse(f"aws://{REGION}/*")
    ledger = LedgerFile(run.work / "ledger.jsonl")
    with aws(Run(tmp_path), tmp_path / "aws", authority) as account, account.environment():
        with aws_source(run, address, ledger) as source, pytest.raises(SourceError, match="certificate is not trusted"):
            list(source.list())
        with aws_source(run, address, ledger, ca=authority.ca) as source:
            assert list(source.list()) == []
