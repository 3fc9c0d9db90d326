"""What the versions in CHANGELOG.md promise: which layouts are served, which are refused and in what words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import recordings
import ringlane
from daemon import Daemon
from plain_client import PlainClient, Refused
from ringlane import _shim

ROOT = Path(__file__).parents[2]
#: Where a segment's header holds the format's and the engine's version, u32 each.
FORMAT_OFFSET, ENGINE_OFFSET = 8, 12


def test_the_table_has_the_numbers_of_the_code(tmp_path: Path) -> None:
    table = dict(re.findall(r"^\| ([a-z ]+?) +\| (\d+) +\|", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE))
    recordings.trade(tmp_path / "fresh", 1, batches=1)
    header = recordings.first_segment(tmp_path / "fresh").read_bytes()[:16]
    numbers = [int.from_bytes(header[at : at + 4], "little") for at in (FORMAT_OFFSET, ENGINE_OFFSET)]
    assert table["layout and control protocol"] == str(_shim.LAYOUT_VERSION)
    assert [table["journal format"], table["engine semantics"]] == [str(number) for number in numbers]
    protocol = (ROOT / "layout/PROTOCOL.md").read_text()
    assert protocol.startswith(f"# The Ringlane protocol, layout version {_shim.LAYOUT_VERSION}\n")


def test_another_layout_is_refused_in_words_logged_and_counted(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path).ready()
    before = daemon.status()["refused"]
    for version in (_shim.LAYOUT_VERSION - 1, _shim.LAYOUT_VERSION + 1):
        with pytest.raises(Refused, match=f"speaks layout version {version}, this sidecar {_shim.LAYOUT_VERSION}"):
            PlainClient(daemon.address, layout_version=version)
    assert daemon.status()["refused"] == before + 2
    assert re.search(r"refused: the client speaks layout version .* uid=\d+ pid=\d+", daemon.words())
    assert daemon.stop() == 0


def test_a_client_of_another_layout_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its start, and when the sidecar that it comes back to is of another layout: its lanes end, they do not guess."""
    daemon = Daemon(tmp_path).ready()
    with ringlane.connect(daemon.address) as client:
        lane = client.open("orders", depth=64, timeout=20)
        order = lane.batch(symbol=1, side="BUY", account=7, client_order_id=1, price=1000, quantity=1)
        held = lane.process(order)
        monkeypatch.setattr(_shim, "LAYOUT_VERSION", _shim.LAYOUT_VERSION - 1)
        daemon.kill()

        def come_back() -> Daemon:
            started = Daemon(tmp_path).ready()
            with pytest.raises(ringlane.SidecarLost):
                lane.process(order)
            return started

        with pytest.warns(RuntimeWarning, match=r"cannot go on: .*install the same ringlane on both sides"):
            daemon = come_back()
        assert held["code"].tolist() == [0], "what was answered stays readable"
        with pytest.raises(ringlane.SchemaMismatch, match="install the same ringlane on both sides"):
            ringlane.connect(daemon.address)
    monkeypatch.undo()
    with ringlane.connect(daemon.address) as client:
        assert client.state().resting == 1, "the journal does not know of layouts"
    assert daemon.stop() == 0
