"""What a metapackage named is wanted afterwards: the real apt-mark says so."""

import subprocess
from pathlib import Path

from fixtures.guests import guest
from migrate.effects import Edit
from migrate.guest import File
from migrate.guests.memory import from_yaml
from migrate.run import Run
from remediations import VENDORS
from remediations.vendors import dependency_marks, package_removal, vendor
from remediations.vendors.apt_marks import STATES, marked_as_wanted, named_by
from tests.remediation_guests import applied, done, outcome

MARKS = dependency_marks(VENDORS)


def automatic(folder: Path, states: str, packages: tuple[str, ...]) -> set[str]:
    """Return what apt-mark takes for automatically installed."""
    (folder / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (folder / "extended_states").write_text(states)
    status = (f"Package: {name}\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n\n" for name in packages)
    (folder / "status").write_text("".join(status))
    options = (
        f"Dir::State={folder}",
        f"Dir::State::status={folder}/status",
        f"Dir::Cache={folder}",
        "Dir::Etc::sourcelist=/dev/null",
        "Dir::Etc::sourceparts=/dev/null",
    )
    command = ["apt-mark", "showauto", *(word for option in options for word in ("-o", option))]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


def test_apt_takes_for_wanted_what_ubuntu_server_named_and_the_rest_as_before(run: Run, tmp_path: Path) -> None:
    to = guest("ubuntu2404-vmware-server")
    names = ("byobu", "cloud-guest-utils", "libxmlsec1t64-openssl", "sosreport")
    before = automatic(tmp_path, to.load(STATES).text, names)  # type: ignore[union-attr]
    assert before == {"byobu", "libxmlsec1t64-openssl", "sosreport"}
    applied(run, to, MARKS, package_removal(vendor("vmware")))
    after = automatic(tmp_path, to.load(STATES).text, names)  # type: ignore[union-attr]
    assert after == {"libxmlsec1t64-openssl"}
    assert "ubuntu-server" not in to.packages


def test_it_is_marked_before_the_metapackage_goes_and_once(run: Run) -> None:
    changes = done(guest("ubuntu2404-vmware-server"), MARKS)
    assert [type(effect) for effect in changes.effects] == [Edit]
    assert changes.effects[0].why == (
        "lets `apt autoremove` take what only ubuntu-server named, which goes with VMware's packages"
    )


def test_a_metapackage_that_names_nothing_of_a_vendors_leaves_the_marks_alone() -> None:
    to = from_yaml(
        "packages: {open-vm-tools: {}, byobu: {}, ubuntu-server: {depends: [byobu]}}\n"
        f'files: {{{STATES}: "Package: byobu\\nAuto-Installed: 1\\n"}}\n'
    )
    assert outcome(done(to, MARKS)) == {}


def test_without_apts_states_everything_is_wanted_already() -> None:
    assert outcome(done(guest("ubuntu2204-vmware-lvm"), MARKS)) == {}


def test_what_a_record_names_is_read_as_dpkg_writes_it() -> None:
    record = "Package: m\nPre-Depends: a\nDepends: b (>= 1:2), c:any | d [amd64],\n e\nRecommends: f\nSuggests: g\nDescription: x\n Depends: h\n"
    assert named_by(record) == {"a", "b", "c", "d", "e", "f"}
    assert named_by("") == frozenset()


def test_stanzas_of_others_stay_as_they_are() -> None:
    text = "Package: a\nAuto-Installed: 1\n\n\nPackage: b\nArchitecture: amd64\nAuto-Installed: 1\nX: y\n"
    assert marked_as_wanted(text, frozenset({"b"})) == (
        "Package: a\nAuto-Installed: 1\n\n\nPackage: b\nArchitecture: amd64\nAuto-Installed: 0\nX: y\n"
    )


def test_states_that_are_no_text_stay_as_they_are() -> None:
    odd = b"Package: byobu\nAuto-Installed: 1\n\xff\xfe\n"
    to = from_yaml(
        "packages: {open-vm-tools: {}, byobu: {}, ubuntu-server: {depends: [byobu, open-vm-tools]}}\nfiles: {/var/lib/apt/x: x}\n"
    )
    to.store(STATES, File(odd))
    effect = done(to, MARKS).effects[0]
    assert isinstance(effect, Edit) and effect.after == File(odd.replace(b": 1", b": 0"))
