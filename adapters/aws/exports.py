"""An AMI's disk as an object in a bucket, by EC2's ExportImage: one task, one object below a prefix of ours, and both taken back.

Source: the VM Import/Export user guide, "Exporting a VM directly from an Amazon Machine Image": the object's key is the prefix, the task's id
and ".raw"; what is cancelled takes its object with it, but not while the object is being finished. The EC2 API reference: a task is active,
completed, deleting or deleted; ended ones stay in the list for a while.
"""

import re
import secrets
import time
from typing import TYPE_CHECKING, Any

from adapters.aws.account import Account, Answered
from adapters.aws.mark import Mark
from adapters.aws.patience import Patience, Waiting
from adapters.aws.token import ExportedDisk
from migrate.errors import SourceBusy, SourceError
from migrate.ledger import Ledger
from migrate.text import one_line

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import ExportImageTaskTypeDef
    from mypy_boto3_s3.type_defs import ObjectTypeDef

KIND = "aws/export"
ROLE = "vmimport"
"""The service role's name that AWS assumes where none is told."""
TRIES = 3
OBJECT = re.compile(r"export-ami-[0-9a-f]+\.raw")
ENDED = ("completed", "deleted")
LOST = ("deleting", "deleted", "failed", "cancelled")
FULL = ("ResourceCountExceeded", "ResourceLimitExceeded")
"""Five exports and imports run at a time in a region where nothing else was agreed upon, and one of an AMI. Source: as above, "Considerations for image
export", and the error codes in the EC2 API reference.
"""
NO_IMAGE = "ami-00000000000000000"


class Exports:
    """The export of one instance's, AMI's or snapshot's disk for one job, to one bucket."""

    def __init__(self, account: Account, ledger: Ledger, mark: Mark, bucket: str, patience: Patience) -> None:
        self._account = account
        self._ledger = ledger
        self._mark = mark
        self._bucket = bucket
        self._patience = patience

    def check_may_be_made(self) -> Answered | None:
        """Return what AWS says where it denies it; None where it does not."""
        return self._account.denial("ec2", "export an AMI", lambda: self._export(NO_IMAGE, "", dry_run=True))

    def made(self, image: str) -> str:
        """Return the task that exports the AMI, active or completed. It is started where there is none."""
        failure: SourceBusy | None = None
        # A second request of this run starts nothing; another run finds the task by its tags.
        once = secrets.token_hex(16)
        full = Waiting(
            self._account, f"exporting as many disks as it does at a time: {self._mark.of} has to wait", self._patience
        )
        tries = 0
        while tries < TRIES:
            if found := self._whole(image):
                return found
            self._ledger.will_make(KIND, **self._names)
            try:
                return self._account.asked("ec2", f"export {image}", lambda: self._export(image, once))
            except SourceBusy as error:  # the answer may be lost, and the task may be there: look before another try
                failure = error
                tries += 1
                self._account.run.stop.wait(self._patience.settle)
                self._account.run.check()
            except Answered as error:
                if error.code not in FULL:
                    raise
                full.pause(error.code, 0, 1, "exports")
        if found := self._whole(image):
            return found
        raise failure or SourceBusy(f"export {image}: no task could be started", hint="Run the same command again.")

    def completed(self, task: str, name: str, size: int) -> ExportedDisk:
        """Return the object when it is there: half an hour or more. Raise SourceError where AWS could not make it, or made another size."""
        waiting = Waiting(self._account, f"exporting {self._mark.of} to {self._bucket}", self._patience)
        seen = False
        while True:
            found = next((one for one in self._ours() if one["ExportImageTaskId"] == task), None)
            seen = seen or found is not None
            status = found.get("Status", "active") if found else "active"
            said = one_line(str(found.get("StatusMessage", "")))[:300] if found else ""
            if (found is None and seen) or status in LOST:
                raise SourceError(
                    f"{self._mark.of}: AWS did not export it: {task} is {status if found else 'gone'} ({said or 'no reason is told'})",
                    hint="What AWS exports, and what the role vmimport must be allowed: its VM Import/Export user guide.",
                )
            if status == "completed":
                return self._disk(task, name, size)
            progress = found.get("Progress", "") if found else ""
            percent = int(progress) if progress.isdecimal() else 0
            waiting.pause(f"{task} {said or status} {progress} %", percent, 100, "percent")

    def delete(self, *, seen: bool = True) -> None:
        """No task of this job is active, and no object of it is left, also after a stop. A second call finds none and succeeds.

        `seen` where EC2 is known to have shown the task once.
        """
        with self._account.finishing():
            tasks = self._ours()
            if not tasks and not seen:  # what a dying run made may not be shown yet
                self._account.run.stop.wait(self._patience.settle)
                tasks = self._ours()
            for task in tasks:
                if task.get("Status") not in ENDED:
                    self._end(task["ExportImageTaskId"])
            for key in self._objects():
                self._delete(key)
            self._ledger.gone(KIND, **self._names)

    @property
    def _names(self) -> dict[str, str]:
        return {"region": self._account.region, "of": self._mark.of, "job": self._mark.job, "bucket": self._bucket}

    def _whole(self, image: str) -> str | None:
        """The task that exports this AMI, where its object is there or still to come."""
        for task in self._ours():
            if task.get("ImageId") != image or task.get("Status") in LOST:
                continue
            if task.get("Status") != "completed" or self._object(task["ExportImageTaskId"]) is not None:
                return task["ExportImageTaskId"]
        return None

    def _export(self, image: str, once: str, *, dry_run: bool = False) -> str:
        answer = self._account.once.export_image(
            ImageId=image,
            DiskImageFormat="RAW",
            S3ExportLocation={"S3Bucket": self._bucket, "S3Prefix": self._mark.folder},
            RoleName=ROLE,
            Description=self._mark.description,
            TagSpecifications=self._mark.tags("export-image-task"),
            DryRun=dry_run,
            **({"ClientToken": once} if once else {}),
        )
        return answer["ExportImageTaskId"]

    def _ours(self) -> "list[ExportImageTaskTypeDef]":
        def described() -> "list[ExportImageTaskTypeDef]":
            pages = self._account.ec2.get_paginator("describe_export_image_tasks").paginate()
            return [
                one
                for page in pages
                for one in page["ExportImageTasks"]
                if self._mark.is_on(one.get("Tags", ()))
                and one.get("S3ExportLocation", {}).get("S3Bucket") == self._bucket
            ]

        return self._account.asked("ec2", f"look for the export of {self._mark.of}", described)

    def _end(self, task: str) -> None:
        """The task is neither active nor ending. One that is being finished cannot be cancelled: then its object is there soon."""
        what = f"cancel {task}"
        try:
            self._account.asked("ec2", what, lambda: self._account.ec2.cancel_export_task(ExportTaskId=task))
        except Answered as error:
            if error.denied:
                raise
        until = time.monotonic() + self._patience.ending
        while any(one["ExportImageTaskId"] == task and one.get("Status") not in ENDED for one in self._ours()):
            if time.monotonic() > until:
                raise SourceBusy(
                    f"{what}: it has not ended yet", hint="`magalu-migrate clean` takes back what it leaves."
                )
            time.sleep(self._patience.poll)

    def _disk(self, task: str, name: str, size: int) -> ExportedDisk:
        found = self._object(task)
        if found is None:
            raise SourceError(
                f"{self._bucket}/{self._mark.folder}{task}.raw is not there, although AWS has exported it"
            )
        if found["Size"] != size:
            raise SourceError(
                f"{self._bucket}/{found['Key']} has {found['Size']} bytes, and the disk has {size}: it is no copy of it"
            )
        return ExportedDisk(bucket=self._bucket, key=found["Key"], etag=found["ETag"], name=name, size=size)

    def _object(self, task: str) -> "ObjectTypeDef | None":
        return next(iter(self._listed(f"{self._mark.folder}{task}.raw")), None)

    def _objects(self) -> list[str]:
        return [
            one["Key"]
            for one in self._listed(self._mark.folder)
            if OBJECT.fullmatch(one["Key"].removeprefix(self._mark.folder))
        ]

    def _listed(self, prefix: str) -> "list[ObjectTypeDef]":
        what = f"look for {prefix} in {self._bucket}"

        def listed() -> "list[ObjectTypeDef]":
            pages = self._account.s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
            return [one for page in pages for one in page.get("Contents", ())]

        try:
            return self._account.tries(what, lambda: self._account.asked("s3", what, listed))
        except Answered as error:
            if error.code == "NoSuchBucket":  # somebody has deleted it, with all that was in it
                return []
            raise

    def _delete(self, key: str) -> None:
        what = f"delete {self._bucket}/{key}"
        words: Any = {"Bucket": self._bucket, "Key": key}
        self._account.tries(
            what, lambda: self._account.asked("s3", what, lambda: self._account.s3.delete_object(**words))
        )
