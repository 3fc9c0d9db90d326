"""A connection to a sidecar; which sidecar that is, `connections` decides."""

from __future__ import annotations

import asyncio
import contextlib
import operator
import os
import sys
import warnings
import weakref
from collections.abc import Iterable
from typing import Any, Literal, SupportsIndex, cast, overload

import numpy as np

from . import _shim
from .admin import Admin
from .batch import Instrument, Instruments
from .corpora import Corpora
from .digests import DigestLane
from .enums import Side
from .jobs import JobLane
from .lane import Lane
from .market import MarketFeed
from .queries import Book, OpenOrders, Positions, Rows, State
from .reattach import Reattacher, ask
from .schema import Schema
from .sidecar import Sidecar
from .snapshot import Snapshot, make_snapshot
from .stats import Board, Border
from .ticket import LoopWatch, nanoseconds
from .trace import check_installed
from .vectors import VectorLane
from .wire import ControlSocket, close_all, read_rows

_KINDS: dict[str, type[JobLane]] = {"digests": DigestLane, "vectors": VectorLane}
_ACCOUNT_MAX = (1 << 24) - 1
_SYMBOLS_MAX = 1 << 16
_LEVELS_MAX = 4_000_000
_NAME_BYTES_MAX = 64


class Client:
    """A connection to a sidecar; made by `connect()` or `shared()`. Threads may share it. A context manager.

    Attributes: `address`, `number` (client number), `pid`, `version`, `build` and `journal` of the sidecar, `board` (name
    of its shared-memory segment of counters), `admin` (what administrators do), `corpora`, and `sidecar` when the client
    started one of its own.
    """

    def __init__(
        self,
        address: str,
        name: str | None,
        timeout: float | None,
        sidecar: Sidecar | None = None,
        reconnect_timeout: float = 10.0,
    ) -> None:
        self.sidecar = sidecar
        self._timeout = timeout
        # Nobody starts a private sidecar anew.
        self._reattacher = Reattacher(self, reconnect_timeout if sidecar is None else 0.0)
        self.address = address
        self._lanes: dict[int, Lane] = {}
        self._borders: dict[str, Border] = {}
        self._stats: Board | None = None
        self._symbols: Instruments | None = None
        self._watches: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopWatch] = weakref.WeakKeyDictionary()
        self._control = ControlSocket(address, timeout)
        self.admin = Admin(self._control)
        try:
            self._name = name = _default_name() if name is None else name
            reply, files = self._control.request(
                op="hello", layout_version=_shim.LAYOUT_VERSION, build=_shim.BUILD_HASH, name=name
            )
            self._hub = _shim.Hub(files[0], self._reattacher.patience > 0)
            self._rows = {row["name"]: Schema.from_message(row) for row in reply["rows"]}
            self.admin._rows = self._rows
        except BaseException:
            self._control.close()
            raise
        self._introduce(reply)
        self.corpora = Corpora(self)
        _compare_builds(self.build)
        _clients.add(self)

    def _introduce(self, reply: dict[str, Any]) -> None:
        self.number: int = reply["client"]
        self.pid: int = reply["pid"]
        self.version: str = reply["version"]
        self.build: str = reply["build"]
        self.board: str = reply["board"]
        self.journal: str = reply["journal"]

    @overload
    def open(
        self,
        kernel: Literal["digests"],
        depth: int | None = None,
        *,
        algorithm: str = "sha256",
        arena_bytes: int = ...,
        max_concurrent: int | None = None,
        timeout: float | None = None,
        record: bool = False,
    ) -> DigestLane: ...

    @overload
    def open(
        self,
        kernel: Literal["vectors"],
        depth: int | None = None,
        *,
        dim: int,
        op: str,
        dtype: Any = "float32",
        corpus: str | None = None,
        k: int | None = None,
        timeout: float | None = None,
        record: bool = False,
    ) -> VectorLane: ...

    @overload
    def open(
        self,
        kernel: str = "orders",
        depth: int | None = None,
        events: int | None = None,
        cancel_on_disconnect: bool = False,
        accounts: int | tuple[int, int] | None = None,
        timeout: float | None = None,
        trace: bool = False,
        record: bool = False,
        **parameters: Any,
    ) -> Lane: ...

    def open(
        self,
        kernel: str = "orders",
        depth: int | None = None,
        events: int | None = None,
        cancel_on_disconnect: bool = False,
        accounts: int | tuple[int, int] | None = None,
        timeout: float | None = None,
        trace: bool = False,
        record: bool = False,
        **parameters: Any,
    ) -> Lane:
        """Opens a lane to a kernel; one a client for orders, and one for each other kernel and its parameters.

        `depth` slots (default: 65,536 for orders, else 4,096) are rounded up to a power of two, 64 to 1,048,576. `timeout`
        bounds every wait in the lane that does not say otherwise, seconds.

        For orders: `events` places in the event ring (default: as many as slots), rounded up like `depth`; `accounts`
        restricts the lane to one account or a range (first, last); with `cancel_on_disconnect` its orders are cancelled when
        it ends. With `trace` the sidecar tells its collector (`[traces]`) what it did with requests that were submitted in a
        sampled OpenTelemetry span; this needs `pip install "ringlane[otel]"`. Other kernels have `parameters` of their own,
        such as `algorithm` of `DigestLane`. With `record`, what such a lane is asked, payloads included, and what it answers
        stand in the journal before an answer is visible, for `ringlane replay`; lanes of orders always do.

        Raises `ValueError` for values out of range, `TypeError` for what the kernel does not take, `RinglaneError` (unknown
        kernel, lane open already), `NotPermitted`, `SidecarUnavailable` (quota, memory), `SidecarLost`, `SchemaMismatch`.
        """
        message: dict[str, Any] = {"kernel": kernel}
        if kernel == "orders":
            if parameters:
                raise TypeError(f"a lane of orders has no parameter {next(iter(parameters))!r}")
            if trace:
                check_installed()
                message["trace"] = True
            message |= self._order_parameters(65536 if depth is None else depth, events, cancel_on_disconnect, accounts)
        else:
            if events is not None or cancel_on_disconnect or accounts is not None or trace:
                raise TypeError("events, cancel_on_disconnect, accounts and trace are for lanes of orders")
            if record:
                message["record"] = True
            message["depth"] = _within("depth", 4096 if depth is None else depth, _shim.DEPTH_SLOTS_MAX)
            message["parameters"] = _KINDS.get(kernel, JobLane)._parameters(parameters)
        nanoseconds(timeout)  # before a lane is open
        reply, files = ask(self, op="open", **message)
        handed_over = iter(files)  # what the shim took is its own to close, also when it fails
        try:
            kind = Lane if kernel == "orders" else _KINDS.get(kernel, JobLane)
            lane = kind(self, reply, cast(list[int], handed_over), timeout)
        except BaseException:
            close_all(list(handed_over))
            self._end_lane(reply["lane"])
            raise
        if isinstance(lane, JobLane):
            lane._opening = message
        self._lanes[lane.number] = lane
        self._reattacher.start()
        return lane

    @staticmethod
    def _order_parameters(
        depth: int, events: int | None, cancel_on_disconnect: bool, accounts: int | tuple[int, int] | None
    ) -> dict[str, Any]:
        first, last = accounts if isinstance(accounts, tuple) else (accounts, accounts)
        message: dict[str, Any] = {
            "depth": _within("depth", depth, _shim.DEPTH_SLOTS_MAX),
            "events": _within("events", depth if events is None else events, _shim.DEPTH_SLOTS_MAX),
            "cancel_on_disconnect": bool(cancel_on_disconnect),
            "accounts": None,
        }
        if first is not None and last is not None:
            message["accounts"] = [_within("accounts", number, _ACCOUNT_MAX) for number in (first, last)]
        return message

    def _close_lane(self, lane: Lane) -> None:
        if self._lanes.get(lane.number) is lane:
            del self._lanes[lane.number]
            lane._shim.close()
            self._end_lane(lane.number)

    def _end_lane(self, number: int) -> None:
        # A sidecar that is gone has ended the lane, one that is slow will: neither is news to whoever closes it.
        with contextlib.suppress(_shim.SidecarLost, TimeoutError):
            self._control.request(op="close", lane=number)

    def stats(self) -> dict[str, Any]:
        """What the sidecar's board says, read from shared memory: nothing is asked of the sidecar.

        A dict: `header` (pid, epoch, health, ...), the rows `sequencer`, `journal`, `control`, `service`, `traces` and `sentry`, the lists
        `lanes`, `kernels` and `pools` with a dict a row, `stages` with count, sum, percentiles and longest time of each
        stage of a request (of a sample of batches), and `border` with what the border costs each lane of this client: see
        `ringlane.stats.Border`. Names end in their unit. Rows are consistent in themselves, and some 100 us old.

        Raises `SidecarUnavailable` when the board is gone.

        >>> import ringlane
        >>> with ringlane.connect() as client, client.open("orders", depth=64) as lane:
        ...     stats = client.stats()
        ...     stats["lanes"][0]["depth"], stats["kernels"][0]["name"], stats["border"]["orders"]["batches"]
        (64, 'orders', 0)
        """
        if self._stats is None:
            self._stats = Board(self.board)
        return self._stats.read() | {"border": {kernel: border.values() for kernel, border in self._borders.items()}}

    # ---- state ----

    @property
    def symbols(self) -> Instruments:
        """The sidecar's symbols: a mapping of names to numbers; `symbols.instrument(name)` says more."""
        if self._symbols is None:
            _, rows = self._query("instruments")
            self._symbols = Instruments(rows)
        return self._symbols

    def instrument(self, symbol: str | int) -> Instrument:
        """The instrument of a symbol name or number. Raises `KeyError` when there is none."""
        return self.symbols.instrument(symbol)

    def orders(self, account: int) -> OpenOrders:
        """The account's open orders, ascending by symbol; in each bids, then asks, best first, at one price oldest first.

        `account` is 1 to 16,777,215. `.orders` is an array of shape (n,) with the fields order_id, client_order_id
        (uint64), price (int64, price units: 10**-price_decimals of the currency), remaining_quantity (uint32, lots of 1),
        account, lane and symbol (uint32), side (uint8); `.last_client_order_id` the last that was accepted, 0 for none;
        `.sequence` the number of the last record that it takes into account.

        Raises `ValueError` (account out of range), `NotPermitted`, `SidecarUnavailable`, `SidecarLost`, `TimeoutError`.

        >>> import ringlane
        >>> with ringlane.Sidecar() as sidecar, ringlane.connect(sidecar.address) as client:
        ...     lane = client.open("orders", depth=64)
        ...     buy = lane.batch(symbol="AAPL", side="BUY", account=7, client_order_id=5, price="150.25", quantity=100)
        ...     code = lane.process(buy, copy=True)["code"][0]
        ...     mine = client.orders(7)
        ...     mine.orders["price"].tolist(), mine.orders["remaining_quantity"].tolist(), mine.last_client_order_id
        ([1502500], [100], 5)
        """
        reply, rows = self._query("orders", account=_within("account", account, _ACCOUNT_MAX))
        return OpenOrders(reply["sequence"], int(account), rows, reply["last_client_order_id"])

    def positions(self, account: int) -> Positions:
        """The account's positions, ascending by symbol; symbols in which it never traded nor has an order are left out.

        `account` is 1 to 16,777,215. `.positions` is an array of shape (n,) with symbol and account (uint32), net_quantity
        (int64, bought minus sold), open_buy_quantity, open_sell_quantity and others of the record `Position`; `.cash` a
        list of ints, price units x quantity; `.last_client_order_id` and `.sequence` as in `orders`.

        Raises as `orders`.

        >>> import ringlane
        >>> with ringlane.Sidecar() as sidecar, ringlane.connect(sidecar.address) as client:
        ...     lane = client.open("orders", depth=64)
        ...     for side, account in (("SELL", 1), ("BUY", 2)):
        ...         order = lane.batch(symbol=1, side=side, account=account, client_order_id=9, price="10", quantity=3)
        ...         code = lane.process(order, copy=True)["code"][0]
        ...     mine = client.positions(2)
        ...     mine.positions["net_quantity"].tolist(), mine.cash, mine.last_client_order_id
        ([3], [-300000], 9)
        """
        reply, rows = self._query("positions", account=_within("account", account, _ACCOUNT_MAX))
        return Positions(reply["sequence"], int(account), rows, reply["last_client_order_id"])

    def book(self, symbol: str | int, levels: int = 10) -> Book:
        """The best `levels` (1 to 4,000,000) price levels of each side of a symbol's book.

        `.bids` and `.asks` are arrays of shape (n,), n <= levels, best first, with price (int64, price units), quantity
        (uint64), order_count and side.

        Raises `KeyError` (unknown symbol name), `ValueError` (unknown symbol number, levels out of range), and as `orders`.

        >>> import ringlane
        >>> with ringlane.Sidecar() as sidecar, ringlane.connect(sidecar.address) as client:
        ...     lane = client.open("orders", depth=64)
        ...     ids, prices = [1, 2, 3], ["10", "10", "11"]
        ...     sell = lane.batch(symbol="AAPL", side="SELL", account=1, client_order_id=ids, price=prices, quantity=5)
        ...     codes = lane.process(sell, copy=True)["code"]
        ...     book = client.book("AAPL", levels=5)
        ...     book.asks["price"].tolist(), book.asks["quantity"].tolist(), len(book.bids)
        ([100000, 110000], [10, 5], 0)
        """
        number = self.symbols[symbol] if isinstance(symbol, str) else _within("symbol", symbol, _SYMBOLS_MAX)
        reply, rows = self._query("book", symbol=number, levels=_within("levels", levels, _LEVELS_MAX))
        bids, asks = rows[rows["side"] == Side.BUY], rows[rows["side"] == Side.SELL]
        return Book(reply["sequence"], number, bids, asks)

    def market_data(
        self,
        symbols: Iterable[str | int] | None = None,
        levels: int = 10,
        *,
        poll_interval: float = 0.001,
        resync: bool = True,
    ) -> MarketFeed:
        """Trades, the best of each side and changes of price levels of these symbols (names or numbers; None: all), as they happen.

        `levels` is how many of each side `feed.book(symbol)` gives; the stream has changes of all. With 0 no books are kept,
        which is most of a busy reader's work: for who only stores or sends on what comes. `poll_interval` is how long
        a reader sleeps before it looks again, seconds. With `resync=False` a gap is only told, not made good.

        Raises `KeyError` (unknown symbol name), `ValueError` (unknown symbol number), `SidecarUnavailable` (not permitted,
        quota, memory), `SidecarLost`. See `MarketFeed`.

        >>> import ringlane
        >>> with ringlane.Sidecar() as sidecar, ringlane.connect(sidecar.address) as client:
        ...     with client.market_data(["AAPL"]) as feed:
        ...         [ringlane.MarketKind(kind).name for kind in feed.read()["kind"]]
        ['CLEAR', 'TOP']
        """
        return MarketFeed(self, symbols, levels, poll_interval, resync)

    def state(self) -> State:
        """The whole state as one hash (16 hex digits), and counters since the journal began: all ints.

        Raises `SidecarUnavailable` (it is stopping), `SidecarLost`, `TimeoutError` (ask again: the connection stays).

        >>> import ringlane
        >>> with ringlane.Sidecar() as sidecar, ringlane.connect(sidecar.address) as client:
        ...     state = client.state()
        ...     state.trades, state.resting, len(state.state_hash)
        (0, 0, 16)
        """
        reply, _ = ask(self, op="query", what="state")
        return State(**{key: reply[key] for key in State.__dataclass_fields__})

    def snapshot(self, timeout: float = 60.0) -> Snapshot:
        """Has a snapshot of the state written beside the journal, so that the next start has nothing before it to replay.

        Gives its `sequence`, `bytes`, and `pause_ns`, the time for which it held intake up. For administrators: without access
        rules the sidecar's own user and root. Raises `NotPermitted`, `SidecarUnavailable` (not written), `ValueError` (nothing
        is recorded), `SidecarLost`, `TimeoutError`.

        >>> import ringlane
        >>> with ringlane.Sidecar() as sidecar, ringlane.connect(sidecar.address) as client:
        ...     client.snapshot().sequence == client.state().sequence
        True
        """
        return make_snapshot(self._control, timeout)

    def _query(self, what: str, **values: int) -> tuple[dict[str, Any], Rows]:
        reply, files = ask(self, op="query", what=what, **values)
        try:
            dtype = self._rows[reply["row"]].dtype
            data = read_rows(files[0], reply["rows"] * dtype.itemsize)
        finally:
            close_all(files)
        return reply, np.frombuffer(data, dtype)

    # ---- life ----

    def _loop_watch(self) -> LoopWatch:
        loop = asyncio.get_running_loop()
        watch = self._watches.get(loop)
        if watch is None:
            watch = self._watches[loop] = LoopWatch(self._hub, loop)
        return watch

    def close(self) -> None:
        """Ends the connection and its lanes: what is submitted is completed first. Idempotent.

        A sidecar that the client started ends with it, or with its last other client: a second connection to
        `client.address`, or a forked child.
        """
        self._reattacher.stop()
        for lane in self._lanes.values():
            lane._shim.close()
        self._lanes.clear()
        self._control.close()
        if self.sidecar is not None:
            self.sidecar.release()
        _clients.discard(self)

    def _forget_after_fork(self) -> None:
        if self.sidecar is not None:
            self.sidecar._forget_after_fork()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ringlane.Client {self.number} of the sidecar {self.pid} at {self.address}>"


def _within(name: str, value: SupportsIndex, last: int) -> int:
    number = operator.index(value)
    if 1 <= number <= last:
        return number
    wrong = "must not be negative but" if number < 0 else "must be"
    raise ValueError(f"{name} {wrong} from 1 to {last}, not {number} (BAD_VALUE)")


def _default_name() -> str:
    """The program's, as a sidecar takes it: whole characters in so many bytes, and only such as can be shown."""
    arguments = getattr(sys, "argv", None) or [""]
    shown = "".join(c if c.isprintable() else "?" for c in os.path.basename(arguments[0]) or "python")
    return shown.encode()[:_NAME_BYTES_MAX].decode(errors="ignore")


_builds_compared: set[str] = {_shim.BUILD_HASH}


def _compare_builds(build: str) -> None:
    if build in _builds_compared:
        return
    _builds_compared.add(build)
    warnings.warn(
        f"the sidecar is build {build} and this package build {_shim.BUILD_HASH}: they serve each other, because the "
        "layout version is the same; install the same ringlane on both sides before you look for a fault",
        RuntimeWarning,
        stacklevel=4,
    )


_clients: weakref.WeakSet[Client] = weakref.WeakSet()
