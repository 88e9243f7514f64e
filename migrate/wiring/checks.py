"""What `doctor` asks of adapters and rooms."""

import os

from adapters.magalu import Given, find_credentials
from migrate.doctor import Check, Checked
from migrate.errors import MigrateError
from migrate.guests.dissect_room import INSTALL, is_installed
from migrate.guests.rooms import trouble as room_trouble
from migrate.run import Run


def checks(run: Run) -> tuple[Checked, ...]:
    """Return what `doctor` asks of adapters and rooms."""
    return (lambda: _room_check(run), _dissect_check, lambda: _credentials_check(run))


def _room_check(run: Run) -> Check:
    why = room_trouble(run)
    if why is None:
        return Check("ok", "overlay room: FUSE, overlayfs and bubblewrap work here")
    return Check("slow", f"overlay room: {why}. The appliance is used.")


def _dissect_check() -> Check:
    if is_installed():
        return Check("ok", "Dissect (AGPL-3.0): inspect and preview need neither the appliance nor the overlay room")
    return Check(
        "slow", "Dissect is not installed: inspect and preview take the overlay room or the appliance.", INSTALL
    )


def _credentials_check(run: Run) -> Check:
    try:
        found = find_credentials(Given(), os.environ, run)
    except MigrateError as error:
        return Check("miss", error.message, error.hint, without="preview, inspect, prove, and vm with --sandbox")
    return Check("ok", f"Magalu Cloud: credentials for {found.region}")
