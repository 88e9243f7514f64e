"""Addresses of live sources as users write and mistype them."""

import pytest

from migrate.address import parse
from migrate.errors import UsageError


def test_an_address_is_its_scheme_its_host_and_the_parts_of_its_path() -> None:
    found = parse("vmware://vc.example:8443/DC0/web%20farm//erp%2F01")
    assert (found.scheme, found.host, found.parts) == ("vmware", "vc.example:8443", ("DC0", "web farm", "erp/01"))


@pytest.mark.parametrize(
    "text",
    [
        "vmware://root:geheim@vc/DC0/erp01",
        "vmware://root:ge/heim@vc/DC0/erp01",
        "vmware://root:geheim@vc:port/DC0",
        "vmware://[root:geheim@vc/DC0",
        "gcp://root:geheim@project/vm",
    ],
)
def test_a_password_in_an_address_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse(text)
    assert "heim" not in f"{refused.value.message} {refused.value.hint} {refused.value.__cause__}"


@pytest.mark.parametrize("text", ["gcp://project/vm", "vmware:///DC0/erp01", "erp01.ova", "vmware://vc/DC0?x=1"])
def test_what_is_no_address_is_told_with_what_is_known(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse(text)
    assert refused.value.hint
