"""Where is measured: the device, its clock, and what it is."""

import importlib.util
import math
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from streamdrnn import kernels
from streamdrnn.apps.bench import machine
from streamdrnn.apps.bench.choices import Device, Precision
from streamdrnn.errors import InputError


class Target(NamedTuple):
    """A device, and how is measured on it.

    Attributes:
        name: the option's word for it.
        device: torch's name of it.
        backend: the backend under test.
        precisions: of matrix products that it can be asked for.
        facts: what it is, for the results; nothing that names the machine or its user.
        clock: nanoseconds, read when the device has done its work.
        cache_bytes: what the last cache of a device holds whose passes are to find their inputs in memory.
        repeats: turns of each contender, unless its turns take
        seconds_each: so long.
        total_seconds: after this no further comparison begins; one that has begun ends, with what it must compile.
    """

    name: Device
    device: str
    backend: str
    precisions: tuple[Precision, ...]
    facts: Callable[[], dict[str, object]]
    clock: Callable[[], int] = time.perf_counter_ns
    cache_bytes: int = 0
    repeats: int = 7
    seconds_each: float = 10.0
    total_seconds: float = math.inf

    @property
    def kind(self) -> str:
        """The kind of device, as autocast wants it."""
        return torch.device(self.device).type


def clock_after(synchronize: Callable[[], None]) -> Callable[[], int]:
    """Nanoseconds, read when a device that works beside the processor has done all that it was given.

    A run between two readings is what its caller waits for: launches, the work and the wait for its end (some
    microseconds). Events on the device would leave out what the processor does before the first launch, which of many
    small launches is most of the time.
    """

    def clock() -> int:
        synchronize()
        return time.perf_counter_ns()

    return clock


def cpu() -> Target:
    """The processor, with the native kernels where they can be used."""
    return Target(name="cpu", device="cpu", backend="auto", precisions=("ieee",), facts=machine.cpu_facts)


def gpu() -> Target:
    """The GPU that torch would take, with the Triton kernels.

    Raises:
        InputError: there is none, or the kernels cannot run here.
    """
    if not torch.cuda.is_available():
        why = "has no CUDA" if torch.version.cuda is None else "finds no NVIDIA GPU"
        raise InputError(f"--device cuda needs an NVIDIA GPU: torch {torch.__version__} {why}")
    usable, reason = kernels.available()["triton"]
    if not usable:
        raise InputError(f"--device cuda needs the backend triton: {reason}")
    return Target(
        name="cuda",
        device="cuda",
        backend="triton",
        precisions=("tf32", "ieee", "bf16", "fp16"),
        facts=machine.gpu_facts,
        clock=clock_after(torch.cuda.synchronize),
        cache_bytes=torch.cuda.get_device_properties("cuda").L2_cache_size,
        repeats=21,
        seconds_each=0.3,
        total_seconds=450.0,
    )


def model() -> Target:
    """No device: what can be said of a GPU from code that is compiled for it.

    Raises:
        InputError: Triton is not installed, which compiles it.
    """
    if importlib.util.find_spec("triton") is None:
        raise InputError("--device model needs Triton, which is not installed")
    return Target("model", "cpu", "triton", ("ieee", "tf32"), machine.model_facts)


TARGETS: dict[Device, Callable[[], Target]] = {"cpu": cpu, "cuda": gpu, "model": model}
