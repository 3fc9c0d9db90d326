"""One order there and back, with `lane.call`: spinning, against another library, and from sleep."""

from __future__ import annotations

from typing import Any

from bench import peers
from bench.limits import limit
from bench.measure import interleave, percentile, steady, summary, timer_cost_ns
from bench.row import Bench, Measured, at_most_times, row, times_faster
from bench.sidecars import open_lane, sidecar, sleeps, time_calls

PAUSE_S = 0.005
"""Sleep between orders of the sleeping rows: several times what a sidecar polls a quiet lane before it parks it."""


@row("rtt_single_order_python_p50", "ns", at_most_times(7, 4))
def spinning(bench: Bench) -> Measured:
    """One new limit order through `lane.call`, against one cache line there and back between the same two cores.

    Every stage runs (half of the orders trade) and the recording is on. No answer can be faster than the cache line,
    which two bare Rust processes exchange in the same turn of the pair. Both sides are timed around each round trip and
    keep the cost of their own timer, ours the dearer one; the details give both costs and the ratio without them.
    """
    timer_ns = timer_cost_ns()
    limits, ours_all = [], []
    with sidecar(bench) as ours, open_lane(ours.address) as lane, steady(bench.client_cpu):
        time_calls(lane, bench.scaled(20_000, 1000))

        def call_p50() -> float:
            samples = time_calls(lane, bench.scaled(100_000, 2000))
            ours_all.append(summary(samples))
            return percentile(samples, 0.5)

        def limit_p50() -> float:
            limits.append(limit(bench, "cache-line", count=bench.scaled(200_000)))
            return float(limits[-1]["p50_ns"])

        pairs = interleave(bench.pairs, call_p50, limit_p50)
    limit_timer_ns = float(limits[0]["timer_ns"])
    net = [(a - timer_ns) / (b - limit_timer_ns) for a, b in zip(pairs.ours, pairs.theirs, strict=True)]
    return Measured.of(
        pairs,
        "cache line there and back, both spinning",
        timer_ns=timer_ns,
        reference_timer_ns=limit_timer_ns,
        value_without_timer_ns=pairs.value - timer_ns,
        ratios_without_timers=net,
        percentiles=ours_all,
    )


@row("rtt_single_order_python_vs_iceoryx2", "ns", times_faster(6, 12))
def versus_iceoryx2(bench: Bench) -> Measured:
    """The same order against a bare 64-byte echo of iceoryx2's Python request-response, both of its sides polling.

    It is the fastest exchange that a Python user finds ready-made. Its server is Python and does nothing; ours checks,
    matches, settles and records. Same cores, same interpreter version, same timer around each call.
    """
    with sidecar(bench) as ours, open_lane(ours.address) as lane, steady(bench.client_cpu):
        time_calls(lane, bench.scaled(20_000, 1000))
        peers.peer_python()
        pairs = interleave(
            bench.pairs,
            lambda: percentile(time_calls(lane, bench.scaled(50_000, 2000)), 0.5),
            lambda: float(peers.iceoryx2(bench, bench.scaled(20_000, 2000))["p50_ns"]),
            theirs_over_ours=True,
        )
    return Measured.of(pairs, "iceoryx2 0.10 Python request-response, busy polling", timer_ns=timer_cost_ns())


def sleeping_p50(pid: int, lane: Any, count: int) -> float:
    """p50 of `lane.call` after a pause each, and the proof that the sidecar slept in the pauses."""
    before = sleeps(pid)
    p50 = percentile(time_calls(lane, count, pause_s=PAUSE_S), 0.5)
    slept = sleeps(pid) - before
    assert slept >= 0.8 * count, f"the sidecar slept before {slept} of {count} orders only"
    return p50


@row("rtt_sleeping_python_p50", "ns", at_most_times(1.25, 1.0))
def sleeping(bench: Bench) -> Measured:
    """One order through `lane.call` when both sides slept before it, against a raw Unix socket echo from Python.

    Both sides of both pairs sleep 5 ms before each message, long enough for the sidecar to park the lane and block, and
    run on the same two cores. The socket's server does nothing but give the bytes back.
    """
    count = bench.scaled(300, 50)
    with (
        sidecar(bench) as ours,
        open_lane(ours.address) as lane,
        peers.unix_socket(bench) as socket,
        steady(bench.client_cpu),
    ):
        pairs = interleave(
            bench.pairs,
            lambda: sleeping_p50(ours.pid, lane, count),
            lambda: percentile(peers.time_socket(socket, count, PAUSE_S), 0.5),
        )
    return Measured.of(pairs, "raw Unix socket echo from Python, both asleep", timer_ns=timer_cost_ns())


@row("rtt_sleeping_python_p50_vs_rust_socket", "ns")
def sleeping_versus_rust(bench: Bench) -> Measured:
    """The same against a raw Unix socket echo between two bare Rust processes with the same pauses; no bar.

    This is what the kernel alone takes to wake two processes, without any Python.
    """
    count, pause_us = bench.scaled(300, 50), int(PAUSE_S * 1e6)
    with sidecar(bench) as ours, open_lane(ours.address) as lane, steady(bench.client_cpu):
        pairs = interleave(
            bench.pairs,
            lambda: sleeping_p50(ours.pid, lane, count),
            lambda: float(limit(bench, "socket", count=count, pause_us=pause_us)["p50_ns"]),
        )
    return Measured.of(pairs, "raw Unix socket echo in Rust, both asleep", timer_ns=timer_cost_ns())
