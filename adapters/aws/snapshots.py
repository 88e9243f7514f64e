"""The snapshots that we make of an instance: made together, found again by their tags, deleted by them. Nothing without our tags is touched."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from adapters.aws.account import Account, Answered
from adapters.aws.mark import Mark
from adapters.aws.patience import Patience, Waiting
from migrate.errors import SourceBusy, SourceError
from migrate.ledger import Ledger
from migrate.text import counted

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import CreateSnapshotsResultTypeDef, SnapshotTypeDef

KIND = "aws/snapshots"
TRIES = 3
BROKEN = ("error", "recoverable")
"""States of a snapshot that holds nothing to read."""


class Snapshots:
    """The snapshots of one instance for one job."""

    def __init__(self, account: Account, ledger: Ledger, mark: Mark, patience: Patience) -> None:
        self._account = account
        self._ledger = ledger
        self._mark = mark
        self._of = mark.of
        self._patience = patience

    def check_may_be_made(self) -> Answered | None:
        """Return what AWS says where it denies them; None where it does not."""
        return self._account.denial("ec2", f"snapshot {self._of}", lambda: self._create(dry_run=True))

    def will_be_made(self) -> None:
        """From now on the ledger knows of them."""
        self._ledger.will_make(KIND, region=self._account.region, of=self._of, job=self._mark.job)

    def made(self, volumes: frozenset[str]) -> Mapping[str, str]:
        """Return the snapshot of each of these volumes, all of one moment, completed or on their way. They are made where there are none."""
        failure: SourceBusy | None = None
        for attempt in range(TRIES):
            if attempt:
                self._pause(self._patience.settle)
            if found := self._whole(volumes):
                return found
            self.will_be_made()
            try:
                answer = self._account.asked("ec2", f"snapshot {self._of}", self._create)
            except SourceBusy as error:  # the answer may be lost, and they may be there: look before another try
                failure = error
                continue
            except Answered:
                if failure is None:
                    self._forget()
                raise
            made = {one["VolumeId"]: one["SnapshotId"] for one in answer["Snapshots"]}
            if volumes <= made.keys():
                return made
            self.delete(made.values())
            raise SourceBusy(f"{self._of}: a volume was detached while it was snapshotted", hint="Run it again.")
        if found := self._whole(volumes):
            return found
        raise failure or SourceBusy(f"snapshot {self._of}: it could not be made", hint="Run the same command again.")

    def completed(self, ids: Collection[str]) -> "Mapping[str, SnapshotTypeDef]":
        """Return them when all are completed. AWS copies what was written since the last snapshot: minutes to hours.

        They are asked for by a filter: an id that EC2 does not show yet would be an error.
        """
        what = f"wait for the snapshots of {self._of}"
        filters = [{"Name": "snapshot-id", "Values": [*ids]}]
        waiting = Waiting(self._account, f"making {counted(len(ids), 'snapshot')} of {self._of}", self._patience)
        seen: set[str] = set()
        while True:
            found = {one["SnapshotId"]: one for one in self._described(what, OwnerIds=["self"], Filters=filters)}
            if lost := sorted(seen - found.keys()):
                raise SourceError(f"{self._of}: {', '.join(lost)} was deleted by somebody", hint="Run it again.")
            seen |= found.keys()
            if broken := [id_ for id_, one in found.items() if one["State"] in BROKEN]:
                self.delete(ids)
                raise SourceError(
                    f"{self._of}: AWS could not make {', '.join(broken)}", hint="Run the same command again."
                )
            missing = [id_ for id_ in ids if id_ not in found or found[id_]["State"] != "completed"]
            if not missing:
                return found
            state = ", ".join(f"{id_} {found[id_].get('Progress', '')}" if id_ in found else id_ for id_ in missing)
            waiting.pause(state, len(ids) - len(missing), len(ids), "snapshots")

    def ours(self) -> "list[SnapshotTypeDef]":
        """Return all snapshots of this instance and job, oldest first."""
        found = self._described(
            f"look for the snapshots of {self._of}",
            OwnerIds=["self"],
            Filters=self._mark.filters,
        )
        return sorted((one for one in found if self._mark.is_on(one.get("Tags", ()))), key=lambda one: one["StartTime"])

    def delete(self, made: Collection[str] = (), *, seen: bool = True) -> None:
        """None of them is left, also after a stop. A second call finds none and succeeds.

        `made` are ids that this run was told when it made them; `seen` where EC2 is known to have shown all others once.
        """
        with self._account.finishing():
            found = {one["SnapshotId"] for one in self.ours()}
            if not found and not seen:  # what a dying run made may not be shown yet
                self._account.run.stop.wait(self._patience.settle)
                found = {one["SnapshotId"] for one in self.ours()}
            for id_ in sorted(found | set(made)):
                self._delete(id_)
        self._forget()

    def _delete(self, id_: str) -> None:
        try:
            self._account.asked("ec2", f"delete {id_}", lambda: self._account.ec2.delete_snapshot(SnapshotId=id_))
        except Answered as error:
            if error.code != "InvalidSnapshot.NotFound":
                raise

    def _whole(self, volumes: frozenset[str]) -> Mapping[str, str]:
        """One snapshot of each volume, or none. Where an answer was lost and they were made twice, the first ones: they are of one moment."""
        first: dict[str, str] = {}
        for one in self.ours():
            if one["State"] not in BROKEN:
                first.setdefault(one["VolumeId"], one["SnapshotId"])
        return first if volumes <= first.keys() else {}

    def _create(self, *, dry_run: bool = False) -> "CreateSnapshotsResultTypeDef":
        return self._account.once.create_snapshots(
            InstanceSpecification={"InstanceId": self._of, "ExcludeBootVolume": False},
            Description=self._mark.description,
            TagSpecifications=self._mark.tags("snapshot"),
            DryRun=dry_run,
        )

    def _described(self, what: str, **words: Any) -> "list[SnapshotTypeDef]":
        def described() -> "list[SnapshotTypeDef]":
            pages = self._account.ec2.get_paginator("describe_snapshots").paginate(**words)
            return [one for page in pages for one in page["Snapshots"]]

        return self._account.asked("ec2", what, described)

    def _forget(self) -> None:
        self._ledger.gone(KIND, region=self._account.region, of=self._of, job=self._mark.job)

    def _pause(self, seconds: float) -> None:
        self._account.run.stop.wait(seconds)
        self._account.run.check()
