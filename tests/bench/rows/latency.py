"""Latency under a steady rate: orders come by the clock, and each is timed from the moment it was due."""

from __future__ import annotations

import time
from array import array
from typing import Any

from bench.limits import limit
from bench.measure import interleave, percentile, pin, steady, summary, wait_until
from bench.peers import PROCESSES
from bench.row import Bench, Measured, at_most, row
from bench.sidecars import (
    AT_CAP,
    AT_CAP_ORDERS,
    GTC,
    LIMIT,
    NEW,
    code_index,
    neutral_batch,
    open_lane,
    order_arguments,
    saturate,
    sidecar,
)

RATE = 120_000
LEAD_NS = 20_000_000
"""Time from setting the schedule to the first order, so that the loop is waiting when it comes."""


def scheduled(
    lane: Any, rate: int, orders: list[tuple[int, int, int]], start_ns: int, *, account: int = 1, yielding: bool = False
) -> list[int]:
    """Sends order `i` at `start + i / rate` and gives each order's latency from that moment, ns.

    An order that is late because the one before it was slow counts its wait: nothing is left out because we were busy.
    """
    call, clock = lane.call, time.perf_counter_ns
    # Memory that is there before the clock starts: a growing list would fault pages in beside the orders.
    at, codes, samples = code_index(lane), set(), array("q", bytes(8 * len(orders)))
    for index, (side, number, price) in enumerate(orders):
        due = start_ns + index * 1_000_000_000 // rate
        wait_until(due, yielding=yielding)
        result = call(NEW, side, LIMIT, GTC, account, account, 0, number, price, 100)
        samples[index] = clock() - due
        codes.add(result[at])
    assert codes == {0}, f"orders were rejected: {codes}"
    return samples.tolist()


@row("latency_at_120k", "ns", at_most(200_000, 50_000))
def one_writer(bench: Bench) -> Measured:
    """p99 of one pinned writer at 120,000 orders/s on the clock, from the scheduled moment, recording on.

    Beside it a bare 64-byte shared-memory echo between two Rust processes on the same schedule: what is left of the
    tail there is the machine's. The journal is at its cap.
    """
    seconds = bench.seconds(5)
    total = int(RATE * seconds)
    ours_all, bare_all = [], []
    with (
        sidecar(bench, **AT_CAP) as ours,
        open_lane(ours.address) as lane,
        steady(bench.client_cpu),
    ):
        fill = neutral_batch(lane.request_dtype, 4096, account=2)
        saturate([(lane, fill)], 8, lambda orders: orders < bench.scaled(AT_CAP_ORDERS))
        orders = order_arguments(bench.scaled(60_000))
        scheduled(lane, RATE, orders, time.perf_counter_ns() + LEAD_NS)

        def p99() -> float:
            orders = order_arguments(total)
            samples = scheduled(lane, RATE, orders, time.perf_counter_ns() + LEAD_NS)
            ours_all.append(summary(samples))
            return percentile(samples, 0.99)

        def bare_p99() -> float:
            bare_all.append(limit(bench, "echo", rate=RATE, seconds=seconds))
            return float(bare_all[-1]["p99_ns"])

        pairs = interleave(bench.pairs, p99, bare_p99)
    return Measured.of(
        pairs, "bare shared-memory echo, same schedule", percentiles=ours_all, reference_percentiles=bare_all
    )


def worker(address: str, cpu: int, number: int, rate: int, total: int, start_ns: int, report: Any) -> None:
    """A writer of its own process; sends its samples' percentiles and its p99."""
    with open_lane(address) as lane, steady(cpu):
        pin(cpu)
        samples = scheduled(lane, rate, order_arguments(total), start_ns, account=number + 1, yielding=True)
    report.send({"p99": percentile(samples, 0.99), "percentiles": summary(samples)})


@row("latency_at_120k_2_workers", "ns")
def two_writers(bench: Bench) -> Measured:
    """p99 of two writers at 60,000 orders/s each, the worse of the two, beside one at 120,000; no bar.

    On two cores the writers share the one that the sidecar leaves, and each gives it up while it waits for its turn:
    what is measured is the exchange and the kernel's switching between processes together.
    """
    seconds = bench.seconds(3)
    percentiles = []
    with sidecar(bench) as ours:

        def two() -> float:
            start_ns = time.perf_counter_ns() + 2_000_000_000
            reports = []
            for number in range(2):
                receiver, sender = PROCESSES.Pipe(duplex=False)
                due = start_ns + number * 1_000_000_000 // RATE
                arguments = (ours.address, bench.client_cpu, number, RATE // 2, int(RATE // 2 * seconds), due, sender)
                process = PROCESSES.Process(target=worker, args=arguments, daemon=True)
                process.start()
                reports.append((receiver, process))
            results = [receiver.recv() for receiver, _ in reports]
            for _, process in reports:
                process.join()
            percentiles.append([result["percentiles"] for result in results])
            return max(float(result["p99"]) for result in results)

        def one() -> float:
            with open_lane(ours.address) as lane, steady(bench.client_cpu):
                orders = order_arguments(int(RATE * seconds))
                start_ns = time.perf_counter_ns() + LEAD_NS
                return percentile(scheduled(lane, RATE, orders, start_ns, account=3), 0.99)

        pairs = interleave(bench.pairs, two, one)
    return Measured.of(pairs, "one writer at 120,000 orders/s", percentiles=percentiles)
