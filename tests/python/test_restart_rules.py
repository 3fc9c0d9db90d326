"""What holds behind a restart: limits that were set live, the price that collars look at, and a day that ended meanwhile."""

from __future__ import annotations

import itertools
import json
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import ringlane
from daemon import BINARY, Daemon
from ringlane import RejectCode, SelfTrade

ids = itertools.count(1)


def accounts(first: int, last: int, **limits: int) -> str:
    return f"[[orders.accounts]]\nfirst = {first}\nlast = {last}\n" + "".join(f"{k} = {v}\n" for k, v in limits.items())


class Desk:
    """A client with a lane that sends single orders."""

    def __init__(self, daemon: Daemon) -> None:
        self.client = ringlane.connect(daemon.address)
        self.lane = self.client.open("orders", depth=64)

    def code(self, account: int, **columns: object) -> RejectCode | int:
        base = {"symbol": 1, "side": "BUY", "client_order_id": next(ids), "price": 1000, "quantity": 10}
        result = self.lane.process(self.lane.batch(**{**base, "account": account, **columns}), copy=True)[0]
        return RejectCode(result["code"]) if result["code"] else 0

    def __enter__(self) -> Desk:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()


def end(daemon: Daemon, way: str) -> None:
    """Ends a sidecar: in order, which leaves a snapshot, or by SIGKILL, which leaves the journal alone."""
    if way == "stop":
        assert daemon.stop() == 0
    else:
        daemon.kill()


@pytest.mark.parametrize("way", ["stop", "kill"])
def test_the_last_decision_on_a_limit_holds_whoever_made_it(tmp_path: Path, way: str) -> None:
    file = accounts(1, 9, order_quantity_max=100) + accounts(1, 9, symbol=2, order_quantity_max=50)
    daemon = Daemon(tmp_path, config=file).ready()
    with Desk(daemon) as desk:
        admin = desk.client.admin
        admin.limits(3, 4, order_quantity_max=5)  # tightened in the file's range
        admin.limits(20, order_quantity_max=7, group=1, self_trade=SelfTrade.CANCEL_NEWEST)  # an account of no file
        admin.limits(3, symbol=1, order_notional_max=3000)
        assert desk.code(3, quantity=6) == RejectCode.ORDER_SIZE_LIMIT
    end(daemon, way)

    # The same file: what was decided live stays; twice, because the second start has another journal before it.
    for _ in range(2):
        daemon = Daemon(tmp_path, config=file).ready()
        with Desk(daemon) as desk:
            assert desk.code(1, quantity=60) == 0
            assert desk.code(4, quantity=6) == RejectCode.ORDER_SIZE_LIMIT
            assert desk.code(20, quantity=8) == RejectCode.ORDER_SIZE_LIMIT
            assert desk.code(3, quantity=4) == RejectCode.NOTIONAL_LIMIT
            assert desk.code(1, quantity=60, symbol=2) == RejectCode.ORDER_SIZE_LIMIT
            assert "stay in force" in daemon.words()
        end(daemon, way)

    # An entry that was changed in the file is a later decision, where it changes something.
    changed = accounts(1, 3, order_quantity_max=200) + accounts(4, 9, order_quantity_max=100)
    daemon = Daemon(tmp_path, config=changed).ready()
    with Desk(daemon) as desk:
        assert desk.code(1, quantity=160) == 0
        assert desk.code(3, quantity=3) == 0
        assert desk.code(3, quantity=4) == RejectCode.NOTIONAL_LIMIT, "limits in a symbol are decisions of their own"
        assert desk.code(4, quantity=6) == RejectCode.ORDER_SIZE_LIMIT, "its entry says what it said before"
        assert desk.code(1, quantity=60, symbol=2) == 0, "the file has no limits in this symbol any more"
        # And an administrator's act is a later one again.
        desk.client.admin.limits(4, 9, order_quantity_max=1000)
        assert desk.code(4, quantity=500) == 0
        assert daemon.replay()["state_hash"] == desk.client.state().state_hash
    end(daemon, way)
    daemon = Daemon(tmp_path, config=changed).ready()
    with Desk(daemon) as desk:
        assert desk.code(4, quantity=500) == 0
    assert daemon.stop() == 0


def test_the_price_of_the_last_trade_holds_behind_a_snapshot(tmp_path: Path) -> None:
    file = accounts(1, 9, price_collar_bps=500)
    daemon = Daemon(tmp_path, config=file).ready()
    with Desk(daemon) as desk:
        assert desk.code(1, price=5000) == 0, "nothing was traded: there is no price to be far from"
        assert desk.code(2, price=5000, side="SELL") == 0
        assert desk.code(1, price=5300) == RejectCode.PRICE_COLLAR
        desk.client.snapshot()
    for way in ("stop", "kill"):
        end(daemon, way)
        daemon = Daemon(tmp_path, config=file).ready()
        with Desk(daemon) as desk:
            assert desk.code(1, price=5300) == RejectCode.PRICE_COLLAR
            assert desk.code(1, price=5200) == 0
    assert daemon.stop() == 0


def imported(directory: Path, entered_ns: int, expires_ns: int) -> None:
    """A recording with an order of each time in force in account 1, 2 and 3, entered when it is said."""
    rows = "op,side,order_type,time_in_force,symbol,account,client_order_id,price,quantity,expires_ns,time_ns\n"
    for account, (time_in_force, expires) in enumerate([("GTC", 0), ("DAY", 0), ("GTD", expires_ns)], 1):
        rows += f"NEW,BUY,LIMIT,{time_in_force},1,{account},1,{1000 * account},5,{expires},{entered_ns}\n"
    orders = directory / "orders.csv"
    orders.write_text(rows)
    command = [BINARY, "import", "csv", str(orders), "--out", str(directory / "journal")]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def resting(client: ringlane.Client) -> list[int]:
    return [account for account in (1, 2, 3) if len(client.orders(account).orders)]


def times_journaled(daemon: Daemon) -> list[int]:
    """Whether each time record of the journal ends a day."""
    recording = ringlane.read_recording(daemon.journal)
    return [int(record["ends_day"]) for record in recording.records("TIME")]


def test_a_day_that_ended_while_no_sidecar_ran_ends_at_the_next_start(tmp_path: Path) -> None:
    now_ns = time.time_ns()
    imported(tmp_path, now_ns - 30 * 3600 * 10**9, now_ns - 3600 * 10**9)
    # The hour is a minute ago: DAY orders of today would live until tomorrow, those of yesterday are over.
    hour = time.strftime("%H:%M", time.gmtime(now_ns / 1e9 - 60))
    daemon = Daemon(tmp_path, config=f'[sequencer]\nday_ends_utc = "{hour}"\n').ready()
    with Desk(daemon) as desk:
        assert resting(desk.client) == [1]
        # It happened before anybody was heard: nothing traded with an order that was over.
        assert desk.code(4, side="SELL", price=2000, time_in_force="DAY") == 0
        assert desk.client.state().trades == 0
        assert daemon.replay()["state_hash"] == desk.client.state().state_hash, "a replay repeats it"
    daemon.kill()
    assert times_journaled(daemon) == [1]
    # The order of today outlives starts of today, from the journal and from a snapshot.
    for way in ("stop", "stop", "kill"):
        daemon = Daemon(tmp_path, config=f'[sequencer]\nday_ends_utc = "{hour}"\n').ready()
        with Desk(daemon) as desk:
            assert len(desk.client.orders(4).orders) == 1
        end(daemon, way)


def test_without_an_hour_only_an_administrator_ends_the_day(tmp_path: Path) -> None:
    now_ns = time.time_ns()
    imported(tmp_path, now_ns - 30 * 3600 * 10**9, now_ns + 3600 * 10**9)
    daemon = Daemon(tmp_path).ready()
    with Desk(daemon) as desk:
        assert resting(desk.client) == [1, 2, 3]
        done = subprocess.run(
            [BINARY, "admin", "end-day", "--json", "--address", daemon.address],
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert json.loads(done.stdout)["ok"], done
        assert resting(desk.client) == [1, 3]
    assert daemon.stop() == 0


def test_numbers_of_numpy_are_limits_too(tmp_path: Path) -> None:
    with ringlane.Sidecar(journal=tmp_path) as sidecar, ringlane.connect(sidecar.address) as client:
        client.admin.limits(np.int64(3), order_quantity_max=np.int32(5))  # type: ignore[arg-type]
        lane = client.open("orders", depth=64)
        order = lane.batch(symbol=1, side="BUY", account=3, client_order_id=1, price=1000, quantity=6)
        assert lane.process(order, copy=True)["code"][0] == RejectCode.ORDER_SIZE_LIMIT


@pytest.mark.parametrize("way", ["stop", "kill"])
def test_an_instrument_that_was_added_live_need_not_stand_in_the_file(tmp_path: Path, way: str) -> None:
    file = '[[orders.instruments]]\nname = "RING"\n'
    daemon = Daemon(tmp_path, config=file).ready()
    with Desk(daemon) as desk:
        assert desk.client.admin.add_instrument("LANE", tick=5) == 2
    end(daemon, way)
    for more in ("", "", '[[orders.instruments]]\nname = "LANE"\ntick = 5\n', ""):
        daemon = Daemon(tmp_path, config=file + more).ready()
        with Desk(daemon) as desk:
            assert desk.client.symbols == {"RING": 1, "LANE": 2}
            assert desk.code(1, symbol=2, price=1001) == RejectCode.OFF_TICK
        end(daemon, way)
    other = Daemon(tmp_path, config=file + '[[orders.instruments]]\nname = "LANE"\ntick = 1\n')
    assert other.process.wait(20) == 2
    assert "symbol 2 is LANE in the journal" in other.words()
    other.stop()
