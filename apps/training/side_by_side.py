"""Trainings that do not need one another, each on one core in a process of its own.

Small networks gain nothing from a second thread, and one thread computes the same numbers however many cores there are.
"""

import multiprocessing
import pickle
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, TypeVar

import torch

Progress = Callable[[str, int, int, float], None]
"""Called after each step with what is trained, the step, the number of steps, and the loss."""

J = TypeVar("J")
R = TypeVar("R")


def side_by_side(work: Callable[[J, Progress], R], jobs: Sequence[J], progress: Progress) -> list[R]:
    """What ``work`` makes of each job, in their order; as many at once as torch has threads.

    Args:
        work: a function of a module, called in another process with a job and what it reports its steps to.

    Raises:
        Exception: what ``work`` raised.
        ChildProcessError: a process was killed.
        In either case the others are ended.
    """
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    waiting = list(enumerate(jobs))
    running: dict[Connection, tuple[int, SpawnProcess]] = {}
    results: dict[int, R] = {}
    try:
        while waiting or running:
            while waiting and len(running) < torch.get_num_threads():
                number, job = waiting.pop(0)
                reader, writer = context.Pipe(duplex=False)
                process = context.Process(target=_run, args=(work, job, writer), daemon=True)
                process.start()
                writer.close()  # so that the pipe ends with the process
                running[reader] = number, process
            for pipe in wait(list(running)):
                assert isinstance(pipe, Connection)
                number, process = running[pipe]
                try:
                    kind, *what = pickle.loads(pipe.recv_bytes())
                except EOFError:
                    del running[pipe]
                    process.join()
                    if number not in results:
                        raise ChildProcessError(f"a training was ended, exit code {process.exitcode}") from None
                    continue
                if kind == "step":
                    progress(*what)
                elif kind == "result":
                    (results[number],) = what
                else:
                    raise what[0]
    finally:
        for _, process in running.values():
            process.terminate()
            process.join()
    return [results[number] for number in range(len(jobs))]


def _run(work: Callable[[J, Progress], R], job: J, pipe: Connection) -> None:
    def tell(*message: Any) -> None:
        # Not pipe.send, which shares the memory of tensors, and with this process that is gone.
        pipe.send_bytes(pickle.dumps(message))

    torch.set_num_threads(1)
    try:
        result = work(job, partial(tell, "step"))
    except Exception as error:
        tell("error", error)
    else:
        tell("result", result)
