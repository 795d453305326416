"""The embedding of the last seconds, again and again: from what a stream carries, and computed afresh."""

import torch
from torch import Tensor

from streamdrnn import ModelState, SpeakerEmbedder, StreamingDRNN
from streamdrnn.apps.bench.agreement import check_same
from streamdrnn.apps.bench.tables import Row, Table
from streamdrnn.apps.bench.timing import Turns, interleaved
from streamdrnn.apps.speaker_id.identifier import FORGET_TICKS
from streamdrnn.apps.speaker_id.ticks import TICK_SECONDS


class CarriedOn:
    """The embedding of the last seconds from sums that the stream's state has anyway.

    Args:
        model: the embedder.
        ticks: how many ticks back it reaches.
    """

    def __init__(self, model: SpeakerEmbedder, ticks: int) -> None:
        self._model, self._stream = model, StreamingDRNN(model)
        self._notes = [(torch.zeros(model.rnn.hidden_size, dtype=torch.float64), 0)] * (ticks + 1)

    def hear(self, samples: Tensor) -> Tensor:
        """The next tick ``(N,)`` to the embedding ``(E,)``."""
        self._stream.push(samples[:, None])
        state = self._stream.state
        assert isinstance(state, ModelState)
        self._notes = [*self._notes[1:], (state.pooled[0, 0].clone(), int(state.rnn.cursor[0]))]
        (first, frames_before), (last, frames) = self._notes[0], self._notes[-1]
        return self._model.embed(((last - first) / (frames - frames_before)).float())


def embeddings(model: SpeakerEmbedder, sound: Tensor, windows: int) -> Table:
    """The embedding of the last three seconds at every tick: carried on, and computed afresh.

    Raises:
        ValueError: the two differ where they must not, after the first three seconds.
    """
    assert model.frontend is not None
    tick = round(TICK_SECONDS * model.frontend.sample_rate)
    window = sound[: FORGET_TICKS * tick]

    def afresh() -> Tensor:
        return model.output_so_far(model(window[:, None])[1])[0]

    with torch.inference_mode():
        carried_on = CarriedOn(model, FORGET_TICKS)
        *_, ours = (carried_on.hear(part) for part in window.split(tick))
        check_same("window afresh", "embedding of the first window", afresh(), ours)
        runs = {"carried on (ours)": lambda: carried_on.hear(window[:tick]), "window afresh": afresh}
        times = interleaved(runs, Turns(windows))
    rows: list[Row] = [
        {
            "how": how,
            "ms": taken.ms,
            "quartiles_ms": taken.quartiles_ms,
            "cores": taken.ms / (1e3 * TICK_SECONDS),
            "times_ours": taken.ms / times["carried on (ours)"].ms,
        }
        for how, taken in times.items()
    ]
    note = (
        f"The shipped model, one thread, medians of {windows} in turns; cores: if it is done every {TICK_SECONDS:g} s. "
        "Afresh is how diart and Resemblyzer use their networks, here with our model and kernels, a window in one "
        "batch; every half second it takes a fifth of that, and is up to 0.4 s later. After the first three seconds "
        "both embeddings are the same; later ours also knows what was before the window."
    )
    title = f"The embedding of the last {FORGET_TICKS * TICK_SECONDS:g} s at every tick"
    return Table("listen_windows", title, rows, (note,))
