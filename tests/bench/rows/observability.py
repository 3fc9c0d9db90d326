"""What it costs to be seen: the board and the metrics while orders run, and a look from outside."""

from __future__ import annotations

import statistics
import subprocess
import threading
import time
import urllib.request
from contextlib import ExitStack
from typing import Any

from ringlane.sidecar import find_binary

from bench.measure import interleave, steady
from bench.row import Bench, Measured, at_most, row, times_faster
from bench.sidecars import neutral_batch, open_lane, saturate, sidecar

BATCH, DEPTH = 256, 65_536
LISTEN = "127.0.0.1:19463"


def scrape_every_second(done: threading.Event) -> None:
    """What a Prometheus does, from its own core."""
    while not done.wait(1.0):
        with urllib.request.urlopen(f"http://{LISTEN}/metrics", timeout=5) as answer:
            answer.read()


@row("observability_cost", "fraction", times_faster(0.95, 0.99))
def seen_and_unseen(bench: Bench) -> Measured:
    """Orders a second with board and metrics on and a scrape every second, over the same with all of it off.

    Two sidecars are kept full in turns by the same prepared batches of 256 orders; the one that has no turn sleeps. "Off"
    is `sequencer.counters = false` and no `[metrics]`: totals stay, lanes and times go.
    """
    total = bench.scaled(8_000_000, DEPTH)
    with (
        sidecar(bench, metrics={"listen": LISTEN}) as seen,
        sidecar(bench, sequencer={"counters": False}) as unseen,
        ExitStack() as stack,
    ):
        lanes = [stack.enter_context(open_lane(one.address, DEPTH, 64)) for one in (seen, unseen)]
        batch = neutral_batch(lanes[0].request_dtype, BATCH, 1)

        def rate(lane: Any) -> float:
            start = time.perf_counter()
            return saturate([(lane, batch)], 8, lambda orders: orders < total) / (time.perf_counter() - start)

        done = threading.Event()
        scraper = threading.Thread(target=scrape_every_second, args=(done,), daemon=True)
        scraper.start()
        with steady(bench.client_cpu):
            for lane in lanes:
                saturate([(lane, batch)], 8, lambda orders: orders < DEPTH)
            pairs = interleave(bench.pairs, lambda: rate(lanes[0]), lambda: rate(lanes[1]))
        done.set()
        scraper.join()
    details = {"orders_a_run": total, "seen_per_second": pairs.ours, "unseen_per_second": pairs.theirs}
    return Measured(pairs.ratio, "all off", 1.0, pairs.ratio, details)


@row("status_ns", "ns", at_most(20e6, 5e6))
def status_from_outside(bench: Bench) -> Measured:
    """One `ringlane status --json` against a busy sidecar, from start to exit of the program; median.

    It maps the board and reads: no message, no system call in the sidecar. Beside it `ringlane --version`, which only starts
    and ends.
    """
    program, count = find_binary(), bench.scaled(200, 10)

    def time_program(*words: str) -> float:
        samples = []
        for _ in range(count):
            start = time.perf_counter_ns()
            subprocess.run([program, *words], check=True, stdout=subprocess.DEVNULL)
            samples.append(time.perf_counter_ns() - start)
        return statistics.median(samples)

    with sidecar(bench) as ours, open_lane(ours.address, DEPTH, 64) as lane:
        batch, busy = neutral_batch(lane.request_dtype, BATCH, 1), threading.Event()
        worker = threading.Thread(target=lambda: saturate([(lane, batch)], 8, lambda _: not busy.is_set()), daemon=True)
        worker.start()
        pairs = interleave(
            bench.pairs,
            lambda: time_program("status", "--json", "--address", ours.address),
            lambda: time_program("--version"),
        )
        busy.set()
        worker.join()
    return Measured.of(pairs, "ringlane --version: starting and ending the program")
