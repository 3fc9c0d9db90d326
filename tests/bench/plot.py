"""A small canvas that writes SVG, and a logarithmic axis; nothing here knows what is drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from html import escape

FONT = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif"
TIMES = "\u00d7"
INK, MUTED, FAINT, GRID, PAPER = "#1b2330", "#5d6878", "#9aa4b2", "#e4e8ee", "#ffffff"
OURS, LIMIT, PEER, GOAL, FLOOR = "#1d5fd1", "#1b2330", "#d0660f", "#12864a", "#8b95a5"


@dataclass
class Canvas:
    """SVG elements in the order in which they are drawn."""

    width: float
    height: float
    title: str
    parts: list[str] = field(default_factory=list)

    def text(
        self,
        x: float,
        y: float,
        words: str,
        *,
        size: float = 12,
        color: str = INK,
        anchor: str = "start",
        bold: bool = False,
    ) -> None:
        """Words with their baseline at `y`, with a rim of paper so that lines never cross letters."""
        weight = ' font-weight="600"' if bold else ""
        rim = f' stroke="{PAPER}" stroke-width="3" stroke-linejoin="round" paint-order="stroke"'
        style = f'font-size="{size}" fill="{color}" text-anchor="{anchor}"{weight}{rim}'
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(words)}</text>')

    def line(
        self, a: tuple[float, float], b: tuple[float, float], *, color: str = GRID, width: float = 1, dash: str = ""
    ) -> None:
        """A straight line."""
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        ends = f'x1="{a[0]:.1f}" y1="{a[1]:.1f}" x2="{b[0]:.1f}" y2="{b[1]:.1f}"'
        self.parts.append(f'<line {ends} stroke="{color}" stroke-width="{width}" stroke-linecap="round"{dashes}/>')

    def polyline(self, points: list[tuple[float, float]], *, color: str, width: float = 2) -> None:
        """A line through points."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="{width}" stroke-linejoin="round"/>'
        )

    def box(self, x: float, y: float, width: float, height: float, *, color: str, radius: float = 0) -> None:
        """A filled rectangle."""
        size = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
        self.parts.append(f'<rect {size} rx="{radius}" fill="{color}"/>')

    def dot(self, x: float, y: float, *, color: str, radius: float = 6, hollow: bool = False) -> None:
        """A round marker."""
        fill, rim = (PAPER, color) if hollow else (color, PAPER)
        self.parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{fill}" stroke="{rim}" stroke-width="2"/>'
        )

    def diamond(self, x: float, y: float, *, color: str, radius: float = 7) -> None:
        """A marker that stands on its corner."""
        corners = f"{x:.1f},{y - radius:.1f} {x + radius:.1f},{y:.1f} {x:.1f},{y + radius:.1f} {x - radius:.1f},{y:.1f}"
        self.parts.append(f'<polygon points="{corners}" fill="{color}" stroke="{PAPER}" stroke-width="1.5"/>')

    def svg(self) -> str:
        """The document."""
        size = f'width="{self.width:g}" height="{self.height:g}" viewBox="0 0 {self.width:g} {self.height:g}"'
        about = f'role="img" aria-label="{escape(self.title)}" font-family="{escape(FONT)}"'
        head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} {about}>'
        return "\n".join([head, f"<title>{escape(self.title)}</title>", *self.parts, "</svg>"]) + "\n"


@dataclass(frozen=True)
class LogAxis:
    """Maps values between `low` and `high` to `left` .. `right`, equal factors to equal distances."""

    low: float
    high: float
    left: float
    right: float

    def x(self, value: float) -> float:
        """Where `value` stands; values outside stand at the ends."""
        inside = min(max(value, self.low), self.high)
        return self.left + (self.right - self.left) * math.log(inside / self.low) / math.log(self.high / self.low)

    def decades(self) -> list[float]:
        """Powers of ten within the axis."""
        first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        return [10.0**power for power in range(first, last + 1)]

    @staticmethod
    def around(values: list[float], left: float, right: float, margin: float = 1.6) -> LogAxis:
        """An axis that shows all of `values` with some room at both ends."""
        seen = [value for value in values if value > 0]
        return LogAxis(min(seen) / margin, max(seen) * margin, left, right)


def spread(wanted: list[tuple[float, float]], left: float, right: float, gap: float = 10) -> list[float]:
    """Centres for labels of given `(centre, width)`, moved apart where they would touch, and kept within the edges."""
    order = sorted(range(len(wanted)), key=lambda index: wanted[index][0])
    centres = [centre for centre, _ in wanted]

    def push_right() -> None:
        edge = left
        for index in order:
            half = wanted[index][1] / 2
            centres[index] = max(centres[index], edge + half)
            edge = centres[index] + half + gap

    push_right()
    shift = sum(centre - wanted[index][0] for index, centre in enumerate(centres)) / max(len(centres), 1)
    centres = [centre - shift for centre in centres]
    push_right()
    edge = right
    for index in reversed(order):
        half = wanted[index][1] / 2
        centres[index] = min(centres[index], edge - half)
        edge = centres[index] - half - gap
    return centres


def text_width(words: str, size: float) -> float:
    """About how wide words are, px; good enough to keep labels apart."""
    return len(words) * size * 0.56
