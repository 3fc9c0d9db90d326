"""The control socket: one JSON object there, one back, with file descriptors from the sidecar."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

from ._shim import (
    CONTROL_FDS_MAX,
    CONTROL_MESSAGE_BYTES_MAX,
    RinglaneError,
    SchemaMismatch,
    SidecarLost,
    SidecarUnavailable,
)

_UNANSWERED_MAX = 16  # requests that a stopped sidecar may find in its socket


class NotPermitted(SidecarUnavailable):
    """The sidecar runs, and its access rules do not let this user do that; asking again changes nothing."""


_REFUSALS: dict[str, type[Exception]] = {
    "NOT_PERMITTED": NotPermitted,
    "BAD_VALUE": ValueError,
    "LAYOUT_VERSION": SchemaMismatch,
    "LANE_EXISTS": RinglaneError,
    "NOT_ATTACHED": RinglaneError,
    "UNKNOWN_KERNEL": RinglaneError,
    "UNKNOWN_LANE": RinglaneError,
    "PROTOCOL": RinglaneError,
}


class ControlSocket:
    """A connection to a sidecar. Thread-safe: one request at a time.

    Requests are numbered, and so are their replies. Who is interrupted, or waits no longer, leaves a reply behind that is
    dropped when it comes: the connection, and with it the client's lanes, stays.
    """

    def __init__(self, address: str, timeout: float | None) -> None:
        self.address = address
        self.is_closed = False  # on this side
        self._timeout = timeout
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._sent = 0  # number of the last request
        self._answered = 0  # number of the last reply
        self._dropped_lanes = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect("\0" + address[1:] if address.startswith("@") else address)
        except OSError as error:
            self._socket.close()
            raise SidecarUnavailable(f"no sidecar answers at {address}: {error.strerror or error}") from error
        _sockets.add(self)

    def request(self, **message: Any) -> tuple[dict[str, Any], list[int]]:
        """Sends a request; gives the reply and the descriptors, which the caller then owns.

        Raises what the refusal says (`SidecarUnavailable`, `NotPermitted`, `ValueError`, ...), `SidecarLost` when the connection ended,
        `TimeoutError` when no answer came in time (the connection stays, and the next request may be answered).
        """
        if self._pid != os.getpid():
            raise SidecarLost(
                f"this client belongs to process {self._pid}, and this is a fork of it (process {os.getpid()}); "
                "connect anew, or use ringlane.shared(), which does so by itself"
            )
        with self._lock:
            if self._socket.fileno() < 0:
                raise RinglaneError("this client is closed; use ringlane.connect() for a new one")
            deadline = None if self._timeout is None else time.monotonic() + self._timeout
            dropped_lanes = self._dropped_lanes
            reply, descriptors = self._exchange(message, deadline)
            if reply.get("error") == "LANE_EXISTS" and self._dropped_lanes > dropped_lanes:
                # It existed only as the answer to a request that nobody waited for any more.
                reply, descriptors = self._exchange(message, deadline)
        if reply.get("ok") is True:
            return reply, descriptors
        close_all(descriptors)
        kind = _REFUSALS.get(reply.get("error", ""), SidecarUnavailable)
        raise kind(f"{reply.get('message', 'refused without a reason')} ({reply.get('error', '?')})")

    def _exchange(self, message: dict[str, Any], deadline: float | None) -> tuple[dict[str, Any], list[int]]:
        while self._sent - self._answered > _UNANSWERED_MAX:
            self._drop(*self._receive(deadline))
        with contextlib.suppress(BlockingIOError):
            while self._sent > self._answered:
                self._drop(*self._receive(0.0))
        number = self._send(message, deadline)
        while True:
            reply, descriptors = self._receive(deadline)
            if reply.get("id", number) == number:
                return reply, descriptors
            self._drop(reply, descriptors)

    def _send(self, message: dict[str, Any], deadline: float | None) -> int:
        number = self._sent + 1
        data = json.dumps({**message, "id": number}, separators=(",", ":")).encode()
        if len(data) > CONTROL_MESSAGE_BYTES_MAX:
            raise ValueError(f"a control message can have {CONTROL_MESSAGE_BYTES_MAX} bytes at most")
        self._sent = number
        with self._waiting(deadline), contextlib.suppress(BrokenPipeError):
            # A sidecar that turns a client away says why and is gone: its words are still to be read.
            self._socket.send(data)
        return number

    def _receive(self, deadline: float | None) -> tuple[dict[str, Any], list[int]]:
        with self._waiting(deadline):
            data, descriptors, got, _ = socket.recv_fds(
                self._socket, CONTROL_MESSAGE_BYTES_MAX, CONTROL_FDS_MAX, socket.MSG_CMSG_CLOEXEC
            )
        if got & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            close_all(descriptors)
            raise SchemaMismatch("the sidecar sent a longer message than the protocol allows")
        if not data:
            raise SidecarLost(f"the sidecar at {self.address} closed the connection")
        reply: dict[str, Any] = json.loads(data)
        self._answered = reply.get("id", self._sent)
        return reply, list(descriptors)

    @contextlib.contextmanager
    def _waiting(self, deadline: float | None) -> Iterator[None]:
        """Bounds the socket operation of the block; a deadline of 0 is no waiting at all (`BlockingIOError`)."""
        try:
            rest = None if deadline is None else max(0.001, deadline - time.monotonic())
            self._socket.settimeout(0 if deadline == 0 else rest)
            yield
        except BlockingIOError:
            raise
        except TimeoutError:
            words = f"the sidecar at {self.address} did not answer in time; it may yet, and the connection stays"
            raise TimeoutError(words) from None
        except OSError as error:
            raise SidecarLost(f"the sidecar at {self.address} is gone: {error.strerror or error}") from error

    def _drop(self, reply: dict[str, Any], descriptors: list[int]) -> None:
        """The answer to a request that nobody waits for. A lane that it opened is closed."""
        close_all(descriptors)
        if "token" in reply:
            self._dropped_lanes += 1
            with contextlib.suppress(BlockingIOError):
                self._send({"op": "close", "lane": reply["lane"]}, 0.0)

    def fileno(self) -> int:
        """Number of the socket. Raises `ValueError` when it is closed."""
        number = self._socket.fileno()
        if number < 0:
            raise ValueError("the connection is closed")
        return number

    def is_open(self) -> bool:
        """Whether the other end is there; looks without waiting."""
        poller = select.poll()
        poller.register(self._socket.fileno(), 0)
        return not poller.poll(0)

    def set_timeout(self, timeout: float | None) -> None:
        """Bounds each request from now on, seconds."""
        self._timeout = timeout

    def close(self) -> None:
        """Closes the connection, and with it every lane of it."""
        _sockets.discard(self)
        self.is_closed = True
        if self._pid == os.getpid():
            # Not only this descriptor: whoever waits in another thread wakes, and copies in forked children say nothing.
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


_sockets: weakref.WeakSet[ControlSocket] = weakref.WeakSet()


def close_sockets() -> None:
    """Closes every connection of the process; in a forked child, its copies of its parent's."""
    for control in list(_sockets):
        control.close()


os.register_at_fork(after_in_child=close_sockets)


def close_all(descriptors: list[int]) -> None:
    """Closes descriptors that nobody took."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def read_rows(file: int, size: int) -> bytearray:
    """The rows that came with an answer. Raises `SchemaMismatch` when they are not the `size` bytes that it announced."""
    data, got = bytearray(size), 0
    if os.fstat(file).st_size != size:
        raise SchemaMismatch(f"the answer has {os.fstat(file).st_size} bytes where {size} were announced")
    with memoryview(data) as wanted:
        while got < size:
            step = os.preadv(file, [wanted[got:]], got)
            if step == 0:
                raise SchemaMismatch(f"the answer has {got} bytes where {size} were announced")
            got += step
    return data
