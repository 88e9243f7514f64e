"""A VM's address as the user writes it: `vmware://HOST/…`, `azure://SUBSCRIPTION/…`, `aws://REGION/…`."""

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from migrate.errors import UsageError
from migrate.text import shown

FORMS = {
    "vmware": "vmware://HOST/DATACENTER/FOLDER…/VM",
    "azure": "azure://SUBSCRIPTION/RESOURCE_GROUP/VM",
    "aws": "aws://REGION/i-0123456789abcdef0",
}


@dataclass(frozen=True, slots=True)
class Address:
    """`host` is the vCenter or ESXi with its port, the subscription, or the region; `parts` the path, percent-decoded, without empty ones."""

    scheme: str
    host: str
    parts: tuple[str, ...]
    text: str


def parse(text: str) -> Address:
    """Raise UsageError for what is no address of a live source. Secrets in it are refused: they would be in the process list."""
    try:
        split = urlsplit(text)
        port = f":{split.port}" if split.port else ""
        host = split.hostname or ""
    except ValueError as error:
        raise UsageError(
            f"{shown(text)} is no address: {error}", hint=f"Known are {', '.join(FORMS.values())}."
        ) from error
    if split.scheme not in FORMS or not host:
        raise UsageError(f"{shown(text)} is no address of a source", hint=f"Known are {', '.join(FORMS.values())}.")
    if split.username is not None or split.password is not None:
        raise UsageError(
            f"an address of {split.scheme} holds no user and no password: other users of this machine would see them",
            hint="They come from the environment, or from files of the cloud's own tools: the README says which.",
        )
    if split.query or split.fragment:
        raise UsageError(f"{shown(text)}: ? and # have no meaning here", hint="Write them as %3F and %23 in a name.")
    parts = tuple(unquote(part) for part in split.path.split("/") if part)
    return Address(split.scheme, host + port, parts, text)
