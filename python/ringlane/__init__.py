"""Ringlane: one shared, crash-safe accelerator for all Python workers of a host.

Records go into shared memory, one sidecar process sequences, journals and computes them, and the answer appears in the
paired slot. `connect()` finds or starts a sidecar, `client.open()` opens a lane, and `lane.call`, `lane.process`,
`lane.submit` and `lane.reserve` use it.
"""

from ._shim import (
    BUILD_HASH,
    LaneFaulted,
    LaneFull,
    RinglaneError,
    SchemaMismatch,
    SidecarLost,
    SidecarUnavailable,
)
from .batch import Instrument, Instruments
from .client import Client
from .connections import connect, shared
from .corpora import Corpora, Corpus
from .digests import DigestLane, DigestTicket
from .enums import (
    CancelReason,
    EventKind,
    LaneStatus,
    MarketKind,
    Op,
    OrderFlag,
    OrderState,
    OrderType,
    RejectCode,
    SelfTrade,
    Side,
    TimeInForce,
)
from .explain import explain
from .lane import Lane
from .market import MarketFeed
from .queries import Book, OpenOrders, Positions, State
from .recording import BookAt, Recording, RecordingError, book_at, read_recording
from .schema import Field, Schema
from .sidecar import Sidecar
from .ticket import Reservation, Ticket
from .vectors import Found, VectorLane, VectorTicket
from .wire import NotPermitted

__version__ = "0.1.0"

__all__ = [
    "BUILD_HASH",
    "Book",
    "BookAt",
    "CancelReason",
    "Client",
    "Corpora",
    "Corpus",
    "DigestLane",
    "DigestTicket",
    "EventKind",
    "Field",
    "Found",
    "Instrument",
    "Instruments",
    "Lane",
    "LaneFaulted",
    "LaneFull",
    "LaneStatus",
    "MarketFeed",
    "MarketKind",
    "NotPermitted",
    "OpenOrders",
    "Op",
    "OrderFlag",
    "OrderState",
    "OrderType",
    "Positions",
    "Recording",
    "RecordingError",
    "RejectCode",
    "Reservation",
    "RinglaneError",
    "Schema",
    "SchemaMismatch",
    "SelfTrade",
    "Side",
    "Sidecar",
    "SidecarLost",
    "SidecarUnavailable",
    "State",
    "Ticket",
    "TimeInForce",
    "VectorLane",
    "VectorTicket",
    "book_at",
    "connect",
    "explain",
    "read_recording",
    "shared",
]
