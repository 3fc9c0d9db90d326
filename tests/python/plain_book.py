"""A price-time order book in the plainest Python: the naive twin that the LOBSTER player is tried on without a sidecar.

Obviously right and slow. It implements `ringlane.lobster_player.Venue` and nothing else.
"""

from __future__ import annotations

from ringlane.lobster_player import Fill, Levels


class PlainBook:
    """Resting orders in one list, in order of arrival; everything is searched for."""

    def __init__(self) -> None:
        self.resting: dict[int, list[int]] = {}  # id -> [direction, price, size]; dicts keep the order of arrival

    def add(self, order_id: int, direction: int, price: int, size: int) -> str:
        """Enter a post-only order."""
        if order_id in self.resting:
            return "DUPLICATE_ORDER_ID"
        if any(other != direction and (price - at) * direction >= 0 for other, at, _ in self.resting.values()):
            return "WOULD_CROSS"
        self.resting[order_id] = [direction, price, size]
        return ""

    def reduce(self, order_id: int, size: int) -> str:
        """Take off a part or all."""
        if order_id not in self.resting:
            return "UNKNOWN_ORDER_ID"
        if self.resting[order_id][2] < size:
            return "OVER_REDUCTION"
        self.resting[order_id][2] -= size
        if not self.resting[order_id][2]:
            del self.resting[order_id]
        return ""

    def cancel(self, order_id: int) -> str:
        """Take out."""
        return "" if self.resting.pop(order_id, None) else "UNKNOWN_ORDER_ID"

    def take(self, direction: int, price: int, size: int) -> list[Fill]:
        """Trade with the best price first, at one price with the oldest first."""
        against = [
            (at * direction, order_id) for order_id, (other, at, _) in self.resting.items() if other != direction
        ]
        fills = []
        for _, order_id in sorted(against, key=lambda pair: pair[0]):
            at = self.resting[order_id][1]
            part = min(size, self.resting[order_id][2])
            if not part or (price - at) * direction < 0:
                break
            fills.append(Fill(order_id, part, at))
            size -= part
            self.reduce(order_id, part)
        return fills

    def book(self, levels: int) -> tuple[Levels, Levels]:
        """Sum up each price."""
        sums: dict[int, dict[int, int]] = {1: {}, -1: {}}
        for direction, price, size in self.resting.values():
            sums[direction][price] = sums[direction].get(price, 0) + size
        bids = sorted(sums[1].items(), reverse=True)[:levels]
        return bids, sorted(sums[-1].items())[:levels]
