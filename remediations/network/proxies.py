"""Proxies of the old network, which programs ask for everything outside: they are told, and stay.

Sources: environment(5) of pam_env; apt.conf(5) and apt-transport-http(1), "Acquire::http::Proxy"; dnf.conf(5) and yum.conf(5), "proxy";
/etc/sysconfig/proxy of SUSE's systems.
"""

import re
from collections.abc import Iterator

from migrate.draft import Draft

_FILES = (
    *("/etc/environment", "/etc/profile.d/*.sh", "/etc/sysconfig/proxy", "/etc/apt/apt.conf", "/etc/apt/apt.conf.d/*"),
    *("/etc/dnf/dnf.conf", "/etc/yum.conf", "/etc/yum.repos.d/*.repo"),
)
_VARIABLE = re.compile(r"^\s*(?:export\s+)?(?:https?|ftp|all)_proxy\s*=\s*(.*)$", re.IGNORECASE)
_APT = re.compile(r"^\s*Acquire::(?:https?|ftp)::Proxy(?:::[\w.-]+)?\s+(.*)$", re.IGNORECASE)
_APT_INSIDE = re.compile(r"^\s*(?:Acquire.*\{\s*)?(?:https?::)?Proxy\s+(\".*)$", re.IGNORECASE)
_SETTING = re.compile(r"^proxy\s*=\s*(.*)$")
_HOST = re.compile(
    r"(?:[A-Za-z][\w+.-]*://)?(?:[^\s/]*@)?(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9][A-Za-z0-9._-]*)(?::\d+)?(?:/.*)?"
)
_NO_PROXY = frozenset({"", "direct", "none", "_none_", "false", "localhost", "127.0.0.1", "[::1]"})
_MOST = 6


def tell(draft: Draft) -> None:
    """Each proxy is told with its file and line: its host alone, for there may be a password before it."""
    said = [
        f"{path} line {number}: {host}"
        for path in dict.fromkeys(path for pattern in _FILES for path in draft.glob(pattern))
        for number, host in proxies(path, draft.read(path) or "")
    ]
    if said:
        more = f"; and {len(said) - _MOST} more" if len(said) > _MOST else ""
        draft.find(
            "NET-017",
            f"programs ask a proxy for what is outside, which the instance may not reach: {'; '.join(said[:_MOST])}{more}",
            remedy="Take it out in the instance, or see that the proxy is reached from the VPC.",
        )


def proxies(path: str, text: str) -> Iterator[tuple[int, str]]:
    """Yield (line number, host) of each line of a file that names a proxy on another machine."""
    settings = path.endswith((".conf", ".repo")) and "/apt/" not in path
    patterns = (_SETTING,) if settings else (_APT, _APT_INSIDE) if "/apt/" in path else (_VARIABLE,)
    for number, line in enumerate(text.splitlines(), 1):
        found = next(filter(None, (pattern.match(line) for pattern in patterns)), None)
        words = re.sub(r"[\"';{}]", " ", found[1]).split() if found else []
        host = _HOST.fullmatch(words[0]) if words else None
        if host and host[1].lower() not in _NO_PROXY:
            yield number, host[1]
        elif words and "@" in words[0]:
            yield number, "a proxy with a password"
