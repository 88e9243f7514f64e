"""The boot proof: the image is booted in a closed sandbox as Magalu Cloud would boot it, and asked whether it came up."""

from migrate.proof.boot import prove
from migrate.proof.proof import Claim, Proof, to_json

__all__ = ["Claim", "Proof", "prove", "to_json"]
