"""Fixtures: one sidecar for the tests that only trade, a client and a lane each; random numbers whose seed is printed."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import ringlane


@pytest.fixture(scope="session")
def sidecar() -> Iterator[ringlane.Sidecar]:
    with ringlane.Sidecar() as running:
        yield running


@pytest.fixture
def client(sidecar: ringlane.Sidecar) -> Iterator[ringlane.Client]:
    with ringlane.connect(sidecar.address) as connected:
        yield connected


@pytest.fixture
def lane(client: ringlane.Client) -> ringlane.Lane:
    return client.open("orders", depth=64, timeout=10)


@pytest.fixture
def seed() -> int:
    """Printed with a failing test; RINGLANE_SEED=... reproduces it."""
    value = int(os.environ.get("RINGLANE_SEED", random.randrange(2**32)))
    print(f"RINGLANE_SEED={value}")
    return value


_next_id = iter(range(1, 2**62))


@pytest.fixture
def order(lane: ringlane.Lane) -> Callable[..., np.ndarray]:
    """Builds orders with fresh client order ids, far from each other's prices unless told."""

    def make(n: int = 1, **columns: object) -> np.ndarray:
        ids = [next(_next_id) for _ in range(n)]
        fields = {"symbol": "AAPL", "side": "BUY", "account": 7, "price": "150", "quantity": 1, "client_order_id": ids}
        return lane.batch(**{**fields, **columns})

    return make
