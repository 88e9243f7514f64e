"""Versions compare as dpkg and rpm compare them: by the programs themselves."""

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrate.errors import GuestError
from migrate.guest import Packaging
from migrate.guests.versions import at_least, compare
from tests.guest_disks import sh

EPOCH = st.sampled_from(["", "", "0:", "1:", "10:"])


def versions(letters: str) -> st.SearchStrategy[str]:
    """Versions of few letters, so that two of them are often equal far into the text."""
    return st.from_regex(rf"\A[019][{letters}]{{0,6}}\Z")


DEBIAN = st.builds("{}{}{}".format, EPOCH, versions("019aB.+~"), st.sampled_from(["", "-0", "-1", "-1~deb12u1", "-10"]))
RPM = st.builds("{}{}{}".format, EPOCH, versions("019aB._~^"), st.sampled_from(["-1", "-1.el9", "-1.el9_3", "-10"]))


def near(kind: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[str, str]]:
    return st.tuples(kind, kind) | st.builds(lambda one, end: (one, one + end), kind, st.sampled_from(["", "1", "~1"]))


@settings(max_examples=150, deadline=None)
@given(near(DEBIAN))
def test_debian_s_versions_compare_as_dpkg_says(pair: tuple[str, str]) -> None:
    one, other = pair
    word = {-1: "lt", 0: "eq", 1: "gt"}[compare(Packaging.DPKG, one, other)]
    subprocess.run(["dpkg", "--compare-versions", one, word, other], check=True)


@settings(max_examples=60, deadline=None)
@given(st.lists(near(RPM), min_size=1, max_size=30))
def test_rpm_s_versions_compare_as_rpm_says(pairs: list[tuple[str, str]]) -> None:
    calls = "\n".join(f'print(rpm.vercmp("{one}", "{other}") .. " ")' for one, other in pairs)
    said = sh("rpm", "--eval", f"%{{lua:{calls}}}").split()
    assert [compare(Packaging.RPM, one, other) for one, other in pairs] == list(map(int, said))


@pytest.mark.parametrize(
    ("packaging", "older", "newer"),
    [
        (Packaging.DPKG, "22.4.2-1", "22.4.10-1"),
        (Packaging.DPKG, "23.1~rc1-1", "23.1-1"),
        (Packaging.DPKG, "9:1", "10:0"),
        (Packaging.RPM, "23.4-7.el9", "23.4-19.el9"),
        (Packaging.RPM, "1.0~rc1-1", "1.0-1"),
        (Packaging.RPM, "1.0-1", "1.0^git1-1"),
        (Packaging.RPM, "99-1", "1:1-1"),
        (Packaging.APK, "23.4.4-r0", "23.4.4-r10"),
        (Packaging.APK, "1.2_rc1-r0", "1.2-r0"),
        (Packaging.PACMAN, "23.4-1", "24.1-1"),
    ],
)
def test_what_fools_a_comparison_of_text(packaging: Packaging, older: str, newer: str) -> None:
    assert at_least(packaging, newer, older) and at_least(packaging, newer, newer)
    assert not at_least(packaging, older, newer)


def test_what_is_no_version_is_said() -> None:
    with pytest.raises(GuestError, match="'rolling'"):
        compare(Packaging.DPKG, "rolling", "1")
    with pytest.raises(GuestError, match="without a package manager"):
        compare(Packaging.NONE, "1", "1")
