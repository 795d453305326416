"""From trained weights to a speaker model that is used: calibrated scores, and a card."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from streamdrnn import SpeakerEmbedder, model_notes, save_model
from streamdrnn.apps.speaker_id.model import embed_recording
from streamdrnn.apps.training.embedder_judgement import Part, compare, embedding, fold_models
from streamdrnn.apps.training.embedder_peers import installed_peers
from streamdrnn.apps.training.model_card import model_card
from streamdrnn.apps.training.score_calibration import calibrate_model
from streamdrnn.apps.training.voices import Voice


def finish_embedder(folder: Path, model: SpeakerEmbedder, voices: Sequence[Voice]) -> None:
    """Write ``model.safetensors`` and ``model.md`` beside the models of the folds, which calibrate and judge.

    Raises:
        FileNotFoundError, ValueError: the folds' models are not there, or are none.
    """
    models = fold_models(folder, voices)
    notes = model_notes(folder / "fold-1.safetensors")
    parts = [(partial(embed_recording, fold), left_out) for fold, left_out in models]
    calibrated = calibrate_model(parts, model, voices)
    # Half the bytes for a web page to load; what a rounded weight changes is below what a microphone does.
    path = folder / "model.safetensors"
    save_model(model.half(), path, {"task": "embedder", "recipe": notes["recipe"], **calibrated})
    model.float()
    comparison = compare([Part(embedding(fold), left_out) for fold, left_out in models], installed_peers())
    card = model_card(model, json.loads(notes["recipe"]), voices, len(models), int(notes["folds"]), comparison)
    (folder / "model.md").write_text(card, encoding="utf-8")
