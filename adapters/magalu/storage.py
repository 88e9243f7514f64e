"""Magalu Cloud's object storage: buckets, objects, unfinished uploads, pre-signed URLs. It speaks S3, in OpenStack Swift's accent.

Quirks kept here: path style addresses, the region's own name in the signature, no checksum headers that are newer than Content-MD5
(Magalu's Terraform guide asks to switch them off), an object's multipart ETag is never interpreted.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
import botocore.session
import httpx
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from adapters.magalu.credentials import Credentials
from adapters.magalu.regions import Region
from migrate.errors import TargetBusy, TargetError
from migrate.ledger import Ledger
from migrate.run import Note, Run
from migrate.secret import Secret
from migrate.target import ObjectRef
from migrate.text import shown

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MARK_KEY = "magalu-migrate-mark"
"""Metadata of an object: what its upload was begun with. A multipart ETag is no checksum, and whose it is cannot be seen from it."""

QCOW2_MAGIC = b"QFI\xfb"
ATTEMPTS = 5
CONNECT_S = 30
"""Also how long one write may stall: urllib3 has no other limit for sending."""

READ_S = 90

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Stored:
    """An object that is there. `mark` where its upload was ours."""

    bytes: int
    mark: str | None


@dataclass(frozen=True, slots=True)
class Part:
    """A part that the server has. `etag` is as the server wrote it, quotes and all."""

    number: int
    bytes: int
    etag: str


def default_bucket(credentials: Credentials) -> str:
    """Return a bucket name that is the same at each run with these keys, and nobody else's: names are global in Magalu Cloud."""
    return f"magalu-migrate-{hashlib.sha256(credentials.key_id.reveal().encode()).hexdigest()[:12]}"


class Storage:
    """One region's object storage, with one key pair. Safe from several threads. Close it when done."""

    def __init__(self, run: Run, region: Region, credentials: Credentials, ledger: Ledger) -> None:
        self._run = run
        self._region = region
        self._ledger = ledger
        self._s3 = _client(region, credentials)
        # A retry that would follow a stop is not wanted: the stop is raised in its place.
        self._s3.meta.events.register_first("needs-retry.s3", self._before_retry)
        self._s3.meta.events.register("before-send.s3", self._tell_retry)

    def close(self) -> None:
        self._s3.close()

    def ensure_bucket(self, bucket: str) -> None:
        """The bucket is there and ours."""
        if self.has_bucket(bucket):
            return
        self._ledger.will_make("bucket", bucket=bucket)
        try:
            # Without a location, as the mgc CLI does it: the endpoint decides.
            self._asked(f"make bucket {bucket}", lambda: self._s3.create_bucket(Bucket=bucket))
        except TargetError as error:
            if not (error.status == 409 and self.has_bucket(bucket)):  # else another run of ours was quicker
                self._ledger.gone("bucket", bucket=bucket)
                raise

    def has_bucket(self, bucket: str) -> bool:
        """Whether the bucket is there. Raise TargetError where it is somebody else's, or the keys are refused."""
        try:
            self._asked(f"look at bucket {bucket}", lambda: self._s3.head_bucket(Bucket=bucket))
        except TargetError as error:
            if error.status == 404:
                return False
            raise
        return True

    def check(self) -> None:
        """The key pair is taken. Raise TargetError with the storage's words where it is not: a HEAD's refusal has none."""
        self._asked("list the buckets", lambda: self._s3.list_buckets())

    def delete_bucket(self, bucket: str) -> bool:
        """The bucket is gone, unless it holds something: then it stays. Return whether it is gone."""
        try:
            self._asked(f"delete bucket {bucket}", lambda: self._s3.delete_bucket(Bucket=bucket))
        except TargetError as error:
            if error.status == 409:
                return False
            if error.status != 404:
                raise
        self._ledger.gone("bucket", bucket=bucket)
        return True

    def stored(self, bucket: str, key: str) -> Stored | None:
        """Return what is stored under the key; None where nothing is."""
        try:
            head = self._asked(f"look at {bucket}/{key}", lambda: self._s3.head_object(Bucket=bucket, Key=key))
        except TargetError as error:
            if error.status == 404:
                return None
            raise
        return Stored(head["ContentLength"], head["Metadata"].get(MARK_KEY))

    def read(self, ref: ObjectRef, offset: int, length: int) -> bytes:
        """Return bytes of the object, fewer where it ends."""

        def fetch() -> bytes:
            answer = self._s3.get_object(Bucket=ref.bucket, Key=ref.key, Range=f"bytes={offset}-{offset + length - 1}")
            return answer["Body"].read()

        return self._asked(f"read {length} bytes of {ref.bucket}/{ref.key} at {offset}", fetch)

    def delete(self, bucket: str, key: str) -> None:
        """The object is gone. A second call finds nothing and succeeds."""
        self._tolerating_404(f"delete {bucket}/{key}", lambda: self._s3.delete_object(Bucket=bucket, Key=key))

    def discard(self, bucket: str, key: str) -> None:
        """The object and every unfinished upload of exactly this key are gone. A second call finds nothing and succeeds."""
        for upload in self.unfinished(bucket, key):
            self.abort(bucket, key, upload)
        self._ledger.gone("upload", bucket=bucket, key=key)
        self.delete(bucket, key)
        self._ledger.gone("object", bucket=bucket, key=key)

    def claim(self, bucket: str, key: str) -> None:
        """Write down that an upload and an object of this key are, or will be, ours."""
        self._ledger.will_make("upload", bucket=bucket, key=key)
        self._ledger.will_make("object", bucket=bucket, key=key)

    def begin_upload(self, bucket: str, key: str, mark: str) -> str:
        """Return the id of a new upload in parts."""
        self.claim(bucket, key)
        made = self._asked(
            f"begin to upload {bucket}/{key}",
            lambda: self._s3.create_multipart_upload(
                Bucket=bucket, Key=key, Metadata={MARK_KEY: mark}, ContentType="application/octet-stream"
            ),
        )
        return made["UploadId"]

    def unfinished(self, bucket: str, key: str) -> list[str]:
        """Return the ids of the unfinished uploads of exactly this key, newest first."""
        found: list[tuple[Any, str]] = []
        try:
            for page in self._pages("list_multipart_uploads", Bucket=bucket, Prefix=key):
                found += [(u["Initiated"], u["UploadId"]) for u in page.get("Uploads", []) if u["Key"] == key]
        except TargetError as error:
            if error.status != 404:
                raise
        return [id_ for _, id_ in sorted(found, reverse=True)]

    def parts(self, bucket: str, key: str, upload: str) -> list[Part]:
        """Return the parts that the server has; none where it no longer knows the upload."""
        found: list[Part] = []
        try:
            for page in self._pages("list_parts", Bucket=bucket, Key=key, UploadId=upload):
                found += [Part(p["PartNumber"], p["Size"], p["ETag"]) for p in page.get("Parts", [])]
        except TargetError as error:
            if error.status != 404:
                raise
        return found

    def send_part(self, bucket: str, key: str, upload: str, number: int, body: Any, content_md5: str) -> Part:
        """Send one part, from a file-like body; the server refuses it where it does not have this MD5 (base64)."""
        answer = self._asked(
            f"upload part {number} of {bucket}/{key}",
            lambda: self._s3.upload_part(
                Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=body, ContentMD5=content_md5
            ),
        )
        return Part(number, len(body), answer["ETag"])

    def complete(self, bucket: str, key: str, upload: str, parts: list[Part]) -> None:
        """The parts are one object now."""
        self._asked(
            f"complete the upload of {bucket}/{key}",
            lambda: self._s3.complete_multipart_upload(
                Bucket=bucket,
                Key=key,
                UploadId=upload,
                MultipartUpload={"Parts": [{"PartNumber": p.number, "ETag": p.etag} for p in parts]},
            ),
        )

    def abort(self, bucket: str, key: str, upload: str) -> None:
        """The unfinished upload and its parts are gone."""
        self._tolerating_404(
            f"abort the upload of {bucket}/{key}",
            lambda: self._s3.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload),
        )

    def presigned(self, ref: ObjectRef, seconds: int) -> Secret:
        """Return a URL from which whoever holds it reads the object, for so many seconds. Nothing is sent to make it."""
        url = self._s3.generate_presigned_url(
            "get_object", Params={"Bucket": ref.bucket, "Key": ref.key}, ExpiresIn=seconds
        )
        return Secret(url)

    def check_presigned(self, url: Secret, ref: ObjectRef) -> None:
        """The URL gives the beginning of a qcow2 file of the object's size to a client that has no keys.

        Raise TargetError where it does not: an import from it could only fail, hours later and without a reason.
        """
        asked = f"read {ref.bucket}/{ref.key} by its pre-signed URL"
        found = self._first_bytes(url)
        if isinstance(found, str):
            raise TargetBusy(f"{asked}: {found}.", hint="Check the network, then run the same command again.")
        if found.status not in {200, 206}:
            raise TargetError(
                f"{asked}: object storage answered {found.status} {found.code}",
                hint="Compare this machine's clock with the real time: a signature holds for its own time only.",
                status=found.status,
                request_id=found.request_id,
            )
        if found.body != QCOW2_MAGIC or found.total not in {None, ref.bytes}:
            raise TargetError(
                f"{asked}: it begins with {found.body.hex(' ') or 'nothing'} and has {found.total} bytes; wanted "
                f"{QCOW2_MAGIC.hex(' ')} (a qcow2 file) and {ref.bytes} bytes.",
                hint="Something else was stored under this key meanwhile: run the same command again.",
                request_id=found.request_id,
            )

    def _first_bytes(self, url: Secret) -> "_Beginning | str":
        """What the URL gives, or words for why it gave nothing. No error of httpx leaves: it would carry the URL."""
        try:
            timeout = httpx.Timeout(READ_S, connect=CONNECT_S)
            with (
                httpx.Client(timeout=timeout, trust_env=not self._region.is_loopback) as http,
                http.stream("GET", url.reveal(), headers={"Range": "bytes=0-3"}) as response,
            ):
                body = b""
                for chunk in response.iter_raw():
                    body += chunk
                    if len(body) >= (4 if response.is_success else 4096):
                        break
                return _Beginning(
                    response.status_code,
                    body[:4] if response.is_success else b"",
                    _total(response.headers),
                    "" if response.is_success else _code(body),
                    shown(response.headers.get("x-amz-request-id", ""))[:100] or None,
                )
        except httpx.RequestError as error:
            return shown(error.__class__.__name__)

    def _pages(self, operation: Any, **names: str) -> Iterator[Any]:
        pages = iter(self._s3.get_paginator(operation).paginate(**names))
        asked = f"{operation.replace('_', ' ')} of {names['Bucket']}/{names.get('Key') or names.get('Prefix')}"
        while (page := self._asked(asked, lambda: next(pages, None))) is not None:
            yield page

    def _tolerating_404(self, asked: str, call: Callable[[], object]) -> None:
        try:
            self._asked(asked, call)
        except TargetError as error:
            if error.status != 404:
                raise

    def _asked(self, asked: str, call: Callable[[], _Result]) -> _Result:
        """Return what the call gives. Our error is raised after botocore's has ended: its frames hold the keys."""
        self._run.check()
        try:
            return call()
        except ClientError as error:
            failure = _refusal(asked, error, self._region)
        except BotoCoreError as error:
            words = shown(str(error))[:300]
            kind = TargetBusy if isinstance(error, HTTPClientError) else TargetError
            failure = kind(f"{asked}: {words}", hint="Check the network, then run the same command again.")
        self._run.check()  # a stop inside the transfer comes out as a broken connection
        raise failure

    def _before_retry(self, **_: Any) -> None:
        self._run.check()

    def _tell_retry(self, request: Any, **_: Any) -> None:
        attempt = re.match(rb"attempt=(\d+)", _bytes(request.headers.get("amz-sdk-request", b"")))
        if attempt and int(attempt[1]) > 1:
            self._run.tell(Note(f"object storage: trying again ({int(attempt[1])} of {ATTEMPTS})"))


@dataclass(frozen=True, slots=True)
class _Beginning:
    """The first bytes of an object; `code` is S3's word for why not."""

    status: int
    body: bytes
    total: int | None
    code: str
    request_id: str | None


def _client(region: Region, credentials: Credentials) -> "S3Client":
    """A client that sees nothing of this machine's AWS: neither its files, nor its profile, nor its variables."""
    session = botocore.session.Session(
        session_vars={
            "profile": (None, None, None, None),
            "config_file": (None, None, os.devnull, None),
            "credentials_file": (None, None, os.devnull, None),
        }
    )
    return boto3.Session(
        botocore_session=session,
        aws_access_key_id=credentials.key_id.reveal(),
        aws_secret_access_key=credentials.key_secret.reveal(),
        region_name=region.signing_name,
    ).client(
        "s3",
        endpoint_url=region.s3_url,
        config=Config(
            signature_version="s3v4",
            s3={
                "addressing_style": "path",
                "payload_signing_enabled": False,
            },  # Content-MD5 covers the body, as in the mgc CLI
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            connect_timeout=CONNECT_S,
            read_timeout=READ_S,
            max_pool_connections=32,
            proxies={} if region.is_loopback else None,
            user_agent_extra="magalu-migrate",
        ),
    )


_HINTS = {
    "InvalidAccessKeyId": "The key id is unknown there. Check MGC_OBJ_KEY_ID and the region.",
    "SignatureDoesNotMatch": "The secret does not belong to the key id. Check MGC_OBJ_KEY_SECRET.",
    "AccessDenied": "The key pair lacks the object-storage scopes, or the bucket is another tenant's: choose one with --bucket.",
    "403": "The key pair is refused, or the bucket is another tenant's: choose one with --bucket.",
    "BucketAlreadyExists": "Bucket names are global, and another tenant has this one: choose another with --bucket.",
    "InvalidBucketName": "Use 3 to 63 lower case letters, digits and hyphens.",
    "TooManyBuckets": "Magalu Cloud allows 100 buckets: delete one, or name one of yours with --bucket.",
    "RequestTimeTooSkewed": "This machine's clock is wrong: set it (timedatectl set-ntp true).",
    "ExpiredToken": "These keys hold no longer: make new ones and run the same command again; what has arrived is kept.",
    "NoSuchBucket": "Somebody has deleted it meanwhile: run the same command again, and it is made and filled anew.",
    "NoSuchUpload": "Somebody has given it up meanwhile: run the same command again, and it is sent anew.",
    "BadDigest": "The file changed while it was sent: run the same command again.",
}

_REGION_CODES = {
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "InvalidLocationConstraint",
    "InvalidRegion",
    "PermanentRedirect",
    "TemporaryRedirect",
    "301",
    "307",
}


def _refusal(asked: str, error: ClientError, region: Region) -> TargetError:
    said: Any = error.response.get("Error", {})
    meta: Any = error.response.get("ResponseMetadata", {})
    code, message = shown(str(said.get("Code", ""))), " ".join(shown(str(said.get("Message", ""))).split())[:300]
    status = meta.get("HTTPStatusCode") or 0
    hint = _HINTS.get(code)
    if code in _REGION_CODES:
        there = shown(str(said.get("Region", ""))) or "another one"
        hint = f"The bucket is in region {there}, the request was for {region.name}: choose the region with --region or MGC_REGION."
    kind = TargetBusy if status >= 500 or code in {"SlowDown", "RequestTimeout", "429"} else TargetError
    return kind(
        f"{asked}: object storage answered {status} {code}" + (f': "{message}"' if message and message != code else ""),
        hint=hint,
        status=status,
        request_id=shown(str(meta.get("RequestId") or ""))[:100] or None,
    )


def _total(headers: httpx.Headers) -> int | None:
    """The object's whole size, from Content-Range where the server took our range, else from Content-Length."""
    match = re.fullmatch(r"bytes 0-\d+/(\d+)", headers.get("Content-Range", ""))
    if match:
        return int(match[1])
    length = headers.get("Content-Length", "")
    return int(length) if length.isdecimal() and "Content-Range" not in headers else None


def _code(body: bytes) -> str:
    match = re.search(rb"<Code>([A-Za-z0-9.]{1,60})</Code>", body)
    return match[1].decode() if match else ""


def _bytes(text: bytes | str) -> bytes:
    return text if isinstance(text, bytes) else text.encode()
