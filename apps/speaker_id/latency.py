"""Percentiles of a stream of delays, in constant memory."""

from typing import Optional

import numpy as np

_STEP = 0.001
_BINS = 10_001


class Latency:
    """A histogram in steps of a millisecond; from ten seconds up all is one."""

    def __init__(self) -> None:
        self._counts = np.zeros(_BINS, np.int64)

    def add(self, seconds: float) -> None:
        """Count one delay."""
        self._counts[min(max(round(seconds / _STEP), 0), _BINS - 1)] += 1

    def percentile(self, percent: float) -> Optional[float]:
        """The delay in seconds that so many percent do not exceed; None if there are none."""
        total = int(self._counts.sum())
        if not total:
            return None
        return round(int(np.searchsorted(self._counts.cumsum(), percent / 100 * total)) * _STEP, 3)
