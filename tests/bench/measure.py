"""How time is taken: on pinned cores, with the collector off, in turns with what it is compared to."""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Pairs:
    """Two sides measured in turns."""

    ours: list[float]
    theirs: list[float]
    ratios: list[float]

    @property
    def value(self) -> float:
        """Median of our side."""
        return statistics.median(self.ours)

    @property
    def reference_value(self) -> float:
        """Median of the other side."""
        return statistics.median(self.theirs)

    @property
    def ratio(self) -> float:
        """Median of the pairs' ratios: noise that lasts longer than a pair falls out."""
        return statistics.median(self.ratios)


def interleave(
    pairs: int, ours: Callable[[], float], theirs: Callable[[], float], *, theirs_over_ours: bool = False
) -> Pairs:
    """Measures both sides `pairs` times, next to each other, each side first in every other pair.

    The ratio is ours / theirs, or the other way round where the row says "x faster" about times.
    """
    results: tuple[list[float], list[float]] = ([], [])
    for number in range(pairs):
        for side in (0, 1) if number % 2 == 0 else (1, 0):
            results[side].append(float((ours, theirs)[side]()))
    a, b = results
    ratios = [y / x if theirs_over_ours else x / y for x, y in zip(a, b, strict=True)]
    return Pairs(a, b, ratios)


def percentile(nanoseconds: Sequence[int] | np.ndarray[Any, Any], fraction: float) -> float:
    """The value below which `fraction` of the samples lie; always one of the samples."""
    return float(np.quantile(np.asarray(nanoseconds), fraction, method="lower"))


def summary(nanoseconds: Sequence[int] | np.ndarray[Any, Any]) -> dict[str, float]:
    """The percentiles that the report's details show, ns."""
    marks = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}
    return {name: percentile(nanoseconds, mark) for name, mark in marks.items()}


def pin(cpu: int) -> None:
    """This thread runs on `cpu` only."""
    os.sched_setaffinity(0, {cpu})


@contextmanager
def steady(cpu: int) -> Iterator[None]:
    """This thread on one core, with the garbage collector off, as `timeit` does; afterwards as before."""
    before = os.sched_getaffinity(0)
    pin(cpu)
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        os.sched_setaffinity(0, before)


def timer_cost_ns(count: int = 20_001) -> float:
    """Median of an empty measurement: what the two reads of the clock add to every sample."""
    clock = time.perf_counter_ns
    samples = []
    for _ in range(count):
        start = clock()
        samples.append(clock() - start)
    return percentile(samples, 0.5)


def time_each(call: Callable[[], Any], count: int, pause_s: float = 0.0) -> list[int]:
    """Times `call()` `count` times, ns, after `pause_s` of sleep each where one is given."""
    clock, sleep = time.perf_counter_ns, time.sleep
    samples = []
    for _ in range(count):
        if pause_s:
            sleep(pause_s)
        start = clock()
        call()
        samples.append(clock() - start)
    return samples


def wait_until(due_ns: int, *, yielding: bool = False) -> None:
    """Spins until the clock shows `due_ns`; with `yielding`, leaves the core to others at each look."""
    clock, leave = time.perf_counter_ns, os.sched_yield
    while clock() < due_ns:
        if yielding:
            leave()


def sleep_until(due_ns: int) -> None:
    """Sleeps until the clock shows `due_ns`."""
    left = due_ns - time.perf_counter_ns()
    if left > 0:
        time.sleep(left / 1e9)
