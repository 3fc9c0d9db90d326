//! `ringlane status`: what the board says, for people and for programs.

use std::fmt::Write;

use nix::errno::Errno;
use ringlane_layout::board::histogram::Times;
use ringlane_layout::board::{
    CONTROL, JOURNAL, KERNEL, Kind, LANE, POOL, SENTRY, SEQUENCER, SERVICE, Stage, TRACES, Table, control, header, journal, kernel, lane,
    sequencer,
};
use ringlane_layout::limits::STALLED_AFTER_NS;
use serde_json::{Map, Value, json};

use crate::board::{BoardReader, Row, text_of};
use crate::sequencer::wall_clock_ns;

/// How the sidecar does: `healthy`, `journal-failed`, `stopping`, `stalled` or `dead`.
#[must_use]
pub fn health(board: &BoardReader, now_ns: u64) -> &'static str {
    let heartbeat_ns = board.row(&SEQUENCER, 0).map_or(0, |words| words[sequencer::HEARTBEAT_NS]);
    match board.word(header::HEALTH) {
        _ if !board.owner_lives() => "dead",
        2 => "journal-failed",
        3 => "stopping",
        4 => "degraded",
        _ if now_ns.saturating_sub(heartbeat_ns) > STALLED_AFTER_NS => "stalled",
        _ => "healthy",
    }
}

/// What the board says, as JSON. Counts are totals since start; names end in their unit.
#[must_use]
pub fn status(board: &BoardReader) -> Value {
    let now_ns = wall_clock_ns();
    let [totals, control, journal] = [&SEQUENCER, &CONTROL, &JOURNAL].map(|table| board.row(table, 0).unwrap_or([0; _]));
    let lanes: Vec<Value> = board.rows(&LANE).map(|words| lane_status(&words, now_ns)).collect();
    let stages: Map<String, Value> =
        Stage::ALL.into_iter().map(|stage| (stage.name().to_owned(), stage_status(&board.times(stage)))).collect();
    let mut status = json!({
        "health": health(board, now_ns),
        "version": board.text(header::VERSION, 3),
        "build": board.text(header::BUILD, 2),
        "pid": board.word(header::PID),
        "uid": board.word(header::UID),
        "address": board.text(header::ADDRESS, 14),
        "config_hash": format!("{:016x}", board.word(header::CONFIG_HASH)),
        "uptime_ns": now_ns.saturating_sub(board.word(header::STARTED_NS)),
        "heartbeat_age_ns": now_ns.saturating_sub(totals[sequencer::HEARTBEAT_NS]),
        "epoch": board.word(header::EPOCH),
        "sequence": totals[sequencer::SEQUENCE],
        "journal_bytes": journal[journal::APPENDED_BYTES],
        "accepted": totals[sequencer::ACCEPTED],
        "rejected": totals[sequencer::REJECTED],
        "trades": totals[sequencer::TRADES],
        "resting_orders": totals[sequencer::RESTING],
        "clients": control[control::CLIENTS],
        "faults": totals[sequencer::FAULTS] + board.rows(&KERNEL).map(|words| words[kernel::FAULTS]).sum::<u64>(),
        "sleeps": totals[sequencer::SLEEPS],
        "refused": control[control::REFUSED],
        "not_permitted": totals[sequencer::NOT_PERMITTED],
        "stages": stages,
        "lanes": lanes,
    });
    for table in [&SEQUENCER, &JOURNAL, &CONTROL, &SERVICE, &TRACES, &SENTRY] {
        status[table.name] = board.row(table, 0).map_or(Value::Null, |words| row_status(table, &words));
    }
    add_disk_words(&mut status["journal"], &journal);
    for (name, table) in [("kernels", &KERNEL), ("pools", &POOL)] {
        status[name] = board.rows(table).map(|words| row_status(table, &words)).collect();
    }
    status
}

/// What the journal's row says of its disk, in words and hours; null when there is no end in sight.
fn add_disk_words(journal_row: &mut Value, words: &Row) {
    let seconds_left = words[journal::DISK_SECONDS_LEFT];
    let why = (words[journal::ERRNO] != 0).then(|| Errno::from_raw(words[journal::ERRNO] as i32).desc());
    let trouble = match (words[journal::TROUBLE], why) {
        (4, Some(why)) => Some(format!(
            "the disk does not make the journal durable: {why}; nothing is answered until it does; what it refused goes to a new segment"
        )),
        (_, Some(why)) => Some(format!("the next segment cannot be made: {why}; free space on the journal's disk")),
        (1, _) => Some("over retention_bytes, and no snapshot covers the oldest segment".to_owned()),
        (2, _) => Some("the disk will soon be full at this rate".to_owned()),
        _ => None,
    };
    journal_row["disk_hours_left"] = json!((seconds_left != u64::MAX).then_some(seconds_left as f64 / 3600.0));
    journal_row["trouble"] = json!(trouble);
}

/// The same for people, one line.
fn journal_text(status: &Value) -> String {
    let journal = &status["journal"];
    let mebibytes = |value: &Value| value.as_f64().unwrap_or(0.0) / f64::from(1 << 20);
    if journal["retention_bytes"] == 0 {
        return "none: nothing is recorded".into();
    }
    let hours = journal["disk_hours_left"].as_f64();
    let left = hours.map_or_else(|| "retention keeps it in bounds".into(), |hours| format!("{hours:.1} hours of disk left"));
    let trouble = journal["trouble"].as_str().map_or_else(String::new, |words| format!("; {words}"));
    let sync = &status["stages"]["journal_sync"];
    let milliseconds = |key: &str| sync[key].as_f64().unwrap_or(0.0) / 1e6;
    let syncs = match sync["count"].as_u64() {
        None | Some(0) => String::new(),
        Some(_) => format!(", fsync p50 {:.2} ms p99 {:.2} ms", milliseconds("p50_ns"), milliseconds("p99_ns")),
    };
    format!(
        "at {}, {} records not durable{syncs}, {:.1} MiB since start, {:.0} of {:.0} MiB kept, {:.2} MiB/s, {left}{trouble}",
        journal["sequence"],
        journal["lag_records"],
        mebibytes(&status["journal_bytes"]),
        mebibytes(&journal["total_bytes"]),
        mebibytes(&journal["retention_bytes"]),
        mebibytes(&journal["bytes_per_second"]),
    )
}

/// A row by its fields' names.
fn row_status(table: &Table, words: &Row) -> Value {
    let bytes: &[u8] = bytemuck::cast_slice(words);
    let value = |word: usize, len: usize, kind: Kind| match kind {
        Kind::Text => json!(text_of(&bytes[word * 8..(word + len) * 8])),
        _ => json!(words[word]),
    };
    table.fields.iter().map(|field| (field.name(), value(field.word, field.words, field.kind))).collect::<Map<_, _>>().into()
}

/// What a lane's row says, and what follows from it.
pub fn lane_status(words: &Row, now_ns: u64) -> Value {
    let mut status = row_status(&LANE, words);
    let age = |word: usize| now_ns.saturating_sub(words[word]);
    let in_flight = words[lane::SUBMITTED].saturating_sub(words[lane::COMPLETED]);
    let held = words[lane::COMPLETED].saturating_sub(words[lane::RELEASED]);
    status["depth_slots"] = json!(words[lane::DEPTH]);
    status["in_flight"] = json!(in_flight);
    status["oldest_unserved_ns"] = json!(if in_flight > 0 { age(lane::WAITING_SINCE_NS) } else { 0 });
    status["held"] = json!(held);
    status["held_ns"] = json!(if held > 0 { age(lane::HELD_SINCE_NS) } else { 0 });
    status
}

fn stage_status(times: &Times) -> Value {
    let quantile = |fraction| times.quantile_ns(fraction);
    json!({
        "count": times.count(), "sum_ns": times.sum_ns, "p50_ns": quantile(0.5), "p90_ns": quantile(0.9), "p99_ns": quantile(0.99),
        "p999_ns": quantile(0.999), "max_ns": times.max_ns,
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
    let _ = writeln!(text, "\n{:<16} {:>10} {:>12} {:>12} {:>12}  (of a sample of batches, us)", "stage", "timed", "p50", "p99", "longest");
    for stage in Stage::ALL.map(Stage::name) {
        let number = |key: &str| status["stages"][stage][key].as_f64().unwrap_or(0.0);
        let us = |key: &str| number(key) / 1e3;
        let (count, p50, p99, max) = (number("count"), us("p50_ns"), us("p99_ns"), us("max_ns"));
        let _ = writeln!(text, "{stage:<16} {count:>10} {p50:>12.1} {p99:>12.1} {max:>12.1}");
    }
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
