"""From a source's disk to a qcow2 that Magalu takes: an overlay that holds the repairs, then one compressed image."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from migrate.errors import MigrateError, ToolFailed
from migrate.run import Limits, Progress, Run

PERCENT = re.compile(rb"\((\d+\.\d+)/100%\)")
CHECK_LIMITS = Limits(address_space=4 << 30, cpu_seconds=3600)
COROUTINES = 16
"""The most that qemu-img takes with -m; with -W, writing out of order, it is 20 % faster than the default (measured)."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A finished qcow2: bytes of the file, and bytes of the disk in it."""

    path: Path
    bytes: int
    virtual_bytes: int


def make_overlay(run: Run, overlay: Path, uri: str) -> None:
    """An empty qcow2 takes what is written; what is not, is read from the disk behind the URI, which is never written."""
    overlay.unlink(missing_ok=True)
    run.tool(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", uri, overlay])


def convert(run: Run, overlay: Path, image: Path, stage: str) -> ImageFile:
    """The merged disk is one compressed qcow2 (compat 1.1, zlib, no backing file), found sound by `qemu-img check`.

    The image appears at its path only when it is whole; a stopped conversion leaves nothing there.
    Source of the options: docs.magalu.cloud, tutorial with libvirt (compat=1.1,lazy_refcounts=off); zlib sets no incompatible-feature bit.
    """
    draft = image.with_name(image.name + ".part")
    draft.unlink(missing_ok=True)
    total = image_size(run, overlay)
    log = run.work / "convert.log"
    log.unlink(missing_ok=True)
    argv = ["qemu-img", "convert", "-p", "-f", "qcow2", "-O", "qcow2", "-c", "-m", COROUTINES, "-W"]
    argv += ["-o", "compat=1.1,compression_type=zlib,lazy_refcounts=off", overlay, draft]
    try:
        with run.daemon([str(word) for word in argv], ready=lambda: True, log=log) as child:
            while child.poll() is None:
                run.check()
                run.stop.wait(0.2)
                run.tell(Progress(stage, total * _fraction(log), total, "B"))
        if child.returncode != 0:
            raise ToolFailed("qemu-img convert", child.returncode, _said(log))
        check(run, draft)
        draft.replace(image)
    finally:
        draft.unlink(missing_ok=True)
    return ImageFile(image, image.stat().st_size, total)


def check(run: Run, image: Path) -> None:
    """Raise MigrateError unless the qcow2's tables are sound."""
    try:
        run.tool(["qemu-img", "check", "-q", "-f", "qcow2", image], limits=CHECK_LIMITS)
    except ToolFailed as error:
        raise MigrateError(
            f"{image.name}: qemu-img check says that the image is not sound: {error.stderr.strip()}",
            hint="Run the same command again; if it stays so, the work folder's disk is suspect.",
        ) from error


def image_size(run: Run, image: Path) -> int:
    """Return the bytes of the disk in a qcow2 of ours."""
    said = run.tool(["qemu-img", "info", "--output", "json", "-f", "qcow2", image], limits=CHECK_LIMITS)
    return int(json.loads(said.stdout)["virtual-size"])


def _fraction(log: Path) -> float:
    """The last percentage that qemu-img wrote, as a fraction."""
    found = PERCENT.findall(log.read_bytes()[-4096:])
    return float(found[-1]) / 100 if found else 0.0


def _said(log: Path) -> str:
    return PERCENT.sub(b"", log.read_bytes()[-4096:]).decode(errors="replace").strip()
