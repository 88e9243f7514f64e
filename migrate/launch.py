"""The last stage of a VM's way, where it is wanted: an instance of its image, with its name and tags."""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from migrate.errors import MigrateError, Reason
from migrate.job import Job
from migrate.outcome import Imported, Launched, Outcome
from migrate.proof import symptoms
from migrate.proof.console import plain
from migrate.proof.login import USER
from migrate.run import Note, Progress, Run
from migrate.source import Vm
from migrate.target import Instance, InstanceOrder, Launcher, LaunchOptions, Requirements
from migrate.text import shown

LINES = 20
"""Lines of the console that are kept."""
LOOK_S = 5.0


@dataclass(frozen=True, slots=True)
class Launch:
    """What is wanted, and who does it. `settle` is how many seconds the guest is given to boot once the cloud says that it runs."""

    launcher: Launcher
    options: LaunchOptions
    settle: float = 180.0


def launch_reasons(run: Run, job: Job, launch: Launch, vm: Vm, needs: Requirements) -> list[Reason]:
    """Return every reason why the VM could not become an instance; none where it is one already."""
    if _earlier(job, launch) is not None:
        return []
    if vm.vcpus is None or vm.memory_bytes is None:
        run.tell(
            Note(
                f"the source does not say how many processors or how much memory {vm.name} has: the smallest machine type that holds its "
                "disk is taken, unless --machine-type names another",
                "warning",
            )
        )
    return launch.launcher.refuses(_order(job, launch, vm, needs))


def launched(
    run: Run, job: Job, launch: Launch, outcome: Outcome, vm: Vm, needs: Requirements, imported: Imported
) -> Launched:
    """The VM runs as an instance of its image. A second call finds the first one's.

    Raise TargetError where it is refused or fails; the image stays.
    """
    kept, there = job.result("launch", Launched), _earlier(job, launch)
    if kept is not None and there is not None and kept.image == imported.id:
        run.tell(Note(f"instance {there.name} was launched by an earlier run and is {there.status}"))
        _leave(job)
        return kept.model_copy(update=_told(there))
    if kept is not None:
        why = "is gone" if there is None else "is of an earlier image"
        run.tell(Note(f"instance {kept.name} of an earlier run {why}; it is launched anew", "warning"))
        job.forget("launch")
    with run.stage("launch") as stage:
        try:
            order = _order(job, launch, vm, needs)
            instance = launch.launcher.launch(order, imported.id)
            console = _console(run, launch, instance.id)
        except MigrateError as error:
            kept_words = f"Image {imported.name} ({imported.id}) stays: the same command tries only the launch again."
            error.hint = f"{error.hint} {kept_words}" if error.hint else kept_words
            raise
        made = Launched(image=imported.id, user=_user(outcome, console), console=console[-LINES:], **_told(instance))
        stage.summary = (
            f"{made.name} is {made.status}: {made.machine_type}, {', '.join(made.addresses) or 'no address'}"
        )
    job.finish("launch", made)
    _leave(job)
    outcome.seconds["launch"] = round(stage.seconds, 1)
    return made


def _leave(job: Job) -> None:
    """The instance is the user's now: `clean` must never take it back. A second call finds nothing to do."""
    if any(made.kind == "instance" for made in job.ledger.left()):
        job.ledger.gone("instance")


def _order(job: Job, launch: Launch, vm: Vm, needs: Requirements) -> InstanceOrder:
    tags = tuple(f"{name}={value}" if value else name for name, value in vm.tags) if launch.options.tags else ()
    name = launch.options.name or _instance_name(vm.name)
    return InstanceOrder(name, job.mark, launch.options, needs, vm.disks[0].size, tags)


def _instance_name(vm: str) -> str:
    """Return a VM's name as the name of an instance, from which Nova makes a host name, too."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", vm).strip("-.")[:255] or "vm"


def _earlier(job: Job, launch: Launch) -> Instance | None:
    """The instance that an earlier run launched, if it is still there."""
    made = job.result("launch", Launched)
    return None if made is None else launch.launcher.instance(made.id)


def _told(instance: Instance) -> dict[str, Any]:
    return {
        "id": instance.id,
        "name": instance.name,
        "machine_type": instance.machine_type,
        "status": instance.status,
        "private_ipv4": instance.private_ipv4,
        "public_ipv4": instance.public_ipv4,
        "ipv6": instance.ipv6,
    }


def _console(run: Run, launch: Launch, id_: str) -> tuple[str, ...]:
    """Return the console once the guest has come up, or what there is of it after a while: a cloud calls an instance running when it has
    switched it on."""
    began = time.monotonic()
    while True:
        found = plain("\n".join(launch.launcher.console(id_)).encode("utf-8", "replace"))
        elapsed = time.monotonic() - began
        if _has_come_up(found) or elapsed >= launch.settle:
            return tuple(shown(line.rstrip()) for line in found.splitlines() if line.strip())
        run.tell(Progress("launch", elapsed, launch.settle, "s", "it is on; the guest boots"))
        run.stop.wait(LOOK_S)
        run.check()


def _has_come_up(console: str) -> bool:
    return bool(symptoms.CLOUD_INIT_DONE.search(console))


def _user(outcome: Outcome, console: Sequence[str]) -> str | None:
    """Whom the key admits: whom the guest names on its console, else whom its configuration named before."""
    keys = symptoms.KEYS_FOR.search("\n".join(console))
    user = keys.group(1) if keys else outcome.repaired.login if outcome.repaired else None
    return user if user is not None and USER.fullmatch(user) else None  # it becomes a word of a command
