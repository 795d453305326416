"""Resampling while the samples come in."""

import torch
from torch import Tensor

from streamdrnn.checks import check_positive, check_tensor


class StreamingResampler:
    """One channel from one sample rate to another, in chunks of any lengths (soxr, high quality).

    All outputs together are what ``soxr.resample`` gives for the whole signal. soxr's filters look ahead and work in
    blocks, so outputs come late: measured with soxr 1.1, by up to 1800 input samples to 16 kHz from 44.1 or 48 kHz
    (40 ms), and 1000 from 8 kHz (0.12 s). Equal rates pass through at once.

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
        self._flushed = False

    def push(self, samples: Tensor) -> Tensor:
        """The outputs that these samples complete.

        Args:
            samples: ``(N,)`` float32, N >= 0.

        Returns:
            ``(M,)`` float32.

        Raises:
            ValueError, TypeError: the stream was flushed, or the samples have another shape or dtype.
        """
        return self._resample(samples, last=False)

    def flush(self) -> Tensor:
        """The stream is over: the outputs that are left, ``(M,)``.

        Raises:
            ValueError: it was flushed before.
        """
        return self._resample(torch.zeros(0, dtype=torch.float32, device="cpu"), last=True)

    def _resample(self, samples: Tensor, last: bool) -> Tensor:
        check_tensor("samples", samples, (None,), "(N,)")
        if samples.dtype != torch.float32:
            raise TypeError(f"samples: expected dtype torch.float32, got {samples.dtype}")
        if self._flushed:
            raise ValueError("samples: the stream was flushed, expected a new StreamingResampler for a new stream")
        self._flushed = last
        if self._stream is None:
            return samples
        return torch.from_numpy(self._stream.resample_chunk(samples.numpy(), last=last))
