"""Texts about changes never show what they must not."""

from hypothesis import given
from hypothesis import strategies as st

from migrate.guest import File, Link
from migrate.text import clock, counted, diff, shown, size, took


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


def test_password_hashes_and_private_keys_are_not_shown() -> None:
    key = File(b"-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n")
    assert diff("/etc/shadow", File(b"root:x\n"), File(b"root:y\n")) == ["(not shown: it holds secrets)"]
    assert diff("/root/backup", None, key) == ["(not shown: it holds secrets)"]
    assert diff("/etc/users", None, File(b"root:$6$abc$def:1\n")) == ["(not shown: it holds secrets)"]


def test_a_password_in_a_configuration_is_not_shown() -> None:
    lines = diff("/etc/app.conf", File(b"password=a\nx=1\n"), File(b"password=a\nx=2\n"))
    assert lines == ["@@ -1,2 +1,2 @@", " password=(not shown)", "-x=1", "+x=2"]


def test_binaries_are_told_by_their_size() -> None:
    assert diff("/boot/efi/EFI/BOOT/BOOTX64.EFI", None, File(b"MZ\0" * 1000)) == ["binary, 2.93 KiB"]


def test_a_link_is_told_by_its_target() -> None:
    assert diff("/etc/localtime", None, Link("/usr/\x1b[31mzone")) == ["-> /usr/\\x1b[31mzone"]


@given(st.text())
def test_nothing_foreign_reaches_the_terminal_as_a_command(text: str) -> None:
    assert not any(ord(char) < 32 and char not in "\t\n" for char in shown(text))
    assert "\x9b" not in shown(text) and "\u202e" not in shown(text)


def test_sizes_and_times_read_well() -> None:
    assert [size(n) for n in (0, 1023, 1024, 11.2 * 2**30, 980 * 2**20, 3 * 2**40)] == [
        "0 B",
        "1023 B",
        "1 KiB",
        "11.2 GiB",
        "980 MiB",
        "3 TiB",
    ]
    assert [clock(n) for n in (2, 91, 3723)] == ["0:02", "1:31", "1:02:03"]
    assert [took(n) for n in (0.4, 41, 372, 3723)] == ["0 s", "41 s", "6 min 12 s", "1 h 2 min"]


def test_numbers_agree_with_their_nouns() -> None:
    said = [counted(1, "change"), counted(2, "change"), counted(0, "entry"), counted(1, "entry"), counted(2, "day")]
    assert said == ["1 change", "2 changes", "0 entries", "1 entry", "2 days"]
