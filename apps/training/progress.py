"""How far a training is, on standard error."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from streamdrnn.apps.training.side_by_side import Progress as Report


@contextmanager
def training_progress() -> Iterator[Report]:
    """A function to call after every step: it draws a bar for each model; off a terminal, a line for each tenth."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
    )
    bars: dict[str, TaskID] = {}
    with Progress(*columns, console=console) as progress:

        def report(what: str, step: int, steps: int, loss: float) -> None:
            if what not in bars:
                bars[what] = progress.add_task(what, total=steps, loss=loss)
            progress.update(bars[what], completed=step, loss=loss)

        yield report


def _lines(console: Console) -> Report:
    def report(what: str, step: int, steps: int, loss: float) -> None:
        if 10 * step // steps > 10 * (step - 1) // steps:
            console.out(f"{what}: {step} of {steps} steps, loss {loss:.3f}", highlight=False)

    return report
