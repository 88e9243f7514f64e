"""Passwords, session cookies, tokens and signed addresses are nowhere to be seen while commands work on live sources, nor in what they leave.

`vm` on its whole way, with its image and its proof: test_clouds.py. AWS: test_aws_cli.py.
"""

import logging
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from adapters.sandbox import Sandbox
from fixtures.emulators.azure import Cloud
from tests.guest_disks import ext4_disk
from tests.killed import killed_when, wait_until
from tests.live_vms import LiveVm, of_vsphere, on_azure, words_of_all_processes, written
from tests.program import Answer, asked, environment
from tests.vsphere import VM, server

pytestmark = pytest.mark.slow

Placed = Callable[[pytest.FixtureRequest, Path], AbstractContextManager[tuple[LiveVm, Callable[[], bool]]]]
"""Yields a VM, and whether a disk of it is being read."""
WRONG = {"GOVC_PASSWORD": "planted-wrong-password", "AZURE_CLIENT_SECRET": "planted-wrong-secret"}


def no_system(folder: Path) -> Path:
    """A disk that is read and refused in a second. The noise makes its export last."""
    tree = folder / "tree"
    tree.mkdir()
    (tree / "noise").write_bytes(random.Random(3).randbytes(2 << 20))  # noqa: S311
    return ext4_disk(folder / "disk.raw", tree, mib=8)


@contextmanager
def vsphere(request: pytest.FixtureRequest, folder: Path) -> Iterator[tuple[LiveVm, Callable[[], bool]]]:
    with server(nfc_rate=2 << 20) as vc:
        vc.give(VM, [no_system(folder)])
        yield of_vsphere(vc, "nfc"), lambda: vc.state().leases > 0


@contextmanager
def azure(request: pytest.FixtureRequest, folder: Path) -> Iterator[tuple[LiveVm, Callable[[], bool]]]:
    cloud: Cloud = request.getfixturevalue("azure_cloud")
    yield on_azure(cloud, "secretive-commands", no_system(folder)), lambda: bool(cloud.active_grants)


@pytest.mark.parametrize("placed", [vsphere, azure])
def test_no_secret_is_in_arguments_answers_logs_or_files_of_any_command(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    box: Sandbox,
    caplog: pytest.LogCaptureFixture,
    placed: Placed,
) -> None:
    work = tmp_path / "work"
    with placed(request, tmp_path) as (live, is_open):
        caplog.set_level(logging.DEBUG)
        before = live.state()

        def told(*words: str | Path, **others: str) -> Answer:
            return asked(*words, env={**environment(box), **live.variables, **others})

        with words_of_all_processes() as processes:
            answers = [told(command, *live.words, "--work", work) for command in ("inspect", "preview", "vm")]
            assert [answer.code for answer in answers] == [3, 3, 3], answers
            answers += [told("list", *live.words), told("list", *live.words, **WRONG)]
            assert [answer.code for answer in answers[3:]] == [0, 1], answers
            killed_when(live, tmp_path, is_open)
            left = written(tmp_path)
            assert "ledger.jsonl" in {path.name for path in work.rglob("*")}
            answers.append(told("clean", "--work", work))
            assert answers[-1].code == 0 and "gone" in answers[-1].out, answers[-1]
        wait_until(lambda: live.state() == before, "what was there before")
        secrets = (*live.secrets(), *WRONG.values())
    everything = "\n".join((left, written(tmp_path), caplog.text, *processes, *(one.out + one.err for one in answers)))
    assert any("nbdkit" in words or "qemu" in words for words in processes)
    assert [secret for secret in secrets if secret in everything] == []
