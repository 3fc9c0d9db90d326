"""What resting orders take in the sidecar's own memory."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from bench.measure import interleave
from bench.row import Bench, Measured, at_most, row
from bench.sidecars import BUY, GTC, LIMIT, NEW, PRICE, SELL, SYMBOLS, TICK, finish, open_lane, sidecar, state

RESTING = 100_000
MAPPING = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+ *(.*)$")


def private_dirty(pid: int) -> dict[str, int]:
    """Private_Dirty of a process, bytes: `total` of smaps_rollup, and the part in recording and lanes by smaps."""
    process = Path("/proc") / str(pid)
    rollup = re.search(r"^Private_Dirty: *(\d+) kB", (process / "smaps_rollup").read_text(), re.MULTILINE)
    assert rollup
    apart, name = 0, ""
    for line in (process / "smaps").read_text().splitlines():
        if mapping := MAPPING.match(line):
            name = mapping[1]
        elif line.startswith("Private_Dirty:") and (name.startswith("/memfd:") or "/recording-" in name):
            apart += int(line.split()[1])
    total = int(rollup[1])
    return {"total": total * 1024, "recording_and_lanes": apart * 1024, "own": (total - apart) * 1024}


def resting_batch(dtype: np.dtype[Any], count: int) -> np.ndarray[Any, Any]:
    """New orders that all rest: buys below and sells above the middle, over eight symbols and many prices."""
    batch = np.zeros(count, dtype)
    index = np.arange(count)
    is_buy = index % 2 == 0
    batch["op"], batch["order_type"], batch["time_in_force"] = NEW, LIMIT, GTC
    batch["side"] = np.where(is_buy, BUY, SELL)
    batch["symbol"] = 1 + index // 2 % SYMBOLS
    batch["account"] = 1 + index % 100
    batch["client_order_id"] = 1 + index
    level = 1 + index // (2 * SYMBOLS) % 500
    batch["price"] = PRICE + TICK * np.where(is_buy, -level, level)
    batch["quantity"] = 100
    return batch


def own_memory(bench: Bench, resting: int) -> int:
    """The sidecar's own memory when it is configured for `resting` orders (at least one) and holds that many, bytes."""
    with (
        sidecar(bench, orders={"resting_orders_max": max(resting, 1)}) as ours,
        open_lane(ours.address, 4096, 4096) as lane,
    ):
        batch = resting_batch(lane.request_dtype, max(resting, 1))
        for first in range(0, len(batch), 4096):
            finish(lane.submit(batch[first : first + 4096]))
        assert state(ours.address).resting == len(batch), state(ours.address)
        return private_dirty(ours.pid)["own"]


@row("memory_100k_resting", "bytes", at_most(32 << 20, 12 << 20))
def resting_orders(bench: Bench) -> Measured:
    """Private_Dirty of a sidecar with 100,000 resting orders, less that of one configured for none and holding one.

    Slabs, books and indexes that are preallocated for them count in full. Recording and lanes are taken out on both
    sides: their pages are shared or the disk's. The reference is the bare size of the 100,000 records, 64 bytes each.
    """
    details: dict[str, list[int]] = {"with_orders": [], "without": []}

    def difference() -> float:
        details["with_orders"].append(own_memory(bench, RESTING))
        details["without"].append(own_memory(bench, 0))
        return details["with_orders"][-1] - details["without"][-1]

    pairs = interleave(bench.pairs, difference, lambda: RESTING * 64.0)
    return Measured.of(pairs, "the records themselves, 64 bytes each", **details)
