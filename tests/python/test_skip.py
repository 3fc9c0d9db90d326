"""A record that crashes the kernel: the sidecar does not start again and again, says which record it was, and makes it void
when it is told to. The daemon of these tests crashes at orders with a client order id that the tests choose."""

import os
import subprocess
import threading
from pathlib import Path
from unittest import mock

import pytest
import ringlane
from daemon import CONFIG, Daemon, until
from recordings import run
from ringlane import OrderState, RejectCode
from test_crash_points import binary  # noqa: F401

POISON = 4242


def start(directory: Path, program: str, *options: str, durability: str = "process", poison: int = POISON) -> Daemon:
    config = CONFIG.replace("[journal]", f'[journal]\ndurability = "{durability}"')
    environment = mock.patch.dict(os.environ, {"RINGLANE_POISON": str(poison)})
    with mock.patch("daemon.BINARY", program), mock.patch("daemon.CONFIG", config), environment:
        return Daemon(directory, *options)


def refused(directory: Path, program: str, *options: str, **more: object) -> str:
    """What a start says that does not come about."""
    log = directory / "log"
    before = len(log.read_text()) if log.exists() else 0
    daemon = start(directory, program, *options, **more)
    assert daemon.process.wait(30) == 2, daemon.words()
    daemon.stderr.close()
    return daemon.words()[before:]


def order(lane: ringlane.Lane, ids: list[int], side: str = "BUY", price: str = "100.00"):
    return lane.batch(symbol="AAPL", side=side, account=1, client_order_id=ids, price=price, quantity=1)


class Sender(threading.Thread):
    """Sends a batch in which one order crashes the kernel, and goes on when its sidecar is back."""

    def __init__(self, address: str, ids: list[int]) -> None:
        super().__init__(daemon=True)
        self.address, self.ids, self.codes, self.results, self.error = address, ids, [], None, None
        self.start()

    def run(self) -> None:
        try:
            with ringlane.connect(self.address, reconnect_timeout=60.0) as client:
                lane = client.open("orders", timeout=60.0)
                self.codes.append(lane.process(order(lane, [1, 2, 3]), copy=True)["code"].tolist())
                self.results = lane.process(order(lane, self.ids), copy=True)
                self.codes.append(self.results["code"].tolist())
                self.codes.append(lane.process(order(lane, [9]), copy=True)["code"].tolist())
        except Exception as error:
            self.error = error


@pytest.mark.parametrize("durability", ["process", "disk"])
def test_a_record_that_crashes_the_kernel_is_skipped_once_told(binary, tmp_path, durability):  # noqa: F811
    daemon = start(tmp_path, binary, durability=durability).ready()
    sender = Sender(daemon.address, [11, POISON, 12])
    assert daemon.process.wait(30) not in (0, 2), daemon.words()
    daemon.stderr.close()
    assert "panicked" in daemon.words()
    # It does not crash again and again: the next start ends in order, and says what to do.
    words = refused(tmp_path, binary, durability=durability)
    assert f"client_order_id={POISON}" in words
    assert "It was never answered" in words
    sequence = int(words.split("ringlane serve --skip ")[1].split("`")[0])
    assert f"record {sequence} crashes the kernel (a test poisoned this record)" in words
    # Nor does a look at it.
    assert (
        "crashes the kernel"
        in subprocess.run(
            [binary, "replay", daemon.journal],
            capture_output=True,
            text=True,
            env={**os.environ, "RINGLANE_POISON": str(POISON)},
        ).stderr
    )
    assert "does not begin with it" in refused(tmp_path, binary, "--skip", str(sequence - 1), durability=durability)
    wide = f"{sequence}-{sequence + 2}"
    assert "ends behind its batch" in refused(tmp_path, binary, "--skip", wide, durability=durability)
    daemon = start(tmp_path, binary, "--skip", str(sequence), durability=durability).ready()
    sender.join(60)
    assert sender.error is None, sender.error
    # Applied exactly once each, the void one not at all, and the client that waited for it hears so.
    assert sender.codes == [[0, 0, 0], [0, RejectCode.VOIDED, 0], [0]]
    voided = sender.results[1]
    assert (voided["sequence"], voided["order_id"], voided["state"]) == (sequence, 0, OrderState.REJECTED)
    assert "an administrator made it void" in ringlane.explain(voided)
    with ringlane.connect(daemon.address) as client:
        live = client.state()
    daemon.kill()
    # Killed: the next start and a replay honour it, and without the fault that made the record crash they say the same.
    daemon = start(tmp_path, binary, durability=durability).ready()
    with ringlane.connect(daemon.address) as client:
        assert client.state().accepted == live.accepted == 6
    assert daemon.stop() == 0
    answer = daemon.replay()
    assert answer["accepted"] == 6
    told = run("replay", "--print", daemon.journal).stdout
    assert f"VOID lane 0  first_sequence={sequence} last_sequence={sequence}" in told
    assert "code=VOIDED" in told
    assert "void" in run("journal", "verify", daemon.journal).stdout
    # Said again it changes nothing.
    daemon = start(tmp_path, binary, "--skip", str(sequence), durability=durability).ready()
    assert daemon.stop() == 0
    assert "need not be said again" in daemon.words()
    assert run("replay", "--verify", daemon.journal).returncode == 0


def test_the_rest_of_a_batch_is_skipped_when_it_crashes_too(binary, tmp_path):  # noqa: F811
    daemon = start(tmp_path, binary).ready()
    sender = Sender(daemon.address, [POISON, 13, POISON, 14])
    daemon.process.wait(30)
    daemon.stderr.close()
    words = refused(tmp_path, binary)
    sequence = int(words.split("ringlane serve --skip ")[1].split("`")[0])
    words = refused(tmp_path, binary, "--skip", str(sequence))
    rest = f"{sequence}-{sequence + 3}"
    assert f"--skip {rest}" in words
    daemon = start(tmp_path, binary, "--skip", rest).ready()
    sender.join(60)
    assert sender.error is None, sender.error
    assert sender.codes[1:] == [[RejectCode.VOIDED] * 4, [0]]
    assert daemon.stop() == 0


def test_nothing_is_skipped_that_does_not_crash(binary, tmp_path):  # noqa: F811
    daemon = start(tmp_path, binary).ready()
    with ringlane.connect(daemon.address) as client, client.open("orders") as lane:
        sequence = int(lane.process(order(lane, [1]))["sequence"][0])
    daemon.kill()
    assert "nothing crashes the kernel" in refused(tmp_path, binary, "--skip", str(sequence))
    assert "names no records" in run("serve", "--skip", "7-3", code=2).stderr
    # A record that was computed once, and that another build crashes at, is not to be made void: its answer is known.
    daemon = start(tmp_path, binary).ready()
    with ringlane.connect(daemon.address) as client, client.open("orders") as lane:
        lane.process(order(lane, [2]))
        lane.process(order(lane, [3]))
    daemon.kill()
    words = refused(tmp_path, binary, poison=2)
    assert "its answer is known" in words
    number = words.split("record ")[1].split(" ")[0]
    assert "its answer is known" in refused(tmp_path, binary, "--skip", number, poison=2)
    assert start(tmp_path, binary).ready().stop() == 0


def test_a_sidecar_that_panics_tells_status(binary, tmp_path):  # noqa: F811
    """Whoever looks at its board after the panic sees no healthy sidecar."""
    daemon = start(tmp_path, binary).ready()
    sender = Sender(daemon.address, [POISON])
    daemon.process.wait(30)
    daemon.stderr.close()
    until(lambda: daemon.status_process().returncode != 0, what="an unhealthy status")
    # Without the fault it is a record like any other, and what waits for it goes on.
    daemon = start(tmp_path, binary, poison=0).ready()
    sender.join(30)
    assert (sender.error, sender.codes) == (None, [[0, 0, 0], [0], [0]])
    assert daemon.stop() == 0
