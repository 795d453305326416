"""What a server counts of itself, for Prometheus."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Union

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from streamdrnn.apps.serving.limits import Cut
from streamdrnn.client.protocol import Code

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
_STREAMS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Latencies(Collector):
    """A histogram that many numbers are put into at a time: the library's own takes ten times as long for each.

    Args:
        name, what: of the metric.
        bounds: of its buckets, rising.
    """

    def __init__(self, name: str, what: str, bounds: Sequence[float], registry: CollectorRegistry) -> None:
        self._name, self._what, self._bounds = name, what, bounds
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}
        registry.register(self)

    def add(self, model: str) -> None:
        """Count for a model too."""
        self._counts[model], self._sums[model] = [0] * (len(self._bounds) + 1), 0.0

    def observe(self, model: str, seconds: Sequence[float]) -> None:
        counts, bounds = self._counts[model], self._bounds
        for number in seconds:
            counts[bisect_left(bounds, number)] += 1
        self._sums[model] += sum(seconds)

    def collect(self) -> Iterable[HistogramMetricFamily]:
        family = HistogramMetricFamily(self._name, self._what, labels=["model"])
        names = [*map(str, self._bounds), "+Inf"]
        for model, counts in self._counts.items():
            family.add_metric([model], list(zip(names, accumulate(counts), strict=True)), self._sums[model])
        yield family


class Metrics:
    """The counts of one server; none of them names a stream."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        ProcessCollector(registry=r)
        self.streams = Gauge("streamdrnn_streams", "Streams that are open.", ["model"], registry=r)
        self.capacity = Gauge("streamdrnn_capacity", "Streams that may be open.", ["model"], registry=r)
        self.waiting = Gauge("streamdrnn_waiting", "Messages that wait for a pass.", ["model"], registry=r)
        self.steps = Counter("streamdrnn_steps", "Steps of the network that were made.", ["model"], registry=r)
        self.batch = Histogram(
            "streamdrnn_batch_streams", "Streams in one pass.", ["model"], buckets=_STREAMS, registry=r
        )
        self.passes = Histogram("streamdrnn_pass_seconds", "Time of a pass.", ["model"], buckets=_SECONDS, registry=r)
        self.latency = Latencies("streamdrnn_latency_seconds", "From a message's arrival to its result.", _SECONDS, r)
        self._refusals = Counter("streamdrnn_refusals", "Connections that were ended, by why.", ["code"], registry=r)
        for why in (*Code, *Cut):
            self._refusals.labels(why.name.lower())  # 0 until it is counted
        self.snapshots = Counter("streamdrnn_snapshots", "Snapshots that were saved.", registry=r)
        self.store_failures = Counter("streamdrnn_store_failures", "Times that the store failed.", registry=r)
        self.store_bytes = Gauge("streamdrnn_store_bytes", "Size of the store when it was last checked.", registry=r)
        self.store_seconds = Histogram(
            "streamdrnn_store_seconds", "Time that the store took to answer.", ["call"], buckets=_SECONDS, registry=r
        )

    def refused(self, why: Union[Code, Cut]) -> None:
        """Count a connection that the server ends."""
        self._refusals.labels(why.name.lower()).inc()
