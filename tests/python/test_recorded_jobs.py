"""Lanes of digests and vectors that are recorded: what they were asked and answered stands in the journal and is computed anew."""

import hashlib
import json
import subprocess
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import ringlane
from daemon import BINARY, CONFIG, Daemon


def start(directory: Path, durability: str) -> Daemon:
    text = CONFIG.replace("[journal]\n", f'[journal]\ndurability = "{durability}"\n')
    with mock.patch("daemon.CONFIG", f'{text}[vectors]\ncorpus_directory = "{directory}"\n'):
        return Daemon(directory)


def replay(daemon: Daemon, *options: str) -> dict:
    done = subprocess.run([BINARY, "replay", daemon.journal, "--json", *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("durability", ["process", "disk"])
def test_what_lanes_were_asked_and_answered_is_recorded(tmp_path, seed, durability):
    random = np.random.default_rng(seed)
    rows = random.standard_normal((200, 20), dtype=np.float32)
    np.save(tmp_path / "rows.npy", rows)
    daemon = start(tmp_path, durability)
    with ringlane.connect(daemon.ready().address) as client:
        client.corpora.load("rows", "rows.npy", metric="l2", timeout=20)
        orders = client.open("orders", depth=64, timeout=20)
        digests = client.open("digests", depth=256, arena_bytes=1 << 20, timeout=20, record=True)
        unit = client.open("vectors", 256, dim=20, op="normalize", timeout=20, record=True)
        dot = client.open("vectors", 256, dim=20, op="dot", dtype="int8", timeout=20, record=True)
        search = client.open("vectors", 64, dim=20, op="search", corpus="rows", k=3, timeout=20, record=True)
        silent = client.open("digests", algorithm="blake3", timeout=20)
        bodies = [random.bytes(size) for size in (0, 1, 63, 64, 65, 16_320, 16_321, 200_000, 5)] + [b"x"] * 40
        assert digests.digest(bodies) == [hashlib.sha256(body).digest() for body in bodies]
        assert (
            orders.process(
                orders.batch(symbol=1, side="BUY", account=7, client_order_id=1, price=1_000_000, quantity=1)
            )["code"]
            == 0
        )
        unit.process(rows[:100])
        dot.process(np.ones((7, 20), np.int8), np.arange(20, dtype=np.int8))
        assert search.process(rows[:9]).ids[:, 0].tolist() == list(range(9))
        silent.digest([b"not recorded"] * 3)
        state = client.state()
        # Killed while the lanes are open: their end is a part of the state.
        daemon.kill()
    found = replay(daemon)
    assert found["state_hash"] == state.state_hash
    assert found["jobs"] == {"lanes": 4, "asked": 49 + 100 + 7 + 9, "answered": 49 + 100 + 7 + 9}
    verified = replay(daemon, "--verify")
    assert verified["verified"]["equal"]
    jobs = verified["jobs"]
    assert (jobs["recomputed"], jobs["not_recomputed"], jobs["different"]) == (156, 9, 0)
    recording = ringlane.read_recording(daemon.journal)
    text = recording.records("JOB").tobytes()
    assert bodies[7][1000:2000] in text, "payloads stand there as they were"
    assert b'"kernel":"digests"' in text
    exported = tmp_path / "exported"
    done = subprocess.run(
        [BINARY, "export", daemon.journal, "--to", "jsonl", "--tables", "job", "--out", str(exported)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len((exported / "job.jsonl").read_text().splitlines()) == len(recording.records("JOB"))
    # A sidecar goes on behind such frames.
    daemon = start(tmp_path, durability)
    with ringlane.connect(daemon.ready().address) as client:
        assert client.state().state_hash == state.state_hash
        assert client.state().resting == 1
    assert daemon.stop() == 0


def test_nothing_is_recorded_without_a_journal(tmp_path):
    daemon = Daemon(tmp_path, journal=False).ready()
    with ringlane.connect(daemon.address) as client, pytest.raises(ValueError, match="keeps no journal"):
        client.open("digests", record=True)
    assert daemon.stop() == 0
