"""`ringlane export` and `import`, and recordings in Python: other tools read the same rows, and rows become recordings."""

import json
from pathlib import Path

import numpy as np
import polars
import pytest
import ringlane
from recordings import copy, first_segment, forge, run, trade


@pytest.fixture(scope="module")
def traded(tmp_path_factory) -> tuple[Path, ringlane.State]:
    journal = tmp_path_factory.mktemp("traded") / "journal"
    return journal, trade(journal, 23)


READERS = {
    "csv": lambda path: polars.read_csv(path, infer_schema_length=None),
    "jsonl": lambda path: polars.read_ndjson(path, infer_schema_length=None),
    "parquet": polars.read_parquet,
    "npy": lambda path: polars.from_numpy(np.ascontiguousarray(np.load(path))),
}


def export(journal: Path, directory: Path, form: str, *more: object) -> dict[str, polars.DataFrame]:
    answer = json.loads(run("export", journal, "--to", form, "--out", directory, "--json", *more).stdout)
    frames = {file["table"]: READERS[form](file["file"]) for file in answer["files"]}
    assert {name: frame.height for name, frame in frames.items()} == {
        file["table"]: file["rows"] for file in answer["files"]
    }
    return frames


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_every_format_holds_the_same_rows(traded, tmp_path, form):
    journal, live = traded
    frames = export(journal, tmp_path, form)
    recording = ringlane.read_recording(journal)
    assert sorted(frames) == ["events", "instruments", "orders", "results", "trades"]
    assert frames["results"].height == live.accepted + live.rejected
    assert frames["trades"].height == live.trades
    for name in ("orders", "results", "events", "trades"):
        rows = recording.table(name)
        assert frames[name].columns == list(rows.dtype.names or ())
        for column in rows.dtype.names or ():
            exported = frames[name][column]
            if exported.dtype in (polars.String, polars.Null):
                names = {int(member): member.name for member in enum_of(name, column)} | {0: enum_zero(name, column)}
                wanted = [names[int(value)] for value in rows[column]]
                assert [value or "" for value in exported.to_list()] == wanted, (name, column)
            else:
                assert exported.to_numpy().tolist() == rows[column].tolist(), (name, column)


def enum_of(table: str, column: str) -> list:
    enums = {
        "op": ringlane.Op,
        "side": ringlane.Side,
        "taker_side": ringlane.Side,
        "order_type": ringlane.OrderType,
        "time_in_force": ringlane.TimeInForce,
        "flags": ringlane.OrderFlag,
        "state": ringlane.OrderState,
        "code": ringlane.RejectCode,
        "kind": ringlane.EventKind,
        "reason": ringlane.CancelReason,
    }
    return list(enums[column])


def enum_zero(table: str, column: str) -> str:
    return "REJECTED" if column == "state" else ""


def test_trades_are_whole_though_nobody_owns_the_maker(traded, tmp_path):
    frames = export(traded[0], tmp_path, "parquet")
    trades, results = frames["trades"], frames["results"]
    assert (trades["maker_lane"] == 0).sum() > 0
    filled = trades.group_by("sequence").agg(
        polars.col("quantity").sum(), (polars.col("price") * polars.col("quantity")).sum()
    )
    wanted = results.filter(polars.col("filled_quantity") > 0).select("sequence", "filled_quantity", "notional")
    joined = wanted.join(filled, on="sequence", how="full")
    assert joined["filled_quantity"].to_list() == joined["quantity"].to_list()
    assert joined["notional"].to_list() == joined["price"].to_list()
    # Events are numbered within each lane, without gap.
    for _, events in frames["events"].group_by("lane"):
        assert events["number"].to_list() == list(range(1, events.height + 1))


def test_tables_places_and_filters_narrow_an_export(traded, tmp_path):
    journal = traded[0]
    whole = export(journal, tmp_path / "whole", "csv", "--tables", "orders,lane_open,frames")
    assert sorted(whole) == ["frames", "lane_open", "orders"]
    assert whole["lane_open"]["depth_slots"].to_list() == [1024, 1024]
    orders = whole["orders"]
    middle = orders["sequence"][orders.height // 2]
    part = export(
        journal,
        tmp_path / "part",
        "csv",
        "--tables",
        "orders",
        "--from",
        middle - 50,
        "--until",
        middle,
        "--symbol",
        "MSFT",
    )["orders"]
    wanted = orders.filter(
        (polars.col("sequence") >= middle - 50) & (polars.col("sequence") <= middle) & (polars.col("symbol") == 2)
    )
    assert part.equals(wanted)
    assert wanted.height > 0
    assert "there is no table" in run("export", journal, "--tables", "nonsense", code=2).stderr
    assert "cannot create" in run("export", journal, "--tables", "orders", "--out", tmp_path / "part", code=2).stderr


# ---- in Python ----


def test_a_recording_as_arrays(traded):
    journal, live = traded
    recording = ringlane.read_recording(journal)
    assert recording.state_hash == live.state_hash
    assert recording.verify() is None
    assert {"ORDERS", "INSTRUMENTS", "LANE_OPEN", "LANE_CLOSE"} <= set(recording.kinds)
    requests, orders = recording.records("ORDERS"), recording.orders
    for name in requests.dtype.names:
        assert (requests[name] == orders[name]).all()
    sizes = [len(frame.records) for frame in recording if frame.kind == "ORDERS"]
    assert sum(sizes) == len(requests)
    assert len(recording) == len(recording.frames)
    view = next(frame for frame in recording if frame.kind == "ORDERS").records
    assert not view.flags.owndata
    assert not view.flags.writeable
    assert (recording.results["sequence"] == orders["sequence"]).all()
    assert recording.records("TIME").size >= 0
    with pytest.raises(KeyError):
        recording.records("NONSENSE")
    part = recording.replay(until=int(orders["sequence"][99]))
    assert part.accepted + part.rejected == 100


def test_books_in_python_are_those_of_the_live_sidecar(tmp_path):
    with ringlane.Sidecar(journal=tmp_path) as sidecar, ringlane.connect(sidecar.address) as client:
        lane = client.open("orders")
        random = np.random.default_rng(3)
        orders = lane.batch(
            symbol="MSFT",
            side=random.integers(1, 3, 200),
            account=random.integers(1, 5, 200),
            client_order_id=np.arange(1, 201),
            price=1_000_000 + 100 * random.integers(-9, 10, 200),
            quantity=random.integers(1, 9, 200),
        )
        lane.process(orders)
        live, positions = client.book("MSFT", 100), client.positions(3)
        told = ringlane.book_at(tmp_path, live.sequence, "MSFT")["MSFT"]
        for side, levels in ((told.bids, live.bids), (told.asks, live.asks)):
            assert [(level["price"], level["quantity"]) for level in side] == [
                (row["price"], row["quantity"]) for row in levels
            ]
        cash = [row["cash"] for row in told.positions if row["account"] == 3]
        assert cash == positions.cash
        assert [order["remaining_quantity"] for order in told.orders if order["account"] == 3] == client.orders(
            3
        ).orders["remaining_quantity"].tolist()


def test_differences_and_damage_are_told_in_python(traded):
    recording = ringlane.read_recording(traded[0])
    other = copy(traded[0], "forged")
    frame = recording.frames[recording.frames["kind"] == 1][5]
    forge(other, frame, {64 + 32: (77).to_bytes(8, "little")})
    assert "field quantity" in recording.verify(against=other)
    assert "not the recorded ones" in ringlane.read_recording(other).verify()
    segment = first_segment(other)
    segment.write_bytes(segment.read_bytes()[:100])
    with pytest.raises(ringlane.RecordingError, match="shorter than a segment's first page"):
        ringlane.read_recording(other)
    with pytest.raises(ringlane.RecordingError, match="no recording"):
        ringlane.read_recording(traded[0].parent)


# ---- import ----


def test_exported_orders_become_a_recording_with_the_same_results(traded, tmp_path):
    journal = traded[0]
    run("export", journal, "--to", "csv", "--tables", "orders", "--out", tmp_path)
    answer = json.loads(run("import", "csv", tmp_path / "orders.csv", "--out", tmp_path / "made", "--json").stdout)
    made, recorded = ringlane.read_recording(tmp_path / "made"), ringlane.read_recording(journal)
    assert made.verify() is None
    assert made.state_hash == answer["state_hash"]
    for name in ("client_order_id", "notional", "filled_quantity", "remaining_quantity", "fill_count", "code", "state"):
        assert (made.results[name] == recorded.results[name]).all(), name
    assert (made.orders["time_ns"] == recorded.orders["time_ns"]).all()
    assert (
        "holds a recording already"
        in run("import", "csv", tmp_path / "orders.csv", "--out", tmp_path / "made", code=2).stderr
    )


def test_a_csv_of_ones_own(tmp_path):
    file = tmp_path / "orders.csv"
    text = "op,symbol,side,account,client_order_id,price,quantity,order_type,time_in_force,flags\n"
    text += "NEW,AAPL,SELL,1,1,187.25,100,LIMIT,GTC,POST_ONLY\n1,1,2,1,2,1873000,50,1,1,0\nNEW,AAPL,BUY,2,1,187.30,120,LIMIT,IOC,\n"
    file.write_text(text)
    run("import", "csv", file, "--out", tmp_path / "made")
    made = ringlane.read_recording(tmp_path / "made")
    assert made.trades["quantity"].tolist() == [100, 20]
    assert made.trades["price"].tolist() == [1_872_500, 1_873_000]
    assert made.orders["flags"].tolist() == [1, 0, 0]
    for wrong, words in (
        ("symbol,side\n1,1\n", "names no column"),
        (text + "NEW,NONE,BUY,1,9,1,1,LIMIT,GTC,0\n", "there is no symbol"),
        (text + "NEW,AAPL,BUY,1\n", "line 5: 4 values"),
        (text + "OLD,AAPL,BUY,1,9,1,1,LIMIT,GTC,0\n", "neither a name nor a number"),
        (text + "NEW,AAPL,BUY,1,9,1.00001,1,LIMIT,GTC,0\n", "decimals"),
        (text + "NEW,AAPL,BUY,4294967296,9,1,1,LIMIT,GTC,0\n", "account"),
        ("", "names no column"),
    ):
        file.write_text(wrong)
        assert words in run("import", "csv", file, "--out", tmp_path / words.replace(" ", ""), code=2).stderr


def test_a_lobster_day_becomes_a_recording(tmp_path):
    file = tmp_path / "RING_2026-11-20_34200000_57600000_message_1.csv"
    file.write_text(
        "34200.000000001,1,11,100,1000000,-1\n"  # a sell of 100 at 100
        "34200.5,1,12,50,1000000,-1\n"  # another behind it
        "34201,3,7,30,990000,1\n"  # a buy from before the file
        "34202,4,11,60,1000000,-1\n"  # the head trades
        "34203,4,12,20,1000000,-1\n"  # not the head: taken off
        "34204,2,11,15,1000000,-1\n"
        "34205,5,0,5,1000100,1\n"
        "34206.123456789,7,0,0,-1,-1\n"
    )
    answer = json.loads(run("import", "lobster", file, "--out", tmp_path / "made", "--json").stdout)
    counts = (
        "messages",
        "orders_from_before",
        "executions",
        "executions_out_of_turn",
        "messages_passed_over",
        "refused",
    )
    assert [answer[name] for name in counts] == [8, 1, 2, 1, 2, 0]
    made = ringlane.read_recording(tmp_path / "made")
    assert made.verify() is None
    assert made.trades["quantity"].tolist() == [60]
    book = made.book_at(symbol="RING")["RING"]
    assert [(order["client_order_id"], order["remaining_quantity"]) for order in book.orders] == [(11, 25), (12, 30)]
    first = np.datetime64(int(made.orders["time_ns"][0]), "ns")
    assert first == np.datetime64("2026-11-20T09:30:00.000000001")
    noon = np.datetime64("2026-11-20T09:30:02")
    assert made.book_at(noon)["RING"].orders[0]["remaining_quantity"] == 40
    file.write_text("34200,1,11\n")
    assert "line 1: 3 columns" in run("import", "lobster", file, "--out", tmp_path / "other", code=2).stderr
