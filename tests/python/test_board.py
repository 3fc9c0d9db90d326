"""What is seen from outside: stats from Python, status, doctor, top in a real terminal, and boards that dead sidecars left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ringlane
from daemon import BINARY, Daemon, freeze, until
from plain_client import PlainClient
from ringlane.stats import Board


def test_stats_read_the_board_without_asking(sidecar):
    with ringlane.connect(sidecar.address, name="reader") as client, client.open("orders", depth=64) as lane:
        held = lane.process(lane.batch(op="CANCEL", symbol="AAPL", account=1, client_order_id=list(range(1, 41))))
        mine = [row for row in client.stats()["lanes"] if row["lane"] == lane.number]
        assert [row["name"] for row in mine] == ["reader"]

        def row() -> dict:
            return next(row for row in client.stats()["lanes"] if row["lane"] == lane.number)

        until(lambda: row()["completed"] == 40, what="the board's row")
        assert (row()["depth"], row()["in_flight"], row()["held"], row()["kernel"]) == (64, 0, 40, "orders")
        messages = client.stats()["control"]["messages"]
        assert client.stats()["control"]["messages"] == messages, "reading the board asked the sidecar"
        stats = client.stats()
        assert stats["header"]["pid"] == client.pid
        assert stats["header"]["address"] == sidecar.address
        assert stats["stages"]["kernel"]["count"] >= 0
        border = stats["border"]["orders"]
        assert (border["batches"], border["records"], border["waits"], border["reads"]) == (1, 40, 1, 1)
        assert min(border["fill_ns"], border["wait_ns"], border["read_ns"]) > 0
        del held
    client.close()


def test_a_frozen_sidecar_is_looked_at_and_hears_of_nothing(tmp_path):
    """A process that stands makes no system call: fifty looks at it need none, and none is waiting for it when it goes on."""
    daemon = Daemon(tmp_path).ready()
    with ringlane.connect(daemon.address) as client, client.open("orders", depth=64) as lane:
        for _ in range(20):
            lane.process(lane.batch(op="CANCEL", symbol="AAPL", account=1, client_order_id=[1, 2]), copy=True)
        until(lambda: daemon.status()["lanes"][0]["completed"] == 40, what="the board's row")
        asked, tasks = client.stats()["control"], list(Path(f"/proc/{daemon.process.pid}/task").iterdir())
        freeze(daemon.process.pid)
        try:

            def switches() -> list[list[str]]:
                """How often each thread slept or was put aside, and what signals wait for it: all that could make it act."""
                words = (task.joinpath("status").read_text().splitlines() for task in tasks)
                names = ("State", "voluntary_ctxt", "nonvoluntary_ctxt", "SigPnd", "ShdPnd")
                return [[line for line in lines if line.startswith(names)] for lines in words]

            before = switches()
            assert len(before) >= 3
            assert all(lines[0].split()[1] == "T" for lines in before)
            for _ in range(50):
                status = daemon.status()
                assert (status["lanes"][0]["completed"], status["health"] in ("healthy", "stalled")) == (40, True)
            assert switches() == before
        finally:
            daemon.process.send_signal(signal.SIGCONT)
        until(lambda: daemon.status()["health"] == "healthy", 10, "its recovery")
        after = client.stats()["control"]
        assert (after["connections"], after["messages"]) == (asked["connections"], asked["messages"])
        assert len(lane.process(lane.batch(op="CANCEL", symbol="AAPL", account=1, client_order_id=[1]), copy=True)) == 1
    assert daemon.stop() == 0


def test_a_torn_row_is_never_given_out(sidecar, tmp_path):
    """A writer at full speed, each field of a row the same number, until so many different rows were read."""
    with ringlane.connect(sidecar.address) as client:
        copy = Path("/dev/shm") / f"{client.board}-torn-{os.getpid()}"
        shutil.copyfile(Path("/dev/shm") / client.board, copy)
    try:
        board = Board(copy.name)
        table = next(table for table in board._schema["tables"] if table["name"] == "lane")
        writer = subprocess.Popen([sys.executable, "-c", WRITER, copy, str(table["offset"]), str(table["row_bytes"])])
        try:
            numbers, seen, torn = [name for name, _, _, kind in table["fields"] if kind != "text"], set(), 0
            until_seen = time.monotonic() + 60
            while len(seen) < 2_000 or torn == 0:
                assert time.monotonic() < until_seen, f"{len(seen)} rows, {torn} of them met by the writer"
                raw = board._map[table["offset"] : table["offset"] + table["row_bytes"]]
                torn += len(set(struct.unpack("<31Q", raw[8:]))) > 1
                row = board._row(table, 0)
                if row is not None:
                    assert len({row[name] for name in numbers}) == 1, f"a torn row: {row}"
                    seen.add(row["lane"])
        finally:
            writer.kill()
            writer.wait()
    finally:
        copy.unlink()


WRITER = """
import mmap, random, struct, sys
path, offset, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with open(path, "r+b") as file:
    board = mmap.mmap(file.fileno(), 0)
version, words = struct.Struct("@Q"), size // 8 - 1
rows = [struct.pack("<Q", number) * words for number in range(1, 50_000)]
at = 0
while True:
    for row in rows:
        version.pack_into(board, offset, at + 1)
        middle = random.randrange(1, words) * 8
        board[offset + 8 : offset + 8 + middle] = row[:middle]
        board[offset + 8 + middle : offset + size] = row[middle:]
        at += 2
        version.pack_into(board, offset, at)
        for _ in range(random.randrange(30)):
            pass
"""


def held(client: ringlane.Client, lane: ringlane.Lane) -> int:
    return next(row["held"] for row in client.stats()["lanes"] if row["lane"] == lane.number)


@pytest.mark.parametrize("kernel", ["orders", "digests"])
def test_a_quiet_client_holds_what_its_arrays_hold(sidecar, kernel):
    with ringlane.connect(sidecar.address) as client:
        if kernel == "orders":
            lane = client.open("orders", depth=64)
            batch = lane.batch(op="CANCEL", symbol="AAPL", account=1, client_order_id=list(range(1, 11)))

            def submit():
                return lane.submit(batch)
        else:
            lane = client.open("digests", depth=64)

            def submit():
                return lane.submit([b"x"] * 10)

        first, second = submit(), submit()
        arrays = first.result(), second.result()
        del first, second
        until(lambda: held(client, lane) == 20, 3, "what both arrays hold")
        arrays = arrays[0]
        until(lambda: held(client, lane) == 20, 3, "slots behind the ones that are held")
        del arrays
        until(lambda: held(client, lane) == 0, 3, "what nobody holds, without another word of the client")
        submit()
        until(lambda: held(client, lane) == 0 and lane.in_flight == 0, 3, "a ticket that was dropped at once")
        lane_row = next(row for row in client.stats()["lanes"] if row["lane"] == lane.number)
        assert lane_row["completed"] == lane_row["released"] == 30


def test_calls_hold_nothing_and_are_counted(sidecar):
    with ringlane.connect(sidecar.address) as client, client.open("orders", depth=1024) as lane:
        for number in range(200):
            lane.call(2, 0, 0, 0, 1, 1, 0, number)
        until(lambda: held(client, lane) == 0, 3, "calls hold nothing once they are answered")
        border = client.stats()["border"]["orders"]
        assert (border["calls"], border["calls_timed"], border["batches"]) == (200, 3, 0)
        parts = [border[name] for name in ("call_fill_ns", "call_wait_ns", "call_read_ns")]
        assert all(0 < part < 1_000_000_000 for part in parts)
        reservation = lane.reserve(5)
        with reservation as slots:
            slots[:] = lane.batch(op="CANCEL", symbol="AAPL", account=1, client_order_id=list(range(5)))
            time.sleep(0.01)
        reservation.ticket.result()
        assert (lane.border.batches, lane.border.records, lane.border.waits) == (1, 5, 1)
        assert lane.border.fill_ns >= 10_000_000
        del reservation, slots
    assert client.stats()["border"]["orders"]["calls"] == 200, "what a closed lane counted stays counted"


def test_the_age_of_what_a_job_lane_holds(sidecar):
    with ringlane.connect(sidecar.address) as client, client.open("digests", depth=64) as lane:
        digests = lane.digest([b"x"] * 3)
        begin = time.monotonic_ns()

        def age_ns() -> int:
            status = subprocess.run(
                [BINARY, "status", "--address", sidecar.address, "--json"], capture_output=True, text=True, timeout=20
            )
            return next(row["held_ns"] for row in json.loads(status.stdout)["lanes"] if row["lane"] == lane.number)

        time.sleep(1.5)
        if held(client, lane):
            assert 0 < age_ns() < 2 * (time.monotonic_ns() - begin) + 2_000_000_000
        else:
            assert age_ns() == 0
        del digests


def test_no_room_is_counted_however_it_was_asked_for(sidecar):
    with ringlane.connect(sidecar.address) as client:
        lane = client.open("orders", depth=64, timeout=0)
        batch = lane.batch(op="CANCEL", symbol="AAPL", account=1, client_order_id=list(range(64)))
        held = lane.process(batch, timeout=20)

        def call() -> None:
            lane.call(2, 0, 0, 0, 1, 1, 0, 1)

        def reserve() -> None:
            with lane.reserve(1, on_full="raise"):
                pass

        ways = [
            call,
            reserve,
            lambda: lane.submit(batch, on_full="raise"),
            lambda: lane.process(batch, on_full="raise"),
        ]
        for count, way in enumerate(ways, start=1):
            with pytest.raises(ringlane.LaneFull):
                way()
            assert lane.border.lane_full == client.stats()["border"]["orders"]["lane_full"] == count
        del held
        # Digests: the slots are room, and so is the arena.
        digests = client.open("digests", depth=64, arena_bytes=1 << 16, timeout=0)
        arrays = digests.process([b"x"] * 64, timeout=20)
        with pytest.raises(ringlane.LaneFull, match="slots"):
            digests.submit([b"y"], on_full="raise")
        assert digests.border.lane_full == 1
        with pytest.raises(ringlane.LaneFull):
            digests.submit([b"y"], timeout=0)
        assert digests.border.lane_full == 2
        del arrays
        kept = digests.arena(1 << 16, timeout=20)
        with pytest.raises(ringlane.LaneFull, match="arena"):
            digests.submit([b"z"], on_full="raise")
        with pytest.raises(ringlane.LaneFull, match="arena"):
            digests.arena(1, timeout=0)
        assert digests.border.lane_full == 4
        del kept
        assert client.stats()["border"]["digests"]["lane_full"] == 4


def test_stats_and_status_agree(sidecar):
    with ringlane.connect(sidecar.address) as client, client.open("orders", depth=1024) as lane:
        for _ in range(20):
            lane.process(lane.batch(op="CANCEL", symbol="AAPL", account=1, client_order_id=list(range(1, 257))))
        seen: list[dict] = []

        def settled() -> bool:
            """Whether nothing moved between two looks of one and a look of the other."""
            done = subprocess.run(
                [BINARY, "status", "--address", sidecar.address, "--json"], capture_output=True, text=True, timeout=20
            )
            before, status, after = client.stats(), json.loads(done.stdout), client.stats()
            seen[:] = [status, after]
            same = all(before[name] == after[name] for name in ("kernels", "stages"))
            done_here = [row["completed"] for row in after["lanes"] if row["lane"] == lane.number]
            return same and done_here == [20 * 256] and after["stages"]["end_to_end"]["count"] > 0

        until(settled, 10, "a board that stands")
        status, stats = seen
        for name in ("count", "p50_ns", "p99_ns", "max_ns", "sum_ns"):
            assert status["stages"]["kernel"][name] == pytest.approx(stats["stages"]["kernel"][name], rel=0.02), name
        assert status["stages"]["end_to_end"]["count"] > 0
        assert [row["requests"] for row in status["kernels"]] == [row["requests"] for row in stats["kernels"]]
        assert len(status["config_hash"]) == 16


def test_times_are_within_what_the_clock_allows(tmp_path):
    daemon = Daemon(tmp_path).ready()
    start = time.monotonic_ns()
    with ringlane.connect(daemon.address) as client, client.open("orders", depth=1024) as lane:
        for _ in range(50):
            lane.process(lane.batch(op="CANCEL", symbol="AAPL", account=1, client_order_id=list(range(1, 257))))
        took = time.monotonic_ns() - start
        until(lambda: daemon.status()["stages"]["end_to_end"]["count"] > 10, what="the board's times")
        stages = daemon.status()["stages"]
        whole = stages["end_to_end"]
        assert whole["count"] > 10
        assert whole["sum_ns"] <= took * 1.1, "times of batches that followed each other are longer than all of it"
        parts = ("journal_append", "kernel", "result_write")
        assert 0 < sum(stages[part]["sum_ns"] for part in parts) <= took
    assert daemon.stop() == 0


def test_a_stopped_sidecar_is_seen_as_stalled(tmp_path):
    daemon = Daemon(tmp_path).ready()
    freeze(daemon.process.pid)
    try:
        until(lambda: daemon.status()["health"] == "stalled", 30, "the stall")
        assert daemon.status_process().returncode == 1
    finally:
        daemon.process.send_signal(signal.SIGCONT)
    until(lambda: daemon.status()["health"] == "healthy", 10, "its recovery")
    assert daemon.stop() == 0


def test_boards_of_killed_sidecars_go_with_the_next_start(tmp_path):
    (tmp_path / "dead").mkdir()
    (tmp_path / "next").mkdir()
    daemon = Daemon(tmp_path / "dead", "--embedded")
    until(lambda: Path(daemon.address).exists(), 20, "start")
    until(lambda: connects(daemon), 20, "listening")
    board = Path("/dev/shm") / PlainClient(daemon.address).info["board"]
    daemon.kill()
    shutil.rmtree(tmp_path / "dead")
    assert board.exists()
    after = Daemon(tmp_path / "next").ready()
    assert not board.exists()
    assert after.stop() == 0


_clients = []


def connects(daemon: Daemon) -> bool:
    try:
        _clients.append(PlainClient(daemon.address))
    except OSError:
        return False
    return True


def doctor(*words: str) -> tuple[int, dict[str, dict[str, str]]]:
    done = subprocess.run([BINARY, "doctor", "--json", *words], capture_output=True, text=True, timeout=30)
    return done.returncode, {finding["topic"]: finding for finding in json.loads(done.stdout)}


def test_the_doctor_finds_what_is_wrong_and_says_what_to_do(tmp_path):
    code, findings = doctor("--address", str(tmp_path / "nothing"), "--journal", str(tmp_path / "nowhere"))
    assert code == 2
    assert findings["socket"]["grade"] == "bad"
    assert findings["journal disk"]["grade"] == "bad"
    assert all(finding["remedy"] for finding in findings.values() if finding["grade"] != "fine")
    assert all(findings[topic]["grade"] == "fine" for topic in ("kernel", "memory seals", "process ends"))
    daemon = Daemon(tmp_path).ready()
    code, findings = doctor("--address", daemon.address, "--journal", daemon.journal)
    assert {findings[topic]["grade"] for topic in ("socket", "sidecar", "versions")} == {"fine"}
    daemon.kill()
    code, findings = doctor("--address", daemon.address)
    assert code == 2
    assert "leftover" in findings["socket"]["words"]
    assert "dead" in findings["sidecar"]["words"]
    Daemon(tmp_path).ready().stop()


class Terminal:
    """A real terminal, by a tmux server of its own."""

    def __init__(self, directory: Path, command: str, width: int, height: int) -> None:
        self.socket = str(directory / "tmux")
        self("-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y", str(height), command)

    def __call__(self, *words: str) -> str:
        done = subprocess.run(["tmux", "-S", self.socket, *words], capture_output=True, text=True, timeout=20)
        return done.stdout

    def screen(self) -> str:
        return self("capture-pane", "-p")

    def shows(self, words: str, seconds: float = 15.0) -> str:
        until(lambda: words in self.screen(), seconds, f"{words!r} on the screen")
        return self.screen()


@pytest.fixture
def terminal(tmp_path, sidecar) -> Iterator[Terminal]:
    command = f"{BINARY} top --interval-ms 100 --address {sidecar.address}; echo it ended with $?; sleep 60"
    opened = Terminal(tmp_path, command, 130, 40)
    yield opened
    opened("kill-server")


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
def test_top_shows_sorts_filters_resizes_and_quits(terminal, sidecar):
    with (
        ringlane.connect(sidecar.address, name="busy one") as busy,
        ringlane.connect(sidecar.address, name="holder") as holder,
    ):
        lane, other = busy.open("orders", depth=1024), holder.open("orders", depth=64)
        orders = lane.batch(op="CANCEL", symbol="AAPL", account=1, client_order_id=list(range(1, 257)))
        held = other.process(other.batch(op="CANCEL", symbol="AAPL", account=1, client_order_id=[1, 2, 3]))

        def work_until(words: str) -> str:
            def seen() -> bool:
                lane.process(orders, copy=True)
                return words in terminal.screen()

            until(seen, 15, f"{words!r} on the screen")
            return terminal.screen()

        screen = work_until("holder")
        for words in (
            "healthy",
            sidecar.address,
            "throughput",
            "end_to_end",
            "p99.9",
            "q quit",
            "busy one",
            "pool jobs",
        ):
            assert words in screen, screen
        until(lambda: order_of(work_until("busy one")) == ["busy one", "holder"], 15, "the order by load")
        for name in ("in flight", "held", "held for"):
            terminal("send-keys", "s")
            terminal.shows(f"sort: {name}")
        until(lambda: order_of(terminal.screen())[0] in ("holder", "busy one"), 15, "the order")
        terminal("send-keys", "/")
        terminal("send-keys", "hold")
        terminal.shows("filter: hold")
        until(lambda: order_of(terminal.screen()) == ["holder"], 15, "the filter")
        terminal("send-keys", "Enter")
        terminal("resize-window", "-x", "72", "-y", "10")
        until(lambda: "end_to_end" not in terminal.screen() and "q quit" in terminal.screen(), 15, "the small screen")
        terminal("resize-window", "-x", "130", "-y", "40")
        terminal.shows("end_to_end")
        terminal("send-keys", "q")
        screen = terminal.shows("it ended with 0")
        assert "end_to_end" not in screen, "the terminal was not given back as it was"
        del held


def order_of(screen: str) -> list[str]:
    return [name for line in screen.splitlines() for name in ("busy one", "holder") if line.rstrip(" │").endswith(name)]
