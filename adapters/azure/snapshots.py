"""Snapshots of ours: made of each disk of a VM, found again by name and tag, deleted only where they carry our tag.

A deallocated VM's disks could be read without one. A snapshot is taken all the same: it costs seconds, somebody may start the VM, and
access to the disk itself would keep it from starting. They are full ones: what an incremental one costs less, its first one costs more.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from azure.core.polling import LROPoller
from azure.mgmt.compute import models

from adapters.azure.cloud import Cloud
from adapters.azure.failures import NotThere
from adapters.azure.inventory import disk_size
from adapters.azure.refusals import text
from adapters.azure.token import Kept
from migrate.errors import MigrateError, SourceBusy, SourceError
from migrate.ledger import Ledger
from migrate.text import one_line

MARK = "magalu-migrate"
"""The tag of everything that we make; its value is the job's name."""

SNAPSHOT, GRANT = "azure/snapshot", "azure/grant"

INCREMENTAL_ONLY = frozenset({"ultrassd_lrs", "premiumv2_lrs"})
"""Of these no full snapshot can be made. Source: "Create an incremental snapshot for managed disks", restrictions."""

SETTLED_S = 2.0
LONGEST_NAME = 80
"""Source: "Naming rules and restrictions for Azure resources", Microsoft.Compute/snapshots."""


@dataclass(frozen=True, slots=True)
class Snapshots:
    cloud: Cloud
    ledger: Ledger

    def taken(self, disks: Sequence[models.Disk], group: str, job: str) -> tuple[Kept, ...]:
        """Each disk has a snapshot in the resource group, made now or before. What was made of some goes again where others cannot be."""
        names = [_name(job, disk) for disk in disks]
        try:
            begun = [self._begun(disk, group, name, job) for disk, name in zip(disks, names, strict=True)]
            for name, poller in zip(names, begun, strict=True):
                if poller is not None:
                    self.cloud.awaited(f"take the snapshot {name}", poller)
            return tuple(self._kept(disk, group, name, job) for disk, name in zip(disks, names, strict=True))
        except MigrateError as error:
            for name in names:
                self._gone_again(group, name, job, error)
            raise

    def check(self, kept: Kept) -> None:
        """Raise SourceError where the snapshot is not there any more, or is another one."""
        found = self._found(kept.group, kept.name)
        if found is None or found.properties is None or found.properties.unique_id != kept.unique_id:
            raise SourceError(
                f"the snapshot {kept.name} of disk {kept.disk} is not there any more",
                hint="Somebody deleted it. Start the migration anew: `magalu-migrate clean`, then the same command.",
            )

    def taken_back(self, group: str, name: str, job: str) -> str | None:
        """The snapshot is gone, with access to it; return in words why not, where it is not ours. Works also after a stop of the run."""
        with self.cloud.unstoppable() as cloud:
            return Snapshots(cloud, self.ledger)._taken_back(group, name, job)

    def _taken_back(self, group: str, name: str, job: str) -> str | None:
        found = self._found(group, name)
        if found is not None:
            if (found.tags or {}).get(MARK) != job:
                return f"the snapshot {one_line(name)} in {one_line(group)} does not carry our tag {MARK}={one_line(job)}; it stays"
            if text(found.properties.disk_state if found.properties else None) == "ActiveSAS":
                self.revoke(group, name)
            self._delete(group, name)
        self._tell_gone(group, name)
        return None

    def revoke(self, group: str, name: str) -> None:
        """Nobody has access to the snapshot any more."""
        what = f"revoke access to the snapshot {name}"
        self.cloud.finished(what, lambda: self.cloud.compute.snapshots.begin_revoke_access(group, name))

    def _begun(self, disk: models.Disk, group: str, name: str, job: str) -> LROPoller[models.Snapshot] | None:
        self.cloud.run.check()
        self.ledger.will_make(SNAPSHOT, subscription=self.cloud.subscription, group=group, name=name, job=job)
        found = self._found(group, name)
        if found is not None:
            if (found.tags or {}).get(MARK) != job:
                self._tell_gone(group, name)
                raise SourceError(
                    f"a snapshot {name} is there already, and it does not carry our tag {MARK}={job}",
                    hint="Look at it, and delete it if nobody needs it.",
                )
            if text(found.properties.provisioning_state if found.properties else None) != "Failed":
                return None
            self._delete(group, name)
        return self.cloud.asked(
            f"take a snapshot of disk {one_line(disk.name or '')}",
            lambda: self.cloud.compute.snapshots.begin_create_or_update(group, name, _wanted(disk, job)),
        )

    def _kept(self, disk: models.Disk, group: str, name: str, job: str) -> Kept:
        """Wait until a snapshot is whole: one that another run began may still be in the making."""
        for _ in range(int(1800 / SETTLED_S)):
            found = self.cloud.asked(
                f"look at the snapshot {name}", lambda: self.cloud.compute.snapshots.get(group, name)
            )
            told = found.properties
            state = text(told.provisioning_state if told else None)
            if state == "Failed" or told is None:
                raise SourceError(
                    f"Azure failed to take the snapshot {name}", hint="See the resource group's activity log."
                )
            percent = told.completion_percent
            if state == "Succeeded" and (percent is None or percent >= 100):
                size = int(told.disk_size_bytes or disk_size(disk))
                shown_disk = one_line(disk.name or "")
                return Kept(group=group, name=name, job=job, unique_id=told.unique_id or "", disk=shown_disk, size=size)
            self.cloud.run.stop.wait(SETTLED_S)
            self.cloud.run.check()
        raise SourceBusy(f"the snapshot {name} is not whole after half an hour", hint="Run the same command again.")

    def _gone_again(self, group: str, name: str, job: str, error: MigrateError) -> None:
        try:
            self.taken_back(group, name, job)
        except MigrateError as second:
            error.add_note(f"{second.message}; `magalu-migrate clean` takes it back")

    def _found(self, group: str, name: str) -> models.Snapshot | None:
        try:
            return self.cloud.asked(
                f"look at the snapshot {one_line(name)}", lambda: self.cloud.compute.snapshots.get(group, name)
            )
        except NotThere:
            return None

    def _delete(self, group: str, name: str) -> None:
        def delete() -> None:
            self.cloud.finished(
                f"delete the snapshot {name}", lambda: self.cloud.compute.snapshots.begin_delete(group, name)
            )

        try:
            delete()
        except SourceBusy:
            raise
        except SourceError as error:
            if "409" not in error.message:
                raise
            self.revoke(group, name)  # access was granted since we looked: a run was killed while it asked for it
            delete()

    def _tell_gone(self, group: str, name: str) -> None:
        for kind in (GRANT, SNAPSHOT):
            self.ledger.gone(kind, subscription=self.cloud.subscription, group=group, name=name)


def _wanted(disk: models.Disk, job: str) -> models.Snapshot:
    sku = text(disk.sku.name if disk.sku else None).lower()
    return models.Snapshot(
        location=disk.location,
        tags={MARK: job},
        sku=models.SnapshotSku(name="Standard_LRS"),
        properties=models.SnapshotProperties(
            creation_data=models.CreationData(create_option="Copy", source_resource_id=disk.id),
            incremental=sku in INCREMENTAL_ONLY,
            network_access_policy="AllowAll",
            public_network_access="Enabled",
        ),
    )


def _name(job: str, disk: models.Disk) -> str:
    """The same for the same job and disk, so that a second run finds what the first one made."""
    unique = disk.properties.unique_id if disk.properties else None
    digest = hashlib.sha256(f"{job}\n{(disk.id or '').lower()}\n{unique}".encode()).hexdigest()[:12]
    room = LONGEST_NAME - len(MARK) - len(digest) - 2
    safe = re.sub(r"[^A-Za-z0-9_-]+", "-", job).strip("-")[:room] or "vm"
    return f"{MARK}-{safe}-{digest}"
