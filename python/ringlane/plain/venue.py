"""The order kernel in plain Python: one venue holds all books, accounts and lanes of a process, and answers requests in turn."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..enums import CancelReason, EventKind, OrderState
from . import rows, rules
from .book import BUY, Book, Order
from .questions import Questions
from .rules import CODE, Request
from .stops import Stops, triggered
from .symbols import SYMBOLS

Rows = npt.NDArray[np.void]

INSTRUMENT = {"price_decimals": 4, "tick": 1, "lot": 1, "reference_price": 0}
ACCOUNTS = {
    "first": 1,
    "last": 10_000,
    "order_quantity_max": 1_000_000,
    "position_max": 50_000_000,
    "price_collar_bps": 2_000,
}
LIMITS = (
    "order_quantity_max",
    "position_max",
    "price_collar_bps",
    "order_notional_max",
    "exposure_max",
    "open_orders_max",
)
RESTING_ORDERS_MAX = 1 << 20
ACCOUNT_MAX = (1 << 24) - 1

RESTING, FILLED, CANCELLED = int(OrderState.RESTING), int(OrderState.FILLED), int(OrderState.CANCELLED)
FILL, CANCEL = int(EventKind.FILL), int(EventKind.CANCEL)
OTHER_LANE, MASS_CANCEL = int(CancelReason.OTHER_LANE), int(CancelReason.MASS_CANCEL)
BY_REDUCE_ONLY, BY_SELF_TRADE = int(CancelReason.REDUCE_ONLY), int(CancelReason.SELF_TRADE)
TRADE_PREVENTED, TAKER_FILL = int(EventKind.TRADE_PREVENTED), int(EventKind.TAKER_FILL)
WAITING = int(OrderState.WAITING)
ALLOW, CANCEL_NEWEST, CANCEL_OLDEST, CANCEL_BOTH = range(4)  # as `self_trade` in the configuration


class Limits:
    """The limits of a range of accounts; 0 is none."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        values = dict(values)
        self.first, self.last = values.pop("first"), values.pop("last")
        for name in (*LIMITS, "group", "self_trade"):
            setattr(self, name, values.pop(name, 0))
        if wrong := [name for name, value in values.items() if value]:
            raise NotImplementedError(f"accounts with {wrong[0]}: the Python backend does not do them; use a sidecar")

    order_quantity_max: int
    position_max: int
    price_collar_bps: int
    order_notional_max: int
    exposure_max: int
    open_orders_max: int
    group: int
    self_trade: int


class Tally:
    """What an account has open in all symbols: orders, and what each side is worth."""

    def __init__(self) -> None:
        self.orders = 0
        self.worth = [0, 0, 0]


class LaneState:
    """One open lane: whose accounts it may use, and its events that nobody took yet."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last
        self.events: deque[tuple[int, ...]] = deque()
        self.event_count = 0


class Case:
    """One request on its way."""

    __slots__ = ("k", "lane", "request", "sequence")

    def __init__(self, sequence: int, lane: int, request: Request) -> None:
        self.sequence, self.lane, self.request = sequence, lane, request
        self.k = 0


class Answer:
    """What becomes of a request."""

    __slots__ = (
        "code",
        "fill_count",
        "filled",
        "first_price",
        "notional",
        "order_id",
        "prevented",
        "remaining",
        "state",
    )

    def __init__(self) -> None:
        self.prevented, self.first_price = False, 0
        self.code = self.state = self.order_id = self.notional = self.filled = self.remaining = self.fill_count = 0


class Venue(Stops, Questions):
    """All books of a process. `config` has the shape of `[orders]` in a sidecar's configuration.

    Clients come by `ringlane.connect(venue.address, backend="python")`. Raises `NotImplementedError` for limits that this
    backend does not know: order_rate_max, and limits in one symbol.
    """

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        orders = dict((config or {}).get("orders", {}))
        given = orders.get("instruments") or [{"name": name, "tick": 100} for name in SYMBOLS]
        self.instruments = np.zeros(len(given), rows.INSTRUMENT)
        self.books: list[Book] = []
        for at, instrument in enumerate(given):
            values = INSTRUMENT | instrument
            name = values["name"].encode().ljust(24, b"\0")
            row = self.instruments[at]
            row["symbol"], row["name"] = at + 1, np.frombuffer(name, np.uint8)
            for key in INSTRUMENT:
                row[key] = values[key]
            self.books.append(Book(values["tick"], values["lot"], values["reference_price"]))
        self.limits = [Limits(accounts) for accounts in orders.get("accounts") or [ACCOUNTS]]
        self.resting_orders_max: int = orders.get("resting_orders_max", RESTING_ORDERS_MAX)
        self._limits_of: dict[int, Limits | None] = {}
        self.tallies: dict[int, Tally] = {}
        self.last_ids: dict[int, int] = {}
        self.lanes: dict[int, LaneState] = {}
        self.lock = threading.Lock()
        self.sequence = self.lane_last = self.accepted = self.rejected = self.trades = self.resting = 0
        self.address = f"python:{next(_numbers)}"

    # ---- lanes ----

    def open_lane(self, first: int, last: int) -> int:
        """Its number."""
        with self.lock:
            self.lane_last += 1
            self.lanes[self.lane_last] = LaneState(first, last)
            return self.lane_last

    def close_lane(self, lane: int, cancel_orders: bool) -> None:
        """Its orders are cancelled, or stay without an owner."""
        with self.lock:
            if self.lanes.pop(lane, None) is None:
                return
            for order in [order for order in self._all() if order.lane == lane]:
                if cancel_orders:
                    self._leave(order)
                else:
                    order.lane = 0

    def process(self, lane: int, requests: list[Request]) -> list[tuple[int, ...]]:
        """Answers requests in their order: fields of `OrderResult`."""
        with self.lock:
            return [self._one(lane, request) for request in requests]

    # ---- one request ----

    def _one(self, lane: int, request: Request) -> tuple[int, ...]:
        self.sequence += 1
        case, answer = Case(self.sequence, lane, request), Answer()
        answer.code = rules.structure(request) or self._who(case) or self._act(case, answer)
        if answer.code:
            self.rejected += 1
            return (self.sequence, 0, request.client_order_id, 0, 0, 0, 0, answer.code, 0, 0)
        self.accepted += 1
        reason = BY_SELF_TRADE if answer.prevented else 0
        done = (answer.notional, answer.filled, answer.remaining, answer.fill_count, 0, answer.state, reason)
        return (self.sequence, answer.order_id, request.client_order_id, *done)

    def _who(self, case: Case) -> int:
        request, lane = case.request, self.lanes[case.lane]
        everywhere = request.symbol == 0 and request.op in (rules.TAKE_OVER, rules.CANCEL_ALL)
        if not everywhere and not 1 <= request.symbol <= len(self.books):
            return CODE["UNKNOWN_SYMBOL"]
        if request.account == 0 and request.op == rules.CANCEL_ALL:
            return 0
        if self._limits(request.account) is None:
            return CODE["UNKNOWN_ACCOUNT"]
        return 0 if lane.first <= request.account <= lane.last else CODE["ACCOUNT_NOT_PERMITTED"]

    def _limits(self, account: int) -> Limits | None:
        if account not in self._limits_of:
            known = [limits for limits in self.limits if limits.first <= account <= limits.last]
            self._limits_of[account] = known[-1] if known else None
        return self._limits_of[account]

    def _act(self, case: Case, answer: Answer) -> int:
        request = case.request
        if request.op == rules.TAKE_OVER:
            return self._take_over(case, answer)
        if request.op == rules.CANCEL_ALL:
            return self._cancel_all(case, answer)
        book = self.books[request.symbol - 1]
        if request.op != rules.CANCEL and (code := rules.quantity(request, book.lot)):
            return code
        if request.op in (rules.NEW, rules.REPLACE) and request.limit is not None:
            code = rules.price(request, book.tick)
            if code:
                return code
        if request.op in (rules.NEW, rules.REPLACE) and (code := rules.stop_price(request, book.tick)):
            return code
        if request.op == rules.NEW and (code := rules.display(request, book.lot)):
            return code
        order = book.orders.get((request.account, request.client_order_id))
        if request.op == rules.NEW:
            return CODE["DUPLICATE_ORDER_ID"] if order else self._new(case, book, answer)
        if order is None:
            return CODE["UNKNOWN_ORDER_ID"]
        answer.order_id = order.order_id
        if request.op == rules.REPLACE:
            return self._replace(case, book, order, answer)
        return self._take_off(case, order, request.quantity if request.op == rules.REDUCE else order.open, answer)

    def _take_off(self, case: Case, order: Order, quantity: int, answer: Answer) -> int:
        """CANCEL and REDUCE."""
        if quantity > order.open:
            return CODE["OVER_REDUCTION"]
        answer.remaining = order.open - quantity
        answer.state = CANCELLED if not answer.remaining else WAITING if order.stop_price else RESTING
        self._tell_owner(case, order, quantity, answer.remaining)
        if answer.remaining:
            self._change_open(order, -quantity)
        else:
            self._leave(order)
        return 0

    def _new(self, case: Case, book: Book, answer: Answer) -> int:
        request = case.request
        code = self._risk(request, book, None) or (
            CODE["BOOK_FULL"] if request.may_rest and self._is_full(book, request) else 0
        )
        if code := code or self._business(request, book, bool(request.flags & rules.REDUCE_ONLY)):
            return code
        self.last_ids[request.account] = request.client_order_id
        price, reduce_only = request.price or request.stop_price, bool(request.flags & rules.REDUCE_ONLY)
        ids = (request.client_order_id, request.symbol, request.account)
        order = Order(case.sequence, *ids, request.side, price, reduce_only)
        order.lane, order.display, answer.order_id = case.lane, request.display_quantity, case.sequence
        if request.is_stop:
            if not book.triggers(request.side, request.stop_price, book.traded_price):
                return self._wait(book, order, request, answer)
            request = triggered(request)
        self._trade(case, book, request, answer)
        order.filled = answer.filled
        left = request.quantity - answer.filled
        answer.state = FILLED if not left else RESTING if request.may_rest and not answer.prevented else CANCELLED
        if answer.state == RESTING:
            answer.remaining = left
            self._enter(book, order, left)
        self._follow(case, book, answer)
        return 0

    def _replace(self, case: Case, book: Book, order: Order, answer: Answer) -> int:
        request, before = case.request, order.open
        if order.side != request.side:
            return CODE["SIDE_MISMATCH"]
        waits = order.stop_price != 0
        if waits != request.is_stop or (waits and order.is_market != request.is_market):
            return CODE["TYPE_MISMATCH"]
        if order.filled + request.quantity > rules.QUANTITY_MAX:
            return CODE["QUANTITY_TOO_LARGE"]
        if rules.too_many_parts(request.quantity, order.display):
            return CODE["BAD_DISPLAY_QUANTITY"]
        if code := self._risk(request, book, order) or self._business(request, book, order.reduce_only):
            return code
        if not waits and request.price == order.price and request.quantity <= before:
            self._change_open(order, request.quantity - before)
            self._tell_owner(case, order, before, request.quantity)
            answer.remaining, answer.state = request.quantity, RESTING
            return 0
        self._leave(order)
        order.price = request.price or request.stop_price
        if waits and not book.triggers(request.side, request.stop_price, book.traded_price):
            code = self._wait(book, order, request, answer)
            self._tell_owner(case, order, before, request.quantity)
            return code
        is_market = order.is_market
        if waits:
            order.stop_price, order.is_market = 0, False
            request = triggered(request)
        self._trade(case, book, request, answer)
        order.filled += answer.filled
        left = request.quantity - answer.filled
        answer.state = FILLED if not left else CANCELLED if answer.prevented or request.limit is None else RESTING
        answer.remaining = left if answer.state == RESTING else 0
        self._tell_owner(case, order, before, answer.remaining, 0 if is_market else None)
        if answer.remaining:
            self._enter(book, order, answer.remaining)
        self._follow(case, book, answer)
        return 0

    def _take_over(self, case: Case, answer: Answer) -> int:
        request = case.request
        for order in self._all(request.symbol):
            if order.lane == 0 and order.account == request.account:
                order.lane = case.lane
                answer.fill_count += 1
        answer.state = RESTING
        return 0

    def _cancel_all(self, case: Case, answer: Answer) -> int:
        request, lane = case.request, self.lanes[case.lane]
        ending = [
            order
            for order in self._all(request.symbol)
            if request.account in (0, order.account)
            and (not request.flags & rules.THIS_LANE or order.lane == case.lane)
            and lane.first <= order.account <= lane.last
        ]
        for order in sorted(ending, key=lambda order: order.order_id):
            self._tell(case, order, CANCEL, MASS_CANCEL, order.open, 0)
            self._leave(order)
        answer.fill_count, answer.state = len(ending), CANCELLED
        return 0

    # ---- risk and business rules ----

    def _risk(self, request: Request, book: Book, old: Order | None) -> int:
        limits, price, reference = self._limits(request.account), request.limit, book.last_price
        assert limits is not None
        quantity, tally = request.quantity, self.tallies.get(request.account)
        if 0 < limits.order_quantity_max < quantity:
            return CODE["ORDER_SIZE_LIMIT"]
        collar = limits.price_collar_bps
        if price is not None and collar and reference and abs(price - reference) * 10_000 > reference * collar:
            return CODE["PRICE_COLLAR"]
        position = book.positions.get(request.account)
        net, open_quantity = (position.net, position.open[request.side]) if position else (0, 0)
        worst = (net if request.side == BUY else -net) + open_quantity - (old.open if old else 0) + quantity
        if 0 < limits.position_max < worst:
            return CODE["POSITION_LIMIT"]
        worth = (request.price or request.stop_price or reference) * quantity
        if 0 < limits.order_notional_max < worth:
            return CODE["NOTIONAL_LIMIT"]
        if request.may_rest:
            exposure = (tally.worth[request.side] if tally else 0) - (old.price * old.open if old else 0) + worth
            if 0 < limits.exposure_max < exposure:
                return CODE["EXPOSURE_LIMIT"]
            if old is None and 0 < limits.open_orders_max <= (tally.orders if tally else 0):
                return CODE["OPEN_ORDERS_LIMIT"]
        return 0

    def _business(self, request: Request, book: Book, reduce_only: bool) -> int:
        if reduce_only:
            position = book.positions.get(request.account)
            if request.quantity > (position.reducible(request.side) if position else 0):
                return CODE["NOT_REDUCING"]
        against = book.against(request.side)
        if request.flags & rules.POST_ONLY and against.best(request.limit):
            return CODE["WOULD_CROSS"]
        if request.op == rules.NEW and request.time_in_force == rules.FOK:
            left, limit = request.quantity, request.limit
            for order in against.walk():
                if left <= 0 or (limit is not None and against.sign * (order.price - limit) > 0):
                    break
                if self._prevents(request.account, order.account):
                    if self._self_trade(request.account) == CANCEL_OLDEST:
                        continue
                    break
                left -= 0 if order.reduce_only else order.open
            if left > 0:
                return CODE["NOT_FILLABLE"]
        return 0

    # ---- trading ----

    def _self_trade(self, account: int) -> int:
        limits = self._limits(account)
        return limits.self_trade if limits else ALLOW

    def _prevents(self, taker: int, maker: int) -> bool:
        """Whether the taker's account does not trade with the maker's."""
        mine, other = self._limits(taker), self._limits(maker)
        if mine is None or mine.self_trade == ALLOW:
            return False
        return taker == maker or (mine.group != 0 and other is not None and other.group == mine.group)

    def _prevent(self, case: Case, account: int, maker: Order, answer: Answer) -> None:
        """A trade within a group does not happen: an order, or two, are cancelled for it."""
        kind = self._self_trade(account)
        gone, stays = (0, maker.open) if kind == CANCEL_NEWEST else (maker.open, 0)
        self._tell(case, maker, TRADE_PREVENTED, BY_SELF_TRADE, gone, stays)
        if gone:
            self._leave(maker)
        answer.prevented = kind != CANCEL_OLDEST

    def _trade(self, case: Case, book: Book, request: Request, answer: Answer, stop: Order | None = None) -> None:
        """Trades a request against the book, or what a `stop` became, whose owner is told."""
        against, limit, left = book.against(request.side), request.limit, request.quantity
        while left and not answer.prevented and (maker := against.best(limit)):
            if self._prevents(request.account, maker.account):
                self._prevent(case, request.account, maker, answer)
                continue
            position = book.position(maker.account)
            quantity = min(left, maker.shown)
            if maker.reduce_only:
                quantity = min(quantity, position.reducible(maker.side))
            if not quantity:
                self._tell(case, maker, CANCEL, BY_REDUCE_ONLY, maker.open, 0)
                self._leave(maker)
                continue
            self._tell(case, maker, FILL, 0, quantity, maker.open - quantity)
            maker.filled += quantity
            if quantity == maker.open:
                self._leave(maker)
            else:
                shown = maker.shown - quantity
                self._change_open(maker, -quantity)
                maker.shown = shown
                if not shown:  # its next part stands behind all others of its price
                    against.remove(maker)
                    maker.show()
                    against.add(maker)
            notional = quantity * maker.price
            position.settle(maker.side, quantity, notional)
            book.last_price = book.traded_price = maker.price
            left -= quantity
            answer.filled += quantity
            answer.notional += notional
            answer.first_price = answer.first_price or maker.price
            answer.fill_count += 1
            if stop is not None:
                self._tell(case, stop, TAKER_FILL, 0, quantity, left, maker.price)
        if answer.fill_count:
            book.position(request.account).settle(request.side, answer.filled, answer.notional)
            self.trades += answer.fill_count

    def _enter(self, book: Book, order: Order, quantity: int) -> None:
        if order.stop_price:
            book.stops.append(order)
        else:
            book.sides[order.side].add(order)
        book.orders[order.account, order.client_order_id] = order
        self.resting += 1
        self.tallies.setdefault(order.account, Tally()).orders += 1
        self._change_open(order, quantity)
        order.show()

    def _leave(self, order: Order) -> None:
        book = self.books[order.symbol - 1]
        if order.stop_price:
            book.stops.remove(order)
        else:
            book.sides[order.side].remove(order)
        del book.orders[order.account, order.client_order_id]
        self.resting -= 1
        self.tallies[order.account].orders -= 1
        self._change_open(order, -order.open)

    def _change_open(self, order: Order, by: int) -> None:
        order.open += by
        order.shown = min(order.shown, order.open)  # what is hidden goes first
        self.books[order.symbol - 1].position(order.account).open[order.side] += by
        self.tallies[order.account].worth[order.side] += by * order.price

    def _all(self, symbol: int = 0) -> Iterator[Order]:
        """All orders, or those in a symbol."""
        for book in self.books if symbol == 0 else [self.books[symbol - 1]]:
            yield from list(book.orders.values())

    # ---- events ----

    def _tell(
        self, case: Case, order: Order, kind: int, reason: int, quantity: int, remaining: int, price: int | None = None
    ) -> None:
        if price is None:
            price = 0 if order.stop_price and order.is_market else order.price
        lane = self.lanes.get(order.lane)
        if lane is not None:
            lane.event_count += 1
            ids = (lane.event_count, case.sequence, order.order_id, order.client_order_id)
            what = (price, quantity, remaining, kind, order.side, reason, case.k, order.symbol, order.account)
            lane.events.append((*ids, *what))
        case.k += 1

    def _tell_owner(self, case: Case, order: Order, quantity: int, remaining: int, price: int | None = None) -> None:
        if order.lane == case.lane:
            case.k += 1
        else:
            self._tell(case, order, CANCEL, OTHER_LANE, quantity, remaining, price)


_numbers = itertools.count(1)
