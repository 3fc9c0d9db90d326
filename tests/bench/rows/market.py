"""What market data costs those who trade: the same flow with two readers of the broadcast, and without."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import ringlane
from ringlane.flow import OrderFlow

from bench.measure import interleave, pin, steady
from bench.row import Bench, Measured, row, times_faster
from bench.rows.throughput import BATCH, DEPTH, IN_FLIGHT, RECORD_BYTES, SEED, pump, warm_memory
from bench.sidecars import open_lane, sidecar, state

READERS = 2
POLL_SECONDS = 0.01


@contextmanager
def readers(address: str, cpu: int, count: int) -> Iterator[None]:
    """Processes that map the ring and read what they can, beside the writer on its core."""
    children = []
    try:
        for _ in range(count):
            ready, told = os.pipe()
            child = os.fork()
            if child == 0:
                os.close(ready)
                pin(cpu)
                with ringlane.connect(address) as client:
                    feed = client.market_data(levels=0, poll_interval=POLL_SECONDS)
                    os.write(told, b"x")
                    while True:
                        feed.read(timeout=None)
            children.append(child)
            os.close(told)
            with os.fdopen(ready, "rb") as pipe:
                assert pipe.read(1) == b"x", "a reader did not begin"
        yield
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def flow_rate(bench: Bench, count: int, broadcast: bool, read: int) -> float:
    """Orders a second over `count` orders of the flow, with market data told or not, and so many readers running."""
    with sidecar(bench) as ours, ringlane.connect(ours.address) as watcher, open_lane(ours.address, DEPTH) as lane:
        feed = watcher.market_data() if broadcast else None
        with steady(bench.client_cpu), readers(ours.address, bench.client_cpu, read):
            flow = OrderFlow(seed=SEED, worker=0, workers=1)
            pump(lane, flow, lambda orders: orders < BATCH * IN_FLIGHT)
            warm_memory(2 * count * RECORD_BYTES)
            orders, seconds = pump(lane, flow, lambda orders: orders < count)
            counters = state(ours.address)
            assert counters.trades > 0.01 * orders, counters
        if feed is not None:
            number = watcher.market_data([1]).number
            # Every trade is told, and levels beside them.
            assert number > counters.trades, (number, counters)
        return orders / seconds


@row("market_data_cost", "1/s", times_faster(0.9, 0.97))
def cost(bench: Bench) -> Measured:
    """Orders a second of one writer with the broadcast of all symbols on and two Python readers, over the same with it off.

    The flow of `throughput_batch_4096`. The readers are processes of their own that copy out all that comes, every 10 ms, and
    keep no books. On two cores they share the writer's, whose time they take like any other program there; the details have
    the rate with the broadcast on and nobody reading, which is what telling costs the sidecar alone.
    """
    count = bench.scaled(8_000_000, BATCH * 64)
    pairs = interleave(
        bench.pairs,
        lambda: flow_rate(bench, count, broadcast=True, read=READERS),
        lambda: flow_rate(bench, count, broadcast=False, read=0),
    )
    unread = flow_rate(bench, count, broadcast=True, read=0)
    return Measured.of(pairs, "the same without market data", orders_a_run=count, rate_unread=unread)
