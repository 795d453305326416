"""`streamdrnn identify`: who speaks when in a recording."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from streamdrnn.apps.speaker_id.commands.options import (
    Json,
    ModelFile,
    ProfileFile,
    Threshold,
    chosen_threshold,
    profile_store,
)
from streamdrnn.errors import InputError

if TYPE_CHECKING:
    from streamdrnn.apps.speaker_id.turns import Segment


@dataclass
class Identify:
    """Say who speaks when in a recording, by the voices that are enrolled.

    A line says from when to when (seconds), who, and how alike the voices are (cosine); unknown is a voice that nobody
    enrolled.

    Example: streamdrnn identify meeting.wav --json
    """

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE", help="A WAV, FLAC, OGG or MP3 file.")]
    profiles: ProfileFile = None
    model: ModelFile = None
    threshold: Threshold = None
    json: Json = False

    def run(self) -> None:
        from streamdrnn.apps.speaker_id.ear import Ear
        from streamdrnn.apps.speaker_id.identifier import Identifier
        from streamdrnn.apps.speaker_id.model import load_speaker_model, use_one_thread
        from streamdrnn.audio import load_audio

        use_one_thread()
        model = load_speaker_model(self.model)
        store = profile_store(self.profiles)
        voices = store.voices(model.id)
        if not voices:
            raise InputError(f"{store.path}: nobody is enrolled; first run: streamdrnn enroll NAME FILE")
        threshold = chosen_threshold(self.threshold, store, model)
        ear, identifier = Ear(model.embedder), Identifier(model.embedder, voices, threshold)
        for second in load_audio(self.file, model.sample_rate).split(model.sample_rate):
            self._print(identifier.hear(ear.push(second)))
        self._print(identifier.hear(ear.finish()))
        self._print(identifier.finish(ear.seconds))

    def _print(self, segments: "list[Segment]") -> None:
        for one in segments:
            line = f"{one.start:8.1f} {one.end:8.1f}  {one.label:<24} {one.score:5.2f}"
            print(json.dumps(one._asdict(), ensure_ascii=False) if self.json else line, flush=True)
