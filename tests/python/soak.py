"""The soak: clients trade for minutes, come and go, and are killed; the sidecar must not grow and not become slower.

    python tests/python/soak.py --minutes 10 [--seed N]

prints a JSON line a second (resident memory, descriptors and threads of the sidecar, orders, and the p99 of single calls),
and last a line with the verdict; the exit code is 1 when it is not flat. The first fifth of the samples is warming up. Of the
rest, the last third must not stand above the first one:

- resident memory, medians: by more than 5 % and 4 MiB
- descriptors and threads, medians: by more than 2
- p99 of single calls, medians of a second's: by more than as much again and 500 us
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from unittest import mock

import ringlane
from daemon import CONFIG as daemon_config
from daemon import Daemon
from ringlane import OrderType, Side, TimeInForce

WORKERS = 3
BATCH, CALLS = 64, 8
PAUSE_S = 0.01
CONFIG = """
[snapshots]
every_records = 200000
"""
JOURNAL = "retention_bytes = 33554432\n"
#: How far above the first third the last one may stand: a part of it, and a fixed amount.
BOUNDS = {"rss_bytes": (0.05, 4 << 20), "fds": (0.0, 2), "threads": (0.0, 2), "p99_us": (1.0, 500.0)}


# ---- a client ----


def work(address: str, account: int, seed: int) -> None:
    """Trades with itself, so that books stay small, and now and then goes and comes back."""
    numbers, first = random.Random(seed), (seed << 32) + 1
    while True:
        with ringlane.connect(address) as client, client.open("orders", depth=1024, cancel_on_disconnect=True) as lane:
            symbol = 1 + account % 32
            until = time.monotonic() + 0.5 + 2 * numbers.random()
            while time.monotonic() < until:
                taken = []
                start = time.monotonic()
                while time.monotonic() - start < 0.25:
                    rest_and_take(lane, symbol, account, first)
                    first += BATCH
                    for _ in range(CALLS):
                        begin = time.perf_counter_ns()
                        fields = (1, Side.BUY, OrderType.LIMIT, TimeInForce.IOC, symbol, account, 0, first, 900_000, 1)
                        lane.call(*fields)
                        taken.append(time.perf_counter_ns() - begin)
                        first += 1
                    time.sleep(PAUSE_S)
                lane.events(0)
                print(json.dumps({"orders": len(taken) // CALLS * BATCH + len(taken), "taken_ns": taken}), flush=True)


def rest_and_take(lane: ringlane.Lane, symbol: int, account: int, first: int) -> None:
    half = BATCH // 2
    batch = lane.batch(
        symbol=symbol,
        side=[Side.SELL] * half + [Side.BUY] * half,
        account=account,
        client_order_id=list(range(first, first + BATCH)),
        price=1_000_000,
        quantity=1,
    )
    lane.process(batch)


# ---- who watches ----


class Worker:
    """A client's process, and what it tells."""

    def __init__(self, address: str, account: int, seed: int, told: list[dict[str, Any]]) -> None:
        command = [sys.executable, __file__, "--worker", address, str(account), str(seed)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read, args=(told,), daemon=True)
        self._reader.start()

    def _read(self, told: list[dict[str, Any]]) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith("\n"):
                told.append(json.loads(line))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()


def verdict(samples: list[dict[str, float]]) -> dict[str, Any]:
    """First and last third of what is bounded, and whether all of it is flat."""
    warm = samples[len(samples) // 5 :]
    third = len(warm) // 3
    answer: dict[str, Any] = {"flat": third > 0, "samples": len(samples)}
    if not third:
        return answer
    for name, (part, amount) in BOUNDS.items():
        first, last = (statistics.median(sample[name] for sample in part_) for part_ in (warm[:third], warm[-third:]))
        is_flat = last <= first * (1 + part) + amount
        answer[name] = {"first": first, "last": last, "flat": is_flat}
        answer["flat"] = answer["flat"] and is_flat
    return answer


def soak(seconds: float, seed: int, directory: Path) -> bool:
    """Runs it and prints; says whether everything stayed flat."""
    numbers = random.Random(seed)
    print(json.dumps({"seed": seed, "seconds": seconds, "workers": WORKERS, "bounds": BOUNDS}), flush=True)
    directory.mkdir(exist_ok=True)
    with mock.patch("daemon.CONFIG", daemon_config.replace("[journal]\n", "[journal]\n" + JOURNAL)):
        daemon = Daemon(directory, config=CONFIG).ready()
    told: list[dict[str, Any]] = []
    workers = [Worker(daemon.address, 10 + n, numbers.randrange(1 << 24), told) for n in range(WORKERS)]
    samples: list[dict[str, float]] = []
    kills, orders, start = 0, 0, time.monotonic()
    kill_at = start + 1 + numbers.random() * 3
    try:
        while time.monotonic() - start < seconds:
            time.sleep(1.0)
            for at, worker in enumerate(workers):
                if worker.process.poll() is not None:
                    raise SystemExit(f"a worker ended by itself; seed {seed}\n{daemon.words()[-3000:]}")
                if time.monotonic() >= kill_at and numbers.random() < 0.5:
                    kill_at = time.monotonic() + 1 + numbers.random() * 3
                    worker.kill()
                    kills += 1
                    workers[at] = Worker(daemon.address, 10 + at, numbers.randrange(1 << 24), told)
            heard, told[:] = list(told), []
            taken = sorted(ns for part in heard for ns in part["taken_ns"])
            orders += sum(part["orders"] for part in heard)
            if not taken:
                continue
            sample = {
                "seconds": round(time.monotonic() - start, 3),
                "rss_bytes": daemon.rss_bytes(),
                "fds": daemon.fds(),
                "threads": len(os.listdir(f"/proc/{daemon.process.pid}/task")),
                "orders": orders,
                "p50_us": taken[len(taken) // 2] / 1e3,
                "p99_us": taken[len(taken) * 99 // 100] / 1e3,
                "kills": kills,
            }
            samples.append(sample)
            print(json.dumps(sample), flush=True)
    finally:
        [worker.kill() for worker in workers]
        status = daemon.status()
        code = daemon.stop()
    answer = verdict(samples) | {"seed": seed, "orders": orders, "kills": kills, "health": status["health"]}
    answer |= {"stopped": code, "faults": status["faults"], "segments_recycled": status["journal"]["segments_recycled"]}
    answer["flat"] = answer["flat"] and code == 0 and status["health"] == "healthy"
    print(json.dumps(answer), flush=True)
    return bool(answer["flat"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        address, account, seed = arguments.worker
        work(address, int(account), int(seed))
        return 0
    seed = random.randrange(1 << 31) if arguments.seed is None else arguments.seed
    with tempfile.TemporaryDirectory(prefix="soak-", dir=os.environ.get("RINGLANE_SOAK_DIRECTORY")) as directory:
        return 0 if soak(60 * arguments.minutes, seed, Path(directory)) else 1


if __name__ == "__main__":
    sys.exit(main())
