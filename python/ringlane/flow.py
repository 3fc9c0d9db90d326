"""The seeded order flow: what `make run`, the tests and the measurements send.

Here stands what orders look like, not where they go: no client and no clock. One block of records is made once, by a
small book of the flow's own that knows what must come out; every round sends the block again under new ids.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["BLOCK_RECORDS", "COLUMNS", "OrderFlow"]

Array = npt.NDArray[Any]

#: Records in a block. At its end nothing of it rests, so the books stay bounded however many rounds are sent.
BLOCK_RECORDS = 1 << 16
#: Resting orders in one symbol that the flow steers for, and does not pass.
RESTING_TARGET, RESTING_MAX = 32, 64
#: Farthest that the middle walks from the reference price, and a passive order stands from the middle, ticks.
WALK_TICKS_MAX, DEPTH_TICKS_MAX = 20, 10
#: Above the default limit of one order.
QUANTITY_OVER_LIMIT = 1_000_001
#: No sidecar has this symbol and this account unless it is configured for them.
SYMBOL_UNKNOWN, ACCOUNT_UNKNOWN = 65_535, 16_777_215
#: Draws that one record may use.
_DRAWS_PER_RECORD = 10

# Numbers of the order protocol (layout/src/orders.rs); the tests hold them against the lane's own enums.
_NEW, _CANCEL, _REDUCE, _REPLACE = 1, 2, 3, 4
_BUY, _SELL = 1, 2
_LIMIT, _MARKET = 1, 2
_GTC, _IOC, _FOK = 1, 2, 3
_POST_ONLY = 1

#: Fields of an order request that the flow fills; the rest is zero.
COLUMNS = (
    "op",
    "side",
    "order_type",
    "time_in_force",
    "symbol",
    "account",
    "flags",
    "client_order_id",
    "price",
    "quantity",
)

#: Reasons for which about two in a hundred records must be rejected.
REJECTS = (
    "UNKNOWN_OP",
    "UNKNOWN_SIDE",
    "BAD_COMBINATION",
    "UNKNOWN_SYMBOL",
    "UNKNOWN_ACCOUNT",
    "QUANTITY_NOT_POSITIVE",
    "PRICE_NOT_POSITIVE",
    "OFF_TICK",
    "DUPLICATE_ORDER_ID",
    "UNKNOWN_ORDER_ID",
    "OVER_REDUCTION",
    "ORDER_SIZE_LIMIT",
    "PRICE_COLLAR",
    "WOULD_CROSS",
    "NOT_FILLABLE",
)


class OrderFlow:
    """An endless stream of order requests: the same seed and shape, the same bytes.

    `symbols`: numbers 1 to `symbols` are traded; with several workers each trades its own share of them in its own
    share of the accounts 1 to `accounts`, so that no worker's answers depend on when another one runs. (More workers
    than symbols share.) `references`: price of each symbol around which its prices walk, price units, a multiple of
    `tick`; default 100.0000 for all.

    >>> flow = OrderFlow(seed=7, symbols=4, accounts=100)
    >>> dtype = np.dtype([(name, np.int64) for name in COLUMNS])
    >>> first, second = OrderFlow(7, 4, 100).records(1000, dtype), flow.records(1000, dtype)
    >>> bool((first == second).all())
    True
    """

    def __init__(
        self,
        seed: int,
        symbols: int = 64,
        accounts: int = 10_000,
        worker: int = 0,
        workers: int = 1,
        *,
        references: Sequence[int] | None = None,
        tick: int = 100,
    ) -> None:
        if not 0 <= worker < workers:
            raise ValueError(f"worker is {worker}; it must be 0 to {workers - 1}")
        if symbols < 1 or accounts < workers:
            raise ValueError(
                f"{symbols} symbols and {accounts} accounts; at least 1 symbol and one account a worker are needed"
            )
        if references is not None and len(references) != symbols:
            raise ValueError(f"{len(references)} reference prices for {symbols} symbols")
        self.symbols = list(range(worker % symbols + 1, symbols + 1, workers))
        #: First and last account of this worker.
        self.accounts = (worker * accounts // workers + 1, (worker + 1) * accounts // workers)
        prices = [1_000_000] * symbols if references is None else [int(price) for price in references]
        self._references = {symbol: prices[symbol - 1] for symbol in self.symbols}
        maker = _BlockMaker(_draws(seed, worker, workers), self.symbols, self.accounts, self._references, tick)
        #: For each record of a block, the index in `REJECTS` of why it must be rejected, or -1; and its fills as taker.
        self.block_rejects, self.block_fills = np.array(maker.rejects, np.int16), np.array(maker.fills, np.int32)
        #: Most orders of this flow that rest at one time.
        self.resting_max = maker.resting_max
        self._columns = dict(zip(COLUMNS, map(np.array, zip(*maker.rows, strict=True)), strict=True))
        self._blocks: tuple[Array, Array] | None = None
        self._dtype: np.dtype[Any] | None = None
        #: Records sent so far.
        self.position = 0

    def fill(self, slots: Array) -> None:
        """Write the next `len(slots)` records into `slots`: contiguous, of the lane's `request_dtype`."""
        if slots.dtype is not self._dtype and (self._dtype is None or slots.dtype != self._dtype):
            self._prepare(slots.dtype)
        assert self._blocks is not None
        words = slots.view(np.uint64).reshape(len(slots), slots.dtype.itemsize // 8)
        done = 0
        while done < len(slots):
            round_number, at = divmod(self.position, BLOCK_RECORDS)
            count = min(BLOCK_RECORDS - at, len(slots) - done)
            part = words[done : done + count]
            part[:] = self._blocks[round_number & 1][at : at + count]
            part[:, self._id_word] += np.uint64(round_number * BLOCK_RECORDS)
            done += count
            self.position += count

    def records(self, count: int, dtype: np.dtype[Any]) -> Array:
        """The next `count` records in an array of their own."""
        array = np.zeros(count, dtype)
        self.fill(array)
        return array

    def expected(self, count: int) -> tuple[Counter[str], int]:
        """What the first `count` records give in empty books: rejections by name of `RejectCode`, and fills."""
        rounds, rest = divmod(count, BLOCK_RECORDS)
        rejects, fills = np.zeros(len(REJECTS), np.int64), 0
        for part, times in ((slice(None), rounds), (slice(rest), 1)):
            kinds = self.block_rejects[part]
            rejects += times * np.bincount(kinds[kinds >= 0], minlength=len(REJECTS))
            fills += times * int(self.block_fills[part].sum())
        return Counter({name: number for name, number in zip(REJECTS, rejects.tolist(), strict=True) if number}), fills

    def _prepare(self, dtype: np.dtype[Any]) -> None:
        """Lay the block out as `dtype` says, and beside it its mirror image.

        Odd rounds send the mirror: buys for sells and prices reflected at the reference. So each account's position
        returns to zero every second round, and no limit is reached however long the flow runs.
        """
        plain = np.zeros(BLOCK_RECORDS, dtype)
        for name, values in self._columns.items():
            plain[name] = values
        mirror = plain.copy()
        side = self._columns["side"]
        mirror["side"] = np.where((side == _BUY) | (side == _SELL), _BUY + _SELL - side, side)
        price = self._columns["price"]
        known = np.isin(self._columns["symbol"], self.symbols)
        references = np.array([self._references.get(symbol, 0) for symbol in self._columns["symbol"].tolist()])
        mirror["price"] = np.where((price > 0) & known, 2 * references - price, price)
        fields = dtype.fields
        assert fields is not None
        assert dtype.itemsize % 8 == 0 == fields["client_order_id"][1] % 8
        self._id_word = fields["client_order_id"][1] // 8
        self._blocks = tuple(block.view(np.uint64).reshape(BLOCK_RECORDS, -1) for block in (plain, mirror))  # type: ignore[assignment]
        self._dtype = dtype


def _draws(seed: int, worker: int, workers: int) -> Iterator[int]:
    """Random 32-bit numbers. Raw bits of the generator, because only those are the same in every version of numpy."""
    raw = np.random.PCG64(np.random.SeedSequence([seed, worker, workers])).random_raw(BLOCK_RECORDS * _DRAWS_PER_RECORD)
    return iter((raw >> np.uint64(32)).tolist())


class _Order:
    __slots__ = ("account", "book", "client_id", "live_at", "price", "quantity", "side")

    def __init__(self, client_id: int, account: int, book: _Book, side: int, price: int, quantity: int) -> None:
        self.client_id, self.account, self.book, self.side, self.price, self.quantity = (
            client_id,
            account,
            book,
            side,
            price,
            quantity,
        )
        self.live_at = 0


class _Book:
    """One symbol: queues by price in ticks from the reference, and all live orders for a random pick."""

    __slots__ = ("live", "middle", "queues", "reference", "symbol", "traded")

    def __init__(self, symbol: int, reference: int) -> None:
        self.symbol, self.reference, self.middle, self.traded = symbol, reference, 0, False
        self.queues: dict[int, dict[int, list[_Order]]] = {_BUY: {}, _SELL: {}}
        self.live: list[_Order] = []

    def best(self, side: int) -> int | None:
        queue = self.queues[side]
        return (max(queue) if side == _BUY else min(queue)) if queue else None

    def stand(self, order: _Order) -> None:
        self.queues[order.side].setdefault(order.price, []).append(order)

    def leave(self, order: _Order) -> None:
        queue = self.queues[order.side][order.price]
        queue.remove(order)
        if not queue:
            del self.queues[order.side][order.price]

    def enlist(self, order: _Order) -> None:
        order.live_at = len(self.live)
        self.live.append(order)

    def strike(self, order: _Order) -> None:
        last = self.live.pop()
        if last is not order:
            last.live_at = order.live_at
            self.live[last.live_at] = last

    def within(self, side: int, limit: int | None) -> int:
        """Quantity on the other side of an order of `side` that `limit` reaches."""
        against = self.queues[_SELL if side == _BUY else _BUY]
        sign = 1 if side == _BUY else -1
        return sum(
            order.quantity
            for at, queue in against.items()
            if limit is None or (limit - at) * sign >= 0
            for order in queue
        )

    def match(self, side: int, limit: int | None, quantity: int) -> tuple[int, int]:
        """Trade as taker: what is left, and the number of fills."""
        other, sign, fills = (_SELL, 1, 0) if side == _BUY else (_BUY, -1, 0)
        while quantity:
            at = self.best(other)
            if at is None or (limit is not None and (limit - at) * sign < 0):
                break
            maker = self.queues[other][at][0]
            part = min(quantity, maker.quantity)
            quantity -= part
            maker.quantity -= part
            fills += 1
            if not maker.quantity:
                self.leave(maker)
                self.strike(maker)
        self.traded |= fills > 0
        return quantity, fills


class _BlockMaker:
    """Makes the block: rows of `COLUMNS`, and for each why it must be rejected and its fills."""

    def __init__(
        self, draws: Iterator[int], symbols: list[int], accounts: tuple[int, int], references: dict[int, int], tick: int
    ) -> None:
        self.draws, self.accounts, self.tick = draws, accounts, tick
        self.books = [_Book(symbol, references[symbol]) for symbol in symbols]
        self.rows: list[tuple[int, ...]] = []
        self.rejects: list[int] = []
        self.fills: list[int] = []
        self.resting = self.resting_max = 0
        for index in range(BLOCK_RECORDS):
            self.client_id = index + 1
            left = BLOCK_RECORDS - index
            if self.resting >= left - 1 and self.resting:
                self.cancel(next(book for book in self.books if book.live))
            else:
                self.step(self.books[self.draw(len(self.books))], left == 1)
            self.resting_max = max(self.resting_max, self.resting)

    def draw(self, below: int) -> int:
        return next(self.draws) % below

    def row(
        self,
        book: _Book,
        account: int,
        client_id: int,
        price: int | None,
        quantity: int,
        exact_price: int | None = None,
        **other: int,
    ) -> None:
        """One record; `price` in ticks from the reference, None for 0, or `exact_price` in price units."""
        units = 0 if price is None else book.reference + price * self.tick
        values = {
            "op": _NEW,
            "side": _BUY,
            "order_type": _LIMIT,
            "time_in_force": _GTC,
            "symbol": book.symbol,
            "flags": 0,
        } | other
        values |= {
            "account": account,
            "client_order_id": client_id,
            "price": units if exact_price is None else exact_price,
            "quantity": quantity,
        }
        self.rows.append(tuple(values[name] for name in COLUMNS))
        self.rejects.append(-1)
        self.fills.append(0)

    def step(self, book: _Book, last: bool) -> None:
        """One record on one book: mostly an ordinary one."""
        dice = self.draw(100)
        if last or dice < 2:
            self.reject(book, "UNKNOWN_ORDER_ID" if last else REJECTS[self.draw(len(REJECTS))])
        elif len(book.live) < 4 or (dice < 46 and len(book.live) < RESTING_MAX):
            self.passive(book)
        elif dice < 66 or len(book.live) > RESTING_TARGET:
            self.cancel(book)
        elif dice < 72:
            self.reduce(book)
        elif dice < 80:
            self.replace(book)
        else:
            self.marketable(book, dice)

    def account(self) -> int:
        first, final = self.accounts
        return first + self.draw(final - first + 1)

    def quiet_price(self, book: _Book, side: int) -> int:
        """A price near the middle that does not trade."""
        book.middle += self.draw(16) // 7 - 1 if self.draw(4) == 0 else 0
        book.middle = max(-WALK_TICKS_MAX, min(WALK_TICKS_MAX, book.middle))
        away = 1 + min(self.draw(DEPTH_TICKS_MAX), self.draw(DEPTH_TICKS_MAX))
        if side == _BUY:
            top = book.best(_SELL)
            return book.middle - away if top is None else min(book.middle - away, top - 1)
        top = book.best(_BUY)
        return book.middle + away if top is None else max(book.middle + away, top + 1)

    def passive(self, book: _Book) -> None:
        side = _BUY + self.draw(2)
        order = _Order(self.client_id, self.account(), book, side, self.quiet_price(book, side), 1 + self.draw(200))
        self.row(
            book,
            order.account,
            order.client_id,
            order.price,
            order.quantity,
            side=side,
            flags=_POST_ONLY * self.draw(2),
        )
        self.rest(order)

    def rest(self, order: _Order) -> None:
        order.book.stand(order)
        order.book.enlist(order)
        self.resting += 1

    def cancel(self, book: _Book) -> None:
        order = book.live[self.draw(len(book.live))]
        self.row(book, order.account, order.client_id, None, 0, op=_CANCEL)
        self.remove(order)

    def remove(self, order: _Order) -> None:
        order.book.leave(order)
        order.book.strike(order)
        self.resting -= 1

    def reduce(self, book: _Book) -> None:
        order = book.live[self.draw(len(book.live))]
        part = 1 + self.draw(order.quantity)
        self.row(book, order.account, order.client_id, None, part, op=_REDUCE)
        order.quantity -= part
        if not order.quantity:
            self.remove(order)

    def replace(self, book: _Book) -> None:
        order = book.live[self.draw(len(book.live))]
        price = self.quiet_price(book, order.side) if self.draw(4) else order.price
        quantity = 1 + self.draw(200)
        self.row(book, order.account, order.client_id, price, quantity, op=_REPLACE, side=order.side)
        if price != order.price or quantity > order.quantity:
            book.leave(order)
            order.price = price
            book.stand(order)
        order.quantity = quantity

    def marketable(self, book: _Book, dice: int) -> None:
        """An order that trades at once: a limit that may rest, immediate-or-cancel, fill-or-kill, or at the market."""
        side = _BUY + self.draw(2)
        best = book.best(_SELL if side == _BUY else _BUY)
        if best is None:
            return self.passive(book)
        limit: int | None = best + self.draw(3) * (1 if side == _BUY else -1)
        quantity, order_type, time_in_force = 1 + self.draw(300), _LIMIT, (_GTC, _IOC, _FOK, _IOC)[dice % 4]
        if time_in_force == _FOK:
            quantity = min(quantity, book.within(side, limit))
        elif dice % 4 == 3:
            order_type, limit = _MARKET, None
        account, resting = self.account(), len(book.live)
        other = {"side": side, "order_type": order_type, "time_in_force": time_in_force}
        self.row(book, account, self.client_id, limit, quantity, **other)
        rest, self.fills[-1] = book.match(side, limit, quantity)
        self.resting += len(book.live) - resting
        if rest and time_in_force == _GTC and limit is not None:
            self.rest(_Order(self.client_id, account, book, side, limit, rest))

    def reject(self, book: _Book, reason: str) -> None:
        """A record with one fault; where the book has no order for it, a cancel of an id that nobody entered."""
        side = _BUY + self.draw(2)
        best = book.best(_SELL if side == _BUY else _BUY)
        lacks_order = reason in ("DUPLICATE_ORDER_ID", "OVER_REDUCTION") and not book.live
        lacks_price = reason in ("WOULD_CROSS", "NOT_FILLABLE") and best is None
        lacks_all = (reason == "PRICE_COLLAR" and not book.traded) or (reason == "OFF_TICK" and self.tick == 1)
        if lacks_order or lacks_price or lacks_all:
            reason = "UNKNOWN_ORDER_ID"
        account, client_id, price, quantity = (
            self.account(),
            self.client_id,
            self.quiet_price(book, side),
            1 + self.draw(200),
        )
        other: dict[str, int] = {"side": side}
        if reason in ("DUPLICATE_ORDER_ID", "OVER_REDUCTION"):
            order = book.live[self.draw(len(book.live))]
            account, client_id = order.account, order.client_id
            if reason == "OVER_REDUCTION":
                other["op"], quantity = _REDUCE, order.quantity + 1
        elif reason in ("WOULD_CROSS", "NOT_FILLABLE") and best is not None:
            price = best
            if reason == "WOULD_CROSS":
                other["flags"] = _POST_ONLY
            else:
                other["time_in_force"], quantity = _FOK, book.within(side, price) + 1
        elif reason == "QUANTITY_NOT_POSITIVE":
            quantity = -quantity * self.draw(2)
        elif reason == "ORDER_SIZE_LIMIT":
            quantity = QUANTITY_OVER_LIMIT
        else:
            units = book.reference + price * self.tick
            other |= {
                "UNKNOWN_OP": {"op": 99},
                "UNKNOWN_SIDE": {"side": 7},
                "BAD_COMBINATION": {"flags": _POST_ONLY, "time_in_force": _IOC},
                "UNKNOWN_SYMBOL": {"symbol": SYMBOL_UNKNOWN},
                "UNKNOWN_ACCOUNT": {},
                "PRICE_NOT_POSITIVE": {"exact_price": -units * self.draw(2)},
                "OFF_TICK": {"exact_price": units + self.tick // 2},
                "UNKNOWN_ORDER_ID": {"op": _CANCEL},
                "PRICE_COLLAR": {"exact_price": book.reference + book.reference // (2 * self.tick) * self.tick},
            }[reason]
            account = ACCOUNT_UNKNOWN if reason == "UNKNOWN_ACCOUNT" else account
        self.row(book, account, client_id, price, quantity, **other)
        self.rejects[-1] = REJECTS.index(reason)
