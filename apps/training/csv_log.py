"""The log of a run as a CSV file, as one of accelerate's trackers."""

import csv
import os
from pathlib import Path
from typing import Any, Optional

from accelerate.tracking import GeneralTracker, on_main_process


class CSVLog(GeneralTracker):
    """One line per logged value: step, name, value.

    Args:
        path: the file.

    Attributes:
        first_step: where the run goes on; lines of later steps are of a run that was interrupted, and will come again.
    """

    name = "csv"
    requires_logging_directory = False

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.first_step = 0

    @property
    def tracker(self) -> Path:
        return self.path

    @on_main_process
    def start(self) -> None:
        lines = read_log(self.path) if self.path.is_file() else []
        # Beside its place first: a run that is killed here keeps its log.
        partial = self.path.with_name(f".{self.path.name}.partial")
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(("step", "name", "value"))
            writer.writerows(line for line in lines if line[0] <= self.first_step)
        os.replace(partial, self.path)

    @on_main_process
    def log(self, values: dict[str, Any], step: Optional[int] = None, **kwargs: Any) -> None:
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows((step, name, value) for name, value in values.items())


def read_log(path: Path) -> list[tuple[int, str, float]]:
    """The lines of a log: step, name and value; a last line that was cut off is left out."""
    with path.open(newline="", encoding="utf-8") as file:
        lines = file.read().split("\n")[1:-1]  # as csv ends them, or as tools that change text files do
    return [(int(step), name, float(value)) for step, name, value in csv.reader(lines)]
