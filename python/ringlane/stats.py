"""The sidecar's board, read from shared memory without asking the sidecar: where things sit is told by the board itself."""

from __future__ import annotations

import json
import mmap
import struct
import time
from pathlib import Path
from typing import Any

from ._shim import SidecarUnavailable

_SEGMENTS = Path("/dev/shm")
_MAGIC = b"RLBRD002"
_SCHEMA_OFFSET, _SCHEMA_BYTES_WORD = 73728, 6
_QUICK_ATTEMPTS = 50
_PAUSE_SECONDS = 0.00005

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
            row = self._map[begin : begin + table["row_bytes"]]
            before, first = struct.unpack_from("<QQ", row)
            (after,) = struct.unpack_from("<Q", self._map, begin)
            if before == after and before % 2 == 0:
                is_empty = table["rows"] > 1 and first == 0
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


class Border:
    """What the border between Python and the sidecar costs one lane of this process. All times are nanoseconds.

    Attributes: `batches` and `records` submitted, `fill_ns` copying them into the ring (waiting for room included), `waits`
    and `wait_ns` for results, `reads` and `read_ns` making arrays of results, `lane_full` and `timeouts` raised, and
    `latency`: a list of 64 counts, of which number i counts `process` calls of 2**(i-1) to 2**i ns. `lane.call` and
    reservations count nothing here: they are over before Python could look at a clock. Threads that count at the same
    instant may lose one.
    """

    __slots__ = (
        "batches",
        "fill_ns",
        "lane_full",
        "latency",
        "latency_ns",
        "read_ns",
        "reads",
        "records",
        "timeouts",
        "wait_ns",
        "waits",
    )

    def __init__(self) -> None:
        self.batches = self.records = self.fill_ns = self.waits = self.wait_ns = 0
        self.reads = self.read_ns = self.lane_full = self.timeouts = self.latency_ns = 0
        self.latency = [0] * 64

    def values(self) -> Values:
        """As a dict."""
        return {name: getattr(self, name) for name in sorted(self.__slots__) if name != "latency"}
