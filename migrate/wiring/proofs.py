"""The boot proof on this machine."""

from pathlib import Path
from typing import cast

from migrate.nbd import served
from migrate.order import Prover
from migrate.outcome import JsonObject
from migrate.proof.image import check_image
from migrate.proof.proof import to_json as proof_json
from migrate.proof.prove import prove
from migrate.run import Run
from migrate.source import Firmware
from migrate.wiring.guests import Host

PROOF_S = 420.0
"""A guest under KVM logs in after half a minute; one that fsck's or grows a large disk takes longer."""
EMULATED_PROOF_S = 1800.0
"""Emulated on two cores: 82 s for a plain guest, 261 s with LVM (measured)."""


def prover(host: Host) -> Prover:
    """Return the boot proof for this machine."""

    def boot(run: Run, uri: str, *, firmware: Firmware, user: str | None, root_grows: bool = True) -> JsonObject:
        usable = host.has_kvm(run)
        return cast(
            JsonObject,
            proof_json(
                prove(
                    run,
                    uri,
                    firmware=firmware,
                    expected_user=user,
                    root_grows=root_grows,
                    timeout=PROOF_S if usable else EMULATED_PROOF_S,
                    use_kvm=usable,
                )
            ),
        )

    return boot


def prove_image(run: Run, image: Path, firmware: Firmware, user: str | None) -> JsonObject:
    """Boot a qcow2 file. Raise UsageError where it is none, or names another file."""
    check_image(image, "qcow2")
    with served(run, image) as uri:
        return prover(Host())(run, uri, firmware=firmware, user=user)
