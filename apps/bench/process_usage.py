"""How much memory and processor time a process has taken, as Linux counts it."""

import os
from pathlib import Path
from typing import Optional, Union

from streamdrnn.errors import InputError

_CLEAR = Path("/proc/self/clear_refs")

NEEDS = "memory is measured on Linux only (/proc/self/status and clear_refs)"


def measurable() -> bool:
    """Whether this system tells."""
    return Path("/proc/self/status").is_file() and _CLEAR.is_file()


def resident_bytes(process: Union[int, str] = "self") -> int:
    """What is resident now, of this process or of one by its number."""
    return _read("VmRSS", process)


def peak_bytes() -> int:
    """The most that was resident in this process since :func:`forget_peak`.

    ``getrusage`` has a peak too, but it starts from that of the process that started this one.
    """
    return _read("VmHWM", "self")


def forget_peak() -> None:
    """Make the peak what is resident now."""
    _CLEAR.write_text("5", encoding="ascii")


def cpu_seconds(process: int) -> Optional[float]:
    """What a process has computed so far, its threads together, where the system tells."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="ascii")
    except OSError:
        return None
    user, system = stat.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _read(name: str, process: Union[int, str]) -> int:
    for line in Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise InputError(NEEDS)
