"""Resampling while the samples come in."""

import torch
from torch import Tensor

from streamdrnn.checks import check_positive


class StreamingResampler:
    """One channel from one sample rate to another, in chunks of any lengths (soxr, high quality).

    All outputs together are what ``soxr.resample`` gives for the whole signal. The filter looks ahead, so an output
    comes some hundred samples after the input it belongs to.

    Args:
        rate_in, rate_out: samples per second.

    Raises:
        ValueError, TypeError: a rate is no positive int.
    """

    def __init__(self, rate_in: int, rate_out: int) -> None:
        check_positive("rate_in", rate_in)
        check_positive("rate_out", rate_out)
        import soxr

        self._stream = None if rate_in == rate_out else soxr.ResampleStream(rate_in, rate_out, 1, dtype="float32")

    def push(self, samples: Tensor) -> Tensor:
        """The outputs that these samples complete.

        Args:
            samples: ``(N,)`` float32, N >= 0.

        Returns:
            ``(M,)`` float32.

        Raises:
            ValueError: the stream was flushed, or the samples have another shape or dtype.
        """
        return self._resample(samples, last=False)

    def flush(self) -> Tensor:
        """The stream is over: the outputs that are left, ``(M,)``."""
        return self._resample(torch.zeros(0), last=True)

    def _resample(self, samples: Tensor, last: bool) -> Tensor:
        if samples.dim() != 1 or samples.dtype != torch.float32:
            raise ValueError(f"samples: expected float32 of shape (N,), got {samples.dtype} {tuple(samples.shape)}")
        if self._stream is None:
            return samples
        try:
            return torch.from_numpy(self._stream.resample_chunk(samples.numpy(), last=last))
        except RuntimeError as error:
            raise ValueError(f"samples: the resampler takes no more ({error})") from None
