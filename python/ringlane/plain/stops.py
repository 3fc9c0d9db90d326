"""Stops: orders that wait until a trade happens at their stop price or beyond, and then trade themselves."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from ..enums import CancelReason, EventKind, OrderState
from . import rules
from .book import BUY, Book, Order
from .rules import Request

if TYPE_CHECKING:
    from .venue import Answer, Case

STOPS_MAX = 1 << 14

_WAITING = int(OrderState.WAITING)
_CANCEL, _TRIGGERED = int(EventKind.CANCEL), int(EventKind.TRIGGERED)
_REDUCE_ONLY, _SELF_TRADE = int(CancelReason.REDUCE_ONLY), int(CancelReason.SELF_TRADE)
_IMMEDIATE = int(CancelReason.IMMEDIATE)


def triggered(request: Request) -> Request:
    """What a stop is that was met already: a market order, or a limit order that may rest."""
    if request.is_market:
        changes: dict[str, Any] = {"order_type": rules.MARKET, "time_in_force": rules.IOC}
    else:
        changes = {"order_type": rules.LIMIT}
    return request._replace(op=rules.NEW, stop_price=0, **changes)


class Stops:
    """The venue's stops; everything else about orders is the venue's own."""

    def _is_full(self: Any, book: Book, request: Request) -> bool:
        return self.resting >= self.resting_orders_max or (request.is_stop and len(book.stops) >= STOPS_MAX)

    def _wait(self: Any, book: Book, order: Order, request: Request, answer: Answer) -> int:
        order.stop_price, order.is_market = request.stop_price, request.is_market
        self._enter(book, order, request.quantity)
        answer.remaining, answer.state = request.quantity, _WAITING
        return 0

    def _follow(self: Any, case: Case, book: Book, answer: Answer) -> None:
        """Lets every stop follow that the request's trades trigger, and those that they trigger."""
        queue: deque[Order] = deque()
        first = answer.first_price
        while True:
            if first:
                queue.extend(self._triggered(book, min(first, book.last_price), max(first, book.last_price)))
            if not queue:
                return
            first = self._activate(case, book, queue.popleft())

    def _triggered(self: Any, book: Book, low: int, high: int) -> list[Order]:
        """Takes out the stops that trades at these prices trigger, in the order of their entry."""
        met = [
            order
            for order in book.stops
            if book.triggers(order.side, order.stop_price, high if order.side == BUY else low)
        ]
        book.stops = [order for order in book.stops if order not in met]
        return sorted(met, key=lambda order: order.order_id)

    def _activate(self: Any, case: Case, book: Book, order: Order) -> int:
        """A triggered stop trades, then rests or ends. Gives the price of its first trade, or 0."""
        from .venue import Answer

        is_market, left = order.is_market, order.open
        price = 0 if is_market else order.price
        self._tell(case, order, _TRIGGERED, 0, left, left)
        quantity = left
        if order.reduce_only:
            quantity = min(left, book.position(order.account).reducible(order.side))
        # It leaves every count; what rests in the end is counted anew.
        book.stops.append(order)
        self._leave(order)
        order.stop_price, order.is_market = 0, False
        if quantity < left:
            self._tell(case, order, _CANCEL, _REDUCE_ONLY, left - quantity, quantity, price)
        if not quantity:
            return 0
        kind = (rules.MARKET, rules.IOC) if is_market else (rules.LIMIT, rules.GTC)
        ids = (order.symbol, order.account, 0, order.client_order_id)
        asked = Request(rules.NEW, order.side, *kind, *ids, price, quantity, 0, 0, 0)
        answer = Answer()
        self._trade(case, book, asked, answer, order)
        order.filled += answer.filled
        left = quantity - answer.filled
        if left and (is_market or answer.prevented):
            reason = _SELF_TRADE if answer.prevented else _IMMEDIATE
            self._tell(case, order, _CANCEL, reason, left, 0, price)
        elif left:
            self._enter(book, order, left)
        return answer.first_price
