"""One subscription: its clients, how long each of their requests may take, and how we sign in.

Signing in is azure-identity's business: variables, workload identity, managed identity, `az login`. Its own variables say which cloud it is
(AZURE_AUTHORITY_HOST).
"""

import os
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import certifi
from azure.core import AzureClouds
from azure.core.pipeline.policies import ContentDecodePolicy, RequestIdPolicy, UserAgentPolicy
from azure.core.polling import LROPoller
from azure.identity import DefaultAzureCredential
from azure.mgmt.compute import ComputeManagementClient
from azure.mgmt.core.policies import ARMChallengeAuthenticationPolicy
from azure.mgmt.core.tools import get_arm_endpoints
from azure.mgmt.network import NetworkManagementClient

from adapters.azure.failures import asked
from adapters.azure.loggers import silence
from adapters.azure.transport import UNHURRIED, Pace, Transport
from migrate.errors import SourceBusy, UsageError
from migrate.run import Run

ARM_URL = "MAGALU_MIGRATE_AZURE_ARM_URL"
"""Another Resource Manager than the cloud's own: for tests."""

AUTHORITY = "AZURE_AUTHORITY_HOST"
"""azure-identity's variable: where one signs in."""

CLOUDS = {
    "login.microsoftonline.com": AzureClouds.AZURE_PUBLIC_CLOUD,
    "login.microsoftonline.us": AzureClouds.AZURE_US_GOVERNMENT,
    "login.chinacloudapi.cn": AzureClouds.AZURE_CHINA_CLOUD,
    "login.partner.microsoftonline.cn": AzureClouds.AZURE_CHINA_CLOUD,
}
"""Which Resource Manager belongs to which sign-in. Source: azure-identity's AzureAuthorityHosts, `az cloud list`."""

POLL_S = 0.1
POLLING_S = 2
"""How often Azure is asked whether an operation is done, where it does not say how often."""
OPERATION_S = 1800.0
"""A snapshot, a grant or a deletion takes seconds; what takes longer than this is stuck."""
CLEANING_S = 180.0
"""The same, while we take back what we made and the user waits for the end."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Trust:
    """Roots that servers are checked against, as a file in PEM."""

    roots: Path


@contextmanager
def trust(ca: Path | None) -> Iterator[Trust]:
    """Yield the usual roots, with one more where the user gave one. Raise UsageError for a file that is no certificate."""
    usual = Path(os.environ.get("REQUESTS_CA_BUNDLE") or certifi.where())
    if ca is None:
        yield Trust(usual)
        return
    try:
        ssl.create_default_context().load_verify_locations(ca)
        content = usual.read_bytes() + b"\n" + ca.read_bytes()
    except (OSError, ssl.SSLError) as error:
        raise UsageError(f"--ca {ca} cannot be read as a certificate in PEM: {error}") from error
    # requests takes roots as a file's name only; this one is in memory, gone with us however we end.
    with os.fdopen(os.memfd_create("roots"), "wb") as file:
        file.write(content)
        file.flush()
        yield Trust(Path(f"/proc/self/fd/{file.fileno()}"))


class Cloud:
    """`asked`, `listed` and `finished` call Azure and raise our errors only."""

    def __init__(
        self,
        run: Run,
        subscription: str,
        roots: Trust,
        *,
        credential: DefaultAzureCredential,
        pace: Pace,
        environ: Mapping[str, str],
        operation_s: float = OPERATION_S,
    ) -> None:
        self.run = run
        self.subscription = subscription
        self.pace = pace
        self.roots = roots
        self._credential = credential
        self._environ = environ
        self._operation_s = operation_s
        ends = get_arm_endpoints(_cloud_of(environ))
        url = environ.get(ARM_URL) or ends["resource_manager"]
        if not url.startswith("https://"):
            raise UsageError(
                f"{ARM_URL}={url}: it must be https, or everybody between here and there could read the token"
            )
        settings: dict[str, Any] = {
            "base_url": url,
            # Ours only: the SDK's own would follow redirects, register resource providers, and pause without an end that we see.
            "policies": [
                RequestIdPolicy(),
                UserAgentPolicy("magalu-migrate"),
                ContentDecodePolicy(),
                ARMChallengeAuthenticationPolicy(credential, *ends["credential_scopes"]),
            ],
            "polling_interval": POLLING_S,
        }
        self.compute = ComputeManagementClient(credential, subscription, transport=self.transport(), **settings)
        self.network = NetworkManagementClient(credential, subscription, transport=self.transport(), **settings)

    def transport(self) -> Transport:
        """A new one, for one client: whoever closes a client closes its transport."""
        return Transport(self.run, self.pace, self.roots.roots)

    def close(self) -> None:
        self.compute.close()
        self.network.close()

    @contextmanager
    def unstoppable(self) -> Iterator["Cloud"]:
        """The same subscription for a while, where a stop of the run does not keep us from taking back what we made."""
        other = Cloud(
            Run(self.run.work, self.run.listener),
            self.subscription,
            self.roots,
            credential=self._credential,
            pace=self.pace,
            environ=self._environ,
            operation_s=CLEANING_S,
        )
        try:
            yield other
        finally:
            other.close()

    def asked(self, what: str, call: Callable[[], Result]) -> Result:
        return asked(what, call)

    def listed(self, what: str, call: Callable[[], Iterable[Result]]) -> list[Result]:
        """Return all pages of a list."""

        def all_of_it() -> list[Result]:
            found = []
            for one in call():
                self.run.check()
                found.append(one)
            return found

        return asked(what, all_of_it)

    def finished(self, what: str, begin: Callable[[], LROPoller[Result]]) -> Result:
        """Begin what takes Azure a while, and return its result. Raise SourceBusy where it is not done in time, Stopped at a stop."""
        return self.awaited(what, asked(what, begin))

    def awaited(self, what: str, poller: LROPoller[Result]) -> Result:
        deadline = time.monotonic() + self._operation_s
        while True:
            self.run.check()
            # done() is true before the result is there; wait() joins the poller's thread, and raises what went wrong in it.
            asked(what, lambda: poller.wait(POLL_S))
            if poller.done():
                return asked(what, poller.result)
            if time.monotonic() > deadline:
                raise SourceBusy(
                    f"{what}: Azure has not done it in {self._operation_s / 60:.0f} minutes",
                    hint="Look at the resource group's activity log, then run the same command again.",
                )


@contextmanager
def opened(
    run: Run, subscription: str, ca: Path | None, *, pace: Pace = UNHURRIED, environ: Mapping[str, str] = os.environ
) -> Iterator[Cloud]:
    """Open a subscription. Nothing is asked yet: who we are is found out when it matters."""
    silence()
    with trust(ca) as roots:
        credential = DefaultAzureCredential(
            # A sign-in that Microsoft does not know (Azure Stack, a test) is not looked up in its list of clouds.
            disable_instance_discovery=_authority(environ) not in CLOUDS,
            connection_verify=str(roots.roots),
            connection_timeout=pace.connect,
            read_timeout=pace.read,
            retry_total=2,
            process_timeout=30,
        )
        cloud = Cloud(run, subscription, roots, credential=credential, pace=pace, environ=environ)
        try:
            yield cloud
        finally:
            cloud.close()
            credential.close()


def _authority(environ: Mapping[str, str]) -> str:
    text = environ.get(AUTHORITY) or "login.microsoftonline.com"
    return (urlsplit(text if "://" in text else f"https://{text}").hostname or "").lower()


def _cloud_of(environ: Mapping[str, str]) -> AzureClouds:
    return CLOUDS.get(_authority(environ), AzureClouds.AZURE_PUBLIC_CLOUD)
