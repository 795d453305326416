"""Where is measured, and on whose clock."""

import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from streamdrnn import kernels
from streamdrnn.errors import InputError


class Target(NamedTuple):
    """A device that works beside the processor.

    Attributes:
        device: torch's name of it.
        backend: the backend under test.
        synchronize: returns when the device has done all that it was given.
        cache_bytes: what its last cache holds.
    """

    device: str
    backend: str
    synchronize: Callable[[], None]
    cache_bytes: int

    def clock(self) -> int:
        """Nanoseconds, read when the device has done its work.

        A run between two readings is what its caller waits for: launches, the work and the wait for its end (some
        microseconds). Events on the device would leave out what the processor does before the first launch, which of
        many small launches is most of the time.
        """
        self.synchronize()
        return time.perf_counter_ns()

    @property
    def kind(self) -> str:
        """The kind of device, as autocast wants it."""
        return torch.device(self.device).type


def gpu() -> Target:
    """The GPU that torch would take, with the Triton kernels.

    Raises:
        ValueError: there is none, or the kernels cannot run here.
    """
    if not torch.cuda.is_available():
        why = "has no CUDA" if torch.version.cuda is None else "finds no NVIDIA GPU"
        raise InputError(f"--device cuda needs an NVIDIA GPU: torch {torch.__version__} {why}")
    kernels.check_backend("triton")
    cache_bytes = torch.cuda.get_device_properties("cuda").L2_cache_size
    return Target("cuda", "triton", torch.cuda.synchronize, cache_bytes)
