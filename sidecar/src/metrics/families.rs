//! What the board says as metric families. Every counter and gauge of its tables is one, named `ringlane_TABLE_FIELD` in base
//! units. Labels are kernels, pools and stages, whose numbers have a maximum; lanes are shown as sums.

use std::fmt::{self, Debug};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use ringlane_layout::board::histogram::{Times, bucket_of};
use ringlane_layout::board::{
    CONTROL, Field, JOURNAL, KERNEL, Kind, LANE, POOL, SENTRY, SEQUENCER, SERVICE, Stage, TRACES, Table, header, kernel, lane, pool,
};

use super::process::{Process, heap_bytes};
use crate::board::{BoardReader, Row, text_of};
use crate::sequencer::wall_clock_ns;
use crate::status::health;

/// Powers of two that bound the histograms' buckets, nanoseconds: 128 ns to 8.6 s.
const BOUND_POWERS: std::ops::RangeInclusive<u32> = 7..=33;

/// The board at an address, as metrics.
#[derive(Debug)]
pub struct Families {
    /// Address of the sidecar.
    pub address: String,
}

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let board = BoardReader::open(&self.address).map_err(|_| fmt::Error)?;
        encode_identity(&board, &mut encoder)?;
        for table in [&SEQUENCER, &JOURNAL, &CONTROL, &SERVICE, &TRACES, &SENTRY] {
            let row = board.row(table, 0);
            for field in table.fields {
                encode_field(&mut encoder, table, field, row.iter().map(|row| (None, row[field.word])))?;
            }
        }
        for (table, name) in [(&KERNEL, kernel::NAME), (&POOL, pool::NAME)] {
            let rows: Vec<(String, Row)> = board.rows(table).map(|row| (text(&row, name, 2), row)).collect();
            for field in table.fields.iter().filter(|_| !rows.is_empty()) {
                encode_field(&mut encoder, table, field, rows.iter().map(|(name, row)| (Some(name.as_str()), row[field.word])))?;
            }
        }
        encode_lanes(&board, &mut encoder)?;
        encode_stages(&board, &mut encoder)?;
        encode_process(&board, &mut encoder)
    }
}

fn text(row: &Row, word: usize, words: usize) -> String {
    text_of(&bytemuck::cast_slice(row)[word * 8..(word + words) * 8])
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// One field of a table's rows, each with its label, if it is a number that counts or measures something.
fn encode_field<'a>(
    encoder: &mut DescriptorEncoder,
    table: &Table,
    field: &Field,
    rows: impl Iterator<Item = (Option<&'a str>, u64)>,
) -> Result<(), fmt::Error> {
    let (name, unit) = match field.name() {
        name if field.kind == Kind::Time => (format!("{}_timestamp", name.trim_end_matches("_ns")), Some(Unit::Seconds)),
        name if name.ends_with("_ns") => (name.trim_end_matches("_ns").to_owned(), Some(Unit::Seconds)),
        name if name.ends_with("_bytes") => (name.trim_end_matches("_bytes").to_owned(), Some(Unit::Bytes)),
        name => (name, None),
    };
    let kind = match field.kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge | Kind::Time => MetricType::Gauge,
        Kind::Id | Kind::Text => return Ok(()),
    };
    let in_seconds = matches!(unit, Some(Unit::Seconds));
    let name = format!("ringlane_{}_{name}", table.name);
    let mut family = encoder.encode_descriptor(&name, field.help, unit.as_ref(), kind)?;
    for (label, value) in rows {
        let labels: Vec<(&str, &str)> = label.into_iter().map(|label| (table.name, label)).collect();
        let value = match value {
            u64::MAX => f64::INFINITY, // no end in sight
            value if in_seconds => seconds(value),
            value => value as f64,
        };
        match (kind, labels.is_empty()) {
            (MetricType::Counter, true) => family.encode_counter::<NoLabelSet, _, f64>(&value, None)?,
            (MetricType::Counter, false) => family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&value, None)?,
            (_, true) => family.encode_gauge(&value)?,
            (_, false) => family.encode_family(&labels)?.encode_gauge(&value)?,
        }
    }
    Ok(())
}

fn encode_gauge(encoder: &mut DescriptorEncoder, name: &str, help: &str, unit: Option<&Unit>, value: f64) -> Result<(), fmt::Error> {
    encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?.encode_gauge(&value)
}

fn encode_identity(board: &BoardReader, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
    let labels = [
        ("version", board.text(header::VERSION, 3)),
        ("build", board.text(header::BUILD, 2)),
        ("config_hash", format!("{:016x}", board.word(header::CONFIG_HASH))),
    ];
    let help = "What runs here; always 1";
    encoder.encode_descriptor("ringlane_build", help, None, MetricType::Info)?.encode_info(&labels)?;
    let is_healthy = f64::from(u8::from(health(board, wall_clock_ns()) == "healthy"));
    encode_gauge(encoder, "ringlane_healthy", "Whether the sidecar is healthy: 0 or 1", None, is_healthy)?;
    let epoch = board.word(header::EPOCH) as f64;
    encode_gauge(encoder, "ringlane_epoch", "How often this journal was opened; 0 without a journal", None, epoch)
}

/// What lanes hold, by kernel: as many series as there are kernels, however many lanes come and go.
fn encode_lanes(board: &BoardReader, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
    let now_ns = wall_clock_ns();
    let kernels: Vec<String> = board.rows(&KERNEL).map(|row| text(&row, kernel::NAME, 2)).collect();
    let mut sums = vec![[0_u64; 4]; kernels.len()];
    for row in board.rows(&LANE) {
        let Some(index) = kernels.iter().position(|name| *name == text(&row, lane::KERNEL, 2)) else { continue };
        let in_flight = row[lane::SUBMITTED].saturating_sub(row[lane::COMPLETED]);
        let held = row[lane::COMPLETED].saturating_sub(row[lane::RELEASED]);
        let age_ns = |count: u64, word: usize| if count > 0 { now_ns.saturating_sub(row[word]) } else { 0 };
        let sum = &mut sums[index];
        sum[0] += in_flight;
        sum[1] += held;
        sum[2] = sum[2].max(age_ns(in_flight, lane::WAITING_SINCE_NS));
        sum[3] = sum[3].max(age_ns(held, lane::HELD_SINCE_NS));
    }
    let families = [
        ("ringlane_lane_slots_in_flight", "Slots that are submitted and not answered", false),
        ("ringlane_lane_slots_held", "Answered slots that clients have not given back", false),
        ("ringlane_lane_oldest_unserved", "Age of the oldest slot that waits for its answer", true),
        ("ringlane_lane_oldest_held", "Longest time that a client has held answered slots without giving one back", true),
    ];
    for (index, (name, help, is_time)) in families.into_iter().enumerate() {
        let unit = is_time.then_some(Unit::Seconds);
        let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        for (kernel, sum) in kernels.iter().zip(&sums) {
            let value = if is_time { seconds(sum[index]) } else { sum[index] as f64 };
            family.encode_family(&[("kernel", kernel.as_str())])?.encode_gauge(&value)?;
        }
    }
    Ok(())
}

fn encode_stages(board: &BoardReader, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
    let help = "Times of the stages of a request, of a sample of batches";
    let mut family = encoder.encode_descriptor("ringlane_stage_duration", help, Some(&Unit::Seconds), MetricType::Histogram)?;
    for stage in Stage::ALL {
        let times = board.times(stage);
        let labels = [("stage", stage.name())];
        let mut encoder = family.encode_family(&labels)?;
        encoder.encode_histogram::<NoLabelSet>(seconds(times.sum_ns), times.count(), &buckets(&times), None)?;
    }
    Ok(())
}

/// Upper bounds in seconds and how many times fell between each and the one before.
fn buckets(times: &Times) -> Vec<(f64, u64)> {
    let mut from = 0;
    let mut buckets: Vec<(f64, u64)> = BOUND_POWERS
        .map(|power| {
            let below = std::mem::replace(&mut from, bucket_of(1 << power));
            (seconds(1 << power), times.buckets[below..from].iter().sum())
        })
        .collect();
    buckets.push((f64::INFINITY, times.buckets[from..].iter().sum()));
    buckets
}

fn encode_process(board: &BoardReader, encoder: &mut DescriptorEncoder) -> Result<(), fmt::Error> {
    let bytes = Some(&Unit::Bytes);
    encode_gauge(encoder, "ringlane_heap", "Memory that the sidecar's allocator has given out", bytes, heap_bytes() as f64)?;
    let started = seconds(board.word(header::STARTED_NS));
    encode_gauge(encoder, "process_start_time", "When the sidecar started, since 1970", Some(&Unit::Seconds), started)?;
    let Some(process) = Process::look() else { return Ok(()) };
    encode_gauge(encoder, "process_resident_memory", "Memory of the process that is in RAM", bytes, process.resident_bytes as f64)?;
    encode_gauge(encoder, "process_virtual_memory", "Memory that the process has mapped", bytes, process.virtual_bytes as f64)?;
    encode_gauge(encoder, "process_open_fds", "Open file descriptors", None, process.open_fds as f64)?;
    encode_gauge(encoder, "process_max_fds", "Most file descriptors that may be open", None, process.max_fds as f64)?;
    let mut cpu =
        encoder.encode_descriptor("process_cpu", "Processor time used by all threads", Some(&Unit::Seconds), MetricType::Counter)?;
    cpu.encode_counter::<NoLabelSet, _, f64>(&process.cpu_seconds, None)
}
