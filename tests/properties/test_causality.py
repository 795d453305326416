"""What an input can change: nothing before it, and after it exactly what the dilations lead to."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from streamdrnn import DilatedRNN
from tests.strategies import Network, examples, networks, randn, seeds


def reached(T: int, dilations: tuple[int, ...], fused: bool) -> list[list[bool]]:
    """Entry [t][s]: whether the input at s reaches the output at t, by walking the paths."""
    table = [[False] * T for _ in range(T)]
    for s in range(T):
        at = {s}
        for d in dilations:
            at = {later for t in at for later in range(t, T, d)}
        if fused:
            at = {later for t in at for later in range(t, min(t + dilations[0], T))}
        for t in at:
            table[t][s] = True
    return table


def influence(model: DilatedRNN, network: Network, T: int, seed: int) -> list[list[bool]]:
    """The same from the gradients: which are not exactly zero."""
    x = network.x(T, 1, seed).requires_grad_()
    y = model(x)[0]
    table = []
    for t in range(T):
        weights = randn(model.hidden_size, seed=seed + t)
        (dx,) = torch.autograd.grad((y[t, 0] * weights).sum(), x, retain_graph=True)
        table.append((dx[:, 0].abs().sum(1) > 0).tolist())
    return table


@examples(30)
@given(network=networks(torch.float64), T=st.integers(1, 20), seed=seeds)
def test_each_input_reaches_exactly_the_outputs_that_the_dilations_lead_to(network: Network, T: int, seed: int) -> None:
    model = network.build()
    assert influence(model, network, T, seed) == reached(T, network.dilations, model.fuse)


@examples(20)
@given(network=networks(torch.float64), T=st.integers(1, 12), seed=seeds, data=st.data())
def test_a_changed_input_changes_nothing_before_it(network: Network, T: int, seed: int, data: st.DataObject) -> None:
    """Changed to NaN, which nothing that it touches can hide."""
    model = network.build()
    x = network.x(T, 2, seed)
    s = data.draw(st.integers(0, T - 1))
    changed = x.clone()
    changed[s:] = torch.nan
    want, got = model(x)[0], model(changed)[0]
    assert torch.equal(got[:s], want[:s])
    assert got[s].isnan().all()


def test_fusion_lets_each_output_see_every_phase() -> None:
    """Without it the phases of a first dilation above 1 never meet; that is why it is there by default."""
    T, dilations = 8, (2, 4)
    assert Network(dilations=dilations).build().fuse
    assert not Network(dilations=(1, 2)).build().fuse
    assert all(reached(T, dilations, fused=True)[T - 1])
    assert sum(reached(T, dilations, fused=False)[T - 1]) == T // 2
