"""One lane cannot take the sequencer from another: not by dear requests, by many of them at once, or by its end."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import ringlane

RESTING = 300_000
SYMBOL = "AAPL"


@pytest.fixture
def fair() -> Iterator[ringlane.Sidecar]:
    """A sidecar of its own, with a book of `RESTING` small offers that belong to nobody."""
    with ringlane.Sidecar() as sidecar, ringlane.connect(sidecar.address) as client:
        with client.open("orders", depth=4096, timeout=30) as maker:
            for first in range(1, RESTING, 2000):
                ids = np.arange(first, first + 2000)
                offers = {"symbol": SYMBOL, "side": "SELL", "account": 1, "price": "150", "quantity": 1}
                results = maker.process(maker.batch(**offers, client_order_id=ids))
                assert (results["code"] == 0).all()
        yield sidecar


@contextlib.contextmanager
def lane_of(sidecar: ringlane.Sidecar, depth: int = 1024) -> Iterator[ringlane.Lane]:
    """A lane of a connection of its own."""
    with ringlane.connect(sidecar.address) as client, client.open("orders", depth, timeout=60) as lane:
        yield lane


def dear(lane: ringlane.Lane, count: int) -> np.ndarray:
    """Fill-or-kill orders that look at the whole book and change nothing."""
    terms = {"symbol": SYMBOL, "side": "BUY", "account": 2, "price": "150", "quantity": 2 * RESTING}
    return lane.batch(**terms, time_in_force="FOK", client_order_id=np.arange(1, count + 1))


def cheap(lane: ringlane.Lane, count: int) -> np.ndarray:
    """Orders that rest for no moment."""
    terms = {"symbol": SYMBOL, "side": "BUY", "account": 3, "price": "100", "quantity": 1, "time_in_force": "IOC"}
    return lane.batch(**terms, client_order_id=np.arange(1, count + 1))


def rate(lane: ringlane.Lane, seconds: float) -> float:
    """Orders a second that the lane gets through, always with orders waiting."""
    batch, done, tickets = cheap(lane, 2000), 0, []
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        tickets.append(lane.submit(batch))
        if len(tickets) > 2:
            tickets.pop(0).result()
            done += len(batch)
    for ticket in tickets:
        ticket.result()
    return done / (time.perf_counter() - start)


def calls(lane: ringlane.Lane, seconds: float) -> np.ndarray:
    """How long each of many small calls took, seconds."""
    batch, taken, end = cheap(lane, 1), [], time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        lane.process(batch)
        taken.append(time.perf_counter() - start)
    return np.array(taken)


def price(lane: ringlane.Lane) -> float:
    """How long one dear request takes, seconds."""
    one, taken = dear(lane, 1), []
    for _ in range(8):
        start = time.perf_counter()
        lane.process(one)
        taken.append(time.perf_counter() - start)
    return float(np.median(taken))


class Attack(threading.Thread):
    """Sends `count` dear orders at a time, for as long as the block lasts."""

    def __init__(self, lane: ringlane.Lane, count: int) -> None:
        super().__init__()
        self.lane, self.count, self.sent, self.over = lane, count, 0, threading.Event()

    def run(self) -> None:
        batch = dear(self.lane, self.count)
        while not self.over.is_set():
            results = self.lane.process(batch)
            assert (results["code"] == int(ringlane.RejectCode.NOT_FILLABLE)).all()
            self.sent += self.count

    def __enter__(self) -> Attack:
        self.start()
        time.sleep(0.1)
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join()


def test_one_dear_request_at_a_time_leaves_a_busy_neighbour_its_half(fair: ringlane.Sidecar) -> None:
    with lane_of(fair, 8192) as victim, lane_of(fair) as other:
        alone, each = rate(victim, 0.5), price(other)
        with Attack(other, 1) as attack:
            start, sent = time.perf_counter(), attack.sent
            beside = rate(victim, 1.0)
            taken = (attack.sent - sent) * each / (time.perf_counter() - start)
    print(f"victim: {alone:,.0f} orders/s alone, {beside:,.0f} beside a lane that takes {taken:.0%} of the sequencer")
    assert taken < 0.65, "debt was forgiven"
    assert attack.sent - sent > 10, "the other lane is served too"


def least_stall(round_of: Callable[[], float], bound: float) -> float:
    """The least of three rounds, of as many as it takes to be below `bound`: whoever else uses the machine only adds."""
    found = [round_of()]
    while found[-1] >= bound and len(found) < 3:
        found.append(round_of())
    return min(found)


def test_many_dear_requests_at_once_stall_a_neighbour_for_one_of_them(fair: ringlane.Sidecar) -> None:
    assert least_stall(lambda: stalled_beside_dear_requests(fair), 0.2) < 0.2


def stalled_beside_dear_requests(fair: ringlane.Sidecar) -> float:
    with lane_of(fair) as victim, lane_of(fair) as other:
        each = price(other)
        with Attack(other, 64):
            taken = calls(victim, 1.5)
    stalled = float(taken[taken > 8 * each + 0.003].sum() / taken.sum())
    print(
        f"one dear request {each * 1e3:.2f} ms; slowest call {taken.max() * 1e3:.2f} ms; {stalled:.0%} of the time in such"
    )
    return stalled


def test_a_lane_that_ends_is_drained_in_turns(fair: ringlane.Sidecar) -> None:
    assert least_stall(lambda: stalled_beside_a_drained_lane(fair), 0.2) < 0.2


def stalled_beside_a_drained_lane(fair: ringlane.Sidecar) -> float:
    with ringlane.connect(fair.address) as leaver, lane_of(fair) as victim:
        other = leaver.open("orders", depth=1024)
        each = price(other)
        with ringlane.connect(fair.address) as asker:
            before = asker.state().sequence
        ticket = other.submit(dear(other, 500))
        batch, taken = cheap(victim, 1), []
        other.close()
        while not ticket.done():
            start = time.perf_counter()
            victim.process(batch)
            taken.append(time.perf_counter() - start)
        del ticket
        with ringlane.connect(fair.address) as asker:
            after = asker.state().sequence
    assert after == before + 500 + len(taken) + 1, "what was submitted is done, then the end"
    stalled = sum(seconds for seconds in taken if seconds > 8 * each + 0.003) / sum(taken)
    print(f"one dear request {each * 1e3:.2f} ms; slowest call while 500 are drained {max(taken) * 1e3:.2f} ms")
    return stalled
