"""report.json and the table: what was measured, kept from run to run so that one row can be measured again alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.row import ROWS

Report = dict[str, Any]


def load(path: Path) -> Report:
    """The report of earlier runs, or an empty one."""
    if path.exists():
        report: Report = json.loads(path.read_text())
        return report
    return {"machine": {}, "rows": [], "details": {}}


def merge(report: Report, result: dict[str, Any], details: dict[str, Any]) -> None:
    """Puts a row in its place, instead of the one that it was before; rows that no longer exist are dropped."""
    rows = {old["name"]: old for old in report["rows"] if old["name"] in ROWS} | {result["name"]: result}
    report["rows"] = [rows[name] for name in ROWS if name in rows]
    report["details"] = {name: old for name, old in report["details"].items() if name in ROWS} | {
        result["name"]: details
    }


def save(report: Report, path: Path) -> None:
    """Writes the report in one step, so that a run that is stopped leaves the earlier one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".json.new")
    fresh.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n")
    fresh.replace(path)


def quantity(value: float | None, unit: str) -> str:
    """A value as people read it: 412 ns, 3.1 µs, 10.2 M/s, 11.8 MiB."""
    if value is None:
        return ""
    if unit == "ns":
        for size, name in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
            if value >= size:
                return f"{value / size:.3g} {name}"
        return f"{value:.3g} ns"
    if unit == "bytes":
        return f"{value / (1 << 20):.3g} MiB"
    if unit == "1/s":
        for size, name in ((1e9, " G/s"), (1e6, " M/s"), (1e3, " k/s")):
            if value >= size:
                return f"{value / size:.3g}{name}"
        return f"{value:.3g} /s"
    if unit == "fraction":
        return f"{value:.3g}" if value >= 0.001 else f"{value:.6f}".rstrip("0")
    return f"{value:,.1f}"


def multiple(ratio: float) -> str:
    """A ratio with three digits that count: 0.044, 4.47, 25.3, 1,068."""
    return f"{ratio:,.0f}" if abs(ratio) >= 100 else f"{ratio:.3g}"


def mark(row: dict[str, Any], which: str) -> str:
    """Floor or goal as people read it: a multiple where the bar is on the ratio, else a quantity."""
    bar = ROWS[row["name"]].bar
    if bar is None:
        return ""
    value = float(row[which])
    words = f"{value:g} x" if bar.on_ratio else quantity(value, row["unit"])
    return ("≤ " if bar.less_is_better else "≥ ") + words


def table_cells(row: dict[str, Any]) -> list[str]:
    """A row as words: name, value, reference, its value, ratio, floor, goal, reached."""
    ratio = "" if row["ratio"] is None else f"{multiple(row['ratio'])} x"
    return [
        row["name"],
        quantity(row["value"], row["unit"]),
        row["reference"] or "",
        quantity(row["reference_value"], row["unit"]),
        ratio,
        mark(row, "floor"),
        mark(row, "goal"),
        row["reached"] or "",
    ]


HEADINGS = ["row", "value", "reference", "its value", "ratio", "floor", "goal", "reached"]
RIGHT_ALIGNED = {1, 3, 4, 5, 6}


def table(rows: list[dict[str, Any]]) -> str:
    """The report as a table for a terminal."""
    lines = [HEADINGS, *[table_cells(row) for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    padded = [
        [
            cell.rjust(width) if column in RIGHT_ALIGNED else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in lines
    ]
    rule = ["─" * width for width in widths]
    return "\n".join("  ".join(line).rstrip() for line in [padded[0], rule, *padded[1:]])
