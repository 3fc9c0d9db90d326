"""Plays a LOBSTER day through an order book and compares: the rules of the player, and no importer and no book.

The player turns messages into ordinary orders, so that the book under it needs no rule of LOBSTER's. It knows which
order it entered where (`_Side`), because it must name orders to cancel them; what the book *shows* and who *traded* it
only ever asks the venue, and compares with the day's row and messages. A row is compared before anything is taken from
it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import NamedTuple, Protocol

from .lobster import Array, LobsterDay, MessageType, Prescan

__all__ = ["Fill", "LobsterReport", "Venue", "play"]

#: Differences that a report spells out; the rest is only counted.
DIFFERENCES_MAX = 10
#: Client order ids of anonymous orders start here, above every id of a LOBSTER file.
ANONYMOUS_ID_FIRST = 1 << 60

Levels = list[tuple[int, int]]


class Fill(NamedTuple):
    """One resting order that an aggressor traded with."""

    order_id: int
    size: int
    price: int


class Venue(Protocol):
    """The order book under test. Directions are +1 for buy and -1 for sell, ids are chosen by the player."""

    def add(self, order_id: int, direction: int, price: int, size: int) -> str:
        """Enter a post-only limit order; "" or the reason why it was rejected."""

    def reduce(self, order_id: int, size: int) -> str:
        """Take `size` off an order, which keeps its priority; "" or why not."""

    def cancel(self, order_id: int) -> str:
        """Take an order out; "" or why not."""

    def take(self, direction: int, price: int, size: int) -> list[Fill]:
        """Immediate-or-cancel order: what it traded with, in order."""

    def book(self, levels: int) -> tuple[Levels, Levels]:
        """The best `levels` of bids and asks as (price, size), best first."""


@dataclass
class LobsterReport:
    """What came out of one day. `rows` were compared, `exact` of them were equal."""

    file: str
    mode: str
    rows: int = 0
    exact: int = 0
    aggressors: int = 0
    #: Aggressors whose fills the data itself gives in another order than the queue's.
    exceptions: int = 0
    #: Rows right after those aggressors that were not equal. They are compared like any other, so there should be none.
    exception_rows: int = 0
    #: Aggressors whose fills were not those of the messages, and orders that the book refused.
    wrong_fills: int = 0
    refusals: int = 0
    #: Levels that came into view and were taken over from a row after it was compared.
    revealed: int = 0
    #: Time of the day's play, and how much of it the venue took to show its book.
    seconds: float = 0.0
    book_seconds: float = 0.0
    exception_texts: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)

    @property
    def line(self) -> str:
        """One line of key=value."""
        keys = ("file", "mode", "rows", "exact", "aggressors", "exceptions", "exception_rows")
        return " ".join(f"{key}={getattr(self, key)}" for key in keys)

    @property
    def good(self) -> bool:
        """Whether every compared row, every fill and every answer was as the day says."""
        return self.rows > 0 and self.exact == self.rows and not self.wrong_fills and not self.refusals

    def differs(self, text: str) -> None:
        """Note one difference."""
        if len(self.differences) < DIFFERENCES_MAX:
            self.differences.append(text)


class _Order:
    __slots__ = ("direction", "key", "order_id", "price", "size")

    def __init__(self, order_id: int, key: int, direction: int, price: int, size: int) -> None:
        self.order_id, self.key, self.direction, self.price, self.size = order_id, key, direction, price, size


class _Side:
    """The player's own orders of one side: prices best first (as ranks, lower is better), and each price's queue."""

    def __init__(self, direction: int) -> None:
        self.direction = direction
        self.ranks: list[int] = []
        self.queues: dict[int, list[_Order]] = {}

    def queue(self, price: int) -> list[_Order]:
        found = self.queues.get(price)
        if found is None:
            found = self.queues[price] = []
            insort(self.ranks, -price * self.direction)
        return found

    def drop(self, price: int) -> None:
        del self.queues[price]
        del self.ranks[bisect_left(self.ranks, -price * self.direction)]

    def deepest(self) -> int:
        return -self.ranks[-1] * self.direction


class _Player:
    def __init__(self, day: LobsterDay, venue: Venue, report: LobsterReport) -> None:
        self.day, self.venue, self.report = day, venue, report
        self.prescan = Prescan(day)
        self.sides = {1: _Side(1), -1: _Side(-1)}
        self.orders: dict[int, _Order] = {}
        self.id_seen_max = 0
        self.anonymous_next = ANONYMOUS_ID_FIRST

    # What changes the book.

    def enter(self, order_id: int, key: int, direction: int, price: int, size: int) -> None:
        """Enter an order at the place that its id gives it: later ones of its level leave and come back behind."""
        order = _Order(order_id, key, direction, price, size)
        queue = self.sides[direction].queue(price)
        place = len(queue)
        while place and queue[place - 1].key > key:
            place -= 1
        later = queue[place:]
        for other in later:
            self.expect(self.venue.cancel(other.order_id), "cancel", other)
        queue.insert(place, order)
        self.orders[order_id] = order
        for other in (order, *later):
            self.expect(self.venue.add(other.order_id, direction, price, other.size), "add", other)

    def expect(self, refusal: str, what: str, order: _Order) -> None:
        if refusal:
            self.report.refusals += 1
            self.report.differs(
                f"{what} of order {order.order_id} ({order.size} @ {order.price}) was refused: {refusal}"
            )

    def forget(self, order: _Order, size: int) -> None:
        """Note that `size` of an order has left the book."""
        order.size -= size
        if order.size <= 0:
            side = self.sides[order.direction]
            queue = side.queues[order.price]
            queue.remove(order)
            del self.orders[order.order_id]
            if not queue:
                side.drop(order.price)

    def take_off(self, order_id: int, size: int, whole: bool, row: int) -> None:
        """Reduce or cancel by id."""
        order = self.orders.get(order_id)
        if order is None or (order.size < size if not whole else order.size != size):
            has = "is not in the book" if order is None else f"has {order.size}"
            self.report.refusals += 1
            self.report.differs(f"message {row + 1}: {size} come off order {order_id}, which {has}")
            if order is None:
                return
        if whole or order.size <= size:
            self.expect(self.venue.cancel(order_id), "cancel", order)
            self.forget(order, order.size)
        else:
            self.expect(self.venue.reduce(order_id, size), "reduce", order)
            self.forget(order, size)

    def aggress(self, first: int, fills: list[Fill], direction: int) -> None:
        """One aggressor against resting orders of side `direction`; `fills` is what the messages say it traded with."""
        report = self.report
        report.aggressors += 1
        known = fills
        if len(self.sides[direction].ranks) == self.day.levels:
            deepest = self.sides[direction].ranks[-1]
            known = [fill for fill in fills if -fill.price * direction <= deepest]
        if not self.queue_heads(direction, known):
            # The exchange did not trade in the order of the queue it showed (a hidden part, a race): no book could
            # reproduce it.
            self.excepted(first, f"{known} is not the head of the queue: {self.queue_text(direction)}")
            for fill in known:
                self.take_off(fill.order_id, fill.size, False, first)
            return
        got = self.venue.take(-direction, fills[-1].price, sum(fill.size for fill in fills))
        if got != known:
            report.wrong_fills += 1
            report.differs(f"message {first + 1}: fills {got} instead of {known}")
        for fill in known:
            self.forget(self.orders[fill.order_id], fill.size)
        if len(known) < len(fills):
            # Only a group does this: its end traded at levels that no row had shown before. What was in view is checked
            # above.
            self.excepted(first, f"swept all {self.day.levels} levels in view; out of sight were {fills[len(known) :]}")

    def excepted(self, first: int, text: str) -> None:
        self.report.exceptions += 1
        self.report.exception_texts.append(f"message {first + 1}: {text}")

    def queue_heads(self, direction: int, fills: list[Fill]) -> bool:
        """Whether the orders that the messages name, in their order, are the head of the queue."""
        side = self.sides[direction]
        left = iter(fills)
        fill = next(left, None)
        if fill is None:
            return False
        for rank in side.ranks:
            for order in side.queues[-rank * direction]:
                if fill.order_id != order.order_id or fill.price != order.price or fill.size > order.size:
                    return False
                following = next(left, None)
                if following is None:
                    return True
                if fill.size < order.size:
                    return False
                fill = following
        return False

    def queue_text(self, direction: int) -> str:
        side = self.sides[direction]
        head = side.queues[-side.ranks[0] * direction][:4] if side.ranks else []
        return ", ".join(f"{order.order_id}:{order.size}@{order.price}" for order in head) or "empty"

    # What a row gives.

    def inject(self, row: int, direction: int, price: int, size: int) -> None:
        """Stand up one level that came into view: first the orders that later messages name, then one for the rest."""
        rest = size
        key_last = 2 * self.id_seen_max
        for order_id, touched in self.prescan.orders(row, direction, price):
            part = min(touched, rest)
            if part and order_id not in self.orders:
                self.enter(order_id, 2 * order_id, direction, price, part)
                key_last = max(key_last, 2 * order_id)
                rest -= part
        if rest:
            self.enter(self.anonymous_next, key_last + 1, direction, price, rest)
            self.anonymous_next += 1

    def forget_beyond(self) -> None:
        """Cancel what stands at a level that the file does not show."""
        for side in self.sides.values():
            while len(side.ranks) > self.day.levels:
                for order in list(side.queues[side.deepest()]):
                    self.expect(self.venue.cancel(order.order_id), "cancel", order)
                    self.forget(order, order.size)

    def compare(self, row: int, wanted: tuple[Levels, Levels], emptied: tuple[int, int]) -> bool:
        """Every level of the venue must stand in the row; only as many may be missing as the messages emptied."""
        report = self.report
        report.rows += 1
        started = perf_counter()
        got = self.venue.book(self.day.levels)
        report.book_seconds += perf_counter() - started
        for shown, told, gone in zip(got, wanted, emptied, strict=True):
            if shown != told and (shown != told[: len(shown)] or len(told) - len(shown) > gone):
                report.differs(
                    f"row {row + 1}: the book shows bids {got[0]}, asks {got[1]} instead of {wanted[0]}, {wanted[1]}"
                )
                return False
        report.exact += 1
        return True

    def reveal(self, row: int, wanted: tuple[Levels, Levels]) -> None:
        """Inject the levels of the row that stand deeper than all that is known."""
        for direction, told in zip((1, -1), wanted, strict=True):
            side = self.sides[direction]
            for price, size in told[len(side.ranks) :]:
                if not side.ranks or -price * direction > side.ranks[-1]:
                    self.inject(row, direction, price, size)
                    self.report.revealed += 1


def play(
    day: LobsterDay,
    venue: Venue,
    grouped: bool = False,
    progress: Callable[[int, int], None] | None = None,
    messages_max: int | None = None,
) -> LobsterReport:
    """Play `day` through `venue`, which must be empty, and compare the book with the day's row after each message.

    `grouped`: executions of one time and direction are one aggressor at the worst price, and rows are compared after
    the last. `progress(done, all)` is called now and then; `messages_max` ends the day early.
    """
    report = LobsterReport(day.path.name, "grouped" if grouped else "message")
    started = perf_counter()
    player = _Player(day, venue, report)
    count = min(day.messages, messages_max or day.messages)
    bids, asks = _rows(day.bids[:count]), _rows(day.asks[:count])
    columns = [
        column[:count].tolist() for column in (day.types, day.ids, day.sizes, day.prices, day.directions, day.times_ns)
    ]
    types, ids, sizes, prices, directions, times = columns
    if types[0] <= MessageType.EXECUTE:
        player.id_seen_max = ids[0]
    player.reveal(0, (bids[0], asks[0]))
    report.revealed = 0
    row = 1
    while row < count:
        kind, order_id, size, price, direction = types[row], ids[row], sizes[row], prices[row], directions[row]
        last = row
        held = len(player.sides[1].ranks), len(player.sides[-1].ranks)
        exceptions = report.exceptions
        if kind <= MessageType.EXECUTE:
            player.id_seen_max = max(player.id_seen_max, order_id)
        if kind == MessageType.ADD:
            player.enter(order_id, 2 * order_id, direction, price, size)
        elif kind in (MessageType.REDUCE, MessageType.DELETE):
            player.take_off(order_id, size, kind == MessageType.DELETE, row)
        elif kind in (MessageType.EXECUTE, MessageType.EXECUTE_HIDDEN):
            while (
                grouped
                and last + 1 < count
                and types[last + 1] in (MessageType.EXECUTE, MessageType.EXECUTE_HIDDEN)
                and times[last + 1] == times[row]
                and directions[last + 1] == direction
            ):
                last += 1
            fills = [Fill(ids[i], sizes[i], prices[i]) for i in range(row, last + 1) if types[i] == MessageType.EXECUTE]
            if fills:
                player.aggress(row, fills, direction)
        player.forget_beyond()
        left = len(player.sides[1].ranks), len(player.sides[-1].ranks)
        wanted = bids[last], asks[last]
        if not player.compare(last, wanted, (held[0] - left[0], held[1] - left[1])) and report.exceptions > exceptions:
            report.exception_rows += 1
        player.reveal(last, wanted)
        if progress is not None and (row & 1023) == 0:
            progress(row, count)
        row = last + 1
    if progress is not None:
        progress(count, count)
    report.seconds = perf_counter() - started
    return report


def _rows(side: Array) -> list[Levels]:
    return [[(price, size) for price, size in row if size] for row in side.tolist()]
