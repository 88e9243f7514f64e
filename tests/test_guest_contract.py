"""What holds for every Guest, whatever it is kept in."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from migrate.errors import GuestError
from migrate.guest import Entry, File, Folder, Guest, Kind, Link, Package
from migrate.guests.appliance import Appliance, Mounted, mount_guest, open_appliance
from migrate.guests.appliance_guest import ApplianceGuest
from migrate.guests.dissect_room import DissectGuest, open_dissected
from migrate.guests.memory import Held, MemoryGuest
from migrate.guests.room_opening import open_room
from migrate.guests.tree import TreeGuest
from migrate.run import Run
from tests.guest_disks import ext4_disk, overlay_of, put, served, sh

STATUS = """\
Package: bash
Status: install ok installed
Architecture: amd64
Version: 5.2.15-2+b2
Conffiles:
 /etc/bash.bashrc 89269e1298235f1b12b4c16e4065ad0d
Description: GNU Bourne Again SHell
 of old

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1

Package: tzdata
Status: install ok installed
Architecture: all
Version: 2024a-0+deb12u1
"""

FILES: dict[str, Entry] = {
    "/etc/os-release": Link("../usr/lib/os-release"),
    "/usr/lib/os-release": File(
        b'ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n'
    ),
    "/bin": Link("usr/bin"),
    "/usr/bin": Folder(),
    "/usr/bin/bash": File(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\x3e\x00", 0o755),
    "/etc/bash.bashrc": File(b"PS1=x\n"),
    "/etc/secret": File(b"\xff\xfe", 0o600, 0, 42),
    "/etc/tools": Folder(0o2750, 3, 4),
    "/etc/tools/one": File(b"1"),
    "/etc/sub": Folder(),
    "/etc/outside": Link("/../../../../etc/hostname"),
    "/var/lib/dpkg/status": File(STATUS.encode()),
    "/etc/fstab": File(b"/dev/sda1 / ext4 defaults 0 1\n"),
    "/var/lib/dpkg/info": Folder(),
    "/var/lib/dpkg/info/bash.list": File(b"/.\n/bin\n/bin/bash\n/etc\n/etc/bash.bashrc\n"),
}


@contextmanager
def _memory(run: Run) -> Iterator[Guest]:
    bash = Held(
        Package("bash", "5.2.15-2+b2"),
        {"/bin/bash": FILES["/usr/bin/bash"], "/etc/bash.bashrc": FILES["/etc/bash.bashrc"]},
    )
    yield MemoryGuest(FILES, packages=[bash, Held(Package("tzdata", "2024a-0+deb12u1", "all"))])


@contextmanager
def _tree(run: Run) -> Iterator[Guest]:
    put(run.work / "root", FILES)
    yield TreeGuest(run.work / "root", run)


@contextmanager
def _room(run: Run) -> Iterator[Guest]:
    with served(run, _disk(run.work), "raw") as uri, open_room(run, uri, None) as guest:
        yield guest


def _disk(folder: Path) -> Path:
    put(folder / "tree", FILES)
    return ext4_disk(folder / "disk.raw", folder / "tree")


class _Launched(ApplianceGuest):
    """Launched once for all tests; what a test changed is put back after it."""

    dirty = False

    def store(self, path: str, entry: Entry | None) -> None:
        self.dirty = True
        super().store(path, entry)

    def remove(self, path: str, *, scrubbed: bool = False) -> None:
        self.dirty = True
        super().remove(path, scrubbed=scrubbed)


@pytest.fixture(scope="session")
def launched() -> Iterator[tuple[Run, Appliance, Mounted, Path]]:
    with tempfile.TemporaryDirectory(prefix="mm-") as name:
        run = Run(Path(name))
        disk = _disk(run.work)
        sh("tar", "-C", run.work / "tree", "--numeric-owner", "-cf", run.work / "tree.tar", ".")
        overlay = overlay_of(run.work / "overlay.qcow2", str(disk))
        with open_appliance(run, [overlay], kvm=False) as appliance:
            yield run, appliance, mount_guest(run, appliance.call, None), run.work / "tree.tar"


@pytest.fixture
def appliance_guest(launched: tuple[Run, Appliance, Mounted, Path]) -> Iterator[Guest]:
    run, appliance, mounted, tree = launched
    guest = _Launched(run, appliance.call, mounted)
    yield guest
    if guest.dirty:
        for name in appliance.call.ls("/"):
            appliance.call.rm_rf(f"/{name}")
        appliance.call.tar_in(str(tree), "/")


@pytest.fixture(scope="session")
def dissected() -> Iterator[tuple[Run, DissectGuest]]:
    """Opened once for all tests: what a test stores is in the guest that it is given, and nowhere else."""
    with tempfile.TemporaryDirectory(prefix="mm-") as name:
        run = Run(Path(name))
        with served(run, _disk(run.work), "raw") as uri, open_dissected(run, uri, None) as guest:
            yield run, guest


MAKERS = {"memory": _memory, "tree": _tree, "room": _room}
PLACES = [
    "memory",
    "tree",
    "dissect",
    pytest.param("room", marks=pytest.mark.slow),
    pytest.param("appliance", marks=pytest.mark.slow),
]


@pytest.fixture(params=PLACES)
def guest(request: pytest.FixtureRequest, run: Run) -> Iterator[Guest]:
    if request.param == "appliance":
        yield request.getfixturevalue("appliance_guest")
        return
    if request.param == "dissect":
        run, opened = request.getfixturevalue("dissected")
        yield DissectGuest(run, opened.layout, opened.files)
        return
    with MAKERS[request.param](run) as made:
        yield made


def test_it_knows_who_the_guest_is(guest: Guest) -> None:
    assert (guest.os.id, guest.os.version_id, guest.os.codename, guest.os.arch) == ("debian", "12", "bookworm", "amd64")
    assert guest.os.family == "debian"


def test_it_has_a_root_file_system(guest: Guest) -> None:
    assert guest.layout.root_filesystem.mountpoint == "/"


def test_each_kind_is_told_and_a_link_is_not_followed(guest: Guest) -> None:
    kinds = {
        path: guest.kind(path) for path in ("/", "/etc", "/etc/secret", "/bin", "/etc/outside", "/none", "/none/below")
    }
    assert kinds == {
        "/": Kind.FOLDER,
        "/etc": Kind.FOLDER,
        "/etc/secret": Kind.FILE,
        "/bin": Kind.LINK,
        "/etc/outside": Kind.LINK,
        "/none": Kind.MISSING,
        "/none/below": Kind.MISSING,
    }


def test_what_was_put_there_is_loaded_as_it_was(guest: Guest) -> None:
    for path in ("/etc/secret", "/etc/tools", "/etc/outside", "/usr/bin/bash"):
        assert guest.load(path) == FILES[path]


def test_nothing_lies_behind_a_link_in_the_middle_of_a_path(guest: Guest) -> None:
    assert guest.kind("/bin/bash") is Kind.MISSING
    assert guest.names("/bin") == ()
    with pytest.raises(GuestError):
        guest.load("/bin/bash")
    with pytest.raises(GuestError):
        guest.store("/bin/new", File(b""))


def test_names_are_sorted_and_only_those_of_the_folder(guest: Guest) -> None:
    assert guest.names("/etc/tools") == ("one",)
    assert guest.names("/etc") == ("bash.bashrc", "fstab", "os-release", "outside", "secret", "sub", "tools")
    assert guest.names("/etc/secret") == guest.names("/none") == ()


def test_the_statuses_tell_what_loading_tells(guest: Guest) -> None:
    found = guest.statuses()
    assert {path for path, status in found.items() if status.kind is Kind.FOLDER} >= {"/etc", "/etc/tools", "/usr/bin"}
    assert not [path for path in FILES if path not in found]
    for path, status in found.items():
        assert status.kind is guest.kind(path)
        match guest.load(path) if status.kind is not Kind.OTHER else None:
            case File(content=content, mode=mode, uid=uid, gid=gid):
                assert (status.size, status.mode, status.uid, status.gid) == (len(content), mode, uid, gid)
            case Folder(mode=mode, uid=uid, gid=gid):
                assert (status.size, status.mode, status.uid, status.gid) == (0, mode, uid, gid)
            case _:
                assert (status.size, status.mode, status.uid, status.gid) == (0, 0, 0, 0)


def test_what_was_written_has_another_mark_and_the_rest_has_not(guest: Guest) -> None:
    before = guest.statuses()
    guest.store("/etc/fstab", File(b"/dev/sdb1 / ext4 defaults 0 1\n"))
    guest.store("/etc/outside", Link("/etc/hostname"))
    after = guest.statuses()
    differs = {path for path, status in after.items() if status.kind is not Kind.FOLDER and before[path] != status}
    assert differs == {"/etc/fstab", "/etc/outside"}


def test_loading_what_is_not_there_names_it(guest: Guest) -> None:
    with pytest.raises(GuestError, match="/etc/none"):
        guest.load("/etc/none")


@pytest.mark.parametrize(
    "path", ["etc/passwd", "/etc/../etc/passwd", "/etc//passwd", "/etc/", "/etc/./x", "/etc/a\0b", ""]
)
def test_a_path_that_is_not_plain_is_refused(guest: Guest, path: str) -> None:
    with pytest.raises(GuestError, match="not an absolute, plain path"):
        guest.kind(path)


@pytest.mark.parametrize(
    "entry",
    [File(b"new\0\xff", 0o4751, 7, 8), Link("/etc/elsewhere"), Link("caf\udce9"), Folder(0o1777, 9, 10), File(b"")],
    ids=["file", "link", "odd link", "folder", "empty"],
)
@pytest.mark.parametrize("path", ["/etc/new", "/etc/secret", "/etc/outside", "/etc/sub", "/etc/n\udce9w"])
def test_what_is_stored_is_what_is_loaded_whatever_was_there(guest: Guest, path: str, entry: Entry) -> None:
    if isinstance(guest, ApplianceGuest) and "\udce9" in path + str(getattr(entry, "target", "")):
        with pytest.raises(GuestError, match="not UTF-8"):  # libguestfs's Python binding cannot name it
            guest.store(path, entry)
        return
    guest.store(path, entry)
    assert guest.load(path) == entry
    assert path.rpartition("/")[2] in guest.names("/etc")


@pytest.mark.slow
def test_what_libguestfs_says_is_an_error_of_ours(launched: tuple[Run, Appliance, Mounted, Path]) -> None:
    with pytest.raises(GuestError, match=r"the guest's disk in the appliance: .*sdz"):
        launched[1].call.mount("/dev/sdz1", "/")


@pytest.mark.slow
def test_a_name_that_is_not_utf8_is_seen_in_the_appliance(
    launched: tuple[Run, Appliance, Mounted, Path], appliance_guest: Guest, tmp_path: Path
) -> None:
    put(tmp_path / "odd", {"/n\udce9w": File(b"x"), "/plain": File(b"x"), "/link": Link("x"), "/sub": Folder()})
    sh("tar", "-C", tmp_path / "odd", "-cf", tmp_path / "odd.tar", ".")
    appliance_guest.store("/etc/not-there", None)
    launched[1].call.tar_in(str(tmp_path / "odd.tar"), "/etc/sub")
    kinds = {name: appliance_guest.kind(f"/etc/sub/{name}") for name in appliance_guest.names("/etc/sub")}
    assert kinds == {"n\udce9w": Kind.OTHER, "plain": Kind.FILE, "link": Kind.LINK, "sub": Kind.FOLDER}


def test_removing_takes_files_links_and_empty_folders_and_a_second_time_nothing(guest: Guest) -> None:
    for path in ("/etc/secret", "/etc/outside", "/etc/sub", "/etc/none", "/none/below"):
        guest.store(path, None)
        guest.store(path, None)
        assert guest.kind(path) is Kind.MISSING


def test_a_folder_goes_with_all_that_is_in_it_and_a_second_time_nothing(guest: Guest) -> None:
    for path in ("/etc/tools", "/etc/secret", "/etc/outside", "/etc/none", "/none/below"):
        guest.remove(path)
        guest.remove(path)
        assert guest.kind(path) is Kind.MISSING
    guest.store("/etc/tools", Folder())
    assert guest.names("/etc/tools") == ()


def test_a_folder_that_is_not_empty_stays(guest: Guest) -> None:
    for entry in (None, File(b"x"), Link("x")):
        with pytest.raises(GuestError):
            guest.store("/etc/tools", entry)
    assert guest.load("/etc/tools/one") == File(b"1")


def test_a_folder_that_is_stored_again_keeps_its_content(guest: Guest) -> None:
    guest.store("/etc/tools", Folder(0o700, 1, 2))
    assert guest.load("/etc/tools") == Folder(0o700, 1, 2)
    assert guest.names("/etc/tools") == ("one",)


def test_nothing_is_stored_where_there_is_no_folder(guest: Guest) -> None:
    with pytest.raises(GuestError):
        guest.store("/etc/none/file", File(b""))
    with pytest.raises(GuestError):
        guest.store("/etc/secret/file", File(b""))


def test_installed_packages_are_told_and_removed_ones_are_not(guest: Guest) -> None:
    told = {name: (package.version, package.arch) for name, package in guest.packages.items()}
    assert told == {"bash": ("5.2.15-2+b2", "amd64"), "tzdata": ("2024a-0+deb12u1", "all")}


def test_a_packages_files_are_named_by_where_they_really_are(guest: Guest) -> None:
    assert guest.files_of("bash") == {"/usr/bin/bash", "/etc/bash.bashrc"}
    assert guest.files_of("tzdata") == frozenset()
    with pytest.raises(GuestError, match="gone"):
        guest.files_of("gone")


def test_a_plan_leaves_out_what_already_holds(guest: Guest) -> None:
    change = guest.plan_packages(install=("bash",), remove=("open-vm-tools",))
    assert (change.install, change.remove) == ((), ())


names = st.sampled_from(["/etc/a", "/etc/sub", "/etc/sub/b", "/etc/secret", "/etc/tools", "/bin"])
entries = st.one_of(
    st.none(),
    st.builds(
        File,
        st.binary(max_size=9),
        st.sampled_from([0o600, 0o644, 0o755, 0o4755]),
        st.integers(0, 9),
        st.integers(0, 9),
    ),
    st.builds(Link, st.sampled_from(["a", "/etc/secret", "../../.."])),
    st.builds(Folder, st.sampled_from([0o700, 0o755]), st.integers(0, 9), st.integers(0, 9)),
)


@given(st.lists(st.tuples(names, entries), max_size=12))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_row_of_changes_leaves_a_folder_as_it_leaves_memory(
    tmp_path_factory: pytest.TempPathFactory, row: list[tuple[str, Entry | None]]
) -> None:
    with _memory(Run(Path())) as memory, _tree(Run(tmp_path_factory.mktemp("guest"))) as tree:
        for path, entry in row:
            assert _answer(memory, path, entry) == _answer(tree, path, entry), (path, entry)
        for path in ("/etc", "/etc/sub", "/etc/tools", "/"):
            assert _look(memory, path) == _look(tree, path)


def _look(guest: Guest, path: str) -> list[tuple[str, Kind]]:
    return [(name, guest.kind(f"{path.rstrip('/')}/{name}")) for name in guest.names(path)]


def _answer(guest: Guest, path: str, entry: Entry | None) -> bool:
    try:
        guest.store(path, entry)
    except GuestError:
        return False
    return True
