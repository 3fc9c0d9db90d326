"""The recordings that earlier versions left under `tests/recordings` are read by this build, to the same state, bit for bit."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import recordings
import ringlane
from daemon import Daemon
from plain_client import PlainClient

KEPT = Path(__file__).parents[1] / "recordings"
NAMES = sorted(path.name.removesuffix(".tar.gz") for path in KEPT.glob("format*.tar.gz"))
STATE = ("sequence", "accepted", "rejected", "trades", "resting", "state_hash")
#: Where a segment's header holds its format version.
FORMAT_OFFSET = 8


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def unpacked(name: str, directory: Path) -> Path:
    directory.mkdir()
    return recordings.unpack(KEPT / f"{name}.tar.gz", directory)


@pytest.fixture
def journal(name: str, tmp_path: Path) -> Path:
    return unpacked(name, tmp_path / "journal")


@pytest.fixture
def expected(name: str) -> dict:
    """What the writer itself said at its end."""
    return dict(json.loads((KEPT / f"{name}.json").read_text()))


def format_of(segment: Path) -> int:
    return int.from_bytes(segment.read_bytes()[FORMAT_OFFSET : FORMAT_OFFSET + 4], "little")


def test_every_format_that_is_read_has_its_recording(tmp_path: Path) -> None:
    assert [f"format{number}" for number in range(1, len(NAMES) + 1)] == NAMES
    recordings.trade(tmp_path / "fresh", 1, batches=1)
    assert format_of(recordings.first_segment(tmp_path / "fresh")) == len(NAMES), "record.py makes the missing one"


def test_its_journal_is_of_its_format(journal: Path, name: str) -> None:
    assert name == f"format{format_of(recordings.first_segment(journal))}"
    recordings.run("journal", "verify", journal)


def test_a_replay_comes_to_the_state_of_the_writer(journal: Path, expected: dict) -> None:
    """From the first record on, each result compared with the hash that the writer kept of them."""
    for snapshot in journal.glob("*.snapshot"):
        snapshot.unlink()
    replayed = json.loads(recordings.run("replay", journal, "--json").stdout)
    assert {key: replayed[key] for key in STATE} == {key: expected[key] for key in STATE}
    recordings.run("replay", journal, "--verify")


def test_a_replay_finds_a_changed_record(journal: Path) -> None:
    """That the test above can fail: one order of another quantity, with a right checksum, is found out."""
    for snapshot in journal.glob("*.snapshot"):
        snapshot.unlink()
    recording = ringlane.read_recording(journal)
    frames = recording.frames[recording.frames["kind"] == 1]
    quantity = recordings.HEADER_BYTES + 40  # of the first record
    frame = next(frame for frame in frames if int(frame["offset"]) and int(frame["payload_bytes"]) >= 64)
    recordings.forge(journal, frame, {quantity: (1).to_bytes(8, "little")})
    recordings.run("replay", journal, "--verify", code=1)


def test_arrays_hold_what_was_recorded(journal: Path, expected: dict) -> None:
    recording = ringlane.read_recording(journal)
    assert recording.state_hash == expected["state_hash"]
    accepted = int((recording.results["code"] == 0).sum())
    assert (accepted, len(recording.results) - accepted) == (expected["accepted"], expected["rejected"])
    assert len(recording.orders) == len(recording.results)


@pytest.mark.parametrize("has_snapshot", [True, False])
def test_a_sidecar_goes_on_where_it_ended(journal: Path, expected: dict, has_snapshot: bool) -> None:
    """With the writer's snapshot where it can be read, and without."""
    snapshots = list(journal.glob("*.snapshot"))
    assert snapshots
    for snapshot in snapshots if not has_snapshot else ():
        snapshot.unlink()
    config = (KEPT / "record.py").read_text().split('CONFIG = """', 1)[1].split('"""', 1)[0]
    daemon = Daemon(journal.parent, config=config).ready()
    client = PlainClient(daemon.address)
    state, _ = client.query("state")
    # A time record may have come since: an order that ended by the clock is one of those that rested.
    assert state["sequence"] >= expected["sequence"]
    assert (state["accepted"], state["trades"]) == (expected["accepted"], expected["trades"])
    assert state["resting"] <= expected["resting"]
    if state["sequence"] == expected["sequence"]:
        assert state["state_hash"] == expected["state_hash"]
    lane = client.open(64)
    order = {"op": 1, "side": 1, "order_type": 1, "time_in_force": 1, "symbol": 1, "account": 21}
    [answer] = lane.process([{**order, "client_order_id": 1 << 40, "price": 900, "quantity": 1}])
    assert answer["code"] == 0
    after, _ = client.query("state")
    client.close()
    assert daemon.stop() == 0
    # Both formats stand in one journal now.
    assert daemon.replay()["accepted"] == after["accepted"] == expected["accepted"] + 1


def test_a_recording_of_the_first_engine_is_whole_and_refused_in_words(tmp_path: Path) -> None:
    """Orders meant something else to that one: nobody computes its results anew, and nobody writes behind them."""
    journal = unpacked("engine1", tmp_path / "journal")
    written = {path.name: path.read_bytes() for path in journal.iterdir()}
    said = json.loads((KEPT / "engine1.json").read_text())
    whole = re.search(
        r"whole: .* records from sequence 1 to (\d+)", recordings.run("journal", "verify", journal).stdout
    )
    assert whole
    assert int(whole[1]) >= said["sequence"]
    words = "its results were computed by engine version 1, and this build has 2; "
    for command in (["replay"], ["replay", "--verify"], ["book", "--at", 5]):
        done = recordings.run(command[0], journal, *command[1:], code=2)
        assert words + "replay it with the ringlane that wrote it" in done.stderr
    with pytest.raises(ringlane.RecordingError, match="engine version 1"):
        _ = ringlane.read_recording(journal).orders
    daemon = Daemon(tmp_path)
    assert daemon.process.wait(20) == 2
    assert words + "stop it in order with the ringlane that wrote it, which leaves a snapshot" in daemon.words()
    assert {path.name: path.read_bytes() for path in journal.iterdir() if path.name in written} == written
    assert not [path for path in journal.glob("*.ringlane") if path.name not in written]
