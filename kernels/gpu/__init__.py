"""Stacks of dilated layers, and live streams, in Triton on NVIDIA GPUs."""

from streamdrnn.kernels.gpu.availability import can_compute, interpreted, why_not
from streamdrnn.kernels.gpu.stack import stack
from streamdrnn.kernels.gpu.stream import TritonStream

__all__ = ["TritonStream", "can_compute", "interpreted", "stack", "why_not"]
