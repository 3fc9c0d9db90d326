"""Price-time priority in plain Python: orders, the two sides of one book, positions. Rules about requests live in `rules`."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator

BUY, SELL = 1, 2


class Order:
    """A live order. Prices are price units, quantities lots of 1.

    `open` is all that is left of it; `shown` is less than that in an iceberg, which has a `display`. A stop that waits has a
    `stop_price`; one of type STOP `is_market`, and has its stop price for its price.
    """

    __slots__ = (
        "account",
        "client_order_id",
        "display",
        "filled",
        "is_market",
        "lane",
        "open",
        "order_id",
        "price",
        "reduce_only",
        "shown",
        "side",
        "stop_price",
        "symbol",
    )

    def __init__(
        self, order_id: int, client_order_id: int, symbol: int, account: int, side: int, price: int, reduce_only: bool
    ) -> None:
        self.order_id, self.client_order_id, self.symbol, self.account = order_id, client_order_id, symbol, account
        self.side, self.price, self.reduce_only = side, price, reduce_only
        self.open = self.shown = self.display = self.filled = self.lane = self.stop_price = 0
        self.is_market = False

    def show(self) -> None:
        """Shows as much as it may."""
        self.shown = min(self.open, self.display) if self.display else self.open


class BookSide:
    """One side of a book: its prices sorted best first, at each of them the orders in the order of their arrival."""

    def __init__(self, side: int) -> None:
        self.sign = -1 if side == BUY else 1
        self.keys: list[int] = []  # prices, of bids with a minus
        self.levels: dict[int, dict[Order, None]] = {}

    def add(self, order: Order) -> None:
        """Puts an order behind those of its price."""
        key = self.sign * order.price
        level = self.levels.get(key)
        if level is None:
            insort(self.keys, key)
            level = self.levels[key] = {}
        level[order] = None

    def remove(self, order: Order) -> None:
        """Takes an order out."""
        key = self.sign * order.price
        level = self.levels[key]
        del level[order]
        if not level:
            del self.levels[key]
            del self.keys[bisect_left(self.keys, key)]

    def best(self, price: int | None) -> Order | None:
        """The first order that one of the other side with this limit (None: any) trades with."""
        if not self.keys or (price is not None and self.keys[0] > self.sign * price):
            return None
        return next(iter(self.levels[self.keys[0]]))

    def walk(self) -> Iterator[Order]:
        """All orders, best first, at one price the oldest first."""
        for key in self.keys:
            yield from self.levels[key]


class Position:
    """What an account has in a symbol: net quantity, cash flow, and what is open of each side."""

    __slots__ = ("cash", "net", "open")

    def __init__(self) -> None:
        self.net = self.cash = 0
        self.open = [0, 0, 0]  # by side

    def settle(self, side: int, quantity: int, notional: int) -> None:
        """Counts a fill."""
        sign = 1 if side == BUY else -1
        self.net += sign * quantity
        self.cash -= sign * notional

    def reducible(self, side: int) -> int:
        """How much an order of this side may trade until the position is flat."""
        return max(-self.net if side == BUY else self.net, 0)


class Book:
    """One symbol."""

    def __init__(self, tick: int, lot: int, reference_price: int) -> None:
        self.tick, self.lot = tick, lot
        self.last_price = reference_price
        self.traded_price = 0  # of the last trade, which triggers stops; the reference price does not
        self.sides = {BUY: BookSide(BUY), SELL: BookSide(SELL)}
        self.orders: dict[tuple[int, int], Order] = {}  # by account and client order id
        self.positions: dict[int, Position] = {}
        self.stops: list[Order] = []

    def waiting(self, side: int) -> list[Order]:
        """Stops of one side, first triggered first."""
        sign = 1 if side == BUY else -1
        stops = [order for order in self.stops if order.side == side]
        return sorted(stops, key=lambda order: (sign * order.stop_price, order.order_id))

    def triggers(self, side: int, stop_price: int, price: int) -> bool:
        """Whether a trade at this price triggers such a stop; there was none at price 0."""
        return price != 0 and (price >= stop_price if side == BUY else price <= stop_price)

    def position(self, account: int) -> Position:
        """The account's, made when it is the first time."""
        found = self.positions.get(account)
        if found is None:
            found = self.positions[account] = Position()
        return found

    def against(self, side: int) -> BookSide:
        """What an order of this side trades with."""
        return self.sides[BUY + SELL - side]
