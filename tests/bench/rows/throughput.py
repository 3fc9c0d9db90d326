"""As many orders as go: one writer, batches of 4,096, filled in place."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from ringlane.flow import OrderFlow

from bench import peers
from bench.limits import limit
from bench.measure import interleave, steady
from bench.row import Bench, Measured, at_least, row, times_faster
from bench.sidecars import finish, open_lane, sidecar, state

BATCH, DEPTH = 4096, 65_536
RECORD_BYTES = 64
IN_FLIGHT = DEPTH // BATCH - 1
SEED = 20_260_101


def pump(lane: Any, flow: OrderFlow, go_on: Callable[[int], bool]) -> tuple[int, float]:
    """Fills reservations of 4,096 slots by the flow while `go_on(orders)`; gives orders answered and seconds."""
    tickets: deque[Any] = deque()
    orders = 0
    start = time.perf_counter()
    while go_on(orders):
        if len(tickets) == IN_FLIGHT:
            finish(tickets.popleft())
        reservation = lane.reserve(BATCH)
        with reservation as slots:
            flow.fill(slots)
        tickets.append(reservation.ticket)
        orders += BATCH
    while tickets:
        finish(tickets.popleft())
    return orders, time.perf_counter() - start


def warm_memory(size_bytes: int) -> None:
    """Touches free memory once, in a process of its own, so that the recording's pages are backed by real memory.

    A virtual machine may give free memory back to its host; the first touch of such a page then costs some 15 us here,
    and a cold recording measures the host. A machine that has been at work has warm memory.
    `throughput_sustained_60s` runs without it.
    """
    touch = f"import mmap; memory = mmap.mmap(-1, {size_bytes}); [memory.write_byte(1) or memory.seek(4095, 1) for _ in range({size_bytes} // 4096)]"
    subprocess.run([sys.executable, "-c", touch], check=True)


def flow_rate(bench: Bench, count: int, config: dict[str, Any] | None = None) -> float:
    """Orders a second of a fresh sidecar over `count` orders of the flow; the flow begins anew with the books."""
    with sidecar(bench, orders=config) as ours, open_lane(ours.address, DEPTH) as lane, steady(bench.client_cpu):
        flow = OrderFlow(seed=SEED, worker=0, workers=1)
        pump(lane, flow, lambda orders: orders < BATCH * IN_FLIGHT)
        warm_memory(2 * count * RECORD_BYTES)
        orders, seconds = pump(lane, flow, lambda orders: orders < count)
        counters = state(ours.address)
        # The flow must be orders that do something.
        assert counters.accepted > 0.9 * orders, counters
        assert counters.trades > 0.01 * orders, counters
        return orders / seconds


@row("throughput_batch_4096", "1/s", at_least(4e6, 10e6))
def batches(bench: Bench) -> Measured:
    """Orders a second of one writer that fills reserved slots with the flow of `make run`, all stages, recorded.

    20 M orders a run, from the first reservation to the last result, making the orders included. Beside it a bare
    stream: two Rust processes that copy the same 64 bytes there and back in batches of 4,096 and do nothing else.
    """
    count = bench.scaled(20_000_000, BATCH * 64)
    pairs = interleave(
        bench.pairs,
        lambda: flow_rate(bench, count),
        lambda: float(limit(bench, "stream", records=bench.scaled(40_000_000))["per_second"]),
    )
    bench.scratch.mkdir(parents=True, exist_ok=True)
    append = limit(bench, "append", directory=bench.scratch, records=bench.scaled(4_000_000))
    copy = limit(bench, "copy", bytes=256 << 20)
    details = {
        "orders_a_run": count,
        "append_per_second": append["per_second"],
        "copy_bytes_per_second": copy["per_second"],
    }
    return Measured.of(pairs, "bare stream of 64-byte records over shared memory", **details)


@row("throughput_batch_4096_vs_pipe", "1/s", times_faster(16, 40))
def versus_pipe(bench: Bench) -> Measured:
    """The same against `multiprocessing.Pipe`: a bare 64-byte echo with 256 in flight.

    The pipe is what Python itself offers between two processes. Its server does nothing with a message. Each side runs
    the way that it is quickest: the pipe has no batches, so its window is filled message by message.
    """
    with peers.pipe(bench) as end:

        def echoes() -> float:
            with steady(bench.client_cpu):
                return peers.pipe_rate(end, bench.scaled(200_000))

        count = bench.scaled(8_000_000, BATCH * 64)
        pairs = interleave(bench.pairs, lambda: flow_rate(bench, count), echoes)
    return Measured.of(pairs, "multiprocessing.Pipe, bare echo, 256 in flight", orders_a_run=count)


@row("throughput_sustained_60s", "1/s")
def sustained(bench: Bench) -> Measured:
    """The same writer for 60 seconds without a pause, beside its own first five seconds; no bar.

    Whatever grows or fills up (books, recording, page cache) shows here as a rate that falls.
    """
    marks: list[tuple[float, int]] = []
    seconds = bench.seconds(60)
    with sidecar(bench) as ours, open_lane(ours.address, DEPTH) as lane, steady(bench.client_cpu):
        flow = OrderFlow(seed=SEED, worker=0, workers=1)
        start = time.perf_counter()

        def go_on(orders: int) -> bool:
            passed = time.perf_counter() - start
            if passed >= len(marks) + 1:
                marks.append((passed, orders))
            return passed < seconds

        orders, took = pump(lane, flow, go_on)
    total = orders / took
    edges = [(0.0, 0), *marks]
    rates = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(edges)]
    first = marks[4][1] / marks[4][0] if len(marks) > 4 else total
    details = {
        "orders": orders,
        "seconds": took,
        "rate_each_second": rates,
        "rate_slowest_second": min(rates, default=total),
    }
    return Measured(total, "its own first 5 seconds", first, total / first, details)
