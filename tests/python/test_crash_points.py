"""The sidecar and its client are killed at named places; whoever is left goes on, and all is as if nobody had died.

A flow of two lanes, one request after the other, is run without a crash and with one at each place: results, events, books,
positions and the hash of the whole state must be the same bits, times excepted.
"""

import os
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
from daemon import Daemon, until
from plain_client import PlainClient

ROOT = Path(__file__).parents[2]
WRITER = Path(__file__).parent / "crash_writer.py"
SNAPSHOTS = "[snapshots]\nevery_records = 150\n"
SIZES = {False: (8, 20), True: (40, 200)}  # rounds, and orders of each; the long flow fills a segment
# Where it dies, and at which time of that.
POINTS = {
    "intake": 4,
    "frame.before": 7,
    "frame.filled": 8,
    "frame.after": 9,
    "kernel.before": 5,
    "kernel.after": 6,
    "results.after": 7,
    "events.before": 3,
    "events.after": 4,
    "completed.before": 6,
    "completed.after": 7,
    "wake.before": 1,
    "wake.after": 1,
    "copy.before": 1,
    "copy.after": 1,
    "snapshot.section": 2,
    "snapshot.trailer": 1,
    "snapshot.fsync.before": 1,
    "rename.before": 2,
    "rename.after": 2,
    "segment.before": 2,
    "roll.before": 1,
    "roll.marked": 1,
    "roll.after": 1,
}
LATE = ("segment.before", "roll.before", "roll.marked", "roll.after")
COMING_BACK = ("hello", "attach.before", "attach.after", "attach.answer")


@pytest.fixture(scope="module")
def binary() -> str:
    """The daemon with its crash points; `RINGLANE_CRASH_BINARY` names one that is built already."""
    if built := os.environ.get("RINGLANE_CRASH_BINARY"):
        return built
    target = ROOT / "target" / "crash"
    command = ["cargo", "build", "--quiet", "--profile", "crash", "-p", "ringlane-sidecar", "--bin", "ringlane"]
    command += ["--features", "crash-points", "--target-dir", str(target)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=1200)
    return str(target / "crash" / "ringlane")


class Keeper:
    """Starts the sidecar anew whenever it is killed, as a service manager does; `crashes` says where each life ends."""

    def __init__(
        self, directory: Path, binary: str, crashes: list[str], how: str = "RINGLANE_CRASH", config: str = ""
    ) -> None:
        self.directory, self.binary, self.crashes, self.how = directory, binary, crashes, how
        self.config = SNAPSHOTS + config
        self.ends: list[int] = []
        self.last_words: list[str] = []
        self.is_over = False
        self.daemon = self._start()
        self._thread = threading.Thread(target=self._keep)

    def _start(self) -> Daemon:
        environment = {self.how: self.crashes.pop(0)} if self.crashes else {}
        with mock.patch("daemon.BINARY", self.binary), mock.patch.dict(os.environ, environment):
            return Daemon(self.directory, config=self.config)

    def _keep(self) -> None:
        while not self.is_over:
            if self.daemon.process.poll() is not None:
                self.ends.append(self.daemon.process.returncode)
                self.last_words.append(self.daemon.words())
                self.daemon.stderr.close()
                self.daemon = self._start()
            time.sleep(0.002)

    def __enter__(self) -> "Keeper":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.is_over = True
        self._thread.join()
        self.code = self.daemon.stop()


def connected(address: str, reconnect_timeout: float = 30.0) -> ringlane.Client:
    """The sidecar may be on its way, or die of this very connection."""
    deadline = time.monotonic() + 20
    while True:
        try:
            return ringlane.connect(address, reconnect_timeout=reconnect_timeout)
        except (ringlane.SidecarUnavailable, ringlane.SidecarLost):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def timeless(rows: np.ndarray) -> list:
    """All fields but times: those differ from run to run."""
    names = [name for name in rows.dtype.names if not name.endswith("_ns") and not name.startswith("reserved")]
    return [rows[name].tolist() for name in names]


def flow(address: str, rounds: int, count: int) -> dict[str, object]:
    """Makers and takers of one symbol, and all that they were told."""
    told: dict[str, list] = {"results": [], "events": []}

    def events(rows: np.ndarray) -> int:
        told["events"] += rows.tolist()
        return len(told["events"])

    with connected(address) as maker, connected(address) as taker:
        mine = maker.open("orders", depth=1024, timeout=30)
        theirs = taker.open("orders", depth=1024, timeout=30)
        for round in range(rounds):
            ids = list(range(1 + round * count, 1 + (round + 1) * count))
            prices = [1_000_000 + 100 * (number * 7 % 11) for number in ids]
            rest = mine.batch(symbol=1, side="SELL", account=7, client_order_id=ids, price=prices, quantity=3)
            take = theirs.batch(symbol=1, side="BUY", account=8, client_order_id=ids, price=1_000_500, quantity=1)
            told["results"] += timeless(mine.process(rest, copy=True))
            # One who sleeps until something trades.
            sleeper = threading.Thread(target=lambda: events(mine.events(timeout=30)))
            sleeper.start()
            time.sleep(0.02)
            told["results"] += timeless(theirs.process(take, copy=True))
            cancel = mine.batch(op="CANCEL", symbol=1, account=7, client_order_id=ids[-1:])
            ticket = mine.submit(cancel)
            told["results"] += timeless(ticket.result(timeout=30).copy())
            del ticket
            sleeper.join()
            events(mine.events(0))
        state = maker.state()
        until(lambda: events(mine.events(0)) >= state.trades, what="the last event")
        book = maker.book(1, levels=100)
        return {
            "results": told["results"],
            "events": told["events"],
            "book": [book.bids.tolist(), book.asks.tolist()],
            "orders": [timeless(maker.orders(account).orders) for account in (7, 8)],
            "positions": [timeless(maker.positions(account).positions) for account in (7, 8)],
            "cash": [maker.positions(account).cash for account in (7, 8)],
            "state": (state.accepted, state.rejected, state.trades, state.resting, state.sequence, state.state_hash),
        }


@pytest.fixture(scope="module")
def undisturbed(binary, tmp_path_factory) -> dict[bool, dict[str, object]]:
    """What is told when nobody dies: of the short flow, and of the long one that fills a segment."""
    told = {}
    for is_long in (False, True):
        with Keeper(tmp_path_factory.mktemp("undisturbed"), binary, []) as keeper:
            told[is_long] = flow(keeper.daemon.address, *SIZES[is_long])
        assert (keeper.code, keeper.ends) == (0, [])
    return told


def check(undisturbed, binary: str, directory: Path, crashes: list[str], is_long: bool = False) -> None:
    """The flow over these crashes tells the same, and so does a replay of its recording."""
    count = len(crashes)
    with Keeper(directory, binary, list(crashes)) as keeper:
        told = flow(keeper.daemon.address, *SIZES[is_long])
        until(lambda: len(keeper.ends) >= count, what=f"the death at {crashes}")
    assert keeper.ends == [-signal.SIGKILL] * count
    assert keeper.code == 0, keeper.daemon.words()[-2000:]
    for what, wanted in undisturbed[is_long].items():
        assert told[what] == wanted, what
    assert keeper.daemon.replay()["accepted"] == told["state"][0]


@pytest.mark.parametrize("point", POINTS)
def test_a_sidecar_that_dies_at_a_named_place_is_not_missed(undisturbed, binary, tmp_path, point):
    check(undisturbed, binary, tmp_path, [f"{point}:{POINTS[point]}"], point in LATE)


@pytest.mark.parametrize("point", ["frame.filled", "kernel.before", "results.after", "completed.before"])
def test_a_sequencer_that_panics_is_told_and_not_missed(undisturbed, binary, tmp_path, point):
    """The process ends with Rust's own exit code; Sentry hears of it with the lane that was served; clients that come back miss
    nothing, and one that does not is told at once."""
    pytest.importorskip("sentry_sdk")
    from sentry_receiver import SentryReceiver

    receiver = SentryReceiver()
    crashes, sentry = [f"{point}:{POINTS[point]}"], f'[sentry]\ndsn = "{receiver.dsn}"\n'
    try:
        with (
            Keeper(tmp_path, binary, crashes, "RINGLANE_PANIC", sentry) as keeper,
            connected(keeper.daemon.address, 0.0) as impatient,
        ):
            told = flow(keeper.daemon.address, *SIZES[False])
            until(lambda: keeper.ends, what="the end")
            with pytest.raises(ringlane.SidecarLost):
                impatient.state()
    finally:
        receiver.close()
    assert keeper.ends == [101]
    assert keeper.code == 0, keeper.daemon.words()[-2000:]
    assert told == undisturbed[False]
    assert keeper.daemon.replay()["accepted"] == told["state"][0]
    [event] = receiver.events
    [said] = event["exception"]["values"]
    assert said["value"].startswith("told to panic here (sidecar/src/crash.rs:")
    assert (event["level"], event["tags"]["thread"], event["tags"]["kernel"]) == ("fatal", "main", "orders")
    assert event["contexts"]["lane"]["pid"] == os.getpid()
    functions = [frame["function"] for frame in said["stacktrace"]["frames"]]
    assert any("sequencer" in function for function in functions), functions
    assert "told to panic here" in keeper.last_words[0]


@pytest.mark.parametrize("point", COMING_BACK)
def test_a_sidecar_that_dies_again_while_its_clients_come_back(undisturbed, binary, tmp_path, point):
    check(undisturbed, binary, tmp_path, ["completed.before:7", f"{point}:1", f"{point}:2"])


# Where a writer dies, and how many of its ten last orders happened.
STEPS = {"claim": 0, "fill": 0, "publish": 10, "doorbell": 10, "wait": 10, "read": 10, "release": 10}


def write(daemon: Daemon, point: str) -> None:
    done = subprocess.run([sys.executable, str(WRITER), daemon.address, point, str(daemon.process.pid)], timeout=60)
    assert done.returncode == -signal.SIGKILL


def ended(daemon: Daemon, accepted: int) -> None:
    """The writer's orders happened, and were cancelled once."""
    until(lambda: daemon.status()["resting_orders"] == 0, seconds=10, what="cancel on disconnect")
    client = PlainClient(daemon.address)
    reply, _ = client.query("state")
    client.close()
    assert (reply["accepted"], reply["resting"]) == (accepted, 0)
    assert daemon.stop() == 0
    assert daemon.replay()["accepted"] == accepted


@pytest.mark.parametrize("point", STEPS)
def test_a_writer_that_dies_at_a_named_step(tmp_path, point):
    daemon = Daemon(tmp_path).ready()
    write(daemon, point)
    ended(daemon, 5 + STEPS[point])


@pytest.mark.parametrize("point", STEPS)
def test_a_writer_and_its_sidecar_that_die_at_once(tmp_path, point):
    """The sidecar was stopped before: what it never took in, died with both."""
    daemon = Daemon(tmp_path).ready()
    write(daemon, f"both-{point}")
    assert daemon.process.wait(10) == -signal.SIGKILL
    daemon.stderr.close()
    daemon = Daemon(tmp_path, config="[lanes]\nreattach_grace_ms = 300\n").ready()
    ended(daemon, 15 if point in ("wait", "read", "release") else 5)


@pytest.mark.parametrize("point", ["reconnect", "attach-before", "attach-after", "reattached"])
def test_a_writer_that_dies_while_it_comes_back(tmp_path, point):
    short = "[lanes]\nreattach_grace_ms = 1500\n"
    daemon = Daemon(tmp_path, config=short).ready()
    writer = subprocess.Popen([sys.executable, str(WRITER), daemon.address, point, str(daemon.process.pid)])
    try:
        assert daemon.process.wait(30) == -signal.SIGKILL  # the writer's doing, when its orders rest
        daemon.stderr.close()
        daemon = Daemon(tmp_path, config=short).ready()
        assert writer.wait(30) == -signal.SIGKILL
    finally:
        writer.kill()
    ended(daemon, 5)
