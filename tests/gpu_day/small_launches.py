"""Launch every kernel once at small sizes, with everything that it can be asked for: for tools that watch a program.

``python -m tests.gpu_day.small_launches 5 3`` takes 5 steps of 3 streams. Results are not looked at: the tests do that.
"""

import os
import sys
from typing import Optional
from unittest.mock import patch

import torch

from streamdrnn import StreamingDRNN
from streamdrnn.kernels import CELLS
from streamdrnn.kernels.gpu import scan
from streamdrnn.kernels.gpu.plans import SWITCH, Plan, candidates, choose
from tests.kernels.cases import DEVICE
from tests.strategies import Network, randn

WIDTHS = (20, 200)
"""Units of layers that fit into registers, and of layers that do not."""


def main(T: int = 5, B: int = 3) -> None:
    for cell in CELLS:
        for H in WIDTHS:
            network = Network(3, H, (1, 2), cell, dtype=torch.float32)
            plans = {plan for cores in (False, True) for plan in candidates(cell, H, cores, B)}
            for plan in sorted(plans):
                _train(network, T, B, plan)
            _step(network, B)
        os.environ[SWITCH] = "1"
        network = Network(3, 20, tuple(2**layer for layer in range(9)), cell, dtype=torch.float32)
        _train(network, T, B)
        _step(network, B)
        del os.environ[SWITCH]
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def _train(network: Network, T: int, B: int, plan: Optional[Plan] = None) -> None:
    """Forward and backward, with the plan if one is given."""
    model = network.build("triton").to(DEVICE)
    x = randn(T, B, 3, seed=0, dtype=torch.float32).to(DEVICE)
    lengths = torch.arange(B, device=DEVICE) % (T + 1)
    with patch.object(scan, "choose", lambda key, plans, run: plan or choose(key, plans, run)):
        y, state = model.chunk(x, model.zero_state(B), lengths)
        (y.sum() + sum(h.sum() for h in state.h)).backward()


def _step(network: Network, B: int) -> None:
    live = StreamingDRNN(network.build("triton").to(DEVICE), B)
    for x_t in randn(2, B, 3, seed=0, dtype=torch.float32).to(DEVICE):
        live.step(x_t, torch.arange(B, device=DEVICE) % 3 != 1)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
