"""The switch: one suite over both backends, and seeded streams through both whose every answer must be the same."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ringlane
from ringlane.flow import OrderFlow
from ringlane.plain import make_venue

TIGHT = {
    "orders": {
        "resting_orders_max": 60,
        "instruments": [
            {"name": "ONE", "tick": 5, "lot": 2, "reference_price": 1000},
            {"name": "TWO", "tick": 1, "lot": 1},
        ],
        "accounts": [
            {"first": 1, "last": 3, "order_quantity_max": 40, "position_max": 150, "price_collar_bps": 500},
            {"first": 4, "last": 4, "order_notional_max": 30_000, "exposure_max": 60_000, "open_orders_max": 5},
            {"first": 5, "last": 5, "position_max": 20},
        ],
    }
}
# The same, where accounts do not trade with themselves, and three of them not with each other.
PREVENTING = {
    "orders": TIGHT["orders"]
    | {
        "accounts": [
            {"first": 1, "last": 1, "order_quantity_max": 40, "group": 7, "self_trade": 1},
            {"first": 2, "last": 2, "price_collar_bps": 500, "group": 7, "self_trade": 2},
            {"first": 3, "last": 3, "position_max": 150, "group": 7, "self_trade": 3},
            {"first": 4, "last": 4, "open_orders_max": 5, "group": 7},
            {"first": 5, "last": 5, "position_max": 50, "self_trade": 2},
        ]
    }
}
EXAMPLE = {"symbol": "AAPL", "account": 7, "price": "150.25", "quantity": 10}


class Side:
    """One backend with two clients, each with a lane of orders."""

    def __init__(self, stack: ExitStack, backend: str, config: dict[str, Any] | None = None) -> None:
        if backend == "python":
            self.held: Any = make_venue(config)
        else:
            self.held = stack.enter_context(ringlane.Sidecar(config=config))
        self.clients = [
            stack.enter_context(ringlane.connect(self.held.address, backend=backend))  # type: ignore[arg-type]
            for _ in range(2)
        ]
        self.client = self.clients[0]
        self.lanes = [client.open("orders", depth=1 << 13, events=1 << 16, timeout=60) for client in self.clients]
        self.lane = self.lanes[0]


@pytest.fixture(params=["sidecar", "python"])
def side(request: pytest.FixtureRequest) -> Iterator[Side]:
    with ExitStack() as stack:
        yield Side(stack, request.param)


@pytest.fixture
def backend(side: Side) -> ringlane.Client:
    return side.client


# ---- one stream through both ----


class Streams:
    """Sends the same requests to both backends and compares what comes back.

    Sequence numbers and the order ids made of them count a sidecar's own records too, and lanes have numbers of their own:
    both are compared as the request and the lane that they stand for.
    """

    def __init__(self, stack: ExitStack, config: dict[str, Any] | None) -> None:
        self.sides = [Side(stack, backend, config) for backend in ("sidecar", "python")]
        self.requests: list[dict[int, int]] = [{0: 0}, {0: 0}]
        self.codes: set[int] = set()
        self.events = 0
        self.kinds: set[tuple[int, int]] = set()
        self.prevented = 0

    def plain(self, at: int, rows: np.ndarray) -> np.ndarray:
        """Rows with request numbers for sequence numbers, and 1 or 2 for lanes."""
        made = rows.copy()
        for name in {"sequence", "order_id"} & set(rows.dtype.names or ()):
            made[name] = [self.requests[at][number] for number in rows[name].tolist()]
        if "lane" in (rows.dtype.names or ()):
            numbers = {0: 0} | {lane.number: index for index, lane in enumerate(self.sides[at].lanes, 1)}
            made["lane"] = [numbers[number] for number in rows["lane"].tolist()]
        return made

    def same(self, found: list[np.ndarray]) -> np.ndarray:
        """Both, field by field."""
        assert found[0].dtype == found[1].dtype
        first, second = (self.plain(at, rows) for at, rows in enumerate(found))
        for name in first.dtype.names or ():
            np.testing.assert_array_equal(first[name], second[name], err_msg=name)
        return first

    def send(self, records: np.ndarray, lane: int) -> None:
        results = []
        for at, side in enumerate(self.sides):
            answers = side.lanes[lane].process(records, copy=True)
            first = len(self.requests[at])
            self.requests[at] |= {number: first + i for i, number in enumerate(answers["sequence"].tolist())}
            results.append(answers)
        answers = self.same(results)
        self.codes |= set(answers["code"].tolist())
        self.prevented += int((answers["reason"] == int(ringlane.CancelReason.SELF_TRADE)).sum())
        for number in range(2):
            told = self.same([side.lanes[number].events() for side in self.sides])
            self.events += len(told)
            self.kinds |= set(zip(told["kind"].tolist(), told["reason"].tolist(), strict=True))

    def compare_state(self, accounts: list[int]) -> None:
        clients = [side.client for side in self.sides]
        assert dict(clients[0].symbols) == dict(clients[1].symbols)
        for name, symbol in clients[0].symbols.items():
            assert len({client.instrument(name) for client in clients}) == 1
            books = [client.book(symbol, 1000) for client in clients]
            self.same([book.bids for book in books])
            self.same([book.asks for book in books])
        for account in accounts:
            orders = [client.orders(account) for client in clients]
            self.same([found.orders for found in orders])
            positions = [client.positions(account) for client in clients]
            self.same([found.positions for found in positions])
            assert positions[0].cash == positions[1].cash
            assert len({found.last_client_order_id for found in [*orders, *positions]}) == 1
        states = [client.state() for client in clients]
        for name in ("accepted", "rejected", "trades", "resting"):
            assert getattr(states[0], name) == getattr(states[1], name)


def test_the_seeded_flow_is_answered_alike(seed: int) -> None:
    """20,000 ordinary orders, two in a hundred wrong in 15 ways, cut into batches at random between two lanes."""
    rng = random.Random(seed)
    with ExitStack() as stack:
        streams = Streams(stack, None)
        flow, left = OrderFlow(seed, symbols=8, accounts=100), 20_000
        while left:
            count = min(left, rng.choice([1, 7, 500, 4096]))
            streams.send(flow.records(count, streams.sides[0].lane.request_dtype), rng.randrange(2))
            left -= count
        streams.compare_state([*range(1, 101), 16_777_215])
        assert len(streams.codes) == 16
        assert streams.events > 1000


def rough(rng: random.Random, dtype: np.dtype[Any], count: int) -> np.ndarray:
    """Requests of every op in two tight symbols, with few ids, so that they meet; some fields out of range."""
    rows = np.zeros(count, dtype)
    for row in rows:
        op = rng.choice([1, 1, 1, 1, 1, 1, 2, 3, 3, 4, 4, 4, 5, 6 if rng.random() < 0.1 else 2, rng.choice([0, 7, 1])])
        kind = 2 if op == 1 and rng.random() < 0.15 else 1
        row["op"], row["side"], row["order_type"] = op, rng.choice([1, 2] * 20 + [0, 3]), kind
        row["time_in_force"] = rng.choice([2, 3]) if kind == 2 else rng.choice([1, 1, 1, 2, 3])
        row["symbol"] = rng.choice([1, 2] * 20 + [0, 3])
        row["account"] = rng.choice([1, 2, 3, 4, 5] * 10 + [0, 6])
        flag = rng.choice([0] * 20 + [1, 1, 2, 2, 2, 4, 8])
        row["flags"] = flag if op in (1, 4) else rng.choice([0, 4])
        row["client_order_id"] = rng.randrange(30)
        row["price"] = (
            0 if kind == 2 else rng.choice([rng.randrange(960, 1040, 5)] * 30 + [-1, 0, 1001, 1200, 2**36 + 4])
        )
        row["quantity"] = rng.choice([2 * rng.randrange(1, 15)] * 30 + [-1, 0, 3, 42, 2**27 + 1])
        if op == 1 and rng.random() < 0.15:
            row["display_quantity"] = rng.choice([2, 2, 4, 6, 10, 3, 100])
        near = rng.choice([rng.randrange(960, 1040, 5)] * 30 + [-5, 0, 1001, 2**36 + 4])
        if op == 1 and rng.random() < 0.2:
            stop = rng.choice([3, 4])
            row["order_type"], row["time_in_force"] = stop, rng.choice([1] * 12 + [2])
            row["stop_price"], row["display_quantity"] = near, rng.choice([0] * 20 + [2])
            row["price"] = rng.choice([0] * 15 + [1000]) if stop == 3 else row["price"]
            row["flags"] = rng.choice([0] * 8 + [1, 2, 2])
        elif op == 4 and rng.random() < 0.4:
            row["stop_price"], row["price"] = near, rng.choice([0, row["price"]])
    return rows


def test_rough_streams_are_answered_alike(seed: int) -> None:
    """Tight limits, small lots, every op, wrong fields, two lanes that meddle in each other's orders."""
    rng = random.Random(seed)
    with ExitStack() as stack:
        streams = Streams(stack, TIGHT)
        dtype = streams.sides[0].lane.request_dtype
        for _ in range(60):
            streams.send(rough(rng, dtype, rng.choice([1, 20, 200])), rng.randrange(2))
        streams.compare_state([1, 2, 3, 4, 5, 6])
        for side in streams.sides:  # what the second lane leaves behind, the first takes over
            side.lanes[1].close()
        taken = [sum(side.lane.take_over(account) for account in range(1, 6)) for side in streams.sides]
        assert taken[0] == taken[1]
        rejects = {ringlane.RejectCode(code).name for code in streams.codes - {0}}
        seldom = {"ALREADY_EXPIRED", "RESERVED_NOT_ZERO", "TYPE_MISMATCH"}
        never = {
            "ORDER_RATE",
            "SYMBOL_HALTED",
            "ACCOUNT_NOT_PERMITTED",
            "UNKNOWN_ORDER_TYPE",
            "UNKNOWN_TIME_IN_FORCE",
            "VOIDED",
        }
        rare = {
            "BOOK_FULL",
            "POSITION_LIMIT",
            "EXPOSURE_LIMIT",
            "OPEN_ORDERS_LIMIT",
            "NOTIONAL_LIMIT",
            "QUANTITY_TOO_LARGE",
        }
        assert set(ringlane.RejectCode.__members__) - rejects <= seldom | never | rare
        assert {(1, 0), (5, 0), (6, 0), (2, int(ringlane.CancelReason.IMMEDIATE))} <= streams.kinds
        assert (2, int(ringlane.CancelReason.OTHER_LANE)) in streams.kinds


def test_self_trades_are_prevented_alike(seed: int) -> None:
    """Accounts of one group meet all the time; each of them has another rule for it."""
    rng = random.Random(seed)
    with ExitStack() as stack:
        streams = Streams(stack, PREVENTING)
        dtype = streams.sides[0].lane.request_dtype
        for _ in range(60):
            streams.send(rough(rng, dtype, rng.choice([1, 20, 200])), rng.randrange(2))
        streams.compare_state([1, 2, 3, 4, 5])
        assert (int(ringlane.EventKind.TRADE_PREVENTED), int(ringlane.CancelReason.SELF_TRADE)) in streams.kinds
        assert streams.prevented > 10


# ---- one suite over both ----


def test_orders_of_one_lane(side: Side, backend: ringlane.Client) -> None:
    lane = side.lane
    rests = lane.process(lane.batch(side="SELL", client_order_id=[1, 2], **EXAMPLE))
    assert rests["state"].tolist() == [1, 1]
    assert not rests.flags.writeable
    again = lane.call(1, 2, 1, 1, 1, 7, 0, 1, 1_502_500, 10)
    assert ringlane.explain(again).startswith("DUPLICATE_ORDER_ID")
    reservation = lane.reserve(1)
    with reservation as slots:
        slots[:] = lane.batch(side="BUY", client_order_id=3, **EXAMPLE | {"account": 8, "quantity": 15})
    assert reservation.ticket.result()["filled_quantity"].tolist() == [15]
    assert lane.events(timeout=1)["quantity"].tolist() == [10, 5]
    assert backend.orders(7).orders["remaining_quantity"].tolist() == [5]
    assert backend.positions(8).positions["net_quantity"].tolist() == [15]
    assert backend.book("AAPL").asks["price"].tolist() == [1_502_500]
    assert lane.in_flight == 0


def test_awaiting(side: Side) -> None:
    lane = side.lane

    async def main() -> tuple[int, int]:
        answers = await lane.submit(lane.batch(side="SELL", client_order_id=1, **EXAMPLE))
        bought = lane.submit(lane.batch(side="BUY", client_order_id=2, **EXAMPLE))
        events = await lane.events_async(timeout=5)
        return int(answers["code"][0]), int((await bought)["filled_quantity"][0]) + len(events)

    assert asyncio.run(main()) == (0, 11)
    with pytest.raises(ValueError, match="timeout"):
        lane.events(timeout=-1)


def test_what_is_wrong_is_refused_alike(side: Side, backend: ringlane.Client) -> None:
    lane = side.lane
    with pytest.raises(TypeError, match="request_dtype"):
        lane.submit(np.zeros(3))
    with pytest.raises(ValueError, match="depth"):
        lane.submit(np.zeros(lane.depth + 1, lane.request_dtype))
    with pytest.raises(ValueError, match="depth"):
        lane.reserve(0)
    with pytest.raises(ValueError, match="quantity"):
        lane.call(1, 1, 1, 1, 1, 7, 0, 1, 100, 2**63)
    with pytest.raises(ringlane.RinglaneError):
        backend.open("orders")
    with pytest.raises(ringlane.RinglaneError, match="kernel"):
        backend.open("nonsense")
    with pytest.raises(KeyError):
        backend.book("NONSENSE")
    with pytest.raises(ValueError, match="symbol"):
        backend.book(65)
    raw = lane.batch(client_order_id=1, side="BUY", **EXAMPLE)
    raw.view(np.uint8)[60] = 1
    assert lane.process(raw)["code"].tolist() == [0]  # padding never leaves this process
    lane.close()
    with pytest.raises(ringlane.RinglaneError):
        lane.process(raw)


def test_lanes_may_be_restricted_and_take_their_orders_along(side: Side, backend: ringlane.Client) -> None:
    side.lane.close()
    lane = backend.open("orders", depth=64, accounts=(5, 9), cancel_on_disconnect=True)
    assert lane.accounts == (5, 9)
    assert lane.process(lane.batch(side="BUY", client_order_id=1, **EXAMPLE))["code"][0] == 0
    other = lane.process(lane.batch(side="BUY", client_order_id=1, **EXAMPLE | {"account": 10}))
    assert other["code"].tolist() == [int(ringlane.RejectCode.ACCOUNT_NOT_PERMITTED)]
    lane.close()
    assert len(backend.orders(7).orders) == 0


SIZES = [0, 1, 3, 63, 64, 65, 1023, 1024, 1025, 2048, 3073, 5000]


@pytest.mark.parametrize("algorithm", ["sha256", "blake3"])
def test_digests(side: Side, backend: ringlane.Client, algorithm: str) -> None:
    payloads = [bytes(i % 251 for i in range(size)) for size in SIZES]
    lane = backend.open("digests", algorithm=algorithm, arena_bytes=1 << 20)
    found = lane.digest(payloads)
    if algorithm == "sha256":
        assert found == [hashlib.sha256(payload).digest() for payload in payloads]
    else:  # from the published test vectors: 0 bytes, and 1,024 of 0 to 250 over and over
        assert found[0].hex().startswith("af1349b9f5f9a1a6a0404dea36dcc949")
        assert found[SIZES.index(1024)].hex().startswith("42214739f095a406f3fc83deb889744a")
        with ringlane.connect(backend="python") as plain, plain.open("digests", algorithm="blake3") as twin:
            assert twin.digest(payloads) == found
    assert lane.process([b"abc"]).shape == (1, 32)
    assert lane.submit([b"abc"]).progress()[1] == 1
    place = lane.arena(100)
    place[:] = 3
    assert lane.digest(place) == lane.digest(bytes([3]) * 100)

    async def both() -> list[bytes]:
        return list(await asyncio.gather(lane.digest_async(b"abc"), lane.digest_async(b"")))

    assert asyncio.run(both()) == lane.digest([b"abc", b""])
    with pytest.raises(ValueError, match="arena"):
        lane.digest(bytes((1 << 20) + 1))


def vectors_of(backend: str, rows: np.ndarray, other: np.ndarray, directory: Path) -> dict[str, Any]:
    """Everything that vector lanes compute, by name."""
    found: dict[str, Any] = {}
    with ExitStack() as stack:
        address = None
        if backend == "sidecar":
            config = {"vectors": {"corpus_directory": str(directory)}}
            address = stack.enter_context(ringlane.Sidecar(config=config)).address
        client = stack.enter_context(ringlane.connect(address, backend=backend))  # type: ignore[arg-type]
        for op in ("normalize", "dot", "cosine", "l2sq"):
            lane = client.open("vectors", dim=rows.shape[1], op=op)
            ticket = lane.submit(rows) if op == "normalize" else lane.submit(rows, other)
            found[op], found[op + " status"] = ticket.result(copy=False), ticket.status()
        for metric in ("ip", "cosine", "l2"):
            path = directory / "corpus.npy"
            corpus = client.corpora.load("c", path if backend == "python" else path.name, metric=metric)
            assert (corpus.rows, corpus.dim, corpus.metric) == (500, rows.shape[1], metric)
            with client.open("vectors", dim=rows.shape[1], op="search", corpus="c", k=7) as lane:
                ticket = lane.submit(rows)
                found[metric + " ids"], found[metric + " scores"] = (part.copy() for part in ticket.result())
                found[metric + " found"] = ticket.found().copy()
            assert [each.name for each in client.corpora.list()] == ["c"]
        client.corpora.drop("c")
        with pytest.raises(ValueError, match="shape"):
            lane.process(rows[:, :3])
        return {name: np.array(value) for name, value in found.items()}


def test_vectors_agree_within_float32_rounding(seed: int, tmp_path: Path) -> None:
    """Values within 1e-5 relative and 1e-4 absolute (sums of 48 products near 1); ids and statuses exactly."""
    rng = np.random.default_rng(seed)
    rows, other = (rng.standard_normal((40, 48)).astype(np.float32) for _ in range(2))
    rows[3], rows[4, 0], rows[5, 1] = 0, np.nan, np.inf
    np.save(tmp_path / "corpus.npy", rng.standard_normal((500, 48)).astype(np.float32))
    ours, plain = (vectors_of(backend, rows, other, tmp_path) for backend in ("sidecar", "python"))
    assert set(ours) == set(plain)
    for name in ours:
        if ours[name].dtype.kind == "f":
            np.testing.assert_allclose(ours[name], plain[name], rtol=1e-5, atol=1e-4, err_msg=name)
        else:
            np.testing.assert_array_equal(ours[name], plain[name], err_msg=name)


# ---- the switch itself ----


def test_the_environment_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGLANE_BACKEND", "python")
    with ringlane.connect() as client:
        assert client.version == "python"
        assert client.sidecar is None
        with ringlane.connect(client.address) as second:
            assert second.venue is client.venue  # type: ignore[attr-defined]
    monkeypatch.setenv("RINGLANE_BACKEND", "abacus")
    with pytest.raises(ValueError, match="abacus"):
        ringlane.connect()
    with pytest.raises(ringlane.SidecarUnavailable, match="venue"):
        ringlane.connect("python:none", backend="python")


@pytest.mark.parametrize(
    "asked",
    [
        {"time_in_force": "GTD", "expires_ns": 2**62},
        {"time_in_force": "DAY"},
    ],
)
def test_what_the_python_backend_does_not_do_it_says(asked: dict[str, Any]) -> None:
    with ringlane.connect(backend="python") as client, client.open("orders") as lane:
        batch: Callable[..., np.ndarray] = lane.batch
        with pytest.raises(NotImplementedError, match="Python backend does not do"):
            lane.process(batch(**{**EXAMPLE, "side": "BUY", "client_order_id": 1, **asked}))
        assert client.state().accepted == client.state().rejected == 0
        with pytest.raises(NotImplementedError, match="administration"):
            client.admin  # noqa: B018
    for limit in ("order_rate_max", "symbol"):
        with pytest.raises(NotImplementedError, match=limit):
            make_venue({"orders": {"accounts": [{"first": 1, "last": 2, limit: 1}]}})
