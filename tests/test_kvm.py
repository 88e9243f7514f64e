"""The KVM probe."""

import os
import time
from pathlib import Path

import pytest

from migrate.proof import kvm, kvm_memory
from migrate.proof.kvm_memory import remember, remembered
from migrate.run import Run


def test_a_processor_that_runs_is_believed(run: Run) -> None:
    """Emulation stands in for a KVM that works: the same boot sector, the same machine."""
    assert kvm.executes(run, "tcg") == kvm.KvmState(True, "a guest runs")


def test_an_accelerator_that_fails_is_not_believed_and_the_reason_is_qemus_own(run: Run) -> None:
    state = kvm.executes(run, "nonsense")
    assert not state.usable
    assert "nonsense" in state.why


def test_a_processor_that_is_too_slow_is_not_believed(run: Run) -> None:
    """A guest under the KVM of some cloud machines runs a hundred times slower than emulated; a short limit shows the same."""
    state = kvm.executes(run, "tcg", timeout=0.05)
    assert not state.usable
    assert "slower than emulated" in state.why


def test_a_missing_kvm_device_is_named(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kvm, "DEVICE", tmp_path / "kvm")
    assert kvm.usable(run) == kvm.KvmState(False, f"there is no {tmp_path / 'kvm'}")


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home of its own, and a machine that is not busy."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    return tmp_path / "magalu-migrate/kvm.json"


def test_that_kvm_does_not_work_is_found_out_once(cache: Path, tmp_path: Path) -> None:
    device = tmp_path / "device"
    device.touch()
    assert remembered(device) is None
    remember(device, "a guest hangs")
    assert remembered(device) == "a guest hangs"
    remember(device, None)
    assert remembered(device) is None
    assert not cache.exists()


def test_what_was_found_does_not_outlive_an_hour_the_start_of_the_machine_nor_its_device(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, boot = tmp_path / "device", tmp_path / "boot_id"
    device.touch()
    remember(device, "a guest hangs")
    boot.write_text("another\n")
    with monkeypatch.context() as patch:
        patch.setattr(kvm_memory, "BOOT_ID", boot)
        assert remembered(device) is None
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: device.stat().st_mtime + 3601)
        assert remembered(device) is None
    assert remembered(device) == "a guest hangs"
    device.chmod(0o600)
    assert remembered(device) is None


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"of": 1, "why": 2}', "\0"])
def test_a_note_that_is_not_ours_is_not_believed(cache: Path, tmp_path: Path, text: str) -> None:
    cache.parent.mkdir()
    cache.write_text(text)
    assert remembered(tmp_path) is None


def test_a_busy_machine_is_not_believed(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (99.0, 0.0, 0.0))
    remember(tmp_path, "a guest hangs")
    assert not cache.exists()


def test_the_probe_leaves_nothing_behind(run: Run) -> None:
    kvm.executes(run, "tcg")
    assert list(run.work.iterdir()) == []
