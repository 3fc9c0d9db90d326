"""Snapshots: a start uses the newest good one and the journal behind it, and nothing that it does can be told from replaying all."""

import random
import re
from pathlib import Path
from unittest import mock

import pytest
from daemon import CONFIG, Daemon, new_order, until
from plain_client import PlainClient


def start(directory: Path, text: str = "") -> Daemon:
    with mock.patch("daemon.CONFIG", CONFIG + text):
        return Daemon(directory).ready()


def words(daemon: Daemon) -> str:
    """Its log without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", daemon.words())


def trade(lane, random_numbers: random.Random, first_id: int, count: int = 500) -> None:
    """Orders that rest, trade, and are cancelled, of seven accounts in three symbols."""
    orders = []
    for n in range(first_id, first_id + count):
        kind = random_numbers.randrange(10)
        account, symbol = 40 + random_numbers.randrange(7), 1 + random_numbers.randrange(3)
        if kind == 0:
            orders.append(
                {
                    "op": 2,
                    "symbol": symbol,
                    "account": account,
                    "client_order_id": max(1, n - random_numbers.randrange(50)),
                }
            )
        else:
            price = 1_000_000 + 100 * random_numbers.randrange(40)
            side, quantity = 1 + random_numbers.randrange(2), 1 + random_numbers.randrange(20)
            orders.append(new_order(account, n, side, quantity, price, symbol=symbol))
    lane.process(orders)


def snapshots(directory: Path) -> list[Path]:
    """The newest last."""
    return sorted((directory / "journal").glob("*.snapshot"), key=lambda path: int(path.stem))


def ask(client: PlainClient) -> dict:
    """Has a snapshot written; gives what is said of it."""
    wanted = client.ask(op="snapshot")[0]["wanted"]
    said = {}

    def written() -> bool:
        said.update(client.ask(op="snapshot")[0])
        return said["written"] >= wanted

    until(written, 10, "the snapshot")
    return said


def test_a_start_uses_the_newest_good_snapshot_and_the_tail(tmp_path, seed):
    random_numbers = random.Random(seed)
    daemon = start(tmp_path)
    client = PlainClient(daemon.address)
    lane = client.open(1024)
    said = []
    for round in range(3):
        trade(lane, random_numbers, 1 + 1000 * round)
        said.append(ask(client))
        assert said[-1]["written"] == client.query("state")[0]["sequence"]
        trade(lane, random_numbers, 501 + 1000 * round)
    assert [int(path.stem) for path in snapshots(tmp_path)] == [one["written"] for one in said[1:]], "two are kept"
    lane.close()
    state = client.query("state")[0]
    daemon.kill()
    newest, older = snapshots(tmp_path)[::-1]
    assert newest.stat().st_size == said[-1]["bytes"]

    def state_after(line: str) -> None:
        running = start(tmp_path)
        again = PlainClient(running.address)
        now = again.query("state")[0]
        again.close()
        running.kill()
        same = ("state_hash", "accepted", "rejected", "trades", "resting")
        assert [now[key] for key in same] == [state[key] for key in same]
        assert line in words(running)

    state_after(f"sequence={newest.stem} ")
    # A bad newest one is told, and the one before it is used.
    bytes = bytearray(newest.read_bytes())
    bytes[random_numbers.randrange(len(bytes) - 64)] ^= 1 << random_numbers.randrange(8)
    newest.write_bytes(bytes)
    (tmp_path / "log").write_text("")
    state_after(f"sequence={older.stem} ")
    assert "the one before it is tried" in (tmp_path / "log").read_text()
    older.write_bytes(older.read_bytes()[:-9])
    (tmp_path / "log").write_text("")
    state_after("snapshot=0 ")
    # What the whole journal says, the snapshots left out.
    assert daemon.replay()["state_hash"] == state["state_hash"]


def test_a_clean_stop_leaves_a_snapshot_and_nothing_to_replay(tmp_path, seed):
    daemon = start(tmp_path)
    client = PlainClient(daemon.address)
    lane = client.open(1024)
    trade(lane, random.Random(seed), 1)
    lane.close()
    state = client.query("state")[0]
    assert daemon.stop() == 0
    client.close()
    [only] = snapshots(tmp_path)
    assert int(only.stem) == state["sequence"]
    daemon = start(tmp_path)
    assert f"records=0 snapshot={only.stem}" in words(daemon)
    client = PlainClient(daemon.address)
    assert client.query("state")[0]["state_hash"] == state["state_hash"]
    client.close()
    assert daemon.stop() == 0


@pytest.mark.parametrize("key", ["every_records", "every_bytes"])
def test_snapshots_come_by_themselves(tmp_path, key, seed):
    every = 1000 if key == "every_records" else 64_000
    daemon = start(tmp_path, f"[snapshots]\n{key} = {every}\nkept = 1\n")
    client = PlainClient(daemon.address)
    lane = client.open(1024)
    random_numbers, before = random.Random(seed), 0
    for round in range(3):

        def newer(round: int = round, before: int = before) -> bool:
            trade(lane, random_numbers, random_numbers.randrange(1, 1 << 40), 50)
            return any(int(path.stem) > before for path in snapshots(tmp_path))

        until(newer, what=f"snapshot {round}")
        until(lambda: len(snapshots(tmp_path)) == 1, what="one is kept")
        before = int(snapshots(tmp_path)[0].stem)
    client.close()
    assert daemon.stop() == 0


def test_who_keeps_no_journal_has_no_snapshots(tmp_path):
    daemon = Daemon(tmp_path, journal=False).ready()
    client = PlainClient(daemon.address)
    with pytest.raises(Exception, match="keeps no journal"):
        client.ask(op="snapshot")
    client.close()
    assert daemon.stop() == 0
