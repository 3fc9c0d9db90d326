"""A pytest plugin: the fixture `ringlane_sidecar` is a fresh sidecar with a temporary journal."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .sidecar import Sidecar


@pytest.fixture
def ringlane_sidecar() -> Iterator[Sidecar]:
    """A fresh sidecar of its own; connect with `ringlane.connect(ringlane_sidecar.address)`."""
    with Sidecar() as sidecar:
        yield sidecar
