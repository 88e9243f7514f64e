"""The regions of Magalu Cloud: where each one's API and object storage answer.

Source: the mgc CLI's server list and its object storage template (MagaluCloud/magalu, v0.63.1).
"""

import ipaddress
import re
from dataclasses import dataclass
from enum import Enum
from urllib.parse import urlsplit

from migrate.errors import UsageError

API_URL_ENV = "MAGALU_MIGRATE_API_URL"
S3_URL_ENV = "MAGALU_MIGRATE_S3_URL"
"""Variables that point the program at another cloud of the same speech: the sandbox."""

DEFAULT = "br-se1"

_PATH_SEGMENTS = {"br-se1": "br-se1", "br-ne1": "br-ne1", "br-mgl1": "br-se-1"}
"""br-mgl1 is for Magalu's own tenants, and its addresses are written with one hyphen more."""

_NAME = re.compile(r"[a-z]{2}-[a-z0-9]{1,12}(-[0-9]{1,2})?")


class Service(Enum):
    """Part of Magalu Cloud's API."""

    COMPUTE = "compute"
    NETWORK = "network"
    PROFILE = "profile"
    """The account's SSH keys, which no region has for itself."""


@dataclass(frozen=True, slots=True)
class Region:
    """One region. `api_url` is that of the compute API and ends before `/v1/…`; `signing_name` is the region inside an S3 signature."""

    name: str
    api_url: str
    s3_url: str
    signing_name: str

    @property
    def is_loopback(self) -> bool:
        """True where no service of this region is off this machine; proxies of the environment do not apply then."""
        return _is_loopback(self.api_url) and _is_loopback(self.s3_url)

    def url(self, service: Service) -> str:
        """Return a service's address, before its version. Source: the servers of the mgc CLI's specifications."""
        match service:
            case Service.COMPUTE:
                return self.api_url
            case Service.NETWORK:
                return f"{self.api_url.removesuffix('/compute')}/network"
            case Service.PROFILE:
                parts = urlsplit(self.api_url)
                return f"{parts.scheme}://{parts.netloc}/profile"


def region(name: str, *, api_url: str | None = None, s3_url: str | None = None) -> Region:
    """Return the region of that name, with other addresses where they are given (the sandbox's).

    Raise UsageError where the name is unknown, or an address is neither https nor on this machine.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"the region {name!r} is not a region's name.", hint=f"Choose one of {_choices()}.")
    segment = _PATH_SEGMENTS.get(name)
    if segment is None and (api_url is None or s3_url is None):
        raise UsageError(f"the region {name!r} is unknown.", hint=f"Choose one of {_choices()}.")
    segment = segment or name
    return Region(
        name=name,
        api_url=_trusted(api_url or f"https://api.magalu.cloud/{segment}/compute"),
        s3_url=_trusted(s3_url or f"https://{segment}.magaluobjects.com"),
        signing_name=segment,
    )


def _choices() -> str:
    return ", ".join(_PATH_SEGMENTS)


def _trusted(url: str) -> str:
    parts = urlsplit(url)
    if parts.hostname is None or parts.username is not None or parts.query or parts.fragment:
        raise UsageError(
            "the address of a service must be of the form https://host[:port][/path], and this one is not."
        )
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(url)):
        raise UsageError(
            f"{parts.scheme}://{parts.hostname} is not encrypted, and keys would travel on it.",
            hint="Use https; plain http is for this machine's own addresses (127.0.0.1) only.",
        )
    return url.rstrip("/")


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
