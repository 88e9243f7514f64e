"""Why a VM is not moved: what its guest holds, what the target does not take, what is not as it was approved. All of it before anything is copied."""

from collections.abc import Iterable, Sequence
from typing import cast

from migrate.effects import Finding, Severity
from migrate.errors import NotMigratable, PlanChanged, Reason
from migrate.job import Job
from migrate.order import Order
from migrate.outcome import JsonObject, Repaired
from migrate.preview import ChangesValue
from migrate.remediation import Settings
from migrate.source import Firmware, Vm


def refusals(findings: Iterable[Finding], *, strict: bool) -> list[Reason]:
    """Return what forbids the move: each error that is not waived; where the user is strict, each such warning too."""
    reasons = []
    for finding in findings:
        if finding.forbids:
            reasons.append(Reason(finding.code, finding.text, finding.remedy))
        elif strict and finding.severity is Severity.WARNING and not finding.waived:
            accept = f"Or accept it: --waive {finding.code}"
            reasons.append(
                Reason(finding.code, finding.text, f"{finding.remedy} {accept}" if finding.remedy else accept)
            )
    return reasons


def kept_findings(job: Job, repaired: Repaired, settings: Settings) -> list[Finding]:
    """Return what an earlier run found; what is waived now is written down anew."""
    kept = cast(list[JsonObject], repaired.changes["findings"])
    for one in kept:
        one["waived"] = one["code"] in settings.waive
    job.finish("remediate", repaired)
    return [
        Finding(
            str(one["by"]),
            str(one["code"]),
            Severity(one["severity"]),
            str(one["text"]),
            cast("str | None", one["remedy"]),
            bool(one["waived"]),
        )
        for one in kept
    ]


def target_reasons(order: Order, firmware: Firmware | None, bytes_: int | None) -> list[Reason]:
    """Return why the target would not take the image; `bytes_` of its file, if known."""
    return list(order.target.refuses(name=order.name, size_bytes=bytes_, firmware=firmware or Firmware.BIOS))


def check_plan(order: Order, vm: Vm, now: ChangesValue) -> None:
    """Raise PlanChanged where the user approved another plan than this one."""
    approved = order.approved
    if approved is not None and not approved.holds(now):
        raise PlanChanged(
            f"{vm.name}: the plan is {now.plan} now, not {approved.plan[: len(now.plan)]} as approved; nothing was touched",
            hint="The guest, its repositories or the options have changed. Look again with `magalu-migrate preview`.",
            differences=approved.differences(now),
        )


def refuse(name: str, reasons: Sequence[Reason]) -> None:
    """Raise NotMigratable where there is a reason."""
    if reasons:
        raise NotMigratable(name, reasons)
