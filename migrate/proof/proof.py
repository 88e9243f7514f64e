"""The proof: what was claimed of the image, whether it held when it was booted, and the evidence."""

from dataclasses import dataclass, field

from migrate.source import Firmware

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing that must hold. `name` is stable; `text` says it as a sentence that is true where it holds.

    `seconds` since power-on, None where it has no moment of its own. A claim that is not `needed` is told, and does not decide.
    """

    name: str
    text: str
    held: bool
    seconds: float | None
    evidence: str
    needed: bool = True


@dataclass(frozen=True, slots=True)
class Proof:
    """What the boot showed. `seconds` is how long the machine was on; `console` is foreign text made fit to be shown.

    `user` is who the key logged in as; `accelerated` is whether KVM was used; `cpu` the processor in QEMU's words.
    """

    held: bool
    firmware: Firmware
    accelerated: bool
    cpu: str
    disk_size: int
    claims: tuple[Claim, ...]
    reasons: tuple[str, ...]
    seconds: float
    user: str | None
    console: str = field(repr=False)

    def claim(self, name: str) -> Claim:
        return next(claim for claim in self.claims if claim.name == name)

    @property
    def summary(self) -> str:
        """A line for people: what holds, or the first reason why not."""
        if not self.held:
            return self.reasons[0] if self.reasons else "no reason was found"
        login = self.claim("login")
        return f"login as {self.user} after {login.seconds:.0f} s, cloud-init done, {self.claim('root-grew').evidence}"


def to_json(proof: Proof) -> Json:
    """Return the proof as values that JSON can hold; the console as a list of lines."""
    return {
        "held": proof.held,
        "summary": proof.summary,
        "reasons": list(proof.reasons),
        "claims": [
            {
                "name": claim.name,
                "text": claim.text,
                "held": claim.held,
                "needed": claim.needed,
                "seconds": None if claim.seconds is None else round(claim.seconds, 1),
                "evidence": claim.evidence,
            }
            for claim in proof.claims
        ],
        "user": proof.user,
        "firmware": proof.firmware.value,
        "accelerated": proof.accelerated,
        "cpu": proof.cpu,
        "disk_bytes": proof.disk_size,
        "seconds": round(proof.seconds, 1),
        "console": proof.console.splitlines(),
    }
