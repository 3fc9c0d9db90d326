"""`ringlane admin` and `ringlane explain`: the real program against a sidecar, its exit codes, words and pages."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
import ringlane
from daemon import BINARY, Daemon, freeze
from ringlane import CancelReason, OrderState, RejectCode
from sender import sender


def ask(address: str, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "RINGLANE_SOCKET": address}
    return subprocess.run([BINARY, *words], capture_output=True, text=True, timeout=60, env=env)


def admin(address: str, *words: object) -> dict:
    """What an act that is done says as JSON."""
    done = ask(address, "admin", *map(str, words), "--json")
    assert done.returncode == 0, done
    told = json.loads(done.stdout)
    assert told["ok"] is True
    return told


def test_every_act_from_a_shell_decides_and_is_replayed(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path).ready()
    at = daemon.address
    with ringlane.connect(at) as client:
        lane = client.open("orders", depth=256)
        send = sender(lane)
        assert send()["code"] == 0
        assert admin(at, "halt", "AAPL")["what"] == "halt"
        assert send()["code"] == RejectCode.SYMBOL_HALTED
        assert send(symbol=2)["code"] == 0
        admin(at, "halt", "--all")
        assert send(symbol=2)["code"] == RejectCode.SYMBOL_HALTED
        admin(at, "resume", "2")
        assert (send(symbol=2)["code"], send()["code"]) == (0, RejectCode.SYMBOL_HALTED)
        admin(at, "resume", "--all")
        assert send()["code"] == 0
        admin(at, "limits", 1, 2, "--order-quantity-max", 10, "--group", 3, "--self-trade", "cancel-newest")
        assert send(quantity=11)["code"] == RejectCode.ORDER_SIZE_LIMIT
        assert send(account=2, side="SELL")["reason"] == CancelReason.SELF_TRADE
        admin(at, "limits", 1, "--symbol", "MSFT", "--order-notional-max", 100)
        assert (send(symbol=2)["code"], send()["code"]) == (RejectCode.NOTIONAL_LIMIT, 0)
        lane.events()
        told = admin(at, "instrument", "add", "7203", "--tick", 5, "--price-decimals", 2)
        assert told["symbol"] == 65
        assert send(symbol=65, account=3, price=15)["code"] == 0
        assert send(symbol=65, account=3, price=16)["code"] == RejectCode.OFF_TICK
        # A name that looks like a number is a name first.
        assert admin(at, "cancel-all", "--symbol", "7203")["count"] == 1
        assert admin(at, "cancel-all", "--symbol", "AAPL", "--account", 1)["count"] == 3
        assert {int(event["reason"]) for event in lane.events()} == {CancelReason.ADMINISTRATOR}
        assert send(account=4, time_in_force="DAY")["state"] == OrderState.RESTING
        before = time.time_ns()
        assert admin(at, "tell-time")["count"] >= before
        assert len(client.orders(4).orders) == 1
        assert admin(at, "end-day")["count"] >= before
        assert len(client.orders(4).orders) == 0
        assert admin(at, "cancel-all", "--all")["count"] == client_count(client.state().resting, 2)
        done = ask(at, "admin", "disconnect", str(lane.number))
        assert (done.returncode, done.stdout) == (0, f"lane {lane.number}: ended\n")
        with pytest.raises(ringlane.LaneFaulted, match=r"(?i)disconnected|administrator"):
            for _ in range(1000):
                send(account=7)
        live = client.state().state_hash
    assert daemon.replay()["state_hash"] == live
    assert daemon.stop() == 0


def test_a_shell_shows_what_is_in_force(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path).ready()
    at = daemon.address
    admin(at, "limits", 7, 9, "--position-max", 50, "--group", 3, "--self-trade", "cancel-oldest")
    admin(at, "limits", 8, "--symbol", "MSFT", "--exposure-max", 1000)
    admin(at, "halt", "AAPL")
    told = admin(at, "show")
    with ringlane.connect(at) as client:
        rules = client.admin.show()
    assert told["sequence"] == rules.sequence
    assert told["halted"] == rules.halted.tolist() == [1]
    assert [row["name"] for row in told["instruments"] if row["halted"]] == ["AAPL"]
    assert told["groups"] == {"3": [[7, 9]]}
    assert len(told["limits"]) == len(rules.limits)
    for row, ours in zip(told["limits"], rules.limits, strict=True):
        assert (row["first"], row["last"]) == (ours["account_first"], ours["account_last"])
        assert all(row[name] == ours[name] for name in row if name not in ("first", "last", "self_trade"))
    assert [row["self_trade"] for row in told["limits"] if row["first"] == 7] == ["cancel-oldest"]
    words = ask(at, "admin", "show").stdout
    assert "halted: AAPL\n" in words
    assert "  accounts 7 to 9: position_max 50, group 3, self_trade cancel-oldest\n" in words
    assert "  account 8 in MSFT: exposure_max 1000\n" in words
    assert "group 3: accounts 7 to 9\n" in words
    daemon.reload("[[access.rules]]\nlanes_max = 4\n")
    done = ask(at, "admin", "show", "--json")
    assert (done.returncode, json.loads(done.stdout)["error"]) == (1, "NOT_PERMITTED")
    assert daemon.stop() == 0


def client_count(left: int, cancelled: int) -> int:
    """So many orders were cancelled, and none is left."""
    assert left == 0
    return cancelled


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["halt", "NOPE"], "no instrument 'NOPE'"),
        (["halt", "9999"], "no instrument"),
        (["limits", "0"], "ascend within 1"),
        (["limits", "5", "4"], "ascend within 1"),
        (["limits", "1", "--symbol", "1", "--group", "2"], "neither group nor self_trade"),
        (["cancel-all", "--account", "0"], "numbered from 1"),
        (["cancel-all", "--account", "5", "--lane", "0"], "numbered from 1"),
        (["cancel-all", "--account", "16777216"], "account must be"),
        (["disconnect", "77"], "no open lane 77"),
        (["instrument", "add", "AAPL"], "AAPL|same name"),
        (["instrument", "add", "two words"], "printable ASCII"),
        (["instrument", "add", "X" * 25], "1 to 24"),
    ],
)
def test_what_is_refused_says_why_and_what_to_do(
    ringlane_sidecar: ringlane.Sidecar, words: list[str], said: str
) -> None:
    with ringlane.connect(ringlane_sidecar.address) as client:
        before = client.state()
        done = ask(ringlane_sidecar.address, "admin", *words)
        assert done.returncode == 1, done
        assert done.stdout == ""
        assert any(part in done.stderr.replace('"', "'") for part in said.split("|")), done.stderr
        assert "\nremedy: " in done.stderr
        done = ask(ringlane_sidecar.address, "admin", *words, "--json")
        told = json.loads(done.stdout)
        assert (done.returncode, told["ok"], told["error"]) == (1, False, "BAD_VALUE")
        assert told["message"]
        assert told["remedy"]
        assert client.state() == before


def test_what_is_said_wrong_reaches_no_sidecar(ringlane_sidecar: ringlane.Sidecar) -> None:
    for words in (["halt"], ["resume"], ["cancel-all"], ["halt", "1", "--all"], ["cancel-all", "--all", "--account", "1"], ["fly"],
                  ["limits", "1", "--position-max", "much"], ["limits", "1", "--self-trade", "sometimes"]):  # fmt: skip
        done = ask(ringlane_sidecar.address, "admin", *words)
        assert (done.returncode, done.stdout) == (2, ""), words
        assert "--help" in done.stderr or "Usage" in done.stderr
    with ringlane.connect(ringlane_sidecar.address) as client:
        assert client.symbols["AAPL"] == 1


def test_who_may_not_administer_is_told_who_may(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, config="[[access.rules]]\nlanes_max = 4\n").ready()
    done = ask(daemon.address, "admin", "halt", "--all", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["error"]) == (1, "NOT_PERMITTED")
    assert "administer = true" in told["remedy"]
    daemon.reload("[[access.rules]]\nadminister = true\n")
    admin(daemon.address, "halt", "--all")
    assert daemon.stop() == 0


def test_without_a_sidecar_it_says_how_to_get_one(tmp_path: Path) -> None:
    done = ask(str(tmp_path / "nobody"), "admin", "halt", "--all")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"no sidecar answers at {tmp_path}/nobody" in done.stderr
    assert "remedy: start the sidecar" in done.stderr
    done = ask("@ringlane-nobody", "admin", "halt", "--all", "--json")
    assert (done.returncode, json.loads(done.stdout)["error"]) == (2, "NO_SIDECAR")
    # One that is stopped in the middle of it: the words do not say that it was not done.
    daemon = Daemon(tmp_path).ready()
    freeze(daemon.process.pid)
    asking = subprocess.Popen(
        [BINARY, "admin", "halt", "--all", "--address", daemon.address], stderr=subprocess.PIPE, text=True
    )
    time.sleep(0.1)
    daemon.kill()
    _, words = asking.communicate(timeout=30)
    assert asking.returncode == 2
    assert "is gone" in words
    assert "remedy: " in words


def test_pages_and_completions_know_the_acts(tmp_path: Path) -> None:
    subprocess.run([BINARY, "manual", str(tmp_path)], check=True, timeout=60)
    for page, words in {
        "ringlane-admin.1": ["limits", "cancel\\-all", "\\-\\-address"],
        "ringlane-admin-limits.1": ["\\-\\-order\\-quantity\\-max", "\\-\\-json"],
        "ringlane-admin-instrument-add.1": ["\\-\\-tick"],
        "ringlane-explain.1": ["\\-\\-json"],
        "ringlane.bash": ["cancel-all", "--self-trade"],
        "_ringlane": ["cancel-oldest"],
        "ringlane.fish": ["tell-time"],
    }.items():
        text = (tmp_path / page).read_text()
        assert all(word in text for word in words), page
    shown = ask("", "admin", "limits", "--help").stdout
    assert "All limits of the range are replaced" in shown


def test_codes_are_explained_alike_in_shell_and_python() -> None:
    told = json.loads(ask("", "explain", "--json").stdout)
    assert {row["number"]: row["name"] for row in told["codes"]} == {int(code): code.name for code in RejectCode}
    for row in told["codes"]:
        assert ringlane.explain(row["number"]) == f"{row['name']} ({row['number']}): {row['words']}"
    assert {row["name"] for row in told["reasons"]} == {reason.name for reason in CancelReason}
    one = ask("", "explain", "off_tick")
    assert one.stdout == ask("", "explain", "209").stdout
    assert one.stdout.startswith("209 OFF_TICK")
    unknown = ask("", "explain", "999")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "no reject code 999" in unknown.stderr
