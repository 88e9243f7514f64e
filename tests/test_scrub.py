"""What is removed is not found in the blocks that it lay in, however small; and what has another name keeps its content."""

from pathlib import Path

import pytest

from migrate.guests.appliance import open_appliance
from migrate.guests.scrub import EDGE, WHOLE, scrub, spans
from migrate.run import Run
from tests.guest_disks import sh


def test_a_large_file_loses_its_ends_and_leaves_the_middle_to_be_trimmed() -> None:
    assert spans(0) == ()
    assert spans(5) == ((0, 5),)
    assert spans(WHOLE) == ((0, WHOLE),)
    assert spans(WHOLE + 1) == ((0, EDGE), (WHOLE + 1 - EDGE, EDGE))


@pytest.mark.slow
def test_small_secrets_between_files_that_stay_are_not_in_the_disk(run: Run) -> None:
    """Each is a block, with a block that is in use on either side: no cluster of the overlay is free."""
    tree = run.work / "tree"
    (tree / "state/inner").mkdir(parents=True)
    for number in range(60):
        (tree / f"stays{number:02}").write_text("x" * 3000)
        (tree / f"state/inner/key{number:02}").write_text(f"segredo-{number:02}\n")
        if number % 2:
            (tree / f"state/inner/key{number:02}").rename(tree / f"key{number:02}")
    (tree / "named").write_text("segredo-de-dois-nomes\n")
    (tree / "state/other-name").hardlink_to(tree / "named")
    base, overlay, flat = run.work / "base.raw", run.work / "overlay.qcow2", run.work / "flat.raw"
    sh("mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, base, "32M")
    sh("qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", overlay)
    with open_appliance(run, [overlay], kvm=False) as appliance:
        call = appliance.call
        call.mount("/dev/sda", "/")
        gone = ["/state", *(f"/key{number:02}" for number in range(1, 60, 2)), "/not-there"]
        scrub(call, gone)
        call.rm_rf("/state")
        for path in gone[1:-1]:
            call.rm(path)
        call.fstrim("/")
        assert call.cat("/named") == "segredo-de-dois-nomes\n"
        call.umount_all()
    sh("qemu-img", "convert", "-f", "qcow2", "-O", "raw", overlay, flat)
    assert secrets_in(base) > 60
    assert secrets_in(flat) == 1


def secrets_in(disk: Path) -> int:
    return disk.read_bytes().count(b"segredo-")
