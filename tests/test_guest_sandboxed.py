"""The host's own programs that read what a guest wrote (apt, rpm): what they may not, whoever takes them over."""

import os
from pathlib import Path

import pytest

from migrate.guests.sandbox import FIRST_USER, give, sandboxed
from migrate.run import Run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    hidden = tmp_path / "hidden"
    hidden.mkdir(mode=0o700)
    (hidden / "given").mkdir()
    give(hidden / "given")
    return hidden / "given"


def inside(run: Run, folder: Path, script: str, *, network: bool = False) -> str:
    return run.tool(sandboxed(["sh", "-c", script], folder=(folder, "/given"), network=network), ok=range(256)).text


def test_it_writes_into_its_folder_wherever_that_lies_and_nowhere_else(run: Run, folder: Path) -> None:
    inside(run, folder, "echo hello > /given/file; for x in /usr /etc /dev /; do echo x > $x/file; done")
    assert (folder / "file").read_text() == "hello\n"
    assert not Path("/usr/file").exists() and not Path("/etc/file").exists()
    assert [path.name for path in folder.parent.iterdir()] == ["given"]


def test_it_sees_programs_and_nothing_of_the_hosts_data(run: Run, folder: Path) -> None:
    assert "root" not in inside(run, folder, "ls /; cat /etc/shadow /etc/passwd; ls /root /home /var")
    assert str(os.getpid()) not in inside(run, folder, "ls /proc").split()


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user has no such rights to lose")
def test_it_has_nothing_of_roots_rights(run: Run, folder: Path) -> None:
    said = inside(
        run,
        folder,
        "cat /proc/self/uid_map; cat /proc/self/status; echo x > /proc/sys/kernel/core_pattern && echo WROTE; unshare -U true && echo NESTED",
    )
    assert str(FIRST_USER) in said.splitlines()[0]
    assert "CapEff:\t0000000000000000" in said and "NoNewPrivs:\t1" in said
    assert "WROTE" not in said and "NESTED" not in said


@pytest.mark.parametrize("network", [True, False])
def test_it_has_a_network_only_where_it_is_given_one(run: Run, folder: Path, network: bool) -> None:
    cards = _cards(inside(run, folder, "cat /proc/net/dev", network=network))
    assert cards == (_cards(Path("/proc/net/dev").read_text()) if network else ["lo"])


def _cards(text: str) -> list[str]:
    return sorted(line.split(":")[0].strip() for line in text.splitlines()[2:])
