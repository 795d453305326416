"""The Triton kernels as a backend."""

from typing import Optional

from torch import Tensor
from torch.nn import functional

from streamdrnn.kernels.gpu import availability
from streamdrnn.kernels.gpu.stack import stack
from streamdrnn.kernels.gpu.stream import TritonStream


class TritonBackend:
    """A :class:`streamdrnn.kernels.backend.Backend` for float32 states on an NVIDIA GPU."""

    name = "triton"
    stack = stack
    stream = TritonStream
    runtime = None

    def why_not(self) -> str:
        return availability.why_not()

    def takes(self, x: Tensor) -> bool:
        return availability.can_compute(x)

    def linear(self, x: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:
        return functional.linear(x, weight, bias)


TRITON = TritonBackend()
