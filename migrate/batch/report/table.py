"""The facts of a batch as CSV: a line a VM, for spreadsheets."""

import csv as comma
import io

from migrate.batch.facts import BatchFacts, VmFacts
from migrate.batch.report.values import left_to_do, result
from migrate.text import one_line

COLUMNS = (
    "id",
    "name",
    "address",
    "state",
    "stage",
    "image",
    "image_id",
    "began",
    "ended",
    "seconds",
    "attempts",
    "worker",
    "disk_bytes",
    "read_bytes",
    "image_bytes",
    "proof",
    "login",
    "error",
    "left_to_do",
)

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the begin of a formula. Source: OWASP, CSV Injection."""


def csv(facts: BatchFacts) -> str:
    """Return the table. What came from a guest or a cloud cannot become a formula."""
    file = io.StringIO()
    writer = comma.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for vm in facts.vms:
        writer.writerow(_plain(cell) for cell in _cells(vm))
    return file.getvalue()


def _cells(vm: VmFacts) -> tuple[object, ...]:
    found = result(vm)
    return (
        vm.id,
        vm.name,
        vm.address,
        vm.state.value,
        vm.stage,
        vm.image,
        found.image_id,
        vm.began and vm.began.isoformat(),
        vm.ended and vm.ended.isoformat(),
        round((vm.ended - vm.began).total_seconds()) if vm.began and vm.ended else None,
        vm.attempt,
        vm.worker,
        vm.disk_bytes,
        found.read_bytes,
        found.image_bytes,
        found.proof,
        found.login,
        vm.error,
        " | ".join(left_to_do(vm)),
    )


def _plain(cell: object) -> object:
    if not isinstance(cell, str):
        return cell
    text = one_line(cell)
    return f"'{text}" if text.startswith(_FORMULA) else text
