"""What one gets for submitted slots: reservations, tickets, and how asyncio loops wait for them."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import os
import time
import weakref
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from . import _shim

if TYPE_CHECKING:
    from .lane import Lane

Records = npt.NDArray[np.void]

_Entry = tuple[int, int, "asyncio.Future[None]"]

_RECHECK_SECONDS = 1.0


def nanoseconds(timeout: float | None) -> int | None:
    """Seconds as the shim wants them. Raises `ValueError` for negative ones."""
    if timeout is None:
        return None
    if not timeout >= 0:
        raise ValueError(f"a timeout is a number of seconds from 0, or None for no limit; not {timeout!r}")
    return int(min(timeout, 9e9) * 1e9)


class Ticket:
    """Submitted slots whose results are not looked at yet. They stay reserved for as long as the ticket lives.

    Wait with `result()`, or `await` it; both give an array of shape (n,) and dtype `lane.result_dtype`, one row a request
    in their order, or raise as `result` says. A ticket that is dropped gives its slots back; its requests count all the same.

    >>> import ringlane
    >>> with ringlane.connect() as client, client.open("orders", depth=64) as lane:
    ...     ticket = lane.submit(lane.batch(op="CANCEL", symbol="AAPL", account=1, client_order_id=5))
    ...     [ringlane.RejectCode(code).name for code in ticket.result(timeout=5)["code"]]
    ['UNKNOWN_ORDER_ID']
    """

    __slots__ = ("_lane", "_lease", "_results", "_slots", "__weakref__")

    def __init__(self, lane: Lane, lease: _shim.Lease) -> None:
        self._lane = lane
        self._lease: _shim.Lease | None = lease
        self._slots = (lease.first, lease.count)
        self._results: Records | None = None

    def done(self) -> bool:
        """Whether the results are there (or never will be, because the lane ended)."""
        return self._lease is None or self._lane._shim.settled(self._lease.first + self._lease.count)

    def progress(self) -> tuple[int, int]:
        """How many of its requests are done, and how many there are. Requests of a lane are done in their order.

        >>> import ringlane
        >>> with ringlane.connect() as client, client.open("orders", depth=64) as lane:
        ...     ticket = lane.submit(lane.batch(op="CANCEL", symbol="AAPL", account=1, client_order_id=[1, 2]))
        ...     ticket.result(timeout=5).shape, ticket.progress()
        ((2,), (2, 2))
        """
        first, count = self._slots
        if self._lease is None:
            return count, count
        completed = self._lane._shim.cursors[1]
        return min(max(completed - first, 0), count), count

    def result(self, timeout: float | None = None, copy: bool = False) -> Records:
        """The results, in the order of the requests: an array of shape (n,) and dtype `lane.result_dtype`.

        Without `copy` it is a read-only look into the ring: its slots are not used again before it is gone. Waits for at
        most `timeout` seconds (default: the lane's own timeout).

        Raises `TimeoutError` (ask again later), `SidecarLost`, `LaneFaulted`.
        """
        if self._lease is not None and self._results is None:
            limit = self._lane._timeout_ns if timeout is None else nanoseconds(timeout)
            try:
                self._lane._shim.wait(self._lease.first + self._lease.count, limit)
            except TimeoutError:
                self._lane.border.timeouts += 1
                raise
        return self._take(copy)

    def _take(self, copy: bool) -> Records:
        begin = time.monotonic_ns()
        if self._results is None:
            self._results = self._lane._looked_at(np.asarray(self._lease).view(self._lane.result_dtype))
        if copy and self._lease is not None:
            self._results = _copied(self._results)
            self._lease = None
        self._lane.border.reads += 1
        self._lane.border.read_ns += time.monotonic_ns() - begin
        return self._results

    def __await__(self) -> Generator[Any, None, Records]:
        slept = False
        if not self.done():
            assert self._lease is not None
            target = self._lease.first + self._lease.count
            slept = yield from self._lane._loop_watch().wait(self._lane._shim, target).__await__()
        if not slept:
            yield  # always the loop's turn once: its other tasks hold slots too, and can only so give them back
        return self.result()

    def __repr__(self) -> str:
        where = (
            "" if self._lease is None else f" slots {self._lease.first} to {self._lease.first + self._lease.count - 1}"
        )
        return f"<ringlane.Ticket{where}, {'done' if self.done() else 'pending'}>"


def _copied(results: Any) -> Any:
    """A copy of an array, or of a named tuple of arrays."""
    return type(results)(*(part.copy() for part in results)) if isinstance(results, tuple) else results.copy()


class Reservation(_shim.Hold):
    """Slots to be filled in place: `with reservation as slots:` gives a zeroed writable array over the ring itself.

    Leaving the block submits the slots and makes the array read-only; `ticket` then stands for the answers. Leaving it by
    an exception gives the slots back as if nothing had happened, and arrays that still look at them turn into private
    memory. The slots are used again only when no array looks at them any more, slices included.
    """

    __slots__ = ("_lane", "_ticket")

    def __new__(cls, lane: Lane, count: int, timeout_ns: int | None, waits: bool) -> Reservation:
        dtype = lane.request_dtype

        def view(lease: _shim.Lease) -> Records:
            if lane._spans is not None:
                lane._spans.write(lease.first, lease.count)
            return lane._fillable(np.asarray(lease).view(dtype))  # type: ignore[no-any-return]

        made = super().__new__(cls, lane._shim, count, timeout_ns, waits, view)
        made._lane = lane
        made._ticket = None
        return made

    if TYPE_CHECKING:  # both are the shim's, because a signal would find a gap between any two steps of Python's
        _lane: Lane
        _ticket: Ticket | None

        def __enter__(self) -> Records: ...

    @property
    def ticket(self) -> Ticket:
        """The ticket of the submitted slots. Raises `RinglaneError` before the block ended well."""
        if self._ticket is None:
            if self.lease is None:
                raise _shim.RinglaneError(
                    "nothing is submitted yet: the ticket is there after the `with` block ended well"
                )
            self._ticket = self._lane._ticket_class(self._lane, self.lease)
            self.lease = None  # the ticket alone says how long the slots are held
        return self._ticket


class LoopWatch:
    """One asyncio loop's eye on a client's notify socket, and on an eventfd that says that another thread emptied it."""

    def __init__(self, hub: _shim.Hub, loop: asyncio.AbstractEventLoop) -> None:
        self._hub = hub
        # Not a reference: the client keeps this object for as long as the loop lives.
        self._loop: asyncio.AbstractEventLoop = weakref.proxy(loop)
        self._poke = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        hub.watch(self._poke)  # which closes it
        weakref.finalize(self, hub.unwatch, self._poke)
        # For each lane and kind of target a heap by target: a wake-up looks at those only that may be reached.
        self._heaps: dict[tuple[_shim.Lane, bool], list[_Entry]] = {}
        self._serial = itertools.count()
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None
        self._deaf = False

    async def wait(self, shim: _shim.Lane, target: int) -> bool:
        """Sleeps until `target` slots are completed (0: until the next event), or the lane ended. False: no need to sleep."""
        shim.enlist(target)
        try:
            if shim.announce(target):
                return False
            future = self._loop.create_future()
            self._add(shim, target, future)
            try:
                await future
            finally:
                self._remove()
            return True
        finally:
            shim.withdraw(target)

    def _add(self, shim: _shim.Lane, target: int, future: asyncio.Future[None]) -> None:
        if not self._count:
            self._deaf = False
            self._loop.add_reader(self._hub.fileno(), self._look)
            self._loop.add_reader(self._poke, self._look)
            self._timer = self._loop.call_later(_RECHECK_SECONDS, self._tick)
        self._count += 1
        heapq.heappush(self._heaps.setdefault((shim, target == 0), []), (target, next(self._serial), future))

    def _remove(self) -> None:
        """One waits less; its entry is dropped when it comes to the top of its heap, or with the last one."""
        self._count -= 1
        if not self._count:
            self._heaps.clear()
            self._loop.remove_reader(self._hub.fileno())
            self._loop.remove_reader(self._poke)
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _tick(self) -> None:
        self._look()
        self._timer = self._loop.call_later(_RECHECK_SECONDS, self._tick)

    def _look(self) -> None:
        silent, _ = self._hub.ended
        if silent != self._deaf:
            # A dead socket is always readable; and the number of a live one that took its place is news to the loop.
            self._loop.remove_reader(self._hub.fileno())
            if not silent:
                self._loop.add_reader(self._hub.fileno(), self._look)
            self._deaf = silent
        with contextlib.suppress(BlockingIOError):  # the socket alone was readable
            os.eventfd_read(self._poke)
        for (shim, _), heap in self._heaps.items():
            while heap:
                target, _, future = heap[0]
                if not future.done():
                    if not shim.announce(target):
                        break
                    future.set_result(None)
                heapq.heappop(heap)
