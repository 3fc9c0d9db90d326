"""What many lanes cost the one that is used, and what they cost when all are used."""

from __future__ import annotations

import resource
import time
from contextlib import ExitStack
from typing import Any

from bench.measure import interleave, percentile, steady
from bench.row import Bench, Measured, at_most_times, row
from bench.sidecars import AT_CAP, AT_CAP_ORDERS, neutral_batch, open_lane, saturate, sidecar, time_calls

LANES = 256
SLOTS = 262_144
"""Slots of all lanes together in `lanes_256_active`, the same on both sides so that caches decide nothing."""


def allow_files() -> None:
    """256 clients hold more descriptors than the usual soft limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(65_536, wanted)), hard))


@row("lanes_256_idle", "ns", at_most_times(1.2, 1.05))
def idle_neighbours(bench: Bench) -> Measured:
    """p50 of `lane.call` on one lane while 255 others are open and idle, against the same without them.

    Two sidecars, one with and one without the 255, are asked in turns; the one that is not asked sleeps. The idle lanes
    carried an order before.
    """
    allow_files()
    count = bench.scaled(50_000, 2000)
    with sidecar(bench) as crowded, sidecar(bench) as alone, ExitStack() as stack:
        for number in range(LANES - 1):
            time_calls(stack.enter_context(open_lane(crowded.address, 64, 64)), 2, account=2 + number)
        beside = stack.enter_context(open_lane(crowded.address))
        single = stack.enter_context(open_lane(alone.address))
        with steady(bench.client_cpu):
            for lane in (beside, single):
                time_calls(lane, bench.scaled(20_000, 1000))
            pairs = interleave(
                bench.pairs,
                lambda: percentile(time_calls(beside, count), 0.5),
                lambda: percentile(time_calls(single, count), 0.5),
            )
    return Measured.of(pairs, "the same lane alone", lanes=LANES)


@row("lanes_256_active", "ns", at_most_times(1.2, 1.05))
def active_neighbours(bench: Bench) -> Measured:
    """Time an order when 256 lanes are all kept full, against one lane that is kept full.

    The same 256 prepared batches of 512 orders go round in both cases, and all slots together take the same memory, so
    that the only difference is by how many lanes they come. The writer copies a batch in less time than the sidecar
    needs for it, so the time is the sidecar's. Both journals are at their cap.
    """
    allow_files()
    each = SLOTS // LANES
    total = bench.scaled(8_000_000, SLOTS * 4)
    with sidecar(bench, **AT_CAP) as many, sidecar(bench, **AT_CAP) as one, ExitStack() as stack:
        lanes = [stack.enter_context(open_lane(many.address, each, 64)) for _ in range(LANES)]
        single = stack.enter_context(open_lane(one.address, SLOTS, 64))
        batches = [neutral_batch(single.request_dtype, each // 2, 1 + number) for number in range(LANES)]

        def time_an_order(pairs: list[tuple[Any, Any]], in_flight: int) -> float:
            start = time.perf_counter_ns()
            served = saturate(pairs, in_flight, lambda orders: orders < total)
            return (time.perf_counter_ns() - start) / served

        by_many, by_one = list(zip(lanes, batches, strict=True)), [(single, batch) for batch in batches]
        with steady(bench.client_cpu):
            for pairs in (by_many, by_one):
                saturate(pairs, 2, lambda orders: orders < bench.scaled(AT_CAP_ORDERS))
            pairs = interleave(bench.pairs, lambda: time_an_order(by_many, 2), lambda: time_an_order(by_one, 2))
    return Measured.of(pairs, "the same orders by one lane", lanes=LANES, orders_a_run=total)
