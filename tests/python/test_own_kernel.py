"""A kernel of the user's own: the example is built, its script run, a bug in a kernel ends its lane alone."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import ringlane

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "target" / "release" / "examples" / "black_scholes"


@pytest.fixture(scope="module")
def example() -> str:
    """The program, built; nothing happens when it is up to date."""
    command = ["cargo", "build", "--quiet", "--release", "-p", "ringlane-sidecar", "--example", "black_scholes"]
    subprocess.run(command, cwd=ROOT, check=True, timeout=580)
    return str(EXAMPLE)


@pytest.fixture
def own(example: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ringlane.Sidecar]:
    monkeypatch.setenv("RINGLANE_BINARY", example)
    with ringlane.Sidecar() as sidecar:
        yield sidecar


def plain_price(spot: float, strike: float, years: float, rate: float, volatility: float, sign: int) -> float:
    d1 = (math.log(spot / strike) + (rate + volatility**2 / 2) * years) / (volatility * math.sqrt(years))
    d2 = d1 - volatility * math.sqrt(years)
    n1, n2 = ((1 + math.erf(sign * d / math.sqrt(2))) / 2 for d in (d1, d2))
    return sign * (spot * n1 - strike * math.exp(-rate * years) * n2)


def test_the_script_prices_options(example: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "sidecar/examples/black_scholes.py")],
        env={**os.environ, "RINGLANE_BINARY": example},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # Hull's example: a call of strike 40 is worth 4.76, a put 0.81.
    assert "call  40.0:  4.7594" in done.stdout
    assert "put   40.0:  0.8086" in done.stdout


def test_a_batch_agrees_with_the_formula(own: ringlane.Sidecar, seed: int) -> None:
    rng = random.Random(seed)
    options = [
        (rng.uniform(1, 200), rng.uniform(1, 200), rng.uniform(0.01, 5), rng.uniform(-0.05, 0.2), rng.uniform(0.01, 1))
        for _ in range(20_000)
    ]
    spot, strike, years, rate, volatility = np.array(options).T
    with ringlane.connect(own.address) as client, client.open("black_scholes", depth=32768, timeout=60) as lane:
        assert lane.request_schema["volatility"].doc == "Volatility a year, above 0."
        columns = {"spot": spot, "strike": strike, "years": years, "rate": rate, "volatility": volatility}
        for right, sign in (("CALL", 1), ("PUT", -1)):
            found = lane.process(lane.batch(right=right, **columns), copy=True)
            expected = [plain_price(*option, sign) for option in options]
            np.testing.assert_allclose(found["price"], expected, rtol=1e-9, atol=1e-9)
            assert not found["status"].any()
        # One bad row spoils no other, and single requests work too.
        batch = lane.batch(right="CALL", **{**columns, "spot": np.where(np.arange(20_000) == 7, -1, spot)})
        status = lane.process(batch, copy=True)["status"]
        assert status.tolist() == [int(n == 7) for n in range(20_000)]
        assert lane.call(42.0, 40.0, 0.5, 0.1, 0.0, 0.2, lane.enums["Right"].CALL)[0] == pytest.approx(
            4.759422, abs=1e-6
        )


def test_a_kernel_that_panics_ends_its_lane_alone(
    example: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RINGLANE_BINARY", example)
    own = ringlane.Sidecar(journal=tmp_path / "journal")
    with own, ringlane.connect(own.address) as client, ringlane.connect(own.address) as other:
        orders = other.open("orders", depth=64, timeout=20)
        well = other.open("breaks", depth=64, timeout=20)
        lane = client.open("breaks", depth=64, timeout=20)
        before = lane.process(lane.batch(number=[1, 2, 3]), copy=True)
        assert before["number"].tolist() == [2, 3, 4]
        ticket = lane.submit(lane.batch(number=[13] * 5))
        with pytest.raises(ringlane.LaneFaulted, match="KERNEL_PANICKED"):
            ticket.result(timeout=20)
        with pytest.raises(ringlane.LaneFaulted, match="KERNEL_PANICKED"):
            lane.process(lane.batch(number=1))
        assert well.process(well.batch(number=41), copy=True)["number"].tolist() == [42]
        sell = orders.batch(symbol="AAPL", side="SELL", account=1, client_order_id=1, price="150", quantity=1)
        assert orders.process(sell, copy=True)["code"].tolist() == [0]
        lane.close()
        again = client.open("breaks", depth=64, timeout=20)
        assert again.process(again.batch(number=1), copy=True)["number"].tolist() == [2]
        words = own.stderr()
    assert "13 is the number that this kernel breaks at" in words
    # The journal is whole, and every output in it is the one that is computed again.
    replayed = subprocess.run(
        [example, "replay", own.journal, "--json"], capture_output=True, text=True, timeout=60, check=False
    )
    assert replayed.returncode == 0, replayed.stderr
    found = json.loads(replayed.stdout)
    assert (found["accepted"], found["resting"], found["torn"]) == (1, 1, None)
    checked = subprocess.run([example, "replay", own.journal, "--verify"], capture_output=True, timeout=60, check=False)
    assert checked.returncode == 0, checked.stderr
