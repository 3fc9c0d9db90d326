"""Lanes of digests and vectors over the end of their sidecar: they are opened again, and what was not answered is asked again."""

import asyncio
import hashlib
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import ringlane
from daemon import Daemon, freeze, until

PATIENCE_S = 20


def start(directory: Path, config: str = "") -> Daemon:
    return Daemon(directory, journal=False, config=config)


def sha256(payload) -> bytes:
    return hashlib.sha256(bytes(payload)).digest()


def test_unanswered_digests_are_asked_again_and_answered_ones_stay(tmp_path, seed):
    random = np.random.default_rng(seed)
    daemon = start(tmp_path).ready()
    with ringlane.connect(daemon.address, reconnect_timeout=PATIENCE_S) as client:
        lane = client.open("digests", depth=64, arena_bytes=1 << 20, timeout=PATIENCE_S)
        early = [random.bytes(100) for _ in range(30)]
        answered = lane.process(early)
        kept = answered.copy()
        for round in range(3):
            freeze(daemon.process.pid)
            bodies = [random.bytes(size) for size in (0, 1, 64, 5000, 100_000)]
            filled, filling = lane.arena(3000), lane.arena(2000)
            filled[:] = 7 + round
            filling[:1000] = 1
            tickets = [lane.submit(bodies), lane.submit([filled, filled[10:20]])]
            slept: list[object] = []
            sleeper = threading.Thread(target=lambda slept=slept: slept.append(lane.digest([b"sleeper"] * 7)))
            sleeper.start()
            until(lambda: lane.in_flight == 14, what="the sleeper's payloads")
            daemon.kill()
            filling[1000:] = 2
            daemon = start(tmp_path)
            assert tickets[0].digests() == [sha256(body) for body in bodies]
            assert tickets[1].digests() == [sha256([7 + round] * 3000), sha256([7 + round] * 10)]
            assert tickets[0].progress() == (5, 5)
            sleeper.join(PATIENCE_S)
            assert slept == [[sha256(b"sleeper")] * 7]
            del tickets, filled
            assert lane.digest(filling) == sha256([1] * 1000 + [2] * 1000), "filled before and after the end"
            many = [random.bytes(300) for _ in range(500)]
            assert lane.digest(many) == [sha256(body) for body in many]
        assert (answered == kept).all(), "what was answered stays where it is"
        assert kept.tobytes() == b"".join(map(sha256, early))
        assert client.pid == daemon.process.pid
        lane.close()
        with pytest.raises(ringlane.RinglaneError, match="closed"):
            lane.digest(b"")
    assert daemon.stop() == 0


def test_awaits_reservations_and_searches_go_on(tmp_path, seed):
    random = np.random.default_rng(seed)
    rows = random.standard_normal((3000, 24), dtype=np.float32)
    np.save(tmp_path / "rows.npy", rows)
    config = f'[vectors]\ncorpus_directory = "{tmp_path}"\n'
    daemon = start(tmp_path, config).ready()
    with ringlane.connect(daemon.address, reconnect_timeout=PATIENCE_S) as client:
        client.corpora.load("rows", "rows.npy", metric="l2", timeout=PATIENCE_S)
        search = client.open("vectors", 64, dim=24, op="search", corpus="rows", k=3, timeout=PATIENCE_S)
        unit = client.open("vectors", 64, dim=24, op="normalize", timeout=PATIENCE_S)
        digests = client.open("digests", timeout=PATIENCE_S)
        before = unit.process(rows[:20])
        expected = before.copy()
        freeze(daemon.process.pid)
        found = search.submit(rows[:5])
        open_block = unit.reserve(20)

        async def main() -> list[bytes]:
            nonlocal daemon
            tasks = [asyncio.ensure_future(digests.digest_async(bytes([n]) * 999)) for n in range(200)]
            waits = [asyncio.ensure_future(_ready(unit.submit(rows[n]))) for n in range(10)]
            await asyncio.sleep(0.05)
            tasks[0].cancel()
            with open_block as slots:
                slots[:10] = rows[:10]
                daemon.kill()
                daemon = start(tmp_path, config)
                time.sleep(0.3)
                slots[10:] = rows[10:20]
            assert np.array_equal(np.concatenate(await asyncio.gather(*waits)), expected[:10])
            return list(await asyncio.gather(*tasks[1:]))

        async def _ready(ticket) -> np.ndarray:
            return (await ticket).copy()

        assert asyncio.run(asyncio.wait_for(main(), PATIENCE_S)) == [sha256(bytes([n]) * 999) for n in range(1, 200)]
        assert np.array_equal(open_block.ticket.result(), expected)
        assert found.result().ids[:, 0].tolist() == list(range(5))
        assert np.array_equal(before, expected)
        assert search.process(rows[7]).ids[0, 0] == 7
    assert daemon.stop() == 0


def test_kill_after_kill_under_load_loses_nothing(tmp_path, seed):
    """Threads digest without pause while the sidecar is killed again and again; every answer is right, and there is one a call."""
    daemon, over = start(tmp_path).ready(), threading.Event()
    with ringlane.connect(daemon.address, reconnect_timeout=PATIENCE_S) as client:
        lane = client.open("digests", depth=256, arena_bytes=1 << 20, timeout=PATIENCE_S)
        counts, wrong = [0] * 3, []

        def ask(which: int) -> None:
            random = np.random.default_rng(seed + which)
            try:
                while not over.is_set():
                    bodies = [random.bytes(int(size)) for size in random.integers(0, 4000, 20)]
                    if lane.process(bodies, copy=True).tobytes() != b"".join(map(sha256, bodies)):
                        wrong.append(which)
                    counts[which] += 1
            except Exception as error:
                wrong.append(repr(error))

        threads = [threading.Thread(target=ask, args=(which,)) for which in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(8):
            seen = list(counts)
            until(
                lambda seen=seen: wrong or all(now > then for now, then in zip(counts, seen, strict=True)), PATIENCE_S
            )
            daemon.kill()
            daemon = start(tmp_path)
        seen = list(counts)
        until(lambda: wrong or all(now > then for now, then in zip(counts, seen, strict=True)), PATIENCE_S)
        over.set()
        for thread in threads:
            thread.join(PATIENCE_S)
        assert not wrong
    assert daemon.stop() == 0


def test_patience_ends_in_sidecar_lost(tmp_path):
    daemon = start(tmp_path).ready()
    with ringlane.connect(daemon.address, reconnect_timeout=0.3) as client:
        lane = client.open("digests", timeout=PATIENCE_S)
        freeze(daemon.process.pid)
        ticket = lane.submit([b"x"])
        daemon.kill()
        with pytest.raises(ringlane.SidecarLost):
            ticket.result()
        with pytest.raises(ringlane.SidecarLost):
            lane.digest(b"y")


def test_a_lane_that_is_refused_ends_alone(tmp_path):
    """The sidecar comes back without the corpus directory: the search ends with words, digests go on."""
    np.save(tmp_path / "rows.npy", np.eye(4, dtype=np.float32))
    daemon = start(tmp_path, f'[vectors]\ncorpus_directory = "{tmp_path}"\n').ready()
    with ringlane.connect(daemon.address, reconnect_timeout=PATIENCE_S) as client:
        client.corpora.load("rows", "rows.npy", timeout=PATIENCE_S)
        search = client.open("vectors", 64, dim=4, op="search", corpus="rows", k=1, timeout=PATIENCE_S)
        digests = client.open("digests", timeout=PATIENCE_S)
        freeze(daemon.process.pid)
        lost, found = search.submit(np.eye(4, dtype=np.float32)), digests.submit([b"abc"])
        daemon.kill()
        os.unlink(tmp_path / "rows.npy")
        daemon = start(tmp_path)
        with pytest.warns(RuntimeWarning, match="the lane to 'vectors'"):
            assert found.digests() == [sha256(b"abc")]
        with pytest.raises(ringlane.RinglaneError, match="closed"):
            lost.result()
    assert daemon.stop() == 0
