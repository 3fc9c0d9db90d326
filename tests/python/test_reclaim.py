"""What clients that die, lie or flood do to the real daemon, and what the daemon's own death does to everybody."""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from unittest import mock

import pytest
from daemon import BINARY, CONFIG, Daemon, new_order, until
from plain_client import ASLEEP, EVENTS_READ, RELEASED, SUBMITTED, Disconnected, LaneEnded, PlainClient, Refused

pytestmark = pytest.mark.skipif(not Path(BINARY).exists(), reason=f"{BINARY} is not built")
BUY, SELL = 1, 2
FORK = multiprocessing.get_context("fork")
RECLAIM_SECONDS_MAX = 0.1
# LaneStatus
TOO_FAR, BACKWARDS, RELEASED_RANGE, EVENTS_RANGE, FLOOD, CLOSED, SHUTTING_DOWN = 101, 102, 103, 104, 105, 201, 202


@pytest.fixture
def daemon(tmp_path):
    daemon = Daemon(tmp_path).ready()
    yield daemon
    assert daemon.stop() == 0, daemon.words()


@pytest.fixture
def neighbour(daemon):
    """A client that keeps the rules, in the same sidecar; it must get right results to the end."""
    client = PlainClient(daemon.address, "neighbour")
    lane = client.open(64)
    assert works(lane)
    yield lane
    assert works(lane)
    client.close()


def works(lane) -> bool:
    """Enters and cancels an order in a symbol that nothing else trades."""
    order = new_order(900, lane.submitted, BUY, 1, 100, symbol=60)
    entered, cancelled = lane.process([order, {**order, "op": 2}])
    return (entered["code"], entered["state"], cancelled["code"], cancelled["state"]) == (0, 1, 0, 3)


def lanes(daemon, name: str) -> list[dict]:
    return [lane for lane in daemon.status()["lanes"] if lane["name"] == name]


class Worker:
    """A client in a process of its own: `work(lane)` runs there, then it waits for its end."""

    def __init__(self, address: str, work, **options) -> None:
        self.ready, told = FORK.Pipe(duplex=False)
        self.process = FORK.Process(target=self._run, args=(address, work, options, told))
        self.process.start()
        assert self.ready.poll(20)
        self.told = self.ready.recv()

    @staticmethod
    def _run(address, work, options, told) -> None:
        lane = PlainClient(address, "worker").open(**options)
        told.send(work(lane))
        time.sleep(60)

    def kill(self) -> float:
        """Kills it; gives the time of its death."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.join()
        return time.monotonic()


def rest_three(lane) -> None:
    assert [r["state"] for r in lane.process([new_order(30, n, BUY, 5, 100) for n in range(3)])] == [1, 1, 1]


# ---- clients that die ----


@pytest.mark.parametrize(("cancel", "left"), [(True, 0), (False, 3)])
def test_a_killed_workers_lane_is_reclaimed(daemon, neighbour, cancel, left):
    worker = Worker(daemon.address, rest_three, cancel_on_disconnect=cancel)
    assert len(lanes(daemon, "worker")) == 1
    died = worker.kill()
    until(lambda: not lanes(daemon, "worker"), what="reclaiming")
    assert time.monotonic() - died < RECLAIM_SECONDS_MAX
    reply, orders = neighbour.client.query("orders", account=30)
    assert [order["lane"] for order in orders] == [0] * left
    assert reply["last_client_order_id"] == 2


def test_a_forked_child_that_holds_every_descriptor_does_not_keep_the_lane(daemon, neighbour):
    def fork(lane):
        rest_three(lane)
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        return child

    worker = Worker(daemon.address, fork, cancel_on_disconnect=True)
    try:
        died = worker.kill()
        until(lambda: not lanes(daemon, "worker"), what="reclaiming")
        assert time.monotonic() - died < RECLAIM_SECONDS_MAX
        assert Path(f"/proc/{worker.told}").exists(), "the child still holds the socket"
        assert neighbour.client.query("orders", account=30)[1] == []
    finally:
        os.kill(worker.told, signal.SIGKILL)


def test_what_a_killed_client_published_is_completed(daemon, neighbour):
    def publish_and_die(lane):
        until(lambda: lane.theirs[ASLEEP] == 1, what="parking")
        lane.fill([new_order(31, n, BUY, 5, 100) for n in range(40)])
        # No doorbell: the sidecar sleeps, and finds the slots only in its last look at the lane.
        lane.submitted += 40
        lane.mine[SUBMITTED] = lane.submitted
        os.kill(os.getpid(), signal.SIGKILL)

    told, pipe = FORK.Pipe()
    process = FORK.Process(target=Worker._run, args=(daemon.address, publish_and_die, {}, pipe))
    process.start()
    process.join()
    until(lambda: not lanes(daemon, "worker"), what="reclaiming")
    assert len(neighbour.client.query("orders", account=31)[1]) == 40
    told.close()


# ---- clients that lie ----


def lie(lane, word: int, value: int) -> int:
    """Writes a cursor, rings, and gives the status that ends the lane."""
    lane.mine[word] = value
    lane.ring()
    with pytest.raises(LaneEnded) as ended:
        lane.wait(1 << 60, 5)
    return ended.value.status


@pytest.mark.parametrize(
    ("value", "status"),
    [(3, BACKWARDS), (0, BACKWARDS), (4 + 65, TOO_FAR), (2**63, TOO_FAR), (2**64 - 1, TOO_FAR)],
)
def test_a_lie_in_submitted_ends_only_that_lane(daemon, neighbour, value, status):
    client = PlainClient(daemon.address, "liar")
    lane = client.open(64)
    lane.process([new_order(32, n, BUY, 5, 100) for n in range(4)])
    assert lie(lane, SUBMITTED, value) == status
    assert lane.completed == 4
    assert lanes(daemon, "liar") == []
    assert daemon.status()["faults"] == 1
    client.ask(op="close", lane=lane.number)
    assert works(client.open(64)), "the client may open another lane"
    client.close()


@pytest.mark.parametrize("released", [5, 2**64 - 1, 3])
def test_a_lie_in_released_ends_only_that_lane(daemon, neighbour, released):
    client = PlainClient(daemon.address, "liar")
    lane = client.open(64)
    lane.process([new_order(32, n, BUY, 5, 100) for n in range(4)])
    if released == 3:  # backwards, from 4, which the sidecar has seen
        lane.process([new_order(32, 9, BUY, 5, 100)])
    lane.mine[RELEASED] = released
    lane.fill([new_order(32, 10, BUY, 5, 100)])
    assert lie(lane, SUBMITTED, lane.submitted + 1) == RELEASED_RANGE
    client.close()


def test_slots_that_are_held_cannot_be_submitted_again(daemon, neighbour):
    client = PlainClient(daemon.address, "liar")
    lane = client.open(64)
    for _ in range(64):
        lane.fill([new_order(32, 1, BUY, 5, 100)])
        lane.publish(1)
    lane.wait(64)
    assert lie(lane, SUBMITTED, 65) == RELEASED_RANGE
    assert lane.completed == 64
    client.close()


@pytest.mark.parametrize("read", [2**64 - 1, 65])
def test_a_lie_in_events_read_ends_only_that_lane(daemon, neighbour, read):
    client = PlainClient(daemon.address, "liar")
    lane = client.open(64, events=64, cancel_on_disconnect=True)
    lane.process([new_order(33, 1, SELL, 1000)])
    lane.mine[EVENTS_READ] = read
    # The sidecar believes its own count until the ring looks full, and asks then.
    for number in range(70):
        [result] = neighbour.process([new_order(34, number, BUY, 1)])
        assert result["filled_quantity"] == (1 if number < 65 else 0)
        neighbour.process([new_order(34, number, BUY, 1, op=2)])
        if lane.status:
            break
    assert lane.status == EVENTS_RANGE
    assert lanes(daemon, "liar") == []
    client.close()


def test_a_lie_followed_by_close_is_still_a_fault(daemon, neighbour):
    client = PlainClient(daemon.address, "liar")
    lane = client.open(64)
    until(lambda: lane.theirs[ASLEEP] == 1, what="parking")
    lane.mine[SUBMITTED] = 1000
    lane.close()
    assert lane.status == TOO_FAR
    client.close()


# ---- clients that flood ----


def test_a_doorbell_flood_ends_only_that_lane(daemon, neighbour):
    client = PlainClient(daemon.address, "flood")
    lane = client.open(64)
    deadline = time.monotonic() + 120
    rings = 0
    while lane.status == 0:
        os.write(lane.doorbell, b"\1\0\0\0\0\0\0\0")
        rings += 1
        if rings % 50_000 == 0:
            assert works(neighbour)
        assert time.monotonic() < deadline, f"{rings} rings without a fault"
    assert lane.status == FLOOD
    client.close()


def test_a_client_that_submits_without_end_cannot_delay_its_close(daemon, neighbour):
    """While a thread of the client keeps publishing, its lane is closed and the sidecar serves others."""
    client = PlainClient(daemon.address, "flood")
    lane = client.open(64)
    writer = os.fork()
    if writer == 0:  # shares the mapping, not the process that connected
        record = lane.request.pack(new_order(35, 1, BUY, 1, 100))
        for slot in range(64):
            lane.requests[4096 + 64 * slot : 4160 + 64 * slot] = record
        while lane.status == 0:
            lane.mine[RELEASED] = done = lane.completed
            lane.mine[SUBMITTED] = done + 64
            if lane.theirs[ASLEEP]:
                lane.ring()
        os._exit(0)
    until(lambda: lane.completed > 1000, what="the flood")
    start = time.monotonic()
    lane.close()
    assert time.monotonic() - start < 1
    assert os.waitpid(writer, 0)[1] == 0
    assert lane.status in (CLOSED, BACKWARDS, TOO_FAR, RELEASED_RANGE)
    client.close()


def test_bad_manners_on_the_control_socket(daemon, neighbour):
    def raw() -> socket.socket:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        client.settimeout(10)
        client.connect(daemon.address)
        return client

    hello = b'{"op":"hello","layout_version":2}'
    # A client that sends a file descriptor is disconnected, and the descriptor does not stay in the sidecar.
    for message in (hello, b"x"):
        client = raw()
        reader, writer = os.pipe()
        socket.send_fds(client, [message], [writer])
        assert client.recv(100) == b""
        os.close(writer)
        assert os.read(reader, 1) == b""
        os.close(reader)
        client.close()
    # A message of more than 64 KiB ends the connection.
    client = raw()
    client.send(hello[:-1] + b',"name":"' + b"a" * 65_536 + b'"}')
    assert client.recv(100) == b""
    # Half a message is answered in words, then the connection ends; so are arrays, nonsense and deep nesting.
    for message in (hello[:-5], b"[]", b"\0\xff", b"[" * 60_000, b'{"op":"open"}', b'{"op":"hello","op":"hello"}'):
        client = raw()
        client.send(message)
        reply = json.loads(client.recv(65_536))
        assert (reply["ok"], reply["error"]) == (False, "PROTOCOL")
        assert client.recv(100) == b""
    # What is refused may be quoted, but not at any length.
    client = PlainClient(daemon.address)
    with pytest.raises(Refused, match="there is no kernel") as refused:
        client.ask(op="open", kernel="\u0001" * 10_000, depth=64)
    assert len(str(refused.value)) < 1100
    client.close()
    # A name that would write on an operator's terminal is refused.
    with pytest.raises(Refused, match="control characters") as refused:
        PlainClient(daemon.address, "\x1b[2J")
    assert refused.value.code == "BAD_VALUE"
    # Silence, and a connection that ends at once, hold nothing up.
    silent = raw()
    for _ in range(20):
        raw().close()
    assert works(neighbour)
    assert silent.recv(100) == b"", "who says no hello within five seconds is disconnected"


def test_connections_leave_no_descriptors_behind(daemon, neighbour):
    until(lambda: daemon.status()["clients"] == 1, what="the end of the fixture's probe")
    before = daemon.fds_settled(0.3)  # its descriptors are closed after it is counted out
    for number in range(200):
        client = PlainClient(daemon.address, f"n{number}")
        if number % 2:
            client.open(64)
        if number % 3:
            client.query("instruments")
        client.close()
    until(lambda: daemon.fds() == before, what=f"closing of all descriptors but {before}")
    until(lambda: daemon.status()["clients"] == 1, what="counting")


def test_a_sidecar_without_descriptors_turns_clients_away_and_serves_on(tmp_path):
    daemon = Daemon(tmp_path, journal=False, limit=64).ready()
    try:
        lane = PlainClient(daemon.address, "first").open(64)
        crowd = []
        for _ in range(60):
            client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            client.connect(daemon.address)
            crowd.append(client)
        until(lambda: "turned away" in daemon.words(), what="a client that is turned away")
        assert works(lane)
        assert daemon.fds() <= 64
        used = daemon.cpu_seconds()
        time.sleep(0.5)
        assert daemon.cpu_seconds() - used < 0.3, "the control thread spins"
        for client in crowd:
            client.close()
        until(lambda: daemon.status()["clients"] == 1, what="the crowd's end")
        PlainClient(daemon.address, "later").close()
    finally:
        assert daemon.stop() == 0


# ---- the daemon's own life ----


def test_sigterm_completes_what_was_submitted_and_tells_clients(tmp_path):
    daemon = Daemon(tmp_path).ready()
    client = PlainClient(daemon.address)
    lane = client.open(1024, cancel_on_disconnect=True)
    until(lambda: lane.theirs[ASLEEP] == 1, what="parking")
    lane.fill([new_order(40, n, BUY, 1, 100) for n in range(1000)])
    lane.submitted += 1000
    lane.mine[SUBMITTED] = lane.submitted
    start = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - start < 2
    assert (lane.completed, lane.status) == (1000, SHUTTING_DOWN)
    assert client.notify.recv(64)[:1] == b"\x01"
    with pytest.raises(Disconnected):
        client.query("state")
    assert not Path(daemon.address).exists()
    done = daemon.status_process()
    assert (done.returncode, done.stdout) == (2, "")
    assert daemon.replay()["resting"] == 1000, "a shutdown of the sidecar is no disconnect of its clients"
    client.close()


def test_a_killed_daemon_loses_nothing(tmp_path):
    daemon = Daemon(tmp_path).ready()
    hashes = []
    for round in range(1, 5):
        client = PlainClient(daemon.address)
        lane = client.open(1024)
        price = 1_000_000
        # Over several segments of 1 MiB, and so over segments that were made ahead and never used.
        for batch in range(20):
            ids = range(batch * 1000, batch * 1000 + 1000)
            sides = (new_order(40 + n % 7, n, 1 + n % 2, 1 + n % 5, price + 100 * (n % 9), symbol=round) for n in ids)
            assert {result["code"] for result in lane.process(list(sides))} <= {0, 210, 303}
        open_lane = client.query("state")[0]
        lane.close()
        closed = client.query("state")[0]
        assert closed["state_hash"] != open_lane["state_hash"], "an open lane is part of the state"
        hashes.append(closed["state_hash"])
        daemon.kill()
        with pytest.raises(Disconnected):
            client.query("state")
        client.close()
        done = daemon.status_process()
        # Any other sidecar of this host that starts just then clears what the dead one left.
        if done.returncode == 2:
            assert "no sidecar has published a board" in done.stderr
        else:
            assert (done.returncode, json.loads(done.stdout)["health"]) == (1, "dead")
        replayed = daemon.replay()
        assert (replayed["state_hash"], replayed["torn"]) == (closed["state_hash"], None)
        assert (replayed["accepted"], replayed["trades"]) == (closed["accepted"], closed["trades"])
        assert Path(daemon.address).exists(), "the leftover that the next start must clear"
        daemon = Daemon(tmp_path).ready()
        client = PlainClient(daemon.address)
        assert client.query("state")[0]["state_hash"] == closed["state_hash"]
        assert client.query("state")[0]["accepted"] == closed["accepted"]
        assert daemon.status()["epoch"] == round + 1
        client.close()
    assert len(set(hashes)) == 4
    assert daemon.stop() == 0


def test_lanes_that_a_killed_daemon_left_open_are_closed(tmp_path):
    daemon = Daemon(tmp_path).ready()
    first, second = PlainClient(daemon.address), PlainClient(daemon.address)
    first.open(64, cancel_on_disconnect=True).process([new_order(50, n, BUY, 1, 100) for n in range(3)])
    last = second.open(64)
    last.process([new_order(51, n, BUY, 1, 100) for n in range(4)])
    daemon.kill()
    assert last.status == 0, "a killed sidecar says nothing; the end of its sockets does"
    assert last.client.notify.recv(1) == b""
    assert daemon.replay()["resting"] == 7
    with mock.patch("daemon.CONFIG", CONFIG + "[lanes]\nreattach_grace_ms = 0\n"):
        daemon = Daemon(tmp_path).ready()
    client = PlainClient(daemon.address)
    until(lambda: client.query("state")[0]["resting"] == 4, what="the choice of the first, which does not come back")
    until(lambda: {row["lane"] for row in client.query("orders", account=51)[1]} == {0}, what="the end of the second")
    assert client.query("state")[0]["state_hash"] == daemon.replay()["state_hash"]
    assert client.open(64).number == last.number + 1
    client.close()
    assert daemon.stop() == 0


def test_two_sidecars_never_share_a_journal_or_an_address(daemon, tmp_path):
    other = Daemon(tmp_path, socket="other")
    assert other.process.wait(10) == 2
    assert "another sidecar holds it" in other.words()
    same = subprocess.run([BINARY, "serve", "--socket", daemon.address], capture_output=True, text=True, timeout=10)
    assert same.returncode == 2
    assert "already serves" in same.stderr
    PlainClient(daemon.address).close()


def test_an_embedded_sidecar_ends_with_its_last_client(tmp_path):
    daemon = Daemon(tmp_path, "--embedded", journal=False)
    clients = []
    until(lambda: Path(daemon.address).exists(), 10, "start")
    until(lambda: not connects(daemon, clients), 10, "listening")
    clients.append(PlainClient(daemon.address, "second"))
    clients[0].close()
    time.sleep(0.05)
    assert works(clients[1].open(64))
    clients[1].close()
    assert daemon.process.wait(10) == 0
    assert not Path(daemon.address).exists()
    assert daemon.status_process().returncode == 2
    daemon.stop()


def connects(daemon, clients: list) -> bool:
    """Whether a first client has still to come."""
    try:
        clients.append(PlainClient(daemon.address, "first"))
    except OSError:
        return True
    return False


def test_leftovers_of_a_dead_sidecar_are_cleared(tmp_path):
    daemon = Daemon(tmp_path).ready()
    board = Path("/dev/shm") / PlainClient(daemon.address).info["board"]
    daemon.kill()
    assert board.exists()
    assert Path(daemon.address).exists()
    daemon = Daemon(tmp_path).ready()
    assert daemon.status()["health"] == "healthy"
    assert daemon.stop() == 0
    assert not board.exists()
    assert not Path(daemon.address).exists()


def test_status_says_what_operators_ask(daemon, neighbour):
    # The board is written behind the results: a moment later it has them.
    until(lambda: lanes(daemon, "neighbour")[0]["completed"] == 2, what="the board's row")
    status = daemon.status()
    assert status["health"] == "healthy"
    assert (status["pid"], status["address"], status["epoch"]) == (daemon.process.pid, daemon.address, 1)
    assert {
        "version", "build", "uptime_ns", "sequence", "journal_bytes", "accepted", "rejected", "trades",
        "resting_orders", "clients", "faults", "sleeps",
    } <= status.keys()  # fmt: skip
    [lane] = status["lanes"]
    assert (lane["kernel"], lane["name"], lane["pid"], lane["uid"]) == ("orders", "neighbour", os.getpid(), os.getuid())
    assert (lane["submitted"], lane["completed"], lane["in_flight"], lane["depth_slots"]) == (2, 2, 0, 64)
    text = subprocess.run([BINARY, "status", "--address", daemon.address], capture_output=True, text=True)
    assert text.returncode == 0
    assert "healthy" in text.stdout
    assert "neighbour" in text.stdout
    nobody = subprocess.run([BINARY, "status", "--address", "/nowhere"], capture_output=True, text=True)
    assert nobody.returncode == 2
    assert "no sidecar" in nobody.stderr
