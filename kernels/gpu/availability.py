"""Whether the Triton kernels can run here. Nothing in this file imports Triton, which takes a while."""

import importlib.util
import os
from typing import Optional

import torch
from torch import Tensor

CAPABILITY = (8, 0)
"""The oldest compute capability that the kernels are compiled and checked for."""


_found: Optional[str] = None


def interpreted() -> bool:
    """Whether Triton runs its kernels in Python on CPU tensors (TRITON_INTERPRET=1), as the tests do without a GPU."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def why_not() -> str:
    """Why the kernels cannot be used on this machine; empty where they can."""
    global _found
    if _found is None:
        if torch.compiler.is_compiling():  # which cannot trace how it is found out
            return ""
        _found = _find_out()
    return _found


def _find_out() -> str:
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    if interpreted():
        return ""
    if not torch.cuda.is_available():
        return "there is no CUDA device"
    if torch.version.hip is not None:
        return "AMD GPUs have not been tried"
    capability = torch.cuda.get_device_capability()
    if capability < CAPABILITY:
        have, need = (".".join(map(str, version)) for version in (capability, CAPABILITY))
        return f"the GPU has compute capability {have}, {need} is needed"
    return ""


def can_compute(x: Tensor) -> bool:
    """Whether the kernels can take tensors like x, whose dtype is that of the states."""
    return x.dtype == torch.float32 and (x.is_cuda or (interpreted() and x.device.type == "cpu")) and not why_not()
