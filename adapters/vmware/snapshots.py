"""Snapshots of ours: made, found again by their name, and removed. What does not begin with our mark is never touched.

Source: vSphere Web Services API reference, CreateSnapshot_Task, RemoveSnapshot_Task, VirtualMachineSnapshotTree.
"""

import hashlib
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeVar

from pyVmomi import vim

from adapters.vmware.machine import MARK, Machine, Snapshot, is_ours, snapshots_of
from adapters.vmware.session import Session
from migrate.errors import SourceBusy, SourceError
from migrate.ledger import Ledger
from migrate.run import Note, Run
from migrate.text import one_line

KIND = "vmware/snapshot"
DESCRIPTION = "Made by magalu-migrate to copy this VM's disks. It goes when they are copied; `magalu-migrate clean` removes it, too."
MAKE_S = 1800.0
REMOVE_S = 6 * 3600.0
"""A snapshot of a busy VM is merged at the speed of its datastore."""
PATIENCE_S = 600.0
"""A dead run's lease holds the VM until the host has ended it, five minutes after the last sign of life."""
LONGEST_NAME = 56

Answer = TypeVar("Answer")


def snapshot_name(name: str) -> str:
    """Return our name for a snapshot: the mark and the job's name. Source of the length: vCenter takes 80 characters."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "-", name)
    if safe != name or len(safe) > LONGEST_NAME:
        safe = f"{safe[:LONGEST_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return f"{MARK} {safe}"


def taken(run: Run, session: Session, one: Machine, name: str, ledger: Ledger) -> Snapshot:
    """Return the VM's snapshot of this name, made where there is none yet; the ledger is told before.

    Without the memory; with the guest's file systems at rest where its tools run and can do it. A powered-off VM gets one, too: whoever
    starts it while it is read writes elsewhere.
    """
    ledger.will_make(KIND, host=session.server.text, vm=one.ref, instance=one.instance, name=name)
    found = _found(session, one.ref, name)
    tries = 0
    while found is None:
        try:
            _make(run, session, one, name)
        except SourceBusy:  # nobody heard the answer: it may be there
            tries += 1
            if tries >= session.pace.attempts:
                raise
            session.pause(session.pace.first_pause)
        found = _found(session, one.ref, name)
        if found is None and tries == 0:
            raise SourceError(f"vSphere has made a snapshot of {one.name}, and does not show it")
    return found


def _make(run: Run, session: Session, one: Machine, name: str) -> None:
    vm = vim.VirtualMachine(one.ref, session.stub)
    asked = f"make a snapshot of {one_line(one.name)}"

    def make(quiesce: bool) -> None:
        task = session.call(
            asked,
            lambda: vm.CreateSnapshot_Task(name=name, description=DESCRIPTION, memory=False, quiesce=quiesce),
            again=False,
        )
        session.wait(asked, task, MAKE_S)

    if one.power != "poweredOn" or not one.tools_run:
        if one.power == "poweredOn":
            text = "VMware Tools do not run, so the snapshot is as after a power cut; file systems repair themselves from their journals"
            run.tell(Note(f"{one_line(one.name)}: {text}"))
        make(quiesce=False)
        return
    try:
        make(quiesce=True)
    except SourceBusy:
        raise
    except SourceError as error:
        if "privilege" in error.message:
            raise
        run.tell(
            Note(
                f"{one_line(one.name)}: its file systems could not be brought to rest ({error.message}); snapshot without",
                "warning",
            )
        )
        make(quiesce=False)


def is_there(session: Session, vm: str, ref: str) -> bool:
    return any(one.ref == ref and is_ours(one.name) for one in _of(session, vm))


def remove(run: Run, session: Session, vm: str, instance: str, name: str) -> None:
    """No snapshot of ours of this name is at the VM any more, nor is one being made; waits until it is merged. A VM that has gone has none."""
    machine = _machine(session, vm, instance)
    if machine is None:
        return

    def removed() -> None:
        for one in _of(session, machine):
            if one.name == name and is_ours(name):
                ref = vim.vm.Snapshot(one.ref, session.stub)
                asked = f"remove the snapshot {name!r}"
                task = session.call(
                    asked,
                    partial(ref.RemoveSnapshot_Task, removeChildren=False, consolidate=True),
                    stoppable=False,
                )
                session.wait(asked, task, REMOVE_S, stoppable=False)

    _wait_for_makers(session, machine)
    _patiently(session, removed)
    left = session.call(
        "look for disks to consolidate",
        lambda: vim.VirtualMachine(machine, session.stub).runtime.consolidationNeeded,
        stoppable=False,
    )
    if left:
        run.tell(
            Note(
                f"{name}: removed, but vSphere says that the VM's disks need consolidation (Snapshots > Consolidate)",
                "warning",
            )
        )


def _found(session: Session, vm: str, name: str) -> Snapshot | None:
    _wait_for_makers(session, vm)
    return next((one for one in _of(session, vm) if one.name == name), None)


def _of(session: Session, vm: str) -> tuple[Snapshot, ...]:
    """The VM's snapshots, the deepest first, so that what is removed has no children that were not seen."""
    tree = session.call("read the snapshots", lambda: vim.VirtualMachine(vm, session.stub).snapshot, stoppable=False)
    return tuple(sorted(snapshots_of(tree.rootSnapshotList if tree else (), 1), key=lambda one: -one.depth))


def _machine(session: Session, ref: str, instance: str) -> str | None:
    """The VM's id now: it has another one after it was registered anew."""
    index = session.content.searchIndex
    if instance:
        found = session.call("find the VM", lambda: index.FindByUuid(None, instance, True, True), stoppable=False)
        return found._moId if found else None
    return ref


def _wait_for_makers(session: Session, vm: str) -> None:
    """No snapshot is being made at the VM: one that a dead run asked for appears after it."""
    deadline = time.monotonic() + MAKE_S
    while time.monotonic() < deadline:
        tasks = session.call("read the tasks", lambda: vim.VirtualMachine(vm, session.stub).recentTask, stoppable=False)
        if not any(_makes(session, task) for task in tasks or ()):
            return
        session.pause(session.pace.poll, stoppable=False)


def _makes(session: Session, task: Any) -> bool:
    try:
        info = session.call("read a task", lambda: task.info, stoppable=False)
    except SourceError:  # it is over and forgotten
        return False
    return info.state in ("queued", "running") and "createSnapshot" in (info.descriptionId or "")


def _patiently(session: Session, function: Callable[[], Answer]) -> Answer:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return function()
        except SourceBusy:
            if time.monotonic() > deadline:
                raise
            session.pause(min(session.pace.longest_pause, 10.0), stoppable=False)


def sessions_of(session: Session, agent: str) -> Iterator[str]:
    """Yield the keys of the sessions that called themselves so. Raise SourceError where one may not see sessions."""
    manager = session.content.sessionManager
    mine = session.call("read the own session", lambda: manager.currentSession, stoppable=False)
    for one in session.call("list sessions", lambda: manager.sessionList, stoppable=False) or ():
        if one.userAgent == agent and one.userName == mine.userName and one.key != mine.key:
            yield one.key
