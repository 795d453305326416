"""A run's folder: what was trained, by which code, and what came of it."""

import json
import os
import platform
import shlex
import subprocess
import sys
from dataclasses import MISSING, Field, asdict, fields
from pathlib import Path
from typing import Any, Optional

from streamdrnn.apps.processor import processor
from streamdrnn.apps.training.tasks.task import Recipe
from streamdrnn.errors import InputError

CONFIGURATION, RESULTS = "run.json", "results.json"
CHECKPOINT, MODEL, LOG = "checkpoint.safetensors", "model.safetensors", "log.csv"


class RunFolder:
    """The files of one run.

    Args:
        path: the folder; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint = path / CHECKPOINT
        self.model = path / MODEL
        self.log = path / LOG

    def start(self, recipe: Recipe, data: dict[str, str], processes: int) -> None:
        """Make the folder, with the run's configuration and origin in it.

        Args:
            data: what the task says of its data, by which they are known again.

        Raises:
            FileExistsError: it is there, and not empty.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if any(path.name != self._partial(CONFIGURATION).name for path in self.path.iterdir()):
            raise FileExistsError(f"{self.path}: not empty; --resume goes on with the run in it")
        self._write(CONFIGURATION, describe(recipe, data, processes))

    def is_started(self) -> bool:
        """Whether there is a run in the folder."""
        return (self.path / CONFIGURATION).is_file()

    def check_same(self, recipe: Recipe, data: dict[str, str], processes: int) -> None:
        """Raise ``ValueError`` unless the run was started with this recipe and data, on as many processes."""
        self.check_recipe(recipe)
        stored = self.configuration()
        started_on = stored.get("processes")
        if started_on != processes:
            raise InputError(f"{self.path}: a run with processes {started_on}, asked to go on with {processes}")
        for name, fact in data.items():
            if stored.get("data", {}).get(name) != fact:
                raise InputError(f"{self.path}: the data have changed since the run was started: other {name}")

    def check_recipe(self, recipe: Recipe) -> None:
        """Raise ``ValueError`` unless the run was started with this recipe."""
        stored = self.configuration()
        if stored.get("task") != recipe.name:
            raise InputError(f"{self.path}: a run with task {stored.get('task')}, asked to go on with {recipe.name}")
        asked = _flat(_as_json(recipe))
        # A run from before there was some option was made with its default.
        given = {field.name: getattr(recipe, field.name) for field in fields(recipe) if _has_no_default(field)}
        were = _flat(_as_json(type(recipe)(**given))) | _flat(stored.get("recipe", {}))
        for name, was in were.items():
            if asked.get(name) != was:
                raise InputError(f"{self.path}: a run with {name} {was}, asked to go on with {asked.get(name)}")

    def configuration(self) -> dict[str, Any]:
        """What :meth:`start` wrote.

        Raises:
            FileNotFoundError, ValueError: there is no run, or its file is damaged.
        """
        return self._read(CONFIGURATION)

    def write_results(self, results: dict[str, Any]) -> None:
        """Write what came of the run."""
        self._write(RESULTS, results)

    def results(self) -> Optional[dict[str, Any]]:
        """What came of the run; None before its end."""
        return self._read(RESULTS) if (self.path / RESULTS).is_file() else None

    def _write(self, name: str, content: dict[str, Any]) -> None:
        # Beside its place first, then moved there: a run that is killed leaves no half a file.
        partial = self._partial(name)
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        os.replace(partial, self.path / name)

    def _partial(self, name: str) -> Path:
        return self.path / f".{name}.partial"

    def _read(self, name: str) -> dict[str, Any]:
        path = self.path / name
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; expected the folder of a run of streamdrnn train")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{path}: damaged ({error})") from None
        if not isinstance(content, dict):
            raise InputError(f"{path}: damaged (expected a JSON object)")
        return content


def describe(recipe: Recipe, data: dict[str, str], processes: int) -> dict[str, Any]:
    """The configuration and origin of a run, as JSON has it."""
    import accelerate
    import torch

    import streamdrnn

    return {
        "task": recipe.name,
        "recipe": _as_json(recipe),
        "data": data,
        "command": shlex.join(["streamdrnn", *sys.argv[1:]]),
        "git_revision": _git_revision(),
        "versions": {
            "streamdrnn": streamdrnn.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "accelerate": accelerate.__version__,
        },
        "machine": {
            "processor": processor(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "threads": torch.get_num_threads(),
        },
        "processes": processes,
    }


def _has_no_default(field: "Field[Any]") -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _as_json(recipe: Recipe) -> dict[str, Any]:
    """A recipe as it is read back: lists for tuples."""
    fields: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    return fields


def _flat(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe's fields by the names of their options."""
    fields: dict[str, Any] = {}
    for name, value in recipe.items():
        fields |= value if isinstance(value, dict) else {name: value}
    return fields


def _git_revision() -> Optional[str]:
    """The revision of the source that runs, with ``+`` if it was changed since; None outside a git checkout."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        revision = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        changes = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return revision.stdout.strip() + ("+" if changes.stdout else "")
