"""A run on a terminal: a line for each stage that is done, a bar for the one that runs. Nothing else draws."""

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.progress import Progress as Bars
from rich.progress import ProgressColumn as Column
from rich.text import Text

from migrate.run import Event, Note, Progress, StageBegan, StageDone
from migrate.show import Rate
from migrate.text import clock, shown


class Screen:
    """Listens to a run while its block lasts."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._bars = Bars(
            SpinnerColumn(),
            TextColumn("{task.description:<11}"),
            BarColumn(bar_width=26),
            _Words(),
            console=self._console,
            transient=True,
        )
        self._rate = Rate()
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "Screen":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def __call__(self, event: Event) -> None:
        match event:
            case StageBegan(stage=stage):
                self._tasks[stage] = self._bars.add_task(stage, total=None, words="")
            case Progress(stage=stage, done=done, total=total) if stage in self._tasks:
                self._bars.update(self._tasks[stage], completed=done, total=total, words=self._rate.words(event))
            case StageDone(stage=stage, summary=summary, seconds=seconds):
                self._remove(stage)
                self._bars.print(_done(stage, summary, seconds, self._console.width))
            case Note(text=text, level=level):
                mark, style = ("!", "yellow") if level == "warning" else ("·", "dim")
                self._bars.print(Text(f" {mark} {shown(text)}", style))
            case _:
                pass

    def _remove(self, stage: str) -> None:
        number = self._tasks.pop(stage, None)
        if number is not None:
            self._bars.remove_task(number)


class _Words(Column):
    """What stands behind the bar."""

    def render(self, task: Task) -> Text:
        return Text(str(task.fields.get("words", "")))


def _done(stage: str, summary: str, seconds: float, width: int) -> Text:
    line = Text(" ✓ ", "green")
    line.append(f"{stage:<11} ", "default")
    room = max(20, min(width, 120) - 16 - 8)
    text = shown(summary)
    line.append(f"{text if len(text) <= room else text[: room - 1] + '…':<{room}}", "default")
    line.append(f"{clock(seconds):>7}", "dim")
    return line
