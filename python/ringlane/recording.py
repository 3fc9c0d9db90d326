"""Recordings: what a sidecar's journal holds, as numpy arrays, and what came of it, computed again.

The room of everything that looks at a journal without a running sidecar. Bytes are read through memory maps; whatever a
kernel must compute (results, events, trades, books, hashes) is asked of the `ringlane` program, which lives through the
recording again.
"""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ._shim import RinglaneError
from .queries import Rows
from .sidecar import find_binary

__all__ = [
    "BookAt",
    "Frame",
    "Place",
    "Recording",
    "RecordingError",
    "Replayed",
    "SymbolBook",
    "book_at",
    "read_recording",
]

#: A sequence number, a time, or either as text (`"1234"`, `"2026-11-21T09:30:00Z"`, `"@1795253400.5"`).
Place = int | str | datetime | np.datetime64

_FRAME_BYTES = 64


class RecordingError(RinglaneError):
    """The recording is damaged, cut off, foreign, empty, or of another version; the message is the program's own."""


def _ask(*arguments: str) -> Any:
    """What the program says. Its exit code may speak of a torn end or a difference; without an answer it is an error."""
    done = subprocess.run([find_binary(), *arguments], capture_output=True, text=True, errors="replace")
    if not done.stdout:
        raise RecordingError(done.stderr.strip().removeprefix("ringlane: ") or f"ringlane ended with {done.returncode}")
    return json.loads(done.stdout)


def _place(place: Place) -> str:
    if isinstance(place, datetime):
        if place.tzinfo is None:
            place = place.replace(tzinfo=timezone.utc)
        return place.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(place, np.datetime64):
        return str(np.datetime_as_string(place.astype("datetime64[ns]"))) + "Z"
    return str(place)


@dataclass(frozen=True)
class Frame:
    """One frame: its place, header and records.

    `records` is a view of the mapped file, without a copy; its dtype is that of the frame's kind.
    """

    kind: str
    lane: int
    first_sequence: int
    time_ns: int
    records: Rows


@dataclass(frozen=True)
class Replayed:
    """What a replay came to: the hash of the whole state, and counters since the recording's beginning."""

    state_hash: str
    output_hash: str
    sequence: int
    frames: int
    records: int
    accepted: int
    rejected: int
    trades: int
    resting: int
    torn: str | None


@dataclass(frozen=True)
class SymbolBook:
    """One symbol at one moment.

    `bids` and `asks` are its levels, best first (price in price units, quantity, order_count). `orders` are its open
    orders in the order of the queue, bids before asks. `positions` are those of all accounts; their `cash` is an exact
    int, price units x quantity.
    """

    symbol: int
    name: str
    price_decimals: int
    bids: list[dict[str, Any]]
    asks: list[dict[str, Any]]
    orders: list[dict[str, Any]]
    positions: list[dict[str, Any]]


@dataclass(frozen=True)
class BookAt:
    """Books, positions and open orders as they stood after `sequence`. `symbols` maps names to `SymbolBook`."""

    sequence: int
    state_hash: str
    symbols: Mapping[str, SymbolBook]

    def __getitem__(self, name: str) -> SymbolBook:
        return self.symbols[name]


class Recording:
    """A journal directory, or its first segment; made by `read_recording`.

    Attributes: `path`; `frames`, a structured array with one row a frame (segment, offset, first_sequence, first_slot,
    time_ns, lane, kind, waiting_slots, ...), every checksum of which was checked. Only what stood in the recording when
    it was opened is seen.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._directory = tempfile.TemporaryDirectory(prefix="ringlane-recording-")
        weakref.finalize(self, self._directory.cleanup)
        self._described: dict[str, Any] = _ask("export", "--describe")
        self._names = {kind["value"]: kind["name"] for kind in self._described["kinds"]}
        self._dtypes = {kind["name"]: _dtype(kind["record"]) for kind in self._described["kinds"] if kind["record"]}
        self._maps: dict[int, Rows] = {}
        self._tables: dict[str, Rows] = {}
        self.frames: Rows = self.table("frames")

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the kinds of frames that stand in this recording."""
        return tuple(self._names[value] for value in np.unique(self.frames["kind"]).tolist())

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[Frame]:
        """Frame by frame, each with a view of its records."""
        for row in self.frames:
            yield self._frame(row)

    def __getitem__(self, index: int) -> Frame:
        return self._frame(self.frames[index])

    def _frame(self, row: Any) -> Frame:
        kind = self._names[int(row["kind"])]
        first = int(row["offset"]) // _FRAME_BYTES + 1
        units = self._units(int(row["segment"]))[first : first + int(row["payload_bytes"]) // _FRAME_BYTES]
        return Frame(
            kind, int(row["lane"]), int(row["first_sequence"]), int(row["time_ns"]), units.view(self._dtypes[kind])
        )

    def _units(self, segment: int) -> Rows:
        """A segment as units of 64 bytes: headers and records have the same size."""
        units = self._maps.get(segment)
        if units is None:
            path = self.path / f"{segment:08}.ringlane"
            if not self.path.is_dir():
                first = int(self.frames["segment"][0])
                path = self.path if segment == first else self.path.parent / f"{segment:08}.ringlane"
            with path.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            units = np.frombuffer(mapped, dtype=f"V{_FRAME_BYTES}", count=len(mapped) // _FRAME_BYTES)
            self._maps[segment] = units
        return units

    def records(self, kind: str) -> Rows:
        """All records of a kind of frame (`"ORDERS"`, `"LANE_OPEN"`, ...) as one structured array, in their order.

        Raises `KeyError` for a kind that no recording of this version has.
        """
        dtype = self._dtypes[kind]
        value = next(value for value, name in self._names.items() if name == kind)
        rows = self.frames[self.frames["kind"] == value]
        parts = []
        for segment in np.unique(rows["segment"]).tolist():
            own = rows[rows["segment"] == segment]
            counts = (own["payload_bytes"] // _FRAME_BYTES).astype(np.int64)
            starts = own["offset"].astype(np.int64) // _FRAME_BYTES + 1
            # The index of each record: its frame's start, and how far it is from there.
            within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
            parts.append(self._units(segment)[np.repeat(starts, counts) + within])
        units = np.concatenate(parts) if parts else np.empty(0, f"V{_FRAME_BYTES}")
        return units.view(dtype)

    def table(self, name: str) -> Rows:
        """A table of `ringlane export` as a memory-mapped structured array; it is made once.

        `orders`, `results`, `events`, `trades`, `frames`, or a kind of record such as `lane_open`. Enums are numbers, as
        in lanes.
        """
        found = self._tables.get(name)
        if found is None:
            _ask("export", str(self.path), "--to", "npy", "--tables", name, "--out", self._directory.name, "--json")
            found = np.load(Path(self._directory.name, f"{name}.npy"), mmap_mode="r")
            shown = [field for field in found.dtype.names or () if not field.startswith("_")]
            found = self._tables[name] = found[shown].view(np.ndarray)
        return found

    @cached_property
    def replayed(self) -> Replayed:
        """The whole recording lived through again.

        Raises `RecordingError` when it is no whole recording.
        """
        return self.replay()

    @property
    def state_hash(self) -> str:
        """Hash of the state at the recording's end; a live sidecar that has just written it says the same."""
        return self.replayed.state_hash

    @property
    def orders(self) -> Rows:
        """One row an order request: sequence, time_ns, slot, lane, and the request's fields."""
        return self.table("orders")

    @property
    def results(self) -> Rows:
        """One row an order request: sequence, time_ns, slot, lane, and the answer's fields."""
        return self.table("results")

    @property
    def events(self) -> Rows:
        """One row an event: lane that it was for, and the event's fields."""
        return self.table("events")

    @property
    def trades(self) -> Rows:
        """One row a trade: id (sequence, k), time_ns, symbol, price, quantity, taker's and maker's ids and accounts."""
        return self.table("trades")

    def replay(self, until: Place | None = None) -> Replayed:
        """Lives through the recording up to a place, or to its end."""
        limit = [] if until is None else ["--until", _place(until)]
        answer = _ask("replay", "--json", *limit, str(self.path))
        return Replayed(**{name: answer[name] for name in Replayed.__dataclass_fields__})

    def verify(self, against: str | os.PathLike[str] | Recording | None = None) -> str | None:
        """Compares all outputs with the recorded ones, or with another recording's. None when equal, else the first
        difference in words.

        Raises `RecordingError` when one of them is no whole recording.
        """
        other = against.path if isinstance(against, Recording) else against
        more = [] if other is None else ["--against", os.fspath(other)]
        answer = _ask("replay", "--json", "--verify", *more, str(self.path))
        difference = answer["verified"]["difference"]
        return None if difference is None else str(difference["words"])

    def book_at(self, at: Place | None = None, symbol: str | int | None = None) -> BookAt:
        """Books, positions and open orders at a place, of one symbol or all."""
        return book_at(self.path, at, symbol)

    def __repr__(self) -> str:
        return f"<ringlane.Recording {self.path}: {len(self)} frames>"


def _dtype(record: Mapping[str, Any]) -> np.dtype[np.void]:
    fields = [field for field in record["fields"] if not field["name"].startswith("reserved")]
    return np.dtype(
        {
            "names": [field["name"] for field in fields],
            "formats": [field["type"] for field in fields],
            "offsets": [field["offset"] for field in fields],
            "itemsize": record["size"],
        }
    )


def read_recording(path: str | os.PathLike[str]) -> Recording:
    """Opens a journal directory, or its first segment, for reading. A live sidecar may go on writing it.

    Raises `RecordingError` when it is damaged, foreign or empty, and `SidecarUnavailable` when the `ringlane` program is
    not installed.

    >>> import ringlane, tempfile
    >>> journal = tempfile.TemporaryDirectory()
    >>> with ringlane.Sidecar(journal=journal.name) as sidecar, ringlane.connect(sidecar.address) as client:
    ...     lane = client.open("orders")
    ...     sells = lane.batch(symbol="AAPL", side="SELL", account=1, client_order_id=[1, 2], price="187.25", quantity=100)
    ...     buy = lane.batch(symbol="AAPL", side="BUY", account=2, client_order_id=1, price="187.25", quantity=150)
    ...     states = [*lane.process(sells)["state"], *lane.process(buy)["state"]]
    >>> recording = ringlane.read_recording(journal.name)
    >>> recording.records("ORDERS")["quantity"], recording.trades["quantity"]
    (array([100, 100, 150]), array([100,  50], dtype=uint32))
    >>> recording.verify() is None
    True
    >>> first = int(recording.orders["sequence"][0])
    >>> recording.book_at(first, "AAPL")["AAPL"].asks[0]["quantity"]
    100
    """
    return Recording(path)


def book_at(path: str | os.PathLike[str], at: Place | None = None, symbol: str | int | None = None) -> BookAt:
    """Books, positions and open orders of a moment in a recording.

    `at` is a sequence number (behind that record), a time (behind all of that time), or None for the end. `symbol` is a
    name or number; None gives every symbol that has orders or positions.

    Raises `RecordingError` when the recording is damaged, or ends before `at`, or has no such symbol.
    """
    moment = [] if at is None else ["--at", _place(at)]
    which = [] if symbol is None else ["--symbol", str(symbol)]
    answer = _ask("book", os.fspath(path), *moment, *which, "--json")
    books = {}
    for book in answer["symbols"]:
        for position in book["positions"]:
            position["cash"] = int(position["cash"])
        books[book["name"]] = SymbolBook(**book)
    return BookAt(answer["sequence"], answer["state_hash"], books)
