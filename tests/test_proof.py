"""The boot proof on real machines."""

import hashlib
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest

from fixtures.machines import built
from migrate.errors import Stopped, UsageError
from migrate.nbd import served
from migrate.proof.image import check_image
from migrate.proof.proof import Proof
from migrate.proof.prove import prove
from migrate.run import Event, Progress, Run
from migrate.source import Firmware

REPOSITORY = Path(__file__).parents[1]


def image(run: Run, *options: str, format: str = "qcow2") -> Path:
    """An empty disk of 1 GiB, outside of the run's work folder."""
    file = run.work.parent / f"{run.work.name}-{format}.img"
    run.tool(["qemu-img", "create", "-q", "-f", format, *options, file, "1G"])
    return file


def digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def boot(run: Run, file: Path, **options: object) -> Proof:
    with served(run, file) as uri:
        return prove(run, uri, firmware=Firmware.BIOS, timeout=900, use_kvm=False, **options)  # type: ignore[arg-type]


def test_an_image_that_names_a_file_of_the_host_is_not_opened(run: Run) -> None:
    file = image(run, "-b", "/etc/passwd", "-F", "raw", "-u")
    with pytest.raises(UsageError, match="backing_file"):
        check_image(file, "qcow2")
    file.unlink()


def test_an_image_with_an_external_data_file_is_not_opened(run: Run) -> None:
    data = run.work.parent / f"{run.work.name}.data"
    file = image(run, "-o", f"data_file={data}")
    with pytest.raises(UsageError, match="data_file"):
        check_image(file, "qcow2")
    file.unlink()
    data.unlink()


def test_an_image_that_is_not_what_it_is_said_to_be_is_not_opened(run: Run) -> None:
    vmdk = image(run, format="vmdk")
    with pytest.raises(UsageError, match="said to be qcow2, and is vmdk"):
        check_image(vmdk, "qcow2")
    with pytest.raises(UsageError, match="said to be raw, and is vmdk"):
        check_image(vmdk, "raw")
    with pytest.raises(UsageError, match="cannot be read"):
        check_image(Path("/nowhere.qcow2"), "qcow2")
    vmdk.unlink()


def test_a_user_whose_name_is_an_option_of_ssh_is_refused(run: Run) -> None:
    with pytest.raises(UsageError, match="not the name of a user"):
        prove(run, "nbd+unix:///?socket=/nowhere", firmware=Firmware.BIOS, timeout=1, expected_user="-oProxyCommand=id")


@pytest.mark.slow
def test_an_empty_disk_fails_within_seconds_in_the_firmwares_own_words(run: Run) -> None:
    file = image(run)
    before = digest(file)
    proof = boot(run, file)
    assert not proof.held
    assert proof.reasons[0] == "the BIOS finds no boot loader on the disk (No bootable device)."
    assert "No bootable device." in proof.console
    assert proof.seconds < 60
    assert (digest(file), list(run.work.iterdir())) == (before, [])
    file.unlink()


@pytest.mark.slow
def test_a_stop_ends_the_boot_within_a_second_and_leaves_nothing(run: Run) -> None:
    file = image(run)
    pressed: list[float] = []

    def press() -> None:
        pressed.append(time.monotonic())
        run.stop.set()

    def listen(event: Event) -> None:
        if isinstance(event, Progress) and event.what == "the firmware started" and not pressed:
            threading.Timer(0.5, press).start()

    with pytest.raises(Stopped):
        boot(Run(run.work, listen, run.stop), file)
    assert time.monotonic() - pressed[0] < 2  # one, and the processes' own way out on a busy machine
    assert list(run.work.iterdir()) == []
    assert str(run.work) not in subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True, text=True).stdout
    file.unlink()


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_an_ordinary_user_can_prove_an_image(run: Run) -> None:
    file = image(run)
    file.chmod(0o644)
    os.chown(run.work, 65534, 65534)
    program = (
        "import sys; from pathlib import Path; from migrate.run import Run; from migrate.source import Firmware; "
        "from migrate.nbd import served; from migrate.proof.prove import prove\n"
        f"run = Run(Path({str(run.work)!r}))\n"
        f"with served(run, Path({str(file)!r})) as uri:\n"
        " print(prove(run, uri, firmware=Firmware.BIOS, timeout=60, use_kvm=False).reasons)"
    )
    # The checkout may lie where only root looks: it is shown to that user at another place, in a mount namespace of the test's own.
    shown = run.work / "checkout"
    shown.mkdir()
    python = str(shown / ".venv/bin/python")
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", python, "-c", program]
    enter = 'mount --bind "$0" "$1" && cd "$1" && shift && exec "$@"'
    ended = subprocess.run(
        ["unshare", "--mount", "sh", "-c", enter, REPOSITORY, shown, *nobody],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(shown)},
    )
    assert "No bootable device" in ended.stdout, ended.stderr
    file.unlink()


@pytest.mark.slow
def test_a_guest_that_lives_in_the_cloud_holds(run: Run) -> None:
    file = built("debian12-cloud", format="qcow2")
    before = digest(file)
    told: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Progress) and event.what not in told:
            told.append(event.what)

    proof = boot(Run(run.work, listen), file, expected_user="debian")
    assert proof.reasons == ()
    assert {claim.name: claim.held for claim in proof.claims if not claim.held} == {}
    assert (proof.user, proof.firmware, proof.accelerated) == ("debian", Firmware.BIOS, False)
    times = [proof.claim(name).seconds or 0 for name in ("kernel", "dhcp", "metadata", "sshd", "login", "units")]
    assert times == sorted(times)
    assert told[-1] == "logged in as debian, the boot goes on"
    assert (digest(file), list(run.work.iterdir())) == (before, [])
