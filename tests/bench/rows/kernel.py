"""The order kernel as a library, on one thread: the book alone in five regimes, every stage on, and what an order takes."""

from __future__ import annotations

import json
import statistics
import subprocess
from typing import Any

from bench.measure import interleave
from bench.programs import program
from bench.row import Bench, Measured, at_least, at_most, row
from bench.rows.throughput import BATCH, flow_rate

REGIMES = ("still", "normal", "slow_swing", "fast_swing", "crash")
ORDERS, RESTING = 2_000_000, 1_000_000


def told(name: str, *words: object) -> dict[str, Any]:
    """What a program prints as JSON."""
    command = [str(program(name)), *map(str, words)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def runs(bench: Bench, regime: str, *words: str) -> list[dict[str, Any]]:
    """A regime's flow, as often as the report measures pairs, each time with another seed."""
    orders = bench.scaled(ORDERS)
    return [
        told("books", "--regime", regime, "--orders", orders, "--seed", seed, *words)
        for seed in range(1, bench.pairs + 1)
    ]


def median(figures: list[dict[str, Any]], name: str) -> float:
    """The median run's figure."""
    return float(statistics.median(run[name] for run in figures))


@row("book_only", "1/s", at_least(10e6, 20e6))
def books(bench: Bench) -> Measured:
    """Requests a second of the library's book: one symbol, one account without limits; the slowest of five regimes.

    Of 100 requests 15 are immediate and 20 replace; about 95 of 100 resting orders end cancelled. Orders resting and
    ticks of width: still 1,000 and 10, normal 10,000 and 50, slow swing 10,000 and 100, fast swing 5,000 and 200, crash
    20,000 and 2,000. Every result and event is written out; making the requests is not measured.
    """
    regimes = {regime: runs(bench, regime) for regime in REGIMES}
    rates = {regime: median(figures, "orders_per_s") for regime, figures in regimes.items()}
    of_processor = {regime: median(figures, "orders_per_cpu_s") for regime, figures in regimes.items()}
    return Measured(min(rates.values()), details={"rates": rates, "per_cpu_second": of_processor, "runs": regimes})


@row("book_only_vs_matchcore", "1/s")
def books_beside_a_peer(bench: Bench) -> Measured:
    """`book_only` beside the book of Matchcore, an open engine in Rust, on the same flow; each with its slowest regime; no bar.

    Matchcore keeps neither accounts nor positions, and what it tells of a command is dropped at once; ours writes every
    result and event out. The two disagree about a few priorities, so that fewer than one in a thousand commands meets an
    order that is gone there, and fewer than one in a hundred trades is another's.
    """
    orders = bench.scaled(ORDERS)
    details: dict[str, list[dict[str, Any]]] = {"books": [], "book_peer": []}

    def slowest(name: str) -> float:
        seed = len(details[name]) // len(REGIMES) + 1
        runs = [told(name, "--regime", regime, "--orders", orders, "--seed", seed) for regime in REGIMES]
        if any(run["rejected"] * 1000 > orders for run in runs):
            raise RuntimeError(f"{name} rejected more than one in a thousand of the flow: {runs}")
        details[name] += runs
        return float(min(run["orders_per_s"] for run in runs))

    pairs = interleave(bench.pairs, lambda: slowest("books"), lambda: slowest("book_peer"))
    for ours, theirs in zip(details["books"], details["book_peer"], strict=True):
        if abs(ours["trades"] - theirs["trades"]) * 100 > ours["trades"]:
            raise RuntimeError(f"the trades of one flow differ by more than one in a hundred: {ours}, {theirs}")
    return Measured.of(pairs, "Matchcore on the same flow", runs=details)


@row("kernel_full", "1/s", at_least(6e6, 12e6))
def full(bench: Bench) -> Measured:
    """The normal regime with every stage on: a thousand accounts with all seven limits and self-trade prevention."""
    figures = runs(bench, "normal", "--full")
    details = {"per_cpu_second": median(figures, "orders_per_cpu_s"), "runs": figures}
    return Measured(median(figures, "orders_per_s"), details=details)


@row("parallel_speedup_2", "x", at_least(1.5, 1.8))
def parallel(bench: Bench) -> Measured:
    """How much faster the library is on two threads than in sequence: qualifying batches of 4,096 over 64 symbols.

    The flow has 10,000 accounts with limits of size, position and collar; `full` has every limit and self-trade
    prevention. Both ways run in one process, segment by segment in turn, and must end in the same state. The whole
    sidecar is `parallel_speedup_2_sidecar`.
    """
    threads = 2
    figures = {
        name: [
            told("parallel", "--orders", bench.scaled(ORDERS), "--seed", seed, "--threads", threads, *words)
            for seed in range(1, bench.pairs + 1)
        ]
        for name, words in {"plain": (), "full": ("--full",)}.items()
    }
    runs = figures["plain"]
    in_sequence = sum(run["batches_sequential"] for run in runs)
    if in_sequence:
        raise RuntimeError(f"{in_sequence} batches of the flow did not qualify")
    details = {"runs": figures, "full": median(figures["full"], "speedup")}
    return Measured(median(runs, "speedup"), "the sequential path", median(runs, "sequential_per_s"), details=details)


@row("parallel_speedup_2_sidecar", "1/s")
def parallel_sidecar(bench: Bench) -> Measured:
    """The whole sidecar with two threads for large batches over the same with one, one writer; no bar.

    The flow of `throughput_batch_4096`, recorded. On a machine of two cores the second thread's core is the writer's too,
    so this says what is left of `parallel_speedup_2` there, and not what a machine with a core for each would give.
    """
    count = bench.scaled(8_000_000, BATCH * 64)
    pairs = interleave(
        bench.pairs, lambda: flow_rate(bench, count, {"threads": 2}), lambda: flow_rate(bench, count, {"threads": 1})
    )
    return Measured.of(pairs, "the same on one thread", orders_a_run=count)


@row("state_per_order", "bytes", at_most(128, 80))
def state(bench: Bench) -> Measured:
    """Heap of the library by resting order: 1,000,000 orders of 10,000 accounts in 64 books, positions included."""
    figures = told("order_flow", "--rest-only", "--orders", bench.scaled(RESTING), "--seed", 1)
    return Measured(figures["heap_bytes"] / figures["resting"], details=figures)
