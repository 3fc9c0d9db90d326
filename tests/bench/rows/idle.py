"""What a sidecar takes when nobody asks anything."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

from bench.measure import interleave
from bench.row import Bench, Measured, at_most, row
from bench.sidecars import open_lane, sidecar, time_calls

LANES = 16


def cpu_ns(pid: int) -> int:
    """Time on a core of all threads of a process, ns, as the scheduler counts it."""
    return sum(int(path.read_text().split()[0]) for path in Path("/proc").glob(f"{pid}/task/*/schedstat"))


@row("idle_cpu_16_lanes", "fraction", at_most(0.01, 0.002))
def idle_lanes(bench: Bench) -> Measured:
    """Fraction of one core that a sidecar takes with 16 open lanes on which nothing happens, beside one without lanes.

    Each lane has carried an order before, so that it is parked and not merely unused. Read from the scheduler's own
    nanosecond counters over 5 seconds; the reference counts as a millionth at least, so that the ratio stays finite.
    """
    seconds = bench.seconds(5)

    def fraction(pid: int) -> float:
        time.sleep(0.5)
        before, start = cpu_ns(pid), time.perf_counter_ns()
        time.sleep(seconds)
        return (cpu_ns(pid) - before) / (time.perf_counter_ns() - start)

    with sidecar(bench) as ours, sidecar(bench) as bare, ExitStack() as stack:
        for number in range(LANES):
            time_calls(stack.enter_context(open_lane(ours.address, 1024, 1024)), 2, account=1 + number)
        pairs = interleave(bench.pairs, lambda: fraction(ours.pid), lambda: max(fraction(bare.pid), 1e-6))
    return Measured.of(pairs, "a sidecar without lanes", lanes=LANES, seconds=seconds)
