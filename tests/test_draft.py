"""A Draft is the guest as it would be."""

import pytest

from migrate.draft import MOST_COUNTED, Draft
from migrate.effects import Edit, LayoutEdit, PackageEdit, Removal
from migrate.errors import GuestError
from migrate.guest import DropPartition, File, Filesystem, Folder, Kind, Layout, Link, MakeSwapFile, Package
from migrate.guests.memory import Held, MemoryGuest, from_yaml
from migrate.source import Firmware


def guest(**files: str) -> MemoryGuest:
    return MemoryGuest({"/" + path.replace("__", "/"): File(text.encode()) for path, text in files.items()})


def test_a_write_is_seen_by_later_reads_and_not_by_the_guest() -> None:
    below = guest(etc__fstab="old\n")
    draft = Draft(below)
    with draft.step("a-step"):
        draft.write("/etc/fstab", "new\n", why="it is new")
    assert draft.read("/etc/fstab") == "new\n"
    assert below.load("/etc/fstab") == File(b"old\n")
    assert draft.changes.effects == (Edit("a-step", "it is new", "/etc/fstab", File(b"old\n"), File(b"new\n")),)


def test_a_write_that_changes_nothing_leaves_no_record() -> None:
    draft = Draft(guest(etc__fstab="same\n"))
    draft.write("/etc/fstab", "same\n", why="x")
    draft.edit("/etc/fstab", str, why="x")
    draft.edit("/etc/not-there", lambda text: text + "x", why="x")
    draft.remove("/etc/not-there", why="x")
    assert draft.changes.effects == ()


def test_a_write_keeps_mode_and_owner() -> None:
    draft = Draft(MemoryGuest({"/etc/secret": File(b"a", 0o640, 3, 4)}))
    draft.write("/etc/secret", "b", why="x")
    assert draft.load("/etc/secret") == File(b"b", 0o640, 3, 4)


def test_missing_folders_are_made_with_their_file() -> None:
    draft = Draft(guest(etc__hosts=""))
    draft.write("/etc/a/b/c", "text", why="x")
    assert [(e.path, e.after) for e in draft.changes.effects if isinstance(e, Edit)] == [
        ("/etc/a", Folder()),
        ("/etc/a/b", Folder()),
        ("/etc/a/b/c", File(b"text")),
    ]


def test_links_are_followed_inside_the_guest() -> None:
    draft = Draft(
        MemoryGuest(
            {
                "/usr/lib/systemd/system/ssh.service": File(b"unit"),
                "/lib": Link("usr/lib"),
                "/etc/up": Link("../../../../etc/../usr"),
                "/etc/host": Link("/etc/../../lib"),
            }
        )
    )
    assert draft.read("/lib/systemd/system/ssh.service") == "unit"
    assert draft.read("/etc/up/lib/systemd/system/ssh.service") == "unit"
    assert draft.read("/etc/host/systemd/system/ssh.service") == "unit"
    draft.write("/lib/systemd/system/ssh.service", "new", why="x")
    assert [e.path for e in draft.changes.effects if isinstance(e, Edit)] == ["/usr/lib/systemd/system/ssh.service"]


def test_a_circle_of_links_is_an_error_and_not_a_hang() -> None:
    draft = Draft(MemoryGuest({"/a": Link("/b"), "/b": Link("/a")}))
    with pytest.raises(GuestError, match="circle"):
        draft.write("/a/file", "x", why="x")
    assert draft.read("/a") is None


def test_removing_a_link_leaves_what_it_points_to() -> None:
    draft = Draft(MemoryGuest({"/etc/resolv.conf": Link("/run/resolv.conf"), "/run/resolv.conf": File(b"")}))
    draft.remove("/etc/resolv.conf", why="x")
    assert draft.kind("/etc/resolv.conf") is Kind.MISSING
    assert draft.kind("/run/resolv.conf") is Kind.FILE


def test_a_folder_goes_with_what_is_in_it() -> None:
    draft = Draft(guest(var__lib__cloud__a="", var__lib__cloud__b__c="", var__lib__other=""))
    draft.remove("/var/lib/cloud", why="x")
    assert draft.changes.effects == (Removal("", "x", "/var/lib/cloud", Kind.FOLDER, 3),)
    assert draft.kind("/var/lib/cloud/b/c") is Kind.MISSING
    assert draft.names("/var/lib") == ("other",)
    assert draft.glob("/var/lib/*/*") == ()


def test_glob_matches_as_a_shell_does() -> None:
    draft = Draft(guest(etc__a__x="", etc__b__x="", etc__b__y="", etc__b__z=""))
    draft.write("/etc/b/.x", "", why="x")
    assert draft.glob("/etc/*/[xy]") == ("/etc/a/x", "/etc/b/x", "/etc/b/y")
    assert draft.glob("/etc/b/.*") == ("/etc/b/.x",)


def test_what_only_a_removed_package_owns_is_gone() -> None:
    below = MemoryGuest(
        {},
        packages=[
            Held(Package("tools", "1"), {"/usr/bin/vmtoolsd": File(b""), "/usr/share/shared": File(b"")}),
            Held(Package("other", "1"), {"/usr/share/shared": File(b"")}),
        ],
    )
    draft = Draft(below)
    draft.purge("tools", why="x")
    assert not draft.exists("/usr/bin/vmtoolsd")
    assert draft.exists("/usr/share/shared")
    assert "tools" not in draft.packages
    assert [type(effect) for effect in draft.changes.effects] == [PackageEdit]
    draft.purge("tools", why="again")
    assert len(draft.changes.effects) == 1


def test_a_dropped_partition_is_gone_from_the_layout() -> None:
    root = Filesystem("/dev/sda2", "ext4", 10, disk=0, partition=2, mountpoint="/")
    swap = Filesystem("/dev/sda3", "swap", 10, disk=0, partition=3, mountpoint="swap")
    draft = Draft(MemoryGuest({}, layout=Layout((root, swap), "/dev/sda2", Firmware.BIOS, 100, "dos")))
    draft.change_layout(DropPartition(0, 3), why="x")
    draft.change_layout(MakeSwapFile("/swapfile", 4096), why="x")
    draft.change_layout(MakeSwapFile("/swapfile", 4096), why="x")
    assert draft.layout.filesystems == (root,)
    assert draft.exists("/swapfile")
    assert [type(effect) for effect in draft.changes.effects] == [LayoutEdit, LayoutEdit]


def test_odd_encodings_survive_an_edit() -> None:
    draft = Draft(MemoryGuest({"/etc/motd": File("Olá\n".encode("latin-1"))}))
    draft.edit("/etc/motd", lambda text: text + "x\n", why="x")
    assert draft.load("/etc/motd") == File(b"Ol\xe1\nx\n")


def test_what_lies_behind_a_circle_of_links_is_not_there() -> None:
    draft = Draft(from_yaml("files: {/etc/a: {link: /etc/b}, /etc/b: {link: /etc/a}, /lib/x: x}\n"))
    assert draft.glob("/etc/a/x") == ()
    assert draft.real("/etc/a/x") is None
    assert draft.real("/etc/a") == "/etc/a"
    assert Draft(from_yaml("files: {/usr/lib/x: x}\n")).real("/lib/x") == "/usr/lib/x"


def test_a_draft_knows_whether_anything_was_changed_before_or_in_it() -> None:
    to = MemoryGuest({"/etc/x": File(b"x")})
    draft = Draft(to)
    draft.write("/etc/x", "x", why="is so already")
    assert not draft.changed
    draft.write("/etc/x", "y", why="was x")
    assert draft.changed
    assert Draft(to, changed=True).changed


def test_what_went_with_a_folder_does_not_come_back_with_it() -> None:
    draft = Draft(guest(var__lib__cloud__a="", var__lib__cloud__b__c=""))
    draft.write("/var/lib/cloud/b/drafted", "x", why="x")
    draft.remove("/var/lib/cloud", why="x")
    assert draft.names("/var/lib/cloud") == ()
    draft.write("/var/lib/cloud/b/new", "x", why="x")
    assert draft.walk("/var/lib/cloud") == ("/var/lib/cloud/b/new", "/var/lib/cloud/b")
    draft.clear("/var/lib/cloud", why="x")
    assert draft.names("/var/lib/cloud") == ()
    assert draft.kind("/var/lib/cloud") is Kind.FOLDER


def test_a_socket_can_be_removed() -> None:
    draft = Draft(MemoryGuest({}, others=["/var/lib/agent/ipc"]))
    draft.remove("/var/lib/agent", why="x")
    assert draft.changes.effects == (Removal("", "x", "/var/lib/agent", Kind.FOLDER, 1),)


def test_of_a_folder_with_many_files_only_so_many_are_counted() -> None:
    many = {f"/var/spool/many/{number}": File(b"") for number in range(MOST_COUNTED + 5)}
    draft = Draft(MemoryGuest(many))
    draft.remove("/var/spool/many", why="x")
    assert draft.changes.effects == (Removal("", "x", "/var/spool/many", Kind.FOLDER, MOST_COUNTED),)
