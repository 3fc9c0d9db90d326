//! `ringlane status`: what the board says, for people and for programs.

use std::fmt::Write;

use nix::errno::Errno;
use ringlane_layout::board::{header, row};
use ringlane_layout::limits::LANES_MAX;
use serde_json::{Value, json};

use crate::board::{BoardReader, Row, text_of};
use crate::sequencer::wall_clock_ns;

/// What the board says, as JSON. Counts are totals since start; times are nanoseconds.
#[must_use]
pub fn status(board: &BoardReader) -> Value {
    let lanes: Vec<Value> = (0..LANES_MAX).filter_map(|index| board.row(index)).map(|words| lane_status(&words)).collect();
    let alive = board.owner_lives();
    let health = match board.word(header::HEALTH) {
        _ if !alive => "dead",
        1 => "healthy",
        2 => "journal-stalled",
        4 => "degraded",
        _ => "stopping",
    };
    json!({
        "health": health,
        "version": board.text(header::VERSION, 24),
        "build": board.text(header::BUILD, 16),
        "pid": board.word(header::PID),
        "address": board.text(header::ADDRESS, 112),
        "uptime_ns": wall_clock_ns().saturating_sub(board.word(header::STARTED_NS)),
        "epoch": board.word(header::EPOCH),
        "sequence": board.word(header::SEQUENCE),
        "journal_bytes": board.word(header::JOURNAL_BYTES),
        "journal": journal_status(board),
        "accepted": board.word(header::ACCEPTED),
        "rejected": board.word(header::REJECTED),
        "trades": board.word(header::TRADES),
        "resting_orders": board.word(header::RESTING),
        "clients": board.word(header::CLIENTS),
        "faults": board.word(header::FAULTS),
        "sleeps": board.word(header::SLEEPS),
        "refused": board.word(header::REFUSED),
        "not_permitted": board.word(header::NOT_PERMITTED),
        "lanes": lanes,
    })
}

/// What the journal's helper says of its disk; null without a journal.
fn journal_status(board: &BoardReader) -> Value {
    if board.word(header::JOURNAL_CAP_BYTES) == 0 {
        return Value::Null;
    }
    let seconds_left = board.word(header::JOURNAL_SECONDS_LEFT);
    let errno = board.word(header::JOURNAL_ERRNO);
    let why = (errno != 0).then(|| Errno::from_raw(errno as i32).desc());
    let trouble = match (board.word(header::JOURNAL_TROUBLE), why) {
        (_, Some(why)) => Some(format!("the next segment cannot be made: {why}; free space on the journal's disk")),
        (1, _) => Some("over retention_bytes, and no snapshot covers the oldest segment".to_owned()),
        (2, _) => Some("the disk will soon be full at this rate".to_owned()),
        _ => None,
    };
    json!({
        "total_bytes": board.word(header::JOURNAL_TOTAL_BYTES),
        "retention_bytes": board.word(header::JOURNAL_CAP_BYTES),
        "disk_free_bytes": board.word(header::JOURNAL_FREE_BYTES),
        "bytes_per_second": board.word(header::JOURNAL_RATE),
        "disk_hours_left": (seconds_left != u64::MAX).then_some(seconds_left as f64 / 3600.0),
        "segments_recycled": board.word(header::JOURNAL_RECYCLED),
        "trouble": trouble,
    })
}

/// The same for people, one line.
fn journal_text(status: &Value) -> String {
    let journal = &status["journal"];
    let mebibytes = |value: &Value| value.as_f64().unwrap_or(0.0) / f64::from(1 << 20);
    if journal.is_null() {
        return "none: nothing is recorded".into();
    }
    let hours = journal["disk_hours_left"].as_f64();
    let left = hours.map_or_else(|| "retention keeps it in bounds".into(), |hours| format!("{hours:.1} hours of disk left"));
    let trouble = journal["trouble"].as_str().map_or_else(String::new, |words| format!("; {words}"));
    format!(
        "{:.1} MiB since start, {:.0} of {:.0} MiB kept, {:.2} MiB/s, {left}{trouble}",
        mebibytes(&status["journal_bytes"]),
        mebibytes(&journal["total_bytes"]),
        mebibytes(&journal["retention_bytes"]),
        mebibytes(&journal["bytes_per_second"]),
    )
}

fn lane_status(words: &Row) -> Value {
    let bytes: &[u8] = bytemuck::cast_slice(words);
    json!({
        "lane": words[row::LANE],
        "kernel": text_of(&bytes[row::KERNEL * 8..(row::KERNEL + 2) * 8]),
        "name": text_of(&bytes[row::NAME * 8..(row::NAME + 8) * 8]),
        "pid": words[row::PID],
        "uid": words[row::UID],
        "depth_slots": words[row::DEPTH],
        "bytes": words[row::BYTES],
        "submitted": words[row::SUBMITTED],
        "completed": words[row::COMPLETED],
        "released": words[row::RELEASED],
        "in_flight": words[row::SUBMITTED].saturating_sub(words[row::COMPLETED]),
        "events": words[row::EVENTS],
        "events_dropped": words[row::EVENTS_DROPPED],
        "parks": words[row::PARKS],
        "notifies": words[row::NOTIFIES],
        "not_permitted": words[row::NOT_PERMITTED],
        "opened_ns": words[row::OPENED_NS],
    })
}

/// The same for people.
#[must_use]
pub fn status_text(status: &Value) -> String {
    let mut text = String::new();
    let line = |text: &mut String, name: &str, value: String| {
        let _ = writeln!(text, "{name:<16}{value}");
    };
    let plain = |key: &str| status[key].as_str().map_or_else(|| status[key].to_string(), str::to_owned);
    line(&mut text, "health", plain("health"));
    line(&mut text, "address", plain("address"));
    line(&mut text, "version", format!("{} (build {}), pid {}", plain("version"), plain("build"), plain("pid")));
    line(&mut text, "uptime", format!("{:.1} s, journal epoch {}", status["uptime_ns"].as_f64().unwrap_or(0.0) / 1e9, plain("epoch")));
    line(&mut text, "sequence", plain("sequence"));
    line(&mut text, "journal", journal_text(status));
    line(
        &mut text,
        "orders",
        format!(
            "{} accepted, {} rejected, {} trades, {} resting",
            plain("accepted"),
            plain("rejected"),
            plain("trades"),
            plain("resting_orders")
        ),
    );
    line(&mut text, "clients", format!("{}, lane faults since start: {}", plain("clients"), plain("faults")));
    line(&mut text, "refused", format!("{}, orders for accounts not permitted: {}", plain("refused"), plain("not_permitted")));
    let lanes = status["lanes"].as_array().map_or(&[][..], Vec::as_slice);
    let _ = writeln!(
        text,
        "\n{:>6} {:<8} {:>8} {:>6} {:>9} {:>13} {:>9} {:>10} {:>8}  name",
        "lane", "kernel", "pid", "uid", "depth", "completed", "in flight", "held", "dropped"
    );
    for lane in lanes {
        let number = |key: &str| lane[key].as_u64().unwrap_or(0);
        let _ = writeln!(
            text,
            "{:>6} {:<8} {:>8} {:>6} {:>9} {:>13} {:>9} {:>10} {:>8}  {}",
            number("lane"),
            lane["kernel"].as_str().unwrap_or(""),
            number("pid"),
            number("uid"),
            number("depth_slots"),
            number("completed"),
            number("in_flight"),
            number("completed").saturating_sub(number("released")),
            number("events_dropped"),
            lane["name"].as_str().unwrap_or("")
        );
    }
    text
}
