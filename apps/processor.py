"""What computes, for whoever reads results."""

import platform
from pathlib import Path


def processor() -> str:
    """The processor's model, as it calls itself."""
    description = Path("/proc/cpuinfo")
    if description.is_file():
        for line in description.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
