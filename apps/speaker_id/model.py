"""The models that are shipped, or the user's own: of speakers, of speech, and of overlapped speech."""

import os
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple, Optional

import torch
from torch import Tensor

from streamdrnn import SpeakerEmbedder, Tagger, model_notes
from streamdrnn.apps.speaker_id.profiles import model_id
from streamdrnn.apps.speaker_id.scores import Scorer, read_scorer, read_threshold
from streamdrnn.apps.weights import load_to_run
from streamdrnn.errors import InputError
from streamdrnn.heads import Head

_CHUNK_SECONDS = 1.0


def asset(*parts: str) -> Path:
    """The path of a file that is shipped with the package."""
    return Path(str(files("streamdrnn.apps.speaker_id").joinpath("assets", *parts)))


class SpeakerModel(NamedTuple):
    """An embedder with what belongs to it.

    Attributes:
        embedder: the network with its front-end.
        scorer: what makes log likelihood ratios of its cosines, calibrated with the model.
        id: what its profiles are marked with.
    """

    embedder: SpeakerEmbedder
    scorer: Scorer
    id: str

    @property
    def sample_rate(self) -> int:
        """Samples per second of the audio that it takes."""
        assert self.embedder.frontend is not None
        return self.embedder.frontend.sample_rate


def use_one_thread() -> None:
    """For programs that only stream: threads would wait for one another longer than a frame takes to compute."""
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the speech detector, which reads it when it is loaded


def load_speaker_model(path: Optional[Path] = None) -> SpeakerModel:
    """The speaker model in a file, the shipped one by default.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or no speaker model.
    """
    path = asset("speaker.safetensors") if path is None else path
    model = load_to_run(path)
    if not isinstance(model, SpeakerEmbedder) or model.frontend is None:
        raise InputError(f"{path}: expected a SpeakerEmbedder with a front-end, got a {type(model).__name__}")
    try:
        scorer = read_scorer(model_notes(path), model.embedding_size)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return SpeakerModel(model, scorer, model_id(path))


class DetectorModel(NamedTuple):
    """A detector that is small enough for a web page.

    Attributes:
        tagger: from samples to one output every 20 ms: the logarithm of the odds of what it detects.
        threshold: the output above which that is there, calibrated with the model.
    """

    tagger: Tagger
    threshold: float


def load_activity_model(path: Optional[Path] = None) -> DetectorModel:
    """The detector of speech in a file, the shipped one by default.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or no detector.
    """
    return _load_detector(asset("activity.safetensors") if path is None else path)


def load_overlap_model(path: Optional[Path] = None) -> DetectorModel:
    """The detector of overlapped speech in a file, the shipped one by default.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or no detector.
    """
    return _load_detector(asset("overlap.safetensors") if path is None else path)


def _load_detector(path: Path) -> DetectorModel:
    model = load_to_run(path)
    if not isinstance(model, Tagger) or model.frontend is None or model.num_outputs != 1:
        raise InputError(f"{path}: expected a Tagger with a front-end and one output, got a {type(model).__name__}")
    try:
        return DetectorModel(model, read_threshold(model_notes(path)))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def embed_recording(embedder: Head, samples: Tensor) -> Tensor:
    """The embedding ``(E,)`` of a whole recording ``(N,)``, heard in chunks so that its length costs no memory.

    With another head that takes samples it is what that says at the end, for instance the logits of classes.
    """
    assert embedder.frontend is not None
    with torch.inference_mode():
        state = embedder.zero_state(1)
        for chunk in samples.split(round(_CHUNK_SECONDS * embedder.frontend.sample_rate)):
            _, state = embedder(chunk[:, None], state)
        return embedder.output_so_far(state)[0].clone()
