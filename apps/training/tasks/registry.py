"""The tasks that can be trained."""

from streamdrnn.apps.training.tasks.activity import ActivityRecipe
from streamdrnn.apps.training.tasks.copying import CopyRecipe
from streamdrnn.apps.training.tasks.labelled_series import CSVRecipe
from streamdrnn.apps.training.tasks.mnist import MNISTRecipe, NoisyMNISTRecipe
from streamdrnn.apps.training.tasks.overlap import OverlapRecipe
from streamdrnn.apps.training.tasks.ptb import PTBRecipe
from streamdrnn.apps.training.tasks.speaker import SpeakerRecipe
from streamdrnn.apps.training.tasks.task import Recipe

RECIPES: dict[str, type[Recipe]] = {
    recipe.name: recipe
    for recipe in (
        CopyRecipe,
        MNISTRecipe,
        NoisyMNISTRecipe,
        PTBRecipe,
        SpeakerRecipe,
        ActivityRecipe,
        OverlapRecipe,
        CSVRecipe,
    )
}
"""By the names that ``streamdrnn train`` takes, in the order of its help."""
