"""LOBSTER days through a real sidecar: the player's venue made of one order lane, and the configuration for it.

Every answer comes from the sidecar: fills from the lane's events, levels from a book query.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from .client import Client
from .connections import connect
from .enums import Op, OrderFlag, OrderType, RejectCode, Side, TimeInForce
from .lobster import LobsterDay
from .lobster_player import Fill, Levels, LobsterReport, play
from .queries import State
from .sidecar import Sidecar

__all__ = ["LaneVenue", "day_config", "play_in_sidecar"]

#: Accounts of the resting orders and of the aggressors.
MAKER, TAKER = 1, 2
#: Slots of the lane; the player has one order under way at a time.
DEPTH_SLOTS, EVENTS = 64, 4096
#: Resting orders a level that a configuration has room for, and at least.
ORDERS_PER_LEVEL, RESTING_ORDERS_MIN = 4096, 1 << 16


def day_config(day: LobsterDay) -> dict[str, Any]:
    """Configuration of a sidecar for this day: its one instrument, two accounts, and no limits: the day had none."""
    no_limits = {"order_quantity_max": 0, "position_max": 0, "price_collar_bps": 0}
    return {
        "orders": {
            "resting_orders_max": max(RESTING_ORDERS_MIN, 2 * day.levels * ORDERS_PER_LEVEL),
            "instruments": [{"name": day.ticker, "price_decimals": 4, "tick": day.tick, "lot": 1}],
            "accounts": [{"first": MAKER, "last": TAKER, **no_limits}],
        }
    }


class LaneVenue:
    """The sidecar's order book, as `ringlane.lobster_player.Venue`."""

    def __init__(self, client: Client, ticker: str) -> None:
        self._client = client
        self._lane = client.open("orders", depth=DEPTH_SLOTS, events=EVENTS)
        self._call = self._lane.call
        self._symbol = client.symbols[ticker]
        self._sides = {1: int(Side.BUY), -1: int(Side.SELL)}
        self._ops = int(Op.NEW), int(Op.CANCEL), int(Op.REDUCE)
        self._types = int(OrderType.LIMIT), int(TimeInForce.GTC), int(TimeInForce.IOC)
        self._post_only = int(OrderFlag.POST_ONLY)
        self._taker_id = 0

    def _answer(self, result: tuple[Any, ...]) -> str:
        code = result[7]
        return RejectCode(code).name if code else ""

    def add(self, order_id: int, direction: int, price: int, size: int) -> str:
        """Enter a post-only limit order; "" or the name of the reject code."""
        limit, gtc, _ = self._types
        side = self._sides[direction]
        result = self._call(self._ops[0], side, limit, gtc, self._symbol, MAKER, self._post_only, order_id, price, size)
        return self._answer(result)

    def cancel(self, order_id: int) -> str:
        """Take an order out; "" or the name of the reject code."""
        return self._answer(self._call(self._ops[1], 0, 0, 0, self._symbol, MAKER, 0, order_id, 0, 0))

    def reduce(self, order_id: int, size: int) -> str:
        """Take `size` off an order; "" or the name of the reject code."""
        return self._answer(self._call(self._ops[2], 0, 0, 0, self._symbol, MAKER, 0, order_id, 0, size))

    def take(self, direction: int, price: int, size: int) -> list[Fill]:
        """Immediate-or-cancel order: what the makers' events say, and the taker's own result must agree with."""
        self._taker_id += 1
        limit, _, ioc = self._types
        side = self._sides[direction]
        result = self._call(self._ops[0], side, limit, ioc, self._symbol, TAKER, 0, self._taker_id, price, size)
        events = self._lane.events()
        ids, sizes, prices = (events[name].tolist() for name in ("client_order_id", "quantity", "price"))
        fills = [Fill(*fill) for fill in zip(ids, sizes, prices, strict=True)]
        notional = sum(fill.size * fill.price for fill in fills)
        if (notional, sum(sizes), len(fills)) != (result[3], result[4], result[6]):
            raise RuntimeError(f"the taker's result {result} and the makers' events {fills} do not agree")
        return fills

    def book(self, levels: int) -> tuple[Levels, Levels]:
        """The best levels of the sidecar's book."""
        book = self._client.book(self._symbol, levels)
        bids, asks = book.bids, book.asks
        return (
            list(zip(bids["price"].tolist(), bids["quantity"].tolist(), strict=True)),
            list(zip(asks["price"].tolist(), asks["quantity"].tolist(), strict=True)),
        )

    def close(self) -> None:
        """Close the lane; what rests stays."""
        self._lane.close()


def play_in_sidecar(
    day: LobsterDay,
    grouped: bool = False,
    journal: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    messages_max: int | None = None,
) -> tuple[LobsterReport, State]:
    """Play a day through a sidecar of its own; the report, and the sidecar's state at the end."""
    with Sidecar(journal=journal, config=day_config(day)) as sidecar, connect(sidecar.address) as client:
        venue = LaneVenue(client, day.ticker)
        report = play(day, venue, grouped, progress, messages_max)
        venue.close()
        return report, client.state()
