"""What the naive twin makes of a recording: its records, one by one, through the order kernel in plain Python."""

from pathlib import Path

import ringlane
from ringlane.plain.rules import Request
from ringlane.plain.venue import Venue
from ringlane.recording import SymbolBook

RESULT = (
    "sequence",
    "order_id",
    "client_order_id",
    "notional",
    "filled_quantity",
    "remaining_quantity",
    "fill_count",
    "code",
)
"""What is compared of each answer. The twin has the state of an order, and no reason, in other places."""


def twin_of(recording: ringlane.Recording, resting_orders_max: int) -> tuple[Venue, list[tuple[int, ...]]]:
    """The venue behind the last record, and what is compared of its answers. Lanes, orders and settings are understood."""
    venue, answers = Venue({"orders": {"resting_orders_max": resting_orders_max}}), []
    for frame in recording:
        if frame.kind == "LANE_OPEN":
            for opened in frame.records:
                venue.lane_last = int(opened["lane"]) - 1
                assert venue.open_lane(int(opened["account_first"]), int(opened["account_last"])) == opened["lane"]
        elif frame.kind == "LANE_CLOSE":
            for closed in frame.records:
                venue.close_lane(int(closed["lane"]), bool(closed["cancel_orders"]))
        elif frame.kind == "ORDERS":
            venue.sequence = frame.first_sequence - 1
            requests = [Request(*row) for row in frame.records[list(Request._fields)].tolist()]
            for row in venue.process(frame.lane, requests):
                sequence, order_id, client_order_id, notional, filled, remaining, fill_count, code, _, _ = row
                answers.append((sequence, order_id, client_order_id, notional, filled, remaining, fill_count, code))
        else:
            assert frame.kind in ("INSTRUMENTS", "ACCOUNTS", "BOOK_LIMITS"), frame.kind
    return venue, answers


def check_against_twin(journal: Path | str, resting_orders_max: int) -> int:
    """Every answer, and at the end books, queues and positions, are the twin's. Gives the number of answers."""
    recording = ringlane.read_recording(journal)
    venue, answers = twin_of(recording, resting_orders_max)
    computed = recording.results[list(RESULT)].tolist()
    different = next(((ours, twin) for ours, twin in zip(computed, answers, strict=True) if ours != twin), None)
    assert different is None, f"answer {different[0]}, the twin's {different[1]}"
    assert (recording.replayed.accepted, recording.replayed.trades) == (venue.accepted, venue.trades)
    for name, book in recording.book_at(None).symbols.items():
        _, levels = venue.query("book", {"symbol": book.symbol, "levels": 1_000_000})
        ours = [(level["price"], level["quantity"], level["order_count"]) for level in [*book.bids, *book.asks]]
        assert ours == levels[["price", "quantity", "order_count"]].tolist(), f"the book of {name}"
        twins = {row[0]: row[1:] for position in book.positions for row in positions(venue, position["account"], book)}
        for position in book.positions:
            found = (position["net_quantity"], position["open_buy_quantity"], position["open_sell_quantity"])
            assert (*found, position["cash"]) == twins[position["account"]], f"position in {name}"
        queue = [(order["order_id"], order["remaining_quantity"], order["account"]) for order in book.orders]
        assert queue == queue_of(venue, book.symbol), f"the queues of {name}"
    return len(answers)


def positions(venue: Venue, account: int, book: SymbolBook) -> list[tuple[int, ...]]:
    _, rows = venue.query("positions", {"account": account})
    rows = rows[rows["symbol"] == book.symbol]
    cash = [int(high) * 2**64 + int(low) for high, low in rows[["cash_high", "cash_low"]].tolist()]
    names = ["account", "net_quantity", "open_buy_quantity", "open_sell_quantity"]
    return [(*row, exact) for row, exact in zip(rows[names].tolist(), cash, strict=True)]


def queue_of(venue: Venue, symbol: int) -> list[tuple[int, int, int]]:
    """Open orders in the order in which they trade, bids first."""
    sides = venue.books[symbol - 1].sides
    return [(order.order_id, order.open, order.account) for side in (1, 2) for order in sides[side].walk()]
