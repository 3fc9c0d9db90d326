"""One order at a time, told by what differs from a plain one."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np


def sender(lane: Any) -> Callable[..., np.void]:
    """Gives a function that sends a buy of 10 at 1000 in symbol 1 of account 1, as other columns say, and gives its result."""
    ids = itertools.count(1)

    def send(**columns: object) -> np.void:
        order = {"symbol": 1, "side": "BUY", "account": 1, "client_order_id": next(ids), "price": 1000, "quantity": 10}
        return lane.process(lane.batch(**{**order, **columns}), copy=True)[0]  # type: ignore[no-any-return]

    return send
