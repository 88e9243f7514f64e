"""What an RPM guest's repositories can give it and what a removal takes along: resolved by dnf from real databases and a real, signed repository."""

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fixtures.machines.rpm import Repository, StandIn, built, repository, tree
from migrate.draft import Draft
from migrate.errors import PackagesUnavailable
from migrate.guest import File, Link, Package, PackageChange
from migrate.guests import rpm
from migrate.guests.memory import MemoryGuest
from migrate.guests.packages import Packages
from migrate.guests.rpm_sources import RpmSource, excluded, sources_of, variables
from migrate.guests.system import System
from migrate.guests.tree import TreeGuest
from migrate.run import Note, Run

pytestmark = pytest.mark.usefixtures("no_proxy")


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    with repository(tmp_path_factory.mktemp("repository"), "rocky9") as made:
        yield made


@pytest.fixture(scope="module")
def rocky9(served: Repository, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A guest that tests only read."""
    return tree(tmp_path_factory.mktemp("rocky9") / "root", "rocky9", repository=served.uri, key=served.key)


def packages_of(run: Run, root: Path) -> Packages:
    guest = TreeGuest(root, run)
    return Packages(run, guest, System(guest, run))


def names(packages: tuple[Package, ...]) -> list[str]:
    return [package.name for package in packages]


def notes(run: Run) -> list[str]:
    told: list[str] = []
    run.listener = lambda event: told.append(event.text) if isinstance(event, Note) else None
    return told


def removal(run: Run, root: Path, *unwanted: str) -> PackageChange:
    return packages_of(run, root).plan((), unwanted, None)


# What goes with what


def test_what_needs_a_package_goes_with_it_by_name_version_and_file(run: Run, rocky9: Path) -> None:
    change = removal(run, rocky9, "open-vm-tools")
    assert [(package.name, package.version) for package in change.remove] == [
        ("erp-vm-monitor", "1.2-1.el9"),  # needs /usr/bin/vmtoolsd
        ("open-vm-tools", "12.2.5-3.el9"),
        ("open-vm-tools-desktop", "12.2.5-3.el9"),  # needs open-vm-tools = 12.2.5-3.el9
    ]
    assert change.install == () and change.origin == ""


def test_what_only_the_removed_needed_stays(run: Run, rocky9: Path) -> None:
    """dnf would take pciutils and libdnet away with open-vm-tools: clean_requirements_on_remove."""
    assert names(removal(run, rocky9, "open-vm-tools-desktop", "open-vm-tools", "erp-vm-monitor").remove) == [
        "erp-vm-monitor",
        "open-vm-tools",
        "open-vm-tools-desktop",
    ]


def test_what_another_package_still_provides_keeps_the_rest_in_place(run: Run, rocky9: Path) -> None:
    assert names(removal(run, rocky9, "postfix").remove) == ["postfix"]
    assert names(removal(run, rocky9, "postfix", "esmtp").remove) == ["cronie", "esmtp", "postfix"]


@pytest.mark.parametrize("package", ["glibc", "systemd", "rpm-libs", "kernel-core", "rocky-release"])
def test_a_removal_that_takes_the_system_along_is_refused_with_the_list(run: Run, rocky9: Path, package: str) -> None:
    with pytest.raises(PackagesUnavailable, match=rf"removing {package} would take .*\d.* along"):
        removal(run, rocky9, package)


def test_a_removal_asks_no_repository(run: Run, rocky9: Path, served: Repository) -> None:
    served.asked.clear()
    removal(run, rocky9, "WALinuxAgent")
    assert served.asked == []


# What is installed


def test_an_installation_takes_what_is_needed_newer_versions_and_what_it_replaces(run: Run, rocky9: Path) -> None:
    change = packages_of(run, rocky9).plan(("cloud-init", "sudo"), (), None)
    assert {package.name: package.version for package in change.install} == {
        "cloud-init": "23.1.1-11.el9",
        "cloud-utils-growpart": "0.33-1.el9",
        "dhcp-client": "12:4.4.2-19.b1.el9",
        "openssh": "8.7p1-38.el9",  # is installed as 8.7p1-34
        "openssh-server": "8.7p1-38.el9",
        "python3-jinja2": "2.11.3-5.el9",
    }
    assert names(change.remove) == ["esmtp"]  # which dhcp-client obsoletes
    assert change.origin == "the guest's own repositories"
    assert change.download_bytes > 10_000
    assert change.installed_bytes > 100


def test_packages_are_fetched_once_and_verified(run: Run, rocky9: Path, served: Repository) -> None:
    packages = packages_of(run, rocky9)
    change = packages.plan(("cloud-init",), (), None)
    served.asked.clear()
    files = packages.fetch(change)
    assert {name: path.read_bytes() for name, path in files.items()} == {
        package.name: (served.folder / files[package.name].name).read_bytes() for package in change.install
    }
    assert len(served.asked) == len(change.install)
    assert packages.fetch(change) == files
    assert len(served.asked) == len(change.install)


def test_a_draft_knows_what_it_has_removed_and_installed_before(run: Run, rocky9: Path) -> None:
    guest = TreeGuest(rocky9, run)
    repositories = rpm.Repositories(run, guest, System(guest, run))
    present = dict(guest.packages)
    for package in repositories.plan(present, remove=["open-vm-tools"]).remove:
        del present[package.name]
    first = repositories.plan(present, install=["openssh-server"])
    assert names(first.install) == ["openssh", "openssh-server"] and first.remove == ()
    present |= {package.name: package for package in first.install}
    second = repositories.plan(present, install=["cloud-init"])
    assert names(second.install) == ["cloud-init", "cloud-utils-growpart", "dhcp-client", "python3-jinja2"]
    assert names(second.remove) == ["esmtp"]
    assert names(repositories.plan(present, remove=["WALinuxAgent"]).remove) == ["WALinuxAgent"]
    with pytest.raises(PackagesUnavailable, match="openssh-server would be installed by a step before"):
        repositories.plan(present, remove=["openssh-server"])


@pytest.mark.parametrize(
    ("package", "said"),
    [
        ("nowhere", "the repositories have no nowhere"),
        ("needs-what-nobody-has", "nothing provides a-thing-that-nobody-has"),
        ("conflicts-with-sudo", "conflicts with sudo"),
        ("would-replace-glibc", "would take dnf 4.14.0-8.el9 along"),
    ],
)
def test_what_cannot_be_installed_is_said_with_its_reason(run: Run, rocky9: Path, package: str, said: str) -> None:
    with pytest.raises(PackagesUnavailable, match=said):
        packages_of(run, rocky9).plan((package,), (), None)


def test_a_repository_behind_a_client_certificate_is_named_and_the_others_are_used(run: Run, rocky9: Path) -> None:
    told = notes(run)
    packages_of(run, rocky9).plan(("cloud-init",), (), None)
    (text,) = told
    assert "rhui-rocky-azure cannot be used from here" in text and "/etc/pki/rhui/product/content.crt" in text


def test_a_guest_whose_only_repository_wants_a_certificate_is_told_so(run: Run, rocky9: Path) -> None:
    guest = TreeGuest(rocky9, run)
    sources = [each for each in sources_of(guest) if each.refused]
    with pytest.raises(PackagesUnavailable, match=r"rhui-rocky-azure.*client certificate"):
        rpm.Repositories(run, guest, System(guest, run), sources=sources).plan(guest.packages, install=["cloud-init"])


# Signatures


@pytest.mark.slow
def test_packages_that_are_not_signed_are_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    with repository(tmp_path / "r", "rocky9", sign_packages=False) as served:
        packages = packages_of(run, tree(tmp_path / "guest", "rocky9", repository=served.uri, key=served.key))
        change = packages.plan(("cloud-utils-growpart",), (), None)
        with pytest.raises(PackagesUnavailable, match="baseos cannot be verified by the guest's own keys"):
            packages.fetch(change)


@pytest.mark.slow
def test_packages_that_are_signed_by_somebody_else_are_refused(run: Run, tmp_path: Path, served: Repository) -> None:
    (tmp_path / "r").mkdir()
    with repository(tmp_path / "r", "leap15") as another:
        packages = packages_of(run, tree(tmp_path / "guest", "rocky9", repository=served.uri, key=another.key))
    change = packages.plan(("cloud-utils-growpart",), (), None)
    with pytest.raises(PackagesUnavailable, match="cannot be verified"):
        packages.fetch(change)


@pytest.mark.slow
def test_a_key_in_the_guest_s_database_vouches_too(run: Run, tmp_path: Path, served: Repository) -> None:
    packages = packages_of(run, tree(tmp_path / "guest", "rocky9", repository=served.uri, key=served.key, trusted=True))
    (tmp_path / "guest/etc/pki/rpm-gpg/RPM-GPG-KEY-Rocky-9").unlink()
    assert list(packages.fetch(packages.plan(("cloud-utils-growpart",), (), None))) == ["cloud-utils-growpart"]


@pytest.mark.slow
def test_a_package_that_is_another_than_the_metadata_says_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    with repository(tmp_path / "r", "rocky9") as served:
        packages = packages_of(run, tree(tmp_path / "guest", "rocky9", repository=served.uri, key=served.key))
        change = packages.plan(("cloud-utils-growpart",), (), None)
        (path,) = served.folder.glob("cloud-utils-growpart-*.rpm")
        path.write_bytes((served.folder / "cloud-init-23.1.1-11.el9.noarch.rpm").read_bytes())
        with pytest.raises(PackagesUnavailable, match="could not be fetched"):
            packages.fetch(change)


@pytest.mark.slow
def test_zypper_s_metadata_is_verified_by_the_guest_s_keyring(run: Run, tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    told = notes(run)
    with repository(tmp_path / "r", "leap15") as served:
        trusting = tree(tmp_path / "trusting", "leap15", repository=served.uri, key=served.key, trusted=True)
        packages = packages_of(run, trusting)
        change = packages.plan(("cloud-init",), (), None)
        assert names(change.install) == ["cloud-init", "growpart"]
        assert sorted(packages.fetch(change)) == ["cloud-init", "growpart"]
        assert [text.split()[3] for text in told] == ["SLE-Module-Basesystem15-SP5-Updates", "dvd"]
        stranger = tree(tmp_path / "stranger", "leap15", repository=served.uri, key="")
        run.work.joinpath("rpm").rename(run.work / "before")
        with pytest.raises(PackagesUnavailable, match=r"(?s)repo-oss.*(GPG|gpg)"):
            packages_of(run, stranger).plan(("cloud-init",), (), None)


@pytest.mark.slow
def test_a_key_is_looked_for_inside_the_guest(run: Run, tmp_path: Path, served: Repository) -> None:
    """The link names a key of the host that would vouch for the packages."""
    outside = tmp_path / "host.asc"
    outside.write_text(served.key)
    root = tree(tmp_path / "guest", "rocky9", repository=served.uri, key="")
    at = root / "etc/pki/rpm-gpg/RPM-GPG-KEY-Rocky-9"
    at.unlink()
    at.symlink_to(f"../../../../../../..{outside}")
    packages = packages_of(run, root)
    with pytest.raises(PackagesUnavailable, match="cannot be verified"):
        packages.fetch(packages.plan(("cloud-utils-growpart",), (), None))


# Repositories that fail


def test_a_repository_that_does_not_answer_is_told_and_nothing_is_guessed(run: Run, tmp_path: Path) -> None:
    root = tree(tmp_path / "guest", "rocky9", repository="http://me:hunter2@127.0.0.1:9")
    (root / "etc/yum.repos.d/scc.repo").write_text("[scc]\nbaseurl=http://127.0.0.1:9/repo?tokenofours\nenabled=1\n")
    told = notes(run)
    with pytest.raises(
        PackagesUnavailable, match=r"no cloud-init; baseos: .*127\.0\.0\.1:9/9/BaseOS.*; scc: "
    ) as caught:
        packages_of(run, root).plan(("cloud-init",), (), None)
    assert "hunter2" not in str((caught.value, told)) and "tokenofours" not in str((caught.value, told))


@pytest.mark.parametrize("name", ["repomd.xml", "primary.xml.gz"])
def test_metadata_that_is_rubbish_is_an_error_that_says_so(run: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / "r").mkdir()
    with repository(tmp_path / "r", "rocky9") as served:
        for path in (served.folder / "repodata").glob(f"*{name}"):
            path.write_bytes(b"<repomd>" + b"\xff\0" * 5000)
        root = tree(tmp_path / "guest", "rocky9", repository=served.uri, key=served.key)
        with pytest.raises(PackagesUnavailable, match="baseos"):
            packages_of(run, root).plan(("cloud-init",), (), None)


def test_offered_files_are_taken_as_if_a_repository_had_them(run: Run, rocky9: Path, tmp_path: Path) -> None:
    offered = {
        "cloud-init": StandIn(version="99-1", arch="noarch", requires=("cloud-helper",)),
        "cloud-helper": StandIn(version="1-1", arch="noarch", requires=("bash",)),
    }
    files = built(tmp_path, offered, ".el9")
    guest = TreeGuest(rocky9, run)
    repositories = rpm.Repositories(
        run, guest, System(guest, run), sources=(), offered=sorted(files.values()), name="offered"
    )
    change = repositories.plan(guest.packages, install=["cloud-init"])
    assert names(change.install) == ["cloud-helper", "cloud-init"]
    assert repositories.fetch(change.install) == files


def test_what_the_guest_excludes_is_said(run: Run, tmp_path: Path, served: Repository) -> None:
    root = tree(tmp_path / "guest", "rocky9", repository=served.uri, key=served.key)
    (root / "etc/dnf").mkdir(exist_ok=True)
    (root / "etc/dnf/dnf.conf").write_text("[main]\nexcludepkgs=cloud-*\n")
    with pytest.raises(PackagesUnavailable, match="cloud-init is in the repositories, and the guest's own settings"):
        packages_of(run, root).plan(("cloud-init",), (), None)


MODULES = """\
document: modulemd
version: 2
data:
  name: clouds
  stream: "23"
  version: 1
  context: abcdef00
  arch: x86_64
  summary: clouds
  description: clouds
  license: {module: [MIT]}
  artifacts:
    rpms: ["cloud-init-0:23.1.1-11.el9.noarch"]
"""


@pytest.mark.slow
def test_a_package_that_only_a_module_has_is_said_with_the_module(run: Run, tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    with repository(tmp_path / "r", "rocky9", sign_metadata=False) as served:
        (tmp_path / "modules.yaml").write_text(MODULES)
        subprocess.run(
            ["modifyrepo_c", "--mdtype=modules", tmp_path / "modules.yaml", served.folder / "repodata"],
            check=True,
            capture_output=True,
        )
        root = tree(tmp_path / "guest", "rocky9", repository=served.uri, key=served.key)
        with pytest.raises(PackagesUnavailable, match="only in the module clouds:23, which is not enabled"):
            packages_of(run, root).plan(("cloud-init",), (), None)
        (root / "etc/dnf/modules.d").mkdir(parents=True)
        (root / "etc/dnf/modules.d/clouds.module").write_text(
            "[clouds]\nname=clouds\nstream=23\nprofiles=\nstate=enabled\n"
        )
        assert "cloud-init" in names(packages_of(run, root).plan(("cloud-init",), (), None).install)


# Reading .repo files


def guest_with(files: dict[str, str]) -> MemoryGuest:
    return MemoryGuest({path: File(text.encode()) for path, text in files.items()})


def test_repositories_are_read_as_dnf_and_zypper_read_them() -> None:
    guest = guest_with(
        {
            "/etc/dnf/dnf.conf": "[main]\ngpgcheck=1\nexclude=kernel* foo\n",
            "/etc/yum.repos.d/a.repo": (
                "# ours\n[base]\nname=Base\nbaseurl=http://one.invalid/$releasever\n   https://two.invalid/\n"
                "gpgkey=file:///etc/key https://away.invalid/key\nexclude=x y\npriority=10\n"
                "[off]\nbaseurl=http://off.invalid\nenabled=0\n"
                "[mirrors]\nmirrorlist=https://m.invalid/?arch=$basearch\ngpgcheck=0\nusername=u\npassword=p%p\n"
            ),
            "/etc/yum.repos.d/a.repo.rpmsave": "[saved]\nbaseurl=http://saved.invalid\n",
            "/etc/yum.repos.d/broken.repo": "not a section\n",
            "/etc/zypp/repos.d/z.repo": "[oss]\nenabled=1\nbaseurl=http://z.invalid/${releasever}/\ntype=rpm-md\n",
            "/etc/zypp/repos.d/y.repo": "[yast]\nbaseurl=http://y.invalid\ntype=yast2\n",
            "/etc/zypp/locks": "\ntype: package\nmatch_type: glob\nsolvable_name: cloud-init\n",
            "/etc/yum/vars/awsregion": "sa-east-1\n",
        }
    )
    base = RpmSource(
        "base",
        ("http://one.invalid/$releasever", "https://two.invalid/"),
        keys=("/etc/key",),
        left_out=("x", "y"),
        priority=10,
    )
    assert sources_of(guest) == (
        base,
        RpmSource(
            "mirrors", mirrorlist="https://m.invalid/?arch=$basearch", gpgcheck=False, username="u", password="p%p"
        ),
        replace(
            RpmSource("yast", ("http://y.invalid",), gpgcheck=False, repo_gpgcheck=True),
            refused="it is of the kind yast2, and only repositories with repodata/repomd.xml are read",
        ),
        RpmSource("oss", ("http://z.invalid/${releasever}/",), gpgcheck=False, repo_gpgcheck=True),
    )
    assert excluded(guest) == ("kernel*", "foo", "cloud-init")
    assert variables(guest) == {"awsregion": "sa-east-1"}


def test_a_repo_file_that_leads_out_of_the_guest_is_not_read(tmp_path: Path) -> None:
    outside = tmp_path / "host.repo"
    outside.write_text("[host]\nbaseurl=http://host.invalid\n")
    guest = MemoryGuest({"/etc/yum.repos.d/x.repo": Link(f"../../../../..{outside}")})
    assert sources_of(guest) == ()


def test_a_password_is_in_no_command_line(run: Run, rocky9: Path, served: Repository) -> None:
    """And in no file that stays."""
    guest = TreeGuest(rocky9, run)
    (own,) = (each for each in sources_of(guest) if not each.refused)
    source = replace(own, username="me", password="hunter2")
    repositories = rpm.Repositories(run, guest, System(guest, run), sources=[source])
    assert repositories.plan(guest.packages, install=["cloud-utils-growpart"]).install
    kept = [path for path in run.work.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()]
    assert kept == []


def test_a_preview_names_versions(run: Run, rocky9: Path) -> None:
    class Guest(TreeGuest):
        def plan_packages(self, **words: object) -> PackageChange:
            packages = packages_of(run, rocky9)
            return packages.plan(words.get("install", ()), words.get("remove", ()), None)  # type: ignore[arg-type]

    draft = Draft(Guest(rocky9, run))
    with draft.step("remove-vmware-packages"):
        draft.purge("open-vm-tools", why="belongs to VMware")
    (effect,) = draft.changes.effects
    assert "open-vm-tools" not in draft.packages
    assert draft.read("/etc/vmware-tools/tools.conf") is None
    assert effect.change.remove[1].version == "12.2.5-3.el9"  # type: ignore[union-attr]


def test_a_package_that_is_to_be_renewed_is_planned_in_its_newest_version(run: Run, rocky9: Path) -> None:
    """As migrate.draft asks for it: planned as if it were not there."""
    guest = TreeGuest(rocky9, run)
    repositories = rpm.Repositories(run, guest, System(guest, run))
    present = {name: package for name, package in guest.packages.items() if name != "openssh"}
    change = repositories.plan(present, install=["openssh"])
    assert [(package.name, package.version) for package in change.install] == [("openssh", "8.7p1-38.el9")]
    assert change.remove == ()


def test_a_renewal_for_which_nothing_newer_is_there_is_refused(run: Run, rocky9: Path) -> None:
    guest = TreeGuest(rocky9, run)
    repositories = rpm.Repositories(run, guest, System(guest, run))
    present = {name: package for name, package in guest.packages.items() if name != "sudo"}
    with pytest.raises(PackagesUnavailable, match="the repositories have no newer sudo"):
        repositories.plan(present, install=["sudo"])


def test_where_nothing_is_installed_all_that_is_needed_is_planned(run: Run, tmp_path: Path) -> None:
    """As a bundle needs it."""
    offered = {
        "cloud-init": StandIn(version="99-1", arch="noarch", requires=("bash",)),
        "bash": StandIn(version="5-1", provides=("/bin/sh",)),
    }
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text('ID=rocky\nVERSION_ID="9.3"\n')
    (tmp_path / "built").mkdir()
    files = built(tmp_path / "built", offered, ".el9")
    nothing = TreeGuest(tmp_path, run)
    repositories = rpm.Repositories(run, nothing, System(nothing, run), sources=(), offered=sorted(files.values()))
    assert names(repositories.plan({}, install=["cloud-init"]).install) == ["bash", "cloud-init"]


def test_a_guest_whose_dependencies_are_broken_already_is_no_hindrance(
    run: Run, tmp_path: Path, served: Repository
) -> None:
    root = tree(tmp_path / "guest", "rocky9", repository=served.uri, key=served.key)
    (tmp_path / "built").mkdir()
    broken = StandIn(version="1-1", arch="noarch", requires=("a-thing-that-nobody-has", "open-vm-tools"))
    (path,) = built(tmp_path / "built", {"forced": broken}, ".el9").values()
    database = ["--define", "_dbpath /var/lib/rpm"]
    subprocess.run(["rpm", "--root", root, *database, "--nodeps", "--install", path], check=True, capture_output=True)
    packages = packages_of(run, root)
    assert names(packages.plan((), ("WALinuxAgent",), None).remove) == ["WALinuxAgent"]
    assert "forced" in names(packages.plan((), ("open-vm-tools",), None).remove)
    change = packages.plan(("cloud-utils-growpart",), (), None)
    assert (names(change.install), change.remove) == (["cloud-utils-growpart"], ())
