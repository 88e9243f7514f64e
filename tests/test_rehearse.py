"""A rehearsal finds every path that is not as the preview said, and none that is."""

import copy
from pathlib import Path

import pytest

from fixtures.guests import guest as fixture
from fixtures.guests import names
from fixtures.machines import built
from migrate.draft import Draft
from migrate.effects import Changes, Edit, Removal
from migrate.errors import GuestError
from migrate.guest import Entry, File, Folder, Kind, Link, MakeSwapFile, Package, Rebuild
from migrate.guests.memory import Held, MemoryGuest
from migrate.preview.rehearsal import Rehearsal
from migrate.rehearse import compared
from migrate.remediate import preview, remediate
from migrate.remediation import Settings, remediation
from migrate.run import Run
from migrate.traces import Cause, trace
from remediations import BUILTIN
from tests import file_samples as samples
from tests.program import asked, started


@remediation("tidy-up", "Tidy up")
def tidy_up(draft: Draft, settings: Settings) -> None:
    """A bit of everything."""
    if "old" in (draft.read("/etc/hosts") or ""):
        draft.rebuild(Rebuild.INITRAMFS, why="lacks virtio")
    draft.purge("old-agent", why="belongs to the old cloud")
    draft.install("new-agent", why="brings the key")
    draft.edit("/etc/hosts", lambda text: text.replace("old", "new"), why="names the old cloud")
    draft.write("/etc/agent/new.conf", "a=1\n", why="is read by the agent", mode=0o600)
    draft.link("/etc/agent/link", "new.conf", why="is followed by the agent")
    draft.remove("/var/lib/old", why="holds the old cloud's state")
    draft.change_layout(MakeSwapFile("/swapfile", 1 << 30), why="replaces a partition")


SCRIPT = "#!/bin/sh\nset -e\n[ -e /etc/agent.generated ] || echo x > /etc/agent.generated\n"


def before() -> MemoryGuest:
    return MemoryGuest(
        {
            "/etc/hosts": File(b"127.0.0.1 old\n"),
            "/etc/other": File(b"other\n"),
            "/etc/link": Link("other"),
            "/var/lib/old/a": File(b""),
            "/var/lib/old/b/c": File(b""),
            "/boot/initrd.img-1": File(b"old"),
        },
        packages=[Held(Package("old-agent", "1.0"), {"/usr/bin/old": File(b"o"), "/usr/share/old/x": File(b"x")})],
        available=[
            Held(
                Package("new-agent", "2.0"),
                {"/usr/bin/new": File(b"n"), "/var/lib/dpkg/info/new-agent.postinst": File(SCRIPT.encode())},
            )
        ],
    )


def rehearsed(run: Run, *, also: dict[str, Entry | None] | None = None, said: Changes | None = None) -> Rehearsal:
    """Rehearse on a guest in memory, in which these are changed too, behind our back."""
    old, new = before(), before()
    told = preview(run, old, (tidy_up,), Settings())
    done = remediate(run, new, (tidy_up,), Settings(), "rehearse")
    for path, entry in (also or {}).items():
        if entry is None:
            new.remove(path)
        else:
            new.store(path, entry)
    return compared(said or told, done, preview(run, new, (tidy_up,), Settings()), old, new)


def texts(rehearsal: Rehearsal) -> list[str]:
    return [drift.text for drift in rehearsal.drift]


def test_what_came_out_as_said_is_no_drift(run: Run) -> None:
    found = rehearsed(run)
    assert texts(found) == []
    assert found.summary == "no drift: 9 of 9 changes came out as said, and nothing else was touched"
    assert {(each.what, each.package, each.paths) for each in found.explained} == {
        (
            "files of packages that were installed",
            "new-agent",
            ("/usr/bin/new", "/var/lib/dpkg/info/new-agent.postinst"),
        ),
        ("files of packages that were removed", "old-agent", ("/usr/bin/old", "/usr/share/old/x")),
        (
            "folders that came or went with what is in them",
            "",
            ("/usr/share", "/usr/share/old", "/var/lib/dpkg", "/var/lib/dpkg/info"),
        ),
    }


@pytest.mark.parametrize(
    ("also", "said"),
    [
        ({"/etc/planted": File(b"x")}, ["/etc/planted is new, and nothing that was said explains it"]),
        ({"/etc/other": File(b"OTHER\n")}, ["/etc/other is changed, and nothing that was said explains it"]),
        ({"/etc/other": File(b"other\n", 0o666)}, ["/etc/other is changed, and nothing that was said explains it"]),
        ({"/etc/other": None}, ["/etc/other is gone, and nothing that was said explains it"]),
        ({"/etc/link": Link("elsewhere")}, ["/etc/link is changed, and nothing that was said explains it"]),
        ({"/usr/bin": Folder(0o777)}, ["/usr/bin is changed, and nothing that was said explains it"]),
        (
            {"/etc/planted": Folder(), "/etc/planted/x": File(b"")},
            [
                "/etc/planted is new, and nothing that was said explains it",
                "/etc/planted/x is new, and nothing that was said explains it",
            ],
        ),
        ({"/boot/vmlinuz-1": File(b"x")}, ["/boot/vmlinuz-1 is new, and nothing that was said explains it"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_nobody_said_is_drift(run: Run, also: dict[str, Entry | None], said: list[str]) -> None:
    found = rehearsed(run, also=also)
    assert texts(found) == said
    assert found.kept == 9
    assert not found.held


@pytest.mark.parametrize(
    "also",
    [
        {"/etc/passwd": File(b"agent:x:1:1::/:\n")},
        {"/etc/systemd/system/multi-user.target.wants": Folder()},
        {"/usr/bin/__pycache__": Folder(), "/usr/bin/__pycache__/a.pyc": File(b"\0")},
        {"/boot/initrd.img-1": File(b"new")},
        {"/etc/agent.generated": File(b"x\n")},
    ],
    ids=lambda value: next(iter(value)),
)
def test_what_packages_and_rebuilds_write_by_themselves_is_explained(run: Run, also: dict[str, Entry | None]) -> None:
    if "/etc/systemd/system/multi-user.target.wants" in also:
        also = {"/etc/systemd": Folder(), "/etc/systemd/system": Folder(), **also}
    found = rehearsed(run, also=also)
    assert texts(found) == []
    assert set(also) <= {path for each in found.explained for path in each.paths}


def test_without_packages_and_rebuilds_the_same_paths_are_drift() -> None:
    assert trace("/etc/passwd", frozenset({Cause.PACKAGES})) == "users and groups of packages"
    assert trace("/etc/passwd", frozenset({Cause.INITRAMFS})) is None
    assert trace("/boot/initrd.img-1", frozenset({Cause.INITRAMFS})) is not None
    assert trace("/boot/initrd.img-1", frozenset({Cause.PACKAGES})) is None
    assert trace("/etc/shadow.planted", frozenset(Cause)) is None


@pytest.mark.parametrize(
    ("also", "said", "kept"),
    [
        (
            {"/etc/hosts": File(b"127.0.0.1 else\n")},
            "/etc/hosts was to be a file of 14 bytes, mode 0644, owner 0:0, and is another text",
            8,
        ),
        (
            {"/etc/agent/new.conf": File(b"a=1\n", 0o644)},
            "mode 0600, owner 0:0, and is a file of 4 bytes, mode 0644, owner 0:0",
            8,
        ),
        ({"/etc/agent/link": Link("x")}, "/etc/agent/link was to be a link to new.conf, and is a link to x", 8),
        ({"/var/lib/old": Folder()}, "/var/lib/old was to be gone, and is a folder, mode 0755, owner 0:0", 8),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_was_said_and_is_otherwise_is_drift(run: Run, also: dict[str, Entry | None], said: str, kept: int) -> None:
    found = rehearsed(run, also=also)
    assert [text for text in texts(found) if said in text]
    assert found.kept == kept


def test_what_was_said_and_not_done_and_the_other_way_round_is_drift(run: Run) -> None:
    told = preview(run, before(), (tidy_up,), Settings())
    more = Changes((*told.effects[:-1], Removal("tidy-up", "is said", "/etc/other", Kind.FILE)))
    assert texts(rehearsed(run, said=more)) == [
        "done, and not said: make the swap file /swapfile (tidy-up)",
        "said, and not done: remove /etc/other (tidy-up)",
        "/etc/other was to be gone, and is a file of 6 bytes, mode 0644, owner 0:0",
        "/swapfile is new, and nothing that was said explains it",
    ]


def test_a_second_look_that_wants_more_is_drift(run: Run) -> None:
    old, new = before(), before()
    told = preview(run, old, (tidy_up,), Settings())
    done = remediate(run, new, (tidy_up,), Settings(), "rehearse")
    found = compared(told, done, Changes(told.effects[:2]), old, new)
    assert texts(found) == ["a second look still wants 2 changes by tidy-up"]


def test_a_package_of_another_version_is_drift(run: Run) -> None:
    old, new = before(), before()
    told = preview(run, old, (tidy_up,), Settings())
    done = remediate(run, new, (tidy_up,), Settings(), "rehearse")
    found = compared(told, done, Changes(), old, old)
    assert "new-agent 2.0 was to be installed, and there is none" in texts(found)
    assert "old-agent was to be removed, and is there" in texts(found)


@pytest.mark.parametrize("name", names())
def test_each_guest_comes_out_as_its_preview_says_and_no_file_more(run: Run, name: str) -> None:
    old = fixture(name)
    new = copy.deepcopy(old)
    told = preview(run, old, BUILTIN, Settings())
    try:
        done = remediate(run, new, BUILTIN, Settings(), "rehearse")
    except GuestError:
        assert any(finding.forbids for finding in told.findings), "what cannot be done is refused before"
        return
    found = compared(told, done, preview(run, new, BUILTIN, Settings()), old, new)
    assert texts(found) == []


# On a real disk


@pytest.mark.slow
def test_a_real_guest_comes_out_as_its_preview_says_and_no_file_more(tmp_path: Path) -> None:
    source = built("debian12-vmware")
    was = source.stat()
    page = tmp_path / "page.html"
    with started("preview", source, "--rehearse", "--html", page, "--output", "json", folder=tmp_path) as program:
        answer = program.finished(within=1200)
        program.assert_nothing_is_left()
    assert answer.code == 0, answer.out
    found = answer.json["rehearsal"]
    assert found["drift"] == []
    assert found["held"] is True
    assert found["said"] == found["kept"] == len(answer.json["changes"]["effects"])
    explained = {each["what"] for each in found["explained"]}
    assert {"files of packages that were installed", "files of packages that were removed"} <= explained
    assert "no drift" in page.read_text("utf-8")
    assert (source.stat().st_mtime_ns, source.stat().st_size) == (was.st_mtime_ns, was.st_size)
    assert not list(Path("/var/tmp").glob("rehearse-*"))


def test_what_cannot_go_is_not_rehearsed(tmp_path: Path) -> None:
    answer = asked("preview", samples.raw(tmp_path), "--rehearse", "--format", "floppy")
    assert answer.code == 2


def test_another_order_is_drift(run: Run) -> None:
    old, new = before(), before()
    told = preview(run, old, (tidy_up,), Settings())
    done = remediate(run, new, (tidy_up,), Settings(), "rehearse")
    first, second, *rest = done.effects
    found = compared(told, Changes((second, first, *rest)), Changes(), old, new)
    assert texts(found) == ["done in another order than said: tidy-up"]


def test_a_secret_that_came_out_otherwise_is_drift_without_being_told(run: Run) -> None:
    guest = MemoryGuest({"/etc/shadow": File(b"root:one:\n", 0o640)})
    edit, other = (
        Edit("x", "is old", "/etc/shadow", None, File(text, 0o640)) for text in (b"root:two:\n", b"root:six:\n")
    )
    found = compared(Changes((edit,)), Changes((other,)), Changes(), guest, guest)
    assert texts(found)[0] == "the content of a file that is kept secret is not the one that was said"
    assert "root:" not in str(texts(found))
