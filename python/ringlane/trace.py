"""Spans across the border: which of the worker's spans each request of a traced lane belongs to, in the lane's side table."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .ticket import Records

if TYPE_CHECKING:
    from .lane import Lane

_current_span: Callable[[], Any]

CONTEXT_BYTES = 32
_NONE = np.zeros(CONTEXT_BYTES, np.uint8)


def check_installed() -> None:
    """Raises `ModuleNotFoundError` with the remedy where opentelemetry-api is not installed."""
    global _current_span
    try:
        from opentelemetry.trace import get_current_span
    except ImportError as error:
        raise ModuleNotFoundError(
            'tracing needs the package opentelemetry-api: pip install "ringlane[otel]"'
        ) from error
    _current_span = get_current_span


def current_context() -> bytes | None:
    """The current span as a side table holds it (trace id 16 bytes, span id 8, flags 1, zero 7), if it is sampled."""
    context = _current_span().get_span_context()
    if not context.is_valid or not context.trace_flags.sampled:
        return None
    head: bytes = context.trace_id.to_bytes(16, "big") + context.span_id.to_bytes(8, "big")
    return head + bytes([context.trace_flags]) + bytes(7)


class SideTable:
    """The side table of one lane. Written while a reservation is open, of which a lane has one at a time."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        size = lane.depth * CONTEXT_BYTES
        self._rows = np.asarray(lane._shim.arena()).view(np.uint8)[:size].reshape(lane.depth, CONTEXT_BYTES)
        # Whether slots may still name spans of requests that are long done.
        self._used = False
        # Values of one record, in the order of `Lane.call`.
        self._inputs = [field.name for field in lane.request_schema.visible]
        self._outputs = [field.name for field in lane.result_schema.visible]

    def write(self, first: int, count: int) -> None:
        """The current span is that of the requests in `count` slots from `first` on."""
        context = current_context()
        if context is None and not self._used:
            return
        self._used = True
        row = _NONE if context is None else np.frombuffer(context, np.uint8)
        begin = first & (len(self._rows) - 1)
        end = begin + count
        self._rows[begin:end] = row
        if end > len(self._rows):
            self._rows[: end - len(self._rows)] = row

    def call(self, *numbers: Any) -> tuple[Any, ...]:
        """`Lane.call` for a lane that is traced: as quick as another's while no span is sampled."""
        if not self._used and current_context() is None:
            return self._lane._shim.call(*numbers)
        if len(numbers) > len(self._inputs):
            raise TypeError(f"a record has {len(self._inputs)} fields, not {len(numbers)}")
        record: Records = np.zeros(1, self._lane.request_dtype)
        for name, number in zip(self._inputs, numbers, strict=False):
            try:
                record[name] = number
            except OverflowError as error:
                raise ValueError(f"{name} cannot hold {number}") from error
        was_used = self._used
        ticket = self._lane.submit(record)
        result = ticket.result()[0]
        answer = tuple(result[name].item() for name in self._outputs)
        if not was_used:
            # The ticket still holds the slot: nobody else can have written its place.
            self._rows[ticket._slots[0] & (len(self._rows) - 1)] = 0
            self._used = False
        return answer


def side_table(lane: Lane, reply: dict[str, Any]) -> SideTable | None:
    """The side table of a lane of orders; None when it is not traced, or the sidecar has no collector to tell."""
    return SideTable(lane) if lane.kernel == "orders" and reply["arena_bytes"] else None
