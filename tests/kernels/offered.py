"""All ways of cutting a recurrence into programs that there are to choose from."""

import itertools
from collections.abc import Sequence

from streamdrnn.kernels.gpu.plans import Plan, candidates

SIZES = range(1, 1025)
ROWS = (1, 1000, 5000)


def offered(cell: str, *tensor_cores: bool) -> dict[Plan, list[int]]:
    """Every plan that is a candidate for some number of units and rows, with those numbers of units."""
    found: dict[Plan, list[int]] = {}
    either: Sequence[bool] = tensor_cores or (False, True)
    for H, rows, may_round in itertools.product(SIZES, ROWS, either):
        for plan in candidates(cell, H, may_round, rows):
            found.setdefault(plan, []).append(H)
    return found


def representative(cell: str, *tensor_cores: bool) -> dict[Plan, list[int]]:
    """Every plan of the LSTM, which takes the most registers; of another cell one of each kind."""
    plans = offered(cell, *tensor_cores)
    if cell == "lstm":
        return plans
    kinds = {(plan.rows, plan.dot, plan.spread): plan for plan in plans}
    return {plan: plans[plan] for plan in kinds.values()}
