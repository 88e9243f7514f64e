"""What changes at a path is told in lines where it is text, in words where it is not, and never more than may be shown."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrate.guest import Entry, File, Folder, Link
from migrate.preview.difference import Difference, difference

HIDDEN = Difference(("(not shown: it holds secrets)",), secret=True)


def diff(path: str, before: Entry | None, after: Entry) -> list[str]:
    return list(difference(path, before, after).text)


def test_a_diff_shows_lines_and_context() -> None:
    before, after = File(b"a\nb\nc\nd\ne\n"), File(b"a\nb\nC\nd\ne\n", 0o600)
    assert diff("/etc/x", before, after) == [
        "mode 0644 -> 0600",
        "@@ -1,5 +1,5 @@",
        " a",
        " b",
        "-c",
        "+C",
        " d",
        " e",
    ]


def applied(lines: list[str], diff: tuple[str, ...]) -> list[str]:
    """The lines after a unified diff, as patch(1) makes them; each line that it names must be there."""
    made: list[str] = []
    at = 0
    for line in diff:
        if line.startswith("@@"):
            found = re.fullmatch(r"@@ -(\d+)(?:,(\d+))? \+\d+(?:,\d+)? @@", line)
            assert found
            first = int(found[1]) - (1 if found[2] != "0" else 0)
            made += lines[at:first]
            at = first
            continue
        mark, text = line[0], line[1:]
        if mark in " -":
            assert lines[at] == text
            at += 1
        if mark in " +":
            made.append(text)
    return made + lines[at:]


LINES = st.lists(st.sampled_from("abcd"), max_size=14)


@given(LINES, LINES)
def test_the_lines_of_a_diff_make_the_new_text_of_the_old_one(old: list[str], new: list[str]) -> None:
    before, after = (File("".join(f"{line}\n" for line in lines).encode()) for lines in (old, new))
    found = difference("/etc/x", before, after)
    if new:
        assert applied(old, found.lines) == new
    if old == new:
        assert found == Difference()


def test_a_long_text_that_differs_everywhere_is_shown_in_time() -> None:
    before, after = (File(b"".join(b"%d\n" % (n % prime) for n in range(60_000))) for prime in (7, 11))
    found = difference("/etc/x", before, after)
    assert applied([str(n % 7) for n in range(60_000)], found.lines) == [str(n % 11) for n in range(60_000)]


def test_a_last_line_without_an_end_is_told() -> None:
    assert diff("/etc/x", File(b"a\nb"), File(b"a\nb\n")) == [
        "@@ -1,3 +1,2 @@",
        " a",
        " b",
        "-\\ No newline at end of file",
    ]


def test_line_ends_of_another_system_are_seen() -> None:
    assert diff("/etc/x", File(b"a\r\n"), File(b"a\n")) == ["@@ -1 +1 @@", "-a\\x0d", "+a"]


def test_modes_and_owners_are_told() -> None:
    assert diff("/a", File(b"x", 0o644), File(b"x", 0o755, 0, 42)) == ["mode 0644 -> 0755", "owner 0:0 -> 0:42"]
    assert diff("/a", None, File(b"", 0o600, 7, 8)) == ["mode 0600", "owner 7:8", "empty"]
    assert diff("/a", None, Folder(0o700)) == ["folder, mode 0700"]
    assert diff("/a", Folder(0o700), Folder(0o755)) == ["mode 0700 -> 0755"]


def test_what_a_path_was_before_is_told() -> None:
    assert diff("/a", Link("old"), Link("new")) == ["was -> old", "-> new"]
    assert diff("/a", File(b"x"), Link("new")) == ["replaces a file", "-> new"]
    assert diff("/a", Link("old"), File(b"x\n")) == ["replaces a link -> old", "@@ -0,0 +1 @@", "+x"]


def test_binaries_are_told_by_their_size() -> None:
    assert diff("/boot/efi/EFI/BOOT/BOOTX64.EFI", None, File(b"MZ\0" * 1000)) == ["binary, 2.93 KiB"]
    assert diff("/x", File(b"\0"), File(b"text\n")) == ["binary, 1 B -> 5 B"]


def test_a_link_is_told_by_its_target() -> None:
    assert diff("/etc/localtime", None, Link("/usr/\x1b[31mzone")) == ["-> /usr/\\x1b[31mzone"]


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/etc/shadow", b"root:x:1\n"),
        ("/etc/gshadow-", b"a\n"),
        ("/root/backup", b"-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n"),
        ("/etc/app.yaml", b"key: |\n  -----BEGIN RSA PRIVATE KEY-----\n"),
        ("/etc/app.json", b'{"key": "-----BEGIN PRIVATE KEY-----\\nabc"}\n'),
        ("/var/lib/waagent/ABCD.prv", b"x\n"),
    ],
)
def test_of_a_secret_nothing_is_told(path: str, content: bytes) -> None:
    assert difference(path, None, File(content)) == HIDDEN
    assert difference(path, File(content), File(b"gone\n")) == HIDDEN


def test_a_password_that_changes_is_seen_to_change() -> None:
    lines = diff("/etc/app.conf", File(b"password=a\nx=1\n"), File(b"password=b\nx=1\n"))
    assert lines == ["@@ -1,2 +1,2 @@", "-password=(not shown)", "+password=(not shown)", " x=1"]
