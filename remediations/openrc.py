"""Services of OpenRC, switched on as `rc-update add` does on a system that is not running. Source: rc-update(8), runlevels."""

from migrate.draft import Draft

SCRIPTS = "/etc/init.d"
LEVELS = "/etc/runlevels"


def runs(draft: Draft) -> bool:
    """Whether OpenRC starts this guest."""
    return draft.exists("/sbin/openrc") and not draft.exists("/usr/lib/systemd/systemd")


def enable(draft: Draft, service: str, level: str, *, why: str) -> None:
    """The service is in a runlevel; where the guest has no such service, nothing is done."""
    if draft.exists(f"{SCRIPTS}/{service}") and not draft.exists(f"{LEVELS}/{level}/{service}"):
        draft.link(f"{LEVELS}/{level}/{service}", f"{SCRIPTS}/{service}", why=why)
