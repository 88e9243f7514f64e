"""A VM's address as the user writes it: `vmware://HOST/…`, `azure://SUBSCRIPTION/…`, `aws://REGION/…`."""

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from migrate.errors import UsageError
from migrate.text import shown

FORMS = {
    "vmware": "vmware://HOST/DATACENTER/FOLDER…/VM",
    "azure": "azure://SUBSCRIPTION/RESOURCE_GROUP/VM",
    "aws": "aws://REGION/i-0123456789abcdef0",
}

_USER = re.compile(r"//.*@", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Address:
    """`host` is the vCenter or ESXi with its port, the subscription, or the region; `parts` the path, percent-decoded, without empty ones."""

    scheme: str
    host: str
    parts: tuple[str, ...]
    text: str


def parse(text: str) -> Address:
    """Raise UsageError for what is no address of a live source. Secrets in it are refused, and not repeated: they are in the process list already."""
    known = f"Known are {', '.join(FORMS.values())}."
    said = shown(_USER.sub("//…@", text))
    try:
        split = urlsplit(text)
        port = f":{split.port}" if split.port else ""
        host = split.hostname or ""
    except ValueError as error:
        raise UsageError(f"{said} is no address of a source: its host or port cannot be read", hint=known) from error
    if split.username is not None or split.password is not None:
        raise UsageError(
            f"an address of {shown(split.scheme)} holds no user and no password: other users of this machine would see them",
            hint="They come from the environment, or from files of the cloud's own tools: the README says which.",
        )
    if split.scheme not in FORMS or not host:
        raise UsageError(f"{said} is no address of a source", hint=known)
    if split.query or split.fragment:
        raise UsageError(f"{said}: ? and # have no meaning here", hint="Write them as %3F and %23 in a name.")
    parts = tuple(unquote(part) for part in split.path.split("/") if part)
    return Address(split.scheme, host + port, parts, text)
