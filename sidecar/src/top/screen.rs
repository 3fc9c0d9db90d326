//! What `ringlane top` shows, from the top down: who it is, throughput, orders and journal, pools, stages, lanes, keys. A small
//! terminal loses the stages first, then the pools, then the panels; the lanes stay. How numbers are written stands in `words`.

use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Cell, Paragraph, Row, Sparkline, Table};
use ringlane_layout::board::{journal, sequencer};

use super::Choice;
use super::sample::{History, LaneLine, PoolLine};
use super::words::{bar, bytes, duration, quantity};

/// Height from which the panels, some stages, and all stages are shown, lines; and the width that panels need.
const PANELS_LINES: u16 = 16;
const PANELS_COLUMNS: u16 = 78;
const STAGES_LINES: u16 = 24;
const TALL_LINES: u16 = 32;
/// Width from which all columns of the lanes are shown.
const WIDE_COLUMNS: u16 = 120;
/// Width from which the stages say of which span they are.
const SPAN_COLUMNS: u16 = 88;
/// Stages that a screen of middling height shows: the way of an order.
const WAY: [&str; 5] = ["end_to_end", "queue_wait", "journal_append", "kernel", "result_write"];

const QUIET: Style = Style::new().fg(Color::DarkGray);
const LABEL: Style = Style::new().fg(Color::Gray);
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);

/// Draws everything.
pub fn draw(frame: &mut Frame, history: &History, choice: &Choice) {
    let height = frame.area().height;
    let panels = if height >= PANELS_LINES && frame.area().width >= PANELS_COLUMNS { 5 } else { 1 };
    let stages = stages_shown(history, height);
    let table = if stages.is_empty() { 0 } else { stages.len() as u16 + 3 };
    let pool_lines = if panels > 1 && height > PANELS_LINES { history.pools.len() as u16 } else { 0 };
    let heights = [1, panels, pool_lines, table].map(Constraint::Length).into_iter();
    let heights = heights.chain([Constraint::Min(3), Constraint::Length(1)]);
    let [head, top, pools, times, lanes, keys] = Layout::vertical(heights).areas(frame.area());
    draw_head(frame, head, history, choice);
    if panels == 1 {
        let words = format!(" throughput {}/s   lag {}   faults {}", rate_now(history), lag(history), history.totals[sequencer::FAULTS]);
        frame.render_widget(Paragraph::new(words), top);
    } else {
        draw_panels(frame, top, history);
    }
    if pool_lines > 0 {
        frame.render_widget(Paragraph::new(history.pools.iter().map(pool_line).collect::<Vec<_>>()), pools);
    }
    if table > 0 {
        draw_stages(frame, times, &stages);
    }
    draw_lanes(frame, lanes, history, choice);
    frame.render_widget(Paragraph::new(keys_line(choice)), keys);
}

fn panel(title: impl Into<Line<'static>>) -> Block<'static> {
    Block::bordered().border_type(BorderType::Rounded).border_style(QUIET).title(title)
}

fn titled(title: &str, rest: &str) -> Line<'static> {
    Line::from(vec![
        Span::raw(" "),
        Span::styled(title.to_owned(), BOLD.fg(Color::Cyan)),
        Span::styled(format!(" {rest}{}", if rest.is_empty() { "" } else { " " }), LABEL),
    ])
}

fn rate_now(history: &History) -> String {
    quantity(history.rates.back().copied().unwrap_or(0) as f64)
}

fn lag(history: &History) -> String {
    quantity(history.journal[journal::LAG_RECORDS] as f64)
}

fn draw_head(frame: &mut Frame, area: Rect, history: &History, choice: &Choice) {
    let (mark, color) = if history.health == "healthy" { ("●", Color::Green) } else { ("▲", Color::Red) };
    let left = Line::from(vec![
        Span::styled(" ringlane ", Style::new().fg(Color::Black).bg(Color::Cyan).add_modifier(Modifier::BOLD)),
        Span::styled(format!(" {mark} {} ", history.health), BOLD.fg(color)),
        Span::raw(history.title.clone()),
    ]);
    let paused = if choice.paused { "PAUSED  " } else { "" };
    let right =
        Line::from(vec![Span::styled(paused, BOLD.fg(Color::Yellow)), Span::styled(format!("up {} ", duration(history.uptime_ns)), LABEL)]);
    let [at_left, at_right] = Layout::horizontal([Constraint::Min(0), Constraint::Length(right.width() as u16)]).areas(area);
    frame.render_widget(Paragraph::new(left), at_left);
    frame.render_widget(Paragraph::new(right), at_right);
}

fn draw_panels(frame: &mut Frame, area: Rect, history: &History) {
    let fixed = if area.width >= WIDE_COLUMNS { [36, 38] } else { [36, 32] };
    let [rates, orders, disk] =
        Layout::horizontal([Constraint::Min(10), Constraint::Length(fixed[0]), Constraint::Length(fixed[1])]).areas(area);
    let peak = history.rates.iter().copied().max().unwrap_or(0);
    let block = panel(titled("throughput", &format!("{}/s, peak {}", rate_now(history), quantity(peak as f64))));
    let inner = block.inner(rates);
    let newest: Vec<u64> = history.rates.iter().rev().take(inner.width as usize).rev().copied().collect();
    frame.render_widget(block, rates);
    // The newest stands at the right edge from the first look on.
    let used = Rect { x: inner.right() - newest.len() as u16, width: newest.len() as u16, ..inner };
    frame.render_widget(Sparkline::default().data(newest).style(Style::new().fg(Color::Cyan)), used);
    draw_pairs(
        frame,
        orders,
        titled("orders", &format!("seq {}", quantity(history.totals[sequencer::SEQUENCE] as f64))),
        &order_pairs(history),
    );
    draw_pairs(frame, disk, titled("journal", journal_title(history)), &journal_pairs(history));
}

/// How much of a pool's threads is used, and what waits for them.
fn pool_line(pool: &PoolLine) -> Line<'static> {
    let columns = 12;
    let used = bar(pool.busy, columns);
    let told = |value: String, words: &'static str| [Span::styled(format!("  {value}"), BOLD), Span::styled(format!(" {words}"), LABEL)];
    let mut line = titled(&format!("pool {}", pool.name), &format!("{} threads", pool.threads));
    line.push_span(Span::styled(format!("{used:<columns$}"), Style::new().fg(if pool.busy > 0.9 { Color::Red } else { Color::Green })));
    for part in [
        told(format!("{:.0} %", pool.busy * 100.0), "busy"),
        told(pool.running.to_string(), "running"),
        told(pool.queued.to_string(), "queued"),
        told(quantity(pool.rate), "jobs/s"),
    ] {
        line.extend(part);
    }
    line
}

fn order_pairs(history: &History) -> [[(&'static str, String); 2]; 3] {
    let count = |word: usize| quantity(history.totals[word] as f64);
    let lanes = format!("{}/{}", history.totals[sequencer::LANES_HOT], history.totals[sequencer::LANES]);
    [
        [("accepted", count(sequencer::ACCEPTED)), ("trades", count(sequencer::TRADES))],
        [("rejected", count(sequencer::REJECTED)), ("resting", count(sequencer::RESTING))],
        [("polled", lanes), ("faults", count(sequencer::FAULTS))],
    ]
}

fn journal_title(history: &History) -> &'static str {
    match (history.journal[journal::RETENTION_BYTES], history.journal[journal::TROUBLE]) {
        (0, _) => "none",
        (_, 0) => "",
        _ => "needs a look",
    }
}

fn journal_pairs(history: &History) -> [[(&'static str, String); 2]; 3] {
    let row = &history.journal;
    let left = match row[journal::DISK_SECONDS_LEFT] {
        _ if row[journal::RETENTION_BYTES] == 0 => "-".into(),
        u64::MAX => "bounded".into(),
        seconds => format!("{:.1} h", seconds as f64 / 3600.0),
    };
    let sync = history.stages.iter().find(|(name, ..)| *name == "journal_sync").filter(|(_, times, _)| times.count() > 0);
    let sync = sync.map_or_else(|| "-".into(), |(_, times, _)| duration(times.quantile_ns(0.99)));
    [
        [("at", quantity(row[journal::SEQUENCE] as f64)), ("lag", lag(history))],
        [("in 1 s", bytes(history.bytes_rate)), ("fsync", sync)],
        [("kept", bytes(row[journal::TOTAL_BYTES] as f64)), ("disk", left)],
    ]
}

/// Names and values, two of each a line.
fn draw_pairs(frame: &mut Frame, area: Rect, title: Line<'static>, pairs: &[[(&'static str, String); 2]]) {
    let rows = pairs.iter().map(|[(name, value), (second, other)]| {
        let shown = |value: &String| right(value.clone()).style(BOLD);
        Row::new([Cell::from(*name).style(LABEL), shown(value), Cell::from(format!(" {second}")).style(LABEL), shown(other)])
    });
    let name_columns = |index: usize| pairs.iter().map(|pair| pair[index].0.len() as u16).max().unwrap_or(0);
    let widths = [Constraint::Length(name_columns(0)), Constraint::Fill(1), Constraint::Length(name_columns(1) + 1), Constraint::Fill(1)];
    frame.render_widget(Table::new(rows, widths).block(panel(title)), area);
}

/// A cell whose text stands at its right edge, as numbers do.
fn right(text: impl Into<Line<'static>>) -> Cell<'static> {
    Cell::from(text.into().alignment(Alignment::Right))
}

fn stages_shown(history: &History, height: u16) -> Vec<&super::sample::StageLine> {
    let is_shown = |name: &str| height >= TALL_LINES || (height >= STAGES_LINES && WAY.contains(&name));
    history.stages.iter().filter(|(name, ..)| is_shown(name)).collect()
}

fn draw_stages(frame: &mut Frame, area: Rect, stages: &[&super::sample::StageLine]) {
    let rows = stages.iter().map(|(name, times, is_span)| {
        let quantiles = [0.5, 0.9, 0.99, 0.999].map(|fraction| right(duration(times.quantile_ns(fraction))));
        let rest = [right(duration(times.max_ns)), Cell::from(if *is_span { "  now" } else { "  since start" })];
        let row = Row::new([Cell::from(*name), right(quantity(times.count() as f64))].into_iter().chain(quantiles).chain(rest));
        if *is_span { row } else { row.style(QUIET) }
    });
    let times = if area.width >= WIDE_COLUMNS { 10 } else { 9 };
    let span = if area.width >= SPAN_COLUMNS { 13 } else { 0 };
    let widths = [14, 7, times, times, times, times, times, span].map(Constraint::Length);
    let head = ["timed", "p50", "p90", "p99", "p99.9", "max"].map(|name| right(name.to_owned()));
    let head = Row::new([Cell::from("stage")].into_iter().chain(head).chain([Cell::from("  span")]));
    frame.render_widget(Table::new(rows, widths).header(head.style(LABEL)).block(panel(titled("stages", "of a sample of batches"))), area);
}

/// A column of the lanes: its head, its width (none: what is left), whether a narrow screen has it.
type Column = (&'static str, Option<u16>, bool);

const COLUMNS: [Column; 13] = [
    ("lane", Some(6), true),
    ("kernel", Some(9), false),
    ("pid", Some(8), true),
    ("uid", Some(6), false),
    ("load/s", Some(9), true),
    ("", Some(8), false),
    ("in flight", Some(9), true),
    ("waiting", Some(9), false),
    ("held", Some(8), true),
    ("of depth", Some(9), false),
    ("held for", Some(9), true),
    ("dropped", Some(8), false),
    ("name", None, true),
];

fn draw_lanes(frame: &mut Frame, area: Rect, history: &History, choice: &Choice) {
    let lanes = history.sorted(choice.order, &choice.filter);
    // The last lane stays on the screen however far somebody scrolls.
    let first = choice.scroll.min(lanes.len().saturating_sub(1));
    let is_wide = area.width >= WIDE_COLUMNS;
    let shown = |index: usize| is_wide || COLUMNS[index].2;
    let most = history.lanes.iter().map(|lane| lane.rate).fold(1.0, f64::max);
    let pick =
        |cells: [Cell<'static>; 13]| Row::new(cells.into_iter().enumerate().filter(|(index, _)| shown(*index)).map(|(_, cell)| cell));
    let widths = COLUMNS.iter().enumerate().filter(|(index, _)| shown(*index));
    let widths = widths.map(|(_, (_, width, _))| width.map_or(Constraint::Min(6), Constraint::Length));
    let head = pick(COLUMNS.map(|(name, ..)| {
        let is_text = matches!(name, "kernel" | "name" | "" | "of depth");
        Cell::from(Line::from(name).alignment(if is_text { Alignment::Left } else { Alignment::Right }))
    }));
    let rows = lanes[first..].iter().map(|lane| pick(line(lane, most)));
    let count = format!("{} of {}, by {}", lanes.len(), history.lanes.len(), choice.order.name());
    let table = Table::new(rows, widths).header(head.style(LABEL));
    frame.render_widget(table.block(panel(titled("lanes", &count))), area);
}

/// A second and a tenth of one: what waits so long deserves a colour.
const LONG_NS: u64 = 1_000_000_000;

fn line(lane: &LaneLine, most: f64) -> [Cell<'static>; 13] {
    let age = |count: u64, ns: u64| match (count, ns) {
        (0, _) => right("-").style(QUIET),
        (_, ns) if ns >= LONG_NS => right(duration(ns)).style(Style::new().fg(Color::Red)),
        (_, ns) if ns >= LONG_NS / 10 => right(duration(ns)).style(Style::new().fg(Color::Yellow)),
        _ => right(duration(ns)),
    };
    let share = lane.held as f64 / lane.depth.max(1) as f64;
    let color = if share > 0.9 {
        Color::Red
    } else if share > 0.5 {
        Color::Yellow
    } else {
        Color::Green
    };
    let number = |count: u64| if count == 0 { right("-").style(QUIET) } else { right(quantity(count as f64)) };
    [
        right(lane.number.to_string()).bold(),
        Cell::from(lane.kernel.clone()),
        right(lane.pid.to_string()),
        right(lane.uid.to_string()),
        if lane.rate < 0.5 { right("-").style(QUIET) } else { right(quantity(lane.rate)).bold() },
        Cell::from(bar(lane.rate / most, 8)).style(Style::new().fg(Color::Cyan)),
        number(lane.in_flight),
        age(lane.in_flight, lane.waiting_ns),
        number(lane.held),
        Cell::from(bar(share, 9)).style(Style::new().fg(color)),
        age(lane.held, lane.held_ns),
        if lane.dropped == 0 { number(0) } else { number(lane.dropped).style(Style::new().fg(Color::Red)) },
        Cell::from(lane.name.clone()),
    ]
}

fn keys_line(choice: &Choice) -> Line<'static> {
    let key = |key: &'static str, words: String| {
        [Span::styled(format!(" {key}"), BOLD.fg(Color::Cyan)), Span::styled(format!(" {words} "), LABEL)]
    };
    if choice.typing {
        let typed = Span::styled(format!(" filter: {}", choice.filter), BOLD);
        let ends = [key("Enter", "keeps it".into()), key("Esc", "clears it".into())].into_iter().flatten();
        return Line::from([typed, Span::styled("▏", BOLD.fg(Color::Cyan))].into_iter().chain(ends).collect::<Vec<_>>());
    }
    let filter = if choice.filter.is_empty() { "filter".to_owned() } else { format!("filter: {}  Esc clears", choice.filter) };
    let keys = [
        key("q", "quit".into()),
        key("s", format!("sort: {}", choice.order.name())),
        key("/", filter),
        key("p", "pause".into()),
        key("↑↓", "scroll".into()),
    ];
    Line::from(keys.into_iter().flatten().collect::<Vec<_>>())
}
