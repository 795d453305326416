"""What a task has by default, and another option makes useless, is nobody's mistake."""

import pytest

from streamdrnn.apps.training.ignored_options import without_ignored
from streamdrnn.apps.training.network import KINDS, NetworkRecipe
from streamdrnn.apps.training.training_recipe import TrainingRecipe


@pytest.mark.parametrize("kind", KINDS)
def test_a_tasks_dropout_is_left_out_of_networks_without(kind: str) -> None:
    default = NetworkRecipe(dropout=0.2)
    recipe = without_ignored(NetworkRecipe(network=kind, dropout=0.2), default)
    recipe.check()
    assert recipe.dropout == (0.2 if "dropout" in KINDS[kind].options else 0.0)


def test_what_was_asked_for_is_refused() -> None:
    recipe = without_ignored(NetworkRecipe(network="tcn", dropout=0.3), NetworkRecipe(dropout=0.2))
    with pytest.raises(ValueError, match="dropout: a tcn network has none, expected 0"):
        recipe.check()


def test_rmsprop_has_nothing_of_adams() -> None:
    default = TrainingRecipe(weight_decay=0.1, beta2=0.99)
    recipe = without_ignored(TrainingRecipe(optimizer="rmsprop", weight_decay=0.1, beta2=0.99), default)
    recipe.check()
    assert (recipe.weight_decay, recipe.beta2) == (0.0, 0.999)
    asked = TrainingRecipe(optimizer="rmsprop", weight_decay=0.2, beta2=0.99)
    with pytest.raises(ValueError, match=r"weight_decay: rmsprop has none, expected 0\.0"):
        without_ignored(asked, default).check()
    assert without_ignored(default, default) == default
