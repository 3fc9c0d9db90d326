"""Digest lanes against hashlib: sizes, arenas, order, progress, ends, and asyncio."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import random
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import ringlane
from ringlane.lane import Lane

MIB = 1 << 20


def sha256(payload: object) -> bytes:
    return hashlib.sha256(payload).digest()  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def digest_client() -> Iterator[ringlane.Client]:
    with ringlane.Sidecar() as sidecar, ringlane.connect(sidecar.address) as client:
        yield client


@pytest.fixture
def lane(digest_client: ringlane.Client) -> Iterator[ringlane.DigestLane]:
    with digest_client.open("digests", arena_bytes=MIB, depth=256, timeout=60) as lane:
        yield lane


def test_published_vectors(digest_client: ringlane.Client, lane: ringlane.DigestLane) -> None:
    # NIST's examples of FIPS 180-4, and the first published vector of BLAKE3.
    assert [digest.hex() for digest in lane.digest([b"", b"abc"])] == [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    ]
    assert lane.digest(b"a" * 1_000_000).hex() == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
    with digest_client.open("digests", algorithm="blake3", arena_bytes=MIB, timeout=60) as blake:
        assert blake.digest(b"").hex() == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"


def test_sizes_around_every_border(lane: ringlane.DigestLane, seed: int) -> None:
    rng = random.Random(seed)
    sizes = [0, 1, 55, 56, 63, 64, 65, 4095, 65535, 65536, 65537, 131072, 262143, 300000]
    payloads = [rng.randbytes(size) for size in sizes] + [rng.randbytes(rng.randrange(5000)) for _ in range(300)]
    rng.shuffle(payloads)
    assert lane.digest(payloads) == [sha256(payload) for payload in payloads]


def test_nothing_is_copied_to_where_it_does_not_belong(lane: ringlane.DigestLane) -> None:
    arena = lane._shim.arena()
    for offset, words in (lane.arena_bytes - 1, "pass the end"), (2**64 - 1, "pass the end"):
        with pytest.raises(ValueError, match=words):
            arena.gather(offset, [b"ab"])
    with pytest.raises(OverflowError):
        arena.gather(-1, [b"ab"])
    with pytest.raises(TypeError):
        arena.gather(0, [bytearray(2)])  # type: ignore[list-item]
    ticket = lane.submit([b"abc"])
    with pytest.raises(ValueError, match="read-only"):
        ticket._lease.gather(0, [b"ab"])
    assert ticket.digests() == [sha256(b"abc")]


def test_64_mib_and_progress(digest_client: ringlane.Client) -> None:
    payloads = [bytes([n]) * (32 * MIB) for n in range(2)]
    with digest_client.open("digests", arena_bytes=64 * MIB, timeout=120) as lane:
        ticket = lane.submit(payloads)
        seen = [ticket.progress()]
        while not ticket.done():
            seen.append(ticket.progress())
            time.sleep(0.001)
        assert all(total == 2 for _, total in seen)
        assert seen == sorted(seen)
        assert ticket.digests() == [sha256(payload) for payload in payloads]
        assert ticket.progress() == (2, 2)
        del ticket
        whole = lane.arena(64 * MIB)
        whole[:] = 3
        assert lane.digest(whole) == sha256(whole)


def test_every_kind_of_payload(lane: ringlane.DigestLane) -> None:
    numbers = np.arange(1000, dtype=np.float64)
    payloads = [b"x", bytearray(b"yy"), memoryview(b"zzz"), numbers, numbers[::2], np.zeros((3, 4), np.int8)]
    flat = [b"x", b"yy", b"zzz", numbers.tobytes(), numbers[::2].tobytes(), bytes(12)]
    assert lane.digest(payloads) == [sha256(payload) for payload in flat]
    with pytest.raises(TypeError, match="not str"):
        lane.digest(["x"])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="list of payloads"):
        lane.submit(b"x")  # type: ignore[arg-type]


def test_what_is_out_of_range_is_refused_with_the_limit(
    digest_client: ringlane.Client, lane: ringlane.DigestLane
) -> None:
    with pytest.raises(ValueError, match=f"0 to {MIB} bytes"):
        lane.digest(bytes(MIB + 1))
    with pytest.raises(ValueError, match=f"0 to {MIB} bytes"):
        lane.arena(MIB + 1)
    with pytest.raises(ValueError, match="together"):
        lane.submit([bytes(600_000), bytes(600_000)])
    with pytest.raises(ValueError, match="1 to 256 payloads"):
        lane.submit([])
    with pytest.raises(ValueError, match="max_concurrent must be at least 1"):
        digest_client.open("digests", max_concurrent=0)
    with pytest.raises(ValueError, match="arena_bytes"):
        digest_client.open("digests", arena_bytes=0)
    with pytest.raises(ValueError, match="sha256"):
        digest_client.open("digests", algorithm="md5")
    with pytest.raises(TypeError, match="speed"):
        digest_client.open("digests", speed=9)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="for lanes of orders"):
        digest_client.open("digests", accounts=7)
    with pytest.raises(ringlane.RinglaneError, match="lane with these parameters"):
        digest_client.open("digests", arena_bytes=MIB)
    with pytest.raises(ringlane.RinglaneError, match="has: orders, digests"):
        digest_client.open("magic")
    with pytest.raises(ringlane.RinglaneError, match="no events"):
        lane.events()


def test_arrays_of_the_arena_are_digested_in_place_and_come_free(lane: ringlane.DigestLane) -> None:
    payload = lane.arena(600_000)
    payload[:] = np.arange(600_000) % 251
    half = payload[300_000:]
    assert lane.digest([payload, half]) == [sha256(payload), sha256(half)]
    with pytest.raises(ringlane.LaneFull, match="arena"):
        lane.submit([bytes(600_000)], on_full="raise")
    del payload
    gc.collect()
    with pytest.raises(ringlane.LaneFull, match="arena"):
        lane.submit([bytes(600_000)], timeout=0.01)  # the slice still looks
    del half
    gc.collect()
    assert lane.digest(bytes(600_000)) == sha256(bytes(600_000))


def test_an_array_that_is_dropped_in_flight_keeps_its_bytes(lane: ringlane.DigestLane) -> None:
    for round_ in range(30):
        payload = lane.arena(400_000)
        payload[:] = round_
        ticket = lane.submit([payload])
        expected = sha256(payload)
        del payload
        other = lane.submit([bytes([255]) * 400_000], timeout=60)
        assert ticket.digests() == [expected]
        assert other.digests() == [sha256(bytes([255]) * 400_000)]


def test_a_bound_on_concurrency_keeps_order(digest_client: ringlane.Client) -> None:
    payloads = [bytes([n]) * (200_000 if n % 7 == 0 else 10) for n in range(100)]
    with digest_client.open("digests", arena_bytes=4 * MIB, max_concurrent=1, timeout=60) as lane:
        assert lane.submit(payloads).digests() == [sha256(payload) for payload in payloads]


def test_large_payloads_side_by_side_keep_their_own(digest_client: ringlane.Client, seed: int) -> None:
    rng = random.Random(seed)
    sizes = [65_537, 300_000, 65_600, 1_000_000, 131_072, 131_072] + [rng.randrange(65_537, 400_000) for _ in range(26)]
    payloads = [rng.randbytes(size) for size in sizes]
    for algorithm in ("sha256", "blake3"):
        with digest_client.open("digests", algorithm=algorithm, arena_bytes=16 * MIB, timeout=60) as lane:
            found = lane.submit(payloads).digests()
            assert found == [lane.digest(payload) for payload in payloads]
            assert algorithm != "sha256" or found == [sha256(payload) for payload in payloads]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_a_payload_that_comes_later_is_worked_on_beside_one_that_takes_long(digest_client: ringlane.Client) -> None:
    with digest_client.open("digests", arena_bytes=64 * MIB, timeout=60) as lane:
        payloads = [lane.arena(32 * MIB) for _ in range(2)]
        for payload in payloads:
            payload[:] = 7

        def took(pause: float) -> tuple[float, float]:
            """Seconds for the first alone, and for both when the second comes while the first is worked on."""
            begin = time.perf_counter()
            lane.digest(payloads[0])
            alone, begin = time.perf_counter() - begin, time.perf_counter()
            first = lane.submit(payloads[:1])
            time.sleep(pause)
            assert not first.done()
            assert lane.digest(payloads[1]) == first.digests()[0]
            return alone, time.perf_counter() - begin

        lane.digest(payloads[0])
        # One after the other they would take twice as long as one. Whoever else uses the cores makes tries longer, none shorter.
        tries = [took(0.002) for _ in range(10)]
        assert min(both for _, both in tries) < 1.6 * min(alone for alone, _ in tries), tries


def test_what_is_no_payload_is_refused_wherever_it_stands(lane: ringlane.DigestLane) -> None:
    for place in (0, 300, 2999):
        payloads: list[object] = [b"abc"] * 3000
        payloads[place] = "text"
        with pytest.raises(TypeError, match="not str"):
            lane.digest(payloads)  # type: ignore[arg-type]
    assert lane.digest([b"abc"] * 3000) == [sha256(b"abc")] * 3000


def test_several_lanes_and_threads_at_once(digest_client: ringlane.Client) -> None:
    payloads = [bytes([n % 256]) * n for n in range(2000)]
    expected = [sha256(payload) for payload in payloads]
    found: dict[int, list[bytes]] = {}
    with (
        digest_client.open("digests", arena_bytes=MIB, timeout=60) as one,
        digest_client.open("digests", arena_bytes=2 * MIB, timeout=60) as two,
    ):
        work = [
            threading.Thread(target=lambda n=n: found.update({n: (one, two)[n % 2].digest(payloads)})) for n in range(4)
        ]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
    assert [found[n] == expected for n in range(4)] == [True] * 4


def test_a_payload_outside_of_the_arena_ends_its_lane_alone(digest_client: ringlane.Client) -> None:
    with (
        digest_client.open("digests", arena_bytes=MIB, timeout=60) as liar,
        digest_client.open("digests", arena_bytes=2 * MIB, timeout=60) as other,
    ):
        good = liar.submit([b"abc"])
        good.result()
        requests = np.zeros(1, liar.request_dtype)
        requests["offset"], requests["length"] = MIB, 1
        with pytest.raises(ringlane.LaneFaulted, match="PAYLOAD_OUT_OF_RANGE"):
            Lane.submit(liar, requests).result(timeout=60)
        assert good.digests() == [sha256(b"abc")]
        assert other.digest(b"abc") == sha256(b"abc")


@pytest.mark.parametrize(("offset", "length"), [(0, MIB + 1), (2**64 - 1, 2), (2**64 - 8, 2**64 - 8), (MIB, 1)])
def test_no_offset_and_length_reach_beyond_the_arena(digest_client: ringlane.Client, offset: int, length: int) -> None:
    with digest_client.open("digests", arena_bytes=MIB, timeout=60) as liar:
        requests = np.zeros(1, liar.request_dtype)
        requests["offset"], requests["length"] = offset, length
        with pytest.raises(ringlane.LaneFaulted, match="PAYLOAD_OUT_OF_RANGE"):
            Lane.submit(liar, requests).result(timeout=60)


def test_a_lane_that_is_closed_ends_what_it_has(digest_client: ringlane.Client) -> None:
    lane = digest_client.open("digests", arena_bytes=4 * MIB, timeout=60)
    ticket = lane.submit([bytes(MIB)] * 3)
    lane.close()
    assert ticket.digests(timeout=60) == [sha256(bytes(MIB))] * 3
    with pytest.raises(ringlane.RinglaneError, match="closed"):
        lane.digest(b"x")


def test_ten_thousand_awaits(digest_client: ringlane.Client) -> None:
    payloads = [str(n).encode() for n in range(10_000)]

    async def main() -> list[bytes]:
        with digest_client.open("digests", depth=16384, arena_bytes=MIB, timeout=120) as lane:

            async def one(payload: bytes) -> bytes:
                ticket = lane.submit([payload])
                await ticket
                return ticket.digests()[0]

            return list(await asyncio.gather(*(one(payload) for payload in payloads)))

    assert asyncio.run(main()) == [sha256(payload) for payload in payloads]


def test_one_await_a_digest(lane: ringlane.DigestLane) -> None:
    payloads = [bytes([n % 256]) * (n % 3000) for n in range(3000)]

    async def main() -> list[bytes]:
        return list(await asyncio.gather(*(lane.digest_async(payload) for payload in payloads)))

    assert asyncio.run(main()) == [sha256(payload) for payload in payloads]
    assert asyncio.run(main()) == [sha256(payload) for payload in payloads]  # and in another loop


def test_a_cancelled_await_frees_its_caller_and_no_slot(lane: ringlane.DigestLane) -> None:
    async def main() -> None:
        for _ in range(50):
            payload = lane.arena(500_000)
            payload[:] = 9
            slow = asyncio.ensure_future(_awaited(lane.submit([payload])))
            del payload
            quick = asyncio.ensure_future(lane.digest_async(b"never"))
            await asyncio.sleep(0)
            began = time.monotonic()
            for task in (slow, quick):
                task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await slow
            with pytest.raises(asyncio.CancelledError):
                await quick
            assert time.monotonic() - began < 5
            # Whatever was in flight: these are other slots and other bytes.
            assert await lane.digest_async(b"abc") == sha256(b"abc")
            assert (await lane.submit([bytes(400_000)])).tobytes() == sha256(bytes(400_000))

    asyncio.run(main())


async def _awaited(ticket: ringlane.Ticket) -> object:
    return await ticket


def test_a_task_group(lane: ringlane.DigestLane) -> None:
    group_type = getattr(asyncio, "TaskGroup", None)
    if group_type is None:
        pytest.skip("TaskGroup came with Python 3.11")

    async def main() -> list[bytes]:
        async with group_type() as group:
            tasks = [group.create_task(lane.digest_async(bytes([n]))) for n in range(200)]
        return [task.result() for task in tasks]

    assert asyncio.run(main()) == [sha256(bytes([n])) for n in range(200)]


def test_the_board_tells_of_the_lane(digest_client: ringlane.Client, lane: ringlane.DigestLane) -> None:
    import json
    import subprocess

    from ringlane.sidecar import find_binary

    lane.digest([b"1", b"2", b"3"])
    said = subprocess.run(
        [find_binary(), "status", "--json", "--address", digest_client.address], capture_output=True, check=False
    )
    rows = [row for row in json.loads(said.stdout)["lanes"] if row["lane"] == lane.number]
    assert [(row["kernel"], row["submitted"], row["completed"]) for row in rows] == [("digests", 3, 3)]
