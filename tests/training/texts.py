"""A text that is no data set: words in a random order, from which a little can be learned."""

import random

from streamdrnn.apps.training.tasks.ptb import PTBRecipe, PTBTask


def text(words: int, seed: int) -> str:
    return " ".join(random.Random(seed).choices(["one", "two", "three", "nine"], k=words)) + "\n"


TEXTS = {"train": text(900, 0), "valid": text(100, 1), "test": text(100, 2)}


def text_task(recipe: PTBRecipe) -> PTBTask:
    """The task of a recipe, on this text."""
    return PTBTask(TEXTS, recipe.training, recipe.window)
