"""The watched pages: the report's parts in a frame that asks for them again."""

from pathlib import Path

from jinja2 import Environment

from migrate.batch.facts import BatchFacts, EventFacts, VmFacts, VmState
from migrate.batch.report.page import FOLDER as REPORT
from migrate.batch.report.page import detail, overview
from migrate.html import asset, environment, policy

FOLDER = Path(__file__).with_name("assets")


def policy_of_pages() -> str:
    """Return what these pages may do: style and run what is theirs, and ask this server."""
    return policy(_css(), _script(), "connect-src 'self'", "frame-ancestors 'none'")


def batches(names: tuple[str, ...]) -> str:
    return _templates().get_template("batches.html").render(names=names, css=_css())


def batch(facts: BatchFacts, *, control: bool) -> str:
    """Return the page of a batch; `control` shows what pauses, resumes and cancels."""
    return (
        _templates()
        .get_template("batch.html")
        .render(
            title=facts.name,
            overview=overview(facts),
            states=tuple(state.value for state in VmState),
            css=_css(),
            script=_script(),
            control=control,
        )
    )


def parts(facts: BatchFacts) -> dict[str, str]:
    """Return what of the batch's page changes, by the elements' ids."""
    module = _templates().get_template("live.html").make_module({"overview": overview(facts)})
    return {name: str(getattr(module, name)()) for name in ("head", "rows", "charts", "todo")}


def vm(batch_name: str, facts: VmFacts, log: tuple[EventFacts, ...], *, control: bool) -> str:
    """Return the page of one VM."""
    return (
        _templates()
        .get_template("vm.html")
        .render(
            batch=batch_name,
            one=detail(facts),
            log=log,
            css=_css(),
            script=_script(),
            control=control,
            title=facts.name,
        )
    )


def vm_parts(facts: VmFacts, log: tuple[EventFacts, ...]) -> dict[str, str]:
    module = _templates().get_template("live_vm.html").make_module({"one": detail(facts), "log": log})
    return {name: str(getattr(module, name)()) for name in ("detail", "log_lines")}


def _templates() -> Environment:
    return environment(FOLDER, REPORT)


def _css() -> str:
    return asset(REPORT / "report.css") + asset(FOLDER / "dashboard.css")


def _script() -> str:
    return asset(REPORT / "report.js") + asset(FOLDER / "dashboard.js")
