"""The seeded order flow: same seed, same bytes; what must be rejected is; the books stay bounded; and it is fast."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
import pytest
import ringlane
import ringlane.flow as flow_module
from ringlane.flow import BLOCK_RECORDS, COLUMNS, REJECTS, OrderFlow

DTYPE = np.dtype(
    {
        "names": [*COLUMNS, "reserved"],
        "formats": ["u1"] * 4 + ["<u4"] * 3 + ["<u8", "<i8", "<i8", "V24"],
        "offsets": [0, 1, 2, 3, 4, 8, 12, 16, 24, 32, 40],
        "itemsize": 64,
    }
)
TWO_ROUNDS = 2 * BLOCK_RECORDS
SEED_1_SUMS = [110676, 6850074, 1501987838, 95130774]


def test_same_seed_same_bytes_however_it_is_cut() -> None:
    whole = OrderFlow(5).records(TWO_ROUNDS + 1000, DTYPE).tobytes()
    flow, cuts = OrderFlow(5), np.random.default_rng(1).integers(1, 9000, 100)
    parts, left = [], TWO_ROUNDS + 1000
    for cut in cuts:
        parts.append(flow.records(min(int(cut), left), DTYPE).tobytes())
        left -= min(int(cut), left)
    assert left == 0
    assert b"".join(parts) == whole
    assert OrderFlow(6).records(1000, DTYPE).tobytes() != whole[:64_000]


def test_the_bytes_of_seed_1_are_what_they_were() -> None:
    """A recording or a figure that names a seed must stay meaningful; whoever changes the flow changes this line."""
    block = OrderFlow(1).records(BLOCK_RECORDS, DTYPE)
    sums = [int(block[name].astype(np.uint64).sum(dtype=np.uint64)) for name in ("op", "symbol", "account", "quantity")]
    assert sums == SEED_1_SUMS


def test_about_two_percent_must_be_rejected_for_every_reason() -> None:
    flow = OrderFlow(3)
    planned, fills = flow.expected(BLOCK_RECORDS)
    assert 0.015 < planned.total() / BLOCK_RECORDS < 0.025
    assert set(planned) == set(REJECTS)
    assert min(planned.values()) > 20
    assert 0.2 < fills / BLOCK_RECORDS < 0.5
    doubled, _ = flow.expected(TWO_ROUNDS)
    assert doubled == Counter({name: 2 * count for name, count in planned.items()})
    assert flow.expected(0) == (Counter(), 0)


def test_every_kind_of_order_is_there() -> None:
    records = OrderFlow(3).records(BLOCK_RECORDS, DTYPE)
    kinds = Counter(
        zip(records["op"].tolist(), records["order_type"].tolist(), records["time_in_force"].tolist(), strict=True)
    )
    share = {kind: count / BLOCK_RECORDS for kind, count in kinds.items()}
    assert share[1, 1, 1] > 0.3  # new limit orders that may rest
    assert share[2, 1, 1] > 0.2  # cancels
    assert share[3, 1, 1] > 0.03  # reductions
    assert share[4, 1, 1] > 0.03  # replaces
    assert share[1, 1, 2] > 0.02  # limit IOC
    assert share[1, 1, 3] > 0.02  # FOK
    assert share[1, 2, 2] > 0.02  # market
    assert (records["flags"] == 1).mean() > 0.1


def test_workers_share_nothing() -> None:
    flows = [OrderFlow(1, symbols=10, accounts=100, worker=worker, workers=3) for worker in range(3)]
    assert sorted(symbol for flow in flows for symbol in flow.symbols) == list(range(1, 11))
    assert [flow.accounts for flow in flows] == [(1, 33), (34, 66), (67, 100)]
    for flow in flows:
        records = flow.records(BLOCK_RECORDS, DTYPE)
        own = records[np.isin(records["account"], range(flow.accounts[0], flow.accounts[1] + 1))]
        assert len(own) > 0.99 * BLOCK_RECORDS
        assert set(own["symbol"].tolist()) <= {*flow.symbols, 65_535}
    crowd = [OrderFlow(1, symbols=2, accounts=100, worker=worker, workers=5).symbols for worker in range(5)]
    assert crowd == [[1], [2], [1], [2], [1]]


def test_ids_are_unique_among_new_orders_and_prices_stay_near() -> None:
    flow = OrderFlow(9)
    records = flow.records(TWO_ROUNDS, DTYPE)
    rejects = np.tile(flow.block_rejects, 2)
    good = records[rejects < 0]
    new = good[good["op"] == 1]
    assert len(np.unique(new["client_order_id"])) == len(new)
    prices = new["price"][new["order_type"] == 1]
    assert prices.min() > 990_000
    assert prices.max() < 1_010_000
    assert not (prices % 100).any()


def test_the_mirror_round_takes_positions_back() -> None:
    flow = OrderFlow(2, symbols=3, accounts=20)
    first, second = flow.records(BLOCK_RECORDS, DTYPE), flow.records(BLOCK_RECORDS, DTYPE)
    good = flow.block_rejects < 0
    new = good & (first["op"] == 1)
    assert (first["side"][new] + second["side"][new] == 3).all()
    limit = new & (first["order_type"] == 1)
    assert (first["price"][limit] + second["price"][limit] == 2_000_000).all()


def test_own_reference_prices() -> None:
    flow = OrderFlow(2, symbols=2, accounts=20, references=[5_000_000, 70_000_000])
    records = flow.records(BLOCK_RECORDS, DTYPE)[flow.block_rejects < 0]
    for symbol, reference in ((1, 5_000_000), (2, 70_000_000)):
        prices = records["price"][(records["symbol"] == symbol) & (records["price"] != 0)]
        assert abs(prices - reference).max() < 10_000


def test_resting_orders_level_off() -> None:
    assert OrderFlow(1).resting_max < 64 * 40
    assert OrderFlow(1, symbols=1, accounts=5).resting_max <= 65


@pytest.mark.parametrize(
    "wrong",
    [{"worker": 2, "workers": 2}, {"worker": -1}, {"symbols": 0}, {"accounts": 1, "workers": 2}, {"references": [1]}],
)
def test_impossible_shapes_are_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"must be|are needed|reference prices"):
        OrderFlow(1, **wrong)


def test_filling_is_far_above_ten_million_records_a_second() -> None:
    flow, slots = OrderFlow(1), np.zeros(4096, DTYPE)
    flow.fill(slots)
    best = min(_seconds(flow, slots) for _ in range(5))
    assert 100 * len(slots) / best > 20e6


def _seconds(flow: OrderFlow, slots: np.ndarray) -> float:
    started = time.perf_counter()
    for _ in range(100):
        flow.fill(slots)
    return time.perf_counter() - started


def test_the_numbers_are_the_protocol_s() -> None:
    enums = (
        (ringlane.Op, "NEW CANCEL REDUCE REPLACE"),
        (ringlane.Side, "BUY SELL"),
        (ringlane.OrderType, "LIMIT MARKET"),
        (ringlane.TimeInForce, "GTC IOC FOK"),
        (ringlane.OrderFlag, "POST_ONLY"),
    )
    for enum, names in enums:
        for name in names.split():
            assert enum[name] == getattr(flow_module, f"_{name}")
    assert set(REJECTS) <= set(ringlane.RejectCode.__members__)


def test_a_sidecar_answers_as_planned() -> None:
    """Two and a bit rounds through a real sidecar: each record's reject code, and the fills."""
    count = TWO_ROUNDS + 3000
    with ringlane.Sidecar() as sidecar, ringlane.connect(sidecar.address) as client:
        lane = client.open("orders", depth=8192, events=65_536)
        numbers = np.array([int(ringlane.RejectCode[name]) for name in REJECTS])
        flow = OrderFlow(4)
        fills = events = 0
        for start in range(0, count, 4096):
            part = min(4096, count - start)
            index = np.arange(start, start + part) % BLOCK_RECORDS
            kinds = flow.block_rejects[index]
            results = lane.process(flow.records(part, lane.request_dtype))
            assert (results["code"] == np.where(kinds < 0, 0, numbers[kinds])).all()
            assert (results["fill_count"] == flow.block_fills[index]).all()
            fills += int(results["fill_count"].sum())
            del results
            events += len(lane.events())
        planned, planned_fills = flow.expected(count)
        state = client.state()
        assert fills == events == planned_fills == state.trades
        assert state.rejected == planned.total()
        assert state.resting <= flow.resting_max
