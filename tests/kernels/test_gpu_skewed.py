"""Several layers as one skewed scan: against float64, and the same bits in any chunks.

Without a GPU, Triton's interpreter runs the kernels.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Optional

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from streamdrnn import StreamingDRNN
from streamdrnn.kernels import gpu
from streamdrnn.kernels.gpu import network as gpu_network
from streamdrnn.kernels.gpu import plans
from streamdrnn.kernels.gpu.backend import TRITON
from streamdrnn.kernels.gpu.plans import FEWER_WEIGHTS, MOST_COLUMNS, MOST_WEIGHTS, Group, groups
from streamdrnn.kernels.gpu.skewed_stream import SkewedStream
from streamdrnn.kernels.weights import Weights
from streamdrnn.live import LiveParts
from tests.agreement import assert_all_close, assert_close, assert_gradients_close, assert_same_bits
from tests.kernels.cases import DEVICE, needs_triton
from tests.strategies import CELLS, Network, chunkings, examples, lengths, masks, randn, random_state, seeds

pytestmark = [needs_triton, pytest.mark.usefixtures("_skewed")]
every_cell = pytest.mark.parametrize("cell", CELLS)
full = pytest.mark.full


@pytest.fixture(scope="module", autouse=True)
def _skewed() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(plans.SWITCH, "1")
        yield


def agrees(network: Network, T: int, clocks: tuple[int, ...], own: Optional[tuple[int, ...]] = None) -> None:
    """Outputs, states and all gradients, those of the states before among them, are the reference's in float64."""

    def results(backend: str, dtype: torch.dtype) -> tuple[list[Tensor], list[Tensor]]:
        device = DEVICE if backend == "triton" else torch.device("cpu")
        model = network.build(backend)
        state = random_state(model, clocks, seed=network.seed)
        model, state = (
            model.to(device, dtype),
            state.map(lambda t: t.to(device, dtype if t.dtype.is_floating_point else t.dtype)),
        )
        x = network.x(T, len(clocks)).to(device, dtype)
        given = [x, *(t for t in state.tensors().values() if t.is_floating_point() and t.numel())]
        for t in given:
            t.requires_grad_()
        y, after = model.chunk(x, state, None if own is None else torch.tensor(own, device=device))
        outputs = [y, *(t for t in after.tensors().values() if t.is_floating_point() and t.numel())]
        weighted = [randn(*t.shape, seed=i).to(device, dtype) for i, t in enumerate(outputs)]
        gradients = torch.autograd.grad(outputs, [*given, *model.parameters()], weighted)
        return [t.detach().cpu().float() for t in outputs], [t.cpu().float() for t in gradients]

    (got, got_gradients), (want, want_gradients) = results("triton", torch.float32), results("reference", torch.float64)
    assert_all_close(got, want)
    assert_gradients_close(got_gradients, want_gradients)


def network(cell: str, H: int | tuple[int, ...], *dilations: int, **options: Any) -> Network:
    return Network(3, H, dilations, cell, dtype=torch.float32, **options)


AWKWARD = [
    (network("gru", 20, *(2**layer for layer in range(9))), 6, (2**40 + 3,), None),
    (network("lstm", 5, 1, 2, 4), 9, (0, 7, 5), (9, 0, 4)),
    (network("rnn", 1, 1), 5, (0,), None),
    (network("gru", 3, 3, 1, 1, 7, bias=False), 5, (2, 9), (3, 5)),  # a fusion; d = 1 in the middle; T < d
    (network("rnn", 50, 2, 1, 3), 4, (1,), None),
    (network("lstm", 33, 1, 2), 3, (4,), None),  # two threads for a column, and a group for each layer
    (network("gru", (6, 6, 4), 1, 2, 1), 5, (0, 1), None),  # two groups
    (network("gru", (4, 70, 4), 2, 1, 3), 4, (5,), None),  # one of which is too wide, and goes by its phases
    pytest.param(network("gru", 50, 1, 2, 4), 5, (1, 2**55), (5, 2), marks=full),
    pytest.param(network("lstm", 64, 1, 2), 4, (3,), None, marks=full),
    pytest.param(network("gru", 64, 2, 1), 4, (3,), None, marks=full),
    pytest.param(network("rnn", 64, 1, 2, 4, 8, 16), 4, (3,), None, marks=full),
    *(
        pytest.param(network(cell, H, *range(1, L + 1)), 7, (0, 40), (7, 3), marks=full)
        for cell in CELLS
        for H, L in [(1, 12), (3, 12), (20, 12), (32, 8), (32, 1)]
    ),
]


@pytest.mark.parametrize(("network", "T", "clocks", "own"), AWKWARD, ids=lambda v: getattr(v, "cell", ""))
def test_awkward_sizes(network: Network, T: int, clocks: tuple[int, ...], own: Optional[tuple[int, ...]]) -> None:
    agrees(network, T, clocks, own)


@st.composite
def stacks(draw: st.DrawFn) -> Network:
    L = draw(st.integers(1, 5))
    return Network(
        draw(st.integers(1, 4)),
        draw(st.one_of(st.integers(1, 6), st.sampled_from([17, 20, 32]))),
        tuple(draw(st.lists(st.integers(1, 6), min_size=L, max_size=L))),
        draw(st.sampled_from(CELLS)),
        draw(st.booleans()),
        dtype=torch.float32,
        seed=draw(seeds),
    )


@examples(4)
@given(network=stacks(), data=st.data())
def test_any_stack(network: Network, data: st.DataObject) -> None:
    T, clocks = data.draw(st.integers(1, 7)), data.draw(st.lists(st.integers(0, 2**56), min_size=1, max_size=2))
    own = data.draw(st.one_of(st.none(), lengths(T, len(clocks))))
    agrees(network, T, tuple(clocks), None if own is None else tuple(own.tolist()))


@examples(4)
@given(network=stacks(), data=st.data())
def test_any_chunks_have_the_bits_of_the_batch(network: Network, data: st.DataObject) -> None:
    """Of outputs and states: what streams heard, with pauses, is given to the network once more in one piece."""
    T, B = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 2))
    model = network.build("triton").to(DEVICE)
    live = StreamingDRNN(model, B)
    assert isinstance(live._live, LiveParts)
    assert isinstance(live._live._stream, SkewedStream)
    heard: list[list[tuple[Tensor, Tensor]]] = [[] for _ in range(B)]
    for chunk in network.x(T, B).to(DEVICE).split(data.draw(chunkings(T))):
        active = data.draw(masks(B))
        y = live.push(chunk, None if active is None else active.to(DEVICE))
        for b in range(B):
            if active is None or active[b]:
                heard[b].append((chunk[:, b : b + 1], y[:, b : b + 1]))
    for b, own in enumerate(heard):
        if own:
            x, y = (torch.cat(each) for each in zip(*own, strict=True))
            with torch.no_grad():
                want, state = model(x)
            assert torch.equal(y, want)
            assert_same_bits(live.state.select([b]), state)


@pytest.mark.parametrize(("cell", "dilations"), [*((cell, (1, 2, 5)) for cell in CELLS), ("rnn", (2, 1))])
def test_steps_chunks_and_the_batch_have_the_same_bits(cell: str, dilations: tuple[int, ...]) -> None:
    """Also beside other streams, with a fusion, and where the gradient is asked for."""
    net = network(cell, 20, *dilations)
    model, x = net.build("triton").to(DEVICE), net.x(7, 3).to(DEVICE)
    whole, state = (t for t in model(x))
    assert whole.requires_grad
    for cuts in ([0, *range(1, 8)], [0, 1, 4, 7]):
        live = StreamingDRNN(model, 1)
        parts = [live.push(x[start:stop, 1:2]) for start, stop in pairwise(cuts)]
        assert torch.equal(torch.cat(parts), whole[:, 1:2])
        assert_same_bits(live.state, state.select([1]).detach())


def test_one_stream_serves_one_state_after_the_other() -> None:
    net = network("lstm", 5, 2, 3)
    model, x = net.build("triton").to(DEVICE), net.x(6, 2).to(DEVICE)
    live, states = model.stream(2), [model.zero_state(2) for _ in range(2)]
    with torch.no_grad():
        ends = [model(x[number::2])[1] for number in range(2)]
    live.bind(states[0])
    for t, x_t in enumerate(x):
        live.run(x_t[None], None, None if t % 2 == 0 else states[1])
    for state, end in zip(states, ends, strict=True):
        assert_same_bits(state, end)


def test_groups_are_of_one_size_and_as_large_as_registers_allow() -> None:
    assert groups("gru", [20] * 9) == [Group(0, 9, 256, 1, 2)]
    assert groups("lstm", [20] * 9) == [Group(0, 9, 256, 1, 2)]
    assert groups("gru", [32] * 9) == [Group(0, 8, 256, 1, 1), Group(8, 9, 32, 1, 1, fed=True)]
    assert groups("gru", [48] * 3) == [Group(0, 2, 128, 2, 1), Group(2, 3, 64, 2, 1, fed=True)]
    assert groups("lstm", [32] * 5) == [Group(0, 4, 128, 2, 2), Group(4, 5, 32, 2, 2, fed=True)]
    assert groups("lstm", [40] * 2) == [Group(0, 1, 64, 4, 2), Group(1, 2, 64, 4, 2, fed=True)]
    assert groups("gru", [4, 4, 70, 4]) == [Group(0, 2, 32, 1, 2), Group(2, 3), Group(3, 4, 32, 1, 2)]
    for cell in CELLS:
        for H in range(1, 200):
            found = groups(cell, [H] * 13)
            assert [group.first for group in found] == [0, *(group.last for group in found[:-1])]
            assert found[-1].last == 13
            for group in found:
                if group.columns:
                    assert (group.last - group.first) * H <= group.columns <= MOST_COLUMNS
                    assert group.warps * 32 == group.columns * group.threads <= MOST_COLUMNS
                    gates = {"rnn": 1, "gru": 3, "lstm": 4}[cell]
                    assert -(-H // group.piece) * 4 * 2 * gates <= (
                        FEWER_WEIGHTS if group.unrolled == 2 else MOST_WEIGHTS
                    )


def test_layers_go_by_their_phases_unless_they_are_asked_not_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(plans.SWITCH)
    assert groups("gru", [20, 20]) == [Group(0, 1), Group(1, 2)]
    model = network("gru", 5, 1, 2).build("triton").to(DEVICE)
    assert isinstance(model.stream(1), gpu.TritonStream)


def cut(found: list[Group]) -> list[tuple[int, int]]:
    """The layers of each group, and how many phases it takes side by side."""
    assert [group.first for group in found] == [0, *(group.last for group in found[:-1])]
    return [(group.last - group.first, group.phases) for group in found]


DOUBLING = tuple(2**layer for layer in range(9))


@pytest.mark.parametrize(
    ("sizes", "dilations", "T", "B", "best"),
    [
        ([20] * 9, DOUBLING, 784, 128, [(9, 1)]),  # any cut adds iterations
        ([20] * 9, DOUBLING, 784, 512, [(3, 1), (6, 1)]),  # more programs at a time, as fewer columns are empty
        ([32] * 9, DOUBLING, 784, 16, [(8, 1), (1, 64)]),
        ([48] * 4, DOUBLING[:4], 784, 1, [(2, 1), (2, 4)]),
        ([64] * 9, DOUBLING, 784, 1, [(1, 2**layer) for layer in range(8)] + [(1, 128)]),
        ([32] * 6, (32, 64, 128, 256, 512, 1024), 4000, 1, [(6, 32)]),  # the raw-speech model's
        ([20, 70, 70, 20], (1, 2, 4, 8), 100, 1, [(1, 1), (1, 1), (1, 1), (1, 8)]),
        ([20] * 9, (*DOUBLING[1:], 512), 1, 100, [(9, 1)]),
    ],
)
def test_a_stack_is_cut_where_the_rule_says_so(
    sizes: list[int], dilations: tuple[int, ...], T: int, B: int, best: list[tuple[int, int]]
) -> None:
    found = plans.splits("gru", sizes, dilations, T, B)
    assert cut(found[0]) == best
    assert 1 <= len(found) <= plans.MOST_SPLITS
    assert len({tuple(split) for split in found}) == len(found)
    for split in found:
        for group in split:
            assert all(d % group.phases == 0 for d in dilations[group.first : group.last])


def test_a_grid_has_room_for_the_phases() -> None:
    group = Group(0, 1, 256)
    assert plans.cycles(group._replace(phases=131071), 131071, 1) < plans.cycles(group, 131071, 1)
    assert plans.phases(group, (131071,), 131071, 1) == 1


def test_calls_of_one_kind_have_the_same_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the choice among those of one would be none of another's, and each call in turn would time its own."""
    ways: dict[object, set[str]] = {}

    def seen(key: tuple[object, ...], given: list[list[Group]], _: object) -> list[Group]:
        ways.setdefault(key, set()).add(str(given))
        return given[0]

    monkeypatch.setattr(gpu_network, "choose", seen)
    dilations = [60 * n for n in range(1, 10)]
    layers = [Weights(torch.empty(96, 32), torch.empty(96, 32), None, None) for _ in dilations]
    for T in range(256, 512, 7):
        gpu_network._split("forward", "gru", torch.empty(T, 16, 3), layers, dilations, lambda split: None)
    assert 1 < len(ways) < 10
    assert all(len(given) == 1 for given in ways.values())


@pytest.mark.parametrize("cell", [pytest.param(cell, marks=[] if cell == "gru" else full) for cell in CELLS])
def test_all_ways_to_cut_a_stack_give_the_same_bits(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of outputs, states and all that is kept; and gradients that agree."""
    net = network(cell, 5, 2, 4)
    tried = []

    def compared(key: tuple[Any, ...], given: list[list[Group]], run: Any) -> list[Group]:
        whole = given[0]
        ways = [[group._replace(phases=1) for group in whole], *given]
        direction, first = key[0], run(ways[0])
        for way in ways[1:]:
            tried.append((direction, tuple(cut(way))))
            for one, other in zip(first, run(way), strict=True):
                if direction == "forward":
                    assert torch.equal(one, other)
                else:
                    assert_close(other, one)
        return whole

    monkeypatch.setattr(gpu_network, "choose", compared)
    agrees(net, 4, (2**40 + 1,))
    for direction in ("forward", "backward"):
        assert {cuts for way, cuts in tried if way == direction} == {((2, 2),), ((1, 2), (1, 4))}


@pytest.mark.skipif(not gpu.interpreted(), reason="the interpreter alone can be watched")
@every_cell
@pytest.mark.usefixtures("_watched_columns")
def test_columns_meet_at_barriers_only(cell: str) -> None:
    agrees(network(cell, 3, 2, 1, 3), 5, (3,), (4,))


@pytest.mark.skipif(not gpu.interpreted(), reason="the interpreter alone can be watched")
@every_cell
@pytest.mark.usefixtures("_watched_memory")
def test_no_access_outside_the_arguments(cell: str) -> None:
    """With fewer steps than phases, columns without a unit, and a length that is no multiple of a piece."""
    agrees(network(cell, 5, 4, 1, 3), 2, (0, 2**40), (2, 1))


def test_a_linear_map_can_be_differentiated_twice() -> None:
    """To the numbers of torch's own; the second derivative's are those of its operations."""
    x, weight, bias = (
        randn(*shape, seed=i, dtype=torch.float32).to(DEVICE) for i, shape in enumerate([(2, 3, 4), (5, 4), (5,)])
    )
    found = []
    for linear in (TRITON.linear, torch.nn.functional.linear):
        given = [t.clone().requires_grad_() for t in (x, weight, bias)]
        y = linear(*given)
        first = torch.autograd.grad(y.square().sum(), given, create_graph=True)
        found.append([y, *first, *torch.autograd.grad(sum(grad.square().sum() for grad in first), given)])  # type: ignore[arg-type]
    assert_all_close(found[0], found[1])


def test_an_inputs_product_is_that_of_torch_however_its_tensors_lie_in_memory() -> None:
    x, weight = randn(5, 2, 3, seed=1, dtype=torch.float32).mT, randn(2, 70, seed=2, dtype=torch.float32).T
    bias = randn(140, seed=3, dtype=torch.float32)[::2]
    given = [t.to(DEVICE) for t in (x, weight, bias)]
    assert_all_close([TRITON.linear(*given)], [torch.nn.functional.linear(*given)])
