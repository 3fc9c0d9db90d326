"""What lanes do to each other: two that want everything, and a quiet one beside a greedy one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bench.measure import interleave, percentile, pin, sleep_until, steady, summary
from bench.peers import PROCESSES
from bench.row import Bench, Measured, at_least, at_most_times, row
from bench.sidecars import GTC, LIMIT, NEW, code_index, neutral_batch, open_lane, order_arguments, saturate, sidecar

BATCH, DEPTH = 4096, 65_536
IN_FLIGHT = DEPTH // BATCH - 1
START_UP_NS = 2_000_000_000
"""From starting the processes to the window that is counted: both are writing by then."""


def greedy(address: str, cpu: int, account: int, window: tuple[int, int], report: Any) -> None:
    """A process that keeps its lane full; sends how many of its orders were served within the window of the clock."""
    served = 0

    def count(orders: int) -> None:
        nonlocal served
        if window[0] <= time.perf_counter_ns() < window[1]:
            served += orders

    pin(cpu)
    with open_lane(address, DEPTH) as lane:
        batch = neutral_batch(lane.request_dtype, BATCH, account)
        # It goes on past the window's end, so that the other one never has the sidecar for itself within it.
        saturate([(lane, batch)], IN_FLIGHT, lambda _: time.perf_counter_ns() < window[1] + 200_000_000, count)
    report.send(served)


@contextmanager
def greedy_process(address: str, cpu: int, account: int, window: tuple[int, int]) -> Iterator[Any]:
    """Such a process; its count can be received from what this gives."""
    receiver, sender = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(target=greedy, args=(address, cpu, account, window, sender), daemon=True)
    process.start()
    try:
        yield receiver
    finally:
        process.join(10)
        process.kill()


@row("fairness_2", "fraction", at_least(0.45, 0.49))
def two_greedy(bench: Bench) -> Measured:
    """The smaller share of the orders served when two processes keep their lanes full, against one half.

    Both send the same prepared batches and always have 60,000 orders waiting, so that neither the making of orders nor
    the kernel's time slices on the core that they share decide who is served.
    """
    seconds = bench.seconds(3)
    shares = []
    with sidecar(bench) as ours:
        for _ in range(bench.pairs):
            start = time.perf_counter_ns() + START_UP_NS
            window = (start, start + int(seconds * 1e9))
            with (
                greedy_process(ours.address, bench.client_cpu, 1, window) as first,
                greedy_process(ours.address, bench.client_cpu, 2, window) as second,
            ):
                served = (first.recv(), second.recv())
            shares.append(served)
    smaller = sorted(min(pair) / sum(pair) for pair in shares)[len(shares) // 2]
    return Measured(smaller, "an equal share", 0.5, smaller / 0.5, {"served": shares, "seconds": seconds})


def quiet_orders(lane: Any, rate: int, count: int) -> tuple[list[int], list[int]]:
    """Sends `count` orders at `rate` a second; their latencies from the call and from the moment due, ns."""
    call, clock = lane.call, time.perf_counter_ns
    at = code_index(lane)
    from_call, from_due = [], []
    start_ns = clock() + 1_000_000
    for index, (side, number, price) in enumerate(order_arguments(count)):
        due = start_ns + index * 1_000_000_000 // rate
        sleep_until(due)
        start = clock()
        result = call(NEW, side, LIMIT, GTC, 60, 3, 0, number, price, 100)
        end = clock()
        from_call.append(end - start)
        from_due.append(end - due)
        assert result[at] == 0, result
    return from_call, from_due


@row("fairness_quiet_p99", "ns", at_most_times(10, 3))
def quiet_beside_greedy(bench: Bench) -> Measured:
    """p99 of a lane at 1,000 orders/s beside one that is kept full, against the same lane alone.

    Timed from the call, because how late the kernel wakes the quiet process is not the sidecar's doing (the details
    have the latency from the scheduled moment too). Alone, the sidecar sleeps between two orders; beside the greedy
    lane it is awake but busy, and the order waits for its lane's turn.
    """
    count = bench.scaled(3000, 300)
    details: dict[str, list[Any]] = {"beside": [], "alone": []}
    with sidecar(bench) as ours, open_lane(ours.address) as lane:

        def measure(name: str) -> float:
            with steady(bench.client_cpu):
                from_call, from_due = quiet_orders(lane, 1000, count)
            details[name].append({"from_call": summary(from_call), "from_due": summary(from_due)})
            return percentile(from_call, 0.99)

        def beside() -> float:
            start = time.perf_counter_ns() + START_UP_NS
            window = (start, start + count * 1_000_000 + 100_000_000)
            with greedy_process(ours.address, bench.client_cpu, 1, window) as served:
                sleep_until(start)
                p99 = measure("beside")
                details.setdefault("greedy_orders", []).append(served.recv())
            return p99

        pairs = interleave(bench.pairs, beside, lambda: measure("alone"))
    return Measured.of(pairs, "the same lane alone", **details)
