"""The libguestfs appliance: it can be stopped at any time, and it says why it does not start."""

import threading
import time
from pathlib import Path

import pytest

from migrate.errors import GuestError, MigrateError, Stopped
from migrate.guests.appliance import Appliance, open_appliance
from migrate.run import Run
from tests.guest_disks import sh

pytestmark = pytest.mark.slow


@pytest.fixture
def disk(run: Run) -> Path:
    path = run.work / "disk.qcow2"
    sh("qemu-img", "create", "-q", "-f", "qcow2", path, "64M")
    return path


def machines_of(disk: Path) -> list[str]:
    """The qemu processes that hold a disk."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if str(disk).encode() in words and words.startswith(b"/usr/bin/qemu-system"):
            found.append(path.parent.name)
    return found


def wait_for(what: object, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():  # type: ignore[operator]
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def test_a_stop_while_it_launches_ends_it_within_seconds(run: Run, disk: Path) -> None:
    appliance = Appliance(run, [disk], kvm=False)
    appliance.start()
    wait_for(lambda: machines_of(disk))
    began = time.monotonic()
    run.stop.set()
    with pytest.raises(Stopped):
        appliance.wait()
    appliance.end()
    assert time.monotonic() - began < 5
    assert machines_of(disk) == []


def test_a_stop_while_it_works_ends_it_within_seconds(run: Run, disk: Path) -> None:
    with pytest.raises(Stopped), open_appliance(run, [disk], kvm=False) as appliance:
        threading.Timer(0.5, run.stop.set).start()
        began = time.monotonic()
        appliance.call.sleep(60)
    assert time.monotonic() - began < 8
    assert machines_of(disk) == []


def test_leaving_it_without_waiting_leaves_nothing(run: Run, disk: Path) -> None:
    appliance = Appliance(run, [disk], kvm=False)
    appliance.start()
    wait_for(lambda: machines_of(disk))
    appliance.end()
    appliance.end()
    assert machines_of(disk) == []


def test_a_disk_that_is_not_what_it_should_be_is_named(run: Run) -> None:
    broken = run.work / "broken.qcow2"
    broken.write_bytes(b"no qcow2 at all" * 100)
    with (
        pytest.raises((GuestError, MigrateError), match=r"Image is not in qcow2 format|did not start"),
        open_appliance(run, [broken], kvm=False),
    ):
        pass
