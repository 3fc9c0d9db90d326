"""One worker process of the demo: a client of its own, a lane of its own, its share of the seeded flow.

It counts what comes back and measures nothing but time; the table is the parent's (`ringlane.demo`).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from time import perf_counter_ns, sleep

import numpy as np

from .connections import connect
from .enums import Op, OrderFlag, OrderType, Side, TimeInForce
from .flow import OrderFlow
from .lane import Lane
from .ticket import Ticket

__all__ = ["WorkerPlan", "WorkerResult", "run", "single_round_trips"]

#: Slots of a worker's lane, and its event ring.
DEPTH_SLOTS = EVENTS = 1 << 16
#: Batches that a worker has under way at a time.
BATCHES_IN_FLIGHT = 4
#: Least time between two reports of progress, nanoseconds.
PROGRESS_NS = 50_000_000
#: Above every `RejectCode`.
CODES = 512


@dataclass(frozen=True)
class WorkerPlan:
    """What one worker is to do."""

    address: str
    seed: int
    worker: int
    workers: int
    symbols: int
    orders: int
    batch: int


@dataclass
class WorkerResult:
    """What one worker saw. Times are of the monotonic clock, which all processes share."""

    worker: int
    started_ns: int = 0
    ended_ns: int = 0
    #: Results by reject code; index 0 counts what was accepted.
    codes: list[int] = field(default_factory=list)
    #: Fills as taker, by the results; and as maker, by the events.
    fills: int = 0
    events: int = 0
    #: From publishing a batch until its results were there, with `BATCHES_IN_FLIGHT` under way.
    batch_ns: list[int] = field(default_factory=list)


def run(plan: WorkerPlan, pipe: Connection) -> None:
    """The body of the process: says "ready", waits for "go", says how far it is, and at the end gives its result."""
    try:
        flow = OrderFlow(plan.seed, plan.symbols, worker=plan.worker, workers=plan.workers)
        with connect(plan.address) as client, client.open("orders", depth=DEPTH_SLOTS, events=EVENTS) as lane:
            flow.fill(np.zeros(1, lane.request_dtype))  # Lays the block out before time is taken.
            flow.position = 0
            pipe.send(("ready", plan.worker))
            if pipe.recv() != "go":
                return
            result = _push(plan, lane, flow, pipe)
        # Only now: the lane is closed, so what the parent then asks for is the end of this worker.
        pipe.send(("result", result))
    except KeyboardInterrupt:
        pass
    except Exception as error:
        pipe.send(("error", f"worker {plan.worker}: {type(error).__name__}: {error}"))


def _push(plan: WorkerPlan, lane: Lane, flow: OrderFlow, pipe: Connection) -> WorkerResult:
    result = WorkerResult(plan.worker)
    codes = np.zeros(CODES, np.int64)
    under_way: deque[tuple[Ticket, int, int]] = deque()
    sent = done = 0
    result.started_ns = told_ns = perf_counter_ns()
    while done < plan.orders:
        while sent < plan.orders and len(under_way) < BATCHES_IN_FLIGHT:
            count = min(plan.batch, plan.orders - sent)
            under_way.append((_submit(lane, flow, count), count, perf_counter_ns()))
            sent += count
        ticket, count, published_ns = under_way.popleft()
        results = ticket.result()
        now_ns = perf_counter_ns()
        result.batch_ns.append(now_ns - published_ns)
        codes += np.bincount(results["code"], minlength=CODES)
        result.fills += int(results["fill_count"].sum())
        del results, ticket  # Gives the slots back.
        result.events += len(lane.events())
        done += count
        if now_ns - told_ns > PROGRESS_NS:
            told_ns = now_ns
            pipe.send(("progress", (plan.worker, done)))
    result.ended_ns = perf_counter_ns()
    result.codes = codes.tolist()
    return result


def _submit(lane: Lane, flow: OrderFlow, count: int) -> Ticket:
    reservation = lane.reserve(count)
    with reservation as slots:
        flow.fill(slots)
    return reservation.ticket


def single_round_trips(lane: Lane, symbol: int, account: int, count: int) -> list[int]:
    """Time of each of `count` orders sent singly, nanoseconds: in turn a quiet post-only order and its cancel."""
    enter = (
        int(Op.NEW),
        int(Side.BUY),
        int(OrderType.LIMIT),
        int(TimeInForce.GTC),
        symbol,
        account,
        int(OrderFlag.POST_ONLY),
    )
    leave = int(Op.CANCEL), 0, 0, 0, symbol, account, 0
    first_id, price, quantity = 1 << 62, 900_000, 1
    call, clock, times = lane.call, perf_counter_ns, []
    sleep(0.05)
    for number in range(count):
        order_id = first_id + number // 2
        started = clock()
        answer = call(*leave, order_id, 0, 0) if number & 1 else call(*enter, order_id, price, quantity)
        times.append(clock() - started)
        if answer[7]:
            raise RuntimeError(f"a single order was rejected with code {answer[7]}")
    return times
