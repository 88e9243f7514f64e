"""Foreign text is made fit to be shown; sizes, times and numbers read well."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migrate.text import clock, counted, one_line, shown, size, took


@given(st.text(st.characters()))
def test_nothing_foreign_reaches_the_terminal_as_a_command(text: str) -> None:
    assert not any(ord(char) < 32 and char not in "\t\n" for char in shown(text))
    assert not any(ord(char) < 32 for char in one_line(text))
    assert "\x9b" not in shown(text) and "\u202e" not in shown(text)
    shown(text).encode()


@pytest.mark.parametrize(
    ("char", "written"),
    [
        ("\x1b", "\\x1b"),
        ("\r", "\\x0d"),
        ("\x9b", "\\x9b"),
        ("\u202e", "\\u202e"),
        ("\u2066", "\\u2066"),
        ("\u200b", "\\u200b"),
        ("\u2028", "\\u2028"),
        ("\ufeff", "\\ufeff"),
        ("\U000e0041", "\\U000e0041"),
        (b"\xff".decode("utf-8", "surrogateescape"), "\\xff"),
        ("\ud83d", "\\ud83d"),
    ],
)
def test_what_cannot_be_seen_is_written_out(char: str, written: str) -> None:
    assert shown(f"a{char}b") == f"a{written}b"


def test_a_name_stays_within_its_line() -> None:
    assert one_line("/etc/a\nIt can go.\t") == "/etc/a\\x0aIt can go.\\x09"


def test_letters_of_all_languages_are_shown_as_they_are() -> None:
    text = "São Paulo, Ωμέγα, Москва, 東京, שלום, مرحبا, 👍"
    assert shown(text) == text


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
