"""Administrators' acts through the control socket, time records by the clock, and that a replay repeats them."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest
import ringlane
from ringlane import CancelReason, EventKind, OrderFlag, OrderState, OrderType, RejectCode, SelfTrade, TimeInForce
from ringlane.sidecar import find_binary
from sender import sender


def state_hash_of(journal: Path) -> str:
    done = subprocess.run(
        [find_binary(), "replay", str(journal), "--json"], check=True, capture_output=True, text=True, timeout=60
    )
    return str(json.loads(done.stdout)["state_hash"])


def test_every_act_decides_and_is_replayed(tmp_path: Path) -> None:
    with ringlane.Sidecar(journal=tmp_path) as sidecar, ringlane.connect(sidecar.address) as client:
        lane, admin = client.open("orders", depth=256), client.admin
        send = sender(lane)
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


def test_what_is_in_force_is_shown_and_survives(tmp_path: Path) -> None:
    with ringlane.Sidecar(journal=tmp_path) as sidecar, ringlane.connect(sidecar.address) as client:
        admin, before = client.admin, client.admin.show()
        assert (before.halted.tolist(), before.groups, len(before.instruments)) == ([], {}, 64)
        assert before.of(1) is not None
        assert before.of(1, symbol=1) is None
        admin.limits(7, 9, position_max=50, order_rate_max=4, group=3, self_trade=SelfTrade.CANCEL_BOTH)
        admin.limits(8, symbol=2, exposure_max=1_000)
        admin.limits(1_000_000, position_max=50)
        admin.halt()
        admin.resume(3)
        symbol = admin.add_instrument("NEWCO", tick=5, reference_price=50)
        rules = admin.show()
        assert rules.sequence == client.state().sequence
        assert rules.halted.tolist() == [number for number in range(1, 65) if number != 3], "a new symbol is not halted"
        newco = rules.instruments[symbol - 1]
        assert (newco["name"], newco["tick"], newco["reference_price"]) == (b"NEWCO", 5, 50)
        mine = rules.of(8)
        assert (mine["account_first"], mine["account_last"], mine["position_max"], mine["order_rate_max"]) == (
            7,
            9,
            50,
            4,
        )
        assert (mine["group"], mine["self_trade"], mine["order_quantity_max"]) == (3, SelfTrade.CANCEL_BOTH, 0)
        assert rules.groups == {3: [(7, 9)]}
        assert rules.of(8, symbol=2)["exposure_max"] == 1_000
        assert rules.of(7, symbol=2) is None
        assert rules.of(6) == before.of(6) or rules.of(6)["position_max"] == before.of(6)["position_max"]
        assert (rules.of(1_000_000)["account_last"], rules.of(999_999)) == (1_000_000, None)
        # The limits that are shown are those that hold.
        assert (
            sender(client.open("orders", depth=64))(symbol=3, account=8, quantity=51)["code"]
            == RejectCode.POSITION_LIMIT
        )
    with ringlane.Sidecar(journal=tmp_path) as sidecar, ringlane.connect(sidecar.address) as client:
        again = client.admin.show()
        assert again.halted.tolist() == rules.halted.tolist()
        assert again.limits.tobytes() == rules.limits.tobytes()
        assert again.instruments.tobytes() == rules.instruments.tobytes()
