"""The demo, as `make run` calls it: small runs through a real sidecar, its table, its JSON, its refusals."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lobster_made import make_day
from ringlane import demo
from ringlane.demo_worker import WorkerPlan
from ringlane.flow import BLOCK_RECORDS, OrderFlow
from ringlane.sidecar import Sidecar, find_binary


def run_demo(*arguments: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ringlane.demo", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**os.environ, **environment}, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def replayed(journal: Path) -> dict[str, Any]:
    done = subprocess.run([find_binary(), "replay", "--json", str(journal)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_two_workers_get_what_the_flow_planned(tmp_path: Path) -> None:
    journal = tmp_path / "recording"
    orders = 2 * BLOCK_RECORDS + 5001
    done = run_demo("--orders", str(orders), "--batch", "1000", "--seed", "7", "--journal", str(journal), "--json")
    answer = json.loads(done.stdout)
    assert answer["as_planned"] is True
    assert (answer["orders"], answer["workers"]) == (orders, 2)
    assert answer["accepted"] + sum(answer["rejected"].values()) == orders
    shares = [orders // 2, orders - orders // 2]
    planned = [OrderFlow(7, worker=worker, workers=2).expected(share) for worker, share in enumerate(shares)]
    assert answer["trades"] == answer["maker_events"] == answer["state"]["trades"] == planned[0][1] + planned[1][1]
    assert answer["rejected"] == dict(planned[0][0] + planned[1][0])
    for times in (answer["single_round_trip_ns"], answer["batch_round_trip_ns"]):
        assert 0 < times["p50"] <= times["p99"] <= times["p99.9"]
    assert answer["recording_bytes"] >= orders * 64
    assert replayed(journal)["state_hash"] == answer["state"]["state_hash"]


def test_the_table_on_a_dumb_terminal(tmp_path: Path) -> None:
    done = run_demo("--orders", "20000", "--workers", "1", "--journal", str(tmp_path / "recording"), TERM="dumb")
    first_words = [line.split()[0] for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert first_words == [
        "orders",
        "throughput",
        "round",
        "accepted",
        "rejected",
        "trades",
        "state",
        "recording",
        "replay",
    ]
    assert "as the flow planned" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    assert "100%  20,000 of 20,000 orders" in done.stderr


def test_more_workers_than_symbols_meet_in_one_book(tmp_path: Path) -> None:
    config = {"orders": {"instruments": [{"name": "ONE", "price_decimals": 4, "tick": 100, "lot": 1}]}}
    with Sidecar(journal=tmp_path / "recording", config=config) as sidecar:
        plans = [WorkerPlan(sidecar.address, 1, worker, 2, 1, 5000, 100) for worker in range(2)]
        results = demo._workers(plans)
    assert [sum(result.codes) for result in results] == [5000, 5000]
    # Whoever ends first does not see what the other then does to its orders.
    assert 500 < sum(result.events for result in results) <= sum(result.fills for result in results)


def test_a_dying_worker_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match=r"worker 0: SidecarUnavailable"):
        demo._workers([WorkerPlan("/nowhere/ringlane.sock", 1, 0, 1, 64, 5000, 100)])


def test_earlier_recordings_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Cargo.toml").touch()
    (tmp_path / "layout").mkdir()
    for name in ("20200101-000000-1", "20200102-000000-1", "kept"):
        (tmp_path / "target/run" / name).mkdir(parents=True)
    assert demo._journal_place().parent == Path("target/run")
    assert sorted(path.name for path in (tmp_path / "target/run").iterdir()) == ["20200102-000000-1", "kept"]
    with pytest.raises(OSError, match="MB left"):
        demo._make_room(tmp_path / "journal", 1 << 50)


def test_a_lobster_day(tmp_path: Path) -> None:
    day = make_day(tmp_path / "day.zip", 1, 5, messages=800)
    journal = tmp_path / "recording"
    done = run_demo("--lobster", str(day), "--journal", str(journal))
    assert replayed(journal)["state_hash"] in done.stdout
    assert "MADE 2020-01-02, 5 levels" in done.stdout
    assert "(100.000%)" in done.stdout


def test_what_cannot_be_is_said_in_words(tmp_path: Path) -> None:
    for wrong in (("--orders", "0"), ("--workers", "1000"), ("--batch", "70000"), ("--seed", "-1")):
        assert f"{wrong[0]}" in run_demo(*wrong, code=2).stderr
    (tmp_path / "bad.zip").write_text("no zip")
    said = run_demo("--lobster", str(tmp_path / "bad.zip"), code=2).stderr
    assert "not a readable zip file" in said
    assert "Traceback" not in said


def test_another_outcome_than_planned_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = OrderFlow.expected

    def one_trade_more(self: OrderFlow, count: int) -> tuple:
        rejects, fills = real(self, count)
        return rejects, fills + 1

    monkeypatch.setattr(OrderFlow, "expected", one_trade_more)
    assert demo.main(["--orders", "1000", "--workers", "1", "--journal", str(tmp_path / "recording")]) == 1
    assert "NOT WHAT THE FLOW PLANNED" in capsys.readouterr().out


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_and_a_log_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    terminal, log = Terminal(), io.StringIO()
    for stream in (terminal, log):
        bar = demo.Progress("orders", stream)
        bar.show(1, 100)
        bar.show(100, 100)
    assert terminal.getvalue().startswith("\r\x1b[K[" + "#" * demo.Progress.BAR_WIDTH + "] 100%")
    assert log.getvalue().startswith("100%  100 of 100 orders")
    monkeypatch.setenv("TERM", "dumb")
    dumb = Terminal()
    demo.Progress("orders", dumb).show(5, 5)
    assert "\x1b" not in dumb.getvalue()
