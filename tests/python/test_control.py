"""The control socket and the life of sidecars: interruptions, late answers, numbers out of range, last clients."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import ringlane
from daemon import freeze
from plain_client import PlainClient
from ringlane.wire import ControlSocket

SECONDS_MAX = 30.0


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen"
        time.sleep(0.005)


def descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def mine() -> Iterator[ringlane.Sidecar]:
    with ringlane.Sidecar() as running:
        yield running


@pytest.fixture
def private(monkeypatch: pytest.MonkeyPatch) -> ringlane.Client:
    """A client with a sidecar of its own."""
    monkeypatch.delenv("RINGLANE_SOCKET", raising=False)
    client = ringlane.connect()
    if client.sidecar is None:
        pytest.skip("this host has a sidecar of its own")
    return client


# ---- who is interrupted or waits no longer ----


def test_an_interrupted_request_does_not_leave_its_answer_to_the_next(
    client: ringlane.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = descriptors()
    with monkeypatch.context() as patch:

        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(socket, "recv_fds", interrupted)
        for request in (lambda: client.orders(1), lambda: client.open("orders", depth=64), client.state):
            with pytest.raises(KeyboardInterrupt):
                request()
    assert len(client.state().state_hash) == 16
    assert client.book("AAPL").symbol == 1
    lane = client.open("orders", depth=64)  # the one that was opened for nobody is closed
    lane.close()
    del lane
    assert descriptors() == before


def test_slow_is_not_dead(mine: ringlane.Sidecar) -> None:
    with ringlane.connect(mine.address, timeout=0.1) as client:
        lane = client.open("orders", depth=64, accounts=7)
        before = descriptors()
        freeze(mine.pid)
        try:
            for _ in range(40):
                with pytest.raises(TimeoutError, match="the connection stays"):
                    client.orders(7) if _ < 20 else client.positions(7)
        finally:
            os.kill(mine.pid, signal.SIGCONT)

        def answers() -> bool:
            try:
                return client.state().sequence >= 0
            except TimeoutError:
                return False

        until(answers, "an answer")
        assert len(client.symbols) > 0
        order = lane.batch(symbol="AAPL", side="BUY", price="150", quantity=1, client_order_id=1)
        assert lane.process(order, timeout=10, copy=True)["code"][0] == 0
        assert client.positions(7).last_client_order_id == 1
        assert descriptors() == before


def test_a_lane_that_was_opened_too_late_can_be_opened_again(mine: ringlane.Sidecar) -> None:
    with ringlane.connect(mine.address, timeout=0.2) as client:
        freeze(mine.pid)
        try:
            with pytest.raises(TimeoutError):
                client.open("orders", depth=64)
            threading.Timer(0.05, os.kill, (mine.pid, signal.SIGCONT)).start()
            client._control._timeout = 10.0
            assert client.open("orders", depth=64).depth == 64
        finally:
            os.kill(mine.pid, signal.SIGCONT)


def test_replies_carry_the_number_of_their_request(mine: ringlane.Sidecar) -> None:
    plain = PlainClient(mine.address)
    for number in (0, 1, 2**64 - 1):
        assert plain.ask(op="query", what="state", id=number)[0]["id"] == number
    assert "id" not in plain.ask(op="query", what="state")[0]
    for message, code in (({"op": "close", "lane": 9}, "UNKNOWN_LANE"), ({"op": "fly"}, "PROTOCOL")):
        plain.socket.send(json.dumps({**message, "id": 5}).encode())
        reply = json.loads(plain.socket.recv(65_536))
        assert (reply["id"], reply["error"]) == (5, code)
    plain.close()


# ---- numbers ----


def test_numbers_out_of_range_are_value_errors_and_cost_nothing(client: ringlane.Client, lane: ringlane.Lane) -> None:
    for wrong in (-1, 0, 2**24, 2**32, 2**70):
        for query in (client.orders, client.positions):
            with pytest.raises(ValueError, match=r"account must .*from 1 to 16777215"):
                query(wrong)
    for wrong in (-1, 0, 4_000_001, 2**32, 2**70):
        with pytest.raises(ValueError, match=r"levels must .*from 1 to 4000000"):
            client.book("AAPL", levels=wrong)
    for wrong in (-1, 0, 2**16 + 1, 2**64):
        with pytest.raises(ValueError, match=r"symbol must .*from 1 to 65536"):
            client.book(wrong)
    opens = [("depth", 2**70), ("depth", -1), ("events", 2**65), ("events", 0), ("accounts", (1, 2**40))]
    for name, value in [*opens, ("accounts", -1), ("accounts", (0, 5))]:
        with pytest.raises(ValueError, match=rf"{name} must .*from 1 to "):
            client.open("orders", **{name: value})  # type: ignore[arg-type]
    assert lane.call(2, 0, 0, 0, 1, 7)[7] == ringlane.RejectCode.UNKNOWN_ORDER_ID
    assert client.orders(np.uint32(7)).account == 7  # type: ignore[arg-type]


def test_the_sidecar_refuses_numbers_without_ending_the_client(mine: ringlane.Sidecar) -> None:
    plain = PlainClient(mine.address)
    numbers = ("-1", "0", "4294967296", "18446744073709551616", "1e300", "1.5")
    messages = [
        '"op":"query","what":"orders","account":%s',
        '"op":"query","what":"positions","account":%s',
        '"op":"query","what":"book","symbol":%s,"levels":1',
        '"op":"query","what":"book","symbol":1,"levels":%s',
        '"op":"open","kernel":"orders","depth":%s',
        '"op":"open","kernel":"orders","depth":64,"events":%s',
        '"op":"open","kernel":"orders","depth":64,"accounts":[1,%s]',
    ]
    for message in messages:
        for number in numbers:
            plain.socket.send(("{" + message % number + "}").encode())
            reply = json.loads(plain.socket.recv(65_536))
            assert (reply["ok"], reply["error"]) == (False, "BAD_VALUE"), (message, number, reply)
            assert " to " in reply["message"]
    plain.socket.send(b'{"op":"close","lane":-1}')
    assert json.loads(plain.socket.recv(65_536))["error"] == "UNKNOWN_LANE"
    assert plain.open(64).depth == 64
    plain.close()


def test_positions_tell_the_last_client_order_id(mine: ringlane.Sidecar) -> None:
    with ringlane.connect(mine.address) as client:
        lane = client.open("orders", depth=64)
        assert client.positions(3).last_client_order_id == 0
        lane.process(lane.batch(symbol="AAPL", side="BUY", account=3, client_order_id=41, price="9", quantity=5))
        assert client.positions(3).last_client_order_id == client.orders(3).last_client_order_id == 41


# ---- the life of a sidecar ----


def test_a_private_sidecar_ends_with_its_last_client(private: ringlane.Client) -> None:
    assert private.sidecar is not None
    pid, directory, board = private.sidecar.pid, Path(private.address).parent, Path("/dev/shm", private.board)
    other = ringlane.connect(private.address)
    lane = other.open("orders", depth=64)
    private.close()
    assert lives(pid)
    order = lane.batch(symbol="AAPL", side="BUY", account=3, client_order_id=1, price="9", quantity=5)
    assert lane.process(order, copy=True)["code"][0] == 0
    other.close()
    until(lambda: not lives(pid) and not os.path.exists(f"/proc/{pid}"), "the end of the sidecar")
    until(lambda: not directory.exists(), "the end of its directory")
    assert not board.exists()


FORKING = """
import os, sys, time, ringlane
master = ringlane.shared()
if master.sidecar is None: print("none", flush=True); sys.exit()
print(master.sidecar.pid, os.path.dirname(master.address), flush=True)
if os.fork() == 0:
    client = ringlane.shared()
    lane = client.open("orders", depth=64, timeout=10)
    parent = os.getppid()
    print("child", flush=True)
    sys.stdin.readline()
    assert lane.call(2, 0, 0, 0, 1, 7)[7] == ringlane.RejectCode.UNKNOWN_ORDER_ID
    assert client.state().sequence > 0
    print("works", flush=True)
    os._exit(0)
HOW
"""


@pytest.mark.parametrize("how", ["master.close(); time.sleep(60)", "pass", "os.kill(os.getpid(), 9)"])
def test_a_forked_child_keeps_its_parents_sidecar(how: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "RINGLANE_SOCKET"}
    program = FORKING.replace("HOW", "time.sleep(0.5); " + how)
    command = [sys.executable, "-c", program]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:  # type: ignore[call-overload]
        first = process.stdout.readline()
        if first == "none\n":
            pytest.skip("this host has a sidecar of its own")
        pid, directory = int(first.split()[0]), Path(first.split()[1])
        assert process.stdout.readline() == "child\n"
        time.sleep(2.5)
        assert lives(pid)
        process.stdin.write("go\n")
        process.stdin.flush()
        assert process.stdout.readline() == "works\n"
        until(lambda: not lives(pid), "the end of the sidecar")
        if "9" not in how:  # a killed process clears up nothing
            until(lambda: not directory.exists(), "the end of its directory")
        process.kill()
    shutil.rmtree(directory, ignore_errors=True)


def test_a_program_that_closes_nothing_leaves_nothing() -> None:
    program = """
import atexit, os
# Registered before the package's own handler, and so called after it.
atexit.register(lambda: print([path for path in (directory, board, f"/proc/{sidecar.pid}") if os.path.exists(path)]))
import ringlane
sidecar = ringlane.Sidecar()
client = ringlane.connect(sidecar.address)
lane = client.open("orders", depth=64)
directory, board = os.path.dirname(sidecar.address), "/dev/shm/" + client.board
assert os.path.exists(directory) and os.path.exists(board)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_a_killed_sidecar_leaves_nothing() -> None:
    with ringlane.Sidecar() as sidecar:
        with ringlane.connect(sidecar.address) as client:
            board = Path("/dev/shm", client.board)
        sidecar.kill()
        assert board.exists()
        directory = Path(sidecar.address).parent
        assert directory.exists()
    assert not directory.exists()
    assert not board.exists()


# ---- the client ----


def test_ended_loops_leave_no_descriptors(lane: ringlane.Lane, sidecar: ringlane.Sidecar) -> None:
    async def main() -> None:
        assert len(await lane.events_async(0.001)) == 0

    asyncio.run(main())
    before = descriptors()
    for _ in range(60):
        asyncio.run(main())
    assert descriptors() <= before


@pytest.mark.parametrize("program", ["ü" * 60, "a\udcff\x07b", "x" * 300, "日" * 40, ""])
def test_any_program_name_can_connect(sidecar: ringlane.Sidecar, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.setattr(sys, "argv", ["/somewhere/" + program if program else ""])
    ringlane.connect(sidecar.address).close()


@pytest.mark.parametrize("error", [ringlane.SidecarLost, ringlane.SidecarUnavailable, TimeoutError])
def test_shared_starts_anew_when_the_old_address_fails(
    monkeypatch: pytest.MonkeyPatch, sidecar: ringlane.Sidecar, error: type[Exception]
) -> None:
    from ringlane import client, connections

    def fails(address: str, timeout: float | None) -> ControlSocket:
        if address == "@gone":
            raise error("gone")
        return ControlSocket(address, timeout)

    monkeypatch.setenv("RINGLANE_SOCKET", sidecar.address)
    monkeypatch.setattr(client, "ControlSocket", fails)
    monkeypatch.setattr(connections, "_shared", None)
    monkeypatch.setattr(connections, "_shared_address", "@gone")
    ringlane.shared().close()


def test_a_lane_that_cannot_be_made_is_closed(client: ringlane.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    client.open("orders", depth=64).close()
    before = descriptors()
    with pytest.raises(ValueError, match="timeout"):
        client.open("orders", depth=64, timeout=-1)
    assert descriptors() == before

    def fails(*_: object) -> None:
        raise ringlane.SchemaMismatch("made up")

    with monkeypatch.context() as patch:
        patch.setattr(ringlane.Schema, "from_message", fails)
        with pytest.raises(ringlane.SchemaMismatch):
            client.open("orders", depth=64)
    assert descriptors() == before
    with monkeypatch.context() as patch:  # the shim's own failure, behind the point where it took the descriptors
        patch.setattr(ringlane.Schema, "numbers", [("x", 1000, 8, "u")])
        with pytest.raises(ValueError, match=r"."):
            client.open("orders", depth=64)
    assert descriptors() == before
    client.open("orders", depth=64).close()


def test_a_lane_does_not_hide_the_exception_of_its_body(mine: ringlane.Sidecar) -> None:
    client = ringlane.connect(mine.address)
    with pytest.raises(ZeroDivisionError), client.open("orders", depth=64):
        mine.kill()
        raise ZeroDivisionError
    client.close()


def test_another_build_is_told_once(sidecar: ringlane.Sidecar, monkeypatch: pytest.MonkeyPatch) -> None:
    import ringlane.client as module

    monkeypatch.setattr(module._shim, "BUILD_HASH", "0123456789abcdef")
    monkeypatch.setattr(module, "_builds_compared", {"0123456789abcdef"})
    with pytest.warns(RuntimeWarning, match=rf"{ringlane.BUILD_HASH}.*0123456789abcdef") as told:
        ringlane.connect(sidecar.address).close()
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ringlane.connect(sidecar.address).close()
