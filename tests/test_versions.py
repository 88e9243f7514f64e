"""Versions are ordered as the package managers order them: dpkg and rpm themselves say what is right."""

import itertools
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrate.guest import Packaging
from migrate.versions import compare_dpkg, compare_rpm, order

DPKG = (
    *(
        "1.0",
        "1.0-0",
        "1.0-1",
        "1:0.9",
        "2:12.2.0-1+deb12u4",
        "12.2.0",
        "1.0~rc1",
        "1.0~rc1-1",
        "1.0+b1",
        "1.00",
        "1.0a",
    ),
    *(
        "22.4.2-1",
        "22.4.2-1+deb12u3",
        "24.1.3-0ubuntu1~22.04.5",
        "1:9.2p1-2+deb12u7",
        "0.7.9",
        "0.7.10",
        "0.7.9~bzr1",
        "1.0-1-1",
    ),
)
RPM = (
    *(
        "1.0",
        "1.0-1",
        "1.0-1.el9",
        "1.0-1.el9_4",
        "1:0.9-1",
        "1.0~rc1-1",
        "1.0^git1-1",
        "1.0^-1",
        "1.0.1-1",
        "1.a-1",
        "1.0a-1",
    ),
    *(
        "0.7.9-24.el7.centos.1",
        "24.4-4.el9",
        "24.4-4.amzn2023",
        "8.7p1-45.el9",
        "8.7p1-9.el9",
        "1_0-1",
        "10.0-1",
        "1.0~~-1",
        "1.0^~-1",
    ),
)


def sign(number: int) -> int:
    return (number > 0) - (number < 0)


def dpkg_says(one: str, other: str) -> int:
    for relation, found in (("lt", -1), ("eq", 0)):
        if subprocess.run(["dpkg", "--compare-versions", one, relation, other], check=False).returncode == 0:
            return found
    return 1


def rpm_says(pairs: list[tuple[str, str]]) -> list[int]:
    asked = " ".join(f'io.write(rpm.vercmp("{one}","{other}"), " ")' for one, other in pairs)
    said = subprocess.run(["rpm", "--eval", f"%{{lua:{asked}}}"], check=True, capture_output=True, text=True).stdout
    return [int(word) for word in said.split()]


def test_debian_versions_are_in_the_order_that_dpkg_says() -> None:
    for one, other in itertools.combinations(DPKG, 2):
        found = sign(compare_dpkg(one, other))
        assert found == dpkg_says(one, other), (one, other)
        assert sign(compare_dpkg(other, one)) == -found


def test_rpm_versions_are_in_the_order_that_rpm_says() -> None:
    pairs = [(one, other) for one in RPM for other in RPM]
    wrong = [
        (pair, found)
        for pair, said in zip(pairs, rpm_says(pairs), strict=True)
        if (found := sign(compare_rpm(*pair))) != said
    ]
    assert wrong == []


@pytest.mark.parametrize(("one", "other"), [("9.0", "10.0"), ("0.7.9", "0.7.10"), ("22.4", "22.10")])
def test_numbers_are_not_compared_as_text(one: str, other: str) -> None:
    assert compare_dpkg(one, other) < 0
    assert compare_rpm(one, other) < 0


def test_an_order_that_is_not_known_is_not_made_up() -> None:
    assert order(Packaging.RPM) is compare_rpm
    assert order(Packaging.NONE) is None


# Versions of few letters, so that two of them are often equal far into the text.


def versions(letters: str) -> st.SearchStrategy[str]:
    return st.from_regex(rf"\A[019][{letters}]{{0,6}}\Z")


EPOCHS = st.sampled_from(["", "", "0:", "1:", "10:"])
ANY_DPKG = st.builds("{}{}{}".format, EPOCHS, versions("019aB.+~"), st.sampled_from(["", "-0", "-1", "-1~x", "-10"]))
ANY_RPM = st.builds("{}{}{}".format, EPOCHS, versions("019aB._~^"), st.sampled_from(["", "-1", "-1.el9", "-1.el9_3"]))


def near(kind: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[str, str]]:
    return st.tuples(kind, kind) | st.builds(lambda one, end: (one, one + end), kind, st.sampled_from(["", "1", "~1"]))


@settings(max_examples=100, deadline=None)
@given(near(ANY_DPKG))
def test_any_two_debian_versions_are_in_dpkg_s_order(pair: tuple[str, str]) -> None:
    assert compare_dpkg(*pair) == dpkg_says(*pair)


@settings(max_examples=50, deadline=None)
@given(st.lists(near(ANY_RPM), min_size=1, max_size=30))
def test_any_two_rpm_versions_are_in_rpm_s_order(pairs: list[tuple[str, str]]) -> None:
    assert [compare_rpm(*pair) for pair in pairs] == rpm_says(pairs)


@pytest.mark.parametrize(
    ("packaging", "older", "newer"),
    [
        (Packaging.APK, "23.4.4-r0", "23.4.4-r10"),
        (Packaging.APK, "1.2_rc1-r0", "1.2-r0"),
        (Packaging.PACMAN, "23.4-1", "24.1-1"),
        (Packaging.PACMAN, "24.1-1", "1:1-1"),
    ],
)
def test_alpine_s_and_arch_s_versions_are_ordered(packaging: Packaging, older: str, newer: str) -> None:
    compare = order(packaging)
    assert compare is not None and compare(older, newer) < 0 < compare(newer, older)


def test_what_is_no_version_is_neither_older_nor_newer() -> None:
    assert compare_dpkg("rolling", "1.0") == 0
