"""A Run owns its children: they end with it."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from migrate.errors import MigrateError, Stopped, ToolFailed
from migrate.run import Limits, Run


def test_a_tool_returns_what_it_wrote(run: Run) -> None:
    done = run.tool(["cat"], stdin=b"x" * 1_000_000)
    assert done.stdout == b"x" * 1_000_000


def test_a_tool_that_fails_says_its_last_words(run: Run) -> None:
    with pytest.raises(ToolFailed, match="sh ended with 3: no such disk"):
        run.tool(["sh", "-c", "echo no such disk >&2; exit 3"])


def test_a_tool_that_is_not_there_points_to_doctor(run: Run) -> None:
    with pytest.raises(MigrateError, match="no-such-tool") as caught:
        run.tool(["no-such-tool"])
    assert "127" in str(caught.value) or "cannot start" in str(caught.value)


def test_a_stop_ends_a_tool_and_its_children(run: Run, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    threading.Timer(0.3, run.stop.set).start()
    began = time.monotonic()
    with pytest.raises(Stopped):
        run.tool(["sh", "-c", f"sleep 60 & echo $! > {pids}; echo $$ >> {pids}; wait"])
    assert time.monotonic() - began < 5
    assert not any(_runs(int(pid)) for pid in pids.read_text().split())


def test_a_tool_that_takes_too_long_is_ended(run: Run) -> None:
    with pytest.raises(ToolFailed, match="no answer"):
        run.tool(["sleep", "60"], timeout=0.2)


def test_limits_hold(run: Run) -> None:
    greedy = [sys.executable, "-c", "bytearray(1 << 30)"]
    run.tool(greedy)
    with pytest.raises(ToolFailed, match="MemoryError"):
        run.tool(greedy, limits=Limits(address_space=512 << 20))
    with pytest.raises(ToolFailed):
        run.tool([sys.executable, "-c", "while True: pass"], limits=Limits(cpu_seconds=1), timeout=30)


def test_a_daemon_lives_as_long_as_its_block(run: Run) -> None:
    with run.daemon(["sleep", "60"], ready=lambda: True) as child:
        assert child.poll() is None
    assert child.poll() is not None


def test_a_daemon_that_ends_before_it_is_ready_is_an_error(run: Run) -> None:
    with (
        pytest.raises(ToolFailed, match="bad socket"),
        run.daemon(["sh", "-c", "echo bad socket; exit 1"], ready=lambda: False),
    ):
        pass


def test_a_kill_of_ours_ends_the_children(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib\n"
        "from migrate.run import Run\n"
        "with Run(pathlib.Path(sys.argv[1])).daemon(['sleep', '60'], ready=lambda: True) as child:\n"
        "    print(child.pid, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    ours = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert ours.stdout is not None and ours.stdin is not None
    child = int(ours.stdout.readline())
    while Path(f"/proc/{child}/comm").read_text() != "sleep\n":  # it has asked for the signal by then
        time.sleep(0.01)
    ours.send_signal(signal.SIGKILL)
    ours.wait()
    ours.stdin.close()
    ours.stdout.close()
    deadline = time.monotonic() + 5
    while _runs(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(child)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
