"""What a server counts of itself, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
_STREAMS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


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
        self.latency = Histogram(
            "streamdrnn_latency_seconds",
            "From a message's arrival to its result.",
            ["model"],
            buckets=_SECONDS,
            registry=r,
        )
        self.refusals = Counter("streamdrnn_refusals", "Connections that were ended, by why.", ["code"], registry=r)
        self.snapshots = Counter("streamdrnn_snapshots", "Snapshots that were saved.", registry=r)
        self.store_failures = Counter("streamdrnn_store_failures", "Times that the store failed.", registry=r)
        self.store_bytes = Gauge("streamdrnn_store_bytes", "Size of the store when it was last checked.", registry=r)
        self.store_seconds = Histogram(
            "streamdrnn_store_seconds", "Time that the store took to answer.", ["call"], buckets=_SECONDS, registry=r
        )
