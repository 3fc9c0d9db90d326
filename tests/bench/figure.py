"""The picture of the README: every path against its physical limit, its peer and its marks, on logarithmic scales."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bench.plot import (
    FAINT,
    FLOOR,
    GOAL,
    GRID,
    INK,
    LIMIT,
    MUTED,
    OURS,
    PAPER,
    PEER,
    TIMES,
    Canvas,
    LogAxis,
    spread,
    text_width,
)
from bench.report import Report, multiple, quantity

WIDTH, MARGIN = 1080, 28
LEFT, RIGHT = 306, 908
"""Where the scales begin and end; words stand to both sides."""
TRACK, TRACK_BARE = 66, 54
"""Height of a track, with and without words below its line."""


@dataclass(frozen=True)
class Point:
    """Something that stands on a track."""

    kind: str
    value: float
    words: str


@dataclass(frozen=True)
class Track:
    """One path: its name, what stands on it, and what is said at its right end."""

    title: str
    subtitle: str
    points: list[Point]
    verdict: str
    reached: str | None


def point(kind: str, name: str, value: float, unit: str) -> Point:
    return Point(kind, value, f"{name} {quantity(value, unit)}".strip())


def marks(row: dict[str, Any]) -> list[Point]:
    """Floor and goal of a row in the unit of its value."""
    from bench.row import ROWS

    bar = ROWS[row["name"]].bar
    if bar is None:
        return []
    scale = 1.0
    if bar.on_ratio:
        # A bar on "x faster" stands where our time would be that much below the reference.
        scale = row["reference_value"]
        less = bar.less_is_better or row["unit"] != "ns"
        return [Point(kind, scale * row[kind] if less else scale / row[kind], "") for kind in ("floor", "goal")]
    return [Point(kind, row[kind], "") for kind in ("floor", "goal")]


def time_tracks(rows: dict[str, dict[str, Any]]) -> list[Track]:
    """Paths whose measure is time: left is better."""
    tracks = []
    if spin := rows.get("rtt_single_order_python_p50"):
        points = [
            point("limit", "cache line", spin["reference_value"], "ns"),
            point("ours", "", spin["value"], "ns"),
            *marks(spin),
        ]
        if iceoryx := rows.get("rtt_single_order_python_vs_iceoryx2"):
            points.append(point("peer", "iceoryx2", iceoryx["reference_value"], "ns"))
        tracks.append(
            track("One order from Python, both awake", "p50, checked, matched, recorded", points, spin, "the limit")
        )
    if sleep := rows.get("rtt_sleeping_python_p50"):
        points = [
            point("peer", "Unix socket, Python", sleep["reference_value"], "ns"),
            point("ours", "", sleep["value"], "ns"),
            *marks(sleep),
        ]
        if bare := rows.get("rtt_sleeping_python_p50_vs_rust_socket"):
            points.append(point("limit", "Unix socket, Rust", bare["reference_value"], "ns"))
        tracks.append(track("One order, both asleep before", "p50", points, sleep, "the socket"))
    if rate := rows.get("latency_at_120k"):
        points = [
            point("limit", "bare echo", rate["reference_value"], "ns"),
            point("ours", "", rate["value"], "ns"),
            *marks(rate),
        ]
        tracks.append(
            track("120,000 orders/s on the clock", "p99 from the scheduled moment", points, rate, "the limit")
        )
    if quiet := rows.get("fairness_quiet_p99"):
        points = [
            point("limit", "alone", quiet["reference_value"], "ns"),
            point("ours", "", quiet["value"], "ns"),
            *marks(quiet),
        ]
        tracks.append(track("A quiet lane beside a greedy one", "p99 at 1,000 orders/s", points, quiet, "alone"))
    return tracks


def rate_tracks(rows: dict[str, dict[str, Any]]) -> list[Track]:
    """Paths whose measure is orders a second: right is better."""
    tracks = []
    if batch := rows.get("throughput_batch_4096"):
        points = [
            point("limit", "bare stream", batch["reference_value"], "1/s"),
            point("ours", "", batch["value"], "1/s"),
            *marks(batch),
        ]
        if pipe := rows.get("throughput_batch_4096_vs_pipe"):
            points.append(point("peer", "multiprocessing.Pipe", pipe["reference_value"], "1/s"))
        tracks.append(
            track("One writer, batches of 4,096", "orders/s, matched and recorded", points, batch, "the limit")
        )
    if long := rows.get("throughput_sustained_60s"):
        points = [point("ours", "", long["value"], "1/s")]
        tracks.append(track("The same for 60 seconds", "orders/s", points, long, "its first 5 s"))
    return tracks


def track(title: str, subtitle: str, points: list[Point], row: dict[str, Any], of: str) -> Track:
    return Track(title, subtitle, points, f"{multiple(row['ratio'])} {TIMES} {of}", row["reached"])


RELATIVE = {
    "fairness_2": ("Two greedy lanes", "smaller share of what was served"),
    "memory_100k_resting": ("100,000 resting orders", "the sidecar's own memory"),
    "idle_cpu_16_lanes": ("16 idle lanes", "fraction of a core"),
    "lanes_256_idle": ("255 idle neighbours", "p50 of an order against alone"),
    "lanes_256_active": ("256 greedy lanes", "time an order against one lane"),
    "instructions_per_order": ("Instructions an order", "against the committed figure"),
}


def relative_tracks(rows: dict[str, dict[str, Any]]) -> list[Track]:
    """Everything else, as a multiple of its own goal: left is better."""
    from bench.row import ROWS

    tracks = []
    for name, (title, subtitle) in RELATIVE.items():
        row, bar = rows.get(name), ROWS[name].bar
        if row is None or bar is None:
            continue
        measured = row["ratio"] if bar.on_ratio else row["value"]
        words = f"{multiple(measured)} {TIMES}" if bar.on_ratio else quantity(measured, row["unit"])
        relative = measured / bar.goal if bar.less_is_better else bar.goal / max(measured, 1e-9)
        floor = bar.floor / bar.goal if bar.less_is_better else bar.goal / bar.floor
        points = [Point("ours", relative, words), Point("floor", floor, ""), Point("goal", 1.0, "")]
        verdict = f"goal {bar.goal:g} {TIMES}" if bar.on_ratio else f"goal {quantity(bar.goal, row['unit'])}"
        tracks.append(Track(title, subtitle, points, verdict, row["reached"]))
    return tracks


def draw_point(canvas: Canvas, kind: str, x: float, y: float) -> None:
    if kind == "ours":
        canvas.dot(x, y, color=OURS, radius=7)
    elif kind == "limit":
        canvas.dot(x, y, color=LIMIT, radius=5.5, hollow=True)
    elif kind == "peer":
        canvas.diamond(x, y, color=PEER)
    elif kind == "goal":
        canvas.line((x, y - 11), (x, y + 11), color=GOAL, width=3)
    else:
        canvas.line((x, y - 11), (x, y + 11), color=FLOOR, width=2, dash="3 4")


def draw_track(canvas: Canvas, axis: LogAxis, y: float, drawn: Track) -> None:
    """One track with its centre line at `y`: our label above it, the others below."""
    canvas.text(MARGIN, y - 2, drawn.title, size=13.5, bold=True)
    canvas.text(MARGIN, y + 15, drawn.subtitle, size=11.5, color=MUTED)
    canvas.line((LEFT, y), (RIGHT, y), color=GRID, width=6)
    ours = next(p for p in drawn.points if p.kind == "ours")
    if limits := [p for p in drawn.points if p.kind == "limit"]:
        canvas.line((axis.x(limits[0].value), y), (axis.x(ours.value), y), color="#b9cdf2", width=6)
    for kind in ("floor", "goal", "limit", "peer", "ours"):
        for p in drawn.points:
            if p.kind == kind:
                draw_point(canvas, kind, axis.x(p.value), y)
    canvas.text(axis.x(ours.value), y - 15, ours.words, size=13, color=OURS, anchor="middle", bold=True)
    below = [p for p in drawn.points if p.kind in ("limit", "peer")]
    centres = spread([(axis.x(p.value), text_width(p.words, 11.5)) for p in below], LEFT - 20, RIGHT + 20)
    for p, centre in zip(below, centres, strict=True):
        canvas.text(centre, y + 24, p.words, size=11.5, color=PEER if p.kind == "peer" else MUTED, anchor="middle")
    canvas.text(RIGHT + 24, y - 2, drawn.verdict, size=12.5)
    words = {
        "goal": ("goal reached", GOAL),
        "floor": ("floor reached", MUTED),
        "none": ("below the floor", "#b3261e"),
        None: ("no bar", FAINT),
    }
    label, color = words[drawn.reached]
    canvas.text(RIGHT + 24, y + 15, label, size=11.5, color=color, bold=drawn.reached == "goal")


def track_height(tracks: list[Track]) -> int:
    has_words = any(p.kind in ("limit", "peer") for t in tracks for p in t.points)
    return TRACK if has_words else TRACK_BARE


def draw_panel(canvas: Canvas, top: float, heading: str, hint: str, tracks: list[Track], unit: str) -> float:
    """A panel of tracks over one scale; gives where it ends."""
    axis = LogAxis.around([p.value for t in tracks for p in t.points], LEFT, RIGHT)
    height = track_height(tracks)
    bottom = top + 44 + height * len(tracks)
    canvas.text(MARGIN, top + 18, heading, size=15, bold=True)
    canvas.text(RIGHT, top + 18, hint, size=11.5, color=MUTED, anchor="end")
    for value in axis.decades():
        x = axis.x(value)
        canvas.line((x, top + 32), (x, bottom), color=GRID)
        words = ("goal" if value == 1 else f"{value:g} {TIMES} goal") if unit == "goal" else quantity(value, unit)
        canvas.text(x, bottom + 16, words, size=11, color=FAINT, anchor="middle")
    for number, drawn in enumerate(tracks):
        draw_track(canvas, axis, top + 44 + height * number + 28, drawn)
    return bottom + 34


def draw_legend(canvas: Canvas, y: float) -> None:
    x = float(LEFT)
    for kind, words in (
        ("ours", "Ringlane"),
        ("limit", "physical limit"),
        ("peer", "peer"),
        ("goal", "goal"),
        ("floor", "floor"),
    ):
        draw_point(canvas, kind, x, y)
        canvas.text(x + 14, y + 4, words, size=12, color=MUTED)
        x += 44 + text_width(words, 12)


def draw(report: Report) -> str:
    """The whole picture as SVG."""
    rows = {row["name"]: row for row in report["rows"]}
    panels = [
        ("Time", "left is better", time_tracks(rows), "ns"),
        ("Rate", "right is better", rate_tracks(rows), "1/s"),
        ("Cost and fairness", "each against its own goal, left is better", relative_tracks(rows), "goal"),
    ]
    shown = [panel for panel in panels if panel[2]]
    height = 84 + sum(44 + track_height(tracks) * len(tracks) + 44 for _, _, tracks, _ in shown) + 18
    canvas = Canvas(WIDTH, height, "Ringlane: each path against its physical limit")
    canvas.box(0, 0, WIDTH, height, color=PAPER, radius=10)
    canvas.text(MARGIN, 36, "Each path against its physical limit", size=19, bold=True, color=INK)
    draw_legend(canvas, 62)
    top = 84.0
    for heading, hint, tracks, unit in shown:
        top = draw_panel(canvas, top, heading, hint, tracks, unit) + 10
    facts = report["machine"]
    about = "{processor}, {cores} cores, Linux {kernel}, Python {python}".format_map(facts)
    canvas.text(
        MARGIN, height - 14, f"{about}; medians of {facts.get('pairs', '?')} interleaved pairs", size=11, color=FAINT
    )
    return canvas.svg()
