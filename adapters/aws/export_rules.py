"""What keeps AWS from exporting a disk to a bucket, told before anything is made.

Source: the VM Import/Export user guide, "Considerations for image export" and "Required permissions".
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from adapters.aws.account import Account, Answered
from adapters.aws.exports import ROLE
from adapters.aws.refusals import Code
from migrate.errors import Reason
from migrate.text import one_line, size

LARGEST = 1 << 40
EXPORTER = "vmie.amazonaws.com"
DIRECT = "Read it by EBS direct: --transport direct."
ONE_REGION = {None: "us-east-1", "": "us-east-1", "EU": "eu-west-1"}
"""What S3 says of buckets that are older than its present names. Source: S3 API reference, GetBucketLocation."""


@dataclass(frozen=True, slots=True)
class Exportable:
    """A volume or snapshot as far as an export cares. `size` in bytes; `owner` is an account, None where it is the caller's."""

    id: str
    size: int
    encrypted: bool
    owner: str | None = None


def disk_reasons(disks: tuple[Exportable, ...], account: str | None) -> Iterator[Reason]:
    """Yield why these disks are not exported; `account` is the caller's, None where it is not known."""
    if len(disks) > 1:
        yield Reason(
            Code.NOT_EXPORTED,
            f"it has {len(disks)} volumes ({', '.join(one_line(disk.id) for disk in disks)}), and an export holds one disk",
            "Read them by EBS direct (--transport direct), or detach all but the root volume.",
        )
    for disk in disks:
        if disk.encrypted:
            yield Reason(Code.NOT_EXPORTED, f"{one_line(disk.id)} is encrypted, and AWS exports no such disk", DIRECT)
        if disk.size > LARGEST:
            text = f"{one_line(disk.id)} has {size(disk.size)}, and AWS exports no more than {size(LARGEST)}"
            yield Reason(Code.NOT_EXPORTED, text, DIRECT)
        if None not in (disk.owner, account) and disk.owner != account:
            text = (
                f"{one_line(disk.id)} is of account {one_line(str(disk.owner))}, and AWS exports an account's own only"
            )
            yield Reason(Code.NOT_EXPORTED, text, "Copy it to this account first, or export it there.")


def role(account: Account) -> Mapping[str, Any] | None:
    """Return the role with which AWS exports; None where there is none. Raise Answered where it may not be looked at."""
    what = f"look at the role {ROLE}"
    try:
        answer = account.tries(what, lambda: account.asked("iam", what, lambda: account.iam.get_role(RoleName=ROLE)))
    except Answered as error:
        if error.code == "NoSuchEntity":
            return None
        raise
    return dict(answer["Role"])


def account_of(role: Mapping[str, Any] | None) -> str | None:
    """Return the account of a role, which is the caller's: arn:aws:iam::123456789012:role/vmimport."""
    fields = str((role or {}).get("Arn", "")).split(":")
    return fields[4] if len(fields) > 5 else None


def role_reasons(role: Mapping[str, Any] | None) -> Iterator[Reason]:
    remedy = "Make it of adapters/aws/vmimport-trust.json and adapters/aws/vmimport-role.json."
    if role is None:
        yield Reason(Code.ROLE, f"there is no role {ROLE}, with which AWS would write into the bucket", remedy)
    elif EXPORTER not in _trusted(role.get("AssumeRolePolicyDocument")):
        yield Reason(Code.ROLE, f"the role {ROLE} does not trust {EXPORTER}, which exports", remedy)


def bucket_reasons(account: Account, bucket: str, prefix: str) -> Iterator[Reason | Answered]:
    """Yield why the bucket cannot take the export, and what may not be asked of it."""
    shown = one_line(bucket)
    try:
        place = _asked(account, f"look at {shown}", lambda: account.s3.get_bucket_location(Bucket=bucket))
    except Answered as error:
        if error.denied:
            yield error
        elif error.code in ("NoSuchBucket", "InvalidBucketName"):
            yield Reason(
                Code.BUCKET, f"there is no bucket {shown}", f"aws s3 mb s3://{shown} --region {account.region}"
            )
        else:
            raise
        return
    constraint = place.get("LocationConstraint")
    region = ONE_REGION.get(constraint, constraint)
    if region != account.region:
        text = f"bucket {shown} is in {one_line(str(region))}, and the disk in {account.region}"
        yield Reason(Code.BUCKET, text, f"Name a bucket in {account.region} with --export-bucket.")
        return
    for ask in (_key_reasons, _listing_reasons):
        try:
            yield from ask(account, bucket, prefix)
        except Answered as error:
            if not error.denied:
                raise
            yield error


def _key_reasons(account: Account, bucket: str, prefix: str) -> list[Reason]:
    try:
        told = _asked(account, f"look at {bucket}", lambda: account.s3.get_bucket_encryption(Bucket=bucket))
    except Answered as error:
        if error.code == "ServerSideEncryptionConfigurationNotFoundError":
            return []
        raise
    rules = told["ServerSideEncryptionConfiguration"]["Rules"]
    kinds = [rule.get("ApplyServerSideEncryptionByDefault", {}).get("SSEAlgorithm", "AES256") for rule in rules]
    if not any(kind.startswith("aws:kms") for kind in kinds):
        return []
    text = f"bucket {one_line(bucket)} is encrypted with a key of KMS, and AWS exports to none such"
    return [Reason(Code.BUCKET, text, "Name a bucket with SSE-S3 (AES256), or without encryption.")]


def _listing_reasons(account: Account, bucket: str, prefix: str) -> list[Reason]:
    what = f"list {bucket}"
    _asked(account, what, lambda: account.s3.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1))
    return []


def _asked(account: Account, what: str, call: Any) -> Any:
    return account.tries(what, lambda: account.asked("s3", what, call))


def _trusted(policy: Any) -> set[str]:
    """The services that a trust policy lets assume its role."""
    if not isinstance(policy, dict):
        return set()
    found: set[str] = set()
    statements = policy.get("Statement", ())
    for statement in statements if isinstance(statements, list) else [statements]:
        if isinstance(statement, dict) and statement.get("Effect") == "Allow":
            principal = statement.get("Principal", {})
            services = principal.get("Service", ()) if isinstance(principal, dict) else ()
            found |= {services} if isinstance(services, str) else {str(one) for one in services}
    return found
