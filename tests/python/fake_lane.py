"""A lane without a sidecar: the regions of one, made here, for tests of the shim alone and for measurements."""

from __future__ import annotations

import fcntl
import mmap
import os
import socket
import struct
from collections.abc import Callable, Sequence

import numpy as np
from ringlane import _shim
from ringlane.schema import BUILT_IN

HEADER_BYTES = 4096
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
F_SEAL_FUTURE_WRITE = 0x10
SUBMITTED, RELEASED, EVENTS_READ, WAITING, EVENTS_WAITING = 128, 256, 384, 512, 640
COMPLETED, ASLEEP, STATUS, EVENTS_PUBLISHED = 128, 256, 384, 512


def shim_lane(
    hub: _shim.Hub, files: tuple[int, int, int], depth: int, events: int, timeout_ns: int | None
) -> _shim.Lane:
    """A shim lane of order records, numbered 1, over the regions of `files` (requests, results, doorbell)."""
    request, result = BUILT_IN["OrderRequest"], BUILT_IN["OrderResult"]
    return _shim.Lane(
        hub,
        list(files),
        lane=1,
        sizes=(depth, events, 64, 64, 0),
        hashes=(int(request.hash, 16), int(result.hash, 16)),
        fields=(request.numbers, result.numbers),
        request_spans=[(field.offset, field.size) for field in request.visible],
        timeout_ns=timeout_ns,
    )


class FakeLane:
    """Both regions, the doorbell and the notify socket of one lane, and a shim lane on them."""

    def __init__(
        self,
        depth: int = 64,
        events: int = 64,
        timeout_ns: int | None = None,
        seals: Sequence[int] = (SEALS, SEALS | F_SEAL_FUTURE_WRITE),
        before_seal: Callable[[FakeLane], None] = lambda lane: None,
    ) -> None:
        self.depth, self.events = depth, events
        self.requests_fd = os.memfd_create("requests", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
        self.results_fd = os.memfd_create("results", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
        os.ftruncate(self.requests_fd, HEADER_BYTES + depth * 64)
        os.ftruncate(self.results_fd, HEADER_BYTES + (depth + events) * 64)
        self.requests = mmap.mmap(self.requests_fd, 0)
        self.results = mmap.mmap(self.results_fd, 0)
        hashes = [int(BUILT_IN[name].hash, 16) for name in ("OrderRequest", "OrderResult")]
        self.requests[0:56] = struct.pack(
            "<8sIIQQQQQ", b"RLREQ001", _shim.LAYOUT_VERSION, 64, depth, 1, hashes[0], events, 0
        )
        self.results[0:56] = struct.pack(
            "<8sIIQQQQQ", b"RLRES001", _shim.LAYOUT_VERSION, 64, depth, 1, hashes[1], events, 0
        )
        before_seal(self)  # who wants to write results maps them now
        fcntl.fcntl(self.requests_fd, fcntl.F_ADD_SEALS, seals[0])
        fcntl.fcntl(self.results_fd, fcntl.F_ADD_SEALS, seals[1])
        self.doorbell_fd = os.eventfd(0, os.EFD_NONBLOCK) if hasattr(os, "eventfd") else os.memfd_create("doorbell")
        self.notify, theirs = socket.socketpair()
        theirs.setblocking(False)
        self.hub = _shim.Hub(theirs.detach())
        files = (os.dup(self.requests_fd), os.dup(self.results_fd), os.dup(self.doorbell_fd))
        self.shim = shim_lane(self.hub, files, depth, events, timeout_ns)

    def reserve(self, count: int, timeout_ns: int | None = None) -> int:
        """Opens a reservation; gives its first slot."""
        made: list[object] = []
        hold = _shim.Hold(self.shim, count, timeout_ns, view=lambda lease: made.append(lease) or np.zeros(0))
        hold.__enter__()
        self.hold, self.lease = hold, made.pop()
        return hold.first

    def request_lease(self) -> object:
        """The look at the open reservation's slots; it is the caller's alone."""
        lease, self.lease = self.lease, None
        return lease

    def commit(self) -> _shim.Lease:
        """Submits the open reservation."""
        self.lease = None
        self.hold.__exit__(None, None, None)
        lease, self.hold.lease = self.hold.lease, None
        assert lease is not None
        return lease

    def abandon(self) -> None:
        """Gives the open reservation back."""
        self.lease = None
        self.hold.__exit__(KeyError, None, None)

    def client_word(self, offset: int) -> int:
        """A word that the shim writes."""
        return int.from_bytes(self.requests[offset : offset + 8], "little")

    def set_word(self, offset: int, value: int) -> None:
        """Sets one of the sidecar's words."""
        self.results[offset : offset + 8] = value.to_bytes(8, "little")

    def complete(self, cursor: int, notify: bool = True) -> None:
        """Completes all slots below `cursor`, and says so."""
        self.set_word(COMPLETED, cursor)
        if notify:
            self.notify.send(b"\0")
