"""Reports to Sentry: which there are, what stands in them and what does not, and that nobody waits for a Sentry."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ringlane
from daemon import BINARY, Daemon, until
from plain_client import SUBMITTED, PlainClient
from test_journal_disk import small_disk, start
from test_own_kernel import example

pytest.importorskip("sentry_sdk")
from http_receiver import Certificate
from sentry_receiver import SentryReceiver

__all__ = ["example", "small_disk"]
SECRET = 987_654_321
"""A number of a client, which must stand in no report."""


@pytest.fixture
def receiver() -> Iterator[SentryReceiver]:
    running = SentryReceiver()
    yield running
    running.close()


def watched(dsn: str, **more: object) -> ringlane.Sidecar:
    return ringlane.Sidecar(config={"sentry": {"dsn": dsn, "environment": "tests", **more}})


def break_the_protocol(address: str, name: str = "liar") -> None:
    client = PlainClient(address, name)
    lane = client.open(64)
    lane.mine[SUBMITTED] = 1 << 40
    lane.ring()
    until(lambda: lane.status != 0, what="the fault")
    client.close()


def counts(address: str) -> dict[str, int]:
    with ringlane.connect(address) as client:
        return client.stats()["sentry"]


def test_faults_of_lanes_above_their_rate_are_one_report(receiver: SentryReceiver) -> None:
    with watched(receiver.dsn, faults_per_minute=2) as sidecar:
        for _ in range(2):
            break_the_protocol(sidecar.address)
        time.sleep(0.5)
        assert receiver.events == [], "so many are allowed"
        break_the_protocol(sidecar.address, "third")
        until(lambda: len(receiver.events) == 1, what="the report")
        for _ in range(3):
            break_the_protocol(sidecar.address)
        until(lambda: counts(sidecar.address)["events_sent"] == 1, what="the count")
        time.sleep(0.5)
    [event] = receiver.events
    assert event["level"] == "warning"
    assert "broke the protocol" in event["message"]["formatted"]
    assert event["tags"] == {"kernel": "orders", "status": "SubmittedTooFar"}
    lane = event["contexts"]["lane"]
    assert (lane["name"], lane["pid"], lane["uid"]) == ("third", str(os.getpid()), str(os.getuid()))
    assert (event["extra"]["in_the_last_minute"], event["environment"]) == (3, "tests")
    assert event["release"].startswith("ringlane@")


def test_a_panic_is_told_with_its_lane_and_without_what_was_sent(
    receiver: SentryReceiver, example: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RINGLANE_BINARY", example)
    with watched(receiver.dsn) as sidecar:
        for number in (13, SECRET):
            with ringlane.connect(sidecar.address, name="unlucky") as client:
                lane = client.open("breaks", depth=64, timeout=20)
                with pytest.raises(ringlane.LaneFaulted):
                    lane.process(lane.batch(number=number))
        until(lambda: len(receiver.events) == 2, 20, what="the reports")
        assert str(SECRET) in sidecar.stderr(), "the log has the message that the report leaves out"
    said, silent = (event["exception"]["values"][0] for event in receiver.events)
    assert said["value"].startswith("13 is the number that this kernel breaks at (")
    assert "may quote what a client sent" in silent["value"]
    assert str(SECRET) not in receiver.text
    assert said["mechanism"] == {"type": "panic", "handled": False}
    last = said["stacktrace"]["frames"][-1]
    assert last["in_app"]
    assert last["filename"].endswith("sidecar/examples/black_scholes.rs"), last
    assert "process" in last["function"]
    for event in receiver.events:
        assert event["level"] == "fatal"
        lane = event["contexts"]["lane"]
        assert (lane["kernel"], lane["name"], lane["pid"]) == ("breaks", "unlucky", os.getpid())


def test_errors_of_the_journal_are_told_whatever_the_log_says(
    receiver: SentryReceiver, tmp_path: Path, small_disk: Path
) -> None:
    text = f'[log]\nlevel = "off"\n[sentry]\ndsn = "{receiver.dsn}"\n'
    (small_disk / "ballast").write_bytes(bytes(1 << 20))
    daemon = start(tmp_path, small_disk / "journal", text)
    with ringlane.connect(daemon.address) as client, client.open("orders", depth=8192, timeout=1) as lane:
        batch = lane.batch(symbol=1, side="BUY", account=1, client_order_id=list(range(8192)), price=SECRET, quantity=1)
        with pytest.raises((TimeoutError, ringlane.RinglaneError)):
            for _ in range(20):
                lane.process(batch, copy=True)
        until(lambda: receiver.events, 10, what="the report")
        (small_disk / "ballast").unlink()
        subprocess.run(["mount", "-o", "remount,size=300m", str(small_disk)], check=True)
    daemon.stop()
    assert daemon.words() == ""
    [event] = [event for event in receiver.events if "cannot make the next" in event["message"]["formatted"]]
    assert (event["level"], event["logger"]) == ("error", "ringlane_sidecar::journal::supply")
    assert "No space left" in event["contexts"]["about"]["error"]
    assert str(SECRET) not in receiver.text


@pytest.mark.parametrize("is_trusted", [True, False])
def test_a_sentry_behind_https_is_told_if_the_host_trusts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_trusted: bool
) -> None:
    certificate, other = tmp_path / "sentry", tmp_path / "other"
    for directory in (certificate, other):
        directory.mkdir()
    ours, strange = Certificate(certificate), Certificate(other)
    receiver = SentryReceiver(ours)
    monkeypatch.setenv("SSL_CERT_FILE", str(ours.path if is_trusted else strange.path))
    assert receiver.dsn.startswith("https://abc123@127.0.0.1:")
    try:
        with watched(receiver.dsn, faults_per_minute=0) as sidecar:
            break_the_protocol(sidecar.address, "told by https")
            what = "events_sent" if is_trusted else "events_dropped"
            until(lambda: counts(sidecar.address)[what] == 1, what="the count")
            words = sidecar.stderr()
    finally:
        receiver.close()
    if is_trusted:
        [event] = receiver.events
        assert event["contexts"]["lane"]["name"] == "told by https"
    else:
        assert (receiver.requests, receiver.events) == (0, []), "something was told to whom nobody vouches for"
        assert "invalid peer certificate" in words


def test_a_host_without_certificates_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = SentryReceiver(Certificate(tmp_path))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nothing.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "nowhere"))
    try:
        with watched(receiver.dsn, faults_per_minute=0) as sidecar:
            break_the_protocol(sidecar.address)
            until(lambda: counts(sidecar.address)["events_dropped"] == 1, what="the count")
            assert "no certificates to trust were found" in sidecar.stderr()
    finally:
        receiver.close()
    assert receiver.requests == 0


def test_a_start_that_fails_is_told(receiver: SentryReceiver, tmp_path: Path) -> None:
    sentry = f'[sentry]\ndsn = "{receiver.dsn}"\n'
    Daemon(tmp_path).ready().stop()
    segment = max((tmp_path / "journal").glob("*.ringlane"))
    with segment.open("r+b") as file:
        file.seek(0)
        file.write(b"\xff" * 4096)
    daemon = Daemon(tmp_path, config=sentry)
    assert daemon.process.wait(20) == 2
    [event] = receiver.events
    assert event["message"]["formatted"].startswith("cannot start: ")


def place(lane: ringlane.Lane, first: int, count: int) -> None:
    for number in range(first, first + count):
        lane.process(
            lane.batch(symbol=1, side="BUY", account=7, client_order_id=number, price=100, quantity=1), copy=True
        )


def test_a_sentry_that_hangs_refuses_or_is_gone_costs_reports_and_no_order(receiver: SentryReceiver) -> None:
    receiver.released.clear()
    with watched(receiver.dsn, faults_per_minute=0) as sidecar, ringlane.connect(sidecar.address) as client:
        lane = client.open("orders", depth=64, timeout=5)
        break_the_protocol(sidecar.address)
        until(lambda: receiver.requests == 1, what="the request that hangs")
        # Orders that waited for Sentry would be answered behind its patience, and none before.
        placed = 0
        while client.stats()["sentry"]["events_dropped"] == 0:
            place(lane, 1 + placed, 1)
            placed += 1
        assert placed > 100
        assert receiver.requests == 1
        assert receiver.events == []
        assert client.stats()["sentry"] == {"events_sent": 0, "events_dropped": 1, "sendings_failed": 1}
    receiver.released.set()
    receiver.status = 503
    with watched(receiver.dsn, faults_per_minute=0) as sidecar:
        break_the_protocol(sidecar.address)
        until(lambda: counts(sidecar.address)["events_dropped"] == 1, what="the count")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        dsn = f"http://abc123@127.0.0.1:{closed.getsockname()[1]}/42"
    with watched(dsn, faults_per_minute=0) as sidecar:
        break_the_protocol(sidecar.address)
        until(lambda: counts(sidecar.address)["events_dropped"] == 1, what="the count")


def threads(pid: int) -> set[str]:
    return {path.joinpath("comm").read_text().strip() for path in Path(f"/proc/{pid}/task").iterdir()}


def test_it_is_off_by_default(sidecar: ringlane.Sidecar, receiver: SentryReceiver) -> None:
    with ringlane.connect(sidecar.address) as client:
        assert "reports" not in threads(client.pid)
    with watched(receiver.dsn) as told, ringlane.connect(told.address) as client:
        assert "reports" in threads(client.pid)


def test_a_dsn_that_cannot_be_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    for dsn in ("https://sentry.io/1", "http://127.0.0.1/1", "ftp://abc@sentry.io/1", "nothing"):
        path.write_text(f'[sentry]\ndsn = "{dsn}"\n')
        done = subprocess.run([BINARY, "config", "check", str(path)], capture_output=True, text=True, timeout=10)
        assert done.returncode == 2
        assert ":2: sentry.dsn: it must be https://KEY@HOST/PROJECT" in done.stderr
