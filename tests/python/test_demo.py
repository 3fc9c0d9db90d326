"""The demo, as `make run` calls it: small runs through a real sidecar, its table, its JSON, its refusals."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from lobster_made import make_day
from ringlane import demo
from ringlane.flow import BLOCK_RECORDS, OrderFlow


def run_demo(*arguments: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ringlane.demo", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={**os.environ, **environment}, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


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
    assert any(journal.iterdir())
    assert len(answer["state"]["state_hash"]) == 16


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
    ]
    assert "as the flow planned" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    assert "100%  20,000 of 20,000 orders" in done.stderr


def test_a_lobster_day(tmp_path: Path) -> None:
    day = make_day(tmp_path / "day.zip", 1, 5, messages=800)
    done = run_demo("--lobster", str(day), "--journal", str(tmp_path / "recording"))
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
