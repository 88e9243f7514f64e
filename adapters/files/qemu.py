"""qemu's own look at an image that was found sound: with an explicit format, within limits, following nothing."""

import json
import re

from adapters.files.image import Image, Node
from adapters.files.printable import printable
from adapters.files.refusals import Code
from migrate.errors import NotMigratable, Reason, ToolFailed
from migrate.run import Limits, Run

LOOK = Limits(address_space=2 << 30, cpu_seconds=60)
"""qemu-img needs 0.2 GiB of address space; the tables of a disk of 64 TiB up to 0.5 GiB more."""

LOOK_S = 120.0
CHECK = Limits(address_space=2 << 30, cpu_seconds=1800)
CHECK_S = 3600.0

CHECKED = ("qcow2", "vmdk")
"""Where `qemu-img check` finds what opening does not: data that lies behind the file's end, which would be read as zeros.
vpc and vhdx find it when they open."""

LEAKS = 3
"""qemu-img(1): clusters that nobody uses, but no damage."""


def filename(node: Node) -> str:
    return "json:" + json.dumps(node)


def check_opens(run: Run, image: Image) -> None:
    """Raise NotMigratable where qemu does not open the image, or sees another size than its header told us."""
    output = _asked(run, image, ["qemu-img", "info", "--output=json", filename(image.node)], LOOK, LOOK_S, (0,))
    size = json.loads(output).get("virtual-size")
    if size != image.size:
        text = f"{image.name}: qemu sees a disk of {size} bytes, its header tells of {image.size}"
        raise NotMigratable(image.name, [Reason(Code.QEMU, text, "Export or copy it again.")])


def check_whole(run: Run, image: Image) -> None:
    """Raise NotMigratable where the image's tables are damaged or lead behind the end of the file. Reads all tables, no data."""
    if image.format in CHECKED:
        words = ["qemu-img", "check", "--output=json", filename(image.node)]
        _asked(run, image, words, CHECK, CHECK_S, (0, LEAKS))


def _asked(run: Run, image: Image, words: list[str], limits: Limits, timeout: float, ok: tuple[int, ...]) -> str:
    try:
        return run.tool(words, limits=limits, timeout=timeout, ok=ok).text
    except ToolFailed as failed:
        raise refusal(image, failed) from failed


def refusal(image: Image, failed: ToolFailed) -> NotMigratable:
    """What a program of qemu said of an image, as a reason to refuse it."""
    lines = failed.stderr.strip().splitlines()
    errors = [
        line for line in lines if line.startswith("ERROR")
    ]  # of qemu-img check; its last line only says that it failed
    why = _without_node(" / ".join(errors[:1] or lines[:4] or [f"it ended with {failed.status}"]))
    text = f"{image.name}: {failed.program} does not read it as {image.format}: {why}"
    if "Is another process using" in failed.stderr:
        return NotMigratable(image.name, [Reason(Code.IN_USE, text, "Stop the VM that uses it.")])
    code = Code.DAMAGED if errors else Code.QEMU
    return NotMigratable(image.name, [Reason(code, text, "Export or copy it again.")])


def _without_node(line: str) -> str:
    """The line without the names that only this run has: the node, and /proc/PID/fd/N."""
    line = re.sub(r"'json:\{.*?\}'", "it", line)
    return printable(re.sub(r"'?/proc/\d+/fd/\d+'?", "it", line), 400)
