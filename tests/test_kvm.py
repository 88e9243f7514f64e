"""The KVM probe."""

from pathlib import Path

import pytest

from migrate.proof import kvm
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


def test_the_probe_leaves_nothing_behind(run: Run) -> None:
    kvm.executes(run, "tcg")
    assert list(run.work.iterdir()) == []
