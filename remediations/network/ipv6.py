"""What switches IPv6 off outside of the renderers' files: the kernel's command line, its settings, its modules. It is told, and stays.

Sources: Linux, Documentation/networking/ip-sysctl.rst ("disable_ipv6", "accept_ra") and ipv6.rst ("disable"); sysctl.d(5); modprobe.d(5).
"""

import re
from collections.abc import Iterator

from migrate.draft import Draft
from remediations import kernel_arguments

_SETTINGS = ("/etc/sysctl.conf", "/etc/sysctl.d/*.conf", "/usr/lib/sysctl.d/*.conf", "/usr/local/lib/sysctl.d/*.conf")
_OFF = re.compile(r"^\s*-?\s*net[./]ipv6[./]conf[./](\S+?)[./](disable_ipv6|accept_ra|autoconf)\s*=\s*(\d+)")


def off_in_settings(text: str) -> Iterator[tuple[int, str]]:
    """Yield (line number, line) of what switches IPv6, or taking addresses from routers, off for cards."""
    for number, line in enumerate(text.splitlines(), 1):
        found = _OFF.match(line)
        if found and found[1] != "lo" and (found[3] == "0") == (found[2] != "disable_ipv6"):
            yield number, line.strip()


def off_in_modules(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        match line.split():
            case ["options", "ipv6", *options] if {"disable=1", "disable_ipv6=1", "autoconf=0"} & set(options):
                yield number, line.strip()
            case ["install", "ipv6", "/bin/true" | "/bin/false" | "/usr/bin/true" | "/usr/bin/false"]:
                yield number, line.strip()


def tell(draft: Draft) -> None:
    """What keeps IPv6 off is told, line by line."""
    said = [
        f"{path} line {number}: {line}"
        for pattern in _SETTINGS
        for path in draft.glob(pattern)
        for number, line in off_in_settings(draft.read(path) or "")
    ]
    said += [
        f"{path} line {number}: {line}"
        for path in draft.glob("/etc/modprobe.d/*.conf")
        for number, line in off_in_modules(draft.read(path) or "")
    ]
    arguments = (
        f"{path}: {word}"
        for path, words in kernel_arguments.command_lines(draft)
        for word in words
        if word in ("ipv6.disable=1", "ipv6.disable_ipv6=1", "ipv6.autoconf=0")
    )
    said += dict.fromkeys(arguments)
    if said:
        more = f"; and {len(said) - 6} more" if len(said) > 6 else ""
        draft.find(
            "NET-015",
            f"IPv6 is switched off outside of the network's configuration, and stays so: {'; '.join(said[:6])}{more}",
            remedy="Take that out in the instance if it is to be reached by IPv6: each one gets a public IPv6 address.",
        )
