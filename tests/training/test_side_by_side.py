"""Trainings beside one another: all are done, in order, and all are heard of."""

import os
import signal
import time
from pathlib import Path

import pytest
import torch

from streamdrnn.apps.training.side_by_side import Progress, side_by_side


def count(to: int, progress: Progress) -> tuple[int, int, int]:
    for step in range(to):
        progress(f"to {to}", step + 1, to, 0.5)
    return to, torch.get_num_threads(), os.getpid()


def refuse(what: str, progress: Progress) -> None:
    progress(what, 1, 1, 0.0)
    raise ValueError(f"{what}: expected something else")


def last_for_ever(note: Path, progress: Progress) -> None:
    """Write down the process, or that it was waited for."""
    note.write_text(str(os.getpid()))
    progress("it", 1, 2, 0.0)
    time.sleep(60)
    note.write_text("waited")


def refuse_or_last(job: Path | str, progress: Progress) -> None:
    if isinstance(job, str):
        refuse(job, progress)
    else:
        last_for_ever(job, progress)


def die(what: str, progress: Progress) -> None:
    progress(what, 1, 1, 0.0)
    os.kill(os.getpid(), signal.SIGKILL)


def has_ended(note: Path) -> bool:
    """Whether the process that wrote a note is no more."""
    return not note.exists() or not Path(f"/proc/{note.read_text()}").exists()


def test_every_job_is_done_on_one_thread_and_its_steps_are_reported_in_order() -> None:
    heard: dict[str, list[int]] = {}
    results = side_by_side(count, [3, 1, 40], lambda what, step, steps, loss: heard.setdefault(what, []).append(step))
    assert [(to, threads) for to, threads, _ in results] == [(3, 1), (1, 1), (40, 1)]
    assert os.getpid() not in {process for _, _, process in results}
    assert heard == {"to 3": [1, 2, 3], "to 1": [1], "to 40": list(range(1, 41))}


def double(tensor: torch.Tensor, progress: Progress) -> torch.Tensor:
    return 2 * tensor


def test_tensors_come_back_when_their_process_is_gone() -> None:
    jobs = [torch.randn(100_000) for _ in range(2)]
    for job, result in zip(jobs, side_by_side(double, jobs, lambda *_: None), strict=True):
        assert torch.equal(result, 2 * job)


def test_what_a_job_raises_is_raised_and_the_others_are_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    jobs: list[Path | str] = [tmp_path / "first", "second"]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    with pytest.raises(ValueError, match="second: expected something else"):
        side_by_side(refuse_or_last, jobs, lambda what, *_: heard.append(what))
    assert heard[-1] == "second"
    assert has_ended(tmp_path / "first")


def test_an_interruption_ends_all(tmp_path: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        side_by_side(last_for_ever, [tmp_path / "first", tmp_path / "second"], interrupt)
    assert has_ended(tmp_path / "first")
    assert has_ended(tmp_path / "second")


def test_a_process_that_is_killed_is_an_error_not_a_wait() -> None:
    with pytest.raises(ChildProcessError, match="ended, exit code -9"):
        side_by_side(die, ["a", "b"], lambda *_: None)
