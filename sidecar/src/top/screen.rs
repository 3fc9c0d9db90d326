//! What `ringlane top` shows, from the top down: who it is, totals, throughput, stages, lanes, keys. A small terminal loses the
//! sparkline and the stages first; the lanes stay.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Row, Sparkline, Table};
use ringlane_layout::board::journal;

use super::Choice;
use super::sample::{History, LaneLine};

/// Height from which the sparkline and the stages are shown, lines.
const TALL_LINES: u16 = 24;

/// Draws everything.
pub fn draw(frame: &mut Frame, history: &History, choice: &Choice) {
    let is_tall = frame.area().height >= TALL_LINES;
    let (spark, stages) = if is_tall { (3, history.stages.len() as u16 + 1) } else { (0, 0) };
    let heights = [3, spark, stages, 0, 1].map(Constraint::Length);
    let heights = [heights[0], heights[1], heights[2], Constraint::Min(2), heights[4]];
    let [head, rates, times, lanes, keys] = Layout::vertical(heights).areas(frame.area());
    draw_head(frame, head, history, choice);
    if is_tall {
        let newest: Vec<u64> = history.rates.iter().rev().take(rates.width as usize).rev().copied().collect();
        frame.render_widget(Sparkline::default().data(newest).style(Style::new().fg(Color::Cyan)), rates);
        draw_stages(frame, times, history);
    }
    draw_lanes(frame, lanes, history, choice);
    let words = if choice.typing {
        format!("filter: {}_   Enter keeps it, Esc clears it", choice.filter)
    } else {
        let filter = if choice.filter.is_empty() { String::new() } else { format!("   filter {:?} (Esc clears)", choice.filter) };
        format!("q quit   s sort: {}   / filter   p pause   arrows scroll{filter}", choice.order.name())
    };
    frame.render_widget(Paragraph::new(words).style(Style::new().add_modifier(Modifier::REVERSED)), keys);
}

fn draw_head(frame: &mut Frame, area: Rect, history: &History, choice: &Choice) {
    let color = if history.health == "healthy" { Color::Green } else { Color::Red };
    let paused = if choice.paused { "  PAUSED" } else { "" };
    let rate = history.rates.back().copied().unwrap_or(0) as f64;
    let lines = vec![
        Line::from(vec![
            Span::styled(history.health, Style::new().fg(color).add_modifier(Modifier::BOLD)),
            Span::raw(format!("  {}  up {}{paused}", history.title, duration(history.uptime_ns))),
        ]),
        Line::from(history.totals_line()),
        Line::from(format!(
            "throughput {}/s  journal {}B/s, {} records not durable",
            quantity(rate),
            quantity(history.bytes_rate),
            history.journal[journal::LAG_RECORDS]
        )),
    ];
    frame.render_widget(Paragraph::new(lines), area);
}

fn draw_stages(frame: &mut Frame, area: Rect, history: &History) {
    let rows = history.stages.iter().map(|(name, times, is_span)| {
        let quantiles = [0.5, 0.9, 0.99, 0.999].map(|fraction| duration(times.quantile_ns(fraction)));
        let [p50, p90, p99, p999] = quantiles;
        let since = if *is_span { "now" } else { "since start" };
        Row::new([(*name).to_owned(), times.count().to_string(), p50, p90, p99, p999, duration(times.max_ns), since.to_owned()])
    });
    let widths = [16, 10, 9, 9, 9, 9, 9, 12].map(Constraint::Length);
    let head = Row::new(["stage", "timed", "p50", "p90", "p99", "p99.9", "max", "span"]);
    frame.render_widget(Table::new(rows, widths).header(head.style(Style::new().add_modifier(Modifier::BOLD))), area);
}

fn draw_lanes(frame: &mut Frame, area: Rect, history: &History, choice: &Choice) {
    let lanes = history.sorted(choice.order, &choice.filter);
    // The last lane stays on the screen however far somebody scrolls.
    let first = choice.scroll.min(lanes.len().saturating_sub(1));
    // A narrow terminal loses the columns that can be looked up elsewhere.
    let is_wide = area.width >= WIDE_COLUMNS;
    let shown = |index: usize| is_wide || !NARROW_LOSES.contains(&index);
    let pick = |cells: [String; 12]| Row::new(cells.into_iter().enumerate().filter(|(index, _)| shown(*index)).map(|(_, cell)| cell));
    let head = ["lane", "kernel", "pid", "uid", "depth", "load/s", "in flight", "waiting", "held", "held for", "dropped", "name"];
    let widths = [7, 10, 8, 6, 9, 9, 9, 9, 9, 9, 8, 6];
    let widths = widths.into_iter().enumerate().filter(|(index, _)| shown(*index)).map(|(index, width)| match index {
        11 => Constraint::Min(width),
        _ => Constraint::Length(width),
    });
    let rows = lanes[first.min(lanes.len())..].iter().map(|lane| pick(line(lane)));
    let head = pick(head.map(str::to_owned)).style(Style::new().add_modifier(Modifier::BOLD));
    frame.render_widget(Table::new(rows, widths).header(head), area);
}

/// Width from which all columns of the lanes are shown, and which are not on a narrower screen.
const WIDE_COLUMNS: u16 = 110;
const NARROW_LOSES: [usize; 5] = [1, 3, 4, 7, 10];

fn line(lane: &LaneLine) -> [String; 12] {
    [
        lane.number.to_string(),
        lane.kernel.clone(),
        lane.pid.to_string(),
        lane.uid.to_string(),
        lane.depth.to_string(),
        quantity(lane.rate),
        lane.in_flight.to_string(),
        if lane.in_flight > 0 { duration(lane.waiting_ns) } else { "-".into() },
        lane.held.to_string(),
        if lane.held > 0 { duration(lane.held_ns) } else { "-".into() },
        lane.dropped.to_string(),
        lane.name.clone(),
    ]
}

/// A time in the unit that suits it.
fn duration(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{:.1} us", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        1_000_000_000..120_000_000_000 => format!("{:.1} s", ns as f64 / 1e9),
        _ => format!("{} min", ns / 60_000_000_000),
    }
}

/// A number in three digits and a power.
fn quantity(value: f64) -> String {
    match value {
        value if value >= 1e9 => format!("{:.2} G", value / 1e9),
        value if value >= 1e6 => format!("{:.2} M", value / 1e6),
        value if value >= 1e3 => format!("{:.1} k", value / 1e3),
        value => format!("{value:.0} "),
    }
}
