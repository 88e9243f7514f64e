"""Logical volumes are found on the new disk, and grow with it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from fixtures.guests import guest
from migrate.draft import Draft
from migrate.effects import RebuildRequest
from migrate.guests.memory import from_yaml
from migrate.run import Run
from remediations.lvm import PROGRAM, SCRIPT, SERVICE, UNIT, forget_lvm_devices, grow_root_volume, grows
from tests.remediation_guests import applied, done, outcome

LINK = f"/etc/systemd/system/multi-user.target.wants/{UNIT}"


def test_a_root_volume_gets_a_service_that_grows_it(run: Run) -> None:
    to = applied(run, guest("ubuntu2204-vmware-lvm"), grow_root_volume)
    assert outcome(done(guest("ubuntu2204-vmware-lvm"), grow_root_volume)) == {
        PROGRAM: SCRIPT,
        f"/etc/systemd/system/{UNIT}": SERVICE,
        LINK: f"-> /etc/systemd/system/{UNIT}",
    }
    assert to.load(PROGRAM).mode == 0o755  # type: ignore[union-attr]
    assert [(finding.code, finding.text) for finding in done(to, grow_root_volume).findings] == [
        (
            "DISK-005",
            "The root is on /dev/ubuntu-vg/ubuntu-lv, a logical volume: a service of ours gives it what its disk has gained, at each boot. "
            "What its group had left free stays free.",
        )
    ]


def test_a_root_on_a_partition_needs_none() -> None:
    assert done(guest("debian12-vmware"), grow_root_volume).effects == ()
    assert not grows(Draft(guest("debian12-vmware")))


def test_lvms_list_of_disks_goes_from_the_guest_and_its_initramfs() -> None:
    to = from_yaml("files: {/etc/lvm/devices/system.devices: IDTYPE=sys_wwid, /etc/lvm/lvm.conf: '# filter = [ x ]'}\n")
    changes = done(to, forget_lvm_devices)
    assert outcome(changes) == {"/etc/lvm/devices/system.devices": None}
    assert any(isinstance(effect, RebuildRequest) for effect in changes.effects)
    assert changes.findings == ()


def test_a_filter_of_names_is_told_and_stays() -> None:
    to = from_yaml(
        'files:\n  /etc/lvm/lvm.conf: |\n    devices {\n        global_filter = [ "a|^/dev/sd|", "r|.*|" ]\n    }\n'
    )
    changes = done(to, forget_lvm_devices)
    assert changes.effects == ()
    assert [finding.text for finding in changes.findings] == [
        '/etc/lvm/lvm.conf chooses disks by their names: global_filter = [ "a|^/dev/sd|", "r|.*|" ]. '
        "The new disk is called /dev/vda."
    ]


TOOLS = {
    "findmnt": "echo /dev/mapper/vg0-root",
    "lvs": "echo '  vg0'",
    "vgs": 'cat "$STATE/free"',
    "pvs": "echo '  /dev/vda3'",
    "lsblk": "echo vda",
    "cat": '[ "$1" = /sys/class/block/vda3/partition ] && echo 3 || /bin/cat "$1"',
    "growpart": 'exit "$GROWPART"',
    "pvresize": 'echo "$AFTER" > "$STATE/free"',
    "lvextend": "true",
    "tr": '/usr/bin/tr "$@"',
}
"""Stand-ins for what needs a device mapper: each also writes down how it was called."""


@pytest.mark.parametrize(
    ("growpart", "before", "after", "status", "calls"),
    [
        (0, 512, 1500, 0, ["growpart /dev/vda 3", "pvresize /dev/vda3", "lvextend -r -l +988 /dev/mapper/vg0-root"]),
        (1, 512, 512, 0, ["growpart /dev/vda 3", "pvresize /dev/vda3"]),
        (2, 512, 512, 2, ["growpart /dev/vda 3"]),
    ],
)
def test_what_the_disk_gained_goes_to_the_root_and_what_was_free_stays_free(
    tmp_path: Path, growpart: int, before: int, after: int, status: int, calls: list[str]
) -> None:
    for name, does in TOOLS.items():
        tool = tmp_path / name
        tool.write_text(f'#!/bin/sh\necho "{name} $*" >> "$STATE/calls"\n{does}\n')
        tool.chmod(0o755)
    (tmp_path / "free").write_text(f"  {before}\n")
    environment = {"PATH": str(tmp_path), "STATE": str(tmp_path), "GROWPART": str(growpart), "AFTER": f"  {after}"}
    ran = subprocess.run(["/bin/sh", "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False)
    assert (ran.returncode != 0) == (status != 0), ran.stderr
    changing = ("growpart", "pvresize", "lvextend")
    said = [line for line in (tmp_path / "calls").read_text().splitlines() if line.startswith(changing)]
    assert said == calls


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_systemd_reads_the_service(tmp_path: Path) -> None:
    unit = tmp_path / UNIT
    unit.write_text(SERVICE.replace(PROGRAM, "/bin/true"))
    environment = {**os.environ, "SYSTEMD_LOG_LEVEL": "warning"}
    said = subprocess.run(
        ["systemd-analyze", "verify", unit], env=environment, capture_output=True, text=True, check=False
    )
    assert UNIT not in said.stderr, said.stderr
