"""Disks that fill up, cannot be written or may not grow: intake stops, says so, loses nothing, and goes on by itself."""

import os
import resource
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
import ringlane
from daemon import CONFIG, Daemon, until

SEGMENT = 1 << 20
ORDERS = 4096
"""Orders of a batch: a quarter of a segment."""


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 5 MiB, in memory."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", str(place)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def start(directory: Path, journal: Path | None = None, text: str = "", segment: int = SEGMENT) -> Daemon:
    changed = CONFIG.replace(f"{SEGMENT}", f"{segment}").replace("[orders]", text + "[orders]")
    with mock.patch("daemon.CONFIG", changed):
        daemon = Daemon(directory, *(["--journal", str(journal)] if journal else []), journal=journal is None)
    daemon.journal = str(journal) if journal else daemon.journal
    return daemon.ready()


class Writer(threading.Thread):
    """Sends batches until it is told to stop, and counts what was answered."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self.address, self.answered, self.going, self.error = address, 0, True, None
        self.start()

    def run(self) -> None:
        try:
            with ringlane.connect(self.address) as client, client.open("orders", depth=8192) as lane:
                while self.going:
                    ids = range(self.answered + 1, self.answered + ORDERS + 1)
                    batch = lane.batch(
                        symbol="AAPL", side=1, account=1, client_order_id=list(ids), price="100.00", quantity=1
                    )
                    batch["time_in_force"] = 3
                    result = lane.process(batch)
                    assert len(result) == ORDERS
                    self.answered += ORDERS
        except Exception as error:
            self.error = error

    def stop(self) -> int:
        self.going = False
        self.join(30)
        assert not self.is_alive()
        assert self.error is None, self.error
        return self.answered


def stall_and_go_on(daemon: Daemon, relieve, words: str) -> None:
    """Waits for the stall, relieves the disk, and checks that everything answered is in the journal, once."""
    writer = Writer(daemon.address)
    until(lambda: daemon.status()["health"] == "journal-failed", 30, "the stall")
    status = daemon.status()
    assert words in status["journal"]["trouble"]
    assert daemon.status_process().returncode == 1
    until(lambda: "cannot make the next journal segment" in daemon.words(), 10, "words of it")
    until(lambda: daemon.status()["lanes"][0]["in_flight"] > 0, 10, "waiting orders")
    before = (writer.answered, daemon.status()["sequence"])
    assert daemon.process.poll() is None
    # Nobody is served in part, new lanes are refused in words, and questions are answered.
    with ringlane.connect(daemon.address) as client:
        assert client.state().sequence >= before[0]
        with pytest.raises(ringlane.RinglaneError, match="cannot write its journal now"):
            client.open("orders", depth=64, events=64)
    assert (writer.answered, daemon.status()["sequence"]) == before
    relieve()
    until(lambda: writer.answered > before[0] + 2 * ORDERS or writer.error, 30, "service")
    answered = writer.stop()
    until(lambda: daemon.status()["health"] != "journal-failed", 5, "the stall's end")
    assert daemon.stop() == 0
    replayed = daemon.replay()
    assert replayed["accepted"] + replayed["rejected"] == answered


def test_a_full_disk_stops_intake_and_space_lets_it_go_on(tmp_path, small_disk):
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(SEGMENT))
    daemon = start(tmp_path, small_disk / "journal")

    def relieve():
        ballast.unlink()
        subprocess.run(["mount", "-o", "remount,size=300m", str(small_disk)], check=True)

    stall_and_go_on(daemon, relieve, "No space left on device")


def test_a_disk_that_became_read_only_stops_intake(tmp_path, small_disk):
    subprocess.run(["mount", "-o", "remount,size=300m", str(small_disk)], check=True)
    place = small_disk / "journal"
    daemon = start(tmp_path, place)
    # A mount that is in use cannot become read-only; one bound over the directory can.
    subprocess.run(["chattr", "+i", str(place)], capture_output=True)
    probe = place / "probe"
    try:
        probe.touch()
        probe.unlink()
        pytest.skip("this file system has no immutable directories")
    except PermissionError:
        pass
    stall_and_go_on(daemon, lambda: subprocess.run(["chattr", "-i", str(place)], check=True), "not permitted")


def test_a_directory_that_may_not_be_written_stops_intake(tmp_path):
    """The same for users who are not root; root is refused nothing by modes."""
    if os.geteuid() == 0:
        pytest.skip("root may write every directory")
    daemon = start(tmp_path)
    place = Path(daemon.journal)
    place.chmod(0o500)
    stall_and_go_on(daemon, lambda: place.chmod(0o700), "ermission denied")


def limit_files(daemon: Daemon) -> Callable[[], None]:
    """Lets no file of the daemon grow to the 8 MiB of a segment, though to those of a lane; gives the way back."""
    _, hard = resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (7 * SEGMENT, hard))
    return lambda: resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (hard, hard))


def test_a_file_that_may_not_grow_stops_intake(tmp_path):
    daemon = start(tmp_path, segment=8 * SEGMENT)
    relieve = limit_files(daemon)

    stall_and_go_on(daemon, relieve, "File too large")


def test_a_stop_while_the_disk_is_full_ends_and_keeps_what_was_answered(tmp_path):
    daemon = start(tmp_path, segment=8 * SEGMENT)
    limit_files(daemon)
    writer = Writer(daemon.address)
    until(lambda: daemon.status()["health"] == "journal-failed", 30, "the stall")
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(10) == 0
    writer.going = False
    writer.join(30)
    assert isinstance(writer.error, ringlane.RinglaneError)
    replayed = daemon.replay()
    accepted = replayed["accepted"] + replayed["rejected"]
    # What was journaled and completed in part of a batch that the client never saw whole.
    assert writer.answered <= accepted < writer.answered + ORDERS
    daemon.stop()
    assert start(tmp_path).stop() == 0


def test_over_the_cap_without_a_snapshot_is_degraded_and_loses_nothing(tmp_path):
    daemon = start(tmp_path, text=f"retention_bytes = {4 * SEGMENT}\n")
    writer = Writer(daemon.address)
    until(lambda: writer.answered > 100_000 or writer.error, 60, "100,000 orders")
    answered = writer.stop()
    until(lambda: daemon.status()["health"] == "degraded", 10, "the degraded health")
    status = daemon.status()["journal"]
    assert "over retention_bytes" in status["trouble"]
    assert status["total_bytes"] > status["retention_bytes"] == 4 * SEGMENT
    assert status["disk_hours_left"] is None or status["disk_hours_left"] > 0
    # No clean stop: it would leave a snapshot, and that lets old segments go.
    daemon.kill()
    replayed = daemon.replay()
    assert replayed["accepted"] + replayed["rejected"] == answered


def test_a_disk_that_is_full_too_soon_degrades(tmp_path):
    daemon = start(tmp_path, text="disk_hours_min = 10000\n")
    assert daemon.status()["journal"]["disk_hours_left"] is None
    writer = Writer(daemon.address)
    until(lambda: daemon.status()["health"] == "degraded", 20, "the degraded health")
    status = daemon.status()["journal"]
    assert "soon be full" in status["trouble"]
    assert 0 < status["disk_hours_left"] < 10000
    assert status["bytes_per_second"] > 0
    writer.stop()
    assert daemon.stop() == 0


def test_a_clean_stop_leaves_an_end_mark_and_a_kill_none(tmp_path):
    daemon = start(tmp_path)
    assert daemon.stop() == 0
    segment = Path(daemon.journal) / "00000001.ringlane"
    # Kind STOP in the last frame header.
    assert segment.read_bytes()[-64:][60] == 16
