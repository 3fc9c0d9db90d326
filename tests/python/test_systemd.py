"""The Debian package and its units under a real systemd: install, access, restart, watchdog, reload, upgrade, removal."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import booted
import packages
import pytest

SOCKET = "/run/ringlane/ringlane.sock"
UNITS = ["ringlane.service", "ringlane.socket"]

_missing = booted.missing()
pytestmark = pytest.mark.skipif(_missing is not None, reason=f"skipped: needs {_missing}")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of this tree's binary, a second one of a later version, and the trader."""
    return packages.make(tmp_path_factory.mktemp("machine"))


@pytest.fixture(scope="module")
def machine(package: Path) -> Iterator[booted.Machine]:
    """A booted machine with the package installed, alice in its group and bob not."""
    with booted.Machine(package) as machine:
        machine.run("dpkg", "-i", "/srv/ringlane.deb", seconds=120)
        for user in ("alice", "bob"):
            machine.run("useradd", "--no-create-home", user)
        machine.run("usermod", "-aG", "ringlane", "alice")
        yield machine


def trade(
    machine: booted.Machine, first: int, count: int = 4, user: str | None = "alice", socket: str = SOCKET
) -> dict:
    """What `trader.py` says."""
    done = machine.run("/usr/bin/python3", "/srv/trader.py", socket, str(first), str(count), user=user)
    answer = json.loads(done.stdout)
    assert user == "bob" or "refused" not in answer, answer
    return answer


def restarts(machine: booted.Machine, unit: str = "ringlane.service") -> int:
    return int(machine.show(unit, "NRestarts"))


def is_active(machine: booted.Machine, unit: str = "ringlane.service") -> bool:
    return machine.run("systemctl", "is-active", "-q", unit, check=False).returncode == 0


def test_it_runs_once_it_is_installed(machine: booted.Machine) -> None:
    machine.until(lambda: is_active(machine), "the service")
    assert machine.show("ringlane.service", "StatusText") == f"serving at {SOCKET}"
    status = machine.run("ringlane", "status", "--json")
    assert json.loads(status.stdout)["health"] == "healthy"
    for unit in UNITS:
        assert machine.run("systemctl", "is-enabled", unit).stdout.strip() == "enabled"
    assert machine.run("stat", "-c", "%U:%G %a", SOCKET).stdout.strip() == "ringlane:ringlane 660"


def test_a_member_of_the_group_trades_and_another_uid_is_refused(machine: booted.Machine) -> None:
    assert trade(machine, 1)["states"] == [1]
    assert trade(machine, 100, user="bob") == {"refused": "Permission denied"}


def test_units_are_clean_and_hardened(machine: booted.Machine) -> None:
    for unit in (*UNITS, "ringlane@desk2.service", "ringlane@desk2.socket"):
        # The command exits with 0 where it finds keys that it does not know.
        verified = machine.run("systemd-analyze", "verify", unit, check=False)
        assert (verified.returncode, verified.stderr) == (0, "")
    for unit in ("ringlane.service", "ringlane@.service"):
        path = f"/lib/systemd/system/{unit}"
        machine.run("systemd-analyze", "security", "--offline=yes", "--threshold=10", path)


def test_a_killed_sidecar_is_back_at_once_with_its_books(machine: booted.Machine) -> None:
    before = trade(machine, 200)
    count = restarts(machine)
    machine.run("systemctl", "kill", "-s", "KILL", "ringlane.service")
    after = trade(machine, 300)
    assert after["resting"] == before["resting"] + 4
    assert restarts(machine) == count + 1


def test_a_stuck_sidecar_is_killed_by_the_watchdog_and_an_idle_one_is_not(machine: booted.Machine) -> None:
    before, count = trade(machine, 400), restarts(machine)
    # As long as the watchdog's limit and half: without the pulse of an idle sequencer it would have been killed.
    limit = float(re.sub(r"[^\d.]", "", machine.show("ringlane.service", "WatchdogUSec")))
    machine.run("sleep", str(limit * 1.5))
    assert restarts(machine) == count
    machine.run("systemctl", "kill", "-s", "STOP", "ringlane.service")
    machine.until(lambda: restarts(machine) == count + 1 and is_active(machine), "a restart by the watchdog", 30)
    assert "Watchdog timeout" in machine.journal("ringlane.service")
    assert trade(machine, 500)["resting"] == before["resting"] + 4


def test_stop_and_start_keep_the_books_and_the_socket_starts_it(machine: booted.Machine) -> None:
    before = trade(machine, 600)
    machine.run("systemctl", "stop", "ringlane.service")
    assert machine.show("ringlane.service", "Result") == "success"
    # The socket unit still listens: the first client starts the service.
    assert trade(machine, 700)["resting"] == before["resting"] + 4
    assert is_active(machine)


def test_a_reload_leaves_the_sidecar_running(machine: booted.Machine) -> None:
    pid = machine.show("ringlane.service", "MainPID")
    machine.run("systemctl", "reload", "ringlane.service")
    assert trade(machine, 800)["states"] == [1]
    assert machine.show("ringlane.service", "MainPID") == pid


def test_a_broken_configuration_is_said_and_not_tried_again(machine: booted.Machine) -> None:
    machine.run(
        "sh", "-c", "cp /etc/ringlane/ringlane.toml /tmp/good && echo 'sokcet = 1' > /etc/ringlane/ringlane.toml"
    )
    assert machine.run("systemctl", "restart", "ringlane.service", check=False).returncode != 0
    assert machine.show("ringlane.service", "Result") == "exit-code"
    assert "sokcet" in machine.journal("ringlane.service")
    machine.run(
        "sh",
        "-c",
        "cp /tmp/good /etc/ringlane/ringlane.toml && systemctl reset-failed && systemctl start ringlane.service",
    )
    assert trade(machine, 900)["states"] == [1]


def test_one_that_dies_again_and_again_is_given_up_until_an_administrator_resets_it(machine: booted.Machine) -> None:
    for _ in range(int(machine.show("ringlane.service", "StartLimitBurst")) + 1):
        pid = machine.show("ringlane.service", "MainPID")
        machine.run("systemctl", "kill", "-s", "KILL", "ringlane.service", check=False)
        machine.until(lambda pid=pid: machine.show("ringlane.service", "MainPID") != pid, "its end")
        machine.until(lambda: machine.show("ringlane.service", "ActiveState") in ("active", "failed"), "a restart")
        if machine.show("ringlane.service", "ActiveState") == "failed":
            break
    assert "Start request repeated too quickly" in machine.journal("ringlane.service")
    machine.run("systemctl", "reset-failed", *UNITS)
    machine.run("systemctl", "start", *UNITS)
    assert trade(machine, 1000)["states"] == [1]


def test_two_instances_do_not_know_of_each_other(machine: booted.Machine) -> None:
    machine.run("cp", "/etc/ringlane/ringlane.toml", "/etc/ringlane/desk2.toml")
    machine.run("systemctl", "start", "ringlane@desk2.service")
    answer = trade(machine, 1, socket="/run/ringlane-desk2/ringlane.sock")
    assert answer["resting"] == 4
    status = machine.run("ringlane", "status", "--json", "--address", "/run/ringlane-desk2/ringlane.sock")
    assert json.loads(status.stdout)["health"] == "healthy"
    machine.run("systemctl", "stop", "ringlane@desk2.service", "ringlane@desk2.socket")


def test_it_logs_to_the_journal(machine: booted.Machine) -> None:
    words = machine.journal("ringlane.service")
    assert "serving" in words
    assert "lane open" in words
    found = machine.run("journalctl", "-o", "json", "-n", "1", "RINGLANE_KERNEL=orders")
    fields = json.loads(found.stdout)
    assert (fields["SYSLOG_IDENTIFIER"], fields["PRIORITY"], fields["MESSAGE"]) == ("ringlane", "5", "lane open")
    assert int(fields["RINGLANE_LANE"]) > 0


def test_an_upgrade_restarts_it_with_its_books(machine: booted.Machine) -> None:
    before, pid = trade(machine, 1100), machine.show("ringlane.service", "MainPID")
    machine.run("dpkg", "-i", "/srv/later.deb", seconds=120)
    changed = lambda: machine.show("ringlane.service", "MainPID") not in (pid, "0")  # noqa: E731
    machine.until(lambda: changed() and is_active(machine), "a restart")
    assert trade(machine, 1200)["resting"] == before["resting"] + 4


def test_removal_keeps_recordings_and_purge_leaves_nothing(machine: booted.Machine) -> None:
    machine.run("dpkg", "-r", "ringlane", seconds=60)
    assert not is_active(machine)
    assert not is_active(machine, "ringlane.socket")
    machine.run("test", "-d", "/var/lib/ringlane/journal")
    machine.run("dpkg", "-i", "/srv/ringlane.deb", seconds=60)
    assert trade(machine, 1300)["states"] == [1]
    machine.run("dpkg", "-P", "ringlane", seconds=60)
    places = "/var/lib/ringlane* /etc/ringlane /run/ringlane* /usr/bin/ringlane /dev/shm/ringlane*"
    left = machine.run("sh", "-c", f"ls -d {places} 2>&1 | grep -v 'No such'", check=False)
    assert left.stdout == ""
