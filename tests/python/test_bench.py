"""The bench itself: that it runs, that its report has the promised shape, and that pairs and bars are counted right."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.measure import Pairs, interleave, percentile
from bench.paths import ROOT
from bench.row import at_least, at_most_times, times_faster

RUN = ROOT / "tests" / "bench" / "run.py"
FAST_ROWS = ["rtt_single_order_python_p50", "fairness_2"]
ROW_KEYS = ["name", "value", "unit", "reference", "reference_value", "ratio", "floor", "goal", "reached", "command"]


def bench(output: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(RUN), "--quick", "--output", str(output), *words]
    return subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_rows_are_measured_and_merged(tmp_path: Path) -> None:
    for name in FAST_ROWS:
        done = bench(tmp_path, "--only", name)
        assert done.returncode == 0, done.stderr
        assert name in done.stdout
    report = json.loads((tmp_path / "report.json").read_text())
    assert [row["name"] for row in report["rows"]] == FAST_ROWS
    assert report["machine"]["quick"] is True
    for row in report["rows"]:
        assert list(row) == ROW_KEYS
        assert row["unit"] in ("ns", "bytes", "1/s", "fraction", "instructions")
        assert row["value"] > 0
        assert row["ratio"] > 0
        assert row["reached"] in ("goal", "floor", "none")
        assert row["name"] in row["command"]
    for page in ("report.html", "report.svg"):
        assert "</svg>" in (tmp_path / page).read_text()


def test_every_row_says_what_it_measures(tmp_path: Path) -> None:
    done = bench(tmp_path, "--list")
    assert done.returncode == 0
    assert "latency_at_120k" in done.stdout


def test_fewer_than_five_pairs_are_refused(tmp_path: Path) -> None:
    command = [sys.executable, str(RUN), "--pairs", "4", "--output", str(tmp_path)]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "5 at least" in done.stderr


def test_pairs_take_turns_and_the_ratio_is_the_median_of_ratios() -> None:
    order: list[str] = []
    ours, theirs = iter([10.0, 20.0, 90.0]), iter([5.0, 5.0, 10.0])

    def side(name: str, values: object) -> float:
        order.append(name)
        return next(values)  # type: ignore[call-overload, no-any-return]

    pairs = interleave(3, lambda: side("ours", ours), lambda: side("theirs", theirs))
    assert order == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]
    assert pairs == Pairs([10.0, 20.0, 90.0], [5.0, 5.0, 10.0], [2.0, 4.0, 9.0])
    assert (pairs.value, pairs.reference_value, pairs.ratio) == (20.0, 5.0, 4.0)


def test_bars_look_the_right_way() -> None:
    assert [at_most_times(7, 4).reached(0, ratio) for ratio in (4.0, 6.9, 7.1)] == ["goal", "floor", "none"]
    assert [times_faster(6, 12).reached(0, ratio) for ratio in (12.0, 6.0, 5.9)] == ["goal", "floor", "none"]
    assert [at_least(4e6, 10e6).reached(value, None) for value in (1e7, 4e6, 3e6)] == ["goal", "floor", "none"]


def test_percentiles_are_samples() -> None:
    assert [percentile([4, 1, 3, 2], mark) for mark in (0.0, 0.5, 1.0)] == [1.0, 2.0, 4.0]
