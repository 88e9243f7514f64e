"""An AWS account in one region: its clients, how often it is asked again, and what its refusals mean.

Credentials are boto3's own affair: variables, profiles, SSO, roles, instance metadata. Nothing here sees or keeps them.
"""

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
import botocore.httpsession
import botocore.session
from botocore import exceptions as boto_errors
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from adapters.aws.pace import Pace
from migrate.errors import SourceBusy, SourceError, UsageError
from migrate.run import Note, Run
from migrate.text import one_line, shown

if TYPE_CHECKING:
    from mypy_boto3_ebs import EBSClient
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_kms import KMSClient
    from mypy_boto3_s3 import S3Client

ATTEMPTS = 6
"""Of each request: botocore's own ("standard") where an answer is small, ours where a block is read and checked."""
LONGEST_PAUSE = 20.0
CONNECT_S = 10
READ_S = 60
TALKATIVE = ("boto3", "botocore", "urllib3")
"""botocore logs the text that it signs, and the signature, at DEBUG."""

THROTTLED = {
    "RequestLimitExceeded",
    "RequestThrottledException",
    "RequestThrottled",
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "TooManyRequestsException",
    "SlowDown",
    "SnapshotCreationPerVolumeRateExceeded",
    "ConcurrentSnapshotLimitExceeded",
}
DENIED = {"UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "Client.UnauthorizedOperation"}
EXPIRED = {"RequestExpired", "ExpiredToken", "ExpiredTokenException"}
UNKNOWN_KEYS = {
    "AuthFailure",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "UnrecognizedClientException",
    "SignatureDoesNotMatch",
}
POLICY_NAMES = {"ListObjectsV2": "ListBucket", "GetBucketEncryption": "GetEncryptionConfiguration"}
"""S3's actions that a policy calls by another name than the API. Source: Service Authorization Reference, Amazon S3."""

_Result = TypeVar("_Result")


class Answered(SourceError):
    """AWS said no, for good. `code` is its word for it, `action` what was asked, as a policy names it: "ec2:DescribeInstances"."""

    def __init__(self, message: str, code: str, action: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.action = action

    @property
    def denied(self) -> bool:
        return self.code in DENIED


class Account:
    """Safe from several threads. Close it when done; see `account`."""

    def __init__(self, run: Run, region: str, roots: Path | None) -> None:
        self.run = run
        self.region = region
        self._finishing = False
        self.pace = Pace()
        self._told_throttled = False
        for name in TALKATIVE:
            logging.getLogger(name).setLevel(logging.WARNING)
        session = _asked_of_settings(lambda: _session(region, roots))
        self.ec2: EC2Client = _asked_of_settings(lambda: session.client("ec2", config=_config(ATTEMPTS)))
        self.once: EC2Client = _asked_of_settings(lambda: session.client("ec2", config=_config(1)))
        """EC2, asked once: what makes something, and has no word to tell a second request from the first."""
        self.kms: KMSClient = _asked_of_settings(lambda: session.client("kms", config=_config(ATTEMPTS)))
        self.ebs: EBSClient = _asked_of_settings(lambda: session.client("ebs", config=_config(1)))
        self._session = session
        for client in (self.ec2, self.kms):
            client.meta.events.register_first("needs-retry", self._before_retry)

    @cached_property
    def s3(self) -> "S3Client":
        """Asked once, as EBS direct: `tries` asks again. Only an export needs it."""
        return _asked_of_settings(lambda: self._session.client("s3", config=_config(1)))

    @cached_property
    def iam(self) -> "IAMClient":
        """Only an export needs it."""
        return _asked_of_settings(lambda: self._session.client("iam", config=_config(1)))

    def close(self) -> None:
        for client in (self.ec2, self.once, self.kms, self.ebs):
            client.close()
        for name in ("s3", "iam"):
            if name in self.__dict__:
                getattr(self, name).close()

    def asked(self, service: str, what: str, call: Callable[[], _Result]) -> _Result:
        """Return what the call gives. Raise SourceBusy where another try may do better, else Answered or SourceError.

        Our error is raised after botocore's has ended: its frames hold the keys.
        """
        self._check()
        try:
            return call()
        except ClientError as error:
            failure: SourceError = self._refusal(service, what, error)
        except BotoCoreError as error:
            failure = _unreached(what, error)
        self._check()
        raise failure

    def denial(self, service: str, what: str, call: Callable[[], object]) -> Answered | None:
        """Return what AWS says to a dry run that it denies; None where it would do it, or would not for another reason."""
        try:
            self.asked(service, what, call)
        except Answered as error:
            return error if error.denied else None
        return None

    @contextmanager
    def finishing(self) -> Iterator[None]:
        """In the block a stop is not heeded: what takes things back is done to its end, also after Ctrl-C."""
        before, self._finishing = self._finishing, True
        try:
            yield
        finally:
            self._finishing = before

    def _check(self) -> None:
        if not self._finishing:
            self.run.check()

    def tries(self, what: str, call: Callable[[], _Result]) -> _Result:
        """Return what the call gives, tried again where it raises SourceBusy; the one budget of a request of EBS direct."""

        def tell(state: RetryCallState) -> None:
            why = state.outcome.exception() if state.outcome else None
            if not isinstance(why, _Throttled):
                text = why.message if isinstance(why, SourceBusy) else ""
                self.run.tell(Note(f"AWS, {what}: trying again ({state.attempt_number + 1} of {ATTEMPTS}): {text}"))

        return Retrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.2, max=LONGEST_PAUSE),
            retry=retry_if_exception_type(SourceBusy),
            sleep=self._pause,
            before_sleep=tell,
            reraise=True,
        )(call)

    def _pause(self, seconds: float) -> None:
        if self._finishing:
            time.sleep(seconds)
        else:
            self.run.stop.wait(seconds)
        self._check()

    def _before_retry(self, response: Any, attempts: int, caught_exception: object = None, **_: Any) -> None:
        """Told of every answer of EC2 and KMS, before botocore decides whether to ask again."""
        self._check()
        if response is not None and response[1].get("Error", {}).get("Code") in THROTTLED:
            self._tell_throttled()
        elif attempts < ATTEMPTS and (caught_exception is not None or response[0].status_code >= 500):
            self.run.tell(Note(f"AWS: trying again ({attempts + 1} of {ATTEMPTS})"))

    def _tell_throttled(self) -> None:
        self.pace.throttled()
        if not self._told_throttled:
            self._told_throttled = True
            self.run.tell(
                Note(f"AWS takes fewer requests a second in {self.region} than it got; it is asked more slowly")
            )

    def _refusal(self, service: str, what: str, error: ClientError) -> SourceError:
        said: Any = error.response.get("Error", {})
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0
        code = one_line(str(said.get("Code", "")))[:100]
        # The encoded part is long, and for `aws sts decode-authorization-message` only.
        message = one_line(str(said.get("Message", ""))).partition(" Encoded authorization failure message")[0][:300]
        action = f"{service}:{POLICY_NAMES.get(error.operation_name, error.operation_name)}"
        text = f'{what}: AWS answered {code}: "{message}"'
        if code in THROTTLED:
            self._tell_throttled()
            return _Throttled(f"{what}: AWS takes no more requests now ({code})", hint="Try again in a few minutes.")
        if status >= 500:
            return SourceBusy(
                f"{text} ({status})", hint="Try again in a few minutes: health.aws.amazon.com/health/status"
            )
        if code in DENIED:
            return Answered(f"{what}: the credentials lack {action}", code, action, hint=f'Allow "{action}": {message}')
        if code in EXPIRED:
            hint = (
                "Log in again, e.g. `aws sso login`, or renew the session's variables; then run the same command again."
            )
            return Answered(f"{what}: the AWS credentials have expired", code, action, hint=hint)
        if code in UNKNOWN_KEYS:
            hint = "Check AWS_PROFILE and the AWS_ variables: `aws sts get-caller-identity` shows who you are."
            return Answered(f"{what}: AWS does not know these credentials ({code})", code, action, hint=hint)
        if code == "OptInRequired":
            hint = f"Enable {self.region} in the account, or check the region in the address."
            return Answered(f"{what}: the account has not enabled {self.region}", code, action, hint=hint)
        if code.endswith((".NotFound", ".Malformed")):
            hint = f"`magalu-migrate list 'aws://{self.region}/*'` shows what there is."
            return Answered(text, code, action, hint=hint)
        return Answered(text, code, action)


class _Throttled(SourceBusy):
    """Told once for all requests, not for each."""


@contextmanager
def account(run: Run, region: str, ca: Path | None) -> Iterator[Account]:
    """Open the region with boto3's own credentials while the block lasts; `ca` is trusted beside the roots that boto3 trusts.

    Raise UsageError where the settings that boto3 reads cannot be used.
    """
    with ExitStack() as stack:
        roots = None
        if ca is not None:
            folder = stack.enter_context(TemporaryDirectory(prefix="aws-", dir=run.work))
            roots = _roots(ca, Path(folder) / "roots.pem")
        opened = Account(run, region, roots)
        stack.callback(opened.close)
        yield opened


def _roots(ca: Path, whole: Path) -> Path:
    present: Any = botocore.session.Session().get_config_variable("ca_bundle") or botocore.httpsession.get_cert_path(
        True
    )
    try:
        whole.write_bytes(Path(present).read_bytes() + b"\n" + ca.read_bytes())
    except OSError as error:
        raise UsageError(f"--ca {shown(str(ca))}: {error.strerror}") from error
    return whole


def _session(region: str, roots: Path | None) -> boto3.Session:
    session = botocore.session.Session()
    if roots is not None:
        session.set_config_variable("ca_bundle", str(roots))  # so that SSO's and STS's clients see it, too
    return boto3.Session(botocore_session=session, region_name=region)


def _config(attempts: int) -> Config:
    return Config(
        retries={"mode": "standard", "total_max_attempts": attempts},
        connect_timeout=CONNECT_S,
        read_timeout=READ_S,
        max_pool_connections=32,
        user_agent_extra="magalu-migrate",
    )


def _asked_of_settings(call: Callable[[], _Result]) -> _Result:
    """Return what botocore makes of the user's settings."""
    try:
        return call()
    except (BotoCoreError, ValueError) as error:  # ValueError: an endpoint that is no URL
        words = one_line(str(error))[:300]
    raise UsageError(
        f"AWS's settings cannot be used: {words}", hint="Check AWS_PROFILE, ~/.aws/config and AWS_ENDPOINT_URL."
    )


def _unreached(what: str, error: BotoCoreError) -> SourceError:
    """An error without an answer. URLs lose their query: it holds tokens of blocks."""
    words = re.sub(r"\?[^\s\"']*", "?…", one_line(str(error)))[:300]
    match error:
        case boto_errors.NoCredentialsError() | boto_errors.PartialCredentialsError():
            hint = "Set AWS_PROFILE, or log in: `aws configure`, `aws sso login`. The variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are taken, too."
            return SourceError(f"{what}: there are no AWS credentials ({words})", hint=hint)
        case (
            boto_errors.SSOError()
            | boto_errors.SSOTokenLoadError()
            | boto_errors.UnauthorizedSSOTokenError()
            | boto_errors.TokenRetrievalError()
            | boto_errors.CredentialRetrievalError()
        ):
            return SourceError(
                f"{what}: the AWS credentials cannot be had: {words}", hint="Log in again: `aws sso login`."
            )
        case boto_errors.SSLError():
            hint = "If a proxy or an endpoint of your own answers, give its root certificate with --ca FILE."
            return SourceError(f"{what}: AWS's certificate is not trusted: {words}", hint=hint)
        case boto_errors.EndpointConnectionError():
            return SourceBusy(f"{what}: {words}", hint="Check the region in the address, and the network.")
        case boto_errors.HTTPClientError() | boto_errors.IncompleteReadError() | boto_errors.ResponseStreamingError():
            return SourceBusy(f"{what}: {words}", hint="Check the network, then run the same command again.")
        case _:
            return SourceError(f"{what}: {words}")
