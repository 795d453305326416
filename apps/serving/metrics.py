"""What a server counts of itself, for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
_STREAMS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The counts of one server; none of them names a stream."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.streams = Gauge("streamdrnn_streams", "Streams that are open.", ["model"], registry=r)
        self.steps = Counter("streamdrnn_steps", "Steps of the network that were made.", ["model"], registry=r)
        self.batch = Histogram(
            "streamdrnn_batch_streams", "Streams in one pass.", ["model"], buckets=_STREAMS, registry=r
        )
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
