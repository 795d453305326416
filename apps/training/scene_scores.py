"""What a detector says of scenes with speakers and noises unknown to it."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from streamdrnn.apps.speaker_id.model import DetectorModel
from streamdrnn.apps.training.labelled_speech import RATE, Samples, Speaker
from streamdrnn.apps.training.scenes import Conditions, Scene, make_scene

SCENES, SECONDS = 10, 30
MINUTES = 1.0
"""The most that is heard of a speaker."""
UNKNOWN_SETS = ("voices/speechocean762", "voices/wuw2")
"""They do not train the shipped detectors."""


def scenes_of(sets: Sequence[Sequence[Speaker]], noises: Sequence[Samples], conditions: Conditions) -> list[Scene]:
    """Scenes that differ from others in their conditions alone; arguments as for :func:`make_scene`."""
    return [
        make_scene(np.random.default_rng(number), sets, noises, SECONDS * RATE, conditions) for number in range(SCENES)
    ]


def outputs_of(model: DetectorModel, scenes: Sequence[Scene]) -> Tensor:
    """What a detector says ``(F, S)`` of the F frames of each scene."""
    with torch.inference_mode():
        outputs, _ = model.tagger(torch.from_numpy(np.stack([scene.samples for scene in scenes], 1)))
    said: Tensor = outputs[..., 0]
    return said


def at_frames(model: DetectorModel, values: Sequence[Samples]) -> Tensor:
    """Of values ``(N,)`` for the samples of each of S scenes those ``(F, S)`` at the ends of a detector's frames."""
    frontend = model.tagger.frontend
    assert frontend is not None
    ends = slice(frontend.window - 1, None, frontend.hop_length)
    return torch.from_numpy(np.stack([one[ends] for one in values], 1))
