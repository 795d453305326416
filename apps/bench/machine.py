"""What is measured on: the processor or the GPU, and the versions."""

import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

import torch

import streamdrnn
from streamdrnn import kernels
from streamdrnn.apps.processor import processor
from streamdrnn.kernels import cpu


def cpu_facts() -> dict[str, object]:
    """The processor, the threads and the versions."""
    return {
        "processor": processor(),
        "system": system(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "streamdrnn": streamdrnn.__version__,
        "backend": f"cpu ({cpu.level()})" if kernels.available()["cpu"].usable else "torch",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "onnxruntime": version_of("onnxruntime"),
    }


def gpu_facts() -> dict[str, object]:
    """The GPU, and the versions of what drives it."""
    gpu = torch.cuda.get_device_properties("cuda")
    return {
        "gpu": gpu.name,
        "multiprocessors": gpu.multi_processor_count,
        "memory": f"{gpu.total_memory / 2**30:.0f} GiB",
        "last cache": f"{gpu.L2_cache_size / 2**20:.0f} MiB",
        "driver": driver(),
        "cuda": torch.version.cuda,
        "cudnn": cudnn_version(),
        "torch": torch.__version__,
        "triton": version_of("triton"),
        "flashrnn": version_of("flashrnn"),
        "streamdrnn": streamdrnn.__version__,
        "python": platform.python_version(),
        "system": system(),
        "processor": processor(),
    }


def model_facts() -> dict[str, object]:
    """The versions of what compiles for a GPU that is not here."""
    return {
        "gpu": "none: predictions from machine code",
        "torch": torch.__version__,
        "triton": version_of("triton"),
        "streamdrnn": streamdrnn.__version__,
    }


def version_of(package: str) -> str:
    """Of what is installed, if it is."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def system() -> str:
    """The kind of system."""
    return f"{platform.system()} {platform.machine()}"


def usable_cores() -> int:
    """The cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def driver() -> str:
    """The GPU driver's version, as its own tool says it."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.split("\n")[0].strip()


def cudnn_version() -> str:
    """As 9.1.0."""
    number = torch.backends.cudnn.version()
    return "none" if number is None else f"{number // 10000}.{number // 100 % 100}.{number % 100}"


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread, and after that as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
