"""One dilated layer in torch operations: the phases are folded into the batch."""

from streamdrnn.kernels.pytorch.layer import layer
from streamdrnn.kernels.pytorch.scan import step

__all__ = ["layer", "step"]
