"""The client of the Python backend."""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

from .. import _shim
from ..batch import Instruments
from ..client import _KINDS, Client, _within
from ..lane import Lane
from ..queries import Rows, State
from ..snapshot import Snapshot
from ..stats import Border
from ..ticket import nanoseconds
from .digests import PlainDigestLane
from .lane import PlainOrderLane
from .vectors import PlainCorpora, PlainVectorLane
from .venue import ACCOUNT_MAX, Venue

_DEPTH_MIN = 64
_venues: weakref.WeakValueDictionary[str, Venue] = weakref.WeakValueDictionary()
_corpora: weakref.WeakKeyDictionary[Venue, PlainCorpora] = weakref.WeakKeyDictionary()


def make_venue(config: Mapping[str, Any] | None = None) -> Venue:
    """A venue that clients of this process can find by its address, for as long as somebody holds it."""
    venue = Venue(config)
    _venues[venue.address] = venue
    return venue


class PlainClient(Client):
    """As `Client`, without a sidecar: books, digests and vectors are computed in this process, by plain Python and numpy.

    For development and as an oracle. Nothing is shared with other processes and nothing is recorded.
    """

    def __init__(self, address: str | None) -> None:
        venue = make_venue() if address is None else _venues.get(address)
        if venue is None:
            raise _shim.SidecarUnavailable(
                f"there is no venue {address!r} in this process; connect(backend='python') without an address makes one"
            )
        self.venue: Venue = venue
        self.sidecar = None
        self.address = venue.address
        self._lanes: dict[int, Lane] = {}
        self._borders: dict[str, Border] = {}
        self._symbols: Instruments | None = None
        self._hub = cast(Any, SimpleNamespace(ended=False))
        self.number, self.pid, self.version, self.build = 1, os.getpid(), "python", _shim.BUILD_HASH
        self.board = self.journal = ""
        self.plain_corpora = _corpora.setdefault(venue, PlainCorpora())
        self.corpora = self.plain_corpora
        self._closed = False

    def open(
        self,
        kernel: str = "orders",
        depth: int | None = None,
        events: int | None = None,
        cancel_on_disconnect: bool = False,
        accounts: int | tuple[int, int] | None = None,
        timeout: float | None = None,
        trace: bool = False,
        record: bool = False,
        **parameters: Any,
    ) -> Any:
        """As `Client.open`, for orders, digests and vectors. Nothing is recorded or traced: `ValueError`."""
        self._check()
        if trace or record:
            raise ValueError("the Python backend records and traces nothing; use a sidecar")
        nanoseconds(timeout)
        if kernel not in ("orders", *_KINDS):
            raise _shim.RinglaneError(
                f"there is no kernel {kernel!r} here; the Python backend has: orders, digests, vectors"
            )
        if kernel == "orders":
            if parameters:
                raise TypeError(f"a lane of orders has no parameter {next(iter(parameters))!r}")
            told = self._order_parameters(65536 if depth is None else depth, events, cancel_on_disconnect, accounts)
            first, last = told["accounts"] or (1, ACCOUNT_MAX)
            if any(lane.kernel == "orders" for lane in self._lanes.values()):
                raise _shim.RinglaneError("this client has a lane of orders open already")
            sizes = (_rounded(told["depth"]), _rounded(told["events"]))
            lane: Lane = PlainOrderLane(self, *sizes, told["cancel_on_disconnect"], (first, last), timeout)
        else:
            if events is not None or cancel_on_disconnect or accounts is not None:
                raise TypeError("events, cancel_on_disconnect and accounts are for lanes of orders")
            slots = _rounded(_within("depth", 4096 if depth is None else depth, _shim.DEPTH_SLOTS_MAX))
            told = _KINDS[kernel]._parameters(parameters)
            self.venue.lane_last += 1
            made = PlainDigestLane if kernel == "digests" else PlainVectorLane
            lane = made(self, self.venue.lane_last, slots, told, timeout)
        self._lanes[lane.number] = lane
        return lane

    def _close_lane(self, lane: Lane) -> None:
        if self._lanes.get(lane.number) is lane:
            del self._lanes[lane.number]
            lane._shim.close()
            self.venue.close_lane(lane.number, getattr(lane, "cancels", False))

    def _query(self, what: str, **values: int) -> tuple[dict[str, Any], Rows]:
        self._check()
        return self.venue.query(what, values)

    def state(self) -> State:
        """As `Client.state`, with an empty `state_hash`: the hash is the sidecar's own."""
        self._check()
        venue = self.venue
        return State(venue.sequence, "", venue.accepted, venue.rejected, venue.trades, venue.resting)

    def stats(self) -> dict[str, Any]:
        """Only `border`: there is no board."""
        return {"border": {kernel: border.values() for kernel, border in self._borders.items()}}

    def snapshot(self, timeout: float = 60.0) -> Snapshot:
        """Raises `ValueError`: nothing is recorded."""
        raise ValueError("the Python backend records nothing, so there is nothing to take a snapshot of")

    def __getattr__(self, name: str) -> Any:
        if name == "admin":
            raise NotImplementedError("the Python backend has no administration; use a sidecar")
        raise AttributeError(name)

    def _check(self) -> None:
        if self._closed:
            raise _shim.SidecarLost("the client is closed")

    def close(self) -> None:
        """Closes its lanes. The venue ends with its last client. Idempotent."""
        for lane in list(self._lanes.values()):
            self._close_lane(lane)
        self._closed = True

    def __repr__(self) -> str:
        return f"<ringlane.Client of the Python backend at {self.address}>"


def _rounded(slots: int) -> int:
    return 1 << (max(slots, _DEPTH_MIN) - 1).bit_length()
