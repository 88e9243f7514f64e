"""`batch status` as a screen: a line about the whole, then the VMs that matter now, as many as there is room for."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from migrate.batch.facts import BatchFacts, VmFacts, VmState
from migrate.text import clock, shown, size, took

ORDER = (
    VmState.RUNNING,
    VmState.FAILED,
    VmState.REFUSED,
    VmState.PAUSED,
    VmState.WAITING,
    VmState.CANCELLED,
    VmState.DONE,
)
WORDS = {
    VmState.DONE: "done",
    VmState.RUNNING: "running",
    VmState.FAILED: "failed",
    VmState.REFUSED: "refused",
    VmState.PAUSED: "paused",
    VmState.WAITING: "wait",
    VmState.CANCELLED: "cancelled",
}
STYLES = {
    VmState.RUNNING: "",
    VmState.FAILED: "red",
    VmState.REFUSED: "yellow",
    VmState.PAUSED: "cyan",
    VmState.DONE: "green",
}
BAR = 12
LONGEST_NAME = 28


def headline(found: BatchFacts) -> str:
    """Return the line about the whole batch: how many are where, how much is moved, and how long it may still take."""
    parts = [shown(found.name)]
    if found.is_paused:
        parts.append("paused")
    parts.append(f"{found.counts.get(VmState.DONE, 0)} of {len(found.vms)} done")
    others = (one for one in ORDER if one is not VmState.DONE and found.counts.get(one))
    parts += [f"{found.counts[one]} {WORDS[one]}" for one in others]
    total = sum(vm.disk_bytes or 0 for vm in found.vms)
    if total:
        moved = sum(vm.disk_bytes or 0 for vm in found.vms if vm.state is VmState.DONE)
        parts.append(f"{size(moved)} of {size(total)}")
    if found.window_closes is not None:
        parts.append(f"window closes {found.window_closes:%H:%M} UTC")
    if (left := _left(found)) is not None:
        parts.append(f"about {took(left)} left")
    if found.counts.get(VmState.RUNNING, 0) + found.counts.get(VmState.WAITING, 0) and not any(
        worker.is_alive for worker in found.workers
    ):
        parts.append("no worker runs")
    return " · ".join(parts)


def screen(found: BatchFacts, rows: int | None = None) -> RenderableType:
    """Return the line about the whole and a table of the VMs, at most so many rows; what is left out is counted."""
    ordered = sorted(found.vms, key=lambda vm: (ORDER.index(vm.state), -vm.priority))
    kept = ordered if rows is None else ordered[: max(1, rows)]
    parts: list[RenderableType] = [Text(headline(found), "bold"), _table(kept, found.at)]
    if rest := ordered[len(kept) :]:
        parts.append(Text(f"  … and {', '.join(_counted(rest))} (--all shows them)", "dim"))
    return Group(*parts)


def _counted(vms: Sequence[VmFacts]) -> Iterator[str]:
    for state in ORDER:
        if count := sum(vm.state is state for vm in vms):
            yield f"{count} {WORDS[state]}"


def _table(vms: Sequence[VmFacts], now: datetime) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_edge=False, header_style="dim", expand=True)
    names = max((len(shown(vm.id)) for vm in vms), default=0)
    table.add_column("  VM", no_wrap=True, width=2 + min(max(names, 2), LONGEST_NAME))
    table.add_column("stage", no_wrap=True, width=10)
    table.add_column("progress", no_wrap=True, width=BAR + 5)
    table.add_column("rate", no_wrap=True, justify="right", width=10)
    table.add_column("left", no_wrap=True, justify="right", width=8)
    table.add_column("last", overflow="ellipsis", no_wrap=True, ratio=1)
    for vm in vms:
        style = STYLES.get(vm.state, "dim")
        runs = vm.state is VmState.RUNNING
        rate = f"{size(vm.rate)}/s" if runs and vm.rate and vm.unit == "B" else "·" if runs else ""
        left = clock(vm.left_s) if runs and vm.left_s is not None else ""
        table.add_row(
            Text(f"  {shown(vm.id)}", style),
            Text((vm.stage or "begins") if runs else WORDS[vm.state], style),
            _progress(vm),
            rate,
            left,
            Text(_last(vm, now), style),
        )
    return table


def _progress(vm: VmFacts) -> RenderableType:
    if vm.state is not VmState.RUNNING:
        return Text(vm.stage or "", "dim") if vm.state in (VmState.FAILED, VmState.PAUSED) else Text("")
    if not vm.total or vm.done is None:
        return Text("")
    row = Table.grid(padding=(0, 1, 0, 0))
    row.add_row(ProgressBar(vm.total, min(vm.done, vm.total), width=BAR), f"{100 * vm.done / vm.total:.0f}%")
    return row


def _last(vm: VmFacts, now: datetime) -> str:
    match vm.state:
        case VmState.WAITING:
            return vm.waits_for + (f" · {shown(vm.last)}" if vm.last and vm.attempt else "")
        case VmState.FAILED:
            return f"{shown(vm.error or vm.last)} → batch retry {shown(vm.id)}"
        case VmState.REFUSED:
            return "; ".join(f"{one.code} {shown(one.text)}" for one in vm.reasons) or shown(vm.last)
        case VmState.DONE if vm.began and vm.ended:
            return f"{shown(vm.last)} · {took((vm.ended - vm.began).total_seconds())}"
        case VmState.RUNNING if vm.waits_for:
            return vm.waits_for
    return shown(vm.last)


def _left(found: BatchFacts) -> float | None:
    """Seconds until the batch is done, from how long what is done took. None where too little is known."""
    began = min((vm.began for vm in found.vms if vm.began), default=None)
    if began is None:
        return None
    weight = {vm.id: vm.disk_bytes or 1 for vm in found.vms}
    done = sum(weight[vm.id] for vm in found.vms if vm.state is VmState.DONE)
    left = sum(weight[vm.id] for vm in found.vms if not vm.state.is_final)
    return (found.at - began).total_seconds() * left / done if done and left else None
