"""Lanes of kernels that are pure functions: when the sidecar is started anew, what was not answered is asked again.

Nothing of such a lane is kept by the sidecar. So it is opened once more, with memory of its own, and its unanswered requests
are copied over from the old memory, which is still here. Answers that came before stay where they are.
"""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _shim
from .lane import Lane, Words
from .ticket import Records, Reservation, Ticket, nanoseconds
from .wire import ControlSocket, close_all

if TYPE_CHECKING:
    from .client import Client


_SLEEP_BYTES = 128 << 10
"""Bytes of requests that take the sidecar some 100 us: who waits for more sleeps at once, for its core is wanted."""


class JobTicket(Ticket):
    """A ticket whose slots may move to another lane's memory before they are answered."""

    __slots__ = ("_shim",)

    _lane: JobLane

    def __init__(self, lane: Lane, lease: _shim.Lease) -> None:
        super().__init__(lane, lease)
        self._shim = lane._shim

    def _place(self) -> tuple[_shim.Lane, _shim.Lease | None]:
        """Where its slots are now."""
        with self._lane._moving:
            return self._shim, self._lease

    def _is_elsewhere(self, shim: _shim.Lane) -> bool:
        return self._place()[0] is not shim

    def done(self) -> bool:
        """Whether the results are there (or never will be, because the lane ended)."""
        while True:
            shim, lease = self._place()
            if lease is None:
                return True
            target = lease.first + lease.count
            if not shim.settled(target):
                return False
            if shim.cursors[1] >= target or not self._is_elsewhere(shim):
                return True

    def progress(self) -> tuple[int, int]:
        """How many of its requests are done, and how many there are. Requests of a lane are done in their order.

        After a restart of the sidecar those that were done of an unfinished ticket are done once more, and counted anew.
        """
        shim, lease = self._place()
        count = self._slots[1]
        return (count, count) if lease is None else (min(max(shim.cursors[1] - lease.first, 0), count), count)

    def result(self, timeout: float | None = None, copy: bool = False) -> Records:
        """As `Ticket.result`."""
        if self._lease is not None and self._results is None:
            limit = self._lane._timeout_ns if timeout is None else nanoseconds(timeout)
            begin = time.monotonic_ns()
            try:
                while not self._waited(None if limit is None else max(0, begin + limit - time.monotonic_ns())):
                    pass
            except TimeoutError:
                self._lane.border.timeouts += 1
                raise
        return self._take(copy)

    def _waited(self, limit_ns: int | None) -> bool:
        """Waits where its slots are now. False: they are somewhere else meanwhile."""
        shim, lease = self._place()
        if lease is None:
            return True
        try:
            target = lease.first + lease.count
            shim.wait(target, limit_ns, (target - shim.cursors[1]) * self._lane._slot_weight > _SLEEP_BYTES)
        except _shim.RinglaneError:
            if self._is_elsewhere(shim):
                return False
            raise
        return True

    def __await__(self) -> Generator[Any, None, Records]:
        slept = False
        while not self.done():
            shim, lease = self._place()
            assert lease is not None
            slept |= yield from self._lane._loop_watch().wait(shim, lease.first + lease.count).__await__()
        if not slept:
            yield  # always the loop's turn once: its other tasks hold slots too, and can only so give them back
        return self.result()


class JobReservation:
    """As `Reservation`: `with reservation as slots:` gives a zeroed writable array over the ring itself."""

    def __init__(self, lane: JobLane, count: int, limit_ns: int | None, waits: bool) -> None:
        self._lane, self._count, self._limit_ns, self._waits = lane, count, limit_ns, waits
        self._shim: _shim.Lane | None = None
        self._hold: _shim.Hold | None = None
        self._slots: Any = None
        self._ticket: Ticket | None = None

    def __enter__(self) -> Any:
        if self._shim is not None:
            raise _shim.RinglaneError("a reservation is used once; call lane.reserve() again")
        while True:
            self._shim = shim = self._lane._shim
            try:
                # Whatever happens from here on: a hold that nobody has any more gives its slots back.
                self._hold = _shim.Hold(shim, self._count, self._limit_ns, self._waits, self._view)
                return self._hold.__enter__()
            except _shim.RinglaneError:
                if not self._lane._has_left(shim):
                    raise

    def _view(self, lease: _shim.Lease) -> Any:
        self._slots = np.asarray(lease).view(self._lane.request_dtype)
        return self._lane._fillable(self._slots)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        hold, slots, lane = self._hold, self._slots, self._lane
        self._hold = self._slots = None
        assert hold is not None
        if kind is not None:
            del slots
            return hold.__exit__(kind, error, trace)
        with lane._moving:
            is_here = lane._shim is self._shim
            if is_here:
                slots.flags.writeable = False
                del slots
                hold.__exit__(None, None, None)
                assert hold.lease is not None
                self._ticket = lane._enrol(hold.lease)
        if not is_here:
            # The sidecar was started anew while the block ran: what it filled stands in the old memory.
            words = lane._words(slots).copy()
            del slots
            hold.__exit__(_shim.SidecarLost, None, None)
            self._ticket = lane._send(words, self._limit_ns, self._waits)

    @property
    def ticket(self) -> Ticket:
        """The ticket of the submitted slots. Raises `RinglaneError` before the block ended well."""
        if self._ticket is None:
            raise _shim.RinglaneError("nothing is submitted yet: the ticket is there after the `with` block ended well")
        return self._ticket


class JobLane(Lane):
    """A lane of a kernel other than orders."""

    _ticket_class = JobTicket
    # Whoever submits, or reads where a ticket's slots are, holds it; so does who moves them. Nobody waits while holding it.
    _moving = threading.Lock()  # a lane's own, where it can move
    _slot_weight = 0  # bytes that are worked on for a slot

    def __init__(self, client: Client, reply: dict[str, Any], files: list[int], timeout: float | None) -> None:
        super().__init__(client, reply, files, timeout)
        self._moving = threading.Lock()
        self._unanswered: weakref.WeakSet[JobTicket] = weakref.WeakSet()
        self._ring_of: tuple[_shim.Lane, int, Words] | None = None
        self._opening: dict[str, Any] = {}  # what the sidecar was asked
        self._slot_weight = 8 * self._slot_words
        if self._narrow:
            self.call = self._call

    def _call(self, *fields: Any) -> tuple[Any, ...]:
        while True:
            shim = self._shim
            try:
                return shim.call(*fields)
            except _shim.RinglaneError:
                if not self._has_left(shim):
                    raise

    def _has_left(self, shim: _shim.Lane) -> bool:
        """Whether the lane has other memory now; waits for a move that is under way."""
        with self._moving:
            return self._shim is not shim

    def _send(self, words: Words, limit_ns: int | None, waits: bool) -> Ticket:
        begin = time.monotonic_ns()
        while True:
            shim, rest = self._shim, None if limit_ns is None else max(0, begin + limit_ns - time.monotonic_ns())
            try:
                return self._send_to(shim, words, rest, waits)
            except _shim.RinglaneError:
                if not self._has_left(shim):
                    raise

    def _send_to(self, shim: _shim.Lane, words: Words, limit_ns: int | None, waits: bool) -> Ticket:
        """Submits to this memory. Raises `RinglaneError` when the lane has left it."""
        hold = _shim.Hold(shim, len(words), limit_ns, waits)
        hold.__enter__()
        try:
            self._fill_slots(shim, hold, words)
            with self._moving:
                if self._shim is not shim:
                    raise _shim.RinglaneError("the lane has other memory now")
                hold.__exit__(None, None, None)
                assert hold.lease is not None
                ticket = self._enrol(hold.lease)
        except BaseException as error:
            hold.__exit__(type(error), None, None)
            raise
        return ticket

    def _fill_slots(self, shim: _shim.Lane, hold: _shim.Hold, words: Words) -> None:
        known = self._ring_of
        if known is None or known[0] is not shim or known[1] != hold.ring_number:
            ring = np.asarray(shim.request_ring()).view(np.uint64).reshape(-1, self._slot_words)
            known = self._ring_of = (shim, hold.ring_number, ring)
        slot = hold.first & (self.depth - 1)
        known[2][slot : slot + len(words)] = words

    def _enrol(self, lease: _shim.Lease) -> Ticket:
        """The ticket of slots that were submitted just now; `_moving` is held."""
        ticket = self._ticket_class(self, lease)
        self._unanswered.add(ticket)
        return ticket

    def _reservation(self, count: int, limit_ns: int | None, waits: bool) -> Reservation:
        return JobReservation(self, count, limit_ns, waits)  # type: ignore[return-value]

    # ---- a sidecar that was started anew ----

    def _reopen(self, control: ControlSocket) -> None:
        """Opens the lane once more at a sidecar that knows nothing of it, and asks again what was not answered."""
        reply, files = control.request(op="open", **self._opening)
        handed_over = iter(files)
        try:
            if [reply[part]["hash"] for part in ("request", "result")] != [
                self.request_schema.hash,
                self.result_schema.hash,
            ]:
                raise _shim.SchemaMismatch(
                    f"the kernel {self.kernel!r} of the sidecar that came back has other records"
                )
            fresh = self._map(reply, handed_over)  # type: ignore[arg-type]
        finally:
            close_all(list(handed_over))
        with self._moving:
            old = self._shim
            old.close(leaves=True)
            self._renew(fresh)
            completed = old.cursors[1]
            for ticket in sorted(self._unanswered, key=lambda ticket: ticket._slots[0]):
                lease = ticket._lease
                if lease is None or ticket._shim is not old or lease.first + lease.count <= completed:
                    continue
                hold = self._ask_again(old, fresh, self._words_of(old, lease))
                ticket._shim, ticket._lease = fresh, hold.lease
                assert hold.lease is not None
                ticket._slots = (hold.lease.first, hold.lease.count)
            self.number = reply["lane"]
            self._shim = fresh
            self._counted()
            self._counted = self.border.count_lane(self, fresh)

    def _words_of(self, old: _shim.Lane, lease: _shim.Lease) -> Words:
        """What was asked in these slots of a lane that was left."""
        slot = lease.first & (self.depth - 1)
        while True:
            ring = np.asarray(old.request_ring())
            words = ring.view(np.uint64).reshape(-1, self._slot_words)[slot : slot + lease.count].copy()
            # A block that gave up meanwhile has put another mapping in the place of this one.
            if np.asarray(old.request_ring()).ctypes.data == ring.ctypes.data:
                return words

    def _renew(self, fresh: _shim.Lane) -> None:
        """The lane is about to have other memory."""

    def _ask_again(self, old: _shim.Lane, fresh: _shim.Lane, words: Words) -> _shim.Hold:
        """Submits what stood in the old memory; there is room, because there was."""
        hold = _shim.Hold(fresh, len(words), None, False)
        with hold:
            self._fill_slots(fresh, hold, words)
        return hold

    def _give_up(self) -> None:
        """The lane cannot go on."""
        with self._moving, contextlib.suppress(_shim.RinglaneError):
            self._shim.close(leaves=True)
