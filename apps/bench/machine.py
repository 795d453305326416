"""What is measured on: the processor, its speed limit, and the versions."""

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import torch

import streamdrnn
from streamdrnn import kernels
from streamdrnn.kernels import cpu


class Peak(NamedTuple):
    """The most that this processor can multiply and add.

    Attributes:
        gflops: 10^9 floating point operations per second, of all of torch's threads.
        source: how it was measured.
    """

    gflops: float
    source: str


def machine_facts() -> dict[str, object]:
    """The processor, the threads and the versions; nothing that names the machine or its user."""
    backend = kernels.resolve("auto", torch.empty(0))
    facts: dict[str, object] = {
        "processor": processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "streamdrnn": streamdrnn.__version__,
        "backend": f"{backend} ({cpu.level()})" if backend == "cpu" else backend,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    try:
        facts["onnxruntime"] = version("onnxruntime")
    except PackageNotFoundError:
        facts["onnxruntime"] = "not installed"
    return facts


def processor() -> str:
    """The processor's model, as it calls itself."""
    description = Path("/proc/cpuinfo")
    if description.is_file():
        for line in description.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """The cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def measured_peak(seconds: float) -> Peak:
    """The fastest multiply-adds in float32, on as many threads as torch uses; measured once."""
    threads = torch.get_num_threads()
    if not cpu.why_not():
        return Peak(cpu.fma_peak(threads, seconds), f"multiply-adds in registers, {threads} thread(s)")
    return Peak(
        max(matmul_gflops(size, seconds / 4) for size in (256, 512, 1024, 2048)),
        f"torch's fastest float32 matrix product, {threads} thread(s): a stand-in, below the real peak",
    )


def matmul_gflops(size: int, seconds: float) -> float:
    """The best rate of torch's product of two square float32 matrices."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    best, until = 0.0, time.perf_counter() + seconds
    while best == 0.0 or time.perf_counter() < until:
        start = time.perf_counter_ns()
        torch.mm(a, b)
        best = max(best, 2 * size**3 / (time.perf_counter_ns() - start))
    return best


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread, and after that as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
