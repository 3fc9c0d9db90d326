"""The examples for the web, started for real on loopback, under load, their sidecar killed in the middle."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import ringlane
from daemon import Daemon, until

pytest.importorskip("flask")
pytest.importorskip("fastapi")

EXAMPLES = Path(__file__).parents[2] / "python/examples"
THREADS, ORDERS = 4, 100
RETRY_SECONDS = 30


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(port: int, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any], dict[str, str]]:
    """One request: status, JSON, headers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        text = None if body is None else json.dumps(body)
        connection.request(method, path, text, {"Content-Type": "application/json"})
        reply = connection.getresponse()
        return (
            reply.status,
            json.loads(reply.read() or "{}"),
            {name.lower(): value for name, value in reply.getheaders()},
        )
    finally:
        connection.close()


@contextmanager
def serving(command: list[str], port: int, ready: str, address: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A web server on a sidecar's address, as soon as it answers."""
    env = {**os.environ, "RINGLANE_SOCKET": address}
    with log.open("ab") as out:
        process = subprocess.Popen(command, cwd=EXAMPLES, env=env, stdout=out, stderr=out)
    try:

        def answers() -> bool:
            assert process.poll() is None, log.read_text()
            try:
                return ask(port, "GET", ready)[0] == 200
            except OSError:
                return False

        until(answers, 30, "the web server's answer")
        yield process
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def gunicorn(port: int) -> list[str]:
    bind = ["--workers", "2", "--preload", "--bind", f"127.0.0.1:{port}", "--timeout", "60"]
    return [sys.executable, "-m", "gunicorn", *bind, "flask_app:app"]


def uvicorn(port: int) -> list[str]:
    return [sys.executable, "-m", "uvicorn", "fastapi_app:app", "--port", str(port), "--log-level", "warning"]


def order(account: int, number: int) -> dict[str, Any]:
    """A bid that rests; nobody sells."""
    price = f"{100 + number % 50}.25"
    return {
        "symbol": "AAPL", "side": "BUY", "account": account, "client_order_id": number, "price": price, "quantity": 1
    }  # fmt: skip


class Load:
    """One account's orders, one after the other, each sent again after a 503 until it is known to stand."""

    def __init__(self, port: int, path: str, account: int) -> None:
        self.port, self.path, self.account = port, path, account
        self.done: list[int] = []
        self.replies: Counter[str] = Counter()
        self.wrong: list[Any] = []
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self) -> None:
        for number in range(1, ORDERS + 1):
            deadline = time.monotonic() + RETRY_SECONDS
            tries = 0
            while True:
                tries += 1
                status, reply, headers = ask(self.port, "POST", self.path, order(self.account, number))
                self.replies[f"{status} {reply.get('code', '')}".strip()] += 1
                if status == 200 or (tries > 1 and reply.get("code") == "DUPLICATE_ORDER_ID"):
                    self.done.append(number)
                    break
                if status != 503 or "retry-after" not in headers or time.monotonic() > deadline:
                    self.wrong.append((number, status, reply))
                    return
                time.sleep(0.05)


def under_load(tmp_path: Path, command: Any, ready: str, path: str) -> list[Load]:
    """Loads a web server, kills its sidecar half-way and starts it again; every order stands exactly once then."""
    daemon, port = Daemon(tmp_path).ready(), free_port()
    try:
        with serving(command(port), port, ready, daemon.address, tmp_path / "web.log"):
            loads = [Load(port, path, account) for account in range(1, THREADS + 1)]
            for load in loads:
                load.thread.start()
            until(lambda: all(len(load.done) > ORDERS // 3 or load.wrong for load in loads), 60, "a third of the load")
            assert any(len(load.done) < ORDERS for load in loads), "the load was over before the kill"
            daemon.kill()
            time.sleep(0.3)
            daemon = Daemon(tmp_path).ready()
            for load in loads:
                load.thread.join(90)
            assert [load.wrong for load in loads] == [[]] * THREADS
            assert ask(port, "GET", ready)[0] == 200
            with ringlane.connect(daemon.address) as client:
                for load in loads:
                    assert load.done == list(range(1, ORDERS + 1))
                    standing = sorted(client.orders(load.account).orders["client_order_id"].tolist())
                    assert standing == load.done, "an order was lost or doubled"
                assert client.state().accepted == THREADS * ORDERS
        return loads
    finally:
        daemon.stop()


def test_flask_under_gunicorn_outlives_its_sidecar(tmp_path: Path) -> None:
    under_load(tmp_path, gunicorn, "/orders/1", "/ringlane/orders")


def test_fastapi_outlives_its_sidecar(tmp_path: Path) -> None:
    under_load(tmp_path, uvicorn, "/health", "/orders")


def test_flask_workers_share_one_book_of_the_sidecar(tmp_path: Path) -> None:
    daemon, port = Daemon(tmp_path).ready(), free_port()
    try:
        with serving(gunicorn(port), port, "/orders/1", daemon.address, tmp_path / "web.log"):
            workers, number = set(), 0
            while len(workers) < 2 and number < 500:
                number += 1
                status, reply, _ = ask(port, "POST", "/ringlane/orders", order(9, number))
                assert status == 200, reply
                workers.add(reply["worker"])
            assert len(workers) == 2
            assert ask(port, "GET", "/orders/9")[1]["client_order_ids"] == sorted(
                range(1, number + 1), key=lambda n: (-(n % 50), n)
            )
            status, reply, _ = ask(port, "POST", "/ringlane/orders", order(9, 1))
            assert (status, reply["code"]) == (422, "DUPLICATE_ORDER_ID")
            status, reply, _ = ask(port, "POST", "/ringlane/orders", order(9, 1) | {"price": "0.00001"})
            assert (status, "decimals" in reply["error"]) == (400, True)
            # The book in Python is each worker's own: the same id is new to the second worker that gets it.
            answers = Counter(ask(port, "POST", "/python/orders", order(9, 1))[0] for _ in range(200))
            assert answers[200] in (1, 2)
            assert answers[200] + answers[422] == 200
    finally:
        daemon.stop()


def test_fastapi_maps_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, so that the lane can be filled: reject 422, bad words 400, LaneFull 503, no sidecar 503, and back."""
    import uvicorn as server_module

    daemon, port = Daemon(tmp_path).ready(), free_port()
    monkeypatch.setenv("RINGLANE_SOCKET", daemon.address)
    monkeypatch.setenv("ORDERS_DEPTH", "64")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    sys.modules.pop("fastapi_app", None)
    import fastapi_app

    server = server_module.Server(server_module.Config(fastapi_app.app, port=port, log_level="warning"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    try:
        until(lambda: server.started, 20, "uvicorn's start")
        assert ask(port, "GET", "/health")[1]["sidecar"] == daemon.process.pid
        assert ask(port, "POST", "/orders", order(3, 1))[1]["state"] == "RESTING"
        status, reply, _ = ask(port, "POST", "/orders", order(3, 1))
        assert (status, reply["code"]) == (422, "DUPLICATE_ORDER_ID")
        assert ask(port, "POST", "/orders", order(3, 2) | {"side": "SIDEWAYS"})[0] == 400
        lane = fastapi_app.app.state.desk.lane
        held = lane.submit(lane.batch(op="CANCEL", symbol="AAPL", account=3, client_order_id=list(range(100, 164))))
        held.result(20)  # done, so only this ticket holds the slots
        status, reply, headers = ask(port, "POST", "/orders", order(3, 2))
        assert status == 503, reply
        assert headers["retry-after"] == "1"
        del held
        assert ask(port, "POST", "/orders", order(3, 2))[0] == 200
        daemon.kill()
        deadline = time.monotonic() + 30
        while (found := ask(port, "GET", "/health"))[0] == 200 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert found[0] == 503, found
        assert found[2]["retry-after"] == "1"
        daemon = Daemon(tmp_path).ready()
        until(lambda: ask(port, "GET", "/health")[0] == 200, 30, "the way back")
        assert ask(port, "POST", "/orders", order(3, 2))[1]["code"] == "DUPLICATE_ORDER_ID"
    finally:
        server.should_exit = True
        thread.join(20)
        daemon.stop()
