"""Limits and tokens by themselves."""

from pathlib import Path

import pytest

from streamdrnn.apps.serving.limits import Budget, Limits
from streamdrnn.apps.serving.tokens import Tokens


def test_a_budget_is_earned_at_its_rate_and_saved_up_to_its_most() -> None:
    budget = Budget(rate=10.0, most=20.0, now=100.0)
    assert budget.spend(20.0, 100.0) is None
    assert budget.spend(5.0, 100.1) == pytest.approx(0.4)
    assert budget.spend(5.0, 100.5) is None
    assert budget.spend(21.0, 1000.0) == pytest.approx(0.1)
    assert budget.spend(20.0, 1000.0) is None


@pytest.mark.parametrize("name", ["streams", "frame_steps", "rate", "window", "idle_seconds"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_limits_are_above_zero(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected above 0, got {value}"):
        Limits(**{name: value})  # type: ignore[arg-type]


def test_without_tokens_everybody_may() -> None:
    assert Tokens([]).allow(None)


def test_a_token_file(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text("\ufeff# of the microphones\n  0123456789abcdef  \n\n0123456789abcdeg\n")
    tokens = Tokens.read(path)
    assert tokens.allow("0123456789abcdef")
    assert tokens.allow("0123456789abcdeg")
    for wrong in (None, 1, "", "0123456789abcde", "0123456789abcdef ", "# of the microphones", "é", "\udcff"):
        assert not tokens.allow(wrong)
    for content, problem in [
        (b"# none\n", "has no token"),
        (b"short\n", "fewer than 16"),
        (b"\xff\xfe", "a text file"),
    ]:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=problem):
            Tokens.read(path)
    with pytest.raises(FileNotFoundError):
        Tokens.read(tmp_path / "missing")
