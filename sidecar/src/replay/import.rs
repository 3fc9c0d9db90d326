//! `ringlane import`: a recording made of somebody else's orders. They pass the same engine and the same journal as those of
//! a live sidecar, so that what comes out replays like any other.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use ringlane_layout::limits::{ACCOUNT_MAX, BATCH_SLOTS_MAX, DEPTH_SLOTS_MAX};
use ringlane_layout::orders::{OrderRequest, OrderResult};
use ringlane_layout::record::{Record, RecordBytes};
use ringlane_layout::region::LaneStatus;
use serde_json::{Map, Value, json};

use super::import_csv::{self, CsvArguments};
use super::import_lobster::{self, LobsterArguments};
use crate::amendments::amend;
use crate::config::Config;
use crate::engine::{ENGINE_VERSION, Engine};
use crate::journal::{Epoch, FrameKind, FrameMeta, JournalLock, LaneClose, LaneOpen, Writer, WriterConfig, list_segments};
use crate::kernels::orders::Outgoing;

/// Options of `ringlane import`.
#[derive(Debug, Args)]
pub struct ImportArguments {
    #[command(subcommand)]
    source: Source,
}

#[derive(Debug, Subcommand)]
enum Source {
    /// The message file of a LOBSTER day (TICKER_DATE_START_END_message_LEVELS.csv).
    Lobster(LobsterArguments),
    /// Order requests as comma-separated values, such as `ringlane export --to csv` writes.
    Csv(CsvArguments),
}

/// What every import asks for.
#[derive(Debug, Args)]
pub struct Target {
    /// Directory for the recording; made if need be. It must not hold one.
    #[arg(long)]
    pub out: PathBuf,
    /// Say what came of it as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn run(arguments: &ImportArguments) -> Result<ExitCode, String> {
    let summary = import(arguments)?;
    let (Source::Lobster(LobsterArguments { target, .. }) | Source::Csv(CsvArguments { target, .. })) = &arguments.source;
    if target.json {
        println!("{:#}", Value::from(summary));
    } else {
        summary.iter().for_each(|(name, value)| println!("{:<24} {}", name.replace('_', " "), value.to_string().trim_matches('"')));
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes the recording; says what came of it.
pub fn import(arguments: &ImportArguments) -> Result<Map<String, Value>, String> {
    match &arguments.source {
        Source::Lobster(arguments) => import_lobster::import(arguments),
        Source::Csv(arguments) => import_csv::import(arguments),
    }
}

/// A recording that is being made.
pub struct Recorder {
    engine: Engine,
    writer: Writer,
    time_ns: u64,
    lanes: Vec<(u32, u64)>,
    _lock: JournalLock,
}

/// What one batch came to.
pub struct Answers<'a> {
    /// One result a request.
    pub results: &'a [OrderResult],
    /// Events, those of orders that nobody owns included.
    pub events: &'a [Outgoing],
}

impl Recorder {
    /// Begins a recording with the instruments and accounts of this configuration, at this time.
    pub fn begin(directory: &Path, config: &Config, time_ns: u64) -> Result<Self, String> {
        let lock = JournalLock::take(directory)?;
        if !list_segments(directory)?.is_empty() {
            return Err(format!("{} holds a recording already; name another directory", directory.display()));
        }
        let mut engine = Engine::new(0);
        engine.orders.tell_orphans();
        let start = meta(&engine, FrameKind::End, (0, 0), 0, time_ns);
        let added = amend(&mut engine, config, &[])?;
        let epoch = Epoch { number: 1, engine_version: ENGINE_VERSION, request_schema_hash: OrderRequest::SCHEMA_HASH };
        let sizes = WriterConfig { segment_bytes: config.journal.segment_bytes, prefault_bytes: 0, ..WriterConfig::default() };
        let mut writer = Writer::open(directory, 1, sizes, epoch, &start)?;
        for (meta, records) in &added {
            writer.append_waiting(&FrameMeta { time_ns, ..*meta }, records)?;
        }
        Ok(Self { engine, writer, time_ns, lanes: Vec::new(), _lock: lock })
    }

    /// The engine as it stands.
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Records and applies requests of one lane, which is opened when it is new. Time never goes back.
    pub fn orders(&mut self, lane: u32, time_ns: u64, requests: &[OrderRequest]) -> Result<Answers<'_>, String> {
        self.time_ns = self.time_ns.max(time_ns);
        let row = match self.lanes.iter().position(|(number, _)| *number == lane) {
            Some(row) => row,
            None => self.open(lane)?,
        };
        assert!(requests.len() <= BATCH_SLOTS_MAX, "a frame holds one batch");
        let records: Vec<RecordBytes> = requests.iter().map(|request| bytemuck::must_cast(*request)).collect();
        let meta = meta(&self.engine, FrameKind::Orders, (lane, self.lanes[row].1), OrderRequest::SCHEMA_HASH, self.time_ns);
        self.writer.append_waiting(&meta, &records)?;
        self.lanes[row].1 += records.len() as u64;
        let output = self.engine.process_orders(lane, &records);
        Ok(Answers { results: output.results, events: output.events })
    }

    fn open(&mut self, lane: u32) -> Result<usize, String> {
        let open = LaneOpen { lane, account_first: 1, account_last: ACCOUNT_MAX, depth_slots: DEPTH_SLOTS_MAX, ..LaneOpen::default() };
        let meta = meta(&self.engine, FrameKind::LaneOpen, (lane, 0), LaneOpen::SCHEMA_HASH, self.time_ns);
        self.writer.append_waiting(&meta, &[bytemuck::must_cast(open)])?;
        self.engine.open_lane(&open);
        self.lanes.push((lane, 0));
        Ok(self.lanes.len() - 1)
    }

    /// Closes every lane, whose orders stay, and ends the recording.
    pub fn end(mut self) -> Result<Map<String, Value>, String> {
        for (lane, _) in std::mem::take(&mut self.lanes) {
            let close = LaneClose { lane, cancel_orders: 0, status: LaneStatus::Closed as u64, ..LaneClose::default() };
            let meta = meta(&self.engine, FrameKind::LaneClose, (lane, 0), LaneClose::SCHEMA_HASH, self.time_ns);
            self.writer.append_waiting(&meta, &[bytemuck::must_cast(close)])?;
            self.engine.close_lane(&close);
        }
        let counters = self.engine.orders.counters();
        let summary = json!({
            "state_hash": format!("{:016x}", self.engine.orders.state_hash()), "sequence": self.engine.next_sequence() - 1,
            "accepted": counters.accepted, "rejected": counters.rejected, "trades": counters.trades, "resting": counters.resting,
        });
        self.writer.close(&meta(&self.engine, FrameKind::Stop, (0, 0), 0, self.time_ns));
        match summary {
            Value::Object(summary) => Ok(summary),
            _ => unreachable!("the summary is an object"),
        }
    }
}

fn meta(engine: &Engine, kind: FrameKind, (lane, first_slot): (u32, u64), schema_hash: u64, time_ns: u64) -> FrameMeta {
    let (first_sequence, output_hash) = (engine.next_sequence(), engine.output_hash());
    FrameMeta { kind, lane, first_sequence, first_slot, schema_hash, output_hash, time_ns, waiting_slots: 0 }
}
