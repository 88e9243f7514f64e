"""Tables of columns, one column at a time."""

from hypothesis import given
from hypothesis import strategies as st

from remediations.mount_table import Row, rewritten, rows


def test_columns_are_read_with_their_escapes_and_comments_have_none() -> None:
    assert Row("  /dev/sda1\t/srv/nota\\040fiscal  ext4").columns == ("/dev/sda1", "/srv/nota fiscal", "ext4")
    assert Row("   # /dev/sda1 / ext4").columns == ()
    assert Row("").columns == ()


def test_only_the_column_changes_and_a_space_in_it_is_escaped() -> None:
    row = Row("  /dev/sda1\t/\text4   defaults 0 1  ")
    assert row.with_column(0, "UUID=1").line == "  UUID=1\t/\text4   defaults 0 1  "
    assert row.with_column(1, "/a b#c").line == "  /dev/sda1\t/a\\040b\\043c\text4   defaults 0 1  "


def test_a_column_that_is_not_there_is_empty() -> None:
    assert Row("/dev/sda1 /").column(3) == ""


@given(st.text(st.sampled_from("ab/#\\ \t\n0=")))
def test_a_table_whose_rows_stay_stays_to_the_letter(text: str) -> None:
    assert rewritten(text, lambda row: (row,)) == text
    assert all(row.columns for row in rows(text))


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_a_value_is_read_back_as_it_was_written(value: str) -> None:
    line = Row("a b c").with_column(1, value).line
    assert Row(line).columns == ("a", value, "c")
