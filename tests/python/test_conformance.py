"""One conformance suite of the protocol, run over the plain client and over the shim's client (`import ringlane`).

Both talk to the real daemon. What only a client that holds its own cursors can try is in `test_reclaim.py`.
"""

import ctypes
import mmap
import os
import re
import time
from pathlib import Path

import pytest
from daemon import BINARY, Daemon, new_order, until
from plain_client import ASLEEP, WAITING, Disconnected, PlainClient, Refused

try:
    import numpy as np
    import ringlane
except ImportError as error:
    ringlane, why_no_shim = None, f"import ringlane fails: {error}"

pytestmark = pytest.mark.skipif(not Path(BINARY).exists(), reason=f"{BINARY} is not built")
BUY, SELL = 1, 2
GAP = 3


class Plain:
    """The plain client under the suite's common words."""

    def __init__(self, address: str) -> None:
        self.client = PlainClient(address, "plain")
        self.info = self.client.info

    @staticmethod
    def raw(address: str, **message: object) -> dict:
        client = PlainClient(address, hello=False)
        try:
            return client.ask(**message)[0]
        finally:
            client.close()

    def ask(self, **message: object) -> dict:
        return self.client.ask(**message)[0]

    def open(self, depth: int = 64, **options: object) -> "PlainLaneWords":
        return PlainLaneWords(self.client.open(depth, **options))

    def query(self, what: str, **values: int) -> tuple[dict, list[dict]]:
        return self.client.query(what, **values)

    def close(self) -> None:
        self.client.close()


class PlainLaneWords:
    """A plain lane under the suite's common words."""

    def __init__(self, lane) -> None:
        self.lane, self.number, self.depth = lane, lane.number, lane.depth

    def process(self, orders: list[dict]) -> list[dict]:
        return self.lane.process(orders)

    def hold(self, orders: list[dict]):
        """Submits, waits, and keeps the slots: gives a function that reads the results again."""
        slots = range(self.lane.submitted, self.lane.submitted + len(orders))
        self.lane.fill(orders)
        self.lane.publish(len(orders))
        self.lane.wait(self.lane.submitted)
        return lambda: [self.lane.read(slot) for slot in slots]

    def fill_up(self) -> None:
        """Submits until no slot is free."""
        while self.lane.submitted - self.lane.released < self.depth:
            self.hold([new_order(9, self.lane.submitted + 1, BUY, 1, 100)])
        with pytest.raises(ValueError, match="free slots"):
            self.lane.fill([{}])

    def events(self, seconds: float) -> list[dict]:
        """All events that are published within this time, at least one."""
        self.lane.wait_events(self.lane.events_read + 1, seconds)
        return self.lane.take_events()

    def has_ended(self) -> bool:
        return self.lane.status == 201

    def close(self) -> None:
        self.lane.close()


class Shim:
    """The `ringlane` package under the suite's common words."""

    def __init__(self, address: str) -> None:
        self.client = ringlane.connect(address, name="shim")
        keys = ("number", "pid", "version", "build", "board", "journal", "address")
        self.info = {key: getattr(self.client, key) for key in keys}
        self.info["client"] = self.info["number"]

    @staticmethod
    def raw(address: str, **message: object) -> dict:
        from ringlane.wire import ControlSocket

        control = ControlSocket(address, 10)
        try:
            return refusals(lambda: control.request(**message)[0])
        finally:
            control.close()

    def ask(self, **message: object) -> dict:
        return refusals(lambda: self.client._control.request(**message)[0])

    def open(self, depth: int = 64, kernel: str = "orders", **options: object) -> "ShimLaneWords":
        return refusals(lambda: ShimLaneWords(self.client.open(kernel, depth, **options)))

    def query(self, what: str, **values: int) -> tuple[dict, list[dict]]:
        if what == "state":
            return vars(self.client.state()), []
        reply, rows = refusals(lambda: self.client._query(what, **values))
        return reply, dicts(rows)

    def close(self) -> None:
        self.client.close()


class ShimLaneWords:
    """A lane of the shim under the suite's common words."""

    def __init__(self, lane) -> None:
        self.lane, self.number, self.depth = lane, lane.number, lane.depth
        self.held: list = []

    def batch(self, orders: list[dict]):
        batch = np.zeros(len(orders), self.lane.request_dtype)
        for row, order in zip(batch, orders, strict=True):
            for name, value in order.items():
                row[name] = value
        return batch

    def process(self, orders: list[dict]) -> list[dict]:
        return dicts(self.lane.process(self.batch(orders), timeout=10, copy=True))

    def hold(self, orders: list[dict]):
        view = self.lane.process(self.batch(orders), timeout=10)
        self.held.append(view)
        return lambda: dicts(view)

    def fill_up(self) -> None:
        for number in range(self.depth - 2):
            self.held.append(self.lane.process(self.batch([new_order(9, number, BUY, 1, 100)])))
        with pytest.raises(ringlane.LaneFull):
            self.lane.process(self.batch([{}]), timeout=0.2)

    def events(self, seconds: float) -> list[dict]:
        return dicts(self.lane.events(timeout=seconds))

    def has_ended(self) -> bool:
        try:
            self.process([new_order(1, 1, BUY, 1)])
        except ringlane.RinglaneError:
            return True
        return False

    def close(self) -> None:
        self.lane.close()


def dicts(rows) -> list[dict]:
    return [{name: row[name].item() for name in rows.dtype.names} for row in rows]


def refusals(request):
    """Runs a request; the shim's exceptions become the refusal whose code stands at the end of their words."""
    try:
        return request()
    except ringlane.SidecarLost as error:
        raise Disconnected(str(error)) from error
    except (ringlane.RinglaneError, ValueError) as error:
        code = re.search(r"\(([A-Z_]+)\)$", str(error))
        if code is None:
            raise
        raise Refused(code[1], str(error)) from error


@pytest.fixture
def daemon(tmp_path):
    daemon = Daemon(tmp_path, journal=False).ready()
    yield daemon
    assert daemon.stop() == 0, daemon.words()


@pytest.fixture(params=["plain", "shim"])
def kind(request):
    if request.param == "shim" and ringlane is None:
        pytest.skip(why_no_shim)
    return {"plain": Plain, "shim": Shim}[request.param]


@pytest.fixture
def connect(daemon, kind):
    clients = []

    def make(other_kind=None):
        clients.append((other_kind or kind)(daemon.address))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


# ---- control socket ----


def test_hello_open_close(daemon, connect):
    client = connect()
    assert client.info["pid"] == daemon.process.pid
    assert client.info["journal"] == ""
    assert client.info["client"] >= 1
    lane = client.open(100, events=65)
    assert lane.depth == 128
    [row] = daemon.status()["lanes"]
    assert (row["lane"], row["pid"], row["depth_slots"], row["kernel"]) == (lane.number, os.getpid(), 128, "orders")
    lane.close()
    assert daemon.status()["lanes"] == []
    assert lane.has_ended()
    assert client.open().number == lane.number + 1, "lane numbers are never reused"


def test_wrong_version_is_refused_and_may_be_corrected(daemon, kind):
    with pytest.raises(Refused, match="layout version 99") as refused:
        kind.raw(daemon.address, op="hello", layout_version=99, build="", name="x")
    assert refused.value.code == "LAYOUT_VERSION"
    assert kind.raw(daemon.address, op="hello", layout_version=2)["ok"]


def test_the_first_message_is_hello(daemon, kind):
    with pytest.raises(Refused) as refused:
        kind.raw(daemon.address, op="query", what="state")
    assert refused.value.code == "PROTOCOL"


def test_a_second_hello_ends_the_connection(daemon, connect):
    client = connect()
    with pytest.raises(Refused) as refused:
        client.ask(op="hello", layout_version=2, build="", name="again")
    assert refused.value.code == "PROTOCOL"
    with pytest.raises(Disconnected):
        client.ask(op="query", what="state")


def test_refusals_leave_the_connection_usable(connect):
    client = connect()
    lane = client.open()
    for code, message in (
        ("UNKNOWN_KERNEL", {"op": "open", "kernel": "tea", "depth": 64}),
        ("LANE_EXISTS", {"op": "open", "kernel": "orders", "depth": 64}),
        ("UNKNOWN_LANE", {"op": "close", "lane": lane.number + 1}),
        ("BAD_VALUE", {"op": "query", "what": "book", "symbol": 60_000, "levels": 3}),
    ):
        with pytest.raises(Refused) as refused:
            client.ask(**message)
        assert refused.value.code == code
    lane.close()
    for depth, accounts in ((0, None), (2**20 + 1, None), (64, [0, 5]), (64, [7, 5])):
        with pytest.raises(Refused) as refused:
            client.ask(op="open", kernel="orders", depth=depth, events=64, accounts=accounts)
        assert refused.value.code == "BAD_VALUE"
    assert client.open().process([new_order(1, 1, BUY, 1)])[0]["code"] == 0


# ---- slots ----


def test_batches_over_many_wraps(connect):
    lane = connect().open(64)
    sequence = 0
    for count in (1, 63, 64, 7, 5, 64, 33, 40, 64, 2, 61, 17) * 8:
        orders = [new_order(3, 1000 * sequence + number, BUY, number + 1, 100_000) for number in range(count)]
        orders = [{**order, "time_in_force": 2} for order in orders]
        results = lane.process(orders)
        assert [result["client_order_id"] for result in results] == [order["client_order_id"] for order in orders]
        assert all(result["code"] == 0 and result["state"] == 3 for result in results)
        assert [r["sequence"] for r in results] == list(range(results[0]["sequence"], results[0]["sequence"] + count))
        assert results[0]["sequence"] > sequence
        sequence = results[-1]["sequence"]


def test_a_slot_that_is_not_released_is_never_written(connect):
    lane = connect().open(64)
    read = lane.hold([new_order(4, 1, SELL, 5), new_order(4, 1, SELL, 5)])
    before = read()
    assert [result["code"] for result in before] == [0, 210]
    lane.fill_up()
    assert read() == before


def test_two_lanes_have_one_global_sequence(connect):
    first, second = connect().open(), connect().open()
    numbers = [
        lane.process([new_order(5, 2 * n + i, BUY, 1, 100)])[0]
        for n in range(9)
        for i, lane in enumerate((first, second))
    ]
    sequences = [result["sequence"] for result in numbers]
    assert sequences == list(range(sequences[0], sequences[0] + 18))


# ---- sleeping ----


def eventfds() -> dict[int, int]:
    """This process's eventfds, with their counts: the sidecar never reads a doorbell, so it counts all rings."""
    found = {}
    for fd in map(int, os.listdir("/proc/self/fdinfo")):
        try:
            count = re.search(
                r"^eventfd-count:\s*([0-9a-f]+)", Path(f"/proc/self/fdinfo/{fd}").read_text(), re.MULTILINE
            )
        except OSError:
            continue
        if count:
            found[fd] = int(count[1], 16)
    return found


def test_the_doorbell_rings_only_for_a_sidecar_that_sleeps(daemon, connect):
    client, before = connect(), eventfds()
    lane = client.open(64)
    [doorbell] = set(eventfds()) - set(before)

    def parks() -> int:
        return daemon.status()["lanes"][0]["parks"]

    parked = 0
    for round in range(1, 4):
        until(lambda parked=parked: parks() > parked, what="the lane's parking")
        until(lambda: daemon.status()["sleeps"] > 0, what="the sidecar's sleep")
        parked = parks()
        lane.process([new_order(6, round, BUY, 1, 100)])
        assert eventfds()[doorbell] >= round, "a sleeping sidecar was not rung"
    rings, parked = eventfds()[doorbell], parks()
    for number in range(500):
        lane.process([new_order(6, 100 + number, BUY, 1, 100)])
    rings = eventfds()[doorbell] - rings
    # On a busy machine the sidecar may fall asleep between two orders; it is never rung more often than it slept.
    assert rings <= parks() - parked + 1 < 500


def test_both_sides_sleep(connect):
    lane = connect().open(64)
    for number in range(20):
        time.sleep(0.01)
        start = time.monotonic()
        assert lane.process([new_order(7, number, BUY, 1, 100)])[0]["code"] == 0
        assert time.monotonic() - start < 0.9, "a lost wake-up shows as the wait's bound of one second"


def test_waiting_is_answered_once_for_each_value(daemon):
    client = PlainClient(daemon.address)
    lane = client.open(64)
    lane.mine[WAITING] = 3
    for number in range(6):
        until(lambda: lane.theirs[ASLEEP] == 1, what="the lane's parking")
        lane.fill([new_order(8, number, BUY, 1, 100)])
        assert lane.publish(1)
        until(lambda done=number + 1: lane.completed == done, what="completion")
    time.sleep(0.05)
    assert client.notify.recv(64) == b"\x01"
    client.close()


# ---- events ----


def test_events_tell_of_fills_and_of_a_disconnect(connect):
    maker, taker = connect(), connect()
    lane, other = maker.open(64), taker.open(64, cancel_on_disconnect=True)
    [rested] = lane.process([new_order(10, 77, SELL, 10)])
    [taken] = other.process([new_order(11, 1, BUY, 4)])
    assert (taken["filled_quantity"], taken["notional"]) == (4, 4_000_000)
    [fill] = lane.events(5)
    assert (fill["number"], fill["kind"], fill["quantity"], fill["remaining_quantity"]) == (1, 1, 4, 6)
    assert (fill["order_id"], fill["client_order_id"], fill["account"]) == (rested["order_id"], 77, 10)
    assert fill["sequence"] == taken["sequence"]


def test_a_lagging_reader_gets_a_gap_and_resynchronises(daemon, connect):
    maker, taker = connect(), connect()
    lane, other = maker.open(64, events=64), taker.open(256)
    lane.process([new_order(12, 1, SELL, 1000)])
    for number in range(100):
        other.process([new_order(13, number, BUY, 1)])
    until(lambda: daemon.status()["lanes"][0]["events_dropped"] == 36, what="the drop")
    events = lane.events(5)
    assert [event["number"] for event in events[:64]] == list(range(1, 65))
    # The GAP comes by itself once there is room, also while nothing else happens.
    events = events[64:] or lane.events(5)
    assert [(event["kind"], event["sequence"], event["number"]) for event in events] == [(GAP, 65, 100)]
    reply, [order] = maker.query("orders", account=12)
    assert (order["remaining_quantity"], order["filled_quantity"], order["client_order_id"]) == (900, 100, 1)
    assert reply["sequence"] >= 101
    other.process([new_order(13, 1000, BUY, 3)])
    [event] = lane.events(5)
    assert (event["number"], event["remaining_quantity"], event["kind"]) == (101, 897, 1)


# ---- queries ----


def test_every_query(connect):
    client = connect()
    lane = client.open()
    reply, instruments = client.query("instruments")
    assert [(row["symbol"], row["tick"]) for row in instruments] == [(number, 100) for number in range(1, 65)]
    lane.process([new_order(20, n, BUY, 10 + n, 1_000_000 - 100 * n) for n in range(5)])
    lane.process([new_order(21, n, SELL, 10 + n, 1_000_100 + 100 * n) for n in range(5)])
    lane.process([new_order(21, 9, SELL, 4, 1_000_000)])
    reply, orders = client.query("orders", account=20)
    assert reply["last_client_order_id"] == 4
    assert sorted((row["client_order_id"], row["remaining_quantity"], row["filled_quantity"]) for row in orders) == [
        (0, 6, 4), (1, 11, 0), (2, 12, 0), (3, 13, 0), (4, 14, 0),
    ]  # fmt: skip
    assert {row["lane"] for row in orders} == {lane.number}
    _, [position] = client.query("positions", account=20)
    assert (position["net_quantity"], position["open_buy_quantity"], position["open_sell_quantity"]) == (4, 56, 0)
    assert (position["cash_high"] << 64) + position["cash_low"] == -4_000_000
    _, book = client.query("book", symbol=1, levels=2)
    assert [(row["side"], row["price"], row["quantity"], row["order_count"]) for row in book] == [
        (BUY, 1_000_000, 6, 1), (BUY, 999_900, 11, 1), (SELL, 1_000_100, 10, 1), (SELL, 1_000_200, 11, 1),
    ]  # fmt: skip
    state, _ = client.query("state")
    assert (state["accepted"], state["rejected"], state["trades"], state["resting"]) == (11, 0, 1, 10)
    assert re.fullmatch("[0-9a-f]{16}", state["state_hash"])
    assert client.query("orders", account=4242)[1] == []


# ---- regions ----


def refused(call, *arguments):
    """By the seals, or because the descriptor was handed out for reading only."""
    with pytest.raises(OSError, match=r"not permitted|Bad file descriptor|Invalid argument"):
        call(*arguments)


def test_results_cannot_be_written_by_anybody(daemon):
    client = PlainClient(daemon.address)
    lane = client.open(64)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    size = lane.reply["results_bytes"]
    for fd in (lane.results_fd, os.open(f"/proc/self/fd/{lane.results_fd}", os.O_RDWR)):
        with pytest.raises(PermissionError):
            mmap.mmap(fd, size)
        refused(os.pwrite, fd, b"x", 4096)
        for length in (0, size + 4096):
            refused(os.ftruncate, fd, length)
        readable = libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
        assert readable not in (None, ctypes.c_void_p(-1).value)
        assert libc.mprotect(readable, size, mmap.PROT_READ | mmap.PROT_WRITE) == -1
    for length in (0, 4096, 1 << 20):
        with pytest.raises(PermissionError):
            os.ftruncate(lane.requests_fd, length)
    client.close()


def test_rows_of_a_query_cannot_be_written(daemon):
    client = PlainClient(daemon.address)
    _, [fd] = client.ask(op="query", what="instruments")
    for each in (fd, os.open(f"/proc/self/fd/{fd}", os.O_RDWR)):
        refused(os.pwrite, each, b"x", 0)
        refused(os.ftruncate, each, 0)
        os.close(each)
    client.close()
