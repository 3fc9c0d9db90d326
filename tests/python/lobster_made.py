"""Makes small files of the LOBSTER format: a full random book, of which the file shows the best levels.

The importer's and the player's tests need such files where no LOBSTER data may be. Nothing here knows the player.
"""

from __future__ import annotations

import random
import zipfile
from bisect import insort
from pathlib import Path

PRICE, TICK, DEPTH_TICKS = 2_000_000, 100, 12


class Maker:
    """The exchange: queues by price in order of id, an event at a time, and the two files as lists of lines."""

    def __init__(self, seed: int, levels: int, skips: int) -> None:
        self.random = random.Random(seed)
        self.levels, self.skips = levels, skips
        self.time_ns, self.next_id = 34_200_000_000_000, 10_000
        self.sides: dict[int, dict[int, list[list[int]]]] = {1: {}, -1: {}}
        self.messages: list[str] = []
        self.rows: list[str] = []
        self.skipped = 0

    def shown(self, direction: int) -> list[int]:
        """The prices that the file shows, best first."""
        return sorted(self.sides[direction], reverse=direction == 1)[: self.levels]

    def emit(self, kind: int, order_id: int, size: int, price: int, direction: int) -> None:
        """One message and its row."""
        seconds, ns = divmod(self.time_ns, 10**9)
        self.messages.append(f"{seconds}.{ns:09d},{kind},{order_id},{size},{price},{direction}")
        cells: list[str] = []
        asks, bids = self.shown(-1), self.shown(1)
        for level in range(self.levels):
            for prices, direction_of, empty in ((asks, -1, 9999999999), (bids, 1, -9999999999)):
                if level < len(prices):
                    queue = self.sides[direction_of][prices[level]]
                    cells.append(f"{prices[level]},{sum(size for _, size in queue)}")
                else:
                    cells.append(f"{empty},0")
        self.rows.append(",".join(cells))

    def add(self, old_id: bool, silent: bool = False) -> None:
        """A new order that does not trade; `silent` before the day begins."""
        direction = self.random.choice((1, -1))
        against = self.shown(-direction)
        price = PRICE - direction * TICK * self.random.randrange(-3, DEPTH_TICKS)
        while against and (price - against[0]) * direction >= 0:
            price -= direction * TICK
        self.next_id += self.random.randrange(2, 50)
        # An id that was given out earlier and reaches the book only now: its priority is the id's.
        order_id = self.next_id - 401 if old_id else self.next_id
        size = self.random.choice((1, 10, 50, 100, 100, 200))
        queue = self.sides[direction].setdefault(price, [])
        if any(order_id == other for queues in self.sides.values() for q in queues.values() for other, _ in q):
            order_id = self.next_id
        insort(queue, [order_id, size])
        if not silent and price in self.shown(direction):
            self.emit(1, order_id, size, price, direction)

    def take_off(self, direction: int, price: int, place: int, size: int, kind: int) -> None:
        """Take `size` off the order at `place`, and tell if its level is in view."""
        visible = price in self.shown(direction)
        queue = self.sides[direction][price]
        order = queue[place]
        order[1] -= size
        if not order[1]:
            del queue[place]
            if not queue:
                del self.sides[direction][price]
        if visible:
            self.emit(kind, order[0], size, price, direction)

    def remove(self, kind: int) -> None:
        """Reduce or delete a random order."""
        direction = self.random.choice((1, -1))
        prices = sorted(self.sides[direction], reverse=direction == 1)
        price = prices[min(self.random.randrange(len(prices)), self.random.randrange(len(prices)))]
        place = self.random.randrange(len(self.sides[direction][price]))
        size = self.sides[direction][price][place][1]
        if kind == 2 and size == 1:
            kind = 3
        self.take_off(direction, price, place, self.random.randrange(1, size) if kind == 2 else size, kind)

    def sweep(self) -> None:
        """A marketable order: it trades with one or several resting ones."""
        direction = self.random.choice((1, -1))
        reach = self.shown(direction)[: min(2, self.levels)]
        for price in reach:
            for _ in range(len(self.sides[direction][price])):
                queue = self.sides[direction][price]
                skip = len(queue) > 1 and len(reach) > 1 and self.skipped < self.skips
                self.skipped += skip
                part = self.random.randrange(1, queue[int(skip)][1] + 1)
                whole = part == queue[int(skip)][1]
                self.take_off(direction, price, int(skip), part, 4)
                if self.random.random() < 0.1:
                    self.emit(5, 0, 7, price, direction)
                if skip or not whole or self.random.random() < 0.4:
                    return


def make_day(
    path: Path, seed: int, levels: int, messages: int = 2000, skips: int = 0, ticker: str = "MADE", sparse: bool = False
) -> Path:
    """Write a zip of about `messages` messages. `skips` executions do not trade with the head of the queue.

    `sparse`: hardly any orders rest, so levels are often empty.
    """
    maker = Maker(seed, levels, skips)
    target = 6 if sparse else 80
    for _ in range(target):
        maker.add(False, silent=True)
    maker.emit(5, 0, 1, PRICE, 1)
    while len(maker.messages) < messages:
        if maker.random.random() < 0.9:
            maker.time_ns += maker.random.randrange(1, 10**8)
        dice = maker.random.random()
        resting = sum(len(queue) for queues in maker.sides.values() for queue in queues.values())
        if not maker.sides[1] or not maker.sides[-1] or dice < (0.55 if resting < target else 0.4):
            maker.add(old_id=len(maker.messages) < messages // 10 and maker.random.random() < 0.3)
        elif dice < 0.80:
            maker.remove(3)
        elif dice < 0.86:
            maker.remove(2)
        elif dice < 0.97:
            maker.time_ns += 1
            maker.sweep()
            maker.time_ns += 1
        elif dice < 0.99:
            maker.emit(5, 0, 5, PRICE + 50, maker.random.choice((1, -1)))
        else:
            maker.emit(7, 0, 0, -1, -1)
    write_zip(path, levels, maker.messages, maker.rows, ticker)
    return path


def write_zip(path: Path, levels: int, messages: list[str], rows: list[str], ticker: str = "MADE") -> None:
    """Write the two csv files under LOBSTER's names."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for what, lines in (("message", messages), ("orderbook", rows)):
            name = f"{ticker}_2020-01-02_34200000_57600000_{what}_{levels}.csv"
            archive.writestr(name, "\n".join(lines) + "\n")
