"""Voices that nobody enrolled, told apart by numbers."""

from collections.abc import Collection
from typing import Optional

from torch.nn.functional import normalize

from streamdrnn.apps.speaker_id.model import SpeakerModel
from streamdrnn.apps.speaker_id.profiles import Recording
from streamdrnn.apps.speaker_id.ticks import TICK_SECONDS, Tick, mean_embedding

ENOUGH_SECONDS = 2.0
"""Of speech without a pause that is nobody's: then it has a number."""
_MOST = 20


class Strangers:
    """Gathers the speech that nobody enrolled, in constant memory.

    Args:
        model: what heard the ticks.

    Attributes:
        voices: what has been heard of each, by name ("Speaker 1").
    """

    def __init__(self, model: SpeakerModel) -> None:
        self.voices: dict[str, Recording] = {}
        self._model = model.embedder
        self._whose: Optional[str] = None  # whose speech it is that is gathered; None is nobody's yet
        self._since: Optional[Tick] = None

    def gather(self, before: Tick, tick: Tick, whose: Optional[str]) -> Optional[Recording]:
        """Take a tick with speech of a stranger, or of nobody yet, and the one before it; give what is enough of it."""
        if self._since is None or whose != self._whose:
            self._since, self._whose = before, whose
        seconds = round((tick.spoken - self._since.spoken) * TICK_SECONDS, 1)
        if seconds < ENOUGH_SECONDS:
            return None
        since, self._since = self._since, None
        return Recording(seconds, mean_embedding(self._model, since, tick))

    def pause(self) -> None:
        """Nobody speaks, or somebody who is enrolled: what is gathered is forgotten."""
        self._since = None

    def add(self, recording: Recording, known: Collection[str]) -> Optional[str]:
        """A new stranger, whose name is none of the known; None if there are too many already."""
        if len(self.voices) == _MOST:
            return None
        number = 1
        while (name := f"Speaker {number}") in known or name in self.voices:
            number += 1
        self.voices[name] = recording
        return name

    def join(self, name: str, more: Recording) -> None:
        """A known stranger has said more."""
        seconds, embedding, _ = self.voices[name]
        total = seconds * embedding + more.seconds * more.embedding
        self.voices[name] = Recording(seconds + more.seconds, normalize(total, dim=0))
