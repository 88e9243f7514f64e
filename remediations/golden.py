"""What a golden image must not have: the traces of one machine and its people. Most of it is data, in golden.yaml."""

import fnmatch
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import PurePosixPath

import yaml
from pydantic import BaseModel, ConfigDict

from migrate.draft import Draft
from migrate.effects import Severity
from migrate.guest import Kind
from migrate.remediation import GOLDEN_ONLY, Profile, Remediation, Settings, remediation
from remediations.ssh import accounts

HOSTS = "/etc/hosts"
INITIATOR = "/etc/iscsi/initiatorname.iscsi"
GENERATE = "GenerateName=yes\n"


class Traces(BaseModel):
    """Paths that go for one reason, in the words of golden.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    why: str
    paths: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    homes: tuple[str, ...] = ()
    below: tuple[str, ...] = ()


class Cleaning(BaseModel):
    """One remediation of golden.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    about: str
    sources: tuple[str, ...]
    groups: tuple[Traces, ...]

    def found(self, draft: Draft) -> Iterator[tuple[str, str]]:
        """Yield each path that is there, with the reason why it goes."""
        homes = tuple(dict.fromkeys(account.home for account in accounts(draft.read("/etc/passwd") or "")))
        for group in self.groups:
            patterns = (*group.paths, *(f"{home}/{path}" for path in group.homes for home in homes))
            yield from ((path, group.why) for pattern in patterns for path in there(draft, pattern))
            yield from ((path, group.why) for pattern in group.files for path in draft.glob(pattern))
            yield from ((path, group.why) for folder in group.below for path in files_below(draft, folder))

    @property
    def remediation(self) -> Remediation:
        def act(draft: Draft, settings: Settings) -> None:
            for path, why in tuple(self.found(draft)):
                draft.remove(path, why=why)

        return Remediation(self.name, self.title, " ".join(self.about.split()), self.sources, act, GOLDEN_ONLY)


def there(draft: Draft, pattern: str) -> tuple[str, ...]:
    """Return the sorted paths of files, links and folders that match; no part of the pattern matches across a link."""
    found = [""]
    for part in PurePosixPath(pattern).parts[1:]:
        inside = [(base, name) for base in found for name in _named(draft, base or "/", part)]
        found = [f"{base}/{name}" for base, name in inside]
    return tuple(sorted(found))


def _named(draft: Draft, folder: str, part: str) -> Iterator[str]:
    if draft.real(folder) is None:
        return
    if not any(char in part for char in "*?["):
        if draft.kind(f"{folder.rstrip('/')}/{part}") is not Kind.MISSING:
            yield part
        return
    for name in draft.names(folder):
        if fnmatch.fnmatchcase(name, part) and (part.startswith(".") or not name.startswith(".")):
            yield name


def files_below(draft: Draft, folder: str) -> Iterator[str]:
    """Yield everything that is not a folder, at any depth; links are not followed."""
    for name in draft.names(folder) if draft.real(folder) is not None else ():
        path = f"{folder}/{name}"
        if draft.kind(path) is Kind.FOLDER:
            yield from files_below(draft, path)
        else:
            yield path


CLEANINGS = tuple(
    Cleaning.model_validate(each)
    for each in yaml.safe_load(files(__package__).joinpath("golden.yaml").read_text("utf-8"))
)
_MEMBERSHIPS = next(cleaning for cleaning in CLEANINGS if cleaning.name == "forget-memberships")

_JOURNAL = re.compile(r"[0-9a-f]{32}(\.[\w.-]+)?")


@remediation(
    "empty-logs",
    "Leave the logs of one machine behind",
    sources=(
        "Magalu Cloud, custom images, best practices: clean temporary files, caches and logs",
        "journald(8), Files: a journal lies in a folder that is named after the machine-id, and none but its own is ever trimmed",
        "systemd, tmpfiles.d/var.conf makes wtmp, btmp and lastlog anew; rsyslog.conf(5)",
    ),
    profiles=GOLDEN_ONLY,
)
def empty_logs(draft: Draft, settings: Settings) -> None:
    """Every file below /var/log goes, the system's, the applications' and the audit's, current and rotated, with the journals: it tells of
    one machine's people, hardware and addresses, and is uploaded for nothing. Folders stay, for programs that write into their own.

    A machine that moves keeps its logs: they are its history, and may be evidence.
    """
    for name in draft.names("/var/log/journal"):
        path = f"/var/log/journal/{name}"
        if _JOURNAL.fullmatch(name) and draft.kind(path) is Kind.FOLDER:
            draft.remove(path, why="is one machine's journal, which nothing on another would ever trim")
    for path in tuple(files_below(draft, "/var/log")):
        draft.remove(path, why="tells of one machine's past")


@remediation(
    "forget-hostname",
    "Let each instance have its own name",
    sources=(
        "cloud-init, cc_set_hostname and cc_update_hostname, preserve_hostname",
        "hostname(5); hosts(5); Debian reference, 5.1.1: the machine's own line is 127.0.1.1",
    ),
    profiles=GOLDEN_ONLY,
)
def forget_hostname(draft: Draft, settings: Settings) -> None:
    """The name of the machine that the image was made of goes, with its own line in /etc/hosts, and cloud-init gives each instance the name
    that it was created with. A machine that moves keeps its name.
    """
    why = "is one machine's name; cloud-init writes each instance's own"
    name = (draft.read("/etc/hostname") or draft.read("/etc/HOSTNAME") or "").strip()
    if name:
        draft.keep("hostname before", name)
    for path in ("/etc/hostname", "/etc/HOSTNAME"):
        if draft.kind(path) in (Kind.FILE, Kind.LINK):
            draft.remove(path, why=why)
    draft.edit(HOSTS, lambda text: without_own_line(text, name), why="gives this machine the old one's name")
    for path in ("/etc/cloud/cloud.cfg", *draft.glob("/etc/cloud/cloud.cfg.d/*.cfg")):
        if re.search(r"(?m)^preserve_hostname:\s*(?:true|yes|on)\b", draft.read(path) or "", re.IGNORECASE):
            draft.find(
                "ID-003",
                f"{path} has preserve_hostname, so cloud-init gives no instance its name: all are called localhost.",
                remedy="Remove that line in the source VM, or keep the name with --skip forget-hostname.",
            )


def without_own_line(text: str, name: str) -> str:
    """Return hosts(5) without the machine's own line: 127.0.1.1, and its name beside others on the lines of 127.0.0.1 and ::1."""
    own = {name, name.partition(".")[0]} - {"", "localhost"}
    kept = []
    for line in text.splitlines(keepends=True):
        words = line.partition("#")[0].split()
        if words[:1] == ["127.0.1.1"]:
            continue
        if words[:1] in (["127.0.0.1"], ["::1"]) and own & set(words[1:]):
            left = [word for word in words[1:] if word not in own]
            if left:
                kept.append(" ".join([words[0], *left]) + "\n")
            continue
        kept.append(line)
    return "".join(kept)


@remediation(
    "forget-initiator-name",
    "Let each instance have its own name in storage networks",
    sources=(
        "open-iscsi, startup-checks.sh of Debian: the name is made where the file says GenerateName=yes",
        "iscsi-init.service of Red Hat and SUSE: the name is made where the file is missing",
    ),
    profiles=GOLDEN_ONLY,
)
def forget_initiator_name(draft: Draft, settings: Settings) -> None:
    """Two machines with one iSCSI initiator name get each other's disks, and write to them at the same time. The name is made anew by
    iscsid's own service: on Debian's systems where the file says so, on others where there is none.
    """
    if draft.kind(INITIATOR) is Kind.MISSING:
        return
    why = "is what storage knows one machine by; two that share it write to the same disks"
    if draft.os.family == "debian":
        draft.write(INITIATOR, GENERATE, why=why)
    else:
        draft.remove(INITIATOR, why=why)


@remediation(
    "tell-shared-identities",
    "Tell what other servers know this machine by",
    sources=_MEMBERSHIPS.sources,
    profiles=frozenset({Profile.LIFT_AND_SHIFT}),
)
def tell_shared_identities(draft: Draft, settings: Settings) -> None:
    """A machine that moves keeps what configuration servers, directories, subscriptions and storage know it by: it is the same machine. Where
    the source goes on running beside it, both are one to those servers; so what is there is told, and nothing is changed.
    """
    found = [path for path, _ in _MEMBERSHIPS.found(draft)]
    if (draft.read(INITIATOR) or GENERATE) != GENERATE:
        found.append(INITIATOR)
    folders = tuple(dict.fromkeys(path if path.count("/") < 4 else str(PurePosixPath(path).parent) for path in found))
    if folders:
        draft.find(
            "ID-002",
            f"kept, and known to other servers as one machine: {', '.join(folders[:8])}"
            + (f" and {len(folders) - 8} more" if len(folders) > 8 else ""),
            remedy="See that the source stays off; for a template use --profile golden-image.",
            severity=Severity.NOTE,
        )


CREDENTIALS = (
    *(".aws/credentials", ".azure/msal_token_cache.*", ".azure/accessTokens.json", ".config/gcloud/credentials.db"),
    *(
        ".config/gcloud/application_default_credentials.json",
        ".config/mgc/*/auth.yaml",
        ".config/openstack/clouds.yaml",
    ),
    *(".kube/config", ".docker/config.json", ".netrc", ".pgpass", ".my.cnf", ".git-credentials", ".npmrc", ".pypirc"),
    *(".vault-token", ".config/gh/hosts.yml", ".terraform.d/credentials.tfrc.json", ".gnupg/private-keys-v1.d/*.key"),
)
"""Below homes. Sources: the programs' own manuals."""
KEYS = (
    *("/etc/ssl/private/*", "/etc/pki/tls/private/*", "/etc/letsencrypt/live/*/privkey.pem", "/etc/wireguard/*.conf"),
    *("/etc/openvpn/*/*.key", "/etc/ipsec.d/private/*", "/etc/kubernetes/admin.conf", "/etc/kubernetes/pki/*.key"),
)


@remediation(
    "tell-credentials",
    "Tell which credentials the image would hand on",
    sources=("Magalu Cloud, custom images, best practices: never embed credentials, keys or certificates in an image",),
    profiles=GOLDEN_ONLY,
)
def tell_credentials(draft: Draft, settings: Settings) -> None:
    """Keys of servers and credentials of users for clouds, databases and registries would be in every instance, and with everybody who has
    the image. An application may need them, so they are told and nothing is changed.
    """
    homes = tuple(dict.fromkeys(account.home for account in accounts(draft.read("/etc/passwd") or "")))
    patterns = (*(f"{home}/{path}" for path in CREDENTIALS for home in homes), *KEYS)
    found = tuple(dict.fromkeys(path for pattern in patterns for path in draft.glob(pattern)))
    if found:
        draft.find(
            "ID-004",
            f"keys and credentials would be in every instance: {', '.join(found[:12])}"
            + (f" and {len(found) - 12} more" if len(found) > 12 else ""),
            remedy="Remove them in the source VM, and let instances fetch theirs.",
        )


GOLDEN: tuple[Remediation, ...] = (
    *(cleaning.remediation for cleaning in CLEANINGS),
    forget_hostname,
    forget_initiator_name,
    tell_shared_identities,
    tell_credentials,
    # Last: who else writes a log has written it by then.
    empty_logs,
)
