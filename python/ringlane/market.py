"""Market data: trades, the best of each side and changes of price levels, read from the sidecar's broadcast ring."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import mmap
import os
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ._shim import LAYOUT_VERSION, RinglaneError, SchemaMismatch, SidecarLost, SidecarUnavailable
from .enums import MarketKind, Side
from .queries import Book, Rows
from .schema import Schema
from .wire import ControlSocket, NotPermitted, close_all, read_rows

if TYPE_CHECKING:
    from .client import Client

_MAGIC = int.from_bytes(b"RLMKT001", "little")
_HEADER_WORDS, _WRITTEN, _CLAIMED = 512, 16, 32
_F_GET_SEALS, _SEALS = 1034, 1 | 2 | 4 | 16  # seal, shrink, grow, future write (linux/fcntl.h)
_SYMBOLS_MAX = 1 << 16
_NEVER = np.uint64(2**64 - 1)
_PENDING_MAX = 1 << 16  # records that wait for somebody to ask for a book
_PRICE_BITS = np.uint64(36)  # of every price (ORDER_PRICE_MAX)
_FEW = 1024  # levels of which it is not worth looking for the last ones
_SLOT_SHIFT, _MULTIPLIER = np.uint64(48), np.uint64(0x9E37_79B9_7F4A_7C15)
_SPIN_SECONDS = 50e-6
_SNAPSHOTS_MAX = 100  # in a row that were overtaken by the ring before one was of use


class MarketFeed:
    """A reader of the broadcast; made by `client.market_data()`. An iterator of batches, also an asynchronous one.

    Records are structured arrays with the fields of the record `MarketRecord` (`feed.dtype`; `feed.schema` has their
    words): `kind` (a `MarketKind`), symbol, number, sequence, price, quantity, side, order_count, k, ask_price,
    ask_quantity, ends_batch. Whoever applies all that `read` gives, in order, has the books: `CLEAR` empties a symbol's,
    `LEVEL` says what a price has now. A level that changed several times in one batch of the sidecar is told once, as the
    batch leaves it, and not at all when that is as it was before. Trades are told each, by price, quantity and the side that took.

    The sidecar knows of no reader and waits for none. Whoever falls behind by more than the ring holds gets a `GAP` record:
    the numbers `sequence` to `number` are missing. Unless `resync` was switched off, the snapshot that follows it in the same
    array makes the books right again; trades in the gap are lost (a recording has them).

    When the sidecar is started anew, the feed goes on as soon as its client has come back (`reconnect_timeout` of `connect`): what
    the old ring had is read to its end, then comes a `GAP` whose `sequence` is the number that would have been next and whose
    `number` is 0 (numbers begin at 1 again, in another `epoch`), and the snapshot that follows it says what the books are now.

    Attributes: `epoch` (another one after each start of the sidecar, when numbers begin anew at 1), `number` and `sequence`
    of the last record read, `gaps` and `missed` (gaps, and records in them, so far).

    >>> import ringlane
    >>> with ringlane.Sidecar() as sidecar, ringlane.connect(sidecar.address) as client:
    ...     feed = client.market_data(["AAPL"])
    ...     snapshot = feed.read()
    ...     lane = client.open("orders", depth=64)
    ...     ids, prices = [1, 2, 3], ["10", "10", "11"]
    ...     sell = lane.batch(symbol="AAPL", side="SELL", account=1, client_order_id=ids, price=prices, quantity=5)
    ...     codes = lane.process(sell, copy=True)["code"]
    ...     changes = feed.read(timeout=10)
    ...     [(ringlane.MarketKind(r["kind"]).name, int(r["price"]), int(r["quantity"])) for r in changes[:2]]
    ...     feed.book("AAPL").asks["quantity"].tolist()
    [('LEVEL', 100000, 10), ('LEVEL', 110000, 5)]
    [10, 5]
    """

    def __init__(
        self, client: Client, symbols: Iterable[str | int] | None, levels: int, poll_interval: float, resync: bool
    ) -> None:
        if levels < 0:
            raise ValueError(f"levels must be 1 or more, or 0 to keep no books; not {levels}")
        if not poll_interval > 0:
            raise ValueError(f"poll_interval must be seconds above 0, not {poll_interval!r}")
        self._client = client
        names = [symbols] if isinstance(symbols, (str, int)) else symbols
        self._symbols = None if names is None else sorted({self._symbol(name) for name in names})
        self.levels = levels
        self.poll_interval = poll_interval
        self.resync = resync
        self.gaps = self.missed = 0
        self._lock = threading.RLock()
        self._order = threading.Lock()
        self._connection: ControlSocket | None = None  # which gave the ring
        self._header: npt.NDArray[np.uint64] | None = None
        self._ring: npt.NDArray[np.uint8] | None = None
        self._queued: list[Rows] = []
        self._is_closed = False
        self._next = 0  # records that were read or passed over
        self._floor = np.zeros(0, np.uint64)  # by symbol: records up to this number are of no use
        self._pending: list[Rows] = []
        self._pending_count = 0
        self._slots = np.zeros(1 << (64 - int(_SLOT_SHIFT)), np.int32)  # scratch
        self._lost: int | None = None  # first number that is missing, until books are made anew
        self._queued = [self._take_snapshot()]

    # ---- reading ----

    def read(self, max_records: int = 65_536, timeout: float | None = 0.0) -> Rows:
        """The records that came since the last call, oldest first, in an array of shape (n,) of its own; n may be 0.

        The first call gives a snapshot of the books. At most `max_records` come (a snapshot comes whole), and whole batches
        as long as one fits. With a `timeout` (seconds; None: without end) it waits for the first one: it looks, sleeps
        `poll_interval`, and looks again, because nobody rings for readers.

        Raises `SidecarLost` when the sidecar ended, everything was read and no other one comes; `RinglaneError` when the feed
        is closed.
        """
        if max_records < 1:
            raise ValueError(f"max_records must be 1 or more, not {max_records}")
        deadline = None if timeout is None else time.monotonic() + timeout
        spin_end = time.perf_counter() + _SPIN_SECONDS
        while True:
            records = self._read(max_records)
            if len(records):
                return records
            is_over = deadline is not None and time.monotonic() >= deadline
            if (is_over or time.perf_counter() > spin_end) and self._follow():
                continue
            if is_over:
                return records
            if time.perf_counter() > spin_end:
                rest = self.poll_interval if deadline is None else min(self.poll_interval, deadline - time.monotonic())
                time.sleep(max(rest, 0.0))

    def snapshot(self) -> Rows:
        """The books as they are now: for each symbol a `CLEAR`, its `LEVEL`s (bids best first, then asks best first) and a `TOP`.

        What was not read before it is passed over: the feed goes on behind the snapshot. Each symbol's rows are true at the
        `number` and `sequence` that they have.
        """
        with self._lock:
            self._queued.clear()
            return self._take_snapshot()

    def book(self, symbol: str | int) -> Book:
        """The best `levels` of each side as far as the feed was read: what `client.book` gave after that `sequence`.

        Raises `KeyError` for a symbol that the feed does not have, `RinglaneError` after a gap that was not made good, and
        where the feed keeps no books.
        """
        number = self._symbol(symbol)
        with self._lock:
            if self.levels == 0:
                raise RinglaneError("this feed keeps no books; use client.market_data(levels=10)")
            if self._floor[number] == _NEVER:
                raise KeyError(f"this feed does not have the symbol {symbol!r}")
            if self._lost is not None:
                raise RinglaneError(
                    f"records from {self._lost} on are missing; call snapshot() to make the books right"
                )
            self._fold()
            held = self._book[(self._book["symbol"] == number) & (self._book["order_count"] > 0)]
            dtype = self._client._rows["BookLevel"].dtype
            sides = []
            for side in (Side.BUY, Side.SELL):
                levels = held[held["side"] == side]
                levels = levels[np.argsort(levels["price"])]
                levels = (levels[::-1] if side == Side.BUY else levels)[: self.levels]
                rows = np.zeros(len(levels), dtype)
                for name in ("price", "quantity", "order_count", "side"):
                    rows[name] = levels[name]
                sides.append(rows)
            return Book(max(self.sequence, self._sequences.get(number, 0)), number, sides[0], sides[1])

    def __iter__(self) -> Iterator[Rows]:
        """Batches as they come, none of them empty, until the feed is closed."""
        while not self._is_closed:
            with contextlib.suppress(_Closed):
                yield self.read(timeout=None)

    async def __aiter__(self) -> AsyncIterator[Rows]:
        """As `__iter__`, for an event loop: it looks every `poll_interval`."""
        while not self._is_closed:
            records = self.read()
            if len(records):
                yield records
                await asyncio.sleep(0)
            elif not self._follow():
                await asyncio.sleep(self.poll_interval)

    def close(self) -> None:
        """Ends the feed; arrays that it gave stay. Idempotent."""
        with self._lock:
            self._is_closed = True
            self._header = self._ring = None
            self._queued.clear()

    def __enter__(self) -> MarketFeed:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        what = "all symbols" if self._symbols is None else f"{len(self._symbols)} symbols"
        return f"<ringlane.MarketFeed of {what}, read up to {self.number}>"

    # ---- the ring ----

    def _read(self, max_records: int) -> Rows:
        with self._lock:
            if self._is_closed:
                raise _Closed("this feed is closed; use client.market_data() for a new one")
            if self._queued:
                return self._queued.pop(0)
            copied = self._copy(max_records)
            if copied is None:
                return self._miss()
            if not len(copied):
                return copied
            # Whole batches, unless the first one alone is too large.
            if not copied["ends_batch"][-1]:
                ends = np.flatnonzero(copied["ends_batch"])
                if len(ends):
                    copied = copied[: ends[-1] + 1]
            first, self._next = self._next, self._next + len(copied)
            self.number, self.sequence = self._next, int(copied["sequence"][-1])
            # All symbols, and none of them was looked at later for the snapshot: everything is of use.
            if first < self._floor_last:
                fresh = copied["number"] > self._floor[copied["symbol"]]
                copied = copied if fresh.all() else copied[fresh]
            self._hold(copied)
            return copied

    def _copy(self, max_records: int) -> Rows | None:
        """A copy of what is there; None when it was overwritten before or meanwhile."""
        header, ring = self._header, self._ring
        assert header is not None
        assert ring is not None
        capacity = len(ring)
        count = min(max(int(header[_WRITTEN]) - self._next, 0), max_records, capacity)
        self._fence()
        records = np.empty((count, ring.shape[1]), np.uint8)
        at = self._next % capacity
        head = min(count, capacity - at)
        records[:head] = ring[at : at + head]
        records[head:] = ring[: count - head]
        self._fence()
        if int(header[_CLAIMED]) - self._next > capacity:
            return None
        return records.reshape(-1).view(self.dtype)

    def _fence(self) -> None:
        """Loads before it are done before loads behind it: an atomic release, then an atomic acquire."""
        for _ in range(2):
            with self._order:
                pass

    def _miss(self) -> Rows:
        """What a reader gets that was too slow: the gap, and what makes it good."""
        assert self._header is not None
        first, last = self._next + 1, int(self._header[_WRITTEN])
        gap = np.zeros(1, self.dtype)
        if not self.resync:
            self._next = self.number = last
            self._lost = self._lost or first
            self._pending.clear()
            snapshot = gap[:0]
        else:
            epoch = self.epoch
            snapshot = self._take_snapshot()
            last = self._next
            if self.epoch != epoch:
                return self._anew(first, snapshot)
        gap["kind"], gap["sequence"], gap["number"] = MarketKind.GAP, first, last
        self.gaps += 1
        self.missed += last - first + 1
        return np.concatenate([gap, snapshot])

    # ---- books ----

    def _take_snapshot(self) -> Rows:
        """Asks for the books, and begins to read the ring where they were true."""
        if self._is_closed:
            raise _Closed("this feed is closed; use client.market_data() for a new one")
        for _ in range(_SNAPSHOTS_MAX):
            rows = self._ask()
            assert self._header is not None
            assert self._ring is not None
            clears = rows[rows["kind"] == MarketKind.CLEAR]
            self._next = int(clears["number"].min()) if len(clears) else int(self._header[_WRITTEN])
            # Nothing may have been overwritten since the first book was looked at, or the others would lack it.
            if int(self._header[_CLAIMED]) - self._next <= len(self._ring):
                break
        else:
            raise RinglaneError(
                f"{_SNAPSHOTS_MAX} snapshots in a row were overtaken; give the ring more [market_data] records"
            )
        self.number, self.sequence = self._next, int(clears["sequence"].min()) if len(clears) else 0
        self._floor = np.full(_SYMBOLS_MAX + 1, 0 if self._symbols is None else _NEVER, np.uint64)
        self._floor[clears["symbol"]] = clears["number"]
        self._floor_last = int(self._floor.max())
        self._sequences = dict(zip(clears["symbol"].tolist(), clears["sequence"].tolist(), strict=True))
        self._book, self._keys = rows[:0].copy(), np.zeros(0, np.uint64)
        if self.levels:
            self._apply(rows[rows["kind"] == MarketKind.LEVEL])
        self._pending = []
        self._pending_count = 0
        self._lost = None
        return rows

    def _ask(self) -> Rows:
        message: dict[str, Any] = {} if self._symbols is None else {"symbols": self._symbols}
        # A client that comes back after its sidecar's end has another connection; this feed's ring is the old one's.
        self._connection = control = self._client._control
        reply, files = control.request(op="market_data", **message)
        try:
            if self._header is None or reply["epoch"] != self.epoch:
                self.schema = Schema.from_message(reply["record"])
                self.dtype = self.schema.dtype
                self.epoch: int = reply["epoch"]
                self._map(files[0], reply)
            data = read_rows(files[1], reply["rows"] * self.dtype.itemsize)
        finally:
            close_all(files)
        return np.frombuffer(data, self.dtype)

    def _map(self, file: int, reply: dict[str, Any]) -> None:
        size, capacity, offset = reply["ring_bytes"], reply["capacity"], reply["ring_offset"]
        seals = fcntl.fcntl(file, _F_GET_SEALS)
        if os.fstat(file).st_size != size or seals & _SEALS != _SEALS or size != offset + capacity * self.schema.size:
            raise SchemaMismatch("the ring of market data is not sealed, or has another size than was announced")
        mapped = mmap.mmap(file, size, mmap.MAP_SHARED, mmap.PROT_READ)
        header = np.frombuffer(mapped, np.uint64, _HEADER_WORDS)
        stated = [int(word) for word in header[:5]]
        version = LAYOUT_VERSION | self.schema.size << 32
        if stated != [_MAGIC, version, capacity, self.epoch, int(self.schema.hash, 16)]:
            raise SchemaMismatch("the ring of market data is of another layout version")
        self._header = header
        self._ring = np.frombuffer(mapped, np.uint8, capacity * self.schema.size, offset).reshape(capacity, -1)

    def _hold(self, records: Rows) -> None:
        """Keeps what changes books until somebody asks for one."""
        if self.levels == 0:
            return
        at = np.flatnonzero(records["kind"] == MarketKind.LEVEL)
        if len(at) and self._lost is None:
            # A busy reader gets each level many times at once: only its last record counts.
            levels = records[at[self._latest(_keys(records)[at])] if len(at) > _FEW else at]
            self._pending.append(levels)
            self._pending_count += len(levels)
            if self._pending_count > _PENDING_MAX:
                self._fold()

    def _latest(self, keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.intp]:
        """Ascending places that have the last one of each key among them, and few others: those that share a slot with another."""
        slots = (keys * _MULTIPLIER) >> _SLOT_SHIFT
        order = np.arange(len(keys), dtype=np.int32)
        self._slots[slots] = order
        last = self._slots[slots]
        return np.flatnonzero((last == order) | (keys[last] != keys))

    def _fold(self) -> None:
        """Applies what is held."""
        if self._pending:
            self._apply(np.concatenate(self._pending))
            self._pending.clear()
            self._pending_count = 0

    def _apply(self, levels: Rows) -> None:
        """The last record of each level is what it has; levels stand ascending by key, gone ones until another comes."""
        keys = _keys(levels)
        held = self._book["order_count"] > 0
        at = np.searchsorted(self._keys, keys)
        known = at < len(self._keys)
        known[known] = (self._keys[at[known]] == keys[known]) & held[at[known]]
        if not known.all():
            fresh = np.unique(np.concatenate([self._keys[held], keys[~known]]))
            book = np.zeros(len(fresh), levels.dtype)
            book[np.searchsorted(fresh, self._keys[held])] = self._book[held]
            self._keys, self._book = fresh, book
            at = np.searchsorted(fresh, keys)
        last = np.full(len(self._keys), -1)
        last[at] = np.arange(len(keys))  # of equal ones the last is assigned last
        changed = np.flatnonzero(last >= 0)
        self._book[changed] = levels[last[changed]]

    def _follow(self) -> bool:
        """Goes on with the sidecar that its client came back to, if there is one. True: there is something to read."""
        with self._lock:
            client = self._client
            is_gone = client._hub.ended[0] or client._control is not self._connection
            if not is_gone or self._header is None or int(self._header[_WRITTEN]) > self._next:
                return False
            if client._control is not self._connection:
                try:
                    missing = self._next + 1
                    self._queued = [self._anew(missing, self._take_snapshot())]
                    return True
                except NotPermitted:
                    raise
                except (SidecarLost, SidecarUnavailable, TimeoutError):
                    self._connection = None  # gone again, or busy: it is asked anew
            if client._reattacher.is_coming():
                return False
        words = "the sidecar ended, and all of its market data was read; connect anew and ask for market data again"
        raise SidecarLost(f"{words}: its numbers begin anew, in another epoch")

    def _anew(self, missing: int, snapshot: Rows) -> Rows:
        """The books of a sidecar that was started anew, behind a gap that has no end in the old numbers."""
        gap = np.zeros(1, self.dtype)
        gap["kind"], gap["sequence"] = MarketKind.GAP, missing
        self.gaps += 1
        if not self.resync:
            self._lost, snapshot = missing, snapshot[:0]
        return np.concatenate([gap, snapshot])

    def _symbol(self, symbol: str | int) -> int:
        number = self._client.symbols[symbol] if isinstance(symbol, str) else int(symbol)
        if not 1 <= number <= _SYMBOLS_MAX:
            raise ValueError(f"symbols must be from 1 to {_SYMBOLS_MAX}, not {number}")
        return number


def _keys(levels: Rows) -> npt.NDArray[np.uint64]:
    """One number for the symbol, side and price of each, ascending in this order."""
    price, side, symbol = (levels[name].astype(np.uint64) for name in ("price", "side", "symbol"))
    return (symbol * np.uint64(2) + side) << _PRICE_BITS | price


class _Closed(RinglaneError):
    """The feed was closed, perhaps by another thread."""
