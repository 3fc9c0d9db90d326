"""What `make run` runs: a sidecar with a journal, worker processes that push the seeded flow, and a table at the end.

    python -m ringlane.demo [--orders N] [--workers W] [--batch B] [--seed S] [--journal DIR] [--lobster ZIP] [--json]

The rejections and trades of the flow are known beforehand; the demo exits with 1 if the sidecar's are others. With
`--lobster` it plays one recorded market day instead and compares the book after each message. Progress goes to stderr,
the table to stdout.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from ._shim import RinglaneError
from .connections import connect
from .demo_worker import BATCHES_IN_FLIGHT, DEPTH_SLOTS, WorkerPlan, WorkerResult, run, single_round_trips
from .enums import RejectCode
from .flow import OrderFlow
from .lobster import LobsterError, read_day
from .lobster_lane import play_in_sidecar
from .sidecar import Sidecar

__all__ = ["main"]

#: Under ten seconds on two cores, and a recording of about 1.6 GB.
ORDERS_DEFAULT = 20_000_000
#: Upper bound of a recording, bytes: an order with its share of a frame, and two segments.
RECORDED_ORDER_BYTES, RECORDING_BYTES_MIN = 80, 1 << 29
WORKERS_MAX = 64
#: Orders that are sent one at a time to measure the round trip.
SINGLE_ORDERS = 20_000
#: Longest that workers may take to be ready, seconds.
READY_SECONDS_MAX = 60.0


class Progress:
    """A bar where a terminal can draw one; else a line every few seconds."""

    LINE_SECONDS, DRAW_SECONDS, BAR_WIDTH = 5.0, 0.1, 30

    def __init__(self, what: str, stream: TextIO | None = None) -> None:
        self._what, self._stream = what, sys.stderr if stream is None else stream
        self._draws = self._stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._started = self._told = time.monotonic()

    def show(self, done: int, whole: int) -> None:
        """Tell that `done` of `whole` are done, if it is time to."""
        now = time.monotonic()
        if done < whole and now - self._told < (self.DRAW_SECONDS if self._draws else self.LINE_SECONDS):
            return
        self._told = now
        part = done / max(whole, 1)
        rate = done / max(now - self._started, 1e-9)
        text = f"{part:4.0%}  {done:,} of {whole:,} {self._what}, {rate:,.0f}/s"
        if self._draws:
            filled = int(part * self.BAR_WIDTH)
            end = "\n" if done >= whole else ""
            self._stream.write(f"\r\x1b[K[{'#' * filled}{'.' * (self.BAR_WIDTH - filled)}] {text}{end}")
        else:
            self._stream.write(text + "\n")
        self._stream.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; the exit code: 0 as planned, 1 not, 2 wrong arguments or no sidecar."""
    options = _options(arguments)
    journal = Path(options.journal) if options.journal else _journal_place()
    try:
        answer = _play_day(options, journal) if options.lobster else _push_flow(options, journal)
    except (LobsterError, OSError, RinglaneError, RuntimeError) as error:
        print(f"ringlane.demo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ringlane.demo: stopped", file=sys.stderr)
        return 130
    if options.json:
        print(json.dumps(answer, indent=2))
    else:
        print(_lobster_table(answer) if options.lobster else _flow_table(answer))
    return 0 if answer["as_planned"] else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m ringlane.demo", description="Push orders through a sidecar and say what came out."
    )
    parser.add_argument(
        "--orders", type=int, default=ORDERS_DEFAULT, help=f"how many orders in all [{ORDERS_DEFAULT:,}]"
    )
    parser.add_argument("--workers", type=int, default=2, help="Python processes, each with its own lane [2]")
    parser.add_argument("--batch", type=int, default=4096, help="orders in one reservation [4096]")
    parser.add_argument(
        "--seed", type=int, default=1, help="of the order flow; the same seed gives the same orders [1]"
    )
    parser.add_argument(
        "--journal", help="directory of the recording [a new one under target/run, or the temporary directory]"
    )
    parser.add_argument("--lobster", metavar="ZIP", help="play this LOBSTER day instead")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args(arguments)
    batch_max = DEPTH_SLOTS // BATCHES_IN_FLIGHT
    for name, value, most in (
        ("orders", options.orders, 1 << 40),
        ("workers", options.workers, WORKERS_MAX),
        ("batch", options.batch, batch_max),
    ):
        if not 1 <= value <= most:
            parser.error(f"--{name} is {value}; it must be 1 to {most}")
    if options.seed < 0:
        parser.error("--seed must not be negative")
    return options


def _journal_place() -> Path:
    """A directory that is not there yet: under target/run in a checkout, else among the temporary files.

    Recordings are large, so of those that this function placed only the newest earlier one is kept.
    """
    checkout = Path("Cargo.toml").is_file() and Path("layout").is_dir()
    base = Path("target/run") if checkout else Path(tempfile.gettempdir()) / f"ringlane-run-{os.getuid()}"
    if base.is_dir():
        earlier = sorted(path for path in base.iterdir() if re.fullmatch(r"\d{8}-\d{6}-\d+", path.name))
        for path in earlier[:-1]:
            shutil.rmtree(path, ignore_errors=True)
    return base / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"


def _make_room(journal: Path, orders: int) -> None:
    """Make the directory above the journal, and see that a recording of so many orders finds room there."""
    journal.parent.mkdir(parents=True, exist_ok=True)
    needed = orders * RECORDED_ORDER_BYTES + RECORDING_BYTES_MIN
    free = shutil.disk_usage(journal.parent).free
    if free < needed:
        raise OSError(f"{journal.parent} has {free / 1e6:,.0f} MB left; the recording may take {needed / 1e6:,.0f} MB")


def _push_flow(options: argparse.Namespace, journal: Path) -> dict[str, Any]:
    _make_room(journal, options.orders)
    with Sidecar(journal=journal) as sidecar, connect(sidecar.address) as client:
        symbols = len(client.symbols)
        shares = [
            (options.orders * (n + 1)) // options.workers - (options.orders * n) // options.workers
            for n in range(options.workers)
        ]
        plans = [
            WorkerPlan(sidecar.address, options.seed, number, options.workers, symbols, share, options.batch)
            for number, share in enumerate(shares)
        ]
        results = _workers(plans)
        with client.open("orders", depth=64, events=64) as lane:
            single_ns = single_round_trips(lane, symbol=1, account=1, count=SINGLE_ORDERS)
        state = asdict(
            client.state()
        )  # After the last lane closed, so that a replay of the recording ends in the same.
        reject_names = {int(code): code.name for code in RejectCode}
    seconds = (max(result.ended_ns for result in results) - min(result.started_ns for result in results)) / 1e9
    codes = np.sum([result.codes for result in results], axis=0)
    rejected = {reject_names.get(code, str(code)): int(codes[code]) for code in np.flatnonzero(codes).tolist() if code}
    planned, planned_fills = Counter[str](), 0
    for plan in plans:
        part, fills = OrderFlow(plan.seed, plan.symbols, worker=plan.worker, workers=plan.workers).expected(plan.orders)
        planned += part
        planned_fills += fills
    trades = sum(result.fills for result in results)
    # With more workers than symbols, workers meet in one book and what comes out depends on who was first.
    plannable = options.workers <= symbols
    return {
        "orders": int(codes.sum()),
        "workers": options.workers,
        "seconds": seconds,
        "orders_per_second": codes.sum() / seconds,
        "single_round_trip_ns": _percentiles(single_ns),
        "batch": options.batch,
        "batches_in_flight": BATCHES_IN_FLIGHT,
        "batch_round_trip_ns": _percentiles([ns for result in results for ns in result.batch_ns]),
        "accepted": int(codes[0]),
        "rejected": dict(sorted(rejected.items(), key=lambda item: -item[1])),
        "trades": trades,
        "maker_events": sum(result.events for result in results),
        "as_planned": not plannable or (rejected == dict(planned) and trades == planned_fills == state["trades"]),
        "state": state,
        "recording": str(journal),
        "recording_bytes": _bytes_under(journal),
    }


def _workers(plans: list[WorkerPlan]) -> list[WorkerResult]:
    """Run all workers at once and show how far they are; their results in order."""
    context = multiprocessing.get_context("spawn")
    pipes: list[Connection] = []
    processes = []
    try:
        for plan in plans:
            here, there = context.Pipe()
            process = context.Process(
                target=run, args=(plan, there), name=f"ringlane-worker-{plan.worker}", daemon=True
            )
            process.start()
            there.close()
            pipes.append(here)
            processes.append(process)
        for pipe in pipes:
            if not pipe.poll(READY_SECONDS_MAX):
                raise TimeoutError(f"a worker was not ready within {READY_SECONDS_MAX:.0f} s")
            _message(pipe, "ready")
        for pipe in pipes:
            pipe.send("go")
        results = _watch(pipes, sum(plan.orders for plan in plans))
        for process in processes:
            process.join(READY_SECONDS_MAX)
        return [results[plan.worker] for plan in plans]
    finally:
        for process in processes:
            if process.is_alive():
                process.terminate()
        for pipe in pipes:
            pipe.close()


def _watch(pipes: list[Connection], whole: int) -> dict[int, WorkerResult]:
    progress = Progress("orders")
    results: dict[int, WorkerResult] = {}
    done: dict[int, int] = {}
    working = list(pipes)
    while working:
        for ready in wait(working):
            assert isinstance(ready, Connection)
            kind, content = _message(ready, "progress", "result")
            if kind == "result":
                results[content.worker] = content
                done[content.worker] = sum(content.codes)
                working.remove(ready)
            else:
                worker, count = content
                done[worker] = count
        progress.show(sum(done.values()), whole)
    return results


def _message(pipe: Connection, *kinds: str) -> tuple[str, Any]:
    try:
        kind, content = pipe.recv()
    except EOFError:
        raise RuntimeError("a worker process died") from None
    if kind not in kinds:
        raise RuntimeError(str(content))
    return kind, content


def _play_day(options: argparse.Namespace, journal: Path) -> dict[str, Any]:
    day = read_day(options.lobster)
    _make_room(journal, 8 * day.messages)
    report, state = play_in_sidecar(day, journal=journal, progress=Progress("messages").show)
    return {
        "file": report.file,
        "ticker": day.ticker,
        "date": day.date,
        "levels": day.levels,
        "messages": day.messages,
        "rows": report.rows,
        "exact": report.exact,
        "aggressors": report.aggressors,
        "wrong_fills": report.wrong_fills,
        "exceptions": report.exceptions,
        "differences": report.differences,
        "seconds": report.seconds,
        "as_planned": report.good,
        "state": asdict(state),
        "recording": str(journal),
        "recording_bytes": _bytes_under(journal),
    }


def _percentiles(times_ns: list[int]) -> dict[str, int]:
    values = np.percentile(times_ns, (50, 99, 99.9)) if times_ns else (0, 0, 0)
    return {name: int(value) for name, value in zip(("p50", "p99", "p99.9"), values, strict=True)}


def _bytes_under(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _flow_table(answer: dict[str, Any]) -> str:
    state, orders = answer["state"], answer["orders"]
    rejected = sum(answer["rejected"].values())
    planned = "as the flow planned" if answer["as_planned"] else "NOT WHAT THE FLOW PLANNED"
    workers = f"{answer['workers']} worker{'s' if answer['workers'] > 1 else ''}"
    batches = f"batch of {answer['batch']:,} among {answer['batches_in_flight']}"
    rows = [
        ("orders", f"{orders:,} by {workers} in {answer['seconds']:.1f} s"),
        ("throughput", f"{answer['orders_per_second']:,.0f} orders/s, journaled"),
        ("round trip", f"{_times(answer['single_round_trip_ns'])}  one order at a time"),
        ("", f"{_times(answer['batch_round_trip_ns'])}  {batches}"),
        ("accepted", f"{answer['accepted']:,}"),
        ("rejected", f"{rejected:,} ({rejected / orders:.2%}), {planned}"),
        *(("", f"{count:>12,}  {name}") for name, count in answer["rejected"].items()),
        ("trades", f"{answer['trades']:,}"),
        *_end_rows(answer, state),
    ]
    return _table(rows)


def _lobster_table(answer: dict[str, Any]) -> str:
    equal = answer["exact"] / max(answer["rows"], 1)
    per_second = answer["messages"] / max(answer["seconds"], 1e-9)
    rows = [
        ("day", f"{answer['ticker']} {answer['date']}, {answer['levels']} levels, {answer['messages']:,} messages"),
        ("played", f"in {answer['seconds']:.1f} s, one by one, {per_second:,.0f} messages/s"),
        ("rows equal", f"{answer['exact']:,} of {answer['rows']:,} ({equal:.3%})"),
        ("aggressors", f"{answer['aggressors']:,}, {answer['wrong_fills']:,} with other fills than the exchange's"),
        ("", f"{answer['exceptions']:,} where the exchange itself skipped the head of the queue"),
        *(("differs", text) for text in answer["differences"]),
        *_end_rows(answer, answer["state"]),
    ]
    return _table(rows)


def _end_rows(answer: dict[str, Any], state: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        ("state", f"hash {state['state_hash']} at sequence {state['sequence']:,}, {state['resting']:,} orders rest"),
        ("recording", f"{answer['recording']} ({answer['recording_bytes'] / 1e6:,.0f} MB)"),
        ("replay", f"ringlane replay {answer['recording']}"),
    ]


def _times(percentiles: dict[str, int]) -> str:
    return "  ".join(f"{name} {value / 1000:,.1f} us" for name, value in percentiles.items())


def _table(rows: list[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)


if __name__ == "__main__":
    sys.exit(main())
