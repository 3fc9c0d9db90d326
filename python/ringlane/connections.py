"""Which sidecar a process is connected to: one that is named, the host's own, or a private one; and the process's one client."""

from __future__ import annotations

import os
import threading
from typing import Literal

from . import _shim
from .client import Client, _clients
from .sidecar import Sidecar

SYSTEM_SOCKET = "/run/ringlane/ringlane.sock"
"""Where the host's own sidecar listens."""

_shared: Client | None = None
_shared_address: str | None = None
_shared_lock = threading.Lock()


def connect(
    address: str | os.PathLike[str] | None = None,
    *,
    name: str | None = None,
    timeout: float | None = 10.0,
    backend: Literal["sidecar", "python"] | None = None,
    reconnect_timeout: float = 10.0,
) -> Client:
    """Connects to a sidecar.

    The one at `address`; else at `RINGLANE_SOCKET`; else the host's own, if there is one; else it starts a private one,
    which ends with its last client. `name` (at most 64 bytes, default the program's) is what operators see; `timeout`
    bounds each answer on the control socket, seconds (None: no limit).

    `backend="python"` (default: `RINGLANE_BACKEND`, else "sidecar") needs no sidecar: see `ringlane.plain`.

    When the sidecar ends and is started anew within `reconnect_timeout` seconds, the client comes back by itself, and its
    lanes go on: every submitted request counts exactly once, and waiting calls, tickets, awaits and events get their true
    answers. `SidecarLost` comes only after that time; at once with 0, and for a private sidecar, which nobody starts anew.

    Raises `SidecarUnavailable` when none answers, `SchemaMismatch` when it speaks another layout version, `ValueError`
    for a name that is too long or has control characters, `TimeoutError`. Warns once when the sidecar is another build.

    >>> import ringlane
    >>> with ringlane.connect() as client:
    ...     len(client.symbols) > 0
    True
    """
    backend_name = backend or os.environ.get("RINGLANE_BACKEND") or "sidecar"
    if backend_name not in ("sidecar", "python"):
        raise ValueError(f'backend is "sidecar" or "python", not {backend_name!r}')
    if backend_name == "python":
        from .plain import PlainClient

        return PlainClient(None if address is None else os.fspath(address))
    if address is None:
        address = os.environ.get("RINGLANE_SOCKET") or (SYSTEM_SOCKET if os.path.exists(SYSTEM_SOCKET) else None)
    if address is not None:
        return Client(os.fspath(address), name, timeout, reconnect_timeout=reconnect_timeout)
    sidecar = Sidecar()
    try:
        return Client(sidecar.address, name, timeout, sidecar)
    except BaseException:
        sidecar.stop()
        raise


def shared() -> Client:
    """The process's one client, connected at first use as `connect()` does, and anew after a fork or the sidecar's end.

    A forked child uses the sidecar of its parent, also when the parent started it, and also after the parent's end.
    Thread-safe. Raises as `connect`.

    >>> import ringlane
    >>> client = ringlane.shared()
    >>> client is ringlane.shared()
    True
    >>> client.close()
    """
    global _shared, _shared_address
    with _shared_lock:
        if _shared is not None and _shared._hub.ended != (True, False) and _shared in _clients:
            return _shared
        if _shared_address is not None:
            try:
                _shared = Client(_shared_address, None, 10.0)
                return _shared
            except (_shim.SidecarUnavailable, _shim.SidecarLost, TimeoutError):
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
