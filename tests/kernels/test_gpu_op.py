"""The recurrence as an operator of torch: what compilers, exporters and autocast see, and what autograd is promised."""

from collections.abc import Callable
from typing import Any, Optional

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.fx import GraphModule

from streamdrnn import DilatedRNN, DRNNState
from streamdrnn.kernels import Weights, gpu
from streamdrnn.kernels.stack import by_layer
from tests.agreement import assert_all_close, assert_close, assert_gradients_close, assert_states_close, rms
from tests.kernels.cases import DEVICE, Case, needs_triton
from tests.strategies import CELLS, Network, random_state

pytestmark = needs_triton
every_cell = pytest.mark.parametrize("cell", CELLS)
# The LSTM has every argument that there is.
lstm_first = pytest.mark.parametrize(
    "cell", [pytest.param(cell, marks=[] if cell == CELLS[-1] else pytest.mark.full) for cell in CELLS]
)

OperatorArguments = tuple[str, list[int], Tensor, list[Tensor], list[Tensor], Optional[Tensor], Optional[Tensor], bool]
operator = torch.ops.streamdrnn.triton_stack.default
operator_of_gradients = torch.ops.streamdrnn.triton_stack_backward.default


def arguments_of(cell: str, lengths: bool, save: bool, strange: bool, begun: bool = True) -> OperatorArguments:
    """Of two layers of different sizes; ``strange``: as views whose memory lies otherwise."""
    below = Case(cell, T=4, I=3, H=5, d=2, cursor=(0, 7), dtype=torch.float32).arguments()
    above = Case(cell, T=4, I=5, H=4, d=3, cursor=(0, 7), dtype=torch.float32, seed=20).arguments()

    def placed(t: Tensor) -> Tensor:
        t = t.to(DEVICE)
        return t.transpose(0, -1).contiguous().transpose(0, -1) if strange else t

    weights = [placed(t) for layer in (below, above) for t in layer.weights if t is not None]
    rings = [placed(layer.h_ring) for layer in (below, above)]
    rings += [placed(layer.c_ring) for layer in (below, above) if layer.c_ring is not None]
    cursor = torch.tensor([0, 7], device=DEVICE) if begun else None
    own = torch.tensor([2, 4], device=DEVICE) if lengths else None
    return cell, [2, 3], placed(below.x), weights, rings if begun else [], cursor, own, save


@lstm_first
@pytest.mark.parametrize(
    ("lengths", "save", "strange"), [(False, True, False), (True, True, True), (True, False, True)]
)
def test_the_operator_keeps_what_torch_asks_of_one(cell: str, lengths: bool, save: bool, strange: bool) -> None:
    """Its schema, its registrations, and that what it says of its results' shapes, strides and dtypes is so."""
    checks = ["test_schema", "test_faketensor"]
    if not (lengths and save):  # what is saved of steps that are not made is never written: poisoned, it equals nothing
        checks.append("test_aot_dispatch_dynamic")
    torch.library.opcheck(operator, arguments_of(cell, lengths, save, strange, begun=strange), test_utils=checks)


@lstm_first
@pytest.mark.parametrize("of_x", [True, False])
def test_the_gradients_operator_keeps_what_torch_asks_of_one(cell: str, of_x: bool) -> None:
    *arguments, _ = arguments_of(cell, True, True, True)
    rings = arguments[4]
    top, _, *others = operator(*arguments, True)
    dy = torch.ones(1, device=DEVICE).expand_as(top[3:])
    torch.library.opcheck(operator_of_gradients, (*arguments, [top, *others[2:]], dy, rings, of_x))


def model_of(cell: str, **options: Any) -> DilatedRNN:
    network = Network(3, (5, 4), (2, 3), cell, dtype=torch.float32)
    return network.build("triton", **options).to(DEVICE)


def trained(forward: Callable[..., tuple[Tensor, DRNNState]], model: DilatedRNN, T: int, B: int) -> list[Tensor]:
    """Everything that a step of training computes, on another batch for other sizes."""
    x = Network(3, dtype=torch.float32).x(T, B, seed=T).to(DEVICE)
    x = (x.transpose(0, 1) if model.batch_first else x).requires_grad_()
    y, state = forward(x)
    states = [t for name, t in state.tensors().items() if t.is_floating_point()]
    loss = y.square().sum() + sum(t.sum() for t in states)
    return [y, *states, *torch.autograd.grad(loss, [x, *model.parameters()])]


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # from torch's tracing
@lstm_first
def test_compiled_as_one_graph_it_computes_the_same(cell: str) -> None:
    """Also for other numbers of steps and streams, without being compiled for each."""
    model = model_of(cell, batch_first=cell == CELLS[-1])
    torch._dynamo.reset()
    backend = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model, backend=backend, fullgraph=True, dynamic=True)
    counts = []
    for T, B in ((4, 2), (5, 3)):  # of sizes that are equal at first, torch would take one for the other
        assert_all_close(trained(compiled, model, T, B), trained(model, model, T, B))
        counts.append(backend.frame_count)
    assert counts[1] == counts[0]
    # torch makes an empty graph besides.
    (graph,) = [graph for graph in backend.graphs if any(node.op == "call_function" for node in graph.graph.nodes)]
    # The forward pass is a graph within the graph, as autograd functions are.
    nodes = [node for part in graph.modules() if isinstance(part, GraphModule) for node in part.graph.nodes]
    assert [node.target for node in nodes].count(operator) == 1
    torch._dynamo.reset()


def test_an_exported_program_has_the_operator_in_it_and_computes_the_same() -> None:
    model = model_of("lstm").eval()
    x = Network(3, dtype=torch.float32).x(6, 2).to(DEVICE)
    T, B = torch.export.Dim("T", min=2), torch.export.Dim("B", min=2)
    with torch.no_grad():
        program = torch.export.export(model, (x,), dynamic_shapes={"x": {0: T, 1: B}})
        calls = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
        assert sum(call.startswith("streamdrnn.triton_stack") for call in calls) == 1
        for T_other, B_other in ((6, 2), (11, 3)):
            x = Network(3, dtype=torch.float32).x(T_other, B_other).to(DEVICE)
            assert_close(program.module()(x)[0], model(x)[0])


@every_cell
def test_nothing_is_kept_where_no_gradient_can_be_asked_for(cell: str) -> None:
    """And the results are the same bits."""
    model = model_of(cell)
    x = Network(3, dtype=torch.float32).x(5, 2).to(DEVICE)
    kept = model(x)[0]
    assert kept.requires_grad
    kept_bytes = 0

    def count(t: Tensor) -> Tensor:
        nonlocal kept_bytes
        kept_bytes += t.numel()
        return t

    with torch.autograd.graph.saved_tensors_hooks(count, lambda t: t):
        with torch.no_grad():
            without = model(x)[0]
        with torch.inference_mode():
            inference = model(x)[0].clone()
        model.requires_grad_(False)
        frozen = model(x)[0]
    assert kept_bytes == 0
    for y in (without, inference, frozen):
        assert not y.requires_grad
        assert torch.equal(y, kept)


@every_cell
@pytest.mark.parametrize(
    ("dtype", "autocast"),
    [
        (torch.bfloat16, True),
        (torch.float16, False),
        pytest.param(torch.bfloat16, False, marks=pytest.mark.full),
        pytest.param(torch.float16, True, marks=pytest.mark.full),
    ],
)
def test_operands_of_fewer_bits(cell: str, dtype: torch.dtype, autocast: bool) -> None:
    """Weights of that dtype, or float32 ones under autocast: the error is that of rounding operands and gates' sums.

    Each is off by at most half a unit in the last place, ``eps / 2``; three such roundings per sum. On the
    way through the gates and the recurrence they grow little, as the weights' products are of order one.
    """
    bound = 2 * torch.finfo(dtype).eps
    case = Case(cell, T=6, I=6, H=20, d=3, cursor=(0, 5), dtype=torch.float32)
    arguments = case.arguments()
    exact = case.run(arguments.double(), "reference")
    wanted = case.gradients("reference", arguments=arguments.double())
    narrow = {n: t.to(dtype) for n, t in arguments._asdict().items() if t is not None and n[0] in "wb"}
    with torch.autocast(DEVICE.type, dtype, enabled=autocast):
        got = case.run(arguments if autocast else arguments._replace(**narrow), "triton")
        gradients = case.gradients("triton", arguments=arguments if autocast else arguments._replace(**narrow))
    for g, w in zip(got[:3], exact[:3], strict=True):
        if g is not None and w is not None:
            assert g.dtype == torch.float32
            error = rms(g - w) / rms(w)
            assert 0 < error < bound
            # Carried states and outputs are not rounded.
            assert (g.to(dtype).float() != g).float().mean() > 0.9
    whole = rms(torch.cat([w.flatten() for w in wanted]))
    for argument, g, w in zip(arguments.given(), gradients, wanted, strict=True):
        assert g.shape == argument.shape
        assert rms(g - w) < bound * max(whole, rms(w))


@pytest.mark.parametrize(
    ("cell", "dtype"),
    [
        *((cell, torch.float32) for cell in CELLS),
        *(pytest.param(cell, torch.bfloat16, marks=[] if cell == CELLS[-1] else pytest.mark.full) for cell in CELLS),
    ],
)
def test_chunks_and_steps_are_the_whole(cell: str, dtype: torch.dtype) -> None:
    """In bfloat16 too to float32's rounding: at the end of a chunk nothing is rounded."""
    network = Network(3, (6, 20), (2, 3), cell, dtype=torch.float32)
    model = network.build("triton").to(DEVICE, dtype)
    x = network.x(7, 2).to(DEVICE, dtype)
    begun = random_state(network.build("torch"), (4, 2**40), 5).to(DEVICE)
    with torch.no_grad():
        whole, end = model(x, begun)
        state, parts = begun, []
        for start, stop in ((0, 1), (1, 1), (1, 5), (5, 7)):
            y, state = model(x[start:stop], state)
            parts.append(y)
        stepped = begun
        for t, x_t in enumerate(x):
            y_t, stepped = model.step(x_t, stepped)
            assert_close(y_t.float(), whole[t].float())
    assert_close(torch.cat(parts).float(), whole.float())
    assert_states_close(state, end)
    assert_states_close(stepped, end)
    if dtype == torch.float32:
        want, want_end = network.build("reference")(x.cpu(), begun.to("cpu"))
        assert_close(whole.cpu(), want)
        assert_states_close(end.to("cpu"), want_end)


def test_weights_by_layer() -> None:
    tensors = list(torch.arange(8.0))
    assert by_layer(tensors, [0, 1]) == [Weights(*tensors[:4]), Weights(*tensors[4:])]
    assert by_layer(tensors[:4], [0, 1]) == [Weights(tensors[i], tensors[i + 1], None, None) for i in (0, 2)]


@lstm_first
def test_a_stack_is_its_layers_one_by_one(cell: str) -> None:
    """Also from the beginning, without rings, and where not every stream makes all steps."""
    for begun in (True, False):
        _, dilations, x, weights, rings, cursor, lengths, _ = arguments_of(cell, True, True, False, begun)
        leaves = [t.requires_grad_() for t in (x, *weights, *rings)]
        layers = by_layer(weights, dilations)
        h, c = rings[:2], rings[2:]
        y, h_after, c_after, end = gpu.stack(cell, x, layers, dilations, h or None, c or None, cursor, lengths)
        below = x
        each_h: list[Tensor] = []
        each_c: list[Tensor] = []
        for i, layer in enumerate(layers):
            below, h_one, c_one, _ = gpu.stack(
                cell, below, [layer], [dilations[i]], h[i : i + 1] or None, c[i : i + 1] or None, cursor, lengths
            )
            each_h, each_c = [*each_h, *h_one], [*each_c, *c_one]
        got, want = [y, *h_after, *c_after], [below, *each_h, *each_c]
        assert_all_close(got, want)
        assert lengths is not None
        assert torch.equal(end, lengths if cursor is None else cursor + lengths)
        sums = [torch.stack([(t * t.detach()).sum() for t in some]).sum() for some in (got, want)]
        assert_all_close(torch.autograd.grad(sums[0], leaves), torch.autograd.grad(sums[1], leaves))


def test_results_share_no_memory_with_arguments_or_one_another() -> None:
    arguments = arguments_of("lstm", False, True, False)
    results = operator(*arguments)
    places = [t.untyped_storage().data_ptr() for t in (*results, *arguments[4]) if t.numel()]
    assert len(set(places)) == len(places)


def loss_of(model: DilatedRNN) -> Callable[[dict[str, Tensor], Tensor], Tensor]:
    """Of the outputs and the state, from parameters and an input ``(T, B, I)``."""

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        y, state = torch.func.functional_call(model, parameters, (x,))
        total: Tensor = y.square().sum() + torch.stack([t.sum() for t in state.h]).sum()
        return total

    return loss


def transformed(model: DilatedRNN, x: Tensor) -> list[Tensor]:
    """What a gradient penalty and torch.func's transforms make of a network."""
    x = x.clone().requires_grad_()
    parameters = list(model.parameters())
    y, state = model(x)
    (of_x,) = torch.autograd.grad(y.square().sum() + state.h[0].sum(), x, create_graph=True)
    penalty = torch.autograd.grad(of_x.square().sum(), [x, *parameters])

    x = x.detach()
    by_name = {name: p.detach() for name, p in model.named_parameters()}
    loss = loss_of(model)
    per_sample = torch.func.vmap(torch.func.grad(lambda p, x_b: loss(p, x_b[:, None])), in_dims=(None, 1))
    outputs = torch.func.jacrev(lambda x: model(x)[0][-1])(x)
    ensemble = {name: torch.stack([p, p / 2]) for name, p in by_name.items()}
    losses = torch.func.vmap(loss, in_dims=(0, None))(ensemble, x)
    with torch.no_grad():
        inference = torch.func.vmap(lambda x: model(x)[0])(torch.stack([x, -x]))
    return [*penalty, *per_sample(by_name, x).values(), outputs, losses, inference]


@lstm_first
def test_second_derivatives_and_transforms_are_those_of_the_reference(cell: str) -> None:
    model = model_of(cell)
    reference = Network(3, (5, 4), (2, 3), cell, dtype=torch.float32).build("reference").to(DEVICE)
    x = Network(3, dtype=torch.float32).x(4, 2).to(DEVICE)
    assert_gradients_close(transformed(model, x), transformed(reference, x))


def test_operations_are_counted() -> None:
    """Two for each multiplication of a product with weights, in the backward pass twice as many."""
    from torch.utils.flop_counter import FlopCounterMode  # it imports Triton

    model = model_of("gru")
    with FlopCounterMode(display=False) as counter:
        y, _ = model(torch.zeros(4, 2, 3, device=DEVICE))
        forward = 2 * 4 * 2 * 3 * (5 * (3 + 5) + 4 * (5 + 4))
        fusion = 2 * 4 * 2 * 4 * 4 * 2
        assert counter.get_total_flops() == forward + fusion
        torch.autograd.grad(y.sum(), list(model.parameters()))
    assert counter.get_total_flops() > 3 * forward
