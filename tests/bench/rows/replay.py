"""Recordings, lived through again."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import ringlane
from ringlane.flow import OrderFlow

from bench.measure import Pairs, steady
from bench.row import Bench, Measured, row, times_faster
from bench.rows.throughput import BATCH, DEPTH, IN_FLIGHT, RECORD_BYTES, SEED, pump, warm_memory
from bench.sidecars import open_lane, sidecar


def live_and_replayed(bench: Bench, count: int) -> tuple[float, float]:
    """Records a second of `ringlane replay --speed max`, and orders a second of the sidecar that made the recording."""
    with sidecar(bench) as ours:
        with open_lane(ours.address, DEPTH) as lane, steady(bench.client_cpu):
            flow = OrderFlow(seed=SEED, worker=0, workers=1)
            pump(lane, flow, lambda orders: orders < BATCH * IN_FLIGHT)
            warm_memory(2 * count * RECORD_BYTES)
            orders, seconds = pump(lane, flow, lambda orders: orders < count)
        recording = Path(ours.journal)
        command = [ringlane.sidecar.find_binary(), "replay", "--speed", "max", "--json", str(recording)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        answer = json.loads(done.stdout)
        assert answer["records"] > orders, answer
        return answer["records_per_s"], orders / seconds


@row("replay_speed", "1/s", times_faster(1.0, 1.5))
def replay_speed(bench: Bench) -> Measured:
    """Records a second of `ringlane replay --speed max`, checksums and output hashes checked, state hash included.

    Beside it the live throughput of the same flow: the sidecar that made the recording, in the same pair. Both read or
    write the same bytes; the recording is in the page cache, as it is after a crash of the sidecar.
    """
    count = bench.scaled(20_000_000, BATCH * 64)
    runs = [live_and_replayed(bench, count) for _ in range(bench.pairs)]
    ours, theirs = [replayed for replayed, _ in runs], [live for _, live in runs]
    pairs = Pairs(ours, theirs, [replayed / live for replayed, live in runs])
    return Measured.of(pairs, "the live sidecar, the same flow", orders_a_run=count)
