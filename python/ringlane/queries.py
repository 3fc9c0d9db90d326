"""What state queries answer: plain data, each with the sequence number after which it is true."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.void]


@dataclass(frozen=True)
class OpenOrders:
    """An account's open orders: `orders` has one row each (order_id, client_order_id, price, remaining_quantity, ...).

    `last_client_order_id` is that of the account's last accepted order, 0 for none.
    """

    sequence: int
    account: int
    orders: Rows
    last_client_order_id: int


@dataclass(frozen=True)
class Positions:
    """An account's positions: `positions` has one row a symbol (net_quantity, open_buy_quantity, open_sell_quantity, ...).

    `last_client_order_id` is that of the account's last accepted order, 0 for none.
    """

    sequence: int
    account: int
    positions: Rows
    last_client_order_id: int

    @cached_property
    def cash(self) -> list[int]:
        """Cash flow of each row: received minus paid, price units x quantity, exact (it may be wider than 64 bits)."""
        return [(int(row["cash_high"]) << 64) | int(row["cash_low"]) for row in self.positions]


@dataclass(frozen=True)
class Book:
    """A book's best levels: `bids` and `asks`, best first (price in price units, quantity, order_count)."""

    sequence: int
    symbol: int
    bids: Rows
    asks: Rows


@dataclass(frozen=True)
class State:
    """The whole state in one number, and counters since the journal began."""

    sequence: int
    state_hash: str
    accepted: int
    rejected: int
    trades: int
    resting: int
