"""From trained weights to a speaker model that is used: calibrated scores, and a card."""

import json
from collections.abc import Sequence
from pathlib import Path

from streamdrnn import SpeakerEmbedder, model_notes, save_model
from streamdrnn.apps.training.embedder_judgement import Part, compare, embedding, fold_models
from streamdrnn.apps.training.embedder_peers import installed_peers
from streamdrnn.apps.training.model_card import model_card
from streamdrnn.apps.training.score_calibration import (
    Trials,
    calibrate_model,
    fold_trials,
    scorers_without_each_corpus,
)
from streamdrnn.apps.training.voices import Voice


def calibrated_parts(models: Sequence[tuple[SpeakerEmbedder, list[Voice]]], trials: Sequence[Trials]) -> list[Part]:
    """Models and the voices left out of their training, with what makes probabilities of their cosines."""
    return [
        Part(embedding(model), left_out, scorers_without_each_corpus(of_model))
        for (model, left_out), of_model in zip(models, trials, strict=True)
    ]


def finish_embedder(folder: Path, model: SpeakerEmbedder, voices: Sequence[Voice]) -> None:
    """Write ``model.safetensors`` and ``model.md`` beside the models of the folds, which calibrate and judge.

    Raises:
        FileNotFoundError, ValueError: the folds' models are not there, or are none.
    """
    models = fold_models(folder, voices)
    notes = model_notes(folder / "fold-1.safetensors")
    trials = fold_trials(models, voices)
    calibrated = calibrate_model(trials, model, voices)
    # Half the bytes for a web page to load; what a rounded weight changes is below what a microphone does.
    path = folder / "model.safetensors"
    save_model(model.half(), path, {"task": "embedder", "recipe": notes["recipe"], **calibrated})
    model.float()
    comparison = compare(calibrated_parts(models, trials), installed_peers())
    card = model_card(model, json.loads(notes["recipe"]), voices, len(models), int(notes["folds"]), comparison)
    (folder / "model.md").write_text(card, encoding="utf-8")
