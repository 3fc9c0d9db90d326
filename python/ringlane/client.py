"""Connecting to a sidecar."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import weakref
from typing import Any

import numpy as np

from . import _shim
from .batch import Instrument, Instruments
from .enums import Side
from .lane import Lane
from .queries import Book, OpenOrders, Positions, Rows, State
from .schema import Schema
from .sidecar import Sidecar
from .ticket import LoopWatch
from .wire import ControlSocket, close_all

SYSTEM_SOCKET = "/run/ringlane/ringlane.sock"
"""Where the host's own sidecar listens."""


class Client:
    """A connection to a sidecar; made by `connect()` or `shared()`. Threads may share it. A context manager.

    Attributes: `address`, `number` (client number), `pid`, `version`, `build` and `journal` of the sidecar, `board` (name
    of its shared-memory segment of counters), and `sidecar` when the client started one of its own.
    """

    def __init__(self, address: str, name: str | None, timeout: float | None, sidecar: Sidecar | None = None) -> None:
        self.sidecar = sidecar
        self.address = address
        self._lanes: dict[str, Lane] = {}
        self._symbols: Instruments | None = None
        self._watches: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopWatch] = weakref.WeakKeyDictionary()
        self._control = ControlSocket(address, timeout)
        try:
            name = os.path.basename(sys.argv[0] or "python")[:64] if name is None else name
            reply, files = self._control.request(
                op="hello", layout_version=_shim.LAYOUT_VERSION, build=_shim.BUILD_HASH, name=name
            )
            self._hub = _shim.Hub(files[0])
        except BaseException:
            self._control.close()
            raise
        self.number: int = reply["client"]
        self.pid: int = reply["pid"]
        self.version: str = reply["version"]
        self.build: str = reply["build"]
        self.board: str = reply["board"]
        self.journal: str = reply["journal"]
        self._rows = {row["name"]: Schema.from_message(row) for row in reply["rows"]}
        _clients.add(self)

    def open(
        self,
        kernel: str = "orders",
        depth: int = 65536,
        events: int | None = None,
        cancel_on_disconnect: bool = False,
        accounts: int | tuple[int, int] | None = None,
        timeout: float | None = None,
    ) -> Lane:
        """Opens a lane to a kernel; one a kernel and client.

        `depth` slots and `events` places in the event ring (default: as many) are rounded up to powers of two, 64 to
        1,048,576. `accounts` restricts the lane to one account or a range (first, last). `timeout` bounds every wait in the
        lane that does not say otherwise, seconds.

        Raises `ValueError` for values out of range, `RinglaneError` (unknown kernel, lane open already),
        `SidecarUnavailable` (not permitted, quota, memory), `SidecarLost`, `SchemaMismatch`.
        """
        pair = (accounts, accounts) if isinstance(accounts, int) else accounts
        message: dict[str, Any] = {
            "kernel": kernel,
            "depth": int(depth),
            "events": int(depth if events is None else events),
            "cancel_on_disconnect": bool(cancel_on_disconnect),
            "accounts": None if pair is None else [int(pair[0]), int(pair[1])],
        }
        if min(message["depth"], message["events"], *(message["accounts"] or [0])) < 0:
            raise ValueError("depth, events and accounts must not be negative")
        reply, files = self._control.request(op="open", **message)
        lane = Lane(self, reply, files, timeout)
        self._lanes[kernel] = lane
        return lane

    def _close_lane(self, lane: Lane) -> None:
        if self._lanes.get(lane.kernel) is lane:
            del self._lanes[lane.kernel]
            lane._shim.close()
            self._control.request(op="close", lane=lane.number)

    # ---- state ----

    @property
    def symbols(self) -> Instruments:
        """The sidecar's symbols: a mapping of names to numbers; `symbols.instrument(name)` says more."""
        if self._symbols is None:
            _, rows = self._query("instruments")
            self._symbols = Instruments(rows)
        return self._symbols

    def instrument(self, symbol: str | int) -> Instrument:
        """The instrument of a symbol name or number. Raises `KeyError` when there is none."""
        return self.symbols.instrument(symbol)

    def orders(self, account: int) -> OpenOrders:
        """The account's open orders."""
        reply, rows = self._query("orders", account=int(account))
        return OpenOrders(reply["sequence"], int(account), rows, reply.get("last_client_order_id", 0))

    def positions(self, account: int) -> Positions:
        """The account's positions."""
        reply, rows = self._query("positions", account=int(account))
        return Positions(reply["sequence"], int(account), rows, reply.get("last_client_order_id", 0))

    def book(self, symbol: str | int, levels: int = 10) -> Book:
        """The best `levels` price levels of each side of a symbol's book."""
        number = self.symbols[symbol] if isinstance(symbol, str) else int(symbol)
        reply, rows = self._query("book", symbol=number, levels=int(levels))
        bids, asks = rows[rows["side"] == Side.BUY], rows[rows["side"] == Side.SELL]
        return Book(reply["sequence"], number, bids, asks)

    def state(self) -> State:
        """State hash and counters.

        >>> import ringlane
        >>> with ringlane.connect() as client:
        ...     client.state().trades
        0
        """
        reply, _ = self._control.request(op="query", what="state")
        return State(**{key: reply[key] for key in State.__dataclass_fields__})

    def _query(self, what: str, **values: int) -> tuple[dict[str, Any], Rows]:
        reply, files = self._control.request(op="query", what=what, **values)
        try:
            rows = np.zeros(reply["rows"], self._rows[reply["row"]].dtype)
            wanted, got = memoryview(rows.view(np.uint8)).cast("B") if len(rows) else memoryview(b""), 0
            while got < len(wanted):
                step = os.preadv(files[0], [wanted[got:]], got)
                if step == 0:
                    raise _shim.SchemaMismatch(f"the answer has {got} bytes where {len(wanted)} were announced")
                got += step
        finally:
            close_all(files)
        return reply, rows

    # ---- life ----

    def _loop_watch(self) -> LoopWatch:
        loop = asyncio.get_running_loop()
        watch = self._watches.get(loop)
        if watch is None:
            watch = self._watches[loop] = LoopWatch(self._hub, loop)
        return watch

    def close(self) -> None:
        """Ends the connection and its lanes: what is submitted is completed first. Stops a sidecar of its own. Idempotent."""
        for lane in self._lanes.values():
            lane._shim.close()
        self._lanes.clear()
        self._control.close()
        if self.sidecar is not None:
            self.sidecar.stop()
        _clients.discard(self)

    def _forget_after_fork(self) -> None:
        self._control.close()  # the child's copy of the descriptor only
        if self.sidecar is not None:
            self.sidecar._forget_after_fork()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ringlane.Client {self.number} of the sidecar {self.pid} at {self.address}>"


_clients: weakref.WeakSet[Client] = weakref.WeakSet()
_shared: Client | None = None
_shared_address: str | None = None
_shared_lock = threading.Lock()


def connect(address: str | os.PathLike[str] | None = None, *, name: str | None = None, timeout: float | None = 10.0) -> Client:
    """Connects to a sidecar.

    The one at `address`; else at `RINGLANE_SOCKET`; else the host's own, if there is one; else it starts a private one,
    which ends with the client. `name` (at most 64 bytes) is what operators see; `timeout` bounds each answer on the control
    socket, seconds.

    Raises `SidecarUnavailable` when none answers, `SchemaMismatch` when it speaks another layout version.

    >>> import ringlane
    >>> with ringlane.connect() as client:
    ...     len(client.symbols) > 0
    True
    """
    if address is None:
        address = os.environ.get("RINGLANE_SOCKET") or (SYSTEM_SOCKET if os.path.exists(SYSTEM_SOCKET) else None)
    if address is not None:
        return Client(os.fspath(address), name, timeout)
    sidecar = Sidecar()
    try:
        return Client(sidecar.address, name, timeout, sidecar)
    except BaseException:
        sidecar.stop()
        raise


def shared() -> Client:
    """The process's one client, connected at first use as `connect()` does, and anew after a fork or the sidecar's end.

    A forked child uses the sidecar of its parent, also when that one is private to the parent. Thread-safe.
    """
    global _shared, _shared_address
    with _shared_lock:
        if _shared is not None and not _shared._hub.ended and _shared in _clients:
            return _shared
        if _shared_address is not None:
            try:
                _shared = Client(_shared_address, None, 10.0)
                return _shared
            except _shim.SidecarUnavailable:
                _shared_address = None
        _shared = connect()
        _shared_address = _shared.address
        return _shared


def _after_fork_in_child() -> None:
    global _shared, _shared_lock
    _shared_lock = threading.Lock()
    _shared = None
    for client in list(_clients):
        client._forget_after_fork()
    _clients.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
