"""kill -9 at any moment, then `clean`: vSphere holds what it held before."""

import random
from pathlib import Path

import pytest

from tests.killed import MOMENTS, held_after_kills
from tests.live_vms import of_vsphere
from tests.vsphere import VM, server

pytestmark = pytest.mark.slow

NOISE = random.Random(7).randbytes(1 << 20)  # noqa: S311


def test_what_a_killed_run_made_is_taken_back(tmp_path: Path) -> None:
    with server(nfc_rate=1 << 20) as vc:
        vc.give(VM, [NOISE])
        ways = of_vsphere(vc, "nfc"), of_vsphere(vc, "datastore")

        def held() -> tuple[tuple[str, ...], int]:
            now = vc.state()
            return now.snapshots, now.leases

        found = list(held_after_kills(tmp_path, *ways, held=held))
    assert sum(bool(snapshots) for snapshots, _ in found) >= MOMENTS // 4, found
    assert any(leases for _, leases in found), found
