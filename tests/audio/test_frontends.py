"""Front-ends give librosa's features, in whatever chunks the samples come."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from streamdrnn.audio import MFCC, AudioState, FrontEnd, LogMel, RawWaveform
from streamdrnn.audio.mel import mel_filters
from tests.agreement import assert_close
from tests.audio.signals import FRONTENDS, voice_like
from tests.audio.uncompiled import librosa
from tests.strategies import examples

MODULES = {name: make() for name, make in FRONTENDS.items()}
frontends = st.sampled_from(sorted(MODULES)).map(MODULES.__getitem__)


def assert_close_states(got: AudioState, want: AudioState) -> None:
    for name, tensor in want.tensors().items():
        assert_close(got.tensors()[name], tensor, name)


def assert_same_bits(got: AudioState, want: AudioState) -> None:
    for name, tensor in want.tensors().items():
        assert torch.equal(got.tensors()[name], tensor), name


def librosa_log_mel(y: Tensor, frontend: LogMel) -> np.ndarray:
    config = frontend.config()
    power = librosa.feature.melspectrogram(
        y=y.numpy(),
        sr=config["sample_rate"],
        n_fft=config["n_fft"],
        win_length=config["win_length"],
        hop_length=config["hop_length"],
        n_mels=config["n_mels"],
        fmin=config["fmin"],
        fmax=config["fmax"],
        center=False,
        power=2.0,
    )
    return np.asarray(librosa.power_to_db(power, ref=1.0, amin=1e-10, top_db=None), dtype=np.float32)


@pytest.mark.filterwarnings("ignore:Empty filters")
@given(
    sample_rate=st.sampled_from([8000, 11025, 16000, 48000]),
    n_fft=st.integers(2, 2048),
    n_mels=st.integers(1, 128),
    fmin=st.floats(0, 2000),
    width=st.floats(100, 2000),
)
def test_mel_filters_are_librosas_to_the_last_bit(
    sample_rate: int, n_fft: int, n_mels: int, fmin: float, width: float
) -> None:
    want = librosa.filters.mel(
        sr=sample_rate, n_fft=n_fft, n_mels=n_mels, fmin=fmin, fmax=fmin + width, dtype=np.float64
    )
    assert np.array_equal(mel_filters(sample_rate, n_fft, n_mels, fmin, fmin + width), want)


@pytest.mark.parametrize(
    "frontend",
    [
        LogMel(),
        LogMel(n_fft=400, win_length=400, hop_length=100, n_mels=64),
        LogMel(sample_rate=8000, n_fft=300, win_length=200, hop_length=77, n_mels=23, fmin=100, fmax=3500),
    ],
    ids=["default", "whole window", "odd sizes"],
)
def test_log_mel_is_librosas(frontend: LogMel) -> None:
    y = voice_like(8000)
    features, counts, _ = frontend(y[:, None])
    want = torch.from_numpy(librosa_log_mel(y, frontend).T)
    assert counts.tolist() == [len(want)]
    assert_close(features[:, 0], want)


def test_log_mel_in_float64_is_librosas_in_float64() -> None:
    y = voice_like(8000).double()
    spectrum = librosa.stft(y.numpy(), n_fft=512, hop_length=160, win_length=400, center=False, dtype=np.complex128)
    bands = librosa.filters.mel(sr=16000, n_fft=512, n_mels=40, fmin=20, fmax=8000, dtype=np.float64)
    want = librosa.power_to_db(bands @ np.abs(spectrum) ** 2, ref=1.0, amin=1e-10, top_db=None)
    assert_close(LogMel().double()(y[:, None])[0][:, 0], torch.from_numpy(want.T.copy()))


def test_log_mel_of_silence_is_librosas_floor() -> None:
    features, _, _ = LogMel()(torch.zeros(600, 1))
    assert torch.equal(features, torch.full_like(features, -100.0))


def test_mfcc_with_deltas_is_librosas_with_the_deltas_four_frames_later() -> None:
    frontend = MFCC(n_mels=32, n_mfcc=13, deltas=2)
    y = voice_like(8000)
    features = frontend(y[:, None])[0][:, 0]
    mfcc = librosa.feature.mfcc(S=librosa_log_mel(y, frontend), n_mfcc=13)
    assert_close(features[:, :13], torch.from_numpy(mfcc.T.astype(np.float32)))
    for order in (1, 2):
        delta = librosa.feature.delta(mfcc, width=9, order=order, mode="nearest")
        want = torch.from_numpy(np.ascontiguousarray(delta.T[:-4], dtype=np.float32))
        assert_close(features[4:, 13 * order : 13 * (order + 1)], want)


def test_deltas_take_the_first_frame_to_have_lasted_for_ever() -> None:
    features = MFCC(n_mfcc=5, deltas=1)(voice_like(512)[:, None])[0]
    assert torch.allclose(features[0, 0, 5:], torch.zeros(5), atol=1e-5)


def test_raw_waveform_gives_the_samples() -> None:
    y = voice_like(20)
    features, counts, state = RawWaveform(6)(y[:, None])
    assert torch.equal(features[:, 0], y[:18].view(3, 6))
    assert counts.tolist() == [3]
    assert state.filled.tolist() == [2]


@examples(25)
@given(frontend=frontends, chunks=st.lists(st.integers(0, 700), max_size=8), double=st.booleans())
def test_chunks_give_what_the_whole_gives(frontend: FrontEnd, chunks: list[int], double: bool) -> None:
    y = voice_like(sum(chunks))[:, None].to(torch.float64 if double else torch.float32)
    whole, counts, end = frontend(y)
    parts, state = [], None
    for chunk in y.split(chunks) if chunks else ():
        features, _, state = frontend(chunk, state)
        parts.append(features)
    if state is not None:
        assert_close(torch.cat(parts), whole)
        assert_close_states(state, end)
    assert counts.tolist() == [len(whole)]


@examples(25)
@given(frontend=frontends, data=st.data())
def test_streams_with_clocks_of_their_own_are_as_if_alone(frontend: FrontEnd, data: st.DataObject) -> None:
    """Masks, lengths and resets; what is not a stream's own may be NaN."""
    B = 3
    y = torch.stack([voice_like(4000, seed) for seed in range(B)], 1)
    heard: list[list[Tensor]] = [[] for _ in range(B)]
    got: list[list[Tensor]] = [[] for _ in range(B)]
    state = frontend.zero_state(B)
    at = 0
    for _ in range(data.draw(st.integers(1, 6))):
        n = data.draw(st.integers(0, 600))
        lengths = torch.tensor([data.draw(st.sampled_from([0, n, n // 3])) for _ in range(B)])
        chunk = y[at : at + n].clone()
        chunk[torch.arange(n)[:, None] >= lengths] = float("nan")
        before = state
        features, counts, state = frontend(chunk, state, lengths)
        for b in range(B):
            heard[b].append(y[at : at + int(lengths[b]), b])
            got[b].append(features[: counts[b], b])
            assert not features[counts[b] :, b].any()
            if lengths[b] == 0:
                assert_same_bits(state.select(b), before.select(b))
        at += n
        if data.draw(st.booleans()):
            b = data.draw(st.integers(0, B - 1))
            state = state.reset(b)
            heard[b], got[b] = [], []
    for b in range(B):
        alone, _, end = frontend(torch.cat(heard[b])[:, None] if heard[b] else y[:0, :1])
        assert_close(torch.cat(got[b]) if got[b] else alone[:0, 0], alone[:, 0])
        assert_close_states(state.select(b), end)


def test_states_at_different_fill_levels_join_and_part() -> None:
    frontend = FRONTENDS["mfcc deltas"]()
    y = voice_like(3000)[:, None]
    states = [frontend(y[:n])[2] for n in (100, 1555)]
    joined = type(states[0]).stack(states)
    features, counts, joined = frontend(torch.cat([y[100:900], y[1555:2355]], 1), joined)
    for b, n in enumerate((100, 1555)):
        alone, _, state = frontend(y[n : n + 800], states[b])
        assert_close(features[: counts[b], b], alone[:, 0])
        assert_close_states(joined.select(b), state)


def test_a_state_comes_back_from_its_file(tmp_path: Path) -> None:
    frontend = FRONTENDS["mfcc deltas"]()
    _, _, state = frontend(voice_like(1555)[:, None])
    state.save(tmp_path / "state.safetensors")
    assert_same_bits(AudioState.load(tmp_path / "state.safetensors"), state)


@pytest.mark.parametrize("name", sorted(FRONTENDS))
def test_constants_survive_the_models_moves(name: str) -> None:
    """A model that went through 16 bits, or began without memory, has the features of one that did not."""
    y = voice_like(1500)[:, None]
    want = FRONTENDS[name]()(y)[0]
    exact = FRONTENDS[name]().double()(y.double())[0]
    with torch.device("meta"):
        frontend = FRONTENDS[name]()
    assert torch.equal(frontend(y)[0], want)
    assert torch.equal(frontend.to(torch.bfloat16)(y)[0], want)
    assert torch.equal(frontend.double()(y.double())[0], exact)
    assert torch.equal(frontend.to("meta").to_empty(device="cpu").float()(y)[0], want)


@pytest.mark.parametrize("name", sorted(FRONTENDS))
def test_autocast_rounds_no_features(name: str) -> None:
    frontend, y = FRONTENDS[name](), voice_like(1500)[:, None]
    want, _, end = frontend(y)
    with torch.autocast("cpu", torch.bfloat16):
        got, _, state = frontend(y)
    assert torch.equal(got, want)
    assert_same_bits(state, end)


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", sorted(FRONTENDS))
def test_torchscript_gives_the_same(name: str, tmp_path: Path) -> None:
    frontend = FRONTENDS[name]()
    y = torch.stack([voice_like(2000, seed) for seed in (0, 1)], 1)
    path = str(tmp_path / "frontend.pt")
    torch.jit.script(frontend).save(path)
    scripted = torch.jit.load(path)
    lengths = torch.tensor([1300, 0])
    got, want = scripted.zero_state(2), frontend.zero_state(2)
    for chunk, own in ((y[:700], None), (y[700:], lengths)):
        features, counts, got = scripted(chunk, got, own)
        wanted, wanted_counts, want = frontend(chunk, want, own)
        assert_close(features, wanted)
        assert_close(counts, wanted_counts)
    assert_close_states(AudioState(*got), want)


@pytest.mark.parametrize("name", sorted(FRONTENDS))
def test_the_configuration_makes_the_front_end_again(name: str) -> None:
    frontend = FRONTENDS[name]()
    again = type(frontend)(**frontend.config())
    y = voice_like(1500)[:, None]
    assert torch.equal(again(y)[0], frontend(y)[0])
    assert not frontend.state_dict(), "the constants follow from the configuration"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LogMel(n_fft=70000), "n_fft: expected 2 to 65536, got 70000"),
        (lambda: LogMel(win_length=513), "win_length: expected 1 to 512, got 513"),
        (lambda: LogMel(hop_length=0), "hop_length: expected 1 to 512, got 0"),
        (lambda: LogMel(fmin=9000), "fmin, fmax: expected 0 <= fmin < fmax <= 8000 Hz"),
        (lambda: LogMel(fmax=8001), "fmin, fmax"),
        (lambda: LogMel(sample_rate=0), "sample_rate: expected 1 or more, got 0"),
        (lambda: MFCC(n_mfcc=41), "n_mfcc: expected 1 to 40, got 41"),
        (lambda: MFCC(deltas=3), "deltas: expected 0 to 2, got 3"),
        (lambda: RawWaveform(0), "frame_length: expected 1 to 65536, got 0"),
    ],
)
def test_wrong_arguments_are_named(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


def test_wrong_types_are_named() -> None:
    with pytest.raises(TypeError, match=r"hop_length: expected an int, got 160\.0"):
        LogMel(hop_length=160.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="fmax: expected a frequency in Hz, got '8k'"):
        LogMel(fmax="8k")  # type: ignore[arg-type]


def test_wrong_calls_are_named() -> None:
    frontend = LogMel()
    with pytest.raises(ValueError, match=r"audio: expected shape \(N, B\) = \(any, any\), got \(100,\)"):
        frontend(torch.zeros(100))
    with pytest.raises(TypeError, match="audio: expected a tensor, got list"):
        frontend([0.0])
    for dtype in (torch.int16, torch.bfloat16):
        with pytest.raises(TypeError, match=rf"audio: expected dtype torch\.float32 or torch\.float64, got {dtype}"):
            frontend(torch.zeros(100, 1, dtype=dtype))
    with pytest.raises(ValueError, match="audio: expected the front-end's device cpu, got meta"):
        frontend(torch.zeros(100, 1, device="meta"))
    with pytest.raises(ValueError, match="lengths: expected values from 0 to 100"):
        frontend(torch.zeros(100, 1), None, torch.tensor([101]))
    with pytest.raises(ValueError, match=r"state.tail: expected shape \(511, 2\)"):
        frontend(torch.zeros(100, 2), frontend.zero_state(3))
    with pytest.raises(ValueError, match=r"state\.history: expected shape \(0, 1, 40\), .* got \(8, 1, 20\)"):
        frontend(torch.zeros(100, 1), MFCC(deltas=1).zero_state(1))
    with pytest.raises(ValueError, match=r"state\.tail: .* torch\.float64 on cpu, got .* torch\.float32 on cpu"):
        frontend(torch.zeros(100, 1, dtype=torch.float64), frontend.zero_state(1))
    with pytest.raises(TypeError, match="state: expected an AudioState, got Tensor"):
        frontend(torch.zeros(100, 1), torch.zeros(1))
