"""The rings' gathers, slot by slot."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from streamdrnn.kernels.rings import in_time_order, last_of, steps_made
from tests.strategies import examples, lengths, randn, seeds

clocks = st.lists(st.one_of(st.integers(0, 40), st.integers(0, 2**60)), min_size=1, max_size=4).map(torch.tensor)
rings = st.integers(0, 9)


@examples(60)
@given(d=rings, cursor=clocks, seed=seeds)
def test_entry_k_is_what_step_cursor_plus_k_overwrites(d: int, cursor: Tensor, seed: int) -> None:
    B = len(cursor)
    ring = randn(d, B, 2, seed=seed)
    ordered = in_time_order(ring, cursor) if d else ring
    assert ordered.shape == (d, B, 2)
    for k in range(d):
        for b in range(B):
            assert torch.equal(ordered[k, b], ring[(int(cursor[b]) + k) % d, b])


@examples(60)
@given(d=st.integers(1, 9), T=st.integers(0, 20), cursor=clocks, data=st.data(), seed=seeds)
def test_the_ring_after_a_chunk_is_that_of_writing_step_by_step(
    d: int, T: int, cursor: Tensor, data: st.DataObject, seed: int
) -> None:
    B = len(cursor)
    ring, new = randn(d, B, 2, seed=seed), randn(T, B, 2, seed=seed + 1)
    made = data.draw(lengths(T, B))
    got = last_of(torch.cat([in_time_order(ring, cursor), new]), d, cursor, made)
    want = ring.clone()
    for b in range(B):
        for t in range(int(made[b])):
            want[(int(cursor[b]) + t) % d, b] = new[t, b]
    assert torch.equal(got, want)


def test_steps_made_marks_each_streams_first_steps() -> None:
    made = steps_made(3, torch.tensor([0, 2, 3]))
    assert made.shape == (3, 3, 1)
    assert made[:, :, 0].tolist() == [[False, True, True], [False, True, True], [False, False, True]]
