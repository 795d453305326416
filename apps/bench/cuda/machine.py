"""What is measured on: the GPU, the versions, and what the device could do at most."""

import platform
import subprocess
from importlib.metadata import version

import torch

import streamdrnn
from streamdrnn.apps.bench import machine
from streamdrnn.apps.bench.cuda import flashrnn
from streamdrnn.apps.bench.cuda.ceilings import Ceilings
from streamdrnn.apps.bench.cuda.works import Sizes


def gpu_facts() -> dict[str, object]:
    """The GPU and the versions of what drives it; nothing that names the machine or its user."""
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
        "triton": version("triton"),
        "flashrnn": flashrnn.installed(),
        "streamdrnn": streamdrnn.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": machine.processor(),
    }


def ceiling_facts(ceilings: Ceilings, sizes: Sizes) -> dict[str, object]:
    """What was measured of the device, in words."""
    rates = ", ".join(f"{name} {rate / 1e12:.3g}" for name, rate in ceilings.flop_per_s.items())
    return {
        "copy": f"{ceilings.bytes_per_s / 1e9:.3g} GB/s, read and written ({sizes.copied_bytes / 2**20:g} MiB)",
        "matrix product": f"{rates} TFLOP/s ({sizes.product} x {sizes.product} x {sizes.product})",
        "launch": f"{ceilings.launch_s * 1e6:.3g} us until the end of the smallest operation is known",
    }


def driver() -> str:
    """The driver's version, as its own tool says it."""
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
