"""The log: its forms, its level while it runs, and that orders leave no line in it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import ringlane
from daemon import BINARY, Daemon, until


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    running = Daemon(tmp_path, config='[log]\nformat = "json"\nlevel = "trace"\n').ready()
    yield running
    running.stop()


def test_json_lines_have_fields(daemon: Daemon) -> None:
    with ringlane.connect(daemon.address, name="desk") as client, client.open("orders", depth=128):
        lines = [json.loads(line) for line in daemon.words().splitlines()]
    [opened] = [line for line in lines if line["message"] == "lane open"]
    assert (opened["level"], opened["kernel"], opened["depth"]) == ("INFO", "orders", 128)
    assert opened["target"].startswith("ringlane_sidecar::")
    assert opened["timestamp"]


def test_orders_leave_no_line(daemon: Daemon) -> None:
    with ringlane.connect(daemon.address) as client:
        lane = client.open("orders", depth=64)
        sell = lane.batch(symbol=1, side="SELL", account=1, client_order_id=1, price=1_000_000, quantity=1)
        lane.process(sell, copy=True)
        before = daemon.words()
        for number in range(2, 1002):
            sell["client_order_id"] = number
            lane.process(sell, copy=True)
        assert daemon.words() == before
        assert client.state().resting == 1001


def test_the_level_changes_while_it_runs(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, config='[log]\nlevel = "info"\n').ready()
    try:
        assert "lane open" not in daemon.words()
        ringlane.connect(daemon.address).close()
        until(lambda: "client gone" in daemon.words(), what="the line of a client that is gone")
        assert "log.level from info to warn,ringlane_sidecar::control::reload=info" in daemon.reload(
            '[log]\nlevel = "warn,ringlane_sidecar::control::reload=info"\n'
        )
        before = daemon.words()
        with ringlane.connect(daemon.address) as client:
            client.open("orders", depth=64)
        assert daemon.words() == before
        assert '"wran" is no level' in daemon.reload('[log]\nlevel = "wran"\n')
        daemon.reload('[log]\nlevel = "info"\n')
        with ringlane.connect(daemon.address) as client:
            client.open("orders", depth=64)
        assert "lane open" in daemon.words()
    finally:
        daemon.stop()


def test_a_wrong_level_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text('[log]\nlevel = "wran"\n')
    done = subprocess.run([BINARY, "config", "check", str(path)], capture_output=True, text=True, timeout=10)
    assert done.returncode == 2
    assert ':2: log.level: "wran" is no level' in done.stderr


NAMESPACE = ["unshare", "--mount", "--map-root-user", "--user"]


@pytest.mark.skipif(
    subprocess.run([*NAMESPACE, "true"], capture_output=True, timeout=10).returncode != 0,
    reason="skipped: needs mount namespaces",
)
def test_the_journal_gets_fields(tmp_path: Path) -> None:
    config = tmp_path / "ringlane.toml"
    config.write_text('[log]\nformat = "journald"\nlevel = "info"\n')
    serve = [BINARY, "serve", "--config", str(config), "--socket", str(tmp_path / "socket")]
    receiver = Path(__file__).with_name("journald_receiver.py")
    done = subprocess.run(
        [*NAMESPACE, sys.executable, str(receiver), *serve], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    [serving] = [entry for entry in json.loads(done.stdout) if entry["MESSAGE"] == "serving"]
    assert serving["RINGLANE_ADDRESS"] == str(tmp_path / "socket")
    assert (serving["SYSLOG_IDENTIFIER"], serving["PRIORITY"]) == ("ringlane", "5")
