"""Hiss as the clips of ESC-10."""

from pathlib import Path

import numpy as np
import soundfile

from streamdrnn.apps.training.labelled_speech import RATE


def write_noises(folder: Path) -> None:
    """A clip of a second in each fold, in a data folder."""
    (folder / "noise" / "rain").mkdir(parents=True)
    for fold in range(1, 6):
        hiss = np.random.default_rng(fold).normal(0, 0.1, RATE)
        soundfile.write(folder / "noise" / "rain" / f"{fold}-17367-A.wav", hiss, RATE)
