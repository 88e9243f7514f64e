"""The AMI that we make of an instance or a snapshot so that it can be exported: found again by its tags, deregistered by them."""

import hashlib
import time
from typing import TYPE_CHECKING, Any

from adapters.aws.account import Account, Answered
from adapters.aws.mark import Mark
from adapters.aws.patience import Patience, Waiting
from adapters.aws.snapshots import Snapshots
from migrate.errors import SourceBusy, SourceError
from migrate.ledger import Ledger
from migrate.text import one_line

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import ImageTypeDef

KIND = "aws/image"
TRIES = 3
TAKEN = "InvalidAMIName.Duplicate"
ROOT = "/dev/sda1"
GONE = ("InvalidAMIID.NotFound", "InvalidAMIID.Unavailable")
BROKEN = ("failed", "error", "invalid", "deregistered")
LOOKS_FOR_SNAPSHOTS = 10
"""A pending AMI shows its snapshots some moments after it was asked for: it is not deregistered before, or they would be left."""


class Images:
    """The AMI of one instance or snapshot for one job. An instance is not stopped or restarted for it."""

    def __init__(self, account: Account, ledger: Ledger, mark: Mark, patience: Patience) -> None:
        self._account = account
        self._ledger = ledger
        self._mark = mark
        self._patience = patience
        self._snapshots = Snapshots(account, ledger, mark, patience)

    def check_may_be_made(self) -> Answered | None:
        """Return what AWS says where it denies it; None where it does not."""
        return self._account.denial("ec2", f"make an AMI of {self._mark.of}", lambda: self._create(dry_run=True))

    def made(self) -> str:
        """Return the AMI's id, available or on its way. It is made where there is none, and its snapshots, if it gets any, bear our mark."""
        failure: SourceBusy | None = None
        for attempt in range(TRIES):
            if attempt:
                self._pause(self._patience.settle)
            if found := self._whole():
                return found
            self._will_be_made()
            try:
                return self._account.asked("ec2", f"make an AMI of {self._mark.of}", self._create)
            except SourceBusy as error:  # the answer may be lost, and it may be there: look before another try
                failure = error
            except Answered as error:
                if error.code == TAKEN:  # it is there, and not shown yet
                    failure = SourceBusy(error.message, hint="Run the same command again.")
                    continue
                if failure is None:
                    self.delete()
                raise
        if found := self._whole():
            return found
        raise failure or SourceBusy(f"make an AMI of {self._mark.of}: it could not be made", hint="Run it again.")

    def available(self, id_: str) -> None:
        """Return when the AMI, and so each of its snapshots, is there."""
        waiting = Waiting(self._account, f"making an AMI of {self._mark.of}", self._patience)
        seen = False
        while True:
            image = next((one for one in self.ours() if one["ImageId"] == id_), None)
            if image is None and seen:
                raise SourceError(f"{self._mark.of}: {id_} was deregistered by somebody", hint="Run it again.")
            seen = seen or image is not None
            state = image.get("State", "pending") if image else "pending"
            if state == "available":
                return
            if image is not None and state in BROKEN:
                why = one_line(str(image.get("StateReason", {}).get("Message", "")))[:300]
                raise SourceError(
                    f"{self._mark.of}: AWS could not make an AMI of it ({state}: {why})", hint="Run it again."
                )
            progress = (f"{one['SnapshotId']} {one.get('Progress', '')}" for one in self._snapshots.ours())
            waiting.pause(", ".join((f"{id_} {state}", *progress)), 0, 1, "AMIs")

    def ours(self) -> "list[ImageTypeDef]":
        """Return the AMIs of this instance or snapshot and job; there is one at most, for its name is taken then."""

        def described() -> "list[ImageTypeDef]":
            pages = self._account.ec2.get_paginator("describe_images").paginate(
                Owners=["self"], Filters=self._mark.filters
            )
            return [one for page in pages for one in page["Images"] if self._mark.is_on(one.get("Tags", ()))]

        return self._account.asked("ec2", f"look for the AMI of {self._mark.of}", described)

    def delete(self, *, seen: bool = True) -> None:
        """It is not left, nor a snapshot that was made for it, also after a stop. `seen` where EC2 is known to have shown it once."""
        with self._account.finishing():
            found = self.ours()
            if not found and not seen:  # what a dying run made may not be shown yet
                self._account.run.stop.wait(self._patience.settle)
                found = self.ours()
            for image in found:
                self._await_snapshots(image)
                self._deregister(image["ImageId"])
            self._ledger.gone(KIND, region=self._account.region, of=self._mark.of, job=self._mark.job)
            self._snapshots.delete()

    def _whole(self) -> str | None:
        return next((one["ImageId"] for one in self.ours() if one.get("State") not in BROKEN), None)

    def _will_be_made(self) -> None:
        self._snapshots.will_be_made()
        self._ledger.will_make(KIND, region=self._account.region, of=self._mark.of, job=self._mark.job)

    def _create(self, *, dry_run: bool = False) -> str:
        # A name may be had once: so there are never two, and a name has less characters than a job's.
        name = f"magalu-migrate {self._mark.of} {hashlib.sha256(self._mark.job.encode()).hexdigest()[:16]}"
        words: dict[str, Any] = {"Name": name, "Description": self._mark.description, "DryRun": dry_run}
        if self._mark.of.startswith("i-"):
            return self._account.once.create_image(
                InstanceId=self._mark.of, NoReboot=True, TagSpecifications=self._mark.tags("image", "snapshot"), **words
            )["ImageId"]
        return self._account.once.register_image(
            Architecture="x86_64",
            VirtualizationType="hvm",
            RootDeviceName=ROOT,
            BlockDeviceMappings=[{"DeviceName": ROOT, "Ebs": {"SnapshotId": self._mark.of}}],
            TagSpecifications=self._mark.tags("image"),
            **words,
        )["ImageId"]

    def _await_snapshots(self, image: "ImageTypeDef") -> None:
        for _ in range(LOOKS_FOR_SNAPSHOTS):
            devices = image.get("BlockDeviceMappings", ())
            if image.get("State") != "pending" or any(one.get("Ebs", {}).get("SnapshotId") for one in devices):
                return
            time.sleep(self._patience.poll)
            image = next((one for one in self.ours() if one["ImageId"] == image["ImageId"]), image)

    def _deregister(self, id_: str) -> None:
        try:
            self._account.asked("ec2", f"deregister {id_}", lambda: self._account.ec2.deregister_image(ImageId=id_))
        except Answered as error:
            if error.code not in GONE:
                raise

    def _pause(self, seconds: float) -> None:
        self._account.run.stop.wait(seconds)
        self._account.run.check()
