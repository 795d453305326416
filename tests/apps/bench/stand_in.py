"""The CPU in place of a GPU: all of the benchmark but the GPU itself can run on it."""

from streamdrnn.apps.bench.session import Session
from streamdrnn.apps.bench.target import Target, cpu
from streamdrnn.apps.bench.workloads import QUICK_GPU, Workload

STAND_IN = Target("cuda", "cpu", "torch", ("tf32", "ieee", "bf16", "fp16"), lambda: {"gpu": "none"}, seconds_each=0.3)
WORKLOAD = Workload("some", batch=3, steps=13, inputs=2, hidden=5, layers=3)


def session(target: Target = STAND_IN) -> Session:
    """A quick one, on the stand-in unless another target is given; it has time for all."""
    sizes = QUICK_GPU._replace(sequences=(WORKLOAD,))
    return Session(target, sizes, (), (), 2, True, lambda _: None)


def on_cpu() -> Session:
    """A quick one of the CPU's own."""
    return session(cpu())
