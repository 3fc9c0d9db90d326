"""Administrators' acts through the control socket, time records by the clock, and that a replay repeats them."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import ringlane
from ringlane import CancelReason, EventKind, OrderFlag, OrderState, OrderType, RejectCode, SelfTrade, TimeInForce
from ringlane.sidecar import find_binary


def state_hash_of(journal: Path) -> str:
    done = subprocess.run(
        [find_binary(), "replay", str(journal), "--json"], check=True, capture_output=True, text=True, timeout=60
    )
    return str(json.loads(done.stdout)["state_hash"])


def test_every_act_decides_and_is_replayed(tmp_path: Path) -> None:
    ids = iter(range(1, 1000))
    with ringlane.Sidecar(journal=tmp_path) as sidecar, ringlane.connect(sidecar.address) as client:
        lane, admin = client.open("orders", depth=256), client.admin

        def send(**columns: object) -> np.void:
            base = {
                "symbol": 1,
                "side": "BUY",
                "account": 1,
                "client_order_id": next(ids),
                "price": 1000,
                "quantity": 10,
            }
            return lane.process(lane.batch(**{**base, **columns}), copy=True)[0]  # type: ignore[no-any-return]

        assert send()["state"] == OrderState.RESTING
        admin.halt(1)
        assert send()["code"] == RejectCode.SYMBOL_HALTED
        admin.resume()
        assert send()["code"] == 0
        admin.limits(1, 2, group=3, self_trade=SelfTrade.CANCEL_NEWEST, open_orders_max=3)
        crossing = send(account=2, side="SELL")
        assert (crossing["state"], crossing["reason"]) == (OrderState.CANCELLED, CancelReason.SELF_TRADE)
        assert [event["kind"] for event in lane.events()] == [EventKind.TRADE_PREVENTED]
        admin.limits(1, symbol=1, order_notional_max=100)
        assert send()["code"] == RejectCode.NOTIONAL_LIMIT
        assert send(symbol=2)["code"] == 0
        assert send(symbol=2)["code"] == RejectCode.OPEN_ORDERS_LIMIT
        assert admin.cancel_all(account=1) == 3
        assert {int(event["reason"]) for event in lane.events()} == {CancelReason.ADMINISTRATOR}
        symbol = admin.add_instrument("NEWCO", tick=5)
        assert send(symbol=symbol, account=3, price=15)["code"] == 0
        assert send(symbol=symbol, account=3, price=16)["code"] == RejectCode.OFF_TICK
        # DAY orders end with the day, GTD orders by the clock; nobody submits anything meanwhile.
        day = send(account=4, time_in_force=TimeInForce.DAY)
        soon = time.time_ns() + 300_000_000
        gtd = send(account=4, time_in_force=TimeInForce.GTD, expires_ns=soon)
        assert [int(event["order_id"]) for event in lane.events(timeout=10)] == [int(gtd["order_id"])]
        assert time.time_ns() >= soon
        admin.end_day()
        [ended] = lane.events(timeout=10)
        assert (ended["order_id"], ended["reason"]) == (day["order_id"], CancelReason.EXPIRED)
        # A rate is counted by the second of sequenced time, which goes on by itself.
        admin.limits(5, order_rate_max=2)
        assert [int(send(account=5)["code"]) for _ in range(3)] == [0, 0, RejectCode.ORDER_RATE]
        deadline = time.monotonic() + 20
        while send(account=5)["code"] != 0:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        # Stops and icebergs by their columns, decimal prices too.
        stop = send(account=6, order_type=OrderType.STOP, price=0, stop_price="9.5")
        assert stop["state"] == OrderState.WAITING
        shown = send(account=6, display_quantity=2, price=900)
        assert shown["code"] == 0
        assert client.book(1).bids["quantity"].tolist()[-1] == 2
        row = client.orders(6).orders
        assert row["stop_price"].tolist() == [0, 95_000]
        assert row["display_quantity"].tolist() == [2, 0]
        everything = send(op="CANCEL_ALL", symbol=0, account=0, flags=OrderFlag.THIS_LANE, price=0, quantity=0)
        assert everything["fill_count"] >= 5
        assert client.state().resting == 0
        admin.disconnect(lane.number)
        with pytest.raises(ringlane.RinglaneError):
            for _ in range(100):
                send(account=7)
        # A time record may come between question and replay: once they must agree.
        assert any(client.state().state_hash == state_hash_of(tmp_path) for _ in range(5))
    with ringlane.Sidecar(journal=tmp_path) as sidecar, ringlane.connect(sidecar.address) as client:
        assert client.symbols["NEWCO"] == symbol, "what was added live is there after a start"
        assert client.state().sequence > 0


def test_wrong_acts_are_refused_and_change_nothing(tmp_path: Path) -> None:
    with ringlane.Sidecar(journal=tmp_path) as sidecar, ringlane.connect(sidecar.address) as client:
        admin, before = client.admin, client.state()
        for attempt in (
            lambda: admin.halt(9999),
            lambda: admin.limits(0),
            lambda: admin.limits(5, 4),
            lambda: admin.limits(1, position_max=-1),
            lambda: admin.limits(1, self_trade=4),
            lambda: admin.limits(1, symbol=1, group=2),
            lambda: admin.limits(1, symbol=9999),
            lambda: admin.cancel_all(symbol=-1),
            lambda: admin.disconnect(77),
            lambda: admin.add_instrument("AAPL"),
            lambda: admin.add_instrument("two words"),
        ):
            with pytest.raises(ValueError, match="BAD_VALUE"):
                attempt()
        assert client.state() == before
