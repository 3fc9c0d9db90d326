"""Orders by way of Python: batches, prices, rejects in words, queries, events, and arrays that do not fit."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import ringlane
from ringlane import Op, OrderFlag, OrderState, OrderType, RejectCode, Side, TimeInForce

Order = Callable[..., np.ndarray]

CONFIG = {
    "orders": {
        "resting_orders_max": 64,
        "instruments": [
            {"name": "AAA", "price_decimals": 2, "tick": 5, "lot": 10, "reference_price": 10_000},
            {"name": "BBB", "price_decimals": 4},
        ],
        "accounts": [
            {"first": 1, "last": 10, "order_quantity_max": 1000, "position_max": 2000, "price_collar_bps": 1000},
            {"first": 11, "last": 20},
        ],
    }
}


@pytest.fixture(scope="module")
def small() -> Iterator[ringlane.Lane]:
    with ringlane.Sidecar(config=CONFIG) as sidecar, ringlane.connect(sidecar.address) as client:
        yield client.open("orders", depth=256, accounts=(1, 19), timeout=10)


def test_shim_and_sidecar_are_of_one_build(client: ringlane.Client) -> None:
    assert client.build == ringlane.BUILD_HASH


def test_the_sidecars_schemas_are_the_ones_this_build_knows(lane: ringlane.Lane) -> None:
    from ringlane.schema import BUILT_IN

    for schema in (lane.request_schema, lane.result_schema, lane.event_schema):
        assert BUILT_IN[schema.name] == schema
        assert schema.dtype.itemsize == 64
        assert not any(name.startswith("reserved") for name in schema.dtype.names)


def test_enum_stubs_are_the_compiled_layouts(tmp_path: Path) -> None:
    python = Path(__file__).parents[2] / "python"
    made = subprocess.run([sys.executable, python / "generate_stubs.py"], cwd=tmp_path, capture_output=True, text=True)
    if "No module named 'ringlane._shim'" in made.stderr:
        made = subprocess.run(
            [sys.executable, "-c", (python / "generate_stubs.py").read_text()],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
    assert made.stdout == (python / "ringlane" / "enums.pyi").read_text(), made.stderr


# ---- batches ----


def test_a_batch_has_defaults_names_and_broadcasts(lane: ringlane.Lane, client: ringlane.Client) -> None:
    batch = lane.batch(
        symbol=["AAPL", "MSFT", "AAPL"], side=[Side.BUY, Side.SELL, 1], account=7, price="1.5", quantity=3
    )
    assert batch.dtype == lane.request_dtype
    assert batch["symbol"].tolist() == [client.symbols["AAPL"], client.symbols["MSFT"], client.symbols["AAPL"]]
    assert batch["op"].tolist() == [Op.NEW] * 3
    assert batch["order_type"].tolist() == [OrderType.LIMIT] * 3
    assert batch["time_in_force"].tolist() == [TimeInForce.GTC] * 3
    assert batch["price"].tolist() == [15000] * 3
    assert lane.batch(op="CANCEL", side=["BUY", "SELL"])["side"].tolist() == [1, 2]
    assert len(lane.batch()) == 1
    assert lane.batch(flags=OrderFlag.POST_ONLY)["flags"][0] == 1


@pytest.mark.parametrize(
    ("price", "units"),
    [
        ("150.25", 1502500),
        (150.25, 1502500),
        (Decimal("150.2500"), 1502500),
        (1502500, 1502500),
        (np.int32(7), 7),
        (np.float32(0.5), 5000),
        ("-0.01", -100),
        ("1e2", 1000000),
        (0.1 + 0.2, None),
        ("150.25001", None),
        (150.25001, None),
        ("abc", None),
        (float("nan"), None),
        (float("inf"), None),
        (Decimal("Infinity"), None),
        ("99999999999999999999", None),
    ],
)
def test_prices_are_exact_or_refused(lane: ringlane.Lane, price: object, units: int | None) -> None:
    for value in (price, [price, price], np.array([price])):
        if units is None:
            with pytest.raises(ValueError, match=r"price"):
                lane.batch(symbol="AAPL", price=value)
        else:
            assert set(lane.batch(symbol="AAPL", price=value)["price"].tolist()) == {units}


def test_prices_of_many_symbols_count_in_their_own_units(small: ringlane.Lane, seed: int) -> None:
    rng = np.random.default_rng(seed)
    symbols = rng.integers(1, 3, 1000)
    cents = rng.integers(1, 10**6, 1000) * 5  # the tick of AAA
    expected = np.where(symbols == 1, cents, cents * 100)
    names = np.array(["", "AAA", "BBB"])[symbols]
    for prices in (
        cents / 100,
        [f"{c // 100}.{c % 100:02}" for c in cents],
        [Decimal(int(c)).scaleb(-2) for c in cents],
    ):
        assert (small.batch(symbol=names, price=prices)["price"] == expected).all()
        assert (small.batch(symbol=symbols, price=prices)["price"] == expected).all()


@pytest.mark.parametrize(
    ("columns", "kind", "words"),
    [
        ({"prise": 1}, TypeError, "no field 'prise'.*price"),
        ({"reserved": 1}, TypeError, "no field 'reserved'"),
        ({"symbol": "NOPE"}, ValueError, "no symbol 'NOPE'"),
        ({"symbol": 4_000_000, "price": "1.5"}, ValueError, "no symbol 4000000"),
        ({"side": "LONG"}, ValueError, "side 'LONG' is none of BUY, SELL"),
        ({"side": 256}, ValueError, "side must be 0 to 255"),
        ({"quantity": 1.5}, ValueError, "quantity must be whole"),
        ({"quantity": "5"}, TypeError, "quantity must be integers"),
        ({"account": -1}, ValueError, "account must be 0 to"),
        ({"account": [1, 2], "quantity": [1, 2, 3]}, ValueError, "differ in length: account 2, quantity 3"),
        ({"account": [[1]]}, ValueError, "one-dimensional"),
        ({"price": None}, ValueError, "price"),
    ],
)
def test_columns_that_do_not_fit(lane: ringlane.Lane, columns: dict[str, object], kind: type, words: str) -> None:
    with pytest.raises(kind, match=words):
        lane.batch(**{"symbol": "AAPL", **columns})


# ---- arrays ----


def test_arrays_that_do_not_fit(lane: ringlane.Lane, order: Order) -> None:
    good = order(2)
    for bad, kind, words in [
        ([1, 2], TypeError, "not list; lane.batch"),
        (np.zeros(2), TypeError, "not this lane's request_dtype"),
        (np.zeros(2, lane.result_dtype), TypeError, "not this lane's request_dtype"),
        (good.astype(good.dtype.newbyteorder(">")), TypeError, "not this lane's request_dtype"),
        (good.reshape(1, 2), ValueError, "one dimension"),
        (order(65), ValueError, "1 to 64 records"),
        (good[:0], ValueError, "1 to 64 records"),
    ]:
        with pytest.raises(kind, match=words):
            lane.process(bad)
    for count in (0, 65):
        with pytest.raises(ValueError, match="1 to 64"), lane.reserve(count):
            pass
    with pytest.raises(ValueError, match="timeout"):
        lane.process(good, timeout=-1)


def test_arrays_of_any_memory_are_taken(lane: ringlane.Lane, order: Order) -> None:
    good = order(6)
    raw = np.zeros(6 * 64 + 1, np.uint8)
    unaligned = raw[1:].view(lane.request_dtype)
    unaligned[:] = order(6)
    read_only = order(3)
    read_only.flags.writeable = False
    garbage = np.frombuffer(bytearray(b"\xff" * 64 * 2), lane.request_dtype)
    for name in lane.request_dtype.names:
        garbage[name] = order(2)[name]
    for batch in (good[::2], good[1::2][::-1], unaligned, read_only, garbage, order(1)[0]):
        result = lane.process(batch)
        assert not result["code"].any(), ringlane.explain(result[0])
        assert (np.atleast_1d(batch)["client_order_id"] == result["client_order_id"]).all()
        del result


def test_results_are_looks_or_copies(lane: ringlane.Lane, order: Order) -> None:
    look = lane.process(order(4))
    with pytest.raises(ValueError, match="read-only"):
        look["code"] = 1
    ticket = lane.submit(order(4))
    copy = ticket.result(copy=True)
    assert ticket.result() is copy
    copy["code"] = 7
    slices = look[1:2]["sequence"]
    value = int(slices[0])
    del look, ticket
    for _ in range(56):
        lane.process(order(1))
    with pytest.raises(ringlane.LaneFull, match="slots 0 to 3"):
        lane.submit(order(10), timeout=0.01)
    assert slices[0] == value
    del slices
    assert len(lane.process(order(64))) == 64


# ---- reservations ----


def test_a_reservation_is_filled_in_place(lane: ringlane.Lane, order: Order) -> None:
    for _ in range(10):
        reservation = lane.reserve(40)
        with pytest.raises(ringlane.RinglaneError, match="nothing is submitted"):
            _ = reservation.ticket
        with reservation as slots:
            assert slots.dtype == lane.request_dtype
            assert not slots["op"].any()
            slots[:] = order(40)
        assert not slots.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            slots["price"] = 1
        del slots
        assert not reservation.ticket.result()["code"].any()
        with pytest.raises(ringlane.RinglaneError, match="used once"), reservation:
            pass
        del reservation


def test_an_exception_abandons_a_reservation(lane: ringlane.Lane, client: ringlane.Client, order: Order) -> None:
    before = client.state().sequence
    for _ in range(3):
        with pytest.raises(KeyError), lane.reserve(64) as slots:
            slots[:] = order(64)
            leaked = slots["price"]
            raise KeyError
    assert client.state().sequence == before
    reservation = lane.reserve(64)
    with reservation as fresh:
        assert not fresh["op"].any()
        leaked[:] = 3  # private memory now
        fresh[:] = order(64)
    assert not reservation.ticket.result()["code"].any()
    del fresh, reservation
    assert lane.call(2, 0, 0, 0, 1, 7)[7] == RejectCode.UNKNOWN_ORDER_ID


# ---- rejects ----


def test_every_reject_is_explained(small: ringlane.Lane) -> None:
    ids = iter(range(1, 1000))

    def code(**columns: object) -> int:
        base = {"symbol": "BBB", "side": 1, "account": 11, "client_order_id": next(ids), "price": 100, "quantity": 10}
        result = small.process(small.batch(**{**base, **columns}), copy=True)[0]
        words = ringlane.explain(result)
        assert words == "accepted" if result["code"] == 0 else words.startswith(f"{RejectCode(result['code']).name} (")
        assert (result["state"] == OrderState.REJECTED) == (result["code"] != 0)
        return int(result["code"])

    aaa = {"symbol": "AAA", "account": 1, "price": 10_000}
    assert code(client_order_id=900, price=50) == 0
    fok = TimeInForce.FOK
    cases = {
        RejectCode.UNKNOWN_OP: {"op": 99},
        RejectCode.UNKNOWN_SIDE: {"side": 3},
        RejectCode.UNKNOWN_ORDER_TYPE: {"order_type": 9},
        RejectCode.UNKNOWN_TIME_IN_FORCE: {"time_in_force": 9},
        RejectCode.UNKNOWN_FLAG: {"flags": 64},
        RejectCode.BAD_COMBINATION: {"order_type": OrderType.MARKET},
        RejectCode.UNKNOWN_SYMBOL: {"symbol": 3},
        RejectCode.UNKNOWN_ACCOUNT: {"account": 25},
        RejectCode.ACCOUNT_NOT_PERMITTED: {"account": 20},
        RejectCode.QUANTITY_NOT_POSITIVE: {"quantity": 0},
        RejectCode.QUANTITY_TOO_LARGE: {"quantity": 1 << 27},
        RejectCode.OFF_LOT: {**aaa, "quantity": 11},
        RejectCode.PRICE_NOT_POSITIVE: {"price": -1},
        RejectCode.PRICE_TOO_LARGE: {"price": 1 << 36},
        RejectCode.OFF_TICK: {**aaa, "price": 10_001},
        RejectCode.DUPLICATE_ORDER_ID: {"client_order_id": 900},
        RejectCode.UNKNOWN_ORDER_ID: {"op": Op.CANCEL},
        RejectCode.OVER_REDUCTION: {"op": Op.REDUCE, "client_order_id": 900, "quantity": 11},
        RejectCode.SIDE_MISMATCH: {"op": Op.REPLACE, "client_order_id": 900, "side": Side.SELL},
        RejectCode.ORDER_SIZE_LIMIT: {**aaa, "quantity": 1010},
        RejectCode.PRICE_COLLAR: {**aaa, "price": 20_000},
        RejectCode.WOULD_CROSS: {"side": Side.SELL, "price": 50, "flags": OrderFlag.POST_ONLY},
        RejectCode.NOT_FILLABLE: {"side": Side.SELL, "price": 50, "time_in_force": fok, "quantity": 11},
    }
    for expected, columns in cases.items():
        got = code(**columns)
        assert got == expected, f"{expected!r} wanted, got {ringlane.explain(got)}"
    assert [code(**aaa, quantity=1000) for _ in range(3)] == [0, 0, RejectCode.POSITION_LIMIT]
    got = [code(price=30) for _ in range(70)]
    assert got[-1] == RejectCode.BOOK_FULL
    # That every code there is can happen is proven in the kernel's own scenarios; here each has its words.
    assert all(ringlane.explain(code).startswith(f"{code.name} ({int(code)}): ") for code in RejectCode)


def test_explain_takes_rows_tuples_and_codes(lane: ringlane.Lane, order: Order) -> None:
    assert ringlane.explain(lane.call(99)).startswith("UNKNOWN_OP (101)")
    assert ringlane.explain(lane.process(order(1, op=99))[0]).startswith("UNKNOWN_OP (101)")
    assert ringlane.explain(RejectCode.OFF_TICK).startswith("OFF_TICK")
    assert ringlane.explain(9999) == "code 9999, which this build of ringlane does not know"
    for wrong in ((1, 2), "x", None):
        with pytest.raises(TypeError):
            ringlane.explain(wrong)


def test_call_and_process_say_the_same(lane: ringlane.Lane, order: Order) -> None:
    batch = order(1)[0]
    called = lane.call(*batch.item())
    processed = lane.process(order(1))[0]
    assert [field.name for field in lane.result_schema.visible] == list(lane.result_dtype.names)
    assert called[2] == batch["client_order_id"]
    assert called[3:] == processed.item()[3:]
    assert all(type(number) is int for number in called)


# ---- state ----


def test_queries_tell_the_state() -> None:
    with ringlane.Sidecar() as sidecar, ringlane.connect(sidecar.address, name="me") as client:
        lane = client.open("orders", depth=64)
        assert next(iter(client.symbols)) == "AAPL"
        assert client.instrument("AAPL") == client.instrument(1)
        assert client.instrument("AAPL").price_decimals == 4
        with pytest.raises(KeyError, match="NOPE"):
            client.symbols["NOPE"]
        with pytest.raises(KeyError, match="symbol number 999"):
            client.instrument(999)
        sell = lane.batch(
            symbol="AAPL", side="SELL", account=1, client_order_id=[5, 6, 7], price=["10", "11", "12"], quantity=100
        )
        lane.process(sell)
        lane.process(lane.batch(symbol="AAPL", side="BUY", account=2, client_order_id=1, price="10", quantity=30))
        orders = client.orders(1)
        assert sorted(orders.orders["remaining_quantity"].tolist()) == [70, 100, 100]
        assert orders.last_client_order_id == 7
        assert client.positions(1).cash == [30 * 100_000]
        assert client.positions(2).cash == [-30 * 100_000]
        assert client.positions(2).positions["net_quantity"].tolist() == [30]
        assert client.positions(99).cash == []
        book = client.book("AAPL", levels=2)
        assert book.asks["price"].tolist() == [100_000, 110_000]
        assert len(book.bids) == 0
        state = client.state()
        assert (state.trades, state.resting, state.rejected) == (1, 3, 0)
        assert state.sequence == orders.sequence
        events = lane.events()
        assert events["number"].tolist() == [1]
        assert (events["kind"][0], events["quantity"][0]) == (ringlane.EventKind.FILL, 30)
        assert len(lane.events()) == 0
        with pytest.raises(ValueError, match="BAD_VALUE"):
            client.book(999)


def test_dropped_events_leave_a_gap() -> None:
    with ringlane.Sidecar() as sidecar, ringlane.connect(sidecar.address) as client:
        lane = client.open("orders", depth=1024, events=64)
        n = 500
        ids = np.arange(1, n + 1)
        sell = lane.batch(symbol="AAPL", side="SELL", account=1, client_order_id=ids, price="10", quantity=1)
        assert not lane.process(sell)["code"].any()
        buy = lane.batch(symbol="AAPL", side="BUY", account=2, client_order_id=1, price="10", quantity=400)
        assert lane.process(buy)["filled_quantity"][0] == 400
        seen: list[int] = []
        gaps = 0
        last = 0
        for step in range(200):
            for event in lane.events(0.02):
                first = int(event["sequence"] if event["kind"] == ringlane.EventKind.GAP else event["number"])
                assert first == last + 1
                last = int(event["number"])
                gaps += event["kind"] == ringlane.EventKind.GAP
                seen.append(last)
            lane.process(
                lane.batch(symbol="AAPL", side="BUY", account=2, client_order_id=step + 2, price="10", quantity=1)
            )
            if gaps and last >= 410:
                break
        assert gaps >= 1
        assert client.orders(1).sequence > 0


def test_orphans_are_taken_over(small: ringlane.Lane) -> None:
    with ringlane.Sidecar() as sidecar:
        with ringlane.connect(sidecar.address) as first:
            gone = first.open("orders", depth=64)
            gone.process(
                gone.batch(symbol="AAPL", side="BUY", account=3, client_order_id=[1, 2], price="9", quantity=5)
            )
        with ringlane.connect(sidecar.address) as second:
            lane = second.open("orders", depth=64, accounts=3)
            assert lane.accounts == (3, 3)
            assert lane.batch()["account"][0] == 3
            assert lane.take_over(3) == 2
            assert lane.take_over(3, "AAPL") == 0
            with pytest.raises(ValueError, match="ACCOUNT_NOT_PERMITTED"):
                lane.take_over(4)


# ---- sidecars ----


def test_a_sidecar_that_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(ringlane.SidecarUnavailable, match="pumpkin"):
        ringlane.Sidecar(config={"pumpkin": 1})
    with pytest.raises(ringlane.SidecarUnavailable, match="nowhere"):
        ringlane.Sidecar(config="/nowhere/ringlane.toml")
    with pytest.raises(ringlane.SidecarUnavailable, match="no sidecar answers at"):
        ringlane.connect(tmp_path / "nobody.sock")


def test_a_journal_that_was_asked_for_stays(tmp_path: Path) -> None:
    with ringlane.Sidecar(journal=tmp_path / "j") as sidecar, ringlane.connect(sidecar.address) as client:
        assert client.journal == str(tmp_path / "j")
        temporary = os.path.dirname(sidecar.address)
    assert list((tmp_path / "j").iterdir())
    assert not os.path.exists(temporary)


def test_values_out_of_range_are_refused_in_words(client: ringlane.Client) -> None:
    for arguments in (
        {"depth": 1 << 21},
        {"depth": 0},
        {"events": 1 << 21},
        {"accounts": (5, 4)},
        {"accounts": 1 << 24},
    ):
        with pytest.raises(ValueError, match=r"must .*BAD_VALUE"):
            client.open("orders", **arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="negative"):
        client.open("orders", depth=-1)
    with pytest.raises(ringlane.RinglaneError, match="UNKNOWN_KERNEL"):
        client.open("astrology")
    lane = client.open("orders", depth=65, events=10)
    assert (lane.depth, lane.events_capacity) == (128, 64)


def test_the_fixture_of_the_plugin(ringlane_sidecar: ringlane.Sidecar) -> None:
    with ringlane.connect(ringlane_sidecar.address) as client:
        assert client.pid == ringlane_sidecar.pid
