"""How long the JavaScript client waits, in virtual time."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.node import needs_node, run_node
from tests.serving.javascript.package import CLIENT

pytestmark = needs_node


def push(
    *servers: str, numbers: int = 1, then: str = "", limits: Any = None, latency: float = 0.005, **options: Any
) -> Any:
    """What becomes of a push, and perhaps another call, to servers of these kinds, and when the client connected."""
    request = {"servers": servers, "numbers": numbers, "then": then, "limits": limits or {}, "latency": latency}
    answer = run_node(Path(__file__).with_name("waits.mjs"), {**request, "options": options}, CLIENT)
    assert answer["timers"] == 0
    return answer


@pytest.mark.parametrize(
    ("server", "then"),
    [
        ("is silent", ""),
        ("is silent when it is open", ""),
        ("is silent when it has restored", ""),
        ("answers inputs only", "snapshot"),
        ("answers inputs only", "close"),
    ],
)
def test_a_silent_server_is_left_after_a_while_and_given_up_in_the_end(server: str, then: str) -> None:
    answer = push(server, then=then, giveUpAfter=45)
    assert answer["error"] == "ConnectionError"
    assert answer["message"] == "no server answers: no answer within 20 s"
    assert answer["at"] == pytest.approx(45, abs=0.1)
    times = [at for at, _ in answer["connections"]]
    assert times[-2:] == pytest.approx([20, 40], abs=0.5)
    assert times[:-2] == pytest.approx([0] * len(times[:-2]), abs=0.1)


def test_another_server_is_asked_when_one_is_silent() -> None:
    answer = push("is silent when it is open", "answers", giveUpAfter=15)
    assert answer["error"] is None
    assert answer["at"] == pytest.approx(15 / 3, abs=0.1)


def test_a_refusal_is_said_in_the_end_when_the_other_server_never_answers() -> None:
    answer = push("drops all", "refuses", giveUpAfter=15)
    assert answer["error"] == "RefusedError"
    assert answer["message"] == "not here (code 4404)"
    assert answer["at"] == pytest.approx(15, abs=0.1)


def test_a_server_that_drops_each_input_is_asked_less_and_less_often_and_given_up() -> None:
    answer = push("drops inputs", giveUpAfter=30)
    assert answer["error"] == "ConnectionError"
    assert answer["at"] == pytest.approx(30, abs=0.1)
    waits = [b - a for (a, _), (b, _) in pairwise(answer["connections"])]
    for wait, longest in zip(waits, [0.05, 0.1, 0.2, 0.4, 0.8, *[1.0] * len(waits)], strict=False):
        assert longest / 2 <= wait <= longest + 0.02
    assert len(set(waits)) == len(waits)  # clients that were lost together come back at different times


def test_a_server_that_goes_on_is_asked_again_at_once() -> None:
    answer = push("drops every second input", numbers=40, giveUpAfter=1)
    assert answer["error"] is None
    assert len(answer["connections"]) == 10
    assert answer["at"] <= 9 * 0.05 + 0.2


def test_a_slow_server_is_not_left_while_it_answers() -> None:
    answer = push("answers", numbers=100, latency=1.0, giveUpAfter=3)
    assert answer["error"] is None
    assert len(answer["connections"]) == 1
    assert answer["at"] == pytest.approx(1 + 25 / 4, abs=1)


@pytest.mark.parametrize(
    ("format", "numbers", "sizes"),
    [("features", 100, {}), ("features", 300, {"input_size": 3}), ("float32", 400, {"hop_length": 4})],
)
def test_the_clients_own_pace_is_no_reason_to_give_up(format: str, numbers: int, sizes: dict[str, int]) -> None:
    """A hundred steps, one a second, of which ten may be sent at once."""
    limits = {"rate": 1.0, "burst_seconds": 20.0, **sizes}
    answer = push("answers", numbers=numbers, limits=limits, format=format, giveUpAfter=3)
    assert answer["error"] is None
    assert answer["at"] == pytest.approx(100 - 10, abs=0.1)
    assert len(answer["connections"]) == 1
