"""qcow2: what its header says. Layout: docs/interop/qcow2.txt of QEMU."""

import struct

from adapters.files.image import Image, bytes_of, wrong_size
from adapters.files.opened import Window
from adapters.files.refusals import Code
from migrate.errors import NotMigratable, Reason

HEADER = struct.Struct(">4sIQIIQIIQQIIQ")
"""magic, version, backing offset, backing length, cluster bits, size, encryption, L1 entries, L1 offset, refcount offset,
refcount clusters, snapshots, snapshot offset; version 3 goes on with the incompatible features."""

DATA_FILE = 1 << 2


def qcow2(window: Window) -> Image:
    """Return the image; raise NotMigratable with every reason.

    Internal snapshots are accepted: qemu opens the active state, and a snapshot is only more clusters of the same file.
    """
    name, header = window.name, window.read(0, 104)
    if len(header) < HEADER.size:
        raise NotMigratable(name, [Reason(Code.DAMAGED, f"{name}: a qcow2 header was cut off", "Copy the file again.")])
    _, version, backing, _, _, size, encryption, _, _, _, _, snapshots, _ = HEADER.unpack_from(header)
    features = struct.unpack_from(">Q", header, 72)[0] if version >= 3 and len(header) >= 80 else 0

    reasons = wrong_size(name, size)
    if backing:
        text = f"{name}: it has a backing file, so it is only a part of the disk"
        reasons.append(
            Reason(Code.HAS_PARENT, text, "Make it whole where its backing file is: qemu-img convert -O qcow2.")
        )
    if features & DATA_FILE:
        text = f"{name}: its data is in an external data file"
        reasons.append(Reason(Code.DATA_ELSEWHERE, text, "Make it one file: qemu-img convert -O qcow2."))
    if encryption:
        kind = {1: "AES", 2: "LUKS"}.get(encryption, f"method {encryption}")
        text = f"{name}: it is encrypted ({kind})"
        reasons.append(Reason(Code.ENCRYPTED, text, "Decrypt it first: qemu-img convert with the secret."))
    if reasons:
        raise NotMigratable(name, reasons)

    notes = (f"{name} holds {snapshots} internal snapshots; only the present state is moved.",) if snapshots else ()
    return Image(name, "qcow2", size, {"driver": "qcow2", "backing": None, "file": bytes_of(window)}, notes)
