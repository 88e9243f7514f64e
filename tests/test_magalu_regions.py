import pytest

from adapters.magalu import region
from adapters.magalu.regions import Region, Service
from migrate.errors import UsageError


def test_a_region_is_addressed_as_the_mgc_cli_does() -> None:
    assert region("br-ne1") == Region(
        name="br-ne1",
        api_url="https://api.magalu.cloud/br-ne1/compute",
        s3_url="https://br-ne1.magaluobjects.com",
        signing_name="br-ne1",
    )
    assert region("br-mgl1").s3_url == "https://br-se-1.magaluobjects.com"
    assert not region("br-se1").is_loopback


@pytest.mark.parametrize("name", ["", "BR-SE1", "br-se1/..", "br-se1.example.org", "us-east-1\n", "br-xx9", "bŕ-se1"])
def test_a_malformed_or_unknown_region_is_refused_with_the_choices(name: str) -> None:
    with pytest.raises(UsageError, match="br-se1, br-ne1"):
        region(name)


@pytest.mark.parametrize(
    "url",
    [
        "http://api.magalu.cloud",
        "http://127.0.0.1.example.org:80",
        "http://10.0.0.1",
        "ftp://127.0.0.1",
        "https://user:word@api.magalu.cloud",
        "https://",
        "127.0.0.1:80",
    ],
)
def test_only_https_or_this_machine_is_spoken_to(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        region("br-se1", api_url=url)
    assert "word" not in str(caught.value).replace("words", "")


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "http://[::1]:8080", "http://localhost:8080"])
def test_plain_http_is_taken_on_this_machine(url: str) -> None:
    assert region("br-se1", api_url=url, s3_url=url).is_loopback


def test_each_service_has_its_address() -> None:
    found = {(name, service): region(name).url(service) for name in ("br-ne1", "br-mgl1") for service in Service}
    assert found == {
        ("br-ne1", Service.COMPUTE): "https://api.magalu.cloud/br-ne1/compute",
        ("br-ne1", Service.NETWORK): "https://api.magalu.cloud/br-ne1/network",
        ("br-ne1", Service.PROFILE): "https://api.magalu.cloud/profile",
        ("br-mgl1", Service.COMPUTE): "https://api.magalu.cloud/br-se-1/compute",
        ("br-mgl1", Service.NETWORK): "https://api.magalu.cloud/br-se-1/network",
        ("br-mgl1", Service.PROFILE): "https://api.magalu.cloud/profile",
    }
