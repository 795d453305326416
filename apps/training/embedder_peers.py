"""Other people's speaker models, which are judged beside ours on the same trials."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, pad

from streamdrnn.apps.training.embedder_judgement import Embed, in_batches
from streamdrnn.apps.training.voices import RATE
from streamdrnn.errors import InputError

HOP = RATE // 100
WINDOW, STEP = 160, 77
"""Frames of 10 ms."""
COVERED = 0.75
"""The share of the last window that must have been heard, or it is left out."""
QUIETEST = 10 ** (-30 / 20)


class Resemblyzer(nn.Module):
    """The voice encoder of Resemblyzer 0.1.4 (Apache-2.0): an LSTM over windows of 1.6 s, whose results are averaged.

    Its package is only read for the weights: its modules need others that no longer install everywhere. As there,
    faint voices are amplified to -30 dB; silence is not cut out, because trials are of speech.

    Args:
        weights: the file in its package.
    """

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.lstm = nn.LSTM(40, 256, num_layers=3, batch_first=True)
        self.linear = nn.Linear(256, 256)
        state = torch.load(weights, map_location="cpu", weights_only=True)["model_state"]
        self.load_state_dict({name: value for name, value in state.items() if not name.startswith("similarity")})

    @torch.inference_mode()
    def forward(self, voices: Tensor) -> Tensor:
        """From ``(n, N)`` samples at 16 kHz to embeddings ``(n, 256)``."""
        from librosa.feature import melspectrogram

        length = voices.shape[1]
        starts = list(range(0, max(1, -(-(length + 1) // HOP) - WINDOW + STEP + 1), STEP))
        if len(starts) > 1 and length / HOP - starts[-1] < COVERED * WINDOW:
            starts.pop()
        loudness = voices.square().mean(1, keepdim=True).sqrt().clamp(min=1e-6)
        voices = pad(voices * (QUIETEST / loudness).clamp(min=1), (0, max(0, (starts[-1] + WINDOW) * HOP - length)))
        mel = torch.from_numpy(melspectrogram(y=voices.numpy(), sr=RATE, n_fft=400, hop_length=HOP, n_mels=40)).mT
        windows = torch.stack([mel[:, start : start + WINDOW] for start in starts], 1)
        _, (top, _) = self.lstm(windows.flatten(0, 1).float())
        each = normalize(self.linear(top[-1]).relu(), dim=1)
        return normalize(each.view(len(voices), len(starts), -1).mean(1), dim=1)


def _resemblyzer() -> Embed:
    package = find_spec("resemblyzer")
    if package is None or not package.submodule_search_locations:
        raise InputError("--peer resemblyzer: not installed: pip install --no-deps resemblyzer==0.1.4")
    return in_batches(Resemblyzer(Path(package.submodule_search_locations[0]) / "pretrained.pt").eval())


PEERS: dict[str, Callable[[], Embed]] = {"resemblyzer": _resemblyzer}
"""By the names that the option takes; they raise ``ValueError`` where a package is missing."""


def installed_peers() -> dict[str, Embed]:
    """Those whose packages are there."""
    return {name: load() for name, load in PEERS.items() if find_spec(name) is not None}
