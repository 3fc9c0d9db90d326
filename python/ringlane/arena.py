"""A lane's payload arena: which bytes are whose, from the moment they are taken until nobody needs them any more."""

from __future__ import annotations

import threading
import weakref
from bisect import insort
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _shim

Bytes = npt.NDArray[np.uint8]

_ALIGN = 64


class _Piece:
    """Bytes of an arena as numpy sees them: arrays over them, slices too, hold this, and with it the mapping."""

    __slots__ = ("__array_interface__", "_lease", "__weakref__")

    def __init__(self, lease: _shim.Lease, address: int, count: int) -> None:
        self._lease = lease
        self.__array_interface__ = {"version": 3, "typestr": "|u1", "shape": (count,), "data": (address, False)}


class Arena:
    """Gives out pieces of an arena and takes them back. Thread-safe."""

    def __init__(self, shim: _shim.Lane, size: int) -> None:
        self.shim = shim
        self._lease = shim.arena()
        self._address: int = self._lease.__array_interface__["data"][0]
        self.size = size
        self._all: Bytes = np.asarray(_Piece(self._lease, self._address, size))
        self.view = memoryview(self._all)  # type: ignore[arg-type]  # quicker than numpy with small pieces
        self._lock = threading.Lock()
        self._free: list[tuple[int, int]] = [(0, size)] if size else []  # (offset, length), ascending, never touching
        self._given_back: deque[tuple[int, int]] = deque()  # appended to by finalizers, at any moment
        # What submitted slots read: (slot behind the last one, a piece to give back or an array to keep), ascending.
        self._in_flight: deque[tuple[int, tuple[int, int] | Bytes]] = deque()

    def take(self, count: int) -> int | None:
        """The offset of `count` fresh bytes, or None when there is no such piece now."""
        with self._lock:
            self._collect()
            length = -(-max(count, 1) // _ALIGN) * _ALIGN
            for index, (offset, free) in enumerate(self._free):
                if free >= length:
                    self._free[index : index + 1] = [(offset + length, free - length)] if free > length else []
                    return offset
            return None

    def array(self, offset: int, count: int) -> Bytes:
        """A writable array over taken bytes; when it and all its slices are gone, they are given back."""
        piece = _Piece(self._lease, self._address + offset, count)
        weakref.finalize(piece, self._given_back.append, self._piece(offset, count)).atexit = False
        return np.asarray(piece)

    def bytes_at(self, offset: int, count: int) -> Bytes:
        """Taken bytes, as they are."""
        return self._all[offset : offset + count]

    def gather(self, offset: int, payloads: Sequence[bytes]) -> None:
        """Copies payloads into taken bytes, one behind the other."""
        self._lease.gather(offset, list(payloads))

    def offset_of(self, payload: Any) -> int | None:
        """Where an array stands in this arena, or None when it does not or is not one run of bytes."""
        if not isinstance(payload, np.ndarray) or not payload.flags.c_contiguous:
            return None
        offset: int = payload.__array_interface__["data"][0] - self._address
        return offset if offset >= 0 and offset + payload.nbytes <= self.size and payload.nbytes else None

    def submitted(self, end: int, offset: int | None, count: int, kept: list[Bytes]) -> None:
        """The slots below `end` read the piece at `offset` and the arrays of `kept`: they stay until those are done."""
        with self._lock:
            if offset is not None:
                self._in_flight.append((end, self._piece(offset, count)))
            self._in_flight.extend((end, array) for array in kept)

    def give_back(self, offset: int, count: int) -> None:
        """Nothing was submitted over this piece."""
        self._given_back.append(self._piece(offset, count))

    def oldest(self) -> int | None:
        """The slot behind those that must be done before bytes come free, or None when none are in flight."""
        with self._lock:
            return self._in_flight[0][0] if self._in_flight else None

    @staticmethod
    def _piece(offset: int, count: int) -> tuple[int, int]:
        return offset, -(-max(count, 1) // _ALIGN) * _ALIGN

    def _collect(self) -> None:
        completed = self.shim.cursors[1]
        while self._in_flight and self._in_flight[0][0] <= completed:
            _, what = self._in_flight.popleft()
            if isinstance(what, tuple):
                self._merge(what)
        while self._given_back:
            self._merge(self._given_back.popleft())

    def _merge(self, piece: tuple[int, int]) -> None:
        insort(self._free, piece)
        index = self._free.index(piece)
        if index + 1 < len(self._free) and sum(self._free[index]) == self._free[index + 1][0]:
            self._free[index : index + 2] = [(piece[0], piece[1] + self._free[index + 1][1])]
        if index and sum(self._free[index - 1]) == self._free[index][0]:
            before, length = self._free[index - 1]
            self._free[index - 1 : index + 1] = [(before, length + self._free[index][1])]
