"""The Triton kernels as a backend."""

from collections.abc import Sequence
from typing import Optional

from torch import Tensor
from torch.nn import functional

from streamdrnn.kernels.autocast import autocasts
from streamdrnn.kernels.backend import Stream
from streamdrnn.kernels.gpu import availability
from streamdrnn.kernels.gpu.linear import linear
from streamdrnn.kernels.gpu.plans import groups, skewed_wanted
from streamdrnn.kernels.gpu.skewed_stream import SkewedStream
from streamdrnn.kernels.gpu.stack import stack
from streamdrnn.kernels.gpu.stream import TritonStream
from streamdrnn.kernels.operators import watched
from streamdrnn.kernels.weights import AS_THEY_ARE, FusionWeights, Weights


class TritonBackend:
    """A :class:`streamdrnn.kernels.backend.Backend` for float32 states on an NVIDIA GPU."""

    name = "triton"
    stack = stack
    runtime = None

    def why_not(self) -> str:
        return availability.why_not()

    def takes(self, x: Tensor) -> bool:
        return availability.can_compute(x)

    def linear(self, x: Tensor, weight: Tensor, bias: Optional[Tensor]) -> Tensor:
        """With skewed scans with the same bits for a row whatever the others, but under autocast and for tracers."""
        by_row = skewed_wanted() and self.takes(x) and x.numel() > 0 and not autocasts(x)
        if not by_row or watched([x, weight, bias]):
            return functional.linear(x, weight, bias)
        return linear(x, weight, bias)

    def stream(
        self,
        cell: str,
        weights: Sequence[Weights],
        dilations: Sequence[int],
        fusion: Optional[FusionWeights],
        batch_size: int,
        held: str = AS_THEY_ARE,
    ) -> Stream:
        """The kernel of batches where it takes all layers, else one for single steps."""
        found = groups(cell, [w.w_hh.shape[1] for w in weights])
        given = (cell, weights, dilations, fusion, batch_size, held)
        return SkewedStream(found, *given) if all(group.columns for group in found) else TritonStream(*given)


TRITON = TritonBackend()
