"""Proxies of the old network are told by their hosts, and never with a password."""

import pytest

from migrate.draft import Draft
from migrate.guests.memory import from_yaml
from remediations.network.proxies import proxies, tell


@pytest.mark.parametrize(
    ("path", "line", "host"),
    [
        ("/etc/environment", "http_proxy=http://proxy.corp:3128/", "proxy.corp"),
        ("/etc/environment", 'HTTPS_PROXY="http://user:segredo@10.0.0.9:3128"', "10.0.0.9"),
        ("/etc/profile.d/proxy.sh", "export https_proxy=proxy.corp:3128", "proxy.corp"),
        ("/etc/apt/apt.conf.d/95proxy", 'Acquire::http::Proxy "http://u:segredo@proxy.corp:3128/";', "proxy.corp"),
        ("/etc/apt/apt.conf", '  Proxy "http://proxy.corp:3128";', "proxy.corp"),
        ("/etc/dnf/dnf.conf", "proxy=http://proxy.corp:3128", "proxy.corp"),
        ("/etc/yum.conf", "proxy = http://u:se@gredo@proxy.corp:3128", "proxy.corp"),
        ("/etc/environment", "http_proxy=http://u:se/gredo@proxy.corp", "a proxy with a password"),
    ],
)
def test_a_proxy_is_told_by_its_host(path: str, line: str, host: str) -> None:
    assert list(proxies(path, f"# x\n{line}\n")) == [(2, host)]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        *(("/etc/environment", "no_proxy=localhost"), ("/etc/environment", "# http_proxy=http://p:1")),
        *(("/etc/environment", "http_proxy="), ("/etc/apt/apt.conf", 'Acquire::http::Proxy "DIRECT";')),
        *(("/etc/dnf/dnf.conf", "proxy=_none_"), ("/etc/environment", "http_proxy=http://127.0.0.1:3128")),
    ],
)
def test_what_names_no_other_machine_is_not_told(path: str, line: str) -> None:
    assert list(proxies(path, line)) == []


def test_all_proxies_are_one_finding_without_a_password() -> None:
    draft = Draft(
        from_yaml(
            'files: {/etc/environment: "http_proxy=http://u:segredo@p.corp:1\\n", /etc/yum.conf: "proxy=http://q.corp\\n"}'
        )
    )
    with draft.step("network-by-dhcp"):
        tell(draft)
    [found] = draft.changes.findings
    assert found.code == "NET-017" and "segredo" not in found.text
    assert "/etc/environment line 1: p.corp; /etc/yum.conf line 1: q.corp" in found.text
