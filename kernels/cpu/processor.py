"""Which instructions the kernels use, and how fast they can be."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from streamdrnn.kernels.cpu.library import load

_LEVELS = ("avx512", "avx2", "portable")


def level() -> str:
    """The instructions in use: ``"avx512"``, ``"avx2"`` or ``"portable"``."""
    name: bytes = load().streamdrnn_level()
    return name.decode()


def levels() -> list[str]:
    """The levels that this processor and this build have, the best first."""
    before = level()
    found = [name for name in _LEVELS if load().streamdrnn_set_level(name.encode())]
    load().streamdrnn_set_level(before.encode())
    return found


@contextmanager
def use_level(name: str) -> Iterator[None]:
    """Compute with the instructions of another level; for tests and measurements, and not thread-safe.

    Raises:
        ValueError: this processor or build has no such level.
    """
    before = level()
    if not load().streamdrnn_set_level(name.encode()):
        raise ValueError(f"level: got {name!r}, expected one of {', '.join(levels())}")
    try:
        yield
    finally:
        load().streamdrnn_set_level(before.encode())


def fma_peak(threads: int = 1, seconds: float = 0.2) -> float:
    """The multiply-add rate of so many threads at once, in GFLOP/s (two operations each), measured in registers."""
    measure = load().streamdrnn_multiply_adds_per_second
    with ThreadPoolExecutor(threads) as pool:
        rates: list[float] = list(pool.map(measure, [seconds] * threads))
    return 2e-9 * sum(rates)
