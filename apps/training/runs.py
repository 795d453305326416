"""Runs of ``streamdrnn train`` as they lie in their folders."""

from pathlib import Path
from typing import Optional

from streamdrnn.apps.training import network
from streamdrnn.apps.training.network import Model, NetworkRecipe
from streamdrnn.apps.training.run_folder import RunFolder
from streamdrnn.apps.training.tasks.registry import RECIPES
from streamdrnn.apps.training.tasks.task import Recipe, Task
from streamdrnn.apps.training.training_recipe import TrainingRecipe
from streamdrnn.errors import InputError


def recipe_of(folder: RunFolder) -> Recipe:
    """The recipe that a run was started with.

    Raises:
        FileNotFoundError, ValueError: there is no run, or its configuration is damaged or of another release.
    """
    stored = folder.configuration()
    try:
        options = dict(stored["recipe"])
        # A run from before there was some option was made with its default.
        network_recipe = NetworkRecipe(**options.pop("network"))
        network_recipe.dilations = tuple(network_recipe.dilations)
        training_recipe = TrainingRecipe(**options.pop("training"))
        return RECIPES[stored["task"]](network=network_recipe, training=training_recipe, **options)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder.path}: not a run of this release ({error})") from None


def load_run(folder: RunFolder, data_dir: Optional[Path]) -> tuple[Model, Task]:
    """A run's best model, on the CPU, and its task with the data.

    Raises:
        OSError, ValueError: the run or its data are missing or damaged.
    """
    recipe = recipe_of(folder)
    task = recipe.load(data_dir)
    sizes = (task.input_size, task.num_outputs, task.per_step, task.audio_input)
    return network.load(folder.model, recipe.network, *sizes), task
