"""`ringlane replay` and `ringlane book`: what they say of a recording is what the live sidecar said, and what is damaged is
refused in a sentence."""

import json
import os
import pty
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import ringlane
from daemon import BINARY
from recordings import FRAME_SEED_OFFSET, FRAMES_OFFSET, copy, crc32c, first_segment, forge, run, trade
from ringlane import Side


@pytest.fixture(scope="module")
def traded(tmp_path_factory) -> tuple[Path, ringlane.State]:
    journal = tmp_path_factory.mktemp("traded") / "journal"
    return journal, trade(journal, 11)


@pytest.fixture(scope="module")
def stepwise(tmp_path_factory) -> tuple[Path, list[ringlane.State], int]:
    """Three orders in one batch, then one more: states after each batch, and the sequence number of the first."""
    journal = tmp_path_factory.mktemp("stepwise") / "journal"
    with ringlane.Sidecar(journal=journal) as sidecar, ringlane.connect(sidecar.address) as client:
        lane = client.open("orders")
        sells = lane.batch(
            symbol="AAPL",
            side=Side.SELL,
            account=1,
            client_order_id=[1, 2, 3],
            price=["100", "101", "100"],
            quantity=[5, 6, 7],
        )
        first = int(lane.process(sells)["sequence"][0])
        states = [client.state()]
        time.sleep(0.3)
        buy = lane.batch(symbol="AAPL", side=Side.BUY, account=2, client_order_id=1, price="100", quantity=8)
        lane.process(buy)
        states.append(client.state())
        lane.close()
        states.append(client.state())
    return journal, states, first


def summary(*arguments: object, code: int = 0) -> dict:
    return json.loads(run("replay", "--json", *arguments, code=code).stdout)


def lines(*arguments: object) -> list[dict]:
    """The records that a replay prints, without the summary behind them."""
    return [json.loads(line) for line in run("replay", "--json", *arguments).stdout.splitlines()[:-1]]


# ---- state ----


def test_a_replay_ends_in_the_live_state(traded):
    journal, live = traded
    answer = summary(journal)
    assert answer["state_hash"] == live.state_hash
    counts = ("sequence", "accepted", "rejected", "trades", "resting")
    assert [answer[name] for name in counts] == [getattr(live, name) for name in counts]
    assert answer["torn"] is None
    assert summary(first_segment(journal))["state_hash"] == live.state_hash


def test_a_replay_stops_where_it_is_told(stepwise):
    journal, (before, after, _), first = stepwise
    assert summary("--until", first + 2, journal)["state_hash"] == before.state_hash
    assert summary("--until", first + 3, journal)["state_hash"] == after.state_hash
    times = [row["time_ns"] for row in lines("--print", journal) if row["kind"] == "ORDERS"]
    between = f"@{times[-1] // 10**9}.{times[-1] % 10**9 - 1:09}"
    assert summary("--until", between, journal)["state_hash"] == before.state_hash
    assert "no speed" in run("replay", "--speed", "slow", journal, code=2).stderr
    assert "neither a sequence number nor a time" in run("replay", "--until", "noon", journal, code=2).stderr


def test_recorded_time_passes_at_the_speed_that_was_asked(stepwise):
    journal = stepwise[0]
    begin = time.monotonic()
    run("replay", "--speed", "original", "--from", stepwise[2], journal)
    assert time.monotonic() - begin > 0.25
    run("replay", "--speed", "x1000", journal)


def test_several_recordings_are_told_one_by_one(traded, stepwise, tmp_path):
    answers = json.loads(run("replay", "--json", traded[0], stepwise[0]).stdout)
    assert [answer["state_hash"] for answer in answers] == [traded[1].state_hash, stepwise[1][2].state_hash]
    done = run("replay", "--json", tmp_path, stepwise[0], code=2)
    assert "holds no recording" in done.stderr
    assert json.loads(done.stdout)[1]["state_hash"] == stepwise[1][2].state_hash


def test_segments_are_read_with_those_behind_them(tmp_path):
    config = {"journal": {"segment_bytes": 1 << 20, "prefault_bytes": 65536}}
    journal = tmp_path / "journal"
    with ringlane.Sidecar(journal=journal, config=config) as sidecar, ringlane.connect(sidecar.address) as client:
        lane = client.open("orders", depth=1024)
        for n in range(40):
            ids = np.arange(n * 500 + 1, n * 500 + 501)
            lane.process(lane.batch(symbol=1, side=1, account=1, client_order_id=ids, price=1_000_000, quantity=1))
        lane.close()
        live = client.state()
    segments = sorted(journal.glob("*.ringlane"))
    assert len(segments) >= 2
    assert summary(segments[0])["state_hash"] == summary(journal)["state_hash"] == live.state_hash
    assert "what came before is not there" in run("replay", segments[1], code=2).stderr


def test_records_are_printed_by_lane_account_symbol_and_place(traded):
    journal = traded[0]
    everything = lines("--print", journal)
    assert len(everything) == summary(journal)["records"]
    orders = [row for row in everything if row["kind"] == "ORDERS"]
    assert {row["lane"] for row in orders} == {1, 2}
    assert [row for row in orders if row["lane"] == 2] == [row for row in lines("--lane", 2, journal) if row["result"]]
    of_account = [row["sequence"] for row in orders if row["record"]["account"] == 3]
    assert of_account == [row["sequence"] for row in lines("--account", 3, journal) if row["result"]]
    symbols = {row["record"]["name"]: row["record"]["symbol"] for row in everything if row["kind"] == "INSTRUMENTS"}
    named, numbered = lines("--symbol", "MSFT", journal), lines("--symbol", symbols["MSFT"], journal)
    assert named == numbered
    assert {row["record"]["symbol"] for row in named if row["result"]} == {symbols["MSFT"]}
    middle = orders[len(orders) // 2]["sequence"]
    assert [row["sequence"] for row in lines("--from", middle, "--until", middle + 5, journal)] == list(
        range(middle, middle + 6)
    )
    text = run("replay", "--from", middle, "--until", middle, journal).stdout
    assert text.startswith(f"{middle} 20")
    assert "op=NEW" in text
    assert "-> sequence=" in text


def test_a_bar_is_shown_on_a_terminal_only(traded):
    assert run("replay", traded[0]).stderr == ""
    master, terminal = pty.openpty()
    # As slow as it takes to draw the bar, and of a kind that has one.
    process = subprocess.Popen(
        [BINARY, "replay", "--speed", "x0.02", str(traded[0])],
        stdout=subprocess.DEVNULL,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(terminal)
    drawn = b""
    try:
        while b"records/s" not in drawn:
            drawn += os.read(master, 4096)
    finally:
        process.kill()
        process.wait()
        os.close(master)
    assert b"left" in drawn


# ---- verify ----


def test_a_recording_agrees_with_itself_and_its_copy(traded, tmp_path):
    journal = traded[0]
    verified = summary("--verify", journal)["verified"]
    assert verified["equal"]
    assert verified["records"] == traded[1].sequence
    assert summary("--verify", "--against", copy(journal, "copy"), journal)["verified"]["equal"]


def forged(journal: Path, name: str) -> tuple[Path, dict]:
    """A copy in which one accepted order asks for 3 more; its frame's checksum is right."""
    rows = [row for row in lines("--print", journal) if row["result"] and row["result"]["state"] == "RESTING"]
    row = rows[len(rows) // 2]
    frames = ringlane.read_recording(journal).frames
    frame = frames[np.searchsorted(frames["first_sequence"], row["sequence"], side="right") - 1]
    other = copy(journal, name)
    quantity_at = 64 + 64 * (row["sequence"] - int(frame["first_sequence"])) + 32
    forge(other, frame, {quantity_at: (row["record"]["quantity"] + 3).to_bytes(8, "little")})
    return other, row


def test_other_outputs_of_the_last_frame_are_found_by_the_end_mark(stepwise):
    """The lane's end comes last and puts nothing out, so what the buy before it did is in the end mark's hash alone."""
    journal, _, first = stepwise
    recording = ringlane.read_recording(journal)
    frame = next(row for row in recording.frames[::-1] if row["first_sequence"] == first + 3)
    assert summary("--verify", journal)["verified"]["equal"] is True
    other = copy(journal, "forged-end")
    # The buy takes less than it did.
    quantity_at = 64 + 32
    forge(other, frame, {quantity_at: (2).to_bytes(8, "little")})
    run("replay", "--verify", other, code=1)
    data = first_segment(other).read_bytes()
    # Cut before the end mark, and before the lane's end: nothing is left that knows of it.
    end = int(frame["offset"]) + 64 + int(frame["payload_bytes"])
    first_segment(other).write_bytes(data[:end])
    assert summary("--verify", other)["verified"]["equal"] is True
    # With the end mark alone behind it, it is found again.
    stop = forged_stop(data, end)
    first_segment(other).write_bytes(data[:end] + stop)
    difference = summary("--verify", other, code=1)["verified"]["difference"]
    assert difference["sequences"] == [first + 3, first + 3]


def forged_stop(data: bytes, offset: int) -> bytes:
    """The end mark of a recording, as if nothing had come between it and the frame that ends at `offset`."""
    stop, following = bytearray(data[-64:]), data[offset : offset + 64]
    assert stop[60] == 16
    stop[8:16] = following[8:16]  # first_sequence
    stop[32:40] = following[32:40]  # output_hash
    seed = int.from_bytes(data[FRAME_SEED_OFFSET : FRAME_SEED_OFFSET + 4], "little")
    stop[4:8] = crc32c(bytes(stop[8:]), seed).to_bytes(4, "little")
    return bytes(stop)


def test_other_outputs_than_the_recorded_ones_are_found(traded):
    other, row = forged(traded[0], "forged")
    done = run("replay", "--verify", "--json", other, code=1)
    difference = json.loads(done.stdout)["verified"]["difference"]
    assert difference["sequences"][0] <= row["sequence"] <= difference["sequences"][1]
    assert difference["field"] == "output_hash"
    assert difference["values"][0] != difference["values"][1]
    assert f"  {row['sequence']} op=NEW" in difference["words"]
    assert "before it:" in difference["words"]
    assert "DIFFERENT" in run("replay", "--verify", other, code=1).stdout
    # Without --verify it is no recording that can be trusted.
    assert "differ from the recorded ones" in run("replay", other, code=2).stderr


def test_the_first_difference_between_two_recordings_is_named(traded):
    other, row = forged(traded[0], "forged-too")
    done = run("replay", "--verify", "--json", "--against", other, traded[0], code=1)
    difference = json.loads(done.stdout)["verified"]["difference"]
    assert difference["sequences"] == [row["sequence"]] * 2
    assert (difference["what"], difference["field"]) == ("record", "quantity")
    assert difference["values"] == [str(row["record"]["quantity"]), str(row["record"]["quantity"] + 3)]
    assert "Book of" in difference["words"]


def test_a_recording_that_ends_early_is_a_difference(traded, tmp_path):
    shorter = tmp_path / "shorter"
    trade(shorter, 11, batches=3)
    done = run("replay", "--verify", "--json", "--against", shorter, traded[0], code=1)
    assert json.loads(done.stdout)["verified"]["difference"]["sequences"][0] > 100
    missing = run("replay", "--verify", "--against", tmp_path / "none", traded[0], code=2)
    assert "cannot read" in missing.stderr


# ---- book ----


def test_the_book_of_a_moment_in_the_middle_of_a_batch(stepwise):
    journal, _, first = stepwise

    def asks(at: int) -> list[tuple[int, int, int]]:
        books = json.loads(run("book", journal, "--at", at, "--symbol", "AAPL", "--json").stdout)
        assert books["sequence"] == at
        return [(level["price"], level["quantity"], level["order_count"]) for level in books["symbols"][0]["asks"]]

    assert asks(first - 1) == []
    assert asks(first) == [(1_000_000, 5, 1)]
    assert asks(first + 1) == [(1_000_000, 5, 1), (1_010_000, 6, 1)]
    assert asks(first + 2) == [(1_000_000, 12, 2), (1_010_000, 6, 1)]
    assert asks(first + 3) == [(1_000_000, 4, 1), (1_010_000, 6, 1)]


def test_orders_and_positions_of_a_moment(stepwise):
    journal, _, first = stepwise
    book = json.loads(run("book", journal, "--json", "--at", first + 3).stdout)["symbols"][0]
    assert [(order["client_order_id"], order["remaining_quantity"]) for order in book["orders"]] == [(3, 4), (2, 6)]
    positions = {row["account"]: (row["net_quantity"], int(row["cash"])) for row in book["positions"]}
    assert positions == {1: (-8, 8_000_000), 2: (8, -8_000_000)}
    text = run("book", journal, "--at", first + 3).stdout
    assert "100.0000" in text
    assert "-800.0000" in text
    assert "ends at sequence" in run("book", journal, "--at", 10**9, code=2).stderr
    assert "no symbol 'NONE'" in run("book", journal, "--symbol", "NONE", code=2).stderr.replace('"', "'")


# ---- what is no whole recording ----


def damage(journal: Path, what: str) -> Path:
    """A copy that is not whole any more, or nothing at all."""
    other = copy(journal, what)
    segment = first_segment(other)
    data = segment.read_bytes()
    used = len(data.rstrip(b"\0"))
    if what == "empty":
        segment.write_bytes(b"")
    elif what == "foreign":
        segment.write_bytes(b"PK\x03\x04" + bytes(8000))
    elif what == "header":
        segment.write_bytes(data[:2000])
    elif what == "cut":
        segment.write_bytes(data[: used - 70])
    elif what == "flipped":
        at = FRAMES_OFFSET + (used - FRAMES_OFFSET) // 2
        segment.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    elif what == "newer":
        segment.write_bytes(data[:8] + (99).to_bytes(4, "little") + data[12:])
    elif what == "nothing":
        segment.unlink()
    return other


@pytest.mark.parametrize("what", ["empty", "foreign", "header", "cut", "flipped", "newer", "nothing"])
def test_damaged_recordings_are_refused_in_a_sentence(traded, tmp_path, what):
    other = damage(traded[0], what)
    for arguments in (
        ["replay", other],
        ["replay", "--verify", other],
        ["book", other],
        ["export", other, "--out", tmp_path],
    ):
        done = run(*arguments, code=2)
        assert done.stderr.startswith("ringlane: ")
        assert str(other) in done.stderr
        assert "panicked" not in done.stderr
        for made in tmp_path.glob("*.csv"):
            made.unlink()


def test_what_is_not_there_is_said(tmp_path):
    assert "cannot read" in run("replay", tmp_path / "none", code=2).stderr
    (tmp_path / "file.txt").write_text("hello")
    assert "is not a recording" in run("replay", tmp_path / "file.txt", code=2).stderr


# ---- snapshots ----


def test_snapshots_shorten_the_way_and_stand_in_for_what_was_pruned(tmp_path):
    journal = tmp_path / "journal"
    config = {"journal": {"segment_bytes": 1 << 20, "prefault_bytes": 65536}}
    random = np.random.default_rng(17)

    def trade_on(lane: ringlane.Lane, first: int) -> None:
        for n in range(first, first + 40):
            count = 500
            batch = lane.batch(
                symbol=random.integers(1, 4, count),
                side=random.integers(1, 3, count),
                account=random.integers(1, 20, count),
                client_order_id=np.arange(n * count + 1, (n + 1) * count + 1),
                price=1_000_000 + 100 * random.integers(-20, 21, count),
                quantity=random.integers(1, 50, count),
            )
            lane.process(batch)

    with ringlane.Sidecar(journal=journal, config=config) as sidecar, ringlane.connect(sidecar.address) as client:
        lane = client.open("orders", depth=1024)
        trade_on(lane, 0)
        middle = client.snapshot().sequence
        trade_on(lane, 40)
        lane.close()
        live = client.state()
    whole = summary(journal)
    assert (whole["snapshot"], whole["pruned"], whole["state_hash"]) == (0, False, live.state_hash)
    late = middle + 1000
    book = json.loads(run("book", journal, "--at", late, "--json").stdout)
    run("export", journal, "--tables", "trades,events", "--out", tmp_path / "whole")

    answers = [json.loads(line) for line in run("replay", "--json", "--from", late, journal).stdout.splitlines()]
    assert answers[-1]["snapshot"] == middle
    assert answers[-1]["state_hash"] == live.state_hash
    assert answers[0]["sequence"] == late

    # What lies before the snapshot goes, as retention would have it.
    segments = sorted(journal.glob("*.ringlane"))
    frames = ringlane.read_recording(journal).frames
    kept = int(frames["segment"][np.searchsorted(frames["first_sequence"], middle + 1, side="right") - 1])
    assert kept > 1
    for segment in segments[: kept - 1]:
        segment.unlink()
    pruned = summary(journal)
    assert (pruned["snapshot"], pruned["pruned"], pruned["state_hash"]) == (middle, True, live.state_hash)
    assert "was pruned" in run("replay", journal).stdout
    assert json.loads(run("book", journal, "--at", late, "--json").stdout) == book
    assert json.loads(run("book", journal, "--at", middle, "--json").stdout)["sequence"] == middle
    assert "was pruned" in run("book", journal, "--at", middle - 1, code=2).stderr
    run("export", journal, "--tables", "trades,events", "--from", late, "--out", tmp_path / "pruned")
    for name in ("trades.csv", "events.csv"):
        header, *rows = (tmp_path / "whole" / name).read_text().splitlines()
        tail = [row for row in rows if int(row.split(",")[0]) >= late]
        told = (tmp_path / "pruned" / name).read_text().splitlines()
        if name == "events.csv":
            # How many events a lane had got before is known where the snapshot says so; else the numbers are 0.
            at = header.split(",").index("number")
            numbers = [row.split(",")[at] for row in told[1:]]
            assert numbers in ([row.split(",")[at] for row in tail], ["0"] * len(tail))
            tail = [",".join(row.split(",")[:at] + row.split(",")[at + 1 :]) for row in tail]
            told = [header] + [",".join(row.split(",")[:at] + row.split(",")[at + 1 :]) for row in told[1:]]
        assert told == [header, *tail]
        assert 0 < len(tail) < len(rows)
    assert summary("--verify", journal)["verified"]["equal"]
    for snapshot in journal.glob("*.snapshot"):
        snapshot.unlink()
    assert "nor a snapshot of it" in run("replay", journal, code=2).stderr
