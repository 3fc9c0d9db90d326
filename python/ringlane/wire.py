"""The control socket: one JSON object there, one back, with file descriptors from the sidecar."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from typing import Any

from ._shim import (
    CONTROL_FDS_MAX,
    CONTROL_MESSAGE_BYTES_MAX,
    RinglaneError,
    SchemaMismatch,
    SidecarLost,
    SidecarUnavailable,
)

_REFUSALS: dict[str, type[Exception]] = {
    "BAD_VALUE": ValueError,
    "LAYOUT_VERSION": SchemaMismatch,
    "LANE_EXISTS": RinglaneError,
    "UNKNOWN_KERNEL": RinglaneError,
    "UNKNOWN_LANE": RinglaneError,
    "PROTOCOL": RinglaneError,
}


class ControlSocket:
    """A connection to a sidecar. Thread-safe: one request at a time."""

    def __init__(self, address: str, timeout: float | None) -> None:
        self.address = address
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect("\0" + address[1:] if address.startswith("@") else address)
        except OSError as error:
            self._socket.close()
            raise SidecarUnavailable(f"no sidecar answers at {address}: {error.strerror or error}") from error

    def request(self, **message: Any) -> tuple[dict[str, Any], list[int]]:
        """Sends a request; gives the reply and the descriptors, which the caller then owns.

        Raises what the refusal says (`SidecarUnavailable`, `ValueError`, ...), `SidecarLost` when the connection ended,
        `TimeoutError` when no answer came in time (the connection is then closed).
        """
        data = json.dumps(message, separators=(",", ":")).encode()
        if len(data) > CONTROL_MESSAGE_BYTES_MAX:
            raise ValueError(f"a control message can have {CONTROL_MESSAGE_BYTES_MAX} bytes at most")
        if self._pid != os.getpid():
            raise SidecarLost(
                f"this client belongs to process {self._pid}, and this is a fork of it (process {os.getpid()}); "
                "connect anew, or use ringlane.shared(), which does so by itself"
            )
        with self._lock:
            answer, descriptors = self._exchange(data)
        if not answer:
            raise SidecarLost(f"the sidecar at {self.address} closed the connection")
        reply: dict[str, Any] = json.loads(answer)
        if reply.get("ok") is True:
            return reply, descriptors
        close_all(descriptors)
        kind = _REFUSALS.get(reply.get("error", ""), SidecarUnavailable)
        raise kind(f"{reply.get('message', 'refused without a reason')} ({reply.get('error', '?')})")

    def _exchange(self, data: bytes) -> tuple[bytes, list[int]]:
        if self._socket.fileno() < 0:
            raise RinglaneError("this client is closed; use ringlane.connect() for a new one")
        flags = socket.MSG_CMSG_CLOEXEC
        try:
            self._socket.send(data)
            answer, descriptors, got, _ = socket.recv_fds(
                self._socket, CONTROL_MESSAGE_BYTES_MAX, CONTROL_FDS_MAX, flags
            )
        except TimeoutError:
            self._socket.close()  # a late answer would be taken for that of the next request
            raise TimeoutError(f"the sidecar at {self.address} did not answer in time") from None
        except OSError as error:
            raise SidecarLost(f"the sidecar at {self.address} is gone: {error.strerror or error}") from error
        if got & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            close_all(descriptors)
            raise SchemaMismatch("the sidecar sent a longer message than the protocol allows")
        return answer, list(descriptors)

    def close(self) -> None:
        """Closes the connection, and with it every lane of it."""
        self._socket.close()


def close_all(descriptors: list[int]) -> None:
    """Closes descriptors that nobody took."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
