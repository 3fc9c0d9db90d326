//! `ringlane status`: what the board says, for people and for programs.

use std::fmt::Write;

use ringlane_layout::board::{ROWS_MAX, header, row};
use serde_json::{Value, json};

use crate::board::{BoardReader, Row, text_of};
use crate::sequencer::wall_clock_ns;

/// What the board says, as JSON. Counts are totals since start; times are nanoseconds.
#[must_use]
pub fn status(board: &BoardReader) -> Value {
    let lanes: Vec<Value> = (0..ROWS_MAX).filter_map(|index| board.row(index)).map(|words| lane_status(&words)).collect();
    let alive = board.owner_lives();
    let health = match board.word(header::HEALTH) {
        _ if !alive => "dead",
        1 => "healthy",
        2 => "journal-failed",
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
        "accepted": board.word(header::ACCEPTED),
        "rejected": board.word(header::REJECTED),
        "trades": board.word(header::TRADES),
        "resting_orders": board.word(header::RESTING),
        "clients": board.word(header::CLIENTS),
        "faults": board.word(header::FAULTS) + board.word(header::JOB_FAULTS),
        "sleeps": board.word(header::SLEEPS),
        "refused": board.word(header::REFUSED),
        "not_permitted": board.word(header::NOT_PERMITTED),
        "lanes": lanes,
    })
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
    line(&mut text, "journal", format!("{:.1} MiB since start", status["journal_bytes"].as_f64().unwrap_or(0.0) / f64::from(1 << 20)));
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
