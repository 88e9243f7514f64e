"""The register of codes: one meaning each, and what may be waived."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

import adapters.azure.refusals
import adapters.files.refusals
import adapters.magalu.launches
import adapters.magalu.target
import adapters.vmware.refusals
from migrate.codes import check_waivers, read, register
from migrate.effects import Severity
from migrate.errors import UsageError
from remediations import BUILTIN, VENDORS
from remediations.vendors import Vendor

ROOT = Path(__file__).parent.parent
CODE = re.compile(r'"([A-Z]{2,6}-\d{3})"')
ENTRY = "NET-001:\n  {severity: note, title: t, about: a, remedy: r}\n"


def test_a_code_that_is_there_twice_is_refused() -> None:
    with pytest.raises(yaml.YAMLError, match="NET-001 is there twice"):
        read(ENTRY + ENTRY)


def test_a_code_that_says_no_remedy_is_refused() -> None:
    with pytest.raises(ValidationError, match="remedy"):
        read("NET-001: {severity: note, title: t, about: a}\n")


def written() -> Iterator[tuple[str, str]]:
    """Every code that our sources name, with the file."""
    for folder in ("migrate", "adapters", "remediations"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for code in CODE.findall(path.read_text("utf-8")):
                yield code, str(path.relative_to(ROOT))


def test_every_code_that_is_written_somewhere_has_a_meaning() -> None:
    missing = {(code, path) for code, path in written() if code not in register()}
    assert missing == set()


def test_every_refusal_of_a_source_and_of_the_target_has_a_meaning_and_is_an_error() -> None:
    codes = [
        *adapters.azure.refusals.Code,
        *adapters.files.refusals.Code,
        *adapters.magalu.launches.Code,
        *adapters.magalu.target.Code,
        *adapters.vmware.refusals.Code,
    ]
    assert {register()[code].severity for code in codes} == {Severity.ERROR}


@pytest.mark.parametrize("vendor", VENDORS, ids=lambda vendor: vendor.slug)
def test_every_finding_of_a_vendor_has_a_meaning(vendor: Vendor) -> None:
    assert {f"{vendor.code}-{number:03d}" for number in (2, 3)} <= set(register())


def test_every_remediation_that_is_said_to_give_a_code_is_there() -> None:
    names = {remediation.name for remediation in BUILTIN}
    said = {(name, by) for name, code in register().items() for by in code.by}
    assert {(name, by) for name, by in said if by not in names} == set()


def test_texts_are_written_as_the_screens_need_them() -> None:
    for name, code in register().items():
        assert code.title[0].islower() or code.title.split()[0].rstrip("'s") in (
            "LVM",
            "UEFI",
            "NetworkManager",
            "Magalu",
        ), name
        assert not code.title.endswith("."), name
        assert code.about.endswith(".") and code.remedy[0].isupper(), name
        assert code.waivable is None or (code.severity is Severity.ERROR and not code.waivable.endswith(".")), name


def test_a_warning_may_be_waived_and_an_error_only_where_the_register_says_why() -> None:
    check_waivers(["NET-007", "VMW-001"])
    with pytest.raises(UsageError, match="--waive BOOT-002: that the default kernel has no virtio cannot be waived"):
        check_waivers(["NET-007", "BOOT-002"])


def test_a_code_that_there_is_not_is_told_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="--waive NET-077: there is no finding of that name; the nearest is NET-017"):
        check_waivers(["NET-077"])
