"""Asking a sidecar for a snapshot of its state."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Protocol

from ._shim import SidecarUnavailable

_LOOK_SECONDS = 0.005


@dataclass(frozen=True)
class Snapshot:
    """A snapshot that is written: the last sequence number in it, its size and how long it held intake up."""

    sequence: int
    bytes: int
    pause_ns: int


class _Asks(Protocol):
    def request(self, **message: Any) -> tuple[dict[str, Any], list[int]]: ...


def make_snapshot(control: _Asks, timeout: float) -> Snapshot:
    """Asks until a snapshot is written that has all that came before; see `Client.snapshot`."""
    deadline = time.monotonic() + timeout
    first, _ = control.request(op="snapshot")
    reply = first
    while reply["written"] < first["wanted"]:
        if reply["failures"] > first["failures"]:
            raise SidecarUnavailable("the snapshot could not be written; the sidecar's log says why")
        if time.monotonic() > deadline:
            raise TimeoutError("the snapshot was not written within the time given")
        time.sleep(_LOOK_SECONDS)
        reply, _ = control.request(op="snapshot")
    return Snapshot(reply["written"], reply["bytes"], reply["pause_ns"])
