"""The sidecar's board, read from shared memory without asking the sidecar: where things sit is told by the board itself."""

from __future__ import annotations

import json
import mmap
import struct
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import _shim
from ._shim import SidecarUnavailable

_SEGMENTS = Path("/dev/shm")
_MAGIC = b"RLBRD002"
_SCHEMA_OFFSET, _SCHEMA_BYTES_WORD = 73728, 6
_QUICK_ATTEMPTS = 50
_PAUSE_SECONDS = 0.00005
_VERSION = struct.Struct("@Q")  # native, so one load

Values = dict[str, Any]


class Board:
    """A read-only look at the board of a sidecar, by the name that `client.board` says.

    `read()` gives what `client.stats()` gives, for any sidecar of this host. Raises `SidecarUnavailable` when there is no
    board of that name or of this version.

    >>> import ringlane
    >>> with ringlane.connect() as client:
    ...     board = ringlane.stats.Board(client.board)
    ...     board.read()["header"]["pid"] == client.pid
    True
    """

    def __init__(self, name: str) -> None:
        path = _SEGMENTS / name
        try:
            with open(path, "rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        except (OSError, ValueError) as error:
            raise SidecarUnavailable(f"there is no board {path}: {error}; is the sidecar running?") from None
        if self._map[:8] != _MAGIC:
            raise SidecarUnavailable(f"{path} is not a board of this version; install the same ringlane on both sides")
        (size,) = struct.unpack_from("<Q", self._map, _SCHEMA_BYTES_WORD * 8)
        self._schema: Values = json.loads(self._map[_SCHEMA_OFFSET : _SCHEMA_OFFSET + size])

    def read(self) -> Values:
        """Everything, as nested dicts and lists. Names end in their unit (`_ns`, `_bytes`); times are since 1970."""
        values: Values = {"header": self._fields(self._map[:4096], self._schema["header"])}
        for table in self._schema["tables"]:
            if table["rows"] == 1:
                values[table["name"]] = self._row(table, 0)
            else:
                rows = (self._row(table, index) for index in range(table["rows"]))
                values[table["name"] + "s"] = [row for row in rows if row is not None]
        for lane in values["lanes"]:
            lane["in_flight"] = lane["submitted"] - lane["completed"]
            lane["held"] = lane["completed"] - lane["released"]
        values["stages"] = {name: self._stage(number) for number, name in enumerate(self._schema["stages"]["names"])}
        return values

    def _fields(self, row: bytes, fields: list[tuple[str, int, int, str]]) -> Values:
        values: Values = {}
        for name, word, words, kind in fields:
            if kind == "text":
                text = row[word * 8 : (word + words) * 8]
                values[name] = text.split(b"\0", 1)[0].decode(errors="replace")
            else:
                (values[name],) = struct.unpack_from("<Q", row, word * 8)
        return values

    def _row(self, table: Values, index: int) -> Values | None:
        """One consistent row; None when it is empty, or when its writer did not let go of it in all attempts."""
        begin = table["offset"] + index * table["row_bytes"]
        attempts: int = self._schema["read_attempts_max"]
        for attempt in range(attempts):
            # A copy loads its words in any order: the version is looked at by loads of its own, before and behind it.
            (before,) = _VERSION.unpack_from(self._map, begin)
            row = self._map[begin : begin + table["row_bytes"]]
            (after,) = _VERSION.unpack_from(self._map, begin)
            if before == after and before % 2 == 0:
                is_empty = table["rows"] > 1 and not any(row[8:16])
                return None if is_empty else self._fields(row, table["fields"])
            if attempt >= _QUICK_ATTEMPTS:
                time.sleep(_PAUSE_SECONDS)
        return None

    def _stage(self, number: int) -> Values:
        stages = self._schema["stages"]
        begin = stages["offset"] + number * stages["row_bytes"]
        words = struct.unpack_from(f"<{stages['row_bytes'] // 8}Q", self._map, begin)
        bounds: list[int] = stages["lower_bounds_ns"]
        buckets = words[stages["first_bucket"] : stages["first_bucket"] + len(bounds)]
        count, longest = sum(buckets), words[stages["max_ns"]]
        values: Values = {"count": count, "sum_ns": words[stages["sum_ns"]], "max_ns": longest}
        for name, fraction in (("p50_ns", 0.5), ("p90_ns", 0.9), ("p99_ns", 0.99), ("p999_ns", 0.999)):
            values[name] = _quantile(buckets, bounds, count * fraction, longest)
        return values


def _quantile(buckets: tuple[int, ...], bounds: list[int], rank: float, longest: int) -> int:
    """The middle of the bucket in which the time of this rank lies, at most the longest time; 0 when there is none."""
    seen = 0
    for index, count in enumerate(buckets):
        seen += count
        if count and seen >= rank:
            low, high = bounds[index], bounds[min(index + 1, len(bounds) - 1)]
            return min((low + high) // 2, max(longest, low))
    return 0


COUNTS = (
    "batches",
    "records",
    "fill_ns",
    "waits",
    "wait_ns",
    "calls",
    "calls_timed",
    "call_fill_ns",
    "call_wait_ns",
    "call_read_ns",
    "lane_full",
)
"""What the shim counts, in its order (`layout/src/client/border.rs`)."""

_OWN = ("latency_ns", "read_ns", "reads", "timeouts")


class Border:
    """What the border between Python and the sidecar costs this process's lanes of one kernel. Times are nanoseconds.

    Counted by the shim: `batches` and `records` submitted, reservations included; `fill_ns`, from their slots being there to
    their being submitted; `waits` and `wait_ns` for results; `calls` of `lane.call`, of which one in 64 is timed:
    `calls_timed`, and for those `call_fill_ns`, `call_wait_ns` and `call_read_ns`; `lane_full`, how often there was no room, in
    whatever way it was asked for. Counted in Python: `reads` and `read_ns` making arrays of results, no room in the arena of a
    lane of digests (`lane_full` too), `timeouts`, and of `process` calls `latency_ns` and `latency`: a list of 64 counts, of
    which number i counts those of 2**(i-1) to 2**i ns. Threads that count at the same instant may lose one.

    >>> import ringlane
    >>> with ringlane.connect() as client, client.open("orders", depth=64) as lane:
    ...     for number in range(128):
    ...         answer = lane.call(2, 0, 0, 0, 1, 7, 0, number)
    ...     lane.border.calls, lane.border.calls_timed
    (128, 2)
    """

    __slots__ = ("_live", "_past", "latency", *_OWN)

    def __init__(self) -> None:
        self.reads = self.read_ns = self.timeouts = self.latency_ns = 0
        self.latency = [0] * 64
        # Lanes that count, and what lanes counted that are gone.
        self._live: weakref.WeakSet[_shim.Lane] = weakref.WeakSet()
        self._past = [0] * len(COUNTS)

    def count_lane(self, lane: object, shim: _shim.Lane) -> Callable[[], object]:
        """From now on the counts of `shim` are in these, also when its `lane` is gone. What it gives ends the counting."""
        self._live.add(shim)
        end = weakref.finalize(lane, self._fold, shim)
        end.atexit = False
        return end

    def _fold(self, shim: _shim.Lane) -> None:
        self._live.discard(shim)
        self.add(**dict(zip(COUNTS, shim.border, strict=True)))

    def add(self, **counts: int) -> None:
        """Adds to what the shim counts: for lanes that have none."""
        for name, count in counts.items():
            self._past[COUNTS.index(name)] += count

    def __getattr__(self, name: str) -> int:
        if name not in COUNTS:
            raise AttributeError(name)
        number = COUNTS.index(name)
        return self._past[number] + sum(shim.border[number] for shim in list(self._live))

    def values(self) -> Values:
        """As a dict, without `latency`."""
        return {name: getattr(self, name) for name in sorted((*COUNTS, *_OWN))}
