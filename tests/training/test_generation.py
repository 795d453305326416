"""Text is sampled from the model's own predictions, one streaming step after the other."""

import math
from collections import Counter

import pytest
import torch

from streamdrnn import DilatedRNN, Tagger
from streamdrnn.apps.training.generation import generate
from streamdrnn.apps.training.tasks.ptb import encode

CHARACTERS = "\nabcd"


@pytest.fixture
def model() -> Tagger:
    torch.manual_seed(0)
    model = Tagger(DilatedRNN(5, 8, dilations=[1, 2]), 5)
    with torch.no_grad():
        model.output.weight.mul_(10)  # else one character is about as likely as another
    return model.eval()


def sample(model: Tagger, prompt: str = "ab", length: int = 40, temperature: float = 1.0, seed: int = 0) -> str:
    return "".join(generate(model, CHARACTERS, prompt, length, temperature, seed))


def logits_after(model: Tagger, text: str) -> torch.Tensor:
    """What the model predicts after a text that it is given in batch."""
    with torch.no_grad():
        logits, _ = model(torch.eye(5)[encode(text, CHARACTERS)][:, None])
    last: torch.Tensor = logits[-1, 0]
    return last


def test_without_chance_every_character_is_the_likeliest_after_all_before_it(model: Tagger) -> None:
    text = sample(model, temperature=0)
    assert len(text) == 40
    for place, character in enumerate(text):
        assert character == CHARACTERS[int(logits_after(model, "ab" + text[:place]).argmax())]
    assert sample(model, temperature=1e-300) == text


def test_characters_are_drawn_with_their_probabilities(model: Tagger) -> None:
    draws = 500
    for temperature in (0.5, 2.0):
        drawn = Counter(sample(model, length=1, temperature=temperature, seed=seed) for seed in range(draws))
        wanted = torch.softmax(logits_after(model, "ab") / temperature, 0)
        for character, p in zip(CHARACTERS, wanted.tolist(), strict=True):
            error = 5 * math.sqrt(p * (1 - p) / draws) + 1e-3
            assert drawn[character] / draws == pytest.approx(p, abs=error), (temperature, character)


def test_a_seed_gives_a_text(model: Tagger) -> None:
    assert sample(model, seed=1) == sample(model, seed=1) != sample(model, seed=2)
    assert sample(model, length=0) == ""


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"prompt": ""}, "prompt: expected one character or more, got none"),
        ({"prompt": "xa"}, "the model knows no 'x'"),
        ({"length": -1}, "length: expected 0 or more, got -1"),
        ({"temperature": -0.5}, "temperature: expected 0 or more, got -0.5"),
        ({"temperature": math.nan}, "temperature: expected 0 or more, got nan"),
        ({"temperature": math.inf}, "temperature: expected 0 or more, got inf"),
    ],
)
def test_what_cannot_be_written_is_refused_at_once(model: Tagger, options: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        sample(model, **options)  # type: ignore[arg-type]
