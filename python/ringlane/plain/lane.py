"""Lanes without a sidecar: the same classes, whose slots are plain arrays and whose answers are there at once."""

from __future__ import annotations

import asyncio
import operator
import threading
import time
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from .. import _shim
from ..enums import BY_NAME
from ..lane import Lane, OnFull, wait_allowed
from ..schema import BUILT_IN, NO_RECORD, Schema
from ..stats import Border
from ..ticket import Records, Ticket, nanoseconds
from . import rules

if TYPE_CHECKING:
    from .client import PlainClient

_LOOK_SECONDS = 0.0005


class PlainLease:
    """Results that stand in an array of their own."""

    def __init__(self, first: int, results: npt.NDArray[Any]) -> None:
        results.flags.writeable = False
        self.first, self.count = first, len(results)
        self._results = results

    def __array__(self, dtype: Any = None, copy: Any = None) -> npt.NDArray[Any]:
        return self._results


class PlainShim:
    """Stands where the shim of a lane does: its cursors, its events, its end."""

    def __init__(self, client: PlainClient, number: int, event_dtype: np.dtype[Any] | None) -> None:
        self._client, self._number, self._event_dtype = client, number, event_dtype
        self._submitted = 0
        self.closed = False

    def check(self) -> None:
        """Raises `RinglaneError` when the lane is closed."""
        if self.closed:
            raise _shim.RinglaneError("the lane is closed")

    @property
    def cursors(self) -> tuple[int, int]:
        """Slots submitted and completed: what is submitted is done."""
        return self._submitted, self._submitted

    def lease(self, results: npt.NDArray[Any]) -> Any:
        """Counts a batch and holds its results."""
        self._submitted += len(results)
        return PlainLease(self._submitted - len(results), results)

    def settled(self, _target: int) -> bool:
        """Answers are there at once."""
        return True

    def has_events(self) -> bool:
        """Whether one waits, or none can come any more."""
        state = self._client.venue.lanes.get(self._number)
        return self.closed or (state is not None and bool(state.events))

    def wait(self, target: int, timeout_ns: int | None, sleeps: bool = False) -> None:
        """Until the next event, for 0; anything else is done already. Raises `TimeoutError`."""
        deadline = None if timeout_ns is None else time.monotonic_ns() + timeout_ns
        while target == 0 and not self.has_events():
            if deadline is not None and time.monotonic_ns() > deadline:
                raise TimeoutError("no event came in time")
            time.sleep(_LOOK_SECONDS)

    def take_events(self, most: int) -> bytes:
        """The oldest events that nobody took yet, as bytes of records."""
        venue = self._client.venue
        with venue.lock:
            state = venue.lanes.get(self._number)
            if state is None or self._event_dtype is None:
                return b""
            taken = [state.events.popleft() for _ in range(min(most, len(state.events)))]
        return np.array(taken, self._event_dtype).tobytes()

    def close(self) -> None:
        """Idempotent."""
        self.closed = True


class PlainWatch:
    """How asyncio waits for events."""

    async def wait(self, shim: Any, target: int) -> bool:
        """As `PlainShim.wait`."""
        while target == 0 and not shim.has_events():
            await asyncio.sleep(_LOOK_SECONDS)
        return True


class PlainReservation:
    """A zeroed array to fill; leaving the block submits it. As `ringlane.Reservation`."""

    def __init__(self, lane: Any, count: int) -> None:
        self._lane, self._slots = lane, np.zeros(count, lane.request_dtype)
        self._ticket: Ticket | None = None

    def __enter__(self) -> Any:
        self._lane._shim.check()
        return self._lane._fillable(self._slots)

    def __exit__(self, kind: Any, *_: object) -> None:
        if kind is None:
            self._ticket = self._lane._answered(self._slots)
            self._slots.flags.writeable = False

    @property
    def ticket(self) -> Ticket:
        """The ticket of the submitted slots. Raises `RinglaneError` before the block ended well."""
        if self._ticket is None:
            raise _shim.RinglaneError("nothing is submitted yet: the ticket is there after the `with` block ended well")
        return self._ticket


class Plain(Lane):
    """What all lanes of this backend have; `_answers` makes results of requests, both arrays of records."""

    def _begin(
        self,
        client: PlainClient,
        kernel: str,
        number: int,
        depth: int,
        schemas: tuple[Schema, ...],
        timeout: float | None,
    ) -> None:
        self._client = client
        self.border = client._borders.setdefault(kernel, Border())
        self._timeout_ns = nanoseconds(timeout)
        self.kernel, self.number, self.depth, self.events_capacity = kernel, number, depth, 0
        self.accounts, self.token = (0, 0), ""
        self.request_schema, self.result_schema, self.event_schema = (*schemas, NO_RECORD)[:3]
        self.request_dtype, self.result_dtype = self.request_schema.dtype, self.result_schema.dtype
        self.event_dtype, self.enums = self.event_schema.dtype, BY_NAME
        self._shim = cast(Any, PlainShim(client, number, self.event_dtype if len(schemas) == 3 else None))
        self._slot_words = self.request_schema.size // 8
        self._events_lock, self._event_number = threading.Lock(), 0
        self.call = self._wide

    def _answers(self, requests: Records) -> Records:
        raise NotImplementedError

    def _answered(self, requests: Records) -> Ticket:
        self._shim.check()
        self.border.add(batches=1, records=len(requests))
        return self._ticket_class(self, cast(Any, self._shim).lease(self._answers(requests)))

    def submit(self, batch: Records, timeout: float | None = None, on_full: OnFull = "block") -> Ticket:
        """As `Lane.submit`; answers at once, and never finds the lane full."""
        wait_allowed(on_full)
        nanoseconds(timeout)
        return self._answered(self._words(batch).reshape(-1).view(self.request_dtype))

    def reserve(self, count: int, timeout: float | None = None, on_full: OnFull = "block") -> Any:
        """As `Lane.reserve`."""
        if not 1 <= count <= self.depth:
            raise ValueError(f"a reservation holds 1 to {self.depth} slots (the lane's depth), not {count}")
        return PlainReservation(self, count)

    def _loop_watch(self) -> Any:
        return PlainWatch()


class PlainOrderLane(Plain):
    """A lane to the plain order book."""

    def __init__(
        self,
        client: PlainClient,
        depth: int,
        events: int,
        cancels: bool,
        accounts: tuple[int, int],
        timeout: float | None,
    ) -> None:
        schemas = tuple(BUILT_IN[name] for name in ("OrderRequest", "OrderResult", "OrderEvent"))
        number = client.venue.open_lane(*accounts)
        self._begin(client, "orders", number, depth, schemas, timeout)
        self.accounts, self.events_capacity, self.cancels = accounts, events, cancels
        self.call = self._call

    def _answers(self, requests: Records) -> Records:
        rows = list(map(rules.Request._make, requests.tolist()))
        for row in rows:
            if what := rules.not_done(row):
                raise NotImplementedError(
                    f"the Python backend does not do {what}; nothing was submitted: use a sidecar"
                )
        answers = self._client.venue.process(self.number, rows)  # type: ignore[attr-defined]
        return np.array(answers, self.result_dtype)

    def _call(self, *fields: Any) -> tuple[Any, ...]:
        visible = self.request_schema.visible
        if len(fields) > len(visible):
            raise TypeError(f"a record has {len(visible)} fields, not {len(fields)}")
        request = np.zeros(1, self.request_dtype)
        for field, value in zip(visible, fields, strict=False):
            number, info = operator.index(value), np.iinfo(field.type)
            if not info.min <= number <= info.max:
                raise ValueError(f"{field.name} must be {info.min} to {info.max}, not {number}")
            request[field.name] = number
        answer: tuple[Any, ...] = self._answered(request).result()[0].item()
        return answer
