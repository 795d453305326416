"""Two processes on gloo: gradients are averaged, weights are sharded, numbers stay those of one process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from streamdrnn import Classifier, DilatedRNN, StreamingDRNN
from tests.agreement import assert_close

X = torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(1))


def model_of() -> Classifier:
    torch.manual_seed(0)
    return Classifier(DilatedRNN(3, 4, 2), 2)


def loss_of(model: Any, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
    y, state = model(x, state)
    return y.square().mean(), state


def train(model: Any, x: Tensor, steps: int = 2) -> None:
    """Truncated backpropagation: the state goes from one chunk to the next."""
    optimizer, state = torch.optim.SGD(model.parameters(), 0.5), None
    for chunk in x.chunk(steps):
        loss, state = loss_of(model, chunk, state)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        state = state.detach()


def ddp(rank: int) -> None:
    model = DistributedDataParallel(model_of())
    train(model, X[:, 2 * rank : 2 * rank + 2])
    want = model_of()
    train(want, X)
    for mine, theirs in zip(model.module.parameters(), want.parameters(), strict=True):
        assert_close(mine, theirs)


def fsdp(rank: int) -> None:
    """Every parameter is a half of its own on each process; the modules are called, so hooks gather them."""
    model: Any = model_of()
    fully_shard(model.rnn)
    fully_shard(model)
    assert type(model.rnn.weight_hh_l0).__name__ == "DTensor"
    train(model, X[:, 2 * rank : 2 * rank + 2])
    want = model_of()
    train(want, X)
    for name, theirs in want.named_parameters():
        assert_close(model.get_parameter(name).full_tensor().detach(), theirs.detach(), name)


def sharded_without_gathering(rank: int) -> None:
    """A stream or a kernel that is given a shard says so in one line, and never reads it as the whole."""
    model: Any = model_of()
    fully_shard(model)
    with pytest.raises((TypeError, ValueError, RuntimeError)) as error:
        StreamingDRNN(model, 2).push(X[:, :2])
    assert "DTensor" in str(error.value)


TASKS: list[Callable[[int], None]] = [ddp, fsdp, sharded_without_gathering]


def _process(rank: int, meeting: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    try:
        for task in TASKS:
            task(rank)
    finally:
        dist.destroy_process_group()


def test_two_processes_compute_what_one_does(tmp_path: Path) -> None:
    """In data parallel, sharded, and where a shard meets a stream: two processes for all, as they take seconds."""
    mp.spawn(_process, (str(tmp_path / "meeting"),), nprocs=2)
