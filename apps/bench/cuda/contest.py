"""One comparison: contenders on one network and batch, each checked and then all timed in turns."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import NamedTuple

import torch

from streamdrnn import DilatedRNN
from streamdrnn.apps.bench.cuda.accuracy import Check, Errors
from streamdrnn.apps.bench.cuda.budget import SECONDS_EACH, turns_within
from streamdrnn.apps.bench.cuda.contenders import OURS, PEERS
from streamdrnn.apps.bench.cuda.precision import Precision, autocast, float32_products
from streamdrnn.apps.bench.cuda.session import NO_TIME, Session
from streamdrnn.apps.bench.cuda.target import Target
from streamdrnn.apps.bench.forward_train import Network
from streamdrnn.apps.bench.peers import CannotRunError, compiling
from streamdrnn.apps.bench.timing import Run, Times, interleaved
from streamdrnn.apps.bench.works import Work

MOST_INPUTS = 16
"""Input sets that passes take in turn, so that none finds its own in the cache; fewer if fewer are twice what the cache
holds. Those of a narrow input fit all the same: they are then a hundredth of what a pass moves."""


class Result(NamedTuple):
    """What became of one contender.

    Attributes:
        times: of a pass; None if ``why_not`` says why there are none.
        errors: against float64.
        first_call_s: seconds of its first call, which compiles what must be compiled; it is in none of the times.
    """

    work: Work
    cell: str
    precision: Precision
    contender: str
    times: Times | None = None
    errors: Errors | None = None
    first_call_s: float | None = None
    why_not: str = ""


class Contest:
    """A network, a batch, and what is to be computed.

    Args:
        work: their sizes.
        train: whether a pass is a training step (forward, and backward to the weights), or forward in inference mode.
    """

    def __init__(self, session: Session, work: Work, cell: str, train: bool) -> None:
        self._session, self._work, self._cell, self._train = session, work, cell, train
        self._name = f"{'train' if train else 'forward'}: {work.name}, {cell}"

    def results(self, entries: Mapping[Precision, Sequence[str]]) -> list[Result]:
        """Compare ours and some peers.

        Args:
            entries: for each precision the peers, by their names in :data:`PEERS`. All of :data:`OURS` take part.
        """
        fields = [(precision, name) for precision, peers in entries.items() for name in [*OURS, *peers]]
        why_not = NO_TIME
        if not self._session.deadline.over:
            try:
                return self._measured(entries)
            except Exception as error:  # in what is common to all: the reference, or the turns
                why_not = self._session.failed(self._name, error, is_ours=True)
        return [Result(self._work, self._cell, *field, why_not=why_not) for field in fields]

    def _measured(self, entries: Mapping[Precision, Sequence[str]]) -> list[Result]:
        target = self._session.target
        torch.manual_seed(0)
        model = self._work.model(self._cell, target.backend).to(target.device).train(self._train)
        check = Check(target, model, self._work, self._train)
        found: list[Result] = []
        for precision, peers in entries.items():
            self._session.say(f"{self._name}, {precision}")
            with float32_products(precision), torch.inference_mode(not self._train):
                found += self._in_turns(model, check, precision, [*OURS, *peers])
        return found

    def _in_turns(self, model: DilatedRNN, check: Check, precision: Precision, names: Sequence[str]) -> list[Result]:
        target = self._session.target
        xs = input_sets(target, self._work)
        results: dict[str, Result] = {}
        runs: dict[str, Run] = {}
        turns: dict[str, int] = {}
        for name in names:
            result = Result(self._work, self._cell, precision, name)
            try:
                with compiling():
                    with torch.inference_mode(False):  # torch.compile refuses weights of inference mode
                        network = (OURS | PEERS)[name](model, precision)
                    start = target.clock()
                    errors = check.errors(network, precision)
                    result = result._replace(errors=errors, first_call_s=(target.clock() - start) / 1e9)
                    wrong = errors.excess(precision)
                    if wrong:
                        self._session.problems.append(f"{self._name}, {precision}, {name}: {wrong}")
                        result = result._replace(why_not=wrong)
                    else:
                        run = passes(target, network, xs, precision, self._train)
                        turns[name] = turns_within(run, self._session.repeats, SECONDS_EACH, target.clock)
                        runs[name] = run
            except CannotRunError as error:
                result = result._replace(why_not=str(error))
            except Exception as error:
                what = f"{self._name}, {precision}, {name}"
                result = result._replace(why_not=self._session.failed(what, error, is_ours=name in OURS))
            results[name] = result
        times = interleaved(runs, self._session.repeats, at_most=turns, clock=target.clock)
        return [result._replace(times=times.get(name)) for name, result in results.items()]


def input_sets(target: Target, work: Work) -> list[torch.Tensor]:
    """Random inputs ``(T, B, I)``, see :data:`MOST_INPUTS`."""
    first = work.input(target.device)
    enough = max(1, -(-2 * target.cache_bytes // first.nbytes))
    return [first, *(work.input(target.device) for _ in range(min(MOST_INPUTS, enough) - 1))]


def passes(target: Target, network: Network, xs: Sequence[torch.Tensor], precision: str, train: bool) -> Run:
    """A call that makes one pass, with the next of some inputs.

    The gradient of the outputs is given: computing one would be a part of the time that is nobody's.
    """
    inputs = cycle(xs)

    def forward() -> torch.Tensor:
        with autocast(precision, target.kind):
            return network.forward(next(inputs))

    if not train:
        return forward
    dy = torch.randn_like(forward())

    def step() -> None:
        for weight in network.weights:
            weight.grad = None
        forward().backward(dy)

    return step
