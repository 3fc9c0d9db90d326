"""Large batches on several threads: the same answers and the same state as in sequence, live, replayed and recovered."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import ringlane
from ringlane.flow import OrderFlow
from test_journal import replayed

BATCH, BATCHES, IN_FLIGHT = 4096, 24, 4


def play(journal: Path, threads: int) -> tuple[list[bytes], str, dict[str, int]]:
    """Sends a flow in large batches: results of each, state hash, and how batches were matched."""
    config = {"orders": {"threads": threads, "parallel_batch_min": 64}}
    with ringlane.Sidecar(journal=journal, config=config) as sidecar, ringlane.connect(sidecar.address) as client:
        with client.open("orders", depth=BATCH * 8, events=1 << 17) as lane:
            flow, tickets, answers = OrderFlow(seed=11), deque(), []
            for _ in range(BATCHES):
                if len(tickets) == IN_FLIGHT:
                    answers.append(tickets.popleft().result().tobytes())
                reservation = lane.reserve(BATCH)
                with reservation as slots:
                    flow.fill(slots)
                tickets.append(reservation.ticket)
            answers += [ticket.result().tobytes() for ticket in tickets]
        state = client.state()
        row = client.stats()["sequencer"]
    assert state.trades > 1000
    names = ("batches_parallel", "sequential_barrier", "sequential_room", "sequential_exposure")
    return answers, state.state_hash, {name: row[name] for name in names}


def test_threads_change_no_answer_and_a_journal_of_large_batches_is_replayed(tmp_path: Path) -> None:
    alone, state_hash, row = play(tmp_path / "alone", threads=1)
    assert row["batches_parallel"] == 0
    shared, shared_hash, row = play(tmp_path / "shared", threads=2)
    assert shared == alone
    assert shared_hash == state_hash
    assert row["batches_parallel"] > 0
    assert row["sequential_barrier"] == row["sequential_exposure"] == 0
    assert replayed(tmp_path / "shared")["state_hash"] == replayed(tmp_path / "alone")["state_hash"]
    # What was written by two threads is recovered by one.
    with (
        ringlane.Sidecar(journal=tmp_path / "shared") as sidecar,
        ringlane.connect(sidecar.address) as client,
    ):
        assert client.state().accepted > 0


def test_a_batch_that_could_fill_the_books_goes_in_sequence(tmp_path: Path) -> None:
    config = {"orders": {"threads": 2, "parallel_batch_min": 1, "resting_orders_max": 2}}
    with ringlane.Sidecar(journal=tmp_path, config=config) as sidecar, ringlane.connect(sidecar.address) as client:
        with client.open("orders") as lane:
            batch = lane.batch(symbol="AAPL", side=1, account=1, client_order_id=[1, 2, 3], price="100.00", quantity=1)
            codes = lane.process(batch)["code"].tolist()
        assert codes == [0, 0, ringlane.RejectCode.BOOK_FULL]
        row = client.stats()["sequencer"]
        assert row["sequential_room"] >= 1
