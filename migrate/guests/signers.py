"""Whose keys signed an archive: asked of gpgv, in the sandbox, with the keys that apt was given."""

import base64
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from migrate.errors import ToolFailed
from migrate.guests.apt_sources import INSIDE, Root
from migrate.guests.sandbox import give, sandboxed
from migrate.run import Limits, Run

LIMITS = Limits(address_space=1 << 30, cpu_seconds=60)
VALID = re.compile(r"^\[GNUPG:\] VALIDSIG [0-9A-F]{40} .*?([0-9A-F]{40})$", re.MULTILINE)
"""The last word is the primary key's fingerprint. Source: GnuPG, doc/DETAILS, "VALIDSIG"."""


def signers(run: Run, root: Path, signed: Path) -> tuple[str, ...]:
    """Return the fingerprints of the primary keys, of those in apt's private root, whose signatures on a clear-signed file are good."""
    rings = [word for ring in _keyrings(Root(root)) for word in ("--keyring", f"{INSIDE}/{ring}")]
    if not rings:
        return ()
    argv = ["gpgv", "--status-fd", "1", *rings, f"{INSIDE}/{signed.relative_to(root)}"]
    try:
        # 2: a signature is good, and another is by a key that is not there.
        said = run.tool(sandboxed(argv, folder=(root, INSIDE)), limits=LIMITS, timeout=60, ok=(0, 1, 2)).text
    except ToolFailed:
        return ()
    return tuple(sorted(set(VALID.findall(said))))


def rpm_signers(run: Run, folder: Path) -> frozenset[str]:
    """Return the ids of the keys that signed the packages in a folder: whether they are good was asked when these were fetched."""
    tags = "".join(f"%|{tag}?{{%{{{tag}:pgpsig}}}}|" for tag in ("RSAHEADER", "DSAHEADER", "SIGPGP"))
    with tempfile.TemporaryDirectory(prefix="rpms-", dir=run.work) as name:
        copies = Path(name)
        for number, path in enumerate(sorted(folder.glob("*.rpm"))):
            shutil.copyfile(path, copies / f"{number}.rpm")
            give(copies / f"{number}.rpm")
        give(copies)
        inside = [f"/rpms/{path.name}" for path in sorted(copies.iterdir())]
        argv = ["rpm", "--nosignature", "-qp", "--qf", f"{tags}\\n", *inside]
        said = run.tool(sandboxed(argv, folder=(copies, "/rpms")), limits=LIMITS, timeout=120).text
    return frozenset(word.upper() for word in re.findall(r"Key ID ([0-9a-f]{16})", said))


def _keyrings(root: Root) -> Iterator[str]:
    """Yield binary keyrings: gpgv reads no armored ones, so those are unpacked beside."""
    for folder in ("etc/apt", "etc/apt/trusted.gpg.d", "keys"):
        for path in sorted((root.path / folder).glob("*")):
            name = f"{folder}/{path.name}"
            if path.suffix == ".asc":
                name = f"keyrings/{path.name}.gpg"
                root.write(name, unarmored(path.read_text(errors="replace")))
            elif path.suffix not in (".gpg", ".pgp"):
                continue
            yield name


def unarmored(text: str) -> bytes:
    """Return the packets of armored keys, b"" where there are none that decode. Source: RFC 4880, 6.2; the checksum is left to gpgv."""
    packets = b""
    for block in re.findall(r"-----BEGIN PGP PUBLIC KEY BLOCK-----\n(.*?)-----END", text.replace("\r", ""), re.DOTALL):
        _, _, body = block.partition("\n\n") if not block.startswith("\n") else ("", "", block)
        lines = [line.strip() for line in body.splitlines() if line.strip() and not line.startswith("=")]
        try:
            packets += base64.b64decode("".join(lines), validate=True)
        except ValueError:
            continue
    return packets
