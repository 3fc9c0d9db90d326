"""A row of the report: what was measured, beside what, and which bars it clears."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.measure import Pairs


@dataclass(frozen=True)
class Bar:
    """Two marks: `floor` must be cleared, `goal` is what we want. On the ratio or on the value itself."""

    floor: float
    goal: float
    less_is_better: bool
    on_ratio: bool

    def reached(self, value: float, ratio: float | None) -> str:
        """`goal`, `floor` or `none`: the highest mark that was cleared."""
        measured = ratio if self.on_ratio else value
        if measured is None:
            return "none"
        for name, mark in (("goal", self.goal), ("floor", self.floor)):
            if measured <= mark if self.less_is_better else measured >= mark:
                return name
        return "none"


def at_most_times(floor: float, goal: float) -> Bar:
    """Ours / reference may be this much."""
    return Bar(floor, goal, less_is_better=True, on_ratio=True)


def times_faster(floor: float, goal: float) -> Bar:
    """Reference time / ours, or our rate / theirs, must be this much."""
    return Bar(floor, goal, less_is_better=False, on_ratio=True)


def at_most(floor: float, goal: float) -> Bar:
    """The value itself may be this much."""
    return Bar(floor, goal, less_is_better=True, on_ratio=False)


def at_least(floor: float, goal: float) -> Bar:
    """The value itself must be this much."""
    return Bar(floor, goal, less_is_better=False, on_ratio=False)


@dataclass(frozen=True)
class Bench:
    """What every row needs to know about this run."""

    scratch: Path
    """Directory on the disk for recordings; each is removed when its measurement ends."""
    pairs: int
    quick: bool
    client_cpu: int
    sidecar_cpu: int

    def scaled(self, count: int, at_least: int = 1) -> int:
        """`count`, or a fiftieth of it in a quick run."""
        return max(count // 50, at_least) if self.quick else count

    def seconds(self, seconds: float) -> float:
        """`seconds`, or a tenth of them in a quick run."""
        return max(seconds / 10, 0.2) if self.quick else seconds


@dataclass(frozen=True)
class Measured:
    """What a row's function gives back. `details` goes to the report's `details`, never into the row."""

    value: float
    reference: str | None = None
    reference_value: float | None = None
    ratio: float | None = None
    details: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(pairs: Pairs, reference: str, **details: Any) -> Measured:
        """From interleaved pairs: medians of both sides, and the median of the pairs' ratios."""
        details |= {"ours": pairs.ours, "theirs": pairs.theirs, "ratios": pairs.ratios}
        return Measured(pairs.value, reference, pairs.reference_value, pairs.ratio, details)


@dataclass(frozen=True)
class Row:
    """A row and the function that measures it."""

    name: str
    unit: str
    bar: Bar | None
    measure: Callable[[Bench], Measured]

    def result(self, measured: Measured) -> dict[str, Any]:
        """The row as it stands in report.json."""
        return {
            "name": self.name,
            "value": measured.value,
            "unit": self.unit,
            "reference": measured.reference,
            "reference_value": measured.reference_value,
            "ratio": measured.ratio,
            "floor": self.bar.floor if self.bar else None,
            "goal": self.bar.goal if self.bar else None,
            "reached": self.bar.reached(measured.value, measured.ratio) if self.bar else None,
            "command": f"make bench ARGS='--only {self.name}'",
        }


ROWS: dict[str, Row] = {}


def row(
    name: str, unit: str, bar: Bar | None = None
) -> Callable[[Callable[[Bench], Measured]], Callable[[Bench], Measured]]:
    """Enters a function as the row `name`."""

    def enter(measure: Callable[[Bench], Measured]) -> Callable[[Bench], Measured]:
        assert name not in ROWS, name
        assert measure.__doc__, f"{name} must say what it measures and why that is fair"
        ROWS[name] = Row(name, unit, bar, measure)
        return measure

    return enter
