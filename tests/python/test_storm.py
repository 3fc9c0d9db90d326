"""The storm: writers and sidecar are killed at random under load. Nothing is lost, nothing counts twice, nobody hangs,
and the end is that of the naive twin.

`RINGLANE_KILLS` says how often (100; `make torture` 2,000), `RINGLANE_SEED` repeats the choices.
"""

import contextlib
import csv
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from unittest import mock

from daemon import BINARY, CONFIG, Daemon
from recording_twin import check_against_twin

WRITER = Path(__file__).parent / "storm_writer.py"
WRITERS = 3
IDS_A_LIFE = 10_000_000


class Writer:
    """One writer of an account, killed and started again; every life has its own notes and its own ids."""

    def __init__(self, directory: Path, address: str, account: int) -> None:
        self.directory, self.address, self.account, self.lives = directory, address, account, 0

    def start(self, seed: int) -> None:
        self.lives += 1
        notes = self.notes()[-1]
        command = [
            sys.executable,
            str(WRITER),
            self.address,
            str(self.account),
            str(self.lives * IDS_A_LIFE),
            str(seed),
        ]
        with (self.directory / "writers").open("ab") as words:
            self.process = subprocess.Popen([*command, str(notes), str(self.directory / "end")], stderr=words)

    def notes(self) -> list[Path]:
        return [self.directory / f"notes-{self.account}-{life}" for life in range(1, self.lives + 1)]


def check_events(lines: list[str]) -> None:
    """Numbers go on by one; a GAP stands for those that it skips."""
    last = 0
    for line in lines:
        number, kind = map(int, line.split()[1:])
        assert number > last if kind == 3 else number == last + 1, f"event {number} behind {last}"
        last = number


def test_nothing_is_lost_or_twice_in_a_storm_of_kills(tmp_path, seed):
    kills = int(os.environ.get("RINGLANE_KILLS", "100"))
    numbers = random.Random(seed)
    more = "[lanes]\nreattach_grace_ms = 3000\n[snapshots]\nevery_records = 3000\n"
    writers: list[Writer] = []
    with mock.patch("daemon.CONFIG", CONFIG + more), contextlib.ExitStack() as ends:
        ends.callback(lambda: [writer.process.kill() for writer in writers])
        daemon = Daemon(tmp_path).ready()
        ends.callback(lambda: daemon.process.kill())
        writers += [Writer(tmp_path, daemon.address, 10 + n) for n in range(WRITERS)]
        for writer in writers:
            writer.start(numbers.randrange(1 << 30))
        for _ in range(kills):
            time.sleep(numbers.random() * 0.25)
            if numbers.random() < 0.8:
                daemon.kill()
                daemon.stderr.close()
                time.sleep(numbers.random() * 0.05)
                daemon = Daemon(tmp_path)
            else:
                writer = numbers.choice(writers)
                assert writer.process.poll() is None, (tmp_path / "writers").read_text()[-3000:]
                writer.process.kill()
                writer.process.wait()
                writer.start(numbers.randrange(1 << 30))
        (tmp_path / "end").touch()
        for writer in writers:
            assert writer.process.wait(60) == 0, (tmp_path / "writers").read_text()[-3000:]
        assert daemon.stop() == 0, daemon.words()[-3000:]
    done = subprocess.run(
        [BINARY, "export", "--to", "csv", "--tables", "orders,results", daemon.journal], capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    with open(daemon.journal + ".export/orders.csv") as file:
        orders = [
            (int(row["account"]), int(row["client_order_id"]), int(row["sequence"])) for row in csv.DictReader(file)
        ]
    twice = [key for key, count in Counter((account, number) for account, number, _ in orders).items() if count > 1]
    assert not twice, f"counted twice: {twice[:10]}"
    recorded = {(account, number): sequence for account, number, sequence in orders}
    answered = 0
    for writer in writers:
        for notes in writer.notes():
            lines = notes.read_text().splitlines() if notes.exists() else []
            check_events([line for line in lines if line[0] == "E"])
            for _, number, sequence, _code in (line.split() for line in lines if line[0] == "O"):
                answered += 1
                found = recorded.pop((writer.account, int(number)), None)
                assert found == int(sequence), (
                    f"order {number} of account {writer.account}: {sequence}, recorded {found}"
                )
        assert writer.notes()[-1].read_text().endswith("D\n")
        # A life that ended in order left nothing unanswered.
        last = range(writer.lives * IDS_A_LIFE, (writer.lives + 1) * IDS_A_LIFE)
        assert not [key for key in recorded if key[0] == writer.account and key[1] in last]
    assert answered > 10 * kills
    # And what was told, each answer of it, is what the naive twin says of the same records; so are books and positions.
    assert check_against_twin(daemon.journal, 65536) == len(orders)
    print(f"{kills} kills, {answered} answers, {len(recorded)} orders of killed writers were recorded and not answered")
    assert threading.active_count() < 20
