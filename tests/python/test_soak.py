"""A short soak, and what its verdict would say of a sidecar that grows."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from soak import BOUNDS, verdict

PROGRAM = Path(__file__).parent / "soak.py"


def test_twenty_seconds_are_flat(seed):
    command = [sys.executable, str(PROGRAM), "--minutes", str(20 / 60), "--seed", str(seed % 2**31)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, (told[-1:], done.stderr[-3000:])
    assert told[0]["seed"] == seed % 2**31
    assert told[-1]["flat"] is True
    assert told[-1]["kills"] >= 2
    assert told[-1]["orders"] > 20_000
    assert len(told) > 15


def samples(count: int = 100, **growth: float) -> list[dict[str, float]]:
    """A sidecar that is as it was, except for what grows a second."""
    plain = {"rss_bytes": 60e6, "fds": 60, "threads": 7, "p99_us": 300.0}
    return [{name: value + growth.get(name, 0.0) * at for name, value in plain.items()} for at in range(count)]


@pytest.mark.parametrize("name", BOUNDS)
def test_what_grows_is_not_flat(name):
    growth = {"rss_bytes": 200_000, "fds": 0.1, "threads": 0.1, "p99_us": 60.0}[name]
    answer = verdict(samples(**{name: growth}))
    assert answer["flat"] is False
    assert [other for other in BOUNDS if not answer[other]["flat"]] == [name]


def test_what_jumps_once_and_comes_back_is_flat():
    made = samples()
    made[50]["p99_us"] = 1e6
    assert verdict(made)["flat"] is True
    assert verdict([])["flat"] is False
