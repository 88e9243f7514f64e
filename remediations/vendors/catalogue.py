"""What a vendor leaves in a guest, as data: one readable file per vendor beside this one.

A vendor's file says, and may leave out all but the first two:

    name: VMware                      as people call it
    code: VMW                         what its findings are called after
    packages: [open-vm-tools-*]       patterns as in fnmatch(3); what matches is removed
    kept_packages: {PATTERN: why}     what matches stays, and is told: it cannot go, because it …
    told_packages: {PATTERN: why}     what matches stays, and is told: the user decides, because it …
    last_packages: [rhui-*]           go only after everything that needs repositories was installed
    metapackages: [ubuntu-server]     may go along: only names other packages, which are then marked as wanted
    units: [vmtoolsd.service, x-*]    files, links, masks and drop-ins of these go; one whose package stays is masked
    leftovers:                        files and folders that go, unless a package owns them
      - {why: is a log of VMware's agents, paths: [/var/log/vmware-*]}
      - {why: holds keys, paths: [/var/lib/x], secrets: true}
      - {why: knows the repositories' server, paths: [/etc/x], last: true}     goes with last_packages
      - {why: …, paths: [/etc/y], first: true}                                 goes before packages, whose scripts may take it
    lists:                            files in which an installer wrote down what it installed, a path a line
      - {why: …, path: /etc/vmware-tools/locations, pattern: 'file (?P<path>\\S+)( \\d+)?', within: [/usr/lib/vmware-tools/*]}
    lines:                            each line of these files that matches as a whole goes, or becomes `instead`
      - {why: …, paths: [/etc/hosts], pattern: '169\\.254\\.169\\.254\\s.*'}
      - {why: …, paths: [/etc/X11/xorg.conf], pattern: '(\\s*Driver\\s+)"vmware"', instead: '\\1"modesetting"'}
    repositories:                     sections of yum's, dnf's and zypper's repositories with such a host are switched off
      - {why: answers only inside Azure, hosts: [rhui*.microsoft.com]}     with own: [photon] not in that distribution, whose they are
    mirrors: {HOST_REGEX: host}       apt's sources name the distribution's own host instead; paths stay as they are
    time: {hosts: [169.254.169.123], devices: [/dev/ptp_hyperv]}     sources of time that go
    kernel_arguments: [rootdelay=*]   patterns as in fnmatch(3), on the whole word, that go from every command line
    fstab:                            lines that become comments: all that is given of them matches, and one option
      - {why: …, devices: [/dev/disk/cloud/azure_resource*], mountpoints: [/mnt], types: [ext4], options: [comment=cloudconfig]}
    accounts: {ssm-user: why}         users who stay, and are told
    kept: {/PATH: why}                files that stay, and are told at the end: it …
    traces: {REGEX: why}              what is found in settings of drivers, devices and units at the end, and stays because it …

Each `why` of what goes completes "because it …".
"""

import re
from importlib.resources import files
from typing import Annotated

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict


def _regex(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is no regular expression: {error}") from error
    return text


Pattern = Annotated[str, AfterValidator(_regex)]
"""A regular expression, matched against the whole of a line, host or word."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Leftovers(_Part):
    """Paths that go for one reason. Of `secrets`, nothing but the path is shown, ever; `last` ones go when the repositories' clients do.

    `first` ones are written by a package's scripts, and so of no package, and may be taken by its scripts: they go before it does, so that
    what is previewed is what is done.
    """

    why: str
    paths: tuple[str, ...]
    secrets: bool = False
    first: bool = False
    last: bool = False


class Listed(_Part):
    """What an installer says that it installed: `pattern` finds `path` in a line, which counts where it matches one of `within`."""

    why: str
    path: str
    pattern: Pattern
    within: tuple[str, ...]


class Lines(_Part):
    """Lines of files that go, or become what `instead` says with the match's groups."""

    why: str
    paths: tuple[str, ...]
    pattern: Pattern
    instead: str | None = None


class Repositories(_Part):
    """Servers by their hosts; of the distributions `own` they are the public ones, and stay."""

    why: str
    hosts: tuple[str, ...]
    own: tuple[str, ...] = ()


class Time(_Part):
    """Sources of time by their host, or by the device of a reference clock; patterns as in fnmatch(3)."""

    hosts: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()


class Mounts(_Part):
    """Lines of fstab: each of the four that is given must match, of options one."""

    why: str
    devices: tuple[str, ...] = ()
    mountpoints: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


class Vendor(_Part):
    """A vendor's file, in the words of this module's first lines."""

    name: str
    code: str
    packages: tuple[str, ...] = ()
    kept_packages: dict[str, str] = {}
    told_packages: dict[str, str] = {}
    last_packages: tuple[str, ...] = ()
    metapackages: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    leftovers: tuple[Leftovers, ...] = ()
    lists: tuple[Listed, ...] = ()
    lines: tuple[Lines, ...] = ()
    repositories: tuple[Repositories, ...] = ()
    mirrors: dict[Pattern, str] = {}
    time: Time = Time()
    kernel_arguments: tuple[str, ...] = ()
    fstab: tuple[Mounts, ...] = ()
    accounts: dict[str, str] = {}
    kept: dict[str, str] = {}
    traces: dict[Pattern, str] = {}

    @property
    def slug(self) -> str:
        return self.name.lower().replace(" ", "-")


def vendor(name: str) -> Vendor:
    """Read a vendor's file ("vmware")."""
    return Vendor.model_validate(yaml.safe_load(files(__package__).joinpath(f"{name}.yaml").read_text("utf-8")))


def vendors() -> tuple[Vendor, ...]:
    """Read all vendors' files, in the order of their names."""
    found = sorted(entry.name for entry in files(__package__).iterdir() if entry.name.endswith(".yaml"))
    return tuple(vendor(name.removesuffix(".yaml")) for name in found)
