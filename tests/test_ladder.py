"""Where packages come from that a guest lacks: real apt, real archives on loopback, real folders."""

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrate.errors import BundleBroken, PackagesUnavailable, UsageError
from migrate.guest import PackageChange, Packaging
from migrate.guests.apt import Named
from migrate.guests.apt_sources import given_source
from migrate.guests.bundle import Bundle, Release, read_bundle
from migrate.guests.bundling import make_bundle
from migrate.guests.files import FolderFiles
from migrate.guests.ladder import Offers, offers
from migrate.guests.packages import Packages
from migrate.guests.system import System
from migrate.run import Run
from tests.archive import Archive, archive, build_deb

NOWHERE = "http://127.0.0.1:9"
STATUS = (
    "Package: base\nStatus: install ok installed\nArchitecture: all\nVersion: 1.0\nMaintainer: x\nDescription: x\n\n"
)
RELEASE = Release(id="debian", version="12", arch="amd64", packaging=Packaging.DPKG)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """An archive of `agent`, which needs `libagent` and what every guest here has."""
    folder = tmp_path_factory.mktemp("archive")
    build_deb(folder, "agent", depends="libagent, base")
    build_deb(folder, "libagent", version="1:2.1")
    build_deb(folder, "base")
    with archive(folder, release={"Origin": "Debian", "Version": "12.7"}) as found:
        yield found


@pytest.fixture(scope="module")
def key(served: Archive, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "archive.asc"
    path.write_text(served.key)
    return path


@pytest.fixture(scope="module")
def bundled(served: Archive, key: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "d12"
    made(Run(tmp_path_factory.mktemp("run")), folder, served, key)
    return folder


@pytest.fixture
def bundle(bundled: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(bundled, tmp_path / "bundle"))


def made(run: Run, folder: Path, served: Archive, key: Path, release: Release = RELEASE) -> Bundle:
    source = given_source(f"deb [signed-by={key}] {served.uri} ./")
    return make_bundle(run, folder, release, ["agent"], ["resolver"], Named([source], FolderFiles(folder.parent)))


def packages(run: Run, *, own: str = NOWHERE, key: str = "", offered: Offers | None = None) -> Packages:
    """The package manager of a guest whose own source is at `own`; "" for none at all."""
    root = run.work / "guest"
    for name, text in {
        "etc/os-release": "ID=debian\nVERSION_ID=12\n",
        "var/lib/dpkg/status": STATUS,
        "etc/apt/sources.list": f"deb {own} ./\n" if own else "",
        "etc/apt/trusted.gpg.d/own.asc": key,
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    files = FolderFiles(root)
    return Packages(run, files, System(files, run), offered or Offers())


def planned(found: Packages) -> PackageChange:
    return found.plan(["agent"], [], None)


def names(change: PackageChange) -> list[str]:
    return [package.name for package in change.install]


# The rungs


def test_what_is_there_is_not_asked_for(run: Run, served: Archive) -> None:
    before = len(served.requests)
    assert packages(run, own=served.uri).plan(["base"], [], None) == PackageChange()
    assert len(served.requests) == before


def test_the_guest_s_own_repositories_serve_first_where_nothing_was_brought(
    run: Run, served: Archive, key: Path
) -> None:
    change = planned(
        packages(
            run,
            own=served.uri,
            key=served.key,
            offered=offers([f"deb [signed-by={key}] {NOWHERE} ./"], [], offline=False),
        )
    )
    assert names(change) == ["agent", "libagent"]
    assert (change.origin, change.passed) == ("the guest's own repositories", ())


def test_a_repository_that_the_user_names_serves_where_the_guest_s_own_do_not_answer(
    run: Run, served: Archive, key: Path
) -> None:
    line = f"deb [signed-by={key}] {served.uri.replace('http://', 'http://me:hunter2@')} ./"
    asked = packages(run, offered=offers([line], [], offline=False))
    change = planned(asked)
    assert change.origin == f"the repositories of --repo ({served.uri} ./)"
    assert len(change.passed) == 1
    assert change.passed[0].startswith("the guest's own repositories: none of the package sources answers (127.0.0.1)")
    assert sorted(asked.fetch(change)) == ["agent", "libagent"]
    assert not (run.work / "guest/etc/apt/sources.list.d").exists(), "the guest's own configuration was changed"


def test_a_repository_without_a_key_is_vouched_for_by_the_guest_s_own_keys_or_not_at_all(
    run: Run, served: Archive
) -> None:
    named = offers([f"deb {served.uri} ./"], [], offline=True)
    assert names(planned(packages(run, key=served.key, offered=named))) == ["agent", "libagent"]
    other = Run(run.work / "other")
    other.work.mkdir()
    with pytest.raises(PackagesUnavailable, match="cannot be verified"):
        planned(packages(other, offered=named))


def test_a_repository_that_the_user_trusts_needs_no_key(run: Run, tmp_path: Path) -> None:
    build_deb(tmp_path, "agent")
    with archive(tmp_path, signed=False) as unsigned:
        named = offers([f"deb [trusted=yes] {unsigned.uri} ./"], [], offline=True)
        assert names(planned(packages(run, offered=named))) == ["agent"]


def test_a_folder_of_packages_needs_neither_index_nor_network(run: Run, tmp_path: Path) -> None:
    build_deb(tmp_path, "agent", depends="libagent")
    build_deb(tmp_path, "libagent", version="1:2.1")
    asked = packages(run, offered=offers([str(tmp_path)], [], offline=True))
    change = planned(asked)
    assert change.origin == f"the packages in {tmp_path}"
    found = asked.fetch(change)
    assert {name: path.read_bytes() for name, path in found.items()} == {
        "agent": (tmp_path / "agent_1.0_all.deb").read_bytes(),
        "libagent": (tmp_path / "libagent_1:2.1_all.deb").read_bytes(),
    }


def test_where_a_bundle_suffices_nobody_is_asked(run: Run, served: Archive, bundle: Path) -> None:
    before = len(served.requests)
    asked = packages(run, own=served.uri, key=served.key, offered=offers([], [bundle], offline=False))
    change = planned(asked)
    found = asked.fetch(change)
    assert (names(change), change.passed) == (["agent", "libagent"], ())
    assert change.origin.startswith("the bundle bundle of 20")
    assert change.download_bytes == sum(path.stat().st_size for path in found.values())
    assert len(served.requests) == before


def test_a_removal_asks_nobody(run: Run, served: Archive, bundle: Path) -> None:
    before = len(served.requests)
    change = packages(run, own=served.uri, offered=offers([], [bundle], offline=False)).plan([], ["base"], None)
    assert [package.name for package in change.remove] == ["base"]
    assert len(served.requests) == before


def test_offline_the_guest_s_own_repositories_are_not_asked_and_each_place_says_why_it_does_not_serve(
    run: Run, served: Archive, tmp_path: Path, bundle: Path
) -> None:
    before = len(served.requests)
    (tmp_path / "empty").mkdir()
    given = offers([str(tmp_path / "empty"), f"deb {NOWHERE} ./"], [bundle], offline=True)
    with pytest.raises(PackagesUnavailable) as caught:
        packages(run, own=served.uri, key=served.key, offered=given).plan(["agent", "never-heard-of"], [], None)
    places = [reason.partition(":")[0] for reason in caught.value.passed]
    assert places == [
        read_bundle(bundle).origin,
        f"the packages in {tmp_path / 'empty'}",
        "the guest's own repositories",
        f"the repositories of --repo ({NOWHERE} ./)".partition(":")[0],
    ]
    assert "Unable to locate package never-heard-of" in caught.value.passed[0]
    assert caught.value.passed[1].endswith(f"there is no .deb in {tmp_path / 'empty'}")
    assert caught.value.passed[2].endswith("not asked, as --offline says")
    assert caught.value.message.startswith("agent, never-heard-of cannot be had anywhere: ")
    assert len(served.requests) == before


def test_who_does_not_answer_is_not_asked_again(run: Run, tmp_path: Path) -> None:
    with archive(tmp_path, signed=False) as unsigned:
        asked = packages(run, own=unsigned.uri)
        with pytest.raises(PackagesUnavailable):
            planned(asked)
        before = len(unsigned.requests)
        assert before
        with pytest.raises(PackagesUnavailable):
            asked.plan(["libagent"], [], None)
        assert len(unsigned.requests) == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("deb", "no line of sources.list"),
        ("deb file:/srv/mirror bookworm main", "http and https only"),
        ("deb [signed-by=/not/there.gpg] http://127.0.0.1 bookworm main", "no key file /not/there.gpg"),
        ("/not/a/folder", "nor a folder of this machine"),
        ("ftp://127.0.0.1/repo", "nor an http"),
    ],
)
def test_a_repository_that_is_none_is_refused_before_anything_is_opened(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        offers([text], [], offline=False)


def test_a_guest_whose_dpkg_was_interrupted_gets_nothing_and_is_told_what_to_do(run: Run, bundle: Path) -> None:
    found = packages(run, offered=offers([], [bundle], offline=True))
    status = run.work / "guest/var/lib/dpkg/status"
    status.write_text(STATUS.replace("ok installed", "ok half-configured"))
    with pytest.raises(PackagesUnavailable) as caught:
        planned(found)
    assert caught.value.passed == (
        "dpkg was interrupted in the guest: base (half-configured). Run `dpkg --configure -a` in the source, then try again.",
    )


# Bundles


def test_a_bundle_holds_everything_down_to_what_every_guest_has(bundle: Path, served: Archive) -> None:
    manifest = read_bundle(bundle).manifest
    assert [(each.name, each.version, each.arch, each.file) for each in manifest.packages] == [
        ("agent", "1.0", "all", "agent_1.0_all.deb"),
        ("base", "1.0", "all", "base_1.0_all.deb"),
        ("libagent", "1:2.1", "all", "libagent_2.1_all.deb"),
    ]
    assert manifest.asked == ("agent",)
    assert manifest.release == RELEASE
    (origin,) = manifest.repositories
    assert origin.repository == f"{served.uri} ./"
    assert len(origin.signed_by) == 1 and len(origin.signed_by[0]) == 40
    assert sorted(path.name for path in bundle.iterdir()) == sorted(
        ["manifest.json", "Packages", *(each.file for each in manifest.packages)]
    )
    assert list(read_bundle(bundle).broken()) == []


def changed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("file", ["agent_1.0_all.deb", "base_1.0_all.deb", "Packages"])
def test_a_bundle_with_a_changed_file_is_refused_even_where_others_could_serve(
    run: Run, served: Archive, bundle: Path, file: str
) -> None:
    changed(bundle / file)
    asked = packages(run, own=served.uri, key=served.key, offered=offers([], [bundle], offline=False))
    with pytest.raises(BundleBroken, match=f"{file} was changed"):
        planned(asked)


def test_a_bundle_that_changes_between_plan_and_use_is_refused(run: Run, bundle: Path) -> None:
    asked = packages(run, offered=offers([], [bundle], offline=True))
    change = planned(asked)
    changed(bundle / "libagent_2.1_all.deb")
    with pytest.raises(BundleBroken, match=r"changed while it was used: libagent_2\.1_all\.deb was changed"):
        asked.fetch(change)


def test_a_bundle_with_a_missing_file_is_refused(run: Run, bundle: Path) -> None:
    (bundle / "libagent_2.1_all.deb").unlink()
    with pytest.raises(BundleBroken, match=r"libagent_2\.1_all\.deb is missing"):
        planned(packages(run, offered=offers([], [bundle], offline=True)))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"file": "agent_1.0_all.deb"', '"file": "../../etc/passwd"'),
        ('"file": "agent_1.0_all.deb"', '"file": ".hidden"'),
        ('"format": 1', '"format": 2'),
        ('"asked"', '"surprise"'),
        ("{", "["),
    ],
)
def test_a_manifest_that_is_not_ours_is_refused(bundle: Path, before: str, after: str) -> None:
    path = bundle / "manifest.json"
    path.write_text(path.read_text().replace(before, after, 1))
    with pytest.raises(BundleBroken, match=r"manifest\.json is not a manifest that this program reads"):
        offers([], [bundle], offline=False)


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleBroken, match=r"is no bundle: manifest\.json cannot be read"):
        offers([], [tmp_path], offline=False)


@pytest.mark.parametrize(
    ("release", "said"),
    [
        (RELEASE.model_copy(update={"version": "1"}), "it is for debian 1, and the guest is debian 12"),
        (RELEASE.model_copy(update={"id": "ubuntu"}), "it is for ubuntu 12, and the guest is debian 12"),
        (RELEASE.model_copy(update={"arch": "arm64"}), "it is for arm64, and the guest is amd64"),
    ],
)
def test_a_bundle_for_other_guests_is_passed_over_and_says_so(
    run: Run, served: Archive, bundle: Path, release: Release, said: str
) -> None:
    other = read_bundle(bundle).manifest.model_copy(update={"release": release})
    (bundle / "manifest.json").write_text(other.model_dump_json())
    change = planned(packages(run, own=served.uri, key=served.key, offered=offers([], [bundle], offline=False)))
    assert change.origin == "the guest's own repositories"
    assert [reason.rpartition(": ")[2] for reason in change.passed] == [said]


def test_a_bundle_that_lacks_a_dependency_is_passed_over_and_says_which(
    run: Run, served: Archive, bundle: Path
) -> None:
    whole = read_bundle(bundle)
    index = (bundle / "Packages").read_text().split("\n\n")
    kept = [record for record in index if "Package: libagent" not in record]
    (bundle / "Packages").write_text("\n\n".join(kept))
    digest = hashlib.sha256((bundle / "Packages").read_bytes()).hexdigest()
    (bundle / "manifest.json").write_text(whole.manifest.model_copy(update={"index_sha256": digest}).model_dump_json())
    change = planned(packages(run, own=served.uri, key=served.key, offered=offers([], [bundle], offline=False)))
    assert change.origin == "the guest's own repositories"
    assert change.passed[0].endswith("agent : Depends: libagent but it is not installable")


def test_a_bundle_named_as_a_repository_is_a_bundle(bundle: Path) -> None:
    found = offers([str(bundle)], [], offline=False)
    assert ([each.folder for each in found.bundles], found.repos) == ([bundle], ())


def test_packages_of_another_release_make_no_bundle(run: Run, served: Archive, key: Path, tmp_path: Path) -> None:
    for release, said in (
        (RELEASE.model_copy(update={"version": "11"}), "Debian 12.7's, and the bundle is for debian 11"),
        (RELEASE.model_copy(update={"id": "ubuntu"}), "Debian's, and the bundle is for ubuntu"),
    ):
        with pytest.raises(UsageError, match=said):
            made(run, tmp_path / "b", served, key, release)
    assert list(tmp_path.iterdir()) == [run.work] or not (tmp_path / "b").exists()


def test_a_folder_that_holds_something_is_not_overwritten(run: Run, served: Archive, key: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter").write_text("dear")
    with pytest.raises(UsageError, match="is there already, and not empty"):
        made(run, tmp_path / "mine", served, key)
    assert (tmp_path / "mine/letter").read_text() == "dear"


def test_a_bundle_that_cannot_be_made_leaves_nothing(run: Run, served: Archive, key: Path, tmp_path: Path) -> None:
    source = given_source(f"deb [signed-by={key}] {served.uri} ./")
    place = Named([source], FolderFiles(tmp_path))
    (tmp_path / "out").mkdir()
    with pytest.raises(PackagesUnavailable, match="Unable to locate package unheard-of"):
        make_bundle(run, tmp_path / "out/b", RELEASE, ["agent", "unheard-of"], [], place)
    assert list((tmp_path / "out").iterdir()) == []
