"""The boot proof: the image is booted in a closed sandbox as Magalu Cloud would boot it, and asked whether it came up."""

from migrate.proof.proof import Claim, Proof, to_json
from migrate.proof.prove import prove

__all__ = ["Claim", "Proof", "prove", "to_json"]
