"""One model, one recording after the other."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from streamdrnn import Classifier, SpeakerEmbedder
from streamdrnn.apps.speaker_id.model import embed_recording
from streamdrnn.apps.weights import load_to_run
from streamdrnn.audio import load_audio
from streamdrnn.errors import InputError


class Score(NamedTuple):
    """What is known of a recording.

    Attributes:
        recording: its path below the folder, with slashes.
        output: ``(E,)`` float32, the logits or the embedding of the whole recording; zeros if there is a problem.
        problem: why it could not be heard; empty if it was.
    """

    recording: str
    output: np.ndarray
    problem: str


class Scorer:
    """Scores recordings, on one thread.

    Args:
        model: the file of a :class:`Classifier` or :class:`SpeakerEmbedder` with a front-end.
        folder: where the recordings are.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the model is another.
    """

    def __init__(self, model: Path, folder: Path) -> None:
        torch.set_num_threads(1)
        loaded = load_to_run(model)
        if not isinstance(loaded, Classifier | SpeakerEmbedder) or loaded.frontend is None:
            raise InputError(f"{model}: expected a model that judges samples: a Classifier or SpeakerEmbedder")
        self._model, self._sample_rate, self._folder = loaded, loaded.frontend.sample_rate, folder
        with torch.inference_mode():
            self._nothing = np.zeros(loaded.output_so_far(loaded.zero_state(1)).shape[1], np.float32)

    def __call__(self, recording: str) -> Score:
        """Score one; what is wrong with it is in the result."""
        try:
            samples = load_audio(self._folder / recording, self._sample_rate)
        except (OSError, InputError) as error:
            return Score(recording, self._nothing, " ".join(str(error).split()))
        return Score(recording, embed_recording(self._model, samples).float().numpy(), "")
