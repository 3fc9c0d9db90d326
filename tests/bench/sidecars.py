"""What is measured: a sidecar of our own on the second core, recording on the disk, and the orders that it gets."""

from __future__ import annotations

import itertools
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import ringlane

from bench.row import Bench

NEW, CANCEL = 1, 2
BUY, SELL = 1, 2
LIMIT, GTC = 1, 1
TICK = 100
PRICE = 1_000_000
"""The price around which the bench's own orders lie: 100.0000, far from zero and inside every collar."""
SYMBOLS = 8

AT_CAP: dict[str, dict[str, Any]] = {
    "journal": {"segment_bytes": 64 << 20, "retention_bytes": 512 << 20, "spare_segments": 1},
    "snapshots": {"every_records": 1 << 21},
}
"""A journal that is soon at its cap, as that of a service is that has run for long: it writes into files that it has used
before, whose memory is there. One that still grows takes new memory, and where the machine is a virtual one, what that
costs (10 us a page here) is its host's affair. `throughput_sustained_60s` is measured on a journal that grows."""
AT_CAP_ORDERS = (512 << 20) // 64 * 5 // 4
"""Orders after which it is at its cap."""

_ids = itertools.count(1 << 40, 1 << 24)


def fresh_ids() -> int:
    """First of 16 M client order ids that nobody else in this process has used."""
    return next(_ids)


@contextmanager
def sidecar(
    bench: Bench,
    *,
    orders: dict[str, Any] | None = None,
    sequencer: dict[str, Any] | None = None,
    journal: dict[str, Any] | None = None,
    snapshots: dict[str, Any] | None = None,
    vectors: dict[str, Any] | None = None,
    metrics: dict[str, Any] | None = None,
    traces: dict[str, Any] | None = None,
) -> Iterator[ringlane.Sidecar]:
    """A sidecar pinned to its core, its recording on the disk's file system and removed afterwards."""
    bench.scratch.mkdir(parents=True, exist_ok=True)
    recording = Path(tempfile.mkdtemp(prefix="recording-", dir=bench.scratch))
    config: dict[str, Any] = {"sequencer": {"cpu": bench.sidecar_cpu} | (sequencer or {})}
    if orders:
        config["orders"] = orders
    if journal:
        config["journal"] = journal
    if snapshots:
        config["snapshots"] = snapshots
    if vectors:
        config["vectors"] = vectors
    if metrics:
        config["metrics"] = metrics
    if traces:
        config["traces"] = traces
    try:
        with ringlane.Sidecar(journal=recording, config=config) as started:
            yield started
    finally:
        shutil.rmtree(recording, ignore_errors=True)


@contextmanager
def open_lane(address: str, depth: int = 65_536, events: int = 65_536) -> Iterator[Any]:
    """One client with one order lane."""
    with ringlane.connect(address) as client, client.open("orders", depth=depth, events=events) as lane:
        yield lane


def order_arguments(count: int, account: int = 1, symbol: int = 1) -> list[tuple[int, int, int]]:
    """`(side, client_order_id, price)` of new limit orders with fresh ids, the second half of each pair trading.

    A buy rests, the sell after it takes it: every order passes every stage, half of them match and settle, and the book
    stays as small as it was, so that the last call costs what the first did.
    """
    first = fresh_ids()
    return [
        (BUY if index % 2 == 0 else SELL, first + index, PRICE + TICK * (index // 2 % 16)) for index in range(count)
    ]


def time_calls(lane: Any, count: int, *, pause_s: float = 0.0, account: int = 1) -> list[int]:
    """Times `lane.call` around each order, ns."""
    call, clock, sleep = lane.call, time.perf_counter_ns, time.sleep
    at, codes, samples = code_index(lane), set(), []
    for side, number, price in order_arguments(count, account):
        if pause_s:
            sleep(pause_s)
        start = clock()
        result = call(NEW, side, LIMIT, GTC, 1, account, 0, number, price, 100)
        samples.append(clock() - start)
        codes.add(result[at])
    assert codes == {0}, f"orders were rejected: {codes}"
    return samples


def code_index(lane: Any) -> int:
    """Where the reject code stands in what `lane.call` gives."""
    return int(lane.result_dtype.names.index("code"))


def neutral_batch(dtype: np.dtype[Any], size: int, account: int) -> np.ndarray[Any, Any]:
    """A batch that leaves the books as it found them, to be sent again and again: new orders, then their cancels."""
    assert size % 4 == 0
    batch = np.zeros(size, dtype)
    index = np.arange(size)
    is_cancel = index % 4 >= 2
    order = index - 2 * is_cancel
    batch["op"] = np.where(is_cancel, CANCEL, NEW)
    batch["side"] = np.where(order % 2 == 0, BUY, SELL)
    batch["order_type"], batch["time_in_force"] = LIMIT, GTC
    batch["symbol"] = 1 + order // 4 % SYMBOLS
    batch["account"] = account
    batch["client_order_id"] = (account << 24) + order
    # Buys below and sells above the middle: nothing trades, so positions stay at zero however long it runs.
    batch["price"] = PRICE + TICK * np.where(order % 2 == 0, -1 - order // 4 % 32, 1 + order // 4 % 32)
    batch["quantity"] = 100
    return batch


def saturate(
    lanes: list[tuple[Any, np.ndarray[Any, Any]]],
    in_flight: int,
    go_on: Callable[[int], bool],
    served: Callable[[int], None] | None = None,
) -> int:
    """Keeps `in_flight` batches of each lane under way while `go_on(orders served)`; gives all the orders served.

    `served` hears of every batch that was finished before `go_on` said no; the ones under way then are waited for too.
    """
    tickets: deque[Any] = deque()
    for _ in range(in_flight):
        for lane, batch in lanes:
            tickets.append(lane.submit(batch))
    done = 0
    turns = itertools.cycle(lanes)
    while go_on(done):
        lane, batch = next(turns)
        finish(tickets.popleft())
        done += len(batch)
        if served:
            served(len(batch))
        tickets.append(lane.submit(batch))
    while tickets:
        finish(tickets.popleft())
        done += len(next(turns)[1])
    return done


def finish(ticket: Any) -> None:
    """Waits for a batch; its slots are free when the caller has let go of the ticket too."""
    ticket.result()


def sleeps(pid: int) -> int:
    """How often the sequencer, a sidecar's first thread, has gone to sleep by itself."""
    lines = Path(f"/proc/{pid}/task/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("voluntary_ctxt_switches")).split()[1])


def state(address: str) -> Any:
    """The sidecar's own counters: accepted, rejected, trades, resting."""
    with ringlane.connect(address) as client:
        return client.state()
