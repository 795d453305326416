"""Voices that nobody enrolled, told apart by numbers."""

from collections.abc import Collection
from typing import Optional

from streamdrnn import SpeakerEmbedder
from streamdrnn.apps.speaker_id.gathering import Gathering, joined
from streamdrnn.apps.speaker_id.profiles import Recording

_MOST = 20


class Strangers:
    """What voices that nobody enrolled have said, in constant memory.

    Args:
        model: what heard the ticks.

    Attributes:
        voices: what has been heard of each, by name ("Speaker 1").
        gathering: of speech of a stranger who has a number, or of nobody yet.
    """

    def __init__(self, model: SpeakerEmbedder) -> None:
        self.voices: dict[str, Recording] = {}
        self._number = 0
        self.gathering = Gathering(model)

    def add(self, recording: Recording, known: Collection[str]) -> Optional[str]:
        """A new stranger, whose name is none of the known; None if there are too many already."""
        if len(self.voices) == _MOST:
            return None
        self._number += 1
        while (name := f"Speaker {self._number}") in known:
            self._number += 1
        self.voices[name] = recording
        return name

    def join(self, name: str, more: Recording) -> None:
        """A known stranger has said more."""
        self.voices[name] = joined(self.voices[name], more)
