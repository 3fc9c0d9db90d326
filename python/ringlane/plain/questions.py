"""What the venue says of its state: rows of the records that a sidecar answers with."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from . import rows, rules
from .book import BUY, SELL

Rows = npt.NDArray[np.void]


class Questions:
    """The venue's answers to queries."""

    def query(self: Any, what: str, values: Mapping[str, int]) -> tuple[dict[str, Any], Rows]:
        """Rows of the same records as a sidecar's."""
        ask: dict[str, Callable[..., Rows]] = {
            "orders": self._orders,
            "positions": self._positions,
            "book": self._levels,
        }
        with self.lock:
            found = self.instruments.copy() if what == "instruments" else ask[what](**values)
            last = self.last_ids.get(values.get("account", 0), 0)
            return {"sequence": self.sequence, "last_client_order_id": last}, found

    def _orders(self: Any, account: int) -> Rows:
        made = []
        for book in self.books:
            places = [book.sides[side].walk() for side in (BUY, SELL)] + [book.waiting(side) for side in (BUY, SELL)]
            for o in itertools.chain(*places) if account in book.positions else ():
                if o.account == account:
                    kind = rules.LIMIT if not o.stop_price else rules.STOP if o.is_market else rules.STOP_LIMIT
                    sizes = (o.open, 0 if o.stop_price else o.shown, o.display, o.filled)
                    what = (o.side, kind, rules.GTC, rules.REDUCE_ONLY if o.reduce_only else 0)
                    names = (o.order_id, o.client_order_id, 0 if kind == rules.STOP else o.price, o.stop_price, 0)
                    made.append((*names, *sizes, o.symbol, o.account, o.lane, *what))
        return np.array(made, rows.OPEN_ORDER)

    def _positions(self: Any, account: int) -> Rows:
        made = []
        for symbol, book in enumerate(self.books, 1):
            p = book.positions.get(account)
            if p and (p.net or p.cash or p.open[BUY] or p.open[SELL]):
                cash = (p.cash & (2**64 - 1), p.cash >> 64)
                made.append((account, symbol, p.net, p.open[BUY], p.open[SELL], *cash))
        return np.array(made, rows.POSITION)

    def _levels(self: Any, symbol: int, levels: int) -> Rows:
        if symbol > len(self.books):
            raise ValueError(f"there is no symbol {symbol}: there are {len(self.books)} (BAD_VALUE)")
        made = []
        for side, orders in self.books[symbol - 1].sides.items():
            for key in orders.keys[:levels]:
                level = orders.levels[key]
                made.append((abs(key), sum(order.shown for order in level), len(level), side))
        return np.array(made, rows.BOOK_LEVEL)
