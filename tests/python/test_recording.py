"""A recording outlives mistakes: configurations that do not fit, damaged bytes, leftovers, a place that is taken."""

import json
import os
import signal
import socket
import subprocess
from pathlib import Path
from unittest import mock

import pytest
from daemon import BINARY, CONFIG, Daemon, new_order, until
from plain_client import PlainClient

BUY = 1
TWO = '[[orders.instruments]]\nname = "RING"\n[[orders.instruments]]\nname = "LANE"\n'
ONE = '[[orders.instruments]]\nname = "RING"\n'


def start(directory: Path, text: str = "", **options) -> Daemon:
    """A sidecar with more in its configuration, which records to `directory/journal`."""
    with mock.patch("daemon.CONFIG", CONFIG + text):
        return Daemon(directory, **options)


def refused(directory: Path, text: str = "", **options) -> str:
    """The words with which a sidecar refuses to start."""
    log = directory / "log"
    before = len(log.read_text()) if log.exists() else 0
    daemon = start(directory, text, **options)
    assert daemon.process.wait(20) == 2, daemon.words()
    daemon.stop()
    return daemon.words()[before:]


def accounts(first: int, last: int) -> str:
    return f"[[orders.accounts]]\nfirst = {first}\nlast = {last}\n"


# ---- the configuration ----


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (ONE + ONE, "RING stands in the list twice"),
        (ONE + f"tick = {1 << 36}\n", "tick 1 to 68719476735"),
        (ONE + f"lot = {1 << 27}\n", "lot 1 to 134217727"),
        (ONE + f"reference_price = {1 << 36}\n", "reference_price 0 to 68719476735"),
    ],
)
def test_a_typo_in_the_configuration_leaves_the_journal_usable(tmp_path, wrong, words):
    assert words in refused(tmp_path, wrong)
    daemon = start(tmp_path, TWO).ready()
    PlainClient(daemon.address).close()
    assert daemon.stop() == 0
    assert daemon.replay()["torn"] is None


@pytest.mark.parametrize(
    ("journaled", "shorter", "words"),
    [
        (TWO, ONE, "symbol 2 is LANE in the journal"),
        (accounts(1, 50) + accounts(60, 90), accounts(1, 40) + accounts(41, 59), "account 60 is in the journal"),
        (accounts(1, 50), accounts(1, 20) + accounts(22, 90), "account 21 is in the journal"),
    ],
)
def test_what_the_journal_has_cannot_be_removed(tmp_path, journaled, shorter, words):
    start(tmp_path, journaled).ready().stop()
    assert words in refused(tmp_path, shorter)
    start(tmp_path, journaled).ready().stop()
    # A configuration that names none keeps the journal's.
    start(tmp_path).ready().stop()
    assert words in refused(tmp_path, shorter)


@pytest.mark.parametrize(
    "wrong",
    ["[journal]\nprefault_bytes = 9007199254740993\n"]
    + [f"[sequencer]\n{name} = {60_000_001}\n" for name in ("spin_us", "park_after_us")],
)
def test_numbers_out_of_bounds_are_refused_in_words(tmp_path, wrong):
    with mock.patch("daemon.CONFIG", wrong):
        daemon = Daemon(tmp_path)
    assert daemon.process.wait(20) == 2
    assert "must be" in daemon.words()
    assert wrong.split()[1] in daemon.words()


# ---- damaged bytes ----


def recorded(directory: Path, batches: int = 30, crash: bool = True) -> Path:
    """A recording of one segment whose sidecar was killed, or stopped."""
    daemon = start(directory).ready()
    client = PlainClient(daemon.address)
    lane = client.open(64)
    for n in range(batches):
        lane.process([new_order(1, n * 10 + k, BUY, 1, 1_000_000 + 100 * k) for k in range(1, 8)])
    if crash:
        daemon.kill()
    client.close()
    assert daemon.stop() in (0, -9)
    return directory / "journal/00000001.ringlane"


def replay(directory: Path) -> subprocess.CompletedProcess:
    command = [BINARY, "replay", "--json", str(directory / "journal")]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def patch(path: Path, offset: int, bytes_: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes_)


@pytest.mark.parametrize("crash", [True, False])
@pytest.mark.parametrize("what", ["bit", "page"])
def test_damage_in_the_middle_is_never_taken_for_an_end(tmp_path, crash, what):
    segment = recorded(tmp_path, crash=crash)
    assert replay(tmp_path).returncode == 0
    at = 4096 + 40 * 64 + 3 if what == "bit" else 8192
    patch(segment, at, bytes([segment.read_bytes()[at] ^ 4]) if what == "bit" else bytes(4096))
    done = replay(tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    # From the snapshot of a clean stop the start would go on, and what is before it is not needed.
    for snapshot in (tmp_path / "journal").glob("*.snapshot"):
        snapshot.unlink()
    words = refused(tmp_path)
    for said in (done.stderr, words):
        assert "00000001.ringlane at offset" in said
        assert "restore the file from a copy, begin a new journal directory, or see what" in said


def test_a_torn_tail_is_told_and_served_on(tmp_path):
    segment = recorded(tmp_path)
    whole = json.loads(replay(tmp_path).stdout)
    at = len(segment.read_bytes().rstrip(b"\0")) - 1
    patch(segment, at, b"\x55")
    done = replay(tmp_path)
    torn = json.loads(done.stdout)
    assert done.returncode == 2
    assert "ends in a torn frame" in torn["torn"]
    assert "ends in a torn frame" in done.stderr
    assert torn["frames"] == whole["frames"] - 1
    daemon = start(tmp_path).ready()
    assert "the journal ended in a torn frame" in daemon.words()
    assert daemon.stop() == 0
    # What was torn stays where it is, and the next epoch goes on exactly behind the last whole frame.
    assert replay(tmp_path).returncode == 0
    start(tmp_path).ready().stop()


def test_leftovers_of_a_full_disk_are_cleared(tmp_path):
    (tmp_path / "journal").mkdir()
    leftover = tmp_path / "journal/00000003.ringlane.new"
    leftover.write_bytes(bytes(4096))
    daemon = start(tmp_path).ready()
    assert not leftover.exists()
    assert daemon.stop() == 0


# ---- a sidecar's place ----


def test_sighup_ends_nothing(tmp_path):
    daemon = start(tmp_path).ready()
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: "nothing has changed" in daemon.words(), what="the log line")
    PlainClient(daemon.address).close()
    assert daemon.stop() == 0
    assert not Path(daemon.address).exists()


def test_only_a_dead_sidecars_socket_is_removed(tmp_path):
    place = tmp_path / "socket"
    place.write_text("mine")
    assert "something else than a socket" in refused(tmp_path)
    assert place.read_text() == "mine"
    place.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(place))
        other.listen()
        assert "another program listens there" in refused(tmp_path)
    daemon = start(tmp_path).ready()
    assert place.stat().st_mode & 0o777 == 0o660
    daemon.kill()
    assert place.exists()
    assert start(tmp_path).ready().stop() == 0


def test_a_board_whose_pid_is_used_again_keeps_nobody_down(tmp_path):
    daemon = start(tmp_path).ready()
    client = PlainClient(daemon.address)
    board = Path("/dev/shm") / client.info["board"]
    daemon.kill()
    client.close()
    patch(board, 16, os.getpid().to_bytes(8, "little"))
    assert json.loads(daemon.status_process().stdout)["health"] == "dead"
    daemon = start(tmp_path).ready()
    assert daemon.status()["health"] == "healthy"
    assert daemon.stop() == 0
