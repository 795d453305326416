"""Counts that are kept in our own way read as the library's."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from streamdrnn.apps.serving.metrics import Latencies
from tests.strategies import examples

BOUNDS = (0.125, 0.5, 2.0)
# In units of 1 / 1024 s sums are exact in any order; a bound itself is counted below it.
seconds = st.integers(0, 4096).map(lambda n: n / 1024) | st.sampled_from(BOUNDS)


def page(registry: CollectorRegistry) -> list[str]:
    """What Prometheus reads, but for when it began."""
    return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]


@examples(50)
@given(st.lists(st.tuples(st.sampled_from(["first", "second"]), st.lists(seconds, max_size=5)), max_size=6))
def test_latencies_read_as_a_histogram(passes: list[tuple[str, list[float]]]) -> None:
    theirs, ours = CollectorRegistry(), CollectorRegistry()
    histogram = Histogram("late", "How late.", ["model"], buckets=BOUNDS, registry=theirs)
    latencies = Latencies("late", "How late.", BOUNDS, ours)
    for model in ("first", "second"):
        histogram.labels(model)
        latencies.add(model)
    for model, numbers in passes:
        latencies.observe(model, numbers)
        for number in numbers:
            histogram.labels(model).observe(number)
    assert page(ours) == page(theirs)
