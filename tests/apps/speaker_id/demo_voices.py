"""The voices and the conversation of the demo, for tests."""

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from streamdrnn.apps.speaker_id.enrolment import listen_to
from streamdrnn.apps.speaker_id.model import SpeakerModel, asset, load_speaker_model
from streamdrnn.apps.speaker_id.profiles import ProfileStore, Recording
from streamdrnn.apps.speaker_id.sources.source import Chunk
from streamdrnn.audio import load_audio

CONVERSATION = asset("conversation.flac")


class DemoVoice(NamedTuple):
    name: str
    path: Path


@cache
def model() -> SpeakerModel:
    """The shipped model."""
    return load_speaker_model()


@cache
def script() -> Any:
    """What is in the demo."""
    return json.loads(asset("demo.json").read_text(encoding="utf-8"))


@cache
def voices() -> list[DemoVoice]:
    """Who is enrolled in the demo."""
    return [DemoVoice(voice["name"], asset(voice["file"])) for voice in script()["voices"]]


@cache
def recording(path: Path) -> Recording:
    """What a recording says of its voice."""
    return listen_to(path, model())


def enrolled(path: Path) -> ProfileStore:
    """A store with all voices of the demo."""
    store = ProfileStore(path)
    for name, file in voices():
        store.add(name, model().id, [recording(file)])
    return store


def chunks(samples: Tensor, seconds: float = 0.1, sample_rate: int = 16000) -> list[Chunk]:
    """Samples as a source gives them."""
    return [Chunk(part, 0, None) for part in samples.split(round(seconds * sample_rate))]


def conversation_samples(seconds: float) -> Tensor:
    """The beginning of the conversation, at the model's rate."""
    samples: Tensor = load_audio(CONVERSATION, model().sample_rate)
    return samples[: round(seconds * model().sample_rate)]


def speech_of(number: int, seconds: float) -> Tensor:
    """One voice, over and over."""
    samples = load_audio(voices()[number].path, model().sample_rate)
    count = round(seconds * model().sample_rate)
    return torch.cat([samples] * (count // len(samples) + 1))[:count]
