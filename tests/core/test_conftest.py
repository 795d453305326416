"""The tests' own precautions work."""

import torch


def test_fresh_memory_is_poisoned() -> None:
    assert torch.empty(3, 2).isnan().all()
    assert torch.empty(4, dtype=torch.float64).isnan().all()
    assert torch.empty_like(torch.zeros(5)).isnan().all()
    assert torch.zeros(2).new_empty(7).isnan().all()
    assert (torch.empty(3, dtype=torch.int64) == torch.iinfo(torch.int64).max).all()
