"""`durability = "disk"`, on a disk that is slow or fails: nothing is told before it is synced, all that waits shares one sync,
and what a sync refused is never synced there again."""

import os
import subprocess
import threading
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import ringlane
from daemon import CONFIG, Daemon, until
from recordings import run
from ringlane.flow import OrderFlow

SOURCE = Path(__file__).parent / "slow_disk.c"


class Disk:
    """What becomes of each `fdatasync` of a daemon that was started by `start`; the rest of the disk is real."""

    def __init__(self, directory: Path, preload: Path) -> None:
        self.directory, self.preload = directory, preload
        self.word = directory / "disk"
        self.say("")

    def say(self, word: str) -> None:
        """ "hold", "fail", "once" or nothing."""
        new = self.word.with_suffix(".new")
        new.write_text(word)
        new.replace(self.word)

    def calls(self) -> list[tuple[str, str]]:
        """What was done, and to which file."""
        told = self.directory / "disk.calls"
        lines = told.read_text().splitlines() if told.exists() else []
        return [(what, name) for what, name in (line.split() for line in lines)]

    def start(self) -> Daemon:
        config = CONFIG.replace("[journal]", '[journal]\ndurability = "disk"')
        stands_between = {"LD_PRELOAD": str(self.preload), "RINGLANE_TEST_DISK": str(self.word)}
        with mock.patch("daemon.CONFIG", config), mock.patch.dict(os.environ, stands_between):
            daemon = Daemon(self.directory)
        daemon.ready()
        until(lambda: self.calls(), what="the daemon's first sync")
        return daemon


@pytest.fixture(scope="session")
def library(tmp_path_factory) -> Path:
    built = tmp_path_factory.mktemp("disk") / "slow_disk.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(built), str(SOURCE)], check=True)
    return built


@pytest.fixture
def disk(tmp_path, library) -> Disk:
    return Disk(tmp_path, library)


def orders(lane: ringlane.Lane, first: int, count: int, account: int = 1, side: str = "BUY"):
    ids = np.arange(first, first + count)
    return lane.batch(symbol=1, side=side, account=account, client_order_id=ids, price=1_000_000, quantity=1)


def test_nothing_is_told_before_the_sync(disk):
    daemon = disk.start()
    with ringlane.connect(daemon.address) as maker, ringlane.connect(daemon.address) as taker:
        mine, theirs = maker.open("orders"), taker.open("orders")
        feed = taker.market_data(["AAPL"])
        mine.process(orders(mine, 1, 10))
        last = int(mine.process(orders(mine, 11, 1))["sequence"][0])
        until(lambda: last in feed.read()["sequence"], what="the market data of what is durable")
        until(lambda: daemon.status()["journal"]["lag_records"] == 0, what="a settled journal")
        before = daemon.status()
        disk.say("hold")
        ticket = theirs.submit(orders(theirs, 1, 10, account=2, side="SELL"))
        until(lambda: disk.calls()[-1][0] == "held", what="the sync that waits")
        time.sleep(0.3)
        assert not ticket.done()
        assert len(mine.events(0)) == 0
        assert len(feed.read()) == 0
        during = daemon.status()
        told = ("accepted", "trades", "resting_orders")
        assert [during[name] for name in told] == [before[name] for name in told]
        assert during["journal"]["durable_sequence"] < during["journal"]["sequence"]
        assert during["health"] == "healthy"  # slow is not broken
        # Nor is a question answered with what may yet be lost.
        answers = []
        asker = threading.Thread(target=lambda: answers.append(maker.state()))
        asker.start()
        time.sleep(0.2)
        assert not answers
        disk.say("")
        assert (ticket.result(timeout=10)["code"] == 0).all()
        asker.join(10)
        assert answers[0].trades == 10
        until(lambda: len(mine.events(0)) or daemon.status()["trades"] == 10, what="the events")
        del ticket
    assert daemon.stop() == 0


def test_killed_while_the_disk_is_slow_nothing_was_told_and_all_happens_once(disk):
    daemon = disk.start()
    results = []

    def send() -> None:
        with ringlane.connect(daemon.address, reconnect_timeout=30.0) as client:
            lane = client.open("orders", timeout=30.0)
            disk.say("hold")
            results.append(lane.process(orders(lane, 1, 50), copy=True))

    sender = threading.Thread(target=send)
    sender.start()
    until(lambda: disk.calls()[-1][0] == "held", what="the sync that waits")
    time.sleep(0.1)
    assert not results
    daemon.kill()
    disk.say("")
    daemon = disk.start()
    sender.join(30)
    assert (results[0]["code"] == 0).all()
    assert daemon.stop() == 0
    assert daemon.replay()["accepted"] == 50


def test_all_that_waits_shares_one_sync(disk):
    daemon = disk.start()
    with ringlane.connect(daemon.address) as client, ringlane.connect(daemon.address) as other:
        first = client.open("orders", depth=2048)
        second = other.open("orders", depth=2048)
        # What a batch needs to know of the instruments is asked for with the first one of a client.
        first.process(orders(first, 1, 1))
        orders(second, 1, 1, account=2)
        disk.say("hold")
        alone = first.submit(orders(first, 2, 1))
        until(lambda: disk.calls()[-1][0] == "held", what="the sync that waits")
        tickets = [first.submit(orders(first, 10 + 100 * n, 100)) for n in range(5)]
        tickets += [second.submit(orders(second, 10 + 100 * n, 100, account=2)) for n in range(5)]
        until(lambda: daemon.status()["journal"]["lag_records"] >= 1001, what="the orders that wait")
        assert not any(ticket.done() for ticket in [alone, *tickets])
        before = len(disk.calls())
        disk.say("")
        assert all((ticket.result(timeout=10)["code"] == 0).all() for ticket in tickets)
        # The one that waited, one for all of them, and perhaps one for what is no order.
        assert len(disk.calls()) - before <= 3, disk.calls()
        del alone, tickets
    assert daemon.stop() == 0


def never_again(calls: list[tuple[str, str]]) -> None:
    """After a sync failed nobody knows what of the file is on the disk, and a second sync would say that all is well."""
    failed = set()
    for what, name in calls:
        assert name not in failed, f"{name} was {what} after a sync of it had failed"
        if what == "failed":
            failed.add(name)
    assert failed


def test_a_sync_that_fails_stops_intake_and_says_so(disk):
    daemon = disk.start()
    with ringlane.connect(daemon.address) as client, ringlane.connect(daemon.address) as other:
        lane, quiet = client.open("orders"), other.open("orders")
        lane.process(orders(lane, 1, 5))
        late = orders(quiet, 50, 10, account=2)
        before = daemon.status()["accepted"]
        disk.say("fail")
        ticket = lane.submit(orders(lane, 10, 20))
        until(lambda: daemon.status()["health"] == "journal-failed", what="the failed journal")
        status = daemon.status()
        assert "does not make the journal durable" in status["journal"]["trouble"]
        assert daemon.status_process().returncode == 1
        more = quiet.submit(late)
        time.sleep(0.2)
        assert not ticket.done()
        assert not more.done()
        assert daemon.status()["accepted"] == before
        third = ringlane.connect(daemon.address)
        with third, pytest.raises(ringlane.RinglaneError, match="cannot write its journal now"):
            third.open("orders", depth=64, events=64)
        disk.say("")
        assert (ticket.result(timeout=30)["code"] == 0).all()
        assert (more.result(timeout=30)["code"] == 0).all()
        until(lambda: daemon.status()["health"] == "healthy", what="health")
        assert daemon.status()["journal"]["trouble"] is None
        live = client.state()
        del ticket, more
    never_again(disk.calls())
    assert "the disk failed under the journal" in daemon.words()
    daemon.kill()
    assert daemon.replay()["accepted"] == live.accepted == 35
    assert disk.start().stop() == 0
    assert run("journal", "verify", daemon.journal).returncode == 0


@pytest.mark.parametrize("seed", [1, 2])
def test_syncs_that_fail_under_load_change_nothing(disk, seed):
    """Some of them, while batches of two lanes go on: every answer comes once, and the recording is whole."""
    daemon = disk.start()
    answered = [0, 0]

    def trade(worker: int) -> None:
        with ringlane.connect(daemon.address) as client, client.open("orders", depth=2048, timeout=60.0) as lane:
            flow = OrderFlow(seed=seed, worker=worker, workers=2)
            for _ in range(60):
                batch = np.zeros(200, lane.request_dtype)
                flow.fill(batch)
                answered[worker] += len(lane.process(batch))

    traders = [threading.Thread(target=trade, args=(worker,)) for worker in range(2)]
    [trader.start() for trader in traders]
    for _ in range(6):
        disk.say("once")
        time.sleep(0.05)
    disk.say("")
    [trader.join(60) for trader in traders]
    assert answered == [12_000, 12_000]
    with ringlane.connect(daemon.address) as client:
        live = client.state()
    never_again(disk.calls())
    daemon.kill()
    answer = daemon.replay()
    assert answer["state_hash"] == live.state_hash
    assert answer["accepted"] + answer["rejected"] == 24_000


def test_a_stop_while_syncs_fail_ends_and_says_that_nothing_happened(disk):
    daemon = disk.start()
    with ringlane.connect(daemon.address) as client:
        lane = client.open("orders", timeout=30.0)
        lane.process(orders(lane, 1, 5))
        disk.say("fail")
        ticket = lane.submit(orders(lane, 10, 20))
        until(lambda: daemon.status()["health"] == "journal-failed", what="the failed journal")
        begin = time.monotonic()
        daemon.process.terminate()
        assert daemon.process.wait(20) == 0
        assert time.monotonic() - begin < 15
        with pytest.raises(ringlane.RinglaneError):
            ticket.result(timeout=5)
        del ticket
    daemon.stop()
    disk.say("")
    assert disk.start().stop() == 0
