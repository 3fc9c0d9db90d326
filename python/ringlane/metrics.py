"""Metrics of a worker process for `prometheus_client`: what its own lanes did, and what waiting for them cost.

    pip install ringlane prometheus_client

    import ringlane.metrics
    ringlane.metrics.register(client)

The package itself does not need `prometheus_client`; only this module does, and only once it is used.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import Client

_BOUND_POWERS = range(10, 34)
"""Powers of two that bound the latency buckets, nanoseconds: 1 us to 8.6 s."""

_COUNTERS = (
    ("ringlane_client_batches", "Batches that this process submitted", "batches", 1.0),
    ("ringlane_client_records", "Records in them", "records", 1.0),
    (
        "ringlane_client_fill_seconds",
        "Time from batches' slots being there to their being submitted",
        "fill_ns",
        1e9,
    ),
    ("ringlane_client_waits", "Waits for results", "waits", 1.0),
    ("ringlane_client_wait_seconds", "Time spent waiting for results", "wait_ns", 1e9),
    ("ringlane_client_read_seconds", "Time spent making arrays of results", "read_ns", 1e9),
    ("ringlane_client_calls", "Calls of lane.call", "calls", 1.0),
    ("ringlane_client_calls_timed", "Those of them that were timed: one in 64", "calls_timed", 1.0),
    ("ringlane_client_call_fill_seconds", "Time that timed calls took to fill their slot", "call_fill_ns", 1e9),
    ("ringlane_client_call_wait_seconds", "Time that timed calls waited for their answer", "call_wait_ns", 1e9),
    ("ringlane_client_call_read_seconds", "Time that timed calls took to make a tuple of it", "call_read_ns", 1e9),
    ("ringlane_client_lane_full", "Times that LaneFull was raised", "lane_full", 1.0),
    ("ringlane_client_timeouts", "Times that a wait for results ended without them", "timeouts", 1.0),
)


class Collector:
    """A collector for a `prometheus_client` registry; one series a kernel. It keeps no client alive."""

    def __init__(self, client: Client) -> None:
        self._client = weakref.ref(client)

    def collect(self) -> Iterator[Any]:
        """The metric families, as `prometheus_client` wants them."""
        from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

        client = self._client()
        borders = dict(client._borders) if client is not None else {}
        for name, words, attribute, divisor in _COUNTERS:
            family = CounterMetricFamily(name, words, labels=["kernel"])
            for kernel, border in borders.items():
                family.add_metric([kernel], getattr(border, attribute) / divisor)
            yield family
        latency = HistogramMetricFamily(
            "ringlane_client_process_duration_seconds", "Times of process(), from batch to results", labels=["kernel"]
        )
        for kernel, border in borders.items():
            counts = list(border.latency)
            buckets = [(repr(2**power / 1e9), sum(counts[: power + 1])) for power in _BOUND_POWERS]
            latency.add_metric([kernel], [*buckets, ("+Inf", sum(counts))], border.latency_ns / 1e9)
        yield latency


def register(client: Client, registry: Any = None) -> Collector:
    """Enters the client's metrics into a registry of `prometheus_client` (default: its own). Gives the collector.

    Raises `ImportError` when `prometheus_client` is not installed.
    """
    if registry is None:
        from prometheus_client import REGISTRY as registry
    collector = Collector(client)
    registry.register(collector)
    return collector
