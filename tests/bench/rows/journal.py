"""What the journal costs: against none, and on the disk against one sync an order."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import ringlane
from ringlane.flow import OrderFlow

from bench.measure import interleave, steady
from bench.row import Bench, Measured, row, times_faster
from bench.rows.throughput import BATCH, DEPTH, IN_FLIGHT, SEED, pump
from bench.sidecars import AT_CAP, AT_CAP_ORDERS, neutral_batch, open_lane, saturate, sidecar

WRITERS = 4
FRAME_BYTES = 128
"""One order with its frame's header."""


@contextmanager
def unrecorded(bench: Bench) -> Iterator[str]:
    """The address of a sidecar that records nothing. One that Python starts always records."""
    with tempfile.TemporaryDirectory() as directory:
        address, config = f"{directory}/socket", Path(directory, "ringlane.toml")
        config.write_text(f"[sequencer]\ncpu = {bench.sidecar_cpu}\n")
        command = [ringlane.sidecar.find_binary(), "serve", "--socket", address, "--config", str(config)]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            deadline = time.monotonic() + 20
            while not Path(address).exists():
                assert process.poll() is None, "the sidecar does not start"
                assert time.monotonic() < deadline, "the sidecar does not start in time"
                time.sleep(0.01)
            yield address
        finally:
            process.terminate()
            process.wait(20)


def steady_rate(bench: Bench, address: str, count: int) -> float:
    """Orders a second over `count` orders of the flow, after as many as bring a journal to its cap."""
    with open_lane(address, DEPTH) as lane, steady(bench.client_cpu):
        flow = OrderFlow(seed=SEED, worker=0, workers=1)
        pump(lane, flow, lambda orders: orders < bench.scaled(AT_CAP_ORDERS))
        orders, seconds = pump(lane, flow, lambda orders: orders < count)
        return orders / seconds


@row("journal_cost", "1/s", times_faster(0.80, 0.95))
def cost(bench: Bench) -> Measured:
    """Orders a second of one writer with a journal that survives `kill -9`, against the same without a journal.

    The journal is at its cap: segments are used again, and a snapshot is made every 2 M records so that they may be.
    """
    count = bench.scaled(10_000_000, BATCH * 64)

    def recorded_rate() -> float:
        with sidecar(bench, **AT_CAP) as ours:
            return steady_rate(bench, ours.address, count)

    def unrecorded_rate() -> float:
        with unrecorded(bench) as address:
            return steady_rate(bench, address, count)

    pairs = interleave(bench.pairs, recorded_rate, unrecorded_rate)
    return Measured.of(pairs, "the same sidecar without a journal", orders_a_run=count)


def four_writers(bench: Bench, durability: str, seconds: float) -> float:
    """Orders a second of four lanes, each with several batches of 4,096 under way."""
    with sidecar(bench, journal={"durability": durability}) as ours, ExitStack() as stack:
        lanes = []
        for number in range(WRITERS):
            lane = stack.enter_context(open_lane(ours.address, DEPTH))
            lanes.append((lane, neutral_batch(lane.request_dtype, BATCH, account=1 + number)))
        with steady(bench.client_cpu):
            start = time.perf_counter()
            done = saturate(lanes, IN_FLIGHT // 2, lambda _: time.perf_counter() - start < seconds)
            return done / (time.perf_counter() - start)


def one_sync_an_order(bench: Bench, seconds: float) -> float:
    """Orders a second of who writes each into a file with all its blocks, and syncs it before the next."""
    with tempfile.TemporaryFile(dir=bench.scratch) as file:
        os.posix_fallocate(file.fileno(), 0, 64 << 20)
        order, offset, count = bytes(range(FRAME_BYTES)), 0, 0
        start = time.perf_counter()
        while time.perf_counter() - start < seconds:
            os.pwrite(file.fileno(), order, offset)
            os.fdatasync(file.fileno())
            offset = (offset + FRAME_BYTES) % (64 << 20)
            count += 1
        return count / (time.perf_counter() - start)


@row("journal_disk", "1/s", times_faster(100, 1000))
def disk(bench: Bench) -> Measured:
    """Orders a second with `durability = "disk"`, four lanes of batches, against one `fdatasync` an order.

    Both write to the same file system. The details have the same flow with `durability = "process"`: half of it is the
    goal that stands beside the ratio.
    """
    seconds = bench.seconds(10)
    bench.scratch.mkdir(parents=True, exist_ok=True)
    pairs = interleave(
        bench.pairs, lambda: four_writers(bench, "disk", seconds), lambda: one_sync_an_order(bench, seconds)
    )
    process = four_writers(bench, "process", seconds)
    details = {"process_per_second": process, "of_process": pairs.value / process}
    return Measured.of(pairs, "one fdatasync an order, same file system", **details)
