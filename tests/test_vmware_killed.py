"""kill -9 at any moment, then `clean`: vSphere holds what it held before."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from fixtures.emulators.vcsim import Vcsim
from tests.program import PROGRAM
from tests.vsphere import NOISE, VM, server

pytestmark = pytest.mark.slow

KILLS = 10


def test_what_a_killed_run_made_is_taken_back(tmp_path: Path) -> None:
    with server(nfc_rate=1_500_000) as vc:
        vc.give(VM, [NOISE])
        begun = time.monotonic()
        assert _converting(vc, tmp_path, "nfc").wait() == 0
        whole = time.monotonic() - begun
        assert _left(vc) == ((), 0, 0)
        moments = random.Random(4)  # noqa: S311
        found = []
        for number in range(KILLS):
            transport = ("nfc", "nfc", "datastore")[number % 3]
            process = _converting(vc, tmp_path, transport)
            time.sleep(whole * moments.uniform(0.35, 1))
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            found.append(_left(vc))
            cleaned = _program(vc, tmp_path, "clean")
            assert cleaned.wait() == 0
            assert _left(vc)[:2] == ((), 0), f"after kill {number}"
        jobs = tmp_path / "work" / "jobs"
        assert not jobs.exists() or list(jobs.iterdir()) == []
    assert sum(bool(snapshots) for snapshots, *_ in found) >= 4, found
    assert any(leases for _, leases, _ in found), found


def _left(vc: Vcsim) -> tuple[tuple[str, ...], int, int]:
    state = vc.state()
    return state.snapshots, state.leases, state.sessions


def _converting(vc: Vcsim, folder: Path, transport: str) -> subprocess.Popen[bytes]:
    words = ["convert", f"vmware://{vc.host}/{VM}", str(folder / "out.qcow2"), "--force", "--transport", transport]
    return _program(vc, folder, *words, "--ca", str(vc.ca))


def _program(vc: Vcsim, folder: Path, *words: str) -> subprocess.Popen[bytes]:
    with (folder / "said").open("ab") as said:
        return subprocess.Popen(
            [PROGRAM, *words, "--work", str(folder / "work")],
            stdout=said,
            stderr=said,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **vc.environ, "TMPDIR": str(folder)},
            start_new_session=True,
        )
