"""Every contender computes what the network does, or says why it cannot."""

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, Optional

import pytest
import torch
from torch import Tensor, nn

from streamdrnn import DilatedRNN
from streamdrnn.apps.bench import contenders, peers
from streamdrnn.apps.bench.choices import CELLS, Cell, Precision
from streamdrnn.apps.bench.comparison import compare
from streamdrnn.apps.bench.contenders import SEQUENCES, STEPS, Network
from streamdrnn.apps.bench.flashrnn import flashrnn
from streamdrnn.apps.bench.jobs import Audio, Passes, Steps
from streamdrnn.apps.bench.timing import Turns
from streamdrnn.apps.bench.workloads import Case, Workload
from tests.agreement import assert_close
from tests.apps.bench.stand_in import STAND_IN, WORKLOAD, on_cpu

LENGTHS = (1, 3, 4, 5, 13)
"""Below the largest dilation, at it, and no multiple of it."""
COMPILED = "loop torch.compile"


@pytest.mark.parametrize("name", ["ours", "reshape", "torch", "loop", "loop TorchScript"])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("T", LENGTHS)
def test_outputs_and_gradients_are_those_of_float64(name: str, cell: Cell, T: int) -> None:
    for train in (False, True):
        passes = Passes(STAND_IN, Case(WORKLOAD._replace(steps=T), cell, train))
        errors = passes.errors(SEQUENCES[name](passes.model, "ieee"), "ieee")
        assert errors.outputs < 1e-5
        assert errors.gradients is None if not train else errors.gradients is not None and errors.gradients < 1e-5


def test_a_training_step_gives_the_gradients_of_the_sum_of_squares() -> None:
    passes = Passes(STAND_IN, Case(WORKLOAD, "gru", train=True))
    passes.contender("ours", "ieee").run()
    got = [weight.grad for weight in passes.model.parameters()]
    y, _ = passes.model(passes.inputs[0])
    want = torch.autograd.grad(y.square().sum(), list(passes.model.parameters()))
    for one, other in zip(got, want, strict=True):
        assert one is not None
        assert_close(one, other)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("name", [name for name in STEPS if name != COMPILED])
def test_a_live_step_has_our_outputs(cell: str, name: str) -> None:
    model = DilatedRNN(2, 5, 3, cell=cell).eval()
    step = STEPS[name](model, 4)
    x = torch.randn(13, 4, 2)
    with torch.inference_mode():
        assert_close(torch.stack([step(x_t).clone() for x_t in x]), model(x)[0])


def test_audio_is_the_same_in_chunks_and_one_by_one() -> None:
    target = on_cpu().target
    case = Case(WORKLOAD._replace(batch=1, steps=20), "gru")
    audio = Audio(target, case, chunk=6)
    with torch.inference_mode():
        for name in (contenders.PUSHED, contenders.STEPPED):
            assert audio.contender(name, "ieee").errors().outputs < 1e-5


def test_a_compiled_peer_has_our_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """That it compiles is tested with the CPU's suites; here, that the right thing would be."""
    compiled: list[nn.Module] = []

    def keep(module: nn.Module, **_: object) -> nn.Module:
        compiled.append(module)
        return module

    monkeypatch.setattr(torch, "compile", keep)
    model = DilatedRNN(2, 5, 3)
    x = torch.randn(13, 4, 2)
    for name in ("torch.compile", COMPILED):
        assert_close(SEQUENCES[name](model, "tf32").forward(x), model(x)[0])
    with torch.inference_mode():
        step = STEPS[COMPILED](model, 4)
        assert_close(torch.stack([step(x_t) for x_t in x]), model(x)[0])
    assert len(compiled) == 3


def test_all_states_of_a_live_step_are_of_inference_mode() -> None:
    """A compiled step would else be compiled once more for each layer, and torch stops at eight."""
    model = DilatedRNN(2, 5, 3)
    seen: set[bool] = set()
    step = peers.StackStep(model)

    def seeing(x: Tensor, h: list[Tensor], c: list[Tensor]) -> Any:
        seen.update(state.is_inference() for state in h)
        return step(x, h, c)

    live = peers.live(model, seeing, 4)
    with torch.inference_mode():
        for x_t in torch.randn(9, 4, 2):
            live(x_t)
    assert seen == {True}


def test_a_missing_compiler_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor.exc import InvalidCxxCompiler

    def no_compiler(model: DilatedRNN, streams: int) -> Callable[[Tensor], Tensor]:
        def step(x_t: Tensor) -> Tensor:
            raise InvalidCxxCompiler

        return step

    monkeypatch.setitem(STEPS, COMPILED, no_compiler)
    run = on_cpu()
    (found,) = compare(run, "here", Case(WORKLOAD, "gru"), Steps, {"ieee": ("ours", COMPILED)}, Turns(1))
    ours, compiled = found.outcomes.values()
    assert compiled.times is None
    assert "C++ compiler" in compiled.why_not
    assert ours.times is not None
    assert not run.problems


def test_without_onnxruntime_its_row_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(peers.CannotRunError, match=r"onnxruntime.*\.\[bench\]"):
        peers.live_onnx(DilatedRNN(1, 2, 1), 1)


def fake_flashrnn(
    Wx: Tensor,
    R: Tensor,
    b: Tensor,
    states: Optional[Tensor] = None,
    function: str = "lstm",
    config: Optional[object] = None,
    backend: str = "cuda_fused",
    dtype: str = "bfloat16",
) -> tuple[Tensor, Tensor]:
    """FlashRNN 1.0.8's signature and shapes on torch's LSTM: gates (B, T, 4, N, H) to states (2, B, T, N, H)."""
    assert (states, function, config, backend) == (None, "lstm", None, "triton_fused")
    assert f"torch.{dtype}" == str(Wx.dtype) == str(R.dtype) == str(b.dtype)
    B, T, gates, heads, H = Wx.shape
    assert (gates, heads) == (4, 1)
    assert R.shape == (4, 1, H, H)
    assert b.shape == (4, 1, H)
    lstm = nn.LSTM(4 * H, H, batch_first=True)
    weights = (torch.eye(4 * H), R.float().reshape(4 * H, H), b.float().reshape(4 * H), torch.zeros(4 * H))
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    x = Wx.float().reshape(B, T, 4 * H)
    with torch.autocast("cpu", enabled=False):
        h, _ = torch.func.functional_call(lstm, dict(zip(names, weights, strict=True)), x)
    h = h.to(Wx.dtype)
    states = torch.stack([h, torch.full_like(h, torch.nan)])[:, :, :, None]
    return states, states[:, :, -1:]


@pytest.fixture
def _flashrnn_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    package = ModuleType("flashrnn")
    package.flashrnn = fake_flashrnn  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "flashrnn", package)


@pytest.mark.usefixtures("_flashrnn_is_there")
@pytest.mark.parametrize("dilations", [[1], [4], [2, 1, 3]])
@pytest.mark.parametrize("T", [1, 8, 13])
def test_flashrnn_gets_phases_as_rows(dilations: list[int], T: int) -> None:
    model = DilatedRNN(2, 16, dilations=dilations, cell="lstm", fuse=False)
    x = torch.randn(T, 3, 2, requires_grad=True)
    dy = torch.randn(T, 3, 16)
    weights = list(model.parameters())
    ours, theirs = model(x)[0], flashrnn(model, "tf32")(x)
    assert_close(theirs, ours)
    for got, want in zip(
        torch.autograd.grad(theirs, [x, *weights], dy), torch.autograd.grad(ours, [x, *weights], dy), strict=True
    ):
        assert_close(got, want)


@pytest.mark.usefixtures("_flashrnn_is_there")
def test_flashrnn_computes_in_the_precision_of_autocast() -> None:
    workload = Workload("some", batch=3, steps=13, inputs=2, hidden=16, layers=2)
    passes = Passes(STAND_IN, Case(workload, "lstm", train=True))
    network = Network(flashrnn(passes.model, "bf16"), list(passes.model.parameters()))
    errors = passes.errors(network, "bf16")
    assert not errors.excess("bf16")
    assert errors.excess("tf32")


@pytest.mark.usefixtures("_flashrnn_is_there")
@pytest.mark.parametrize(
    ("hidden", "cell", "precision", "problem"),
    [
        (16, "gru", "tf32", "for LSTM cells"),
        (20, "lstm", "tf32", "for H of 16, 32, 64"),
        (16, "lstm", "ieee", "products are tf32"),
    ],
)
def test_flashrnn_says_what_it_cannot_do(hidden: int, cell: str, precision: Precision, problem: str) -> None:
    with pytest.raises(peers.CannotRunError, match=problem):
        flashrnn(DilatedRNN(2, hidden, 1, cell=cell), precision)


@pytest.mark.parametrize(("missing", "problem"), [("flashrnn", "not installed"), ("einops", "needs einops")])
def test_flashrnn_may_be_missing(missing: str, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_module(name: str) -> None:
        raise ModuleNotFoundError(name=missing)

    monkeypatch.setattr("streamdrnn.apps.bench.flashrnn.importlib.import_module", no_module)
    with pytest.raises(peers.CannotRunError, match=f"flashrnn: {problem}"):
        flashrnn(DilatedRNN(2, 16, 1, cell="lstm"), "tf32")
