"""Package managers ask public servers; the real apt and a real parser of .repo files read what is written."""

import configparser
import subprocess
from pathlib import Path

import pytest

from fixtures.guests import guest
from migrate.draft import Draft
from migrate.guest import File
from migrate.guests.memory import from_yaml
from migrate.run import Run
from remediations import VENDORS
from remediations.vendors import public_package_sources, vendor
from remediations.vendors.catalogue import Vendor
from remediations.vendors.package_sources import nothing_is_left, public, sections, without_servers
from tests.remediation_guests import applied, done, outcome

SOURCES = public_package_sources(VENDORS)
AZURE = vendor("azure").mirrors
RHUI = ("rhui*.microsoft.com", "plugin:/susecloud")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("deb http://azure.archive.ubuntu.com/ubuntu/ jammy main\n", "deb http://archive.ubuntu.com/ubuntu/ jammy main\n"),
        ("deb [arch=amd64] http://x:y@westeurope.azure.archive.ubuntu.com:80/ubuntu a b", "deb [arch=amd64] http://x:y@archive.ubuntu.com:80/ubuntu a b"),
        ("URIs: http://AZURE.archive.ubuntu.com/ubuntu", "URIs: http://archive.ubuntu.com/ubuntu"),
        ("deb https://debian-archive.trafficmanager.net/debian-security x main", "deb https://deb.debian.org/debian-security x main"),
        ("search: {primary: ['http://azure.archive.ubuntu.com/ubuntu/', \"http://azure.archive.ubuntu.com\"]}", "search: {primary: ['http://archive.ubuntu.com/ubuntu/', \"http://archive.ubuntu.com\"]}"),
        ("# deb http://azure.archive.ubuntu.com/ubuntu x y\n", "# deb http://azure.archive.ubuntu.com/ubuntu x y\n"),
        ("deb http://azure.archive.ubuntu.com.empresa.example/ubuntu x y\n", "deb http://azure.archive.ubuntu.com.empresa.example/ubuntu x y\n"),
        ("deb http://proxy.example/azure.archive.ubuntu.com/ubuntu x y\n", "deb http://proxy.example/azure.archive.ubuntu.com/ubuntu x y\n"),
        ("deb http://ports.ubuntu.com/ubuntu-ports x y\r\n", "deb http://ports.ubuntu.com/ubuntu-ports x y\r\n"),
    ],
)  # fmt: skip
def test_the_host_changes_and_nothing_else(before: str, after: str) -> None:
    assert public(before, AZURE) == after
    assert public(after, AZURE) == after


def asked(folder: Path, sources: dict[str, bytes]) -> set[str]:
    """Return the hosts that apt would ask."""
    for name in ("parts", "lists/partial"):
        (folder / name).mkdir(parents=True)
    for name, content in sources.items():
        (folder / "parts" / name).write_bytes(content)
    options = (f"Dir::Etc::sourceparts={folder}/parts", "Dir::Etc::sourcelist=/dev/null", f"Dir::State={folder}")
    command = ["apt-get", "update", "--print-uris", *(word for option in options for word in ("-o", option))]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {line.split("/")[2] for line in said.splitlines() if "://" in line}


@pytest.mark.parametrize(
    ("name", "hosts"),
    [
        ("ubuntu2204-azure-marketplace", {"archive.ubuntu.com", "azure.archive.ubuntu.com.empresa.example"}),
        ("debian12-azure-unowned", {"deb.debian.org"}),
    ],
)
def test_apt_asks_the_public_archive_in_both_forms_of_sources(
    run: Run, tmp_path: Path, name: str, hosts: set[str]
) -> None:
    to = applied(run, guest(name), SOURCES)
    entries = {path: to.load(path) for path in to.tree if path.startswith("/etc/apt/sources.list")}
    files = {Path(path).name: entry.content for path, entry in entries.items() if isinstance(entry, File)}
    assert asked(tmp_path, {name.replace("sources.list", "a.list"): text for name, text in files.items()}) == hosts


def test_a_mirror_list_and_deb822_name_the_public_archive() -> None:
    assert outcome(done(guest("debian12-azure-unowned"), SOURCES)) == {
        "/etc/apt/sources.list.d/debian.sources": "Types: deb deb-src\nURIs: https://deb.debian.org/debian\n"
        "Suites: bookworm bookworm-updates\nComponents: main\n\n"
        "Types: deb\nURIs: mirror+file:///etc/apt/mirrors/debian-security.list\nSuites: bookworm-security\nComponents: main\n",
        "/etc/apt/mirrors/debian-security.list": "https://deb.debian.org/debian-security\n",
    }


REPO = """\
# the company's
[main]
gpgcheck=1
[a]
name = A
baseurl = https://pacotes.empresa.example/a
# baseurl=https://rhui-1.microsoft.com/x
[b]
name=B; of Azure
baseurl=
    https://rhui-1.microsoft.com/b
enabled = 1
; end of b
[c]
MirrorList : https://RHUI4-1.microsoft.com/c
[d]
baseurl=https://rhui-1.microsoft.com/d
enabled=False
[e]
baseurl=plugin:/susecloud?credentials=x&path=/y
enabled=yes
enabled=1
[f]
baseurl=https://[::1/broken, https://rhui-1.microsoft.com.empresa.example/
"""


def enabled(text: str) -> dict[str, bool]:
    """What a parser of its own says of each section: dnf's are read by the same rules."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.read_string(text)
    return {name: parser.getboolean(name, "enabled", fallback=True) for name in parser.sections() if name != "main"}


def test_a_repository_on_such_a_server_is_switched_off_and_the_rest_stays_as_it_was() -> None:
    after = without_servers(REPO, RHUI)
    assert enabled(REPO) == {"a": True, "b": True, "c": True, "d": False, "e": True, "f": True}
    assert enabled(after) == {"a": True, "b": False, "c": False, "d": False, "e": False, "f": True}
    assert after == (
        REPO.replace("enabled = 1\n; end", "enabled = 0\n; end")
        .replace("[c]\n", "[c]\nenabled=0\n")
        .replace("enabled=yes\nenabled=1\n", "enabled=0\nenabled=0\n")
    )
    assert without_servers(after, RHUI) == after


def test_a_file_of_dos_and_one_without_an_end_stay_whole() -> None:
    assert without_servers("[x]\r\nbaseurl=https://rhui.microsoft.com/\r\n", RHUI) == (
        "[x]\r\nenabled=0\r\nbaseurl=https://rhui.microsoft.com/\r\n"
    )
    assert without_servers("[x]\nbaseurl=https://rhui.microsoft.com/", RHUI).endswith("/")
    assert without_servers("[x]", RHUI) == "[x]"


def test_sections_put_together_are_the_file() -> None:
    assert "".join(line for section in sections(REPO) for line in section.lines) == REPO


def test_vmwares_repositories_are_switched_off_also_in_a_company_s_file() -> None:
    text = outcome(done(guest("rhel8-vmware-osp"), SOURCES))["/etc/yum.repos.d/empresa.repo"]
    assert text is not None
    assert enabled(text) == {"empresa-base": True, "empresa-vmware": False, "vmware-off": False}


def test_what_goes_later_with_its_client_is_left_to_it() -> None:
    changed = outcome(done(guest("rhel9-azure-rhui"), SOURCES))
    assert set(changed) == {"/etc/yum.repos.d/extra-rhui.repo"}


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ("{}", True),
        ("{/etc/yum.repos.d/a.repo: '[a]\n\nenabled=0\n'}", True),
        ("{/etc/yum.repos.d/a.repo: '[main]\n\ngpgcheck=1\n'}", True),
        ("{/etc/yum.repos.d/a.repo: '[a]\n\nbaseurl=x\n'}", False),
        ("{/etc/yum.repos.d/rh-cloud.repo: '[a]\n\nbaseurl=x\n'}", True),
        ("{/etc/apt/sources.list: '# deb http://x y z\n'}", True),
        ("{/etc/apt/sources.list: 'deb cdrom:[x] y z\n'}", False),
        ("{/etc/apt/sources.list.d/a.sources: 'Types: deb\n\nURIs: http://x\n'}", False),
        ("{/etc/apt/sources.list.d/a.sources: 'Enabled: no\n\nURIs: http://x\n'}", True),
    ],
)
def test_whether_any_repository_is_left(files: str, left: bool) -> None:
    assert nothing_is_left(Draft(from_yaml(f"files: {files}\n")), VENDORS) is left


def test_a_vendor_without_mirrors_reads_nothing() -> None:
    nobody = Vendor.model_validate({"name": "X", "code": "X"})
    assert done(guest("debian12-azure-unowned"), public_package_sources((nobody,))).effects == ()


@pytest.mark.parametrize(("id", "said"), [("photon", "1"), ("rocky", "0")])
def test_photons_own_repositories_are_vmwares_and_stay_on_in_photon_only(id: str, said: str) -> None:
    text = "[photon]\nbaseurl=https://packages.vmware.com/photon/$releasever\nenabled={}\n"
    before = from_yaml(
        f"os: {{id: {id}, packaging: rpm}}\nfiles: {{/etc/yum.repos.d/photon.repo: {text.format(1)!r}}}".replace(
            "'", '"'
        )
    )
    changes = done(before, public_package_sources(VENDORS))
    assert outcome(changes) == ({} if said == "1" else {"/etc/yum.repos.d/photon.repo": text.format(0)})
