"""The streaming resampler gives what soxr gives for the whole signal."""

import pytest
import soxr
import torch
from hypothesis import given
from hypothesis import strategies as st

from streamdrnn.audio import StreamingResampler
from tests.agreement import assert_close
from tests.audio.signals import voice_like
from tests.strategies import examples


@examples(20)
@given(
    rates=st.sampled_from([(44100, 16000), (48000, 16000), (8000, 16000), (16000, 16000), (16000, 11025)]),
    chunks=st.lists(st.integers(0, 2000), min_size=1, max_size=8),
)
def test_chunks_give_what_the_whole_gives(rates: tuple[int, int], chunks: list[int]) -> None:
    y = voice_like(sum(chunks))
    resampler = StreamingResampler(*rates)
    got = torch.cat([*(resampler.push(chunk) for chunk in y.split(chunks)), resampler.flush()])
    assert_close(got, torch.from_numpy(soxr.resample(y.numpy(), *rates)) if len(y) else y)


@pytest.mark.parametrize("rate", [8000, 16000])
def test_nothing_more_can_be_pushed_after_the_end(rate: int) -> None:
    resampler = StreamingResampler(rate, 16000)
    resampler.flush()
    with pytest.raises(ValueError, match="samples: the stream was flushed"):
        resampler.push(voice_like(10))


@pytest.mark.parametrize(("rate", "late"), [(44100, 1800), (48000, 1800), (8000, 1000)])
def test_outputs_are_no_later_than_documented(rate: int, late: int) -> None:
    resampler = StreamingResampler(rate, 16000)
    heard = given_out = 0
    for chunk in voice_like(2 * rate).split(50):
        given_out += len(resampler.push(chunk))
        heard += len(chunk)
        assert heard - given_out * rate / 16000 <= late


def test_wrong_samples_are_named() -> None:
    resampler = StreamingResampler(8000, 16000)
    with pytest.raises(ValueError, match=r"samples: expected shape \(N,\) = \(any\), got \(2, 2\)"):
        resampler.push(torch.zeros(2, 2))
    with pytest.raises(TypeError, match=r"samples: expected dtype torch\.float32, got torch\.float64"):
        resampler.push(torch.zeros(2, dtype=torch.float64))
    with pytest.raises(TypeError, match="samples: expected a tensor, got list"):
        resampler.push([0.0])  # type: ignore[arg-type]


def test_wrong_rates_are_named() -> None:
    with pytest.raises(ValueError, match="rate_in: expected 1 or more, got 0"):
        StreamingResampler(0, 16000)
