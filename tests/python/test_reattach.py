"""A sidecar that is killed and started anew while its clients live: they come back by themselves, and nothing is lost or twice."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import ringlane
from daemon import CONFIG, Daemon, freeze, new_order, until
from plain_client import PlainClient, Refused


def start(directory: Path, text: str = "") -> Daemon:
    with mock.patch("daemon.CONFIG", CONFIG + text):
        return Daemon(directory)


def buys(lane: ringlane.Lane, first: int, count: int, **more) -> np.ndarray:
    columns = {"symbol": 1, "side": "BUY", "account": 7, "price": 1_000_000, "quantity": 1}
    return lane.batch(**{**columns, "client_order_id": list(range(first, first + count)), **more})


def sells(lane: ringlane.Lane, first: int, count: int) -> np.ndarray:
    return buys(lane, first, count, side="SELL", account=8)


def test_calls_and_batches_go_on_over_restarts(tmp_path):
    daemon = start(tmp_path).ready()
    with ringlane.connect(daemon.address) as client:
        lane = client.open("orders", depth=256, timeout=20)
        sequences, kept = [], []
        for round in range(5):
            held = lane.process(buys(lane, 1 + 100 * round, 40))
            kept.append((held, held.copy()))
            daemon.kill()
            daemon = start(tmp_path)
            # The first of these finds nobody at the other end.
            answer = lane.call(1, 1, 1, 1, 1, 7, 0, 100 + 100 * round, 1_000_000, 1)
            names = [field.name for field in lane.result_schema.visible]
            assert dict(zip(names, answer, strict=True))["client_order_id"] == 100 + 100 * round
            assert dict(zip(names, answer, strict=True))["code"] == 0
            for view, copy in kept:
                assert (view == copy).all(), "what was answered stays where it is"
            sequences += [int(number) for number in held["sequence"]]
        assert sequences == sorted(set(sequences))
        state = client.state()
        assert (state.accepted, state.resting, client.pid) == (205, 205, daemon.process.pid)
        assert {row["lane"] for row in client.orders(7).orders} == {lane.number}, "the orders are still its own"
    assert daemon.stop() == 0
    assert daemon.replay()["accepted"] == 205


def test_tickets_awaits_and_sleepers_are_answered_by_the_next_sidecar(tmp_path):
    daemon = start(tmp_path).ready()
    with ringlane.connect(daemon.address) as client:
        lane = client.open("orders", depth=256, timeout=20)
        lane.process(buys(lane, 1, 10), copy=True)
        freeze(daemon.process.pid)
        ticket = lane.submit(buys(lane, 101, 30))
        results: dict[str, object] = {}
        sleeper = threading.Thread(target=lambda: results.update(slept=lane.process(buys(lane, 201, 30), copy=True)))
        sleeper.start()
        until(lambda: lane.in_flight == 60, what="the sleeper's batch")

        async def awaited() -> np.ndarray:
            waiting = lane.submit(buys(lane, 301, 30))
            asyncio.get_running_loop().call_later(0.1, restart)
            return await asyncio.wait_for(waiting, 20)

        def restart() -> None:
            nonlocal daemon
            daemon.kill()
            daemon = start(tmp_path)

        awaited_results = asyncio.run(awaited()).copy()
        sleeper.join(20)
        assert not sleeper.is_alive()
        for first, rows in ((101, ticket.result()), (201, results["slept"]), (301, awaited_results)):
            assert rows["client_order_id"].tolist() == list(range(first, first + 30))
            assert not rows["code"].any()
        assert client.state().accepted == 100
    assert daemon.stop() == 0


@pytest.mark.parametrize("snapshot", [False, True])
def test_events_are_numbered_without_gap_or_repeat(tmp_path, snapshot):
    daemon = start(tmp_path).ready()
    with ringlane.connect(daemon.address) as maker, ringlane.connect(daemon.address) as taker:
        mine, theirs = maker.open("orders", depth=256, timeout=20), taker.open("orders", depth=256, timeout=20)
        numbers: list[int] = []
        ids = iter(range(1, 10_000, 20))
        for round in range(6):
            first = next(ids)
            mine.process(buys(mine, first, 20), copy=True)
            theirs.process(sells(theirs, first, 10), copy=True)
            if round % 2:
                numbers += mine.events(timeout=5)["number"].tolist()
            if snapshot:
                # Unread events and results lie before it.
                maker.snapshot()
            if round == 3:
                assert daemon.stop() == 0
            else:
                daemon.kill()
            daemon = start(tmp_path)
            theirs.process(sells(theirs, first + 10, 10), copy=True)
        until(lambda: numbers.extend(mine.events()["number"].tolist()) or len(numbers) >= 120, what="the last event")
        assert numbers == list(range(1, 121))
    assert daemon.stop() == 0


def test_a_client_that_is_idle_comes_back_by_itself(tmp_path):
    daemon = start(tmp_path, "[lanes]\nreattach_grace_ms = 1500\n").ready()
    with ringlane.connect(daemon.address) as client:
        lane = client.open("orders", depth=64, cancel_on_disconnect=True, timeout=20)
        lane.process(buys(lane, 1, 5), copy=True)
        daemon.kill()
        daemon = start(tmp_path, "[lanes]\nreattach_grace_ms = 1500\n").ready()
        # Nobody calls; its orders would be cancelled if it did not come back.
        time.sleep(2.5)
        assert client.state().resting == 5
        assert not lane.process(buys(lane, 11, 5), copy=True)["code"].any()
    until(lambda: daemon.status()["resting_orders"] == 0, what="cancel on disconnect")
    assert daemon.stop() == 0


STOPPED = """
import os, signal, sys
import ringlane
with ringlane.connect(sys.argv[1], reconnect_timeout=30.0) as client:
    lane = client.open("orders", depth=64, timeout=30)
    orders = lambda first: lane.batch(
        symbol=1, side="BUY", account=7, client_order_id=range(first, first + 5), price=1_000_000, quantity=1)
    held = lane.process(orders(1))
    os.kill(os.getpid(), signal.SIGSTOP)
    # The sidecar is another one by now.
    later = lane.process(orders(11), copy=True)
    assert held["client_order_id"].tolist() == [1, 2, 3, 4, 5] and not later["code"].any()
    assert client.state().accepted == 10
"""


def test_a_client_that_is_stopped_over_a_restart_goes_on_where_it_was(tmp_path):
    daemon = start(tmp_path, "[lanes]\nreattach_grace_ms = 60000\n").ready()
    stopped = subprocess.Popen([sys.executable, "-c", STOPPED, daemon.address])
    try:
        until(lambda: Path(f"/proc/{stopped.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T", 20, "its stop")
        daemon.kill()
        daemon = start(tmp_path, "[lanes]\nreattach_grace_ms = 60000\n").ready()
        time.sleep(1.0)
        assert daemon.status()["resting_orders"] == 5
        stopped.send_signal(signal.SIGCONT)
        assert stopped.wait(30) == 0
    finally:
        stopped.kill()
    assert daemon.stop() == 0


def test_who_does_not_come_back_is_closed_once_as_it_chose(tmp_path):
    short = "[lanes]\nreattach_grace_ms = 400\n"
    daemon = start(tmp_path, short).ready()
    cancels, stays = PlainClient(daemon.address), PlainClient(daemon.address)
    cancels.open(64, cancel_on_disconnect=True).process([new_order(50, n, 1, 1, 100) for n in range(3)])
    stays.open(64).process([new_order(51, n, 1, 1, 100) for n in range(4)])
    for _ in range(3):
        daemon.kill()
        daemon = start(tmp_path, "[lanes]\nreattach_grace_ms = 60000\n").ready()
        assert daemon.status()["resting_orders"] == 7
    cancels.close()
    stays.close()
    daemon.kill()
    daemon = start(tmp_path, short).ready()
    until(lambda: daemon.status()["resting_orders"] == 4, what="the end of the grace")
    words = re.sub(r"\x1b\[[0-9;]*m", "", daemon.words())
    assert words.count("its client did not come back") == 2
    daemon.kill()
    daemon = start(tmp_path, short).ready()
    time.sleep(0.8)
    assert re.sub(r"\x1b\[[0-9;]*m", "", daemon.words()).count("its client did not come back") == 2
    client = PlainClient(daemon.address)
    assert {row["lane"] for row in client.query("orders", account=51)[1]} == {0}
    client.close()
    assert daemon.stop() == 0


def test_a_token_or_cursors_that_are_wrong_are_refused_in_words(tmp_path):
    daemon = start(tmp_path).ready()
    first = PlainClient(daemon.address)
    lane = first.open(64)
    lane.process([new_order(50, n, 1, 1, 100) for n in range(5)])
    token = lane.reply["token"]

    def attach(client: PlainClient, **more) -> dict:
        claim = {"lane": lane.number, "token": token, "released": 5, "events_read": 0, "event_number": 0}
        reply, fds = client.ask(op="attach", **{**claim, **more})
        [os.close(fd) for fd in fds]
        return reply

    thief = PlainClient(daemon.address)
    with pytest.raises(Refused, match="has its client"):
        attach(thief)
    daemon.kill()
    daemon = start(tmp_path).ready()
    thief = PlainClient(daemon.address)
    for wrong, words in (
        ({"token": "0" * 32}, "the token is not its own"),
        ({"token": "xyz"}, "32 hexadecimal digits"),
        ({"lane": lane.number + 1}, "does not wait"),
        ({"released": 6}, "the journal has 5"),
        ({"event_number": 1}, "the journal has 0"),
    ):
        with pytest.raises(Refused, match=words):
            attach(thief, **wrong)
    assert attach(thief)["journaled"] == 5
    thief.close()
    first.close()
    assert daemon.stop() == 0


def test_patience_ends_in_words(tmp_path):
    daemon = start(tmp_path).ready()
    with ringlane.connect(daemon.address, reconnect_timeout=0.5) as client:
        lane = client.open("orders", depth=64, timeout=20)
        lane.process(buys(lane, 1, 5), copy=True)
        daemon.kill()
        begin = time.monotonic()
        with pytest.raises(ringlane.SidecarLost):
            lane.process(buys(lane, 11, 5))
        with pytest.raises(ringlane.SidecarLost):
            client.state()
        assert 0.3 < time.monotonic() - begin < 5
    with pytest.raises(ringlane.SidecarUnavailable):
        ringlane.connect(daemon.address)
    daemon.stop()
