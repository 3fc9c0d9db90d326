"""A lane: slots shared with the sidecar, in which requests are answered in place."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from . import _shim
from .batch import build
from .enums import Op, OrderType, TimeInForce, of_message
from .schema import NO_RECORD, Schema
from .stats import Border
from .ticket import LoopWatch, Records, Reservation, Ticket, nanoseconds
from .trace import side_table

if TYPE_CHECKING:
    from .client import Client

OnFull = Literal["block", "raise"]
Words = npt.NDArray[np.uint64]

CALL_BYTES = 64
_EVENTS_TAKEN_MAX = 1 << 20
_ORDER_DEFAULTS = {"op": Op.NEW, "order_type": OrderType.LIMIT, "time_in_force": TimeInForce.GTC}


def granted_sizes(reply: dict[str, Any]) -> tuple[int, int, int, int, int]:
    """The sizes of a lane in the order in which the shim wants them."""
    slots = (reply["request"]["size"], reply["result"]["size"])
    return (reply["depth"], reply["events"], *slots, reply["arena_bytes"])


def wait_allowed(on_full: OnFull) -> bool:
    """Whether `on_full` lets one wait for room. Raises `ValueError` for other words."""
    if on_full not in ("block", "raise"):
        raise ValueError(f'on_full is "block" or "raise", not {on_full!r}')
    return on_full == "block"


class Lane:
    """One client's private lane to one kernel; made by `client.open()`. Threads may share it.

    Attributes: `kernel`, `number`, `depth` (slots), `events_capacity`, `accounts` (first, last), `token` (hex), the dtypes
    `request_dtype`, `result_dtype`, `event_dtype` (structured), the schemas behind them, `enums` by name, `border` (what the
    border to the sidecar costs: a `ringlane.stats.Border`), and `call`.
    """

    call: Callable[..., tuple[Any, ...]]
    """Submits one record and returns its answer: the fastest way for single requests.

    Arguments are numbers in the order of `request_schema.visible`; those left out at the end are 0. The answer is a tuple
    in the order of `result_schema.visible`. May be called from several threads. Raises `ValueError` (a number that its
    field cannot hold), `TypeError` (no number, or too many), `TimeoutError` (the lane's timeout), `SidecarLost`,
    `LaneFaulted`, `LaneFull` (only this process's arrays hold the slots), `RinglaneError` (the lane is closed).

    Prices are whole price units. `lane.call(2, 0, 0, 0, 1, 7, 0, 99)` cancels account 7's order 99 in symbol 1.
    """

    _ticket_class: type[Ticket] = Ticket

    def _wide(self, *_fields: Any) -> tuple[Any, ...]:
        raise _shim.RinglaneError(
            f"records of {self.kernel!r} are not {CALL_BYTES} bytes of numbers, so they go in batches: use process() or submit()"
        )

    @classmethod
    def _parameters(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        """What the sidecar is told of `client.open`'s own parameters; a kind of lane may check and complete them."""
        return parameters

    def __init__(self, client: Client, reply: dict[str, Any], files: list[int], timeout: float | None) -> None:
        self._client = client
        self.border = client._borders.setdefault(reply["kernel"], Border())
        self._timeout_ns = nanoseconds(timeout)
        self.kernel: str = reply["kernel"]
        self.number: int = reply["lane"]
        self.depth: int = reply["depth"]
        self.events_capacity: int = reply["events"]
        first, last = reply["accounts"] or (0, 0)
        self.accounts: tuple[int, int] = (first, last)
        self.token: str = reply["token"]
        self.request_schema = Schema.from_message(reply["request"])
        self.result_schema = Schema.from_message(reply["result"])
        self.event_schema = Schema.from_message(reply["event"]) if reply["event"] else NO_RECORD
        self.enums = of_message(reply["enums"])
        self.request_dtype = self.request_schema.dtype
        self.result_dtype = self.result_schema.dtype
        self.event_dtype = self.event_schema.dtype
        self._shim = self._map(reply, files)
        self._counted = self.border.count_lane(self, self._shim)
        self.call = self._shim.call if self._narrow else self._wide
        self._spans = side_table(self, reply)
        if self._spans is not None:
            self.call = self._spans.call
        self._slot_words: int = self.request_schema.size // 8
        self._events_lock = threading.Lock()
        self._event_number = 0  # of the last event that was taken
        self._ring_number = -1
        self._ring: Words = np.zeros((0, self._slot_words), np.uint64)

    def _map(self, reply: dict[str, Any], files: list[int]) -> _shim.Lane:
        """The shim's half of a lane that the sidecar opened. Takes the descriptors over."""
        # `call` takes and gives numbers, of one record of 64 bytes; batches may have any fields and sizes.
        schemas = (self.request_schema, self.result_schema)
        self._narrow = all(
            schema.size == CALL_BYTES and all(field.number for field in schema.visible) for schema in schemas
        )
        requests, results, doorbell = files
        return _shim.Lane(
            self._client._hub,
            [requests, results, doorbell],
            lane=reply["lane"],
            sizes=granted_sizes(reply),
            hashes=(int(self.request_schema.hash, 16), int(self.result_schema.hash, 16)),
            fields=(self.request_schema.numbers, self.result_schema.numbers) if self._narrow else ([], []),
            request_spans=[(field.offset, field.size) for field in self.request_schema.visible],
            timeout_ns=self._timeout_ns,
        )

    # ---- building and submitting ----

    def batch(self, **columns: Any) -> Records:
        """An array of `request_dtype` from columns: scalars or one-dimensional arrays of one length.

        Fields that are not named are 0; in an order lane `op` is NEW, `order_type` LIMIT, `time_in_force` GTC, and
        `account` the lane's account if it has only one. Symbols may be names, enums members, numbers or names. Prices that
        are integers count price units; strings, Decimals and floats are prices in currency and become units exactly.

        Raises `ValueError` for what does not fit a field exactly, `TypeError` for unknown fields and wrong types.

        >>> import ringlane
        >>> with ringlane.connect() as client, client.open("orders", depth=64) as lane:
        ...     batch = lane.batch(symbol=["AAPL", "MSFT"], side="BUY", account=7, client_order_id=[1, 2],
        ...                        price=["150.25", "300.5"], quantity=100)
        ...     [int(price) for price in batch["price"]]
        [1502500, 3005000]
        """
        if self.kernel != "orders":
            return build(self.request_schema, columns, {}, None, self.enums)
        defaults: dict[str, Any] = dict(_ORDER_DEFAULTS)
        if self.accounts[0] == self.accounts[1]:
            defaults["account"] = self.accounts[0]
        return build(self.request_schema, columns, defaults, self._client.symbols)

    def process(
        self, batch: Records, timeout: float | None = None, copy: bool = False, on_full: OnFull = "block"
    ) -> Records:
        """Submits a batch and waits for its results: shape (n,), dtype `result_dtype`, in the order of the requests.

        `batch` has dtype `request_dtype`, shape (n,), 1 <= n <= depth. The result is a read-only look into the ring unless
        `copy`; its slots are not used again while it lives.

        `timeout` (seconds; default: the lane's own) is one deadline for room and results. Raises as `submit` and
        `Ticket.result`; a `TimeoutError` has the attribute `ticket`: the `Ticket` of what was submitted, to ask again later,
        or None when nothing was.

        >>> import ringlane
        >>> with ringlane.connect() as client, client.open("orders", depth=64) as lane:
        ...     sell = lane.batch(symbol="AAPL", side="SELL", account=1, client_order_id=1, price="150", quantity=10)
        ...     buy = lane.batch(symbol="AAPL", side="BUY", account=2, client_order_id=1, price="150", quantity=4)
        ...     rested = lane.process(sell)
        ...     int(lane.process(buy)["filled_quantity"][0])
        4
        """
        limit = self._timeout_ns if timeout is None else nanoseconds(timeout)
        begin = time.monotonic_ns()
        ticket = None
        try:
            ticket = self.submit(batch, timeout, on_full)
            rest = None if limit is None else max(0, begin + limit - time.monotonic_ns()) / 1e9
            results = ticket.result(rest, copy)
            took = time.monotonic_ns() - begin
            self.border.latency[took.bit_length()] += 1
            self.border.latency_ns += took
            return results
        except TimeoutError as error:
            error.ticket = ticket  # type: ignore[attr-defined]
            raise

    def submit(self, batch: Records, timeout: float | None = None, on_full: OnFull = "block") -> Ticket:
        """Submits a batch without waiting for its results: shape (n,), dtype `request_dtype`, 1 <= n <= depth.

        Without room, `on_full="block"` waits at most `timeout` seconds (default: the lane's own timeout): then comes
        `TimeoutError` when the sidecar is behind, `LaneFull` when only this process's own arrays and tickets hold the
        slots. Without any timeout that `LaneFull` comes after one second, since perhaps nobody else can free them.
        `on_full="raise"` raises `LaneFull` at once for either reason; the message says which.

        Raises also `TypeError` for another dtype, `ValueError` for another shape or length, `SidecarLost`, `LaneFaulted`,
        and `RinglaneError` when the lane is closed or this thread fills a reservation of it.

        >>> import ringlane
        >>> with ringlane.connect() as client, client.open("orders", depth=64) as lane:
        ...     ticket = lane.submit(lane.batch(op="CANCEL", symbol="AAPL", account=1, client_order_id=[1, 2]))
        ...     ticket.result(timeout=5).shape
        (2,)
        """
        limit = self._timeout_ns if timeout is None else nanoseconds(timeout)
        return self._send(self._words(batch), limit, wait_allowed(on_full))

    def _send(self, words: Words, limit_ns: int | None, waits: bool) -> Ticket:
        hold = _shim.Hold(self._shim, len(words), limit_ns, waits)
        with hold:
            if hold.ring_number != self._ring_number:
                self._ring = np.asarray(self._shim.request_ring()).view(np.uint64).reshape(-1, self._slot_words)
                self._ring_number = hold.ring_number
            slot = hold.first & (self.depth - 1)
            self._ring[slot : slot + len(words)] = words
            if self._spans is not None:
                self._spans.write(hold.first, len(words))
        assert hold.lease is not None
        return self._ticket_class(self, hold.lease)

    def reserve(self, count: int, timeout: float | None = None, on_full: OnFull = "block") -> Reservation:
        """Slots to fill in place, without a copy; see `Reservation`. One at a time in a lane.

        The block gets a zeroed array of shape (count,) and dtype `request_dtype`. Raises `ValueError` for a count outside 1
        to `depth`; entering it waits and raises as `submit` does (`timeout` in seconds, `on_full`).

        >>> import ringlane
        >>> with ringlane.connect() as client, client.open("orders", depth=64) as lane:
        ...     reservation = lane.reserve(2)
        ...     with reservation as slots:
        ...         slots[:] = lane.batch(symbol="AAPL", side="BUY", account=1, client_order_id=[1, 2], price=1500000, quantity=1)
        ...     [ringlane.OrderState(state).name for state in reservation.ticket.result()["state"]]
        ['RESTING', 'RESTING']
        """
        if not 1 <= count <= self.depth:
            raise ValueError(f"a reservation holds 1 to {self.depth} slots (the lane's depth), not {count}")
        limit = self._timeout_ns if timeout is None else nanoseconds(timeout)
        return self._reservation(count, limit, wait_allowed(on_full))

    def _reservation(self, count: int, limit_ns: int | None, waits: bool) -> Reservation:
        return Reservation(self, count, limit_ns, waits)

    def _fillable(self, slots: Records) -> Any:
        """What a reservation of this lane gives to fill."""
        return slots

    def _looked_at(self, results: Records) -> Any:
        """What a ticket of this lane gives of its results: an array of shape (n,) and dtype `result_dtype`."""
        return results

    def _words(self, batch: Records) -> Words:
        if not isinstance(batch, (np.ndarray, np.void)):
            raise TypeError(
                f"a batch is a numpy array of lane.request_dtype, not {type(batch).__name__}; lane.batch() makes one"
            )
        if batch.dtype != self.request_dtype:
            raise TypeError(
                f"the batch has dtype {batch.dtype}, not this lane's request_dtype; "
                "make it with lane.batch() or np.zeros(n, lane.request_dtype)"
            )
        array = np.atleast_1d(np.asarray(batch))
        if array.ndim != 1:
            raise ValueError(f"a batch has one dimension, not shape {array.shape}; use batch.reshape(-1)")
        if not 1 <= len(array) <= self.depth:
            raise ValueError(
                f"a batch holds 1 to {self.depth} records (the lane's depth), not {len(array)}; "
                "split it, or open the lane deeper"
            )
        return np.ascontiguousarray(array).view(np.uint64).reshape(-1, self._slot_words)

    # ---- events ----

    def events(self, timeout: float | None = 0) -> Records:
        """Takes the new events: a fresh array of shape (k,) and dtype `event_dtype`, in the order of their numbers.

        Waits up to `timeout` seconds for the first one (None: without limit) and gives an empty array when none came. An
        event of kind `EventKind.GAP` stands for numbers `sequence` to `number`, which were dropped because the ring was full;
        resynchronise with `client.orders()` and `client.positions()`.

        Events that wait are given also after the lane's end; only then `SidecarLost`, `LaneFaulted` or, when this client
        closed it, `RinglaneError` is raised. `ValueError` for a negative timeout.

        >>> import ringlane
        >>> with ringlane.connect() as client, client.open("orders", depth=64) as lane:
        ...     lane.events(timeout=0).shape
        (0,)
        """
        self._check_events()
        if timeout != 0:
            try:
                self._shim.wait(0, nanoseconds(timeout))
            except TimeoutError:
                return np.zeros(0, self.event_dtype)
        return self._taken_events()

    async def events_async(self, timeout: float | None = None) -> Records:
        """As `events`, shape, dtype and errors alike, without blocking the asyncio loop; None waits without limit.

        >>> import asyncio, ringlane
        >>> with ringlane.connect() as client, client.open("orders", depth=64) as lane:
        ...     len(asyncio.run(lane.events_async(timeout=0.01)))
        0
        """
        self._check_events()
        taken = self._taken_events()
        if not len(taken) and timeout != 0:
            try:
                await asyncio.wait_for(self._loop_watch().wait(self._shim, 0), timeout)
            except (TimeoutError, asyncio.TimeoutError):
                return taken
            taken = self._taken_events()
        return taken

    def _check_events(self) -> None:
        if not self.events_capacity:
            raise _shim.RinglaneError(f"lanes of {self.kernel!r} have no events")

    def _taken_events(self) -> Records:
        with self._events_lock:
            taken = np.frombuffer(self._shim.take_events(_EVENTS_TAKEN_MAX), self.event_dtype)
            if len(taken):
                self._event_number = int(taken["number"][-1])
        if not len(taken):
            self._shim.check()
        return taken

    def take_over(self, account: int, symbol: str | int = 0, timeout: float | None = None) -> int:
        """Makes this lane the owner of the account's orders whose lane is closed; gives their number.

        It gets their events from now on. What was filled while nobody owned them stands in `client.orders(account)`
        (`filled_quantity`) and in `client.positions(account)`.

        In one symbol (name or number), or with 0 in all. Waits at most `timeout` seconds (default: the lane's own). Raises
        `ValueError` with the reason when the sidecar rejects it, else as `process`.

        >>> import ringlane
        >>> with ringlane.connect() as client, client.open("orders", depth=64) as lane:
        ...     lane.take_over(account=1, symbol="AAPL")
        0
        """
        from .explain import explain

        result = self.process(self.batch(op=Op.TAKE_OVER, account=account, symbol=symbol), timeout, copy=True)[0]
        if result["code"]:
            raise ValueError(f"the orders of account {account} cannot be taken over: {explain(result)}")
        return int(result["fill_count"])

    # ---- life ----

    @property
    def in_flight(self) -> int:
        """Slots that are submitted and not completed."""
        self._shim.check()
        submitted, completed, *_ = self._shim.cursors
        return submitted - completed

    def close(self) -> None:
        """Ends the lane in order: what is submitted is completed first. Arrays stay readable. Idempotent."""
        self._client._close_lane(self)

    def _loop_watch(self) -> LoopWatch:
        return self._client._loop_watch()

    def __enter__(self) -> Lane:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ringlane.Lane {self.number} to {self.kernel!r}, {self.depth} slots>"
