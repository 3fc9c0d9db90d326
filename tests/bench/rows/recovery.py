"""How soon a killed sidecar answers again, and what its snapshots cost."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ringlane
from ringlane.sidecar import find_binary

from bench.row import Bench, Measured, at_most, row
from bench.sidecars import BUY, PRICE, SELL, TICK, neutral_batch, open_lane, saturate, sidecar

BATCH, DEPTH = 256, 65_536
CONFIG = '[log]\nformat = "json"\nlevel = "info"\n[sequencer]\ncpu = {cpu}\n[snapshots]\nevery_records = 0\n[journal]\ndirectory = "{directory}"\n'


def rest(lane: Any, count: int) -> None:
    """Fills the books with orders that do not trade: 32 prices a side."""
    for first in range(0, count, BATCH):
        numbers = list(range(first, min(first + BATCH, count)))
        sides = [BUY if number % 2 else SELL for number in numbers]
        prices = [PRICE + TICK * (-1 - n // 2 % 32 if n % 2 else 1 + n // 2 % 32) for n in numbers]
        ids = [number + 1 for number in numbers]
        batch = lane.batch(symbol=1, side=sides, account=1, client_order_id=ids, price=prices, quantity=1)
        codes = lane.process(batch, copy=True)["code"]
        assert not codes.any(), f"orders were rejected: {set(codes.tolist())}"


class Served:
    """`ringlane serve` in a directory of its own, which may be killed and started anew."""

    def __init__(self, directory: Path, cpu: int) -> None:
        self.address, self.journal = str(directory / "socket"), directory / "journal"
        self._config, self._log = directory / "ringlane.toml", directory / "log"
        self._config.write_text(CONFIG.format(cpu=cpu, directory=self.journal))
        self.start()

    def start(self) -> None:
        command = [find_binary(), "serve", "--config", str(self._config), "--socket", self.address]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log)

    def recovered(self) -> dict[str, int]:
        """What its last start said of its recovery: `records`, and `took_us`."""
        lines = [json.loads(line) for line in self._log.read_text().splitlines()]
        return [line for line in lines if line.get("message") == "recovered"][-1]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def served(bench: Bench) -> Iterator[Served]:
    """A sidecar that is nobody's own, so that clients come back to it."""
    bench.scratch.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="recovery-", dir=bench.scratch))
    ours = Served(directory, bench.sidecar_cpu)
    try:
        yield ours
    finally:
        ours.kill()
        shutil.rmtree(directory, ignore_errors=True)


def connected(address: str) -> ringlane.Client:
    """Waits for the sidecar to listen."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return ringlane.connect(address, reconnect_timeout=60.0)
        except ringlane.SidecarUnavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def killed(ours: Served, client: ringlane.Client, lane: Any, count: int) -> tuple[int, dict[str, int]]:
    """Nanoseconds from kill -9 to the next result, with so many orders since a snapshot; and what the start recovered."""
    client.snapshot()
    batch = neutral_batch(lane.request_dtype, BATCH, 1)
    saturate([(lane, batch)], 8, lambda orders: orders < count)
    start = time.perf_counter_ns()
    ours.kill()
    ours.start()
    lane.process(batch, copy=True)
    return time.perf_counter_ns() - start, ours.recovered()


@row("kill_to_result_1M", "ns", at_most(250e6, 100e6))
def kill_to_result(bench: Bench) -> Measured:
    """From kill -9 to the next result of a client that lived on, less the time in which those records are replayed.

    1,000,000 orders since the last snapshot, books small; the median of several kills. The sidecar is started anew at
    once, as a service manager does; the client comes back by itself. What is taken off is the smaller of two times: what
    the very start took to apply the records, by its own log, and what `ringlane replay --speed max` takes for as many,
    measured afterwards with nothing else running. So neither a slow recovery nor a slow tool makes the row look good, and it
    cannot be negative.
    """
    count = bench.scaled(1_000_000, BATCH * 64)
    with served(bench) as ours, connected(ours.address) as client:
        lane = client.open("orders", depth=DEPTH, timeout=120)
        kills = [killed(ours, client, lane, count) for _ in range(bench.pairs)]
        ours.kill()
        command = [find_binary(), "replay", "--speed", "max", "--json", str(ours.journal)]
        answers = [json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(3)]
    rate = max(answer["records_per_s"] for answer in answers)
    runs = []
    for taken, recovered in kills:
        assert recovered["records"] >= count, recovered
        own, tool = recovered["took_us"] * 1e3, recovered["records"] / rate * 1e9
        runs.append(
            {"kill_to_result_ns": taken, "recovery_ns": own, "replay_ns": tool, "rest_ns": taken - min(own, tool)}
        )
    rest = statistics.median(run["rest_ns"] for run in runs)
    replayed = statistics.median(min(run["recovery_ns"], run["replay_ns"]) for run in runs)
    return Measured(rest, "the replay of the same records, taken off", replayed, None, {"runs": runs})


def snapshot(bench: Bench) -> tuple[ringlane.client.Snapshot, int]:
    """A snapshot of books with so many resting orders."""
    count = bench.scaled(1_000_000, BATCH * 64)
    with sidecar(bench, orders={"resting_orders_max": 1 << 20}) as ours, open_lane(ours.address, DEPTH) as lane:
        rest(lane, count)
        with ringlane.connect(ours.address) as client:
            return client.snapshot(), count


@row("snapshot_bytes_per_order", "bytes", at_most(128, 72))
def snapshot_bytes(bench: Bench) -> Measured:
    """Bytes of a snapshot file over the 1,000,000 orders that rest in it, everything else in it included."""
    made, count = snapshot(bench)
    return Measured(made.bytes / count, details={"bytes": made.bytes, "orders": count})


@row("snapshot_pause", "ns", at_most(10e6, 1e6))
def snapshot_pause(bench: Bench) -> Measured:
    """For how long a snapshot of 1,000,000 resting orders holds intake up: the longest of its pieces."""
    runs = [snapshot(bench)[0].pause_ns for _ in range(bench.pairs)]
    return Measured(max(runs), details={"pauses_ns": runs})
