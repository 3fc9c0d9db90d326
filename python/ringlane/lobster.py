"""LOBSTER days: reads the zip of one day and says what it holds.

The room of the importer only: file names, columns, numbers, and what later messages tell about a price level
(`Prescan`). Playing a day through an order book is `ringlane.lobster_player`. LOBSTER data belongs to its owners and is
never part of Ringlane.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["LobsterDay", "LobsterError", "MessageType", "Prescan", "read_day"]

Array = npt.NDArray[Any]

#: Largest unpacked csv file that is read, bytes; a day of a busy ticker at 10 levels has about 200 MB.
CSV_BYTES_MAX = 1 << 30
#: Most price levels a side.
LEVELS_MAX = 1000
#: Marks an empty level: this price, negative for bids, with size 0.
EMPTY_PRICE = 9_999_999_999
#: Largest price and size that the order kernel takes (layout limits).
PRICE_MAX = (1 << 36) - 1
SIZE_MAX = (1 << 27) - 1

_NAME = re.compile(
    r"(?P<ticker>[^/]+)_(?P<date>\d{4}-\d\d-\d\d)_\d+_\d+_(?P<what>message|orderbook)_(?P<levels>\d+)\.csv"
)


class LobsterError(ValueError):
    """The file is not a LOBSTER day, or is damaged; the message names the file, the line and what is wrong with it."""


class MessageType(IntEnum):
    """Second column of a message file."""

    ADD = 1
    REDUCE = 2
    DELETE = 3
    EXECUTE = 4
    EXECUTE_HIDDEN = 5
    CROSS = 6
    HALT = 7


@dataclass(frozen=True)
class LobsterDay:
    """One ticker's day. Arrays have one entry a message; `asks` and `bids` (messages, levels, 2: price, size).

    Prices are dollars x 10000. `directions` is the side of the resting order: +1 buy, -1 sell. An empty level has size
    0.
    """

    path: Path
    ticker: str
    date: str
    levels: int
    times_ns: Array
    types: Array
    ids: Array
    sizes: Array
    prices: Array
    directions: Array
    asks: Array
    bids: Array

    @property
    def messages(self) -> int:
        """Messages in the day, which is also the number of book rows."""
        return len(self.types)

    @property
    def tick(self) -> int:
        """Largest price step that every visible price of the day is a multiple of."""
        visible = self.prices[
            np.isin(self.types, (MessageType.ADD, MessageType.REDUCE, MessageType.DELETE, MessageType.EXECUTE))
        ]
        seen = [visible, self.asks[..., 0][self.asks[..., 1] > 0], self.bids[..., 0][self.bids[..., 1] > 0]]
        step = int(np.gcd.reduce(np.unique(np.concatenate(seen)))) if any(len(part) for part in seen) else 1
        # A multiple of a cent is a coincidence of a short day; a cent and what divides it is a market's tick.
        return int(np.gcd(step, 100)) or 1


def read_day(path: str | Path) -> LobsterDay:
    """Read and check the zip at `path`: one message file and one orderbook file of one ticker and day.

    Raises `LobsterError` when the file is missing, damaged, or something else.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            names = _member_names(path, archive)
            texts = {what: _member_bytes(path, archive, match.string) for what, match in names.items()}
    except FileNotFoundError:
        raise LobsterError(f"{path}: there is no such file") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise LobsterError(f"{path}: not a readable zip file ({error})") from None
    levels = int(names["orderbook"]["levels"])
    messages = _numbers(f"{path}: {names['message'].string}", texts["message"], (6, 7))
    book = _numbers(f"{path}: {names['orderbook'].string}", texts["orderbook"], (4 * levels,)).astype(np.int64)
    if len(messages) != len(book):
        raise LobsterError(
            f"{path}: {len(messages)} messages but {len(book)} orderbook rows; there must be one row a message"
        )
    types, ids, sizes, prices, directions = (column.astype(np.int64) for column in messages.T[1:6])
    sides = book.reshape(len(book), levels, 2, 2)
    day = LobsterDay(
        path=path,
        ticker=names["message"]["ticker"],
        date=names["message"]["date"],
        levels=levels,
        times_ns=np.rint(messages[:, 0] * 1e9).astype(np.int64),
        types=types,
        ids=ids,
        sizes=sizes,
        prices=prices,
        directions=directions,
        asks=sides[:, :, 0],
        bids=sides[:, :, 1],
    )
    _check_messages(day, f"{path}: {names['message'].string}")
    _check_side(day.asks, 1, f"{path}: {names['orderbook'].string}", "ask")
    _check_side(day.bids, -1, f"{path}: {names['orderbook'].string}", "bid")
    return day


def _member_names(path: Path, archive: zipfile.ZipFile) -> dict[str, re.Match[str]]:
    found: dict[str, re.Match[str]] = {}
    for name in archive.namelist():
        if match := _NAME.fullmatch(name.rpartition("/")[2]):
            if match["what"] in found:
                raise LobsterError(f"{path}: holds more than one {match['what']} file; give one day of one ticker")
            found[match["what"]] = match
    for what in ("message", "orderbook"):
        if what not in found:
            raise LobsterError(
                f"{path}: holds no file like TICKER_YYYY-MM-DD_START_END_{what}_LEVELS.csv; is it a LOBSTER day?"
            )
    message, book = found["message"], found["orderbook"]
    if any(message[part] != book[part] for part in ("ticker", "date", "levels")):
        raise LobsterError(
            f"{path}: {message.string} and {book.string} are not of one ticker, day and number of levels"
        )
    if not 1 <= int(book["levels"]) <= LEVELS_MAX:
        raise LobsterError(f"{path}: {book['levels']} levels; this reader takes 1 to {LEVELS_MAX}")
    return found


def _member_bytes(path: Path, archive: zipfile.ZipFile, base_name: str) -> bytes:
    info = next(info for info in archive.infolist() if info.filename.rpartition("/")[2] == base_name)
    if info.file_size > CSV_BYTES_MAX:
        raise LobsterError(f"{path}: {base_name} unpacks to {info.file_size} bytes; at most {CSV_BYTES_MAX} are read")
    with archive.open(info) as member:
        return member.read()


def _numbers(name: str, text: bytes, column_counts: tuple[int, ...]) -> Array:
    """The csv as float64, exact below 2^53; of a wider message file (7: attribution) the first 6 columns."""
    if not text.strip():
        raise LobsterError(f"{name}: is empty")
    if not text.endswith(b"\n"):
        text += b"\n"
    count = text[: text.index(b"\n")].count(b",") + 1
    if count not in column_counts:
        wanted = " or ".join(map(str, column_counts))
        raise LobsterError(f"{name}: line 1 has {count} columns instead of {wanted}")
    columns = range(min(count, column_counts[0]))
    try:
        if text.count(b",") == (count - 1) * text.count(b"\n"):
            table = np.loadtxt(io.BytesIO(text), delimiter=",", ndmin=2, comments=None, usecols=columns)
            if len(table) == text.count(b"\n") and np.isfinite(table).all():
                return table
    except ValueError:
        pass
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split(b",")
        if len(fields) != count:
            raise LobsterError(
                f"{name}: line {number} has {len(fields)} columns instead of {count}; is the file cut off?"
            )
        for column in columns:
            try:
                good = bool(np.isfinite(float(fields[column])))
            except ValueError:
                good = False
            if not good:
                raise LobsterError(
                    f"{name}: line {number}, column {column + 1}: {fields[column][:40]!r} is not a number"
                )
    raise LobsterError(f"{name}: is not a table of numbers")


def _refuse(name: str, wrong: Array, words: str) -> None:
    if wrong.any():
        raise LobsterError(f"{name}: line {int(np.argmax(wrong)) + 1}: {words}")


def _check_messages(day: LobsterDay, name: str) -> None:
    types = day.types
    _refuse(name, (types < 1) | (types > 7), "the type is not 1 to 7")
    _refuse(name, np.diff(day.times_ns, prepend=day.times_ns[0]) < 0, "the time goes backwards")
    visible = types <= MessageType.EXECUTE
    _refuse(
        name, (types <= MessageType.EXECUTE_HIDDEN) & (abs(day.directions) != 1), "the direction is neither 1 nor -1"
    )
    _refuse(name, visible & ((day.sizes < 1) | (day.sizes > SIZE_MAX)), f"the size is not 1 to {SIZE_MAX}")
    _refuse(name, visible & ((day.prices < 1) | (day.prices > PRICE_MAX)), f"the price is not 1 to {PRICE_MAX}")
    _refuse(name, visible & ((day.ids < 1) | (day.ids >= 1 << 53)), "the order id is not 1 to 2^53 - 1")


def _check_side(side: Array, worse: int, name: str, what: str) -> None:
    prices, sizes = side[..., 0], side[..., 1]
    empty = sizes == 0
    _refuse(
        name,
        (empty & (abs(prices) != EMPTY_PRICE)).any(axis=1),
        f"an empty {what} level does not have the price +-{EMPTY_PRICE}",
    )
    wrong = ~empty & ((sizes < 0) | (prices < 1) | (prices > PRICE_MAX))
    _refuse(name, wrong.any(axis=1), f"the {what} side has a level without a possible price and size")
    _refuse(name, (empty[:, :-1] & ~empty[:, 1:]).any(axis=1), f"the {what} side has a level behind an empty one")
    steps = np.diff(prices * worse, axis=1)
    _refuse(name, (~empty[:, 1:] & (steps <= 0)).any(axis=1), f"the {what} prices are not in order")


class Prescan:
    """What the day's later messages tell about the orders of a level that comes into view.

    A level-N file shows the size of a level, not its orders. Those that are touched (reduced, deleted, executed) while
    the level stays in view must have stood there, with at least the touched size.
    """

    def __init__(self, day: LobsterDay) -> None:
        self._day = day
        self._epochs = {1: _epochs(day.bids), -1: _epochs(day.asks)}
        self._touches: dict[tuple[int, int], Array] = {}
        about = np.flatnonzero(day.types <= MessageType.EXECUTE)
        order = about[np.lexsort((about, day.prices[about], day.directions[about]))]
        keys = np.stack((day.directions[order], day.prices[order]), axis=1)
        cuts = np.flatnonzero((np.diff(keys, axis=0) != 0).any(axis=1)) + 1
        for part in np.split(order, cuts):
            if len(part):
                self._touches[int(day.directions[part[0]]), int(day.prices[part[0]])] = part

    def orders(self, row: int, direction: int, price: int) -> list[tuple[int, int]]:
        """Orders (id, size) that stood at `price` after message `row` and are touched later, by ascending id."""
        starts, ends = self._epochs[direction].get(price, (None, None))
        part = self._touches.get((direction, price))
        if starts is None or ends is None or part is None:
            return []
        end = ends[np.searchsorted(starts, row, side="right") - 1]
        # The message after the last row that shows the level may be the one that empties it.
        span = part[np.searchsorted(part, row, side="right") : np.searchsorted(part, end + 1, side="right")]
        touched: dict[int, int] = {}
        added: set[int] = set()
        day = self._day
        for kind, order_id, size in zip(
            day.types[span].tolist(), day.ids[span].tolist(), day.sizes[span].tolist(), strict=True
        ):
            if kind == MessageType.ADD:
                added.add(order_id)
            elif order_id not in added:
                touched[order_id] = touched.get(order_id, 0) + size
        return sorted(touched.items())


def _epochs(side: Array) -> dict[int, tuple[Array, Array]]:
    """For each price, the first and last rows of the spans in which the side's rows show it without a break."""
    rows, levels = np.nonzero(side[..., 1] > 0)
    prices = side[rows, levels, 0]
    order = np.lexsort((rows, prices))
    rows, prices = rows[order], prices[order]
    if not len(rows):
        return {}
    first = np.ones(len(rows), dtype=bool)
    first[1:] = (np.diff(prices) != 0) | (np.diff(rows) != 1)
    last = np.append(first[1:], True)
    starts, ends, of = rows[first], rows[last], prices[first]
    cuts = np.flatnonzero(np.diff(of)) + 1
    heads = of[np.concatenate(([0], cuts))].tolist()
    return dict(zip(heads, zip(np.split(starts, cuts), np.split(ends, cuts), strict=True), strict=True))
