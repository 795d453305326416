"""Speech of enrolled voices that is theirs beyond doubt: their profiles may grow by it."""

from streamdrnn import SpeakerEmbedder
from streamdrnn.apps.speaker_id.gathering import Gathering, joined
from streamdrnn.apps.speaker_id.profiles import ProfileStore, Recording
from streamdrnn.apps.speaker_id.ticks import Tick

SURE = 0.95
"""The probability from which a moment is beyond doubt."""
LEAST_SECONDS = 5.0
"""Of such speech; less is not kept, as of an enrolment that is warned of."""


class Confirmed:
    """What enrolled voices have said beyond doubt, in constant memory.

    Args:
        model: what heard the ticks.

    Attributes:
        voices: what has been heard of each, by name.
    """

    def __init__(self, model: SpeakerEmbedder) -> None:
        self.voices: dict[str, Recording] = {}
        self._gathering = Gathering(model)

    def hear(self, before: Tick, tick: Tick, name: str) -> None:
        """Take a tick with speech that is somebody's beyond doubt, and the one before it."""
        more = self._gathering.take(before, tick, name)
        if more is not None:
            self.voices[name] = joined(self.voices[name], more) if name in self.voices else more

    def pause(self) -> None:
        """Nobody speaks, or it is not certain who."""
        self._gathering.pause()


def keep_confirmed(confirmed: Confirmed, store: ProfileStore, model_id: str) -> dict[str, float]:
    """Add to the profiles what their voices have said; give its seconds by name.

    It counts for at most as much as what the profile had before, so that what was enrolled on purpose outweighs it.

    Raises:
        ValueError: some profile was made with another model.
    """
    kept = {}
    profiles = store.voices(model_id)
    for name, (seconds, embedding, _) in confirmed.voices.items():
        if name in profiles and seconds >= LEAST_SECONDS:
            kept[name] = min(seconds, profiles[name].seconds)
            store.add(name, model_id, [Recording(kept[name], embedding)])
    return kept
