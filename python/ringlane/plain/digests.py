"""Digest lanes without a sidecar: hashlib, and BLAKE3 in plain Python."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from ..digests import DigestLane, DigestTicket, Payload, _flat, _size
from ..lane import OnFull
from ..schema import Field, Schema
from .blake3 import blake3
from .lane import Plain

if TYPE_CHECKING:
    from .client import PlainClient

_REQUEST = Schema(
    "DigestRequest", "", 16, "", (Field("offset", "<u8", 0, 8, "", ""), Field("length", "<u8", 8, 8, "", ""))
)
_RESULT = Schema("DigestResult", "", 32, "", (Field("digest", "(32,)u1", 0, 32, "", ""),))


class PlainDigestLane(Plain, DigestLane):
    """As `DigestLane`: payloads are hashed where they stand, one after the other, at once."""

    _ticket_class = DigestTicket

    def __init__(
        self, client: PlainClient, number: int, depth: int, told: dict[str, Any], timeout: float | None
    ) -> None:
        self._begin(client, "digests", number, depth, (_REQUEST, _RESULT), timeout)
        self.arena_bytes = told["arena_bytes"]
        self._hash: Callable[[Any], bytes] = (
            blake3 if told["algorithm"] == "blake3" else lambda payload: hashlib.sha256(payload).digest()
        )

    def arena(self, count: int, timeout: float | None = None) -> npt.NDArray[np.uint8]:
        """As `DigestLane.arena`: memory of this process."""
        self._check_size(count)
        return np.zeros(count, np.uint8)

    def submit(  # type: ignore[override]
        self, payloads: Sequence[Payload], timeout: float | None = None, on_full: OnFull = "block"
    ) -> DigestTicket:
        """As `DigestLane.submit`."""
        self._shim.check()
        if isinstance(payloads, (bytes, bytearray, memoryview)):
            raise TypeError("submit() takes a list of payloads; for one, submit([payload]) or digest(payload)")
        if not 1 <= len(payloads) <= self.depth:
            raise ValueError(f"a batch holds 1 to {self.depth} payloads (the lane's depth), not {len(payloads)}")
        for payload in payloads:
            self._check_size(_size(payload))
        if sum(map(_size, payloads)) > self.arena_bytes:
            raise ValueError(f"the payloads are larger together than the arena of {self.arena_bytes}; use digest()")
        digests = b"".join(self._hash(_flat(payload)) for payload in payloads)
        rows = np.frombuffer(bytearray(digests), self.result_dtype)
        return self._ticket_class(self, cast(Any, self._shim).lease(rows))

    def digest(self, payloads: Payload | Iterable[Payload], timeout: float | None = None) -> Any:
        """As `DigestLane.digest`."""
        if isinstance(payloads, (bytes, bytearray, memoryview, np.ndarray)):
            return self.submit([payloads]).digests()[0]
        return [self.submit([payload]).digests()[0] for payload in payloads]

    async def digest_async(self, payload: Payload) -> bytes:
        """As `DigestLane.digest_async`; the loop has its turn, then waits for the hash."""
        self._check_size(_size(payload))
        await asyncio.sleep(0)
        return cast(bytes, self.digest(payload))

    def process(  # type: ignore[override]
        self, payloads: Sequence[Payload], timeout: float | None = None, copy: bool = False, on_full: OnFull = "block"
    ) -> Any:
        """As `DigestLane.process`."""
        return self.submit(payloads, timeout, on_full).result(timeout, copy)
