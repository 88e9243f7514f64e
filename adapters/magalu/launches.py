"""The launch of an instance: refused beforehand with every reason, ordered at most once, found again after a crash, awaited until it runs."""

import hashlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from adapters.magalu.api import Api
from adapters.magalu.images import Standing
from adapters.magalu.instances import FoundInstance, InDoubt, InstanceBody, Instances
from adapters.magalu.machine_types import MachineType, machine_types, nearest, smallest
from adapters.magalu.surroundings import DEFAULT_VPC, Place, Surroundings
from migrate.errors import Reason, TargetBusy, TargetError
from migrate.ledger import Ledger
from migrate.run import Note, Progress, Run
from migrate.target import Instance, InstanceOrder, Requirements
from migrate.text import clock, shown

LABEL_BYTES = 60
LABELS = 50
"""What Nova takes as tags of a server, and how many. Nothing tells the limits of Magalu's labels. Source: Nova's API, microversion 2.26."""
NOT_IN_LABELS = re.compile(r"[^A-Za-z0-9_.:=@+-]+")


_OTHER_NAME = "Choose another name with --instance-name, or delete that instance, or leave --launch out."


class Code(StrEnum):
    """What an instance is refused for. migrate/codes.yaml says what each means."""

    API = "MGC-003"
    KEY = "MGC-006"
    TYPE = "MGC-007"
    VPC = "MGC-008"
    GROUP = "MGC-009"
    TAKEN = "MGC-010"


@dataclass(frozen=True, slots=True)
class LaunchPatience:
    """Seconds. A cloud runs an instance within minutes; the API tells no progress."""

    poll: float = 5.0
    deadline: float = 900.0
    lookup: float = 120.0
    """How long an instance is looked for by name where nobody knows whether the order was taken."""
    grace: float = 60.0
    """How long after the order "no such instance" is believed to be the API's own delay."""


@dataclass(frozen=True, slots=True)
class _Fitted:
    """What was found for an order."""

    machine_type: MachineType
    vpc: Place
    groups: tuple[Place, ...]


def mark_label(mark: str) -> str:
    """Return the label that a job's instance is known by. It is short, and of characters that any cloud takes."""
    return f"magalu-migrate-{hashlib.sha256(mark.encode()).hexdigest()[:12]}"


def labels(order: InstanceOrder) -> tuple[str, ...]:
    """Return our mark and the VM's tags as labels; what a label may not hold becomes a hyphen, and what is too long is cut."""
    cleaned = (NOT_IN_LABELS.sub("-", text).strip("-")[:LABEL_BYTES] for text in order.labels)
    return tuple(dict.fromkeys([mark_label(order.mark), *filter(None, cleaned)]))[:LABELS]


class MagaluLauncher:
    """Implements migrate.target.Launcher. `begun` names the ids of instances that an earlier run ordered, by label, as its ledger tells;
    None where it heard no id."""

    def __init__(
        self,
        run: Run,
        api: Api,
        ledger: Ledger,
        patience: LaunchPatience,
        begun: Mapping[str, str | None],
    ) -> None:
        self._run = run
        self._api = api
        self._ledger = ledger
        self._patience = patience
        self._begun = dict(begun)
        self._silent = False
        self._instances = Instances(api)
        self._surroundings = Surroundings(api)

    def refuses(self, order: InstanceOrder) -> list[Reason]:
        """Return every reason why this instance could not be made. What is only doubtful is told as a note."""
        found: list[Reason] = []
        for asked in (
            self._key_reasons,
            self._type_reasons,
            self._vpc_reasons,
            self._group_reasons,
            self._name_reasons,
        ):
            try:
                found += asked(order)
            except TargetError as error:
                found.append(Reason(Code.API, error.message, error.hint))
        if not found:
            self._run.tell(Note("whether the account's quotas allow the instance is not told before it is ordered"))
        return found

    def launch(self, order: InstanceOrder, image_id: str) -> Instance:
        """Return the instance once it runs. A second call finds the first one's, by our label; one that failed makes room for a new one."""
        label = mark_label(order.mark)
        known = self._earlier(order.name, label)
        id_ = known.id if known is not None else self._ordered(order, image_id, label)
        self._begun[label] = id_
        self._ledger.will_make("instance", name=order.name, label=label, id=id_)
        return self._running(id_, order.name).value

    def instance(self, id_: str) -> Instance | None:
        found = self._instances.get(id_)
        return None if found is None or "deleted" in (found.state, found.status) else found.value

    def console(self, id_: str) -> tuple[str, ...]:
        """Return the end of the console; empty where the API does not give it. That is no reason for a launch to fail."""
        try:
            return self._instances.console(id_)
        except TargetError as error:
            if not self._silent:
                self._run.tell(Note(f"the init-logs cannot be read now: {error.message}"))
            self._silent = True
            return ()

    def delete(self, name: str, label: str, id_: str | None) -> bool:
        """The job's instance is gone or going, if it bears our label. For `clean`.

        Return False where it was not touched, or nobody can tell whether there is one: no id was ever heard, and no instance of the name
        bears our label.
        """
        found = self._instances.named(name) if id_ is None else tuple(filter(None, [self._instances.get(id_)]))
        ours = [one for one in found if label in (one.labels or ())]
        for one in ours:
            self._instances.delete(one.id)
        settled = bool(ours) or (id_ is not None and not found)
        if settled:
            self._ledger.gone("instance", name=name, label=label)
        return settled

    def _key_reasons(self, order: InstanceOrder) -> list[Reason]:
        wanted = order.options.ssh_key
        there = self._surroundings.ssh_keys()
        if wanted in there:
            return []
        return [
            Reason(
                Code.KEY,
                f'there is no SSH key "{shown(wanted)}" in the account; without it nobody could log in.',
                f"There {'are' if len(there) > 1 else 'is'}: {', '.join(map(shown, sorted(there)[:20]))}. Name one with --ssh-key."
                if there
                else "Upload one first: mgc profile ssh-keys create --name NAME --key 'ssh-ed25519 …'",
            )
        ]

    def _type_reasons(self, order: InstanceOrder) -> list[Reason]:
        types = self._types(order)
        named = order.options.machine_type
        if named is None:
            return [] if smallest(types, order.needs) else [_nothing_fits(types, order)]
        chosen = next((one for one in types if named in (one.name, one.id)), None)
        if chosen is None:
            close = sorted(one.name for one in types if _same_family(one.name, named))[:10]
            known = [one.words for one in nearest(types, order.needs)]
            return [
                Reason(
                    Code.TYPE,
                    f'there is no machine type "{shown(named)}"{_in_zone(order)}.',
                    "Name another with --machine-type, or leave it out.",
                    (f"named alike: {', '.join(close)}",) if close else tuple(f"nearest: {one}" for one in known),
                )
            ]
        if not chosen.may_hold(order.disk_bytes):
            return [_too_small(chosen, types, order)]
        if chosen.disk < order.needs.disk_gb:
            self._run.tell(
                Note(
                    f"{chosen.words}: the image's disk has {order.needs.disk_gb} GB of 10^9 bytes. It fits if Magalu's GB have 2^30, "
                    "which nobody has written down; if it does not, the launch fails and the image stays.",
                    "warning",
                )
            )
        if chosen.vcpus < order.needs.vcpu or chosen.ram_gib < order.needs.ram_gb:
            self._run.tell(Note(f"{chosen.words} is less than the VM has: {_needed(order.needs)}", "warning"))
        return []

    def _vpc_reasons(self, order: InstanceOrder) -> list[Reason]:
        there = self._surroundings.vpcs()
        if _vpc(there, order.options.vpc) is not None:
            return []
        wanted = order.options.vpc
        return [
            Reason(
                Code.VPC,
                f'there is no VPC "{shown(wanted)}" in the region.' if wanted else "the region has no default VPC.",
                _choose("--vpc", there) if there else "Make one first: mgc network vpcs create --name NAME",
            )
        ]

    def _group_reasons(self, order: InstanceOrder) -> list[Reason]:
        there = self._surroundings.security_groups()
        chosen, missing = _groups(there, order.options.security_groups)
        if missing:
            return [
                Reason(
                    Code.GROUP,
                    f'there is no security group "{shown(one)}" in the region.',
                    _choose("--security-group", there)
                    if there
                    else "Make one first: mgc network security-groups create --name NAME",
                )
                for one in missing
            ]
        effective = chosen or tuple(one for one in there if one.is_default)
        if not any(self._surroundings.admits_ssh(one) for one in effective):
            self._run.tell(
                Note(
                    f"no rule of {_named_groups(effective)} lets anybody in to port 22: the instance will run and not be reached by SSH. "
                    "Name a group that does with --security-group, or add a rule.",
                    "warning",
                )
            )
        return []

    def _name_reasons(self, order: InstanceOrder) -> list[Reason]:
        taken = self._taken(order.name, mark_label(order.mark))
        return [] if taken is None else [Reason(Code.TAKEN, taken, _OTHER_NAME)]

    def _taken(self, name: str, label: str) -> str | None:
        """A sentence where another instance has the name: one of somebody else's, or one that this job has launched before and finished."""
        for one in self._instances.named(name):
            pending = label in self._begun and (label in (one.labels or ()) or one.id == self._begun[label])
            if not pending:
                return f'an instance is called "{shown(name)}" already: {shown(one.id)}, {one.words}.'
        return None

    def _earlier(self, name: str, label: str) -> FoundInstance | None:
        """The instance that an earlier run ordered. One that failed is deleted: it may hold what the next one needs."""
        known = self._begun.get(label)
        one = self._instances.get(known) if known is not None else self._doubted(name, label)
        if one is None or "deleted" in (one.state, one.status):
            return None
        if one.standing is not Standing.FAILED:
            self._run.tell(Note(f"instance {name} ({shown(one.id)}) was ordered by an earlier run and is {one.words}"))
            return one
        if label not in (one.labels or ()):
            raise _failed(
                one, name, "It does not bear our label any more: delete it by hand, then run the same command again."
            )
        self._run.tell(Note(f"instance {name} ({shown(one.id)}) of an earlier run is {one.words}; it is deleted"))
        self._delete(one, name, label)
        return None

    def _doubted(self, name: str, label: str) -> FoundInstance | None:
        """The instance that an earlier run may have ordered, of which it heard no id. Raise TargetError where one could be it, or not."""
        if label not in self._begun:
            return None
        found = self._instances.named(name)
        ours = next((one for one in found if label in (one.labels or ())), None)
        if ours is None and found:
            raise TargetError(
                f'an instance "{name}" ({shown(found[0].id)}, {found[0].words}) is there, which an earlier run may have ordered and which '
                f'does not bear its label "{label}".',
                hint="Look whether it is yours; delete it, or choose another name with --instance-name.",
            )
        return ours

    def _delete(self, one: FoundInstance, name: str, label: str) -> None:
        """The instance is gone, or it was long enough waited for."""
        self._instances.delete(one.id)
        deadline = time.monotonic() + self._patience.lookup
        while self.instance(one.id) is not None and time.monotonic() < deadline:
            self._pause()
        self._ledger.gone("instance", name=name, label=label)

    def _ordered(self, order: InstanceOrder, image_id: str, label: str) -> str:
        if taken := self._taken(order.name, label):
            raise TargetError(taken, hint=_OTHER_NAME)
        fitted = self._fitted(order)
        options = order.options
        body = InstanceBody(
            name=order.name,
            image=image_id,
            machine_type=fitted.machine_type.id,
            ssh_key=options.ssh_key,
            vpc=fitted.vpc.id,
            security_groups=tuple(one.id for one in fitted.groups),
            zone=options.zone,
            public_ip=options.public_ip,
            labels=labels(order),
        )
        self._run.tell(
            Note(f"instance {order.name} is made as {fitted.machine_type.words} in VPC {shown(fitted.vpc.name)}")
        )
        self._ledger.will_make("instance", name=order.name, label=label)
        try:
            outcome = self._instances.create(body)
        except TargetError:
            self._ledger.gone("instance", name=order.name, label=label)
            raise
        if isinstance(outcome, str):
            return outcome
        self._run.tell(Note(f"{outcome.error.message}; looking whether instance {order.name} was taken", "warning"))
        return self._looked_up(order.name, label, outcome)

    def _looked_up(self, name: str, label: str, doubt: InDoubt) -> str:
        """Return the id of our instance once a list shows it. Raise the error of the order, with what to do, if none does in time."""
        deadline = time.monotonic() + self._patience.lookup
        while True:
            try:
                for one in self._instances.named(name):
                    if label in (one.labels or ()):
                        return one.id
            except TargetBusy:
                pass  # the API is having a bad time; that is why we are here
            if time.monotonic() >= deadline:
                break
            self._pause()
        doubt.error.hint = (
            f'The order may have been taken: no instance "{name}" with label {label} appeared within '
            f"{clock(self._patience.lookup)}. Run the same command again in a while: it finds the instance, or orders one."
        )
        raise doubt.error

    def _running(self, id_: str, name: str) -> FoundInstance:
        began = time.monotonic()
        status = "ordered"
        while True:
            elapsed = time.monotonic() - began
            try:
                found = self._instances.get(id_)
            except TargetBusy as error:
                self._run.tell(Note(f"{error.message}; the instance is being made, looking again"))
            else:
                if found is None and elapsed >= self._patience.grace:
                    raise TargetError(
                        f'instance "{name}" ({id_}) was ordered, and after {clock(elapsed)} the API still knows no instance of this id.',
                        hint="Somebody may have deleted it: run the same command again, and it is ordered again.",
                    )
                if found is not None:
                    status = found.words
                    match found.standing:
                        case Standing.ACTIVE:
                            return found
                        case Standing.FAILED:
                            raise _failed(found, name)
                        case Standing.UNKNOWN if found.status == "completed":
                            self._run.tell(Note(f"instance {name} is {status}: somebody did that", "warning"))
                            return found
            self._run.tell(Progress("launch", elapsed, self._patience.deadline, "s", status))
            if elapsed >= self._patience.deadline:
                raise TargetBusy(
                    f'instance "{name}" ({id_}) does not run after {clock(self._patience.deadline)}; it is {status}.',
                    hint="It goes on in the cloud. Run the same command again to wait on.",
                )
            self._pause()

    def _fitted(self, order: InstanceOrder) -> _Fitted:
        """What the order names, and the defaults of what it does not. Raise TargetError where it has gone since the first look."""
        types, named = self._types(order), order.options.machine_type
        if named is None:
            chosen = smallest(types, order.needs)
        else:
            chosen = next((one for one in types if named in (one.name, one.id)), None)
        vpc = _vpc(self._surroundings.vpcs(), order.options.vpc)
        groups, missing = (
            ((), ())
            if not order.options.security_groups
            else _groups(self._surroundings.security_groups(), order.options.security_groups)
        )
        if chosen is None or vpc is None or missing:
            raise TargetError(
                f'instance "{order.name}": its machine type, VPC or security group was there before and is gone now.',
                hint="Run the same command again: it says what is missing.",
            )
        return _Fitted(chosen, vpc, groups)

    def _types(self, order: InstanceOrder) -> tuple[MachineType, ...]:
        zone = order.options.zone
        return tuple(one for one in machine_types(self._api) if zone is None or not one.zones or zone in one.zones)

    def _pause(self) -> None:
        self._run.stop.wait(self._patience.poll)
        self._run.check()


def _vpc(there: Sequence[Place], wanted: str | None) -> Place | None:
    if wanted is not None:
        return next((one for one in there if one.is_called(wanted)), None)
    by: Sequence[Callable[[Place], bool]] = (lambda one: one.is_default, lambda one: one.name == DEFAULT_VPC)
    return next((one for holds in by for one in there if holds(one)), None)


def _groups(there: Sequence[Place], wanted: Sequence[str]) -> tuple[tuple[Place, ...], tuple[str, ...]]:
    """Return the groups that are wanted, and the names that no group has."""
    found = {text: next((one for one in there if one.is_called(text)), None) for text in wanted}
    return (
        tuple(one for one in found.values() if one is not None),
        tuple(text for text, one in found.items() if one is None),
    )


def _named_groups(groups: Sequence[Place]) -> str:
    if not groups:
        return "the default security group, which the API does not show,"
    return f"security group {', '.join(shown(one.name) for one in groups)}"


def _choose(option: str, there: Sequence[Place]) -> str:
    return f"Choose one with {option}: {', '.join(shown(one.name or one.id) for one in there[:20])}."


def _needed(needs: Requirements) -> str:
    return f"{needs.vcpu} vCPU, {needs.ram_gb} GiB memory, {needs.disk_gb} GB disk"


def _in_zone(order: InstanceOrder) -> str:
    return f" in zone {shown(order.options.zone)}" if order.options.zone else ""


def _same_family(name: str, wanted: str) -> bool:
    """Whether a type's name begins as the wanted one does: BV4-… for BV4-16-40."""
    return name.partition("-")[0].lower() == wanted.partition("-")[0].lower()


def _nothing_fits(types: Sequence[MachineType], order: InstanceOrder) -> Reason:
    return Reason(
        Code.TYPE,
        f"no machine type{_in_zone(order)} has {_needed(order.needs)}, which the VM has.",
        "Name one that is less with --machine-type, or shrink the disk first.",
        tuple(f"nearest: {one.words}" for one in nearest([one for one in types if not one.gpus], order.needs)),
    )


def _too_small(chosen: MachineType, types: Sequence[MachineType], order: InstanceOrder) -> Reason:
    enough = [one for one in types if one.may_hold(order.disk_bytes) and not one.gpus]
    return Reason(
        Code.TYPE,
        f"machine type {chosen.words} is too small: the image's disk has {order.needs.disk_gb} GB.",
        "Name a larger one with --machine-type, or leave it out.",
        tuple(f"nearest: {one.words}" for one in nearest(enough, order.needs)),
    )


def _failed(found: FoundInstance, name: str, further: str | None = None) -> TargetError:
    quota = (
        "A quota of the account is used up: delete something, or ask Magalu Cloud for more. "
        if "quota" in found.status
        else ""
    )
    again = "Run the same command again: the failed instance is deleted and ordered anew."
    return TargetError(
        f'instance "{name}" ({found.id}) ended as {found.words}. {found.said}',
        hint=f"{quota}{further or again}",
        request_id=found.request_id,
    )
