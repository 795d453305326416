"""A progress bar for training, on standard error."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from streamdrnn.apps.training.side_by_side import Progress as Report


@contextmanager
def training_progress() -> Iterator[Report]:
    """A function to call after every step; it draws one bar per model that is trained."""
    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
    )
    bars: dict[str, TaskID] = {}
    with Progress(*columns, console=Console(stderr=True)) as progress:

        def report(what: str, step: int, steps: int, loss: float) -> None:
            if what not in bars:
                bars[what] = progress.add_task(what, total=steps, loss=loss)
            progress.update(bars[what], completed=step, loss=loss)

        yield report
