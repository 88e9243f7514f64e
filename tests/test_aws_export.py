"""Disks that AWS exports to a bucket, for accounts whose policy forbids EBS direct: before a real server that fails on purpose."""

import json
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from adapters.aws import AwsSource, aws_source
from adapters.aws.export_rules import Exportable, disk_reasons, role_reasons
from adapters.aws.mark import Mark
from fixtures.emulators.aws import GIB, REGION, Account
from migrate.address import parse
from migrate.blocks import Disk
from migrate.errors import NotMigratable, SourceError, Stopped, UsageError
from migrate.ledger import Made
from migrate.ledger_file import LedgerFile
from migrate.run import Event, Note, Run
from migrate.source import Vm
from tests.aws_journeys import QUICK
from tests.cloud import Told

PLACES = (0, 1 << 20, 700 << 20, GIB - 4096)
"""Where a seed holds something: 4096 bytes each."""


@pytest.fixture(scope="module")
def bucket(aws_account: Account) -> str:
    aws_account.exporter()
    return aws_account.bucket("exports")


@pytest.fixture
def account(aws_account: Account, bucket: str) -> Iterator[Account]:
    yield aws_account
    aws_account.faults()


@pytest.fixture
def seed(tmp_path: Path) -> Path:
    path = tmp_path / "seed.raw"
    with path.open("wb") as file:
        file.truncate(GIB)
        for at in PLACES:
            file.seek(at)
            file.write(random.Random(at).randbytes(4096))  # noqa: S311
    return path


@contextmanager
def opened(account: Account, run: Run, what: str, bucket: str, ledger: LedgerFile | None = None) -> Iterator[AwsSource]:
    address = parse(f"aws://{REGION}/{what}")
    notes = ledger or LedgerFile(run.work / "ledger.jsonl")
    with (
        account.environment(),
        aws_source(run, address, notes, transport="export", bucket=bucket, patience=QUICK) as source,
    ):
        yield source


def described(source: AwsSource) -> Vm:
    (ref,) = source.vms()
    return source.describe(ref)


def codes(refusal: NotMigratable) -> list[str]:
    return [reason.code for reason in refusal.reasons]


def holds_what(source: AwsSource, token: str, seed: Path) -> None:
    """The frozen disk holds what the seed does, where it holds something, and zeros beside it."""
    with source.frozen(token) as (disk,), disk.nbd() as uri, Disk(uri) as read, seed.open("rb") as file:
        assert disk.size == GIB
        for at in PLACES:
            start = max(0, at - 4096)
            file.seek(start)
            assert read.read(start, min(12288, GIB - start)) == file.read(12288)


def stop_while_it_exports(run: Run, source: AwsSource, vm: Vm) -> None:
    """The user stops the run as soon as it is told that AWS exports."""

    def heard(event: Event) -> None:
        if isinstance(event, Note) and event.text.startswith("AWS is exporting"):
            run.stop.set()

    before, run.listener = run.listener, heard
    with pytest.raises(Stopped):
        source.freeze(vm, "job")
    run.listener = before


# What is refused


@pytest.mark.parametrize(("transport", "bucket"), [("export", None), ("auto", "exports"), ("direct", "exports")])
def test_an_export_and_its_bucket_go_together(run: Run, transport: str, bucket: str | None) -> None:
    with (
        pytest.raises(UsageError, match="--export-bucket go together"),
        aws_source(run, parse(f"aws://{REGION}/*"), LedgerFile(run.work / "l"), transport=transport, bucket=bucket),
    ):
        pass


def test_every_disk_that_aws_does_not_export_is_named() -> None:
    sealed, large = Exportable("vol-1", 8 * GIB, True), Exportable("vol-2", 1025 * GIB, False)
    foreign = Exportable("snap-3", GIB, False, "999999999999")
    found = [reason.text for reason in disk_reasons((sealed, large, foreign), "123456789012")]
    assert [text.partition(",")[0] for text in found] == [
        "it has 3 volumes (vol-1",
        "vol-1 is encrypted",
        "vol-2 has 1 TiB",
        "snap-3 is of account 999999999999",
    ]
    assert list(disk_reasons((Exportable("vol-1", 1024 * GIB, False),), "123456789012")) == []
    assert list(disk_reasons((Exportable("snap-1", GIB, False, "123456789012"),), "123456789012")) == []


def test_a_role_that_nobody_may_assume_is_refused_however_its_policy_is_written() -> None:
    policy = json.loads(files("adapters.aws").joinpath("vmimport-trust.json").read_text())
    assert list(role_reasons({"AssumeRolePolicyDocument": policy})) == []
    several: Any = {"Effect": "Allow", "Principal": {"Service": ["ec2.amazonaws.com", "vmie.amazonaws.com"]}}
    assert list(role_reasons({"AssumeRolePolicyDocument": {"Statement": several}})) == []
    for wrong in ({"Effect": "Deny", "Principal": {"Service": "vmie.amazonaws.com"}}, {"Principal": "*"}, "text"):
        (reason,) = role_reasons({"AssumeRolePolicyDocument": {"Statement": [wrong]}})
        assert (reason.code, "does not trust vmie.amazonaws.com" in reason.text) == ("EC2-011", True)


def test_what_a_job_is_called_is_never_too_much_for_its_things_in_aws() -> None:
    plain, odd = Mark("i-1", "erp01-0a1b2c3d4e5f"), Mark("i-1", "../Produção *1*")
    assert plain.folder == "magalu-migrate/erp01-0a1b2c3d4e5f/i-1/"
    assert re.fullmatch(r"magalu-migrate/---Produ--o--1--[0-9a-f]{16}/i-1/", odd.folder)
    assert odd.folder != Mark("i-1", "../Produção *2*").folder
    assert odd.description == r"magalu-migrate ../Produ\xe7\xe3o *1*", "EC2 refuses what is not ASCII"
    assert odd.is_on([{"Key": "magalu-migrate", "Value": odd.job}, {"Key": "magalu-migrate-of", "Value": "i-1"}])
    assert not plain.is_on([{"Key": "magalu-migrate", "Value": plain.job}])


@pytest.mark.slow
def test_everything_that_keeps_a_disk_from_being_exported_is_told_before_anything_is_made(
    account: Account, run: Run, seed: Path, bucket: str
) -> None:
    id_ = account.instance("two", seed, seed)
    before = account.holds(bucket)
    account.no_exporter()
    try:
        with opened(account, run, id_, "no-such-bucket") as source, pytest.raises(NotMigratable) as refusal:
            described(source)
        account.exporter("ec2.amazonaws.com")
        with opened(account, run, id_, bucket) as source, pytest.raises(NotMigratable) as untrusted:
            described(source)
    finally:
        account.exporter()
    assert codes(refusal.value) == ["EC2-011", "EC2-012", "EC2-010"]
    assert "there is no bucket no-such-bucket" in refusal.value.reasons[2].text
    assert codes(untrusted.value) == ["EC2-011", "EC2-012"]
    assert account.holds(bucket) == before


@pytest.mark.slow
def test_a_bucket_elsewhere_or_with_a_key_of_its_own_is_refused(account: Account, run: Run, seed: Path) -> None:
    id_ = account.instance("one", seed)
    far = account.bucket("exports-far", "eu-west-1")
    sealed = account.bucket("exports-sealed")
    rule: Any = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "k"}}
    account.s3.put_bucket_encryption(Bucket=sealed, ServerSideEncryptionConfiguration={"Rules": [rule]})
    for bucket, words in ((far, "is in eu-west-1, and the disk in sa-east-1"), (sealed, "a key of KMS")):
        with opened(account, run, id_, bucket) as source, pytest.raises(NotMigratable) as refusal:
            described(source)
        assert codes(refusal.value) == ["EC2-010"]
        assert words in refusal.value.reasons[0].text


@pytest.mark.slow
def test_every_permission_that_an_export_lacks_is_named_at_once(
    account: Account, run: Run, seed: Path, bucket: str
) -> None:
    id_ = account.instance("shut", seed)
    lacking = [
        "ec2:CreateImage",
        "ec2:ExportImage",
        "iam:GetRole",
        "s3:GetEncryptionConfiguration for bucket exports",
        "s3:ListBucket for bucket exports",
    ]
    account.faults(deny=[each.partition(" ")[0] for each in lacking])
    with opened(account, run, id_, bucket) as source, pytest.raises(NotMigratable) as refusal:
        described(source)
    assert sorted(reason.text for reason in refusal.value.reasons) == [f"the credentials lack {one}" for one in lacking]


# Freezing


@pytest.mark.slow
def test_an_instance_is_exported_without_a_restart_and_nothing_of_it_is_left(
    account: Account, run: Run, seed: Path, bucket: str
) -> None:
    id_ = account.instance("one", seed)
    before = account.holds(bucket)
    ledger = LedgerFile(run.work / "ledger.jsonl")
    account.counts(forget=True)
    with opened(account, run, id_, bucket, ledger) as source:
        vm = described(source)
        assert account.holds(bucket) == before
        token = source.freeze(vm, "a job/of *mine*")
        assert len(account.holds(bucket) - before) == 3, "an AMI, its snapshot, an object"
        assert [one.kind for one in ledger.left()] == ["aws/snapshots", "aws/image", "aws/export"]
        with opened(account, run, id_, bucket, ledger) as again:
            assert again.freeze(vm, "a job/of *mine*") == token
            holds_what(again, token, seed)
        source.release(token)
        source.release(token)
    assert account.holds(bucket) == before
    assert ledger.left() == ()
    asked = account.counts()
    assert "reboots" not in asked
    assert not any(action.startswith("ebs:") for action in asked)


@pytest.mark.slow
def test_an_ami_and_a_snapshot_are_exported_and_stay(account: Account, run: Run, seed: Path, bucket: str) -> None:
    id_ = account.instance("still", seed)
    root = account.ec2.describe_volumes(Filters=[{"Name": "attachment.instance-id", "Values": [id_]}])["Volumes"][0]
    snapshot = account.ec2.create_snapshot(VolumeId=root["VolumeId"])["SnapshotId"]
    image = account.ec2.create_image(InstanceId=id_, Name="still-2", NoReboot=True)["ImageId"]
    before = account.holds(bucket)
    for what, made in ((snapshot, 2), (image, 1)):
        with opened(account, run, what, bucket) as source:
            for _ in range(2):  # a look and then a migration have one name, and a task of the look is still listed
                token = source.freeze(described(source), "job")
                assert len(account.holds(bucket) - before) == made
                holds_what(source, token, seed)
                source.release(token)
    assert account.holds(bucket) == before


@pytest.mark.slow
@pytest.mark.parametrize("unseen", [0, 2])
def test_an_ami_and_an_export_whose_answers_were_lost_are_found_and_not_made_again(
    account: Account, run: Run, seed: Path, bucket: str, unseen: int
) -> None:
    """Also where EC2 does not show the AMI for a while: its name is taken then."""
    id_ = account.instance("lost", seed)
    before = account.holds(bucket)
    with opened(account, run, id_, bucket) as source:
        vm = described(source)
        account.faults(lost={"ec2:CreateImage": 1, "ec2:ExportImage": 1}, unseen_images=unseen)
        token = source.freeze(vm, "job")
        assert len(account.holds(bucket) - before) == 3
        source.release(token)
    assert account.holds(bucket) == before


@pytest.mark.slow
def test_a_wait_for_an_export_can_be_stopped_and_taken_up(account: Account, run: Run, seed: Path, bucket: str) -> None:
    id_ = account.instance("slow", seed)
    before = account.holds(bucket)
    with opened(account, run, id_, bucket) as source:
        vm = described(source)
        account.faults(exporting=1.0)
        stop_while_it_exports(run, source, vm)
        run.stop.clear()
        token = source.freeze(vm, "job")
        assert len(account.holds(bucket) - before) == 3
        source.release(token)
    assert account.holds(bucket) == before


@pytest.mark.slow
def test_a_disk_waits_for_its_turn_where_aws_exports_as_many_as_it_does(
    account: Account, run: Run, seed: Path, bucket: str
) -> None:
    id_ = account.instance("waits", seed)
    image = account.ec2.create_image(InstanceId=id_, Name="waits-1", NoReboot=True)["ImageId"]
    told = run.listener = Told()
    with opened(account, run, id_, bucket) as source:
        vm = described(source)
        account.faults(exporting=0.5, exports_at_once=1)
        place: Any = {"S3Bucket": bucket, "S3Prefix": "somebody/"}
        account.ec2.export_image(ImageId=image, DiskImageFormat="RAW", S3ExportLocation=place)
        source.release(source.freeze(vm, "job"))
    assert f"AWS is exporting as many disks as it does at a time: {id_} has to wait" in told.text


@pytest.mark.slow
def test_an_export_that_fails_is_told_in_aws_s_words_and_leaves_nothing(
    account: Account, run: Run, seed: Path, bucket: str
) -> None:
    id_ = account.instance("fails", seed)
    before = account.holds(bucket)
    ledger = LedgerFile(run.work / "ledger.jsonl")
    with opened(account, run, id_, bucket, ledger) as source:
        vm = described(source)
        account.faults(export_fails="ClientError: the role vmimport may not write")
        with pytest.raises(SourceError, match=r"AWS did not export it: .*the role vmimport may not write"):
            source.freeze(vm, "job")
        account.faults(deny=["ec2:ExportImage"])
        with pytest.raises(SourceError, match="the credentials lack ec2:ExportImage"):
            source.freeze(vm, "job")
    assert account.holds(bucket) == before
    assert ledger.left() == ()


# Reading, while things go wrong


@contextmanager
def frozen(account: Account, run: Run, seed: Path, bucket: str) -> Iterator[tuple[str, str]]:
    """The URI of a frozen disk, and the key of its object."""
    with opened(account, run, account.instance("read", seed), bucket) as source:
        token = source.freeze(described(source), "job")
        try:
            with source.frozen(token) as (disk,), disk.nbd() as uri:
                account.counts(forget=True)
                yield uri, json.loads(token)["disks"][0]["key"]
        finally:
            account.faults()
            source.release(token)


@pytest.mark.slow
def test_a_bucket_that_throttles_fails_and_cuts_for_a_moment_is_asked_again(
    account: Account, run: Run, seed: Path, bucket: str
) -> None:
    told = run.listener = Told()
    with frozen(account, run, seed, bucket) as (uri, _), Disk(uri) as disk:
        account.faults(throttle={"s3:GetObject": 1}, unavailable={"s3:GetObject": 1}, cut=1)
        assert disk.read(700 << 20, 4096) == random.Random(700 << 20).randbytes(4096)  # noqa: S311
        assert account.counts()["bytes"] == 2 * (512 << 10), "it was cut once"
    assert "fewer requests" in told.text and "trying again" in told.text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("changed", "is not what AWS exported: somebody has changed it"),
        ("deleted", "is gone: somebody has deleted it"),
        ("denied", "the credentials lack s3:GetObject"),
    ],
)
def test_an_object_that_cannot_be_read_to_its_end_is_an_error_in_words(
    account: Account, run: Run, seed: Path, bucket: str, what: str, error: str
) -> None:
    with (
        pytest.raises(SourceError, match=error),
        frozen(account, run, seed, bucket) as (uri, key),
        Disk(uri) as disk,
    ):
        disk.read(0, 4096)
        match what:
            case "changed":
                account.s3.put_object(Bucket=bucket, Key=key, Body=b"another")
            case "deleted":
                account.s3.delete_object(Bucket=bucket, Key=key)
            case _:
                account.faults(deny=["s3:GetObject"])
        disk.read(700 << 20, 4096)


# Taking back


@pytest.mark.slow
@pytest.mark.parametrize("finishing", [False, True])
def test_an_export_that_is_on_its_way_is_ended_and_what_it_writes_all_the_same_is_deleted(
    account: Account, run: Run, seed: Path, bucket: str, finishing: bool
) -> None:
    id_ = account.instance("undone", seed)
    before = account.holds(bucket)
    ledger = LedgerFile(run.work / "ledger.jsonl")
    account.faults(exporting=0.7, finishing=finishing)
    with opened(account, run, id_, bucket, ledger) as source:
        vm = described(source)
        stop_while_it_exports(run, source, vm)
        assert account.holds(bucket) > before
        assert list(source.undo(ledger.left())) == [], "and that is done to its end although the user has stopped"
    assert account.holds(bucket) == before
    assert ledger.left() == ()


@pytest.mark.slow
def test_what_an_export_leaves_is_told_and_stays_in_the_ledger(
    account: Account, run: Run, seed: Path, bucket: str
) -> None:
    id_ = account.instance("kept", seed)
    before = account.holds(bucket)
    ledger = LedgerFile(run.work / "ledger.jsonl")
    with opened(account, run, id_, bucket, ledger) as source:
        source.freeze(described(source), "job")
        denied = ["s3:DeleteObject", "ec2:DeregisterImage", "ec2:DeleteSnapshot"]
        account.faults(deny=denied)
        said = list(source.undo(ledger.left()))
        assert len(said) == 3
        for text, action in zip(said, denied, strict=True):
            assert f"the credentials lack {action}" in text and "magalu-migrate=job could not be taken back" in text
        assert len(ledger.left()) == 3
        account.faults()
        assert list(source.undo(ledger.left())) == []
    assert account.holds(bucket) == before


@pytest.mark.slow
def test_only_our_own_exports_images_and_objects_are_taken_back(
    account: Account, run: Run, seed: Path, bucket: str
) -> None:
    id_ = account.instance("mine", seed)
    prefix = f"magalu-migrate/job/{id_}/"
    others = (f"{prefix}notes.txt", f"magalu-migrate/job-2/{id_}/export-ami-0123.raw", "export-ami-0123.raw")
    for key in others:
        account.s3.put_object(Bucket=bucket, Key=key, Body=b"somebody's")
    account.ec2.create_image(InstanceId=id_, Name="mine-1", NoReboot=True)
    ledger, other = LedgerFile(run.work / "ledger.jsonl"), LedgerFile(run.work / "other.jsonl")
    with opened(account, run, id_, bucket, other) as source:
        theirs = source.freeze(described(source), "job-2")
    before = account.holds(bucket)
    try:
        with opened(account, run, id_, bucket, ledger) as source:
            source.freeze(described(source), "job")
            names = {"region": REGION, "of": id_, "job": "job", "bucket": bucket}
            assert list(source.undo([Made("aws/export", names), *ledger.left()])) == []
            assert account.holds(bucket) == before
            holds_what(source, theirs, seed)
    finally:
        with opened(account, run, id_, bucket, other) as source:
            source.release(theirs)
        account.s3.delete_object(Bucket=bucket, Key=others[0])
        account.s3.delete_object(Bucket=bucket, Key=others[2])


@pytest.mark.slow
def test_the_policy_for_exports_suffices_and_holds_no_action_too_many(
    account: Account, run: Run, seed: Path, bucket: str
) -> None:
    policy = json.loads(files("adapters.aws").joinpath("policy-export.json").read_text())
    allowed = {
        action
        for statement in policy["Statement"]
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    }
    id_ = account.instance("least", seed)
    root = account.ec2.describe_volumes(Filters=[{"Name": "attachment.instance-id", "Values": [id_]}])["Volumes"][0]
    snapshot = account.ec2.create_snapshot(VolumeId=root["VolumeId"])["SnapshotId"]
    before = account.holds(bucket)
    account.counts(forget=True)
    account.faults(allow=sorted(allowed))
    ledger = LedgerFile(run.work / "ledger.jsonl")
    for what in (id_, snapshot):
        with opened(account, run, what, bucket, ledger) as source:
            assert len(list(source.list())) == 1
            token = source.freeze(described(source), "job")
            holds_what(source, token, seed)
            source.release(token)
    with opened(account, run, id_, bucket, ledger) as source:
        account.faults(allow=sorted(allowed), exporting=60.0)
        stop_while_it_exports(run, source, described(source))
        assert list(source.undo(ledger.left())) == []
    asked = account.counts().keys() - {"bytes"}
    account.faults()
    assert account.holds(bucket) == before
    # Tags are made with what is made; AWS checks that by itself.
    assert asked == allowed - {"ec2:CreateTags"}
