"""Layers in torch operations: the phases are folded into the batch."""

from streamdrnn.kernels.pytorch.layer import layer

__all__ = ["layer"]
