"""What spans cost the orders that have none, and those of which one in a hundred has one."""

from __future__ import annotations

import random
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import ringlane
from ringlane.sidecar import to_toml

from bench.measure import interleave, steady
from bench.programs import sidecars_with_and_without_traces
from bench.row import Bench, Measured, at_most_times, row, times_faster
from bench.sidecars import neutral_batch, open_lane, saturate, sidecar

BATCH, DEPTH = 256, 65_536
SAMPLED = 0.01


class Taker(BaseHTTPRequestHandler):
    """A collector that takes everything and keeps nothing."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class Sampling:
    """A lane whose submissions are in spans, of which few are sampled."""

    def __init__(self, lane: Any, seed: int) -> None:
        from opentelemetry import trace

        self._lane, self._random = lane, random.Random(seed)
        self._use = trace.use_span
        flags = trace.TraceFlags(trace.TraceFlags.SAMPLED)
        self._sampled = trace.NonRecordingSpan(trace.SpanContext(0xABCDEF, 0x123456, False, flags))
        self._silent = trace.NonRecordingSpan(trace.SpanContext(0xABCDEF, 0x123456, False))

    def submit(self, batch: Any) -> Any:
        span = self._sampled if self._random.random() < SAMPLED else self._silent
        with self._use(span):
            return self._lane.submit(batch)


@row("trace_1pct_cost", "fraction", times_faster(0.93, 0.98))
def sampled_and_off(bench: Bench) -> Measured:
    """Orders a second of a traced lane whose batches of 256 are in spans, one in a hundred of them sampled, over an untraced lane.

    Two sidecars take turns; the traced one sends its spans to a collector on this host that keeps nothing. The worker's own
    cost of entering a span is in the figure. Needs opentelemetry-api.
    """
    total = bench.scaled(8_000_000, DEPTH)
    collector = ThreadingHTTPServer(("127.0.0.1", 0), Taker)
    threading.Thread(target=collector.serve_forever, daemon=True).start()
    traces = {"endpoint": f"http://127.0.0.1:{collector.server_port}"}
    with sidecar(bench, traces=traces) as told, sidecar(bench) as untold, ExitStack() as stack:
        client = stack.enter_context(ringlane.connect(told.address))
        traced = stack.enter_context(client.open("orders", depth=DEPTH, events=64, trace=True))
        plain = stack.enter_context(open_lane(untold.address, DEPTH, 64))
        batch = neutral_batch(plain.request_dtype, BATCH, 1)

        def rate(lane: Any) -> float:
            start = time.perf_counter()
            return saturate([(lane, batch)], 8, lambda orders: orders < total) / (time.perf_counter() - start)

        lanes = [Sampling(traced, 1), plain]
        with steady(bench.client_cpu):
            for lane in lanes:
                saturate([(lane, batch)], 8, lambda orders: orders < DEPTH)
            pairs = interleave(bench.pairs, lambda: rate(lanes[0]), lambda: rate(lanes[1]))
        spans = client.stats()["traces"]
    collector.shutdown()
    details = {
        "orders_a_run": total,
        "traced_per_second": pairs.ours,
        "untraced_per_second": pairs.theirs,
        "spans": spans,
    }
    return Measured(pairs.ratio, "a lane that is not traced", 1.0, pairs.ratio, details)


COUNTED = ["valgrind", "--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*Sequencer>::batch*"]
PATIENCE_S = 120.0


def instructions_an_order(program: Path, scratch: Path, orders: int) -> float:
    """Instructions of the sequencer's batches for one order, in a sidecar that runs under callgrind and records to the disk."""
    directory = Path(tempfile.mkdtemp(prefix="counted-", dir=scratch))
    config, address = directory / "ringlane.toml", str(directory / "socket")
    config.write_text(to_toml({"journal": {"directory": str(directory / "journal"), "segment_bytes": 1 << 26}}))
    command = [*COUNTED, "--callgrind-out-file=/dev/null", str(program)]
    serve = [*command, "serve", "--config", str(config), "--socket", address]
    process = subprocess.Popen(serve, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not Path(address).exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        with (
            ringlane.connect(address, timeout=PATIENCE_S) as client,
            client.open("orders", depth=4096, events=64, timeout=PATIENCE_S) as lane,
        ):
            batch = neutral_batch(lane.request_dtype, BATCH, 1)
            for _ in range(orders // BATCH):
                lane.process(batch, copy=True)
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=PATIENCE_S)[1]
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(directory, ignore_errors=True)
    collected = re.search(r"Collected : (\d+)", said)
    if collected is None or int(collected[1]) == 0:
        raise RuntimeError(f"callgrind collected nothing: is `batch` inlined?\n{said[-2000:]}")
    return int(collected[1]) / (orders // BATCH * BATCH)


@row("trace_off_cost", "instructions", at_most_times(1.02, 1.00))
def compiled_in_and_out(bench: Bench) -> Measured:
    """Instructions for one order, from taking it in to its visible result, with tracing compiled in and off / compiled out.

    Counted by callgrind in real sidecars that record to the disk, over batches of 256: intake, journal, kernel, results,
    wake-up. Of neutral orders, by one client. Needs valgrind.
    """
    bench.scratch.mkdir(parents=True, exist_ok=True)
    traced, untraced = sidecars_with_and_without_traces()
    orders = bench.scaled(400_000, 40 * BATCH)
    ours, theirs = (instructions_an_order(program, bench.scratch, orders) for program in (traced, untraced))
    return Measured(ours, "compiled out", theirs, ours / theirs, {"orders": orders})
