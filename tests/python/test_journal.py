"""Recordings: a replay gives what the live sidecar had, and a sidecar goes on only with a configuration that fits."""

import json
import subprocess

import pytest
import ringlane
from daemon import BINARY
from ringlane import OrderState, RejectCode, Side


def replayed(journal) -> dict:
    """What `ringlane replay` says of a recording."""
    done = subprocess.run(
        [BINARY, "replay", "--json", str(journal)], capture_output=True, text=True, timeout=60, check=True
    )
    return json.loads(done.stdout)


def resting(client, ids) -> list[int]:
    """Enters buy orders that cannot trade, through a lane that is closed then; gives their reject codes."""
    lane = client.open("orders")
    batch = lane.batch(symbol="AAPL", side=Side.BUY, account=1, client_order_id=ids, price="100.00", quantity=1)
    codes = [int(code) for code in lane.process(batch)["code"]]
    lane.close()
    return codes


def test_the_cap_on_resting_orders_is_replayed(tmp_path):
    """BOOK_FULL depends on a configured number, so the journal must hold it."""
    config = {"orders": {"resting_orders_max": 2}}
    with ringlane.Sidecar(journal=tmp_path, config=config) as sidecar, ringlane.connect(sidecar.address) as client:
        assert resting(client, [1, 2, 3]) == [0, 0, RejectCode.BOOK_FULL]
        live = client.state()
    answer = replayed(tmp_path)
    assert answer["state_hash"] == live.state_hash
    assert (answer["rejected"], answer["resting"]) == (1, 2)


def test_a_larger_cap_after_a_restart_is_replayed_too(tmp_path):
    for cap, ids, codes in ((1, [1, 2], [0, RejectCode.BOOK_FULL]), (3, [3, 4, 5], [0, 0, RejectCode.BOOK_FULL])):
        config = {"orders": {"resting_orders_max": cap}}
        with ringlane.Sidecar(journal=tmp_path, config=config) as sidecar, ringlane.connect(sidecar.address) as client:
            assert resting(client, ids) == codes
            live = client.state()
    assert replayed(tmp_path)["state_hash"] == live.state_hash


def test_orders_rest_across_a_restart(tmp_path):
    with ringlane.Sidecar(journal=tmp_path) as sidecar, ringlane.connect(sidecar.address) as client:
        assert resting(client, [7]) == [0]
    with ringlane.Sidecar(journal=tmp_path) as sidecar, ringlane.connect(sidecar.address) as client:
        lane = client.open("orders")
        sell = lane.batch(symbol="AAPL", side=Side.SELL, account=2, client_order_id=1, price="100.00", quantity=1)
        assert lane.process(sell)["state"][0] == OrderState.FILLED


def test_a_changed_instrument_is_refused_in_words(tmp_path):
    def config(tick):
        return {"orders": {"instruments": [{"name": "RING", "price_decimals": 2, "tick": tick}]}}

    with ringlane.Sidecar(journal=tmp_path, config=config(1)) as sidecar:
        ringlane.connect(sidecar.address).close()
    with pytest.raises(ringlane.SidecarUnavailable, match=r"symbol 1 is RING in the journal .*tick 1"):
        ringlane.Sidecar(journal=tmp_path, config=config(5))
