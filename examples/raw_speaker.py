"""Which of six speakers says this? A network that is given samples, not features, one by one as they come.

    pip install .     # in streamdrnn's folder
    python examples/raw_speaker.py docs/results/fsdd-raw/model.safetensors 0_lucas_3.wav

It knows the six voices of the Free Spoken Digit Dataset, and nobody else; docs/training.md has what it scores.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from torch import Tensor

from streamdrnn import StreamingDRNN, load_model, model_notes
from streamdrnn.audio import load_audio

WINDOW_SECONDS = 0.25
"""What the network heard of a voice at once in its training; it begins afresh after as much."""


def log_probabilities(stream: StreamingDRNN, samples: Tensor) -> Tensor:
    """Of each speaker, by all whole windows of samples ``(N,)`` together; by all there is, if that is less than one."""
    frontend = stream.model.frontend
    length = min(len(samples), round(WINDOW_SECONDS * frontend.sample_rate))
    total = 0.0
    for window in samples[: len(samples) // length * length].split(length):
        stream.reset()
        for sample in window.view(-1, 1, 1):
            logits = stream.step(sample)
        total += logits[0].log_softmax(0)
    return total.log_softmax(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="what streamdrnn train speaker --features raw wrote")
    parser.add_argument("recordings", type=Path, nargs="+", help="WAV, FLAC, OGG or MP3")
    options = parser.parse_args()

    torch.set_num_threads(1)  # for steps this small threads would only wait for one another
    model, speakers = load_model(options.model), json.loads(model_notes(options.model)["speakers"])
    stream = StreamingDRNN(model)
    for path in options.recordings:
        samples = load_audio(path, model.frontend.sample_rate)
        begun = time.perf_counter()
        judged = log_probabilities(stream, samples)
        took, lasts = time.perf_counter() - begun, len(samples) / model.frontend.sample_rate
        probability, speaker = judged.exp().max(0)
        print(f"{path.name}: {speakers[speaker]} ({probability:.0%}), {took / lasts:.2f} s per second of sound")


if __name__ == "__main__":
    main()
