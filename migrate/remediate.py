"""Preview and apply: the same remediations on the same kind of Draft, once kept to itself and once performed."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from migrate.draft import Draft
from migrate.effects import Changes, Edit, Effect, Finding, LayoutEdit, PackageEdit, RebuildRequest, Removal, Severity
from migrate.errors import GuestError
from migrate.guest import Guest, Rebuild
from migrate.remediation import Remediation, Settings, chosen
from migrate.run import Progress, Run


def preview(run: Run, guest: Guest, remediations: Sequence[Remediation], settings: Settings) -> Changes:
    """Return what `remediate` would do. The guest is only read. Each remediation sees what the former ones would have done.

    One that cannot be made on this guest is an error among the findings, so that all that must be mended is said at once.
    """
    draft = Draft(guest)
    said: set[str] = set()
    for remediation in chosen(remediations, settings):
        run.check()
        with draft.step(remediation.name):
            try:
                remediation.act(draft, settings)
            except GuestError as error:
                if error.message not in said:  # what is broken stands in the way of several
                    text, remedy = _cannot(remediation, error)
                    draft.find(error.code, text, remedy=remedy, severity=Severity.ERROR)
                said.add(error.message)
    return replace(draft.changes, findings=waived(draft.changes.findings, settings.waive))


def remediate(run: Run, guest: Guest, remediations: Sequence[Remediation], settings: Settings, stage: str) -> Changes:
    """Perform the remediations and return what was done.

    Each one's effects are performed before the next starts, on a fresh draft, because a package's scripts may have done more than
    was asked. What must be rebuilt is rebuilt once, at the end. Raise GuestError where the guest does not take a change: it is half
    repaired then, and its overlay is to be thrown away.
    """
    wanted = chosen(remediations, settings)
    done: list[Changes] = []
    rebuilds: set[Rebuild] = set()
    for number, remediation in enumerate(wanted):
        run.check()
        run.tell(Progress(stage, number, len(wanted), "steps", remediation.name))
        draft = Draft(guest, changed=any(changes.effects for changes in done))
        with draft.step(remediation.name):
            remediation.act(draft, settings)
        for effect in draft.changes.effects:
            run.check()
            if isinstance(effect, RebuildRequest):
                rebuilds.add(effect.what)
            else:
                _perform(guest, effect)
        done.append(draft.changes)
    for what in Rebuild:
        if what in rebuilds:
            run.check()
            run.tell(Progress(stage, len(wanted), len(wanted), "steps", f"rebuild the {what.value}"))
            guest.rebuild(what)
    return Changes(
        tuple(effect for changes in done for effect in changes.effects),
        waived(dict.fromkeys(finding for changes in done for finding in changes.findings), settings.waive),
        tuple(fact for changes in done for fact in changes.facts),
    )


def _cannot(remediation: Remediation, error: GuestError) -> tuple[str, str]:
    text = f"{remediation.name} cannot be made: {error.message}"
    return text, error.hint or f"Mend it in the source VM, or leave the repair out: --skip {remediation.name}"


def waived(findings: Iterable[Finding], codes: Collection[str]) -> tuple[Finding, ...]:
    """Say of each finding whether the operator accepts it."""
    return tuple(replace(finding, waived=finding.code in codes) for finding in findings)


def _perform(guest: Guest, effect: Effect) -> None:
    match effect:
        case Edit(path=path, after=after):
            guest.store(path, after)
        case Removal(path=path):
            guest.remove(path)
        case PackageEdit(change=change):
            guest.change_packages(change)
        case LayoutEdit(change=change):
            guest.change_layout(change)
        case RebuildRequest(what=what):
            guest.rebuild(what)
