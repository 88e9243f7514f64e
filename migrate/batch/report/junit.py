"""The facts of a batch as JUnit XML: a test case a VM, for the programs that show pipelines.

There is no standard, only what Jenkins and GitLab read: testsuite with counts, testcase with failure, error or skipped in it.
"""

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from migrate.batch.facts import BatchFacts, VmFacts, VmState
from migrate.batch.report.values import left_to_do, result
from migrate.text import shown


def junit(facts: BatchFacts) -> str:
    """Return the XML. A refused VM is a failure, one that failed an error, one that has not come to an end is skipped."""
    states = [vm.state for vm in facts.vms]
    suite = Element(
        "testsuite",
        name=shown(facts.name),
        timestamp=facts.created.strftime("%Y-%m-%dT%H:%M:%S"),
        tests=str(len(states)),
        failures=str(states.count(VmState.REFUSED)),
        errors=str(states.count(VmState.FAILED)),
        skipped=str(sum(not _has_ended(state) for state in states)),
        time=f"{sum(map(_seconds, facts.vms)):.1f}",
    )
    for vm in facts.vms:
        _case(suite, facts.name, vm)
    indent(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(suite, encoding="unicode") + "\n"


def _case(suite: Element, batch: str, vm: VmFacts) -> None:
    case = SubElement(suite, "testcase", classname=shown(batch), name=shown(vm.id), time=f"{_seconds(vm):.1f}")
    told = "\n".join(left_to_do(vm))
    match vm.state:
        case VmState.REFUSED:
            SubElement(case, "failure", message=shown(vm.error or "refused"), type="refused").text = shown(told)
        case VmState.FAILED:
            SubElement(case, "error", message=shown(vm.error or "failed"), type="failed").text = shown(told)
        case VmState.DONE:
            proof = result(vm).proof
            SubElement(case, "system-out").text = shown("\n".join(filter(None, (proof, told))))
        case _:
            SubElement(case, "skipped", message=vm.state.value)


def _has_ended(state: VmState) -> bool:
    return state in (VmState.DONE, VmState.REFUSED, VmState.FAILED)


def _seconds(vm: VmFacts) -> float:
    return (vm.ended - vm.began).total_seconds() if vm.began and vm.ended else 0.0
