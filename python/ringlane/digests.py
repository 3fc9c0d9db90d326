"""Digest lanes: SHA-256 and BLAKE3 of payloads that stand in an arena shared with the sidecar."""

from __future__ import annotations

import asyncio
import operator
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, SupportsIndex, cast

import numpy as np
import numpy.typing as npt

from . import _shim
from .arena import Arena, Bytes
from .jobs import JobLane, JobTicket
from .lane import OnFull, Words, wait_allowed
from .ticket import Records, nanoseconds

if TYPE_CHECKING:
    from .client import Client

Payload = bytes | bytearray | memoryview | npt.NDArray[Any]
_Sizes = tuple[npt.NDArray[np.int64], bool]  # bytes of each payload, and whether all are bytes objects

ARENA_BYTES = 64 << 20
"""Size of a digest lane's arena unless another is asked for, bytes."""

_ARENA_BYTES_MAX = 1 << 32
_FIRST_PAYLOADS, _FIRST_BYTES = 256, 256 << 10  # what is filled before anything is worked on, at most
_CHUNK_BYTES = 1 << 20  # what is filled while the sidecar works on what was filled before
_PAUSE_SECONDS = 0.001


class DigestTicket(JobTicket):
    """Submitted payloads whose digests are not looked at yet; awaited or asked as any `Ticket`.

    Its result is a read-only array of shape (n, 32) and dtype uint8: row i is the digest of payload i.
    """

    __slots__ = ()

    def digests(self, timeout: float | None = None) -> list[bytes]:
        """Waits as `result` does; the digests as bytes objects."""
        rows = np.ascontiguousarray(self.result(timeout))
        return cast("list[bytes]", rows.view("V32").ravel().tolist())


class DigestLane(JobLane):
    """A lane of `client.open("digests", algorithm="sha256" | "blake3", arena_bytes=64 MiB, max_concurrent=None)`.

    Payloads are bytes, bytearrays, memoryviews or numpy arrays of any dtype, of 0 bytes up to the arena's size. They are
    copied into the arena, except arrays that `arena()` gave, which stand there already. `max_concurrent` bounds how many
    payloads of this lane the sidecar's threads work on at once (None: no bound); completion is in order all the same.

    >>> import ringlane
    >>> with ringlane.connect() as client, client.open("digests", arena_bytes=1 << 20) as lane:
    ...     lane.digest(b"abc").hex()[:16], [digest.hex()[:8] for digest in lane.digest([b"", b"abc"])]
    ('ba7816bf8f01cfea', ['e3b0c442', 'ba7816bf'])
    """

    _ticket_class = DigestTicket

    @classmethod
    def _parameters(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        known = {"algorithm", "arena_bytes", "max_concurrent"}
        if unknown := set(parameters) - known:
            raise TypeError(f"a lane of digests has no parameter {min(unknown)!r}; it has {', '.join(sorted(known))}")
        algorithm = parameters.get("algorithm", "sha256")
        if algorithm not in ("sha256", "blake3"):
            raise ValueError(f'algorithm is "sha256" or "blake3", not {algorithm!r}')
        arena_bytes = operator.index(parameters.get("arena_bytes", ARENA_BYTES))
        if not 1 <= arena_bytes <= _ARENA_BYTES_MAX:
            raise ValueError(f"arena_bytes must be from 1 to {_ARENA_BYTES_MAX}, not {arena_bytes}")
        most: SupportsIndex | None = parameters.get("max_concurrent")
        if most is not None and operator.index(most) < 1:
            raise ValueError(f"max_concurrent must be at least 1, or None for no bound, not {operator.index(most)}")
        told: dict[str, Any] = {"algorithm": algorithm, "arena_bytes": arena_bytes}
        return told if most is None else {**told, "max_concurrent": operator.index(most)}

    def __init__(self, client: Client, reply: dict[str, Any], files: list[int], timeout: float | None) -> None:
        super().__init__(client, reply, files, timeout)
        self.arena_bytes: int = reply["arena_bytes"]
        self._arena = Arena(self._shim, self.arena_bytes)
        self._asked: deque[tuple[Payload, asyncio.Future[bytes]]] = deque()
        self._asker: asyncio.Task[None] | None = None

    # ---- payloads ----

    def arena(self, count: int, timeout: float | None = None) -> Bytes:
        """`count` bytes of the arena to fill in place: a writable array of shape (count,), dtype uint8, of any content.

        Pass it, or contiguous slices of it, as payloads; nothing is copied then. Its bytes come free when no array looks
        at them any more and what was submitted over them is done. Until then they must not be changed: the digest would be
        that of some mixture, and nobody else's.

        Raises `ValueError` for more bytes than the arena has; waits for room, and raises, as `submit` does.

        >>> import ringlane, hashlib
        >>> with ringlane.connect() as client, client.open("digests", arena_bytes=1 << 20) as lane:
        ...     payload = lane.arena(1000)
        ...     payload[:] = 7
        ...     lane.digest(payload) == hashlib.sha256(bytes([7]) * 1000).digest()
        True
        """
        size, deadline = operator.index(count), self._deadline(timeout)
        self._check_size(size)
        while True:
            arena = self._arena
            try:
                return arena.array(self._take(arena, size, self._rest(deadline), "block"), size)
            except _shim.RinglaneError:
                if not self._has_left(arena.shim):
                    raise

    def submit(  # type: ignore[override]
        self, payloads: Sequence[Payload], timeout: float | None = None, on_full: OnFull = "block"
    ) -> DigestTicket:
        """Submits payloads without waiting for their digests: 1 to `depth` of them, together no larger than the arena.

        Waits for room, and raises, as `Lane.submit` does; the arena is room too. Raises `ValueError` for a payload larger
        than the arena, or payloads that are so together: then use `digest`, or split them.

        >>> import ringlane
        >>> with ringlane.connect() as client, client.open("digests", arena_bytes=1 << 20) as lane:
        ...     ticket = lane.submit([b"abc"] * 100)
        ...     ticket.result(timeout=10).shape, ticket.progress()
        ((100, 32), (100, 100))
        """
        if isinstance(payloads, (bytes, bytearray, memoryview)):
            raise TypeError("submit() takes a list of payloads; for one, submit([payload]) or digest(payload)")
        if not 1 <= len(payloads) <= self.depth:
            raise ValueError(f"a batch holds 1 to {self.depth} payloads (the lane's depth), not {len(payloads)}")
        return self._submit_sized(payloads, _sizes(payloads), self._deadline(timeout), on_full)

    def _submit_sized(
        self, payloads: Sequence[Payload], sized: _Sizes, deadline: int | None, on_full: OnFull = "block"
    ) -> DigestTicket:
        while True:
            arena = self._arena
            try:
                return self._submit_in(arena, payloads, sized, deadline, on_full)
            except _shim.RinglaneError as error:
                if isinstance(error, _shim.LaneFull) or not self._has_left(arena.shim):
                    raise

    def _submit_in(
        self, arena: Arena, payloads: Sequence[Payload], sized: _Sizes, deadline: int | None, on_full: OnFull
    ) -> DigestTicket:
        requests = np.zeros(len(payloads), self.request_dtype)
        offset, count, kept = self._place(arena, (payloads, sized), requests, deadline, on_full)
        try:
            rest = None if deadline is None else max(0, deadline - time.monotonic_ns())
            ticket = self._send_to(arena.shim, self._words(requests), rest, wait_allowed(on_full))
        except BaseException:
            if offset is not None:
                arena.give_back(offset, count)
            raise
        arena.submitted(sum(ticket._slots), offset, count, kept)
        return cast(DigestTicket, ticket)

    def process(  # type: ignore[override]
        self,
        payloads: Sequence[Payload],
        timeout: float | None = None,
        copy: bool = False,
        on_full: OnFull = "block",
    ) -> Bytes:
        """Submits payloads and waits: an array of shape (n, 32) and dtype uint8; as `submit`, else as `Lane.process`."""
        return cast(Bytes, super().process(cast(Records, payloads), timeout, copy, on_full))

    def digest(self, payloads: Payload | Iterable[Payload], timeout: float | None = None) -> Any:
        """The digest of one payload as bytes, or of any number of payloads as a list of bytes.

        A long list goes in pieces, so that filling the arena and digesting overlap. `timeout` (seconds; default: the
        lane's own) bounds all of it. Raises as `submit` and `Ticket.result`.
        """
        if isinstance(payloads, (bytes, bytearray, memoryview, np.ndarray)):
            return self.submit([payloads], timeout).digests(timeout)[0]
        deadline = self._deadline(timeout)
        found: list[bytes] = []
        under_way: deque[DigestTicket] = deque()
        for piece, sized in self._pieces(list(payloads)):
            held = sum(ticket._slots[1] for ticket in under_way)
            while under_way and (under_way[0].done() or held + len(piece) > self.depth):
                self._wait_for_half(under_way, deadline)
                held -= under_way[0]._slots[1]
                found += under_way.popleft().digests(self._rest(deadline))
            under_way.append(self._submit_sized(piece, sized, deadline))
        while under_way:
            self._wait_for_half(under_way, deadline)
            found += under_way.popleft().digests(self._rest(deadline))
        return found

    def _wait_for_half(self, under_way: deque[DigestTicket], deadline: int | None) -> None:
        """Waits until half of the tickets are done, unless the first is: to sleep for each would cost as much as its work."""
        if not under_way[0].done():
            under_way[len(under_way) // 2].result(self._rest(deadline))

    # ---- asyncio ----

    async def digest_async(self, payload: Payload) -> bytes:
        """The digest of one payload, awaited: payloads that are asked for in one turn of the loop travel as one batch.

        A cancelled call frees its caller at once. Raises as `submit` and `Ticket.result`. One asyncio loop a lane at a time.

        >>> import asyncio, ringlane
        >>> async def main() -> list[str]:
        ...     with ringlane.connect() as client, client.open("digests", arena_bytes=1 << 20) as lane:
        ...         digests = await asyncio.gather(*(lane.digest_async(word) for word in (b"abc", b"")))
        ...         return [digest.hex()[:8] for digest in digests]
        >>> asyncio.run(main())
        ['ba7816bf', 'e3b0c442']
        """
        self._check_size(_size(payload))
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._asked.append((payload, future))
        if self._asker is None or self._asker.done():
            self._asker = asyncio.ensure_future(self._ask())
        return await future

    async def _ask(self) -> None:
        """Submits what was asked for, piece by piece, and gives each caller its digest."""
        under_way: deque[tuple[DigestTicket, list[asyncio.Future[bytes]]]] = deque()
        while self._asked or under_way:
            # The loop is never blocked: without room it waits for what is under way, or for others to give back.
            while self._asked and len(under_way) < 4:
                taken = self._next_piece()
                try:
                    under_way.append((self.submit([p for p, _ in taken], on_full="raise"), [f for _, f in taken]))
                except _shim.LaneFull:
                    self._asked.extendleft(reversed(taken))
                    if not under_way:
                        await asyncio.sleep(_PAUSE_SECONDS)
                    break
                except Exception as error:
                    _fail([f for _, f in taken], error)
            if under_way:
                ticket, futures = under_way.popleft()
                try:
                    await ticket
                    for future, digest in zip(futures, ticket.digests(), strict=True):
                        if not future.done():
                            future.set_result(digest)
                except Exception as error:
                    _fail(futures, error)

    def _next_piece(self) -> list[tuple[Payload, asyncio.Future[bytes]]]:
        taken: list[tuple[Payload, asyncio.Future[bytes]]] = []
        size = 0
        while self._asked and len(taken) < self.depth // 4:
            payload, future = self._asked[0]
            size += _size(payload)
            if taken and size > min(_CHUNK_BYTES, self.arena_bytes // 4):
                break
            self._asked.popleft()
            if not future.done():
                taken.append((payload, future))
        return taken or [(b"", asyncio.get_running_loop().create_future())]

    # ---- inside ----

    def _renew(self, fresh: _shim.Lane) -> None:
        self._arena = Arena(fresh, self.arena_bytes)

    def _ask_again(self, old: _shim.Lane, fresh: _shim.Lane, words: Words) -> _shim.Hold:
        # What arrays of the old arena hold is copied, as any payload is.
        requests = words.view(self.request_dtype).reshape(-1)
        before = Arena(old, self.arena_bytes)
        payloads = [before.bytes_at(int(at), int(size)) for at, size in requests[["offset", "length"]].tolist()]
        offset, count, _ = self._place(self._arena, (payloads, _sizes(payloads)), requests, None, "block")
        hold = super()._ask_again(old, fresh, requests.view(np.uint64).reshape(-1, self._slot_words))
        assert hold.lease is not None
        self._arena.submitted(hold.lease.first + hold.lease.count, offset, count, [])
        return hold

    def _looked_at(self, results: Records) -> Any:
        rows: Bytes = results.view(np.uint8).reshape(len(results), -1)
        at = self.result_schema["digest"].offset
        return rows[:, at : at + 32]

    def _pieces(self, payloads: list[Payload]) -> Iterator[tuple[list[Payload], _Sizes]]:
        """A long list in pieces, so that what is filled and what is worked on overlap; small ones first: work begins early."""
        begin, count_most, bytes_most = 0, _FIRST_PAYLOADS, _FIRST_BYTES
        while begin < len(payloads):
            some = payloads[begin : begin + min(count_most, max(self.depth // 4, 1))]
            sizes, is_plain = _sizes(some)
            ends = np.cumsum(sizes)
            at = before = 0
            while at < len(some):
                fit = int(np.searchsorted(ends, before + min(bytes_most, self.arena_bytes // 4), "right"))
                end = max(fit, at + 1)
                yield some[at:end], (sizes[at:end], is_plain)
                at, before = end, int(ends[end - 1])
                bytes_most = min(2 * bytes_most, _CHUNK_BYTES)
            begin, count_most = begin + len(some), 2 * count_most

    def _place(
        self,
        arena: Arena,
        given: tuple[Sequence[Payload], _Sizes],
        requests: Records,
        deadline: int | None,
        on_full: OnFull,
    ) -> tuple[int | None, int, list[Bytes]]:
        """Brings payloads into the arena: the piece that was taken for them, and arrays that stood there already."""
        payloads, (sizes, is_plain) = given
        requests["length"] = sizes
        self._check_size(int(sizes.max()))
        copied, kept = payloads, []
        placed = [] if is_plain else [arena.offset_of(payload) for payload in payloads]
        to_copy: Any = slice(None)
        if any(place is not None for place in placed):
            requests["offset"] = [place or 0 for place in placed]
            kept = [cast(Bytes, p) for p, place in zip(payloads, placed, strict=True) if place is not None]
            to_copy = [index for index, place in enumerate(placed) if place is None]
            copied, sizes = [payloads[index] for index in to_copy], sizes[to_copy]
        ends = np.cumsum(sizes)
        total = int(ends[-1]) if len(ends) else 0
        self._slot_weight = int(requests["length"].mean())
        if total > self.arena_bytes:
            raise ValueError(
                f"the payloads have {total} bytes together and the arena {self.arena_bytes}; "
                "split them, use digest(), or open the lane with more arena_bytes"
            )
        if total == 0:
            return None, 0, kept
        offset = self._take(arena, total, self._rest(deadline), on_full)
        ends += offset
        requests["offset"][to_copy] = ends - sizes
        if is_plain:
            arena.gather(offset, cast("Sequence[bytes]", copied))
        else:
            into, begin = arena.view, offset
            for payload, end in zip(map(_flat, copied), ends.tolist(), strict=True):
                into[begin:end] = payload
                begin = end
        return offset, total, kept

    def _take(self, arena: Arena, count: int, timeout: float | None, on_full: OnFull) -> int:
        deadline = self._deadline(timeout)
        waits = wait_allowed(on_full)
        given_up = time.monotonic_ns() + 1_000_000_000
        while True:
            arena.shim.check()
            offset = arena.take(count)
            if offset is not None:
                return offset
            oldest = arena.oldest()
            words = f"no {count} bytes in a row are free in the arena of {arena.size}"
            if not waits:
                self.border.add(lane_full=1)
                raise _shim.LaneFull(f"{words}: wait for tickets, or drop arrays of lane.arena()")
            if oldest is not None:
                arena.shim.wait(oldest, nanoseconds(self._rest(deadline)))
                continue
            # Only arrays of this process hold it; another thread may drop one.
            if time.monotonic_ns() > (given_up if deadline is None else deadline):
                self.border.add(lane_full=1)
                raise _shim.LaneFull(f"{words}, and nothing is under way: drop arrays of lane.arena()")
            time.sleep(_PAUSE_SECONDS)

    def _check_size(self, size: int) -> None:
        if not 0 <= size <= self.arena_bytes:
            raise ValueError(
                f"a payload of this lane can have 0 to {self.arena_bytes} bytes (its arena), not {size}; "
                "open the lane with more arena_bytes"
            )

    def _deadline(self, timeout: float | None) -> int | None:
        limit = self._timeout_ns if timeout is None else nanoseconds(timeout)
        return None if limit is None else time.monotonic_ns() + limit

    @staticmethod
    def _rest(deadline: int | None) -> float | None:
        return None if deadline is None else max(0, deadline - time.monotonic_ns()) / 1e9


def _size(payload: Payload) -> int:
    if isinstance(payload, (bytes, bytearray)):
        return len(payload)
    if isinstance(payload, (memoryview, np.ndarray)):
        return payload.nbytes
    raise TypeError(f"a payload is bytes, a bytearray, a memoryview or a numpy array, not {type(payload).__name__}")


def _sizes(payloads: Sequence[Payload]) -> _Sizes:
    """Raises `TypeError` for what is no payload."""
    is_plain = {bytes}.issuperset(map(type, payloads))
    return np.fromiter(map(len if is_plain else _size, payloads), np.int64, len(payloads)), is_plain


def _flat(payload: Payload) -> bytes | bytearray | memoryview:
    if isinstance(payload, (bytes, bytearray)):
        return payload
    if isinstance(payload, np.ndarray):
        return np.ascontiguousarray(payload).reshape(-1).view(np.uint8).data
    return payload.cast("B") if payload.c_contiguous else payload.tobytes()


def _fail(futures: list[asyncio.Future[bytes]], error: Exception) -> None:
    for future in futures:
        if not future.done():
            future.set_exception(error)
