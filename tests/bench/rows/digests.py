"""Digests through the sidecar, and from which batch on a lane is worth its way, beside hashlib and a plain Python book."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import ringlane
from ringlane.plain import make_venue
from ringlane.plain.rules import Request

from bench.measure import interleave
from bench.peers import peer_python
from bench.row import Bench, Measured, row, times_faster
from bench.sidecars import neutral_batch, open_lane, sidecar

KB, MB = 1000, 1_000_000
EXAMPLES = Path(__file__).parents[3] / "python/examples"
FILLED = "Filling the arena is timed: payloads are bytes objects of this process."
CROSSOVER_BYTES, CROSSOVER_MAX = 1 * KB, 1024


def payloads(count: int, size: int) -> list[bytes]:
    """Random payloads, each its own object."""
    rng = np.random.default_rng(1)
    return [rng.bytes(size) for _ in range(count)]


def timed(call: Callable[[], Any], times: int) -> float:
    """Median time of `call`, ns, after one to warm up."""
    call()
    samples = []
    for _ in range(times):
        start = time.perf_counter_ns()
        call()
        samples.append(time.perf_counter_ns() - start)
    return float(statistics.median(samples))


def hashed(bodies: list[bytes]) -> list[bytes]:
    """The loop that one would write without Ringlane."""
    return [hashlib.sha256(body).digest() for body in bodies]


def batch_row(name: str, count: int, size: int, bar: tuple[float, float]) -> None:
    """SHA-256 of a batch against a hashlib loop."""

    def measure(bench: Bench) -> Measured:
        bodies = payloads(bench.scaled(count, 16), size)
        with (
            sidecar(bench) as started,
            ringlane.connect(started.address) as client,
            client.open("digests", arena_bytes=128 << 20) as lane,
        ):
            assert lane.digest(bodies[:16]) == hashed(bodies[:16])
            pairs = interleave(
                bench.pairs,
                lambda: timed(lambda: lane.digest(bodies), 5) / len(bodies),
                lambda: timed(lambda: hashed(bodies), 5) / len(bodies),
                theirs_over_ours=True,
            )
        return Measured.of(pairs, "a hashlib loop, one digest")

    measure.__doc__ = f"""SHA-256 of {count:,} payloads of {size:,} bytes by `lane.digest`: time for one, from bytes in to bytes out.

    {FILLED} Beside it a hashlib loop over the same payloads in this process.
    """
    row(name, "ns", times_faster(*bar))(measure)


batch_row("sha256_1KB_batch", 4096, KB, (1.5, 1.9))
batch_row("sha256_10KB_batch", 1024, 10 * KB, (1.5, 1.9))


def in_place(lane: Any, count: int) -> list[Any]:
    """Random payloads of 1 MB that stand in the lane's arena, as a download into `lane.arena()` leaves them."""
    bodies = [lane.arena(MB) for _ in range(count)]
    for body, content in zip(bodies, payloads(count, MB), strict=True):
        body[:] = np.frombuffer(content, np.uint8)
    return bodies


@row("sha256_1MB", "ns", times_faster(1.7, 1.95))
def sha256_1mb(bench: Bench) -> Measured:
    """SHA-256 of 64 payloads of 1 MB that stand in the lane's arena already: time for one. Filling the arena is not timed.

    Beside it a hashlib loop over as many payloads where they stand.
    """
    count = bench.scaled(64, 16)
    contents = payloads(count, MB)
    with (
        sidecar(bench) as started,
        ringlane.connect(started.address) as client,
        client.open("digests", arena_bytes=128 << 20) as lane,
    ):
        bodies = in_place(lane, count)
        assert [row.tobytes() for row in lane.process(bodies, copy=True)] == hashed(contents)
        pairs = interleave(
            bench.pairs,
            lambda: timed(lambda: lane.process(bodies), 5) / count,
            lambda: timed(lambda: hashed(contents), 5) / count,
            theirs_over_ours=True,
        )
    return Measured.of(pairs, "a hashlib loop, one digest")


@row("blake3_1MB", "ns", times_faster(0.85, 0.95))
def blake3_1mb(bench: Bench) -> Measured:
    """BLAKE3 of 64 payloads of 1 MB that stand in the lane's arena already: time for one. Filling the arena is not timed.

    Beside it two threads of the blake3 crate, by its own Python binding, over payloads where they stand.
    """
    count, script = bench.scaled(64, 16), Path(__file__).parents[1] / "peer_blake3.py"
    command = [str(peer_python()), str(script), str(count), str(MB), "5"]

    def theirs() -> float:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
        return float(json.loads(done.stdout)["ns"])

    with (
        sidecar(bench) as started,
        ringlane.connect(started.address) as client,
        client.open("digests", algorithm="blake3", arena_bytes=128 << 20) as lane,
    ):
        bodies = in_place(lane, count)
        pairs = interleave(
            bench.pairs, lambda: timed(lambda: lane.process(bodies), 5) / count, theirs, theirs_over_ours=True
        )

    return Measured.of(pairs, "the blake3 crate on two threads, one digest")


@row("await_sha256_1KB", "ns", times_faster(3, 8))
def awaited(bench: Bench) -> Measured:
    """SHA-256 of 1 KB, one await a digest, 1,000 at once in one asyncio loop: time for one.

    Filling the arena is timed. Beside it `asyncio.to_thread(hashlib)` for each, as one would write it.
    """
    bodies = payloads(bench.scaled(1000, 100), KB)

    async def in_thread(body: bytes) -> bytes:
        return await asyncio.to_thread(lambda: hashlib.sha256(body).digest())

    async def all_of(digest: Callable[[bytes], Awaitable[bytes]]) -> float:
        async def turn() -> list[bytes]:
            return list(await asyncio.gather(*map(digest, bodies)))

        assert await turn() == hashed(bodies)
        samples = []
        for _ in range(5):
            start = time.perf_counter_ns()
            await turn()
            samples.append(time.perf_counter_ns() - start)
        return float(statistics.median(samples)) / len(bodies)

    with sidecar(bench) as started, ringlane.connect(started.address) as client, client.open("digests") as lane:
        pairs = interleave(
            bench.pairs,
            lambda: asyncio.run(all_of(lane.digest_async)),
            lambda: asyncio.run(all_of(in_thread)),
            theirs_over_ours=True,
        )
    return Measured.of(pairs, "asyncio.to_thread(hashlib.sha256), one digest")


def example_pipeline() -> ModuleType:
    """`python/examples/pipeline.py`; aiohttp is installed when it is not there."""
    if importlib.util.find_spec("aiohttp") is None:
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "aiohttp>=3.10,<4"], check=True, timeout=300)
    spec = importlib.util.spec_from_file_location("pipeline", EXAMPLES / "pipeline.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def _inline(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()


async def _not_at_all(body: bytes) -> bytes:
    return b""


async def _in_thread(body: bytes) -> bytes:
    return await asyncio.to_thread(lambda: hashlib.sha256(body).digest())


def pipeline_row(
    name: str, digest: Callable[[bytes], Awaitable[bytes]], reference: str, bar: tuple[float, float]
) -> None:
    """The example pipeline against the same with hashlib."""

    def measure(bench: Bench) -> Measured:
        pipeline = example_pipeline()
        documents = payloads(bench.scaled(400, 40), 100 * KB)

        async def run(digest: Callable[[bytes], Awaitable[bytes]]) -> float:
            async with pipeline.server(documents) as address:
                await pipeline.digests(address, len(documents) // 4, digest)
                start = time.perf_counter_ns()
                found = await pipeline.digests(address, len(documents), digest)
                took = time.perf_counter_ns() - start
            assert digest is _not_at_all or found == hashed(documents)
            return took / len(documents)

        with sidecar(bench) as started, ringlane.connect(started.address) as client, client.open("digests") as lane:
            pairs = interleave(
                bench.pairs,
                lambda: asyncio.run(run(lane.digest_async)),
                lambda: asyncio.run(run(digest)),
                theirs_over_ours=True,
            )
        fetched = statistics.median(asyncio.run(run(_not_at_all)) for _ in range(bench.pairs))
        return Measured.of(pairs, reference, fetch_alone_ns=fetched)

    measure.__doc__ = f"""Fetch over loopback and SHA-256 of 100 KB, by python/examples/pipeline.py: time for one document.

    Server and client share this process and its loop. Filling the arena is timed. Beside it {reference};
    the details have the fetch alone, which no digest can be quicker than.
    """
    row(name, "ns", times_faster(*bar))(measure)


pipeline_row("pipeline_async", _in_thread, "the same with hashlib in threads", (1.3, 1.8))
pipeline_row("pipeline_async_vs_inline", _inline, "the same with hashlib inline", (1.0, 1.2))


def crossover(ours: Callable[[int], float], theirs: Callable[[int], float], most: int) -> int:
    """The smallest power of two of records from which on ours is faster up to `most`; twice `most` when it never is."""
    found = 2 * most
    size = most
    while size >= 1 and ours(size) < theirs(size):
        found, size = size, size // 2
    return found


@row("crossover_sha256", "records")
def crossover_sha256(bench: Bench) -> Measured:
    """The smallest batch of 1 KB payloads (a power of two) from which on `lane.digest` beats a hashlib loop, up to 1,024.

    2,048 stands for never. Filling the arena is timed. Each size is the median of 21 calls.
    """
    bodies = payloads(CROSSOVER_MAX, CROSSOVER_BYTES)
    with sidecar(bench) as started, ringlane.connect(started.address) as client, client.open("digests") as lane:
        found = [
            crossover(
                lambda n: timed(lambda: lane.digest(bodies[:n]), 21),
                lambda n: timed(lambda: hashed(bodies[:n]), 21),
                CROSSOVER_MAX,
            )
            for _ in range(bench.pairs)
        ]
    return Measured(float(statistics.median(found)), details={"each": found})


@row("crossover_orders", "records")
def crossover_orders(bench: Bench) -> Measured:
    """The smallest batch of orders (a power of two from 4) from which on `lane.process` beats a plain Python book, up to 1,024.

    New orders and their cancels, so that books stay empty. The book is that of `backend="python"`, called without its lane: requests are
    tuples already, and its answers too. 2,048 stands for never, 4 for always.
    """
    venue = make_venue()
    number = venue.open_lane(1, 1 << 20)
    with sidecar(bench) as started, open_lane(started.address) as lane:
        batches = {size: neutral_batch(lane.request_dtype, size, 1) for size in (4 << n for n in range(9))}
        rows = {size: [Request(*one) for one in batch.tolist()] for size, batch in batches.items()}
        found = []
        for _ in range(bench.pairs):
            best, size = 2 * CROSSOVER_MAX, CROSSOVER_MAX
            while size >= 4 and _wins(lane, batches[size], lambda size=size: venue.process(number, rows[size])):
                best, size = size, size // 2
            found.append(best)
    return Measured(float(statistics.median(found)), details={"each": found})


def _wins(lane: Any, batch: np.ndarray[Any, Any], plain: Callable[[], Any]) -> bool:
    assert (lane.process(batch, copy=True)["code"] == 0).all()
    return timed(lambda: lane.process(batch), 21) < timed(plain, 21)
