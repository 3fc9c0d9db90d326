"""Workers that go on trading while systemd starts their sidecar anew: killed, stuck, stopped, exchanged for another build.

They notice nothing but time: no exception, no warning, and at the end each order was answered once, each fill told once, and
what the answers and events add up to is the position that the sidecar has.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import booted
import packages
import pytest
import ringlane
from ringlane import RejectCode

SOCKET = "/run/ringlane/ringlane.sock"
SERVICE = "ringlane.service"
TRADERS = 3

_missing = booted.missing()
pytestmark = pytest.mark.skipif(_missing is not None, reason=f"skipped: needs {_missing}")


def open_to_all(machine: booted.Machine) -> None:
    """Lets other users of the machine reach this Python and the wheel in it; the machine's own layer keeps that."""
    places = [Path(os.path.realpath(sys.executable)), Path(sys.prefix), Path(ringlane.__file__)]
    above = sorted({str(parent) for place in places for parent in place.resolve().parents})
    machine.run("chmod", "o+x", *above)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[booted.Machine]:
    """A booted machine with the package installed, and alice in its group."""
    with booted.Machine(packages.make(tmp_path_factory.mktemp("machine"))) as machine:
        machine.run("dpkg", "-i", "/srv/ringlane.deb", seconds=120)
        machine.run("useradd", "--no-create-home", "alice")
        machine.run("usermod", "-aG", "ringlane", "alice")
        machine.run("install", "-d", "-o", "alice", "/var/tmp/notes")
        open_to_all(machine)
        yield machine


class Traders:
    """Workers under load; use it as a context manager."""

    def __init__(self, machine: booted.Machine, name: str, first_account: int, seed: int) -> None:
        self.machine, self.name = machine, name
        script = [sys.executable, "/srv/live_trader.py", SOCKET]
        self.accounts = range(first_account, first_account + TRADERS)
        self.processes = [
            machine.start(*script, str(account), str(seed + account), self.notes(account), self.notes(0), user="alice")
            for account in self.accounts
        ]

    def notes(self, account: int) -> str:
        return f"/var/tmp/notes/{self.name}-{account}"

    def read(self, account: int) -> list[list[str]]:
        text = self.machine.run("cat", self.notes(account)).stdout
        return [line.split() for line in text.splitlines()]

    def answers(self) -> list[int]:
        """How many orders of each were answered."""
        return [sum(line[0] == "O" for line in self.read(account)) for account in self.accounts]

    def __enter__(self) -> Traders:
        for process in self.processes:
            assert process.stdout is not None
            first = process.stdout.readline()
            assert first == "trading\n", first + process.communicate(timeout=10)[0]
        return self

    def go_on(self, what: str) -> float:
        """Waits until every one was answered more; gives how long it took, seconds."""
        before = self.answers()

        def all_were() -> bool:
            for process in self.processes:
                if process.poll() is not None:
                    raise AssertionError(f"{what}: a trader ended: {process.communicate()[0]}")
            return all(now > was for was, now in zip(before, self.answers(), strict=True))

        return self.machine.until(all_were, f"an answer behind {what}", 60)

    def end(self) -> None:
        """Has them come to an end, and nothing of them may have failed."""
        self.machine.run("touch", self.notes(0), user="alice")
        for process in self.processes:
            words = process.communicate(timeout=60)[0]
            assert (process.returncode, words) == (0, ""), words

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait()


Order = tuple[int, int]
#: Sequence number, code and filled quantity.
Answer = tuple[int, int, int]


def recorded(machine: booted.Machine) -> dict[Order, Answer]:
    """The answer to each order in the journal, by account and client order id; none may be there twice."""
    out = "/var/tmp/export"
    tables = ["--to", "csv", "--tables", "orders,results", "--out", out]
    machine.run("rm", "-rf", out)
    machine.run("ringlane", "export", "/var/lib/ringlane/journal", *tables, seconds=60)
    orders, results = (
        csv.DictReader(io.StringIO(machine.run("cat", f"{out}/{name}.csv").stdout)) for name in ("orders", "results")
    )
    answers = {
        int(row["sequence"]): (RejectCode[row["code"]].value if row["code"] else 0, int(row["filled_quantity"]))
        for row in results
    }
    entered = [
        ((int(row["account"]), int(row["client_order_id"])), int(row["sequence"]))
        for row in orders
        if int(row["client_order_id"])
    ]
    twice = [order for order, count in Counter(order for order, _ in entered).items() if count > 1]
    assert not twice, f"counted twice: {twice[:10]}"
    return {order: (sequence, *answers[sequence]) for order, sequence in entered}


def wrong(notes: dict[int, list[list[str]]], journal: dict[Order, Answer]) -> list[str]:
    """What in the notes of each account is not as the journal has it, or does not add up to the account's position."""
    found, left = [], dict(journal)
    for account, lines in notes.items():
        net, last = 0, 0
        for kind, *words in lines[:-1]:
            numbers = [int(word) for word in words]
            if kind == "O":
                client_order_id, sequence, code, filled = numbers
                recorded_as = left.pop((account, client_order_id), None)
                if recorded_as != (sequence, code, abs(filled)):
                    found.append(f"order {client_order_id} of {account}: {numbers}, recorded {recorded_as}")
            else:
                if numbers[0] != last + 1:
                    found.append(f"event {numbers[0]} of {account} behind {last}")
                last, filled = numbers[0], numbers[2]
            net += filled
        if lines[-1] != ["D", str(net)]:
            found.append(f"account {account}: what was told adds up to {net}, and its position is {lines[-1]}")
    return found + [f"recorded and never answered: {key}" for key in left if key[0] in notes]


def check(traders: Traders, machine: booted.Machine) -> int:
    """Each order and fill exactly once; gives how many orders there were."""
    assert not wrong({account: traders.read(account) for account in traders.accounts}, recorded(machine))
    return sum(traders.answers())


def test_what_is_missing_or_twice_is_seen() -> None:
    journal = {(50, 1): (10, 0, 3), (50, 2): (11, 204, 0), (9, 9): (12, 0, 2)}
    notes = [["O", "1", "10", "0", "3"], ["O", "2", "11", "204", "0"], ["E", "1", "1", "-2", "12", "0"], ["D", "1"]]
    assert not wrong({50: notes}, journal)
    for changed in (
        notes[1:],  # an answer that never came
        [notes[0], *notes],  # one that came twice
        [["O", "1", "10", "204", "3"], *notes[1:]],  # another answer
        [["O", "1", "10", "0", "2"], *notes[1:3], ["D", "0"]],  # a smaller fill
        [*notes[:2], notes[3]],  # a fill that was not told
        [*notes[:3], *notes[2:]],  # one that was told twice
        [*notes[:3], ["D", "-1"]],  # a position that is not the sum
    ):
        assert wrong({50: changed}, journal), changed


def pid(machine: booted.Machine) -> str:
    return machine.show(SERVICE, "MainPID")


def restarts(machine: booted.Machine) -> int:
    return int(machine.show(SERVICE, "NRestarts"))


def is_serving(machine: booted.Machine) -> bool:
    return machine.show(SERVICE, "ActiveState") == "active"


def test_workers_notice_nothing_but_time(machine: booted.Machine, seed: int) -> None:
    with Traders(machine, "restarts", 50, seed) as traders:
        traders.go_on("the beginning")
        for _ in range(3):
            count = restarts(machine)
            machine.run("systemctl", "kill", "-s", "KILL", SERVICE)
            took = traders.go_on("a kill")
            assert restarts(machine) == count + 1
            print(f"killed: answers again after {took:.2f} s")
        count = restarts(machine)
        machine.run("systemctl", "kill", "-s", "STOP", SERVICE)
        machine.until(lambda: restarts(machine) == count + 1 and is_serving(machine), "a restart by the watchdog", 30)
        print(f"stuck: answers again {traders.go_on('the watchdog'):.2f} s behind the restart")
        was = pid(machine)
        machine.run("systemctl", "restart", SERVICE)
        assert pid(machine) != was
        print(f"restarted: answers again after {traders.go_on('a restart'):.2f} s")
        # The socket still listens: whoever comes back starts it.
        machine.run("systemctl", "stop", SERVICE)
        print(f"stopped: answers again after {traders.go_on('a stop'):.2f} s")
        assert is_serving(machine)
        # Nothing listens, nothing runs.
        machine.run("systemctl", "stop", "ringlane.socket", SERVICE)
        before = traders.answers()
        time.sleep(1.0)
        assert traders.answers() == before
        machine.run("systemctl", "start", "ringlane.socket", SERVICE)
        print(f"stopped with its socket: answers again after {traders.go_on('a start'):.2f} s")
        traders.end()
        print(f"{check(traders, machine)} orders, each once")


def test_an_upgrade_serves_the_workers_of_the_build_before(machine: booted.Machine, seed: int) -> None:
    machine.run("systemctl", "reset-failed", SERVICE)
    with Traders(machine, "upgrade", 60, seed) as traders:
        traders.go_on("the beginning")
        was = pid(machine)
        machine.run("dpkg", "-i", "/srv/later.deb", seconds=120)
        print(f"upgraded: answers again after {traders.go_on('an upgrade'):.2f} s")
        assert pid(machine) != was
        assert f'"build": "{packages.LATER_BUILD}"' in introduction(machine, 2)
        # One that speaks another layout is told so, and the others do not feel it.
        for version in (1, 3):
            words = introduction(machine, version)
            assert '"error": "LAYOUT_VERSION"' in words
            assert f"the client speaks layout version {version}, this sidecar 2" in words
        traders.go_on("the refusals")
        # And back again: the recordings of the later build are read by this one.
        machine.run("dpkg", "-i", "/srv/ringlane.deb", seconds=120)
        traders.go_on("a downgrade")
        assert f'"build": "{packages.BUILD_HASH}"' in introduction(machine, 2)
        traders.end()
        print(f"{check(traders, machine)} orders, each once")


def introduction(machine: booted.Machine, layout_version: int) -> str:
    """What the sidecar answers to a hello of that layout version, its own spelling of JSON aside."""
    script = (
        "import json, socket, sys; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.connect(sys.argv[1]);"
        "s.send(json.dumps({'op': 'hello', 'layout_version': int(sys.argv[2]), 'build': '', 'name': 'old'}).encode());"
        "print(json.dumps(json.loads(s.recv(65536))))"
    )
    return machine.run("/usr/bin/python3", "-c", script, SOCKET, str(layout_version), user="alice").stdout
