"""`durability = "disk"`: the same results as without, nothing seen before it is synced, and nothing acknowledged is lost."""

import random
import threading
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import ringlane
from daemon import CONFIG, Daemon
from ringlane.flow import OrderFlow

BATCH = 512


def start(directory: Path, durability: str) -> Daemon:
    directory.mkdir(exist_ok=True)
    config = CONFIG.replace("[journal]", f'[journal]\ndurability = "{durability}"').replace("= 65536\n", "= 1048576\n")
    with mock.patch("daemon.CONFIG", config):
        return Daemon(directory).ready()


def answers(daemon: Daemon, seed: int, batches: int) -> tuple[np.ndarray, str]:
    """Results of a seeded flow, and the hash of the state that it leaves."""
    with ringlane.connect(daemon.address) as client, client.open("orders", depth=8192, events=8192) as lane:
        flow, results, tickets = OrderFlow(seed=seed), [], []
        for _ in range(batches):
            batch = np.zeros(BATCH, lane.request_dtype)
            flow.fill(batch)
            tickets.append(lane.submit(batch))
            if len(tickets) > 4:
                results.append(tickets.pop(0).result().copy())
        results += [ticket.result().copy() for ticket in tickets]
    # Its lane's end cancels what rests, and is journaled too.
    with ringlane.connect(daemon.address) as client:
        return np.concatenate(results), client.state().state_hash


@pytest.mark.parametrize("seed", [3])
def test_results_and_replay_are_those_of_process(tmp_path, seed):
    """60 batches: four segments, so that commits span them too."""
    found = {}
    for durability in ("process", "disk"):
        daemon = start(tmp_path / durability, durability)
        found[durability] = answers(daemon, seed, 60)
        row = daemon.status()["journal"]
        assert daemon.stop() == 0, daemon.words()
        assert daemon.replay()["state_hash"] == found[durability][1]
        if durability == "disk":
            assert row["durable_sequence"] == row["sequence"] > 60 * BATCH, row
    disk, process = found["disk"][0], found["process"][0]
    # Sequence numbers and hashes too: nothing in this flow waits for a clock, whose records take numbers of their own.
    differ = [name for name in disk.dtype.names if not (disk[name] == process[name]).all()]
    assert len(disk) == 60 * BATCH
    assert not differ, differ
    assert found["disk"][1] == found["process"][1]


def test_a_single_order_and_a_quiet_lane_are_answered(tmp_path):
    """One order at a time: the sequencer sleeps meanwhile, and the commit's end must wake it."""
    daemon = start(tmp_path / "disk", "disk")
    with ringlane.connect(daemon.address) as client, client.open("orders") as lane:
        for number in range(1, 21):
            order = lane.batch(symbol="AAPL", side=1, account=1, client_order_id=number, price="100.00", quantity=1)
            assert lane.process(order)["code"][0] == 0
            time.sleep(0.005)
        assert client.state().resting == 20
    assert daemon.stop() == 0


def test_four_writers_are_all_answered(tmp_path):
    daemon = start(tmp_path / "disk", "disk")
    answered, errors = [0] * 4, []

    def write(worker: int) -> None:
        try:
            with ringlane.connect(daemon.address) as client, client.open("orders", depth=8192) as lane:
                flow = OrderFlow(seed=5, worker=worker, workers=4)
                for _ in range(20):
                    batch = np.zeros(BATCH, lane.request_dtype)
                    flow.fill(batch)
                    answered[worker] += len(lane.process(batch))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
    [thread.start() for thread in threads]
    [thread.join(60) for thread in threads]
    assert not errors, errors
    assert answered == [20 * BATCH] * 4
    assert daemon.stop() == 0, daemon.words()
    replayed = daemon.replay()
    assert replayed["accepted"] + replayed["rejected"] == 4 * 20 * BATCH


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_kill_9_loses_nothing_acknowledged(tmp_path, seed):
    """Killed at a random moment under load: every order whose result was seen is in the journal, none twice."""
    chance = random.Random(seed)
    print("seed", seed)
    daemon = start(tmp_path / "disk", "disk")
    seen: list[int] = []

    def write() -> None:
        try:
            with ringlane.connect(daemon.address) as client, client.open("orders", depth=8192) as lane:
                first = 1
                while True:
                    count = chance.randint(1, BATCH)
                    ids = list(range(first, first + count))
                    batch = lane.batch(
                        symbol="AAPL", side=1, account=1, client_order_id=ids, price="100.00", quantity=1
                    )
                    result = lane.process(batch)
                    assert (result["code"] == 0).all()
                    seen.append(first + count - 1)
                    first += count
        except ringlane.RinglaneError:
            pass

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    time.sleep(0.2 + chance.random() / 2)
    daemon.kill()
    writer.join(30)
    assert not writer.is_alive()
    assert seen
    resting = daemon.replay()["resting"]
    assert seen[-1] <= resting <= seen[-1] + BATCH
    again = start(tmp_path / "disk", "disk")
    with ringlane.connect(again.address) as client:
        assert client.state().resting == resting
    assert again.stop() == 0
