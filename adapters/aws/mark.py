"""What shows that a thing in AWS is ours: tags with the job's name and with what the thing is of. Nothing without both is touched."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

MARK = "magalu-migrate"
"""The tag that says that a thing is ours; its value is the job's name."""
MARK_OF = "magalu-migrate-of"
"""The tag that says which instance, AMI or snapshot it is of."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Of one job and one instance, AMI or snapshot."""

    of: str
    job: str

    def tags(self, *kinds: str) -> list[Any]:
        """Return the TagSpecifications that give new things of these kinds the mark."""
        texts = {MARK: self.job, MARK_OF: self.of, "Name": f"magalu-migrate {self.job}"[:256]}
        tags = [{"Key": key, "Value": value} for key, value in texts.items()]
        return [{"ResourceType": kind, "Tags": tags} for kind in kinds]

    @property
    def filters(self) -> list[Any]:
        """What narrows a search; `is_on` decides: * and ? in a filter's value are wildcards, and a job's name may hold them."""
        return [{"Name": f"tag:{MARK_OF}", "Values": [self.of]}]

    @property
    def description(self) -> str:
        """EC2 takes nothing beyond ASCII there, and a VM's name is part of some jobs'."""
        return f"{MARK} {self.job}".encode("ascii", "backslashreplace").decode()[:255]

    @property
    def folder(self) -> str:
        """Where objects of this job go in a bucket: what their keys begin with, and nobody else's."""
        safe = re.sub("[^A-Za-z0-9_-]", "-", self.job)[:64]
        if safe != self.job:
            safe = f"{safe}-{hashlib.sha256(self.job.encode()).hexdigest()[:16]}"
        return f"{MARK}/{safe}/{self.of}/"

    def is_on(self, tags: Iterable[Any]) -> bool:
        texts = {tag.get("Key"): tag.get("Value") for tag in tags}
        return texts.get(MARK) == self.job and texts.get(MARK_OF) == self.of
