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


def finish_embedder(folder: Path, voices: Sequence[Voice]) -> None:
    """Write ``model.safetensors``, the first fold's model with calibrated scores, and its card ``model.md``.

    The voices of the folds calibrate and judge the models that never heard them.

    Args:
        voices: all of the training.

    Raises:
        FileNotFoundError, ValueError: the folds' models are not there, or are none.
    """
    models = fold_models(folder, voices)
    notes = model_notes(folder / "fold-1.safetensors")
    trials = fold_trials(models, voices)
    model, left_out = models[0]
    strange = {(voice.corpus, voice.speaker) for voice in left_out}
    heard = [voice for voice in voices if (voice.corpus, voice.speaker) not in strange]
    calibrated = calibrate_model(trials, model, heard)
    # Half the bytes for a web page to load; what a rounded weight changes is below what a microphone does.
    save_model(model.half(), folder / "model.safetensors", {"task": "embedder", **notes, **calibrated})
    model.float()
    comparison = compare(calibrated_parts(models, trials), installed_peers())
    card = model_card(model, json.loads(notes["recipe"]), voices, len(models), int(notes["folds"]), comparison)
    (folder / "model.md").write_text(card, encoding="utf-8")
