"""Where we write down what we are about to make in the cloud, so that a dead run's things can be found and removed."""

from typing import Protocol


class Ledger(Protocol):
    """Told before a remote thing is made, and again once it is gone.

    Kinds and their names: "bucket" (bucket) · "upload" (bucket, key) · "object" (bucket, key) · "image" (name, and a second time
    with id as soon as the cloud told it). Telling the same thing twice is normal: a resumed run does.
    """

    def will_make(self, kind: str, **names: str) -> None: ...

    def gone(self, kind: str, **names: str) -> None: ...
