"""Packages come from the guest's own archives, checked by the guest's own keys, and nothing of the guest runs on the host."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from migrate.errors import PackagesUnavailable
from migrate.guest import File, Link, Package
from migrate.guests.apt import Repositories
from migrate.guests.apt_sources import AptSource, sources_of
from migrate.guests.memory import DEBIAN_12, MemoryGuest
from migrate.run import Note, Run
from tests.archive import Archive, archive, build_deb

INSTALLED = {"tools": Package("tools", "1.0", "all"), "base": Package("base", "1.0", "all")}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    folder = tmp_path_factory.mktemp("archive")
    build_deb(folder, "agent", depends="libagent, base")
    build_deb(folder, "libagent", version="2.1")
    with archive(folder) as found:
        yield found


def apt(run: Run, files: dict[str, str]) -> Repositories:
    return Repositories(run, MemoryGuest({path: File(text.encode()) for path, text in files.items()}), DEBIAN_12)


def sources(served: Archive, key: str) -> dict[str, str]:
    return {
        "/etc/apt/sources.list.d/own.sources": f"Types: deb\nURIs: {served.uri}\nSuites: ./\nSigned-By: /usr/share/keyrings/own.asc\n",
        "/usr/share/keyrings/own.asc": key,
    }


def test_a_plan_names_everything_that_comes_with_it(run: Run, served: Archive) -> None:
    change = apt(run, sources(served, served.key)).plan(INSTALLED, install=["agent"], remove=[])
    assert change.install == (Package("agent", "1.0", "all"), Package("libagent", "2.1", "all"))
    assert change.remove == ()
    assert change.origin == "the guest's own repositories"
    assert change.download_bytes == sum(path.stat().st_size for path in served.folder.glob("*.deb"))


def test_what_was_planned_is_fetched(run: Run, served: Archive) -> None:
    asked = apt(run, sources(served, served.key))
    found = asked.fetch(asked.plan(INSTALLED, install=["agent"], remove=[]).install)
    assert {name: path.name for name, path in found.items()} == {
        "agent": "agent_1.0_all.deb",
        "libagent": "libagent_2.1_all.deb",
    }
    assert all(path.read_bytes() == (served.folder / path.name).read_bytes() for path in found.values())


def test_what_holds_already_is_left_out(run: Run) -> None:
    change = apt(run, {}).plan(INSTALLED, install=["tools"], remove=["not-there"])
    assert (change.install, change.remove) == ((), ())


def test_a_removal_names_what_goes_with_it_and_needs_no_archive(run: Run) -> None:
    record = "Package: meta\nStatus: install ok installed\nArchitecture: all\nVersion: 1\nMaintainer: x\nDescription: x\nDepends: tools"
    installed = INSTALLED | {"meta": Package("meta", "1", "all", record)}
    change = apt(run, {}).plan(installed, install=[], remove=["tools"])
    assert [package.name for package in change.remove] == ["meta", "tools"]


@pytest.mark.parametrize(
    "key", ["", "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nnonsense\n-----END PGP PUBLIC KEY BLOCK-----\n"]
)
def test_an_archive_that_the_guest_s_keys_do_not_vouch_for_is_refused(run: Run, served: Archive, key: str) -> None:
    with pytest.raises(PackagesUnavailable, match="cannot be verified by the guest's own keys"):
        apt(run, sources(served, key)).plan(INSTALLED, install=["agent"], remove=[])


def test_trusted_yes_in_the_guest_s_sources_is_not_believed(run: Run, tmp_path: Path) -> None:
    build_deb(tmp_path, "agent")
    with archive(tmp_path, signed=False) as unsigned, pytest.raises(PackagesUnavailable):
        apt(run, {"/etc/apt/sources.list": f"deb [trusted=yes] {unsigned.uri} ./\n"}).plan(
            {}, install=["agent"], remove=[]
        )


def test_an_archive_that_does_not_answer_is_named_without_its_password(run: Run, served: Archive) -> None:
    files = sources(served, served.key)
    files["/etc/apt/sources.list.d/own.sources"] = "Types: deb\nURIs: http://me:hunter2@127.0.0.1:9/\nSuites: ./\n"
    with pytest.raises(PackagesUnavailable, match=r"127\.0\.0\.1:9") as caught:
        apt(run, files).plan(INSTALLED, install=["agent"], remove=[])
    assert "hunter2" not in str(caught.value)


def test_nothing_of_the_guest_s_apt_configuration_runs(run: Run, served: Archive, tmp_path: Path) -> None:
    proof = tmp_path / "ran"
    hostile = f'APT::Update::Pre-Invoke {{"touch {proof}";}};\nDPkg::Pre-Invoke {{"touch {proof}";}};\n'
    files = sources(served, served.key) | {"/etc/apt/apt.conf": hostile, "/etc/apt/apt.conf.d/99evil": hostile}
    apt(run, files).plan(INSTALLED, install=["agent"], remove=[])
    assert not proof.exists()
    assert not (run.work / "apt/etc/apt/apt.conf.d/99evil").exists()


def test_only_http_sources_are_asked_and_the_others_are_told(run: Run, served: Archive) -> None:
    told: list[str] = []
    run.listener = lambda event: told.append(event.text) if isinstance(event, Note) else None
    files = sources(served, served.key) | {
        "/etc/apt/sources.list": (
            "# deb http://commented/ x main\n"
            "deb-src http://archive.invalid/debian bookworm main\n"
            "deb cdrom:[Debian 12]/ bookworm main\n"
            "deb file:/etc/ ./\n"
        ),
        "/etc/apt/sources.list.d/off.sources": "Types: deb\nURIs: http://off.invalid\nSuites: x\nEnabled: no\n",
    }
    apt(run, files).plan(INSTALLED, install=["agent"], remove=[])
    asked = (run.work / "apt/etc/apt/sources.list.d/guest.sources").read_text()
    assert asked == f"Types: deb\nURIs: {served.uri}\nSuites: ./\nSigned-By: /apt/keys/2-0.asc\n"
    assert len(told) == 2


def test_both_formats_of_sources_are_read() -> None:
    guest = MemoryGuest(
        {
            "/etc/apt/sources.list": File(
                b"deb [ arch=amd64 signed-by=/k.asc ] https://archive.invalid/debian bookworm main contrib # ours\n"
            ),
            "/etc/apt/sources.list.d/two.sources": File(
                b"# two\nTypes: deb deb-src\nURIs: http://a.invalid\nSuites: x y\nComponents: main\n"
            ),
        }
    )
    assert sources_of(guest) == (
        AptSource("https://archive.invalid/debian", "bookworm", ("main", "contrib"), ("amd64",), "/k.asc"),
        AptSource("http://a.invalid", "x", ("main",)),
        AptSource("http://a.invalid", "y", ("main",)),
    )


def test_a_key_is_looked_for_inside_the_guest(run: Run, served: Archive, tmp_path: Path) -> None:
    """The link names a key of the host that would vouch for the archive."""
    outside = tmp_path / "host.asc"
    outside.write_text(served.key)
    guest = MemoryGuest(
        {
            "/etc/apt/sources.list": File(f"deb [signed-by=/link.asc] {served.uri} ./\n".encode()),
            "/link.asc": Link(f"../../../../..{outside}"),
        }
    )
    with pytest.raises(PackagesUnavailable):
        Repositories(run, guest, DEBIAN_12).plan(INSTALLED, install=["agent"], remove=[])
