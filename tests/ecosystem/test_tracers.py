"""What looks at a network's operators instead of its numbers: compilers, exporters, tracers, counters."""

import copy
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.tensorboard import SummaryWriter

from streamdrnn import Classifier, DilatedRNN, StreamingDRNN, Tagger
from streamdrnn.baselines import DilatedCNN
from tests.agreement import assert_all_close, assert_close

pytestmark = [
    # Dynamo makes an instance of a torch.autograd.Function itself, and inductor a script.
    pytest.mark.filterwarnings("ignore:.*torch.autograd.function.Function.* should not be instantiated"),
    pytest.mark.filterwarnings("ignore:`torch.jit"),
]
GRAPH_OF = "ignore:.*(Converting a tensor|Iterating over a tensor|trace might not generalize).*:torch.jit.TracerWarning"


def tagger(**options: Any) -> Tagger:
    torch.manual_seed(0)
    return Tagger(DilatedRNN(3, 4, 3, **options), 2)


@pytest.fixture
def compiled() -> Iterator[CompileCounterWithBackend]:
    """A backend of ``torch.compile`` that counts."""
    torch._dynamo.reset()
    yield CompileCounterWithBackend("aot_eager")
    torch._dynamo.reset()


def calls(graph: torch.fx.Graph, name: str) -> int:
    return sum(name in str(node.target) for node in graph.nodes if node.op == "call_function")


def stacks(compiled: CompileCounterWithBackend) -> int:
    """How many graphs were compiled that have the stack in them; each has it as one node."""
    found = 0
    for graph in compiled.graphs:
        if not calls(graph.graph, ""):  # an attempt that dynamo gave up, and did not compile
            continue
        parts = [part for part in graph.modules() if isinstance(part, torch.fx.GraphModule)]
        count = sum(calls(part.graph, "cpu_stack.default") for part in parts)
        assert count <= 1
        assert sum(len(part.graph.nodes) for part in parts) < 200  # not a node for each step
        found += count
    return found


def trained(forward: Any, model: nn.Module, T: int) -> list[Tensor]:
    x = torch.randn(T, 2, 3, generator=torch.Generator().manual_seed(T), requires_grad=True)
    y, _ = forward(x)
    return [y, *torch.autograd.grad(y.square().sum(), [x, *model.parameters()])]


def test_a_compiled_stack_is_one_node_of_any_length(compiled: CompileCounterWithBackend) -> None:
    """One graph for the first T, one for all others."""
    model = tagger()
    fast, counts = torch.compile(model, backend=compiled, fullgraph=True), []
    for T in (5, 9, 12, 700):
        x = torch.randn(T, 2, 3)
        with torch.no_grad():
            assert_close(fast(x)[0], model(x)[0])
        counts.append(stacks(compiled))
    assert counts == [1, 2, 2, 2]


def test_one_that_trains_is_compiled_once_for_all_lengths(compiled: CompileCounterWithBackend) -> None:
    model = tagger()
    fast = torch.compile(model, backend=compiled, fullgraph=True, dynamic=True)
    for T in (5, 9, 700):
        assert_all_close(trained(fast, model, T), trained(model, model, T))
    assert stacks(compiled) == 1


def test_inductor_compiles_it_to_the_same_numbers() -> None:
    """With the C++ compiler."""
    torch._dynamo.reset()
    model = Classifier(DilatedRNN(3, 4, dilations=[1]), 2)
    fast = torch.compile(model, dynamic=True)
    for T in (5, 9):
        x = torch.randn(T, 2, 3)
        with torch.no_grad():
            assert_close(fast(x)[0], model(x)[0])
    torch._dynamo.reset()


def test_a_compiled_model_continues_a_state() -> None:
    model, x = tagger(), torch.randn(9, 2, 3)
    fast = torch.compile(model, backend="eager", fullgraph=True)
    with torch.no_grad():
        y, state = fast(x[:5])
        assert_close(torch.cat([y, fast(x[5:], state)[0]]), model(x)[0])


def test_a_stream_of_a_compiled_model_gives_the_models_numbers() -> None:
    """``torch.compile`` in place leaves the class as it is; a stream is one call of the library already."""
    model, x = tagger(), torch.randn(6, 1, 3)
    model.compile(backend="eager")
    assert_close(StreamingDRNN(model).push(x), tagger()(x)[0].detach())


def test_a_wrapped_compiled_model_is_refused_by_streams_in_one_line() -> None:
    with pytest.raises(TypeError, match="model: expected a network"):
        StreamingDRNN(torch.compile(tagger(), backend="eager"))  # type: ignore[arg-type]


@pytest.mark.parametrize(("backend", "cell"), [("cpu", "lstm"), ("torch", "gru")])
def test_make_fx_records_operators_that_compute(backend: str, cell: str) -> None:
    model, x = tagger(cell=cell, backend=backend), torch.randn(5, 2, 3)
    graph = make_fx(lambda x: model(x)[0])(x)
    assert_close(graph(x + 1), model(x + 1)[0])
    assert calls(graph.graph, "cpu_stack") == ("cpu" in backend)
    wanted = torch.autograd.grad(model(x)[0].square().sum(), list(model.parameters()))
    assert_all_close(torch.autograd.grad(graph(x).square().sum(), list(model.parameters())), wanted)

    def loss(x: Tensor) -> Tensor:
        y: Tensor = model(x)[0]
        return y.square().sum()

    gradient = make_fx(torch.func.grad(loss))(x)
    assert_close(gradient(x + 1), torch.func.grad(loss)(x + 1))


def test_make_fx_with_symbols_records_any_length() -> None:
    model = tagger()
    with torch.no_grad():
        trace = make_fx(lambda x: model(x)[0], tracing_mode="symbolic", _allow_non_fake_inputs=True)
        graph = trace(torch.randn(5, 2, 3))
        x = torch.randn(11, 2, 3)
        assert_close(graph(x), model(x)[0])


def test_fake_tensors_have_the_shapes_and_dtypes_of_real_ones() -> None:
    with FakeTensorMode():
        model = Classifier(DilatedRNN(3, 4, dilations=[2, 1], cell="lstm"), 5)
        y, state = model(torch.randn(7, 2, 3))
        y.sum().backward()
    assert y.shape == (7, 2, 5)
    assert [ring.shape for ring in state.rnn.c] == [(2, 2, 4), (1, 2, 4)]
    assert state.rnn.cursor.dtype == torch.int64
    assert model.rnn.weight_ih_l0.grad.shape == (16, 3)


def test_an_exported_program_computes_any_length() -> None:
    model = tagger().eval()
    lengths = {"x": {0: torch.export.Dim("T", min=2)}}
    program = torch.export.export(model, (torch.randn(5, 2, 3),), dynamic_shapes=lengths)
    assert calls(program.graph, "cpu_stack") == 1
    for T in (5, 12):
        x = torch.randn(T, 2, 3)
        assert_close(program.module()(x)[0], model(x)[0])


@pytest.mark.filterwarnings(GRAPH_OF)
@pytest.mark.parametrize(
    "make",
    [tagger, partial(DilatedRNN, 3, 4, dilations=[2, 3]), partial(DilatedCNN, 3, 4, 2)],
)
def test_a_trace_computes_other_lengths_and_is_saved(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    model = make()
    traced = torch.jit.trace(model, torch.randn(5, 2, 3))  # and its check passes
    traced.save(tmp_path / "traced.pt")
    loaded = torch.jit.load(tmp_path / "traced.pt")
    for T in (5, 12):
        x = torch.randn(T, 2, 3)
        for one in (traced, loaded):
            assert_close(one(x)[0], model(x)[0])


def test_a_script_computes_the_same() -> None:
    model, x = tagger(), torch.randn(5, 2, 3)
    assert_close(torch.jit.script(model)(x)[0], model(x)[0])


@pytest.mark.parametrize("backend", ["cpu", "torch"])
@pytest.mark.parametrize(("cell", "gates"), [("rnn", 1), ("gru", 3), ("lstm", 4)])
def test_flops_are_two_per_weight_step_and_stream(backend: str, cell: str, gates: int) -> None:
    """And for the gradients twice that, less those of the inputs, which nobody asked for."""
    T, B, inputs, H, out = 6, 2, 3, 4, 5
    model = Tagger(DilatedRNN(inputs, H, 2, cell=cell, backend=backend), out)
    products = gates * H * (inputs + H) + gates * H * (H + H) + out * H
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        model(torch.randn(T, B, inputs))
    assert forward.get_total_flops() == 2 * T * B * products
    with FlopCounterMode(display=False) as both:
        model(torch.randn(T, B, inputs))[0].sum().backward()
    backward = both.get_total_flops() / forward.get_total_flops() - 1
    assert 1.5 < backward < 3.1  # some gates are computed again
    y = model(torch.randn(T, B, inputs))[0]
    with FlopCounterMode(display=False) as alone:
        y.sum().backward()
    assert alone.get_total_flops() == both.get_total_flops() - forward.get_total_flops()


@pytest.mark.filterwarnings(GRAPH_OF)
def test_tensorboard_draws_the_graph(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_graph(tagger(), torch.randn(5, 2, 3))
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"cpu_stack" in written


def test_copies_of_a_compiled_model_are_models() -> None:
    model, x = tagger(), torch.randn(5, 2, 3)
    model.compile(backend="eager")
    assert_close(copy.deepcopy(model)(x)[0], model(x)[0])
