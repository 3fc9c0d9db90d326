"""Threads, asyncio, forks, Ctrl-C, and sidecars that end."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest
import ringlane
from daemon import freeze

Order = Callable[..., np.ndarray]


def in_child(work: Callable[[], None]) -> None:
    """Runs `work` in a forked child and fails when it fails there."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            os.write(writer, repr(error).encode()[:4000])
            os._exit(1)
    os.close(writer)
    deadline = time.monotonic() + 30
    while (done := os.waitpid(child, os.WNOHANG)) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pytest.fail("the child hangs")
        time.sleep(0.005)
    words = os.read(reader, 4000).decode()
    os.close(reader)
    assert done[1] == 0, words


def test_threads_share_a_lane(lane: ringlane.Lane, order: Order, seed: int) -> None:
    rng = np.random.default_rng(seed)
    wrong: list[object] = []
    sizes = rng.integers(1, 20, (8, 50))

    def work(number: int) -> None:
        try:
            for step, size in enumerate(sizes[number]):
                base = 10_000_000 * (number + 1) + 1000 * step
                ids = np.arange(base, base + size)
                result = lane.process(order(int(size), client_order_id=ids, account=number + 20))
                if not (result["client_order_id"] == ids).all() or result["code"].any():
                    wrong.append((ids, result.copy()))
                del result
                answer = lane.call(2, 0, 0, 0, 1, number + 20, 0, int(ids[0]))
                if answer[2] != ids[0] or answer[7] != 0:
                    wrong.append(answer)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong


def test_tickets_are_awaited(lane: ringlane.Lane, order: Order) -> None:
    async def main() -> None:
        async def one(number: int) -> None:
            for _ in range(20):
                batch = order(3)
                result = await lane.submit(batch)
                assert (result["client_order_id"] == batch["client_order_id"]).all()

        await asyncio.wait_for(asyncio.gather(*(one(number) for number in range(5))), 30)

    asyncio.run(main())
    asyncio.run(main())  # a second loop in the same client


def test_loops_that_ended_are_let_go(lane: ringlane.Lane, order: Order) -> None:
    async def main() -> None:
        await asyncio.gather(*[lane.submit(order()) for _ in range(8)])

    def open_files() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    asyncio.run(main())
    before = open_files()
    for _ in range(30):
        asyncio.run(main())
    assert open_files() == before


def test_loops_in_threads_and_plain_waits_share_one_socket(lane: ringlane.Lane, order: Order) -> None:
    errors: list[BaseException] = []

    async def awaiting() -> None:
        for _ in range(100):
            await lane.submit(order(2))

    def run(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    def waiting() -> None:
        for _ in range(100):
            lane.process(order(2))

    work = [lambda: asyncio.run(asyncio.wait_for(awaiting(), 30)), waiting] * 2
    threads = [threading.Thread(target=run, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors


def test_events_are_awaited(sidecar: ringlane.Sidecar, lane: ringlane.Lane, order: Order) -> None:
    lane.process(order(1, symbol="MSFT", price="10", side="SELL", account=31))

    async def main() -> np.ndarray:
        waiting = asyncio.ensure_future(lane.events_async(10))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        with ringlane.connect(sidecar.address) as other, other.open("orders", depth=64) as taker:
            buy = taker.batch(symbol="MSFT", price="10", side="BUY", account=32, client_order_id=1, quantity=1)
            assert taker.process(buy)["filled_quantity"][0] == 1
        return await waiting

    events = asyncio.run(main())
    assert [ringlane.EventKind(kind).name for kind in events["kind"]] == ["FILL"]

    async def none_comes() -> int:
        return len(await lane.events_async(0.05))

    assert asyncio.run(none_comes()) == 0


def test_a_cancelled_await_leaves_the_lane_whole(lane: ringlane.Lane, sidecar: ringlane.Sidecar, order: Order) -> None:
    batch = order(1)

    async def main() -> None:
        freeze(sidecar.pid)
        try:
            ticket = lane.submit(batch)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(_result(ticket), 0.1)
            assert not ticket.done()
        finally:
            os.kill(sidecar.pid, signal.SIGCONT)
        assert len(await ticket) == 1

    async def _result(ticket: ringlane.Ticket) -> np.ndarray:
        return await ticket

    asyncio.run(main())


def test_timeouts_of_a_stopped_sidecar(lane: ringlane.Lane, sidecar: ringlane.Sidecar, order: Order) -> None:
    one, many = order(1), order(64)
    freeze(sidecar.pid)
    try:
        ticket = lane.submit(one)
        begin = time.monotonic()
        with pytest.raises(TimeoutError):
            ticket.result(0.2)
        assert 0.19 < time.monotonic() - begin < 10
        with pytest.raises(TimeoutError):
            lane.submit(many, timeout=0.05)
    finally:
        os.kill(sidecar.pid, signal.SIGCONT)
    assert ticket.result(10)["code"][0] == 0


@pytest.mark.parametrize(
    "wait", ["lane.call(2, 0, 0, 0, 1, 7)", "lane.process(batch)", "lane.submit(many)", "lane.events(None)"]
)
def test_ctrl_c_ends_a_blocked_wait(wait: str) -> None:
    program = f"""
import os, signal, sys, ringlane
with ringlane.Sidecar() as sidecar:
    client = ringlane.connect(sidecar.address)
    lane = client.open("orders", depth=64)
    batch = lane.batch(symbol="AAPL", side="BUY", account=7, client_order_id=1, price=1500000, quantity=1)
    many = batch.repeat(64)
    lane.process(batch)
    os.kill(sidecar.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, sidecar.pid, os.WSTOPPED | os.WNOWAIT)
    if "many" in {wait!r}: lane.submit(batch)
    print("waiting", flush=True)
    try:
        {wait}
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    finally:
        os.kill(sidecar.pid, signal.SIGCONT)
    assert len(lane.process(batch, timeout=10)) == 1
    print("works on", flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        time.sleep(0.2)
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        assert time.monotonic() - begin < 1
        assert process.stdout.readline() == "works on\n"
        assert process.wait(20) == 0


def test_a_forked_child_cannot_use_its_parents_lane(lane: ringlane.Lane, client: ringlane.Client, order: Order) -> None:
    results = lane.process(order(2))
    ticket = lane.submit(order(2))
    reservation = lane.reserve(1)
    with reservation as slots:
        slots[:] = order(1)

        def child() -> None:
            for attempt in (
                lambda: lane.call(2),
                lambda: lane.process(order(1)),
                lambda: lane.reserve(1).__enter__(),
                lambda: ticket.result(),
                lambda: lane.events(),
                lambda: client.state(),
                lambda: client.open("orders"),
            ):
                with pytest.raises(ringlane.SidecarLost, match=r"belongs to process .* use ringlane.shared"):
                    attempt()
            assert not results["sequence"].any()  # private zeros, not the parent's slots
            slots["price"] = 1

        in_child(child)
    assert reservation.ticket.result(5)["code"][0] == 0
    assert results["sequence"].all()
    assert len(ticket.result(5)) == 2
    assert lane.call(2, 0, 0, 0, 1, 7)[7] == ringlane.RejectCode.UNKNOWN_ORDER_ID


def test_a_child_does_not_close_descriptors_that_are_somebody_elses(lane: ringlane.Lane) -> None:
    def child() -> None:
        nonlocal lane
        files = [os.open("/dev/null", os.O_RDONLY) for _ in range(64)]
        lane = None  # type: ignore[assignment]
        import gc

        gc.collect()
        for file in files:
            os.fstat(file)

    in_child(child)


def test_shared_serves_a_preloading_forking_server(sidecar: ringlane.Sidecar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGLANE_SOCKET", sidecar.address)
    master = ringlane.shared()
    assert master is ringlane.shared()
    assert master.state().sequence >= 0

    def worker() -> None:
        client = ringlane.shared()
        assert client is not master
        assert client is ringlane.shared()
        lane = client.open("orders", depth=64, timeout=10)
        assert lane.call(2, 0, 0, 0, 1, 7)[7] == ringlane.RejectCode.UNKNOWN_ORDER_ID

    for _ in range(3):
        in_child(worker)
    assert master is ringlane.shared()
    assert master.state().sequence > 0
    master.close()
    fresh = ringlane.shared()
    assert fresh is not master
    fresh.close()


def test_a_killed_sidecar_is_seen_by_everybody_who_waits() -> None:
    with ringlane.Sidecar() as mine:
        client = ringlane.connect(mine.address)
        lane = client.open("orders", depth=64)
        before = lane.process(lane.batch(op="CANCEL", symbol="AAPL", account=7))
        freeze(mine.pid)
        seen: list[type] = []

        def run(work: Callable[[], object]) -> None:
            try:
                work()
            except ringlane.SidecarLost:
                seen.append(ringlane.SidecarLost)

        async def awaiting() -> None:
            await lane.submit(lane.batch(op="CANCEL", symbol=1, account=7))

        ticket = lane.submit(lane.batch(op="CANCEL", symbol=1, account=7))
        waits = [lambda: lane.call(2), ticket.result, lambda: lane.events(None), lambda: asyncio.run(awaiting())]
        threads = [threading.Thread(target=run, args=(wait,)) for wait in waits]
        for thread in threads:
            thread.start()
        time.sleep(0.1)
        begin = time.monotonic()
        mine.kill()
        for thread in threads:
            thread.join(5)
        assert len(seen) == len(waits)
        assert time.monotonic() - begin < 1
        assert before["code"][0] == ringlane.RejectCode.UNKNOWN_ORDER_ID
        for attempt in (lambda: lane.call(2), lambda: lane.reserve(1).__enter__(), client.state):
            with pytest.raises(ringlane.SidecarLost):
                attempt()
        client.close()


def test_a_private_sidecar_ends_with_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RINGLANE_SOCKET", raising=False)
    client = ringlane.connect()
    if client.sidecar is None:
        pytest.skip("this host has a sidecar of its own")
    pid, directory = client.sidecar.pid, os.path.dirname(client.sidecar.address)
    assert os.path.exists(f"/proc/{pid}")
    client.close()
    client.close()
    assert not os.path.exists(f"/proc/{pid}")
    assert not os.path.exists(directory)
    with pytest.raises(ringlane.RinglaneError, match="closed"):
        client.state()


def test_a_closed_lane_says_so(client: ringlane.Client, order: Order, lane: ringlane.Lane) -> None:
    results = lane.process(order(1))
    batch = order(1)
    lane.close()
    lane.close()
    for attempt in (
        lambda: lane.call(2),
        lambda: lane.process(batch),
        lambda: lane.reserve(1).__enter__(),
        lane.events,
    ):
        with pytest.raises((ringlane.RinglaneError), match=r"closed"):
            attempt()
    assert results["code"][0] == 0
    again = client.open("orders", depth=64)
    assert again.number != lane.number
    with pytest.raises(ringlane.RinglaneError, match="LANE_EXISTS"):
        client.open("orders")
    client.close()
    with pytest.raises(ringlane.RinglaneError, match="closed"):
        again.call(2)
    with pytest.raises(ringlane.RinglaneError, match="closed"):
        client.open("orders")
