"""Speech of one voice, gathered from the ticks of a stream in constant memory."""

from typing import Optional

from torch.nn.functional import normalize

from streamdrnn import SpeakerEmbedder
from streamdrnn.apps.speaker_id.profiles import Recording
from streamdrnn.apps.speaker_id.ticks import TICK_SECONDS, Tick, mean_embedding

ENOUGH_SECONDS = 2.0
"""Of speech of one voice without a pause: it is a recording of that voice."""


class Gathering:
    """Gathers the speech of whoever speaks.

    Args:
        model: what heard the ticks.
    """

    def __init__(self, model: SpeakerEmbedder) -> None:
        self._model = model
        self._whose: Optional[str] = None
        self._since: Optional[Tick] = None

    def take(self, before: Tick, tick: Tick, whose: Optional[str]) -> Optional[Recording]:
        """Take a tick with speech of somebody (None: of nobody known), and the one before it; give what is enough."""
        if self._since is None or whose != self._whose:
            self._since, self._whose = before, whose
        seconds = round((tick.spoken - self._since.spoken) * TICK_SECONDS, 1)
        if seconds < ENOUGH_SECONDS:
            return None
        since, self._since = self._since, None
        return Recording(seconds, mean_embedding(self._model, since, tick))

    def pause(self) -> None:
        """Forget what is not enough yet."""
        self._since = None


def joined(one: Recording, other: Recording) -> Recording:
    """Two recordings of a voice as one."""
    total = one.seconds * one.embedding + other.seconds * other.embedding
    return Recording(one.seconds + other.seconds, normalize(total, dim=0))
