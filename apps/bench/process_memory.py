"""How much memory this process has, as Linux counts it."""

from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")

NEEDS = "memory is measured on Linux only (/proc/self/status and clear_refs)"


def measurable() -> bool:
    """Whether this system tells."""
    return _STATUS.is_file() and _CLEAR.is_file()


def resident_bytes() -> int:
    """What is resident now."""
    return _read("VmRSS")


def peak_bytes() -> int:
    """The most that was resident since :func:`forget_peak`.

    ``getrusage`` has a peak too, but it starts from that of the process that started this one.
    """
    return _read("VmHWM")


def forget_peak() -> None:
    """Make the peak what is resident now."""
    _CLEAR.write_text("5", encoding="ascii")


def _read(name: str) -> int:
    for line in _STATUS.read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return 1024 * int(line.split()[1])
    raise ValueError(NEEDS)
