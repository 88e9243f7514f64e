"""The same ladder for RPM guests: real databases, a real signed repository on loopback, real bundles."""

import functools
import http.server
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fixtures.machines.rpm import Repository, StandIn, built, repository, tree
from migrate.errors import BundleBroken, PackagesUnavailable, UsageError
from migrate.guest import PackageChange, Packaging
from migrate.guests.bundle import Release, read_bundle
from migrate.guests.bundling import make_bundle, release, repositories
from migrate.guests.ladder import Offers, offers
from migrate.guests.packages import Packages
from migrate.guests.rpm_places import BaseUrl, given_url
from migrate.guests.signers import rpm_signers
from migrate.guests.system import System
from migrate.guests.tree import TreeGuest
from migrate.run import Run

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    with repository(tmp_path_factory.mktemp("repository"), "rocky9") as made:
        yield made


@pytest.fixture(scope="module")
def baseurl(served: Repository) -> str:
    return f"{served.uri}/{served.folder.relative_to(served.folder.parents[3])}"


@pytest.fixture(scope="module")
def key(served: Repository, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "rocky.asc"
    path.write_text(served.key)
    return path


@pytest.fixture(scope="module")
def stranded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A guest whose own repositories do not answer, and that trusts no key."""
    return tree(tmp_path_factory.mktemp("stranded") / "root", "rocky9", repository=NOWHERE, key="")


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle made from a repository that holds all that its packages need, as a distribution's does."""
    folder = tmp_path_factory.mktemp("whole")
    whole = {
        "cloud-init": StandIn(version="99-1", arch="noarch", requires=("cloud-helper", "bash")),
        "cloud-helper": StandIn(version="1:1-1", arch="noarch"),
        "bash": StandIn(version="5.0-1", provides=("/bin/sh",)),
        "other": StandIn(version="1-1"),
    }
    (folder / "os").mkdir()
    for path in built(folder, whole, ".el9").values():
        path.rename(folder / "os" / path.name)
    subprocess.run(["createrepo_c", "--quiet", folder / "os"], check=True)
    wanted, run = release("rocky:9"), Run(tmp_path_factory.mktemp("run"))
    with serving(folder) as uri:
        places = repositories(wanted, [f"rpm [trusted=yes] {uri}/os"])
        make_bundle(run, folder / "r9", wanted, ["cloud-init"], [], places)
    return folder / "r9"


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def bundle(bundled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundled, tmp_path / "bundle"))


def packages(run: Run, root: Path, offered: Offers) -> Packages:
    guest = TreeGuest(root, run)
    return Packages(run, guest, System(guest, run), offered)


def planned(found: Packages) -> PackageChange:
    return found.plan(["cloud-init"], [], None)


def names(change: PackageChange) -> list[str]:
    return [package.name for package in change.install]


def test_a_repository_that_the_user_names_serves_with_its_own_key(
    run: Run, stranded: Path, baseurl: str, key: Path
) -> None:
    asked = packages(run, stranded, offers([f"rpm [signed-by={key}] {baseurl}"], [], offline=True))
    change = planned(asked)
    assert "cloud-init" in names(change)
    assert change.origin == f"the repositories of --repo ({baseurl})"
    assert change.passed == ("the guest's own repositories: not asked, as --offline says",)
    assert sorted(asked.fetch(change)) == names(change)


def test_packages_that_no_key_vouches_for_are_refused_unless_the_user_trusts_them(
    run: Run, stranded: Path, baseurl: str
) -> None:
    asked = packages(run, stranded, offers([baseurl], [], offline=True))
    with pytest.raises(PackagesUnavailable, match="cannot be verified"):
        asked.fetch(planned(asked))
    trusting = packages(run, stranded, offers([f"rpm [trusted=yes] {baseurl}"], [], offline=True))
    assert trusting.fetch(planned(trusting))


def test_a_bundle_is_complete_for_the_barest_guest_and_touches_no_network(
    run: Run, served: Repository, stranded: Path, bundle: Path
) -> None:
    before = len(served.asked)
    asked = packages(run, stranded, offers([], [bundle], offline=False))
    change = planned(asked)
    found = asked.fetch(change)
    manifest = read_bundle(bundle).manifest
    assert names(change) == ["cloud-helper", "cloud-init"]  # it has a bash
    assert change.origin.startswith("the bundle bundle of 20") and change.passed == ()
    assert {path.read_bytes() for path in found.values()} <= {
        (bundle / each.file).read_bytes() for each in manifest.packages
    }
    assert len(served.asked) == before
    assert manifest.release == Release(id="rocky", version="9", arch="amd64", packaging=Packaging.RPM)
    assert [(each.name, each.version, each.file) for each in manifest.packages] == [
        ("bash", "5.0-1.el9", "bash-5.0-1.el9.amd64.rpm"),
        ("cloud-helper", "1:1-1.el9", "cloud-helper-1-1.el9.all.rpm"),
        ("cloud-init", "99-1.el9", "cloud-init-99-1.el9.all.rpm"),
    ]


def test_who_signed_the_packages_is_known(run: Run, served: Repository) -> None:
    (found,) = rpm_signers(run, served.folder)
    assert len(found) == 16


def test_a_bundle_with_a_changed_file_is_refused(run: Run, stranded: Path, bundle: Path) -> None:
    file = bundle / read_bundle(bundle).manifest.packages[0].file
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(BundleBroken, match="was changed"):
        planned(packages(run, stranded, offers([], [bundle], offline=True)))


def test_a_bundle_for_another_distribution_is_passed_over(run: Run, stranded: Path, bundle: Path) -> None:
    other = read_bundle(bundle).manifest
    other = other.model_copy(update={"release": other.release.model_copy(update={"id": "almalinux"})})
    (bundle / "manifest.json").write_text(other.model_dump_json())
    with pytest.raises(PackagesUnavailable) as caught:
        planned(packages(run, stranded, offers([], [bundle], offline=True)))
    assert caught.value.passed[0].endswith("it is for almalinux 9, and the guest is rocky 9.3")


def test_a_folder_of_packages_serves_and_an_empty_one_says_so(
    run: Run, stranded: Path, bundle: Path, tmp_path: Path
) -> None:
    (bundle / "manifest.json").unlink()
    change = planned(packages(run, stranded, offers([str(bundle)], [], offline=True)))
    assert change.origin == f"the packages in {bundle}"
    (tmp_path / "none").mkdir()
    with pytest.raises(PackagesUnavailable) as caught:
        planned(packages(run, stranded, offers([str(tmp_path / "none")], [], offline=True)))
    assert caught.value.passed[0] == f"the packages in {tmp_path / 'none'}: there is no .rpm in {tmp_path / 'none'}"


def test_a_repository_of_the_other_kind_says_that_it_cannot_be_used(run: Run, stranded: Path) -> None:
    with pytest.raises(PackagesUnavailable) as caught:
        planned(packages(run, stranded, offers([f"deb {NOWHERE} bookworm main"], [], offline=True)))
    assert (
        caught.value.passed[-1]
        == f"the repositories of --repo ({NOWHERE} bookworm main): a guest with rpm cannot use it"
    )


def test_a_bundle_for_rpm_guests_needs_repositories_that_are_named() -> None:
    for repos in ([], ["deb http://127.0.0.1 bookworm main"]):
        with pytest.raises(UsageError, match="is made from repositories of RPM packages"):
            repositories(release("rocky:9"), repos)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("http://127.0.0.1/os", BaseUrl("http://127.0.0.1/os")),
        ("rpm [trusted=yes] https://127.0.0.1/os/", BaseUrl("https://127.0.0.1/os/", trusted=True)),
        ("ftp://127.0.0.1/os", None),
        ("http://127.0.0.1/os main", None),
    ],
)
def test_a_repository_is_named_by_its_address(text: str, found: BaseUrl | None) -> None:
    assert given_url(text) == found


def test_a_key_file_that_is_not_there_is_said_at_once() -> None:
    with pytest.raises(UsageError, match="there is no key file /not/there"):
        given_url("rpm [signed-by=/not/there] http://me:hunter2@127.0.0.1/os")
