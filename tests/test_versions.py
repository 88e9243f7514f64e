"""Versions are ordered as the package managers order them: dpkg and rpm themselves say what is right."""

import itertools
import subprocess

import pytest

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
    assert order(Packaging.APK) is None
