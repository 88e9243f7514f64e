"""An OVF's manifest: one checksum per file. Source: DMTF DSP0243 2.1.1, section 5.1.2."""

import hashlib
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from adapters.files.opened import Window
from adapters.files.printable import printable
from adapters.files.refusals import Code
from migrate.errors import NotMigratable, Reason
from migrate.run import Progress, Run

LARGEST = 1 << 20
LINE = re.compile(r"(SHA1|SHA256|SHA384|SHA512)\s*\((.+)\)\s*=\s*([0-9a-fA-F]+)\s*")
CHUNK = 4 << 20
TELL_S = 0.2


@dataclass(frozen=True, slots=True)
class Checksum:
    """`algorithm` as hashlib names it, `digest` in lower-case hex."""

    algorithm: str
    digest: str


def manifest(data: bytes, subject: str) -> Mapping[str, Checksum]:
    """Read a manifest: the checksum of each file by its name. Raise NotMigratable where a line is not understood or two disagree."""
    found: dict[str, Checksum] = {}
    problem = f"it has more than {LARGEST} bytes" if len(data) > LARGEST else None
    for number, line in enumerate(data[:LARGEST].decode("utf-8", "surrogateescape").splitlines(), 1):
        if problem or not line.strip():
            continue
        match = LINE.fullmatch(line.strip())
        if match is None or len(match[3]) != 2 * hashlib.new(match[1].lower()).digest_size:
            problem = f'line {number} is not understood: "{printable(line, 80)}"'
            continue
        checksum = Checksum(match[1].lower(), match[3].lower())
        if found.setdefault(match[2], checksum) != checksum:
            problem = f"it has two checksums of {printable(match[2])}"
    if problem:
        remedy = "Export the VM again; if you wrote the manifest yourself, mend it."
        raise NotMigratable(subject, [Reason(Code.BAD_MANIFEST, f"{subject}: {problem}", remedy)])
    return found


def check(run: Run, window: Window, checksum: Checksum) -> None:
    """Read all of a file; raise NotMigratable where its checksum is not the manifest's. Tells its progress, and can be stopped."""
    running = hashlib.new(checksum.algorithm)  # SHA-1 too: it is what old exports have, and it does find a broken copy
    done, told = 0, 0.0
    while done < window.size:
        run.check()
        chunk = window.read(done, CHUNK)
        if not chunk:
            break
        running.update(chunk)
        done += len(chunk)
        if time.monotonic() - told > TELL_S or done == window.size:
            told = time.monotonic()
            run.tell(Progress("freeze", done, window.size, what=f"checking {window.name}"))
    if running.hexdigest() != checksum.digest:
        text = (
            f"{window.name}: its {checksum.algorithm.upper()} is {running.hexdigest()}, "
            f"the manifest tells {checksum.digest}: it was changed or damaged after the export"
        )
        raise NotMigratable(window.name, [Reason(Code.CHECKSUM, text, "Copy it again from where it was exported.")])
