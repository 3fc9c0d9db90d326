"""Lanes at their edges: Ctrl-C at any moment, exact prices, no room, ends that leave something behind, one deadline."""

from __future__ import annotations

import asyncio
import decimal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from decimal import Decimal

import numpy as np
import pytest
import ringlane
from fake_lane import EVENTS_PUBLISHED, STATUS, SUBMITTED, FakeLane
from ringlane import _shim
from ringlane.enums import LaneStatus

Order = Callable[..., np.ndarray]

# ---- Ctrl-C ----

STORM = """
import random, signal, sys, time
import ringlane

with ringlane.connect(sys.argv[1]) as client, client.open("orders", depth=256, timeout=2) as lane:
    made = lane.batch(op="CANCEL", symbol=1, account=7, client_order_id=range(1, 33))
    def reserve():
        reservation = lane.reserve(32)
        kept.append(reservation)  # whoever still names it must not hold the lane
        with reservation as slots:
            slots[:] = made
        reservation.ticket.result()

    def submit():
        lane.submit(made).result()

    hits, kept, errors = 0, [], []
    signal.signal(signal.SIGALRM, signal.default_int_handler)  # as Ctrl-C, thousands of times
    end = time.monotonic() + 3
    while time.monotonic() < end:
        try:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 1e-3))  # one, anywhere
            while time.monotonic() < end:
                kept[:-1] = []
                reserve()
                submit()
        except KeyboardInterrupt as error:
            errors = [error]  # and its traceback, which holds the frames
            hits += 1
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    assert hits > 50, hits
    assert len(lane.process(made, copy=True)) == 32
    with lane.reserve(1) as slots:
        slots[:] = made[:1]
    print("works after", hits)
"""


def test_the_lane_works_after_a_storm_of_interrupts(sidecar: ringlane.Sidecar) -> None:
    ran = subprocess.run([sys.executable, "-c", STORM, sidecar.address], capture_output=True, text=True, timeout=30)
    assert ran.stdout.startswith("works after"), ran.stderr[-2000:]


def test_a_reservation_that_nobody_ends_is_given_back_with_its_object() -> None:
    fake = FakeLane()
    for _ in range(3):
        hold = _shim.Hold(fake.shim, 64)
        hold.__enter__()
        del hold
    assert fake.client_word(SUBMITTED) == 0
    with _shim.Hold(fake.shim, 64):
        pass
    fake.complete(64)
    assert fake.reserve(64, 0) == 64, "a block that copies holds nothing once its lease is gone"
    other = _shim.Hold(fake.shim, 1)
    other.__exit__(KeyError, None, None)  # not the one that is open: changes nothing
    del other
    assert len(np.asarray(fake.commit())) == 64


def test_a_view_that_fails_gives_the_slots_back() -> None:
    fake = FakeLane()
    hold = _shim.Hold(fake.shim, 64, view=lambda lease: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        hold.__enter__()
    assert fake.reserve(64, 0) == 0


def test_a_lane_that_ends_under_a_reservation_says_so_and_keeps_nothing() -> None:
    fake = FakeLane()
    fake.reserve(1)
    fake.set_word(STATUS, LaneStatus.JOURNAL_FAILED)
    with pytest.raises(ringlane.LaneFaulted):
        fake.commit()
    assert fake.client_word(SUBMITTED) == 0


# ---- exact prices ----


@pytest.mark.parametrize(
    ("price", "words"),
    [
        ("187.25000000000000000000000000001", "4 decimals"),
        (Decimal("187.25000000000000000000000000001"), "4 decimals"),
        ("1E+2000000", "64 bits"),
        (Decimal("1E+999999"), "64 bits"),
        ("1E-999999", "4 decimals"),
        ("1E+99999999999999999999", "not a decimal|64 bits"),
        ("9223372036854775808", "64 bits"),
        ("922337203685477.5808", "64 bits"),
        ("NaN", "not a decimal"),
        (Decimal("sNaN"), "not a decimal"),
        ("-Infinity", "not a decimal"),
        ("1,5", "not a decimal"),
        ("", "not a decimal"),
        ("10.001", r"multiple of AAPL's tick of 0\.01"),
        (Decimal("10.001"), r"multiple of AAPL's tick of 0\.01"),
        (10.001, r"10\.001 is not a multiple of AAPL's tick of 0\.01"),
    ],
)
def test_prices_that_are_not_exact_are_refused(order: Order, price: object, words: str) -> None:
    for context in (decimal.Context(), decimal.Context(prec=3), decimal.Context(prec=3, traps=[])):
        with decimal.localcontext(context), pytest.raises(ValueError, match=words):
            order(1, price=price)
        with decimal.localcontext(context), pytest.raises(ValueError, match=words):
            order(2, price=[price, price])


@pytest.mark.parametrize("price", ["187.25", "187.250000", "+1.8725E2", "0187.25", "18725e-2"])
def test_decimals_are_exact_in_any_context(order: Order, price: str) -> None:
    for context in (decimal.Context(), decimal.Context(prec=3)):
        with decimal.localcontext(context):
            assert order(1, price=price)["price"][0] == 1_872_500
            assert order(1, price=Decimal(price))["price"][0] == 1_872_500
    assert order(1, price="-187.25")["price"][0] == -1_872_500
    assert order(2, price=["0E+5000", "-0"])["price"].tolist() == [0, 0]


def test_ticks_are_asked_of_decimals_alone(lane: ringlane.Lane, order: Order) -> None:
    assert order(2, price=[10_001, 10_003])["price"].tolist() == [10_001, 10_003]
    mixed = np.array([10_001, Decimal("1.5")], object)
    assert order(2, price=mixed)["price"].tolist() == [10_001, 15_000]
    result = lane.process(order(1, price=10_001), copy=True)[0]
    assert result["code"] == ringlane.RejectCode.OFF_TICK


# ---- no room ----


def test_no_room_blocks_or_raises_as_chosen_and_says_who_is_behind() -> None:
    fake = FakeLane()
    fake.reserve(64)
    results = fake.commit()
    begin = time.monotonic()
    with pytest.raises(ringlane.LaneFull, match="the sidecar is behind"):
        _shim.Hold(fake.shim, 1, None, False).__enter__()
    assert time.monotonic() - begin < 0.9, "it waited, as long as one does who may wait"
    with pytest.raises(TimeoutError):
        fake.reserve(1, 50_000_000)
    fake.complete(64)
    begin = time.monotonic()
    with pytest.raises(ringlane.LaneFull, match="1 array"):
        _shim.Hold(fake.shim, 1, None, False).__enter__()
    assert time.monotonic() - begin < 0.9, "it waited, as long as one does who may wait"
    with pytest.raises(ringlane.LaneFull, match="1 array"):
        fake.reserve(1)
    assert 0.9 < time.monotonic() - begin < 10
    del results
    hold = _shim.Hold(fake.shim, 1, None, False)
    hold.__enter__()
    said: list[str] = []

    def other() -> None:
        try:
            _shim.Hold(fake.shim, 1, None, False).__enter__()
        except ringlane.LaneFull as error:
            said.append(str(error))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join(5)
    assert "another thread" in said[0]


def test_on_full_stands_on_all_three_ways(lane: ringlane.Lane, order: Order) -> None:
    look = lane.process(order(64))
    for attempt in (
        lambda: lane.submit(order(1), on_full="raise"),
        lambda: lane.process(order(1), on_full="raise"),
        lambda: lane.reserve(1, on_full="raise").__enter__(),
    ):
        begin = time.monotonic()
        with pytest.raises(ringlane.LaneFull, match="slots 0 to 63"):
            attempt()
        assert time.monotonic() - begin < 0.9, "it waited, as long as one does who may wait"
    del look
    assert len(lane.process(order(64), on_full="raise")) == 64
    for attempt in (lambda: lane.submit(order(1), on_full="maybe"), lambda: lane.reserve(1, on_full="maybe")):
        with pytest.raises(ValueError, match="on_full"):
            attempt()
    for count in (-1, 0, 65, 2**70):
        with pytest.raises(ValueError, match="1 to 64 slots"):
            lane.reserve(count)


# ---- ends ----


def test_a_lane_that_its_client_closed_is_no_fault(client: ringlane.Client, lane: ringlane.Lane, order: Order) -> None:
    batch = order(1)
    lane.close()
    for attempt in (
        lambda: lane.call(2),
        lambda: lane.process(batch),
        lambda: lane.reserve(1).__enter__(),
        lane.events,
        lambda: lane.events(0.1),
        lambda: asyncio.run(lane.events_async(0.1)),
        lambda: lane.in_flight,
    ):
        with pytest.raises(ringlane.RinglaneError, match="closed") as raised:
            attempt()
        assert raised.type is ringlane.RinglaneError


def test_events_that_wait_are_taken_after_the_end(lane: ringlane.Lane, order: Order) -> None:
    for how in (
        lambda: lane._shim.wait(0, 10**9),
        lambda: lane.events(1),
        lambda: asyncio.run(lane.events_async(1)),
    ):
        fake = FakeLane()
        fake.set_word(EVENTS_PUBLISHED, 2)
        fake.set_word(STATUS, LaneStatus.JOURNAL_FAILED)
        real, lane._shim = lane._shim, fake.shim
        try:
            got = how()
            assert got is None or len(got) == 2
            if got is not None:
                with pytest.raises(ringlane.LaneFaulted):
                    how()
        finally:
            lane._shim = real


def test_process_has_one_deadline_and_loses_no_ticket(lane: ringlane.Lane, order: Order) -> None:
    batch = order(64)
    fake = FakeLane()
    fake.reserve(64)
    first = fake.commit()
    del first
    real, lane._shim = lane._shim, fake.shim
    try:
        threading.Timer(1.0, fake.complete, (64,)).start()
        begin = time.monotonic()
        with pytest.raises(TimeoutError) as raised:
            lane.process(batch, timeout=1.5)
        assert 1.45 < time.monotonic() - begin < 2.4, "two deadlines would be 2.5 s"
        ticket = raised.value.ticket
        fake.complete(128)
        assert len(ticket.result(1)) == 64
        del ticket, raised
        lane.submit(batch, timeout=1)
        with pytest.raises(TimeoutError) as raised:
            lane.process(batch, timeout=0.05)
        assert raised.value.ticket is None
    finally:
        lane._shim = real
