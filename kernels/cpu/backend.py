"""The native CPU kernels as a backend."""

from typing import Optional

import torch
from torch import Tensor
from torch.nn import functional

from streamdrnn.kernels.autocast import autocasts
from streamdrnn.kernels.cpu import library
from streamdrnn.kernels.cpu.linear import linear
from streamdrnn.kernels.cpu.runtime import CPURuntime
from streamdrnn.kernels.cpu.stack import stack
from streamdrnn.kernels.cpu.stream import CPUStream


class CPUBackend:
    """A :class:`streamdrnn.kernels.backend.Backend` for float32 on the CPU."""

    name = "cpu"
    stack = stack
    stream = CPUStream
    runtime = CPURuntime

    def why_not(self) -> str:
        return library.why_not()

    def would_take(self, x: Tensor) -> bool:
        """Whether it computes on x where it can be used at all."""
        return x.dtype == torch.float32 and x.device.type == "cpu"

    def takes(self, x: Tensor) -> bool:
        return self.would_take(x) and not self.why_not()

    def linear(self, x: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:
        if x.dtype == weight.dtype == torch.float32 and x.device == weight.device and not autocasts(x):
            return linear(x, weight, bias)
        return functional.linear(x, weight, bias)


CPU = CPUBackend()
