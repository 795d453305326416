"""Framing against its definition: every stream cut by itself."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from streamdrnn.audio.framing import next_frames
from tests.strategies import examples, randn, seeds


@examples(60)
@given(data=st.data(), window=st.integers(1, 9), N=st.integers(0, 25), B=st.integers(1, 4), seed=seeds)
def test_every_stream_is_cut_as_if_alone(data: st.DataObject, window: int, N: int, B: int, seed: int) -> None:
    hop = data.draw(st.integers(1, window))
    lengths = data.draw(st.lists(st.integers(0, N), min_size=B, max_size=B))
    filled = data.draw(st.lists(st.integers(0, window - 1), min_size=B, max_size=B))
    if data.draw(st.booleans(), "one clock"):
        lengths, filled = [N] * B, filled[:1] * B
    audio, tail = randn(N, B, seed=seed), randn(window - 1, B, seed=seed + 1)
    for b in range(B):
        audio[lengths[b] :, b] = float("nan")
        tail[: window - 1 - filled[b], b] = 0
    frames, counts, new_tail, new_filled = next_frames(
        audio, torch.tensor(lengths), tail, torch.tensor(filled), window, hop
    )
    assert len(frames) == counts.max()
    assert frames.isfinite().all(), "also beyond a stream's own frames, where gradients pass"
    if N:
        padded, *rest = next_frames(audio, torch.tensor(lengths), tail, torch.tensor(filled), window, hop, padded=True)
        assert len(padded) == -(-N // hop) >= len(frames)
        assert torch.equal(padded[: len(frames)], frames)
        assert all(map(torch.equal, rest, (counts, new_tail, new_filled)))
    for b in range(B):
        waiting = torch.cat([tail[window - 1 - filled[b] :, b], audio[: lengths[b], b]])
        own = []
        while len(waiting) >= window:
            own.append(waiting[:window])
            waiting = waiting[hop:]
        assert counts[b] == len(own)
        for t, frame in enumerate(own):
            assert torch.equal(frames[t, b], frame)
        assert new_filled[b] == len(waiting)
        assert torch.equal(new_tail[window - 1 - len(waiting) :, b], waiting)
        assert not new_tail[: window - 1 - len(waiting), b].any(), "no sample stays that no frame will read"


@pytest.mark.parametrize("N", [0, 5])
def test_a_batch_without_streams_has_no_frames(N: int) -> None:
    none = torch.zeros(0, dtype=torch.int64)
    frames, counts, tail, filled = next_frames(torch.zeros(N, 0), none, torch.zeros(2, 0), none, 3, 2)
    assert (frames.shape, counts.shape, tail.shape, filled.shape) == ((0, 0, 3), (0,), (2, 0), (0,))
