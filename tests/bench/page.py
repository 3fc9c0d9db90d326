"""The page: the picture, the table, and for every row what was measured, how its pairs lay and how to run it again."""

from __future__ import annotations

import inspect
import re
from html import escape
from pathlib import Path
from typing import Any

from bench import figure
from bench.plot import FAINT, GRID, MUTED, OURS, Canvas
from bench.report import HEADINGS, RIGHT_ALIGNED, Report, quantity, table_cells
from bench.row import ROWS

CODE = re.compile("`([^`]+)`")
STYLE = Path(__file__).with_name("page.css").read_text()


def pairs_plot(details: dict[str, Any], unit: str) -> str:
    """Both sides of each pair as dots over the number of the pair: shows at a glance how noisy the row is."""
    ours, theirs = details.get("ours", []), details.get("theirs", [])
    if len(ours) < 2:
        return ""
    canvas = Canvas(460, 120, "The pairs, one beside the other")
    top = max(*ours, *theirs) * 1.15 or 1.0
    left, right, bottom, high = 70.0, 450.0, 96.0, 10.0

    def y(value: float) -> float:
        return bottom - (bottom - high) * value / top

    for share in (0.0, 0.5, 1.0):
        value = top / 1.15 * share
        canvas.line((left, y(value)), (right, y(value)), color=GRID)
        canvas.text(left - 8, y(value) + 4, quantity(value, unit) if value else "0", size=11, color=FAINT, anchor="end")
    for number, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        x = left + (right - left) * (number + 0.5) / len(ours)
        canvas.line((x, y(a)), (x, y(b)), color=GRID, width=3)
        canvas.dot(x, y(b), color=MUTED, radius=4.5, hollow=True)
        canvas.dot(x, y(a), color=OURS, radius=5)
        canvas.text(x, 114, f"pair {number + 1}", size=10.5, color=FAINT, anchor="middle")
    return canvas.svg()


def seconds_plot(rates: list[float]) -> str:
    """A rate over the seconds of a long run."""
    if len(rates) < 2:
        return ""
    canvas = Canvas(460, 120, "Orders a second, over the run")
    left, right, bottom, high, top = 70.0, 450.0, 96.0, 10.0, max(rates) * 1.15
    for share in (0.0, 0.5, 1.0):
        y = bottom - (bottom - high) * share / 1.15
        canvas.line((left, y), (right, y))
        canvas.text(
            left - 8, y + 4, quantity(max(rates) * share, "1/s") if share else "0", size=11, color=FAINT, anchor="end"
        )
    step = (right - left) / (len(rates) - 1)
    canvas.polyline(
        [(left + step * n, bottom - (bottom - high) * rate / top) for n, rate in enumerate(rates)], color=OURS
    )
    canvas.text(left, 114, "1 s", size=10.5, color=FAINT)
    canvas.text(right, 114, f"{len(rates)} s", size=10.5, color=FAINT, anchor="end")
    return canvas.svg()


def table(rows: list[dict[str, Any]]) -> str:
    """The table, as HTML."""

    def cell(tag: str, column: int, words: str, extra: str = "") -> str:
        names = " ".join(filter(None, ["r" if column in RIGHT_ALIGNED else "", extra]))
        return f'<{tag} class="{names}">{escape(words)}</{tag}>'

    head = "".join(cell("th", column, words) for column, words in enumerate(HEADINGS))
    lines = []
    for row in rows:
        cells = table_cells(row)
        last = len(cells) - 1
        lines.append(
            "".join(cell("td", column, words, words if column == last else "") for column, words in enumerate(cells))
        )
    return (
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(f'<tr>{line}</tr>' for line in lines)}</tbody></table>"
    )


def row_card(row: dict[str, Any], details: dict[str, Any]) -> str:
    """What one row measures, its pairs and its command."""
    words = inspect.cleandoc(ROWS[row["name"]].measure.__doc__ or "")
    marked = CODE.sub(r"<code>\1</code>", escape(words)).replace("\n\n", "</p><p>")
    plots = pairs_plot(details, row["unit"]) + seconds_plot(details.get("rate_each_second", []))
    plain = {name: value for name, value in details.items() if isinstance(value, int | float)}
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{value:,.6g}</dd>" for name, value in plain.items())
    return (
        f'<section class="card" id="{row["name"]}"><h3>{row["name"]}</h3><p>{marked}</p>'
        f'<div class="plots"><div>{plots}</div><dl>{facts}</dl></div><pre>{escape(row["command"])}</pre></section>'
    )


def write(report: Report, directory: Path) -> None:
    """Writes report.html and report.svg."""
    directory.mkdir(parents=True, exist_ok=True)
    picture = figure.draw(report)
    (directory / "report.svg").write_text(picture)
    facts = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in report["machine"].items()
    )
    cards = "".join(row_card(row, report["details"].get(row["name"], {})) for row in report["rows"])
    (directory / "report.html").write_text(
        f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Ringlane: what it costs</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head><body>
<h1>Ringlane: what it costs</h1>
<p class="lead">Peers and limits were measured in the same run, in turns with Ringlane;
a ratio is the median of the pairs' ratios.</p>
<div class="card figure">{picture}</div>
<h2>Rows</h2><div class="card">{table(report["rows"])}</div>
<h2>What each row measures</h2>{cards}
<h2>Machine</h2><div class="card"><dl>{facts}</dl></div>
</body></html>
"""
    )
