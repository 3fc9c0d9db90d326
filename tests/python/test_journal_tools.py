"""`ringlane journal list|verify|prune|salvage`, and looks at journals of which parts are gone or damaged."""

import json
import subprocess
import threading
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import ringlane
from daemon import BINARY, CONFIG, Daemon
from recordings import FRAMES_OFFSET, HEADER_BYTES, copy, run

SEGMENT = 1 << 20


def order_batch(lane: ringlane.Lane, first: int, count: int = 500) -> np.ndarray:
    """IOC orders that trade with nobody: books stay empty, the journal grows."""
    ids = np.arange(first, first + count)
    return lane.batch(
        symbol=1, side=1, account=1, client_order_id=ids, price=1_000_000, quantity=1, time_in_force="IOC"
    )


def start(directory: Path, more: str = "") -> Daemon:
    directory.mkdir(exist_ok=True)
    with mock.patch("daemon.CONFIG", CONFIG.replace("[orders]", more + "[orders]")):
        return Daemon(directory).ready()


@pytest.fixture(scope="module")
def journal(tmp_path_factory) -> Path:
    """Four segments and two snapshots, one in the middle and one at the end; and a clean end."""
    daemon = start(tmp_path_factory.mktemp("tools") / "sidecar")
    with ringlane.connect(daemon.address) as client, client.open("orders", depth=1024) as lane:
        for n in range(85):
            lane.process(order_batch(lane, 1 + 500 * n))
            if n == 35:
                client.snapshot()
    assert daemon.stop() == 0
    return Path(daemon.journal)


@pytest.fixture
def mine(journal, tmp_path) -> Path:
    """A copy of it, to be damaged."""
    return copy_to(journal, tmp_path / "journal")


def copy_to(journal: Path, place: Path) -> Path:
    return copy(journal, "copy").rename(place)


def told(command: str, *arguments: object, code: int = 0) -> dict:
    return json.loads(run("journal", command, "--json", *arguments, code=code).stdout)


def segments(journal: Path) -> list[Path]:
    return sorted(journal.glob("*.ringlane"))


def middle_frame(path: Path) -> int:
    """Offset of a frame that has others behind it."""
    data, offset = path.read_bytes(), FRAMES_OFFSET
    while offset < SEGMENT // 2:
        offset += HEADER_BYTES + int.from_bytes(data[offset : offset + 4], "little")
    return offset


def last_header(path: Path) -> bytes:
    """The header of the last frame of a segment."""
    data, offset = path.read_bytes(), FRAMES_OFFSET
    while (following := offset + HEADER_BYTES + int.from_bytes(data[offset : offset + 4], "little")) < len(data):
        if not any(data[following : following + HEADER_BYTES]):
            break
        offset = following
    return data[offset : offset + HEADER_BYTES]


def damage(path: Path, offset: int) -> None:
    """Flips a bit of a record behind that frame's header."""
    with path.open("r+b") as file:
        file.seek(offset + HEADER_BYTES + 9)
        byte = file.read(1)[0]
        file.seek(offset + HEADER_BYTES + 9)
        file.write(bytes([byte ^ 1]))


def without_snapshots(journal: Path) -> Path:
    [path.unlink() for path in journal.glob("*.snapshot")]
    return journal


def test_list_tells_segments_and_snapshots(journal):
    answer = told("list", journal)
    assert [segment["index"] for segment in answer["segments"]] == [1, 2, 3, 4]
    firsts = [segment["first_sequence"] for segment in answer["segments"]]
    assert firsts[0] == 1
    assert firsts == sorted(set(firsts))
    assert [Path(segment["path"]) for segment in answer["segments"]] == segments(journal)
    assert len(answer["snapshots"]) == 2
    assert answer["total_bytes"] >= 3 * SEGMENT
    text = run("journal", "list", journal).stdout
    assert "4 segments" in text
    assert str(answer["snapshots"][0]["sequence"]) in text


def test_verify_reads_everything(journal):
    answer = told("verify", journal)
    replayed = json.loads(run("replay", "--json", journal).stdout)
    assert (answer["records"], answer["frames"]) == (replayed["records"], replayed["frames"])
    assert (answer["first_sequence"], answer["last_sequence"]) == (1, replayed["sequence"])
    assert (answer["closed"], answer["torn"], answer["voids"]) == (True, None, [])
    assert run("journal", "verify", journal).stdout.startswith("whole: 4 segments")


def test_verify_finds_damage_wherever_it_is(mine):
    path = segments(mine)[2]
    offset = middle_frame(path)
    damage(path, offset)
    words = run("journal", "verify", mine, code=2).stderr
    assert f"{path} at offset {offset}: the checksum does not match" in words
    damage(path, offset)
    run("journal", "verify", mine)
    newest = sorted(mine.glob("*.snapshot"))[-1]
    damage(newest, 0)
    assert "its hash does not match: it is damaged" in run("journal", "verify", mine, code=2).stderr


def test_a_torn_end_is_told_and_no_error(mine):
    path = segments(mine)[-1]
    path.write_bytes(path.read_bytes()[:-100])
    answer = told("verify", mine)
    assert "offset" in answer["torn"]
    assert answer["closed"] is False
    assert "never acknowledged" in run("journal", "verify", mine).stdout


@pytest.mark.parametrize("command", ["list", "verify", "prune", "salvage"])
def test_what_is_no_journal_is_refused_in_words(command, tmp_path):
    for place, words in ((tmp_path / "nowhere", "is not a journal's directory"), (tmp_path, "holds no journal")):
        done = run("journal", command, place, code=2)
        assert words in done.stderr
        assert done.stdout == ""
    (tmp_path / "file").write_text("")
    run("journal", command, tmp_path / "file", code=2)


def test_prune_keeps_what_the_snapshot_before_the_newest_needs(mine):
    """If the newest is damaged later, a start goes on from the one before, whose journal must still be there."""
    before = json.loads(run("replay", "--json", mine).stdout)
    answer = told("prune", mine)
    snapshots = told("list", mine)["snapshots"]
    assert answer["snapshot"] == snapshots[1]["sequence"]
    assert [Path(path).name for path in answer["removed"]] == ["00000001.ringlane"]
    assert len(segments(mine)) == answer["kept"] == 3
    run("journal", "verify", mine)
    damage(Path(snapshots[0]["path"]), 0)
    after = json.loads(run("replay", "--json", mine).stdout)
    assert (after["state_hash"], after["pruned"]) == (before["state_hash"], True)
    assert told("prune", mine)["removed"] == []
    daemon = start(mine.parent)
    assert "the one before it is tried" in daemon.words()
    with ringlane.connect(daemon.address) as client:
        assert client.state().accepted == before["accepted"]
    assert "another sidecar holds it" in run("journal", "prune", mine, code=2).stderr
    assert daemon.stop() == 0


def test_prune_removes_nothing_without_a_good_snapshot(mine):
    answer = told("prune", without_snapshots(mine))
    assert (answer["removed"], answer["snapshot"]) == ([], None)
    assert "no good snapshot" in run("journal", "prune", mine).stdout


# ---- damage in the middle ----


def test_salvage_says_what_it_would_drop_and_drops_it_when_told(mine):
    whole = told("verify", without_snapshots(mine))
    paths = segments(mine)
    offset = middle_frame(paths[1])
    damage(paths[1], offset)
    # A start refuses it, with the place and the way out.
    with mock.patch("daemon.CONFIG", CONFIG):
        daemon = Daemon(mine.parent)
    assert daemon.process.wait(20) == 2
    daemon.stderr.close()
    assert f"at offset {offset}: the checksum does not match" in daemon.words()
    assert "ringlane journal salvage" in daemon.words()
    before = {path.name: path.read_bytes() for path in paths}
    answer = told("salvage", mine, code=1)
    assert answer["cut"] == {"path": str(paths[1]), "offset": offset}
    assert answer["segments"] == [str(path) for path in paths[2:]]
    assert answer["dropped"] is False
    # One frame is damaged; all others behind it are whole, and what is kept and what is lost is the journal.
    damaged = int.from_bytes(before[paths[1].name][offset : offset + 4], "little") // 64
    assert answer["kept_upto"] + damaged + answer["records"] == whole["records"]
    assert answer["last_sequence"] == whole["last_sequence"]
    text = run("journal", "salvage", mine, code=1).stdout
    assert "nothing was changed" in text
    assert f"to be dropped: {paths[1]} from offset {offset} on" in text
    assert {path.name: path.read_bytes() for path in segments(mine)} == before
    answer = told("salvage", "--drop", mine)
    assert answer["dropped"] is True
    # Nothing is gone: it lies beside.
    assert {Path(path).name: Path(path).read_bytes() for path in answer["kept_beside"]} == {
        f"{path.name}.damaged": before[path.name] for path in paths[1:]
    }
    assert told("verify", mine)["last_sequence"] == answer["kept_upto"]
    assert told("salvage", mine)["damage"] is None
    replayed = json.loads(run("replay", "--json", mine).stdout)
    assert replayed["sequence"] == answer["kept_upto"]
    daemon = start(mine.parent)
    with ringlane.connect(daemon.address) as client, client.open("orders", depth=1024) as lane:
        assert (lane.process(order_batch(lane, 1))["code"] == 0).all()
    assert daemon.stop() == 0
    assert daemon.replay()["accepted"] == replayed["accepted"] + 500


def test_salvage_drops_nothing_that_a_snapshot_covers(mine):
    damage(segments(mine)[0], FRAMES_OFFSET)
    assert told("salvage", mine)["damage"] is None
    assert "nothing to drop" in run("journal", "salvage", mine).stdout
    daemon = start(mine.parent)
    assert daemon.stop() == 0


def test_salvage_of_a_missing_segment_and_of_a_damaged_header(mine):
    without_snapshots(mine)
    paths = segments(mine)
    with paths[2].open("r+b") as file:
        file.seek(40)
        file.write(b"\xff")
    answer = told("salvage", mine, code=1)
    assert "its first page is damaged" in answer["damage"]
    # The mark that says that another segment follows is all that the one before loses.
    end_mark = {"path": str(paths[1]), "offset": paths[1].read_bytes().rindex(last_header(paths[1]))}
    assert (answer["cut"], answer["segments"]) == (end_mark, [str(path) for path in paths[2:]])
    paths[2].unlink()
    answer = told("salvage", mine, code=1)
    assert answer["damage"] == "segment 3 is missing"
    assert answer["segments"] == [str(paths[3])]
    told("salvage", "--drop", mine)
    assert start(mine.parent).stop() == 0


# ---- parts of a journal ----


def test_a_later_segment_alone_says_what_can_be_said(journal, mine, tmp_path):
    alone = tmp_path / "alone"
    alone.mkdir()
    path = segments(mine)[1].rename(alone / "00000002.ringlane")
    first = told("list", journal)["segments"][1]["first_sequence"]
    last = told("list", journal)["segments"][2]["first_sequence"] - 1
    words = run("replay", path, code=2).stderr
    assert f"it begins at sequence {first}" in words
    # It ends with a mark that says that another follows.
    assert f"with {last - first + 1} records, {last - first + 1} of them orders, up to sequence {last}" in words
    assert "segment 3 is missing" in words
    assert "from 20" in words
    # With the directory's snapshot, a segment behind it is replayed.
    daemon = json.loads(run("replay", "--json", segments(journal)[3]).stdout)
    assert daemon["state_hash"] == json.loads(run("replay", "--json", journal).stdout)["state_hash"]


def test_a_journal_that_is_pruned_while_it_is_looked_at(tmp_path):
    """A sidecar at its cap takes its oldest segments away again and again; nobody who looks trips over that."""
    daemon = start(tmp_path / "live", f"retention_bytes = {4 * SEGMENT}\n[snapshots]\nevery_records = 4000\n")
    is_over, error = threading.Event(), []

    def write() -> None:
        try:
            with ringlane.connect(daemon.address) as client, client.open("orders", depth=4096) as lane:
                first = 1
                while not is_over.is_set():
                    lane.process(order_batch(lane, first, 2000))
                    first += 2000
        except Exception as wrong:
            error.append(wrong)

    writer = threading.Thread(target=write)
    writer.start()
    seen, kinds = set(), {"list": 0, "replay": 0}
    try:
        for _ in range(60):
            answer = told("list", daemon.journal)
            seen.add(answer["segments"][0]["index"])
            assert all(segment["bytes"] for segment in answer["segments"])
            kinds["list"] += 1
            done = subprocess.run([BINARY, "replay", "--json", daemon.journal], capture_output=True, text=True)
            # What was taken away in the middle of the pass is said so.
            if done.returncode:
                assert "begin anew" in done.stderr or "is missing" in done.stderr or "not there" in done.stderr, (
                    done.stderr
                )
            else:
                kinds["replay"] += 1
    finally:
        is_over.set()
        writer.join(30)
    assert not error, error
    assert len(seen) > 3, "the sidecar took nothing away"
    assert kinds["replay"] > 0
    assert daemon.stop() == 0
    run("journal", "verify", daemon.journal)
